//! Applications close connections that they have kept, sometimes just as a request arrives: it must not show.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use causeway_tests::laptop::{Laptop, Side};
use causeway_tests::until;

/// Answers the first request of a connection and promises to keep it; closes it when the second one has arrived.
/// Returns its port and the count of the requests that it dropped.
fn fickle() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let dropped = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&dropped);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, count) = (stream.unwrap(), Arc::clone(&count));
            std::thread::spawn(move || {
                if read_head(&mut stream) {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
                    if read_head(&mut stream) {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    (port, dropped)
}

fn read_head(stream: &mut TcpStream) -> bool {
    let mut read = Vec::new();
    let mut byte = [0];
    while !read.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => read.push(byte[0]),
            _ => return false,
        }
    }
    true
}

fn yaml(meshed: u16, plain: u16) -> String {
    let pod = |namespace: &str, name: &str, injected: bool| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: \
             {{causeway.dev/injected: \"{injected}\"}}}}\nspec: {{serviceAccountName: {name}, containers: [{{name: a, \
             image: a}}]}}\nstatus: {{phase: Running, podIP: 127.0.0.1}}\n"
        )
    };
    let service = |name: &str, port: u16| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: prod}}\nspec: {{ports: [{{name: \
             http, port: 80, targetPort: 8080}}]}}\n---\napiVersion: discovery.k8s.io/v1\nkind: \
             EndpointSlice\nmetadata: {{name: {name}, namespace: prod, labels: {{kubernetes.io/service-name: \
             {name}}}}}\naddressType: IPv4\nports: [{{name: http, port: {port}}}]\nendpoints:\n- {{addresses: \
             [127.0.0.1], conditions: {{ready: true}}, targetRef: {{kind: Pod, name: {name}, namespace: prod}}}}\n"
        )
    };
    [
        pod("dev", "web", true),
        pod("prod", "meshed", true),
        pod("prod", "plain", false),
        service("meshed", meshed),
        service("plain", plain),
    ]
    .concat()
}

/// One request on a connection of its own; the status.
fn status(web: Side, method: &str, service: &str) -> u16 {
    let mut stream = TcpStream::connect(("127.0.0.1", web.outbound)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let length = if method == "POST" { "content-length: 0\r\n" } else { "" };
    let host = format!("{service}.prod.svc.cluster.local");
    write!(stream, "{method} http://{host}/ HTTP/1.1\r\nhost: {host}\r\n{length}connection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_default()
}

#[test]
fn a_kept_connection_that_closes_under_a_request_costs_no_request_that_may_be_repeated() {
    let mut laptop = Laptop::start("", &[]);
    let (web, meshed) = (laptop.side(), laptop.side());
    let (app, app_dropped) = fickle();
    let (plain, plain_dropped) = fickle();
    laptop.write("mesh.yaml", &yaml(meshed.inbound, plain));
    laptop.proxy("prod/meshed", "meshed", meshed, app, &[]);
    laptop.proxy("dev/web", "web", web, 9, &[]);
    for (service, dropped) in [("meshed", &app_dropped), ("plain", &plain_dropped)] {
        until(&format!("{service} answers"), Duration::from_secs(20), || match status(web, "GET", service) {
            200 => Ok(()),
            other => Err(format!("status {other}")),
        });
        for _ in 0..20 {
            assert_eq!(status(web, "GET", service), 200, "{service}");
        }
        assert!(dropped.load(Ordering::Relaxed) >= 10, "the case did not arise: {service}");
        // What may have been acted upon is not sent twice: the caller is told and decides.
        let posts: Vec<u16> = (0..4).map(|_| status(web, "POST", service)).collect();
        assert!(posts.iter().all(|s| [200, 502].contains(s)) && posts.contains(&502), "{service}: {posts:?}");
    }
}
