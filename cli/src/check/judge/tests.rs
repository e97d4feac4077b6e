//! One healthy cluster, and what is said once a single fact of it differs.
#![allow(clippy::unwrap_used)]

use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::json;

use super::super::facts::{
    Definition, DefinitionState, Deployment, Labels, Lease, Namespace, Node, Permission, Server, Trial, Webhook,
    Workload,
};
use super::super::finding::{Mark, exit_code};
use super::super::network::Peer;
use super::super::{INJECTOR, VALIDATOR};
use super::*;
use crate::replicas::{Replica, Views};

const NOW: i64 = 1_795_219_200; // 2026-11-21T00:00:00Z

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn namespace(name: &str, more: &[(&str, &str)]) -> Namespace {
    let mut labels = labels(more);
    labels.insert("kubernetes.io/metadata.name".to_owned(), name.to_owned());
    Namespace { name: name.to_owned(), labels }
}

fn pod(namespace: &str, name: &str, is_injected: bool) -> Workload {
    let mut labels = labels(&[("app", name)]);
    if is_injected {
        labels.insert("causeway.dev/injected".to_owned(), "true".to_owned());
    }
    Workload {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        labels,
        is_running: true,
        created: NOW - 3600,
        owner: Some(format!("deployment/{name}")),
        ..Workload::default()
    }
}

fn proxy(workload: &str) -> Value {
    json!({
        "workload": workload, "version": "0.1.0", "acked": 2, "total": 2, "nack": null, "unanswered_seconds": null,
        "connected_since": "2026-11-20T23:00:00Z", "certificate_expires": "2026-11-21T20:00:00Z",
    })
}

fn replica(pod: &str, is_leader: bool, proxies: Vec<Value>) -> Replica {
    let views = Views {
        status: json!({"version": "0.1.0", "pod": pod, "leader": is_leader, "ready": true}),
        proxies,
        problems: Vec::new(),
        trust: json!({"issuer_expires": "2036-11-21T00:00:00Z", "roots": [{"serial": "0a1b"}]}),
    };
    Replica { pod: pod.to_owned(), is_ready: true, restarts: 0, views: Ok(views) }
}

fn healthy() -> Facts {
    let serials = || [normal("0a1b")].into();
    let conditions = ["Accepted", "ResolvedRefs", "Programmed"]
        .map(|kind| json!({"type": kind, "status": "True", "observedGeneration": 1, "reason": kind, "message": "x"}));
    let resource = json!({
        "kind": "VirtualService", "metadata": {"namespace": "dev", "name": "route", "generation": 1},
        "status": {"conditions": conditions},
    });
    Facts {
        version: "0.1.0",
        now: NOW,
        server: Ok(Server { url: "https://k".to_owned(), version: "v1.34.4".to_owned(), ahead: Some(0) }),
        nodes: Ok(vec![Node { name: "node1".to_owned(), kubelet: "v1.34.4".to_owned(), ahead: Some(0) }]),
        permissions: Ok(vec![Permission { what: "create namespaces".to_owned(), is_allowed: true }]),
        definitions: Ok(vec![Definition {
            name: "virtualservices.causeway.dev".to_owned(),
            state: DefinitionState::Current,
        }]),
        deployment: Ok(Some(Deployment { wanted: 2, ready: 2, updated: 2 })),
        replicas: Ok(vec![replica("a", true, vec![proxy("dev/web")]), replica("b", false, vec![proxy("prod/api")])]),
        lease: Ok(Some(Lease { holder: "a".to_owned(), renewed: NOW - 3, duration: 15 })),
        webhooks: Ok([INJECTOR, VALIDATOR].map(|n| Webhook { name: n.to_owned(), roots: vec![serials()] }).into()),
        trial: Trial::Injected { namespace: "dev".to_owned() },
        validation: Ok(None),
        namespaces: Ok(vec![
            namespace("dev", &[("causeway.dev/inject", "true")]),
            namespace("prod", &[("causeway.dev/inject", "true")]),
            namespace("kube-system", &[]),
        ]),
        pods: Ok(vec![pod("dev", "web", true), pod("prod", "api", true)]),
        policies: Ok(Vec::new()),
        control_plane_peers: vec![Peer { namespace: "causeway-system".to_owned(), ..Peer::default() }],
        dns_peers: vec![Peer { namespace: "kube-system".to_owned(), ..Peer::default() }],
        trust_bundles: Ok([("dev".to_owned(), serials()), ("prod".to_owned(), serials())].into()),
        resources: Ok(vec![resource]),
    }
}

