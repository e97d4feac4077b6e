//! What one replica tells another, and nobody else.

use std::sync::Arc;
use std::time::Duration;

use causeway_control_plane::ca::{Authority, CaFiles};
use causeway_control_plane::state::StateDir;
use causeway_mesh::wire;
use causeway_mesh::wire::replicas_client::ReplicasClient;
use causeway_mesh::wire::watch_request::Request;
use rustls::sign::CertifiedKey;
use tonic::Code;

use crate::client::{Plane, SHOP, assert_refused, hello, now};

const ROUTE: &str = "\
---
apiVersion: causeway.dev/v1alpha1
kind: VirtualService
metadata: { name: shop, namespace: prod }
spec:
  hosts: [ shop ]
  http: [ { route: [ { destination: { host: shop } } ], timeout: TIMEOUT } ]
";

/// The certificate that another replica would show.
fn own_key(plane: &Plane) -> Arc<CertifiedKey> {
    let state = StateDir::open(&plane.state()).unwrap();
    let hour = Duration::from_secs(3600);
    let authority = Authority::open(state, CaFiles::Own, "cluster.local", hour, now()).unwrap();
    authority.server_key(now()).unwrap().0
}

async fn ask(plane: &Plane, key: Option<Arc<CertifiedKey>>, known: u64) -> Result<wire::ProgressReply, tonic::Status> {
    let request = wire::ProgressRequest { known, wait_ms: 3_000 };
    ReplicasClient::new(plane.channel(key).await).progress(request).await.map(tonic::Response::into_inner)
}

/// Asks until the route's figures are as `wanted` says.
async fn until_route(plane: &Plane, what: &str, wanted: impl Fn(&wire::Tally) -> bool) -> wire::Tally {
    let (key, mut known) = (own_key(plane), 0);
    let mut last = Vec::new();
    for _ in 0..6 {
        let reply = ask(plane, Some(Arc::clone(&key)), known).await.unwrap();
        known = reply.digest;
        if !reply.unchanged {
            last.clone_from(&reply.tallies);
        }
        if let Some(tally) = reply.tallies.into_iter().find(|t| t.name == "shop" && wanted(t)) {
            assert_eq!((tally.kind.as_str(), tally.namespace.as_str()), ("VirtualService", "prod"));
            return tally;
        }
    }
    panic!("the figures never became: {what}; last: {last:?}");
}

#[tokio::test]
async fn progress_is_told_to_nobody_but_the_control_plane_itself() {
    let plane = Plane::start(&[]).await;
    assert_refused(ask(&plane, None, 0).await, Code::PermissionDenied, "not_a_replica");
    let proxy = plane.key("dev", "web").await;
    assert_refused(ask(&plane, Some(proxy), 0).await, Code::PermissionDenied, "not_a_replica");
    let reply = ask(&plane, Some(own_key(&plane)), 0).await.unwrap();
    assert_ne!(reply.digest, 0);
}

#[tokio::test]
async fn a_version_is_told_as_in_force_only_after_its_ack_and_a_refusal_with_its_field() {
    let plane = Plane::start(&[]).await;
    let mut stream = plane.watch("dev/web", hello("dev/web-1")).await.unwrap();
    stream.apply().await;
    stream.subscribe(&[SHOP], &[]).await;
    stream.apply().await;

    plane.write("route.yaml", &ROUTE.replace("TIMEOUT", "1s"));
    let update = stream.next().await.unwrap().unwrap();
    let first = until_route(&plane, "sent", |t| t.total == 1 && t.settled).await;
    assert_eq!((first.acked, first.behind.as_slice()), (0, &["dev/web-1".to_owned()][..]));
    stream.send(Request::Ack(wire::Ack { nonce: update.nonce })).await;
    until_route(&plane, "acked", |t| (t.acked, t.total) == (1, 1) && t.behind.is_empty()).await;

    plane.write("route.yaml", &ROUTE.replace("TIMEOUT", "2s"));
    let update = stream.next().await.unwrap().unwrap();
    let resource = format!("destination/{SHOP}");
    let fault = wire::Fault { resource, field: "routes[0].timeout_ms".into(), message: "too slow".into() };
    stream.send(Request::Nack(wire::Nack { nonce: update.nonce, faults: vec![fault] })).await;
    let refused = until_route(&plane, "refused", |t| !t.refusals.is_empty()).await;
    assert_eq!((refused.acked, refused.total), (0, 1));
    let refusal = &refused.refusals[0];
    assert_eq!(refusal.workload, "dev/web-1");
    assert_eq!((refusal.field.as_str(), refusal.message.as_str()), ("routes[0].timeout_ms", "too slow"));
    assert_ne!(refused.version, first.version);
}

#[tokio::test]
async fn an_answer_waits_for_a_change_and_not_for_ever() {
    let plane = Plane::start(&[]).await;
    let key = own_key(&plane);
    let first = ask(&plane, Some(Arc::clone(&key)), 0).await.unwrap();
    let request = wire::ProgressRequest { known: first.digest, wait_ms: 200 };
    let mut client = ReplicasClient::new(plane.channel(Some(key)).await);
    let same = client.progress(request).await.unwrap().into_inner();
    assert!(same.unchanged && same.tallies.is_empty() && same.digest == first.digest);
    let waiting = tokio::spawn(async move {
        client.progress(wire::ProgressRequest { known: first.digest, wait_ms: 10_000 }).await.unwrap().into_inner()
    });
    let mut stream = plane.watch("dev/web", hello("dev/web-1")).await.unwrap();
    stream.apply().await;
    let changed = waiting.await.unwrap();
    assert!(!changed.unchanged && changed.connected == ["dev/web-1"]);
}
