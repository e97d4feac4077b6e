//! Limits of connections, requests and retries, and when an endpoint is left out.

use super::Pool;
use crate::compile::virtual_service::Report;
use causeway_crds::traffic_policy::{ConnectionPool, HttpPool, OutlierDetection, RetryBudget, TcpPool};
use causeway_mesh::wire;

/// Errors in a row after which an endpoint is left out, where the author does not say (Istio's default).
const ERRORS: u32 = 5;

pub(super) fn pool(report: &mut Report<'_>, at: &str, asked: &ConnectionPool) -> Pool {
    let mut pool = Pool::default();
    if let Some(tcp) = &asked.tcp {
        self::tcp(report, &format!("{at}.tcp"), tcp, &mut pool);
    }
    if let Some(http) = &asked.http {
        self::http(report, &format!("{at}.http"), http, &mut pool);
    }
    pool
}

fn tcp(report: &mut Report<'_>, at: &str, asked: &TcpPool, pool: &mut Pool) {
    let mut millis = |text: &Option<String>, name: &str, instead: &str| {
        report.millis(text.as_deref(), &format!("{at}.{name}"), instead).unwrap_or_default()
    };
    pool.connect_timeout_ms = millis(&asked.connect_timeout, "connectTimeout", "the default is used");
    pool.limits.max_connection_ms =
        millis(&asked.max_connection_duration, "maxConnectionDuration", "there is no limit");
    pool.limits.tcp_idle_ms = millis(&asked.idle_timeout, "idleTimeout", "the default is used");
    pool.limits.max_connections = count(asked.max_connections);
    if let Some(keepalive) = &asked.tcp_keepalive {
        pool.limits.keepalive = Some(wire::Keepalive {
            probes: keepalive.probes.unwrap_or_default(),
            time_ms: millis(&keepalive.time, "tcpKeepalive.time", "the system's default is used"),
            interval_ms: millis(&keepalive.interval, "tcpKeepalive.interval", "the system's default is used"),
        });
    }
}

fn http(report: &mut Report<'_>, at: &str, asked: &HttpPool, pool: &mut Pool) {
    let idle = report.millis(asked.idle_timeout.as_deref(), &format!("{at}.idleTimeout"), "the default is used");
    pool.idle_timeout_ms = idle.unwrap_or_default();
    pool.limits.max_pending = count(asked.http1_max_pending_requests);
    pool.limits.max_requests = count(asked.http2_max_requests);
    pool.limits.max_retries = count(asked.max_retries);
    pool.limits.max_requests_per_connection = count(asked.max_requests_per_connection);
    pool.limits.max_streams_per_connection = count(asked.max_concurrent_streams);
}

/// 0: no limit.
fn count(asked: Option<i64>) -> u32 {
    asked.map_or(0, |n| u32::try_from(n.max(0)).unwrap_or(u32::MAX))
}

pub(super) fn outlier(report: &mut Report<'_>, at: &str, asked: &OutlierDetection) -> wire::Outlier {
    let older = asked.consecutive_errors.map(|n| u32::try_from(n.max(0)).unwrap_or(u32::MAX));
    let errors = asked.consecutive_5xx_errors.or(older).unwrap_or(ERRORS);
    let gateway = asked.consecutive_gateway_errors.unwrap_or_default();
    // Unless they are counted apart, failures to connect count as the errors that they become.
    let local = match asked.split_external_local_origin_errors {
        Some(true) => asked.consecutive_local_origin_failures.unwrap_or(ERRORS),
        Some(false) | None => {
            let smallest = [errors, gateway].into_iter().filter(|n| *n > 0).min().unwrap_or_default();
            asked.consecutive_local_origin_failures.unwrap_or(smallest)
        }
    };
    let mut millis = |text: &Option<String>, name: &str| {
        report.millis(text.as_deref(), &format!("{at}.{name}"), "the default is used").unwrap_or_default()
    };
    wire::Outlier {
        consecutive_5xx: errors,
        consecutive_gateway_errors: gateway,
        consecutive_connect_failures: local,
        latency_percent: asked.latency_percent.unwrap_or_default(),
        interval_ms: millis(&asked.interval, "interval"),
        base_ejection_ms: millis(&asked.base_ejection_time, "baseEjectionTime"),
        // None at all still leaves out one of several, as in Envoy.
        max_ejection_percent: asked.max_ejection_percent.map_or(0, |p| p.clamp(1, 100)),
        min_health_percent: asked.min_health_percent.map_or(0, |p| p.min(100)),
    }
}

pub(super) fn budget(asked: &RetryBudget) -> wire::RetryBudget {
    let percent = asked.percent.unwrap_or(20.0);
    wire::RetryBudget {
        percent: percent.clamp(0.0, 100.0).round() as u32,
        min_concurrency: asked.min_retry_concurrency.unwrap_or(3),
    }
}
