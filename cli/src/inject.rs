//! `causeway inject`: puts the proxy into manifests by hand, by the function that the webhook calls.

use std::fmt::Write as _;
use std::io::{Read as _, Write};

use anyhow::{Context as _, bail};
use causeway_control_plane::inject;
use causeway_control_plane::source::resource::Origin;
use causeway_control_plane::source::yaml::{self, Document};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

const EXAMPLES: &str = "\
Examples:
  causeway inject -f web.yaml | kubectl apply -f -           a Deployment with the proxy in its pods
  kubectl get deploy web -o yaml | causeway inject -f - | kubectl apply -f -
                                                             the same for one that runs already
  causeway inject -f web.yaml | diff web.yaml -              what is added, before anything is applied
  causeway inject -f a.yaml -f b.yaml -o json                several files, as one JSON List

Where the webhook is installed nothing of this is needed: label a namespace, or a pod, causeway.dev/inject=true, and
every new pod is injected. By hand is for looking at what that does, and for clusters that admit no webhooks.

What it adds to each pod: an init container that redirects traffic (the only one with a capability, NET_ADMIN), the
proxy as a native sidecar (it starts before your containers and ends after them, so Jobs end), and three volumes (the
proxy's token, the mesh's roots, its memory-backed state). Your containers stay as they are. Injecting twice is
injecting once. A pod labelled causeway.dev/inject=false, and every kind that makes no pods, passes through unchanged.

Annotations of the pod tune its proxy:
  causeway.dev/proxy-cpu-request, proxy-cpu-limit, proxy-memory-request, proxy-memory-limit    e.g. 100m, 64Mi
  causeway.dev/drain-seconds                                  time for open requests at the pod's end
  causeway.dev/exclude-outbound-ports, exclude-inbound-ports  e.g. 22,9090: past the proxy, without mutual TLS

The namespace needs the ConfigMap causeway-trust-bundle, which the control plane writes where pods are injected.
Comments of the YAML are not kept.

Exit codes: 0 done; 1 something cannot be injected, or read: then nothing is printed but the reasons, each with file,
line and field; 2 the command line is wrong.";

/// Arguments of `causeway inject`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Settings {
    /// A file of YAML or JSON, or `-` for standard input; may be given several times
    #[arg(short, long = "filename", required = true, value_name = "FILE")]
    filenames: Vec<String>,
    /// Namespace of what makes pods and names none
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// How to print the result
    #[arg(short, long, value_enum, default_value_t = Output::Yaml)]
    output: Output,
    /// Image of the proxy
    #[arg(long, value_name = "IMAGE", default_value = concat!("causeway/proxy:", env!("CARGO_PKG_VERSION")))]
    image: String,
    /// Where proxies find the control plane
    #[arg(long, value_name = "URL", default_value = "https://causeway-control-plane.causeway-system.svc:15010")]
    control_plane: String,
    /// Trust domain of the mesh
    #[arg(long, value_name = "NAME", default_value = "cluster.local")]
    trust_domain: String,
}

/// Form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// One document each.
    Yaml,
    /// The object, or a List of several.
    Json,
}

/// Injects and prints; returns the exit code.
///
/// # Errors
/// A file that cannot be read, a pod that cannot be injected, or output that cannot be written.
pub fn run(settings: &Settings, out: &mut dyn Write) -> anyhow::Result<u8> {
    let mut told = Told::default();
    let mut objects = Vec::new();
    for filename in &settings.filenames {
        let text = read(filename)?;
        let shown = if filename == "-" { "standard input" } else { filename };
        let documents = yaml::documents(&text).map_err(|e| anyhow::anyhow!("{shown}:{}: {e}", e.line))?;
        for Document { mut value, line, lines } in documents {
            let origin = Origin { file: shown.to_owned(), line, lines };
            object(&mut value, "", &origin, settings, &mut told);
            objects.push(value);
        }
    }
    if objects.is_empty() {
        bail!("there is nothing in {}", settings.filenames.join(", "));
    }
    let mut stderr = std::io::stderr();
    for warning in &told.warnings {
        writeln!(stderr, "warning: {warning}")?;
    }
    if !told.refusals.is_empty() {
        bail!("nothing was injected:\n  {}", told.refusals.join("\n  "));
    }
    out.write_all(printed(objects, settings.output)?.as_bytes())?;
    Ok(0)
}

/// What is said beside the result.
#[derive(Default)]
struct Told {
    refusals: Vec<String>,
    warnings: Vec<String>,
}

fn read(filename: &str) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let most = yaml::MAX_BYTES as u64 + 1;
    if filename == "-" {
        std::io::stdin().lock().take(most).read_to_end(&mut bytes).context("standard input cannot be read")?;
    } else {
        let file = std::fs::File::open(filename).with_context(|| format!("{filename} cannot be opened"))?;
        file.take(most).read_to_end(&mut bytes).with_context(|| format!("{filename} cannot be read"))?;
    }
    String::from_utf8(bytes).with_context(|| format!("{filename} is not UTF-8"))
}

