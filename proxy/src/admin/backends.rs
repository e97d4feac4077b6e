//! The backends in use, as JSON: how each is balanced, what is in flight, and how each endpoint stands.

use std::time::Duration;

use causeway_mesh::balance::outlier::Standing;
use causeway_mesh::config::backend::Algorithm;
use serde_json::{Value, json};

use crate::endpoint::{BackendState, EndpointState};
use crate::target::Targets;

/// Every backend in use.
pub fn view(targets: &Targets) -> Value {
    json!({"backends": targets.backends().iter().map(|b| backend(b)).collect::<Vec<_>>()})
}

fn backend(state: &BackendState) -> Value {
    let rules = &state.backend;
    let [requests, retries, waiting, connections] = state.in_use().counts();
    let limits = &rules.limits;
    json!({
        "name": &*rules.name,
        "algorithm": algorithm(&rules.load_balancing.algorithm),
        "zones": format!("{:?}", rules.load_balancing.zones),
        "ejects_outliers": rules.outlier.is_some(),
        "in_use": {"requests": requests, "retries": retries, "waiting": waiting, "connections": connections},
        "limits": {"requests": limits.requests, "retries": limits.retries, "waiting": limits.pending,
            "connections": limits.connections},
        "endpoints": state.endpoints().iter().map(|e| endpoint(e, state.age())).collect::<Vec<_>>(),
    })
}

fn algorithm(algorithm: &Algorithm) -> &'static str {
    match algorithm {
        Algorithm::PeakEwma => "peak_ewma",
        Algorithm::LeastRequest => "least_request",
        Algorithm::RoundRobin => "round_robin",
        Algorithm::Random => "random",
        Algorithm::ConsistentHash { .. } => "consistent_hash",
    }
}

fn endpoint(state: &EndpointState, age: Duration) -> Value {
    let (standing, reason, seconds) = match state.standing() {
        Standing::In => ("in", None, None),
        Standing::Ejected { until, reason } => ("ejected", Some(reason), Some(until.saturating_sub(age).as_secs_f64())),
        Standing::Probation { reason, .. } => ("probation", Some(reason), None),
    };
    json!({
        "address": state.address().to_string(),
        "pod": state.endpoint.pod,
        "pending": state.pending(),
        "latency_ms": state.latency_micros() / 1e3,
        "standing": standing,
        "reason": reason.map(|r| r.code()),
        "seconds_left": seconds,
    })
}
