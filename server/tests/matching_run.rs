//! Runs between two nodes over a link in memory, against an independent oracle.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod oracle;

use oracle::{
    Side, Tier,
    harness::{check, run_pair},
    world::{Dice, STAGES, all, domain, email, external, phone, row, rows, side, tiers},
};
use proptest::prelude::*;

fn random_sides(seed: u64, mine: Tier, theirs: Tier) -> (Side, Side) {
    let mut dice = Dice::new(seed);
    let (mut a, mut b) = (all(mine), all(theirs));
    a.rows = rows(&mut dice, "a", 300, 200);
    b.rows = rows(&mut dice, "b", 300, 200);
    (a, b)
}

#[tokio::test(flavor = "multi_thread")]
async fn p06_list_by_list_finds_the_shared_customers_and_matrices_are_transposes() {
    let (side_a, side_b) = random_sides(1, Tier::List, Tier::List);
    let (a, b) = check(&side_a, &side_b).await;
    let (mine, theirs) = (a.view(), b.view());
    assert!(mine.shared.len() > 30, "the test has something to find");
    for ((row, column), cell) in &mine.cells {
        assert_eq!(
            theirs.cells.get(&(column.clone(), row.clone())),
            Some(cell),
            "{row} x {column}"
        );
    }
    assert_eq!(mine.shared_customers, theirs.shared_customers);
}

