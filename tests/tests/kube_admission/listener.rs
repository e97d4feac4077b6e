//! What strangers send to the webhooks' listener.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::rig::{Rig, pod};

const NAME: &str = "causeway-control-plane.causeway-system.svc";

struct Reply {
    status: u16,
    body: String,
}

/// One request by curl, which believes the mesh's roots only.
fn ask(rig: &Rig, path: &str, flags: &[&str]) -> Reply {
    let port = rig.webhook;
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "30", "--cacert", &rig.roots(), "--noproxy", "*"])
        .args(["--resolve", &format!("{NAME}:{port}:127.0.0.1"), "-w", "\n%{http_code}"])
        .args(flags)
        .arg(format!("https://{NAME}:{port}{path}"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').unwrap_or_default();
    let status = status.parse().unwrap_or_default();
    assert_ne!(status, 0, "{path}: {}", String::from_utf8_lossy(&output.stderr));
    Reply { status, body: body.to_owned() }
}

pub fn answers_reviews_only_and_outlives_garbage(rig: &Rig) {
    let json = "content-type: application/json";
    let file = |name: &str, text: &str| {
        let path = rig.directory().join(name);
        std::fs::write(&path, text).unwrap();
        format!("@{}", path.display())
    };
    let large = file("large", &format!("{{\"request\":\"{}\"}}", "a".repeat(4 << 20)));
    let deep = file("deep", &format!("{{\"request\":{{\"uid\":\"u\",\"object\":{}", "[".repeat(1 << 20)));
    let review = json!({"request": {"uid": "u", "operation": "CREATE", "object": {"kind": "Pod", "spec": {}}}});
    let review = file("review", &review.to_string());
    for (path, flags, status) in [
        ("/", vec![], 404),
        ("/metrics", vec![], 404),
        ("/inject", vec![], 405),
        ("/inject", vec!["-d", "x"], 415),
        ("/inject", vec!["-H", json, "-d", "garbage"], 400),
        ("/validate", vec!["-H", json, "-d", "{}"], 400),
        ("/validate", vec!["-H", json, "--data-binary", &deep], 400),
        ("/inject", vec!["-H", json, "-H", "expect:", "--data-binary", &large], 413),
        (
            "/inject",
            vec!["-H", json, "-H", "transfer-encoding: chunked", "-H", "expect:", "--data-binary", &large],
            413,
        ),
    ] {
        let reply = ask(rig, path, &flags);
        assert_eq!(reply.status, status, "{path} {flags:?}: {}", reply.body);
    }
    let reply = ask(rig, "/inject", &["-H", json, "--data-binary", &review]);
    assert_eq!(reply.status, 200);
    assert!(reply.body.contains("\"uid\":\"u\"") && reply.body.contains("\"allowed\":true"), "{}", reply.body);
    the_api_server_is_answered_beside_strangers(rig);
}

/// Bytes that are no TLS, handshakes that stop half way, and connections that only wait.
fn the_api_server_is_answered_beside_strangers(rig: &Rig) {
    let connect = || TcpStream::connect(("127.0.0.1", rig.webhook)).unwrap();
    let mut garbage = connect();
    garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    garbage.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut answer = Vec::new();
    let _ = garbage.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    // A ClientHello that says that more is to come.
    let waiting: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = connect();
            stream.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).unwrap();
            stream
        })
        .collect();
    rig.kubectl_with_input(&["create", "--dry-run=server", "-f", "-"], &pod("dev", "beside", &json!({}), &json!({})))
        .unwrap();
    // None of them is held for long.
    for mut stream in waiting {
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut byte = [0; 64];
        while stream.read(&mut byte).unwrap_or_else(|e| panic!("still open: {e}")) > 0 {}
    }
}
