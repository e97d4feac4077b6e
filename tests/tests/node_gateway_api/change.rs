//! Routes that come, change and go while requests flow: none fails, and what was waited for is what is in force.

use std::time::Duration;

use crate::{TOWN_NAME, Town, parent};

fn weights(v1: u32, v2: u32) -> String {
    parent(
        "change",
        &format!(
            "  rules:\n  - backendRefs: [{{name: v1, port: 80, weight: {v1}}}, {{name: v2, port: 80, weight: {v2}}}]\n"
        ),
    )
}

#[test]
fn a_split_is_moved_and_removed_under_load_and_no_request_fails() {
    let Some(town) = Town::shared() else { return };
    let _told = town.node.told(&[TOWN_NAME]);
    let load = town.client.start_load(&["--url", "http://change/", "--concurrency", "8", "--pause-ms", "4"]);
    load.goes_on(Duration::from_secs(1));
    for (v1, v2) in [(100, 0), (90, 10), (50, 50), (0, 100), (1, 0)] {
        town.route("HTTPRoute", "change", &weights(v1, v2));
        let report = town.client.load(&["--url", "http://change/", "--requests", "1000", "--concurrency", "4"]);
        assert_eq!(report["failed"], 0, "{v1}:{v2}: {report}");
        let share = f64::from(v1) / f64::from(v1 + v2);
        let seen = report["apps"]["v1"].as_f64().unwrap_or(0.0);
        let tolerance = 4.0 * (1000.0 * share * (1.0 - share)).sqrt();
        assert!((seen - 1000.0 * share).abs() <= tolerance, "{v1}:{v2} +- {tolerance}: {report}");
    }
    town.node.kubectl(&["-n", TOWN_NAME, "delete", "httproute", "change"]).unwrap();
    causeway_tests::until("both versions answer again", Duration::from_secs(20), || {
        let report = town.client.load(&["--url", "http://change/", "--requests", "40"]);
        if report["apps"]["v2"].as_u64() > Some(0) { Ok(()) } else { Err(report.to_string()) }
    });
    let report = load.stop();
    println!("a split under change: {report}");
    assert_eq!(report["failed"], 0, "{report}");
    assert!(report["sent"].as_u64() > Some(1000), "hardly any load: {report}");
}
