//! A small cluster with whatever routes and rules people may write for it, and the requests that are sent in it.

use std::sync::LazyLock;

use proptest::collection::vec;
use proptest::option::{of, weighted};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};

use crate::standard::{self, Grant, Route};

/// The namespaces. Services live in the first two.
pub const NAMESPACES: [&str; 3] = ["a", "b", "c"];

/// The Services, by namespace and name; each has the ports 80 and 81.
pub const SERVICES: [(&str, &str); 3] = [("a", "shop"), ("a", "cart"), ("b", "shop")];

/// What generated resources say. Everything else of the cluster is fixed.
#[derive(Clone, Debug)]
pub struct World {
    /// Whether the pod of each Service's version is there, and ready.
    pub pods: Vec<Pod>,
    pub rules: Vec<Rule>,
    pub routes: Vec<Virtual>,
    /// Routes of the Gateway API.
    pub standard: Vec<Route>,
    pub grants: Vec<Grant>,
}

#[derive(Clone, Debug)]
pub struct Pod {
    pub service: (&'static str, &'static str),
    pub version: &'static str,
    pub ready: bool,
}

/// A DestinationRule.
#[derive(Clone, Debug)]
pub struct Rule {
    pub namespace: &'static str,
    pub service: (&'static str, &'static str),
    /// Name of the subset, version of its pods.
    pub subsets: Vec<(&'static str, &'static str)>,
    pub export_to: Option<&'static str>,
}

/// A VirtualService.
#[derive(Clone, Debug)]
pub struct Virtual {
    pub namespace: &'static str,
    pub created: u8,
    pub hosts: Vec<&'static str>,
    pub gateways: Vec<&'static str>,
    pub export_to: Option<&'static str>,
    pub http: Vec<Http>,
}

#[derive(Clone, Debug)]
pub struct Http {
    pub matches: Vec<Match>,
    pub route: Vec<Destination>,
}

#[derive(Clone, Debug)]
pub struct Destination {
    pub host: &'static str,
    pub subset: Option<&'static str>,
    pub port: Option<u16>,
    pub weight: Option<u32>,
}

