//! What holds for every configuration.

use super::*;
use causeway_mesh::config::decode;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use prost::Message;

/// Services, pods and subsets that routes and rules are about.
pub(super) fn world() -> Vec<String> {
    vec![
        service(
            "prod",
            "a",
            "clusterIP: 10.96.0.1, selector: {app: a}, ports: [{name: http, port: 80, targetPort: 8080}]",
        ),
        service(
            "prod",
            "b",
            "selector: {app: b}, ports: [{name: tcp, port: 80}, {name: x, port: 81, targetPort: web}]",
        ),
        service("dev", "a", "type: ExternalName, externalName: a.prod.svc.cluster.local"),
        service("dev", "out", "type: ExternalName, externalName: example.com"),
        service("prod", "h", "clusterIP: None, selector: {app: a}, ports: [{port: 8080}]"),
        pod("prod", "a-1", "10.0.0.1", "app: a, v: one"),
        pod("prod", "a-2", "10.0.0.2", "app: a, v: two"),
        pod("prod", "b-1", "10.0.0.3", "app: b"),
        pod("prod", "b-2", "10.0.0.3", "app: b"),
        pod("dev", "web", "fd00::9", "app: web"),
        custom(
            "DestinationRule",
            "prod",
            "a",
            "host: a\nsubsets: [{name: one, labels: {v: one}}, {name: two, labels: {v: two}}]",
        ),
    ]
}

/// Small resources that meet, contradict and miss each other in many ways.
pub(crate) fn pieces() -> Vec<String> {
    let mut all = world();
    all.extend([
        custom(
            "DestinationRule",
            "prod",
            "a2",
            "host: a.prod\nsubsets: [{name: two, labels: {v: one}}]\ntrafficPolicy: {tls: {mode: DISABLE}}",
        ),
        custom("DestinationRule", "dev", "a", "host: a.prod\nsubsets: [{name: one, labels: {v: two}}]"),
        custom(
            "DestinationRule",
            "prod",
            "all",
            "host: '*.prod.svc.cluster.local'\ntrafficPolicy: {connectionPool: {tcp: {connectTimeout: 1s}}}",
        ),
        custom("PeerAuthentication", "prod", "p", "mtls: {mode: PERMISSIVE}"),
        custom(
            "PeerAuthentication",
            "prod",
            "q",
            "mtls: {mode: DISABLE}\nportLevelMtls: {80: {mode: STRICT}, 99999: {}}",
        ),
        custom(
            "AuthorizationPolicy",
            "prod",
            "p",
            "rules: [{from: [{source: {namespaces: [dev]}}], to: [{operation: {methods: ['*'], notPaths: ['/x*']}}]}]",
        ),
        custom(
            "AuthorizationPolicy",
            "prod",
            "q",
            "action: DENY\nrules: [{from: [{source: {notPrincipals: ['*']}}]}, {when: [{key: x}]}, {to: [{operation: {hosts: [a*]}}]}]",
        ),
    ]);
    let routes = [
        "- route: [{destination: {host: a.prod, subset: one}, weight: 1}, {destination: {host: a.prod, subset: two}, weight: 2.5}, {destination: {host: a.prod, subset: none}}]",
        "- match: [{uri: {prefix: /x}}, {headers: {X-A: {}}, queryParams: {q: {regex: a+}}}, {authority: {exact: A.prod}}]\n  route: [{destination: {host: a.prod}}, {destination: {host: b.prod, port: {number: 81}}, weight: 0}]\n  timeout: 2s",
        "- match: [{method: {exact: GET}}, {method: {exact: 'a b'}}, {uri: {regex: '('}}]\n  route: [{destination: {host: nosuch}}]\n  split: {key: {cookie: user}}",
        "- match: [{uri: {prefix: /}}]\n  route: [{destination: {host: a.prod}, weight: 3}, {destination: {host: a.prod}, weight: 4}]\n  split: {key: {sourceIdentity: false}}",
        "- redirect: {uri: /}\n- {}",
        ACTIONS,
        "- match: [{uri: {prefix: /d}, method: {regex: 'G.*'}, scheme: {exact: HTTPS}}, {withoutHeaders: {X: {exact: b}}, ignoreUriCase: true, uri: {exact: /E}}]\n  delegate: {name: child, namespace: prod}\n- delegate: {name: nosuch}",
        "- match: [{sourceServiceAccount: dev/web}, {sourceLabels: {app: web}, port: 80}, {sourceServiceAccount: '/'}]\n  route: [{destination: {host: a.prod, subset: one}, weight: 0}]",
    ];
    for (index, http) in routes.iter().enumerate() {
        for namespace in ["dev", "prod"] {
            for host in ["a.prod", "'*.prod.svc.cluster.local'", "b.prod"] {
                let name = format!("v{index}-{}", all.len());
                all.push(custom("VirtualService", namespace, &name, &format!("hosts: [{host}]\nhttp:\n{http}")));
            }
        }
    }
    all.push(custom("VirtualService", "prod", "tcp", "hosts: [b]\ntcp:\n- match: [{port: 80}]\n  route: [{destination: {host: b}, weight: 1}, {destination: {host: a}, weight: 1}]"));
    all.extend(crate::compile::gateway::tests::pieces());
    all.push(custom("VirtualService", "prod", "child", "http:\n- match: [{uri: {prefix: /d/e}}, {uri: {exact: /z}}]\n  headers: {request: {add: {x: y}}}\n  route: [{destination: {host: b, port: {number: 81}}}]\n- route: [{destination: {host: nosuch}}]"));
    all.push(custom("VirtualService", "dev", "bytes", "hosts: [b.prod, a.prod]\ntls:\n- match: [{sniHosts: ['*.Example.com', b.prod, '*', 'a b'], destinationSubnets: [10.96.0.0/16]}, {sniHosts: ['*.*']}]\n  route: [{destination: {host: b.prod, port: {number: 80}}}]\ntcp:\n- match: [{sourceSubnet: 10.0.0.0/8, destinationSubnets: [x]}, {sourceSubnet: 'fd00::/8'}]\n  route: [{destination: {host: b.prod}, weight: 2}, {destination: {host: b.prod}, weight: 3}]"));
    for (namespace, name, spec) in [("prod", "traffic", TRAFFIC), ("dev", "selected", SELECTED)] {
        all.push(custom("DestinationRule", namespace, name, spec));
    }
    all
}

