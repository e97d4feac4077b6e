//! Where the simulated cluster's objects are written: a directory of YAML, or a real API server.

use std::path::{Path, PathBuf};

use crate::cluster::Cluster;
use crate::plane::Plane;
use crate::world::{Workload, World};
use anyhow::Context as _;
use serde_json::Value;

/// See the module.
pub enum Source {
    /// A file per namespace, and a file for each object that changes.
    Directory(PathBuf),
    /// Objects as users, kubelets and controllers would have written them.
    Cluster(Box<Cluster>),
}

impl Source {
    /// As the control plane's `--source` wants it.
    pub fn flag(&self) -> String {
        match self {
            Self::Directory(files) => format!("dir:{}", files.display()),
            Self::Cluster(_) => "kubernetes".to_owned(),
        }
    }

    /// With what the control plane goes to the API server, where there is one.
    pub fn kubeconfig(&self) -> Option<&Path> {
        match self {
            Self::Directory(_) => None,
            Self::Cluster(cluster) => Some(cluster.kubeconfig()),
        }
    }

    /// Writes everything that stays as it is.
    ///
    /// # Errors
    /// When something cannot be written; what was written stays.
    pub async fn fill(&self, world: &World) -> anyhow::Result<()> {
        match self {
            Self::Directory(files) => world.namespaces().iter().try_for_each(|ns| write(files, ns, &world.fixed(ns))),
            Self::Cluster(cluster) => cluster.fill(world).await,
        }
    }

    /// Writes objects that change, new or known, together; in a directory, `file` holds these and no others.
    ///
    /// # Errors
    /// When they cannot be written.
    pub async fn put(&self, file: &str, objects: &[Value]) -> anyhow::Result<()> {
        match self {
            Self::Directory(files) => write(files, file, objects),
            Self::Cluster(cluster) => cluster.put(objects).await,
        }
    }

    /// A token for a workload, as its pod would be given; `state` is the control plane's.
    ///
    /// # Errors
    /// When who gives it does not.
    pub async fn token(&self, plane: &Plane, state: &Path, workload: &Workload) -> anyhow::Result<String> {
        match self {
            Self::Directory(_) => plane.token(state, workload).await,
            Self::Cluster(cluster) => cluster.token(workload).await,
        }
    }
}

/// A whole file at once, as an editor does.
fn write(directory: &Path, name: &str, objects: &[Value]) -> anyhow::Result<()> {
    let texts: Result<Vec<String>, _> = objects.iter().map(serde_yaml::to_string).collect();
    let (new, file) = (directory.join(format!("{name}.new")), directory.join(format!("{name}.yaml")));
    std::fs::write(&new, texts?.join("---\n"))?;
    std::fs::rename(&new, &file).with_context(|| format!("{}", file.display()))
}
