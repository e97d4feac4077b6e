//! Who is routed where.

use super::*;

fn routed(extra: &[String]) -> Model {
    model(&format!("{}{}", prodsvc(), extra.concat()))
}

fn names(destination: &wire::Destination) -> Vec<&str> {
    destination.routes.iter().map(|r| r.name.as_str()).collect()
}

#[test]
fn a_producer_route_holds_for_every_client() {
    let model = routed(&[custom("VirtualService", "prod", "split", SPLIT)]);
    assert_eq!(found(&model), [] as [&str; 0]);
    for namespace in ["dev", "prod", "staging"] {
        assert_eq!(names(&model.destination(&client(namespace), "prodsvc.prod:80")), ["prod/split#0"]);
    }
}

#[test]
fn a_consumer_route_comes_before_the_producers_and_for_its_own_namespace_only() {
    let mine = "hosts: [prodsvc.prod]\nhttp:\n- match: [{headers: {x-debug: {}}}]\n  route: [{destination: {host: prodsvc.prod, subset: v1-canary}}]";
    let model =
        routed(&[custom("VirtualService", "prod", "split", SPLIT), custom("VirtualService", "dev", "mine", mine)]);
    assert_eq!(found(&model), [] as [&str; 0]);
    assert_eq!(names(&model.destination(&client("dev"), "prodsvc.prod:80")), ["dev/mine#0", "prod/split#0"]);
    assert_eq!(names(&model.destination(&client("prod"), "prodsvc:80")), ["prod/split#0"]);
}

#[test]
fn within_one_resource_the_users_order_holds_and_between_resources_precedence() {
    let http = |prefix: &str| {
        format!("- match: [{{uri: {{prefix: {prefix}}}}}]\n  route: [{{destination: {{host: prodsvc}}}}]\n")
    };
    let a = format!("hosts: [prodsvc]\nhttp:\n{}{}", http("/a"), http("/a/longer/one"));
    let b = format!("hosts: [prodsvc]\nhttp:\n{}{}", http("/bbbb"), http("/"));
    let model = routed(&[custom("VirtualService", "prod", "b", &b), custom("VirtualService", "prod", "a", &a)]);
    let order = ["prod/b#0", "prod/a#0", "prod/a#1", "prod/b#1"];
    assert_eq!(names(&model.destination(&client("dev"), "prodsvc.prod:80")), order);
}

#[test]
fn a_subset_without_ready_endpoints_keeps_its_weight_but_none_is_effective() {
    let text = prodsvc().replace(
        "status: {podIP: 10.1.0.2}",
        "status: {podIP: 10.1.0.2, conditions: [{type: Ready, status: 'False'}]}",
    );
    let model = model(&format!("{text}{}", custom("VirtualService", "dev", "split", SPLIT)));
    let destination = model.destination(&client("dev"), "prodsvc.prod:80");
    let want = [("prodsvc.prod:80/v1-canary", 10, 0), ("prodsvc.prod:80/v1-stable", 90, 90)];
    assert_eq!(shares(split_of(&destination.routes[0])), want);
    assert!(model.endpoints("prodsvc.prod:80/v1-canary").unwrap().endpoints.is_empty());
}

#[test]
fn a_consumers_subset_is_its_own_and_wins_for_its_clients() {
    let mine = "host: prodsvc.prod\nsubsets: [{name: v1-canary, labels: {version: stable}}]";
    let model =
        routed(&[custom("VirtualService", "prod", "split", SPLIT), custom("DestinationRule", "dev", "mine", mine)]);
    assert_eq!(found(&model), [] as [&str; 0]);
    let dev = model.destination(&client("dev"), "prodsvc.prod:80");
    let want = [("prodsvc.prod:80/v1-canary@dev", 10, 10), ("prodsvc.prod:80/v1-stable", 90, 90)];
    assert_eq!(shares(split_of(&dev.routes[0])), want);
    assert_eq!(model.endpoints("prodsvc.prod:80/v1-canary@dev").unwrap().endpoints[0].address, "10.1.0.1");
    let prod = model.destination(&client("prod"), "prodsvc.prod:80");
    assert_eq!(shares(split_of(&prod.routes[0]))[0].0, "prodsvc.prod:80/v1-canary");
}

