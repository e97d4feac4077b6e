//! Routes that continue in another VirtualService: both are merged into one, as Istio merges them.

use super::Report;
use crate::compile::previous::Versions;
use crate::source::resource::VirtualService;
use crate::source::{Key, Kind, Meta};
use causeway_crds::common::{Destination, HeaderOperations, Headers, StringMatch};
use causeway_crds::http_route::{Delegate, HttpMatch, HttpRoute};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A route as it stands somewhere.
pub(super) struct Written<'a> {
    /// Of the route in the root's list.
    pub(super) index: usize,
    /// `spec.http[0]`, within the resource that it stands in.
    pub(super) field: String,
    /// Of the resource that it stands in; None: the root.
    pub(super) meta: Option<Arc<Meta>>,
    pub(super) route: Cow<'a, HttpRoute>,
    /// Where each match stands.
    pub(super) match_fields: Vec<String>,
}

/// Keys of everything that some VirtualService delegates to.
pub(super) fn named(resources: &Versions) -> BTreeSet<Key> {
    let routes = resources.values().flat_map(|r| r.spec.http.iter().map(move |route| (&r.meta, route)));
    routes
        .filter_map(|(meta, route)| Some((meta, route.delegate.as_ref()?)))
        .flat_map(|(meta, delegate)| targets(meta, delegate))
        .collect()
}

/// What a delegate may be: of the root's own group, then of the other.
fn targets(meta: &Meta, delegate: &Delegate) -> [Key; 2] {
    let namespace = delegate.namespace.clone().filter(|n| !n.is_empty());
    let own = Key {
        kind: Kind::VirtualService,
        namespace: namespace.unwrap_or_else(|| meta.key.namespace.clone()),
        name: delegate.name.clone().unwrap_or_default(),
        group: meta.key.group.clone(),
    };
    let other = own.twin();
    [own, other]
}

/// The routes of `root`, those that it delegates put in their places.
pub(super) fn expanded<'a>(
    root: &'a VirtualService,
    resources: &Versions,
    report: &mut Report<'_>,
) -> Vec<Written<'a>> {
    let mut all = Vec::new();
    for (index, route) in root.spec.http.iter().enumerate() {
        let field = format!("spec.http[{index}]");
        match &route.delegate {
            Some(delegate) => all.extend(continued(root, index, route, delegate, resources, report)),
            None => {
                let match_fields = (0..route.matches.len()).map(|at| format!("{field}.match[{at}]")).collect();
                all.push(Written { index, field, meta: None, route: Cow::Borrowed(route), match_fields });
            }
        }
    }
    all
}

/// The routes of the delegate under the conditions of the root's route.
fn continued<'a>(
    root: &VirtualService,
    index: usize,
    route: &HttpRoute,
    delegate: &Delegate,
    resources: &Versions,
    report: &mut Report<'_>,
) -> Vec<Written<'a>> {
    let field = format!("spec.http[{index}]");
    let at = format!("{field}.delegate");
    if super::is_broken(&root.meta, &field) {
        return Vec::new();
    }
    if !route.route.is_empty() || route.redirect.is_some() || route.direct_response.is_some() {
        let message = "it stands beside route, redirect or directResponse, so this route does not apply";
        report.error("ambiguous_action", &at, message, "Keep one of them.");
        return Vec::new();
    }
    let [key, other] = targets(&root.meta, delegate);
    let Some(child) = resources.get(&key).or_else(|| resources.get(&other)) else {
        let message = format!("no VirtualService {} is known, so this route does not apply", key.path().escape_debug());
        report.error("unknown_delegate", &at, message, "Correct the name, or create it.");
        return Vec::new();
    };
    if !super::super::scope::is_exported(&child.spec.export_to, &child.meta, &root.meta.key.namespace) {
        let message = format!("{} is not exported to namespace {}", child.meta.key, root.meta.key.namespace);
        report.error("unknown_delegate", &at, message, "Name the namespace in its exportTo.");
        return Vec::new();
    }
    if !child.spec.hosts.is_empty() {
        let message = format!("{} has hosts of its own, so it is no delegate", child.meta.key);
        report.error("unknown_delegate", &at, message, "Remove its hosts.");
        return Vec::new();
    }
    let meta = Arc::new(child.meta.clone());
    let mut all = Vec::new();
    for (place, own) in child.spec.http.iter().enumerate() {
        let field = format!("spec.http[{place}]");
        if own.delegate.is_some() {
            let message = "a delegate cannot delegate further, so this route does not apply";
            let field = format!("{field}.delegate");
            report.problems.push(child.meta.problem(
                crate::problem::Severity::Error,
                "unknown_delegate",
                &field,
                message,
                "Let the root name it.",
            ));
            continue;
        }
        let Some((matches, match_fields)) = joined(root, index, route, &child.meta, &field, own) else { continue };
        let route = Cow::Owned(merged(route, own, matches, &root.meta, &child.meta));
        all.push(Written { index, field, meta: Some(Arc::clone(&meta)), route, match_fields });
    }
    all
}

