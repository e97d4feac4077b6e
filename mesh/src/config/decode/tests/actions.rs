//! Everything that a route does besides choosing a backend: decoded whole, or refused with its field.

use std::time::Duration;

use super::{Action, Resource, decode_destination, destination, string_match, text, wire};
use crate::config::action::cors::Listed;
use crate::config::action::fault::Abort;
use crate::config::action::{self, PathChange, redirect};

fn header(name: &str, value: &str) -> wire::Header {
    wire::Header { name: name.into(), value: value.into() }
}

fn changes() -> wire::HeaderChanges {
    wire::HeaderChanges { set: vec![header("X-A", " 1 ")], add: vec![header("x-b", "2")], remove: vec!["X-C".into()] }
}

fn full(path: &str) -> wire::PathChange {
    wire::PathChange { kind: Some(wire::path_change::Kind::Full(path.into())) }
}

/// A route that does all there is.
fn busy() -> wire::Destination {
    let mut wire = destination();
    let route = &mut wire.routes[0];
    route.request_headers = Some(changes());
    route.response_headers = Some(changes());
    route.rewrite = Some(wire::Rewrite { path: Some(full("/new")), authority: "other.prod:81".into() });
    route.mirrors = vec![wire::Mirror { backend: "prodsvc.prod:80/v1-canary".into(), share_ppm: 10_000 }];
    route.cors = Some(wire::Cors {
        origins: vec![text(string_match::Kind::Exact("https://a".into()))],
        methods: vec!["GET".into(), "PUT".into()],
        headers: vec!["*".into()],
        expose: vec![],
        max_age_s: Some(5),
        credentials: true,
        forward_unmatched: true,
    });
    route.fault = Some(wire::FaultInjection {
        delay_ms: 100,
        delay_ppm: 1,
        abort_ppm: 2,
        abort: Some(wire::fault_injection::Abort::GrpcStatus(14)),
    });
    route.retry = Some(wire::Retry {
        attempts: 2,
        on: vec![wire::retry::Condition::ServerError.into(), wire::retry::Condition::TryTimeout.into()],
        statuses: vec![418],
        grpc_codes: vec![14],
        try_timeout_ms: 500,
        ..wire::Retry::default()
    });
    let one = &mut route.matches[0];
    one.scheme = Some(text(string_match::Kind::Exact("https".into())));
    one.method = String::new();
    one.method_match = Some(text(string_match::Kind::Prefix("P".into())));
    one.ignore_path_case = true;
    if let Some(Action::Split(split)) = &mut route.action {
        split.version_header = "X-Version".into();
        split.backends[0].version = "v1-canary".into();
        split.backends[0].request_headers = Some(changes());
    }
    wire
}

#[test]
fn a_route_that_does_all_there_is_is_decoded_whole() {
    let Ok(Resource::Destination(d)) = decode_destination(busy()) else { panic!("{:?}", decode_destination(busy())) };
    let route = &d.routes[0];
    let filters = route.filters.as_ref().unwrap();
    assert_eq!(filters.request.set, [("x-a".into(), "1".into())], "names in lower case, values without blanks");
    assert_eq!((filters.response.add.len(), &*filters.response.remove[0]), (1, "x-c"));
    assert!(matches!(&filters.path, Some(PathChange::Full(p)) if &**p == "/new"));
    assert_eq!(filters.authority.as_deref(), Some("other.prod:81"));
    assert_eq!(filters.mirrors, [action::Mirror { backend: 0, share_ppm: 10_000 }]);
    let cors = filters.cors.as_ref().unwrap();
    assert_eq!(
        (&cors.methods, &cors.headers, &cors.expose),
        (&Listed::These("GET, PUT".into()), &Listed::Any, &Listed::Nothing)
    );
    assert_eq!(filters.fault.unwrap().abort, Some(Abort::Grpc(14)));
    let retry = route.retry.as_ref().unwrap();
    assert!(retry.on.server_error && retry.on.try_timeout && !retry.on.reset);
    assert_eq!((retry.backoff.as_millis(), retry.backoff_max.as_millis()), (25, 250));
    assert_eq!(retry.try_timeout, Some(Duration::from_millis(500)));
    let one = &route.matches[0];
    assert!(one.ignore_path_case && one.scheme.is_some() && one.method_match.is_some());
    let split = route.split().unwrap();
    assert_eq!((split.version_header(), split.of_version("v1-canary").unwrap().backend), (Some("x-version"), 0));
    assert!(!split.traits(0).unwrap().request.is_empty() && split.traits(1).unwrap().request.is_empty());
}

