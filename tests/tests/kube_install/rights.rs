//! Rights: the control plane's, one by one; nobody else gets any.

use causeway_tests::capability::{Need, has};
use causeway_tests::kube::{ApiServer, Cluster};

use super::{manifest, root};

const ACCOUNT: &str = "system:serviceaccount:causeway-system:causeway-control-plane";

/// What a ServiceAccount may do in a namespace, one right a line, in order.
fn rights(cluster: &Cluster, account: &str, namespace: &str) -> String {
    let groups = format!("--as-group=system:serviceaccounts:{}", account.split(':').nth(2).unwrap());
    let all = ["--as-group=system:serviceaccounts", "--as-group=system:authenticated"];
    let who = format!("--as={account}");
    let fixed = ["auth", "can-i", "--list", "--no-headers", "-n", namespace, &who, &groups];
    let listing = cluster.kubectl(&[&fixed[..], &all[..]].concat()).unwrap();
    let mut lines: Vec<String> =
        listing.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    lines.sort();
    lines.join("\n") + "\n"
}

#[test]
fn the_control_plane_may_do_what_is_written_down_and_no_more() {
    if !has(&[Need::Kubernetes]) {
        return;
    }
    let cluster = ApiServer::start();
    cluster.create_namespace("dev", &[]);
    let workload = "system:serviceaccount:dev:default";
    let anybody = rights(&cluster, workload, "dev");
    cluster.kubectl_with_input(&["apply", "--server-side", "-f", "-"], &manifest()).unwrap();

    assert_eq!(rights(&cluster, workload, "dev"), anybody, "a workload's ServiceAccount gets no rights from us");
    for (namespace, file) in [("causeway-system", "rights-own.txt"), ("dev", "rights-elsewhere.txt")] {
        let all = rights(&cluster, ACCOUNT, namespace);
        let beyond: String =
            all.lines().filter(|l| !anybody.lines().any(|a| a == *l)).map(|l| format!("{l}\n")).collect();
        let path = root().join("tests/helm").join(file);
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(beyond, written, "rights in {namespace} differ from {}", path.display());
    }

    let may = |what: &[&str]| cluster.can_i(ACCOUNT, what);
    assert!(may(&["get", "secret/causeway-ca", "-n", "causeway-system"]));
    assert!(may(&["get", "pods", "-n", "dev"]));
    for forbidden in [
        &["get", "secret/other", "-n", "causeway-system"][..],
        &["list", "secrets", "-n", "causeway-system"],
        &["list", "secrets", "-A"],
        &["get", "secret/causeway-ca", "-n", "dev"],
        &["create", "secrets", "-n", "dev"],
        &["create", "pods", "-n", "dev"],
        &["create", "pods/exec", "-n", "dev"],
        &["create", "pods/ephemeralcontainers", "-n", "dev"],
        &["create", "serviceaccounts/token", "-n", "dev"],
        &["create", "serviceaccounts/token", "-n", "causeway-system"],
        &["create", "configmaps", "-n", "dev"],
        &["get", "configmap/other", "-n", "dev"],
        &["update", "virtualservices.causeway.dev", "-n", "dev"],
        &["patch", "mutatingwebhookconfiguration/other"],
        &["create", "mutatingwebhookconfigurations"],
        &["delete", "pods", "-n", "causeway-system"],
        &["impersonate", "users"],
        &["escalate", "clusterroles"],
    ] {
        assert!(!may(forbidden), "the control plane may {forbidden:?}");
    }

    // A ConfigMap of that name it may make, by server-side apply, which is judged by name; another it may not.
    let map = |name: &str| format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}, namespace: dev}}}}");
    let as_it = cluster.as_service_account("causeway-system", "causeway-control-plane");
    let apply = |name| as_it.kubectl_with_input(&["apply", "--server-side", "-f", "-"], &map(name));
    apply("causeway-trust-bundle").unwrap();
    assert!(apply("other").unwrap_err().contains("forbidden"));
}

#[test]
fn a_ca_of_ones_own_takes_the_right_to_make_secrets() {
    if !has(&[Need::Kubernetes]) {
        return;
    }
    let cluster = ApiServer::start();
    let text = super::template(&["--set", "namespace.create=true,caSecret=corporate-ca"]);
    cluster.kubectl_with_input(&["apply", "--server-side", "-f", "-"], &text).unwrap();
    let may = |what: &[&str]| cluster.can_i(ACCOUNT, what);
    assert!(may(&["get", "secret/corporate-ca", "-n", "causeway-system"]));
    assert!(!may(&["get", "secret/causeway-ca", "-n", "causeway-system"]));
    assert!(!may(&["create", "secrets", "-n", "causeway-system"]));
}