/// Every pair of the matches of both that can hold together, with where it stands; None where there is none.
fn joined(
    root: &VirtualService,
    index: usize,
    route: &HttpRoute,
    child: &Meta,
    field: &str,
    own: &HttpRoute,
) -> Option<(Vec<HttpMatch>, Vec<String>)> {
    let usable = |at: usize| !root.meta.is_unsupported(&format!("spec.http[{index}].match[{at}]"));
    let of_root: Vec<&HttpMatch> =
        route.matches.iter().enumerate().filter(|(at, _)| usable(*at)).map(|(_, m)| m).collect();
    if of_root.is_empty() && !route.matches.is_empty() {
        return None;
    }
    let places = |count: usize| (0..count).map(|at| format!("{field}.match[{at}]"));
    if own.matches.is_empty() {
        let count = of_root.len();
        return Some((of_root.into_iter().cloned().collect(), vec![field.to_owned(); count]));
    }
    let usable = own.matches.iter().zip(places(own.matches.len())).filter(|(_, at)| !child.is_unsupported(at));
    let mut pairs = Vec::new();
    for (condition, at) in usable {
        if of_root.is_empty() {
            pairs.push((condition.clone(), at));
            continue;
        }
        pairs.extend(of_root.iter().filter_map(|r| Some((both(r, condition)?, at.clone()))));
    }
    if pairs.is_empty() { None } else { Some(pairs.into_iter().unzip()) }
}

/// Both conditions in one; None where they contradict each other.
fn both(root: &HttpMatch, own: &HttpMatch) -> Option<HttpMatch> {
    let mut out = own.clone();
    out.name = [&root.name, &own.name].into_iter().flatten().cloned().reduce(|a, b| format!("{a}-{b}"));
    out.uri = text(&root.uri, &own.uri)?;
    out.scheme = text(&root.scheme, &own.scheme)?;
    out.method = text(&root.method, &own.method)?;
    out.authority = text(&root.authority, &own.authority)?;
    out.headers = map(&root.headers, &own.headers)?;
    out.without_headers = map(&root.without_headers, &own.without_headers)?;
    out.query_params = map(&root.query_params, &own.query_params)?;
    out.ignore_uri_case = equal(&root.ignore_uri_case, &own.ignore_uri_case)?;
    out.port = equal(&root.port, &own.port)?;
    out.source_namespace = equal(&root.source_namespace, &own.source_namespace)?;
    out.source_service_account = equal(&root.source_service_account, &own.source_service_account)?;
    for (label, value) in &root.source_labels {
        if out.source_labels.insert(label.clone(), value.clone()).is_some_and(|v| v != *value) {
            return None;
        }
    }
    if out.gateways.is_empty() {
        out.gateways.clone_from(&root.gateways);
    }
    Some(out)
}

fn equal<T: Clone + PartialEq>(root: &Option<T>, own: &Option<T>) -> Option<Option<T>> {
    match (root, own) {
        (Some(a), Some(b)) if a != b => None,
        (a, b) => Some(b.clone().or_else(|| a.clone())),
    }
}

