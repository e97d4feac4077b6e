//! The discovery client against a control plane that says what a test has it say, over real TLS.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use causeway_mesh::wire::watch_request::Request as Said;
use causeway_proxy::discovery::{Discovery, Snapshot, Unresolved};
use tokio::time::Instant;
use tonic::Status;

#[allow(dead_code)]
#[path = "../../mesh/src/svid/tests/forms.rs"]
mod forms;
#[path = "discovery/peer.rs"]
mod peer;

use forms::ID;
use peer::{PATIENCE, Peer, Place, Stream, destination, endpoints, eventually, trust, workload};

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

fn now(discovery: &Discovery) -> Arc<Snapshot> {
    discovery.snapshot().borrow().clone()
}

async fn generation(discovery: &Discovery, at_least: u64) -> Arc<Snapshot> {
    eventually("a snapshot", || now(discovery).generation >= at_least).await;
    now(discovery)
}

/// A proxy whose configuration `workload` is in force.
async fn running(place: &Place, peer: &mut Peer) -> (Discovery, Stream) {
    let (_tls, discovery) = place.start();
    let mut stream = peer.stream().await;
    stream.tell(1, &[workload(1)], &[], &[workload(1)]);
    assert_eq!(stream.acked().await, 1);
    (discovery, stream)
}

#[tokio::test]
async fn a_batch_comes_in_force_as_a_whole_and_is_acknowledged() {
    let mut peer = Peer::start().await;
    let place = Place::of(&peer);
    let (_tls, discovery) = place.start();
    let mut stream = peer.stream().await;
    assert_eq!((stream.hello.workload.as_str(), stream.hello.proxy_version.as_str()), ("prod/web-0", "test"));
    assert!(stream.hello.held.is_empty() && stream.hello.destinations.is_empty());
    let all = [workload(1), trust(1, &[&peer.ca]), destination("a.b:80", 1), endpoints("a.b:80", 1, &[80])];
    stream.tell(7, &all, &[], &all);
    assert_eq!(stream.acked().await, 7);
    let snapshot = now(&discovery);
    assert_eq!(snapshot.workload.as_ref().unwrap().pod, "web-0");
    assert!(snapshot.trust.is_some() && snapshot.destinations.contains_key("a.b:80"));
    assert_eq!(snapshot.endpoints["a.b:80"].len(), 1);
    let status = discovery.status();
    assert!(status.connected && !status.away);
    assert_eq!((status.acked, status.streams, status.resources), (7, 1, 4));
}

#[tokio::test]
async fn a_bad_resource_refuses_its_batch_and_the_last_good_state_stays() {
    let mut peer = Peer::start().await;
    let place = Place::of(&peer);
    let (discovery, mut stream) = running(&place, &mut peer).await;
    let before = now(&discovery);
    let bad = endpoints("a.b:80", 1, &[80, 70_000]);
    stream.tell(2, &[destination("a.b:80", 1), bad.clone()], &[], &[workload(1), destination("a.b:80", 1), bad]);
    let Said::Nack(nack) = stream.said().await else { panic!("not a nack") };
    assert_eq!(nack.nonce, 2);
    assert_eq!(nack.faults[0].resource, "endpoints/a.b:80");
    assert!(nack.faults[0].field.starts_with("endpoints[1]"), "{:?}", nack.faults);
    assert!(Arc::ptr_eq(&before, &now(&discovery)), "not even the good part of the batch is in force");
    assert_eq!(discovery.status().nacked.len(), 1);

    let good = endpoints("a.b:80", 2, &[80]);
    let all = [workload(1), destination("a.b:80", 1), good.clone()];
    stream.tell(3, &[destination("a.b:80", 1), good], &[], &all);
    assert_eq!(stream.acked().await, 3);
    assert!(now(&discovery).destinations.contains_key("a.b:80") && discovery.status().nacked.is_empty());
}

#[tokio::test]
async fn what_does_not_change_keeps_its_pointer_across_batches_and_streams() {
    let mut peer = Peer::start().await;
    let place = Place::of(&peer);
    let (discovery, mut stream) = running(&place, &mut peer).await;
    let first = now(&discovery);
    stream.tell(2, &[destination("a.b:80", 1)], &[], &[workload(1), destination("a.b:80", 1)]);
    stream.acked().await;
    drop(stream);
    let mut stream = peer.stream().await;
    stream.tell(
        1,
        &[endpoints("a.b:80", 1, &[1])],
        &[],
        &[workload(1), destination("a.b:80", 1), endpoints("a.b:80", 1, &[1])],
    );
    stream.acked().await;
    let last = generation(&discovery, first.generation + 2).await;
    assert!(Arc::ptr_eq(first.workload.as_ref().unwrap(), last.workload.as_ref().unwrap()));
}

