//! Uninstalling leaves nothing of Causeway in the cluster but the proxies that run, and those go on.

use std::time::Duration;

use causeway_tests::process::run;
use causeway_tests::until;

use crate::stage::{ROLLOUT, Stage, finish};

/// Uninstalls under load.
pub fn uninstalled(stage: &Stage) {
    let node = stage.node;
    let load = stage.start_load();
    let said = run(&mut node.causeway(&["uninstall", "--apply", "--delete-resources"])).ok();
    println!("   {}", said.trim().replace('\n', "\n   "));
    until("nothing of it is left", ROLLOUT, || {
        let left = left(stage);
        if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
    });
    load.goes_on(Duration::from_secs(2));
    finish(load);

    // A running pod keeps its proxy, with the certificate and the configuration that it holds, even through a restart.
    stage.victim_restarts();

    // New pods come without a proxy, and nothing holds them up.
    let arguments = ["-n", "life", "run", "plain", "--image=causeway-test/app:1", "--", "http", "--name", "plain"];
    node.kubectl(&[&arguments[..], &["--listen", "[::]:8080"]].concat()).unwrap();
    node.wait(&["-n", "life", "pod/plain"], "condition=Ready", ROLLOUT).unwrap();
    let pod = node.get(&["-n", "life", "pod", "plain"]).unwrap();
    assert!(pod["spec"]["initContainers"].is_null(), "{pod}");
}

/// Objects of Causeway in the cluster, `kind/name`.
fn left(stage: &Stage) -> Vec<String> {
    let kinds = "namespaces,customresourcedefinitions,mutatingwebhookconfigurations,validatingwebhookconfigurations,\
                 validatingadmissionpolicies,validatingadmissionpolicybindings,clusterroles,clusterrolebindings,\
                 configmaps,secrets,leases,deployments,services,roles,rolebindings,networkpolicies,\
                 poddisruptionbudgets,serviceaccounts,events";
    let kinds: String = kinds.split_whitespace().collect();
    let names = stage.node.kubectl(&["get", &kinds, "-A", "-o", "name"]).unwrap_or_else(|e| e);
    // Events tell what happened, and end by themselves.
    names.lines().filter(|l| l.contains("causeway") && !l.starts_with("event/")).map(str::to_owned).collect()
}
