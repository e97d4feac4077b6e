//! How often a pair of proxies asks for memory per request on a kept connection: counted, not timed, and bounded.
//!
//! This program is its own proxy: started with `as-proxy` it is `causeway-proxy` with an allocator that counts. The
//! counts of each side are asked for over loopback, before and after a number of requests.
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout, reason = "a test")]

use std::alloc::System;
use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, ExitCode};
use std::time::Duration;

use causeway_tests::laptop::{Laptop, Side};
use causeway_tests::ports::free_port;
use causeway_tests::until;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Where a counted proxy tells its counts.
const COUNT_AT: &str = "CAUSEWAY_TEST_COUNT_AT";
const NAME: &str = "a_request_on_a_kept_connection_asks_for_memory_only_so_often";
const REQUESTS: u64 = 2_000;

/// What a load may cost: allocations (grown ones too) and bytes, per request. What was measured and a little more; who
/// makes it less lowers it.
struct Bound {
    load: &'static str,
    request: &'static [u8],
    /// Sent one on each before the first answer is read: one alone goes another way between the proxies than several.
    connections: usize,
    outbound: (f64, f64),
    inbound: (f64, f64),
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: site.prod\r\nUser-Agent: count\r\nAccept: */*\r\n\r\n";

const BOUNDS: [Bound; 3] = [
    Bound { load: "GET alone", request: GET, connections: 1, outbound: (21.5, 7_600.0), inbound: (16.5, 5_600.0) },
    Bound {
        load: "GET with others",
        request: GET,
        connections: 10,
        outbound: (18.0, 7_100.0),
        inbound: (11.0, 6_300.0),
    },
    Bound {
        load: "POST with 16 bytes",
        request:
            b"POST / HTTP/1.1\r\nHost: site.prod\r\nUser-Agent: count\r\nContent-Length: 16\r\n\r\n0123456789abcdef",
        connections: 1,
        outbound: (22.5, 19_300.0),
        inbound: (17.5, 15_600.0),
    },
];

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().peekable();
    let _program = arguments.next();
    if arguments.next_if(|first| first == "as-proxy").is_some() {
        let listener = TcpListener::bind(std::env::var(COUNT_AT).unwrap()).unwrap();
        std::thread::spawn(move || tell(&listener));
        return causeway_proxy::main_from(std::iter::once("causeway-proxy".into()).chain(arguments).collect());
    }
    // Of the arguments of a test program only names matter here.
    let wanted: Vec<String> = arguments.map(|a| a.to_string_lossy().into_owned()).collect();
    let names = || wanted.iter().filter(|a| !a.starts_with('-'));
    if wanted.iter().any(|a| a == "--list" || a == "--ignored")
        || names().count() > 0 && !names().any(|a| NAME.contains(a.as_str()))
    {
        println!("\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out");
        return ExitCode::SUCCESS;
    }
    println!("\nrunning 1 test");
    let is_good = std::panic::catch_unwind(guard).unwrap_or(false);
    println!("test {NAME} ... {}", if is_good { "ok" } else { "FAILED" });
    let (verdict, passed) = if is_good { ("ok", 1) } else { ("FAILED", 0) };
    println!("\ntest result: {verdict}. {passed} passed; {} failed; 0 ignored; 0 measured; 0 filtered out", 1 - passed);
    ExitCode::from(u8::from(!is_good))
}

/// Tells whoever connects how many allocations there were, and of how many bytes.
fn tell(listener: &TcpListener) {
    for stream in listener.incoming() {
        let stats = COUNTED.stats();
        let _ = writeln!(stream.unwrap(), "{} {}", stats.allocations + stats.reallocations, stats.bytes_allocated);
    }
}

/// Two counted proxies on loopback, and what is between them and the test.
struct Pair {
    client: Side,
    counts: [u16; 2],
    _laptop: Laptop,
}

fn guard() -> bool {
    let pair = pair();
    let mut is_good = true;
    for bound in &BOUNDS {
        let mut streams: Vec<_> = (0..bound.connections).map(|_| connected(&pair)).collect();
        let mut exchange_all = |requests: u64| {
            for _ in 0..requests / bound.connections as u64 {
                streams.iter_mut().for_each(|stream| stream.get_mut().write_all(bound.request).unwrap());
                streams.iter_mut().for_each(answered);
            }
        };
        exchange_all(500);
        let before = pair.counts.map(counted);
        exchange_all(REQUESTS);
        let after = pair.counts.map(counted);
        for (side, most, (before, after)) in
            [("outbound", bound.outbound, (before[0], after[0])), ("inbound", bound.inbound, (before[1], after[1]))]
        {
            let each = |from: u64, to: u64| to.saturating_sub(from) as f64 / REQUESTS as f64;
            let (times, bytes) = (each(before.0, after.0), each(before.1, after.1));
            let is_within = times <= most.0 && bytes <= most.1;
            println!(
                "{}, {side}: {times:.2} allocations of {bytes:.0} bytes per request; at most {} of {}{}",
                bound.load,
                most.0,
                most.1,
                if is_within { "" } else { ": MORE" }
            );
            is_good &= is_within;
        }
    }
    is_good
}

fn pair() -> Pair {
    let mut laptop = Laptop::start("", &[]);
    let (client, server, app) = (laptop.side(), laptop.side(), free_port());
    laptop.write("mesh.yaml", &mesh(server.inbound));
    laptop.app("app", &["http", "--name", "one", "--listen", &format!("127.0.0.1:{app}")]);
    let counts = [free_port(), free_port()];
    for (workload, account, side, count) in
        [("prod/one", "one", server, counts[1]), ("dev/web", "web", client, counts[0])]
    {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("as-proxy").env(COUNT_AT, format!("127.0.0.1:{count}"));
        laptop.proxy_by(command, workload, account, side, app, &["--workers", "1", "--access-log", "off"]);
    }
    until("an answer through the pair", Duration::from_secs(20), || {
        let mut stream = TcpStream::connect(("127.0.0.1", client.outbound)).map_err(|e| e.to_string())?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: site.prod\r\nConnection: close\r\n\r\n")
            .map_err(|e| e.to_string())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(|e| e.to_string())?;
        if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(answer) }
    });
    Pair { client, counts, _laptop: laptop }
}

/// `dev/web` calls `site.prod`, whose one pod listens for the mesh on `port`; split and policy as in any mesh.
fn mesh(port: u16) -> String {
    let pod = |namespace: &str, name: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{app: {name}, \
             causeway.dev/injected: \"true\"}}}}\nspec: {{serviceAccountName: {name}, containers: [{{name: a, image: \
             a}}]}}\nstatus: {{phase: Running, podIP: 127.0.0.1, conditions: [{{type: Ready, status: \"True\"}}]}}\n"
        )
    };
    format!(
        "{}{}---\napiVersion: v1\nkind: Service\nmetadata: {{name: site, namespace: prod}}\nspec: {{ports: [{{name: http, \
         port: 80, targetPort: {port}}}]}}\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: \
         site-1, namespace: prod, labels: {{kubernetes.io/service-name: site}}}}\naddressType: IPv4\nports: [{{name: http, \
         port: {port}, protocol: TCP}}]\nendpoints:\n- {{addresses: [127.0.0.1], conditions: {{ready: true}}, targetRef: \
         {{kind: Pod, name: one, namespace: prod}}}}\n---\napiVersion: causeway.dev/v1alpha1\nkind: DestinationRule\n\
         metadata: {{name: site, namespace: prod}}\nspec: {{host: site, subsets: [{{name: a, labels: {{app: one}}}}, {{name: \
         b, labels: {{app: one}}}}]}}\n---\napiVersion: causeway.dev/v1alpha1\nkind: VirtualService\nmetadata: {{name: site, \
         namespace: prod}}\nspec: {{hosts: [site], http: [{{route: [{{destination: {{host: site, subset: a}}, weight: 90}}, \
         {{destination: {{host: site, subset: b}}, weight: 10}}]}}]}}\n---\napiVersion: causeway.dev/v1alpha1\nkind: \
         AuthorizationPolicy\nmetadata: {{name: web, namespace: prod}}\nspec: {{selector: {{matchLabels: {{app: one}}}}, \
         action: ALLOW, rules: [{{from: [{{source: {{principals: [cluster.local/ns/dev/sa/web]}}}}]}}]}}\n",
        pod("dev", "web"),
        pod("prod", "one"),
    )
}

/// The counts of a proxy: allocations, bytes.
fn counted(port: u16) -> (u64, u64) {
    let mut text = String::new();
    TcpStream::connect(("127.0.0.1", port)).unwrap().read_to_string(&mut text).unwrap();
    let mut numbers = text.split_whitespace().map(|n| n.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// A connection to the client's proxy.
fn connected(pair: &Pair) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", pair.client.outbound)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    BufReader::new(stream)
}

/// The whole of an answer.
fn answered(stream: &mut BufReader<TcpStream>) {
    use std::io::BufRead as _;
    let (mut length, mut line) = (0, String::new());
    stream.read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 200"), "{line}");
    while line != "\r\n" {
        line.clear();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the answer ended in its head");
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
}
