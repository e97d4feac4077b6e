//! `causeway install`: prints the manifest, or applies it and waits until the mesh works. What is in it is the chart's.

pub mod apply;
pub mod manifest;
pub mod wait;

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args;

use crate::cluster::{Cluster, NAMESPACE, Target};
use crate::terminal::{Ink, Style, pad};
use crate::{admin, clock};
use apply::Step;
use manifest::{Choices, Object};
use wait::Look;

const EXAMPLES: &str = "\
Examples:
  causeway install --apply --wait                 install, or bring an installation up to date; done when it works
  causeway install > causeway.yaml                the manifest, to look at or to keep
  causeway install --replicas 3 --leaf-ttl 8h --apply --wait
  causeway install --default-policy deny | kubectl diff --server-side -f -

It can be run again at any time: what is right already stays as it is. Give the same choices again; what differs from
the installation that is there is shown, and another trust domain is refused. Causeway lives in namespace causeway-system.
With Helm: helm install causeway deploy/helm/causeway --namespace causeway-system --create-namespace

Exit codes: 0 done; 1 something was refused, or not ready in time, and the output says what; 2 the command line is
wrong.";

/// How often the cluster is looked at while waiting.
const LOOK: Duration = Duration::from_millis(400);
const TITLE: usize = 32;
/// The one choice that a running mesh cannot take.
const TRUST_DOMAIN: &str = "trust-domain";

/// Arguments of `causeway install`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Settings {
    /// Apply it to the cluster instead of printing it.
    #[arg(long)]
    apply: bool,
    /// Wait until definitions, control planes and webhooks work.
    #[arg(long, requires = "apply")]
    wait: bool,
    /// Seconds to wait at most.
    #[arg(long, value_name = "SECONDS", default_value_t = 180, requires = "wait")]
    timeout: u64,
    #[command(flatten)]
    choices: Choices,
    #[command(flatten)]
    target: Target,
}

/// Prints or applies; returns the exit code.
///
/// # Errors
/// A choice that cannot be, a cluster that cannot be asked, an object that it refuses, or output that cannot be written.
pub fn run(settings: &Settings, style: Style, out: &mut dyn Write) -> anyhow::Result<u8> {
    if !settings.apply {
        out.write_all(manifest::text(&settings.choices)?.as_bytes())?;
        if std::io::stdout().is_terminal() {
            let mut hint = std::io::stderr();
            writeln!(
                hint,
                "causeway: this is the manifest; --apply puts it into the cluster, --wait says when it works"
            )?;
        }
        return Ok(0);
    }
    let objects = manifest::objects(&settings.choices)?;
    admin::block_on(async {
        let cluster = Cluster::find(&settings.target).await?;
        let mut report = Report { style, out, begun: clock::now() };
        report.head(&format!("Installing Causeway {} on {}", env!("CARGO_PKG_VERSION"), cluster.server()))?;
        install(&cluster, &objects, &mut report).await?;
        if !settings.wait {
            report.plain("Applied. `causeway check` says whether it works.")?;
            return Ok(0);
        }
        wait_until_it_works(&cluster, &objects, Duration::from_secs(settings.timeout), &mut report).await
    })
}

async fn install(cluster: &Cluster, objects: &[Object], report: &mut Report<'_>) -> anyhow::Result<()> {
    let upgrade = format!("helm upgrade RELEASE CHART --namespace {NAMESPACE}");
    apply::refuse_helm(cluster, &upgrade).await?;
    let before = apply::installed_args(cluster).await?;
    for change in manifest::changes(&before, &manifest::args(objects)) {
        if change.flag == TRUST_DOMAIN {
            bail!(
                "this mesh runs with --trust-domain {}; with {} every identity would change and nobody would trust his \
                 neighbour: give the same one, or uninstall first",
                change.before,
                change.after
            );
        }
        report.note(&change.say())?;
    }
    for step in Step::ALL {
        let of_step = objects.iter().filter(|object| Step::of(object.kind()) == step);
        let done = apply::apply(cluster, of_step).await?;
        report.good(step.title(), &done.say())?;
    }
    Ok(())
}

async fn wait_until_it_works(
    cluster: &Cluster,
    objects: &[Object],
    limit: Duration,
    report: &mut Report<'_>,
) -> anyhow::Result<u8> {
    let definitions: Vec<String> = objects
        .iter()
        .filter(|object| Step::of(object.kind()) == Step::Definitions)
        .map(|object| object.name().to_owned())
        .collect();
    let end = clock::now() + limit;
    report.until(end, async || wait::definitions(cluster, &definitions).await).await?;
    report.until(end, async || wait::control_plane(cluster).await).await?;
    report.until(end, async || wait::webhooks(cluster).await).await?;
    let took = report.begun.elapsed().as_secs_f64();
    report.plain(&format!(
        "Causeway {} works, after {took:.1} s. Next:\n  \
         kubectl label namespace NAMESPACE causeway.dev/inject=true\n  \
         kubectl -n NAMESPACE rollout restart deployment\n  \
         causeway check",
        env!("CARGO_PKG_VERSION")
    ))?;
    Ok(0)
}

/// Progress, a line for each thing done.
pub(crate) struct Report<'a> {
    pub(crate) style: Style,
    pub(crate) out: &'a mut dyn Write,
    pub(crate) begun: Instant,
}

impl Report<'_> {
    pub(crate) fn head(&mut self, text: &str) -> anyhow::Result<()> {
        writeln!(self.out, "{}", self.style.paint(Ink::Head, text))?;
        Ok(self.out.flush()?)
    }

    pub(crate) fn plain(&mut self, text: &str) -> anyhow::Result<()> {
        writeln!(self.out, "{text}")?;
        Ok(self.out.flush()?)
    }

    pub(crate) fn good(&mut self, title: &str, what: &str) -> anyhow::Result<()> {
        self.line(Ink::Good, "✔", title, what)
    }

    /// Something that a person should look at.
    pub(crate) fn note(&mut self, text: &str) -> anyhow::Result<()> {
        self.line(Ink::Warn, "!", text, "")
    }

    fn line(&mut self, ink: Ink, mark: &str, title: &str, what: &str) -> anyhow::Result<()> {
        let what = self.style.paint(Ink::Faint, what);
        let line = format!("  {} {}{what}", self.style.paint(ink, mark), pad(title, TITLE));
        writeln!(self.out, "{}", line.trim_end())?;
        Ok(self.out.flush()?)
    }

    /// Looks until it is done; tells what it waits for whenever that changes.
    ///
    /// # Errors
    /// It is not done at `end`, or cannot be looked at.
    pub(crate) async fn until(
        &mut self,
        end: Instant,
        look: impl AsyncFn() -> anyhow::Result<Look>,
    ) -> anyhow::Result<()> {
        let mut told = String::new();
        loop {
            match look().await? {
                Look::Done(said) => {
                    let after = format!("{:.1} s", self.begun.elapsed().as_secs_f64());
                    return self.good(&said, &after);
                }
                Look::Waiting(why) if clock::now() >= end => {
                    self.line(Ink::Bad, "✘", &why, "")?;
                    bail!("not done in time; `causeway check` looks closer, and running this again goes on waiting");
                }
                Look::Waiting(why) => {
                    if told != why {
                        self.line(Ink::Warn, "…", &why, "")?;
                        told = why;
                    }
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
