//! Routes of the Gateway API and ReferenceGrants, as people may write them for the small cluster.

use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

use crate::world::NAMESPACES;

/// No regular expression, so nobody understands the rule with it.
pub const BROKEN: &str = "(";

/// An HTTPRoute or a GRPCRoute.
#[derive(Clone, Debug)]
pub struct Route {
    pub namespace: &'static str,
    pub kind: Kind,
    pub created: u8,
    pub parents: Vec<Parent>,
    /// None at all: `rules` is not written.
    pub rules: Vec<Rule>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Http,
    Grpc,
}

/// What a route attaches to.
#[derive(Clone, Debug)]
pub struct Parent {
    /// Without these it is a Gateway.
    pub is_service: bool,
    pub namespace: Option<&'static str>,
    pub name: &'static str,
    pub port: Option<u16>,
    pub section: Option<&'static str>,
}

#[derive(Clone, Debug)]
pub struct Rule {
    pub matches: Vec<Match>,
    pub backends: Vec<Backend>,
    /// A redirect, which cannot stand beside backends.
    pub redirects: bool,
}

/// Conditions; the path is an HTTPRoute's, the call a GRPCRoute's.
#[derive(Clone, Debug)]
pub struct Match {
    pub path: Option<(PathKind, &'static str)>,
    pub method: Option<&'static str>,
    pub call: Option<Call>,
    pub headers: Vec<Named>,
    pub query: Vec<Named>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathKind {
    Exact,
    Prefix,
    /// As Prefix, with no type written.
    Default,
    Regex,
}

#[derive(Clone, Debug)]
pub struct Call {
    pub is_regex: bool,
    pub service: Option<&'static str>,
    pub method: Option<&'static str>,
}

#[derive(Clone, Debug)]
pub struct Named {
    pub name: &'static str,
    pub is_regex: bool,
    pub value: &'static str,
}

#[derive(Clone, Debug)]
pub struct Backend {
    pub kind: Option<&'static str>,
    pub namespace: Option<&'static str>,
    pub name: &'static str,
    pub port: Option<u16>,
    pub weight: Option<u32>,
}

/// A ReferenceGrant.
#[derive(Clone, Debug)]
pub struct Grant {
    pub namespace: &'static str,
    pub from: Vec<(&'static str, &'static str)>,
    /// Kind, and the name where one is written.
    pub to: Vec<(&'static str, Option<&'static str>)>,
}

fn parents() -> impl Strategy<Value = Vec<Parent>> {
    let service = prop_oneof![
        8 => Just((Some("a"), "shop")),
        2 => select(vec![(Some("a"), "cart"), (Some("b"), "shop"), (None, "shop")]),
        1 => Just((None, "gone")),
    ];
    let parent = (
        weighted(0.95, Just(())),
        service,
        weighted(0.2, select(vec![80u16, 81, 80, 82])),
        weighted(0.15, select(vec!["http-80", "http-80", "http-81", "none"])),
    );
    let parent = parent.prop_map(|(is_service, (namespace, name), port, section)| Parent {
        is_service: is_service.is_some(),
        namespace,
        name,
        port,
        section,
    });
    vec(parent, 1..3)
}

fn named(
    names: &'static [&'static str],
    exact: &'static [&'static str],
    regex: &'static [&'static str],
) -> impl Strategy<Value = Vec<Named>> {
    let value = prop_oneof![
        2 => select(exact).prop_map(|value| (false, value)),
        1 => select(regex).prop_map(|value| (true, value)),
    ];
    let one = (select(names), value).prop_map(|(name, (is_regex, value))| Named { name, is_regex, value });
    prop_oneof![2 => Just(Vec::new()), 1 => vec(one, 1..3)]
}

/// Names that are equal but for their case are one; a name of the request's host is among the values.
fn headers() -> impl Strategy<Value = Vec<Named>> {
    let hosts = named(&["Host"], &["shop.a.svc.cluster.local", "SHOP.b.svc.cluster.local:80"], &[".*[.]a[.]svc.*"]);
    let others = named(&["x-k", "X-L", "X-K"], &["v1", "v2"], &["v[12]", "v", ".*2", BROKEN]);
    (prop_oneof![6 => Just(Vec::new()), 1 => hosts], others).prop_map(|(hosts, others)| [hosts, others].concat())
}

