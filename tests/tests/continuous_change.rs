//! Traffic under continuous change: routes, weights, subsets, labels and readiness change every 100 ms, all at once and in
//! one file, so that each number stands for one configuration; every answer says which one it was routed by.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout, missing_docs)]

#[path = "continuous_change/plan.rs"]
mod plan;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use causeway_tests::capability::{Need, has, python};
use causeway_tests::process::run;
use causeway_tests::yaml::{self, Port};
use causeway_tests::{Mesh, Pod, PodSpec, Settings, until};
use plan::{PODS, Plan, ROUTES, SECONDS, subset, weights};

const PORTS: &[Port<'_>] = &[
    Port { name: "http", port: 80, target: 8080 },
    Port { name: "http-ws", port: 8765, target: 8765 },
    Port { name: "grpc", port: 50051, target: 50051 },
];
const EVERY: Duration = Duration::from_millis(100);
/// One file is one change: readiness too is exactly that of the configuration.
const PLAN: Plan = Plan { side: |_, config, pod| side(config, pod), is_ready, slack: 0 };

/// Which of the two subsets a pod is in.
fn side(config: u64, pod: u64) -> u64 {
    ((pod + config) % 4) / 2
}

/// One pod at most is not ready, never a whole subset.
fn is_ready(config: u64, pod: u64) -> bool {
    !config.is_multiple_of(3) || (config / 3) % PODS != pod
}

/// Everything that changes, as one file. (Where a subset's name stays and its labels change, a request that was routed
/// before the change may go to a pod that joined with it: endpoints are always the newest that are known.)
fn configuration(config: u64, pods: &[Pod]) -> String {
    let [one, other] = [0, 1].map(|s| subset(config, s));
    let mut text = format!(
        "apiVersion: causeway.dev/v1alpha1\nkind: DestinationRule\nmetadata: {{name: shop, namespace: prod}}\nspec:\n  host: \
         shop\n  subsets: [{{name: {one}, labels: {{side: s0}}}}, {{name: {other}, labels: {{side: s1}}}}]\n---\napiVersion: \
         causeway.dev/v1alpha1\nkind: VirtualService\nmetadata: {{name: shop, namespace: prod}}\nspec:\n  hosts: [shop]\n  \
         http:\n"
    );
    let to = |name: &str, weight| {
        format!(
            "{{destination: {{host: shop, subset: {name}}}, weight: {weight}, headers: {{response: {{set: {{x-subset: \
             {name}}}}}}}}}"
        )
    };
    for route in 0..=ROUTES {
        let [first, second] = weights(config, route);
        let condition =
            if route < ROUTES { format!("uri: {{prefix: /r/{route}/}}") } else { "uri: {prefix: /}".to_owned() };
        let _ = writeln!(
            text,
            "  - match: [{{{condition}}}]\n    headers: {{response: {{set: {{x-config: \"{config}\"}}}}}}\n    route: [{}, {}]",
            to(&one, first),
            to(&other, second)
        );
    }
    for (pod, number) in pods.iter().zip(0..) {
        let labels =
            [("app", "shop"), ("side", ["s0", "s1"][side(config, number) as usize]), ("causeway.dev/injected", "true")];
        let labels = labels.map(|(n, v)| (n.to_owned(), v.to_owned()));
        let net = (pod.net().ip, pod.net().ip6);
        let pod = yaml::pod("prod", &format!("shop-{number}"), "shop", &labels, net, "", is_ready(config, number));
        let _ = write!(text, "---\n{pod}");
    }
    text
}

fn stage() -> (Mesh, Vec<Pod>, Pod) {
    let mesh = Mesh::start(Settings::default());
    mesh.service("prod", "shop", PORTS, &[("app", "shop")]);
    let pods: Vec<Pod> = (0..PODS)
        .map(|number| {
            let spec = PodSpec::new("prod", &format!("shop-{number}")).account("shop").label("app", "shop");
            let mut pod = mesh.pod(spec.label("side", ["s0", "s1"][side(0, number) as usize]));
            pod.serve_http(&format!("shop-{number}"), 8080);
            for (script, at) in [("ws_h2_server.py", "8765"), ("grpc_server.py", "[::]:50051")] {
                let script = format!("{}/python/{script}", env!("CARGO_MANIFEST_DIR"));
                let mut command = pod.net().command(python());
                pod.spawn(command.args([&script, at])).wait_for_log("listening", Duration::from_secs(30));
            }
            pod
        })
        .collect();
    for pod in &pods {
        pod.wait_ready();
    }
    mesh.write("all.yaml", &configuration(0, &pods));
    pods.iter().for_each(|pod| mesh.forget(pod));
    let client = mesh.pod(PodSpec::new("dev", "client")).ready();
    for port in [80, 8765] {
        let url = format!("http://shop.prod:{port}/r/1/x");
        until("the first configuration is in force", Duration::from_secs(30), || {
            let reply = client.curl(&[&url]);
            if reply.status == 200 && reply.header("x-config") == "0" { Ok(()) } else { Err(format!("{reply:?}")) }
        });
    }
    (mesh, pods, client)
}

#[test]
fn every_answer_is_of_a_configuration_that_existed_and_none_fails() {
    if !has(&[Need::Namespaces, Need::Program("curl"), Need::Python]) {
        return;
    }
    let (mesh, pods, client) = stage();
    let script = format!("{}/python/steady.py", env!("CARGO_MANIFEST_DIR"));
    let begun = Instant::now();
    let mut last = 0;
    let said = std::thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let mut command = client.net().command("timeout");
            let seconds = SECONDS.to_string();
            run(command.arg("120").arg(python()).args([&script, "shop.prod", &seconds])).json()
        });
        while !traffic.is_finished() {
            last += 1;
            mesh.write("all.yaml", &configuration(last, &pods));
            std::thread::sleep((EVERY * u32::try_from(last).unwrap()).saturating_sub(begun.elapsed()));
        }
        traffic.join().unwrap()
    });
    PLAN.judge(&said, last);
}