#[derive(Clone, Debug, Default)]
pub struct Match {
    pub uri: Option<Text>,
    pub method: Option<Text>,
    pub authority: Option<Text>,
    pub headers: Vec<(&'static str, Option<Text>)>,
    pub without_headers: Vec<(&'static str, Option<Text>)>,
    pub query: Vec<(&'static str, Text)>,
    pub port: Option<u16>,
    pub source_namespace: Option<&'static str>,
    pub source_labels: Option<&'static str>,
    pub gateways: Vec<&'static str>,
}

#[derive(Clone, Debug)]
pub enum Text {
    Exact(&'static str),
    Prefix(&'static str),
    Regex(&'static str),
}

/// Who asks, for what.
#[derive(Clone, Debug)]
pub struct Question {
    /// Namespace of the caller's pod.
    pub namespace: &'static str,
    /// Its label `tier`, which is its name and its ServiceAccount's too.
    pub tier: &'static str,
    pub service: (&'static str, &'static str),
    pub port: u16,
    pub path: &'static str,
    pub method: &'static str,
    pub headers: Vec<(&'static str, &'static str)>,
    pub query: &'static str,
}

pub const TIERS: [&str; 2] = ["web", "job"];

impl Pod {
    pub fn address(&self) -> String {
        let service = SERVICES.iter().position(|s| *s == self.service).unwrap();
        format!("10.1.{service}.{}", &self.version[1..])
    }
}

fn pods() -> impl Strategy<Value = Vec<Pod>> {
    let all: Vec<_> = SERVICES.iter().flat_map(|s| ["v1", "v2", "v3"].map(|v| (*s, v))).collect();
    (subsequence(all.clone(), 5..=all.len()), vec(weighted(0.2, Just(())), all.len())).prop_map(|(there, unready)| {
        let pod = |((service, version), unready): (_, Option<()>)| Pod { service, version, ready: unready.is_none() };
        there.into_iter().zip(unready).map(pod).collect()
    })
}

fn export_to() -> impl Strategy<Value = Option<&'static str>> {
    weighted(0.3, select(vec![".", "*", "a", "b", "c"]))
}

/// At most one DestinationRule of each namespace for each Service: two of one side would be a conflict.
fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let places: Vec<_> = SERVICES.iter().flat_map(|s| NAMESPACES.map(|n| (n, *s))).collect();
    let subsets = vec((select(vec!["one", "two"]), select(vec!["v1", "v2", "v3"])), 1..3).prop_map(|mut subsets| {
        subsets.sort_unstable();
        subsets.dedup_by_key(|(name, _)| *name);
        subsets
    });
    subsequence(places, 2..7).prop_flat_map(move |places| {
        places
            .into_iter()
            .map(|(namespace, service)| {
                (subsets.clone(), export_to()).prop_map(move |(subsets, export_to)| Rule {
                    namespace,
                    service,
                    subsets,
                    export_to,
                })
            })
            .collect::<Vec<_>>()
    })
}

/// Ways to name a Service, or several, in `hosts`.
const HOSTS: &[&str] = &[
    "shop",
    "cart",
    "shop.a",
    "shop.b",
    "cart.a.svc",
    "shop.a.svc.cluster.local",
    "SHOP.b.svc.cluster.local",
    "*.a.svc.cluster.local",
    "*.svc.cluster.local",
    "*.cluster.local",
];

fn text(
    exact: &'static [&'static str],
    prefix: &'static [&'static str],
    regex: &'static [&'static str],
) -> BoxedStrategy<Text> {
    prop_oneof![
        select(exact).prop_map(Text::Exact),
        select(prefix).prop_map(Text::Prefix),
        select(regex).prop_map(Text::Regex),
    ]
    .boxed()
}

fn matches() -> impl Strategy<Value = Match> {
    let uri = || text(&["/a", "/a/b"], &["/", "/a"], &["/[a-z]", "/a/.*"]);
    let value = || weighted(0.8, text(&["v1", "v2"], &["v"], &["v[12]", ".*2"]));
    let headers = || {
        vec((select(vec!["x-k", "X-L"]), value()), 0..3).prop_map(|mut headers| {
            headers.sort_by_key(|(name, _)| *name);
            headers.dedup_by_key(|(name, _)| *name);
            headers
        })
    };
    let request = (
        weighted(0.6, uri()),
        weighted(0.2, text(&["GET", "POST"], &["P"], &["GET|PUT"])),
        weighted(0.1, text(&["shop.a.svc.cluster.local"], &["shop"], &[".*b.svc.*"])),
        prop_oneof![2 => Just(Vec::new()), 1 => headers()],
        prop_oneof![4 => Just(Vec::new()), 1 => headers()],
        weighted(0.2, (select(vec!["q", "r"]), text(&["1"], &["1"], &["[12]"]))),
    );
    let client = (
        weighted(0.1, select(vec![80u16, 81])),
        weighted(0.1, select(NAMESPACES.to_vec())),
        weighted(0.1, select(TIERS.to_vec())),
        weighted(0.1, prop_oneof![Just(vec!["mesh"]), Just(vec!["edge"]), Just(vec!["edge", "mesh"])]),
    );
    (request, client).prop_map(|((uri, method, authority, headers, without_headers, query), client)| Match {
        uri,
        method,
        authority,
        headers,
        without_headers,
        query: query.into_iter().collect(),
        port: client.0,
        source_namespace: client.1,
        source_labels: client.2,
        gateways: client.3.unwrap_or_default(),
    })
}

fn destination() -> impl Strategy<Value = Destination> {
    let host = select(vec!["shop.a", "cart.a.svc.cluster.local", "shop.b", "shop.a.svc.cluster.local"]);
    let subset = prop_oneof![3 => Just(None), 4 => select(vec!["one", "two"]).prop_map(Some)];
    let weight =
        prop_oneof![1 => Just(None), 1 => Just(Some(0)), 4 => select(vec![1u32, 5, 10, 90, 100]).prop_map(Some)];
    (host, subset, weighted(0.3, select(vec![80u16, 81])), weight)
        .prop_map(|(host, subset, port, weight)| Destination { host, subset, port, weight })
}

fn http() -> impl Strategy<Value = Http> {
    (
        prop_oneof![1 => vec(matches(), 0..1), 3 => vec(matches(), 1..2), 1 => vec(matches(), 2..3)],
        vec(destination(), 1..4),
    )
        .prop_map(|(matches, route)| Http { matches, route })
}

fn virtuals() -> impl Strategy<Value = Virtual> {
    (
        select(NAMESPACES.to_vec()),
        0u8..3,
        vec(select(HOSTS), 1..3),
        prop_oneof![6 => Just(Vec::new()), 2 => Just(vec!["mesh"]), 1 => Just(vec!["edge"])],
        export_to(),
        vec(http(), 1..4),
    )
        .prop_map(|(namespace, created, hosts, gateways, export_to, http)| Virtual {
            namespace,
            created,
            hosts,
            gateways,
            export_to,
            http,
        })
}

/// A cluster with up to four VirtualServices and as many routes of the Gateway API.
pub fn routing() -> impl Strategy<Value = World> {
    let several = prop_oneof![(0usize..5, Just(0usize)), (Just(0), 1usize..5), (1usize..4, 1usize..4)];
    let routes = several.prop_flat_map(|(ours, standards)| {
        (vec(virtuals(), ours), vec(standard::route(), standards), vec(standard::grant(), 0..4))
    });
    (pods(), rules(), routes).prop_map(|(pods, rules, (routes, standard, grants))| World {
        pods,
        rules,
        routes,
        standard,
        grants,
    })
}

/// Requests that the generated matches tell apart.
pub fn requests() -> impl Strategy<Value = Vec<Question>> {
    // The one that most routes are about.
    let service = prop_oneof![2 => Just(SERVICES[0]), 1 => select(SERVICES.to_vec())];
    let who = (select(NAMESPACES.to_vec()), select(TIERS.to_vec()), service, select(vec![80u16, 80, 81]));
    let value = || of(select(vec!["v1", "v2", "w2"]));
    let what = (
        select(vec!["/", "/a", "/a/b", "/ab", "/x"]),
        select(vec!["GET", "GET", "POST", "PUT"]),
        (value(), value()),
        select(vec!["", "q=1", "q=12&r=2", "r=1&q=2", "Q=1"]),
    );
    let question = (who, what).prop_map(|((namespace, tier, service, port), (path, method, (k, l), query))| Question {
        namespace,
        tier,
        service,
        port,
        path,
        method,
        headers: k.map(|v| ("x-k", v)).into_iter().chain(l.map(|v| ("x-l", v))).collect(),
        query,
    });
    vec(question, 12)
}

impl World {
    /// The resources as their users write them.
    pub fn yaml(&self) -> String {
        let mut documents = Vec::new();
        documents.extend(self.pods.iter().map(Pod::document));
        documents.extend(self.rules.iter().map(Rule::document));
        documents.extend(self.routes.iter().enumerate().map(|(i, r)| r.document(i)));
        documents.extend(self.standard.iter().enumerate().map(|(i, r)| r.document(i)));
        documents.extend(self.grants.iter().enumerate().map(|(i, g)| g.document(i)));
        write(&documents)
    }
}

/// A file with what does not change and these.
pub fn write(documents: &[Value]) -> String {
    static CLUSTER: LazyLock<Vec<String>> = LazyLock::new(|| cluster().iter().map(text).collect());
    fn text(document: &Value) -> String {
        serde_yaml::to_string(document).unwrap()
    }
    CLUSTER.iter().cloned().chain(documents.iter().map(text)).collect::<Vec<_>>().join("---\n")
}

/// What does not change: namespaces, Services, and the pods that call.
fn cluster() -> Vec<Value> {
    let mut documents: Vec<Value> = NAMESPACES
        .iter()
        .map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
        .collect();
    documents.extend(SERVICES.iter().enumerate().map(|(index, (namespace, name))| {
        let ports =
            [80, 81].map(|port| json!({"name": format!("http-{port}"), "port": port, "targetPort": port + 8000}));
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
            "spec": {"selector": {"app": name}, "ports": ports, "clusterIP": format!("10.96.0.{}", index + 1)},
        })
    }));
    for (n, namespace) in NAMESPACES.iter().enumerate() {
        for (t, tier) in TIERS.iter().enumerate() {
            documents.push(pod(namespace, tier, &format!("10.2.{n}.{t}"), json!({"tier": tier}), true));
            documents.push(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": tier, "namespace": namespace}}));
        }
    }
    documents
}

