//! The tiers of the third seed document: frontend, backend-api and a real PostgreSQL, in three namespaces.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use causeway_tests::capability::{Need, has, postgres_programs};
use causeway_tests::process::{Output, run};
use causeway_tests::yaml::Port;
use causeway_tests::{Mesh, Pod, PodSpec, Settings, until};

const BACKEND: &str = include_str!("../fixtures/tiers/backend-deployment.yaml");
const ALIAS: &str = include_str!("../fixtures/tiers/frontend-external-backend.yaml");
const PASSED_OVER: &[(&str, &str)] = &[
    ("frontend-deployment.yaml", include_str!("../fixtures/tiers/frontend-deployment.yaml")),
    ("default-deny-all.yaml", include_str!("../fixtures/tiers/network-policies-default-deny-all.yaml")),
    ("allow-frontend.yaml", include_str!("../fixtures/tiers/network-policies-backend-allow-frontend.yaml")),
    ("complete-example.yaml", include_str!("../fixtures/tiers/network-policies-complete-example.yaml")),
];

/// Nobody may call anybody, but frontend the backend, and the backend the database.
const POLICIES: &str = "
apiVersion: causeway.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: deny-by-default, namespace: causeway-system}
spec: {}
---
apiVersion: causeway.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: frontend-to-backend, namespace: backend}
spec:
  selector: {matchLabels: {app: backend-api}}
  action: ALLOW
  rules:
  - from: [{source: {principals: [cluster.local/ns/frontend/sa/frontend]}}]
    to: [{operation: {ports: [\"8080\"]}}]
---
apiVersion: causeway.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: backend-to-database, namespace: database}
spec:
  selector: {matchLabels: {app: postgres}}
  action: ALLOW
  rules:
  - from: [{source: {namespaces: [backend]}}]
    to: [{operation: {ports: [\"5432\"]}}]
";

struct Tiers {
    frontend: Pod,
    backend: Pod,
    database: Pod,
    _mesh: Mesh,
}

fn tiers() -> Tiers {
    let mesh = Mesh::start(Settings::default());
    mesh.write("policies.yaml", POLICIES);
    for (name, text) in PASSED_OVER {
        mesh.write(name, text);
    }
    // The API server gives a Service its address; the rest stands as the document has it.
    let cluster = mesh.cluster_address("backend", "backend-api");
    let addressed = BACKEND.replacen(
        "spec:\n  selector:\n    app: backend-api\n  ports",
        &format!("spec:\n  clusterIP: {}\n  selector:\n    app: backend-api\n  ports", cluster.ip),
        1,
    );
    assert!(addressed.contains("clusterIP"));
    mesh.write("backend.yaml", &addressed);
    mesh.write("alias.yaml", ALIAS);
    mesh.alias("frontend", "backend", cluster);
    mesh.service(
        "database",
        "postgres",
        &[Port { name: "postgres", port: 5432, target: 5432 }],
        &[("app", "postgres")],
    );

    let mut database = mesh.pod(PodSpec::new("database", "postgres"));
    let mut backend = mesh.pod(PodSpec::new("backend", "backend-api"));
    let frontend = mesh.pod(PodSpec::new("frontend", "frontend"));
    backend.serve_http("backend-api", 8080);
    start_postgres(&mesh, &mut database);
    let tiers = Tiers { frontend: frontend.ready(), backend: backend.ready(), database: database.ready(), _mesh: mesh };
    until("the backend reaches the database", Duration::from_secs(30), || {
        let output = psql(&tiers.backend, "postgres.database.svc.cluster.local", "select 1");
        if output.code == Some(0) { Ok(()) } else { Err(output.stderr) }
    });
    tiers
}

fn start_postgres(mesh: &Mesh, pod: &mut Pod) {
    let programs = postgres_programs().unwrap();
    let data = mesh.path("scratch/pgdata").display().to_string();
    let uid: u32 = run(std::process::Command::new("id").args(["-u", "postgres"])).ok().trim().parse().unwrap();
    let initdb = programs.join("initdb");
    run(pod.net().command_as(uid, &initdb).args(["-D", &data, "-A", "trust", "-U", "postgres", "--no-sync"])).ok();
    std::fs::write(
        mesh.path("scratch/pgdata/pg_hba.conf"),
        "local all all trust\nhost all all 0.0.0.0/0 trust\nhost all all ::/0 trust\n",
    )
    .unwrap();
    let mut command = pod.net().command_as(uid, programs.join("postgres"));
    command.args(["-D", &data, "-c", "listen_addresses=*", "-c", "fsync=off", "-k", &data]);
    pod.spawn(&mut command).wait_for_log("ready to accept connections", Duration::from_secs(30));
}

fn psql(pod: &Pod, host: &str, query: &str) -> Output {
    let target = format!("host={host} user=postgres dbname=postgres connect_timeout=5");
    run(pod.command("psql").args(["-X", "-A", "-t", "-c", query, &target]))
}

fn needs() -> bool {
    has(&[Need::Namespaces, Need::Program("curl"), Need::Program("psql"), Need::Program("pgbench"), Need::Postgres])
}

#[test]
fn each_tier_reaches_the_next_by_every_name_and_no_other() {
    if !needs() {
        return;
    }
    let tiers = tiers();
    for host in ["backend-api.backend.svc.cluster.local", "backend-api.backend.svc", "backend-api.backend", "backend"] {
        let reply = until("the frontend reaches the backend", Duration::from_secs(20), || {
            let reply = tiers.frontend.curl(&[&format!("http://{host}/headers/health")]);
            if reply.status == 200 { Ok(reply) } else { Err(format!("{host}: {reply:?}")) }
        });
        let seen = reply.json();
        assert_eq!(seen["app"], "backend-api", "{host}");
        let caller = "URI=spiffe://cluster.local/ns/frontend/sa/frontend";
        assert!(seen["headers"].to_string().contains(caller), "{seen}");
    }
    let refused = psql(&tiers.frontend, "postgres.database", "select 1");
    assert_ne!(refused.code, Some(0), "the frontend must not reach the database: {refused:?}");
    let refused = tiers.database.curl(&["http://backend-api.backend/"]);
    assert_eq!((refused.status, refused.code()), (403, "policy_denied"), "{refused:?}");
}

#[test]
fn postgres_serves_queries_and_a_benchmark_through_the_mesh() {
    if !needs() {
        return;
    }
    let tiers = tiers();
    let rows = psql(&tiers.backend, "postgres.database", "select count(*) from generate_series(1, 200000)").ok();
    assert_eq!(rows.trim(), "200000");
    let long = psql(&tiers.backend, "postgres.database", "select repeat('x', 5000000)").ok();
    assert_eq!(long.trim().len(), 5_000_000);
    let pgbench = |arguments: &[&str]| {
        let mut command = tiers.backend.command("pgbench");
        run(command.args(["-h", "postgres.database.svc", "-U", "postgres"]).args(arguments).arg("postgres"))
    };
    pgbench(&["-i", "-q", "-s", "1"]).ok();
    let report = pgbench(&["-c", "8", "-j", "2", "-T", "5"]);
    assert_eq!(report.code, Some(0), "{report:?}");
    assert!(report.stdout.contains("number of failed transactions: 0 "), "{report:?}");
}
