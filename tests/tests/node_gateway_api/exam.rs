//! The Gateway API's conformance suite, run as its own program against a node, and what it said.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use causeway_tests::kube::{Node, images};
use causeway_tests::process::run;

/// The namespaces that the suite makes.
const NAMESPACES: [&str; 2] = ["gateway-conformance-mesh", "gateway-conformance-mesh-consumer"];

/// The tests of the mesh that the suite has.
const TESTS: usize = 22;

/// Features of no profile, and the extended ones of a profile. A test whose features are not all named is skipped
/// without a word, so everything is named that is not a Gateway's.
const FEATURES: &[&str] = &[
    "Mesh",
    "MeshClusterIPMatching",
    "MeshConsumerRoute",
    "MeshHTTPRouteBackendRequestHeaderModification",
    "MeshHTTPRouteNamedRouteRule",
    "MeshHTTPRouteQueryParamMatching",
    "MeshHTTPRouteRedirectPath",
    "MeshHTTPRouteRedirectPort",
    "MeshHTTPRouteRewritePath",
    "MeshHTTPRouteSchemeRedirect",
    "GRPCRoute",
    "GRPCRouteNamedRouteRule",
    "HTTPRoute",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendTimeout",
    "HTTPRouteCORS",
    "HTTPRouteDestinationPortMatching",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestMirror",
    "HTTPRouteRequestMultipleMirrors",
    "HTTPRouteRequestPercentageMirror",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteRetry",
    "HTTPRouteRetryBackendTimeout",
    "HTTPRouteRetryConnectionError",
    "HTTPRouteSchemeRedirect",
    "ReferenceGrant",
];

/// What `tests/gateway-api/fetch` made: the suite, the definitions of each channel, the image's name.
pub(super) fn kit() -> &'static Path {
    static KIT: OnceLock<PathBuf> = OnceLock::new();
    KIT.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("gateway-api/fetch");
        PathBuf::from(run(&mut Command::new(script)).ok().trim())
    })
}

/// Makes a cluster ready for the exam: the Gateway API's definitions, and the image that the suite wants.
pub(super) fn prepare(node: &Node) {
    let definitions = kit().join("experimental.yaml").display().to_string();
    // By the server: a definition is larger than the annotation in which kubectl would keep it.
    node.kubectl(&["apply", "--server-side", "-f", &definitions]).expect("definitions of the Gateway API");
    node.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"]).expect("established");
    let image = std::fs::read_to_string(kit().join("image")).expect("the image's name");
    let out = tempfile::tempdir().expect("temporary directory");
    node.load_image(&images::echo(out.path(), image.trim()));
}

/// What an exam said.
struct Outcome {
    /// Each test of the mesh with `PASS`, `FAIL` or `SKIP`.
    tests: BTreeMap<String, String>,
    /// The suite's ConformanceReport; null where it wrote none.
    report: serde_json::Value,
    /// All that it printed.
    log: String,
}

impl Outcome {
    /// The names of the tests that ended so.
    fn ended(&self, how: &str) -> Vec<&str> {
        self.tests.iter().filter(|(_, end)| *end == how).map(|(name, _)| name.as_str()).collect()
    }

    /// The lines that explain the failures.
    fn complaints(&self) -> String {
        let telling = |line: &&str| {
            ["--- FAIL", "not ready yet", "Error:", "failed (", "Error Trace"].iter().any(|sign| line.contains(sign))
        };
        let mut lines: Vec<&str> = self.log.lines().filter(telling).collect();
        lines.dedup_by_key(|line| line.split_once("not ready yet").map_or(*line, |(_, rest)| rest.trim_end()));
        lines[lines.len().saturating_sub(120)..].join("\n")
    }
}

/// Runs the suite; `labels` come to its namespaces, `more` are further flags of it.
fn take(node: &Node, labels: &str, more: &[&str]) -> Outcome {
    let directory = tempfile::tempdir().expect("temporary directory");
    let report = directory.path().join("report.yaml");
    let mut command = Command::new(kit().join("suite"));
    for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"] {
        command.env_remove(name); // the node is on this machine
    }
    command.env("KUBECONFIG", node.kubeconfig()).current_dir(directory.path());
    command.args(["-test.v", "-test.timeout=20m", "--conformance-profiles=MESH-HTTP,MESH-GRPC"]);
    command.arg(format!("--supported-features={}", FEATURES.join(",")));
    command.arg(format!("--namespace-labels={labels}"));
    command.args(["--organization=Causeway", "--project=causeway", "--url=https://causeway.dev", "--contact=none"]);
    command.arg(format!("--version={}", env!("CARGO_PKG_VERSION")));
    command.arg(format!("--report-output={}", report.display())).args(more);
    let output = run(&mut command);
    let report = std::fs::read_to_string(report).unwrap_or_default();
    let log = format!("{}{}", output.stdout, output.stderr);
    if let Some(file) = std::env::var_os("CAUSEWAY_EXAM_LOG") {
        std::fs::write(file, &log).expect("log of the exam");
    }
    Outcome { tests: results(&log), report: serde_yaml::from_str(&report).unwrap_or_default(), log }
}

/// `    --- PASS: TestConformance/MeshBasic (0.64s)` for each test of the mesh; what is below a test is not one.
fn results(log: &str) -> BTreeMap<String, String> {
    let result = |line: &str| {
        let (end, rest) = line.trim_start().strip_prefix("--- ")?.split_once(": TestConformance/")?;
        let name = rest.split_whitespace().next()?;
        (name.starts_with("Mesh") && !name.contains('/')).then(|| (name.to_owned(), end.to_owned()))
    };
    log.lines().filter_map(result).collect()
}

/// Whether the conformance suite passes, and fails where there is no mesh: a test that cannot fail says nothing.
#[test]
fn the_conformance_suite_passes_22_of_22_and_one_without_proxies() {
    let Some(node) = crate::node() else { return };
    let _told = node.told(&NAMESPACES);
    // What does not hold at once does not hold later, since no mesh is on its way; so often in a row is no chance.
    let hurry = "--timeout-config-overrides=MaxTimeToConsistency:3;RequiredConsecutiveSuccesses:16";
    let without = take(node, "causeway.dev/inject=false", &[hurry]);
    println!("without proxies: {} of {TESTS} passed: {:?}", without.ended("PASS").len(), without.ended("PASS"));
    assert_eq!(without.ended("PASS"), ["MeshBasic"], "{}", without.complaints());
    assert_eq!(without.tests.len(), TESTS, "{:?}", without.tests);
    let gone = [&["wait", "--for=delete", "--timeout=120s", "ns"], &NAMESPACES[..]].concat();
    node.kubectl(&gone).expect("the control run's namespaces end");

    let outcome = take(node, "causeway.dev/inject=true", &["--cleanup-base-resources=false"]);
    let passed = outcome.ended("PASS");
    println!("conformance: {} of {TESTS} passed\n{}", passed.len(), outcome.complaints());
    println!("{}", serde_yaml::to_string(&outcome.report).unwrap_or_default());
    assert_eq!(passed.len(), TESTS, "failed: {:?}, skipped: {:?}", outcome.ended("FAIL"), outcome.ended("SKIP"));
    assert_eq!(outcome.tests.len(), TESTS, "{:?}", outcome.tests);
    for profile in outcome.report["profiles"].as_array().expect("profiles") {
        for level in ["core", "extended"] {
            let result = &profile[level]["result"];
            assert!(result == "success" || result.is_null(), "{level} of {}: {result}", profile["name"]);
        }
    }
    node.kubectl(&[&["delete", "--wait=false", "ns"], &NAMESPACES[..]].concat()).expect("deletion");
}
