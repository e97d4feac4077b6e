//! Trims Kubernetes' own kinds to what is used.

use super::read::{Outcome, typed};
use super::resource::{
    EndpointSlice, Kind, Meta, Named, Origin, Pod, Probe, Resource, Service, ServicePort, SliceEndpoint, TargetPort,
};
use crate::problem::Severity;
use k8s_openapi::api::core::v1 as k8s;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Reads an object of one of Kubernetes' own kinds.
pub(super) fn resource(value: &Value, meta: &Meta) -> Outcome {
    let key = meta.key.clone();
    let origin = Arc::clone(&meta.origin);
    // There are many of these, and only a Service can have a problem at a field later.
    let bare = || {
        let origin = Origin { file: origin.file.clone(), line: origin.line, lines: BTreeMap::new() };
        Meta { origin: Arc::new(origin), ..meta.clone() }
    };
    let read = match key.kind {
        Kind::Namespace => Ok(Resource::Namespace(Arc::new(Named { meta: bare() }))),
        Kind::ServiceAccount => Ok(Resource::ServiceAccount(Arc::new(Named { meta: bare() }))),
        Kind::Service => typed(value, "").map(|s| Resource::Service(Arc::new(service(s, meta.clone())))),
        Kind::EndpointSlice => typed(value, "").map(|s| Resource::EndpointSlice(Arc::new(slice(s, bare())))),
        _ => typed(value, "").map(|p| Resource::Pod(Arc::new(pod(p, bare())))),
    };
    match read {
        Ok(resource) => Outcome::Usable(resource, Vec::new()),
        Err((field, message)) => {
            let advice = "Correct the value; until then the last good version of this resource stays in force.";
            let problem = meta.problem(Severity::Error, "wrong_type", &field, message, advice);
            Outcome::Refused(key, vec![problem], None)
        }
    }
}

fn port(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|p| *p > 0)
}

/// IPv4 in IPv6 is the same host as IPv4.
fn address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().map(|a| a.to_canonical())
}

fn is_tcp(protocol: Option<&str>) -> bool {
    matches!(protocol, None | Some("" | "TCP"))
}

fn service(service: k8s::Service, meta: Meta) -> Service {
    let spec = service.spec.unwrap_or_default();
    let is_external = spec.type_.as_deref() == Some("ExternalName");
    let mut ips = spec.cluster_ips.unwrap_or_default();
    ips.extend(spec.cluster_ip);
    let mut cluster_ips: Vec<_> = ips.iter().filter_map(|ip| address(ip)).collect();
    cluster_ips.sort();
    cluster_ips.dedup();
    let ports = spec.ports.unwrap_or_default().into_iter().enumerate();
    let ports = ports.filter(|(_, p)| is_tcp(p.protocol.as_deref())).filter_map(|(index, p)| {
        let number = port(p.port)?;
        let target = match p.target_port {
            Some(IntOrString::Int(0)) | None => TargetPort::Number(number),
            Some(IntOrString::Int(target)) => TargetPort::Number(port(target)?),
            Some(IntOrString::String(name)) => match name.parse() {
                Ok(target) => TargetPort::Number(target),
                Err(_) => TargetPort::Name(name),
            },
        };
        Some(ServicePort {
            name: p.name.unwrap_or_default(),
            port: number,
            target,
            app_protocol: p.app_protocol,
            index,
        })
    });
    Service {
        meta,
        cluster_ips,
        headless: ips.iter().any(|ip| ip == "None"),
        external_name: spec.external_name.filter(|_| is_external).map(|n| n.trim_end_matches('.').to_ascii_lowercase()),
        selector: spec.selector.unwrap_or_default(),
        ports: ports.collect(),
        publish_not_ready: spec.publish_not_ready_addresses.unwrap_or_default(),
        sticks_to_client: spec.session_affinity.as_deref() == Some("ClientIP"),
        affinity_seconds: spec.session_affinity_config.and_then(|c| c.client_ip?.timeout_seconds),
        prefers_near: matches!(
            spec.traffic_distribution.as_deref(),
            Some("PreferClose" | "PreferSameZone" | "PreferSameNode")
        ),
    }
}

fn slice(slice: discovery::EndpointSlice, meta: Meta) -> EndpointSlice {
    let service = meta.labels.get("kubernetes.io/service-name").cloned().unwrap_or_default();
    let ports = slice.ports.unwrap_or_default().into_iter().filter(|p| is_tcp(p.protocol.as_deref()));
    let ports = ports.map(|p| (p.name.unwrap_or_default(), p.port.and_then(port))).collect();
    let endpoints = slice.endpoints.into_iter().map(|e| {
        let conditions = e.conditions.unwrap_or_default();
        let ready = conditions.ready.unwrap_or(true);
        SliceEndpoint {
            addresses: e.addresses.iter().filter_map(|a| address(a)).collect(),
            ready,
            serving: conditions.serving.unwrap_or(ready),
            terminating: conditions.terminating.unwrap_or_default(),
            pod: e.target_ref.filter(|t| t.kind.as_deref() == Some("Pod")).and_then(|t| t.name),
            zone: e.zone.unwrap_or_default(),
            hostname: e.hostname.unwrap_or_default(),
            for_zones: e.hints.and_then(|h| h.for_zones).unwrap_or_default().into_iter().map(|z| z.name).collect(),
        }
    });
    EndpointSlice { meta, service, ports, endpoints: endpoints.collect() }
}