const ACTIONS: &str = "
- match: [{uri: {prefix: /r}}]
  redirect: {uri: '%PREFIX()%/x', authority: 'New.example.com:8443', scheme: https, redirectCode: 308}
- match: [{uri: {exact: /r2}}]
  redirect: {authority: '[::1]', derivePort: FROM_PROTOCOL_DEFAULT}
- match: [{uri: {exact: /r3}}]
  redirect: {redirectCode: 304}
- match: [{uri: {exact: /r4}}]
  redirect: {scheme: https, derivePort: FROM_REQUEST_PORT}
- match: [{uri: {exact: /r5}}]
  directResponse: {status: 503, body: {string: sorry}}
- match: [{uri: {exact: /r6}}]
  directResponse: {status: 200, body: {bytes: '!'}}
- match: [{headers: {x: {exact: y}}}]
  rewrite: {uri: /new, authority: other.example.com}
  headers: {request: {set: {Host: h.example.com, x-a: '%START_TIME%', te: x, 'b d': c}, remove: [X-B, ':path']}, response: {add: {x-c: d}}}
  mirror: {host: b.prod, port: {number: 81}}
  mirrorPercentage: {value: 0.5}
  mirrors: [{destination: {host: nosuch}}, {destination: {host: a.prod, subset: two}, percentage: {value: 100}}]
  corsPolicy: {allowOrigin: ['*'], allowOrigins: [{regex: '('}, {prefix: 'https://'}], allowMethods: ['GET, POST', 'a b'], maxAge: 1h, unmatchedPreflights: IGNORE}
  fault: {delay: {fixedDelay: 1s, percentage: {value: 10}}, abort: {grpcStatus: unavailable, percentage: {value: 0.1}}}
  retries: {attempts: 99, perTryTimeout: 1s, retryOn: '5xx,reset,unavailable,503,nonsense,retriable-4xx', backoff: 5ms}
  split: {key: {header: X-User}, propagate: {header: X-Version}}
  route: [{destination: {host: a.prod, subset: one}, weight: 1, headers: {request: {set: {x: '1', host: y}}}}, {destination: {host: a.prod, subset: one}, weight: 1, headers: {request: {set: {x: '2'}}}}]
- match: [{uri: {prefix: /q}}]
  rewrite: {uriRegexRewrite: {match: '/q/(a+)', rewrite: '/\\1/\\9'}}
  fault: {abort: {httpStatus: 500}, delay: {percent: 5}}
  retries: {retryOn: connect-failure}
  route: [{destination: {host: a.prod}}]
- rewrite: {}
  fault: {abort: {httpStatus: 500, grpcStatus: x}}
  mirrorPercent: 3
  route: [{destination: {host: a.prod}, headers: {request: {set: {':authority': z.example.com}}}}]";

const TRAFFIC: &str = "
host: a
trafficPolicy:
  loadBalancer: {consistentHash: {httpHeaderName: X-H, httpCookie: {name: c, path: /, ttl: 0s}, useSourceIp: true, useSourceIdentity: true, httpQueryParameterName: q}, localityLbSetting: {enabled: true}}
  connectionPool: {tcp: {maxConnections: 5, connectTimeout: 2s, idleTimeout: 1h, maxConnectionDuration: 1m, tcpKeepalive: {probes: 3, time: 10s, interval: 1s}}, http: {http1MaxPendingRequests: 1, http2MaxRequests: 2, maxRequestsPerConnection: 3, maxRetries: 4, idleTimeout: 5s, maxConcurrentStreams: 6}}
  outlierDetection: {consecutiveGatewayErrors: 2, interval: 1s, baseEjectionTime: x, maxEjectionPercent: 0, latencyPercent: 300}
  tls: {mode: MUTUAL, clientCertificate: /c, sni: Example.com}
  portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 30s, minimumPercent: 0.1, aggression: 0.5}}}, {port: {number: 80}}, {}]
  retryBudget: {percent: 33.3, minRetryConcurrency: 7}
