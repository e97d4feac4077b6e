//! Many streams at once, by counts: a change goes to those whom it concerns, and is no more than what it changes.
//! Times and memory are measured by tests/bench/scale.

use std::fmt::Write as _;

use causeway_mesh::wire;
use prost::Message as _;

use crate::client::{Plane, Stream, hello};

const STREAMS: usize = 100;
const SERVICES: usize = 200;
/// Services that each stream uses besides the one that all use.
const CALLS: usize = 4;

/// Service `n`, with one pod.
fn service(n: usize) -> String {
    let (namespace, ip) = (format!("team-{}", n / 20), format!("10.128.{}.{}", n / 200, n % 200 + 1));
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{ name: s{n}, namespace: {namespace} }}\n\
         spec: {{ clusterIP: 10.96.1.{}, selector: {{ app: s{n} }}, ports: [{{ name: http, port: 80, targetPort: 8080 }}] }}\n{}",
        n + 1,
        pod(&namespace, &format!("s{n}"), &format!("s{n}-0"), &ip)
    )
}

fn pod(namespace: &str, app: &str, name: &str, ip: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\n\
         metadata: {{ name: {name}, namespace: {namespace}, labels: {{ app: {app}, causeway.dev/injected: 'true' }} }}\n\
         spec: {{ serviceAccountName: {app}, containers: [] }}\n\
         status: {{ podIP: {ip}, phase: Running, conditions: [{{ type: Ready, status: 'True' }}] }}\n"
    )
}

fn route(weight: u32) -> String {
    format!(
        "apiVersion: causeway.dev/v1alpha1\nkind: VirtualService\nmetadata: {{ name: hot, namespace: team-0 }}\n\
         spec: {{ hosts: [s0], http: [{{ route: [\n\
         {{ destination: {{ host: s0 }}, weight: {weight} }}, {{ destination: {{ host: s1 }}, weight: 1 }} ] }}] }}\n"
    )
}

/// The texts that stream `n` asks for.
fn asked(n: usize) -> Vec<String> {
    let others = (0..CALLS).map(|c| 20 + (n + c * 45) % (SERVICES - 40));
    let text = |s: usize| format!("s{s}.team-{}.svc.cluster.local:80", s / 20);
    std::iter::once(0).chain(others).map(text).collect()
}

async fn pushed(plane: &Plane) -> (f64, f64) {
    let of = |name: &'static str| plane.metric(name);
    (of("causeway_control_plane_pushes_total").await, of("causeway_control_plane_pushed_resources_total").await)
}

/// Applies the next batch of every stream: what each brought.
async fn apply(streams: &mut [Stream]) -> Vec<wire::Update> {
    let mut all = Vec::new();
    for stream in streams {
        all.push(stream.apply().await);
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_goes_to_those_whom_it_concerns_and_brings_what_changed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("source")).unwrap();
    let mut cluster = String::new();
    (0..SERVICES).for_each(|n| write!(cluster, "{}", service(n)).unwrap());
    std::fs::write(dir.path().join("source/cluster.yaml"), cluster).unwrap();
    std::fs::write(dir.path().join("source/route.yaml"), route(1)).unwrap();
    let cold = |last: u8| pod("team-9", "s199", "s199-1", &format!("10.129.0.{last}"));
    std::fs::write(dir.path().join("source/cold.yaml"), cold(1)).unwrap();
    let plane = Plane::start_in(dir, &[]).await;

    let mut streams = Vec::new();
    for n in 0..STREAMS {
        let service = 40 + n;
        let (namespace, account) = (format!("team-{}", service / 20), format!("s{service}"));
        let hello = wire::Hello { destinations: asked(n), ..hello(&format!("{namespace}/s{service}-0")) };
        streams.push(plane.watch(&format!("{namespace}/{account}"), hello).await.unwrap());
    }
    for update in apply(&mut streams).await {
        // Its workload, the roots, what it asked for and its namespace's 20 Services, each with its endpoints.
        assert!(update.resources.len() <= 2 + 2 * (CALLS + 2 + 20), "{}", update.resources.len());
    }

    for weight in 2..6 {
        let before = pushed(&plane).await;
        plane.write("route.yaml", &route(weight));
        for update in apply(&mut streams).await {
            let names: Vec<&str> = update.resources.iter().map(|r| r.name.as_str()).collect();
            assert_eq!(names, ["destination/s0.team-0.svc.cluster.local:80"]);
            assert!(update.encoded_len() < 600, "{} bytes", update.encoded_len());
        }
        let now = pushed(&plane).await;
        assert_eq!((now.0 - before.0, now.1 - before.1), (STREAMS as f64, STREAMS as f64));
        // An endpoint that nobody uses: the next thing that anybody hears is the next weight.
        let compiled = plane.metric("causeway_control_plane_compile_seconds_count").await;
        plane.write("cold.yaml", &cold(weight as u8));
        for _ in 0..500 {
            if plane.metric("causeway_control_plane_compile_seconds_count").await > compiled {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert!(plane.metric("causeway_control_plane_compile_seconds_count").await > compiled);
        assert_eq!(pushed(&plane).await, now);
    }
}