#[tokio::test]
async fn drift_is_found_and_mended_by_asking_for_everything() {
    let mut peer = Peer::start().await;
    let place = Place::of(&peer);
    let (discovery, mut stream) = running(&place, &mut peer).await;
    stream.tell(2, &[destination("ghost.b:80", 1)], &[], &[workload(1), destination("ghost.b:80", 1)]);
    stream.acked().await;
    let before = now(&discovery);
    // The control plane believes that the proxy holds something else.
    stream.tell(3, &[destination("new.b:80", 1)], &[], &[workload(9)]);
    stream.abandoned().await;
    let mut stream = peer.stream().await;
    assert!(stream.hello.held.is_empty(), "everything is asked for");
    assert!(Arc::ptr_eq(&before, &now(&discovery)), "the last good state is in force meanwhile");
    let all = [workload(9), destination("new.b:80", 1)];
    stream.tell(1, &all, &[], &all);
    assert_eq!(stream.acked().await, 1);
    let after = now(&discovery);
    assert!(after.destinations.contains_key("new.b:80") && !after.destinations.contains_key("ghost.b:80"));
    assert_eq!(discovery.status().drifts, 1);
    // From here on by version again.
    drop(stream);
    assert_eq!(peer.stream().await.hello.held.len(), 2);
}

#[tokio::test]
async fn without_control_plane_the_last_configuration_stays_and_only_the_unknown_fails() {
    let mut peer = Peer::start().await;
    let place = Place::of(&peer);
    let (discovery, mut stream) = running(&place, &mut peer).await;
    let resolving = tokio::spawn({
        let discovery = discovery.clone();
        async move { discovery.resolve("a.b:80", soon()).await }
    });
    assert_eq!(stream.subscribed().await.add, ["a.b:80"]);
    stream.tell(2, &[destination("a.b:80", 1)], &[], &[workload(1), destination("a.b:80", 1)]);
    resolving.await.unwrap().unwrap();
    stream.acked().await;

    peer.stop().await;
    eventually("the absence is noticed", || discovery.status().away).await;
    let known = discovery.resolve("a.b:80", soon()).await.unwrap();
    assert_eq!(&*known.canonical, "a.b:80");
    let asked = Instant::now();
    assert_eq!(discovery.resolve("c.d:80", soon()).await.unwrap_err(), Unresolved::ControlPlaneAway);
    assert!(asked.elapsed() < Duration::from_secs(1), "said at once, not at the deadline");
    assert!(now(&discovery).workload.is_some() && discovery.status().last_error.is_some());

    peer.resume().await;
    let stream = peer.stream().await;
    let mut held: Vec<(String, u64)> = stream.hello.held.iter().map(|h| (h.name.clone(), h.version)).collect();
    held.sort();
    assert_eq!(held, [("destination/a.b:80".to_owned(), 1), ("workload".to_owned(), 1)]);
    let mut wanted = stream.hello.destinations.clone();
    wanted.sort();
    assert_eq!(wanted, ["a.b:80", "c.d:80"]);
    eventually("the return is noticed", || !discovery.status().away && discovery.status().connected).await;
}

#[tokio::test]
async fn many_waiters_of_one_name_share_one_subscription() {
    let mut peer = Peer::start().await;
    let place = Place::of(&peer);
    let (discovery, mut stream) = running(&place, &mut peer).await;
    let waiters: Vec<_> = (0..100)
        .map(|_| {
            let discovery = discovery.clone();
            tokio::spawn(async move { discovery.resolve("a.b:80", soon()).await })
        })
        .collect();
    assert_eq!(stream.subscribed().await.add, ["a.b:80"]);
    stream.silence(Duration::from_millis(200)).await;
    stream.tell(2, &[destination("a.b:80", 1)], &[], &[workload(1), destination("a.b:80", 1)]);
    for waiter in waiters {
        assert_eq!(&*waiter.await.unwrap().unwrap().canonical, "a.b:80");
    }
    assert_eq!(discovery.status().subscriptions, 1);
}

#[tokio::test]
async fn an_answer_that_does_not_come_ends_at_the_deadline() {
    let mut peer = Peer::start().await;
    let place = Place::of(&peer);
    let (discovery, mut stream) = running(&place, &mut peer).await;
    let deadline = Instant::now() + Duration::from_millis(100);
    assert_eq!(discovery.resolve("a.b:80", deadline).await.unwrap_err(), Unresolved::Deadline);
    assert_eq!(discovery.resolve("A b:80", soon()).await.unwrap_err(), Unresolved::NotADestination);
    // Late, but not lost.
    stream.subscribed().await;
    stream.tell(2, &[destination("a.b:80", 1)], &[], &[workload(1), destination("a.b:80", 1)]);
    stream.acked().await;
    assert!(discovery.resolve("a.b:80", Instant::now()).await.is_ok());
}

