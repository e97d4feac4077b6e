//! Pods and their proxies: injected or not, connected or not, up to date or not.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::facts::{Facts, Namespace, Workload};
use super::super::finding::{Finding, Findings, Group};
use super::{count, word};

/// A pod may take so long to start before anybody is told, seconds.
const STARTING: i64 = 60;
/// A proxy answers an update within milliseconds; so many seconds are too many.
const SLOW: u64 = 5;

pub(super) fn judge(facts: &Facts, proxies: &[Value]) -> Vec<Finding> {
    let mut findings = Findings::of(Group::Workloads);
    let Some(namespaces) = findings.known("namespaces", "namespaces", &facts.namespaces) else { return findings.all };
    let meshed: Vec<&Namespace> = namespaces.iter().filter(|namespace| namespace.is_meshed()).collect();
    injection(facts, &meshed, &mut findings);
    pod_security(&meshed, &mut findings);
    connected(facts, proxies, &mut findings);
    versions(facts, proxies, &mut findings);
    acknowledged(proxies, &mut findings);
    findings.all
}

fn injection(facts: &Facts, meshed: &[&Namespace], findings: &mut Findings) {
    let Some(pods) = findings.known("injected", "pods", &facts.pods) else { return };
    let injected = pods.iter().filter(|pod| pod.is_injected()).count();
    if meshed.is_empty() && injected == 0 {
        return findings.note(
            "injected",
            "no namespace has injection; to begin: kubectl label namespace NAME causeway.dev/inject=true",
        );
    }
    let names: BTreeSet<&str> = meshed.iter().map(|namespace| namespace.name.as_str()).collect();
    let is_of_mesh = |pod: &&Workload| names.contains(pod.namespace.as_str()) && !pod.is_injected() && !pod.is_ending;
    let left_out: Vec<&Workload> = pods.iter().filter(is_of_mesh).collect();
    let (host, rest): (Vec<_>, Vec<_>) = left_out.into_iter().partition(|pod| pod.is_host_network);
    let (opted_out, forgotten): (Vec<_>, Vec<_>) = rest.into_iter().partition(|pod| pod.has_opted_out());
    if forgotten.is_empty() {
        let text = format!("{} of {} injected", count(injected, "pod"), count(meshed.len(), "namespace"));
        findings.good("injected", text);
    } else {
        let text = format!("{} of namespaces with injection not injected", count(forgotten.len(), "pod"));
        findings.problem("injected", text, restart(&forgotten)).items = forgotten.iter().map(|pod| pod.key()).collect();
    }
    for (pods, why) in [(opted_out, "opted out by their label"), (host, "use the node's network and cannot be")] {
        if !pods.is_empty() {
            findings.note("not_injected", format!("{} {why}", count(pods.len(), "pod")));
        }
    }
}

/// The commands that have `pods` made anew.
fn restart(pods: &[&Workload]) -> String {
    let mut owners: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut bare = 0;
    for pod in pods {
        match &pod.owner {
            Some(owner) if owner.starts_with("job/") => bare += 1,
            Some(owner) => {
                owners.entry(pod.namespace.as_str()).or_default().insert(owner);
            }
            None => bare += 1,
        }
    }
    let mut commands: Vec<String> = owners
        .into_iter()
        .map(|(namespace, owners)| {
            let owners: Vec<&str> = owners.into_iter().collect();
            format!("kubectl -n {namespace} rollout restart {}", owners.join(" "))
        })
        .collect();
    if bare > 0 {
        commands.push("delete and create again those that nothing restarts".to_owned());
    }
    commands.join("; ")
}

fn pod_security(meshed: &[&Namespace], findings: &mut Findings) {
    let forbids = |namespace: &&&Namespace| {
        let level = namespace.labels.get("pod-security.kubernetes.io/enforce").map(String::as_str);
        matches!(level, Some("baseline" | "restricted"))
    };
    let strict: Vec<String> = meshed.iter().filter(forbids).map(|namespace| namespace.name.clone()).collect();
    if strict.is_empty() {
        return;
    }
    let text =
        format!("PodSecurity of {} forbids NET_ADMIN, so no meshed pod can start", count(strict.len(), "namespace"));
    let cure = format!(
        "kubectl label --overwrite namespace {} pod-security.kubernetes.io/enforce=privileged (the init container that \
         redirects traffic is the only one that needs it)",
        strict.join(" ")
    );
    findings.problem("pod_security", text, cure).items = strict;
}

