//! Which endpoint of a Service takes a request.

use std::collections::BTreeSet;

use causeway_tests::until;

use crate::stage::{ROLLOUT, SOON, Stage, counts, url};

/// `slow` takes 100 ms for each answer.
pub fn least_request(stage: &Stage) {
    stage.rule("queued", "{loadBalancer: {simple: ROUND_ROBIN}}");
    let turns = stage.answers("queued/", &["--requests", "90", "--concurrency", "6"]);
    assert!(turns.len() == 3 && turns.values().all(|n| *n == 30), "round robin: {turns:?}");
    stage.rule("queued", "{loadBalancer: {simple: LEAST_REQUEST}}");
    let least = stage.answers("queued/", &["--requests", "300", "--concurrency", "6"]);
    assert_eq!(least.values().sum::<u64>(), 300, "{least:?}");
    let slow = least.get("slow").copied().unwrap_or_default();
    assert!((1..50).contains(&slow), "who has requests in flight gets fewer: {least:?}");
}

pub fn consistent_hash(stage: &Stage) {
    stage.rule("hashed", "{loadBalancer: {consistentHash: {httpHeaderName: X-User}}}");
    let alice = stage.answers("hashed/", &["--requests", "30", "--header", "x-user: alice"]);
    assert!(alice.len() == 1 && alice.values().all(|n| *n == 30), "one user, one endpoint: {alice:?}");
    let many = stage.answers("hashed/", &["--requests", "90", "--header", "x-user: user-{n}"]);
    assert_eq!(many.keys().collect::<Vec<_>>(), ["v1", "v2", "v3"], "many users, all endpoints: {many:?}");
    let again = stage.answers("hashed/", &["--requests", "30", "--header", "x-user: alice"]);
    assert_eq!(alice, again);

    stage.rule("hashed", "{loadBalancer: {consistentHash: {httpQueryParameterName: user}}}");
    let bob = stage.answers("hashed/?user=bob", &["--requests", "30"]);
    assert!(bob.len() == 1 && bob.values().all(|n| *n == 30), "{bob:?}");
    let without = stage.answers("hashed/", &["--requests", "90"]);
    assert_eq!(without.len(), 3, "what has no key is drawn: {without:?}");

    stage.rule("hashed", "{loadBalancer: {consistentHash: {useSourceIdentity: true}}}");
    for from in [&stage.client, &stage.guest] {
        let own = counts(&from.load(&["--url", &url("hashed/"), "--requests", "30"]));
        assert!(own.len() == 1 && own.values().all(|n| *n == 30), "one caller, one endpoint: {own:?}");
    }

    stage.rule("hashed", "{loadBalancer: {consistentHash: {httpCookie: {name: stick, path: /, ttl: 60s}}}}");
    let mut reached = BTreeSet::new();
    for _ in 0..10 {
        let first = stage.get("hashed/", &[]);
        let given = first.header("set-cookie");
        assert!(given.starts_with("stick=") && given.contains("Max-Age=60"), "{first:?}");
        let cookie = format!("cookie: {}", given.split(';').next().unwrap());
        let next = stage.get("hashed/", &["-H", &cookie]);
        assert_eq!((next.header("x-app"), next.header("set-cookie")), (first.header("x-app"), ""), "{cookie}");
        reached.insert(first.header("x-app").to_owned());
    }
    assert!(reached.len() > 1, "{reached:?}");
}

/// Twelve requests at once of one key: its own endpoint has five of them at most, the others the rest.
pub fn bounded(stage: &Stage) {
    stage.rule("hashed", "{loadBalancer: {consistentHash: {httpHeaderName: x-user}}}");
    let arguments = ["--requests", "60", "--concurrency", "12", "--header", "x-user: alice"];
    let popular = stage.answers("hashed/slow/200", &arguments);
    assert_eq!(popular.len(), 3, "{popular:?}");
    assert!(popular.values().all(|n| (6..=30).contains(n)), "five of twelve are 25 of 60: {popular:?}");
}

/// A pod that is new gets its share little by little.
pub fn slow_start(stage: &Stage) {
    stage.rule("warm", "{loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 10s, minimumPercent: 10}}}");
    until("those that were there are warm", SOON, || {
        let answers = stage.answers("warm/", &["--requests", "60"]);
        if answers.len() == 2 && answers.values().all(|n| *n == 30) { Ok(()) } else { Err(format!("{answers:?}")) }
    });
    stage.node.kubectl(&["-n", "prod", "scale", "deploy/young", "--replicas=1"]).unwrap();
    until("the new pod is in use", ROLLOUT, || {
        let answers = stage.answers("warm/", &["--requests", "30"]);
        if answers.contains_key("young") { Ok(()) } else { Err(format!("{answers:?}")) }
    });
    let answers = stage.answers("warm/", &["--requests", "300"]);
    let share = answers.get("young").copied().unwrap_or_default();
    assert!(answers.values().sum::<u64>() == 300 && share < 75, "a third would be 100: {answers:?}");
    until("it has its whole share", SOON, || {
        let answers = stage.answers("warm/", &["--requests", "90"]);
        if answers.len() == 3 && answers.values().all(|n| *n == 30) { Ok(()) } else { Err(format!("{answers:?}")) }
    });
}
