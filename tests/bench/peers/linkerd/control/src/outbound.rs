//! Outbound policy and destinations: HTTP is split 90/10 over two Services that are one pod, bytes go to that pod as
//! they are. Whatever else is asked for is not found, and the proxy then forwards it unchanged.

use std::collections::HashMap;
use std::net::IpAddr;

use linkerd2_proxy_api::destination::destination_server::Destination;
use linkerd2_proxy_api::destination::http2_client_params::KeepAlive;
use linkerd2_proxy_api::destination::protocol_hint::{self, OpaqueTransport};
use linkerd2_proxy_api::destination::tls_identity::{DnsLikeIdentity, Strategy};
use linkerd2_proxy_api::destination::update::Update as Change;
use linkerd2_proxy_api::destination::{
    DestinationProfile, GetDestination, Http2ClientParams, ProtocolHint, RetryBudget, TlsIdentity, Update,
    WeightedAddr, WeightedAddrSet,
};
use linkerd2_proxy_api::http_route::{HttpRouteMatch, PathMatch, path_match};
use linkerd2_proxy_api::net::TcpAddress;
use linkerd2_proxy_api::outbound::backend::balance_p2c::{Load, PeakEwma};
use linkerd2_proxy_api::outbound::backend::endpoint_discovery::{self, DestinationGet};
use linkerd2_proxy_api::outbound::backend::{self, BalanceP2c, EndpointDiscovery};
use linkerd2_proxy_api::outbound::outbound_policies_server::OutboundPolicies;
use linkerd2_proxy_api::outbound::proxy_protocol::{Detect, Http1, Http2, Kind, Opaque};
use linkerd2_proxy_api::outbound::traffic_spec::Target;
use linkerd2_proxy_api::outbound::{
    Backend, HttpRoute, OpaqueRoute, OutboundPolicy, ProxyProtocol, Queue, TrafficSpec, http_route, opaque_route,
};
use tonic::{Request, Response, Status};

use crate::{Mesh, Once, millis, name, once, resource};

/// The names that stand for the two subsets, with their weights.
const SPLIT: [(&str, u32); 2] = [("backend-v1", 90), ("backend-v2", 10)];

fn host(service: &str) -> String {
    format!("{service}.dev.svc.cluster.local")
}

/// A Service whose endpoints `Destination.Get` tells, least loaded first.
fn backend(service: &str, port: u16) -> Backend {
    let path = format!("{}:{port}", host(service));
    Backend {
        metadata: resource("core", "Service", service, port),
        queue: Some(Queue { capacity: 100, failfast_timeout: millis(3_000) }),
        kind: Some(backend::Kind::Balancer(BalanceP2c {
            discovery: Some(EndpointDiscovery { kind: Some(endpoint_discovery::Kind::Dst(DestinationGet { path })) }),
            load: Some(Load::PeakEwma(PeakEwma { default_rtt: millis(30), decay: millis(10_000) })),
        })),
    }
}

fn http_route(port: u16) -> HttpRoute {
    use http_route::distribution::{Kind, RandomAvailable};
    let backends = SPLIT.map(|(service, weight)| http_route::WeightedRouteBackend {
        backend: Some(http_route::RouteBackend { backend: Some(backend(service, port)), ..Default::default() }),
        weight,
    });
    let path = Some(PathMatch { kind: Some(path_match::Kind::Prefix("/".into())) });
    HttpRoute {
        metadata: resource("gateway.networking.k8s.io", "HTTPRoute", "split", 0),
        hosts: vec![],
        rules: vec![http_route::Rule {
            matches: vec![HttpRouteMatch { path, ..Default::default() }],
            backends: Some(http_route::Distribution {
                kind: Some(Kind::RandomAvailable(RandomAvailable { backends: backends.into() })),
            }),
            ..Default::default()
        }],
    }
}

fn opaque(port: u16) -> Opaque {
    use opaque_route::distribution::{FirstAvailable, Kind};
    let one = opaque_route::RouteBackend { backend: Some(backend("backend", port)), filters: vec![] };
    let rule = opaque_route::Rule {
        backends: Some(opaque_route::Distribution {
            kind: Some(Kind::FirstAvailable(FirstAvailable { backends: vec![one] })),
        }),
        filters: vec![],
    };
    Opaque { routes: vec![OpaqueRoute { metadata: resource("core", "Service", "backend", port), rules: vec![rule] }] }
}

