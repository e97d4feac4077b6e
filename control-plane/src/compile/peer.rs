//! PeerAuthentications: which mutual TLS a pod demands. The narrowest that says something wins; nothing said is STRICT.

use super::Settings;
use super::catalog::selects;
use super::scope::age;
use crate::index::Resources;
use crate::problem::{Problem, Severity};
use crate::source::Key;
use crate::source::resource::PeerAuthentication;
use causeway_crds::peer_authentication::{Mtls, MtlsMode};
use causeway_mesh::wire;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Every PeerAuthentication by how widely it holds, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Peers {
    mesh: Vec<Arc<PeerAuthentication>>,
    namespaces: BTreeMap<String, Vec<Arc<PeerAuthentication>>>,
    pods: BTreeMap<String, Vec<Arc<PeerAuthentication>>>,
}

/// Modes while they are narrowed down.
struct Modes {
    mode: wire::MtlsMode,
    ports: BTreeMap<u16, wire::MtlsMode>,
}

impl Peers {
    pub(super) fn new(resources: &Resources, settings: &Settings, problems: &mut Vec<Problem>) -> Self {
        let mut peers = Self::default();
        let mut all: Vec<_> = resources.peer_authentications.values().collect();
        all.sort_by(|a, b| age(&a.meta).cmp(&age(&b.meta)));
        for peer in all {
            let meta = &peer.meta;
            for port in peer.spec.port_level_mtls.keys().filter(|p| number(p).is_none()) {
                let message = format!("`{}` is not a port number; the entry is passed over", port.escape_debug());
                let field = format!("spec.portLevelMtls.{port}");
                problems.push(meta.problem(Severity::Error, "invalid_port", &field, message, "Write 1 to 65535."));
            }
            let is_wide = labels(peer).is_empty();
            let list = match (is_wide, meta.key.namespace == settings.root_namespace) {
                (true, true) => &mut peers.mesh,
                (true, false) => peers.namespaces.entry(meta.key.namespace.clone()).or_default(),
                (false, _) => peers.pods.entry(meta.key.namespace.clone()).or_default(),
            };
            if let Some(first) = list.first().filter(|_| is_wide) {
                let message = format!(
                    "{} holds for the same pods and is older or comes first by name; this one has no effect",
                    first.meta.key
                );
                problems.push(meta.problem(
                    Severity::Warning,
                    "conflicting_peer_authentication",
                    "",
                    message,
                    "Merge the two.",
                ));
            }
            list.push(Arc::clone(peer));
        }
        peers.report_conflicts(resources, problems);
        peers
    }

    /// Whether what is said of these resources depends on the pods of `namespace`.
    pub(super) fn compares_pods_of(&self, namespace: &str) -> bool {
        self.pods.get(namespace).is_some_and(|list| list.len() > 1)
    }

    /// Two that select the same pod: the later one hears of it, once.
    fn report_conflicts(&self, resources: &Resources, problems: &mut Vec<Problem>) {
        let mut told = BTreeSet::new();
        for pod in resources.pods.values() {
            let Some(list) = self.pods.get(&pod.meta.key.namespace) else { continue };
            let mut selecting = list.iter().filter(|p| selects(labels(p), &pod.meta.labels));
            let Some(first) = selecting.next() else { continue };
            for later in selecting.filter(|p| told.insert(p.meta.key.clone())) {
                let message = format!("{} selects pod {} too and wins", first.meta.key, pod.meta.key.path());
                let field = "spec.selector";
                let code = "conflicting_peer_authentication";
                problems.push(later.meta.problem(Severity::Warning, code, field, message, "Merge the two."));
            }
        }
    }

    /// Mode, and the ports that differ from it, for a pod of `namespace` with these labels.
    pub(super) fn of(&self, namespace: &str, pod: &BTreeMap<String, String>) -> (wire::MtlsMode, Vec<wire::PortMode>) {
        let mut modes = Modes { mode: wire::MtlsMode::MtlsStrict, ports: BTreeMap::new() };
        for peer in self.holding(namespace, pod) {
            modes.narrow(peer);
        }
        let Modes { mode, ports } = modes;
        let ports = ports.into_iter().filter(|(_, m)| *m != mode);
        (mode, ports.map(|(port, mode)| wire::PortMode { port: port.into(), mode: mode.into() }).collect())
    }

    /// The resources that [`Peers::of`] is made from.
    pub(super) fn parts<'a>(
        &'a self,
        namespace: &str,
        pod: &BTreeMap<String, String>,
    ) -> impl Iterator<Item = &'a Key> {
        self.holding(namespace, pod).map(|p| &p.meta.key)
    }

    /// From the widest to the narrowest.
    fn holding(
        &self,
        namespace: &str,
        pod: &BTreeMap<String, String>,
    ) -> impl Iterator<Item = &Arc<PeerAuthentication>> + use<'_> {
        let selecting = self.pods.get(namespace).into_iter().flatten().find(|p| selects(labels(p), pod));
        let namespace = self.namespaces.get(namespace).and_then(|list| list.first());
        [self.mesh.first(), namespace, selecting].into_iter().flatten()
    }
}

/// Labels that select pods. What is not understood about a selector selects the whole namespace, strictly.
fn labels(peer: &PeerAuthentication) -> &BTreeMap<String, String> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    let selector = peer.spec.selector.as_ref().filter(|_| !peer.meta.is_unsupported("spec.selector"));
    selector.map_or(&NONE, |s| &s.match_labels)
}

impl Modes {
    fn narrow(&mut self, peer: &PeerAuthentication) {
        if !peer.meta.unsupported.is_empty() {
            *self = Self { mode: wire::MtlsMode::MtlsStrict, ports: BTreeMap::new() };
            return;
        }
        if let Some(mode) = peer.spec.mtls.as_ref().and_then(mode) {
            *self = Self { mode, ports: BTreeMap::new() };
        }
        for (port, mtls) in &peer.spec.port_level_mtls {
            if let (Some(port), Some(mode)) = (number(port), mode(mtls)) {
                self.ports.insert(port, mode);
            }
        }
    }
}

fn number(port: &str) -> Option<u16> {
    port.parse().ok().filter(|p| *p > 0)
}

fn mode(mtls: &Mtls) -> Option<wire::MtlsMode> {
    match mtls.mode? {
        MtlsMode::Unset => None,
        MtlsMode::Disable => Some(wire::MtlsMode::MtlsDisable),
        MtlsMode::Permissive => Some(wire::MtlsMode::MtlsPermissive),
        MtlsMode::Strict => Some(wire::MtlsMode::MtlsStrict),
    }
}
