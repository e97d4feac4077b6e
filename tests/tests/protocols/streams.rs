//! Answers that take their time: events one by one, long polls, silent connections. Nothing cuts or gathers them.

use std::time::Duration;

use causeway_tests::capability::{Need, has, python};
use causeway_tests::process::run;

use super::{needs, pair};

/// Above every limit of ours on what has begun: detection and handshakes 10 s, heads 15 s, HTTP/2's own keep-alive.
const LONG: u64 = 22;

#[test]
fn events_arrive_one_by_one_over_either_version() {
    if !needs() {
        return;
    }
    let pair = pair();
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let mut command = pair.client.command("sh");
        // Each line with the time at which it came, in milliseconds.
        let script = format!(
            "curl -sSN -m 20 {version} -H 'Accept: text/event-stream' http://server.prod/drip/40 | while read -r l; do \
             echo \"$l $(date +%s%3N)\"; done"
        );
        let lines = run(command.args(["-c", &script])).ok();
        let at: Vec<u64> = lines.lines().filter_map(|l| l.split_once(' ')?.1.parse().ok()).collect();
        assert_eq!(at.len(), 40, "{lines}");
        let gathered = at.windows(8).filter(|w| w[7] - w[0] < 100).count();
        assert_eq!(gathered, 0, "{version}: eight events of 50 ms came within 100 ms: {at:?}");
        assert!(at[39] - at[0] >= 1500, "{version}: {at:?}");
    }
}

#[test]
fn nothing_cuts_what_is_silent_for_long() {
    if !needs() || !has(&[Need::Python]) {
        return;
    }
    let mut pair = pair();
    pair.server.app(&["tcp-echo", "--listen", "[::]:9000"]);
    let mut server = pair.python("ws_h2_server.py");
    pair.server.spawn(server.arg("8765")).wait_for_log("Running", Duration::from_secs(20));
    let poll = format!("http://server.prod/slow/{}", LONG * 1000);
    let silent = (LONG * 1000).to_string();
    std::thread::scope(|scope| {
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            let (pair, poll) = (&pair, &poll);
            scope.spawn(move || {
                let reply = pair.client.curl(&["-m", "60", version, poll]);
                assert_eq!((reply.status, reply.body.as_str()), (200, "server\n"), "{version}: {reply:?}");
            });
        }
        scope.spawn(|| {
            // A client that says nothing at first, and one that says something, is silent, and goes on.
            let late = format!("import socket,sys,time\ns=socket.create_connection(('server.prod',9000))\ntime.sleep({LONG})\ns.sendall(b'late')\ns.shutdown(1)\nprint(s.makefile().read())");
            let output = run(pair.client.net().command(python()).args(["-c", &late]));
            assert_eq!(output.stdout, "lateend 4\n\n", "{output:?}");
        });
        scope.spawn(|| {
            let twice = format!("from websockets.sync.client import connect\nimport time\nc=connect('ws://server.prod:8765/',proxy=None,ping_interval=None)\nprint(c.recv())\nfor _ in range(2):\n  c.send('x'); assert c.recv(timeout=5)=='x'; time.sleep({LONG}/2)\nc.send('y'); print(c.recv(timeout=5)); c.close()");
            let output = run(pair.client.net().command(python()).args(["-c", &twice]));
            assert!(output.stdout.ends_with("y\n"), "{output:?}");
        });
        let idle = pair.client.client(&["talk", "--connect", "server.prod:80", "--timeout-ms", &silent]);
        assert_eq!(idle["end"], "timeout", "an HTTP connection that has not begun is left alone: {idle}");
    });
}
