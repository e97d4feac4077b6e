//! Who gets which version.

use std::collections::BTreeMap;

use crate::stage::{Stage, counts, url};

const STICKY: &str = include_str!("../../fixtures/traffic/sticky.yaml");
const PINNED: &str = include_str!("../../fixtures/traffic/pinned.yaml");

/// Version by user, with the weight of `v2` beside the 100 of `v1`.
fn versions(stage: &Stage, at: &str, header: &str, weight: u32) -> BTreeMap<u32, String> {
    stage.apply(&STICKY.replace("WEIGHT", &weight.to_string()));
    let of = |user: u32| stage.get(at, &["-H", &format!("{header}user-{user}")]).header("x-app").to_owned();
    (0..24).map(|user| (user, of(user))).collect()
}

pub fn sticky(stage: &Stage) {
    let share = |versions: &BTreeMap<u32, String>| versions.values().filter(|v| *v == "v2").count();
    // A fifth, again a fifth, three fifths.
    let [few, again, more] = [25, 25, 150].map(|weight| versions(stage, "sticky/", "x-user: ", weight));
    assert_eq!(few, again, "a user sticks");
    assert!((1..12).contains(&share(&few)) && (8..22).contains(&share(&more)), "{few:?} {more:?}");
    let back: Vec<_> = few.iter().filter(|(user, v)| *v == "v2" && more[*user] != "v2").collect();
    assert!(back.is_empty(), "{back:?}");
    let [cookies, again] = [25, 150].map(|weight| versions(stage, "sticky/cookie", "cookie: a=b; user=", weight));
    assert_eq!(cookies, again, "by a cookie, and what another rule says is nothing to it");
    assert!((4..20).contains(&share(&cookies)), "half: {cookies:?}");
}

pub fn pinned(stage: &Stage) {
    stage.apply(PINNED);
    let arguments = ["--requests", "200", "--concurrency", "4"];
    let of_guest = stage.guest.load(&[&["--url", &url("pinned/")], &arguments[..]].concat());
    assert_eq!((&of_guest["failed"], &of_guest["apps"]["v1"]), (&0.into(), &200.into()), "{of_guest}");
    let of_client = counts(&stage.load("pinned/", &arguments));
    // Half of 200, within six standard deviations.
    assert!(of_client.get("v2").is_some_and(|n| (58..=142).contains(n)), "{of_client:?}");
}