fn http_match() -> impl Strategy<Value = Match> {
    let kind = || select(vec![PathKind::Prefix, PathKind::Default]);
    let path = prop_oneof![
        (Just(PathKind::Exact), select(vec!["/a", "/a/b", "/"])),
        (kind(), select(vec!["/", "/a", "/a/", "/a/b", "/A"])),
        (Just(PathKind::Regex), select(vec!["/[a-z]", "/a/.*", "/.*"])),
    ];
    let query = named(&["q", "r", "q"], &["1", "12"], &["1", "[12]"]);
    (weighted(0.6, path), weighted(0.2, select(vec!["GET", "POST"])), headers(), query)
        .prop_map(|(path, method, headers, query)| Match { path, method, call: None, headers, query })
}

fn grpc_match() -> impl Strategy<Value = Match> {
    let call = (weighted(0.3, Just(())), weighted(0.6, select(vec!["a", "x"])), weighted(0.6, select(vec!["b", "x"])))
        .prop_map(|(is_regex, service, method)| {
            // One of them at least.
            let service = service.or_else(|| method.is_none().then_some("a"));
            Call { is_regex: is_regex.is_some(), service, method }
        });
    (weighted(0.7, call), headers()).prop_map(|(call, headers)| Match {
        path: None,
        method: None,
        call,
        headers,
        query: Vec::new(),
    })
}

/// Most are valid, and their shares differ, so that an answer tells the rule that gave it.
fn backends() -> impl Strategy<Value = Vec<Backend>> {
    let service = prop_oneof![
        8 => select(vec![(Some("a"), "shop"), (Some("a"), "cart"), (Some("b"), "shop")]),
        2 => select(vec![(None, "shop"), (None, "cart")]),
        1 => select(vec![(None, "gone"), (Some("b"), "cart")]),
    ];
    let backend = (
        weighted(0.1, select(vec!["Service", "Service", "ConfigMap"])),
        service,
        weighted(0.97, select(vec![80u16, 80, 81, 80, 81, 80, 81, 82])),
        prop_oneof![2 => Just(None), 1 => Just(Some(0)), 12 => (1u32..40).prop_map(Some)],
    );
    let backend =
        backend.prop_map(|(kind, (namespace, name), port, weight)| Backend { kind, namespace, name, port, weight });
    prop_oneof![1 => vec(backend.clone(), 0..2), 9 => vec(backend, 2..4)]
}

fn rule(matches: BoxedStrategy<Match>, may_redirect: bool) -> impl Strategy<Value = Rule> {
    let matches = prop_oneof![1 => Just(Vec::new()), 3 => vec(matches.clone(), 1..2), 2 => vec(matches, 2..4)];
    (matches, backends(), weighted(0.05, Just(()))).prop_map(move |(matches, backends, redirects)| Rule {
        matches,
        redirects: may_redirect && redirects.is_some() && !backends.is_empty(),
        backends,
    })
}

/// A route of either kind.
pub fn route() -> impl Strategy<Value = Route> {
    let http = vec(rule(http_match().boxed(), true), 0..4).prop_map(|rules| (Kind::Http, rules));
    let grpc = vec(rule(grpc_match().boxed(), false), 0..4).prop_map(|rules| (Kind::Grpc, rules));
    (select(vec!["a", "a", "a", "b", "c"]), 0u8..3, parents(), prop_oneof![3 => http.boxed(), 1 => grpc.boxed()])
        .prop_map(|(namespace, created, parents, (kind, rules))| Route { namespace, kind, created, parents, rules })
}

/// A grant for some routes of some namespaces.
pub fn grant() -> impl Strategy<Value = Grant> {
    let from = (select(vec!["HTTPRoute", "HTTPRoute", "HTTPRoute", "GRPCRoute"]), select(NAMESPACES.to_vec()));
    let kind = prop_oneof![9 => Just("Service"), 1 => Just("Secret")];
    let to = (kind, weighted(0.5, select(vec!["shop", "cart"])));
    (select(vec!["a", "b"]), vec(from, 1..4), vec(to, 1..3)).prop_map(|(namespace, from, to)| Grant {
        namespace,
        from,
        to,
    })
}

