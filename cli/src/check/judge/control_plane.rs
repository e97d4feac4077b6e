//! What was installed: definitions, replicas, leader, webhooks.

use std::collections::BTreeSet;

use super::super::facts::{Definition, DefinitionState, Facts, Known, Trial};
use super::super::finding::{Finding, Findings, Group};
use super::{count, is_installed, word};
use crate::replicas::Replica;

/// A leader renews every 5 s; clocks may differ by a little.
const LATE: i64 = 5;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Findings::of(Group::ControlPlane);
    if !is_installed(facts) {
        not_installed(facts, &mut findings);
        return findings.all;
    }
    definitions(&facts.definitions, &mut findings);
    deployment(facts, &mut findings);
    replicas(facts, &mut findings);
    leader(facts, &mut findings);
    trial(facts, &mut findings);
    validation(facts, &mut findings);
    webhooks(facts, &mut findings);
    findings.all
}

fn not_installed(facts: &Facts, findings: &mut Findings) {
    findings.note("installed", "Causeway is not in this cluster; to install it: causeway install --apply --wait");
    let left: Vec<String> =
        facts.webhooks.iter().flatten().map(|webhook| format!("webhook configuration {}", webhook.name)).collect();
    if !left.is_empty() {
        let cure = "causeway install --apply --wait, or causeway uninstall --apply";
        findings
            .problem("leftovers", "webhooks of Causeway without Causeway: they refuse pods with injection", cure)
            .items = left;
    }
    let there = facts.definitions.iter().flatten().filter(|d| d.state != DefinitionState::Missing).count();
    if there > 0 {
        findings.note("definitions", format!("{} of an earlier installation: they are kept", count(there, "CRD")));
    }
}

fn definitions(definitions: &Known<Vec<Definition>>, findings: &mut Findings) {
    let Some(definitions) = findings.known("definitions", "CRDs", definitions) else { return };
    let in_state = |state: DefinitionState| -> Vec<String> {
        definitions.iter().filter(|d| d.state == state).map(|d| d.name.clone()).collect()
    };
    let missing = in_state(DefinitionState::Missing);
    let different = in_state(DefinitionState::Different);
    let waiting = in_state(DefinitionState::NotEstablished);
    let cure = "causeway install --apply";
    if !missing.is_empty() {
        let text = format!("{} missing", count(missing.len(), "CRD"));
        findings.problem("definitions", text, cure).items = missing;
    }
    if !waiting.is_empty() {
        let text = format!("{} not served by the API server", count(waiting.len(), "CRD"));
        findings.problem("definitions", text, "kubectl describe crd NAME says why").items = waiting;
    }
    if !different.is_empty() {
        let text = format!("{} of another version than this command", count(different.len(), "CRD"));
        let cure = "causeway install --apply, with the version that the cluster is to have";
        findings.warning("definitions", text, cure).items = different;
    }
    if findings.all.is_empty() {
        findings.good("definitions", format!("{} as this version has them", count(definitions.len(), "CRD")));
    }
}

fn deployment(facts: &Facts, findings: &mut Findings) {
    let Some(Some(deployment)) = findings.known("replicas", "the control plane's Deployment", &facts.deployment) else {
        return;
    };
    let text = format!("{} of {} ready", deployment.ready, count(deployment.wanted.unsigned_abs() as usize, "replica"));
    let cure = "kubectl -n causeway-system describe pods -l app.kubernetes.io/name=causeway-control-plane";
    if deployment.ready == 0 {
        findings.problem("replicas", format!("{text}: nothing is injected, no certificate is issued"), cure);
    } else if deployment.ready < deployment.wanted {
        findings.warning("replicas", text, cure);
    } else if deployment.updated < deployment.wanted {
        let text = format!("{text}, {} of the newest version", deployment.updated);
        findings.warning(
            "replicas",
            text,
            "kubectl -n causeway-system rollout status deployment/causeway-control-plane",
        );
    } else if deployment.wanted < 2 {
        let text = format!("{text}: while it restarts, pods with injection cannot start");
        findings.note("replicas", text);
    } else {
        findings.good("replicas", text);
    }
}

fn replicas(facts: &Facts, findings: &mut Findings) {
    let Some(replicas) = findings.known("replica_views", "the control plane's pods", &facts.replicas) else { return };
    let silent: Vec<&Replica> = replicas.iter().filter(|replica| replica.is_ready && replica.views.is_err()).collect();
    let not_ready: Vec<&Replica> = replicas.iter().filter(|replica| !replica.is_ready).collect();
    for replica in silent {
        let why = replica.views.as_ref().err().cloned().unwrap_or_default();
        findings.unknown("replica_views", &format!("what replica {} says", replica.pod), &why);
    }
    for replica in not_ready {
        let why = match &replica.views {
            Ok(views) => word(&views.status, "awaited").to_owned(),
            Err(why) => why.clone(),
        };
        let why = if why.is_empty() { String::new() } else { format!(": {why}") };
        let cure = format!("kubectl -n causeway-system logs {}", replica.pod);
        findings.warning("replica_ready", format!("replica {} is not ready{why}", replica.pod), cure);
    }
    let restarted: Vec<String> = replicas
        .iter()
        .filter(|replica| replica.restarts > 2)
        .map(|replica| format!("{} {} times", replica.pod, replica.restarts))
        .collect();
    if !restarted.is_empty() {
        let cure = "kubectl -n causeway-system logs --previous POD";
        findings.warning("replica_restarts", "a replica keeps restarting", cure).items = restarted;
    }
    let versions: BTreeSet<&str> = replicas.iter().filter_map(Replica::version).collect();
    match versions.iter().next() {
        Some(version) if versions.len() == 1 && *version != facts.version => {
            let text = format!("the control plane is {version}, this command {}", facts.version);
            findings.note("version", text);
        }
        Some(version) if versions.len() == 1 => findings.good("version", format!("version {version}")),
        Some(_) => {
            let text = format!("replicas of several versions: {}", versions.into_iter().collect::<Vec<_>>().join(", "));
            findings.warning(
                "version",
                text,
                "wait for the rollout: kubectl -n causeway-system rollout status deployment/causeway-control-plane",
            );
        }
        None => {}
    }
}

