//! The Kubernetes source against a real API server: it reads what a directory would, misses nothing, and infers nothing
//! from a failure.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, missing_docs, reason = "a test")]

#[path = "kube_source/alike.rs"]
mod alike;
#[path = "kube_source/objects.rs"]
mod objects;
#[path = "kube_source/watched.rs"]
mod watched;

use std::path::Path;
use std::time::Duration;

use causeway_tests::capability::{Need, has};
use causeway_tests::kube::ApiServer;
use causeway_tests::{eventually, until};
use objects::{account, create, definition, delete, namespace, patch, patch_status, service};
use serde_json::{Value, json};
use watched::{Watched, Way};

/// Installs Causeway's own kinds.
fn install(kube: &ApiServer) {
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/manifests");
    kube.kubectl(&["apply", "-f", &manifests.display().to_string()]).unwrap();
    kube.kubectl(&["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"]).unwrap();
}

fn port_of(kube: &ApiServer) -> u16 {
    kube.url().rsplit(':').next().unwrap().parse().unwrap()
}

fn route(group: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": group, "kind": "VirtualService", "metadata": {"name": name, "namespace": "dev"}, "spec": spec})
}

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "dev"},
        "spec": {"containers": [{"name": "a", "image": "a"}]},
        "status": {"phase": "Running", "podIP": "10.1.0.1", "podIPs": [{"ip": "10.1.0.1"}],
            "conditions": [{"type": "Ready", "status": "True"}]}})
}

/// Names of the routes in force.
fn routes(watched: &Watched) -> Vec<String> {
    let mut all: Vec<String> =
        watched.snapshot().virtual_services.keys().map(|k| format!("{} {}", k.group, k.name)).collect();
    all.sort();
    all
}

#[test]
fn kinds_that_come_later_are_followed_and_those_that_go_take_their_resources() {
    if !has(&[Need::Kubernetes]) {
        return;
    }
    let kube = ApiServer::start();
    kube.create_namespace("dev", &[]);
    let watched = Watched::synced(kube.kubeconfig(), None);
    let missing = [
        "authorizationpolicies",
        "destinationrules",
        "peerauthentications",
        "ratelimitpolicies",
        "serviceentries",
        "virtualservices",
    ];
    let mut reported = watched.reported();
    reported.sort();
    assert_eq!(reported, missing.map(|kind| format!("crd_missing {kind}.causeway.dev")));

    install(&kube);
    eventually("nothing is missing any more", || watched.reported().is_empty());
    let istio = definition("networking.istio.io", "VirtualService", &["v1beta1", "v1"]);
    let good = json!({"hosts": ["a"]});
    let good_policy = "{apiVersion: causeway.dev/v1alpha1, kind: VirtualService, metadata: {name: own, namespace: dev}, \
                       spec: {hosts: [a]}}";
    kube.apply(good_policy).unwrap();
    watched.run(create(&watched.client, &istio));
    until("the API server serves the new kind", Duration::from_secs(30), || {
        watched.run(objects::try_create(&watched.client, &route("networking.istio.io/v1", "one", &good)))
    });
    watched.until("both routes are in force", |r| r.virtual_services.len() == 2);

    // What is broken says so, and stops neither those beside it nor what comes after.
    let broken = route("networking.istio.io/v1", "broken", &json!({"hosts": "not a list"}));
    watched.run(async {
        create(&watched.client, &broken).await;
        create(&watched.client, &route("networking.istio.io/v1beta1", "two", &good)).await;
        patch(&watched.client, &route("networking.istio.io/v1", "one", &good), &json!({"spec": {"hosts": 7}})).await;
    });
    watched.until("the broken ones are problems", |r| r.found.len() == 2);
    eventually("those beside are in force", || {
        routes(&watched) == ["causeway.dev own", "networking.istio.io one", "networking.istio.io two"]
    });
    let snapshot = watched.snapshot();
    assert!(snapshot.found.values().flatten().all(|p| p.file.is_empty() && p.field.starts_with("spec.hosts")));
    let one = snapshot.virtual_services.values().find(|v| v.meta.key.name == "one").unwrap();
    assert_eq!(one.spec.hosts, ["a"], "the last good version stays");

    watched.run(patch(&watched.client, &broken, &json!({"spec": {"hosts": ["b"]}})));
    watched.until("what is mended is in force", |r| r.virtual_services.len() == 4 && r.found.len() == 1);

    watched.run(delete(&watched.client, &istio));
    eventually("its resources went with the kind", || routes(&watched) == ["causeway.dev own"]);
    eventually("and nothing is left of their problems", || watched.snapshot().found.is_empty());
    assert_eq!(watched.reported(), [] as [&str; 0]);
}

