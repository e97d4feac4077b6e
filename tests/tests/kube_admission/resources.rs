//! Our resources, and Istio's: refused, warned about, accepted.

use std::process::Stdio;

use crate::rig::Rig;

/// A good one.
pub const ROUTE: &str = "
apiVersion: causeway.dev/v1alpha1
kind: VirtualService
metadata: {name: r, namespace: dev}
spec: {hosts: [prodsvc.prod], http: [{route: [{destination: {host: prodsvc.prod}}]}]}
";

fn object(kind: &str, spec: &str) -> String {
    format!("{{apiVersion: causeway.dev/v1alpha1, kind: {kind}, metadata: {{name: r, namespace: dev}}, spec: {spec}}}")
}

fn create(rig: &Rig, text: &str) -> Result<String, String> {
    rig.kubectl_with_input(&["create", "--dry-run=server", "-f", "-"], text)
}

pub fn are_refused_by_the_schema_with_a_message(rig: &Rig) {
    let to = "destination: {host: a}";
    for (kind, spec, message) in [
        (
            "VirtualService",
            format!("{{hosts: [a], http: [{{route: [{{{to}, weight: -1}}]}}]}}"),
            "spec.http[0].route[0].weight",
        ),
        (
            "VirtualService",
            format!("{{hosts: [a], http: [{{match: [{{uri: {{exact: /a, prefix: /b}}}}], route: [{{{to}}}]}}]}}"),
            "at most one of exact, prefix and regex may be set",
        ),
        (
            "VirtualService",
            format!("{{hosts: [a], http: [{{redirect: {{uri: /x}}, route: [{{{to}}}]}}]}}"),
            "at most one of route, redirect, directResponse and delegate may be set",
        ),
        (
            "VirtualService",
            "{hosts: [a], http: [{route: [{destination: {host: a, port: {number: 65536}}}]}]}".to_owned(),
            "spec.http[0].route[0].destination.port.number",
        ),
        (
            "VirtualService",
            format!("{{hosts: [a], http: [{{split: {{key: {{header: a, cookie: b}}}}, route: [{{{to}}}]}}]}}"),
            "exactly one of header, cookie and sourceIdentity must be set",
        ),
        ("VirtualService", "{gateways: [g], http: []}".to_owned(), "hosts must name at least one host"),
        (
            "VirtualService",
            format!(
                "{{hosts: [a], http: [{{match: [{{uri: {{regex: {}}}}}], route: [{{{to}}}]}}]}}",
                "a".repeat(200_000)
            ),
            "Too long",
        ),
        (
            "DestinationRule",
            "{host: a, subsets: [{name: v1}, {name: v1}]}".to_owned(),
            "the names of subsets must differ",
        ),
        ("DestinationRule", "{subsets: []}".to_owned(), "spec.host"),
        (
            "PeerAuthentication",
            "{portLevelMtls: {\"65536\": {mode: STRICT}}}".to_owned(),
            "portLevelMtls are port numbers",
        ),
        ("PeerAuthentication", "{mtls: {mode: strict}}".to_owned(), "spec.mtls.mode"),
        ("AuthorizationPolicy", "{action: CUSTOM}".to_owned(), "the action CUSTOM needs a provider"),
    ] {
        let refused = create(rig, &object(kind, &spec)).unwrap_err();
        assert!(refused.contains(message), "{message}: {refused}");
    }
}

pub fn are_refused_by_the_webhook_with_every_field(rig: &Rig) {
    let bad = object(
        "VirtualService",
        "{hosts: [a], http: [{timeout: soon, match: [{uri: {regex: '('}}], route: [{destination: {host: a}}]}]}",
    );
    let refused = create(rig, &bad).unwrap_err();
    for part in ["VirtualService", "spec.http[0].timeout", "spec.http[0].match[0].uri.regex"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    let typo = object("AuthorizationPolicy", "{rules: [{from: [{source: {principls: [a]}}]}]}");
    let refused = rig.kubectl_with_input(&["create", "--validate=false", "-f", "-"], &typo).unwrap_err();
    assert!(refused.contains("spec.rules[0].from[0].source.principls") && refused.contains("principals"), "{refused}");
    let empty = object("AuthorizationPolicy", "{rules: [{from: [{source: {principals: []}}]}]}");
    assert!(create(rig, &empty).unwrap_err().contains("empty"));
    // What another one may delegate to, and an explicit 503.
    create(rig, &object("VirtualService", "{http: []}")).unwrap();
    let none = "{destination: {host: a}, weight: 0}";
    create(rig, &object("VirtualService", &format!("{{hosts: [a], http: [{{route: [{none}, {none}]}}]}}"))).unwrap();
}

/// What names things that are not there yet is told so, and stored; so is whatever Istio would take.
pub fn of_the_documents_are_accepted_as_written(rig: &Rig) {
    let route = include_str!("../../fixtures/virtualservice.yaml");
    let told = applied(rig, route);
    assert!(told.contains("created") && told.contains("Warning:") && told.contains("prodsvc.prod"), "{told}");
    let ours = route.replace("networking.istio.io/v1beta1", "causeway.dev/v1alpha1");
    let told = applied(rig, &ours);
    assert!(told.contains("created") && told.contains("Warning: spec.hosts[0]"), "{told}");
    let broken = "{apiVersion: networking.istio.io/v1beta1, kind: VirtualService, metadata: {name: b, namespace: dev}, \
                  spec: {hosts: [a], http: [{match: [{uri: {regex: '('}}], route: [{destination: {host: a}}]}]}}";
    let told = applied(rig, broken);
    assert!(told.contains("created") && told.contains("Warning: spec.http[0].match[0].uri.regex"), "{told}");
}

/// All that `kubectl apply` prints.
fn applied(rig: &Rig, text: &str) -> String {
    let file = rig.directory().join("apply.yaml");
    std::fs::write(&file, text).unwrap();
    let mut command = rig.kubectl_command(&["apply", "-f", &file.display().to_string()]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