/// Injects one object, or each of a List; `path` is where it stands in its document.
fn object(value: &mut Value, path: &str, origin: &Origin, settings: &Settings, told: &mut Told) {
    let is_list = value.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"));
    if is_list && let Some(items) = value.get_mut("items").and_then(Value::as_array_mut) {
        for (index, item) in items.iter_mut().enumerate() {
            object(item, &format!("{path}items[{index}]."), origin, settings, told);
        }
        return;
    }
    let Some(place) = inject::place(value) else { return };
    if let (Some(namespace), Some(metadata)) =
        (&settings.namespace, value.get_mut("metadata").and_then(Value::as_object_mut))
    {
        metadata.entry("namespace").or_insert_with(|| json!(namespace));
    }
    let mesh = inject::Settings::new(&settings.image, &settings.control_plane, &settings.trust_domain);
    let what = described(value);
    match inject::inject_object(value, place, &mesh) {
        Ok(_) => {
            let pod = value.pointer(place.pointer).unwrap_or(&Value::Null);
            let warnings = inject::warnings(pod);
            told.warnings.extend(warnings.iter().map(|w| format!("{what} {}{w}", place.prefix)));
        }
        Err(refused) => {
            let line = origin.line_of(&format!("{path}{}{}", place.prefix, refused.field()));
            told.refusals.push(format!("{}:{line}: {what} {}{refused}", origin.file, place.prefix));
        }
    }
}

/// `Deployment dev/web`
fn described(value: &Value) -> String {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let name = match text("/metadata/name") {
        "" => text("/metadata/generateName"),
        name => name,
    };
    match text("/metadata/namespace") {
        "" => format!("{} {name}", text("/kind")),
        namespace => format!("{} {namespace}/{name}", text("/kind")),
    }
}

fn printed(mut objects: Vec<Value>, output: Output) -> anyhow::Result<String> {
    let mut text = String::new();
    match output {
        Output::Yaml => {
            for (index, object) in objects.iter().enumerate() {
                if index > 0 {
                    text.push_str("---\n");
                }
                text.push_str(&serde_yaml::to_string(object)?);
            }
        }
        Output::Json => {
            let all = match objects.len() {
                1 => objects.remove(0),
                _ => json!({"apiVersion": "v1", "kind": "List", "items": objects}),
            };
            writeln!(text, "{all:#}")?;
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPLOYMENT: &str = "\
# a comment
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  template:
    spec:
      containers:
        - name: web
          image: web:1
---
apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  ports: [{port: 80}]
";

    fn settings(file: &str, output: Output) -> Settings {
        Settings {
            filenames: vec![file.to_owned()],
            namespace: Some("dev".to_owned()),
            output,
            image: "causeway/proxy:1".to_owned(),
            control_plane: "https://cp:15010".to_owned(),
            trust_domain: "cluster.local".to_owned(),
        }
    }

    fn ran(text: &str, output: Output) -> anyhow::Result<String> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.yaml");
        std::fs::write(&file, text).expect("written");
        let mut out = Vec::new();
        run(&settings(file.to_str().expect("text"), output), &mut out)?;
        Ok(String::from_utf8(out).expect("text"))
    }

    #[test]
    fn what_makes_pods_is_injected_and_the_rest_passes_through() {
        let text = ran(DEPLOYMENT, Output::Yaml).expect("injected");
        let documents = yaml::documents(&text).expect("YAML");
        let (deployment, service) = (&documents[0].value, &documents[1].value);
        let init = &deployment["spec"]["template"]["spec"]["initContainers"];
        assert_eq!((&init[0]["name"], &init[1]["name"]), (&json!("causeway-redirect"), &json!("causeway-proxy")));
        assert_eq!(deployment["metadata"]["namespace"], "dev");
        assert_eq!(service["metadata"], json!({"name": "web"}));
        assert_eq!(ran(&text, Output::Yaml).expect("injected again"), text);
    }

    #[test]
    fn several_objects_are_a_list_in_json() {
        let text = ran(DEPLOYMENT, Output::Json).expect("injected");
        let list: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((&list["kind"], list["items"].as_array().map(Vec::len)), (&json!("List"), Some(2)));
        assert_eq!(ran(&text, Output::Json).expect("injected again"), text);
    }

    #[test]
    fn a_refusal_names_file_line_and_field() {
        let bad = DEPLOYMENT.replace("      containers:", "      hostNetwork: true\n      containers:");
        let error = ran(&bad, Output::Yaml).expect_err("refused").to_string();
        assert!(error.contains("a.yaml:9: Deployment dev/web spec.template.spec.hostNetwork: "), "{error}");
        let error = ran("a: [", Output::Yaml).expect_err("refused").to_string();
        assert!(error.contains("a.yaml:2: while parsing"), "{error}");
    }
}