#[test]
fn a_kind_that_may_not_be_read_is_named_and_holds_the_start_until_it_may() {
    if !has(&[Need::Kubernetes]) {
        return;
    }
    let kube = ApiServer::start();
    kube.create_namespace("dev", &[]);
    install(&kube);
    let reader = kube.as_service_account("dev", "reader");
    let rule = |group: &str, resources: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": ["get", "list", "watch"]});
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "reader"}, "rules": [
            rule("", &["namespaces", "nodes", "serviceaccounts", "services"]),
            rule("discovery.k8s.io", &["endpointslices"]), rule("causeway.dev", &["*"]),
            rule("apiextensions.k8s.io", &["customresourcedefinitions"])]});
    kube.apply(&role.to_string()).unwrap();
    kube.kubectl(&["create", "clusterrolebinding", "reader", "--clusterrole=reader", "--serviceaccount=dev:reader"])
        .unwrap();
    let way = Way::to(port_of(&kube));
    let watched = Watched::start(kube.kubeconfig(), reader.kubeconfig().to_owned(), Some(way.port));
    eventually("the forbidden kind is named", || watched.reported() == ["api_forbidden pods"]);
    let told = watched.snapshot().reported[0].clone();
    assert!(told.message.contains("cannot list resource \"pods\""), "{told}");
    assert!(told.advice.contains("`pods`") && told.advice.contains("causeway-control-plane"), "{told}");
    watched.until("the rest is read", |r| !r.namespaces.is_empty() && !r.services.is_empty());
    assert!(!watched.is_synced());

    let mut more = role.clone();
    more["rules"].as_array_mut().unwrap().push(rule("", &["pods"]));
    kube.apply(&more.to_string()).unwrap();
    eventually("all is read once it may be", || watched.is_synced() && watched.reported().is_empty());
    watched.run(create(&watched.client, &pod("a")));
    watched.until("the pod is there", |r| r.pods.len() == 1);

    // Taken away again while the way is cut: what was read stays.
    way.cut();
    kube.apply(&role.to_string()).unwrap();
    way.mend();
    eventually("the forbidden kind is named again", || watched.reported() == ["api_forbidden pods"]);
    assert_eq!(watched.snapshot().pods.len(), 1);
}

