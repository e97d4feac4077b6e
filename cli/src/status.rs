//! `causeway status`: replicas of the control plane, connected proxies and what each has acknowledged, routes with their
//! weights, and problems; from a cluster, or from one control plane's admin port.

mod routes;
mod table;

use std::io::Write;
use std::net::SocketAddr;

use anyhow::{Context, anyhow};
use causeway_crds::manifest::manifests;
use clap::Args;
use futures_util::future::try_join_all;
use kube::Api;
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Target};
use crate::replicas::{self, Replica};
use crate::terminal::{self, Ink, Style};
use crate::validate::Output;
use crate::{address, admin, conditions};

const EXAMPLES: &str = "\
Examples:
  causeway status                                          the cluster of the current context
  causeway status -n dev                                   proxies and resources of one namespace
  causeway status --all                                    every proxy, not only those that need a look
  causeway status --control-plane http://127.0.0.1:15014   the control plane of this machine
  causeway status -o json | jq '.proxies[].workload'       for a script

Exit codes: 0 every replica answers, every connected proxy is up to date and no problem is an error; 1 something is \
not, or cannot be asked; 2 the command line is wrong.";

/// Arguments of `causeway status`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Settings {
    /// Admin address of one control plane, asked instead of a cluster.
    #[arg(long, visible_alias = "admin", value_name = "URL", value_parser = address::admin_address)]
    control_plane: Option<SocketAddr>,
    /// Only proxies and resources of this namespace.
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// Name every proxy; else at most 20, those that need a look first.
    #[arg(long)]
    all: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    cluster: Target,
}

/// What is shown.
struct Seen {
    replicas: Vec<Replica>,
    proxies: Vec<Value>,
    problems: Vec<Value>,
    resources: Vec<Value>,
    is_cluster: bool,
}

/// Asks and prints; returns the exit code.
///
/// # Errors
/// The cluster or the control plane cannot be asked, or the output cannot be written.
pub fn run(settings: &Settings, style: Style, out: &mut dyn Write) -> anyhow::Result<u8> {
    let mut seen = admin::block_on(async {
        match settings.control_plane {
            Some(address) => of_address(address).await,
            None => of_cluster(&settings.cluster).await,
        }
    })?;
    if let Some(namespace) = &settings.namespace {
        seen.proxies.retain(|proxy| {
            proxy["workload"].as_str().and_then(|name| name.split_once('/')).is_some_and(|(of, _)| of == namespace)
        });
        seen.resources
            .retain(|resource| resource.pointer("/metadata/namespace").and_then(Value::as_str) == Some(namespace));
    }
    match settings.output {
        Output::Json => writeln!(out, "{:#}", as_json(&seen))?,
        Output::Text => out.write_all(text(&seen, settings.all, style, terminal::columns()).as_bytes())?,
    }
    Ok(u8::from(!is_well(&seen)))
}

async fn of_address(address: SocketAddr) -> anyhow::Result<Seen> {
    let replica = replicas::ask_address(address).await;
    if let Err(why) = &replica.views {
        let what = "no control plane could be asked; say where its admin port is with --control-plane http://HOST:PORT";
        return Err(anyhow!("{what}: {why}"));
    }
    let replicas = vec![replica];
    let (proxies, problems) = (replicas::proxies(&replicas), replicas::problems(&replicas));
    Ok(Seen { replicas, proxies, problems, resources: Vec::new(), is_cluster: false })
}

async fn of_cluster(target: &Target) -> anyhow::Result<Seen> {
    let cluster = Cluster::find(target)
        .await
        .context("for a control plane on this machine: causeway status --control-plane 127.0.0.1:15014")?;
    let (replicas, resources) = tokio::try_join!(replicas::ask_all(&cluster), resources(&cluster))?;
    if replicas.is_empty() {
        return Err(anyhow!("there is no control plane in this cluster; causeway check says what is missing"));
    }
    let (proxies, problems) = (replicas::proxies(&replicas), replicas::problems(&replicas));
    Ok(Seen { replicas, proxies, problems, resources, is_cluster: true })
}

/// Our custom resources of every kind, in the order of their kinds; a kind that is not installed has none.
pub(crate) async fn resources(cluster: &Cluster) -> anyhow::Result<Vec<Value>> {
    let lists = manifests().into_iter().map(async |manifest| {
        let mut resource = ApiResource::from_gvk(&GroupVersionKind::gvk("causeway.dev", "v1alpha1", &manifest.kind));
        if let Some(plural) = manifest.definition.pointer("/spec/names/plural").and_then(Value::as_str) {
            plural.clone_into(&mut resource.plural);
        }
        let api: Api<DynamicObject> = Api::all_with(cluster.client(), &resource);
        let mut all = Vec::new();
        let mut parameters = ListParams::default().limit(500);
        loop {
            let page = match tokio::time::timeout(cluster.patience(), api.list(&parameters)).await {
                Ok(Err(kube::Error::Api(status))) if status.code == 404 => return Ok(all),
                Ok(page) => page.map_err(|error| cluster.explain(&error))?,
                Err(_) => return Err(anyhow!("the API server gave no answer in time")),
            };
            for mut object in page.items {
                object.metadata.managed_fields = None;
                let mut value = serde_json::to_value(&object)?;
                value["kind"] = Value::from(manifest.kind.as_str());
                all.push(value);
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters = parameters.continue_token(&token),
                None => return Ok(all),
            }
        }
    });
    Ok(try_join_all(lists).await?.into_iter().flatten().collect())
}

