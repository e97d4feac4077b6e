//! `causeway uninstall`: shows what an installation left in a cluster, and takes it all away. Workloads and their
//! namespaces are left alone.

mod inventory;
mod removal;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write;
use std::time::Duration;

use clap::Args;

use crate::cluster::{Cluster, NAMESPACE, Target};
use crate::install::Report;
use crate::install::apply::{Step, refuse_helm};
use crate::terminal::{Ink, Style, pad};
use crate::{admin, clock};
use inventory::Inventory;

const EXAMPLES: &str = "\
Examples:
  causeway uninstall                               what would be removed; changes nothing
  causeway uninstall --apply                       removes it, if nobody has routes or policies any more
  causeway uninstall --apply --keep-crds           leaves the definitions, and every route and policy, for next time
  causeway uninstall --apply --delete-resources    deletes every route and policy of every namespace with them

Pods that were injected keep their proxies until they are made anew: take the label off their namespaces and restart
them, before or after. Until then they go on with the routes and the certificates that they hold.

Exit codes: 0 done, or shown; 1 refused, or not gone in time, and the output says what; 2 the command line is wrong.";

/// How many names a line shows.
const NAMES: usize = 5;
const TITLE: usize = 34;

/// Arguments of `causeway uninstall`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Settings {
    /// Remove it, instead of showing what would be removed.
    #[arg(long)]
    apply: bool,
    /// Leave the CustomResourceDefinitions, and with them all routes and policies.
    #[arg(long, conflicts_with = "delete_resources")]
    keep_crds: bool,
    /// Delete all routes and policies, of every namespace, with their definitions.
    #[arg(long)]
    delete_resources: bool,
    /// Seconds to wait at most until all of it is gone.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    timeout: u64,
    #[command(flatten)]
    target: Target,
}

/// Shows or removes; returns the exit code.
///
/// # Errors
/// A cluster that cannot be asked, an object that it does not let go, or output that cannot be written.
pub fn run(settings: &Settings, style: Style, out: &mut dyn Write) -> anyhow::Result<u8> {
    admin::block_on(async {
        let cluster = Cluster::find(&settings.target).await?;
        refuse_helm(&cluster, &format!("helm uninstall RELEASE --namespace {NAMESPACE}")).await?;
        let mut found = Inventory::take(&cluster).await?;
        if settings.keep_crds {
            found.definitions.clear();
        }
        if found.is_empty() {
            writeln!(out, "There is nothing of Causeway on {}.", cluster.server())?;
            return Ok(0);
        }
        let is_refused = found.resources().next().is_some() && !settings.delete_resources;
        let verb = if settings.apply && !is_refused { "Removing Causeway from" } else { "To be removed from" };
        let mut report = Report { style, out, begun: clock::now() };
        report.head(&format!("{verb} {}", cluster.server()))?;
        report.plain(text(&found, style).trim_end())?;
        if !settings.apply {
            report.plain("Nothing was changed. To remove it: causeway uninstall --apply")?;
            return Ok(0);
        }
        if is_refused {
            report.plain(&style.paint(
                Ink::Bad,
                "Refused: routes and policies would be deleted. Say --delete-resources if they shall, or --keep-crds to \
                 leave them; nothing was changed.",
            ))?;
            return Ok(1);
        }
        let end = clock::now() + Duration::from_secs(settings.timeout);
        removal::remove(&cluster, &found, end, &mut report).await?;
        report.plain(&format!("Causeway is gone, after {:.1} s.", report.begun.elapsed().as_secs_f64()))?;
        Ok(0)
    })
}

