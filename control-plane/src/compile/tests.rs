#![allow(clippy::unwrap_used)]
//! The model, judged by what it answers.

mod actions;
mod churn;
mod delegates;
pub(crate) mod incremental;
mod outside;
mod parts;
mod policies;
mod problems;
pub(crate) mod properties;
mod resolving;
mod routing;
mod seeds;
mod sequences;
mod traffic;
mod versions;

use super::*;
use crate::source::Event;
use crate::source::read::{Outcome, items, object};
use crate::source::resource::Origin;
use crate::source::yaml::documents;
use causeway_mesh::wire::destination::Kind;

/// Reads `text` as the directory source would read a file of it.
fn events(text: &str) -> Vec<Event> {
    let mut events = Vec::new();
    for document in documents(text).unwrap() {
        for (_, value) in items(document.value) {
            let origin = Origin { file: "f.yaml".into(), line: document.line, lines: document.lines.clone() };
            events.push(match object(&value, &origin) {
                Outcome::Usable(resource, problems) => Event::Upsert { resource, problems },
                Outcome::Refused(_, problems, Some(resource)) => Event::Upsert { resource, problems },
                Outcome::Refused(key, problems, None) => Event::Refused { key, generation: 0, problems },
                Outcome::Passed(problem) => Event::Report(vec![problem]),
            });
        }
    }
    events
}

fn compiled(events: Vec<Event>, settings: &Settings) -> Model {
    let mut resources = Resources::default();
    events.into_iter().for_each(|e| resources.apply(e));
    compile(&Arc::new(resources), settings)
}

pub(in crate::compile) fn model(text: &str) -> Model {
    compiled(events(text), &Settings::default())
}

pub(in crate::compile) fn client(namespace: &str) -> Client {
    Client { namespace: namespace.into(), account: "web".into(), pod: "web".into() }
}

/// Problems that are more than a note, as `code field`.
pub(in crate::compile) fn found(model: &Model) -> Vec<String> {
    use crate::problem::Severity;
    let catalogue = include_str!("../../../docs/problems.md");
    for problem in model.problems() {
        assert!(catalogue.contains(&format!("`{}`", problem.code)), "{} is not in docs/problems.md", problem.code);
    }
    let real = model.problems().iter().filter(|p| p.severity != Severity::Note);
    real.map(|p| format!("{} {}", p.code, p.field)).collect()
}

fn kind(found: &wire::Destination) -> Kind {
    found.kind()
}

/// `(backend, weight, effective)`
pub(in crate::compile) fn shares(split: &wire::Split) -> Vec<(&str, u32, u32)> {
    split.backends.iter().map(|w| (w.backend.as_str(), w.weight, w.effective)).collect()
}

pub(in crate::compile) fn split_of(route: &wire::Route) -> &wire::Split {
    let Some(wire::route::Action::Split(split)) = &route.action else { panic!("{route:?}") };
    split
}

pub(in crate::compile) fn pod(namespace: &str, name: &str, ip: &str, labels: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{causeway.dev/injected: \"true\", {labels}}}}}\n\
         spec: {{serviceAccountName: {name}-sa, containers: [{{name: c, ports: [{{name: web, containerPort: 8080}}]}}]}}\nstatus: {{podIP: {ip}}}\n"
    )
}

pub(in crate::compile) fn service(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n"
    )
}

fn custom(kind: &str, namespace: &str, name: &str, spec: &str) -> String {
    let spec: String = spec.trim_matches('\n').lines().map(|l| format!("  {l}\n")).collect();
    format!(
        "---\napiVersion: causeway.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n{spec}"
    )
}

/// `prodsvc` in prod: port 80 to 8080, a stable and a canary pod, subsets in a DestinationRule of prod.
fn prodsvc() -> String {
    [
        service(
            "prod",
            "prodsvc",
            "clusterIP: 10.96.0.10, selector: {app: prodsvc}, ports: [{name: http, port: 80, targetPort: 8080}]",
        ),
        pod("prod", "stable", "10.1.0.1", "app: prodsvc, version: stable"),
        pod("prod", "canary", "10.1.0.2", "app: prodsvc, version: canary"),
        pod("dev", "web", "10.1.0.9", "app: web"),
        custom("DestinationRule", "prod", "prodsvc", SUBSETS),
    ]
    .concat()
}

const SUBSETS: &str = "
host: prodsvc
subsets:
- {name: v1-stable, labels: {version: stable}}
- {name: v1-canary, labels: {version: canary}}";

const SPLIT: &str = "
hosts: [prodsvc.prod.svc.cluster.local]
http:
- route:
  - {destination: {host: prodsvc.prod.svc.cluster.local, subset: v1-canary}, weight: 10}
  - {destination: {host: prodsvc.prod.svc.cluster.local, subset: v1-stable}, weight: 90}";
