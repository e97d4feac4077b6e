//! What is printed, and what counts as well.

use super::*;
use crate::replicas::Views;

fn proxies() -> Vec<Value> {
    vec![
        json!({"workload": "dev/web", "spiffe_id": "spiffe://cluster.local/ns/dev/sa/web", "version": "0.1.0",
            "acked": 2, "total": 2, "nack": null,
            "resources": [{"name": "destination/prodsvc.prod:80", "version": 7, "acked": true}]}),
        json!({"workload": "prod/prodsvc-stable", "version": "0.1.0", "acked": 1, "total": 2,
            "nack": {"resource": "workload", "field": "inbound.mode", "message": "is unknown"}, "resources": []}),
    ]
}

fn replica(pod: &str, is_leader: bool) -> Replica {
    let views = Views { status: json!({"version": "0.1.0", "leader": is_leader}), ..Views::default() };
    Replica { pod: pod.to_owned(), is_ready: true, restarts: 0, views: Ok(views) }
}

fn route() -> Value {
    let conditions = ["Accepted", "ResolvedRefs", "Programmed"]
        .map(|kind| json!({"type": kind, "status": "True", "observedGeneration": 1, "reason": kind, "message": ""}));
    json!({
        "kind": "VirtualService",
        "metadata": {"namespace": "dev", "name": "prod-service-route", "generation": 1},
        "spec": {"http": [{"route": [
            {"destination": {"host": "prodsvc.prod.svc.cluster.local", "subset": "v1-canary"}, "weight": 10},
            {"destination": {"host": "prodsvc.prod.svc.cluster.local", "subset": "v1-stable"}, "weight": 90},
        ]}]},
        "status": {"conditions": conditions, "acked": 2, "total": 2},
    })
}

fn seen() -> Seen {
    Seen {
        replicas: vec![replica("cp-a", true), replica("cp-b", false)],
        proxies: vec![proxies().remove(0)],
        problems: Vec::new(),
        resources: vec![route()],
        is_cluster: true,
    }
}

#[test]
fn a_table_shows_who_is_behind_and_why() {
    let seen = Seen { proxies: proxies(), is_cluster: false, ..seen() };
    let text = text(&seen, true, Style::PLAIN, 100);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[1], "dev/web              current  2/2    0.1.0    spiffe://cluster.local/ns/dev/sa/web");
    assert_eq!(lines[2], "prod/prodsvc-stable  refused  1/2    0.1.0    -");
    assert_eq!(lines[3], "  workload inbound.mode: is unknown");
    assert_eq!(lines.last(), Some(&"no problems"));
    assert!(!is_well(&seen));
}

#[test]
fn those_that_need_a_look_come_first_where_not_all_are_shown() {
    let mut many: Vec<Value> =
        (0..30).map(|n| json!({"workload": format!("dev/web-{n}"), "acked": 1, "total": 1, "nack": null})).collect();
    many.push(json!({"workload": "dev/late", "acked": 0, "total": 1, "nack": null}));
    let lines = table::lines(&many, false, Style::PLAIN, 80);
    assert!(lines[1].starts_with("dev/late"), "{lines:?}");
    assert_eq!(lines.last().map(String::as_str), Some("20 of 31 proxies shown, 30 current; --all shows every one"));
    assert_eq!(table::lines(&many, true, Style::PLAIN, 80).len(), 32);
}

#[test]
fn identities_get_shorter_where_they_do_not_fit() {
    let lines = table::lines(&proxies(), true, Style::PLAIN, 60);
    assert!(lines[1].trim_end().ends_with("  dev/web"), "{lines:?}");
}

#[test]
fn weights_are_bars_and_progress_stands_beside_the_name() {
    for columns in [80, 120] {
        let text = text(&seen(), false, Style::PLAIN, columns);
        assert!(text.contains("cp-a  ready  0.1.0  0 proxies   leads"), "{text}");
        assert!(text.contains("VirtualService dev/prod-service-route"), "{text}");
        assert!(text.contains("in force 2/2"), "{text}");
        assert!(text.contains("    prodsvc.prod.svc.cluster.local\n      v1-canary   10.0 %  ███\n"), "{text}");
        assert!(text.contains("v1-stable   90.0 %  ███████████████████████████\n"), "{text}");
        let longest = text.lines().map(terminal::width).max().unwrap_or_default();
        assert!(longest <= columns, "{longest} of {columns}\n{text}");
    }
    assert!(is_well(&seen()));
}

#[test]
fn a_condition_that_is_false_is_shown_with_its_message_and_is_not_well() {
    let mut seen = seen();
    let resolved = &mut seen.resources[0]["status"]["conditions"][1];
    resolved["status"] = json!("False");
    resolved["reason"] = json!("UnknownSubset");
    resolved["message"] = json!("spec.http[0].route[0].destination.subset: there is no subset v9");
    let text = text(&seen, false, Style::PLAIN, 80);
    assert!(text.contains("✘ UnknownSubset: spec.http[0].route[0]"), "{text}");
    assert!(!is_well(&seen));
    seen.resources[0]["metadata"]["generation"] = json!(2);
    let text = super::text(&seen, false, Style::PLAIN, 80);
    assert!(text.contains("not judged yet"), "{text}");
}

#[test]
fn a_replica_that_says_nothing_is_not_well() {
    let mut seen = seen();
    seen.replicas[1].views = Err("the pod is ImagePullBackOff".to_owned());
    assert!(text(&seen, false, Style::PLAIN, 80).contains("cp-b  the pod is ImagePullBackOff"));
    assert!(!is_well(&seen));
}

#[test]
fn only_an_acknowledged_version_counts() {
    let view = json!({ "proxies": proxies() });
    assert_eq!(acked_version(&view, "dev/web", "destination/prodsvc.prod:80").as_deref(), Some("7"));
    assert_eq!(acked_version(&view, "dev/web", "destination/other:80"), None);
    assert_eq!(acked_version(&view, "dev/nobody", "destination/prodsvc.prod:80"), None);
}
