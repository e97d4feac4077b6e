//! What went wrong with the API server: whether to list anew, how long to wait, and what to tell people. Pure.

use super::kinds::Target;
use crate::problem::{Problem, Severity};
use causeway_mesh::backoff;
use std::collections::BTreeMap;
use std::time::Duration;

/// First wait after a failure; doubled with each further one.
const BASE: Duration = Duration::from_millis(250);
/// Longest wait, so that what was mended is seen soon.
const MOST: Duration = Duration::from_secs(10);
/// Longest wait that the API server may ask for.
const MOST_ASKED: Duration = Duration::from_secs(60);
/// After so many failures to watch from where it stopped, everything is listed anew.
const GIVE_UP: u32 = 5;

/// Why a kind is not watched just now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What was asked for is older than what the API server remembers, or newer than what it knows.
    Gone,
    /// A role does not allow it; the API server's own words.
    Forbidden(String),
    /// The API server does not accept the credentials.
    Unauthorized,
    /// There is no such kind (yet, or any more).
    Missing,
    /// The API server asks to come back later.
    Busy(Option<Duration>),
    /// It does not answer, or not as it should.
    Unavailable(String),
}

impl Fault {
    /// Reads an answer that is an error.
    pub fn of_status(status: &kube::core::Status) -> Self {
        let asked = status.details.as_ref().map(|d| d.retry_after_seconds).filter(|s| *s > 0);
        let too_new = status.message.contains("Too large resource version");
        match status.code {
            410 => Self::Gone,
            504 if too_new => Self::Gone,
            401 => Self::Unauthorized,
            403 => Self::Forbidden(status.message.clone()),
            404 => Self::Missing,
            429 | 503 => Self::Busy(asked.map(|s| Duration::from_secs(s.into()))),
            code => Self::Unavailable(format!("it answers {code}: {}", status.message)),
        }
    }

    /// Reads an error of the client.
    pub fn of_error(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(status),
            kube::Error::Auth(error) => Self::Unavailable(format!("the credentials cannot be read: {error}")),
            other => Self::Unavailable(root(other)),
        }
    }

    /// Whether a watch that failed for the `failures`th time must begin with a list.
    pub fn calls_for_list(&self, failures: u32) -> bool {
        *self == Self::Gone || failures >= GIVE_UP && !matches!(self, Self::Busy(_) | Self::Forbidden(_))
    }

    /// How long to wait after the failure number `failures`, counted from 0; `unit` is random in `[0, 1)`.
    pub fn pause(&self, failures: u32, unit: f64) -> Duration {
        let own = backoff::delay(failures, BASE, MOST, unit);
        match self {
            // The first one costs a list and no patience.
            Self::Gone if failures == 0 => Duration::ZERO,
            Self::Busy(Some(asked)) => own.max((*asked).min(MOST_ASKED)),
            _ => own,
        }
    }

    /// Whether it is worth telling after `failures` failures: a version that is gone is mended by listing at once, and a
    /// kind that comes or goes is not there for a moment.
    pub fn is_told(&self, failures: u32) -> bool {
        match self {
            Self::Gone => failures > 1,
            Self::Missing => failures > 2,
            _ => true,
        }
    }
}

