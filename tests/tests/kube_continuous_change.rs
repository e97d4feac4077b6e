//! Traffic under continuous change on a real API server: tens of writes a second to five kinds of objects, each watched by
//! itself, while two replicas of the control plane are killed in turn; judged as the directory's changes are.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout, missing_docs, reason = "a test")]

#[path = "kube_continuous_change/front.rs"]
mod front;
#[path = "kube_source/objects.rs"]
#[allow(dead_code, reason = "made for another suite")]
mod objects;
#[path = "continuous_change/plan.rs"]
mod plan;
#[path = "kube_continuous_change/shop.rs"]
mod shop;
#[path = "kube_status/world.rs"]
#[allow(dead_code, reason = "made for another suite")]
mod world;

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use causeway_tests::capability::{Need, has, python};
use causeway_tests::process::run;
use causeway_tests::until;
use front::Front;
use plan::{PODS, Plan, ROUTES, SECONDS};
use shop::{Shop, Writer};
use tokio::runtime::Runtime;
use world::World;

const EVERY: Duration = Duration::from_millis(100);
/// From here on the routes are those of an HTTPRoute; those before it and whatever else comes are a VirtualService's.
const OF_GATEWAY: u64 = 10;
/// A pod is out of its EndpointSlices for so many configurations on end.
const SPELL: u64 = 20;
/// Every kind of object is watched by itself, so what was written within half a second may be seen in another order.
const PLAN: Plan = Plan { side, is_ready, slack: 5 };

/// Subsets of the VirtualService change their pods; backends of the HTTPRoute are Services, with pods of their own.
fn side(route: u64, config: u64, pod: u64) -> u64 {
    if (OF_GATEWAY..ROUTES).contains(&route) { pod / 2 } else { ((pod + config) % 4) / 2 }
}

fn is_ready(config: u64, pod: u64) -> bool {
    // Every fifth spell all of them are.
    (config / SPELL) % (PODS + 1) != pod
}

fn install_gateway_api(world: &World) {
    let fetch = Path::new(env!("CARGO_MANIFEST_DIR")).join("gateway-api/fetch");
    let directory = run(Command::new(fetch).arg("--definitions")).ok();
    let file = format!("{}/experimental.yaml", directory.trim());
    world.kube.kubectl(&["apply", "--server-side", "-f", &file]).unwrap();
    world.kube.kubectl(&["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"]).unwrap();
}

/// Kills the two replicas one after the other; the proxies go where the other one is, at last to one that has just started
/// and knows of the past only what the API server still has.
fn disturb(world: &mut World, front: &Front, begun: Instant) {
    let address = world::host_address().unwrap();
    let at = |part: u64| {
        let moment = Duration::from_secs(SECONDS * part / 6);
        until("its turn", moment + Duration::from_secs(60), || {
            if begun.elapsed() >= moment { Ok(()) } else { Err(format!("{:?}", begun.elapsed())) }
        });
    };
    for (part, name) in [(1, "cp-1"), (4, "cp-2")] {
        at(part);
        world.kill_replica(name);
        world.publish_replicas();
        front.lead_to_replicas(world);
        at(part + 1);
        world.replica(name, address);
        world.publish_replicas();
        front.lead_to_replicas(world);
    }
}

#[test]
fn no_request_fails_while_five_kinds_of_objects_change_and_control_planes_die() {
    if !has(&[Need::Kubernetes, Need::GatewayApi, Need::Program("curl"), Need::Python]) {
        return;
    }
    // An EndpointSlice may name no loopback address.
    let address = world::host_address().expect("an address of this machine beside loopback");
    let runtime = Runtime::new().unwrap();
    let mut world = World::start();
    install_gateway_api(&world);
    world.replica("cp-1", address);
    world.until_leader("cp-1");
    world.replica("cp-2", address);
    world.publish_replicas();
    let front = Front::start(&runtime);
    front.lead_to_replicas(&world);
    let mut writer = Writer::new(&runtime, world.kube.kubeconfig());
    let shop = Shop::open(&world, front.port, address, &mut writer);
    until("the first configuration is in force on every route", Duration::from_secs(60), || {
        (0..ROUTES).try_for_each(|route| shop.answers(route, 0))
    });

    let script = format!("{}/python/steady.py", env!("CARGO_MANIFEST_DIR"));
    let (last, is_over, begun) = (AtomicU64::new(0), AtomicBool::new(false), Instant::now());
    let said = std::thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let mut command = Command::new("timeout");
            let (seconds, port) = (SECONDS.to_string(), shop.client.to_string());
            let said = run(command.arg("150").arg(python()).args([&script, "shop.prod", &seconds, &port]));
            is_over.store(true, Ordering::SeqCst);
            said
        });
        let changes = scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                let next = last.fetch_add(1, Ordering::SeqCst) + 1;
                writer.change(next);
                std::thread::sleep((EVERY * u32::try_from(next).unwrap()).saturating_sub(begun.elapsed()));
            }
        });
        disturb(&mut world, &front, begun);
        changes.join().unwrap();
        traffic.join().unwrap().json()
    });
    let last = last.into_inner();
    println!("{} writes in {:?}, {} connections of proxies", writer.writes, begun.elapsed(), front.connections());
    PLAN.judge(&said, last);
    until("the last configuration is in force on every route", Duration::from_secs(30), || {
        (0..ROUTES).try_for_each(|route| shop.answers(route, last))
    });
    assert!(last > SECONDS, "{last} configurations in {SECONDS} s");
}
