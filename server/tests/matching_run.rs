//! Runs between two nodes over a link in memory, against an independent oracle.

mod oracle;

use oracle::{
    Side, Tier,
    harness::check,
    world::{Dice, all, domain, email, external, phone, row, rows, side, tiers},
};

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