/// What is said beyond what is said of the healthy cluster: mark and check of everything that is neither good nor a note.
fn complaints(facts: &Facts) -> Vec<(Mark, &'static str)> {
    let findings = judge(facts);
    for finding in &findings {
        assert!(!finding.text.contains('\n'), "{finding:?}");
        assert_eq!(
            matches!(finding.mark, Mark::Problem | Mark::Warning),
            finding.cure.is_some(),
            "what is wrong has a cure, and nothing else: {finding:?}"
        );
    }
    findings.into_iter().filter(|f| !matches!(f.mark, Mark::Good | Mark::Note)).map(|f| (f.mark, f.check)).collect()
}

fn views(facts: &mut Facts, index: usize) -> &mut Views {
    facts.replicas.as_mut().unwrap()[index].views.as_mut().unwrap()
}

#[test]
fn a_healthy_cluster_has_no_complaint() {
    let facts = healthy();
    assert_eq!(complaints(&facts), vec![]);
    assert_eq!(exit_code(&judge(&facts)), 0);
    assert!(judge(&facts).len() > 14);
}

type Case = (&'static str, fn(&mut Facts), Vec<(Mark, &'static str)>);

fn check(cases: Vec<Case>) {
    for (what, change, expected) in cases {
        let mut facts = healthy();
        change(&mut facts);
        assert_eq!(complaints(&facts), expected, "{what}");
    }
}

#[test]
fn each_fault_of_the_cluster_is_one_complaint() {
    use Mark::{Problem, Unknown, Warning};
    check(vec![
        (
            "old API server",
            |f| f.server.as_mut().unwrap().version = "v1.28.3".to_owned(),
            vec![(Problem, "api_version")],
        ),
        ("beta sidecars", |f| f.server.as_mut().unwrap().version = "v1.31.0".to_owned(), vec![]),
        ("API server away", |f| f.server = Err("refused".to_owned()), vec![(Unknown, "api_version")]),
        ("our clock", |f| f.server.as_mut().unwrap().ahead = Some(-30), vec![(Warning, "clock_skew")]),
        ("old node", |f| f.nodes.as_mut().unwrap()[0].kubelet = "v1.27.1".to_owned(), vec![(Problem, "node_versions")]),
        ("a node's clock", |f| f.nodes.as_mut().unwrap()[0].ahead = Some(20), vec![(Warning, "node_clock_skew")]),
        ("very wrong", |f| f.nodes.as_mut().unwrap()[0].ahead = Some(-900), vec![(Problem, "node_clock_skew")]),
        ("nodes hidden", |f| f.nodes = Err("forbidden".to_owned()), vec![]),
        ("may not upgrade", |f| f.permissions.as_mut().unwrap()[0].is_allowed = false, vec![]),
    ]);
}

