#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::sync::Arc;

use super::*;
use crate::compile::Model;
use crate::metrics::Metrics;
use crate::publish::{Peer, View};
use tokio_stream::wrappers::ReceiverStream;

type Requests = mpsc::Sender<Result<wire::WatchRequest, Infallible>>;

fn view(number: u64) -> View {
    let roots_der = vec![number.to_be_bytes().to_vec()];
    View::new(Arc::new(Model::default()), wire::TrustBundle { trust_domain: "td".into(), roots_der })
}

fn publisher() -> Arc<Publisher> {
    Arc::new(Publisher::new(Metrics::register(&mut prometheus_client::registry::Registry::default())))
}

/// A driven stream of `publisher`: what to say into it, what comes out, how it ended.
fn stream(
    publisher: &Arc<Publisher>,
    until: impl Future<Output = ()> + Send + 'static,
) -> (Requests, mpsc::Receiver<wire::Update>, tokio::task::JoinHandle<Result<Ending, WatchError>>) {
    let id = causeway_mesh::spiffe::SpiffeId::new("cluster.local", "dev", "web").unwrap();
    let peer = Peer { id, address: ([127, 0, 0, 1], 1).into(), certificate_expires: i64::MAX };
    let hello = wire::Hello { workload: "dev/web-1".into(), ..Default::default() };
    let registration = publisher.connect(&hello, peer, 0).unwrap();
    let (say, said) = mpsc::channel(16);
    let (updates, received) = mpsc::channel(1);
    let task = tokio::spawn(async move { drive(&registration, ReceiverStream::new(said), updates, until).await });
    (say, received, task)
}

async fn ack(say: &Requests, nonce: u64) {
    let request = Some(Request::Ack(wire::Ack { nonce }));
    say.send(Ok(wire::WatchRequest { request })).await.unwrap();
}

fn root(update: &wire::Update) -> Option<u64> {
    update.resources.iter().find_map(|r| match &r.body {
        Some(wire::resource::Body::Trust(t)) => Some(u64::from_be_bytes(t.roots_der[0].as_slice().try_into().unwrap())),
        _ => None,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_of_many_changes_arrives_whenever_the_acks_come() {
    let publisher = publisher();
    let (say, mut updates, _task) = stream(&publisher, std::future::pending());
    for round in 0..200 {
        let last = (round + 1) * 10;
        let changes = Arc::clone(&publisher);
        let storm = tokio::spawn(async move {
            for number in last - 9..=last {
                changes.publish(view(number));
                tokio::task::yield_now().await;
            }
        });
        loop {
            let next = tokio::time::timeout(Duration::from_secs(10), updates.recv());
            let update = next.await.expect("the last change was lost").unwrap();
            ack(&say, update.nonce).await;
            if root(&update) == Some(last) {
                break;
            }
        }
        storm.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_does_not_answer_is_asked_to_begin_anew() {
    let publisher = publisher();
    publisher.publish(view(1));
    let (_say, mut updates, task) = stream(&publisher, std::future::pending());
    assert!(updates.recv().await.is_some());
    assert_eq!(task.await.unwrap(), Ok(Ending::Unanswered));
    assert!(publisher.proxies().is_empty(), "who has left is not listed");
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_news_lives_to_its_age() {
    let publisher = publisher();
    publisher.publish(view(1));
    let (say, mut updates, task) = stream(&publisher, tokio::time::sleep(Duration::from_secs(1800)));
    let update = updates.recv().await.unwrap();
    ack(&say, update.nonce).await;
    assert_eq!(task.await.unwrap(), Ok(Ending::Polite));
    assert!(updates.recv().await.is_none(), "nothing more came");
}

#[tokio::test]
async fn a_proxy_that_leaves_ends_its_stream() {
    let publisher = publisher();
    let (say, _updates, task) = stream(&publisher, std::future::pending());
    drop(say);
    assert_eq!(task.await.unwrap(), Ok(Ending::Gone));
}

#[tokio::test]
async fn nothing_is_sent_before_there_is_a_configuration() {
    let publisher = publisher();
    let (_say, mut updates, _task) = stream(&publisher, std::future::pending());
    tokio::task::yield_now().await;
    assert!(updates.try_recv().is_err());
    publisher.publish(view(7));
    assert_eq!(root(&updates.recv().await.unwrap()), Some(7));
}
