//! What the documents say of who may come in, and the policies that are asked. Sources: the comments of
//! AuthorizationPolicy and PeerAuthentication, decision 0010, DESIGN 3.1.

use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};

use crate::world::{NAMESPACES, TIERS, write};

/// The namespace whose policies hold for the whole mesh.
const ROOT: &str = "causeway-system";

/// What generated resources say.
#[derive(Clone, Debug)]
pub struct World {
    policies: Vec<Policy>,
    peers: Vec<Peers>,
}

/// An AuthorizationPolicy.
#[derive(Clone, Debug)]
struct Policy {
    namespace: &'static str,
    selector: Option<&'static str>,
    deny: bool,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    from: Vec<Lists>,
    to: Vec<Lists>,
}

/// The lists of a source or an operation, by their field.
type Lists = Vec<(&'static str, Vec<&'static str>)>;

/// A PeerAuthentication.
#[derive(Clone, Debug)]
struct Peers {
    namespace: &'static str,
    selector: Option<&'static str>,
    mode: Option<&'static str>,
    /// Of port 8081.
    port: Option<&'static str>,
}

/// Who calls, whom, and what for.
#[derive(Clone, Debug)]
pub struct Question {
    /// Namespace and ServiceAccount that mutual TLS has proven; None: plain text.
    pub caller: Option<(&'static str, &'static str)>,
    /// Namespace of the server's pod.
    pub namespace: &'static str,
    /// Its name, its label `tier` and its ServiceAccount.
    pub server: &'static str,
    /// The application's port.
    pub port: u16,
    pub method: &'static str,
    pub path: &'static str,
    pub host: &'static str,
}

const PRINCIPALS: &[&str] = &[
    "cluster.local/ns/a/sa/web",
    "spiffe://cluster.local/ns/b/sa/web",
    "cluster.local/ns/b/sa/job",
    "other.domain/ns/a/sa/web",
    "*",
];

/// Fields of a source, with what may stand in them.
const SOURCE: &[(&str, &[&str])] = &[
    ("principals", PRINCIPALS),
    ("notPrincipals", PRINCIPALS),
    ("serviceAccounts", &["a/web", "b/web", "job"]),
    ("notServiceAccounts", &["a/web", "b/job", "web"]),
    ("namespaces", &NAMESPACES),
    ("notNamespaces", &NAMESPACES),
];

/// Fields of an operation, with what may stand in them.
const OPERATION: &[(&str, &[&str])] = &[
    ("methods", &["GET", "POST"]),
    ("notMethods", &["GET", "POST"]),
    ("paths", &["/a", "/a/*", "*b", "*"]),
    ("notPaths", &["/a", "/a/*", "*b"]),
    ("ports", &["8080", "8081"]),
    ("notPorts", &["8080", "8081"]),
    ("hosts", &["shop.a", "shop*", "*.b", "*"]),
    ("notHosts", &["shop.a", "shop*", "*.b"]),
];

