//! RateLimitPolicies as the wire has them. A rule that is not understood limits nothing and is reported: a limit guards
//! against load, and refusing everybody would be worse than the load.

use super::selected::{Selected, selecting};
use super::{Settings, duration, matching};
use crate::index::Resources;
use crate::problem::{Problem, Severity};
use crate::source::Key;
use crate::source::resource::RateLimitPolicy;
use causeway_crds::http_route::HttpMatch;
use causeway_crds::rate_limit_policy::{LimitKey, LimitRule, RequestMatch};
use causeway_mesh::wire;
use causeway_mesh::wire::rate_limit;
use std::collections::BTreeMap;

/// Windows, in milliseconds.
const SHORTEST: u64 = 1000;
const LONGEST: u64 = 24 * 3600 * 1000;

/// Every policy, in order of namespace and name.
#[derive(Debug, Default)]
pub(super) struct Limits {
    all: Vec<Selected<Vec<wire::RateLimit>>>,
}

impl Limits {
    pub(super) fn new(resources: &Resources, settings: &Settings, problems: &mut Vec<Problem>) -> Self {
        let all = resources.rate_limit_policies.values();
        // A selector or field of the whole that is not understood would select, or count, more than was meant.
        let is_whole = |path: &String| !path.starts_with("spec.rules[");
        let usable = all.filter(|policy| !policy.meta.unsupported.iter().any(is_whole));
        Self { all: usable.map(|policy| compiled(policy, settings, problems)).collect() }
    }

    /// The limits of a pod of `namespace` with these labels.
    pub(super) fn of(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<wire::RateLimit> {
        selecting(&self.all, namespace, labels).flat_map(|c| c.what.iter().cloned()).collect()
    }

    /// The resources that [`Limits::of`] is made from.
    pub(super) fn parts<'a>(
        &'a self,
        namespace: &'a str,
        labels: &'a BTreeMap<String, String>,
    ) -> impl Iterator<Item = &'a Key> {
        selecting(&self.all, namespace, labels).map(|c| &c.key)
    }
}

fn compiled(
    policy: &RateLimitPolicy,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> Selected<Vec<wire::RateLimit>> {
    let (meta, spec) = (&policy.meta, &policy.spec);
    let rules = spec.rules.iter().enumerate();
    let limits = rules.filter_map(|(index, rule)| {
        let path = format!("spec.rules[{index}]");
        if meta.is_unsupported(&path) {
            return None;
        }
        limit(&meta.key, index, rule).map_err(|wrong| problems.push(wrong.problem(policy, &path))).ok()
    });
    let limits = limits.collect();
    let labels = spec.selector.as_ref().map(|s| s.match_labels.clone()).unwrap_or_default();
    Selected::new(meta, labels, limits, settings)
}

/// Why a rule cannot be used.
struct Wrong {
    code: &'static str,
    /// Below the rule.
    field: String,
    message: String,
    advice: &'static str,
}

impl Wrong {
    fn problem(self, policy: &RateLimitPolicy, path: &str) -> Problem {
        let (field, message) = (format!("{path}.{}", self.field), format!("{}; the rule limits nothing", self.message));
        policy.meta.problem(Severity::Error, self.code, &field, message, self.advice)
    }
}

fn limit(policy: &Key, index: usize, rule: &LimitRule) -> Result<wire::RateLimit, Wrong> {
    let window_ms = duration::millis(&rule.per).filter(|w| (SHORTEST..=LONGEST).contains(w)).ok_or_else(|| Wrong {
        code: "invalid_duration",
        field: "per".into(),
        message: format!("`{}` is not a duration from 1s to 24h", rule.per.escape_debug()),
        advice: "Write it like `1s`, `1m` or `1h`.",
    })?;
    if rule.requests == 0 {
        return Err(Wrong {
            code: "out_of_range",
            field: "requests".into(),
            message: "a limit of no requests at all is a denial".into(),
            advice: "Use an AuthorizationPolicy to deny.",
        });
    }
    let matches = rule.matches.iter().enumerate().map(|(at, m)| {
        let found = matching::to_wire(&as_route(m)).map_err(|unusable| Wrong {
            code: unusable.code,
            field: format!("match[{at}].{}", unusable.field),
            message: unusable.message,
            advice: "Correct the condition.",
        })?;
        Ok((!matching::is_catch_all(&found)).then_some(found))
    });
    // One that asks for nothing counts every request, whatever stands beside it.
    let matches: Option<Vec<wire::Match>> = matches.collect::<Result<_, Wrong>>()?;
    let name = rule.name.clone().filter(|n| !n.is_empty()).unwrap_or_else(|| index.to_string());
    Ok(wire::RateLimit {
        name: format!("{}#{name}", policy.path()),
        matches: matches.unwrap_or_default(),
        ports: rule.ports.clone(),
        requests: rule.requests,
        window_ms,
        burst: rule.burst.unwrap_or_default(),
        key: rule.key.as_ref().map(key).transpose()?,
    })
}

fn key(key: &LimitKey) -> Result<rate_limit::Key, Wrong> {
    let wrong = |message: String| Wrong {
        code: "invalid_key",
        field: "key".into(),
        message,
        advice: "Set one of header and sourceIdentity.",
    };
    match (&key.header, key.source_identity) {
        (Some(name), None | Some(false)) if matching::is_token(name) => {
            Ok(rate_limit::Key::Header(name.to_ascii_lowercase()))
        }
        (Some(name), None | Some(false)) => {
            Err(wrong(format!("`{}` cannot be the name of a header", name.escape_debug())))
        }
        (None, Some(true)) => Ok(rate_limit::Key::SourceIdentity(true)),
        (None, _) => Err(wrong("the key names nothing".into())),
        (Some(_), Some(true)) => Err(wrong("the key names two things".into())),
    }
}

/// The same conditions as those of a route.
fn as_route(from: &RequestMatch) -> HttpMatch {
    HttpMatch {
        uri: from.uri.clone(),
        method: from.method.clone(),
        authority: from.authority.clone(),
        headers: from.headers.clone(),
        without_headers: from.without_headers.clone(),
        query_params: from.query_params.clone(),
        ignore_uri_case: from.ignore_uri_case,
        ..HttpMatch::default()
    }
}
