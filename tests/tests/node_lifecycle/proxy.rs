//! A proxy dies at once, as when memory runs out, and the kubelet starts it again.

use std::time::{Duration, Instant};

use causeway_tests::kube::Inside;
use causeway_tests::until;

use crate::capture::{Capture, MARKER};
use crate::stage::{Stage, URL, finish, kill};

/// From the kill to the first answer: the kubelet notices within a second or two, the proxy itself needs far less.
const BACK: Duration = Duration::from_secs(10);

/// The proxy of a client: nothing passes while it is gone, and it needs nobody's help to come back.
pub fn killed(stage: &Stage) {
    let node = stage.node;
    let pod = node.pod("life", "app=victim");
    let load = stage.start_load();
    let capture = Capture::start(node);
    kill(node.container_pid("life", &pod, "causeway-proxy"));
    let killed = Instant::now();
    let mut refused = 0;
    until("the victim is served again", Duration::from_secs(60), || {
        let reply = stage.victim.curl(&["-m", "2", "-H", &format!("x-marker: {MARKER}"), URL]);
        refused += u32::from(reply.status == 0);
        if reply.status == 200 { Ok(()) } else { Err(format!("{reply:?}")) }
    });
    let back = killed.elapsed();
    println!("   {refused} refused; served again {:.2} s after the kill", back.as_secs_f64());
    load.goes_on(Duration::from_secs(1)); // a proxy is back too soon for much of a load
    assert!(refused > 0, "somebody else served while there was no proxy");
    assert!(back < BACK, "{back:?}");
    assert_eq!(stage.restarts(&pod, "app"), 0, "the application stays");
    capture.finish();
    finish(load);
    println!("   proxy ready {} ms after its start", ready_after(stage, &pod));
}

/// The proxy of a server: its connections are lost, whatever comes later is served by the other replica.
pub fn killed_at_the_server(stage: &Stage) {
    let node = stage.node;
    let pod = stage.names("life", "server").remove(0);
    let app = node.inside("life", &pod, "app");
    let load = stage.start_load();
    load.goes_on(Duration::from_secs(1));
    kill(node.container_pid("life", &pod, "causeway-proxy"));
    until("the proxy is started again", Duration::from_secs(30), || match stage.restarts(&pod, "causeway-proxy") {
        0 => Err("not yet".to_owned()),
        _ => Ok(()),
    });
    until("the killed one is ready", Duration::from_secs(30), || ready(&app));
    load.goes_on(Duration::from_secs(1));
    let report = load.stop();
    println!("   load: {report}");
    // What was in flight through it when it died, one request for each of the load's connections at most.
    assert!(report["failed"].as_u64() <= Some(4), "{report}");
    assert!(report["sent"].as_u64() > Some(100), "{report}");
}

fn ready(pod: &Inside) -> Result<(), String> {
    let reply = pod.curl(&["-m", "2", "http://127.0.0.1:15020/ready"]);
    if reply.status == 200 { Ok(()) } else { Err(reply.body) }
}

/// Milliseconds from the first line of the proxy's log to `ready`, by the log's own clock.
fn ready_after(stage: &Stage, pod: &str) -> i64 {
    let log = stage.node.kubectl(&["-n", "life", "logs", pod, "-c", "causeway-proxy"]).unwrap();
    let millis = |line: &str| {
        let clock = line.split('T').nth(1)?.split('Z').next()?;
        let parts: Vec<f64> = clock.split(':').filter_map(|p| p.parse().ok()).collect();
        let [hours, minutes, seconds] = parts[..] else { return None };
        Some(((hours * 60.0 + minutes) * 60.0 + seconds) * 1e3)
    };
    let first = log.lines().find_map(millis).unwrap();
    let last = log.lines().find(|l| l.contains(" ready workload")).and_then(millis).unwrap();
    (last - first).round() as i64
}
