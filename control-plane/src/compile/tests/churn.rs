//! Pods and EndpointSlices that come, go and contradict each other: a catalog that looks at the touched namespaces alone is the
//! one that would have been made anew.

use super::incremental::{forgotten, put, take};
use super::*;
use proptest::prelude::*;

/// What stays.
fn fixed() -> Vec<String> {
    let mut all = Vec::new();
    for namespace in ["a", "b"] {
        all.push(service(namespace, "sliced", "selector: {app: x}, ports: [{name: http, port: 80, targetPort: web}]"));
        all.push(service(namespace, "selecting", "selector: {app: x}, ports: [{port: 80, targetPort: 8080}]"));
        all.push(service(namespace, "named", "selector: {app: y}, ports: [{port: 80, targetPort: nosuch}]"));
        all.push(service(namespace, "headless", "clusterIP: None, selector: {app: y}, ports: [{port: 8080}]"));
        all.push(custom(
            "DestinationRule",
            namespace,
            "sliced",
            "host: sliced\nsubsets: [{name: one, labels: {app: x}}]",
        ));
        let peer = |name: &str| custom("PeerAuthentication", namespace, name, "selector: {matchLabels: {app: x}}");
        all.extend([peer("one"), peer("two")]);
        let policy = "rules: [{from: [{source: {serviceAccounts: [a/p1-sa, b/p2-sa]}}]}]";
        all.push(custom("AuthorizationPolicy", namespace, "p", policy));
    }
    let entry = "hosts: [out.example.com]\nresolution: STATIC\nports: [{number: 80, name: http, protocol: HTTP}]\nendpoints: [{address: 10.0.0.1}]";
    all.push(custom("ServiceEntry", "a", "out", entry));
    all
}

/// A pod, or an EndpointSlice of the Service `sliced`.
#[derive(Clone, Debug)]
enum Thing {
    Pod { ip: u8, label: u8, zone: bool, finished: bool },
    Slice { pods: Vec<(u8, u8)>, zone: u8 },
}

fn thing() -> impl Strategy<Value = Thing> {
    prop_oneof![
        (0u8..3, 0u8..2, any::<bool>(), prop::bool::weighted(0.2)).prop_map(|(ip, label, zone, finished)| Thing::Pod {
            ip,
            label,
            zone,
            finished
        }),
        (prop::collection::vec((0u8..4, 0u8..3), 0..3), 0u8..3).prop_map(|(pods, zone)| Thing::Slice { pods, zone }),
    ]
}

fn text(namespace: &str, name: u8, thing: &Thing) -> String {
    match thing {
        Thing::Pod { ip, label, zone, finished } => {
            let app = ["app: x", "app: y"][usize::from(*label)];
            let zone = if *zone { ", topology.kubernetes.io/zone: own" } else { "" };
            let text = pod(namespace, &format!("p{name}"), &format!("10.0.0.{ip}"), &format!("{app}{zone}"));
            if *finished { text.replace("status: {", "status: {phase: Failed, ") } else { text }
        }
        Thing::Slice { pods, zone } => {
            let endpoint = |(pod, ip): &(u8, u8)| {
                let zone = if *zone == 0 { String::new() } else { format!(", zone: z{zone}") };
                let target =
                    if *pod == 3 { String::new() } else { format!(", targetRef: {{kind: Pod, name: p{pod}}}") };
                format!("{{addresses: [10.0.0.{ip}], conditions: {{ready: true}}{zone}{target}}}")
            };
            let endpoints: Vec<String> = pods.iter().map(endpoint).collect();
            format!(
                "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: s{name}, namespace: {namespace}, \
                 labels: {{kubernetes.io/service-name: sliced}}}}\naddressType: IPv4\nports: [{{name: http, port: 8080}}]\n\
                 endpoints: [{}]\n",
                endpoints.join(", ")
            )
        }
    }
}

/// Everything that is known of pods and endpoints.
fn all_of(model: &Model) -> String {
    let mut all = String::new();
    for namespace in ["a", "b"] {
        for service in ["sliced", "selecting", "named", "headless"] {
            for backend in [format!("{service}.{namespace}:80"), format!("{service}.{namespace}:80/one")] {
                all.push_str(&format!("{backend} {:?}\n", model.endpoints(&backend)));
            }
        }
        for pod in 0..4 {
            let client = Client { namespace: namespace.into(), account: "x".into(), pod: format!("p{pod}") };
            all.push_str(&format!("{:?} {:?}\n", model.pod(namespace, &client.pod), model.workload(&client)));
            for ip in 0..3 {
                all.push_str(&format!("{:?}\n", model.destination(&client, &format!("10.0.0.{ip}:8080"))));
                all.push_str(&format!("{:?}\n", model.endpoints(&format!("10.0.0.{ip}:8080"))));
            }
        }
    }
    let outside = model.endpoints("out.example.com.a:80");
    format!("{all}{outside:?}\n{:?}", model.running().collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_catalog_that_took_over_is_the_one_made_anew(
        steps in prop::collection::vec(
            prop::collection::vec((any::<bool>(), 0u8..4, prop::option::weighted(0.75, thing())), 1..4),
            1..8,
        ),
    ) {
        let settings = Settings::default();
        let mut index = Resources::default();
        fixed().iter().for_each(|text| put(&mut index, text));
        let mut before = compile(&Arc::new(index.clone()), &settings);
        for step in steps {
            for (is_a, name, thing) in step {
                let namespace = if is_a { "a" } else { "b" };
                match thing {
                    Some(thing) => put(&mut index, &text(namespace, name, &thing)),
                    None => for thing in [
                        Thing::Pod { ip: 0, label: 0, zone: false, finished: false },
                        Thing::Slice { pods: Vec::new(), zone: 0 },
                    ] {
                        take(&mut index, &text(namespace, name, &thing));
                    },
                }
            }
            let after = compile_after(Some(&before), &Arc::new(index.clone()), &settings);
            let anew = compile_after(Some(&forgotten(&before)), &Arc::new(index.apart()), &settings);
            prop_assert_eq!(all_of(&after), all_of(&anew));
            prop_assert_eq!(after.problems(), anew.problems());
            prop_assert_eq!(after.subjects(), anew.subjects());
            let touched = after.touched(&before).unwrap();
            for namespace in ["a", "b"] {
                for service in ["sliced", "selecting", "named", "headless"] {
                    let backend = format!("{service}.{namespace}:80");
                    let is_touched = touched.topics.contains(&Topic::Service((namespace.to_owned(), service.to_owned())));
                    prop_assert!(is_touched || before.endpoints(&backend) == after.endpoints(&backend));
                }
                for pod in 0..4 {
                    let client = Client { namespace: namespace.into(), account: "x".into(), pod: format!("p{pod}") };
                    let is_touched = touched.workloads || touched.pods.contains(&(namespace.to_owned(), client.pod.clone()));
                    prop_assert!(is_touched || before.workload(&client) == after.workload(&client));
                }
            }
            before = after;
        }
    }
}
