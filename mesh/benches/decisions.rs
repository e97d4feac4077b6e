//! What each decision about a request costs: routes, splits, policies, balancing, and judging its first bytes.
//!
//! `cargo bench -p causeway-mesh`; CI compiles it and runs nothing.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that cannot be built must stop")]

use std::hint::black_box;

use causeway_mesh::balance::{self, Load, hash::Ring};
use causeway_mesh::config::action::Action;
use causeway_mesh::http1::{Guard, Limits};
use causeway_mesh::policy::{Inbound, Peer, Policy, Principal, Rule, Source, authorize};
use causeway_mesh::route::{Match, NamedMatch, RequestView, Route, Routes};
use causeway_mesh::spiffe::SpiffeId;
use causeway_mesh::split::{Split, SplitKey, Weighted};
use causeway_mesh::text::TextMatch;
use causeway_mesh::{detect, name, path};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

const PATH: &str = "/area/of/the/shop/item/4711";
const HEAD: &[u8] =
    b"GET /area/of/the/shop/item/4711?page=2 HTTP/1.1\r\nHost: backend.dev:8080\r\nUser-Agent: bench/1\r\n\
    Accept: */*\r\nAccept-Encoding: gzip, deflate\r\nX-Tenant: blue\r\nX-Request-Id: 0f9a5b1e\r\n\r\n";

struct Request;

impl RequestView for Request {
    fn path(&self) -> &str {
        PATH
    }

    fn query(&self) -> &str {
        "page=2"
    }

    fn method(&self) -> &str {
        "GET"
    }

    fn host(&self) -> &str {
        "backend.dev"
    }

    fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let held = [("user-agent", "bench/1"), ("accept", "*/*"), ("x-tenant", "blue")];
        held.into_iter().filter(move |(held, _)| *held == name).map(|(_, value)| value)
    }
}

fn split(key: Option<SplitKey>) -> Split {
    let weighted: Vec<_> = [("v1", 90), ("v2", 10)]
        .into_iter()
        .enumerate()
        .map(|(backend, (name, weight))| Weighted { backend, name, weight, effective: weight })
        .collect();
    Split::new(&weighted, key, "dev/backend#0")
}

/// `count` routes of which the last matches.
fn routes(count: usize) -> Vec<Route> {
    let route = |index: usize| Route {
        name: format!("dev/backend#{index}").into(),
        matches: vec![if index + 1 == count {
            Match::default()
        } else {
            Match {
                path: Some(TextMatch::Prefix(format!("/area/of/the/shop/{index}/").into())),
                headers: vec![NamedMatch { name: "x-tenant".into(), value: TextMatch::Present, invert: false }],
                ..Match::default()
            }
        }],
        action: Action::Split(split(None)),
        timeout: None,
        filters: None,
        retry: None,
    };
    (0..count).map(route).collect()
}

fn routing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("Routes::select, the last of");
    for count in [1, 50, 500] {
        let routes = Routes::from(routes(count));
        group.bench_with_input(BenchmarkId::from_parameter(count), &routes, |bencher, routes| {
            bencher.iter(|| black_box(routes).select(&Request).unwrap().index);
        });
    }
    group.finish();
    let (free, sticky) = (split(None), split(Some(SplitKey::SourceIdentity)));
    criterion.bench_function("split::pick", |bencher| bencher.iter(|| free.pick(black_box(93))));
    criterion.bench_function("split::pick_by_key", |bencher| {
        bencher.iter(|| sticky.pick_by_key(black_box(b"spiffe://cluster.local/ns/dev/sa/frontend")));
    });
}

fn policy(criterion: &mut Criterion) {
    let caller = |account: &str| SpiffeId::new("cluster.local", "dev", account).unwrap();
    let peer = Peer::Mesh(caller("frontend"));
    let mut group = criterion.benchmark_group("policy::authorize, the last allows of");
    for count in [1, 50] {
        let policies = (1..=count).map(|n| Policy {
            name: format!("dev/policy-{n}").into(),
            allow: true,
            rules: vec![Rule {
                from: vec![Source {
                    principals: vec![Principal::Id(caller(&if n == count {
                        "frontend".into()
                    } else {
                        format!("a-{n}")
                    }))],
                    ..Source::default()
                }],
                to: Vec::new(),
            }],
        });
        let inbound = Inbound { policies: policies.collect(), ..Inbound::closed() };
        group.bench_with_input(BenchmarkId::from_parameter(count), &inbound, |bencher, inbound| {
            bencher.iter(|| authorize(black_box(inbound), &peer, 8080, &Request));
        });
    }
    group.finish();
}

fn balancing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("balance");
    for count in [1_usize, 100, 1_000] {
        let loads: Vec<Load> =
            (0..count).map(|n| Load { latency_micros: 100.0 + n as f64, pending: n as u32 % 7 }).collect();
        group.bench_function(BenchmarkId::new("choose", count), |bencher| {
            let mut draw = 1_u64;
            bencher.iter(|| {
                draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                balance::choose(count, draw >> 33, draw >> 17, |place| balance::cost(loads[place]))
            });
        });
        let names: Vec<String> = (0..count).map(|n| format!("10.0.{}.{}:8080", n / 250, n % 250)).collect();
        let ring = Ring::new(names.iter().map(String::as_bytes));
        group.bench_function(BenchmarkId::new("ring", count), |bencher| {
            bencher.iter(|| ring.pick(black_box(balance::hash::key(b"user-4711")), |_| true));
        });
    }
    group.bench_function("peak_ewma", |bencher| {
        bencher.iter(|| balance::peak_ewma(black_box(120.0), black_box(80.0), 50.0, 10_000_000.0));
    });
    group.finish();
}

fn reading(criterion: &mut Criterion) {
    criterion.bench_function("http1::Guard, one head", |bencher| {
        let mut guard = Guard::new(Limits::default());
        bencher.iter(|| guard.step(black_box(HEAD)));
    });
    criterion.bench_function("detect::classify", |bencher| bencher.iter(|| detect::classify(black_box(HEAD))));
    criterion.bench_function("path::normalise, as it stands", |bencher| {
        bencher.iter(|| path::normalise(black_box(PATH)).unwrap().len());
    });
    criterion.bench_function("path::normalise, rewritten", |bencher| {
        bencher.iter(|| path::normalise(black_box("/area//of/./the/%73hop/../x")).unwrap().len());
    });
    criterion.bench_function("name::host_port", |bencher| {
        bencher.iter(|| name::host_port(black_box("Backend.Dev.svc.cluster.local:8080")).is_ok());
    });
}

criterion_group!(decisions, routing, policy, balancing, reading);
criterion_main!(decisions);