/// The innermost cause, which says most: `Connection refused`, not `client error`.
fn root(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

const STAYS: &str = "What was read last stays in force.";

/// What to tell of the faults that there are. An API server that does not answer is one problem, not one of each kind.
pub fn problems(faults: &BTreeMap<Target, Fault>) -> Vec<Problem> {
    let problem = |code, resource: String, message: String, advice: String| Problem {
        file: String::new(),
        line: 0,
        severity: Severity::Error,
        code,
        resource,
        field: String::new(),
        message,
        advice,
    };
    let mut told = Vec::new();
    let (mut silent, mut why): (Vec<String>, Option<&str>) = (Vec::new(), None);
    for (target, fault) in faults {
        let (name, group) = (target.name(), target.group);
        match fault {
            Fault::Gone => {
                silent.push(name);
                why = why.or(Some("it forgets faster than can be read"));
            }
            Fault::Forbidden(said) => {
                let message = format!("the API server does not allow Causeway to read {name}: {said}");
                let advice = format!(
                    "Allow get, list and watch of `{}` in API group `{group}` in the ClusterRole \
                     causeway-control-plane. {STAYS}",
                    target.plural
                );
                told.push(problem("api_forbidden", name, message, advice));
            }
            Fault::Missing => {
                let message = format!("the API server does not serve {} {name}", target.api_version());
                let advice = format!("Look at `kubectl get crd {name}`; it may be on its way. {STAYS}");
                told.push(problem("api_unavailable", name, message, advice));
            }
            Fault::Unauthorized => {
                silent.push(name);
                why = why.or(Some("it does not accept Causeway's credentials"));
            }
            Fault::Busy(_) => {
                silent.push(name);
                why = why.or(Some("it asks to come back later"));
            }
            Fault::Unavailable(said) => {
                silent.push(name);
                why = why.or(Some(said));
            }
        }
    }
    if let Some(why) = why {
        let message = format!("the API server does not tell of {}: {why}", silent.join(", "));
        let advice = format!("Look at the API server and at the way to it. {STAYS}");
        told.push(problem("api_unavailable", String::new(), message, advice));
    }
    told
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::kinds::BUILTIN;
    use super::*;
    use kube::core::Status;
    use proptest::prelude::*;

    fn status(code: u16, message: &str) -> Status {
        Status { code, message: message.into(), ..Status::default() }
    }

    #[test]
    fn a_version_that_is_too_old_or_too_new_calls_for_a_list_at_once() {
        for gone in [status(410, "too old resource version: 3 (9)"), status(504, "Timeout: Too large resource version")]
        {
            let fault = Fault::of_status(&gone);
            assert!(fault.calls_for_list(1) && !fault.is_told(0));
            assert_eq!(fault.pause(0, 0.5), Duration::ZERO);
        }
        assert!(!Fault::of_status(&status(504, "Timeout: request did not complete")).calls_for_list(1));
        assert!(!Fault::Busy(None).calls_for_list(u32::MAX));
    }

    #[test]
    fn a_busy_api_server_is_given_the_time_that_it_asks_for() {
        let details = serde_json::json!({"code": 429, "details": {"retryAfterSeconds": 7}});
        let fault = Fault::of_status(&serde_json::from_value(details).unwrap());
        assert_eq!(fault.pause(0, 0.0), Duration::from_secs(7));
        assert!(Fault::Busy(Some(Duration::from_secs(9999))).pause(0, 0.0) <= MOST_ASKED);
    }

    #[test]
    fn a_forbidden_kind_is_named_and_a_silent_api_server_is_one_problem() {
        let said = "pods is forbidden: User \"u\" cannot list resource \"pods\"";
        let mut faults: BTreeMap<Target, Fault> =
            BUILTIN.iter().map(|(_, t)| (*t, Fault::Unavailable("Connection refused".into()))).collect();
        faults.insert(BUILTIN[4].1, Fault::of_status(&status(403, said)));
        let told = problems(&faults);
        assert_eq!(told.iter().map(|p| p.code).collect::<Vec<_>>(), ["api_forbidden", "api_unavailable"]);
        assert!(told[0].resource == "pods" && told[0].message.contains(said) && told[0].advice.contains("`pods`"));
        assert!(told[1].message.ends_with(": Connection refused"), "{}", told[1]);
    }

    proptest! {
        #[test]
        fn no_pause_is_longer_than_a_minute_and_only_the_first_list_is_not_waited_for(
            failures in any::<u32>(), unit in 0.0..1.0f64, asked in prop::option::of(0..1000u64)
        ) {
            for fault in [Fault::Gone, Fault::Missing, Fault::Busy(asked.map(Duration::from_secs))] {
                let pause = fault.pause(failures, unit);
                prop_assert!(pause <= MOST_ASKED);
                prop_assert!(pause >= BASE / 2 || fault == Fault::Gone && failures == 0);
            }
        }
    }
}
