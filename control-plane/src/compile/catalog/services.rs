//! Every Service by namespace and name, hosts of ServiceEntries included. A copy shares the namespaces in which nothing changes.

use super::name_of;
use crate::compile::Name;
use crate::index::Resources;
use crate::source::resource::Service;
use std::collections::BTreeMap;
use std::sync::Arc;

/// See the module. No namespace in it is empty.
#[derive(Clone, Debug, Default)]
pub(in crate::compile) struct Services(BTreeMap<Arc<str>, Arc<BTreeMap<String, Arc<Service>>>>);

impl Services {
    /// Those that are Services.
    pub(super) fn new(resources: &Resources) -> Self {
        let mut services = Self::default();
        resources.services.iter().for_each(|(key, service)| services.insert(name_of(key), Arc::clone(service)));
        services
    }

    pub(in crate::compile) fn get(&self, (namespace, name): &Name) -> Option<&Arc<Service>> {
        self.0.get(&**namespace)?.get(name)
    }

    pub(in crate::compile) fn contains_key(&self, name: &Name) -> bool {
        self.get(name).is_some()
    }

    /// Those of one namespace, by name.
    pub(in crate::compile) fn of(&self, namespace: &str) -> impl Iterator<Item = (&String, &Arc<Service>)> {
        self.0.get(namespace).into_iter().flat_map(|all| all.iter())
    }

    /// All of them, by namespace and name.
    pub(in crate::compile) fn iter(&self) -> impl Iterator<Item = (&str, &String, &Arc<Service>)> {
        self.0.iter().flat_map(|(namespace, all)| all.iter().map(|(name, service)| (&**namespace, name, service)))
    }

    /// As [`Services::iter`], without the names.
    pub(in crate::compile) fn values(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.iter().map(|(_, _, service)| service)
    }

    pub(super) fn insert(&mut self, (namespace, name): Name, service: Arc<Service>) {
        Arc::make_mut(self.0.entry(namespace.into()).or_default()).insert(name, service);
    }

    pub(super) fn remove(&mut self, (namespace, name): &Name) {
        let Some(all) = self.0.get_mut(&**namespace) else { return };
        Arc::make_mut(all).remove(name);
        if all.is_empty() {
            self.0.remove(&**namespace);
        }
    }
}
