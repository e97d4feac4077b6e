//! VirtualServices in the shape that lookups use. What one of them says of itself that cannot be is reported here; what it
//! names and does not exist is for `examine`.

mod action;
mod client;
mod connection;
mod cors;
mod delegate;
mod fault;
mod headers;
mod retry;

use super::catalog::Catalog;
use super::lowered::{Attachment, Forward, HttpRule, MirrorTo, Reference, RouteResource, RuleMatch, Weighted};
use super::matching;
use super::previous::Versions;
use super::scope::{Host, resolve};
use super::split::weights;
use super::{Name, Settings, duration, split};
use crate::problem::{Problem, Severity};
use crate::source::Meta;
use crate::source::resource::VirtualService;
use causeway_crds::VirtualServiceSpec;
use causeway_crds::common::Destination;
use causeway_crds::http_route::{HttpRoute, SplitKey, SplitPolicy};
use causeway_crds::virtual_service::RouteDestination;
use causeway_mesh::config::action::is_changeable;
use causeway_mesh::wire;
use delegate::Written;
use std::sync::Arc;

/// Most destinations of copies that proxies take.
const MOST_MIRRORS: usize = 16;

/// Where problems of one resource go.
pub(super) struct Report<'a> {
    pub(super) meta: &'a Meta,
    pub(super) problems: &'a mut Vec<Problem>,
}

impl Report<'_> {
    pub(super) fn error(&mut self, code: &'static str, field: &str, message: impl AsRef<str>, advice: &str) {
        self.problems.push(self.meta.problem(Severity::Error, code, field, message, advice));
    }

    pub(super) fn warning(&mut self, code: &'static str, field: &str, message: impl AsRef<str>, advice: &str) {
        self.problems.push(self.meta.problem(Severity::Warning, code, field, message, advice));
    }

    /// Milliseconds of a duration; None where it is not set or none, which is said.
    pub(super) fn millis(&mut self, text: Option<&str>, field: &str, instead: &str) -> Option<u64> {
        let text = text?;
        let found = duration::millis(text);
        if found.is_none() {
            self.problems.push(duration::problem(self.meta, field, text, instead));
        }
        found
    }
}

