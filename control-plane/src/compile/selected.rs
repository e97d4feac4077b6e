//! Which pods a policy with a selector holds for.

use super::Settings;
use super::catalog::selects;
use crate::source::{Key, Meta};
use std::collections::BTreeMap;

/// A resource that selects pods, and what becomes of it for them.
#[derive(Debug)]
pub(super) struct Selected<T> {
    pub(super) key: Key,
    /// None: every namespace.
    namespace: Option<String>,
    /// Labels that the pod must have.
    labels: BTreeMap<String, String>,
    pub(super) what: T,
}

impl<T> Selected<T> {
    /// Of the root namespace it holds in every other, too.
    pub(super) fn new(meta: &Meta, labels: BTreeMap<String, String>, what: T, settings: &Settings) -> Self {
        let namespace = (meta.key.namespace != settings.root_namespace).then(|| meta.key.namespace.clone());
        Self { key: meta.key.clone(), namespace, labels, what }
    }
}

/// Those of `all` that hold for a pod of `namespace` with these labels.
pub(super) fn selecting<'a, T>(
    all: &'a [Selected<T>],
    namespace: &'a str,
    labels: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = &'a Selected<T>> {
    all.iter().filter(move |s| s.namespace.as_deref().is_none_or(|n| n == namespace) && selects(&s.labels, labels))
}