fn pod(pod: k8s::Pod, meta: Meta) -> Pod {
    let spec = pod.spec.unwrap_or_default();
    let status = pod.status.unwrap_or_default();
    let mut ips: Vec<_> = status.pod_ips.unwrap_or_default().into_iter().map(|p| p.ip).chain(status.pod_ip).collect();
    ips.sort();
    ips.dedup();
    let condition =
        |name: &str| status.conditions.iter().flatten().find(|c| c.type_ == name).map(|c| c.status == "True");
    let ready = condition("Ready").unwrap_or(true);
    let has_gates = spec.readiness_gates.is_some_and(|gates| !gates.is_empty());
    let finished =
        matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) || pod.metadata.deletion_timestamp.is_some();
    // Native sidecars (init containers that stay) have ports and probes too.
    let init =
        spec.init_containers.unwrap_or_default().into_iter().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let containers: Vec<k8s::Container> = spec.containers.into_iter().chain(init).collect();
    let ports = containers.iter().flat_map(|c| c.ports.iter().flatten()).filter(|p| is_tcp(p.protocol.as_deref()));
    let ports = ports.filter_map(|p| Some((p.name.clone()?, port(p.container_port)?))).collect();
    let mut probes: Vec<Probe> = containers.iter().flat_map(probes).collect();
    probes.sort();
    probes.dedup();
    let excluded = pod.metadata.annotations.as_ref().and_then(|a| a.get("causeway.dev/exclude-inbound-ports"));
    let mut excluded: Vec<u16> =
        excluded.iter().flat_map(|e| e.split(',')).filter_map(|p| p.trim().parse().ok()).collect();
    excluded.sort_unstable();
    let labels = &meta.labels;
    let owners = pod.metadata.owner_references.unwrap_or_default();
    let owner = owners.iter().find(|o| o.controller.unwrap_or_default()).or(owners.first());
    let workload_name = owner
        .map(|o| workload(&o.kind, &o.name, labels.get("pod-template-hash")))
        .or_else(|| labels.get("app").or(labels.get("app.kubernetes.io/name")).cloned())
        .unwrap_or_else(|| meta.key.name.clone());
    Pod {
        account: spec
            .service_account_name
            .or(spec.service_account)
            .filter(|a| !a.is_empty())
            .unwrap_or("default".into()),
        ips: ips.iter().filter_map(|ip| address(ip)).collect(),
        ready,
        unheard: !ready && !has_gates && condition("ContainersReady") == Some(true),
        finished,
        hostname: spec.hostname.unwrap_or_default(),
        subdomain: spec.subdomain.unwrap_or_default(),
        ports,
        probes,
        excluded_inbound: excluded,
        workload_name,
        meshed: labels.get(crate::inject::INJECTED_LABEL).is_some_and(|v| v == "true"),
        zone: labels.get("topology.kubernetes.io/zone").cloned().unwrap_or_default(),
        region: labels.get("topology.kubernetes.io/region").cloned().unwrap_or_default(),
        host_network: spec.host_network.unwrap_or_default(),
        node: spec.node_name.unwrap_or_default(),
        meta,
    }
}

/// A ReplicaSet of a Deployment is named after it, with a hash; the Deployment is what people know.
fn workload(kind: &str, name: &str, hash: Option<&String>) -> String {
    let stripped = match (kind, hash) {
        ("ReplicaSet", Some(hash)) => name.strip_suffix(hash.as_str()).and_then(|n| n.strip_suffix('-')),
        ("ReplicaSet", None) => name.rsplit_once('-').map(|(n, _)| n),
        _ => None,
    };
    stripped.unwrap_or(name).to_owned()
}

/// What kubelet sends to a container: probes, and the hooks of its life cycle, which go the same way. One over HTTPS is
/// left out: nobody can see its path on the way.
fn probes(container: &k8s::Container) -> Vec<Probe> {
    let named = |name: &str| {
        container.ports.iter().flatten().find(|p| p.name.as_deref() == Some(name)).and_then(|p| port(p.container_port))
    };
    let resolve = |at: &IntOrString| match at {
        IntOrString::Int(number) => port(*number),
        IntOrString::String(text) => text.parse().ok().or_else(|| named(text)),
    };
    let http = |http: &k8s::HTTPGetAction| {
        if http.scheme.as_deref().is_some_and(|s| s.eq_ignore_ascii_case("HTTPS")) {
            return None;
        }
        let path = http.path.clone().filter(|p| !p.is_empty()).unwrap_or("/".into());
        let path = path.split('#').next().unwrap_or("/").to_owned();
        let path = if path.starts_with('/') { path } else { format!("/{path}") };
        Some(Probe { port: resolve(&http.port)?, path: Some(path) })
    };
    let probe = |probe: &k8s::Probe| {
        if let Some(get) = &probe.http_get {
            return http(get);
        }
        if let Some(grpc) = &probe.grpc {
            return Some(Probe { port: port(grpc.port)?, path: Some(causeway_mesh::policy::GRPC_HEALTH.to_owned()) });
        }
        let tcp = probe.tcp_socket.as_ref()?;
        Some(Probe { port: resolve(&tcp.port)?, path: None })
    };
    let hooks = container.lifecycle.iter().flat_map(|l| [&l.post_start, &l.pre_stop]).flatten();
    let hooks =
        hooks.filter_map(|hook| hook.http_get.as_ref()).filter(|get| get.host.as_deref().is_none_or(str::is_empty));
    let probes = [&container.liveness_probe, &container.readiness_probe, &container.startup_probe];
    probes.into_iter().flatten().filter_map(probe).chain(hooks.filter_map(http)).collect()
}
