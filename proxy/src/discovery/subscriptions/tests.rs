//! Tests of the bookkeeping of destinations in use.
#![allow(clippy::unwrap_used)]

use super::*;

const IDLE: Duration = Duration::from_secs(600);

fn sorted(mut changes: Changes) -> Changes {
    changes.add.sort();
    changes.remove.sort();
    changes
}

fn changes(add: &[&str], remove: &[&str]) -> Changes {
    let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
    Changes { add: owned(add), remove: owned(remove) }
}

#[tokio::test(start_paused = true)]
async fn many_users_of_one_destination_are_one_subscription() {
    let s = Subscriptions::new(IDLE);
    for _ in 0..100 {
        s.want("a.b:80").unwrap();
    }
    s.want("[::1]:80").unwrap();
    assert_eq!(s.len(), 2);
    assert_eq!(sorted(s.changes()), changes(&["[::1]:80", "a.b:80"], &[]));
    assert_eq!(s.changes(), Changes::default());
}

#[tokio::test(start_paused = true)]
async fn what_is_idle_is_given_up_and_what_is_used_stays() {
    let s = Subscriptions::new(IDLE);
    s.want("used.a:80").unwrap();
    s.want("idle.a:80").unwrap();
    s.changes();
    tokio::time::advance(IDLE / 2).await;
    assert!(s.touch("used.a:80"));
    tokio::time::advance(IDLE / 2 + Duration::from_secs(2)).await;
    s.expire();
    assert_eq!(s.changes(), changes(&[], &["idle.a:80"]));
    assert!(!s.touch("idle.a:80"));
}

#[tokio::test(start_paused = true)]
async fn given_up_and_wanted_again_before_it_was_told_is_wanted() {
    let s = Subscriptions::new(IDLE);
    s.want("a.b:80").unwrap();
    s.changes();
    tokio::time::advance(IDLE + Duration::from_secs(2)).await;
    s.expire();
    s.want("a.b:80").unwrap();
    assert_eq!(s.changes(), changes(&["a.b:80"], &[]));
}

#[tokio::test(start_paused = true)]
async fn a_new_stream_is_told_everything_once() {
    let s = Subscriptions::new(IDLE);
    s.want("a.b:80").unwrap();
    assert_eq!(s.all(), ["a.b:80"]);
    assert_eq!(s.changes(), Changes::default());
}

#[tokio::test(start_paused = true)]
async fn their_number_is_bounded_and_the_least_recently_used_make_room() {
    let s = Subscriptions::new(IDLE);
    for i in 0..MAX {
        s.want(&format!("svc-{i}.a:80")).unwrap();
    }
    assert_eq!(s.want("one.more:80"), Err(Unresolved::TooMany), "all of them are busy");
    tokio::time::advance(BUSY + Duration::from_secs(2)).await;
    for i in 0..MAX / 2 {
        assert!(s.touch(&format!("svc-{i}.a:80")));
    }
    s.changes();
    s.want("one.more:80").unwrap();
    let told = s.changes();
    assert_eq!((told.add.len(), told.remove.len(), s.len()), (1, MAX / 10, MAX - MAX / 10 + 1));
    assert!(told.remove.iter().all(|n| !s.touch(n)));
    assert!((0..MAX / 2).all(|i| s.touch(&format!("svc-{i}.a:80"))), "nothing that was used lately is gone");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_a_destination_is_not_asked_for() {
    let s = Subscriptions::new(IDLE);
    let long = format!("{}:80", "a".repeat(330));
    for text in ["", "a", ":80", "a:", "a:0", "a:65536", "a:x", "A.b:80", "a b:80", "a\n:80", "ä:80", "a/b:80", &long]
    {
        assert_eq!(s.want(text), Err(Unresolved::NotADestination), "{text:?}");
    }
    assert_eq!(s.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_change_wakes_the_stream_also_when_it_was_not_waiting() {
    let s = Subscriptions::new(IDLE);
    s.want("a.b:80").unwrap();
    s.changed().await;
}
