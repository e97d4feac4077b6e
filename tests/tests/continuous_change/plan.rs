//! What a numbered configuration says, and the judgement of what a minute of traffic was answered. How a configuration gets
//! into force is left to the suites.

use std::collections::BTreeSet;

use serde_json::Value;

pub const ROUTES: u64 = 20;
pub const PODS: u64 = 4;
pub const SECONDS: u64 = 60;

/// The weights of the two subsets of a route in a configuration.
pub fn weights(config: u64, route: u64) -> [u64; 2] {
    let first = [0, 100, 50, 10, 90][((config + route) % 5) as usize];
    [first, 100 - first]
}

/// Each configuration has subsets of its own, so that an answer tells which one it was routed by.
pub fn subset(config: u64, side: u64) -> String {
    format!("g{config}-{side}")
}

/// What a suite changes beside the weights.
pub struct Plan {
    /// Which of the two subsets of a route a pod is in: of the route, the configuration and the pod.
    pub side: fn(u64, u64, u64) -> u64,
    /// Of the configuration and the pod. One pod at most is not ready, never a whole subset.
    pub is_ready: fn(u64, u64) -> bool,
    /// So many configurations earlier or later is as good for readiness, where it does not change at once with the rest.
    pub slack: u64,
}

impl Plan {
    /// What is wrong with an answer that claims to be of a configuration, up to the `last` that there was.
    fn fault(&self, route: u64, config: &str, by: &str, app: &str, last: u64) -> Option<&'static str> {
        let Some(config) = config.parse().ok().filter(|c| *c <= last) else { return Some("no configuration") };
        let Some(side) = [0, 1].into_iter().find(|s| subset(config, *s) == by) else { return Some("its subset") };
        let Some(pod) = app.strip_prefix("shop-").and_then(|n| n.parse().ok()).filter(|p| *p < PODS) else {
            return Some("no pod");
        };
        if weights(config, route)[side as usize] == 0 {
            return Some("a weight of 0");
        }
        let mut around = config.saturating_sub(self.slack)..=config + self.slack;
        let is_its = (self.side)(route, config, pod) == side && around.any(|c| (self.is_ready)(c, pod));
        (!is_its).then_some("its endpoint")
    }

    /// Fails unless `said`, the words of `python/steady.py`, is of configurations up to `last`, without any failure.
    pub fn judge(&self, said: &Value, last: u64) {
        let (mut served, mut wrong) = (0, Vec::new());
        let mut configurations = BTreeSet::new();
        for answer in said["answers"].as_array().unwrap() {
            let text = |at: usize| answer[at].as_str().unwrap();
            served += answer[4].as_u64().unwrap();
            configurations.insert(text(1).to_owned());
            if let Some(fault) = self.fault(answer[0].as_u64().unwrap(), text(1), text(2), text(3), last) {
                wrong.push(format!("{answer}: {fault}"));
            }
        }
        println!(
            "{served} answers by {} of {last} configurations, streams {}, slowest {} ms",
            configurations.len(),
            said["streams"],
            said["slowest_ms"]
        );
        assert_eq!(said["failures"], Value::Object(serde_json::Map::default()), "no request and no stream fails");
        assert!(
            wrong.is_empty(),
            "{} kinds of answers of no configuration: {:#?}",
            wrong.len(),
            &wrong[..wrong.len().min(10)]
        );
        assert!(
            served > 1_000 && configurations.len() > 40,
            "{served} answers by {} configurations",
            configurations.len()
        );
        for stream in ["websocket", "grpc"] {
            assert!(said["streams"][stream].as_u64() > Some(SECONDS), "{stream}: {}", said["streams"]);
        }
    }
}
