//! What is in a cluster, so that before and after can be compared.

use std::collections::BTreeSet;
use std::time::Duration;

use causeway_tests::kube::Cluster;
use causeway_tests::until;

/// Every object of every kind that can be listed, as `kind namespace/name`. Events come and go by themselves.
pub fn objects(cluster: &Cluster) -> BTreeSet<String> {
    let kinds = cluster.kubectl(&["api-resources", "--verbs=list", "-o", "name"]).unwrap();
    let kinds: Vec<&str> = kinds.split_whitespace().filter(|kind| !kind.starts_with("events")).collect();
    let columns = "-o=custom-columns=K:.kind,NS:.metadata.namespace,N:.metadata.name";
    let listing = cluster.kubectl(&["get", &kinds.join(","), "-A", "--no-headers", columns]).unwrap();
    listing.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// Waits until nothing is there that was not there before.
pub fn nothing_but(cluster: &Cluster, before: &BTreeSet<String>, except: &[&str]) {
    until("everything is gone", Duration::from_secs(60), || {
        let now = objects(cluster);
        let left: Vec<_> = now.difference(before).filter(|o| !except.iter().any(|e| o.contains(e))).cloned().collect();
        if left.is_empty() { Ok(()) } else { Err(format!("left behind: {left:#?}")) }
    });
}