/// Every VirtualService that proxies beside workloads apply.
pub(super) fn lower(
    resources: &Versions,
    catalog: &Catalog,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> Vec<Arc<RouteResource>> {
    let delegated = delegate::named(resources);
    let mut one = |resource: &Arc<VirtualService>| {
        if resource.spec.hosts.is_empty() && matching::is_for_mesh(&resource.spec.gateways) {
            if !delegated.contains(&resource.meta.key) {
                let advice =
                    "Name the Service in spec.hosts, or this resource in a delegate of another VirtualService.";
                let mut report = Report { meta: &resource.meta, problems };
                report.error("no_hosts", "spec.hosts", "it names no host, so it routes nothing", advice);
            }
            return None;
        }
        lower_one(resource, resources, catalog, settings, problems)
    };
    resources.values().filter_map(&mut one).collect()
}

/// One with hosts. None where it is for gateways alone.
pub(super) fn lower_one(
    resource: &Arc<VirtualService>,
    resources: &Versions,
    catalog: &Catalog,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> Option<Arc<RouteResource>> {
    let mut report = Report { meta: &resource.meta, problems };
    let spec = &resource.spec;
    if !matching::is_for_mesh(&spec.gateways) {
        let message = "its gateways do not include `mesh`, so it is passed over";
        problems.push(resource.meta.problem(Severity::Note, "gateway_only", "spec.gateways", message, ""));
        return None;
    }
    let attachments = attachments(&mut report, spec, catalog, settings);
    let written = delegate::expanded(resource, resources, &mut report);
    let meta = Arc::new(resource.meta.clone());
    let mut delegates: Vec<Arc<Meta>> = Vec::new();
    let mut http = Vec::new();
    for one in &written {
        if let Some(meta) = one.meta.as_ref().filter(|m| !delegates.iter().any(|d| d.key == m.key)) {
            delegates.push(Arc::clone(meta));
        }
        let mut report = Report { meta: one.meta.as_ref().unwrap_or(&meta), problems: report.problems };
        http.extend(http_rule(&mut report, &resource.meta, one));
    }
    let mut report = Report { meta: &resource.meta, problems };
    Some(Arc::new(RouteResource {
        attachments,
        export_to: spec.export_to.clone(),
        http,
        tcp: connection::tcp(&mut report, spec),
        tls: connection::tls(&mut report, spec),
        in_order: true,
        delegates,
        meta,
    }))
}

/// The Services that the hosts name.
fn attachments(
    report: &mut Report<'_>,
    spec: &VirtualServiceSpec,
    catalog: &Catalog,
    settings: &Settings,
) -> Vec<Attachment> {
    let own = &report.meta.key.namespace;
    let resolved = spec.hosts.iter().map(|host| names(resolve(host, own, catalog, settings)));
    let resolved: Vec<Vec<Name>> = resolved.collect();
    // Beside a host that is known, another may be meant for a gateway.
    let is_used = resolved.iter().any(|names| !names.is_empty());
    let mut all = Vec::new();
    for (index, (host, names)) in spec.hosts.iter().zip(resolved).enumerate() {
        if names.is_empty() {
            let severity = if is_used { Severity::Warning } else { Severity::Error };
            let shown = host.escape_debug();
            let message = format!("no Service `{shown}` is known in namespace {own}; nothing is routed for it");
            let advice = "Correct the name (svc, svc.ns or the full name), or create the Service.";
            let field = format!("spec.hosts[{index}]");
            report.problems.push(report.meta.problem(severity, "unknown_host", &field, message, advice));
        }
        let (is_exact, host_length) = (!host.starts_with('*'), host.len());
        all.extend(names.into_iter().map(|service| Attachment { service, port: None, is_exact, host_length }));
    }
    all
}

fn names(host: Host) -> Vec<Name> {
    match host {
        Host::Service(name) => vec![name],
        Host::Wildcard(names) => names,
        Host::Unknown => Vec::new(),
    }
}

/// Whether a field of the route itself is not understood, so that the route cannot be taken to mean what it says. A match
/// that is not understood only takes itself out.
fn is_broken(meta: &Meta, path: &str) -> bool {
    let matches = format!("{path}.match[");
    meta.unsupported
        .iter()
        .any(|u| u.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')) && !u.starts_with(&matches))
}

/// One rule; None where it does not apply, which is said.
fn http_rule(report: &mut Report<'_>, root: &Meta, written: &Written<'_>) -> Option<HttpRule> {
    let (path, route) = (&*written.field, &*written.route);
    let matches = matches(report, written);
    let mut template = wire::Route { name: format!("{}#{}", root.key.path(), written.index), ..wire::Route::default() };
    let usable = settle(report, path, route, &mut template);
    let forward = forward(report, path, route, &mut template);
    let acts = template.action.is_some();
    if !acts && forward.is_none() && usable {
        let advice = "Name a destination under route.";
        report.error("no_destination", path, "it has no destination, so it does not apply", advice);
    }
    let never = matches.is_empty() && !route.matches.is_empty();
    if never || !usable || is_broken(report.meta, path) || !acts && forward.is_none() {
        return None;
    }
    Some(HttpRule {
        index: written.index,
        field: path.to_owned(),
        written_in: written.meta.clone(),
        matches: action::with_prefix(matches, &template),
        forward: if acts { None } else { forward },
        mirrors: mirrors(report, path, route),
        template,
    })
}

/// The matches that can apply.
fn matches(report: &mut Report<'_>, written: &Written<'_>) -> Vec<RuleMatch> {
    let mut all = Vec::new();
    for (condition, at) in written.route.matches.iter().zip(&written.match_fields) {
        let request = matching::to_wire(condition);
        let client = client::http(report, at, condition);
        if let Err(unusable) = &request {
            let field = format!("{at}.{}", unusable.field);
            let advice = "Until it is corrected this match never applies.";
            report.error(unusable.code, &field, &unusable.message, advice);
        }
        if condition.ignore_uri_case == Some(true) && condition.uri.as_ref().is_some_and(|u| u.regex.is_some()) {
            let message = "case is ignored in exact and prefix matches only, as in Istio";
            report.warning("ignored_case", &format!("{at}.ignoreUriCase"), message, "Begin the regex with (?i).");
        }
        if let (Ok(request), Some(client)) = (request, client)
            && matching::is_for_mesh(&condition.gateways)
            && !report.meta.is_unsupported(at)
        {
            all.push(RuleMatch { client, request });
        }
    }
    all
}

/// Fills in everything but where requests go. False where the rule must not apply.
fn settle(report: &mut Report<'_>, path: &str, route: &HttpRoute, template: &mut wire::Route) -> bool {
    let of = |name: &str| format!("{path}.{name}");
    template.timeout_ms =
        report.millis(route.timeout.as_deref(), &of("timeout"), "there is no timeout").unwrap_or_default();
    let mut usable = true;
    if let Some(rewrite) = &route.rewrite {
        let found = action::rewrite(report, &of("rewrite"), rewrite);
        usable &= found.is_some();
        template.rewrite = found.filter(|r| *r != wire::Rewrite::default());
    }
    if let Some(redirect) = &route.redirect {
        let found = action::redirect(report, &of("redirect"), redirect);
        usable &= found.is_some();
        template.action = found.map(wire::route::Action::Redirect);
    } else if let Some(direct) = &route.direct_response {
        let found = action::direct(report, &of("directResponse"), direct);
        usable &= found.is_some();
        template.action = found.map(wire::route::Action::Direct);
    }
    let actions = [route.redirect.is_some(), route.direct_response.is_some(), !route.route.is_empty()];
    if actions.into_iter().filter(|a| *a).count() > 1 {
        let message = "at most one of route, redirect and directResponse may be set, so it does not apply";
        report.error("ambiguous_action", path, message, "Keep one of them.");
        usable = false;
    }
    if let Some(changes) = &route.headers {
        let found = headers::both(report, &of("headers"), changes);
        (template.request_headers, template.response_headers) = (found.request, found.response);
        if let Some(authority) = found.authority {
            template.rewrite.get_or_insert_default().authority = authority;
        }
    }
    template.retry = route.retries.as_ref().map(|r| retry::retry(report, &of("retries"), r));
    template.fault = route.fault.as_ref().and_then(|f| fault::fault(report, &of("fault"), f));
    template.cors = route.cors_policy.as_ref().map(|c| cors::cors(report, &of("corsPolicy"), c));
    usable
}

/// Where the requests go; None without a destination.
fn forward(report: &mut Report<'_>, path: &str, route: &HttpRoute, template: &mut wire::Route) -> Option<Forward> {
    if route.route.is_empty() {
        return None;
    }
    let mut destinations = destinations(report, path, &route.route);
    let is_only = route.route.len() == 1;
    for (index, (one, weighted)) in route.route.iter().zip(&mut destinations).enumerate() {
        let Some(changes) = &one.headers else { continue };
        let at = format!("{path}.route[{index}].headers");
        let found = headers::both(report, &at, changes);
        (weighted.request_headers, weighted.response_headers) = (found.request, found.response);
        match found.authority {
            // A destination that is alone is the route.
            Some(authority) if is_only => template.rewrite.get_or_insert_default().authority = authority,
            Some(_) => {
                let message = "the host can be changed for the whole route only, so it stays";
                let advice = "Set it in the headers or the rewrite of the route, or split by two routes.";
                report.error("unsupported_header", &format!("{at}.request"), message, advice);
            }
            None => {}
        }
    }
    let split = route.split.as_ref();
    Some(Forward {
        destinations,
        key: split.and_then(|s| s.key.as_ref()).and_then(|k| key(report, path, k)),
        version_header: split.map(|s| version_header(report, path, s)).unwrap_or_default(),
    })
}

/// The destinations of a list with their weights, headers left out.
fn destinations(report: &mut Report<'_>, path: &str, route: &[RouteDestination]) -> Vec<Weighted> {
    let weights = weights(route);
    if !route.is_empty() && weights.iter().all(|w| *w == 0) {
        let field = format!("{path}.route");
        let advice = "Give at least one destination a weight.";
        report.warning("no_weight", &field, "all weights are zero, so it answers with 503", advice);
    }
    let one = |(index, (one, weight)): (usize, (&RouteDestination, u32))| {
        let field = format!("{path}.route[{index}]");
        if one.weight.is_none() && route.len() > 1 {
            let message = "it has no weight among others that may have one, so it gets nothing";
            report.warning("missing_weight", &format!("{field}.weight"), message, "Write its weight.");
        }
        let to = Reference::Named(one.destination.clone());
        Weighted { to, weight, request_headers: None, response_headers: None, field }
    };
    route.iter().zip(weights).enumerate().map(one).collect()
}

fn key(report: &mut Report<'_>, path: &str, key: &SplitKey) -> Option<wire::SplitKey> {
    let SplitKey { header, cookie, source_identity } = key;
    let set = [header.is_some(), cookie.is_some(), source_identity.is_some()].into_iter().filter(|s| *s).count();
    let field = format!("{path}.split.key");
    let found = split::key(key);
    if set != 1 {
        let message = "exactly one of header, cookie and sourceIdentity must be set";
        report.error("invalid_key", &field, message, "Until then the first that is set is used.");
    } else if found.is_none() {
        let message = "this cannot be the name of a header or cookie, or is false, so the split does not stick";
        report.error("invalid_key", &field, message, "Correct the name.");
    }
    found
}

/// Header by which the chosen version follows a chain of calls; empty: none.
fn version_header(report: &mut Report<'_>, path: &str, split: &SplitPolicy) -> String {
    let Some(propagate) = &split.propagate else { return String::new() };
    let name = propagate.header.to_ascii_lowercase();
    if is_changeable(&name) {
        return name;
    }
    let message = "this cannot be the name of a header that is passed on, so the version is not";
    report.error("invalid_header", &format!("{path}.split.propagate.header"), message, "Name one like x-version.");
    String::new()
}

/// Copies of requests: the older single form and the list, together.
fn mirrors(report: &mut Report<'_>, path: &str, route: &HttpRoute) -> Vec<MirrorTo> {
    let older = route.mirror.as_ref().map(|to| {
        let percent = route.mirror_percentage.as_ref().and_then(|p| p.value);
        let percent = percent.or(route.mirror_percent.map(f64::from));
        (to, percent, format!("{path}.mirror"))
    });
    if older.is_none() && (route.mirror_percent.is_some() || route.mirror_percentage.is_some()) {
        let name = if route.mirror_percentage.is_some() { "mirrorPercentage" } else { "mirrorPercent" };
        let field = format!("{path}.{name}");
        report.warning("no_effect", &field, "there is no mirror whose share it could be", "Name it under mirror.");
    }
    let listed = route.mirrors.iter().enumerate().map(|(index, one)| {
        let percent = one.percentage.as_ref().and_then(|p| p.value);
        (&one.destination, percent, format!("{path}.mirrors[{index}].destination"))
    });
    let lowered = |(to, percent, field): (&Destination, Option<f64>, String)| MirrorTo {
        to: Reference::Named(to.clone()),
        share_ppm: ppm(percent.unwrap_or(100.0)),
        field,
    };
    let mut all: Vec<MirrorTo> = older.into_iter().chain(listed).map(lowered).collect();
    if all.len() > MOST_MIRRORS {
        let message = format!("copies go to at most {MOST_MIRRORS} destinations; the last is left out");
        report.error("too_many", &format!("{path}.mirrors"), message, "Name fewer.");
        all.truncate(MOST_MIRRORS);
    }
    all
}

/// Parts per million of a percentage.
fn ppm(percent: f64) -> u32 {
    (percent.clamp(0.0, 100.0) * 1e4).round() as u32
}
