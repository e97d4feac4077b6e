//! Configuration streams: who may have one, and what comes on it.

use std::sync::Arc;

use causeway_mesh::wire;
use causeway_mesh::wire::resource::Body;
use causeway_mesh::wire::watch_request::Request;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType};
use tonic::Code;

use crate::client::{Plane, SHOP, Stream, assert_refused, certified, hello};

fn endpoints(stream: &Stream, backend: &str) -> Vec<wire::Endpoint> {
    match &stream.holds.get(&format!("endpoints/{backend}")).unwrap().body {
        Some(Body::Endpoints(e)) => e.endpoints.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_proxy_gets_what_it_uses_and_then_what_changes() {
    let plane = Plane::start(&[]).await;
    let mut stream = plane.watch("dev/web", hello("dev/web-1")).await.unwrap();
    stream.apply().await;
    assert!(stream.holds.contains_key("workload") && stream.holds.contains_key("trust"));
    let Some(Body::Workload(workload)) = &stream.holds["workload"].body else { panic!() };
    assert_eq!((workload.service_account.as_str(), workload.pod.as_str()), ("web", "web-1"));

    stream.subscribe(&[SHOP], &[]).await;
    stream.apply().await;
    let Some(Body::Destination(shop)) = &stream.holds[&format!("destination/{SHOP}")].body else { panic!() };
    assert_eq!(shop.canonical, "shop.prod:80");
    let found = endpoints(&stream, "shop.prod:80");
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].address.as_str(), found[0].port), ("127.0.1.2", 8080));
    assert_eq!(found[0].identity, "spiffe://cluster.local/ns/prod/sa/shop");

    // A change of the files arrives by itself, and only what differs.
    plane.write("mesh.yaml", &crate::client::MESH.replace("127.0.1.2", "127.0.1.3"));
    let update = stream.apply().await;
    assert_eq!(update.resources.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["endpoints/shop.prod:80"]);
    assert_eq!(endpoints(&stream, "shop.prod:80")[0].address, "127.0.1.3");

    stream.subscribe(&[], &[SHOP]).await;
    let update = stream.apply().await;
    assert!(update.removed.contains(&format!("destination/{SHOP}")), "{update:?}");
}

#[tokio::test]
async fn a_stream_resumes_by_what_the_proxy_holds() {
    let plane = Plane::start(&[]).await;
    let mut hello = hello("dev/web-1");
    hello.destinations.push(SHOP.into());
    let mut first = plane.watch("dev/web", hello.clone()).await.unwrap();
    first.apply().await;
    hello.held = first.holds.iter().map(|(n, r)| wire::Held { name: n.clone(), version: r.version }).collect();
    hello.held.push(wire::Held { name: "destination/forgotten:80".into(), version: 7 });
    let mut second = plane.watch("dev/web", hello).await.unwrap();
    second.holds = first.holds.clone();
    let update = second.apply().await;
    assert!(update.resources.is_empty(), "{update:?}");
    assert_eq!(update.removed, ["destination/forgotten:80"]);
}

#[tokio::test]
async fn what_the_account_used_before_comes_unasked() {
    let plane = Plane::start(&[]).await;
    let mut first = plane.watch("dev/web", hello("dev/web-1")).await.unwrap();
    first.apply().await;
    first.subscribe(&[SHOP], &[]).await;
    first.apply().await;
    let mut next_pod = plane.watch("dev/web", hello("dev/web-2")).await.unwrap();
    next_pod.apply().await;
    assert!(next_pod.holds.contains_key(&format!("destination/{SHOP}")));
    let mut other = plane.watch("prod/shop", hello("prod/shop-1")).await.unwrap();
    other.apply().await;
    assert!(!other.holds.contains_key("destination/unknown:1"));
}

#[tokio::test]
async fn only_a_proxy_of_the_mesh_gets_a_stream() {
    let plane = Plane::start(&[]).await;
    let refused = plane.watch_with(None, hello("dev/web-1")).await;
    assert_refused(refused, Code::Unauthenticated, "no_client_certificate");
    let other = plane.watch("dev/web", hello("prod/shop-1")).await;
    assert_refused(other, Code::PermissionDenied, "workload_namespace_mismatch");
    let other = plane.watch("dev/admin", hello("dev/web-1")).await;
    assert_refused(other, Code::PermissionDenied, "workload_account_mismatch");
    for workload in ["web-1", "", "dev/", "dev/web/1"] {
        let status = plane.watch("dev/web", hello(workload)).await.err().unwrap_or_else(|| panic!("{workload}"));
        assert!(matches!(status.code(), Code::InvalidArgument | Code::PermissionDenied), "{workload}: {status}");
    }
}

