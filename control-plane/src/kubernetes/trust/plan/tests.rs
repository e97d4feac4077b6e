#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn seen(text: &str, owner: Option<&Owner>) -> Seen {
    Seen::of(&serde_json::from_value(config_map(text, owner)).unwrap())
}

fn owner() -> impl Strategy<Value = Option<Owner>> {
    prop::option::of("[ab]".prop_map(|uid| Owner { uid }))
}

fn state() -> impl Strategy<Value = Seen> {
    ("[xy]", owner(), any::<bool>())
        .prop_map(|(bundle, owner, is_ours)| Seen { is_ours, ..seen(&bundle, owner.as_ref()) })
}

proptest! {
    /// Whatever was there: after the plan nothing is left to do, and what is not ours and not wanted is untouched.
    #[test]
    fn a_plan_leads_to_what_is_wanted(
        wanted in prop::collection::btree_set("[a-f]", 0..6),
        there in prop::collection::btree_map("[a-f]", state(), 0..6),
        owner in owner(),
    ) {
        let mut after = there.clone();
        for action in plan(&wanted, "x", owner.as_ref(), &there) {
            match action {
                Action::Write(namespace) => {
                    prop_assert!(wanted.contains(&namespace));
                    after.insert(namespace, seen("x", owner.as_ref()));
                }
                Action::Delete(namespace) => {
                    prop_assert!(there[&namespace].is_ours && !wanted.contains(&namespace));
                    after.remove(&namespace);
                }
            }
        }
        prop_assert_eq!(plan(&wanted, "x", owner.as_ref(), &after), vec![]);
    }
}

#[test]
fn what_is_right_is_not_written_again() {
    let owner = Owner { uid: "u".to_owned() };
    let there = BTreeMap::from([("dev".to_owned(), seen("x", Some(&owner)))]);
    assert_eq!(plan(&BTreeSet::from(["dev".to_owned()]), "x", Some(&owner), &there), vec![]);
}
