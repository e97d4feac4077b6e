//! Features that a proxy must know to act on a resource rightly. Proto3 drops fields that a reader does not know in silence,
//! so a proxy of an older version must refuse what it would only half understand.

use causeway_mesh::wire::{self, resource::Body, route::Action};
use std::collections::BTreeSet;

/// Names of the features, as `mesh::config::decode` lists them, sorted.
pub(super) fn required(body: &Body) -> Vec<String> {
    let mut all = BTreeSet::new();
    match body {
        Body::Workload(workload) => {
            let limits = workload.inbound.iter().flat_map(|i| &i.limits);
            for limit in limits {
                all.insert("limits");
                limit.matches.iter().for_each(|m| of_match(m, &mut all));
            }
        }
        Body::Destination(destination) => of_destination(destination, &mut all),
        Body::Trust(_) | Body::Endpoints(_) => {}
    }
    all.into_iter().map(str::to_owned).collect()
}

type Features = BTreeSet<&'static str>;

fn add(all: &mut Features, feature: &'static str, is_used: bool) {
    if is_used {
        all.insert(feature);
    }
}

fn of_destination(destination: &wire::Destination, all: &mut Features) {
    destination.routes.iter().for_each(|r| of_route(r, all));
    destination.split.iter().for_each(|s| of_split(s, all));
    add(all, "tls_routes", !destination.tls_routes.is_empty());
    for backend in &destination.backends {
        add(all, "backend_broken", !backend.broken.is_empty());
        add(all, "backend_dns", !backend.dns.is_empty());
        add(all, "originate_tls", backend.tls.is_some());
    }
}

fn of_route(route: &wire::Route, all: &mut Features) {
    route.matches.iter().for_each(|m| of_match(m, all));
    match &route.action {
        Some(Action::Split(split)) => of_split(split, all),
        Some(Action::Redirect(_) | Action::Direct(_)) => add(all, "action", true),
        None => {}
    }
    add(all, "headers", route.request_headers.is_some() || route.response_headers.is_some());
    add(all, "rewrite", route.rewrite.is_some());
    add(all, "mirror", !route.mirrors.is_empty());
    add(all, "cors", route.cors.is_some());
    add(all, "fault", route.fault.is_some());
    add(all, "retry", route.retry.is_some());
}

fn of_match(found: &wire::Match, all: &mut Features) {
    add(all, "scheme", found.scheme.is_some());
    add(all, "method_match", found.method_match.is_some());
    add(all, "ignore_path_case", found.ignore_path_case);
}

fn of_split(split: &wire::Split, all: &mut Features) {
    add(all, "version_header", !split.version_header.is_empty());
    let has_headers = |w: &wire::Weighted| w.request_headers.is_some() || w.response_headers.is_some();
    add(all, "headers", split.backends.iter().any(has_headers));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_narrows_a_resource_is_named_and_what_is_old_is_not() {
        let plain = wire::Match { method: "GET".into(), ..wire::Match::default() };
        let narrow = wire::Match { scheme: Some(wire::StringMatch::default()), ..plain.clone() };
        let route = |m: wire::Match| wire::Route { matches: vec![m], ..wire::Route::default() };
        let of = |routes: Vec<wire::Route>| {
            required(&Body::Destination(wire::Destination { routes, ..wire::Destination::default() }))
        };
        assert!(of(vec![route(plain.clone())]).is_empty());
        assert_eq!(of(vec![route(plain), route(narrow)]), ["scheme"]);
        let faulty = wire::Route { fault: Some(wire::FaultInjection::default()), ..wire::Route::default() };
        assert_eq!(of(vec![faulty]), ["fault"]);
    }

    #[test]
    fn a_proxy_of_this_version_knows_every_feature() {
        let backend = wire::Backend {
            broken: "x".into(),
            dns: vec!["a:1".into()],
            tls: Some(wire::OriginateTls::default()),
            ..wire::Backend::default()
        };
        let one = wire::Match {
            scheme: Some(wire::StringMatch::default()),
            method_match: Some(wire::StringMatch::default()),
            ignore_path_case: true,
            ..wire::Match::default()
        };
        let split = wire::Split { version_header: "x".into(), ..wire::Split::default() };
        let route = wire::Route {
            matches: vec![one],
            action: Some(Action::Split(split)),
            request_headers: Some(wire::HeaderChanges::default()),
            rewrite: Some(wire::Rewrite::default()),
            mirrors: vec![wire::Mirror::default()],
            cors: Some(wire::Cors::default()),
            fault: Some(wire::FaultInjection::default()),
            retry: Some(wire::Retry::default()),
            ..wire::Route::default()
        };
        let direct = wire::Route { action: Some(Action::Direct(wire::DirectResponse::default())), ..route.clone() };
        let destination = wire::Destination {
            routes: vec![route, direct],
            backends: vec![backend],
            tls_routes: vec![wire::TlsRoute::default()],
            ..wire::Destination::default()
        };
        let inbound = wire::Inbound { limits: vec![wire::RateLimit::default()], ..wire::Inbound::default() };
        let workload = wire::Workload { inbound: Some(inbound), ..wire::Workload::default() };
        for body in [Body::Destination(destination), Body::Workload(workload)] {
            let requires = required(&body);
            assert!(!requires.is_empty());
            let resource = wire::Resource { requires, body: Some(body), ..wire::Resource::default() };
            let faults = causeway_mesh::config::decode(&resource).err().unwrap_or_default();
            let unknown: Vec<_> = faults.iter().filter(|f| f.field.starts_with("requires")).collect();
            assert!(unknown.is_empty(), "{unknown:?}");
        }
    }
}
