//! VirtualServices that continue in others.

use super::*;

const ROOT: &str = "
hosts: [prodsvc]
http:
- match: [{uri: {prefix: /a}, headers: {x: {}}}]
  headers: {request: {set: {r: root, both: root}}}
  timeout: 5s
  delegate: {name: child, namespace: team}
- route: [{destination: {host: prodsvc, subset: v1-stable}}]";

const CHILD: &str = "
http:
- match: [{uri: {prefix: /a/b}, headers: {x: {exact: y}}}, {uri: {exact: /c}}]
  headers: {request: {set: {both: child}}}
  retries: {attempts: 1}
  route: [{destination: {host: own}}]
- match: [{uri: {prefix: /z}}]
  route: [{destination: {host: own}}]
- timeout: 1s
  route: [{destination: {host: prodsvc.prod, subset: v1-canary}}]";

fn text(child: &str) -> String {
    [
        prodsvc(),
        service("team", "own", "selector: {app: own}, ports: [{name: http, port: 80}]"),
        pod("team", "own", "10.1.0.7", "app: own"),
        custom("VirtualService", "prod", "root", ROOT),
        child.to_owned(),
    ]
    .concat()
}

#[test]
fn routes_of_a_delegate_stand_in_the_place_of_the_one_that_names_it() {
    let model = model(&text(&custom("VirtualService", "team", "child", CHILD)));
    assert_eq!(found(&model), Vec::<String>::new());
    let client = client("dev");
    let Answer { destination, parts, .. } = model.answer(&client, "prodsvc.prod:80");
    let [first, second, last] = &destination.routes[..] else { panic!("{:?}", destination.routes) };
    assert_eq!((first.name.as_str(), last.name.as_str()), ("prod/root#0", "prod/root#1"));
    assert_eq!(first.matches.len(), 1, "what contradicts the root's condition is left out");
    assert_eq!(first.matches[0].headers.len(), 1);
    assert_eq!(shares(split_of(first)), [("own.team:80", 1, 1)], "a short name is of the delegate's namespace");
    assert_eq!((first.timeout_ms, second.timeout_ms), (5000, 1000));
    assert_eq!(first.retry.as_ref().map(|r| r.attempts), Some(1));
    let set = first.request_headers.clone().unwrap().set;
    let set: Vec<_> = set.iter().map(|h| (h.name.as_str(), h.value.as_str())).collect();
    assert_eq!(set, [("both", "child"), ("r", "root")]);
    let names: Vec<_> = parts.iter().map(|k| k.path()).collect();
    assert!(names.contains(&"team/child".to_owned()) && names.contains(&"prod/root".to_owned()), "{names:?}");
}

#[test]
fn a_delegate_that_cannot_be_is_told_once_and_its_route_does_not_apply() {
    let with_hosts = CHILD.replacen("\nhttp", "\nhosts: [own]\nhttp", 1);
    let hidden = format!("{CHILD}\nexportTo: [.]");
    for child in [None, Some(with_hosts.as_str()), Some(hidden.as_str())] {
        let child = child.map(|c| custom("VirtualService", "team", "child", c)).unwrap_or_default();
        let model = model(&text(&child));
        let told: Vec<_> = found(&model).into_iter().filter(|p| p.starts_with("unknown_delegate")).collect();
        assert_eq!(told, ["unknown_delegate spec.http[0].delegate"]);
        let routes = model.destination(&client("dev"), "prodsvc.prod:80").routes;
        assert_eq!(routes.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["prod/root#1"]);
    }
}

#[test]
fn a_delegate_that_nobody_names_is_told() {
    let alone = custom("VirtualService", "team", "alone", CHILD);
    let model = model(&format!("{}{alone}", prodsvc()));
    assert_eq!(found(&model), ["no_hosts spec.hosts"]);
}

#[test]
fn problems_of_a_delegate_are_its_own() {
    let child = custom("VirtualService", "team", "child", &CHILD.replace("host: prodsvc.prod,", "host: nosuch,"));
    let model = model(&text(&child));
    let [problem] = model.problems() else { panic!("{:?}", model.problems()) };
    assert_eq!(problem.resource, "VirtualService team/child");
    assert_eq!((problem.code, problem.field.as_str()), ("unknown_service", "spec.http[2].route[0].destination.host"));
}
