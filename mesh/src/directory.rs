//! A set of named, versioned resources, what differs between two of them, and the digest by which drift is found.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// A resource's content with the hash of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned<T> {
    /// Equal versions are equal contents, see [`version`]. Never 0.
    pub version: u64,
    /// The content.
    pub body: T,
}

/// All resources that one side holds, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory<T>(pub BTreeMap<String, Versioned<T>>);

impl<T> Default for Directory<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

/// What turns one directory into another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta<T> {
    /// New or changed, in order of name.
    pub upserts: Vec<(String, Versioned<T>)>,
    /// No longer there, in order of name.
    pub removed: Vec<String>,
}

impl<T> Default for Delta<T> {
    fn default() -> Self {
        Self { upserts: Vec::new(), removed: Vec::new() }
    }
}

impl<T> Delta<T> {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.upserts.is_empty() && self.removed.is_empty()
    }
}

/// What differs, by name and version; bodies are not compared.
pub fn diff<T: Clone>(old: &Directory<T>, new: &Directory<T>) -> Delta<T> {
    let is_changed = |name: &String, now: &Versioned<T>| old.0.get(name).is_none_or(|was| was.version != now.version);
    Delta {
        upserts: new.0.iter().filter(|(n, v)| is_changed(n, v)).map(|(n, v)| (n.clone(), v.clone())).collect(),
        removed: old.0.keys().filter(|n| !new.0.contains_key(*n)).cloned().collect(),
    }
}

/// Brings `onto` to where the delta leads.
pub fn apply<T>(delta: Delta<T>, onto: &mut Directory<T>) {
    for name in &delta.removed {
        onto.0.remove(name);
    }
    onto.0.extend(delta.upserts);
}

/// Digest of all `(name, version)` pairs, in whatever order they come.
pub fn digest<'a>(pairs: impl Iterator<Item = (&'a str, u64)>) -> u64 {
    pairs.map(|(name, version)| xxh3_64_with_seed(name.as_bytes(), version)).fold(0, u64::wrapping_add)
}

/// Version of a resource from its encoded content. Never 0, which on the wire means "none".
pub fn version(encoded: &[u8]) -> u64 {
    xxh3_64(encoded).max(1)
}

#[cfg(test)]
mod tests;
