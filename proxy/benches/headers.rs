//! What the rewriting of a request's head costs: hop-by-hop fields, our own, the authority and the path.
//!
//! `cargo bench -p causeway-proxy`; CI compiles it and runs nothing.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that cannot be built must stop")]

use std::hint::black_box;

use causeway_proxy::headers;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::request::Parts;
use http::{HeaderMap, Request};

fn head(path: &str, more: &[(&str, &str)]) -> Parts {
    let usual = [
        ("host", "backend.dev:8080"),
        ("user-agent", "bench/1"),
        ("accept", "*/*"),
        ("accept-encoding", "gzip, deflate"),
        ("x-request-id", "0f9a5b1e"),
    ];
    let fields = usual.iter().chain(more);
    fields
        .fold(Request::get(path), |request, (name, value)| request.header(*name, *value))
        .body(())
        .unwrap()
        .into_parts()
        .0
}

fn rewriting(criterion: &mut Criterion) {
    let plain = head("/area/of/the/shop?page=2", &[]);
    let hop = [("connection", "keep-alive, x-hop"), ("x-hop", "1"), ("te", "trailers"), ("causeway-version", "v1")];
    let full = head("/area//of/./the/%73hop?page=2", &hop);
    let both = |headers: &mut HeaderMap| {
        headers::strip(headers, false);
        headers::strip_ours(headers);
    };
    for (name, parts) in [("nothing to change", &plain), ("everything to change", &full)] {
        criterion.bench_function(&format!("headers::strip, {name}"), |bencher| {
            bencher.iter_batched_ref(|| parts.headers.clone(), both, BatchSize::SmallInput);
        });
        criterion.bench_function(&format!("headers::normalise, {name}"), |bencher| {
            bencher.iter_batched_ref(
                || parts.clone(),
                |parts| headers::normalise(parts).is_ok(),
                BatchSize::SmallInput,
            );
        });
    }
    criterion.bench_function("headers::authority", |bencher| {
        bencher.iter(|| headers::authority(black_box(&plain)).unwrap_or_default());
    });
}

criterion_group!(heads, rewriting);
criterion_main!(heads);