#[tokio::test]
async fn before_the_first_contact_a_destination_is_waited_for_until_the_deadline() {
    let mut peer = Peer::start().await;
    peer.answer(|_, _| Err(Status::unavailable("not yet")));
    let place = Place::of(&peer);
    let (_tls, discovery) = place.start();
    let deadline = Instant::now() + Duration::from_millis(200);
    assert_eq!(discovery.resolve("a.b:80", deadline).await.unwrap_err(), Unresolved::ControlPlaneAway);
    peer.answer(|request, ca| peer::issue(request, ca, ID, |_| {}));
    assert_eq!(peer.stream().await.hello.destinations, ["a.b:80"]);
}

#[tokio::test]
async fn an_idle_subscription_is_given_up_and_a_used_one_stays() {
    let mut peer = Peer::start().await;
    let mut place = Place::of(&peer);
    place.settings.idle_subscription = Duration::from_secs(2);
    let (discovery, mut stream) = running(&place, &mut peer).await;
    let all = [workload(1), destination("used.b:80", 1), destination("idle.b:80", 1)];
    stream.tell(2, &all[1..], &[], &all);
    stream.acked().await;
    // Both were sent unasked; use makes them subscriptions.
    discovery.touch("used.b:80");
    discovery.touch("idle.b:80");
    let mut added = stream.subscribed().await.add;
    if added.len() == 1 {
        added.extend(stream.subscribed().await.add);
    }
    let using = tokio::spawn({
        let discovery = discovery.clone();
        async move {
            loop {
                discovery.touch("used.b:80");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    });
    assert_eq!(stream.subscribed().await.remove, ["idle.b:80"]);
    stream.tell(3, &[], &["destination/idle.b:80"], &all[..2]);
    assert_eq!(stream.acked().await, 3);
    assert!(!now(&discovery).destinations.contains_key("idle.b:80"));
    assert!(now(&discovery).destinations.contains_key("used.b:80"));
    using.abort();
}

#[tokio::test]
async fn a_stream_that_ends_politely_is_opened_again_at_once_and_nobody_is_away() {
    let mut peer = Peer::start().await;
    let place = Place::of(&peer);
    let (discovery, stream) = running(&place, &mut peer).await;
    let mut status = discovery.watch_status();
    let watched = tokio::spawn(async move { status.wait_for(|s| s.away).await.is_ok() });
    drop(stream);
    let ended = Instant::now();
    let stream = peer.stream().await;
    assert!(ended.elapsed() < Duration::from_secs(2));
    assert_eq!(stream.hello.held.len(), 1);
    assert!(!watched.is_finished(), "away was told of a polite end");
    watched.abort();
}

#[tokio::test]
async fn a_control_plane_that_refuses_is_not_stormed() {
    let mut peer = Peer::start().await;
    let place = Place::of(&peer);
    let (discovery, stream) = running(&place, &mut peer).await;
    stream.fail(Status::unavailable("full"));
    let begun = Instant::now();
    for _ in 0..4 {
        peer.stream().await.fail(Status::unavailable("full"));
    }
    // 200 ms doubled each time, of which at most half is taken off.
    assert!(begun.elapsed() >= Duration::from_millis(1200), "{:?}", begun.elapsed());
    assert!(now(&discovery).workload.is_some());
    eventually("why is told", || discovery.status().last_error.is_some_and(|e| e.contains("full"))).await;
}

#[tokio::test]
async fn somebody_elses_configuration_is_refused() {
    let mut peer = Peer::start().await;
    let place = Place::of(&peer);
    let (_tls, discovery) = place.start();
    let mut stream = peer.stream().await;
    let stranger = forms::ca("stranger", &rcgen::PKCS_ECDSA_P256_SHA256);
    let mut foreign = trust(1, &[&stranger]);
    if let Some(causeway_mesh::wire::resource::Body::Trust(bundle)) = &mut foreign.body {
        bundle.trust_domain = "other.local".to_owned();
    }
    stream.tell(1, &[workload(1), foreign.clone()], &[], &[workload(1), foreign]);
    let Said::Nack(nack) = stream.said().await else { panic!("not a nack") };
    assert_eq!(nack.faults[0].field, "trust_domain");
    assert!(now(&discovery).workload.is_none(), "nothing is in force, so nothing may be let in");
}

#[tokio::test]
async fn the_stream_ends_with_the_last_handle() {
    let mut peer = Peer::start().await;
    let place = Place::of(&peer);
    let (discovery, mut stream) = running(&place, &mut peer).await;
    drop(discovery);
    stream.abandoned().await;
    peer.no_stream(Duration::from_millis(500)).await;
}
