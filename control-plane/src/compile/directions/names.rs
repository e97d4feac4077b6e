//! The names of Services that routes and rules say anything about: while what these mean is the same, they say the same.

use crate::compile::asked::{Asked, Topic};
use crate::compile::catalog::Catalog;
use crate::compile::lowered::Reference;
use crate::compile::routes::Routes;
use crate::compile::scope::full;
use crate::compile::{Name, Settings, gateway};
use crate::index::Resources;
use std::collections::BTreeSet;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Names {
    all: BTreeSet<Name>,
    /// Of hosts that begin with `*`, what follows.
    suffixes: BTreeSet<String>,
    /// Some backend is not valid, whatever its name is: any Service may be the one.
    may_be_any: bool,
}

impl Names {
    /// Of what `resources` say, before it is judged, and of what `routes` that were made of it lead to.
    pub(super) fn of<'a>(
        resources: &Resources,
        routes: impl IntoIterator<Item = &'a Routes>,
        catalog: &Catalog,
        settings: &Settings,
    ) -> Self {
        let (mut names, asked) = (Self::default(), Asked::default());
        let virtual_services =
            resources.virtual_services.values().flat_map(|v| v.spec.hosts.iter().map(|h| (&v.meta, h)));
        let rules = resources.destination_rules.values().map(|rule| (&rule.meta, &rule.spec.host));
        for (meta, host) in virtual_services.chain(rules) {
            match host.trim_end_matches('.').to_ascii_lowercase().strip_prefix('*') {
                Some(suffix) => drop(names.suffixes.insert(suffix.to_owned())),
                None => asked.named(host, &meta.key.namespace, catalog, settings),
            }
        }
        for (key, parents) in gateway::parents(resources) {
            parents.services.iter().for_each(|(_, parent)| asked.service(&gateway::named(parent, &key.namespace)));
        }
        names.note(&asked);
        routes.into_iter().for_each(|routes| names.add(routes, catalog, settings));
        names
    }

    /// Adds what these routes are about and lead to, good or not.
    fn add(&mut self, routes: &Routes, catalog: &Catalog, settings: &Settings) {
        let asked = Asked::default();
        for resource in &routes.all {
            resource.attachments.iter().for_each(|at| asked.service(&at.service));
            asked.references(resource, catalog, settings);
            self.may_be_any |= resource.references().any(|reference| matches!(reference, Reference::Broken(_)));
        }
        self.note(&asked);
    }

    /// Whether something is said about `name`, be it that it is not there.
    pub(super) fn hold(&self, name: &Name, settings: &Settings) -> bool {
        let is_meant = || {
            let full = full(name, settings);
            self.suffixes.iter().any(|suffix| full.ends_with(&**suffix))
        };
        self.may_be_any || self.all.contains(name) || !self.suffixes.is_empty() && is_meant()
    }

    fn note(&mut self, asked: &Asked) {
        self.all.extend(asked.topics().into_iter().filter_map(|topic| match topic {
            Topic::Service(name) => Some(name),
            _ => None,
        }));
    }
}
