//! All resources of one kind. A copy is cheap and shares what it holds; whether two copies are the same is known without
//! looking into them, so that whoever works on a change sees at once which kinds it is about.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use crate::source::Key;

/// See the module. Reads as the map that it is.
#[derive(Debug)]
pub struct Table<T>(Arc<BTreeMap<Key, Arc<T>>>);

impl<T> Table<T> {
    /// Puts a resource in, in place of one of the same key. Copies made before keep what they had.
    pub fn insert(&mut self, key: Key, resource: Arc<T>) {
        Arc::make_mut(&mut self.0).insert(key, resource);
    }

    /// Takes a resource out, if it is there.
    pub fn remove(&mut self, key: &Key) {
        if self.0.contains_key(key) {
            Arc::make_mut(&mut self.0).remove(key);
        }
    }

    /// A copy that does not know that it is one.
    #[cfg(test)]
    pub(super) fn apart(&self) -> Self {
        Self(Arc::new((*self.0).clone()))
    }

    /// Whether nothing was put in or taken out since one was copied from the other.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Keys of what is new, changed or gone between `before` and this; nothing is compared but addresses.
    pub fn changed<'a>(&'a self, before: &'a Self) -> Vec<&'a Key> {
        if self.is_same(before) {
            return Vec::new();
        }
        let mut changed = Vec::new();
        let (mut now, mut then) = (self.iter().peekable(), before.iter().peekable());
        loop {
            let order = match (now.peek(), then.peek()) {
                (Some((a, _)), Some((b, _))) => a.cmp(b),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (None, None) => return changed,
            };
            let is = if order.is_le() { now.next() } else { None };
            let was = if order.is_ge() { then.next() } else { None };
            match (is, was) {
                (Some((_, is)), Some((_, was))) if Arc::ptr_eq(is, was) => {}
                (is, was) => changed.extend(is.or(was).map(|(key, _)| key)),
            }
        }
    }
}

impl<T> Deref for Table<T> {
    type Target = BTreeMap<Key, Arc<T>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<'a, T> IntoIterator for &'a Table<T> {
    type Item = (&'a Key, &'a Arc<T>);
    type IntoIter = std::collections::btree_map::Iter<'a, Key, Arc<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

// By hand, because derived ones would ask the same of `T`.
impl<T> Clone for Table<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Kind;

    fn key(name: &str) -> Key {
        Key { kind: Kind::Pod, namespace: "a".into(), name: name.into(), group: String::new() }
    }

    #[test]
    fn what_changed_is_what_was_put_in_replaced_or_taken_out() {
        let mut before = Table::default();
        for name in ["a", "b", "c", "d"] {
            before.insert(key(name), Arc::new(name.to_owned()));
        }
        let mut now = before.clone();
        assert!(now.is_same(&before) && now.changed(&before).is_empty());
        now.remove(&key("absent"));
        assert!(now.is_same(&before), "nothing was taken out");
        now.remove(&key("a"));
        now.insert(key("c"), Arc::new("c".to_owned()));
        now.insert(key("e"), Arc::new("e".to_owned()));
        let names = |table: &Table<String>, other: &Table<String>| -> Vec<String> {
            table.changed(other).into_iter().map(|k| k.name.clone()).collect()
        };
        assert_eq!(
            (names(&now, &before), names(&before, &now)),
            (vec!["a".into(), "c".into(), "e".into()], vec!["a".into(), "c".into(), "e".into()])
        );
        assert_eq!(before.len(), 4, "the copy from before is as it was");
    }
}