impl Mesh {
    fn policy(&self, target: Option<Target>) -> Result<OutboundPolicy, Status> {
        let Some(Target::Addr(TcpAddress { ip: Some(ip), port })) = target else {
            return Err(Status::not_found("only the Service's address has a policy"));
        };
        let ours = IpAddr::try_from(ip).is_ok_and(|ip| ip == self.service || ip == self.server);
        let kind = if ours && port == u32::from(self.app) {
            let routes = vec![http_route(self.app)];
            Kind::Detect(Detect {
                timeout: millis(10_000),
                opaque: Some(opaque(self.app)),
                http1: Some(Http1 { routes: routes.clone(), failure_accrual: None }),
                http2: Some(Http2 { routes, failure_accrual: None }),
            })
        } else if ours && port == u32::from(self.bytes) {
            Kind::Opaque(opaque(self.bytes))
        } else {
            return Err(Status::not_found("no Service has that address and port"));
        };
        let metadata = resource("core", "Service", "backend", u16::try_from(port).unwrap_or_default());
        Ok(OutboundPolicy { protocol: Some(ProxyProtocol { kind: Some(kind) }), metadata })
    }

    /// The server's pod, as a control plane describes a meshed one: its TLS name, HTTP/2 between proxies.
    fn endpoint(&self, port: u16) -> WeightedAddr {
        let bytes = port == self.bytes;
        let identity = DnsLikeIdentity { name: name("backend") };
        let keep_alive = KeepAlive { interval: millis(10_000), timeout: millis(3_000), while_idle: true };
        let (h2, opaque) = (protocol_hint::H2 {}, protocol_hint::Opaque {});
        WeightedAddr {
            addr: Some(TcpAddress { ip: Some(self.server.into()), port: port.into() }),
            weight: 10_000,
            metric_labels: HashMap::from([
                ("pod".into(), "backend".into()),
                ("serviceaccount".into(), "backend".into()),
            ]),
            tls_identity: Some(TlsIdentity {
                strategy: Some(Strategy::DnsLikeIdentity(identity.clone())),
                server_name: Some(identity),
            }),
            protocol_hint: Some(ProtocolHint {
                protocol: Some(if bytes {
                    protocol_hint::Protocol::Opaque(opaque)
                } else {
                    protocol_hint::Protocol::H2(h2)
                }),
                opaque_transport: bytes.then(|| OpaqueTransport { inbound_port: self.inbound.into() }),
            }),
            http2: Some(Http2ClientParams { keep_alive: Some(keep_alive), ..Default::default() }),
            resource_ref: resource("core", "Pod", "backend", 0),
            ..Default::default()
        }
    }
}

#[tonic::async_trait]
impl OutboundPolicies for Mesh {
    type WatchStream = Once<OutboundPolicy>;

    async fn get(&self, request: Request<TrafficSpec>) -> Result<Response<OutboundPolicy>, Status> {
        self.policy(request.into_inner().target).map(Response::new)
    }

    async fn watch(&self, request: Request<TrafficSpec>) -> Result<Response<Once<OutboundPolicy>>, Status> {
        self.policy(request.into_inner().target).map(once)
    }
}

#[tonic::async_trait]
impl Destination for Mesh {
    type GetStream = Once<Update>;
    type GetProfileStream = Once<DestinationProfile>;

    async fn get(&self, request: Request<GetDestination>) -> Result<Response<Once<Update>>, Status> {
        let path = request.into_inner().path;
        let port = [self.app, self.bytes].into_iter().find(|port| path.ends_with(&format!(":{port}")));
        let (Some(port), Some(service)) = (port, path.split('.').next()) else {
            return Err(Status::not_found(format!("{path} has no endpoints")));
        };
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        Ok(once(Update {
            update: Some(Change::Add(WeightedAddrSet {
                addrs: vec![self.endpoint(port)],
                metric_labels: HashMap::from([label("namespace", "dev"), label("service", service)]),
            })),
        }))
    }

    async fn get_profile(
        &self,
        request: Request<GetDestination>,
    ) -> Result<Response<Once<DestinationProfile>>, Status> {
        let path = request.into_inner().path;
        let at = |port: u16| [self.service, self.server].iter().any(|ip| path == format!("{ip}:{port}"));
        if !at(self.app) && !at(self.bytes) {
            return Err(Status::not_found(format!("{path} is no Service")));
        }
        Ok(once(DestinationProfile {
            fully_qualified_name: host("backend"),
            opaque_protocol: at(self.bytes),
            retry_budget: Some(RetryBudget { retry_ratio: 0.2, min_retries_per_second: 10, ttl: millis(10_000) }),
            parent_ref: resource("core", "Service", "backend", 0),
            ..Default::default()
        }))
    }
}
