//! The documents' YAML, word for word, with what it presumes.

use super::*;
use std::path::Path;

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn the_virtual_service_of_the_first_document_splits_ten_to_ninety_for_its_namespace() {
    let pods =
        prodsvc().replace("version: stable", "version: v1-stable").replace("version: canary", "version: v1-canary");
    let model = model(&format!("{pods}---\n{}", fixture("virtualservice.yaml")));
    assert_eq!(found(&model), [] as [&str; 0]);
    let all = ["prodsvc.prod.svc.cluster.local:80", "prodsvc.prod:80", "prodsvc.prod.svc:80", "10.96.0.10:80"];
    for text in all {
        let destination = model.destination(&client("dev"), text);
        assert_eq!(kind(&destination), Kind::Service);
        assert_eq!(destination.canonical, "prodsvc.prod:80");
        assert_eq!(destination.routes.len(), 1);
        assert_eq!(destination.routes[0].name, "dev/prod-service-route#0");
        assert_eq!(
            shares(split_of(&destination.routes[0])),
            [("prodsvc.prod:80/v1-canary", 10, 10), ("prodsvc.prod:80/v1-stable", 90, 90)]
        );
        assert!(destination.http_only);
    }
    let elsewhere = model.destination(&client("staging"), all[0]);
    assert!(elsewhere.routes.is_empty());
    assert_eq!(shares(elsewhere.split.as_ref().unwrap()), [("prodsvc.prod:80", 1, 1)]);
    let canary = model.endpoints("prodsvc.prod:80/v1-canary").unwrap().endpoints;
    assert_eq!((canary.len(), canary[0].address.as_str(), canary[0].port), (1, "10.1.0.2", 8080));
    assert_eq!(canary[0].identity, "spiffe://cluster.local/ns/prod/sa/canary-sa");
}

#[test]
fn the_three_tiers_of_the_third_document_resolve_through_port_and_alias() {
    let mut text: String =
        ["backend-deployment", "frontend-deployment", "frontend-external-backend", "network-policies-complete-example"]
            .iter()
            .map(|f| format!("---\n{}", fixture(&format!("tiers/{f}.yaml"))))
            .collect();
    text += &pod("backend", "api-0", "10.2.0.1", "app: backend-api");
    text += &pod("database", "pg-0", "10.3.0.1", "app: postgres");
    text += &service("database", "postgres", "selector: {app: postgres}, ports: [{name: tcp-postgres, port: 5432}]");
    let model = model(&text);
    assert_eq!(found(&model), [] as [&str; 0]);
    for name in ["backend-api.backend.svc.cluster.local", "backend-api.backend", "backend"] {
        let destination = model.destination(&client("frontend"), &format!("{name}:80"));
        assert_eq!(
            (kind(&destination), destination.canonical.as_str()),
            (Kind::Service, "backend-api.backend:80"),
            "{name}"
        );
    }
    let api = model.endpoints("backend-api.backend:80").unwrap().endpoints;
    assert_eq!((api[0].address.as_str(), api[0].port), ("10.2.0.1", 8080));
    let postgres = model.destination(&client("backend"), "postgres.database:5432");
    assert_eq!(postgres.protocol(), wire::Protocol::Tcp);
    assert!(!postgres.http_only);
}

#[test]
fn every_example_of_the_repository_is_without_errors() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples");
    for entry in std::fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let validation = crate::validate(std::slice::from_ref(&path));
            assert!(validation.resources > 0, "{}", path.display());
            assert!(!validation.has_errors(), "{:#?}", validation.problems);
        }
    }
}
