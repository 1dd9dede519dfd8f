//! The list flow's result is the plain set intersection, whatever the order, the duplicates, the chunks and the padding.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use overlap_crypto::{
    backend::Backend,
    list::LabelFormat,
    terms::{Padding, Tier},
};
use proptest::prelude::*;
use support::{Company, pseudonym, run_list_flow, sessions, side_terms, terms};

/// Local customers of one side: each a stage and the numbers of its keys.
fn side() -> impl Strategy<Value = Vec<(u8, Vec<u32>)>> {
    prop::collection::vec((0_u8..3, prop::collection::vec(0_u32..80, 1..4)), 0..30)
}

fn company(seed: u8, customers: &[(u8, Vec<u32>)]) -> Company {
    // A key belongs to one local customer, as merging guarantees; a customer may name it twice.
    let mut taken = BTreeMap::new();
    let customers = (0..)
        .zip(customers)
        .map(|(owner, (stage, keys)): (u32, _)| {
            let keys = keys
                .iter()
                .filter(|key| *taken.entry(**key).or_insert(owner) == owner)
                .map(|key| format!("u{key}@example.com"))
                .collect();
            (owner, *stage, keys)
        })
        .collect();
    Company::new(seed, customers)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn p06_p10_the_list_flow_is_the_plain_intersection_of_what_the_tiers_disclose(
        own in side(),
        peer in side(),
        chunk in 1_u32..40,
        padding in prop::sample::select(vec![Padding::None, Padding::Multiple(16), Padding::PowerOfTwo(8)]),
        seed in any::<u64>(),
    ) {
        let tiers = [Tier::List, Tier::Count, Tier::Hidden];
        let (one, other) = (company(1, &own), company(2, &peer));
        let mut sides = [side_terms(one.id(), &tiers), side_terms(other.id(), &tiers)];
        for side in &mut sides {
            side.padding = padding;
        }
        let [first, second] = sides;
        let terms = terms(first, second, chunk);
        let mut rng = support::rng(seed);
        let (session, _) = sessions(&one, &other, &terms, &mut rng);
        for (flow, receiver, evaluator) in [
            (session.receiving(), &one, &other),
            (session.evaluating(), &other, &one),
        ] {
            let Some(flow) = flow else { continue };
            let lists = session.plan().queries(if std::ptr::eq(receiver, &one) {
                session.role()
            } else {
                session.role().peer()
            });
            let result = run_list_flow(
                Backend::detect(),
                flow,
                (receiver, terms.side(&receiver.id()).unwrap()),
                (evaluator, terms.side(&evaluator.id()).unwrap()),
                lists.unwrap().list,
                &mut rng,
            );
            let receiver_terms = terms.side(&receiver.id()).unwrap();
            let evaluator_terms = terms.side(&evaluator.id()).unwrap();
            let mut asked = receiver.keys_of(receiver_terms, Tier::Count);
            if lists.unwrap().list {
                asked.extend(receiver.keys_of(receiver_terms, Tier::List));
            }
            let disclosed = evaluator.keys_of(evaluator_terms, Tier::List);
            let mut seen = BTreeSet::new();
            let mut claimed = BTreeSet::new();
            for (owner, key) in &asked {
                for (theirs, other_key) in &disclosed {
                    if key == other_key {
                        seen.insert((*owner, evaluator.stage_of(*theirs), pseudonym(*theirs)));
                        let stage = receiver.stage_of(*owner);
                        if receiver_terms.stages_of(Tier::List).contains(stage) {
                            claimed.insert((*theirs, stage, pseudonym(*owner)));
                        }
                    }
                }
            }
            prop_assert_eq!(result.receiver_sees, seen);
            prop_assert_eq!(result.evaluator_sees, claimed);
            prop_assert_eq!(result.unopened, 0);
        }
    }
}

#[test]
fn a_pair_costs_at_most_150_bytes_without_fields() {
    let format = LabelFormat::new(0).unwrap();
    let queried = 32 + 32;
    let published = 16 + format.sealed_bytes();
    let claimed = 16 + format.plain_bytes();
    assert_eq!((published, claimed), (16 + 33, 16 + 17));
    assert!(queried + published + claimed <= 150);
}
