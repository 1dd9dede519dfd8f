//! Runs between two nodes over a link in memory, against an independent oracle.

mod oracle;

use oracle::{
    Tier,
    harness::check,
    world::{Dice, all, rows},
};

fn random_sides(seed: u64, mine: Tier, theirs: Tier) -> (oracle::Side, oracle::Side) {
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