#[test]
fn each_fault_of_the_control_plane_is_one_complaint() {
    use Mark::{Problem, Unknown, Warning};
    check(vec![
        (
            "CRD gone",
            |f| f.definitions.as_mut().unwrap()[0].state = DefinitionState::Missing,
            vec![(Problem, "definitions")],
        ),
        (
            "other CRD",
            |f| f.definitions.as_mut().unwrap()[0].state = DefinitionState::Different,
            vec![(Warning, "definitions")],
        ),
        (
            "one away",
            |f| f.deployment = Ok(Some(Deployment { wanted: 2, ready: 1, updated: 2 })),
            vec![(Warning, "replicas")],
        ),
        (
            "all away",
            |f| f.deployment = Ok(Some(Deployment { wanted: 2, ready: 0, updated: 2 })),
            vec![(Problem, "replicas")],
        ),
        ("one alone", |f| f.deployment = Ok(Some(Deployment { wanted: 1, ready: 1, updated: 1 })), vec![]),
        ("no leader", |f| f.lease = Ok(None), vec![(Problem, "leader")]),
        (
            "leader asleep",
            |f| f.lease.as_mut().unwrap().as_mut().unwrap().renewed = NOW - 60,
            vec![(Problem, "leader")],
        ),
        ("not injected", |f| f.trial = Trial::Untouched { namespace: "dev".to_owned() }, vec![(Problem, "injection")]),
        (
            "webhook away",
            |f| {
                let message = "failed calling webhook \"inject.causeway.dev\": no endpoints available".to_owned();
                f.trial = Trial::Refused { namespace: "dev".to_owned(), message };
            },
            vec![(Problem, "injection")],
        ),
        (
            "validation away",
            |f| f.validation = Ok(Some("failed calling webhook: no endpoints available".to_owned())),
            vec![(Problem, "validation")],
        ),
        (
            "another admission",
            |f| f.trial = Trial::Refused { namespace: "dev".to_owned(), message: "exceeded quota".to_owned() },
            vec![(Unknown, "injection")],
        ),
        ("webhook gone", |f| drop(f.webhooks.as_mut().unwrap().pop()), vec![(Problem, "webhooks")]),
        ("no caBundle", |f| f.webhooks.as_mut().unwrap()[0].roots = vec![[].into()], vec![(Problem, "webhook_trust")]),
        (
            "old caBundle",
            |f| f.webhooks.as_mut().unwrap()[1].roots = vec![["ff".to_owned()].into()],
            vec![(Problem, "webhook_trust")],
        ),
        ("several versions", |f| views(f, 1).status["version"] = json!("0.0.9"), vec![(Warning, "version")]),
        (
            "a replica that cannot be asked",
            |f| f.replicas.as_mut().unwrap()[1].views = Err("no answer".to_owned()),
            vec![(Unknown, "replica_views"), (Unknown, "connected")],
        ),
    ]);
}

#[test]
fn each_fault_of_certificates_is_one_complaint() {
    use Mark::{Problem, Warning};
    fn ca_ends(facts: &mut Facts, when: &str) {
        for index in [0, 1] {
            views(facts, index).trust["issuer_expires"] = json!(when);
        }
    }
    check(vec![
        ("50 days", |f| ca_ends(f, "2027-01-10T00:00:00Z"), vec![(Warning, "ca_life")]),
        ("5 days", |f| ca_ends(f, "2026-11-26T00:00:00Z"), vec![(Problem, "ca_life")]),
        ("over", |f| ca_ends(f, "2026-11-20T00:00:00Z"), vec![(Problem, "ca_life")]),
        (
            "two CAs",
            |f| views(f, 1).trust["roots"] = json!([{"serial": "ff"}]),
            vec![
                (Problem, "webhook_trust"),
                (Problem, "webhook_trust"),
                (Problem, "ca_shared"),
                (Problem, "trust_bundles"),
            ],
        ),
        ("no bundle", |f| drop(f.trust_bundles.as_mut().unwrap().remove("dev")), vec![(Problem, "trust_bundles")]),
        (
            "old bundle",
            |f| drop(f.trust_bundles.as_mut().unwrap().insert("dev".to_owned(), ["ff".to_owned()].into())),
            vec![(Problem, "trust_bundles")],
        ),
        (
            "not renewed",
            |f| views(f, 0).proxies[0]["certificate_expires"] = json!("2026-11-21T00:01:00Z"),
            vec![(Warning, "certificates")],
        ),
    ]);
}

#[test]
fn each_fault_of_workloads_is_one_complaint() {
    use Mark::{Problem, Warning};
    check(vec![
        ("forgotten", |f| f.pods.as_mut().unwrap().push(pod("dev", "old", false)), vec![(Problem, "injected")]),
        (
            "opted out",
            |f| {
                let mut out = pod("dev", "plain", false);
                out.labels.insert("causeway.dev/inject".to_owned(), "false".to_owned());
                f.pods.as_mut().unwrap().push(out);
            },
            vec![],
        ),
        ("lost", |f| views(f, 1).proxies.clear(), vec![(Problem, "connected")]),
        (
            "starting",
            |f| {
                views(f, 1).proxies.clear();
                f.pods.as_mut().unwrap()[1].created = NOW - 5;
            },
            vec![],
        ),
        ("old proxy", |f| views(f, 0).proxies[0]["version"] = json!("0.0.9"), vec![(Warning, "proxy_versions")]),
        (
            "refused",
            |f| views(f, 0).proxies[0]["nack"] = json!({"resource": "workload", "field": "x", "message": "y"}),
            vec![(Problem, "acknowledged")],
        ),
        ("slow", |f| views(f, 0).proxies[0]["unanswered_seconds"] = json!(9), vec![(Problem, "acknowledged")]),
        (
            "PodSecurity",
            |f| {
                let level = ("pod-security.kubernetes.io/enforce".to_owned(), "restricted".to_owned());
                f.namespaces.as_mut().unwrap()[0].labels.extend([level]);
            },
            vec![(Problem, "pod_security")],
        ),
    ]);
}