#[tokio::test]
async fn a_certificate_of_another_ca_does_not_get_through_the_handshake() {
    let plane = Plane::start(&[]).await;
    let pair = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI("spiffe://cluster.local/ns/dev/sa/web".try_into().unwrap())];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let own = certified(vec![params.self_signed(&pair).unwrap().der().to_vec()], &pair);
    let foreign = Plane::start(&[]).await.key("dev", "web").await;
    for (key, code) in [(own, "svid_unknown_root"), (foreign, "svid_unknown_root")] {
        // In TLS 1.3 the client learns of it with its first read.
        if let Ok(channel) = plane.try_channel(Some(Arc::clone(&key))).await {
            let request = wire::CertifyRequest::default();
            let answer = wire::identity_client::IdentityClient::new(channel).certify(request).await;
            let status = answer.expect_err("a foreign certificate got through");
            assert!(!status.message().starts_with("token_"), "it reached the service: {status}");
        }
        let name = format!(r#"causeway_control_plane_handshakes_failed_total{{reason="{code}"}}"#);
        assert!(plane.metric(&name).await >= 1.0);
    }
}

#[tokio::test]
async fn a_nack_shows_and_the_proxy_is_left_alone_until_something_changes() {
    let plane = Plane::start(&[]).await;
    let mut stream = plane.watch("dev/web", hello("dev/web-1")).await.unwrap();
    stream.apply().await;
    stream.subscribe(&[SHOP], &[]).await;
    let update = stream.next().await.unwrap().unwrap();
    let resource = format!("destination/{SHOP}");
    let fault = wire::Fault { resource: resource.clone(), field: "routes[0]".into(), message: "no".into() };
    stream.send(Request::Nack(wire::Nack { nonce: update.nonce, faults: vec![fault] })).await;
    // The endpoints of the same batch come again, without the destination.
    let rest = stream.apply().await;
    assert!(rest.resources.iter().all(|r| r.name != resource) && !rest.resources.is_empty());

    let proxies = plane.json("/proxies").await;
    let shown = &proxies["proxies"][0];
    assert_eq!(shown["nack"]["resource"], resource.as_str());
    assert_eq!(shown["nack"]["field"], "routes[0]");
    assert_eq!(plane.metric("causeway_control_plane_faults").await, 1.0);
    assert_eq!(plane.metric("causeway_control_plane_nacks_total").await, 1.0);
}

#[tokio::test]
async fn a_stream_that_breaks_the_rules_is_ended_and_told_why() {
    let plane = Plane::start(&[]).await;
    let mut stream = plane.watch("dev/web", hello("dev/web-1")).await.unwrap();
    stream.apply().await;
    stream.send(Request::Ack(wire::Ack { nonce: 99 })).await;
    assert_refused(stream.next().await, Code::InvalidArgument, "unknown_nonce");
    let mut stream = plane.watch("dev/web", hello("dev/web-1")).await.unwrap();
    stream.apply().await;
    stream.send(Request::Hello(hello("dev/web-1"))).await;
    assert_refused(stream.next().await, Code::InvalidArgument, "unexpected_request");
    let mut stream = plane.watch("dev/web", hello("dev/web-1")).await.unwrap();
    stream.apply().await;
    stream.subscribe(&[&"a".repeat(301)], &[]).await;
    assert_refused(stream.next().await, Code::InvalidArgument, "destination_too_long");
}

#[tokio::test]
async fn a_pod_that_changes_its_account_loses_its_stream() {
    let plane = Plane::start(&[]).await;
    let mut stream = plane.watch("dev/web", hello("dev/web-1")).await.unwrap();
    stream.apply().await;
    plane.write("mesh.yaml", &crate::client::MESH.replace("serviceAccountName: web", "serviceAccountName: other"));
    assert_refused(stream.next().await, Code::PermissionDenied, "workload_account_mismatch");
}

