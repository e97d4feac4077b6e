//! Whether traffic to what the mesh does not know passes: as the mesh's setting says, unless the namespace has the label
//! `causeway.dev/egress`.

use super::Settings;
use crate::index::Resources;
use crate::problem::{Problem, Severity};
use causeway_mesh::wire;
use std::collections::BTreeMap;

/// On a Namespace: `allow` or `deny`.
pub(super) const LABEL: &str = "causeway.dev/egress";

#[derive(Debug, Default)]
pub(super) struct Egress {
    allow: bool,
    /// Namespaces that say otherwise than the mesh, or the same.
    namespaces: BTreeMap<String, bool>,
}

impl Egress {
    pub(super) fn new(resources: &Resources, settings: &Settings, problems: &mut Vec<Problem>) -> Self {
        let mut egress = Self { allow: settings.egress_allow, namespaces: BTreeMap::new() };
        for namespace in resources.namespaces.values() {
            let Some(value) = namespace.meta.labels.get(LABEL) else { continue };
            // What is not understood was hardly meant to open anything.
            let allow = value == "allow";
            if !matches!(value.as_str(), "allow" | "deny") {
                let message = format!("`{}` is neither allow nor deny, and is taken as deny", value.escape_debug());
                let field = format!("metadata.labels.{LABEL}");
                let advice = "Write allow or deny.";
                problems.push(namespace.meta.problem(Severity::Error, "unknown_value", &field, message, advice));
            }
            egress.namespaces.insert(namespace.meta.key.name.clone(), allow);
        }
        egress
    }

    /// What holds for clients of `namespace`.
    pub(super) fn of(&self, namespace: &str) -> wire::Egress {
        match self.namespaces.get(namespace).copied().unwrap_or(self.allow) {
            true => wire::Egress::Allow,
            false => wire::Egress::Deny,
        }
    }
}
