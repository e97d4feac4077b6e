//! Routes, splits and policies against a model of what the documents say: plain, slow, and written without a look at how
//! `compile` does it. Resources are generated as their users write them, in YAML; the model answers from those, the
//! product through its own parser, compiler, wire and decisions. A difference is a fault of one of them, or a gap in the
//! documents.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a suite"
)]

#[path = "models/gateway.rs"]
mod gateway;
#[path = "models/policy.rs"]
mod policy;
#[path = "models/product.rs"]
mod product;
#[path = "models/routing.rs"]
mod routing;
#[path = "models/standard.rs"]
mod standard;
#[path = "models/world.rs"]
mod world;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_request_goes_where_the_documents_say(world in world::routing(), asked in world::requests()) {
        let product = product::Product::of(&world.yaml());
        for question in &asked {
            let (said, is) = (routing::answer(&world, question), product.answer(question));
            prop_assert_eq!(said, is, "{:#?}\nof\n{}", question, world.yaml());
        }
    }

    #[test]
    fn every_caller_is_judged_as_the_documents_say(world in policy::policies(), asked in policy::requests()) {
        let product = product::Product::of(&world.yaml());
        for question in &asked {
            let (said, is) = (policy::allows(&world, question), product.allows(question));
            prop_assert_eq!(said, is, "{:#?}\nof\n{}", question, world.yaml());
        }
    }
}