subsets:
- {name: one, labels: {v: one}, trafficPolicy: {loadBalancer: {simple: PASSTHROUGH, consistentHash: {}}, tls: {mode: SIMPLE, insecureSkipVerify: true}}}";

const SELECTED: &str = "
host: a.prod
workloadSelector: {matchLabels: {app: web}}
trafficPolicy: {loadBalancer: {simple: RANDOM, warmupDurationSecs: 10s}, outlierDetection: {}}
subsets: [{name: one, labels: {v: two}}]";

/// Pieces that are tried together at most.
pub(crate) const COUNT: usize = 60;

pub(super) const ASKED: &[&str] = &[
    "a.prod:80",
    "a:80",
    "b.prod.svc.cluster.local:80",
    "b.prod:81",
    "out:443",
    "10.96.0.1:80",
    "10.0.0.1:8080",
    "10.0.0.3:80",
    "[fd00::9]:8080",
    "h.prod:8080",
    "a-1.h.prod:8080",
    "nosuch.prod:80",
    "a.prod:0",
    "example.com:443",
    "%:1",
];

pub(crate) fn clients() -> Vec<Client> {
    let web = client("dev");
    vec![web, client("prod"), Client { namespace: "prod".into(), account: "a-1-sa".into(), pod: "a-1".into() }]
}

/// Everything that the model says, as the resources of the wire.
pub(super) fn answers(model: &Model) -> Vec<wire::Resource> {
    use wire::resource::Body;
    let resource =
        |name: String, body| wire::Resource { name, version: 1, body: Some(body), ..wire::Resource::default() };
    let mut all = Vec::new();
    for client in clients() {
        all.push(resource("workload".into(), Body::Workload(model.workload(&client))));
        for text in ASKED.iter().map(|t| (*t).to_owned()).chain(model.prefetch(&client)) {
            let destination = model.destination(&client, &text);
            for backend in &destination.backends {
                let endpoints =
                    model.endpoints(&backend.name).unwrap_or_else(|| panic!("no endpoints for {}", backend.name));
                all.push(resource(format!("endpoints/{}", backend.name), Body::Endpoints(endpoints)));
            }
            all.push(resource(format!("destination/{text}"), Body::Destination(destination)));
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn order_changes_nothing(chosen in subsequence(pieces(), 0..=COUNT).prop_shuffle()) {
        let read: Vec<Event> = chosen.iter().flat_map(|text| events(text)).collect();
        let one = compiled(read.clone(), &Settings::default());
        let mut sorted = read;
        sorted.sort_by_key(|e| match e {
            Event::Upsert { resource, .. } => Some(resource.meta().key.clone()),
            _ => None,
        });
        let other = compiled(sorted, &Settings::default());
        prop_assert_eq!(one.problems(), other.problems());
        prop_assert_eq!(answers(&one), answers(&other));
    }

    #[test]
    fn every_answer_passes_the_wire_and_is_accepted(chosen in subsequence(pieces(), 0..=COUNT)) {
        let model = model(&chosen.concat());
        for resource in answers(&model) {
            let back = wire::Resource::decode(resource.encode_to_vec().as_slice()).unwrap();
            prop_assert_eq!(&back, &resource);
            let decoded = decode(&back);
            prop_assert!(decoded.is_ok(), "{:?}: {:?}", resource, decoded.err());
        }
    }

    #[test]
    fn what_was_before_counts_only_while_something_dangles(
        before in subsequence(pieces(), 0..=COUNT),
        now in subsequence(pieces(), 0..=COUNT),
    ) {
        let before = model(&before.concat());
        let mut resources = Resources::default();
        events(&now.concat()).into_iter().for_each(|e| resources.apply(e));
        let resources = Arc::new(resources);
        let after = compile_after(Some(&before), &resources, &Settings::default());
        let fresh = compile(&resources, &Settings::default());
        for resource in answers(&after) {
            let decoded = decode(&resource);
            prop_assert!(decoded.is_ok(), "{:?}: {:?}", resource, decoded.err());
        }
        let is_dangling = |code: &str| {
            [
                "unknown_host",
                "unknown_service",
                "unknown_port",
                "unknown_subset",
                "external_destination",
                "unknown_delegate",
            ]
            .contains(&code)
        };
        if !fresh.problems().iter().any(|p| is_dangling(p.code)) {
            prop_assert_eq!(after.problems(), fresh.problems());
            prop_assert_eq!(answers(&after), answers(&fresh));
        }
        let again = compile_after(Some(&after), &resources, &Settings::default());
        prop_assert_eq!(answers(&again), answers(&after));
        prop_assert_eq!(again.problems(), after.problems());
    }

    #[test]
    fn no_text_makes_a_lookup_panic(text in "[a-z0-9.:\\[\\]%@/ -]{0,40}", namespace in select(vec!["dev", "prod"])) {
        let model = model(&prodsvc());
        let destination = model.destination(&client(namespace), &text);
        prop_assert_ne!(destination.kind(), Kind::Unspecified);
        let _ = model.endpoints(&text);
    }
}
