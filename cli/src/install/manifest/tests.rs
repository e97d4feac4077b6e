use super::*;

fn deployment(choices: &Choices) -> Value {
    let objects = objects(choices).expect("objects");
    objects.into_iter().find(|o| o.kind() == "Deployment").expect("a Deployment").0
}

fn args_of(choices: &Choices) -> Vec<String> {
    args(&objects(choices).expect("objects"))
}

#[test]
fn what_an_upgrade_would_choose_otherwise_is_told() {
    let before = Choices { leaf_ttl: Some("8h".to_owned()), ..Choices::default() };
    let mut older = args_of(&before);
    older.retain(|a| !a.starts_with("--webhook="));
    older.push("--dropped=1".to_owned());
    let told = changes(&older, &args_of(&Choices::default()));
    assert_eq!(told.iter().map(Change::say).collect::<Vec<_>>(), ["--leaf-ttl was 8h, becomes 24h"]);
    assert_eq!(changes(&args_of(&before), &args_of(&before)), []);
    assert_eq!(changes(&[], &args_of(&before)), []);
}

#[test]
fn nothing_chosen_is_the_manifest_itself() {
    assert!(Choices::default().is_empty());
    assert_eq!(text(&Choices::default()).expect("text"), TEXT);
}

#[test]
fn every_object_says_what_it_is() {
    let objects = objects(&Choices::default()).expect("objects");
    assert!(objects.len() > 15);
    for object in &objects {
        assert!(!object.kind().is_empty() && !object.name().is_empty(), "{:?}", object.0);
        assert!(object.namespace().is_none_or(|ns| ns == "causeway-system"), "{}", object.title());
    }
    let policy = objects.iter().find(|o| o.kind() == "NetworkPolicy").expect("one");
    let resource = policy.resource();
    assert_eq!((resource.group.as_str(), resource.plural.as_str()), ("networking.k8s.io", "networkpolicies"));
}

#[test]
fn what_is_chosen_is_in_the_objects() {
    let choices = Choices {
        replicas: Some(3),
        image_registry: Some("registry.example.com:5000/mirror".to_owned()),
        tag: Some("1.2.3".to_owned()),
        leaf_ttl: Some("90m".to_owned()),
        default_policy: Some("deny".to_owned()),
        ca_secret: Some("corporate-ca".to_owned()),
        ..Choices::default()
    };
    let made = deployment(&choices);
    assert_eq!(made["spec"]["replicas"], 3);
    let image = &made["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(image, "registry.example.com:5000/mirror/causeway/control-plane:1.2.3");
    let args = args_of(&choices);
    for wanted in [
        "--proxy-image=registry.example.com:5000/mirror/causeway/proxy:1.2.3",
        "--leaf-ttl=90m",
        "--default-policy=deny",
        "--ca-secret=corporate-ca",
        "--trust-domain=cluster.local",
    ] {
        assert!(args.iter().any(|a| a == wanted), "{wanted} is not among {args:?}");
    }
    let objects = objects(&choices).expect("objects");
    let role = objects.iter().find(|o| o.kind() == "Role").expect("a Role");
    assert_eq!(role.0["rules"][0]["resourceNames"], json!(["corporate-ca"]));
    assert_eq!(role.0["rules"][0]["resources"], json!(["secrets"]));
    assert!(
        !role.0["rules"]
            .as_array()
            .expect("rules")
            .iter()
            .any(|r| r["verbs"] == json!(["create"]) && r["resources"] == json!(["secrets"]))
    );
    let text = text(&choices).expect("text");
    assert!(text.contains("--leaf-ttl=90m") && !text.contains("--leaf-ttl=24h"));
}

#[test]
fn a_choice_that_the_control_plane_would_refuse_is_refused_here() {
    for choices in [
        Choices { leaf_ttl: Some("1s".to_owned()), ..Choices::default() },
        Choices { trust_domain: Some("Not A Domain".to_owned()), ..Choices::default() },
    ] {
        let error = objects(&choices).expect_err("refused").to_string();
        assert!(error.contains("invalid value"), "{error}");
    }
    assert!(registry("https://x y").is_err() && registry("").is_err());
    assert!(tag("a b").is_err() && tag(":x").is_err() && tag("v1").is_ok());
    assert!(secret("Upper").is_err() && secret("-a").is_err() && secret("corporate.ca-1").is_ok());
}

#[test]
fn every_choice_changes_something() {
    let one = |f: fn(&mut Choices)| {
        let mut choices = Choices::default();
        f(&mut choices);
        choices
    };
    for choices in [
        one(|c| c.replicas = Some(1)),
        one(|c| c.image_registry = Some("r".to_owned())),
        one(|c| c.tag = Some("t".to_owned())),
        one(|c| c.pull_policy = Some("Never".to_owned())),
        one(|c| c.trust_domain = Some("example.org".to_owned())),
        one(|c| c.cluster_domain = Some("example.org".to_owned())),
        one(|c| c.leaf_ttl = Some("1h".to_owned())),
        one(|c| c.default_policy = Some("deny".to_owned())),
        one(|c| c.egress = Some("deny".to_owned())),
        one(|c| c.ca_secret = Some("other".to_owned())),
        one(|c| c.log = Some("debug".to_owned())),
        one(|c| c.log_format = Some("json".to_owned())),
    ] {
        assert!(!choices.is_empty());
        assert_ne!(deployment(&choices), deployment(&Choices::default()), "{choices:?}");
    }
}
