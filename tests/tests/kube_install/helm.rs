//! The real Helm and the command line against a real API server.

use causeway_tests::capability::{Need, has};
use causeway_tests::kube::{ApiServer, Cluster};
use serde_json::{Value, json};

use super::traces::{nothing_but, objects};
use super::{causeway, documents, manifest, outcome, try_helm};

const SYSTEM: &str = "causeway-system";

/// What the leader does to a webhook configuration.
fn fill_in_ca_bundle(cluster: &Cluster) {
    let patch = r#"[{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": "Y2VydGlmaWNhdGU="}]"#;
    let name = "mutatingwebhookconfiguration/causeway-injector";
    cluster.kubectl(&["patch", name, "--type=json", "-p", patch]).unwrap();
}

fn ca_bundle(cluster: &Cluster) -> Value {
    let found = cluster.get(&["mutatingwebhookconfiguration", "causeway-injector"]).unwrap();
    found["webhooks"][0]["clientConfig"]["caBundle"].clone()
}

#[test]
fn helm_installs_upgrades_and_removes_without_a_trace() {
    if !has(&[Need::Kubernetes]) {
        return;
    }
    let mut cluster = ApiServer::start();
    cluster.start_controllers();
    cluster.create_namespace(SYSTEM, &[]);
    let before = objects(&cluster);
    let helm = |command: &[&str], flags: &[&str]| {
        try_helm(Some(&cluster), &[command, &["--namespace", SYSTEM], flags].concat()).unwrap()
    };

    let notes = helm(&["install", "causeway", "deploy/helm/causeway"], &["--set", "crds.keep=false"]);
    assert!(notes.contains("causeway.dev/inject=true"), "{notes}");
    assert!(objects(&cluster).len() > before.len() + 15);
    fill_in_ca_bundle(&cluster);
    helm(&["upgrade", "causeway", "deploy/helm/causeway"], &["--set", "replicas=3,leafTtl=8h,crds.keep=false"]);
    let deployment = cluster.get(&["-n", SYSTEM, "deployment", "causeway-control-plane"]).unwrap();
    assert_eq!(deployment["spec"]["replicas"], 3);
    assert_eq!(ca_bundle(&cluster), "Y2VydGlmaWNhdGU=", "an upgrade must not take the roots away");
    let (code, said) = outcome(causeway(Some(&cluster), &["install", "--apply"]));
    assert!(code == 1 && said.contains("helm upgrade"), "two who install undo each other: {said}");
    let (code, said) = outcome(causeway(Some(&cluster), &["uninstall", "--apply"]));
    assert!(code == 1 && said.contains("helm uninstall"), "{said}");

    // The Lease has been held, as it always is when control planes run.
    let lease = r#"{"spec": {"holderIdentity": "x", "leaseDurationSeconds": 15}}"#;
    cluster.kubectl(&["-n", SYSTEM, "patch", "lease", "causeway-control-plane", "--type=merge", "-p", lease]).unwrap();
    helm(&["uninstall", "causeway"], &["--wait"]);
    nothing_but(&cluster, &before, &[]);

    // Routes outlive a release, unless somebody says otherwise.
    helm(&["install", "causeway", "deploy/helm/causeway"], &[]);
    helm(&["uninstall", "causeway"], &["--wait"]);
    nothing_but(&cluster, &before, &["CustomResourceDefinition", "APIService"]);
    assert!(cluster.get(&["crd", "virtualservices.causeway.dev"]).is_ok());
    helm(&["install", "causeway", "deploy/helm/causeway"], &[]);
}

#[test]
fn the_manifest_is_accepted_as_it_stands_and_its_pod_is_restricted() {
    if !has(&[Need::Kubernetes]) {
        return;
    }
    let cluster = ApiServer::start();
    let apply = |extra: &[&str]| {
        let fixed = ["apply", "--server-side", "--warnings-as-errors", "-f", "-"];
        cluster.kubectl_with_input(&[&fixed, extra].concat(), &manifest()).unwrap()
    };
    // A dry run needs the namespace.
    let namespace = documents(&manifest()).into_iter().find(|d| d["kind"] == "Namespace").unwrap();
    cluster.apply(&namespace.to_string()).unwrap();
    apply(&["--dry-run=server"]);
    apply(&[]);
    fill_in_ca_bundle(&cluster);
    apply(&[]);
    assert_eq!(ca_bundle(&cluster), "Y2VydGlmaWNhdGU=", "applying again must not take the roots away");

    // PodSecurity judges Pods, not Deployments.
    let deployment = documents(&manifest()).into_iter().find(|d| d["kind"] == "Deployment").unwrap();
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": SYSTEM}});
    pod["spec"] = deployment["spec"]["template"]["spec"].clone();
    let create = ["create", "--warnings-as-errors", "-f", "-"];
    cluster.kubectl_with_input(&create, &pod.to_string()).unwrap();
    pod["metadata"]["name"] = json!("q");
    pod["spec"]["containers"][0]["securityContext"]["capabilities"] = json!({"add": ["NET_ADMIN"]});
    let refused = cluster.kubectl_with_input(&create, &pod.to_string()).unwrap_err();
    assert!(refused.contains("violates PodSecurity"), "{refused}");
}

