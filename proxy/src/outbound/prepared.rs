//! What routes do to heads, in HTTP's own types: made once for each configuration, so that no request parses a name.

use std::sync::Arc;

use causeway_mesh::config::Destination;
use causeway_mesh::config::action::{Filters, HeaderChanges};
use causeway_mesh::route::Route;
use causeway_mesh::split::Traits;
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Changes of a head.
#[derive(Debug, Default)]
pub struct Changes {
    remove: Box<[HeaderName]>,
    set: Box<[(HeaderName, HeaderValue)]>,
    add: Box<[(HeaderName, HeaderValue)]>,
}

/// One route.
#[derive(Debug, Default)]
pub struct Prepared {
    /// To requests, before those of a share.
    pub request: Changes,
    /// To responses, after those of a share.
    pub response: Changes,
    /// By the place in the split; empty where no share has anything.
    pub shares: Box<[Share]>,
    /// By which a version follows a chain of calls.
    pub version: Option<HeaderName>,
    /// Heads stay as they are after all, wherever in the split a request goes.
    pub is_plain: bool,
}

/// One share of a route's split.
#[derive(Debug, Default)]
pub struct Share {
    /// To requests that go there.
    pub request: Changes,
    /// To responses that come from there.
    pub response: Changes,
    /// What the version's header says of it.
    pub version: Option<HeaderValue>,
}

/// Each route of `destination` by its place; None where it leaves heads as they are.
pub fn routes(destination: &Destination) -> Box<[Option<Arc<Prepared>>]> {
    destination.routes.iter().map(|route| prepare(route).map(Arc::new)).collect()
}

fn prepare(route: &Route) -> Option<Prepared> {
    let none = Filters::default();
    let filters = route.filters.as_deref().unwrap_or(&none);
    let split = route.split();
    let shares: Box<[Share]> = split
        .map(|split| (0..split.backends().len()).map_while(|place| split.traits(place)).map(share).collect())
        .unwrap_or_default();
    let version = split.and_then(|split| split.version_header()).and_then(|name| name.parse().ok());
    let is_needed =
        !filters.request.is_empty() || !filters.response.is_empty() || !shares.is_empty() || version.is_some();
    let (request, response) = (Changes::new(&filters.request), Changes::new(&filters.response));
    let leaves = |share: &Share| share.request.is_empty() && share.response.is_empty();
    let is_plain = version.is_none() && request.is_empty() && response.is_empty() && shares.iter().all(leaves);
    is_needed.then_some(Prepared { request, response, shares, version, is_plain })
}

fn share(traits: &Traits) -> Share {
    let version = Some(&traits.version).filter(|v| !v.is_empty()).and_then(|v| HeaderValue::from_str(v).ok());
    Share { request: Changes::new(&traits.request), response: Changes::new(&traits.response), version }
}

impl Changes {
    /// Names and values were checked when the configuration was decoded; one that HTTP's types still refuse is left out.
    fn new(changes: &HeaderChanges) -> Self {
        let pairs = |pairs: &[(Box<str>, Box<str>)]| {
            let pair = |(name, value): &(Box<str>, Box<str>)| {
                Some((name.parse().ok()?, HeaderValue::from_bytes(value.as_bytes()).ok()?))
            };
            pairs.iter().filter_map(pair).collect()
        };
        let remove = changes.remove.iter().filter_map(|name| name.parse().ok()).collect();
        Self { remove, set: pairs(&changes.set), add: pairs(&changes.add) }
    }

    fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// Removes, then sets, then adds.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
    }
}