/// What was found, and what a person should know before it goes.
fn text(found: &Inventory, style: Style) -> String {
    let mut text = String::new();
    let mut line = |title: &str, what: String| {
        let _ = writeln!(text, "  {}{}", pad(title, TITLE), style.paint(Ink::Faint, &what));
    };
    for step in Step::ALL {
        let kinds: Vec<_> = found.objects.iter().filter(|o| Step::of(o.kind()) == step).map(|o| o.kind()).collect();
        if !kinds.is_empty() {
            line(step.title(), kinds.join(", "));
        }
    }
    if found.secret.is_some() {
        line("the CA", "its key is lost: the next installation makes a new one".to_owned());
    }
    if !found.config_maps.is_empty() {
        line("roots, for proxies to begin with", format!("in {}", names(found.config_maps.iter().cloned())));
    }
    if !found.definitions.is_empty() {
        line("definitions", names(found.definitions.iter().map(|d| d.object.name().to_owned())));
    }
    let resources: Vec<String> = found.resources().collect();
    if !resources.is_empty() {
        line("routes and policies", names(resources.into_iter()));
    }
    if found.is_namespace_there && found.foreign.is_empty() {
        line("namespace", NAMESPACE.to_owned());
    }
    if !found.foreign.is_empty() {
        warn(
            &mut text,
            style,
            &format!("namespace {NAMESPACE} stays; not ours: {}", names(found.foreign.iter().cloned())),
        );
    }
    if !found.injected.is_empty() {
        let run = if found.injected.len() == 1 { "pod still runs" } else { "pods still run" };
        let said = format!("{} injected {run}: {}", found.injected.len(), names(found.injected.iter().cloned()));
        warn(&mut text, style, &said);
        text.push_str(
            "    They keep their routes and, until these end, their certificates. Make them anew without proxies:\n",
        );
        for namespace in &found.labelled {
            let _ = writeln!(text, "      kubectl label namespace {namespace} causeway.dev/inject-");
        }
        let namespaces: BTreeSet<&str> = found.injected.iter().filter_map(|pod| Some(pod.split_once('/')?.0)).collect();
        for namespace in namespaces {
            let _ = writeln!(text, "      kubectl -n {namespace} rollout restart deployment,statefulset,daemonset");
        }
    }
    text
}

fn warn(text: &mut String, style: Style, said: &str) {
    let _ = writeln!(text, "  {} {said}", style.paint(Ink::Warn, "!"));
}

/// The first names, and how many more there are.
fn names(all: impl Iterator<Item = String>) -> String {
    let mut all: Vec<String> = all.collect();
    let more = all.len().saturating_sub(NAMES);
    all.truncate(NAMES);
    let mut text = all.join(", ");
    if more > 0 {
        let _ = write!(text, " and {more} more");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use inventory::Definition;

    #[test]
    fn long_lists_are_cut_and_counted() {
        assert_eq!(names(["a", "b"].into_iter().map(str::to_owned)), "a, b");
        assert_eq!(names((0..8).map(|n| n.to_string())), "0, 1, 2, 3, 4 and 3 more");
    }

    #[test]
    fn running_pods_routes_and_foreign_objects_are_named() {
        let objects = crate::install::manifest::objects(&Default::default()).expect("objects");
        let definition = objects.iter().find(|o| o.kind() == "CustomResourceDefinition").expect("one").clone();
        let found = Inventory {
            definitions: vec![Definition {
                object: definition,
                resources: vec!["VirtualService dev/prodsvc".to_owned()],
            }],
            injected: vec!["dev/web".to_owned()],
            labelled: vec!["dev".to_owned()],
            foreign: vec!["Secret corporate-ca".to_owned()],
            is_namespace_there: true,
            ..Inventory::default()
        };
        let text = text(&found, Style::PLAIN);
        for wanted in [
            "VirtualService dev/prodsvc",
            "1 injected pod still runs: dev/web",
            "kubectl label namespace dev causeway.dev/inject-",
            "kubectl -n dev rollout restart deployment",
            "stays; not ours: Secret corporate-ca",
        ] {
            assert!(text.contains(wanted), "{wanted} is missing in\n{text}");
        }
        assert!(!found.is_empty());
        assert!(Inventory::default().is_empty());
    }
}
