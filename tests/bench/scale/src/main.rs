//! A control plane among a thousand simulated proxies and a cluster of ten thousand pods: what a change costs it, how
//! soon it is in force everywhere, what it remembers. Everything is on loopback and ends with this program.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Parser, ValueEnum};
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

mod changes;
mod clock;
mod cluster;
mod fleet;
mod plane;
mod proxy;
mod report;
mod source;
mod world;

use changes::Changes;
use cluster::Cluster;
use fleet::Fleet;
use plane::Plane;
use proxy::{Target, Unsigned};
use report::Report;
use source::Source;
use world::{COLD, HOT, Workload, World};

/// Longer than this nothing may take.
const LONGEST: Duration = Duration::from_secs(1200);
/// Tokens that are asked for at once.
const TOKENS_AT_ONCE: usize = 16;

/// Simulates a cluster and its proxies around one control plane, and measures it.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The program to measure, built with --release or --profile dist
    #[arg(long, value_name = "FILE", default_value = "target/release/causeway-control-plane")]
    control_plane: PathBuf,
    /// Pods of the cluster
    #[arg(long, default_value_t = 10_000)]
    pods: usize,
    /// Services of the cluster
    #[arg(long, default_value_t = 2_000)]
    services: usize,
    /// Connected proxies
    #[arg(long, default_value_t = 1_000)]
    proxies: usize,
    /// Services that each proxy calls
    #[arg(long, default_value_t = 5)]
    calls: usize,
    /// Changes of each kind
    #[arg(long, default_value_t = 20)]
    changes: usize,
    /// Where the cluster is written: a directory, or a real API server with its etcd, which end with this program
    #[arg(long, value_enum, default_value = "directory")]
    source: Kind,
    /// How to print the figures
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
}

/// Where the cluster is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// YAML.
    Directory,
    /// kube-apiserver.
    Kubernetes,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let world = World { pods: args.pods, services: args.services, proxies: args.proxies, calls: args.calls };
    ensure!(world.proxies > 0 && world.proxies <= world.pods, "there are 1 to --pods proxies");
    ensure!(world.calls > 0 && world.calls <= world.services, "a proxy calls 1 to --services Services");
    let directory = tempfile::tempdir()?;
    let mut report = Report::default();
    let done = tokio::time::timeout(LONGEST, measure(&args, &world, &directory, &mut report)).await;
    #[allow(clippy::print_stdout, reason = "the figures are what was asked for")]
    match args.output {
        Output::Table => println!("{}", report.table()),
        Output::Json => println!("{:#}", report.json()),
    }
    done.with_context(|| format!("not done within {LONGEST:?}"))?
}

async fn measure(args: &Args, world: &World, directory: &tempfile::TempDir, report: &mut Report) -> anyhow::Result<()> {
    let (files, state) = (directory.path().join("source"), directory.path().join("state"));
    let source = match args.source {
        Kind::Directory => {
            std::fs::create_dir(&files)?;
            Source::Directory(files)
        }
        Kind::Kubernetes => Source::Cluster(Box::new(Cluster::start().await?)),
    };
    say(&format!("writing {} pods and {} services", world.pods, world.services));
    source.fill(world).await?;
    source.put("route", &[world::weighed(0)]).await?;
    source.put("some", &[world.sticky(1)]).await?;
    source.put("moving-hot", &world::moved(world, HOT, world::pod_ip(5_000_000))).await?;
    source.put("moving-cold", &world::moved(world, COLD, world::pod_ip(5_500_000))).await?;

    say("starting the control plane");
    let begun = clock::now();
    let plane = Plane::start(&args.control_plane, &source, &state, Duration::from_secs(120)).await?;
    report.add("start until ready, s", begun.elapsed().as_secs_f64());
    report.add("CPU of the start, s", plane.cpu()?);
    report.add("resident without proxies, MiB", plane.memory()?.resident);

    let workloads = Arc::new(world.workloads());
    let roots = CertificateDer::pem_slice_iter(&std::fs::read(state.join("trust-bundle.pem"))?)
        .map(|c| c.map(|c| c.to_vec()))
        .collect::<Result<Vec<_>, _>>()?;
    let target = Target { address: plane.listen, roots: Arc::new(roots) };
    let mut tokens = Vec::new();
    for some in workloads.chunks(TOKENS_AT_ONCE) {
        let asked = some.iter().map(|workload| source.token(&plane, &state, workload));
        tokens.extend(futures_util::future::try_join_all(asked).await?);
    }
    let keys = certificates(&plane, &target, tokens, report).await?;

    let mut fleet = streams(&plane, &target, &workloads, keys, report).await?;
    let changes = Changes { count: args.changes, world, plane: &plane, source: &source };
    changes.weights(&mut fleet, report).await?;
    changes.endpoints(&mut fleet, report).await?;
    changes.some(&mut fleet, report).await?;
    changes.unused(report).await?;
    changes.none(report).await?;
    let memory = plane.memory()?;
    report.at_most("resident at the end, MiB", memory.resident, 300.0);
    report.at_most("resident at most, MiB", memory.peak, 300.0);
    report.add("streams that ended", fleet.ended() as f64);
    plane.stop().await;
    Ok(())
}

