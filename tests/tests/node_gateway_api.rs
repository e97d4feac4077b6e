//! The Gateway API on a real Kubernetes node: its conformance suite, and what the suite does not look at.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods, reason = "a suite")]

#[path = "node_gateway_api/exam.rs"]
mod exam;

use causeway_tests::capability::{NODE, Need, has};
use causeway_tests::kube::Node;

/// Whether this machine can run the exam.
fn can() -> bool {
    has(&[NODE, &[Need::GatewayApi, Need::Program("openssl")]].concat())
}

#[test]
fn without_a_mesh_the_exam_is_failed() {
    if !can() {
        return;
    }
    let node = Node::start();
    exam::prepare(&node);
    // What does not hold at once does not hold later: no mesh is on its way.
    let outcome = exam::take(&node, "", &["--timeout-config-overrides=MaxTimeToConsistency:2"]);
    println!("without a mesh: {} of {} passed: {:?}", outcome.ended("PASS").len(), exam::TESTS, outcome.ended("PASS"));
    assert_eq!(outcome.tests.len(), exam::TESTS, "{}", outcome.log);
    assert_eq!(outcome.ended("PASS"), ["MeshBasic"], "{}", outcome.complaints());
}

#[test]
fn the_conformance_suite_passes_22_of_22() {
    if !can() {
        return;
    }
    let node = Node::with_causeway(&[]);
    exam::prepare(&node);
    let namespaces = ["gateway-conformance-mesh", "gateway-conformance-mesh-consumer"];
    let _told = node.told(&namespaces);
    let outcome = exam::take(&node, "causeway.dev/inject=true", &["--cleanup-base-resources=false"]);
    let passed = outcome.ended("PASS");
    println!("conformance: {} of {} passed\n{}", passed.len(), exam::TESTS, outcome.complaints());
    println!("{}", serde_yaml::to_string(&outcome.report).unwrap_or_default());
    assert_eq!(passed.len(), exam::TESTS, "failed: {:?}, skipped: {:?}", outcome.ended("FAIL"), outcome.ended("SKIP"));
    assert_eq!(outcome.tests.len(), exam::TESTS);
    for profile in outcome.report["profiles"].as_array().expect("profiles") {
        for level in ["core", "extended"] {
            let result = &profile[level]["result"];
            assert!(result == "success" || result.is_null(), "{level} of {}: {result}", profile["name"]);
        }
    }
}
