//! Limits of the requests that the own workload takes.

use std::sync::Arc;
use std::time::Duration;

use super::{At, Faults, each, pattern};
use crate::limit::{Key, Limit, Rate};
use crate::wire;

const MAX_LIMITS: usize = 1024;
const MAX_LIST: usize = 256;
/// Thirty days, as for timeouts.
const MAX_WINDOW_MS: u64 = 30 * 24 * 3600 * 1000;

pub(super) fn limits(wire: &[wire::RateLimit], at: &At<'_>, faults: &mut Faults<'_>) -> Option<Vec<Arc<Limit>>> {
    if !faults.within(at, wire.len(), MAX_LIMITS) {
        return None;
    }
    each(wire, at, faults, |l, at, faults| limit(l, at, faults).map(Arc::new))
}

fn limit(wire: &wire::RateLimit, at: &At<'_>, faults: &mut Faults<'_>) -> Option<Limit> {
    let name = faults.text(&at.field("name"), &wire.name, "a name", |n| !n.is_empty());
    faults.within(&at.field("matches"), wire.matches.len(), MAX_LIST);
    faults.within(&at.field("ports"), wire.ports.len(), MAX_LIST);
    let matches = each(&wire.matches, &at.field("matches"), faults, super::route::one_match);
    let ports = each(&wire.ports, &at.field("ports"), faults, |p, at, faults| faults.port(at, *p));
    let rate = rate(wire, at, faults);
    let key = match &wire.key {
        None => Some(Key::All),
        Some(wire::rate_limit::Key::SourceIdentity(true)) => Some(Key::SourceIdentity),
        Some(wire::rate_limit::Key::SourceIdentity(false)) => faults.none(at.field("source_identity"), "must be true"),
        Some(wire::rate_limit::Key::Header(name)) => {
            pattern::header_name(name, &at.field("header"), faults).map(|n| Key::Header(n.into()))
        }
    };
    Some(Limit { name: name?.into(), matches: matches?, ports: ports?, rate: rate?, key: key? })
}

fn rate(wire: &wire::RateLimit, at: &At<'_>, faults: &mut Faults<'_>) -> Option<Rate> {
    if wire.window_ms > MAX_WINDOW_MS {
        return faults.none(at.field("window_ms"), "is more than thirty days");
    }
    let burst = if wire.burst == 0 { wire.requests } else { wire.burst };
    let rate = Rate::new(wire.requests, Duration::from_millis(wire.window_ms), burst);
    rate.or_else(|| {
        faults.none(*at, "needs requests and a window above zero, and no more than one request in a nanosecond")
    })
}
