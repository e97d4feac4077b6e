//! The three tiers of the documents with a real PostgreSQL: everything denied, three flows named, the documents'
//! NetworkPolicies applied as they stand. (This node's network does not enforce those; they must do no harm.)

use std::time::Duration;

use causeway_tests::kube::{Inside, images};
use causeway_tests::process::run;
use causeway_tests::until;

use crate::{ROLLOUT, namespace, node};

const BACKEND: &str = include_str!("../../fixtures/tiers/backend-deployment.yaml");
const FRONTEND: &str = include_str!("../../fixtures/tiers/frontend-deployment.yaml");
const ALIAS: &str = include_str!("../../fixtures/tiers/frontend-external-backend.yaml");
const NETWORK_POLICIES: &[&str] = &[
    include_str!("../../fixtures/tiers/network-policies-default-deny-all.yaml"),
    include_str!("../../fixtures/tiers/network-policies-backend-allow-frontend.yaml"),
    include_str!("../../fixtures/tiers/network-policies-backend-allow-egress-to-database.yaml"),
    include_str!("../../fixtures/tiers/network-policies-complete-example.yaml"),
];
const AUTHORIZATION: &str = include_str!("../../../deploy/examples/three-tiers/presumed/authorization.yaml");

const DATABASE: &str = "
apiVersion: v1
kind: Service
metadata: {name: postgres, namespace: database}
spec:
  selector: {app: postgres}
  ports: [{name: tcp-postgres, port: 5432, targetPort: 5432}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: postgres, namespace: database}
spec:
  serviceName: postgres
  selector: {matchLabels: {app: postgres}}
  template:
    metadata: {labels: {app: postgres}}
    spec:
      containers:
      - name: app
        image: causeway-test/postgres:1
        env:
        - {name: POSTGRES_PASSWORD, value: correct-horse}
        - {name: PGDATA, value: /data/pg}
        ports: [{containerPort: 5432}]
        readinessProbe:
          exec: {command: [pg_isready, -h, 127.0.0.1]}
          periodSeconds: 1
        volumeMounts: [{name: data, mountPath: /data}]
      securityContext: {fsGroup: 999}
      volumes: [{name: data, emptyDir: {}}]
";

/// The document's Deployment with an image that exists here.
fn with_image(text: &str, image: &str, name: &str) -> String {
    let line = format!("image: {image}");
    assert!(text.contains(&line));
    let ours = format!("image: causeway-test/app:1\n          args: [http, --name, {name}, --listen, \"[::]:8080\"]");
    text.replace(&line, &ours)
}

fn psql(inside: &Inside, host: &str, query: &str) -> causeway_tests::Output {
    let target = format!("host={host} user=postgres dbname=postgres connect_timeout=5");
    let mut command = inside.command("psql");
    run(command.env("PGPASSWORD", "correct-horse").args(["-X", "-A", "-t", "-c", query, &target]))
}

#[test]
fn three_tiers_with_postgresql_reach_the_next_by_every_name_and_no_other() {
    let Some(node) = node() else { return };
    let _told = node.told(&["frontend", "backend", "database"]);
    node.load_image(&images::postgres(&node.directory().join("images")));
    node.apply(&["frontend", "backend", "database"].map(namespace).concat()).unwrap();
    for text in NETWORK_POLICIES.iter().chain(&[ALIAS, AUTHORIZATION, DATABASE]) {
        node.apply(text).unwrap();
    }
    node.apply(&with_image(BACKEND, "my-backend:latest", "backend-api")).unwrap();
    node.apply(&with_image(FRONTEND, "my-frontend:latest", "frontend")).unwrap();
    node.rolled_out("backend", "deploy/backend-api", ROLLOUT);
    node.rolled_out("frontend", "deploy/frontend", ROLLOUT);
    node.rolled_out("database", "statefulset/postgres", ROLLOUT);

    let inside =
        |namespace: &str, label: &str, container: &str| node.inside(namespace, &node.pod(namespace, label), container);
    let frontend = inside("frontend", "app=frontend", "frontend");
    let backend = inside("backend", "app=backend-api", "api");
    let database = inside("database", "app=postgres", "app");
    for host in ["backend-api.backend.svc.cluster.local", "backend-api.backend.svc", "backend-api.backend", "backend"] {
        let seen = until("the frontend reaches the backend", Duration::from_secs(30), || {
            let reply = frontend.curl(&[&format!("http://{host}/headers")]);
            if reply.status == 200 { Ok(reply.json()) } else { Err(format!("{host}: {reply:?}")) }
        });
        assert_eq!(seen["app"], "backend-api", "{host}");
        assert!(seen["headers"].to_string().contains("URI=spiffe://cluster.local/ns/frontend/sa/default"), "{seen}");
    }
    let rows = until("the backend reaches the database", Duration::from_secs(30), || {
        let output = psql(&backend, "postgres.database", "select count(*) from generate_series(1, 200000)");
        if output.code == Some(0) { Ok(output.stdout) } else { Err(output.stderr) }
    });
    assert_eq!(rows.trim(), "200000");
    let long = psql(&backend, "postgres.database.svc.cluster.local", "select repeat('x', 3000000)").ok();
    assert_eq!(long.trim().len(), 3_000_000);

    let refused = psql(&frontend, "postgres.database", "select 1");
    assert_ne!(refused.code, Some(0), "the frontend must not reach the database: {refused:?}");
    let mut curl = database.network("curl");
    let address = node.get(&["-n", "backend", "service", "backend-api"]).unwrap();
    let address = address["spec"]["clusterIP"].as_str().unwrap();
    let refused = causeway_tests::pod::Reply::of(&mut curl, &["--noproxy", "*", &format!("http://{address}/")]);
    assert_eq!((refused.status, refused.code()), (403, "policy_denied"), "{refused:?}");
}