/// Asks for every certificate at once, each over a connection of its own.
async fn certificates(
    plane: &Plane,
    target: &Target,
    tokens: Vec<String>,
    report: &mut Report,
) -> anyhow::Result<Vec<Arc<CertifiedKey>>> {
    let count = tokens.len();
    say(&format!("requesting {count} certificates at once"));
    let unsigned: Result<Vec<_>, _> = tokens.into_iter().enumerate().map(|(n, t)| Unsigned::new(n, t)).collect();
    let (begun, cpu) = (clock::now(), plane.cpu()?);
    let mut asked = JoinSet::new();
    for one in unsigned? {
        let (target, number) = (target.clone(), one.number);
        asked.spawn(async move { (number, target.certify(one).await, clock::now()) });
    }
    let (mut keys, mut times, mut lost) = (vec![None; count], Vec::new(), 0);
    while let Some(done) = asked.join_next().await {
        let (number, key, at) = done?;
        match key {
            Ok(key) => {
                keys[number] = Some(key);
                times.push(at - begun);
            }
            Err(error) => {
                if lost == 0 {
                    say(&format!("a certificate was not issued: {error:#}"));
                }
                lost += 1;
            }
        }
    }
    report.at_most(&format!("{count} certificates at once, s"), begun.elapsed().as_secs_f64(), 3.0);
    report.spread("one of them", &mut times, None);
    report.add("CPU per certificate, with its connection, ms", (plane.cpu()? - cpu) * 1e3 / count as f64);
    report.at_most("certificates lost", f64::from(lost), 0.0);
    keys.into_iter()
        .collect::<Option<Vec<_>>>()
        .context("some certificates were not issued, so there are not enough proxies")
}

/// Connects every proxy and waits until the first batch is in force on each.
async fn streams(
    plane: &Plane,
    target: &Target,
    workloads: &Arc<Vec<Workload>>,
    keys: Vec<Arc<CertifiedKey>>,
    report: &mut Report,
) -> anyhow::Result<Fleet> {
    say(&format!("connecting {} proxies", keys.len()));
    let (begun, cpu, before) = (clock::now(), plane.cpu()?, plane.memory()?);
    let (applied, seen) = mpsc::unbounded_channel();
    let mut running = JoinSet::new();
    for (number, key) in keys.into_iter().enumerate() {
        let (target, workloads, applied) = (target.clone(), Arc::clone(workloads), applied.clone());
        running.spawn(async move { target.follow(number, &workloads[number], key, applied).await });
    }
    let mut fleet = Fleet::new(workloads.len(), seen, running);
    let first = fleet.until(|a| a.weight.is_some(), begun).await?;
    report.add("all connected and in force, s", begun.elapsed().as_secs_f64());
    let count = workloads.len() as f64;
    report.add("CPU per proxy that connects, ms", (plane.cpu()? - cpu) * 1e3 / count);
    report.add("first batch, resources", first.resources as f64 / count);
    report.add("first batch, bytes", first.bytes as f64 / count);
    report.add("resident per connected proxy, KiB", (plane.memory()?.resident - before.resident) * 1024.0 / count);
    Ok(fleet)
}

#[allow(clippy::print_stderr, reason = "progress, for whoever waits")]
/// Progress, for whoever waits.
pub fn say(what: &str) {
    eprintln!("== {what}");
}