#[test]
fn conditions_on_the_client_are_decided_here() {
    let spec = "
hosts: [prodsvc]
http:
- match:
  - {sourceNamespace: dev, uri: {exact: /x}}
  - {sourceLabels: {app: other}}
  route: [{destination: {host: prodsvc, subset: v1-canary}}]
- match: [{port: 81}, {gateways: [ingress]}]
  route: [{destination: {host: prodsvc, subset: v1-stable}}]";
    let model = routed(&[custom("VirtualService", "prod", "v", spec)]);
    let dev = model.destination(&client("dev"), "prodsvc.prod:80");
    assert_eq!(dev.routes.len(), 1);
    assert_eq!(dev.routes[0].matches.len(), 1);
    assert!(model.destination(&client("prod"), "prodsvc.prod:80").routes.is_empty());
}

#[test]
fn what_is_not_implemented_in_a_match_takes_out_that_match_alone() {
    let spec = "
hosts: [prodsvc]
http:
- match: [{heders: {x: {}}}, {uri: {exact: /a}}]
  route: [{destination: {host: prodsvc}}]
- match: [{schem: {exact: http}}]
  route: [{destination: {host: prodsvc}}]
- redirect: {ur: /b}
- match: [{statPrefix: x, uri: {exact: /c}}]
  route: [{destination: {host: prodsvc}}]";
    let model = routed(&[custom("VirtualService", "prod", "v", spec)]);
    let want = [
        "unknown_field spec.http[0].match[0].heders",
        "unknown_field spec.http[1].match[0].schem",
        "unknown_field spec.http[2].redirect.ur",
        "not_implemented spec.http[3].match[0].statPrefix",
    ];
    let mut all = found(&model);
    all.sort_by_key(|f| f.split(' ').nth(1).unwrap().to_owned());
    assert_eq!(all, want);
    let destination = model.destination(&client("dev"), "prodsvc.prod:80");
    assert_eq!(names(&destination), ["prod/v#0", "prod/v#3"]);
    assert_eq!(destination.routes[0].matches.len(), 1);
}

#[test]
fn tcp_routes_split_connections_by_weight() {
    let spec = "
hosts: [db]
tcp:
- match: [{port: 5433}]
  route: [{destination: {host: other}}]
- route:
  - {destination: {host: db, subset: a}, weight: 1}
  - {destination: {host: db}, weight: 3}";
    let text = [
        service("prod", "db", "selector: {app: db}, ports: [{name: tcp, port: 5432}]"),
        pod("prod", "db-0", "10.1.1.1", "app: db, v: a"),
        custom("DestinationRule", "prod", "db", "host: db\nsubsets: [{name: a, labels: {v: a}}]"),
        custom("VirtualService", "prod", "db", spec),
    ];
    let model = model(&text.concat());
    assert_eq!(found(&model), ["unknown_service spec.tcp[0].route[0].destination.host"]);
    let destination = model.destination(&client("dev"), "db.prod:5432");
    let split = destination.split.as_ref().unwrap();
    assert_eq!(shares(split), [("db.prod:5432/a", 1, 1), ("db.prod:5432", 3, 3)]);
    assert_eq!(split.origin, "prod/db#tcp1");
}

#[test]
fn fractions_of_weights_keep_their_ratio() {
    let split = SPLIT.replace("weight: 10", "weight: 0.5").replace("weight: 90", "weight: 99.5");
    let model = routed(&[custom("VirtualService", "dev", "v", &split)]);
    let destination = model.destination(&client("dev"), "prodsvc.prod:80");
    let weights: Vec<u32> = shares(split_of(&destination.routes[0])).iter().map(|s| s.1).collect();
    assert_eq!(weights, [500, 99_500]);
}

#[test]
fn key_and_timeout_reach_the_wire() {
    let spec = format!("{SPLIT}\n  timeout: 1.5s\n  split: {{key: {{header: X-User}}}}");
    let model = routed(&[custom("VirtualService", "dev", "v", &spec)]);
    assert_eq!(found(&model), [] as [&str; 0]);
    let destination = model.destination(&client("dev"), "prodsvc.prod:80");
    assert_eq!(destination.routes[0].timeout_ms, 1500);
    let key = split_of(&destination.routes[0]).key.as_ref().unwrap().kind.clone();
    assert_eq!(key, Some(wire::split_key::Kind::Header("x-user".into())));
}

