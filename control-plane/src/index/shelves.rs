//! All resources of one kind, kept apart by namespace: to put one in costs what its namespace holds, not what the cluster
//! does, and whoever works on a change sees at once which namespaces it is about.

use super::Table;
use crate::source::Key;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// See the module. A copy is cheap and shares what it holds.
#[derive(Debug)]
pub struct Shelves<T>(Arc<BTreeMap<Arc<str>, Table<T>>>);

impl<T> Shelves<T> {
    /// Puts a resource in, in place of one of the same key. Copies made before keep what they had.
    pub fn insert(&mut self, key: Key, resource: Arc<T>) {
        let all = Arc::make_mut(&mut self.0);
        match all.get_mut(&*key.namespace) {
            Some(shelf) => shelf.insert(key, resource),
            None => all.entry(key.namespace.as_str().into()).or_default().insert(key, resource),
        }
    }

    /// Takes a resource out, if it is there.
    pub fn remove(&mut self, key: &Key) {
        if self.get(key).is_none() {
            return;
        }
        let all = Arc::make_mut(&mut self.0);
        if let Some(shelf) = all.get_mut(&*key.namespace) {
            shelf.remove(key);
            if shelf.is_empty() {
                all.remove(&*key.namespace);
            }
        }
    }

    /// A copy that does not know that it is one.
    #[cfg(test)]
    pub(super) fn apart(&self) -> Self {
        Self(Arc::new(self.0.iter().map(|(namespace, shelf)| (Arc::clone(namespace), shelf.apart())).collect()))
    }

    /// Whether nothing was put in or taken out since one was copied from the other.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Namespaces in which something is new, changed or gone between `before` and this. May say one too much.
    pub fn touched<'a>(&'a self, before: &'a Self) -> BTreeSet<&'a Arc<str>> {
        if self.is_same(before) {
            return BTreeSet::new();
        }
        let is_other = |(namespace, shelf): &(&Arc<str>, &Table<T>)| {
            before.0.get(*namespace).is_none_or(|last| !last.is_same(shelf))
        };
        let gone = before.0.keys().filter(|namespace| !self.0.contains_key(*namespace));
        self.0.iter().filter(is_other).map(|(namespace, _)| namespace).chain(gone).collect()
    }

    /// Keys of what is new, changed or gone between `before` and this; nothing is compared but addresses.
    pub fn changed<'a>(&'a self, before: &'a Self) -> Vec<&'a Key> {
        let mut changed = Vec::new();
        for namespace in self.touched(before) {
            match (self.of(namespace), before.of(namespace)) {
                (Some(now), Some(last)) => changed.extend(now.changed(last)),
                (now, last) => changed.extend(now.or(last).into_iter().flat_map(|shelf| shelf.keys())),
            }
        }
        changed
    }

    /// What is in one namespace; None where nothing is.
    pub fn of(&self, namespace: &str) -> Option<&Table<T>> {
        self.0.get(namespace)
    }

    /// One resource.
    pub fn get(&self, key: &Key) -> Option<&Arc<T>> {
        self.of(&key.namespace)?.get(key)
    }

    /// Every namespace that has any.
    pub fn namespaces(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.keys()
    }

    /// Everything, in order of namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Arc<T>)> {
        self.0.values().flat_map(|shelf| shelf.iter())
    }

    /// As [`Shelves::iter`], the keys alone.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.iter().map(|(key, _)| key)
    }

    /// As [`Shelves::iter`], without the keys.
    pub fn values(&self) -> impl Iterator<Item = &Arc<T>> {
        self.iter().map(|(_, resource)| resource)
    }

    /// Number of resources.
    pub fn len(&self) -> usize {
        self.0.values().map(|shelf| shelf.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

// By hand, because derived ones would ask the same of `T`.
impl<T> Clone for Shelves<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Shelves<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Kind;
    use proptest::prelude::*;

    fn key(namespace: u8, name: u8) -> Key {
        Key { kind: Kind::Pod, namespace: format!("n{namespace}"), name: format!("p{name}"), group: String::new() }
    }

    proptest! {
        #[test]
        fn shelves_are_a_table_in_parts(
            first in prop::collection::vec((0u8..4, 0u8..4), 0..12),
            steps in prop::collection::vec((0u8..4, 0u8..4, any::<bool>()), 0..12),
        ) {
            let (mut shelves, mut table) = (Shelves::default(), Table::default());
            for (namespace, name) in first {
                let resource = Arc::new(());
                shelves.insert(key(namespace, name), Arc::clone(&resource));
                table.insert(key(namespace, name), resource);
            }
            let (shelves_before, table_before) = (shelves.clone(), table.clone());
            for (namespace, name, is_in) in steps {
                let resource = Arc::new(());
                if is_in {
                    shelves.insert(key(namespace, name), Arc::clone(&resource));
                    table.insert(key(namespace, name), resource);
                } else {
                    shelves.remove(&key(namespace, name));
                    table.remove(&key(namespace, name));
                }
            }
            prop_assert_eq!(shelves.iter().collect::<Vec<_>>(), table.iter().collect::<Vec<_>>());
            prop_assert_eq!((shelves.len(), shelves.is_empty()), (table.len(), table.is_empty()));
            prop_assert_eq!(shelves.changed(&shelves_before), table.changed(&table_before));
            let of = |keys: Vec<&Key>| keys.into_iter().map(|k| k.namespace.clone()).collect::<BTreeSet<_>>();
            let touched: BTreeSet<String> = shelves.touched(&shelves_before).iter().map(|n| n.to_string()).collect();
            prop_assert!(touched.is_superset(&of(table.changed(&table_before))));
        }
    }
}
