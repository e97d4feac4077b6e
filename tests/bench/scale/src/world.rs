//! The cluster that is simulated, as the objects that somebody would apply. Pure.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

/// Namespace and name of the Service that every proxy calls.
pub const HOT: (&str, &str) = ("hot", "shop");
/// Namespace and name of a Service that nobody calls.
pub const COLD: (&str, &str) = ("cold", "cellar");
/// Number of the Service that some proxies call and that changes.
const SOME: usize = 10;
/// Services in one namespace.
const PER_NAMESPACE: usize = 20;

/// How large it is.
#[derive(Clone, Copy, Debug)]
pub struct World {
    /// Pods, those of the Services that change included.
    pub pods: usize,
    /// Services.
    pub services: usize,
    /// Pods that have a connected proxy.
    pub proxies: usize,
    /// Services that each proxy calls.
    pub calls: usize,
}

/// Who a simulated proxy is, and what it uses.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// ServiceAccount.
    pub account: String,
    /// What it subscribes to, the hot Service first.
    pub destinations: Vec<String>,
}

/// Objects of one kind, in an order in which they may be created.
pub type Objects = Vec<Value>;

fn namespace_of(service: usize) -> String {
    format!("team-{:04}", service / PER_NAMESPACE)
}

fn cluster_ip(number: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 10)) + u32::try_from(number).unwrap_or_default())
}

/// Address of a pod; those from 5,000,000 on are for endpoints that move.
pub fn pod_ip(number: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 128, 0, 1)) + u32::try_from(number).unwrap_or_default())
}

impl World {
    /// The pods beside which a proxy runs, spread over all Services.
    pub fn workloads(&self) -> Vec<Workload> {
        let one = |i: usize| {
            let pod = i * self.pods / self.proxies;
            let service = pod % self.services;
            let others = (1..self.calls).map(|n| {
                let to = (service + n * self.services / self.calls) % self.services;
                format!("svc-{to}.{}.svc.cluster.local:80", namespace_of(to))
            });
            let hot = format!("{}.{}.svc.cluster.local:80", HOT.1, HOT.0);
            Workload {
                namespace: namespace_of(service),
                pod: format!("svc-{service}-{pod}"),
                account: format!("svc-{service}"),
                destinations: std::iter::once(hot).chain(others).collect(),
            }
        };
        (0..self.proxies).map(one).collect()
    }

    /// Numbers of the proxies that a change of the Service that some call concerns: who calls it, and who is sent it unasked
    /// because it is in their namespace.
    pub fn concerned(&self) -> Vec<usize> {
        let (namespace, name) = self.some();
        let host = format!("{name}.{namespace}.svc.cluster.local:80");
        let is_concerned = |w: &Workload| w.namespace == namespace || w.destinations.contains(&host);
        let all = self.workloads();
        (0..all.len()).filter(|number| is_concerned(&all[*number])).collect()
    }

    /// Namespace and name of a Service that some proxies call.
    pub fn some(&self) -> (String, String) {
        let number = SOME % self.services;
        (namespace_of(number), format!("svc-{number}"))
    }

    /// That Service, which sends each client to one endpoint until it was silent for so many seconds.
    pub fn sticky(&self, seconds: usize) -> Value {
        let (namespace, name) = self.some();
        let mut service = self::service(&namespace, &name, &cluster_ip(SOME % self.services));
        service["spec"]["sessionAffinity"] = json!("ClientIP");
        service["spec"]["sessionAffinityConfig"] = json!({ "clientIP": { "timeoutSeconds": seconds } });
        service
    }

    /// A Service that nobody calls, of many; `label` is one that nobody asks for.
    pub fn unused(&self, number: usize, label: usize) -> Value {
        let mut service = self::service(COLD.0, &format!("new-{number}"), &cluster_ip(self.services + 100 + number));
        service["metadata"]["labels"]["revision"] = json!(label.to_string());
        service
    }

    /// Namespaces, the two that change included.
    pub fn namespaces(&self) -> Vec<String> {
        let teams = (0..self.services.div_ceil(PER_NAMESPACE)).map(|n| format!("team-{n:04}"));
        teams.chain([HOT.0.to_owned(), COLD.0.to_owned()]).collect()
    }

    /// Everything in `namespace` that stays as it is while the simulation runs.
    pub fn fixed(&self, namespace: &str) -> Objects {
        let mut all = vec![json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } })];
        for service in (0..self.services).filter(|s| namespace_of(*s) == namespace) {
            let name = format!("svc-{service}");
            all.push(account(namespace, &name));
            if service != SOME % self.services {
                all.push(self::service(namespace, &name, &cluster_ip(service)));
            }
            let pods: Vec<usize> = (service..self.pods).step_by(self.services).collect();
            let ready = pods.iter().map(|p| (format!("{name}-{p}"), pod_ip(*p)));
            all.push(slice(namespace, &name, &ready.clone().collect::<Vec<_>>()));
            for (index, (pod, ip)) in ready.enumerate() {
                all.push(self::pod(namespace, &pod, &name, if index % 2 == 0 { "v1" } else { "v2" }, ip));
            }
            if service % 10 == 0 {
                all.push(rule(namespace, &name));
                all.push(split(namespace, &name, 10));
            }
            if service % PER_NAMESPACE == 0 {
                all.push(policy(namespace));
            }
        }
        if [HOT, COLD].iter().any(|(n, _)| *n == namespace) {
            let name = if namespace == HOT.0 { HOT.1 } else { COLD.1 };
            let number = self.services + usize::from(namespace == COLD.0);
            all.extend([
                account(namespace, name),
                service(namespace, name, &cluster_ip(number)),
                rule(namespace, name),
            ]);
            let steady = (format!("{name}-steady"), pod_ip(self.pods + number));
            all.push(pod(namespace, &steady.0, name, "v1", steady.1));
        }
        all
    }
}

