//! Gathers the facts from a real cluster: everything at once, each with a deadline, each allowed to fail by itself.

mod objects;
mod trial;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use kube::api::{ListParams, PostParams};
use kube::client::Body;
use serde_json::Value;
use x509_parser::pem::Pem;

use super::facts::{Facts, Known, Permission, Server, Workload};
use super::judge::normal;
use super::network::Peer;
use crate::cluster::{CONTROL_PLANE, CONTROL_PLANE_PODS, Cluster, NAMESPACE};
use crate::replicas::{self, Replica};
use crate::{clock, status};

/// Above so many namespaces with injection, all pods are listed at once rather than by namespace.
const MANY: usize = 20;

/// What installing creates and changes.
const NEEDED: [(&str, &str, Option<&str>); 12] = [
    ("apiextensions.k8s.io", "customresourcedefinitions", None),
    ("rbac.authorization.k8s.io", "clusterroles", None),
    ("rbac.authorization.k8s.io", "clusterrolebindings", None),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations", None),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations", None),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies", None),
    ("", "namespaces", None),
    ("", "serviceaccounts", Some(NAMESPACE)),
    ("", "services", Some(NAMESPACE)),
    ("apps", "deployments", Some(NAMESPACE)),
    ("rbac.authorization.k8s.io", "roles", Some(NAMESPACE)),
    ("networking.k8s.io", "networkpolicies", Some(NAMESPACE)),
];

/// Everything about `cluster`; the control plane's views come from `control_plane` where it is given, else from each
/// replica by a port-forward.
pub async fn facts(cluster: &Cluster, control_plane: Option<SocketAddr>) -> Facts {
    let (server, nodes, permissions, definitions, deployment, replicas, lease, webhooks) = tokio::join!(
        server(cluster),
        objects::nodes(cluster),
        permissions(cluster),
        objects::definitions(cluster),
        objects::deployment(cluster),
        replicas_of(cluster, control_plane),
        objects::lease(cluster),
        objects::webhooks(cluster),
    );
    let (namespaces, control_plane_peers, dns_peers, policies, trust_bundles, resources) = tokio::join!(
        objects::namespaces(cluster),
        objects::peers(cluster, NAMESPACE, CONTROL_PLANE_PODS),
        objects::peers(cluster, "kube-system", "k8s-app=kube-dns"),
        policies(cluster),
        trust_bundles(cluster),
        status::resources(cluster),
    );
    let meshed: Vec<String> =
        namespaces.iter().flatten().filter(|namespace| namespace.is_meshed()).map(|ns| ns.name.clone()).collect();
    let is_installed = !matches!(deployment, Ok(None));
    let (pods, (trial, validation)) =
        tokio::join!(workloads(cluster, &meshed), trial::run(cluster, &namespaces, is_installed));
    Facts {
        version: env!("CARGO_PKG_VERSION"),
        now: clock::unix_now(),
        server,
        nodes,
        permissions,
        definitions,
        deployment,
        replicas,
        lease,
        webhooks,
        trial,
        validation,
        namespaces,
        pods,
        policies,
        control_plane_peers: with_ports(control_plane_peers),
        dns_peers: dns_peers.unwrap_or_default(),
        trust_bundles,
        resources: why(resources),
    }
}

/// An error as the reason why a fact is not known.
fn why<T>(result: anyhow::Result<T>) -> Known<T> {
    result.map_err(|error| format!("{error:#}"))
}

/// Every object that `parameters` select, page by page, each made smaller by `keep` before the next page comes.
async fn list<K, T>(cluster: &Cluster, api: &Api<K>, selector: &str, keep: impl Fn(K) -> T) -> Known<Vec<T>>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let mut all = Vec::new();
    let mut parameters = ListParams::default().labels(selector).limit(500);
    loop {
        let page = why(cluster.ask(api.list(&parameters)).await)?;
        all.extend(page.items.into_iter().map(&keep));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(all),
        }
    }
}

async fn server(cluster: &Cluster) -> Known<Server> {
    let asked = async {
        let request = http::Request::get("/version").body(Body::empty())?;
        let before = clock::unix_now();
        let answer = cluster.ask(cluster.client().send(request)).await?;
        let after = clock::unix_now();
        let date = answer.headers().get("date").and_then(|date| date.to_str().ok()).and_then(http_date);
        let body = http_body_util::BodyExt::collect(answer.into_body())
            .await
            .map_err(|error| anyhow::anyhow!("reading the API server's version: {error}"))?
            .to_bytes();
        let version: Value = serde_json::from_slice(&body)?;
        Ok(Server {
            url: cluster.server().to_owned(),
            version: version["gitVersion"].as_str().unwrap_or_default().to_owned(),
            ahead: date.map(|date| ahead(date, before, after)),
        })
    };
    why(asked.await)
}

/// How far a clock that showed `date` is ahead of ours, which showed `before` and `after` around it. Whole seconds are
/// cut off on both sides, so that one second either way means nothing.
fn ahead(date: i64, before: i64, after: i64) -> i64 {
    if date < before - 1 {
        date - before
    } else if date > after + 1 {
        date - after
    } else {
        0
    }
}

