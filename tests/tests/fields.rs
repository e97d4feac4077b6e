//! The table of all fields, `docs/fields.md`, against the schemas of the others: Istio's CustomResourceDefinitions and those
//! of the Gateway API, as their users have them.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a suite")]

use std::path::Path;
use std::process::Command;

use causeway_crds::fields::leaves;
use causeway_crds::support::is_told;
use causeway_tests::capability::{Need, has};
use causeway_tests::{process, progressive};
use serde::Deserialize as _;
use serde_json::Value;

/// `(kind, path)` of every leaf below `spec` of the version that is stored.
fn fields(definitions: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for document in serde_yaml::Deserializer::from_str(definitions) {
        let definition = Value::deserialize(document).unwrap();
        let Some(versions) = definition.pointer("/spec/versions").and_then(Value::as_array) else { continue };
        let stored = versions.iter().find(|v| v["storage"] == true).unwrap();
        let Some(spec) = stored.pointer("/schema/openAPIV3Schema/properties/spec") else { continue };
        let kind = definition["spec"]["names"]["kind"].as_str().unwrap();
        let mut paths = Vec::new();
        leaves(spec, "spec", &mut paths);
        found.extend(paths.into_iter().map(|path| (kind.to_owned(), path)));
    }
    found
}

fn definitions_of_the_gateway_api() -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("gateway-api/fetch");
    let directory = process::run(Command::new(script).arg("--definitions")).ok();
    std::fs::read_to_string(Path::new(directory.trim()).join("experimental.yaml")).unwrap()
}

#[test]
fn every_field_of_istios_and_the_gateway_apis_schemas_is_in_the_table() {
    if !has(&[Need::Progressive, Need::GatewayApi]) {
        return;
    }
    let ours: Vec<_> =
        causeway_crds::manifest::manifests().into_iter().chain(causeway_crds::gateway::schemas()).collect();
    let mut looked_at = 0;
    let mut untold = Vec::new();
    for (kind, path) in [progressive::kinds("istio"), definitions_of_the_gateway_api()].iter().flat_map(|d| fields(d)) {
        // Kinds that are not read at all (Gateway, Sidecar, ...) have no fields to tell of.
        let Some(own) = ours.iter().find(|m| m.kind == kind) else { continue };
        let mut leaves_of_ours = Vec::new();
        leaves(own.spec_schema().unwrap(), "spec", &mut leaves_of_ours);
        looked_at += 1;
        if !is_told(&kind, &path, &leaves_of_ours) {
            untold.push(format!("{kind} {path}"));
        }
    }
    assert!(looked_at > 500, "only {looked_at} fields were found in their schemas");
    assert!(untold.is_empty(), "of {looked_at} fields these are not in docs/fields.md:\n{}", untold.join("\n"));
}
