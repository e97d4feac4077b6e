//! What routes do besides choosing a backend: redirects, rewrites, headers, mirrors, CORS, faults, retries.

use std::collections::HashMap;
use std::time::Duration;

use super::pattern::{self, Subject};
use super::{At, Faults, destination, each, shown};
use crate::config::action::cors::Listed;
use crate::config::action::fault::Abort;
use crate::config::action::retry::{BACKOFF, BACKOFF_MAX, Conditions, MAX_ATTEMPTS};
use crate::config::action::{
    ALL_PPM, Cors, Direct, Fault, Filters, HeaderChanges, Mirror, PathChange, Redirect, RegexChange, Retry, headers,
    path, redirect,
};
use crate::text::TextMatch;
use crate::wire;

const MAX_BODY: usize = 1 << 20;
const MAX_CHANGES: usize = 128;
const MAX_MIRRORS: usize = 16;
const MAX_ORIGINS: usize = 256;

/// None within: the route does nothing of it.
pub(super) fn filters(
    wire: &wire::Route,
    indices: &HashMap<&str, usize>,
    at: &At<'_>,
    faults: &mut Faults<'_>,
) -> Option<Option<Box<Filters>>> {
    let request = header_changes(wire.request_headers.as_ref(), &at.field("request_headers"), faults);
    let response = header_changes(wire.response_headers.as_ref(), &at.field("response_headers"), faults);
    let (path, authority) = match &wire.rewrite {
        None => (Some(None), Some(None)),
        Some(rewrite) => self::rewrite(rewrite, &at.field("rewrite"), faults),
    };
    let list = at.field("mirrors");
    faults.within(&list, wire.mirrors.len(), MAX_MIRRORS);
    let mirrors = each(&wire.mirrors, &list, faults, |mirror, at, faults| {
        let backend = indices.get(mirror.backend.as_str()).copied();
        if backend.is_none() {
            let name = shown(&mirror.backend);
            faults.add(&at.field("backend"), format!("`{name}` is not among the destination's backends"));
        }
        let share_ppm = share(mirror.share_ppm, &at.field("share_ppm"), faults);
        Some(Mirror { backend: backend?, share_ppm: share_ppm? })
    });
    let cors = match &wire.cors {
        None => Some(None),
        Some(cors) => self::cors(cors, &at.field("cors"), faults).map(Some),
    };
    let fault = match &wire.fault {
        None => Some(None),
        Some(fault) => self::fault(fault, &at.field("fault"), faults).map(Some),
    };
    let filters = Filters {
        request: request?,
        response: response?,
        path: path?,
        authority: authority?,
        mirrors: mirrors?,
        cors: cors?,
        fault: fault?,
    };
    Some((!filters.is_empty()).then(|| Box::new(filters)))
}

pub(super) fn header_changes(
    wire: Option<&wire::HeaderChanges>,
    at: &At<'_>,
    faults: &mut Faults<'_>,
) -> Option<HeaderChanges> {
    let Some(wire) = wire else { return Some(HeaderChanges::default()) };
    faults.within(at, wire.set.len() + wire.add.len() + wire.remove.len(), MAX_CHANGES);
    let set = each(&wire.set, &at.field("set"), faults, header);
    let add = each(&wire.add, &at.field("add"), faults, header);
    let remove = each(&wire.remove, &at.field("remove"), faults, |name, at, faults| {
        changeable(name, at, faults).map(String::into_boxed_str)
    });
    Some(HeaderChanges { set: set?, add: add?, remove: remove? })
}

fn header(wire: &wire::Header, at: &At<'_>, faults: &mut Faults<'_>) -> Option<(Box<str>, Box<str>)> {
    let name = changeable(&wire.name, &at.field("name"), faults);
    let value = faults.text(&at.field("value"), &wire.value, "the value of a header", headers::is_value);
    Some((name?.into(), value?.trim_matches([' ', '\t']).into()))
}

/// The name, in lower case, of a header that a route may change.
pub(super) fn changeable(name: &str, at: &At<'_>, faults: &mut Faults<'_>) -> Option<String> {
    let name = faults.text(at, name, "a header that a route may change", headers::is_changeable)?;
    Some(name.to_ascii_lowercase())
}

type Rewritten = (Option<Option<PathChange>>, Option<Option<Box<str>>>);

fn rewrite(wire: &wire::Rewrite, at: &At<'_>, faults: &mut Faults<'_>) -> Rewritten {
    if *wire == wire::Rewrite::default() {
        faults.add(at, "changes nothing that this proxy knows");
    }
    let path = match &wire.path {
        None => Some(None),
        Some(change) => path_change(change, &at.field("path"), faults).map(Some),
    };
    let authority = match wire.authority.as_str() {
        "" => Some(None),
        text => host(text, true, &at.field("authority"), faults).map(Some),
    };
    (path, authority)
}