#[test]
fn the_traffic_policy_of_the_subset_wins_over_that_of_the_rule() {
    let rule = "
host: prodsvc
trafficPolicy: {tls: {mode: DISABLE}, connectionPool: {tcp: {connectTimeout: 3s}}}
subsets:
- {name: v1-stable, labels: {version: stable}, trafficPolicy: {connectionPool: {tcp: {connectTimeout: 250ms}}}}
- {name: v1-canary, labels: {version: canary}}";
    let text = prodsvc().replace(
        &custom("DestinationRule", "prod", "prodsvc", SUBSETS),
        &custom("DestinationRule", "prod", "prodsvc", rule),
    );
    let model = model(&format!("{text}{}", custom("VirtualService", "dev", "v", SPLIT)));
    let destination = model.destination(&client("dev"), "prodsvc.prod:80");
    let policy: Vec<_> =
        destination.backends.iter().map(|b| (b.subset.as_str(), b.connect_timeout_ms, b.plaintext)).collect();
    assert_eq!(policy, [("v1-canary", 3000, true), ("v1-stable", 250, true), ("", 3000, true)]);
}

#[test]
fn export_to_hides_a_producers_route() {
    let model = routed(&[custom("VirtualService", "prod", "v", &format!("{SPLIT}\nexportTo: ['.']"))]);
    assert!(model.destination(&client("dev"), "prodsvc.prod:80").routes.is_empty());
    assert_eq!(model.destination(&client("prod"), "prodsvc.prod:80").routes.len(), 1);
}

#[test]
fn a_subset_that_the_client_does_not_see_has_no_endpoints_whatever_its_namespace_writes_for_others() {
    let producer = format!("{SUBSETS}\nexportTo: ['.']");
    let text = prodsvc().replace(
        &custom("DestinationRule", "prod", "prodsvc", SUBSETS),
        &custom("DestinationRule", "prod", "prodsvc", &producer),
    );
    let others = "host: prodsvc.prod\nexportTo: [prod]\nsubsets: [{name: v1-stable, labels: {version: stable}}]";
    let route = "hosts: [prodsvc.prod]\nhttp:\n- route:\n  - {destination: {host: prodsvc.prod}, weight: 1}\n  - \
                 {destination: {host: prodsvc.prod, subset: v1-stable}, weight: 1}";
    let extra = [custom("DestinationRule", "dev", "others", others), custom("VirtualService", "dev", "v", route)];
    let model = model(&format!("{text}{}", extra.concat()));
    let destination = model.destination(&client("dev"), "prodsvc.prod:80");
    let Some(wire::route::Action::Split(split)) = &destination.routes[0].action else { panic!("{destination:?}") };
    assert_eq!(shares(split), [("prodsvc.prod:80", 1, 1), ("prodsvc.prod:80/v1-stable@dev", 1, 0)]);
    assert!(model.endpoints("prodsvc.prod:80/v1-stable@dev").is_none_or(|found| found.endpoints.is_empty()));
}

#[test]
fn a_consumers_traffic_policy_wins_for_its_clients_also_over_that_of_the_producers_subset() {
    let producer = "host: prodsvc\nsubsets:\n- {name: v1-stable, labels: {version: stable}, trafficPolicy: {connectionPool: {tcp: {connectTimeout: 2s}}}}\n- {name: v1-canary, labels: {version: canary}}";
    let consumer = "host: prodsvc.prod\ntrafficPolicy: {connectionPool: {tcp: {connectTimeout: 7s}}}";
    let text = prodsvc().replace(
        &custom("DestinationRule", "prod", "prodsvc", SUBSETS),
        &custom("DestinationRule", "prod", "prodsvc", producer),
    );
    let extra = [custom("DestinationRule", "dev", "mine", consumer), custom("VirtualService", "prod", "v", SPLIT)];
    let model = model(&format!("{text}{}", extra.concat()));
    let timeout = |namespace: &str| {
        let destination = model.destination(&client(namespace), "prodsvc.prod:80");
        destination.backends.iter().find(|b| b.subset == "v1-stable").map(|b| b.connect_timeout_ms)
    };
    assert_eq!((timeout("dev"), timeout("prod")), (Some(7000), Some(2000)));
}
