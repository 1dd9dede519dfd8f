use std::collections::BTreeSet;

use super::{Category, KeyType, Padding, SideTerms, Stage, Terms, Tier};
use crate::{context::OrganizationId, fault::Misuse};

fn side(byte: u8) -> SideTerms {
    let stage = |id: &str, ordinal, tier| Stage {
        id: id.to_owned(),
        label: id.to_uppercase(),
        ordinal,
        category: Category::Open,
        tier,
    };
    SideTerms {
        organization: OrganizationId([byte; 32]),
        stages: vec![
            stage("customer", 40, Tier::List),
            stage("prospect", 10, Tier::Count),
            stage("lost", 50, Tier::Hidden),
        ],
        fields: vec!["name".to_owned()],
        timeline: true,
        key_types: BTreeSet::from([KeyType::Domain, KeyType::Email]),
        domain_from_email: false,
        min_count: 5,
        count_by_count: true,
        label_field_bytes: 64,
        padding: Padding::None,
        max_queries: 1 << 22,
        max_tags: 1 << 22,
        epoch_days: 30,
        min_interval_s: 604_800,
    }
}

fn terms(one: SideTerms, other: SideTerms) -> Result<Terms, Misuse> {
    Terms::new(one, other, 1, "2026-01-01".to_owned(), 8_192)
}

#[test]
fn both_sides_compute_the_same_hash() {
    let mut shuffled = side(1);
    shuffled.stages.reverse();
    let one = terms(side(1), side(2)).unwrap();
    let other = terms(side(2), shuffled).unwrap();
    assert_eq!(one.hash(), other.hash());
    assert_eq!(
        one.side(&OrganizationId([1; 32]))
            .unwrap()
            .stage_index("prospect"),
        Some(0)
    );
}

#[test]
fn every_term_changes_the_hash() {
    let base = terms(side(1), side(2)).unwrap().hash();
    let changes: [fn(&mut SideTerms); 16] = [
        |side| side.stages[0].label.push('x'),
        |side| side.stages[0].ordinal += 1,
        |side| side.stages[0].category = Category::Customer,
        |side| side.stages[0].tier = Tier::Hidden,
        |side| side.fields.push("owner".to_owned()),
        |side| side.timeline = false,
        |side| side.key_types = BTreeSet::from([KeyType::Email]),
        |side| side.domain_from_email = true,
        |side| side.min_count = 6,
        |side| side.count_by_count = false,
        |side| side.label_field_bytes = 65,
        |side| side.padding = Padding::Multiple(16),
        |side| side.max_queries += 1,
        |side| side.max_tags += 1,
        |side| side.epoch_days -= 1,
        |side| side.min_interval_s += 1,
    ];
    for change in changes {
        let mut changed = side(1);
        change(&mut changed);
        assert_ne!(terms(changed, side(2)).unwrap().hash(), base);
    }
}

#[test]
fn renaming_a_stage_changes_the_terms_but_not_their_structure() {
    let base = terms(side(1), side(2)).unwrap();
    let mut renamed = side(1);
    renamed.stages[0].label.push('x');
    let renamed = terms(renamed, side(2)).unwrap();
    assert_ne!(renamed.hash(), base.hash());
    assert_eq!(renamed.structure_hash(), base.structure_hash());
    let changes: [fn(&mut SideTerms); 6] = [
        |side| side.stages[0].id.push('x'),
        |side| side.stages[0].ordinal += 1,
        |side| side.stages[0].category = Category::Customer,
        |side| side.stages[0].tier = Tier::Hidden,
        |side| side.key_types = BTreeSet::from([KeyType::Email]),
        |side| side.domain_from_email = true,
    ];
    for change in changes {
        let mut changed = side(1);
        change(&mut changed);
        let changed = terms(changed, side(2)).unwrap();
        assert_ne!(changed.structure_hash(), base.structure_hash());
    }
}

#[test]
fn key_types_are_the_intersection_in_the_fixed_order() {
    let mut other = side(2);
    other.key_types = BTreeSet::from(KeyType::ALL);
    let terms = terms(side(1), other).unwrap();
    assert_eq!(terms.key_types(), [KeyType::Email, KeyType::Domain]);
}

#[test]
fn terms_that_the_protocol_cannot_express_are_refused() {
    let refused = |change: fn(&mut SideTerms)| {
        let mut changed = side(1);
        change(&mut changed);
        terms(changed, side(2)).is_err()
    };
    assert!(refused(|side| side.stages.clear()));
    assert!(refused(|side| side.stages[0].id = "lost".to_owned()));
    assert!(refused(|side| side.stages[0].id.clear()));
    assert!(refused(|side| side.min_count = 0));
    assert!(refused(|side| side.label_field_bytes = 5_000));
    assert!(refused(|side| side.organization = OrganizationId([2; 32])));
}

#[test]
fn padding_rounds_up() {
    assert_eq!(Padding::None.padded(7), 7);
    assert_eq!(Padding::Multiple(16).padded(0), 16);
    assert_eq!(Padding::Multiple(16).padded(17), 32);
    assert_eq!(Padding::PowerOfTwo(8).padded(3), 8);
    assert_eq!(Padding::PowerOfTwo(8).padded(9), 16);
}