fn lists(fields: &'static [(&'static str, &'static [&'static str])]) -> impl Strategy<Value = Lists> {
    subsequence(fields.to_vec(), 1..3).prop_flat_map(|fields| {
        let list = |(field, values): (&'static str, &'static [&'static str])| {
            subsequence(values.to_vec(), 1..3).prop_map(move |values| (field, values))
        };
        // Both must hold the caller; where nobody is in both, the policy is refused. A unit test has those.
        let is_doubtful = |f: &str| f == "serviceAccounts" && fields.iter().any(|(f, _)| *f == "principals");
        let fields = fields.iter().copied().filter(|(f, _)| !is_doubtful(f));
        fields.map(list).collect::<Vec<_>>()
    })
}

/// Policies of a small cluster.
pub fn policies() -> impl Strategy<Value = World> {
    let places = || select(vec!["a", "b", ROOT]);
    let selector = || weighted(0.4, select(TIERS.to_vec()));
    let rule = (vec(lists(SOURCE), 0..3), vec(lists(OPERATION), 0..3)).prop_map(|(from, to)| Rule { from, to });
    let policy = (places(), selector(), any::<bool>(), vec(rule, 0..3))
        .prop_map(|(namespace, selector, deny, rules)| Policy { namespace, selector, deny, rules });
    let mode = || weighted(0.7, select(vec!["STRICT", "PERMISSIVE", "DISABLE", "UNSET"]));
    // At most one for each set of pods: two would be a conflict.
    let all: Vec<_> = ["a", "b", ROOT].iter().flat_map(|n| [None, Some("web"), Some("job")].map(|s| (*n, s))).collect();
    let peers = subsequence(all, 0..5).prop_flat_map(move |places| {
        let peers = |(namespace, selector): (&'static str, Option<&'static str>)| {
            // Only one with a selector may name ports.
            let port = weighted(0.4, select(vec!["STRICT", "PERMISSIVE"]));
            (mode(), port).prop_map(move |(mode, port)| {
                let port = port.filter(|_| selector.is_some());
                Peers { namespace, selector, mode, port }
            })
        };
        places.into_iter().filter(|(n, s)| *n != ROOT || s.is_none()).map(peers).collect::<Vec<_>>()
    });
    (vec(policy, 0..4), peers).prop_map(|(policies, peers)| World { policies, peers })
}

/// Calls that the generated policies tell apart.
pub fn requests() -> impl Strategy<Value = Vec<Question>> {
    let caller = weighted(0.8, (select(NAMESPACES.to_vec()), select(TIERS.to_vec())));
    let server = (select(vec!["a", "b"]), select(TIERS.to_vec()), select(vec![8080u16, 8081]));
    let what = (
        select(vec!["GET", "POST", "PUT"]),
        select(vec!["/", "/a", "/a/b", "/ab"]),
        select(vec!["shop.a", "shop.b", "cart.b", "other"]),
    );
    let question = (caller, server, what).prop_map(|(caller, (namespace, server, port), (method, path, host))| {
        Question { caller, namespace, server, port, method, path, host }
    });
    vec(question, 12)
}

impl World {
    /// The resources as their users write them.
    pub fn yaml(&self) -> String {
        let mut documents = Vec::new();
        documents.extend(self.policies.iter().enumerate().map(|(index, p)| p.document(index)));
        documents.extend(self.peers.iter().enumerate().map(|(index, p)| p.document(index)));
        write(&documents)
    }
}

fn document(kind: &str, namespace: &str, index: usize, mut spec: Value, selector: Option<&str>) -> Value {
    if let Some(tier) = selector {
        spec["selector"] = json!({"matchLabels": {"tier": tier}});
    }
    json!({
        "apiVersion": "causeway.dev/v1alpha1", "kind": kind,
        "metadata": {"name": format!("{}-{index}", kind.to_lowercase()), "namespace": namespace}, "spec": spec,
    })
}

impl Policy {
    fn document(&self, index: usize) -> Value {
        let part = |wrapper: &str, all: &[Lists]| -> Value {
            let fields = |lists: &Lists| lists.iter().map(|(f, v)| ((*f).to_owned(), json!(v))).collect::<Map<_, _>>();
            all.iter().map(|lists| json!({wrapper: fields(lists)})).collect()
        };
        let rules = self.rules.iter().map(|rule| {
            let mut document = json!({});
            if !rule.from.is_empty() {
                document["from"] = part("source", &rule.from);
            }
            if !rule.to.is_empty() {
                document["to"] = part("operation", &rule.to);
            }
            document
        });
        let spec = json!({"action": if self.deny { "DENY" } else { "ALLOW" }, "rules": rules.collect::<Vec<_>>()});
        document("AuthorizationPolicy", self.namespace, index, spec, self.selector)
    }
}

impl Peers {
    fn document(&self, index: usize) -> Value {
        let mut spec = json!({});
        if let Some(mode) = self.mode {
            spec["mtls"] = json!({"mode": mode});
        }
        if let Some(mode) = self.port {
            spec["portLevelMtls"] = json!({"8081": {"mode": mode}});
        }
        document("PeerAuthentication", self.namespace, index, spec, self.selector)
    }
}

/// What the documents promise.
pub fn allows(world: &World, question: &Question) -> bool {
    if question.caller.is_none() && is_strict(world, question) {
        return false;
    }
    let selects = |namespace: &str, selector: Option<&str>| {
        (namespace == question.namespace || namespace == ROOT) && selector.is_none_or(|tier| tier == question.server)
    };
    let held: Vec<&Policy> = world.policies.iter().filter(|p| selects(p.namespace, p.selector)).collect();
    let matched = |policy: &&&Policy| policy.rules.iter().any(|r| rule(r, policy, question));
    if held.iter().filter(|p| p.deny).any(|p| matched(&p)) {
        return false;
    }
    let mut allowing = held.iter().filter(|p| !p.deny).peekable();
    allowing.peek().is_none() || allowing.any(|p| matched(&p))
}

/// The narrowest that is set wins: port, pod, namespace, mesh; else strict.
fn is_strict(world: &World, question: &Question) -> bool {
    let of = |namespace: &str, selector: Option<&str>| {
        world.peers.iter().find(|p| p.namespace == namespace && p.selector == selector)
    };
    let pod = of(question.namespace, Some(question.server));
    let wider = [pod, of(question.namespace, None), of(ROOT, None)];
    let port = pod.and_then(|p| p.port).filter(|_| question.port == 8081);
    let modes = std::iter::once(port).chain(wider.map(|p| p.and_then(|p| p.mode)));
    modes.flatten().find(|mode| *mode != "UNSET").is_none_or(|mode| mode == "STRICT")
}

fn rule(rule: &Rule, policy: &Policy, question: &Question) -> bool {
    let source = |lists: &Lists| lists.iter().all(|(field, values)| caller(field, values, policy, question));
    let operation = |lists: &Lists| lists.iter().all(|(field, values)| asked(field, values, question));
    (rule.from.is_empty() || rule.from.iter().any(source)) && (rule.to.is_empty() || rule.to.iter().any(operation))
}

fn caller(field: &str, values: &[&str], policy: &Policy, question: &Question) -> bool {
    let holds = |value: &&str| {
        let Some((namespace, account)) = question.caller else { return false };
        match field.trim_start_matches("not").to_lowercase().as_str() {
            "principals" => {
                let id = format!("cluster.local/ns/{namespace}/sa/{account}");
                *value == "*" || value.trim_start_matches("spiffe://") == id
            }
            "serviceaccounts" => {
                let (of, name) = value.split_once('/').unwrap_or((policy.namespace, value));
                (of, name) == (namespace, account)
            }
            "namespaces" => *value == namespace,
            other => panic!("{other}"),
        }
    };
    values.iter().any(holds) != field.starts_with("not")
}

fn asked(field: &str, values: &[&str], question: &Question) -> bool {
    let holds = |value: &&str| match field.trim_start_matches("not").to_lowercase().as_str() {
        "methods" => *value == question.method,
        "paths" => pattern(value, question.path),
        "ports" => *value == question.port.to_string(),
        "hosts" => pattern(value, question.host),
        other => panic!("{other}"),
    };
    values.iter().any(holds) != field.starts_with("not")
}

/// Exact, `prefix*`, `*suffix`, or `*`.
fn pattern(pattern: &str, text: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(suffix), _) => text.ends_with(suffix),
        (None, Some(prefix)) => text.starts_with(prefix),
        (None, None) => text == pattern,
    }
}