/// The objects that a change of endpoints writes: `namespace`'s second pod with the address `ip`, and its slice.
pub fn moved(world: &World, (namespace, name): (&str, &str), ip: Ipv4Addr) -> [Value; 2] {
    let number = world.services + usize::from(namespace == COLD.0);
    let steady = (format!("{name}-steady"), pod_ip(world.pods + number));
    let moving = format!("{name}-moving");
    [pod(namespace, &moving, name, "v2", ip), slice(namespace, name, &[steady, (moving, ip)])]
}

/// The route of the hot Service with `weight` of 1,000,000 on v2.
pub fn weighed(weight: u32) -> Value {
    split(HOT.0, HOT.1, weight)
}

fn account(namespace: &str, name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name, "namespace": namespace } })
}

fn service(namespace: &str, name: &str, ip: &Ipv4Addr) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": namespace, "labels": { "app": name } },
        "spec": {
            "clusterIP": ip.to_string(), "selector": { "app": name },
            "ports": [{ "name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP" }],
        },
    })
}

fn slice(namespace: &str, name: &str, ready: &[(String, Ipv4Addr)]) -> Value {
    let endpoint = |(pod, ip): &(String, Ipv4Addr)| {
        json!({
            "addresses": [ip.to_string()], "conditions": { "ready": true, "serving": true, "terminating": false },
            "zone": format!("zone-{}", ip.octets()[3] % 3), "nodeName": format!("node-{}", ip.octets()[3]),
            "targetRef": { "kind": "Pod", "name": pod, "namespace": namespace },
        })
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{name}-x7x7x"), "namespace": namespace, "labels": { "kubernetes.io/service-name": name },
        },
        "addressType": "IPv4", "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
        "endpoints": ready.iter().map(endpoint).collect::<Vec<_>>(),
    })
}

/// A pod as large as usual ones: what the control plane does not use shall not stay in its memory.
fn pod(namespace: &str, name: &str, app: &str, version: &str, ip: Ipv4Addr) -> Value {
    let probe = json!({ "httpGet": { "path": "/healthz", "port": 8080 }, "periodSeconds": 10 });
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": namespace,
            "labels": { "app": app, "version": version, "causeway.dev/injected": "true", "pod-template-hash": "6f7d9c8b5" },
            "annotations": { "prometheus.io/scrape": "true", "checksum/config": "b6d767d2f8ed5d21a44b0e5886680cb9" },
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{app}-6f7d9c8b5"),
                "uid": "6f1f7c52-0000-4000-8000-000000000000", "controller": true,
            }],
        },
        "spec": {
            "serviceAccountName": app,
            "containers": [{
                "name": "app", "image": format!("images.example/{app}:1.4.2"),
                "ports": [{ "name": "http", "containerPort": 8080 }],
                "env": (0..10).map(|n| json!({ "name": format!("SETTING_{n}"), "value": "a value of middling length" })).collect::<Vec<_>>(),
                "readinessProbe": probe, "livenessProbe": probe,
            }],
        },
        "status": {
            "phase": "Running", "podIP": ip.to_string(), "podIPs": [{ "ip": ip.to_string() }],
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    })
}

fn rule(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "causeway.dev/v1alpha1", "kind": "DestinationRule", "metadata": { "name": name, "namespace": namespace },
        "spec": {
            "host": name,
            "subsets": [{ "name": "v1", "labels": { "version": "v1" } }, { "name": "v2", "labels": { "version": "v2" } }],
        },
    })
}

fn split(namespace: &str, name: &str, weight: u32) -> Value {
    json!({
        "apiVersion": "causeway.dev/v1alpha1", "kind": "VirtualService", "metadata": { "name": name, "namespace": namespace },
        "spec": {
            "hosts": [name],
            "http": [{ "route": [
                { "destination": { "host": name, "subset": "v1" }, "weight": 1_000_000 - weight },
                { "destination": { "host": name, "subset": "v2" }, "weight": weight },
            ] }],
        },
    })
}

fn policy(namespace: &str) -> Value {
    json!({
        "apiVersion": "causeway.dev/v1alpha1", "kind": "AuthorizationPolicy", "metadata": { "name": "callers", "namespace": namespace },
        "spec": { "action": "ALLOW", "rules": [{}] },
    })
}