fn deny(namespace: &str, spec: &str) -> NetworkPolicy {
    let mut policy: NetworkPolicy = serde_yaml::from_str(&format!("spec: {spec}")).unwrap();
    policy.metadata.name = Some("default-deny".to_owned());
    policy.metadata.namespace = Some(namespace.to_owned());
    policy
}

#[test]
fn a_policy_that_cuts_a_proxy_off_is_a_problem_and_where_it_is_not_enforced_a_warning() {
    let mut facts = healthy();
    let everything = "{podSelector: {}, policyTypes: [Ingress, Egress]}";
    facts.policies = Ok(vec![deny("dev", everything)]);
    assert_eq!(complaints(&facts), vec![(Mark::Warning, "network_policies")], "dev/web is connected all the same");
    views(&mut facts, 0).proxies.clear();
    let expected = vec![(Mark::Problem, "connected"), (Mark::Problem, "network_policies")];
    assert_eq!(complaints(&facts), expected);
    let findings = judge(&facts);
    let items: Vec<_> = findings.iter().filter(|f| f.check == "network_policies").flat_map(|f| &f.items).collect();
    assert_eq!(items, vec!["dev: egress to the control plane closed by default-deny"]);
    facts.policies = Ok(vec![deny("dev", "{podSelector: {}, egress: [{ports: [{port: 15010}]}]}")]);
    let findings = judge(&facts);
    let items: Vec<_> = findings.iter().filter(|f| f.check == "network_policies").flat_map(|f| &f.items).collect();
    assert_eq!(items, vec!["dev: egress to the DNS closed by default-deny"]);
}

#[test]
fn what_the_status_of_a_resource_says_is_passed_on() {
    let mut facts = healthy();
    let resource = &mut facts.resources.as_mut().unwrap()[0];
    resource["status"]["conditions"][0]["status"] = json!("False");
    resource["status"]["conditions"][1]["status"] = json!("False");
    assert_eq!(complaints(&facts), vec![(Mark::Problem, "accepted"), (Mark::Warning, "resolved")]);
    facts.resources.as_mut().unwrap()[0]["metadata"]["generation"] = json!(2);
    assert_eq!(complaints(&facts), vec![(Mark::Warning, "judged")]);
    let mut facts = healthy();
    let missing =
        json!({"severity": "error", "code": "source_forbidden", "resource": "", "message": "m", "advice": "a"});
    views(&mut facts, 0).problems = vec![missing];
    assert_eq!(complaints(&facts), vec![(Mark::Problem, "source")]);
}

#[test]
fn before_the_installation_only_what_it_needs_is_checked() {
    let mut facts = healthy();
    facts.deployment = Ok(None);
    facts.webhooks = Ok(Vec::new());
    facts.replicas = Ok(Vec::new());
    facts.trial = Trial::Unknown("not installed".to_owned());
    assert_eq!(complaints(&facts), vec![]);
    facts.permissions.as_mut().unwrap()[0].is_allowed = false;
    assert_eq!(complaints(&facts), vec![(Mark::Problem, "permissions")]);
    facts = healthy();
    facts.deployment = Ok(None);
    assert_eq!(complaints(&facts), vec![(Mark::Problem, "leftovers")], "webhooks without a control plane");
}

#[test]
fn a_report_names_five_and_counts_the_rest_within_the_columns() {
    let mut facts = healthy();
    let forgotten = (0..9).map(|n| pod("dev", &format!("old-{n}"), false));
    facts.pods.as_mut().unwrap().extend(forgotten);
    for columns in [60, 80, 120] {
        let text = super::super::report::text(&judge(&facts), crate::terminal::Style::PLAIN, columns);
        assert!(text.contains("dev/old-4") && !text.contains("dev/old-5") && text.contains("and 4 more"), "{text}");
        assert!(text.contains("rollout restart"), "{text}");
        let longest = text.lines().map(crate::terminal::width).max().unwrap_or_default();
        assert!(longest <= columns, "{longest} columns of {columns}\n{text}");
        assert!(text.ends_with("1 problem; 18 checks passed\n"), "{text}");
    }
}
