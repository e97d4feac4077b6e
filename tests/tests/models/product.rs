//! The product itself, asked the model's questions: the directory's parser, `compile`, the wire, and the decisions that
//! proxies make.

use std::collections::BTreeSet;

use causeway_control_plane::compile::{Client, Model, Settings, compile};
use causeway_control_plane::index::Index;
use causeway_control_plane::source::{Event, directory};
use causeway_mesh::config::action::Action;
use causeway_mesh::config::{self, Backend, Destination, decode};
use causeway_mesh::policy::{Decision, Peer, authorize};
use causeway_mesh::route::{RequestView, select};
use causeway_mesh::split::Split;
use causeway_mesh::{spiffe::SpiffeId, wire};

use crate::policy;
use crate::routing::Answer;
use crate::world::Question;

/// Compiled resources.
pub struct Product {
    model: Model,
}

impl Product {
    /// Of a file with all resources.
    pub fn of(yaml: &str) -> Self {
        let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
        std::fs::write(file.path(), yaml).unwrap();
        let reading = directory::read(file.path());
        assert_eq!(reading.problems, [], "{yaml}");
        let mut index = Index::new();
        let upsert = |resource| Event::Upsert { resource, problems: Vec::new() };
        index.apply(reading.resources.into_iter().map(upsert));
        Self { model: compile(&index.snapshot(), &Settings::default()) }
    }

    fn client(namespace: &str, tier: &str) -> Client {
        Client { namespace: namespace.into(), account: tier.into(), pod: tier.into() }
    }

    /// Where the proxy of the question's client sends it.
    pub fn answer(&self, question: &Question) -> Answer {
        let (namespace, service) = question.service;
        let text = format!("{service}.{namespace}.svc.cluster.local:{}", question.port);
        let destination = self.model.destination(&Self::client(question.namespace, question.tier), &text);
        let config::Resource::Destination(destination) =
            over_the_wire("destination/asked", wire::resource::Body::Destination(destination))
        else {
            panic!("a destination")
        };
        if destination.routes.is_empty() {
            return self.shares(&destination, destination.split.as_ref().expect("the Service's own split"));
        }
        let view = View {
            path: question.path,
            method: question.method,
            query: question.query,
            headers: &question.headers,
            host: text,
        };
        match select(&destination.routes, &view) {
            None => Answer::NoRoute,
            Some(selected) => match &selected.route.action {
                Action::Split(split) => self.shares(&destination, split),
                other => panic!("not written: {other:?}"),
            },
        }
    }

    fn shares(&self, destination: &Destination, split: &Split) -> Answer {
        if split.total() == 0 {
            assert!(split.is_zero, "{split:?}");
            return Answer::NoWeight;
        }
        // Every point, so that nothing but the choice itself counts.
        let mut counts = vec![0; destination.backends.len()];
        for point in 0..split.total() {
            counts[split.pick(point).expect("a backend for each point").backend] += 1;
        }
        let used = counts.into_iter().enumerate().filter(|(_, count)| *count > 0);
        Answer::shares(used.map(|(backend, count)| (self.addresses(&destination.backends[backend]), count)))
    }

    fn addresses(&self, backend: &Backend) -> BTreeSet<String> {
        if backend.broken.is_some() {
            return Answer::error();
        }
        let endpoints = self.model.endpoints(&backend.name).unwrap_or_default();
        endpoints.endpoints.into_iter().map(|e| format!("{}:{}", e.address, e.port)).collect()
    }

    /// Whether the proxy of the question's server lets it in.
    pub fn allows(&self, question: &policy::Question) -> bool {
        let workload = self.model.workload(&Self::client(question.namespace, question.server));
        let config::Resource::Workload(workload) = over_the_wire("workload", wire::resource::Body::Workload(workload))
        else {
            panic!("a workload")
        };
        let peer = match question.caller {
            Some((namespace, account)) => Peer::Mesh(SpiffeId::new("cluster.local", namespace, account).unwrap()),
            None => Peer::Anonymous,
        };
        let view = View {
            path: question.path,
            method: question.method,
            query: "",
            headers: &[],
            host: question.host.to_owned(),
        };
        matches!(authorize(&workload.inbound, &peer, question.port, &view), Decision::Allow(_))
    }
}

fn over_the_wire(name: &str, body: wire::resource::Body) -> config::Resource {
    let resource = wire::Resource { name: name.into(), version: 1, body: Some(body), requires: Vec::new() };
    decode(&resource).expect("what is compiled can be read")
}

/// A request as a proxy sees it.
struct View<'a> {
    path: &'a str,
    method: &'a str,
    query: &'a str,
    headers: &'a [(&'static str, &'static str)],
    /// With its port, which a proxy takes off.
    host: String,
}

impl RequestView for View<'_> {
    fn path(&self) -> &str {
        self.path
    }

    fn query(&self) -> &str {
        self.query
    }

    fn method(&self) -> &str {
        self.method
    }

    fn host(&self) -> &str {
        self.host.split(':').next().unwrap()
    }

    fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(n, _)| *n == name).map(|(_, value)| *value)
    }
}