fn leader(facts: &Facts, findings: &mut Findings) {
    if facts.deployment.as_ref().is_ok_and(|found| found.as_ref().is_some_and(|found| found.ready == 0)) {
        return; // Nobody can lead, and that nobody is ready was said.
    }
    let cure = "kubectl -n causeway-system logs -l app.kubernetes.io/name=causeway-control-plane";
    let Some(lease) = findings.known("leader", "the leader's Lease", &facts.lease) else { return };
    let Some(lease) = lease.as_ref().filter(|lease| !lease.holder.is_empty()) else {
        findings.problem("leader", "no replica leads: status and trust bundles are not written", cure);
        return;
    };
    // The holder's clock is the cluster's, so it is compared with the API server's.
    let now = facts.now + facts.server.as_ref().ok().and_then(|server| server.ahead).unwrap_or_default();
    let age = now - lease.renewed;
    // A holder is a pod and, behind `_`, what tells its process from the one before.
    let holder = lease.holder.split('_').next().unwrap_or_default();
    if age > lease.duration + LATE {
        let text = format!("the leader {holder} has not been heard of for {age} s");
        findings.problem("leader", text, cure);
    } else {
        findings.good("leader", format!("{holder} leads"));
    }
}

/// What mends a webhook that the API server could not ask.
fn cure_of(message: &str) -> &'static str {
    let has = |part: &str| message.contains(part);
    if has("x509") || has("certificate") {
        "the leader puts the mesh's roots into the webhook configurations every few seconds: see the leader's log"
    } else if has("no endpoints") || has("refused") {
        "no replica is ready: see above"
    } else if has("deadline") || has("timeout") || has("timed out") {
        "let the API server reach port 15017 of the control plane's pods (firewall, NetworkPolicies)"
    } else {
        "see what it names; kubectl get mutatingwebhookconfigurations lists who else judges pods"
    }
}

fn trial(facts: &Facts, findings: &mut Findings) {
    match &facts.trial {
        Trial::Injected { namespace } => {
            findings.good("injection", format!("a trial pod in {namespace} is injected (dry run)"));
        }
        Trial::Untouched { namespace } => {
            findings.problem(
                "injection",
                format!("a trial pod in {namespace} is not injected"),
                "causeway install --apply: the MutatingWebhookConfiguration causeway-injector is missing or was changed",
            );
        }
        Trial::Refused { namespace, message }
            if message.contains("webhook") || message.contains("causeway-injection") =>
        {
            let text = format!("a trial pod in {namespace} is refused: {message}");
            findings.problem("injection", text, cure_of(message));
        }
        // Somebody else's admission: says nothing about ours.
        Trial::Refused { namespace, message } => {
            findings.unknown("injection", &format!("injection, by a trial pod in {namespace}"), message);
        }
        Trial::Unknown(why) => findings.unknown("injection", "injection", why),
    }
}

fn validation(facts: &Facts, findings: &mut Findings) {
    match &facts.validation {
        Ok(None) => findings.good("validation", "a trial VirtualService is judged and passes (dry run)"),
        Ok(Some(message)) => {
            let text = format!("a trial VirtualService is refused: {message}");
            findings.problem("validation", text, cure_of(message));
        }
        // Without the definition there is nothing to try, which is told above.
        Err(why) if why.contains("find the requested resource") => {}
        Err(why) => findings.unknown("validation", "validation", why),
    }
}

fn webhooks(facts: &Facts, findings: &mut Findings) {
    let Some(webhooks) = findings.known("webhook_trust", "webhook configurations", &facts.webhooks) else { return };
    for name in [super::super::INJECTOR, super::super::VALIDATOR] {
        if !webhooks.iter().any(|webhook| webhook.name == name) {
            findings.problem(
                "webhooks",
                format!("the webhook configuration {name} is missing"),
                "causeway install --apply",
            );
        }
    }
    let serving = super::certificates::roots(facts);
    if serving.is_empty() || webhooks.is_empty() {
        return;
    }
    let cure = "the leader mends it every few seconds: if it stays, see the leader's log";
    let mut is_good = true;
    for webhook in webhooks {
        let is_empty = webhook.roots.iter().any(BTreeSet::is_empty);
        let trusts = webhook.roots.iter().all(|roots| serving.is_subset(roots));
        if is_empty {
            findings.problem("webhook_trust", format!("{} trusts no root yet", webhook.name), cure);
        } else if !trusts {
            findings.problem("webhook_trust", format!("{} trusts other roots than the mesh's", webhook.name), cure);
        }
        is_good &= trusts && !is_empty;
    }
    if is_good {
        findings.good(
            "webhook_trust",
            "the API server trusts the webhooks' certificates (caBundle holds the mesh's roots)",
        );
    }
}