#[test]
fn a_route_that_does_nothing_more_carries_nothing_more() {
    let Ok(Resource::Destination(d)) = decode_destination(destination()) else { panic!("not a destination") };
    let route = &d.routes[0];
    assert!(route.filters.is_none() && route.retry.is_none() && route.split().unwrap().traits(0).is_none());
}

#[test]
fn a_redirect_and_a_response_are_decoded() {
    let mut wire = destination();
    wire.routes[0].action = Some(Action::Redirect(wire::Redirect {
        status: 301,
        scheme: "HTTPS".into(),
        host: "example.org".into(),
        path: None,
        port: Some(wire::redirect::Port::Number(8443)),
    }));
    let direct = wire::DirectResponse { status: 418, body: b"tea".to_vec(), content_type: String::new() };
    let mut other = wire.routes[0].clone();
    other.action = Some(Action::Direct(direct));
    wire.routes.push(other);
    let Ok(Resource::Destination(d)) = decode_destination(wire) else { panic!("not a destination") };
    let (action::Action::Redirect(r), action::Action::Direct(direct)) = (&d.routes[0].action, &d.routes[1].action)
    else {
        panic!("{:?}", d.routes)
    };
    assert_eq!((r.scheme.as_deref(), r.port), (Some("https"), redirect::Port::Number(8443)));
    assert_eq!((direct.status, direct.content_type.as_deref()), (418, Some("text/plain")));
}

fn fault(field: &str, change: impl FnOnce(&mut wire::Route)) {
    let mut wire = busy();
    change(&mut wire.routes[0]);
    let faults = decode_destination(wire).expect_err(field);
    assert_eq!(
        faults.iter().map(|f| f.field.as_str()).collect::<Vec<_>>(),
        [format!("routes[0].{field}")],
        "{faults:?}"
    );
}

#[test]
fn what_a_route_cannot_do_is_refused_with_its_field() {
    for bad in ["host", ":path", "causeway-error", "content-length", "x-forwarded-client-cert", "a b", ""] {
        fault("request_headers.set[0].name", |r| r.request_headers.as_mut().unwrap().set[0].name = bad.into());
        fault("response_headers.remove[0]", |r| r.response_headers.as_mut().unwrap().remove[0] = bad.into());
    }
    fault("request_headers.add[0].value", |r| r.request_headers.as_mut().unwrap().add[0].value = "a\nb".into());
    fault("rewrite", |r| r.rewrite = Some(wire::Rewrite::default()));
    fault("rewrite.authority", |r| r.rewrite.as_mut().unwrap().authority = "a b".into());
    for bad in ["", "new", "/a b", "/a#b"] {
        fault("rewrite.path.full", |r| r.rewrite.as_mut().unwrap().path = Some(full(bad)));
    }
    fault("rewrite.path", |r| r.rewrite.as_mut().unwrap().path = Some(wire::PathChange { kind: None }));
    fault("mirrors[0].backend", |r| r.mirrors[0].backend = "nowhere".into());
    fault("mirrors[0].share_ppm", |r| r.mirrors[0].share_ppm = 1_000_001);
    fault("cors.origins[0]", |r| r.cors.as_mut().unwrap().origins[0].kind = None);
    fault("cors.methods[0]", |r| r.cors.as_mut().unwrap().methods[0] = "a, b".into());
    fault("fault.abort_ppm", |r| r.fault.as_mut().unwrap().abort_ppm = 1_000_001);
    fault("fault.abort", |r| r.fault.as_mut().unwrap().abort = None);
    for (field, bad) in [
        ("fault.grpc_status", wire::fault_injection::Abort::GrpcStatus(17)),
        ("fault.http_status", wire::fault_injection::Abort::HttpStatus(100)),
    ] {
        fault(field, |r| r.fault.as_mut().unwrap().abort = Some(bad));
    }
    fault("retry.attempts", |r| r.retry.as_mut().unwrap().attempts = 11);
    fault("retry.on[2]", |r| r.retry.as_mut().unwrap().on.push(99));
    fault("retry.statuses[0]", |r| r.retry.as_mut().unwrap().statuses[0] = 99);
    fault("matches[0].ignore_path_case", |r| {
        r.matches[0].path = Some(text(string_match::Kind::Regex("/a".into())));
    });
    let split = |r: &mut wire::Route, change: fn(&mut wire::Split)| {
        let Some(Action::Split(split)) = &mut r.action else { panic!("no split") };
        change(split);
    };
    fault("split.version_header", |r| split(r, |s| s.version_header = "host".into()));
    fault("split.backends[0].version", |r| split(r, |s| s.backends[0].version = "a b".into()));
}