const GROUP: &str = "gateway.networking.k8s.io";

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTPRoute",
            Self::Grpc => "GRPCRoute",
        }
    }
}

impl Route {
    pub fn document(&self, index: usize) -> Value {
        let mut spec = json!({"parentRefs": self.parents.iter().map(Parent::document).collect::<Vec<_>>()});
        if !self.rules.is_empty() {
            spec["rules"] = self.rules.iter().map(Rule::document).collect();
        }
        json!({
            "apiVersion": format!("{GROUP}/v1"), "kind": self.kind.name(),
            "metadata": {
                "name": crate::world::Virtual::name(index), "namespace": self.namespace,
                "creationTimestamp": format!("2026-01-0{}T00:00:00Z", self.created + 1),
            },
            "spec": spec,
        })
    }
}

/// The fields that are set.
fn fields<const N: usize>(all: [(&str, Option<Value>); N]) -> Value {
    all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect::<Map<_, _>>().into()
}

impl Parent {
    fn document(&self) -> Value {
        fields([
            ("group", self.is_service.then(|| "".into())),
            ("kind", self.is_service.then(|| "Service".into())),
            ("namespace", self.namespace.map(Value::from)),
            ("name", Some(self.name.into())),
            ("port", self.port.map(Value::from)),
            ("sectionName", self.section.map(Value::from)),
        ])
    }
}

impl Rule {
    fn document(&self) -> Value {
        let list = |all: Vec<Value>| (!all.is_empty()).then(|| Value::from(all));
        let redirect = || json!([{"type": "RequestRedirect", "requestRedirect": {"port": 8443}}]);
        fields([
            ("matches", list(self.matches.iter().map(Match::document).collect())),
            ("filters", self.redirects.then(redirect)),
            ("backendRefs", list(self.backends.iter().map(Backend::document).collect())),
        ])
    }
}

impl Match {
    fn document(&self) -> Value {
        let named = |all: &[Named]| (!all.is_empty()).then(|| all.iter().map(Named::document).collect());
        let path = |(kind, value): &(PathKind, &str)| {
            let kind = match kind {
                PathKind::Exact => Some("Exact"),
                PathKind::Prefix => Some("PathPrefix"),
                PathKind::Default => None,
                PathKind::Regex => Some("RegularExpression"),
            };
            fields([("type", kind.map(Value::from)), ("value", Some((*value).into()))])
        };
        let call = |call: &Call| {
            fields([
                ("type", call.is_regex.then(|| "RegularExpression".into())),
                ("service", call.service.map(Value::from)),
                ("method", call.method.map(Value::from)),
            ])
        };
        let method = self.method.map(Value::from).or_else(|| self.call.as_ref().map(call));
        fields([
            ("path", self.path.as_ref().map(path)),
            ("method", method),
            ("headers", named(&self.headers)),
            ("queryParams", named(&self.query)),
        ])
    }
}

impl Named {
    fn document(&self) -> Value {
        let kind = self.is_regex.then(|| "RegularExpression".into());
        fields([("name", Some(self.name.into())), ("type", kind), ("value", Some(self.value.into()))])
    }
}

impl Backend {
    fn document(&self) -> Value {
        fields([
            ("kind", self.kind.map(Value::from)),
            ("namespace", self.namespace.map(Value::from)),
            ("name", Some(self.name.into())),
            ("port", self.port.map(Value::from)),
            ("weight", self.weight.map(Value::from)),
        ])
    }
}

impl Grant {
    pub fn document(&self, index: usize) -> Value {
        let from = |(kind, namespace): &(&str, &str)| json!({"group": GROUP, "kind": kind, "namespace": namespace});
        let to = |(kind, name): &(&str, Option<&str>)| {
            fields([("group", Some("".into())), ("kind", Some((*kind).into())), ("name", name.map(Value::from))])
        };
        json!({
            "apiVersion": format!("{GROUP}/v1"), "kind": "ReferenceGrant",
            "metadata": {"name": format!("grant-{index}"), "namespace": self.namespace},
            "spec": {"from": self.from.iter().map(from).collect::<Vec<_>>(), "to": self.to.iter().map(to).collect::<Vec<_>>()},
        })
    }
}
