//! The objects of an installation: `deploy/causeway.yaml`, which is what Helm makes of the chart, with a person's choices
//! put in at named places. Pure; who prints or applies them is left to others.

use std::collections::BTreeMap;

use anyhow::{Context, anyhow, bail};
use causeway_control_plane::args::Cli;
use clap::{Args, Parser};
use kube::core::{ApiResource, GroupVersionKind};
use serde::Deserialize;
use serde_json::{Value, json};

/// The manifest as Helm renders it with the chart's own values.
pub const TEXT: &str = include_str!("../../../deploy/causeway.yaml");

const ARGS: &str = "/spec/template/spec/containers/0/args";

/// What a person may choose; what is not chosen stays as the chart has it. Named as the chart's values are.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Choices (as the values of the Helm chart)")]
pub struct Choices {
    /// How many control planes, 1 to 20 [default: 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=20))]
    pub replicas: Option<u8>,
    /// Registry (and path) before causeway/control-plane and causeway/proxy; else the nodes' own images
    #[arg(long, value_name = "REGISTRY", value_parser = registry)]
    pub image_registry: Option<String>,
    /// Tag of both images [default: the version of this command]
    #[arg(long, value_name = "TAG", value_parser = tag)]
    pub tag: Option<String>,
    /// When kubelet pulls the control plane's image: IfNotPresent, Always or Never [default: IfNotPresent]
    #[arg(long, value_name = "POLICY", value_parser = ["IfNotPresent", "Always", "Never"])]
    pub pull_policy: Option<String>,
    /// Trust domain of every identity; do not change it on a mesh that runs [default: cluster.local]
    #[arg(long, value_name = "DOMAIN")]
    pub trust_domain: Option<String>,
    /// DNS suffix of the cluster [default: cluster.local]
    #[arg(long, value_name = "DOMAIN")]
    pub cluster_domain: Option<String>,
    /// How long workloads' certificates live, e.g. 90m [default: 24h]
    #[arg(long, value_name = "DURATION")]
    pub leaf_ttl: Option<String>,
    /// Verdict for requests to workloads that no ALLOW policy selects: allow or deny [default: allow]
    #[arg(long, value_name = "VERDICT", value_parser = ["allow", "deny"])]
    pub default_policy: Option<String>,
    /// Verdict for traffic to destinations that the mesh does not know: allow or deny [default: allow]
    #[arg(long, value_name = "VERDICT", value_parser = ["allow", "deny"])]
    pub egress: Option<String>,
    /// Secret of causeway-system with a CA of your own (tls.crt, tls.key, ca.crt) [default: causeway-ca, made where missing]
    #[arg(long, value_name = "NAME", value_parser = secret)]
    pub ca_secret: Option<String>,
    /// What the control planes log: a level or a filter [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// How they log it: text or json [default: text]
    #[arg(long, value_name = "FORMAT", value_parser = ["text", "json"])]
    pub log_format: Option<String>,
}

impl Choices {
    /// Whether nothing was chosen.
    pub fn is_empty(&self) -> bool {
        let Self { replicas, image_registry, tag, pull_policy, trust_domain, cluster_domain, leaf_ttl, .. } = self;
        let Self { default_policy, egress, ca_secret, log, log_format, .. } = self;
        let texts = [image_registry, tag, pull_policy, trust_domain, cluster_domain, leaf_ttl, default_policy, egress];
        replicas.is_none() && texts.into_iter().chain([ca_secret, log, log_format]).all(Option::is_none)
    }
}

fn registry(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._:/-".contains(c);
    let text = text.trim_end_matches('/');
    if !text.is_empty() && text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(fits) {
        return Ok(text.to_owned());
    }
    Err("a registry is a host and perhaps a port and a path, e.g. registry.example.com/mirror".to_owned())
}

