//! The harness's API server does what the suites that use it rely on.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use causeway_tests::capability::{Need, has};
use causeway_tests::kube::ApiServer;
use causeway_tests::until;

const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: shop}, \
                   spec: {containers: [{name: a, image: a}]}}";

#[test]
fn an_api_server_keeps_its_data_while_it_is_away_and_judges_rights_and_tokens() {
    if !has(&[Need::Kubernetes]) {
        return;
    }
    let mut kube = ApiServer::start();
    kube.create_namespace("shop", &[("team", "a")]);
    kube.apply(POD).unwrap();
    assert_eq!(kube.get(&["ns", "shop"]).unwrap()["metadata"]["labels"]["team"], "a");

    let token = kube.token("shop", "default", Some("p"), Some("causeway")).unwrap();
    assert_eq!(token.split('.').count(), 3, "{token}");
    let refused = kube.token("shop", "default", Some("nobody"), None).unwrap_err();
    assert!(refused.contains("not found"), "{refused}");

    let account = kube.as_service_account("shop", "reader");
    assert!(account.kubectl(&["-n", "shop", "get", "pods"]).unwrap_err().contains("Forbidden"));
    let user = "system:serviceaccount:shop:reader";
    // Not ClusterRole `view`: a controller fills that one.
    kube.kubectl(&["-n", "shop", "create", "role", "r", "--verb=get,list", "--resource=pods"]).unwrap();
    kube.kubectl(&["-n", "shop", "create", "rolebinding", "r", "--role=r", "--serviceaccount=shop:reader"]).unwrap();
    until("the binding is in force", Duration::from_secs(10), || account.kubectl(&["-n", "shop", "get", "pods"]));
    assert!(kube.can_i(user, &["get", "pods", "-n", "shop"]));
    assert!(!kube.can_i(user, &["get", "pods", "-n", "default"]));

    kube.stop_server();
    kube.kubectl(&["get", "ns"]).unwrap_err();
    kube.start_server();
    kube.kubectl(&["-n", "shop", "get", "pod", "p"]).unwrap();

    kube.start_controllers();
    kube.kubectl(&["delete", "ns", "shop", "--timeout=60s"]).unwrap();

    let directory = kube.directory().to_owned();
    drop(kube);
    assert!(!directory.exists());
    assert_eq!(processes_of(&directory), "");
}

#[test]
fn a_cluster_ends_with_the_process_that_started_it_even_when_that_is_killed() {
    if !has(&[Need::Kubernetes]) {
        return;
    }
    // This test again, as a process of its own that starts a cluster, tells where it is, and waits to be killed.
    if let Ok(file) = std::env::var("CAUSEWAY_TELL") {
        let kube = ApiServer::start();
        std::fs::write(file, kube.directory().display().to_string()).unwrap();
        loop {
            std::thread::park();
        }
    }
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("where");
    let name = std::thread::current().name().unwrap().to_owned();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name])
        .env("CAUSEWAY_TELL", &file)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let directory = until("the other process has a cluster", Duration::from_secs(120), || {
        std::fs::read_to_string(&file).map_err(|e| e.to_string())
    });
    assert_ne!(processes_of(Path::new(&directory)), "");
    child.kill().unwrap();
    child.wait().unwrap();
    until("nothing is left", Duration::from_secs(20), || {
        let left = processes_of(Path::new(&directory));
        if left.is_empty() && !Path::new(&directory).exists() { Ok(()) } else { Err(left) }
    });
}

/// The processes whose command line names a directory.
fn processes_of(directory: &Path) -> String {
    let output = Command::new("pgrep").args(["-af", &directory.display().to_string()]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}
