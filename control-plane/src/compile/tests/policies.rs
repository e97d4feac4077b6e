//! Who may come in.

use super::*;
use causeway_mesh::wire::MtlsMode;

fn inbound(extra: &[String]) -> (wire::Inbound, Vec<String>) {
    let model = model(&format!("{}{}", prodsvc(), extra.concat()));
    let client = Client { namespace: "prod".into(), account: "stable-sa".into(), pod: "stable".into() };
    (model.workload(&client).inbound.unwrap(), found(&model))
}

fn policy(spec: &str) -> (wire::Inbound, Vec<String>) {
    inbound(&[custom("AuthorizationPolicy", "prod", "p", spec)])
}

#[test]
fn nothing_said_is_strict_and_as_the_settings_have_it() {
    let (inbound, _) = inbound(&[]);
    assert_eq!((inbound.mode(), inbound.default_verdict()), (MtlsMode::MtlsStrict, wire::Verdict::Allow));
    assert!(inbound.policies.is_empty());
}

#[test]
fn principals_and_service_accounts_of_one_source_must_both_hold_the_caller() {
    let of = |principals: &str, accounts: &str| {
        let lists = format!("principals: [{principals}], serviceAccounts: [{accounts}]");
        let (inbound, problems) = policy(&format!("rules: [{{from: [{{source: {{{lists}}}}}]}}]"));
        let rules = &inbound.policies[0].rules;
        (rules.first().map(|r| r.from[0].principals.clone()), problems)
    };
    let id = "spiffe://cluster.local/ns/x/sa/web".to_owned();
    let code = "invalid_principal spec.rules[0].from[0].source.serviceAccounts".to_owned();
    assert_eq!(of("'*'", "x/web"), (Some(vec![id.clone()]), vec![]));
    assert_eq!(of("cluster.local/ns/x/sa/web, cluster.local/ns/x/sa/job", "x/web, y/web"), (Some(vec![id]), vec![]));
    assert_eq!(of("cluster.local/ns/x/sa/web", "y/web"), (None, vec![code]));
}

#[test]
fn principals_are_whole_identities_in_any_of_their_forms() {
    let spec = "rules:\n- from:\n  - source:\n      principals: [cluster.local/ns/x/sa/web, 'spiffe://cluster.local/ns/x/sa/a.b', '*']\n  - source:\n      serviceAccounts: [x/x, stable-sa]\n  to: [{operation: {methods: [GET], paths: [/a, /b*, '*c', '*'], ports: ['8080'], hosts: ['*.Example.com']}}]";
    let (inbound, problems) = policy(spec);
    assert_eq!(problems, [] as [&str; 0]);
    let rule = &inbound.policies[0].rules[0];
    let id = |rest: &str| format!("spiffe://cluster.local/ns/{rest}");
    assert_eq!(rule.from[0].principals, [id("x/sa/web"), id("x/sa/a.b"), "*".into()]);
    assert_eq!(rule.from[1].principals, [id("x/sa/x"), id("prod/sa/stable-sa")]);
    use wire::string_match::Kind;
    let paths: Vec<Kind> = rule.to[0].paths.iter().map(|p| p.kind.clone().unwrap()).collect();
    assert_eq!(
        paths,
        [Kind::Exact("/a".into()), Kind::Prefix("/b".into()), Kind::Suffix("c".into()), Kind::Present(true)]
    );
    assert_eq!(rule.to[0].hosts[0].kind, Some(Kind::Suffix(".example.com".into())));
    assert_eq!(rule.to[0].ports, [8080]);
}

#[test]
fn what_is_not_understood_fails_closed_in_an_allow_policy() {
    let cases = [
        (
            "- from: [{source: {principals: ['*/sa/web']}}]",
            "invalid_principal spec.rules[0].from[0].source.principals[0]",
        ),
        (
            "- from: [{source: {principals: [cluster.local/ns/dev/sa/*]}}]",
            "invalid_principal spec.rules[0].from[0].source.principals[0]",
        ),
        ("- from: [{source: {namespaces: ['dev*']}}]", "invalid_namespace spec.rules[0].from[0].source.namespaces[0]"),
        ("- from: [{source: {ipBlocks: [10.0.0.0/8]}}]", "not_implemented spec.rules[0].from[0].source.ipBlocks"),
        ("- from: [{source: {principal: [a]}}]", "unknown_field spec.rules[0].from[0].source.principal"),
        ("- from: [{source: {principals: []}}]", "empty_in_rule spec.rules[0].from[0].source.principals"),
        ("- from: []", "empty_in_rule spec.rules[0].from"),
        ("- form: [{source: {namespaces: [dev]}}]", "unknown_field spec.rules[0].form"),
        ("- when: [{key: 'request.headers[x]', values: [y]}]", "not_implemented spec.rules[0].when"),
        ("- to: [{operation: {ports: [http]}}]", "invalid_port spec.rules[0].to[0].operation.ports[0]"),
        ("- to: [{operation: {methods: ['G*']}}]", "invalid_method spec.rules[0].to[0].operation.methods[0]"),
        ("- to: [{operation: {paths: ['/a/{*}']}}]", "invalid_pattern spec.rules[0].to[0].operation.paths[0]"),
        ("- to: [{operation: {hosts: ['a:80']}}]", "invalid_pattern spec.rules[0].to[0].operation.hosts[0]"),
    ];
    for (rule, want) in cases {
        let (inbound, problems) = policy(&format!("rules:\n{rule}"));
        assert_eq!(problems, [want], "{rule}");
        assert_eq!(inbound.policies.len(), 1, "{rule}");
        assert!(inbound.policies[0].rules.is_empty(), "{rule}");
    }
}

