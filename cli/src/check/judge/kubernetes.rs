//! The cluster itself: versions, clocks, and whether the caller may install.

use super::super::facts::Facts;
use super::super::finding::{Finding, Findings, Group};
use super::{count, is_installed};

/// Native sidecars came in 1.29, stable in 1.33; ValidatingAdmissionPolicy is stable from 1.30.
const OLDEST: u32 = 30;
const STABLE: u32 = 33;
/// Apart by more than this, clocks are worth a look, seconds. A `Date` header is right to a second, and so is a Lease.
const APART: i64 = 5;
/// Certificates are valid from ten minutes before they are issued; half of that is too near.
const FAR_APART: i64 = 300;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Findings::of(Group::Kubernetes);
    server(facts, &mut findings);
    nodes(facts, &mut findings);
    clocks(facts, &mut findings);
    permissions(facts, &mut findings);
    findings.all
}

/// The minor version in `v1.34.4` or `v1.31.2-gke.5`; None where it is none of 1.x.
fn minor(version: &str) -> Option<u32> {
    let rest = version.trim_start_matches('v').strip_prefix("1.")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn server(facts: &Facts, findings: &mut Findings) {
    let Some(server) = findings.known("api_version", "the API server", &facts.server) else { return };
    let seen = format!("API server {} at {}", server.version, server.url);
    match minor(&server.version) {
        None => findings.unknown("api_version", &seen, "its version cannot be read"),
        Some(..OLDEST) => {
            findings.problem("api_version", seen, format!("upgrade the cluster to Kubernetes 1.{OLDEST} or newer"));
        }
        Some(OLDEST..STABLE) => {
            findings.note("api_version", format!("{seen}: native sidecars are beta before 1.{STABLE}"));
        }
        Some(_) => findings.good("api_version", seen),
    }
}

fn nodes(facts: &Facts, findings: &mut Findings) {
    let Ok(nodes) = &facts.nodes else {
        // Only a cluster's administrators may look at nodes, and the API server's version is the better witness.
        return findings
            .note("node_versions", "nodes may not be looked at: kubelet versions and clocks are not checked");
    };
    if nodes.is_empty() {
        findings.warning("node_versions", "there is no node", "add a node: nothing can run");
        return;
    }
    let old: Vec<String> = nodes
        .iter()
        .filter(|node| minor(&node.kubelet).is_some_and(|minor| minor < OLDEST))
        .map(|node| format!("{} {}", node.name, node.kubelet))
        .collect();
    if old.is_empty() {
        let mut versions: Vec<&str> = nodes.iter().map(|node| node.kubelet.as_str()).collect();
        versions.sort_unstable();
        versions.dedup();
        findings.good("node_versions", format!("{}, kubelet {}", count(nodes.len(), "node"), versions.join(", ")));
    } else {
        let text = format!("{} too old for native sidecars", count(old.len(), "node"));
        let cure = format!("upgrade the kubelets to 1.{OLDEST} or newer, or keep meshed pods off those nodes");
        findings.problem("node_versions", text, cure).items = old;
    }
}

fn clocks(facts: &Facts, findings: &mut Findings) {
    let apart = |ahead: i64| format!("{} s {}", ahead.abs(), if ahead < 0 { "behind" } else { "ahead" });
    if let Some(ahead) = facts.server.as_ref().ok().and_then(|server| server.ahead) {
        if ahead.abs() >= APART {
            findings.warning(
                "clock_skew",
                format!("the API server's clock is {} of this machine's", apart(ahead)),
                "set the clock of the one that is wrong (timedatectl): lives of certificates below are off by that much",
            );
        } else {
            findings.good("clock_skew", "the API server's clock agrees with this machine's");
        }
    }
    let nodes = facts.nodes.as_deref().unwrap_or_default();
    let told: Vec<_> = nodes.iter().filter_map(|node| Some((node, node.ahead?))).collect();
    let off: Vec<_> = told.iter().filter(|(_, ahead)| ahead.abs() >= APART).collect();
    if off.is_empty() {
        if !told.is_empty() {
            let whose = if told.len() == 1 { "the node's clock agrees" } else { "the nodes' clocks agree" };
            findings.good("node_clock_skew", format!("{whose} with the API server's"));
        }
        return;
    }
    let text = format!("the clock of {} differs from the API server's", count(off.len(), "node"));
    let cure = "start a time service there (chrony, systemd-timesyncd): certificates are refused by who thinks that \
                they begin later or have ended";
    let finding = if off.iter().any(|(_, ahead)| ahead.abs() >= FAR_APART) {
        findings.problem("node_clock_skew", text, cure)
    } else {
        findings.warning("node_clock_skew", text, cure)
    };
    finding.items = off.iter().map(|(node, ahead)| format!("{} {}", node.name, apart(*ahead))).collect();
}

fn permissions(facts: &Facts, findings: &mut Findings) {
    let Some(permissions) = findings.known("permissions", "what you may do", &facts.permissions) else { return };
    let missing: Vec<String> = permissions.iter().filter(|p| !p.is_allowed).map(|p| p.what.clone()).collect();
    let (first, then) = if is_installed(facts) { ("upgrade", "upgraded") } else { ("install", "installed") };
    if missing.is_empty() {
        return findings.good("permissions", format!("you may {first} (all {} permissions)", permissions.len()));
    }
    let text = format!("you may not {first}: {} missing", count(missing.len(), "permission"));
    let cure = format!("have it {then} by an administrator of the cluster (ClusterRole cluster-admin)");
    if is_installed(facts) {
        // Who only looks needs none of them.
        findings.note("permissions", format!("{text}; {cure}"));
    } else {
        findings.problem("permissions", text, cure).items = missing;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_every_vendor_are_read() {
        for (text, expected) in
            [("v1.34.4", Some(34)), ("v1.31.2-gke.5", Some(31)), ("1.29+", Some(29)), ("v2.0.0", None), ("", None)]
        {
            assert_eq!(minor(text), expected, "{text}");
        }
    }
}
