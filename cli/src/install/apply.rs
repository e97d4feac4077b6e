//! Puts the objects of an installation into a cluster by server-side apply, a step at a time. Whether they then work is
//! left to `wait`.

use anyhow::{Context, bail};
use kube::Api;
use kube::api::{DynamicObject, ObjectMeta, Patch, PatchParams};

use crate::cluster::{CONTROL_PLANE, Cluster, NAMESPACE};
use crate::install::manifest::Object;

/// Who we are among those who own fields. What others own (caBundle, the Lease's holder) is left to them.
const MANAGER: &str = "causeway-install";

/// Objects that are made together, and what they are called on a progress line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Where everything lives.
    Namespace,
    /// The user's API.
    Definitions,
    /// ServiceAccount and rights.
    Permissions,
    /// Service, budget, NetworkPolicy, Lease.
    Surroundings,
    /// The Deployment.
    ControlPlane,
    /// Webhooks and admission policy; last, so that they never call somebody who was not even made.
    Admission,
}

impl Step {
    /// All steps, in order.
    pub const ALL: [Self; 6] = [
        Self::Namespace,
        Self::Definitions,
        Self::Permissions,
        Self::Surroundings,
        Self::ControlPlane,
        Self::Admission,
    ];

    /// The step of an object of `kind`.
    pub fn of(kind: &str) -> Self {
        match kind {
            "Namespace" => Self::Namespace,
            "CustomResourceDefinition" => Self::Definitions,
            "ServiceAccount" | "ClusterRole" | "ClusterRoleBinding" | "Role" | "RoleBinding" => Self::Permissions,
            "Deployment" => Self::ControlPlane,
            "MutatingWebhookConfiguration"
            | "ValidatingWebhookConfiguration"
            | "ValidatingAdmissionPolicy"
            | "ValidatingAdmissionPolicyBinding" => Self::Admission,
            _ => Self::Surroundings,
        }
    }

    /// For a person.
    pub fn title(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::Definitions => "definitions",
            Self::Permissions => "permissions",
            Self::Surroundings => "service, network policy, lease",
            Self::ControlPlane => "control plane",
            Self::Admission => "webhooks and admission policy",
        }
    }
}

/// What applying did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Objects that were not there.
    pub created: usize,
    /// Objects that differed.
    pub changed: usize,
    /// Objects that were right already.
    pub unchanged: usize,
}

impl Done {
    /// `3 created, 1 unchanged`.
    pub fn say(self) -> String {
        let parts = [(self.created, "created"), (self.changed, "changed"), (self.unchanged, "unchanged")];
        let said: Vec<_> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        said.join(", ")
    }
}

/// The API of an object's kind, in its namespace.
pub fn api(cluster: &Cluster, object: &Object) -> Api<DynamicObject> {
    match object.namespace() {
        Some(namespace) => Api::namespaced_with(cluster.client(), namespace, &object.resource()),
        None => Api::all_with(cluster.client(), &object.resource()),
    }
}

/// Refuses a cluster where Helm looks after Causeway: two who apply would undo each other.
///
/// # Errors
/// Helm installed it, or the API server cannot be asked.
pub async fn refuse_helm(cluster: &Cluster, instead: &str) -> anyhow::Result<()> {
    let deployments: Api<k8s_openapi::api::apps::v1::Deployment> = Api::namespaced(cluster.client(), NAMESPACE);
    let Some(found) = cluster.ask(deployments.get_metadata_opt(CONTROL_PLANE)).await? else {
        return Ok(());
    };
    match found.metadata.annotations.unwrap_or_default().get("meta.helm.sh/release-name") {
        Some(release) => bail!("Helm installed Causeway here (release {release}); use: {instead}"),
        None => Ok(()),
    }
}

/// The arguments of the control plane that is installed; none where none is.
///
/// # Errors
/// The API server cannot be asked.
pub async fn installed_args(cluster: &Cluster) -> anyhow::Result<Vec<String>> {
    let deployments: Api<k8s_openapi::api::apps::v1::Deployment> = Api::namespaced(cluster.client(), NAMESPACE);
    let found = cluster.ask(deployments.get_opt(CONTROL_PLANE)).await?;
    let pod = found.and_then(|d| d.spec).and_then(|s| s.template.spec);
    Ok(pod.and_then(|p| p.containers.into_iter().next()).and_then(|c| c.args).unwrap_or_default())
}

/// Applies `objects`, those of one step.
///
/// # Errors
/// The first object that the API server refuses, by its name. What came before it stays; running again goes on.
pub async fn apply<'o>(cluster: &Cluster, objects: impl Iterator<Item = &'o Object>) -> anyhow::Result<Done> {
    let mut done = Done::default();
    for object in objects {
        let api = api(cluster, object);
        let before = cluster.ask(api.get_metadata_opt(object.name())).await.with_context(|| object.title())?;
        let parameters = PatchParams::apply(MANAGER).force();
        let patch = Patch::Apply(&object.0);
        let after = cluster.ask(api.patch(object.name(), &parameters, &patch)).await.with_context(|| object.title())?;
        match before {
            None => done.created += 1,
            Some(before) if is_as_before(&before.metadata, &after.metadata) => done.unchanged += 1,
            Some(_) => done.changed += 1,
        }
    }
    Ok(done)
}

/// Whether our apply changed nothing. The version alone does not tell: a policy with a status gets a new one each time.
fn is_as_before(before: &ObjectMeta, after: &ObjectMeta) -> bool {
    let what = |metadata: &ObjectMeta| (metadata.generation, metadata.labels.clone(), metadata.annotations.clone());
    before.resource_version == after.resource_version || before.generation.is_some() && what(before) == what(after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install::manifest::{Choices, objects};

    #[test]
    fn every_object_belongs_to_a_step_and_webhooks_come_last() {
        let objects = objects(&Choices::default()).expect("objects");
        for step in Step::ALL {
            assert!(objects.iter().any(|o| Step::of(o.kind()) == step), "{step:?} has no object");
        }
        assert!(Step::ALL.is_sorted());
        let last: Vec<_> = objects.iter().filter(|o| Step::of(o.kind()) == Step::Admission).collect();
        assert_eq!(last.len(), 4);
    }

    #[test]
    fn an_object_of_the_same_generation_and_labels_was_not_changed() {
        let meta = |version: &str, generation: Option<i64>, label: &str| ObjectMeta {
            resource_version: Some(version.to_owned()),
            generation,
            labels: Some([("version".to_owned(), label.to_owned())].into()),
            ..ObjectMeta::default()
        };
        let before = meta("1", Some(1), "a");
        assert!(is_as_before(&before, &before));
        assert!(is_as_before(&before, &meta("2", Some(1), "a")));
        assert!(!is_as_before(&before, &meta("2", Some(2), "a")));
        assert!(!is_as_before(&before, &meta("2", Some(1), "b")));
        assert!(!is_as_before(&meta("1", None, "a"), &meta("2", None, "a")));
    }

    #[test]
    fn what_was_done_is_said_without_zeros() {
        assert_eq!(Done { created: 3, changed: 0, unchanged: 1 }.say(), "3 created, 1 unchanged");
        assert_eq!(Done::default().say(), "");
    }
}
