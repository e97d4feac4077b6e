//! The API server as the source: the same kinds as in a directory, watched, each object cut down before it is held.
//!
//! What was read stays in force until the API server itself says otherwise: a failed, forbidden or half list deletes
//! nothing. A broken object is a problem of its own and stops nothing.

mod batch;
mod fault;
mod follow;
mod intake;
mod kinds;
mod known;
mod mask;
mod places;

use super::Event;
use super::read::object;
use super::resource::Origin;
use crate::clock;
use follow::{Follower, Step};
use intake::{Intake, Orders};
use kinds::{Installed, Target};
use known::Read;
use mask::{Builtin, Custom, Definition, Machine, Object, Shape};
use places::Located;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

/// Most objects of one page of a list.
const PAGE: u32 = 500;
/// A Pod has tens of kilobytes, of which little is kept.
const PODS_PAGE: u32 = 200;
/// A CustomResourceDefinition may have a megabyte, of which next to nothing is kept.
const DEFINITIONS_PAGE: u32 = 20;
/// Quiet for so long: a burst of changes is over.
const QUIET: Duration = Duration::from_millis(5);
/// A burst is told after so long, however much still comes.
const AT_MOST: Duration = Duration::from_millis(100);
/// Steps of the followers that wait to be taken in.
const STEPS: usize = 64;

/// What is heard of one kind. The number tells a follower from one before it that was stopped.
enum Heard {
    Of(Target, u64, Box<Step<Read>>),
    Definitions(Step<Installed>),
    Nodes(Step<Located>),
}

/// Sends what the API server holds, then what changes there, until `events` is closed.
///
/// [`Event::Synced`] comes once every kind that must be known was listed: Kubernetes' own, those of Causeway, and every
/// installed kind of policy. Kinds of `networking.istio.io` are waited for only until a first attempt fails.
pub async fn watch(client: kube::Client, events: mpsc::Sender<Vec<Event>>) {
    let (steps, mut heard) = mpsc::channel(STEPS);
    let mut followers = Followers { client, steps, running: BTreeMap::new(), tasks: JoinSet::new(), count: 0 };
    let mut intake = Intake::default();
    for (_, target) in kinds::BUILTIN {
        followers.start::<Builtin>(target);
    }
    followers.start_definitions();
    followers.start_nodes();
    loop {
        let step = tokio::select! {
            () = events.closed() => return,
            step = heard.recv() => step,
        };
        // Never: this function holds a sender.
        let Some(step) = step else { return };
        followers.obey(take(&mut intake, &followers, step));
        let began = clock::now();
        while began.elapsed() < AT_MOST
            && let Ok(Some(step)) = timeout(QUIET, heard.recv()).await
        {
            followers.obey(take(&mut intake, &followers, step));
        }
        let batch = intake.events();
        if !batch.is_empty() && events.send(batch).await.is_err() {
            return;
        }
    }
}

fn take(intake: &mut Intake, followers: &Followers, heard: Heard) -> Orders {
    match heard {
        Heard::Of(target, number, step) if followers.is_running(target, number) => {
            log(target, &step);
            intake.heard(target, *step);
            Orders::default()
        }
        Heard::Of(..) => Orders::default(),
        Heard::Nodes(step) => {
            log(kinds::NODES, &step);
            intake.nodes(step);
            Orders::default()
        }
        Heard::Definitions(step) => {
            log(kinds::DEFINITIONS, &step);
            intake.definitions(step)
        }
    }
}

fn log<T>(target: Target, step: &Step<T>) {
    let kind = target.name();
    match step {
        Step::Listed(objects) => tracing::debug!(kind, version = target.version, objects = objects.len(), "listed"),
        Step::Down(fault) => tracing::warn!(kind, ?fault, "not watched; what was read last stays in force"),
        Step::Up => tracing::info!(kind, "watched again"),
        Step::Applied(_) | Step::Deleted(_) => {}
    }
}

/// The tasks that follow one kind each.
struct Followers {
    client: kube::Client,
    steps: mpsc::Sender<Heard>,
    running: BTreeMap<Target, (u64, AbortHandle)>,
    tasks: JoinSet<()>,
    count: u64,
}

impl Followers {
    fn start<S: Shape>(&mut self, target: Target) {
        self.count += 1;
        let number = self.count;
        let page = if target.kind == "Pod" { PODS_PAGE } else { PAGE };
        let follower = Follower { client: self.client.clone(), target, page, read: read::<S> };
        let wrap = move |step| Heard::Of(target, number, Box::new(step));
        let task = self.tasks.spawn(follower.run(self.steps.clone(), wrap));
        self.running.insert(target, (number, task));
    }

    fn start_definitions(&mut self) {
        let read = |_, object: Object<Definition>| kinds::installed(&object);
        let follower =
            Follower { client: self.client.clone(), target: kinds::DEFINITIONS, page: DEFINITIONS_PAGE, read };
        self.tasks.spawn(follower.run(self.steps.clone(), Heard::Definitions));
    }

    fn start_nodes(&mut self) {
        let read = |_, object: Object<Machine>| places::located(&object);
        let follower = Follower { client: self.client.clone(), target: kinds::NODES, page: PAGE, read };
        self.tasks.spawn(follower.run(self.steps.clone(), Heard::Nodes));
    }

    /// Whether what the follower with this number says still counts.
    fn is_running(&self, target: Target, number: u64) -> bool {
        self.running.get(&target).is_some_and(|(running, _)| *running == number)
    }

    fn obey(&mut self, orders: Orders) {
        for target in orders.stop {
            if let Some((_, task)) = self.running.remove(&target) {
                tracing::info!(kind = target.name(), version = target.version, "not followed any more");
                task.abort();
            }
        }
        for target in orders.start {
            tracing::info!(kind = target.name(), version = target.version, "followed");
            self.start::<Custom>(target);
        }
    }
}

/// Makes the trimmed resource of an object. What the API server calls a Pod is ready only when it says so, whereas in a
/// directory nobody would say it.
fn read<S>(target: Target, raw: Object<S>) -> Read {
    let (id, uid) = (follow::id(&raw), raw.metadata("uid").to_owned());
    let mut value = raw.of_kind(&target.api_version(), target.kind);
    if target.kind == "Pod" {
        say_unready(&mut value);
    }
    let generation = value.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or_default();
    Read { id, uid, generation, outcome: object(&value, &Origin::default()) }
}

fn say_unready(pod: &mut Value) {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    if conditions.into_iter().flatten().any(|c| c.get("type").is_some_and(|t| t == "Ready")) {
        return;
    }
    let unready = json!({"type": "Ready", "status": "False"});
    let Value::Object(pod) = pod else { return };
    if let Value::Object(status) = pod.entry("status").or_insert_with(|| json!({})) {
        match status.entry("conditions").or_insert_with(|| json!([])) {
            Value::Array(conditions) => conditions.push(unready),
            other => *other = json!([unready]),
        }
    }
}