/// The version of `resource` that the proxy of `workload` has acknowledged, if any.
pub(crate) fn acked_version(view: &Value, workload: &str, resource: &str) -> Option<String> {
    let proxies = replicas::list(view, "proxies");
    let proxy = proxies.iter().find(|proxy| proxy["workload"] == workload)?;
    let held = proxy["resources"].as_array()?.iter().find(|held| held["name"] == resource)?;
    if held["acked"] != true {
        return None;
    }
    Some(held["version"].to_string())
}

fn is_error(problem: &Value) -> bool {
    problem["severity"] == "error"
}

fn is_well(seen: &Seen) -> bool {
    let conditions = ["Accepted", "ResolvedRefs", "Programmed"];
    let is_wrong = |resource: &Value| {
        conditions.iter().any(|kind| conditions::current(resource, kind).is_some_and(|found| found["status"] != "True"))
    };
    seen.replicas.iter().all(|replica| replica.is_ready && replica.views.is_ok())
        && seen.proxies.iter().all(table::is_current)
        && !seen.problems.iter().any(is_error)
        && !seen.resources.iter().any(is_wrong)
}

fn as_json(seen: &Seen) -> Value {
    let replicas: Vec<Value> = seen
        .replicas
        .iter()
        .map(|replica| {
            json!({
                "pod": replica.pod,
                "ready": replica.is_ready,
                "leader": replica.is_leader(),
                "version": replica.version(),
                "error": replica.views.as_ref().err(),
            })
        })
        .collect();
    json!({"replicas": replicas, "proxies": seen.proxies, "problems": seen.problems, "resources": seen.resources})
}

fn text(seen: &Seen, shows_all: bool, style: Style, columns: usize) -> String {
    let mut lines = Vec::new();
    if seen.is_cluster {
        lines.extend(control_plane(seen, style, columns));
        lines.push(String::new());
        lines.extend(routes::lines(&seen.resources, style, columns));
    }
    lines.extend(table::lines(&seen.proxies, shows_all, style, columns));
    lines.push(String::new());
    lines.extend(problems(&seen.problems, style, columns));
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// One line for each replica.
fn control_plane(seen: &Seen, style: Style, columns: usize) -> Vec<String> {
    let mut lines = vec![style.paint(Ink::Head, "CONTROL PLANE")];
    let longest = seen.replicas.iter().map(|replica| replica.pod.len()).max().unwrap_or_default();
    for replica in &seen.replicas {
        let pod = format!("{:longest$}", replica.pod);
        let state = match (&replica.views, replica.is_ready) {
            (Ok(_), true) => style.paint(Ink::Good, "ready"),
            (Ok(views), false) => {
                let awaited = views.status["awaited"].as_str().unwrap_or("it starts");
                style.paint(Ink::Warn, &format!("not ready: waits for {awaited}"))
            }
            (Err(why), _) => {
                let room = columns.saturating_sub(longest + 4).max(30);
                style.paint(Ink::Bad, &terminal::cut(why, room))
            }
        };
        let Ok(views) = &replica.views else {
            lines.push(format!("  {pod}  {state}"));
            continue;
        };
        let role = if replica.is_leader() { "leads" } else { "" };
        let proxies = match views.proxies.len() {
            1 => "1 proxy".to_owned(),
            number => format!("{number} proxies"),
        };
        lines.push(format!("  {pod}  {state}  {}  {proxies:10}  {role}", replica.version().unwrap_or("-")));
    }
    lines
}

fn problems(problems: &[Value], style: Style, columns: usize) -> Vec<String> {
    let shown: Vec<&Value> = problems.iter().filter(|problem| problem["severity"] != "note").collect();
    if shown.is_empty() {
        return vec![style.paint(Ink::Good, "no problems")];
    }
    let mut lines = vec![style.paint(Ink::Head, "PROBLEMS")];
    for problem in shown {
        let word = |key: &str| problem[key].as_str().unwrap_or_default().to_owned();
        let ink = if is_error(problem) { Ink::Bad } else { Ink::Warn };
        let title = style.paint(ink, &format!("{}[{}]", word("severity"), word("code")));
        let line = problem["line"].as_u64().filter(|n| *n > 0).map(|n| format!(":{n}")).unwrap_or_default();
        let place = [format!("{}{line}", word("file")), word("resource"), word("field")];
        let place: Vec<String> = place.into_iter().filter(|part| !part.is_empty()).collect();
        lines.push(format!("{title} {}", place.join("  ")));
        lines.extend(terminal::wrap(&word("message"), columns - 2).iter().map(|line| format!("  {line}")));
        if !word("advice").is_empty() {
            let help = style.paint(Ink::Good, "help:");
            let advice = terminal::wrap(&word("advice"), columns - 8);
            let first = |n: usize| if n == 0 { format!("  {help} ") } else { "        ".to_owned() };
            lines.extend(advice.iter().enumerate().map(|(n, line)| format!("{}{line}", first(n))));
        }
    }
    lines
}

#[cfg(test)]
mod tests;
