//! A model that takes over what did not change is the one that would have been made anew.

use super::properties::{ASKED, COUNT, answers, clients, pieces};
use super::*;
use proptest::prelude::*;
use proptest::sample::subsequence;

fn is_name_space(text: &str) -> bool {
    ["kind: Service\n", "kind: ServiceEntry\n", "kind: ReferenceGrant\n"].iter().any(|kind| text.contains(kind))
}

/// What names mean stays; all else comes and goes.
fn comes_and_goes() -> Vec<String> {
    pieces().into_iter().filter(|p| !is_name_space(p)).collect()
}

pub(super) fn put(resources: &mut Resources, text: &str) {
    events(text).into_iter().for_each(|e| resources.apply(e));
}

pub(super) fn take(resources: &mut Resources, text: &str) {
    for event in events(text) {
        if let Event::Upsert { resource, .. } = event {
            resources.apply(Event::Delete(resource.meta().key.clone()));
        }
    }
}

/// Asserts that what `before` answered and what is said to be untouched is what `after` answers.
fn assert_untouched_is_the_same(before: &Model, after: &Model) -> usize {
    let Some(touched) = after.touched(before) else { return 0 };
    let is_kept = |uses: &Vec<Name>| !uses.iter().any(|service| touched.services.contains(service));
    let mut kept = 0;
    for client in clients() {
        for text in ASKED {
            let (found, parts) = before.destination_and_parts(&client, text);
            for backend in &found.backends {
                if before.used_by_backend(&backend.name).is_some_and(|uses| is_kept(&uses)) {
                    assert_eq!(before.endpoints(&backend.name), after.endpoints(&backend.name), "{touched:?}");
                }
            }
            if before.used_by(&found).is_some_and(|uses| is_kept(&uses))
                && before.distinction(&client) == after.distinction(&client)
            {
                assert_eq!((found, parts), after.destination_and_parts(&client, text), "{touched:?}");
                kept += 1;
            }
        }
        if !touched.workloads && !touched.pods.contains(&(client.namespace.clone(), client.pod.clone())) {
            let of = |model: &Model| (model.workload(&client), model.workload_parts(&client));
            assert_eq!(of(before), of(after));
        }
        if !touched.namespaces.contains(&client.namespace) {
            assert_eq!(before.prefetch(&client), after.prefetch(&client));
        }
    }
    kept
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn what_is_taken_over_is_what_would_be_made_anew(
        first in subsequence(comes_and_goes(), 0..=COUNT),
        steps in proptest::collection::vec((subsequence(comes_and_goes(), 0..4), subsequence(comes_and_goes(), 0..4)), 1..5),
    ) {
        let settings = Settings::default();
        let fixed: Vec<String> = pieces().into_iter().filter(|p| is_name_space(p)).collect();
        let mut index = Resources::default();
        fixed.iter().chain(&first).for_each(|text| put(&mut index, text));
        let mut before = compile(&Arc::new(index.clone()), &settings);
        for (new, gone) in steps {
            new.iter().for_each(|text| put(&mut index, text));
            gone.iter().for_each(|text| take(&mut index, text));
            let resources = Arc::new(index.clone());
            let after = compile_after(Some(&before), &resources, &settings);
            let anew = compile_after(Some(&before), &Arc::new(index.apart()), &settings);
            prop_assert_eq!(after.problems(), anew.problems());
            prop_assert_eq!(answers(&after), answers(&anew));
            prop_assert_eq!(after.subjects(), anew.subjects());
            assert_untouched_is_the_same(&before, &after);
            before = after;
        }
    }
}

#[test]
fn a_weight_touches_the_services_of_its_route_alone() {
    let mut index = Resources::default();
    pieces().iter().filter(|p| is_name_space(p)).for_each(|text| put(&mut index, text));
    let route = |weight: u32| {
        let http = format!(
            "hosts: [b.prod]\nhttp: [{{route: [{{destination: {{host: b.prod, port: {{number: 80}}}}, weight: {weight}}}, {{destination: {{host: a.prod}}, weight: 1}}]}}]"
        );
        custom("VirtualService", "prod", "one", &http)
    };
    put(&mut index, &route(1));
    let before = compile(&Arc::new(index.clone()), &Settings::default());
    put(&mut index, &route(2));
    let after = compile_after(Some(&before), &Arc::new(index.clone()), &Settings::default());
    let touched = after.touched(&before).unwrap();
    assert_eq!(touched.services, [("prod".to_owned(), "b".to_owned())].into());
    assert_eq!((touched.namespaces.len(), touched.workloads), (1, false));
    assert!(assert_untouched_is_the_same(&before, &after) > 0);
    assert!(before.touched(&after).is_none() && after.touched(&after).is_none(), "only what came next is known");
    // What names mean changed: anything may.
    put(&mut index, &service("prod", "new", "ports: [{port: 80}]"));
    let last = compile_after(Some(&after), &Arc::new(index), &Settings::default());
    assert!(last.touched(&after).is_none());
}