/// A pod in the mesh whose ServiceAccount has its own name.
pub fn pod(namespace: &str, name: &str, address: &str, mut labels: Value, ready: bool) -> Value {
    labels["causeway.dev/injected"] = "true".into();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"serviceAccountName": name, "containers": [{"name": "app", "image": "app"}]},
        "status": {
            "podIP": address, "phase": "Running",
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
        },
    })
}

impl Pod {
    fn document(&self) -> Value {
        let (namespace, service) = self.service;
        let labels = json!({"app": service, "version": self.version});
        pod(namespace, &format!("{service}-{}", self.version), &self.address(), labels, self.ready)
    }
}

impl Rule {
    fn document(&self) -> Value {
        let subsets = self.subsets.iter().map(|(name, version)| json!({"name": name, "labels": {"version": version}}));
        let (namespace, service) = self.service;
        let mut spec = json!({
            "host": format!("{service}.{namespace}.svc.cluster.local"), "subsets": subsets.collect::<Vec<_>>(),
        });
        if let Some(export_to) = self.export_to {
            spec["exportTo"] = json!([export_to]);
        }
        json!({
            "apiVersion": "causeway.dev/v1alpha1", "kind": "DestinationRule",
            "metadata": {"name": format!("{service}-{namespace}"), "namespace": self.namespace}, "spec": spec,
        })
    }
}

