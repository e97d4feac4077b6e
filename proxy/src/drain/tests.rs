use super::*;

#[tokio::test(start_paused = true)]
async fn an_idle_proxy_ends_after_the_quiet_time() {
    let drain = Drain::default();
    drain.next();
    let began = tokio::time::Instant::now();
    assert!(!drain.finished(Duration::from_millis(500), Duration::from_secs(30)).await);
    assert_eq!(began.elapsed(), Duration::from_millis(500));
}

#[tokio::test(start_paused = true)]
async fn open_connections_are_waited_for_and_a_new_one_starts_the_quiet_time_again() {
    let drain = Drain::default();
    let first = drain.busy();
    drain.next();
    let finished = {
        let drain = drain.clone();
        tokio::spawn(async move { drain.finished(Duration::from_millis(500), Duration::from_secs(30)).await })
    };
    let began = tokio::time::Instant::now();
    tokio::time::sleep(Duration::from_secs(2)).await;
    drop(first);
    tokio::time::sleep(Duration::from_millis(400)).await;
    let second = drain.busy();
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(second);
    assert!(!finished.await.expect("joins"));
    assert_eq!(began.elapsed(), Duration::from_millis(3900));
}

#[tokio::test(start_paused = true)]
async fn the_deadline_cuts_what_is_still_open() {
    let drain = Drain::default();
    let _open = drain.busy();
    drain.next();
    assert!(drain.finished(Duration::from_millis(500), Duration::from_secs(5)).await);
}

#[tokio::test(start_paused = true)]
async fn a_second_signal_aborts_at_once() {
    let drain = Drain::default();
    let _open = drain.busy();
    drain.next();
    drain.next();
    let began = tokio::time::Instant::now();
    assert!(drain.finished(Duration::from_millis(500), Duration::from_secs(5)).await);
    assert_eq!(began.elapsed(), Duration::ZERO);
    drain.reached(Phase::Draining).await; // aborting is past draining
}
