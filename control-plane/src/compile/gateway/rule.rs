//! Rules of HTTPRoute and GRPCRoute: their conditions, and what becomes of the requests that they take.

use super::super::lowered::{Forward, HttpRule, RuleMatch, Weighted};
use super::Lowering;
use super::condition::{self, Unusable};
use super::connection::refused;
use super::filter::{self, Filters, Place};
use crate::problem::Severity;
use causeway_crds::gateway::filter::HTTPFilter;
use causeway_crds::gateway::grpc_route::GRPCRouteRule;
use causeway_crds::gateway::http_route::{HTTPBackendRef, HTTPRouteRule, Retry, Timeouts};
use causeway_mesh::wire;

/// A rule of either kind.
struct Rule {
    index: usize,
    matches: Vec<Result<wire::Match, Unusable>>,
    has_one_prefix: bool,
    filters: Vec<HTTPFilter>,
    backends: Vec<HTTPBackendRef>,
    timeouts: Option<Timeouts>,
    retry: Option<Retry>,
}

/// The rules of an HTTPRoute. Where there is none the standard puts one that takes every request; an API server writes it
/// into the route, a file does not.
pub(super) fn http(lowering: &mut Lowering<'_>, rules: &[HTTPRouteRule]) -> Vec<HttpRule> {
    let standing_in = [HTTPRouteRule::default()];
    let rules = if rules.is_empty() { &standing_in } else { rules };
    let rule = |(index, rule): (usize, &HTTPRouteRule)| {
        let is_prefix = |kind: Option<&str>| kind.is_none_or(|k| k == "PathPrefix");
        // No match at all stands for the prefix `/`.
        let has_one_prefix = match &rule.matches[..] {
            [] => true,
            [one] => one.path.as_ref().is_none_or(|p| is_prefix(p.kind.as_deref())),
            _ => false,
        };
        let rule = Rule {
            index,
            matches: rule.matches.iter().map(condition::http).collect(),
            has_one_prefix,
            filters: rule.filters.clone(),
            backends: rule.backend_refs.clone(),
            timeouts: rule.timeouts.clone(),
            retry: rule.retry.clone(),
        };
        lowered(lowering, &rule)
    };
    rules.iter().enumerate().filter_map(rule).collect()
}

/// The rules of a GRPCRoute. Without any it takes no call: the standard puts nothing in their place.
pub(super) fn grpc(lowering: &mut Lowering<'_>, rules: &[GRPCRouteRule]) -> Vec<HttpRule> {
    let rule = |(index, rule): (usize, &GRPCRouteRule)| {
        let rule = Rule {
            index,
            matches: rule.matches.iter().map(condition::grpc).collect(),
            has_one_prefix: false,
            filters: rule.filters.iter().cloned().map(Into::into).collect(),
            backends: rule.backend_refs.iter().cloned().map(Into::into).collect(),
            timeouts: None,
            retry: None,
        };
        lowered(lowering, &rule)
    };
    rules.iter().enumerate().filter_map(rule).collect()
}

/// One rule. None where its conditions are not clear: then it takes nothing.
fn lowered(lowering: &mut Lowering<'_>, rule: &Rule) -> Option<HttpRule> {
    let field = format!("spec.rules[{}]", rule.index);
    let mut matches = Vec::with_capacity(rule.matches.len());
    let mut is_clear = !lowering.meta.is_unsupported(&format!("{field}.matches"));
    for (at, found) in rule.matches.iter().enumerate() {
        match found {
            Ok(request) => matches.push(RuleMatch { request: request.clone(), ..RuleMatch::default() }),
            Err(unusable) => {
                let place = format!("{field}.matches[{at}].{}", unusable.field);
                let advice = "Until it is corrected the rule takes no request.";
                lowering.error(unusable.code, &place, &unusable.message, advice);
                is_clear = false;
            }
        }
    }
    let name = format!("{}#{}", lowering.meta.key.path(), rule.index);
    let mut template = wire::Route { name, ..wire::Route::default() };
    let filled = fill(lowering, &field, rule, &mut template);
    let is_understood = !lowering.meta.is_unsupported(&field);
    if !is_clear {
        return None;
    }
    let (forward, mirrors) = match filled.filter(|_| is_understood) {
        Some((forward, filters)) => (forward, filters.mirrors),
        None => {
            template = wire::Route { name: template.name, ..wire::Route::default() };
            let text = format!("{} {field} is not valid, see its status", lowering.meta.key);
            (Some(Forward { destinations: vec![refused(text, &field)], ..Forward::default() }), Vec::new())
        }
    };
    Some(HttpRule { index: rule.index, field, written_in: None, matches, forward, mirrors, template })
}

/// What the rule does; None where some of it cannot be used, which is said.
fn fill(
    lowering: &mut Lowering<'_>,
    field: &str,
    rule: &Rule,
    template: &mut wire::Route,
) -> Option<(Option<Forward>, Filters)> {
    let place = Place::Rule { has_one_prefix: rule.has_one_prefix };
    let filters = filter::filters(lowering, &format!("{field}.filters"), &rule.filters, place);
    let resilience = filter::resilience(lowering, field, rule.timeouts.as_ref(), rule.retry.as_ref(), template);
    let destinations = destinations(lowering, field, &rule.backends);
    let (filters, ()) = (filters?, resilience?);
    let from = &filters.template;
    template.action.clone_from(&from.action);
    template.rewrite.clone_from(&from.rewrite);
    template.cors.clone_from(&from.cors);
    template.request_headers.clone_from(&from.request_headers);
    template.response_headers.clone_from(&from.response_headers);
    let mut destinations = destinations?;
    if template.action.is_some() {
        if !destinations.is_empty() {
            let message = "RequestRedirect answers by itself and cannot stand beside backendRefs";
            lowering.error("incompatible_filters", &format!("{field}.backendRefs"), message, "Remove one of them.");
            return None;
        }
        return Some((None, filters));
    }
    if destinations.is_empty() {
        let message = "it names no backend, so its requests are answered with 500";
        lowering.add(Severity::Warning, "no_destination", &format!("{field}.backendRefs"), message, "Name a backend.");
        destinations = vec![refused(format!("{} {field} names no backend", lowering.meta.key), field)];
    }
    Some((Some(Forward { destinations, ..Forward::default() }), filters))
}

/// The backends with their shares; None where a filter of one cannot be used, which is said.
fn destinations(lowering: &mut Lowering<'_>, field: &str, backends: &[HTTPBackendRef]) -> Option<Vec<Weighted>> {
    let mut all = Vec::with_capacity(backends.len());
    let mut usable = true;
    for (index, backend) in backends.iter().enumerate() {
        let field = format!("{field}.backendRefs[{index}]");
        let to = lowering.reference(&backend.object(), &field);
        let found = filter::filters(lowering, &format!("{field}.filters"), &backend.filters, Place::Backend);
        usable &= found.is_some();
        let template = found.unwrap_or_default().template;
        all.push(Weighted {
            to,
            weight: backend.weight.unwrap_or(1),
            request_headers: template.request_headers,
            response_headers: template.response_headers,
            field,
        });
    }
    if !all.is_empty() && all.iter().all(|w| w.weight == 0) {
        let message = "all weights are zero, so its requests are answered with 503";
        let advice = "Give at least one backend a weight.";
        lowering.add(Severity::Warning, "no_weight", &format!("{field}.backendRefs"), message, advice);
    }
    usable.then_some(all)
}