impl Virtual {
    /// Its name among the World's.
    pub fn name(index: usize) -> String {
        format!("route-{index}")
    }

    fn document(&self, index: usize) -> Value {
        let mut spec = json!({"hosts": self.hosts, "http": self.http.iter().map(Http::document).collect::<Vec<_>>()});
        if let Some(export_to) = self.export_to {
            spec["exportTo"] = json!([export_to]);
        }
        if !self.gateways.is_empty() {
            spec["gateways"] = json!(self.gateways);
        }
        json!({
            "apiVersion": "causeway.dev/v1alpha1", "kind": "VirtualService",
            "metadata": {
                "name": Self::name(index), "namespace": self.namespace,
                "creationTimestamp": format!("2026-01-0{}T00:00:00Z", self.created + 1),
            },
            "spec": spec,
        })
    }
}

impl Http {
    fn document(&self) -> Value {
        let route = self.route.iter().map(Destination::document).collect::<Vec<_>>();
        let mut document = json!({"route": route});
        if !self.matches.is_empty() {
            document["match"] = self.matches.iter().map(Match::document).collect();
        }
        document
    }
}

impl Destination {
    fn document(&self) -> Value {
        let mut to = json!({"host": self.host});
        if let Some(subset) = self.subset {
            to["subset"] = subset.into();
        }
        if let Some(port) = self.port {
            to["port"] = json!({"number": port});
        }
        let mut document = json!({"destination": to});
        if let Some(weight) = self.weight {
            document["weight"] = weight.into();
        }
        document
    }
}

impl Text {
    fn document(&self) -> Value {
        match self {
            Self::Exact(text) => json!({"exact": text}),
            Self::Prefix(text) => json!({"prefix": text}),
            Self::Regex(text) => json!({"regex": text}),
        }
    }
}

impl Match {
    fn document(&self) -> Value {
        let named = |all: &[(&'static str, Option<Text>)]| {
            let entry = |(name, text): &(&'static str, Option<Text>)| {
                ((*name).to_owned(), text.as_ref().map_or_else(|| json!({}), Text::document))
            };
            Value::Object(all.iter().map(entry).collect::<Map<_, _>>())
        };
        let mut document = Map::new();
        for (field, text) in [("uri", &self.uri), ("method", &self.method), ("authority", &self.authority)] {
            document.extend(text.iter().map(|t| (field.to_owned(), t.document())));
        }
        for (field, all) in [("headers", &self.headers), ("withoutHeaders", &self.without_headers)] {
            if !all.is_empty() {
                document.insert(field.into(), named(all));
            }
        }
        for (name, text) in &self.query {
            document.insert("queryParams".into(), json!({*name: text.document()}));
        }
        document.extend(self.port.map(|p| ("port".into(), p.into())));
        document.extend(self.source_namespace.map(|n| ("sourceNamespace".into(), n.into())));
        document.extend(self.source_labels.map(|t| ("sourceLabels".into(), json!({"tier": t}))));
        if !self.gateways.is_empty() {
            document.insert("gateways".into(), json!(self.gateways));
        }
        Value::Object(document)
    }
}