#[tokio::test(flavor = "multi_thread")]
async fn p06_all_nine_combinations_of_tiers() {
    let all_tiers = [Tier::Hidden, Tier::Count, Tier::List];
    for (seed, (mine, theirs)) in (10..).zip(
        all_tiers
            .into_iter()
            .flat_map(|mine| all_tiers.map(|theirs| (mine, theirs))),
    ) {
        for count_by_count in [false, true] {
            let (mut side_a, mut side_b) = random_sides(seed, mine, theirs);
            side_a.count_by_count = count_by_count;
            side_b.count_by_count = count_by_count;
            check(&side_a, &side_b).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p06_random_mixtures_of_tiers() {
    for seed in 100..130 {
        let mut dice = Dice::new(seed);
        let (mut a, mut b) = (side(), side());
        for (side, name) in [(&mut a, "a"), (&mut b, "b")] {
            let count = 50 + dice.below(400);
            side.rows = rows(&mut dice, name, count, 250);
            side.tiers = tiers(&mut dice);
            side.count_by_count = dice.chance(50);
            side.min_count = 1 + dice.below(6);
        }
        if [&a, &b].iter().any(|side| !discloses_a_key(side)) {
            continue;
        }
        check(&a, &b).await;
    }
}

fn discloses_a_key(side: &Side) -> bool {
    side.rows
        .iter()
        .any(|row| !row.private && side.tier(&row.stage) != Tier::Hidden && !row.keys.is_empty())
}

/// Chains of rows that one side alone links, keys on too many rows, and rows of a lower stage that carry the matching key.
#[tokio::test(flavor = "multi_thread")]
async fn p06_components_that_only_one_side_links() {
    let (mut a, mut b) = (all(Tier::List), all(Tier::List));
    a.tiers.insert("Lead".to_owned(), Tier::Count);
    b.tiers.insert("Lead".to_owned(), Tier::Count);
    a.rows = vec![
        // Two customers of mine that the partner's one record links.
        row("a1", "Prospect", &[email(1)]),
        row("a2", "Customer", &[email(2)]),
        // A counted and a listed one, linked by the partner.
        row("a3", "Lead", &[email(3)]),
        row("a4", "Prospect", &[email(4)]),
        // The key stands on the row of lower stage.
        row("a5", "Lead", &[email(5), phone(5)]),
        row("a6", "Customer", &[phone(5)]),
        row("a7", "Lost", &[external(7), domain(7)]),
    ];
    b.rows = vec![
        row("b1", "Deal", &[email(1), email(2)]),
        row("b2", "Customer", &[email(3), email(4)]),
        row("b3", "Lead", &[email(5)]),
        row("b4", "Prospect", &[external(7)]),
        row("b5", "Churned", &[domain(7)]),
    ];
    // On 33 rows of mine, and of one of the partner's.
    for number in 0..33 {
        a.rows
            .push(row(&format!("amb{number:02}"), "Prospect", &[domain(99)]));
    }
    b.rows.push(row("b99", "Prospect", &[domain(99)]));
    check(&a, &b).await;
    check(&b, &a).await;
}

/// Small companies in any mixture of tiers, with several runs' worth of odd cases each.
#[test]
fn p06_p09_any_small_companies() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let tier = || prop_oneof![Just(Tier::Hidden), Just(Tier::Count), Just(Tier::List)];
    let key = || {
        (0_u64..12, 0_u8..3).prop_map(|(person, kind)| match kind {
            0 => email(person),
            1 => external(person),
            _ => phone(person),
        })
    };
    let company = move || {
        let rows = proptest::collection::vec(
            (
                0_usize..6,
                proptest::collection::vec(key(), 0..4),
                any::<bool>(),
            ),
            1..30,
        );
        let tiers = proptest::collection::vec(tier(), 6);
        (rows, tiers, any::<bool>(), 1_u64..4)
    };
    let build = |name: &str, (rows, tiers, count_by_count, min_count): Company| {
        let mut side = side();
        side.count_by_count = count_by_count;
        side.min_count = min_count;
        for ((stage, _), tier) in STAGES.iter().zip(tiers) {
            side.tiers.insert((*stage).to_owned(), tier);
        }
        for (number, (stage, keys, private)) in rows.into_iter().enumerate() {
            let mut row = row(&format!("{name}{number:02}"), STAGES[stage].0, &keys);
            row.private = private && number % 5 == 0;
            side.rows.push(row);
        }
        side
    };
    let config = ProptestConfig {
        cases: 40,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(one in company(), other in company())| {
        let (a, b) = (build("a", one), build("b", other));
        if discloses_a_key(&a) && discloses_a_key(&b) {
            runtime.block_on(check(&a, &b));
        }
    });
}

type Company = (Vec<(usize, Vec<oracle::Key>, bool)>, Vec<Tier>, bool, u64);

/// A lists 64 prospects, of whom B counts the first twelve as customers.
fn twelve_counted() -> (Side, Side) {
    let (mut side_a, mut side_b) = (all(Tier::List), all(Tier::Count));
    side_a.rows = (0..64)
        .map(|i| row(&format!("a{i:02}"), "Prospect", &[email(i)]))
        .collect();
    side_b.rows = (0..12)
        .map(|i| row(&format!("b{i:02}"), "Customer", &[email(i)]))
        .collect();
    (side_a, side_b)
}

/// The same cell is not released anew for a small change, however often the run is repeated.
#[tokio::test(flavor = "multi_thread")]
async fn z07_a_released_count_stands_until_enough_members_differ() {
    let (side_a, mut side_b) = twelve_counted();
    let (a, b) = check(&side_a, &side_b).await;
    let cell = |node: &oracle::harness::TestNode| {
        node.view().cells[&("Prospect".to_owned(), "Customer".to_owned())]
    };
    assert_eq!(cell(&a), ("COUNTED", Some(12)));
    // Four more: fewer than five differ, so the old value stands, whatever time passes.
    for i in 12..16 {
        side_b
            .rows
            .push(row(&format!("b{i:02}"), "Customer", &[email(i)]));
    }
    b.import(&side_b.rows);
    for (run, days, expected) in [(2, 1, 12), (3, 8, 12)] {
        a.clock.advance(jiff::SignedDuration::from_hours(24 * days));
        b.clock.advance(jiff::SignedDuration::from_hours(24 * days));
        let (done_a, done_b) = run_pair((&a, &side_a), (&b, &side_b), run).await;
        done_a.unwrap();
        done_b.unwrap();
        assert_eq!(cell(&a), ("COUNTED", Some(expected)));
    }
    // One more makes five.
    side_b.rows.push(row("b16", "Customer", &[email(16)]));
    b.import(&side_b.rows);
    let (done_a, done_b) = run_pair((&a, &side_a), (&b, &side_b), 4).await;
    done_a.unwrap();
    done_b.unwrap();
    assert_eq!(cell(&a), ("COUNTED", Some(17)));
}

/// A cell that was released under a lower threshold is not shown under the one that is agreed now, and the run does not fail.
#[tokio::test(flavor = "multi_thread")]
async fn z07_a_raised_threshold_holds_for_counts_of_earlier_runs() {
    let (side_a, mut side_b) = twelve_counted();
    let (a, b) = check(&side_a, &side_b).await;
    let place = ("Prospect".to_owned(), "Customer".to_owned());
    assert_eq!(a.view().cells[&place], ("COUNTED", Some(12)));
    side_b.min_count = 13;
    let (done_a, done_b) = run_pair((&a, &side_a), (&b, &side_b), 2).await;
    done_a.unwrap();
    done_b.unwrap();
    assert_eq!(a.view(), oracle::view(&side_a, &side_b));
    assert_eq!(a.view().cells[&place], ("SUPPRESSED", None));
}
