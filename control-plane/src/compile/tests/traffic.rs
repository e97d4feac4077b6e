//! Traffic policies of DestinationRules, as the wire has them.

use super::*;
use wire::load_balancing::{Algorithm, Zones};

/// The backend of `prodsvc` that a client of `namespace` gets, with one more rule.
fn backend_for(namespace: &str, of: &str, spec: &str) -> (wire::Backend, Vec<String>) {
    let split = SPLIT.replace("prodsvc.prod.svc.cluster.local", "prodsvc.prod");
    let text = [
        prodsvc(),
        custom("DestinationRule", of, "z", &format!("host: prodsvc.prod\n{}", spec.trim_start_matches('\n'))),
        custom("VirtualService", "prod", "v", &split),
    ];
    let model = model(&text.concat());
    let destination = model.destination(&client(namespace), "prodsvc.prod:80");
    let found = destination.backends.iter().find(|b| b.subset == "v1-canary").unwrap().clone();
    (found, super::found(&model))
}

fn backend(spec: &str) -> wire::Backend {
    let (backend, problems) = backend_for("dev", "prod", spec);
    assert_eq!(problems, Vec::<String>::new());
    backend
}

#[test]
fn limits_and_outliers_reach_the_wire() {
    let backend = backend(
        "
trafficPolicy:
  connectionPool:
    tcp: {maxConnections: 5, connectTimeout: 2s, idleTimeout: 1h, maxConnectionDuration: 1m, tcpKeepalive: {probes: 3, time: 10s, interval: 1s}}
    http: {http1MaxPendingRequests: 1, http2MaxRequests: 2, maxRequestsPerConnection: 3, maxRetries: 4, idleTimeout: 5s, maxConcurrentStreams: 6}
  outlierDetection: {consecutive5xxErrors: 3, interval: 1s, baseEjectionTime: 4s, maxEjectionPercent: 0, minHealthPercent: 20, latencyPercent: 300}
  retryBudget: {percent: 33.3, minRetryConcurrency: 7}",
    );
    let limits = backend.limits.unwrap();
    assert_eq!((limits.max_connections, limits.max_pending, limits.max_requests, limits.max_retries), (5, 1, 2, 4));
    assert_eq!((limits.max_requests_per_connection, limits.max_streams_per_connection), (3, 6));
    assert_eq!((limits.max_connection_ms, limits.tcp_idle_ms), (60_000, 3_600_000));
    assert_eq!(limits.keepalive, Some(wire::Keepalive { probes: 3, time_ms: 10_000, interval_ms: 1000 }));
    assert_eq!((backend.connect_timeout_ms, backend.idle_timeout_ms), (2000, 5000));
    let outlier = backend.outlier.unwrap();
    assert_eq!((outlier.consecutive_5xx, outlier.consecutive_gateway_errors, outlier.latency_percent), (3, 0, 300));
    assert_eq!(outlier.consecutive_connect_failures, 3, "failures to connect become errors");
    assert_eq!((outlier.max_ejection_percent, outlier.min_health_percent), (1, 20));
    assert_eq!((outlier.interval_ms, outlier.base_ejection_ms), (1000, 4000));
    assert_eq!(backend.retry_budget, Some(wire::RetryBudget { percent: 33, min_concurrency: 7 }));
}

#[test]
fn an_empty_outlier_detection_has_istios_defaults() {
    let outlier = backend("trafficPolicy: {outlierDetection: {}}").outlier.unwrap();
    assert_eq!((outlier.consecutive_5xx, outlier.consecutive_connect_failures), (5, 5));
    assert!(backend("trafficPolicy: {}").outlier.is_none());
}

