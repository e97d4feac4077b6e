//! `causeway check`, `status` and `proxy` against a real API server, and on a real node where everything they ask runs.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use causeway_tests::binaries::binary;
use causeway_tests::capability::{Need, has};
use causeway_tests::kube::{ApiServer, Cluster, Node};
use causeway_tests::process::{Output, run};
use causeway_tests::until;
use serde_json::Value;

const EXAMPLE: &str = include_str!("../../deploy/examples/cluster/canary.yaml");
const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/causeway.yaml");
const WAIT: Duration = Duration::from_secs(90);

/// A pod as it stands in a cluster that injected it; there is no kubelet to make it run.
const WEB: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: dev, labels: {app: web, causeway.dev/injected: 'true'}}
spec:
  initContainers: [{name: causeway-proxy, image: a, restartPolicy: Always}]
  containers: [{name: a, image: a}]
";
const OLD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: old, namespace: dev, labels: {app: old}}
spec: {containers: [{name: a, image: a}]}
";
const DENY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: default-deny-all, namespace: dev}
spec: {podSelector: {}, policyTypes: [Ingress, Egress]}
";

fn causeway(cluster: &Cluster, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary("causeway"));
    run(command.env("KUBECONFIG", cluster.kubeconfig()).env("HOME", "/nonexistent").args(arguments))
}

/// Marks of the checks in `causeway check -o json`, e.g. `injected=problem`, but for those that are good.
fn complaints(cluster: &Cluster) -> (Option<i32>, Vec<String>) {
    let output = causeway(cluster, &["check", "-o", "json"]);
    let answer: Value =
        serde_json::from_str(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}{}", output.stdout, output.stderr));
    let findings = answer["findings"].as_array().unwrap().iter();
    let marks = findings.filter(|f| f["mark"] != "good" && f["mark"] != "note").map(|finding| {
        assert!(finding["mark"] == "unknown" || finding["cure"].is_string(), "{finding}");
        format!("{}={}", finding["check"].as_str().unwrap(), finding["mark"].as_str().unwrap())
    });
    (output.code, marks.collect())
}

#[test]
fn check_tells_a_bare_cluster_from_a_broken_installation_and_names_the_cures() {
    if !has(&[Need::Kubernetes]) {
        return;
    }
    let mut kube = ApiServer::start();
    // An API server alone has no node; nothing else is wrong with it.
    assert_eq!(complaints(&kube), (Some(0), vec!["node_versions=warning".to_owned()]));
    let text = causeway(&kube, &["check"]).stdout;
    assert!(text.contains("causeway install --apply --wait") && text.contains("you may install"), "{text}");

    // Who may do nothing sees what cannot be told, and that is no claim that something is wrong.
    let nobody = kube.as_service_account("default", "nobody");
    let (code, seen) = complaints(&nobody);
    assert_eq!(code, Some(2), "{seen:?}");
    assert!(seen.contains(&"replicas=unknown".to_owned()), "{seen:?}");

    // Pods as they were before; then Causeway, which cannot run here, without a kubelet.
    kube.create_namespace("dev", &[("causeway.dev/inject", "true")]);
    for yaml in [WEB, OLD, DENY] {
        kube.apply(yaml).unwrap();
    }
    for pod in ["web", "old"] {
        let running = r#"{"status": {"phase": "Running"}}"#;
        kube.kubectl(&["-n", "dev", "patch", "pod", pod, "--subresource=status", "--type=merge", "-p", running])
            .unwrap();
    }
    kube.kubectl(&["label", "ns", "dev", "pod-security.kubernetes.io/enforce=baseline", "--overwrite"]).unwrap();
    kube.kubectl(&["apply", "--server-side", "-f", MANIFEST]).unwrap();
    kube.wait(&["crd/virtualservices.causeway.dev"], "condition=Established", WAIT).unwrap();
    let (code, seen) = complaints(&kube);
    assert_eq!(code, Some(1));
    for expected in ["replicas=problem", "injected=problem", "pod_security=problem", "network_policies=problem"] {
        assert!(seen.iter().any(|seen| seen == expected), "{expected} is not among {seen:?}");
    }
    let text = causeway(&kube, &["check"]).stdout;
    for part in [
        "dev/old",
        "default-deny-all",
        "docs/kubernetes.md",
        "namespace dev pod-security.kubernetes.io/enforce=privileged",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }

    // A definition that somebody changed is another version's.
    let other = r#"[{"op": "remove", "path": "/spec/versions/0/schema/openAPIV3Schema/description"}]"#;
    kube.kubectl(&["patch", "crd", "virtualservices.causeway.dev", "--type=json", "-p", other]).unwrap();
    assert!(complaints(&kube).1.contains(&"definitions=warning".to_owned()));

    // A pod without a proxy is no question for it, and status says that nobody is there to answer.
    let output = causeway(&kube, &["proxy", "dev/old"]);
    assert_eq!(output.code, Some(1));
    assert!(output.stderr.contains("has no proxy") && output.stderr.contains("causeway.dev/inject=true"), "{output:?}");
    let output = causeway(&kube, &["status"]);
    assert_eq!(output.code, Some(1));
    assert!(output.stderr.contains("no control plane") && output.stderr.contains("causeway check"), "{output:?}");

    // Away, it is named, and nothing is claimed to be wrong.
    kube.stop_server();
    let (code, seen) = complaints(&kube);
    assert_eq!(code, Some(2), "{seen:?}");
    assert!(seen.contains(&"api_version=unknown".to_owned()), "{seen:?}");
    let output = causeway(&kube, &["status"]);
    assert!(output.stderr.contains(&kube.url()) && output.stderr.contains("current-context"), "{output:?}");
}