#[test]
fn an_alternative_that_is_not_understood_leaves_the_others_of_an_allow_policy() {
    let spec = "rules: [{from: [{source: {principals: ['*/sa/x']}}, {source: {namespaces: [dev]}}]}]";
    let (inbound, problems) = policy(spec);
    assert_eq!(problems.len(), 1);
    let from = &inbound.policies[0].rules[0].from;
    assert_eq!((from.len(), from[0].namespaces.clone()), (1, vec!["dev".to_owned()]));
}

#[test]
fn what_is_not_understood_denies_more_in_a_deny_policy() {
    let spec = "action: DENY\nrules:\n- from: [{source: {principals: ['*/sa/web']}}]\n  to: [{operation: {paths: [/x]}}]\n- when: [{key: k}]\n  to: [{operation: {ports: ['1']}}]";
    let (inbound, _) = policy(spec);
    let rules = &inbound.policies[0].rules;
    assert!(rules[0].from.is_empty() && rules[0].to.len() == 1);
    assert_eq!(rules[1].to[0].ports, [1]);
    let (inbound, problems) = policy("acton: DENY\nrules: [{}]");
    assert_eq!(problems, ["unknown_field spec.acton"]);
    assert!(inbound.policies[0].rules.is_empty(), "a mistyped action must not become an allowance");
    let (inbound, _) = policy("action: DENY\nrulez: []");
    assert_eq!(inbound.policies[0].rules, [wire::Rule::default()]);
}

#[test]
fn a_policy_with_a_value_of_the_wrong_type_fails_closed_where_it_has_no_last_good_version() {
    let (inbound, problems) = policy("rules: [{to: [{operation: {ports: [8080]}}, {operation: {ports: ['9090']}}]}]");
    assert_eq!(problems, ["wrong_type spec.rules[0].to[0].operation.ports[0]"]);
    assert_eq!(inbound.policies[0].rules[0].to.iter().map(|o| o.ports.clone()).collect::<Vec<_>>(), [[9090]]);
    for spec in ["rules: all", "selector: {matchLabels: [a]}\nrules: [{}]", "action: Deny\nrules: [{}]"] {
        let (inbound, problems) = policy(spec);
        assert_eq!((problems.len(), inbound.policies[0].verdict()), (1, wire::Verdict::Allow), "{spec}");
        assert!(inbound.policies[0].rules.is_empty(), "{spec}");
    }
    let (inbound, _) = inbound_of_peer("mtls: {mode: permissive}");
    assert_eq!(inbound.mode(), MtlsMode::MtlsStrict);
}

fn inbound_of_peer(spec: &str) -> (wire::Inbound, Vec<String>) {
    inbound(&[
        custom("PeerAuthentication", "causeway-system", "mesh", "mtls: {mode: PERMISSIVE}"),
        custom("PeerAuthentication", "prod", "p", spec),
    ])
}

#[test]
fn a_service_account_that_nobody_has_is_a_warning() {
    let of = |principal: &str| policy(&format!("rules: [{{from: [{{source: {{principals: [{principal}]}}}}]}}]")).1;
    assert_eq!(
        of("cluster.local/ns/dev/sa/wbe-sa"),
        ["unknown_service_account spec.rules[0].from[0].source.principals[0]"]
    );
    for fine in [
        "cluster.local/ns/dev/sa/web-sa",
        "cluster.local/ns/dev/sa/default",
        "other/ns/dev/sa/x",
        "cluster.local/ns/nowhere/sa/x",
    ] {
        assert_eq!(of(fine), [] as [&str; 0], "{fine}");
    }
}

#[test]
fn a_policy_without_rules_allows_nothing_and_an_empty_rule_everything() {
    let (inbound, problems) = policy("{}");
    assert_eq!((inbound.policies[0].rules.len(), problems.len()), (0, 0));
    let (inbound, problems) = policy("rules: [{}]");
    assert_eq!(inbound.policies[0].rules, [wire::Rule::default()]);
    assert_eq!(problems, [] as [&str; 0]);
}

#[test]
fn any_method_is_still_a_condition_on_http() {
    let (inbound, _) = policy("rules: [{to: [{operation: {methods: ['*']}}]}]");
    let operation = &inbound.policies[0].rules[0].to[0];
    assert!(operation.methods.is_empty() && operation.paths.len() == 1);
}

