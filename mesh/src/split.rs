//! Weighted choice among backends, by a point that the caller draws or by a key that sticks.

use crate::config::action::HeaderChanges;
use crate::text::TextMatch;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A weighted split that is valid by construction.
#[derive(Clone, Debug)]
pub struct Split {
    /// Those with a weight in use above 0.
    live: Box<[Share]>,
    total: u64,
    /// Every backend that the user listed, also those with weight 0 now.
    listed: Box<[usize]>,
    /// What each listed one has besides; empty where none has anything.
    traits: Box<[Traits]>,
    /// See [`Self::of_version`]; lower case.
    version_header: Option<Box<str>>,
    /// What makes the split sticky, if anything.
    pub key: Option<SplitKey>,
    /// `namespace/name` of the resource that set it; empty for a Service's own default.
    pub origin: std::sync::Arc<str>,
    /// Whether every weight that the user gave is 0: an explicit 503 `no_weight`.
    pub is_zero: bool,
}

#[derive(Clone, Debug)]
struct Share {
    picked: Picked,
    seed: u64,
    weight: u32,
}

/// One backend of a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picked {
    /// Index into the destination's backends.
    pub backend: usize,
    /// Place in the split as configured.
    pub place: usize,
}

/// What one backend of a split has besides its weight.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// By which a call chain names it.
    pub version: Box<str>,
    /// To requests that go there.
    pub request: HeaderChanges,
    /// To responses that come from there.
    pub response: HeaderChanges,
}

/// Where the key of a sticky split comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SplitKey {
    /// Value of this request header (lower case).
    Header(String),
    /// Value of this cookie.
    Cookie(String),
    /// The caller's own SPIFFE ID.
    SourceIdentity,
}

/// One backend of a split as configured.
#[derive(Clone, Debug)]
pub struct Weighted<'a> {
    /// Index into the destination's backends.
    pub backend: usize,
    /// The backend's name; the sticky choice hashes it, so that order does not matter.
    pub name: &'a str,
    /// As the user wrote it.
    pub weight: u32,
    /// In use now: the weight, or 0 while no endpoint is ready.
    pub effective: u32,
}

impl Split {
    /// Builds a split. Weights are ratios and need not sum to 100.
    ///
    /// When no backend with a weight has a ready endpoint the weights as written are used, so that the error names
    /// the backend that is missing.
    pub fn new(weighted: &[Weighted<'_>], key: Option<SplitKey>, origin: &str) -> Self {
        let any_effective = weighted.iter().any(|w| w.weight > 0 && w.effective > 0);
        let live: Box<[Share]> = weighted
            .iter()
            .enumerate()
            .map(|(place, w)| Share {
                picked: Picked { backend: w.backend, place },
                // One that is listed twice has two shares, each with keys of its own.
                seed: xxh3_64_with_seed(w.name.as_bytes(), before(weighted, place)),
                weight: if any_effective { w.effective.min(w.weight) } else { w.weight },
            })
            .filter(|s| s.weight > 0)
            .collect();
        Self {
            total: live.iter().map(|s| u64::from(s.weight)).sum(),
            live,
            listed: weighted.iter().map(|w| w.backend).collect(),
            traits: Box::default(),
            version_header: None,
            key,
            origin: origin.into(),
            is_zero: weighted.iter().all(|w| w.weight == 0),
        }
    }

    /// The same with what each backend, in the order of [`Self::new`], has besides, and the header that names versions.
    #[must_use]
    pub fn with_traits(mut self, traits: Vec<Traits>, version_header: Option<&str>) -> Self {
        if traits.iter().any(|t| *t != Traits::default()) {
            self.traits = traits.into();
        }
        self.version_header = version_header.map(Into::into);
        self
    }

    /// What the backend at `place` has besides its weight; None where no backend has anything.
    pub fn traits(&self, place: usize) -> Option<&Traits> {
        self.traits.get(place)
    }

    /// The header by which the version follows a chain of calls, lower case; None: it does not.
    pub fn version_header(&self) -> Option<&str> {
        self.version_header.as_deref()
    }

    /// The first backend that has the version `text`, whatever its weight: who has been given a version before stays
    /// with it.
    pub fn of_version(&self, text: &str) -> Option<Picked> {
        let place = self.traits.iter().position(|t| !t.version.is_empty() && *t.version == *text)?;
        Some(Picked { backend: *self.listed.get(place)?, place })
    }

    /// Number of points: [`Self::pick`] takes `0..total`.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Every backend named by the split, whatever its weight.
    pub fn backends(&self) -> &[usize] {
        &self.listed
    }

    /// `(backend index, weight in use)` of each backend that can be picked.
    pub fn shares(&self) -> impl Iterator<Item = (usize, u32)> + '_ {
        self.live.iter().map(|s| (s.picked.backend, s.weight))
    }

    /// The only backend there is to pick, when a draw would be a waste.
    pub fn only(&self) -> Option<Picked> {
        match &*self.live {
            [one] => Some(one.picked),
            _ => None,
        }
    }

    /// The backend at `point`, each backend holding exactly `weight` of the `total` points.
    ///
    /// None where the split has no weight at all. A point past the total is taken modulo the total.
    pub fn pick(&self, point: u64) -> Option<Picked> {
        let mut left = point.checked_rem(self.total)?;
        for share in &self.live {
            let weight = u64::from(share.weight);
            if left < weight {
                return Some(share.picked);
            }
            left -= weight;
        }
        None
    }

    /// The backend of `key`: always the same for the same key, and monotone. A backend whose share grows loses no
    /// key; one whose share shrinks loses only keys that it must (weighted rendezvous hashing).
    pub fn pick_by_key(&self, key: &[u8]) -> Option<Picked> {
        let cost = |share: &Share| {
            let hash = xxh3_64_with_seed(key, share.seed);
            // In (0, 1): 53 bits, never 0, so that the logarithm is finite.
            let unit = ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
            -unit.ln() / f64::from(share.weight)
        };
        self.live.iter().map(|s| (cost(s), s)).min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, s)| s.picked)
    }
}

/// How many before `place` have the name of that one.
fn before(weighted: &[Weighted<'_>], place: usize) -> u64 {
    weighted[..place].iter().filter(|w| w.name == weighted[place].name).count() as u64
}

/// Value of cookie `name` in the values of the request's `cookie` headers (RFC 6265 section 4.2.1).
pub fn cookie<'a>(values: impl IntoIterator<Item = &'a str>, name: &str) -> Option<&'a str> {
    values
        .into_iter()
        .flat_map(|v| v.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(n, _)| *n == name)
        .map(|(_, v)| v)
}

/// Whether a header value matches, on each value and on all joined by `,`.
pub fn any_value_matches<'a>(pattern: &TextMatch, values: impl Iterator<Item = &'a str>) -> bool {
    let mut values = values.map(|v| v.trim_matches([' ', '\t']));
    let Some(first) = values.next() else { return false };
    if pattern.is_match(first) {
        return true;
    }
    // Several lines of one field are rare, so the joined value is built only then.
    let mut joined: Option<String> = None;
    for value in values {
        if pattern.is_match(value) {
            return true;
        }
        let joined = joined.get_or_insert_with(|| first.to_owned());
        joined.push(',');
        joined.push_str(value);
    }
    joined.is_some_and(|joined| pattern.is_match(&joined))
}

#[cfg(test)]
mod tests;