/// The delegate's condition where it is the narrower one. A regex that differs from the other cannot be judged.
fn text(root: &Option<StringMatch>, own: &Option<StringMatch>) -> Option<Option<StringMatch>> {
    let (Some(a), Some(b)) = (root, own) else { return Some(own.clone().or_else(|| root.clone())) };
    let inner = b.exact.as_ref().or(b.prefix.as_ref());
    let is_narrower = match (&a.prefix, inner) {
        (Some(prefix), Some(inner)) => inner.starts_with(prefix.as_str()),
        // An empty condition asks only that the header is there.
        _ => a == b || *a == StringMatch::default(),
    };
    is_narrower.then(|| own.clone())
}

fn map(
    root: &BTreeMap<String, StringMatch>,
    own: &BTreeMap<String, StringMatch>,
) -> Option<BTreeMap<String, StringMatch>> {
    let mut out = own.clone();
    for (name, value) in root {
        let merged = text(&Some(value.clone()), &own.get(name).cloned())?;
        out.extend(merged.map(|m| (name.clone(), m)));
    }
    Some(out)
}

/// The delegate's route with what the root's says beside it.
fn merged(root: &HttpRoute, own: &HttpRoute, matches: Vec<HttpMatch>, parent: &Meta, child: &Meta) -> HttpRoute {
    let mut out = HttpRoute { matches, delegate: None, ..own.clone() };
    out.name = [&root.name, &own.name].into_iter().flatten().cloned().reduce(|a, b| format!("{a}-{b}"));
    // A short name is one of the namespace that it stands in.
    let home = |destination: &mut Destination| {
        if child.key.namespace != parent.key.namespace && !destination.host.contains('.') {
            destination.host = format!("{}.{}", destination.host, child.key.namespace);
        }
    };
    out.route.iter_mut().for_each(|r| home(&mut r.destination));
    out.mirror.iter_mut().for_each(home);
    out.mirrors.iter_mut().for_each(|m| home(&mut m.destination));
    out.split = own.split.clone().or_else(|| root.split.clone());
    out.rewrite = own.rewrite.clone().or_else(|| root.rewrite.clone());
    out.timeout = own.timeout.clone().or_else(|| root.timeout.clone());
    out.retries = own.retries.clone().or_else(|| root.retries.clone());
    out.fault = own.fault.clone().or_else(|| root.fault.clone());
    out.cors_policy = own.cors_policy.clone().or_else(|| root.cors_policy.clone());
    if out.mirror.is_none() && out.mirrors.is_empty() {
        out.mirror.clone_from(&root.mirror);
        out.mirrors.clone_from(&root.mirrors);
        out.mirror_percent = own.mirror_percent.or(root.mirror_percent);
        out.mirror_percentage = own.mirror_percentage.clone().or_else(|| root.mirror_percentage.clone());
    }
    out.headers = headers(root.headers.as_ref(), own.headers.as_ref());
    out
}

fn headers(root: Option<&Headers>, own: Option<&Headers>) -> Option<Headers> {
    let (Some(a), Some(b)) = (root, own) else { return own.or(root).cloned() };
    Some(Headers {
        request: operations(a.request.as_ref(), b.request.as_ref()),
        response: operations(a.response.as_ref(), b.response.as_ref()),
    })
}

fn operations(root: Option<&HeaderOperations>, own: Option<&HeaderOperations>) -> Option<HeaderOperations> {
    let (Some(a), Some(b)) = (root, own) else { return own.or(root).cloned() };
    let join = |a: &BTreeMap<String, String>, b: &BTreeMap<String, String>| {
        a.iter().chain(b).map(|(k, v)| (k.clone(), v.clone())).collect()
    };
    let remove = a.remove.iter().chain(&b.remove).cloned().collect();
    Some(HeaderOperations { set: join(&a.set, &b.set), add: join(&a.add, &b.add), remove })
}
