//! Answers and connections that take their time: WebSockets, events one by one, long polls, silence.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use causeway_tests::capability::python;
use causeway_tests::kube::Inside;
use causeway_tests::process::{Output, Process, run};

use crate::stage::{CLIENT, SOON, Stage};

const WEBSOCKET: &str = include_str!("../../fixtures/services/websocket.yaml");

/// Above every limit of ours on what has begun: detection and handshakes 10 s, heads 15 s, HTTP/2's own keep-alive.
const LONG: Duration = Duration::from_secs(17);

/// A Python program of `tests/python` in a pod's network.
fn script(pod: &Inside, name: &str, arguments: &[&str]) -> Command {
    let mut command = pod.with_names(python());
    command.arg(format!("{}/python/{name}", env!("CARGO_MANIFEST_DIR"))).args(arguments);
    command
}

/// Starts a server of Python's in the pod of version 1.
fn serve(stage: &Stage, name: &str, port: &str, ready: &str) -> Process {
    let log = stage.node.directory().join(format!("{name}-{port}.log"));
    let server = Process::start(name, &mut script(&stage.versions[0], name, &[port]), &log);
    server.wait_for_log(ready, SOON);
    server
}

/// Version 1 alone serves them, in both forms, so that a WebSocket that ignores its route fails every second time.
pub fn websocket(stage: &Stage) {
    let _both = serve(stage, "ws_h2_server.py", "8765", "Running");
    let _plain = serve(stage, "ws_server.py", "8766", "listening");
    stage.apply(WEBSOCKET);
    for _ in 0..3 {
        let output = run(&mut script(&stage.client, "ws_client.py", &["ws://websocket.prod:8766/"]));
        assert!(output.stdout.contains("closed with 1000"), "{output:?}");
    }
    let over_http2 = |path: &str| -> Output {
        run(&mut script(&stage.client, "ws_h2_client.py", &["websocket.prod.svc.cluster.local", "8765", path]))
    };
    for _ in 0..3 {
        let output = over_http2("/chat");
        assert!(output.stdout.contains("closed with 1000"), "{output:?}");
        let greeting = format!("greeted with 2 By=spiffe://cluster.local/ns/prod/sa/v1;{CLIENT}");
        assert!(output.stdout.contains(&greeting), "{output:?}");
    }
    // Both are judged as the GET that they are, by the route and by the policy of the pod.
    assert!(over_http2("/closed").stdout.contains("refused with 410"), "{:?}", over_http2("/closed"));
    assert!(over_http2("/secret").stdout.contains("refused with 403 policy_denied"), "{:?}", over_http2("/secret"));
    let upgrade = ["-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Version: 13"];
    let asked = |path: &str| {
        let url = format!("http://websocket.prod:8766{path}");
        let key = ["-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", &url];
        stage.client.curl(&[&upgrade[..], &key].concat())
    };
    assert_eq!(asked("/closed").status, 410);
    let secret = asked("/secret");
    assert_eq!((secret.status, secret.code()), (403, "policy_denied"), "{secret:?}");
}

pub fn events(stage: &Stage) {
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let mut curl = stage.client.command("curl");
        curl.args(["-sSN", "-m", "20", version, "-H", "Accept: text/event-stream", "http://streams.prod/drip/40"]);
        let mut child = curl.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let at: Vec<Instant> = lines.map_while(Result::ok).map(|_| Instant::now()).collect();
        assert!(child.wait().unwrap().success());
        assert_eq!(at.len(), 40);
        // The server sends one each 50 ms.
        let gathered = at.windows(8).filter(|w| w[7] - w[0] < Duration::from_millis(100)).count();
        assert_eq!(gathered, 0, "{version}: eight events of 50 ms came within 100 ms");
        assert!(at[39] - at[0] >= Duration::from_millis(1500), "{version}: {:?}", at[39] - at[0]);
    }
}

pub fn silence(stage: &Stage) {
    let _server = serve(stage, "ws_server.py", "8767", "listening");
    let address = stage.address("prod", "version=v1");
    let (client, seconds) = (stage.client, LONG.as_secs());
    let python = |text: String| run(client.with_names(python()).args(["-c", &text]));
    std::thread::scope(|scope| {
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            scope.spawn(move || {
                let poll = format!("http://streams.prod/slow/{}", LONG.as_millis());
                let reply = client.curl(&["-m", "60", version, &poll]);
                assert_eq!(reply.status, 200, "{version}: {reply:?}");
            });
        }
        scope.spawn(|| {
            // A client that says nothing for long after the greeting.
            let late = format!(
                "import socket,time\ns=socket.create_connection(('streams.prod',9001))\ntime.sleep({seconds})\n\
                 s.sendall(b'late')\ns.shutdown(1)\nprint(s.makefile().read())"
            );
            let output = python(late);
            assert!(output.stdout.ends_with("\nlateend 4\n\n"), "{output:?}");
        });
        scope.spawn(|| {
            let twice = format!(
                "from websockets.sync.client import connect\nimport time\n\
                 c=connect('ws://{address}:8767/',proxy=None,ping_interval=None)\nc.send('x'); \
                 assert c.recv(timeout=5)=='x'\ntime.sleep({seconds})\nc.send('y'); print(c.recv(timeout=5)); c.close()"
            );
            let output = python(twice);
            assert!(output.stdout.ends_with("y\n"), "{output:?}");
        });
    });
}
