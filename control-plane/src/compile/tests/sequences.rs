//! What stays in force from one configuration to the next.

use super::*;

/// Compiles one text after the other, each with what came before it.
fn after(texts: &[String]) -> Model {
    let mut model: Option<Model> = None;
    for text in texts {
        let mut resources = Resources::default();
        events(text).into_iter().for_each(|e| resources.apply(e));
        model = Some(compile_after(model.as_ref(), &Arc::new(resources), &Settings::default()));
    }
    model.unwrap()
}

fn without_rule() -> String {
    prodsvc().replace(&custom("DestinationRule", "prod", "prodsvc", SUBSETS), "")
}

fn with(spec: &str) -> String {
    format!("{}{}", prodsvc(), custom("VirtualService", "dev", "v", spec))
}

/// Shares of the first route, else of the Service's default.
fn live(model: &Model) -> Vec<(String, u32, u32)> {
    let destination = model.destination(&client("dev"), "prodsvc.prod:80");
    let split = destination.routes.first().map(split_of).or(destination.split.as_ref()).unwrap();
    shares(split).into_iter().map(|(name, weight, effective)| (name.to_owned(), weight, effective)).collect()
}

const WHOLE: [(&str, u32, u32); 1] = [("prodsvc.prod:80", 1, 1)];
const BOTH: [(&str, u32, u32); 2] = [("prodsvc.prod:80/v1-canary", 10, 10), ("prodsvc.prod:80/v1-stable", 90, 90)];

fn owned(shares: &[(&str, u32, u32)]) -> Vec<(String, u32, u32)> {
    shares.iter().map(|(n, w, e)| ((*n).to_owned(), *w, *e)).collect()
}

#[test]
fn a_route_of_which_nothing_exists_yet_does_not_take_effect() {
    let text = format!("{}{}", without_rule(), custom("VirtualService", "dev", "v", SPLIT));
    let model = after(std::slice::from_ref(&text));
    assert_eq!(live(&model), owned(&WHOLE));
    assert!(!model.destination(&client("dev"), "prodsvc.prod:80").http_only);
    assert_eq!(found(&model).len(), 2);
    // The DestinationRule comes.
    assert_eq!(live(&after(&[text, with(SPLIT)])), owned(&BOTH));
}

#[test]
fn a_rule_that_vanishes_leaves_the_labels_of_the_subsets_that_routes_name() {
    let gone = format!("{}{}", without_rule(), custom("VirtualService", "dev", "v", SPLIT));
    let model = after(&[with(SPLIT), gone.clone(), gone]);
    assert_eq!(live(&model), owned(&BOTH));
    assert_eq!(model.endpoints("prodsvc.prod:80/v1-canary").unwrap().endpoints.len(), 1);
    assert_eq!(found(&model).len(), 2, "{:?}", model.problems());
}

#[test]
fn a_new_rule_replaces_the_labels_that_were_kept() {
    let gone = format!("{}{}", without_rule(), custom("VirtualService", "dev", "v", SPLIT));
    let swapped = with(SPLIT).replace("{version: stable}}\n", "{version: canary}}\n");
    let model = after(&[with(SPLIT), gone, swapped]);
    let stable = model.endpoints("prodsvc.prod:80/v1-stable").unwrap().endpoints;
    assert_eq!(stable.iter().map(|e| e.address.as_str()).collect::<Vec<_>>(), ["10.1.0.2"]);
    assert_eq!(found(&model), [] as [&str; 0]);
}

#[test]
fn a_version_that_names_what_does_not_exist_leaves_the_last_good_one_in_force() {
    let changes = [
        SPLIT.replace("subset: v1-canary", "subset: v2").replace("weight: 10", "weight: 50"),
        SPLIT.replace("host: prodsvc.prod.svc.cluster.local, subset: v1-canary", "host: nosuch.prod"),
        SPLIT.replace("hosts: [prodsvc.", "hosts: [prodsvk."),
    ];
    for change in changes {
        let model = after(&[with(SPLIT), with(&change), with(&change)]);
        assert_eq!(live(&model), owned(&BOTH), "{change}");
        let [problem] = model.problems() else { panic!("{:?}", model.problems()) };
        assert!(problem.advice.ends_with("the last good version of this resource stays in force."), "{problem}");
        assert!(!problem.advice.contains("share"), "{problem}");
        // Mended, the new version takes over.
        let mended = SPLIT.replace("weight: 10", "weight: 30");
        assert_eq!(live(&after(&[with(SPLIT), with(&change), with(&mended)]))[0].1, 30);
    }
}

#[test]
fn what_gets_no_traffic_may_be_missing() {
    let shifted = SPLIT.replace("subset: v1-canary", "subset: v2").replace("weight: 10", "weight: 0");
    let model = after(&[with(SPLIT), with(&shifted)]);
    assert_eq!(live(&model), owned(&[("prodsvc.prod:80/v2", 0, 0), ("prodsvc.prod:80/v1-stable", 90, 90)]));
    assert_eq!(found(&model), ["unknown_subset spec.http[0].route[0].destination.subset"]);
}

#[test]
fn a_deleted_route_is_gone_and_is_not_remembered() {
    let model = after(&[with(SPLIT), prodsvc(), with(&SPLIT.replace("v1-", "v9-"))]);
    assert_eq!(live(&model), owned(&WHOLE));
}