#[test]
fn custom_denies_and_audit_does_nothing() {
    let (inbound, problems) =
        policy("action: CUSTOM\nprovider: {name: x}\nrules: [{to: [{operation: {paths: [/x]}}]}]");
    assert_eq!(inbound.policies[0].verdict(), wire::Verdict::Deny);
    assert_eq!(inbound.policies[0].rules[0].to.len(), 1);
    assert_eq!(problems, ["not_implemented spec.action", "not_implemented spec.provider"]);
    let (inbound, _) = policy("action: AUDIT\nrules: [{}]");
    assert!(inbound.policies.is_empty());
}

#[test]
fn selectors_and_the_root_namespace_choose_the_pods() {
    let of =
        |namespace: &str, spec: &str| inbound(&[custom("AuthorizationPolicy", namespace, "p", spec)]).0.policies.len();
    assert_eq!(of("prod", "selector: {matchLabels: {version: stable}}"), 1);
    assert_eq!(of("prod", "selector: {matchLabels: {version: canary}}"), 0);
    assert_eq!(of("dev", "{}"), 0);
    assert_eq!(of("causeway-system", "{}"), 1);
    assert_eq!(of("causeway-system", "selector: {matchLabels: {version: canary}}"), 0);
    assert_eq!(of("prod", "selector: {matchExpressions: []}"), 1);
}

#[test]
fn cluster_local_stands_for_the_own_trust_domain() {
    let settings = Settings { trust_domain: "prod.example".into(), ..Settings::default() };
    let spec = "rules: [{from: [{source: {principals: [cluster.local/ns/dev/sa/web, other.example/ns/dev/sa/web]}}]}]";
    let model =
        compiled(events(&format!("{}{}", prodsvc(), custom("AuthorizationPolicy", "prod", "p", spec))), &settings);
    let workload = model.workload(&Client { namespace: "prod".into(), account: "a".into(), pod: "stable".into() });
    let principals = &workload.inbound.unwrap().policies[0].rules[0].from[0].principals;
    assert_eq!(*principals, ["spiffe://prod.example/ns/dev/sa/web", "spiffe://other.example/ns/dev/sa/web"]);
}

#[test]
fn the_narrowest_peer_authentication_wins() {
    let peer = |namespace: &str, name: &str, spec: &str| custom("PeerAuthentication", namespace, name, spec);
    let mode = |all: &[String]| {
        let (inbound, _) = inbound(all);
        (inbound.mode(), inbound.ports.iter().map(|p| (p.port, p.mode())).collect::<Vec<_>>())
    };
    use MtlsMode::*;
    let mesh = peer("causeway-system", "m", "mtls: {mode: PERMISSIVE}");
    let namespace = peer("prod", "n", "mtls: {mode: STRICT}");
    let pod = peer(
        "prod",
        "w",
        "selector: {matchLabels: {app: prodsvc}}\nmtls: {mode: UNSET}\nportLevelMtls: {8080: {mode: DISABLE}, 9: {mode: UNSET}}",
    );
    assert_eq!(mode(std::slice::from_ref(&mesh)), (MtlsPermissive, vec![]));
    assert_eq!(mode(&[mesh.clone(), namespace.clone()]), (MtlsStrict, vec![]));
    assert_eq!(mode(&[mesh.clone(), namespace, pod.clone()]), (MtlsStrict, vec![(8080, MtlsDisable)]));
    assert_eq!(mode(&[mesh.clone(), pod]), (MtlsPermissive, vec![(8080, MtlsDisable)]));
    let typo = peer("prod", "t", "mtlss: {mode: STRICT}");
    assert_eq!(mode(&[mesh, typo]), (MtlsStrict, vec![]));
}

#[test]
fn probes_of_the_pods_spec_are_listed_with_their_ports_resolved() {
    let text = "apiVersion: v1
kind: Pod
metadata:
  name: p
  namespace: prod
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: api-7d9f8b, uid: u, controller: true}]
spec:
  containers:
  - name: c
    ports: [{name: web, containerPort: 8080}]
    livenessProbe: {httpGet: {path: '/healthz?full=1', port: web}}
    readinessProbe: {tcpSocket: {port: 9000}}
    startupProbe: {grpc: {port: 9001}}
";
    let workload =
        model(text).workload(&Client { namespace: "prod".into(), account: "default".into(), pod: "p".into() });
    let probes: Vec<_> = workload.inbound.unwrap().probes.into_iter().map(|p| (p.port, p.path)).collect();
    let grpc = Some(causeway_mesh::policy::GRPC_HEALTH.to_owned());
    assert_eq!(probes, [(8080, Some("/healthz?full=1".into())), (9000, None), (9001, grpc)]);
    assert_eq!(workload.workload_name, "api");
}

#[test]
fn of_two_peer_authentications_that_select_a_pod_the_later_one_hears_of_it() {
    let peer = |name: &str, spec: &str| custom("PeerAuthentication", "prod", name, spec);
    let (inbound, problems) = inbound(&[
        peer("b", "selector: {matchLabels: {app: prodsvc}}\nmtls: {mode: DISABLE}"),
        peer("a", "selector: {matchLabels: {version: stable}}\nmtls: {mode: PERMISSIVE}"),
    ]);
    assert_eq!(inbound.mode(), MtlsMode::MtlsPermissive);
    assert_eq!(problems, ["conflicting_peer_authentication spec.selector"]);
}
