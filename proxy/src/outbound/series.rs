//! Metric handles of what leaves, made once per endpoint and destination.

use std::sync::Arc;

use super::Outbound;
use crate::connect;
use crate::endpoint::{BackendState, EndpointState};
use crate::metrics::{Peers, Series};
use crate::target::Target;

/// Metric handles of requests that no endpoint served.
pub fn refused_series(outbound: &Outbound, target: Option<&Target>) -> Arc<Series> {
    let make = |service: &str, namespace: &str| {
        let own = outbound.own.names();
        outbound.metrics.series(Peers {
            reporter: "source".to_owned(),
            source_workload: own.workload,
            source_workload_namespace: own.namespace,
            source_principal: outbound.own.id_text(),
            destination_workload: "unknown".to_owned(),
            destination_workload_namespace: "unknown".to_owned(),
            destination_principal: "unknown".to_owned(),
            destination_service: match service {
                "unknown" => service.to_owned(),
                _ => full(service, namespace, &own.cluster_domain),
            },
            destination_service_name: service.to_owned(),
            destination_service_namespace: namespace.to_owned(),
            connection_security_policy: "unknown".to_owned(),
        })
    };
    match target {
        // What clients make up is counted under one name, or the metrics would grow with it.
        Some(target) if !target.destination.service_name.is_empty() => {
            let d = &target.destination;
            Arc::clone(target.refused.get_or_init(|| make(&d.service_name, &d.service_namespace)))
        }
        _ => Arc::clone(outbound.refused.get_or_init(|| make("unknown", "unknown"))),
    }
}

/// The metric handles of an endpoint, made on its first use.
pub fn series(outbound: &Outbound, target: &Target, backend: &BackendState, state: &EndpointState) -> Arc<Series> {
    let series = state.series.get_or_init(|| {
        let identity = connect::identity(backend, state);
        let service = &backend.backend;
        let own = outbound.own.names();
        outbound.metrics.series(Peers {
            reporter: "source".to_owned(),
            source_workload: own.workload,
            source_workload_namespace: own.namespace,
            source_principal: outbound.own.id_text(),
            destination_workload: state.endpoint.workload_name.clone(),
            destination_workload_namespace: state.endpoint.namespace.clone(),
            destination_principal: identity.map(ToString::to_string).unwrap_or_default(),
            destination_service: if service.service.is_empty() {
                target.destination.canonical.to_string()
            } else {
                full(&service.service, &service.namespace, &own.cluster_domain)
            },
            destination_service_name: service.service.clone(),
            destination_service_namespace: service.namespace.clone(),
            connection_security_policy: if identity.is_some() { "mutual_tls" } else { "none" }.to_owned(),
        })
    });
    Arc::clone(series)
}

/// The whole name of a Service; the host of a ServiceEntry, which has dots, is whole already.
fn full(service: &str, namespace: &str, domain: &str) -> String {
    if service.contains('.') { service.to_owned() } else { format!("{service}.{namespace}.svc.{domain}") }
}
