//! Applications close connections that they have kept, sometimes just as a request arrives: it must not show.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
    head(stream).is_some()
}

/// The head of the next request; None: there is none.
fn head(stream: &mut TcpStream) -> Option<String> {
    let mut read = Vec::new();
    let mut byte = [0];
    while !read.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => read.push(byte[0]),
            _ => return None,
        }
    }
    String::from_utf8(read).ok()
}

/// Answers one request and dies of the next one as a killed process does, whose connections Linux closes before the
/// socket on which it listens: who comes again at once is still let in. Returns its port and whether it is dead.
fn mortal() -> (u16, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let dead = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&dead);
    std::thread::spawn(move || {
        let (mut kept, _) = listener.accept().unwrap();
        assert!(read_head(&mut kept));
        kept.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
        assert!(read_head(&mut kept));
        drop(kept);
        let (queued, _) = listener.accept().unwrap();
        assert_eq!(queued.peek(&mut [0]).unwrap(), 1);
        drop(listener);
        told.store(true, Ordering::Relaxed);
        drop(queued); // unread, so that it is reset
    });
    (port, dead)
}

/// A pod `name` in `namespace`.
fn pod(namespace: &str, name: &str, injected: bool) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: \
         {{causeway.dev/injected: \"{injected}\"}}}}\nspec: {{serviceAccountName: {name}, containers: [{{name: a, \
         image: a}}]}}\nstatus: {{phase: Running, podIP: 127.0.0.1}}\n"
    )
}

/// A Service `name` in `prod` of these pods there, each with the port where it is found.
fn service(name: &str, pods: &[(&str, u16)]) -> String {
    let service = format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: prod}}\nspec: {{ports: [{{name: http, \
         port: 80, targetPort: 8080}}]}}\n"
    );
    let slices = pods.iter().map(|(pod, port)| {
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}-{pod}, namespace: prod, \
             labels: {{kubernetes.io/service-name: {name}}}}}\naddressType: IPv4\nports: [{{name: http, port: \
             {port}}}]\nendpoints:\n- {{addresses: [127.0.0.1], conditions: {{ready: true}}, targetRef: {{kind: Pod, name: \
             {pod}, namespace: prod}}}}\n"
        )
    });
    std::iter::once(service).chain(slices).collect()
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
    let pods = [pod("dev", "web", true), pod("prod", "meshed", true), pod("prod", "plain", false)].concat();
    let services = [service("meshed", &[("meshed", meshed.inbound)]), service("plain", &[("plain", plain)])].concat();
    laptop.write("mesh.yaml", &(pods + &services));
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

#[test]
fn an_application_that_is_killed_with_a_request_that_may_be_repeated_costs_none() {
    let mut laptop = Laptop::start("", &[]);
    let (web, dying, living) = (laptop.side(), laptop.side(), laptop.side());
    let (app, is_dead) = mortal();
    let (other, _) = fickle();
    let pods = [pod("dev", "web", true), pod("prod", "dying", true), pod("prod", "living", true)].concat();
    let endpoints = [("dying", dying.inbound), ("living", living.inbound)];
    // In turn, so that the one that dies is not passed over for having been slow once.
    let rule = "---\napiVersion: causeway.dev/v1alpha1\nkind: DestinationRule\nmetadata: {name: both, namespace: prod}\nspec: {host: \
                both, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}\n";
    laptop.write("mesh.yaml", &[&pods, &service("both", &endpoints), rule].concat());
    laptop.proxy("prod/dying", "dying", dying, app, &[]);
    laptop.proxy("prod/living", "living", living, other, &[]);
    laptop.proxy("dev/web", "web", web, 9, &[]);
    until("the Service answers", Duration::from_secs(20), || match status(web, "GET", "both") {
        200 => Ok(()),
        other => Err(format!("status {other}")),
    });
    let mut statuses = Vec::new();
    until("the application dies of a request", Duration::from_secs(20), || {
        statuses.push(status(web, "GET", "both"));
        if is_dead.load(Ordering::Relaxed) { Ok(()) } else { Err(format!("{statuses:?}")) }
    });
    assert!(statuses.iter().all(|s| *s == 200), "{statuses:?}");
}

/// Answers with as many fields as an application may, and says how many of the request's are `x-`. Returns its port.
fn wordy() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let fields: String = (0..99).map(|n| format!("x-{n}: 1\r\n")).collect();
                while let Some(head) = head(&mut stream) {
                    let body = format!("{:>4}", head.matches("\r\nx-of-many-").count());
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n{fields}\r\n{body}");
                    stream.write_all(answer.as_bytes()).unwrap();
                }
            });
        }
    });
    port
}

#[test]
fn as_many_fields_as_an_application_may_have_pass_whatever_way_they_take() {
    let mut laptop = Laptop::start("", &[]);
    let (web, meshed) = (laptop.side(), laptop.side());
    let pods = [pod("dev", "web", true), pod("prod", "meshed", true)].concat();
    laptop.write("mesh.yaml", &[pods, service("meshed", &[("meshed", meshed.inbound)])].concat());
    laptop.proxy("prod/meshed", "meshed", meshed, wordy(), &[]);
    laptop.proxy("dev/web", "web", web, 9, &[]);
    until("the Service answers", Duration::from_secs(20), || match status(web, "GET", "meshed") {
        200 => Ok(()),
        other => Err(format!("status {other}")),
    });
    // Host and Connection are among them; with 100 there is no room for one that a proxy adds.
    for (method, count) in [("GET", 1), ("GET", 96), ("GET", 97), ("GET", 98), ("POST", 1)] {
        let fields: String = (0..count).map(|n| format!("x-of-many-{n}: 1\r\n")).collect();
        let mut stream = TcpStream::connect(("127.0.0.1", web.outbound)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let host = "meshed.prod.svc.cluster.local";
        write!(stream, "{method} / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{fields}\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{method} {count}: {answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{count:>4}")), "{method} {count}: {answer}");
        assert_eq!(answer.matches("\r\nx-").count(), 99, "{method} {count}: {answer}");
    }
}
