//! What compiling a cluster costs: everything once, one weight or one rule changed, one route that comes or goes, and the
//! answer to one proxy.
//!
//! `cargo bench -p causeway-control-plane`; CI compiles it and runs nothing.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that cannot be built must stop")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;

use causeway_control_plane::compile::{Client, Model, Settings, compile, compile_after};
use causeway_control_plane::index::Resources;
use causeway_control_plane::source::{Event, Resource, directory};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

/// A cluster of `services` Services in ten namespaces with two pods, a DestinationRule and a split each.
fn cluster(services: usize, weight: u32) -> Arc<Resources> {
    let mut text = String::new();
    for n in 0..services {
        let namespace = format!("ns-{}", n % 10);
        let ours = |kind: &str, spec: &str| {
            format!(
                "---\napiVersion: causeway.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: s-{n}, namespace: \
                 {namespace}}}\nspec: {spec}\n"
            )
        };
        write!(
            text,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s-{n}, namespace: {namespace}}}\nspec: {{clusterIP: \
             10.96.{}.{}, selector: {{app: s-{n}}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}\n",
            n / 250,
            n % 250 + 1,
        )
        .unwrap();
        for version in ["v1", "v2"] {
            write!(
                text,
                "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: s-{n}-{version}, namespace: {namespace}, labels: \
                 {{app: s-{n}, version: {version}, causeway.dev/injected: \"true\"}}}}\nspec: {{serviceAccountName: \
                 s-{n}, containers: [{{name: a, image: a}}]}}\nstatus: {{phase: Running, podIP: 10.{}.{}.{}, conditions: \
                 [{{type: Ready, status: \"True\"}}]}}\n",
                if version == "v1" { 1 } else { 2 },
                n / 250,
                n % 250 + 1,
            )
            .unwrap();
        }
        text += &ours(
            "DestinationRule",
            &format!(
                "{{host: s-{n}, subsets: [{{name: v1, labels: {{version: v1}}}}, {{name: v2, labels: {{version: v2}}}}]}}"
            ),
        );
        let weight = if n == 0 { weight } else { 90 };
        text += &ours(
            "VirtualService",
            &format!(
                "{{hosts: [s-{n}], http: [{{route: [{{destination: {{host: s-{n}, subset: v1}}, weight: {weight}}}, \
                 {{destination: {{host: s-{n}, subset: v2}}, weight: {}}}]}}]}}",
                100 - weight
            ),
        );
    }
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("cluster.yaml"), text).unwrap();
    let mut resources = Resources::default();
    for resource in directory::read(place.path()).resources {
        resources.apply(Event::Upsert { resource, problems: Vec::new() });
    }
    Arc::new(resources)
}

/// The same resources, but the VirtualService of the first Service, which has another weight.
fn weighed(before: &Resources, weight: u32) -> Arc<Resources> {
    let mut after = before.clone();
    for route in cluster(1, weight).virtual_services.values() {
        let resource = Resource::VirtualService(Arc::clone(route));
        after.apply(Event::Upsert { resource, problems: Vec::new() });
    }
    Arc::new(after)
}

/// The same resources, but the DestinationRule of the first Service, which has a subset more.
fn ruled(before: &Resources) -> Arc<Resources> {
    let mut after = before.clone();
    for rule in cluster(1, 90).destination_rules.values() {
        let mut rule = (**rule).clone();
        let mut subset = rule.spec.subsets[1].clone();
        subset.name = "v3".to_owned();
        rule.spec.subsets.push(subset);
        let resource = Resource::DestinationRule(Arc::new(rule));
        after.apply(Event::Upsert { resource, problems: Vec::new() });
    }
    Arc::new(after)
}

/// The same resources without the VirtualService of the first Service.
fn without(before: &Resources) -> Arc<Resources> {
    let mut after = before.clone();
    cluster(1, 90).virtual_services.keys().for_each(|key| after.apply(Event::Delete(key.clone())));
    Arc::new(after)
}

fn clusters(criterion: &mut Criterion) {
    let settings = Settings::default();
    let client = Client { namespace: "ns-1".into(), account: "s-1".into(), pod: "s-1-v1".into() };
    let mut group = criterion.benchmark_group("compile");
    group.sample_size(10);
    for services in [200, 1_000] {
        let before = cluster(services, 90);
        let after = weighed(&before, 80);
        let model: Model = compile(&before, &settings);
        group.bench_function(BenchmarkId::new("everything", services), |bencher| {
            bencher.iter(|| compile(black_box(&before), &settings));
        });
        group.bench_function(BenchmarkId::new("one weight", services), |bencher| {
            bencher.iter(|| compile_after(Some(&model), black_box(&after), &settings));
        });
        let ruled = ruled(&before);
        group.bench_function(BenchmarkId::new("one rule", services), |bencher| {
            bencher.iter(|| compile_after(Some(&model), black_box(&ruled), &settings));
        });
        let less = without(&before);
        let smaller: Model = compile(&less, &settings);
        group.bench_function(BenchmarkId::new("one route comes", services), |bencher| {
            bencher.iter(|| compile_after(Some(&smaller), black_box(&before), &settings));
        });
        group.bench_function(BenchmarkId::new("one route goes", services), |bencher| {
            bencher.iter(|| compile_after(Some(&model), black_box(&less), &settings));
        });
        group.bench_function(BenchmarkId::new("one destination", services), |bencher| {
            bencher.iter(|| model.destination(black_box(&client), "s-0.ns-0:80"));
        });
    }
    group.finish();
}

criterion_group!(benches, clusters);
criterion_main!(benches);