#[test]
fn the_command_line_installs_waits_shows_and_removes_without_a_trace() {
    if !has(&[Need::Kubernetes]) {
        return;
    }
    let mut cluster = ApiServer::start();
    cluster.start_controllers();
    cluster.create_namespace("dev", &[("causeway.dev/inject", "true")]);
    let before = objects(&cluster);
    let causeway = |arguments: &[&str]| outcome(causeway(Some(&cluster), arguments));

    let (code, said) = causeway(&["uninstall"]);
    assert!(code == 0 && said.contains("nothing of Causeway"), "{said}");
    let (code, said) = causeway(&["install", "--apply"]);
    assert!(code == 0 && said.contains("created"), "{said}");
    let (code, said) = causeway(&["install", "--apply"]);
    assert!(
        code == 0 && said.contains("unchanged") && !said.contains("created") && !said.contains("changed,"),
        "{said}"
    );
    let (code, said) = causeway(&["install", "--apply", "--leaf-ttl", "8h"]);
    assert!(code == 0 && said.contains("--leaf-ttl was 24h, becomes 8h"), "{said}");
    let (code, said) = causeway(&["install", "--apply", "--trust-domain", "example.org"]);
    assert!(code == 1 && said.contains("this mesh runs with --trust-domain cluster.local"), "{said}");
    // Nothing runs Pods here, so waiting must end, and say what it waited for.
    let (code, said) = causeway(&["install", "--apply", "--wait", "--timeout", "2", "--replicas", "1"]);
    assert!(code == 1 && said.contains("6 definitions established") && said.contains("0/1 control planes"), "{said}");

    // As the control plane makes them.
    let labels = json!({"app.kubernetes.io/managed-by": "causeway-control-plane"});
    let metadata = |name: &str, namespace: &str| json!({"name": name, "namespace": namespace, "labels": labels});
    for made in [
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata("causeway-ca", SYSTEM)}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata("causeway-trust-bundle", "dev")}),
    ] {
        cluster.apply(&made.to_string()).unwrap();
    }
    let route = json!({"apiVersion": "causeway.dev/v1alpha1", "kind": "PeerAuthentication",
        "metadata": {"name": "strict", "namespace": "dev"}, "spec": {"mtls": {"mode": "STRICT"}}});
    // The webhook is away: it would be refused.
    cluster.kubectl(&["delete", "validatingwebhookconfiguration", "causeway-validator"]).unwrap();
    causeway_tests::eventually("the API server forgets the webhook", || cluster.apply(&route.to_string()).is_ok());

    let (code, said) = causeway(&["uninstall"]);
    assert!(
        code == 0 && said.contains("PeerAuthentication dev/strict") && said.contains("Nothing was changed"),
        "{said}"
    );
    let (code, said) = causeway(&["uninstall", "--apply"]);
    assert!(code == 1 && said.contains("--delete-resources") && said.contains("--keep-crds"), "{said}");
    assert!(cluster.get(&["-n", SYSTEM, "deployment", "causeway-control-plane"]).is_ok(), "refused means untouched");
    let (code, said) = causeway(&["uninstall", "--apply", "--keep-crds"]);
    assert!(code == 0 && said.contains("Causeway is gone"), "{said}");
    assert!(cluster.get(&["-n", "dev", "peerauthentication", "strict"]).is_ok());
    nothing_but(&cluster, &before, &["CustomResourceDefinition", "APIService", "PeerAuthentication"]);

    // Somebody else's Secret in our namespace, for example a CA of one's own, is not ours to delete.
    assert_eq!(causeway(&["install", "--apply"]).0, 0);
    let theirs =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "corporate-ca", "namespace": SYSTEM}});
    cluster.apply(&theirs.to_string()).unwrap();
    let (code, said) = causeway(&["uninstall", "--apply", "--delete-resources"]);
    assert!(code == 0 && said.contains("not ours: Secret corporate-ca"), "{said}");
    assert!(cluster.get(&["-n", SYSTEM, "secret", "corporate-ca"]).is_ok());
    cluster.kubectl(&["delete", "namespace", SYSTEM]).unwrap();
    nothing_but(&cluster, &before, &[]);
}