#[tokio::test]
async fn a_broken_file_changes_nothing_and_is_reported() {
    let plane = Plane::start(&[]).await;
    let mut hello = hello("dev/web-1");
    hello.destinations.push(SHOP.into());
    let mut stream = plane.watch("dev/web", hello).await.unwrap();
    stream.apply().await;
    plane.write("mesh.yaml", "kind: [");
    for _ in 0..500 {
        if plane.json("/problems").await["problems"].as_array().is_some_and(|p| !p.is_empty()) {
            let found = plane.json("/destination?client=dev/web&name=shop.prod:80").await;
            assert_eq!(found["endpoints"]["shop.prod:80"][0]["address"], "127.0.1.2", "the last good state stays");
            plane.write("mesh.yaml", &crate::client::MESH.replace("127.0.1.2", "127.0.1.4"));
            // Nothing came for the broken file: the next batch is the new address.
            let update = stream.apply().await;
            assert_eq!(update.resources.len(), 1, "{update:?}");
            return assert_eq!(endpoints(&stream, "shop.prod:80")[0].address, "127.0.1.4");
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the broken file was not reported");
}

#[tokio::test]
async fn a_broken_policy_file_at_the_first_start_lets_nothing_through_until_it_is_mended() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("source")).unwrap();
    std::fs::write(dir.path().join("source/mesh.yaml"), crate::client::MESH).unwrap();
    std::fs::write(dir.path().join("source/policy.yaml"), "kind: AuthorizationPolicy\nspec: [").unwrap();
    std::fs::write(dir.path().join("source/template.yaml"), "kind: Deployment\nspec: {{ .Values.spec }}: [").unwrap();
    let mended = dir.path().join("source/policy.yaml");
    let start = Plane::start_in(dir, &[]);
    let mend = async {
        // Ready must not come meanwhile: `start` would win the race below and the assertion fail.
        tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
        std::fs::write(&mended, "").unwrap();
    };
    tokio::pin!(start);
    tokio::select! {
        _ = &mut start => panic!("ready with a policy that was never read"),
        () = mend => {}
    }
    let plane = start.await;
    assert_eq!(plane.get("/readyz").await.0, 200, "a template that is no policy does not stand in the way");
}

#[tokio::test]
async fn shutting_down_ends_streams_politely_and_at_once() {
    let plane = Plane::start(&[]).await;
    let mut stream = plane.watch("dev/web", hello("dev/web-1")).await.unwrap();
    stream.apply().await;
    let began = tokio::time::Instant::now();
    let ended = tokio::spawn(plane.running.shut_down());
    assert!(stream.next().await.unwrap().is_none(), "a polite end has no error");
    drop(stream);
    ended.await.unwrap().unwrap();
    assert!(began.elapsed().as_secs() < 5);
}

#[tokio::test]
async fn a_root_that_is_announced_reaches_the_proxies_without_a_restart() {
    let plane = Plane::start(&[]).await;
    let mut stream = plane.watch("dev/web", hello("dev/web-1")).await.unwrap();
    stream.apply().await;
    let other = Plane::start(&[]).await;
    std::fs::copy(other.state().join("trust-bundle.pem"), plane.state().join("extra-roots.pem")).unwrap();
    let update = stream.apply().await;
    assert_eq!(update.resources.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["trust"]);
    let Some(Body::Trust(trust)) = &update.resources[0].body else { panic!() };
    assert_eq!(trust.roots_der.len(), 2);
    assert_eq!(plane.roots(), trust.roots_der);
    // And certificates of that root are now let in.
    let mut guest = plane.watch_with(Some(other.key("dev", "web").await), hello("dev/web-1")).await.unwrap();
    guest.apply().await;
    // And taken back again.
    std::fs::remove_file(plane.state().join("extra-roots.pem")).unwrap();
    let update = stream.apply().await;
    let Some(Body::Trust(trust)) = &update.resources[0].body else { panic!() };
    assert_eq!((trust.roots_der.len(), update.resources.len()), (1, 1));
    assert_eq!(plane.roots(), trust.roots_der);
}

#[tokio::test]
async fn the_listener_renews_its_own_certificate() {
    let plane = Plane::start(&["--leaf-ttl", "5s"]).await;
    let expiry = "causeway_control_plane_server_certificate_expiry_timestamp_seconds";
    let first = plane.metric(expiry).await;
    for _ in 0..500 {
        if plane.metric(expiry).await > first {
            // The new one is what a new connection meets, and it verifies.
            return drop(plane.channel(None).await);
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the certificate was not renewed");
}