/// `Sat, 21 Nov 2026 10:06:16 GMT` (RFC 9110 section 5.6.7) as seconds since the epoch.
fn http_date(text: &str) -> Option<i64> {
    let text = text.strip_suffix(" GMT").map(|rest| format!("{rest} +0000"))?;
    let date = time::OffsetDateTime::parse(&text, &time::format_description::well_known::Rfc2822).ok()?;
    Some(date.unix_timestamp())
}

async fn permissions(cluster: &Cluster) -> Known<Vec<Permission>> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(cluster.client());
    let asked = NEEDED.iter().flat_map(|needed| ["create", "patch"].map(|verb| (verb, needed))).map(
        async |(verb, (group, resource, namespace))| {
            let attributes = ResourceAttributes {
                verb: Some(verb.to_owned()),
                group: Some((*group).to_owned()),
                resource: Some((*resource).to_owned()),
                namespace: namespace.map(str::to_owned),
                ..ResourceAttributes::default()
            };
            let review = SelfSubjectAccessReview {
                spec: SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() },
                ..SelfSubjectAccessReview::default()
            };
            let answer = cluster.ask(reviews.create(&PostParams::default(), &review)).await?;
            let dot = if group.is_empty() { "" } else { "." };
            Ok(Permission {
                what: format!("{verb} {resource}{dot}{group}"),
                is_allowed: answer.status.is_some_and(|status| status.allowed),
            })
        },
    );
    why(futures_util::future::join_all(asked).await.into_iter().collect())
}

async fn replicas_of(cluster: &Cluster, control_plane: Option<SocketAddr>) -> Known<Vec<Replica>> {
    match control_plane {
        Some(address) => Ok(vec![replicas::ask_address(address).await]),
        None => why(replicas::ask_all(cluster).await),
    }
}

async fn policies(cluster: &Cluster) -> Known<Vec<NetworkPolicy>> {
    list(cluster, &Api::<NetworkPolicy>::all(cluster.client()), "", |mut policy| {
        policy.metadata.managed_fields = None;
        policy
    })
    .await
}

async fn trust_bundles(cluster: &Cluster) -> Known<BTreeMap<String, BTreeSet<String>>> {
    let maps: Api<ConfigMap> = Api::all(cluster.client());
    let parameters = ListParams::default().fields("metadata.name=causeway-trust-bundle");
    let found = why(cluster.ask(maps.list(&parameters)).await)?;
    Ok(found
        .items
        .into_iter()
        .filter_map(|map| {
            let pem = map.data?.remove("trust-bundle.pem")?;
            Some((map.metadata.namespace?, serials(pem.as_bytes())))
        })
        .collect())
}

/// Serial numbers of the certificates in `pem`, in lower-case hexadecimal without leading zeros.
fn serials(pem: &[u8]) -> BTreeSet<String> {
    Pem::iter_from_buffer(pem)
        .filter_map(Result::ok)
        .filter_map(|block| {
            let certificate = block.parse_x509().ok()?;
            let hex: String = certificate.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect();
            Some(normal(&hex))
        })
        .collect()
}

/// Pods of the namespaces with injection, and all pods that were injected.
async fn workloads(cluster: &Cluster, meshed: &[String]) -> Known<Vec<Workload>> {
    let injected = format!("{}=true", super::INJECTED_LABEL);
    let mut all = if meshed.len() > MANY {
        objects::pods(cluster, None, "").await?
    } else {
        let lists = meshed.iter().map(|namespace| objects::pods(cluster, Some(namespace), ""));
        let (marked, listed) =
            tokio::join!(objects::pods(cluster, None, &injected), futures_util::future::try_join_all(lists));
        let mut all: Vec<Workload> = listed?.into_iter().flatten().collect();
        all.extend(marked?);
        all
    };
    all.sort_by_key(Workload::key);
    all.dedup_by_key(|pod| pod.key());
    all.retain(|pod| pod.is_injected() || meshed.contains(&pod.namespace));
    Ok(all)
}

/// The control plane's pods with the names of the ports that its own manifest gives them.
fn with_ports(peers: Known<Vec<Peer>>) -> Vec<Peer> {
    let mut peers = peers.unwrap_or_default();
    if peers.is_empty() {
        // None runs now; policies are judged for the ones to come.
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        peers.push(Peer {
            namespace: NAMESPACE.to_owned(),
            namespace_labels: [label("kubernetes.io/metadata.name", NAMESPACE)].into(),
            labels: [label("app.kubernetes.io/name", CONTROL_PLANE), label("app.kubernetes.io/part-of", "causeway")]
                .into(),
            ..Peer::default()
        });
    }
    for peer in &mut peers {
        peer.ports = [("grpc".to_owned(), 15010), ("webhook".to_owned(), 15017)].into();
    }
    peers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_either_way_is_no_skew() {
        assert_eq!(ahead(100, 100, 100), 0);
        assert_eq!(ahead(99, 100, 102), 0);
        assert_eq!(ahead(103, 100, 102), 0);
        assert_eq!(ahead(90, 100, 102), -10);
        assert_eq!(ahead(702, 100, 102), 600);
    }

    #[test]
    fn the_date_of_an_http_answer_is_read() {
        assert_eq!(http_date("Sat, 21 Nov 2026 00:00:00 GMT"), Some(1_795_219_200));
        assert_eq!(http_date("yesterday"), None);
    }
}
