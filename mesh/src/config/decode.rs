//! From the wire to checked configuration, or to every fault at once with its field path.
//!
//! Whatever is not understood is a fault, never a guess: an enum value or oneof arm of a later version, and a feature
//! that the resource requires and that is not known here.

use std::fmt;
use std::sync::Arc;

use super::{Fault, Resource};
use crate::wire;

mod action;
mod backend;
mod destination;
mod endpoints;
mod limit;
mod pattern;
mod route;
mod tls_route;
mod workload;

#[cfg(test)]
mod tests;

/// Features that a resource may require of its reader (`Resource.requires`): one for each group of wire fields that came
/// after the first version and that narrow what a reader would do without them.
const KNOWN_FEATURES: &[&str] = &[
    "action",           // Route.action other than split
    "backend_broken",   // Backend.broken
    "backend_dns",      // Backend.dns
    "cors",             // Route.cors
    "fault",            // Route.fault
    "headers",          // Route and Weighted: header changes
    "ignore_path_case", // Match.ignore_path_case
    "limits",           // Inbound.limits
    "method_match",     // Match.method_match
    "mirror",           // Route.mirrors
    "originate_tls",    // Backend.tls
    "retry",            // Route.retry
    "rewrite",          // Route.rewrite
    "scheme",           // Match.scheme
    "tls_routes",       // Destination.tls_routes
    "version_header",   // Split.version_header
];

/// Decodes one resource.
///
/// # Errors
/// All faults that were found, at least one; nothing of the resource may then be used.
pub fn decode(resource: &wire::Resource) -> Result<Resource, Vec<Fault>> {
    let mut faults = Faults { resource: &resource.name, found: Vec::new() };
    for (i, feature) in resource.requires.iter().enumerate() {
        if !KNOWN_FEATURES.contains(&feature.as_str()) {
            let at = At::ROOT.field("requires");
            faults.add(&at.index(i), format!("this proxy does not know `{}`; upgrade it", feature.escape_debug()));
        }
    }
    let decoded = body(resource, &mut faults);
    match decoded {
        Some(decoded) if faults.found.is_empty() => Ok(decoded),
        _ => Err(faults.found),
    }
}

fn body(resource: &wire::Resource, faults: &mut Faults<'_>) -> Option<Resource> {
    use wire::resource::Body;
    let at = &At::ROOT;
    match (resource.name.as_str(), resource.body.as_ref()) {
        (_, None) => faults.none(at.field("body"), "is missing or of a kind that this proxy does not know"),
        ("workload", Some(Body::Workload(w))) => {
            workload::workload(w, at, faults).map(|w| Resource::Workload(Arc::new(w)))
        }
        ("trust", Some(Body::Trust(t))) => workload::trust(t, at, faults).map(|t| Resource::Trust(Arc::new(t))),
        (name, Some(Body::Destination(d))) if is_under("destination/", name) => {
            destination::destination(d, at, faults).map(|d| Resource::Destination(Arc::new(d)))
        }
        (name, Some(Body::Endpoints(e))) if is_under("endpoints/", name) => {
            endpoints::endpoints(e, at, faults).map(|e| Resource::Endpoints(e.into()))
        }
        _ => faults.none(at.field("name"), "does not fit the kind of the body"),
    }
}

fn is_under(prefix: &str, name: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty())
}

/// Collects faults; decoding goes on after one, so that all are reported at once.
struct Faults<'a> {
    resource: &'a str,
    found: Vec<Fault>,
}

impl Faults<'_> {
    fn add(&mut self, at: &At<'_>, message: impl Into<String>) {
        let (resource, field) = (self.resource.to_owned(), at.to_string());
        self.found.push(Fault { resource, field, message: message.into() });
    }

    /// Adds a fault where a value was expected.
    fn none<T>(&mut self, at: At<'_>, message: impl Into<String>) -> Option<T> {
        self.add(&at, message);
        None
    }

    /// Whether `len` keeps to `most`, else a fault.
    fn within(&mut self, at: &At<'_>, len: usize, most: usize) -> bool {
        if len > most {
            self.add(at, format!("has {len} entries, at most {most} are taken"));
        }
        len <= most
    }

    fn port(&mut self, at: &At<'_>, port: u32) -> Option<u16> {
        match u16::try_from(port) {
            Ok(port) if port > 0 => Some(port),
            _ => {
                self.add(at, format!("{port} is not a port from 1 to 65535"));
                None
            }
        }
    }

    /// `text` where `is_valid`, else a fault that says what it should be.
    fn text(&mut self, at: &At<'_>, text: &str, what: &str, is_valid: impl Fn(&str) -> bool) -> Option<String> {
        if is_valid(text) {
            return Some(text.to_owned());
        }
        self.add(at, format!("`{}` is not {what}", shown(text)));
        None
    }
}

/// At most 64 characters of `text`, with control characters escaped.
fn shown(text: &str) -> String {
    text.chars().take(64).collect::<String>().escape_debug().to_string()
}

/// A field path on the stack, written out only where a fault is reported.
#[derive(Clone, Copy)]
struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Field(&'a str),
    Index(usize),
}

impl<'a> At<'a> {
    const ROOT: At<'static> = At { parent: None, step: Step::Root };

    fn field(&'a self, name: &'a str) -> At<'a> {
        At { parent: Some(self), step: Step::Field(name) }
    }

    fn index(&'a self, index: usize) -> At<'a> {
        At { parent: Some(self), step: Step::Index(index) }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match (self.step, self.parent) {
            (Step::Root, _) => Ok(()),
            (Step::Field(name), Some(At { step: Step::Root, .. })) => f.write_str(name),
            (Step::Field(name), _) => write!(f, ".{name}"),
            (Step::Index(index), _) => write!(f, "[{index}]"),
        }
    }
}

/// Each element of `list` by `read`, with its own place; None where any is at fault.
fn each<'t, T, U>(
    list: &'t [T],
    at: &At<'_>,
    faults: &mut Faults<'_>,
    mut read: impl FnMut(&'t T, &At<'_>, &mut Faults<'_>) -> Option<U>,
) -> Option<Vec<U>> {
    let read: Vec<Option<U>> = list.iter().enumerate().map(|(i, item)| read(item, &at.index(i), faults)).collect();
    read.into_iter().collect()
}
