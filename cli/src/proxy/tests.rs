//! Which pod is meant, and how a proxy's views are drawn.

use super::*;
use crate::terminal::width;

const NOW: i64 = 1_795_262_400; // 2026-11-21T12:00:00Z

fn views() -> Views {
    let backend = |name: &str, weight: u64| json!({"backend": name, "weight": weight});
    let endpoint = |address: &str, pod: &str| json!({"address": address, "pod": pod, "identity": "spiffe://cluster.local/ns/prod/sa/prodsvc"});
    let split = json!({"origin": "dev/prod-service-route", "key": null,
        "backends": [backend("prod/prodsvc:80/v1-canary", 10), backend("prod/prodsvc:80/v1-stable", 90)]});
    Views {
        certs: json!({
            "spiffe_id": "spiffe://cluster.local/ns/dev/sa/web",
            "not_before": "2026-11-21T00:00:00Z", "not_after": "2026-11-22T00:00:00Z",
        }),
        status: json!({
            "workload": "dev/web-0", "version": "0.1.0", "ready": true, "awaited": [], "connections": 3,
            "control_plane": {"connected": true, "resources": 7, "nacked": [], "last_error": null},
        }),
        config: json!({
            "workload": {"egress": "allow", "inbound": {
                "mtls": "Strict", "ports": {}, "default": "allow",
                "policies": [{"name": "dev/web-callers", "action": "ALLOW", "rules": ["from namespace test to GET"]}],
                "probes": [{"port": 8080, "path": "/healthz"}],
            }},
            "destinations": {"prodsvc.prod.svc.cluster.local:80": {
                "canonical": "prodsvc.prod:80", "kind": "Service", "protocol": "Http", "http_only": true,
                "split": split, "routes": [{"name": "r", "matches": [], "timeout_ms": null, "split": split}],
            }},
            "endpoints": {
                "prod/prodsvc:80/v1-stable": (0..5)
                    .map(|n| endpoint(&format!("10.244.0.{n}:8080"), &format!("prod/stable-{n}"))).collect::<Vec<_>>(),
                "prod/prodsvc:80/v1-canary": [endpoint("10.244.0.9:8080", "prod/canary-0")],
            },
        }),
    }
}

fn drawn(views: &Views, columns: usize, all: bool) -> String {
    picture::text(views, picture::Frame { style: Style::PLAIN, columns, now: NOW, all })
}

#[test]
fn what_is_in_force_is_drawn_within_the_columns() {
    for columns in [80, 120] {
        let text = drawn(&views(), columns, false);
        for part in [
            "dev/web-0  0.1.0  ready  connections: 3",
            "spiffe://cluster.local/ns/dev/sa/web",
            "50 %, 12 h 0 min",
            "connected, 7 resources in force",
            "mutual TLS only",
            "allow by dev/web-callers",
            "from namespace test to GET",
            "otherwise      deny, since",
            "8080/healthz",
            "any request (by dev/prod-service-route)",
            "10.0 %  ██▍",
            "90.0 %  █████████████████████▋",
            "10.244.0.2:8080  prod/stable-2",
            "and 2 more",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        let longest = text.lines().map(width).max().unwrap_or_default();
        assert!(longest <= columns, "{longest} of {columns}\n{text}");
    }
    assert!(drawn(&views(), 80, true).contains("prod/stable-4"));
}

#[test]
fn a_proxy_that_waits_says_for_what_and_why() {
    let mut views = views();
    views.certs = json!({"spiffe_id": null});
    views.status["ready"] = json!(false);
    views.status["awaited"] = json!(["certificate", "configuration"]);
    views.status["control_plane"] = json!({"connected": false, "resources": 0, "nacked": [], "last_contact": null, "last_error": "no route to host"});
    views.config = json!({"workload": null, "destinations": {}, "endpoints": {}});
    let text = drawn(&views, 80, false);
    assert!(text.contains("not ready, waits for: certificate, configuration"), "{text}");
    assert!(text.contains("away, never reached") && text.contains("no route to host"), "{text}");
    assert!(text.contains("nothing comes in"), "{text}");
}

#[test]
fn a_pod_is_named_as_kubectl_would_or_with_its_namespace() {
    let of = |text: &str| named(text, "default").map_err(|error| error.to_string());
    let pair = |a: &str, b: &str| Ok((a.to_owned(), b.to_owned()));
    assert_eq!(of("web-0"), pair("default", "web-0"));
    assert_eq!(of("dev/web-0"), pair("dev", "web-0"));
    assert_eq!(of("pod/web-0"), pair("default", "web-0"));
    assert_eq!(of("deployment/web"), pair("default", "deployment/web"));
    assert_eq!(of("dev/sts/db"), pair("dev", "sts/db"));
    for wrong in ["", "/", "dev/", "a/b/c"] {
        assert!(of(wrong).is_err_and(|error| error.contains("NAMESPACE/POD")), "{wrong}");
    }
}