#[test]
fn a_command_without_a_cluster_says_where_one_could_be_named() {
    for arguments in [&["check"][..], &["status"], &["proxy", "dev/web"]] {
        let mut command = Command::new(binary("causeway"));
        let output = run(command.env("HOME", "/nonexistent").env_remove("KUBECONFIG").args(arguments));
        assert_eq!(output.code, Some(1), "{arguments:?}");
        assert!(output.stderr.contains("--kubeconfig"), "{arguments:?}: {output:?}");
        assert_eq!(output.stderr.trim().lines().count(), 1, "{output:?}");
    }
}

/// The example with the test application for its images.
fn example() -> String {
    let app = "causeway-test/app:1";
    let mut yaml = EXAMPLE.replace("curlimages/curl:8.16.0", app).replace("hashicorp/http-echo:1.0", app);
    for version in ["v1-stable", "v1-canary"] {
        let echo = format!(r#""-listen=:8080", "-text={version}""#);
        assert!(yaml.contains(&echo));
        yaml = yaml.replace(&echo, &format!(r#""http", "--listen", "0.0.0.0:8080", "--name", "{version}""#));
    }
    yaml
}

#[test]
fn on_a_node_the_example_runs_and_every_command_shows_it() {
    if !has(causeway_tests::capability::NODE) {
        return;
    }
    let node = Node::with_causeway(&[]);
    let _told = node.told(&["dev", "prod"]);
    nothing_to_complain_of(&node);

    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("canary.yaml"), example()).unwrap();
    let printed = readme(&node, folder.path());
    for part in ["v1-canary", "v1-stable", "Causeway 0.", "in force", "spiffe://cluster.local/ns/dev/sa/web"] {
        assert!(printed.contains(part), "{part}\n{printed}");
    }

    nothing_to_complain_of(&node);
    let output = until("the status counts the proxies", Duration::from_secs(10), || {
        let output = causeway(&node, &["status"]);
        if output.stdout.contains("in force 1/1") { Ok(output) } else { Err(output.stdout) }
    });
    for part in
        ["leads", "VirtualService dev/prod-service-route", "in force 1/1", "v1-canary   10.0 %  ███", "dev/web-"]
    {
        assert!(output.stdout.contains(part), "{part}\n{output:?}");
    }
    assert_eq!(output.code, Some(0), "{output:?}");

    let output = causeway(&node, &["proxy", "-n", "dev", "deployment/web"]);
    for part in [
        "ready",
        "spiffe://cluster.local/ns/dev/sa/web",
        "prodsvc.prod:80",
        "spiffe://cluster.local/ns/prod/sa/prodsvc",
    ] {
        assert!(output.stdout.contains(part), "{part}\n{output:?}");
    }
    assert_eq!(output.code, Some(0), "{output:?}");
    let stable = node.pod("prod", "version=v1-stable");
    let output = causeway(&node, &["proxy", &format!("prod/{stable}"), "-o", "json"]);
    let answer: Value = serde_json::from_str(&output.stdout).unwrap();
    let policies = &answer["config"]["workload"]["inbound"]["policies"];
    assert_eq!(policies[0]["rules"][0], "from spiffe://cluster.local/ns/dev/sa/web to anything", "{policies}");

    // A pod older than the label is found, with the command that mends it.
    node.create_namespace("late", &[]);
    node.apply(&example_client("late")).unwrap();
    node.rolled_out("late", "deployment/web", WAIT);
    node.kubectl(&["label", "ns", "late", "causeway.dev/inject=true"]).unwrap();
    let output = until("the pod without a proxy is found", WAIT, || {
        let output = causeway(&node, &["check"]);
        if output.stdout.contains("not injected") { Ok(output) } else { Err(output.stdout) }
    });
    assert_eq!(output.code, Some(1));
    assert!(output.stdout.contains("kubectl -n late rollout restart deployment/web"), "{output:?}");
}

/// Waits until all is well: what was just made may still be on its way.
fn nothing_to_complain_of(node: &Node) {
    until("nothing to complain of", WAIT, || match complaints(node) {
        (Some(0), seen) if seen.is_empty() => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

/// Runs the commands of the README's section on clusters, with the example of `folder`; what they printed.
fn readme(node: &Node, folder: &Path) -> String {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let section = readme.split_once("## In a cluster").unwrap().1;
    let script = section.split_once("```sh\n").unwrap().1.split_once("\n```").unwrap().0;
    let script = script.replace("deploy/examples/cluster", folder.to_str().unwrap());
    // Young proxies may still be on their way when these ask; what they find is tested below.
    let script = script.replace("\ncauseway check", "\ncauseway check || true");
    let script = script.replace("\ncauseway status", "\ncauseway status || true");
    let directories = [binary("causeway"), causeway_tests::kube::program("kubectl")];
    let path = directories.iter().map(|program| program.parent().unwrap().display().to_string());
    let path = path.chain([std::env::var("PATH").unwrap_or_default()]).collect::<Vec<_>>().join(":");
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", &script]).env("PATH", path).env("KUBECONFIG", node.kubeconfig());
    run(bash.env("HOME", folder)).ok()
}

/// The client of the example in another namespace.
fn example_client(namespace: &str) -> String {
    let yaml = example().replace("namespace: dev", &format!("namespace: {namespace}"));
    let documents = yaml.split("---\n").filter(|document| {
        let is_client = document.contains(&format!("namespace: {namespace}"));
        is_client && (document.contains("kind: ServiceAccount") || document.contains("kind: Deployment"))
    });
    documents.collect::<Vec<_>>().join("---\n")
}