/// How often the API server listed our routes since it started; nobody else lists them.
fn lists(kube: &ApiServer) -> f64 {
    let metrics = kube.kubectl(&["get", "--raw", "/metrics"]).unwrap();
    let ours = metrics.lines().filter(|l| {
        l.starts_with("apiserver_request_total{")
            && ["code=\"200\"", "resource=\"virtualservices\"", "verb=\"LIST\""].iter().all(|part| l.contains(part))
    });
    ours.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[test]
fn an_api_server_that_goes_away_or_forgets_costs_no_resource_and_no_change() {
    if !has(&[Need::Kubernetes]) {
        return;
    }
    let mut kube = ApiServer::start();
    kube.create_namespace("dev", &[]);
    install(&kube);
    let way = Way::to(port_of(&kube));
    let watched = Watched::synced(kube.kubeconfig(), Some(way.port));
    let own = |name: &str, hosts: &str| route("causeway.dev/v1alpha1", name, &json!({"hosts": [hosts]}));
    watched.run(async {
        for object in [own("a", "x"), own("b", "x"), pod("p"), service("dev", "s")] {
            create(&watched.client, &object).await;
        }
    });
    let held = |watched: &Watched| {
        let r = watched.snapshot();
        (r.virtual_services.len(), r.pods.len(), r.services.iter().filter(|(k, _)| k.namespace == "dev").count())
    };
    eventually("all is read", || held(&watched) == (2, 1, 1));

    kube.stop_server();
    eventually("the silence is a problem, and one", || watched.reported() == ["api_unavailable "]);
    assert_eq!(held(&watched), (2, 1, 1));
    kube.start_server();
    watched.run(create(&watched.client, &own("c", "x")));
    eventually("a change right after is seen", || held(&watched) == (3, 1, 1));
    eventually("and the problem is gone", || watched.reported().is_empty());

    // Cut off, while what it would miss is made and the API server forgets it.
    way.cut();
    watched.run(async {
        delete(&watched.client, &own("a", "x")).await;
        patch(&watched.client, &own("b", "x"), &json!({"spec": {"hosts": ["y"]}})).await;
        create(&watched.client, &own("d", "x")).await;
    });
    kube.stop_server();
    kube.start_server();
    assert_eq!(held(&watched), (3, 1, 1));
    let before = lists(&kube);
    way.mend();
    watched.until("what was missed is made good", |r| {
        let names: Vec<String> =
            r.virtual_services.values().map(|v| format!("{}{}", v.meta.key.name, v.spec.hosts[0])).collect();
        names == ["by", "cx", "dx"]
    });
    eventually("and the problem is gone again", || watched.reported().is_empty());
    assert!(lists(&kube) > before, "it went on from a version that the API server had forgotten");
    assert_eq!(held(&watched), (3, 1, 1));
}

#[test]
fn what_changes_nothing_for_us_is_no_event_and_much_at_once_is_few_batches() {
    const MANY: usize = 10_000;
    if !has(&[Need::Kubernetes]) {
        return;
    }
    let kube = ApiServer::start();
    kube.create_namespace("dev", &[]);
    install(&kube);
    let watched = Watched::synced(kube.kubeconfig(), None);
    watched.run(create(&watched.client, &pod("a")));
    watched.until("the pod is ready", |r| r.pods.values().any(|p| p.ready && !p.ips.is_empty()));
    let before = watched.batches().len();
    watched.run(async {
        for turn in 0..20 {
            let status = json!({"hostIP": format!("192.0.2.{turn}"), "conditions": [
                {"type": "Ready", "status": "True", "lastProbeTime": format!("2026-01-01T00:00:{turn:02}Z")}]});
            patch_status(&watched.client, &pod("a"), &status).await;
            let note = json!({"metadata": {"annotations": {"turn": turn.to_string()}}});
            patch(&watched.client, &pod("a"), &note).await;
        }
        create(&watched.client, &account("dev", "last")).await;
    });
    watched.until("the last change is seen", |r| r.service_accounts.keys().any(|k| k.name == "last"));
    let after = watched.batches();
    assert_eq!(after[before..].iter().sum::<usize>(), 1, "{after:?}");

    let client = watched.client.clone();
    watched.run(async move {
        let mut tasks = tokio::task::JoinSet::new();
        for worker in 0..32 {
            let client = client.clone();
            tasks.spawn(async move {
                for number in (worker..MANY).step_by(32) {
                    create(&client, &account("dev", &format!("many-{number}"))).await;
                }
            });
        }
        tasks.join_all().await;
    });
    watched.until("all of them are seen", |r| r.service_accounts.len() >= MANY);
    let one_by_one = watched.batches().len() - after.len();
    assert!(one_by_one < MANY / 4, "{one_by_one} batches for {MANY} changes");

    let again = Watched::synced(kube.kubeconfig(), None);
    assert!(again.snapshot().service_accounts.len() >= MANY);
    let batches = again.batches();
    assert!(batches.len() < 20 && batches.iter().any(|b| *b >= MANY), "{batches:?}");
    drop(again);

    // A whole namespace goes: seen as it happens, or by a list.
    let all = "/api/v1/namespaces/dev/serviceaccounts";
    kube.kubectl(&["delete", "--raw", all]).unwrap();
    watched.until("none is left", |r| !r.service_accounts.keys().any(|k| k.name.starts_with("many-")));
    watched.run(create(&watched.client, &namespace("still-awake")));
    watched.until("it goes on", |r| r.namespaces.keys().any(|k| k.name == "still-awake"));
}

/// Resident memory of this process, MB.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

#[test]
#[ignore = "a measure: makes 100 MB of pods; run it alone with --ignored --nocapture"]
#[allow(clippy::print_stdout, reason = "a measure")]
fn measure_of_five_thousand_pods_of_twenty_kilobytes() {
    const PODS: usize = 5_000;
    if !has(&[Need::Kubernetes]) {
        return;
    }
    let kube = ApiServer::start();
    kube.create_namespace("dev", &[]);
    install(&kube);
    let maker = Watched::synced(kube.kubeconfig(), None);
    let client = maker.client.clone();
    maker.run(async move {
        let mut tasks = tokio::task::JoinSet::new();
        for worker in 0..32 {
            let client = client.clone();
            tasks.spawn(async move {
                for number in (worker..PODS).step_by(32) {
                    let mut pod = pod(&format!("deployment-6d4cf56db6-{number:05}"));
                    let env: Vec<Value> =
                        (0..180).map(|n| json!({"name": format!("VARIABLE_{n}"), "value": "x".repeat(70)})).collect();
                    pod["metadata"]["labels"] =
                        json!({"app": "shop", "version": "v1", "pod-template-hash": "6d4cf56db6", "team": "a"});
                    pod["spec"]["containers"][0]["env"] = env.into();
                    create(&client, &pod).await;
                }
            });
        }
        tasks.join_all().await;
    });
    let bytes = kube.kubectl(&["get", "--raw", "/api/v1/pods?limit=1"]).unwrap().len();
    drop(maker);
    let before = resident();
    let watched = Watched::synced(kube.kubeconfig(), None);
    assert_eq!(watched.snapshot().pods.len(), PODS);
    println!("{PODS} pods of {bytes} bytes: {before:.1} MB before, {:.1} MB with them", resident());
    drop(watched);
    println!("{:.1} MB after them", resident());
}

/// Time on a processor that this thread has had, so that a busy machine does not matter.
fn busy() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

#[test]
#[ignore = "a measure: run it alone with --ignored --nocapture"]
#[allow(clippy::print_stdout, reason = "a measure")]
fn measure_of_compiling_two_thousand_services_and_five_thousand_pods() {
    use causeway_control_plane::compile::{Settings, compile_after};
    use causeway_control_plane::index::Index;
    use causeway_control_plane::source::read::{Outcome, object};
    use causeway_control_plane::source::{Event, Origin};
    let read = |value: &Value| match object(value, &Origin::default()) {
        Outcome::Usable(resource, problems) => Event::Upsert { resource, problems },
        other => panic!("{other:?}"),
    };
    let instance = |number: usize, version: &str| {
        let mut pod = pod(&format!("app-{number}"));
        pod["metadata"]["namespace"] = format!("team-{}", number % 50).into();
        pod["metadata"]["labels"] = json!({"app": format!("app-{}", number % 2000), "version": version,
            "pod-template-hash": "6d4cf56db6", "causeway.dev/injected": "true"});
        let ip = format!("10.{}.{}.{}", number / 65_536, number / 256 % 256, number % 256);
        pod["status"]["podIP"] = ip.clone().into();
        pod["status"]["podIPs"] = json!([{"ip": ip}]);
        pod
    };
    let mut events = Vec::new();
    for number in 0..2000 {
        let namespace = format!("team-{}", number % 50);
        let name = format!("app-{number}");
        let mut service = service(&namespace, &name);
        service["spec"]["clusterIP"] = format!("172.16.{}.{}", number / 256, number % 256).into();
        events.push(read(&service));
        let members: Vec<Value> = (0..5000usize)
            .filter(|pod| pod % 2000 == number)
            .map(|pod| {
                json!({"addresses": [instance(pod, "v1")["status"]["podIP"]], "conditions": {"ready": true},
                    "targetRef": {"kind": "Pod", "name": format!("app-{pod}")}})
            })
            .collect();
        events.push(read(&json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": namespace, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4", "ports": [{"name": "", "port": 80}], "endpoints": members})));
        let own = route(
            "causeway.dev/v1alpha1",
            &name,
            &json!({"hosts": [name],
            "http": [{"route": [{"destination": {"host": name}, "weight": 1}]}]}),
        );
        let mut own = own;
        own["metadata"]["namespace"] = namespace.into();
        events.push(read(&own));
    }
    events.extend((0..5000).map(|number| read(&instance(number, "v1"))));
    let mut index = Index::new();
    let timed = |what: &str, index: &mut Index, events: Vec<Event>, before| {
        let began = busy();
        index.apply(events);
        let applied = busy() - began;
        let model = compile_after(before, &index.snapshot(), &Settings::default());
        println!("{what}: applied in {applied:.0?}, compiled in {:.0?} of processor time", busy() - began - applied);
        model
    };
    let memory = resident();
    let first = timed("first", &mut index, events, None);
    println!("{:.0} MB for it", resident() - memory);
    timed("one pod changed", &mut index, vec![read(&instance(7, "v2"))], Some(&first));
}