fn tag(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    if begins && text.len() <= 128 && text.chars().all(fits) {
        return Ok(text.to_owned());
    }
    Err("a tag has up to 128 letters, digits, `.`, `_` or `-`".to_owned())
}

fn secret(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if text.len() <= 253 && text.starts_with(edge) && text.ends_with(edge) && text.chars().all(fits) {
        return Ok(text.to_owned());
    }
    Err("a Secret's name has lower-case letters, digits, `-` and `.`".to_owned())
}

/// One object of the manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Object(pub Value);

impl Object {
    fn text(&self, pointer: &str) -> &str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// Its kind, e.g. `Deployment`.
    pub fn kind(&self) -> &str {
        self.text("/kind")
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// Its namespace; None where its kind has none.
    pub fn namespace(&self) -> Option<&str> {
        Some(self.text("/metadata/namespace")).filter(|ns| !ns.is_empty())
    }

    /// How the API server calls its kind.
    pub fn resource(&self) -> ApiResource {
        let (group, version) = self.text("/apiVersion").rsplit_once('/').unwrap_or(("", self.text("/apiVersion")));
        ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, self.kind()))
    }

    /// As a person names it: `Deployment causeway-control-plane`.
    pub fn title(&self) -> String {
        format!("{} {}", self.kind(), self.name())
    }
}

/// The objects, in the order in which they are made.
///
/// # Errors
/// A choice that the control plane itself would not take; says which.
pub fn objects(choices: &Choices) -> anyhow::Result<Vec<Object>> {
    let mut objects = serde_yaml::Deserializer::from_str(TEXT)
        .map(Value::deserialize)
        .collect::<Result<Vec<_>, _>>()
        .context("the manifest in this program cannot be read")?;
    objects.retain(|object| !object.is_null());
    let mut manifest = Manifest(objects.into_iter().map(Object).collect());
    manifest.choose(choices)?;
    manifest.check()?;
    Ok(manifest.0)
}

/// The manifest as text: untouched, with its comments, where nothing was chosen.
///
/// # Errors
/// As [`objects`].
pub fn text(choices: &Choices) -> anyhow::Result<String> {
    let objects = objects(choices)?;
    if choices.is_empty() {
        return Ok(TEXT.to_owned());
    }
    let mut text = format!("# Causeway {}, by `causeway install`\n", env!("CARGO_PKG_VERSION"));
    for object in &objects {
        text.push_str("---\n");
        text.push_str(&serde_yaml::to_string(&object.0)?);
    }
    Ok(text)
}

/// The arguments of the control plane among `objects`.
pub fn args(objects: &[Object]) -> Vec<String> {
    let deployment = objects.iter().find(|object| object.kind() == "Deployment");
    let args = deployment.and_then(|object| object.0.pointer(ARGS)).and_then(Value::as_array);
    args.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A choice that would be another than in the installation that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Name of the flag, without dashes.
    pub flag: String,
    /// As it is.
    pub before: String,
    /// As it would be.
    pub after: String,
}

impl Change {
    /// For a person.
    pub fn say(&self) -> String {
        format!("--{} was {}, becomes {}", self.flag, self.before, self.after)
    }
}

/// What differs between two lists of arguments; a flag that only one of them has is of another version and no choice.
pub fn changes(before: &[String], after: &[String]) -> Vec<Change> {
    fn split(argument: &str) -> Option<(&str, &str)> {
        argument.strip_prefix("--")?.split_once('=')
    }
    let before: BTreeMap<&str, &str> = before.iter().map(String::as_str).filter_map(split).collect();
    let differs = |(flag, after): (&str, &str)| {
        let before = *before.get(flag)?;
        (before != after).then(|| Change { flag: flag.to_owned(), before: before.to_owned(), after: after.to_owned() })
    };
    after.iter().map(String::as_str).filter_map(split).filter_map(differs).collect()
}

struct Manifest(Vec<Object>);