fn connected(facts: &Facts, proxies: &[Value], findings: &mut Findings) {
    let (Ok(pods), Ok(replicas)) = (&facts.pods, &facts.replicas) else { return };
    if !replicas.iter().any(|replica| replica.is_ready) {
        return;
    }
    if replicas.iter().any(|replica| replica.is_ready && replica.views.is_err()) {
        return findings.unknown("connected", "which proxies are connected", "not every replica could be asked");
    }
    let known: BTreeSet<&str> = proxies.iter().map(|proxy| word(proxy, "workload")).collect();
    let running: Vec<&Workload> =
        pods.iter().filter(|pod| pod.is_injected() && pod.is_running && !pod.is_ending).collect();
    let missing: Vec<&&Workload> = running.iter().filter(|pod| !known.contains(pod.key().as_str())).collect();
    let (young, lost): (Vec<&&Workload>, Vec<_>) =
        missing.into_iter().partition(|pod| facts.now - pod.created < STARTING);
    if !lost.is_empty() {
        let text = format!("{} without a connection to the control plane", proxies_of(lost.len()));
        let first = lost[0];
        let cure = format!(
            "causeway proxy {} says the last error; kubectl -n {} logs {} -c causeway-proxy",
            first.key(),
            first.namespace,
            first.name
        );
        findings.problem("connected", text, cure).items = lost.iter().map(|pod| pod.key()).collect();
    } else if !running.is_empty() {
        let starting = if young.is_empty() { String::new() } else { format!(", {} starting", young.len()) };
        findings.good(
            "connected",
            format!("{} of {} proxies connected{starting}", running.len() - young.len(), running.len()),
        );
    }
}

fn versions(facts: &Facts, proxies: &[Value], findings: &mut Findings) {
    let replicas = facts.replicas.as_deref().unwrap_or_default();
    let Some(current) = replicas.iter().find_map(|replica| replica.version()) else { return };
    let old: Vec<&Value> = proxies.iter().filter(|proxy| word(proxy, "version") != current).collect();
    if old.is_empty() {
        return;
    }
    let of_pods: Vec<&Workload> = facts
        .pods
        .iter()
        .flatten()
        .filter(|pod| old.iter().any(|proxy| word(proxy, "workload") == pod.key()))
        .collect();
    let text = format!("{} of another version than the control plane ({current})", proxies_of(old.len()));
    let finding = findings.warning("proxy_versions", text, restart(&of_pods));
    finding.items = old.iter().map(|proxy| format!("{} {}", word(proxy, "workload"), word(proxy, "version"))).collect();
}

fn proxies_of(number: usize) -> String {
    if number == 1 { "1 proxy".to_owned() } else { format!("{number} proxies") }
}

fn acknowledged(proxies: &[Value], findings: &mut Findings) {
    let refused: Vec<String> = proxies
        .iter()
        .filter(|proxy| !proxy["nack"].is_null())
        .map(|proxy| {
            let nack = &proxy["nack"];
            let (resource, field) = (word(nack, "resource"), word(nack, "field"));
            format!("{}: {resource} {field}: {}", word(proxy, "workload"), word(nack, "message"))
        })
        .collect();
    let is_slow = |proxy: &&Value| {
        proxy["nack"].is_null() && proxy["unanswered_seconds"].as_u64().is_some_and(|seconds| seconds >= SLOW)
    };
    let slow: Vec<String> = proxies
        .iter()
        .filter(is_slow)
        .map(|proxy| format!("{} {} s", word(proxy, "workload"), proxy["unanswered_seconds"]))
        .collect();
    if refused.is_empty() && slow.is_empty() && !proxies.is_empty() {
        findings.good("acknowledged", format!("configuration in force on all of {}", proxies_of(proxies.len())));
    }
    if !refused.is_empty() {
        let text =
            format!("{} refused a part of their configuration and keep what they had", proxies_of(refused.len()));
        let cure = "if they are older than the control plane restart their pods; else report it, it is a bug";
        findings.problem("acknowledged", text, cure).items = refused;
    }
    if !slow.is_empty() {
        let text = format!("{} have not acknowledged what was sent", proxies_of(slow.len()));
        let cure = "causeway proxy NAMESPACE/POD; the pod may lack processor time (kubectl top pod --containers)";
        findings.problem("acknowledged", text, cure).items = slow;
    }
}
