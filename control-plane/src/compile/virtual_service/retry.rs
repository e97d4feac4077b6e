//! Retries, in the words of Envoy that Istio takes.

use super::Report;
use causeway_crds::http_route::Retries;
use causeway_mesh::wire::{self, retry::Condition};

/// Most retries of one request that proxies make.
const MOST: u32 = 10;
/// Most reasons that are looked at; there are not so many.
const MOST_WORDS: usize = 100;
/// What is retried where the author does not say.
const DEFAULT: &str = "connect-failure,refused-stream,unavailable,cancelled,503";

/// Words that are not understood are said and left out; the others hold.
pub(super) fn retry(report: &mut Report<'_>, at: &str, retries: &Retries) -> wire::Retry {
    let asked = retries.attempts.unwrap_or_default();
    if asked > MOST {
        let message = format!("at most {MOST} retries are made, not {asked}");
        report.warning("too_many_retries", &format!("{at}.attempts"), message, "Write fewer.");
    }
    if retries.attempts.is_none() && retries.retry_on.is_some() {
        let message = "without attempts nothing is retried";
        report.warning("no_effect", &format!("{at}.retryOn"), message, "Write how many under attempts.");
    }
    if retries.retry_ignore_previous_hosts == Some(false) {
        let message = "a retry goes to another endpoint wherever there is one";
        report.warning("no_effect", &format!("{at}.retryIgnorePreviousHosts"), message, "Remove it.");
    }
    let backoff = report.millis(retries.backoff.as_deref(), &format!("{at}.backoff"), "the default is used");
    let try_timeout =
        report.millis(retries.per_try_timeout.as_deref(), &format!("{at}.perTryTimeout"), "no try has a timeout");
    let mut retry = wire::Retry {
        attempts: asked.min(MOST),
        try_timeout_ms: try_timeout.unwrap_or_default(),
        backoff_ms: backoff.unwrap_or_default(),
        backoff_max_ms: backoff.unwrap_or_default().saturating_mul(10),
        ..wire::Retry::default()
    };
    let words = retries.retry_on.as_deref().map(str::trim).filter(|w| !w.is_empty()).unwrap_or(DEFAULT);
    for word in words.split(',').map(str::trim).filter(|w| !w.is_empty()).take(MOST_WORDS) {
        if !add(&mut retry, word) {
            let message = format!("`{}` is not a reason to retry that is known; the others hold", word.escape_debug());
            report.error("unknown_condition", &format!("{at}.retryOn"), message, "Correct or remove it.");
        }
    }
    retry
}

/// False where the word is not known.
fn add(retry: &mut wire::Retry, word: &str) -> bool {
    use Condition::{
        Conflict, ConnectFailure, GatewayError, RefusedStream, ResetBeforeResponse, ServerError, TryTimeout,
    };
    let conditions: &[Condition] = match word {
        "5xx" => &[ServerError, ConnectFailure, RefusedStream, ResetBeforeResponse, TryTimeout],
        "gateway-error" => &[GatewayError, TryTimeout],
        "reset" => &[ResetBeforeResponse, ConnectFailure, TryTimeout],
        // Before the request was sent: that is when no connection was had.
        "connect-failure" | "reset-before-request" => &[ConnectFailure],
        "refused-stream" => &[RefusedStream],
        "retriable-4xx" => &[Conflict],
        // Says only that the numbers beside it count.
        "retriable-status-codes" => &[],
        _ => {
            let code = match word {
                "cancelled" => Some(1),
                "deadline-exceeded" => Some(4),
                "resource-exhausted" => Some(8),
                "internal" => Some(13),
                "unavailable" => Some(14),
                _ => None,
            };
            if let Some(code) = code {
                put(&mut retry.grpc_codes, code);
                return true;
            }
            let status = word.parse::<u32>().ok().filter(|s| (100..=599).contains(s));
            if let Some(status) = status {
                put(&mut retry.statuses, status);
            }
            return status.is_some();
        }
    };
    conditions.iter().for_each(|c| put(&mut retry.on, i32::from(*c)));
    true
}

fn put<T: PartialEq>(list: &mut Vec<T>, value: T) {
    if !list.contains(&value) {
        list.push(value);
    }
}