impl Manifest {
    fn choose(&mut self, choices: &Choices) -> anyhow::Result<()> {
        if let Some(replicas) = choices.replicas {
            *self.at("Deployment", "/spec/replicas")? = json!(replicas);
        }
        if let Some(policy) = &choices.pull_policy {
            *self.at("Deployment", "/spec/template/spec/containers/0/imagePullPolicy")? = json!(policy);
        }
        self.choose_images(choices)?;
        let flags = [
            ("trust-domain", &choices.trust_domain),
            ("cluster-domain", &choices.cluster_domain),
            ("leaf-ttl", &choices.leaf_ttl),
            ("default-policy", &choices.default_policy),
            ("egress", &choices.egress),
            ("ca-secret", &choices.ca_secret),
            ("log", &choices.log),
            ("log-format", &choices.log_format),
        ];
        for (flag, value) in flags {
            if let Some(value) = value {
                *self.flag(flag)? = json!(format!("--{flag}={value}"));
            }
        }
        match &choices.ca_secret {
            Some(name) => self.choose_ca(name),
            None => Ok(()),
        }
    }

    /// A Secret of the user's own is read, and no Secret is ever made.
    fn choose_ca(&mut self, name: &str) -> anyhow::Result<()> {
        let made_here = *self.at("Role", "/rules/0/resourceNames")? == json!([name]);
        *self.at("Role", "/rules/0/resourceNames")? = json!([name]);
        let rules = self.at("Role", "/rules")?.as_array_mut().ok_or_else(|| anyhow!("the Role has no rules"))?;
        if !made_here {
            rules.retain(|rule| rule["resources"] != json!(["secrets"]) || rule["verbs"] != json!(["create"]));
        }
        Ok(())
    }

    fn choose_images(&mut self, choices: &Choices) -> anyhow::Result<()> {
        let chosen = |image: &str| -> anyhow::Result<String> {
            let (name, tag) = image.rsplit_once(':').ok_or_else(|| anyhow!("image {image} has no tag"))?;
            let registry = choices.image_registry.as_ref().map(|r| format!("{r}/")).unwrap_or_default();
            Ok(format!("{registry}{name}:{}", choices.tag.as_deref().unwrap_or(tag)))
        };
        let image = self.at("Deployment", "/spec/template/spec/containers/0/image")?;
        *image = json!(chosen(image.as_str().unwrap_or_default())?);
        let flag = self.flag("proxy-image")?;
        let proxy = flag.as_str().unwrap_or_default().trim_start_matches("--proxy-image=").to_owned();
        *flag = json!(format!("--proxy-image={}", chosen(&proxy)?));
        Ok(())
    }

    /// The value under `pointer` of the only object of `kind`.
    fn at(&mut self, kind: &str, pointer: &str) -> anyhow::Result<&mut Value> {
        let object = self.0.iter_mut().find(|object| object.kind() == kind);
        object
            .and_then(|object| object.0.pointer_mut(pointer))
            .ok_or_else(|| anyhow!("the manifest in this program has no {kind} with {pointer}"))
    }

    /// One argument of the control plane.
    fn flag(&mut self, name: &str) -> anyhow::Result<&mut Value> {
        let prefix = format!("--{name}=");
        let args = self.at("Deployment", ARGS)?.as_array_mut();
        args.and_then(|args| args.iter_mut().find(|a| a.as_str().is_some_and(|a| a.starts_with(&prefix))))
            .ok_or_else(|| anyhow!("the manifest in this program has no argument {prefix}"))
    }

    /// Reads the arguments as the control plane will: better refused here than in a loop of crashes in the cluster.
    fn check(&mut self) -> anyhow::Result<()> {
        let args = self.at("Deployment", ARGS)?.as_array().cloned().unwrap_or_default();
        let words = args.iter().filter_map(Value::as_str);
        if let Err(error) = Cli::try_parse_from(["causeway-control-plane"].into_iter().chain(words)) {
            let first = error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
            bail!("{first}");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