fn path_change(wire: &wire::PathChange, at: &At<'_>, faults: &mut Faults<'_>) -> Option<PathChange> {
    use wire::path_change::Kind;
    match &wire.kind {
        Some(Kind::Full(text)) => {
            let is_path = |t: &str| t.starts_with('/') && path::is_text(t);
            faults.text(&at.field("full"), text, "a path", is_path).map(|t| PathChange::Full(t.into()))
        }
        Some(Kind::Prefix(text)) => {
            let is_prefix = |t: &str| (t.is_empty() || t.starts_with('/')) && path::is_text(t) && !t.contains('?');
            let text = faults.text(&at.field("prefix"), text, "the beginning of a path", is_prefix)?;
            Some(PathChange::Prefix(text.into()))
        }
        Some(Kind::Regex(regex)) => match RegexChange::new(&regex.pattern, &regex.replacement) {
            Ok(regex) => Some(PathChange::Regex(regex)),
            Err(why) => faults.none(at.field("regex"), why),
        },
        None => faults.none(*at, "has no kind, or one that this proxy does not know"),
    }
}

/// A host, with a port where one may be given.
fn host(text: &str, with_port: bool, at: &At<'_>, faults: &mut Faults<'_>) -> Option<Box<str>> {
    let is_host = |t: &str| crate::name::host_port(t).is_ok_and(|parsed| with_port || parsed.port.is_none());
    faults.text(at, text, "a host", is_host).map(String::into_boxed_str)
}

pub(super) fn redirect(wire: &wire::Redirect, at: &At<'_>, faults: &mut Faults<'_>) -> Option<Redirect> {
    let status = match wire.status {
        status @ (301 | 302 | 303 | 307 | 308) => u16::try_from(status).ok(),
        other => faults.none(at.field("status"), format!("{other} is none of 301, 302, 303, 307 and 308")),
    };
    let scheme = match wire.scheme.to_ascii_lowercase().as_str() {
        "" => Some(None),
        scheme @ ("http" | "https") => Some(Some(scheme.into())),
        _ => faults.none(at.field("scheme"), format!("`{}` is neither http nor https", shown(&wire.scheme))),
    };
    let host = match wire.host.as_str() {
        "" => Some(None),
        text => self::host(text, false, &at.field("host"), faults).map(Some),
    };
    let port = match wire.port {
        None => Some(redirect::Port::Kept),
        Some(wire::redirect::Port::Number(port)) => faults.port(&at.field("number"), port).map(redirect::Port::Number),
        Some(wire::redirect::Port::OfScheme(true)) => Some(redirect::Port::OfScheme),
        Some(wire::redirect::Port::OfScheme(false)) => faults.none(at.field("of_scheme"), "must be true"),
    };
    let path = match &wire.path {
        None => Some(None),
        Some(change) => path_change(change, &at.field("path"), faults).map(Some),
    };
    Some(Redirect { status: status?, scheme: scheme?, host: host?, port: port?, path: path? })
}

pub(super) fn direct(wire: &wire::DirectResponse, at: &At<'_>, faults: &mut Faults<'_>) -> Option<Direct> {
    let status = status(wire.status, &at.field("status"), faults);
    if wire.body.len() > MAX_BODY {
        faults.add(&at.field("body"), format!("has {} bytes, at most {MAX_BODY} are taken", wire.body.len()));
    }
    let content_type = match wire.content_type.as_str() {
        "" => Some("text/plain"),
        text => headers::is_value(text).then_some(text),
    };
    if content_type.is_none() {
        faults.add(&at.field("content_type"), "is not the value of a header");
    }
    let content_type = content_type?;
    let content_type = (!wire.body.is_empty()).then(|| content_type.into());
    Some(Direct { status: status?, body: wire.body.as_slice().into(), content_type })
}

fn status(wire: u32, at: &At<'_>, faults: &mut Faults<'_>) -> Option<u16> {
    match u16::try_from(wire) {
        Ok(status @ 200..=599) => Some(status),
        _ => faults.none(*at, format!("{wire} is not a status from 200 to 599")),
    }
}

fn share(wire: u32, at: &At<'_>, faults: &mut Faults<'_>) -> Option<u32> {
    if wire > ALL_PPM {
        return faults.none(*at, format!("{wire} is more than a million parts per million"));
    }
    Some(wire)
}

fn cors(wire: &wire::Cors, at: &At<'_>, faults: &mut Faults<'_>) -> Option<Cors> {
    faults.within(&at.field("origins"), wire.origins.len(), MAX_ORIGINS);
    let origins = each(&wire.origins, &at.field("origins"), faults, |origin, at, faults| {
        pattern::pattern(origin, Subject::Value, at, faults).map(|pattern| match pattern {
            TextMatch::Exact(text) if &*text == "*" => TextMatch::Present,
            other => other,
        })
    });
    let methods = listed(&wire.methods, &at.field("methods"), faults);
    let headers = listed(&wire.headers, &at.field("headers"), faults);
    let expose = listed(&wire.expose, &at.field("expose"), faults);
    Some(Cors {
        origins: origins?,
        methods: methods?,
        headers: headers?,
        expose: expose?,
        max_age: wire.max_age_s.map(Duration::from_secs),
        credentials: wire.credentials,
        forward_unmatched: wire.forward_unmatched,
    })
}

