//! Faults that are injected on purpose.

use super::{Report, ppm};
use causeway_crds::http_route::{Abort, Delay, Fault};
use causeway_mesh::wire::{self, fault_injection};

/// Names of gRPC's status codes from 1 on.
const CODES: [&str; 16] = [
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// A part that cannot be is left out, which is said.
pub(super) fn fault(report: &mut Report<'_>, at: &str, fault: &Fault) -> Option<wire::FaultInjection> {
    let mut found = wire::FaultInjection::default();
    if let Some((ms, share)) = fault.delay.as_ref().and_then(|d| delay(report, &format!("{at}.delay"), d)) {
        (found.delay_ms, found.delay_ppm) = (ms, share);
    }
    if let Some((kind, share)) = fault.abort.as_ref().and_then(|a| abort(report, &format!("{at}.abort"), a)) {
        (found.abort, found.abort_ppm) = (Some(kind), share);
    }
    (found != wire::FaultInjection::default()).then_some(found)
}

/// Milliseconds and share.
fn delay(report: &mut Report<'_>, at: &str, delay: &Delay) -> Option<(u64, u32)> {
    let field = format!("{at}.fixedDelay");
    let Some(text) = delay.fixed_delay.as_deref() else {
        report.error("missing_field", &field, "this field is required; nothing is delayed", "Write it like 5s.");
        return None;
    };
    let ms = report.millis(Some(text), &field, "nothing is delayed")?;
    let percent = delay.percentage.as_ref().and_then(|p| p.value).or(delay.percent.map(f64::from));
    Some((ms, share(report, at, percent)?)).filter(|(ms, share)| *ms > 0 && *share > 0)
}

fn abort(report: &mut Report<'_>, at: &str, abort: &Abort) -> Option<(fault_injection::Abort, u32)> {
    let kind = match (abort.http_status, abort.grpc_status.as_deref()) {
        (Some(status), None) => fault_injection::Abort::HttpStatus(status),
        (None, Some(text)) => {
            let name = text.trim().to_ascii_uppercase();
            let by_number = name.parse::<u32>().ok().filter(|n| (1..=16).contains(n));
            let by_name = || CODES.iter().position(|c| *c == name).and_then(|i| u32::try_from(i + 1).ok());
            let Some(code) = by_number.or_else(by_name) else {
                let message = format!("`{}` is not a gRPC status; nothing is aborted", text.escape_debug());
                report.error("unknown_value", &format!("{at}.grpcStatus"), message, "Write one like UNAVAILABLE.");
                return None;
            };
            fault_injection::Abort::GrpcStatus(code)
        }
        (Some(_), Some(_)) | (None, None) => {
            let message = "exactly one of httpStatus and grpcStatus must be set; nothing is aborted";
            report.error("ambiguous_action", at, message, "Keep one of them.");
            return None;
        }
    };
    let percent = abort.percentage.as_ref().and_then(|p| p.value);
    Some((kind, share(report, at, percent)?)).filter(|(_, share)| *share > 0)
}

/// Istio injects nothing where no share is written.
fn share(report: &mut Report<'_>, at: &str, percent: Option<f64>) -> Option<u32> {
    if percent.is_none() {
        let advice = "Write percentage: {value: 100} for all of them.";
        report.warning("no_effect", at, "without a percentage no request is concerned, as in Istio", advice);
    }
    percent.map(ppm)
}
