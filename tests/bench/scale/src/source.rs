//! Where the simulated cluster's objects are written: a directory of YAML.

use std::path::{Path, PathBuf};

use crate::world::World;
use anyhow::Context as _;
use serde_json::Value;

/// A directory of YAML: a file per namespace, and a file for each object that changes.
pub struct Source(pub PathBuf);

impl Source {
    /// As the control plane's `--source` wants it.
    pub fn flag(&self) -> String {
        format!("dir:{}", self.0.display())
    }

    /// Writes everything that stays as it is.
    ///
    /// # Errors
    /// When something cannot be written; what was written stays.
    pub fn fill(&self, world: &World) -> anyhow::Result<()> {
        world.namespaces().iter().try_for_each(|ns| self.put(ns, &world.fixed(ns)))
    }

    /// Writes objects that change, new or known, together.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn put(&self, file: &str, objects: &[Value]) -> anyhow::Result<()> {
        write(&self.0, file, objects)
    }
}

/// A whole file at once, as an editor does.
fn write(directory: &Path, name: &str, objects: &[Value]) -> anyhow::Result<()> {
    let texts: Result<Vec<String>, _> = objects.iter().map(serde_yaml::to_string).collect();
    let (new, file) = (directory.join(format!("{name}.new")), directory.join(format!("{name}.yaml")));
    std::fs::write(&new, texts?.join("---\n"))?;
    std::fs::rename(&new, &file).with_context(|| format!("{}", file.display()))
}