#[test]
fn every_algorithm_is_known_by_its_name() {
    let of = |text: &str| backend(&format!("trafficPolicy: {{loadBalancer: {{{text}}}}}")).load_balancing;
    assert_eq!(of("simple: PEAK_EWMA"), None);
    assert_eq!(of("simple: LEAST_CONN").unwrap().algorithm(), Algorithm::LeastRequest);
    assert_eq!(of("simple: ROUND_ROBIN").unwrap().algorithm(), Algorithm::RoundRobin);
    assert_eq!(of("simple: RANDOM").unwrap().algorithm(), Algorithm::Random);
    let hash = of("consistentHash: {useSourceIdentity: true, httpCookie: {name: c, ttl: 1500ms}}").unwrap();
    assert_eq!(hash.algorithm(), Algorithm::ConsistentHash);
    use wire::hash_key::Kind;
    let cookie = wire::Cookie { name: "c".into(), path: String::new(), ttl_s: Some(2) };
    assert_eq!(hash.hash_balance_percent, 0, "bounded");
    // One proxy has one such key: a bound would send its requests everywhere.
    assert_eq!(of("consistentHash: {useSourceIp: true}").unwrap().hash_balance_percent, u32::MAX);
    assert_eq!(of("consistentHash: {useSourceIp: true, httpHeaderName: x}").unwrap().hash_balance_percent, 0);
    let kinds: Vec<_> = hash.hash.into_iter().filter_map(|k| k.kind).collect();
    assert_eq!(kinds, [Kind::Cookie(cookie), Kind::SourceIdentity(true)]);
    assert_eq!(of("localityLbSetting: {enabled: true}").unwrap().zones(), Zones::Prefer);
    assert_eq!(of("localityLbSetting: {enabled: false}").unwrap().zones(), Zones::Off);
    let failover = |enabled: &str, rule: &str| {
        let text = format!("loadBalancer: {{localityLbSetting: {{enabled: {enabled}, failover: [{rule}]}}}}");
        let (backend, problems) = backend_for("dev", "prod", &format!("trafficPolicy: {{{text}}}"));
        (backend.load_balancing.unwrap().failover, problems)
    };
    let regions = vec![wire::Failover { from: "eu".into(), to: "us".into() }];
    assert_eq!(failover("true", "{from: eu, to: us}"), (regions, vec![]));
    assert_eq!(failover("false", "{from: eu, to: us}").0, []);
    let (found, problems) = failover("true", "{from: eu/a, to: us}, {from: eu}");
    assert!(found.is_empty() && problems.len() == 2, "{problems:?}");
    let warm = of("warmup: {duration: 30s, minimumPercent: 0.1, aggression: 2}").unwrap();
    assert_eq!((warm.slow_start_ms, warm.slow_start_min_percent), (30_000, 1));
    assert_eq!(of("warmupDurationSecs: 10s").unwrap().slow_start_ms, 10_000);
    let (backend, problems) = backend_for("dev", "prod", "trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}");
    assert_eq!(problems, ["unknown_value spec.trafficPolicy.loadBalancer.simple"]);
    assert!(backend.load_balancing.is_none());
}

#[test]
fn a_port_inherits_nothing_and_a_subset_comes_before_the_rule() {
    let spec = "
trafficPolicy:
  loadBalancer: {simple: RANDOM}
  connectionPool: {tcp: {maxConnections: 9}}
  portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: ROUND_ROBIN}}, {port: {number: 81}, tls: {mode: DISABLE}}]";
    let found = backend(spec);
    assert_eq!(found.load_balancing.unwrap().algorithm(), Algorithm::RoundRobin);
    assert!(found.limits.is_none() && !found.plaintext);
    let narrower = "labels: {version: canary}, trafficPolicy: {loadBalancer: {simple: LEAST_REQUEST}}}";
    let text = [
        prodsvc().replace("labels: {version: canary}}", narrower),
        custom("DestinationRule", "prod", "z", &format!("host: prodsvc.prod{spec}")),
        custom("VirtualService", "prod", "v", SPLIT),
    ];
    let destination = model(&text.concat()).destination(&client("dev"), "prodsvc.prod:80");
    let of = |subset: &str| destination.backends.iter().find(|b| b.subset == subset).unwrap().load_balancing.clone();
    assert_eq!(of("v1-canary").unwrap().algorithm(), Algorithm::LeastRequest);
    assert_eq!(of("v1-stable").unwrap().algorithm(), Algorithm::RoundRobin);
}

#[test]
fn tls_to_the_outside_is_originated_and_needs_what_it_names() {
    let tls = backend("trafficPolicy: {tls: {mode: MUTUAL, clientCertificate: /c, privateKey: /k, caCertificates: /r, sni: A.example, subjectAltNames: [b.example]}}").tls;
    let want = wire::OriginateTls {
        sni: "a.example".into(),
        subject_alt_names: vec!["b.example".into()],
        certificate_path: "/c".into(),
        key_path: "/k".into(),
        roots_path: "/r".into(),
        ..wire::OriginateTls::default()
    };
    assert_eq!(tls, Some(want));
    let (_, problems) = backend_for("dev", "prod", "trafficPolicy: {tls: {mode: MUTUAL, clientCertificate: /c}}");
    assert_eq!(problems, ["missing_field spec.trafficPolicy.tls.privateKey"]);
    assert!(backend("trafficPolicy: {tls: {mode: DISABLE}}").plaintext);
    assert!(backend("trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}").tls.is_none());
}

#[test]
fn a_rule_for_certain_clients_holds_for_them_alone() {
    let spec = |labels: &str| {
        format!("workloadSelector: {{matchLabels: {{{labels}}}}}\ntrafficPolicy: {{loadBalancer: {{simple: RANDOM}}}}")
    };
    let balancing = |namespace: &str, of: &str, labels: &str| {
        let (backend, problems) = backend_for(namespace, of, &spec(labels));
        assert_eq!(problems, Vec::<String>::new());
        backend.load_balancing.map(|b| b.algorithm())
    };
    assert_eq!(balancing("dev", "dev", "app: web"), Some(Algorithm::Random));
    assert_eq!(balancing("dev", "dev", "app: other"), None);
    assert_eq!(balancing("dev", "prod", "app: web"), None, "of its own namespace alone");
    let (_, problems) = backend_for("dev", "dev", &format!("{}\nsubsets: [{{name: x}}]", spec("app: web")));
    assert_eq!(problems, ["selected_subsets spec.subsets"]);
}

#[test]
fn a_backend_says_what_its_application_speaks() {
    assert_eq!(backend("trafficPolicy: {}").protocol(), wire::Protocol::Http1);
}