fn listed(wire: &[String], at: &At<'_>, faults: &mut Faults<'_>) -> Option<Listed> {
    faults.within(at, wire.len(), MAX_CHANGES);
    let is_token = |t: &str| t.len() <= 256 && pattern::is_token(t);
    let all = each(wire, at, faults, |t, at, faults| faults.text(at, t, "a name or a method", is_token))?;
    Some(match all.as_slice() {
        [] => Listed::Nothing,
        all if all.iter().any(|t| t == "*") => Listed::Any,
        all => Listed::These(all.join(", ").into()),
    })
}

fn fault(wire: &wire::FaultInjection, at: &At<'_>, faults: &mut Faults<'_>) -> Option<Fault> {
    use wire::fault_injection::Abort as Wire;
    let delay = destination::milliseconds(wire.delay_ms, &at.field("delay_ms"), faults);
    let delay_ppm = share(wire.delay_ppm, &at.field("delay_ppm"), faults);
    let abort_ppm = share(wire.abort_ppm, &at.field("abort_ppm"), faults);
    let abort = match wire.abort {
        None if wire.abort_ppm > 0 => faults.none(at.field("abort"), "is missing or unknown, and abort_ppm is not 0"),
        None => Some(None),
        Some(Wire::HttpStatus(code)) => status(code, &at.field("http_status"), faults).map(|s| Some(Abort::Http(s))),
        Some(Wire::GrpcStatus(code)) => match u8::try_from(code) {
            Ok(code @ 1..=16) => Some(Some(Abort::Grpc(code))),
            _ => faults.none(at.field("grpc_status"), format!("{code} is not a status of gRPC from 1 to 16")),
        },
    };
    Some(Fault { delay: delay?.unwrap_or_default(), delay_ppm: delay_ppm?, abort: abort?, abort_ppm: abort_ppm? })
}

pub(super) fn retry(wire: &wire::Retry, at: &At<'_>, faults: &mut Faults<'_>) -> Option<Retry> {
    if wire.attempts > MAX_ATTEMPTS {
        faults.add(&at.field("attempts"), format!("{} is more than {MAX_ATTEMPTS}", wire.attempts));
    }
    let on = conditions(&wire.on, &at.field("on"), faults);
    faults.within(&at.field("statuses"), wire.statuses.len(), MAX_CHANGES);
    faults.within(&at.field("grpc_codes"), wire.grpc_codes.len(), MAX_CHANGES);
    let statuses = each(&wire.statuses, &at.field("statuses"), faults, |s, at, faults| match u16::try_from(*s) {
        Ok(status @ 100..=599) => Some(status),
        _ => faults.none(*at, format!("{s} is not a status from 100 to 599")),
    });
    let try_timeout = destination::milliseconds(wire.try_timeout_ms, &at.field("try_timeout_ms"), faults);
    let backoff = destination::milliseconds(wire.backoff_ms, &at.field("backoff_ms"), faults);
    let backoff_max = destination::milliseconds(wire.backoff_max_ms, &at.field("backoff_max_ms"), faults);
    let backoff_min = destination::milliseconds(wire.backoff_min_ms, &at.field("backoff_min_ms"), faults);
    let backoff = backoff?.unwrap_or(BACKOFF);
    Some(Retry {
        attempts: wire.attempts.min(MAX_ATTEMPTS),
        on: on?,
        statuses: statuses?.into(),
        grpc_codes: wire.grpc_codes.as_slice().into(),
        try_timeout: try_timeout?,
        backoff,
        backoff_max: backoff_max?.unwrap_or(BACKOFF_MAX).max(backoff),
        backoff_min: backoff_min?.unwrap_or_default(),
    })
}

fn conditions(wire: &[i32], at: &At<'_>, faults: &mut Faults<'_>) -> Option<Conditions> {
    use wire::retry::Condition as Wire;
    let mut on = Conditions::default();
    let known = each(wire, at, faults, |condition, at, faults| {
        match Wire::try_from(*condition) {
            Ok(Wire::ConnectFailure) => on.connect_failure = true,
            Ok(Wire::RefusedStream) => on.refused_stream = true,
            Ok(Wire::ResetBeforeResponse) => on.reset = true,
            Ok(Wire::ServerError) => on.server_error = true,
            Ok(Wire::GatewayError) => on.gateway_error = true,
            Ok(Wire::Conflict) => on.conflict = true,
            Ok(Wire::TryTimeout) => on.try_timeout = true,
            Ok(Wire::Unspecified) | Err(_) => {
                return faults.none(*at, format!("{condition} is not a condition that this proxy knows"));
            }
        }
        Some(())
    });
    known.map(|_| on)
}
