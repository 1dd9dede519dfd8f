//! Runs that fail: the code, the side that has to act, and the last good result that stays.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod oracle;

use std::sync::{Arc, Mutex};

use oracle::{
    Side, Tier,
    harness::{TestNode, links, links_through, run_over, run_pair},
    world::{self, Dice, all, email, row, rows},
};
use overlap_server::{
    error::Reason,
    matching::{
        driver::{Completed, drive},
        failure::{Failure, Side as FaultSide},
    },
};
use tokio::sync::watch;

/// Two nodes with one good run behind them.
async fn with_result() -> (TestNode, Side, TestNode, Side) {
    let mut dice = Dice::new(7);
    let (mut side_a, mut side_b) = (all(Tier::List), all(Tier::List));
    side_a.rows = rows(&mut dice, "a", 120, 80);
    side_b.rows = rows(&mut dice, "b", 140, 80);
    side_b.tiers.insert("Lead".to_owned(), Tier::Count);
    let (a, b) = (TestNode::new(1), TestNode::new(2));
    a.import(&side_a.rows);
    b.import(&side_b.rows);
    let (done_a, done_b) = run_pair((&a, &side_a), (&b, &side_b), 1).await;
    done_a.unwrap();
    done_b.unwrap();
    (a, side_a, b, side_b)
}

/// Runs something that has to fail, and checks that what both nodes show is what they showed before.
async fn unchanged(
    a: &TestNode,
    b: &TestNode,
    run: impl Future<Output = (Result<Completed, Failure>, Result<Completed, Failure>)>,
) -> ((Reason, FaultSide), (Reason, FaultSide)) {
    let before = (a.view(), b.view());
    let (done_a, done_b) = run.await;
    let outcome = |done: Result<Completed, Failure>| {
        let failure = done.expect_err("the run fails");
        (failure.error.reason(), failure.side)
    };
    let outcomes = (outcome(done_a), outcome(done_b));
    assert_eq!(a.view(), before.0);
    assert_eq!(b.view(), before.1);
    for node in [a, b] {
        // Work that was under way removes its files when it is done.
        for _ in 0..200 {
            if node.run_directories().len() == 1 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert_eq!(node.run_directories().len(), 1, "files of failed runs go");
    }
    outcomes
}

#[tokio::test(flavor = "multi_thread")]
async fn z05_a_changed_frame_of_any_kind_is_the_partners_fault() {
    let (a, side_a, b, side_b) = with_result().await;
    // HELLO, CONFIRM, REPORT, RECEIPT, QUERY, EVALUATION, COMMITMENTS, SLICE, CLAIMS
    for (run, kind) in (10..).zip([1_u32, 2, 3, 4, 16, 17, 18, 19, 20]) {
        let seen = Arc::new(Mutex::new(false));
        let tampered = Arc::clone(&seen);
        let links = links_through(
            run,
            Some,
            move |mut frame: overlap_proto::exchange::v1::Frame| {
                if frame.kind == kind {
                    let mut payload = frame.payload.to_vec();
                    let last = payload.len() - 1;
                    payload[last] ^= 0x55;
                    frame.payload = payload.into();
                    *tampered.lock().unwrap() = true;
                }
                Some(frame)
            },
        );
        let run = run_over((&a, &side_a), (&b, &side_b), links);
        if !matches!(kind, 1..=4 | 16..=20) {
            continue;
        }
        let before = (a.view(), b.view());
        let (done_a, done_b) = run.await;
        if !*seen.lock().unwrap() {
            // The acceptor sends no frame of this kind in this plan.
            done_a.unwrap();
            done_b.unwrap();
            continue;
        }
        let failure = done_a.expect_err("a changed frame is noticed");
        assert_eq!(failure.side, FaultSide::Partner, "kind {kind}");
        assert!(
            matches!(
                failure.error.reason(),
                Reason::PeerFault | Reason::PeerVersion
            ),
            "kind {kind}: {:?}",
            failure.error
        );
        assert_eq!(a.view(), before.0);
        if kind != 4 {
            // The acceptor only learns that the initiator refused; after receipts it is done.
            let failure = done_b.expect_err("the other side is told");
            assert_eq!(failure.side, FaultSide::Partner, "kind {kind}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_in_place_of_a_frame_is_the_partners_fault() {
    let (a, side_a, b, side_b) = with_result().await;
    for (run, after) in (40..).zip([0, 1, 2, 5]) {
        let mut count = 0;
        let links = links_through(run, Some, move |mut frame| {
            if count == after {
                frame.flow = 9;
                frame.payload = vec![0xff; 100].into();
            }
            count += 1;
            Some(frame)
        });
        let (mine, theirs) = unchanged(&a, &b, run_over((&a, &side_a), (&b, &side_b), links)).await;
        assert_eq!(mine, (Reason::PeerFault, FaultSide::Partner));
        assert_eq!(theirs.1, FaultSide::Partner);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_breaks_is_the_networks_fault() {
    let (a, side_a, b, side_b) = with_result().await;
    for (run, after) in (50..).zip([0, 1, 3, 6]) {
        let mut count = 0;
        let cut = Arc::new(Mutex::new(false));
        let cut_there = Arc::clone(&cut);
        let links = links_through(
            run,
            move |frame| (!*cut_there.lock().unwrap()).then_some(frame),
            move |frame| {
                count += 1;
                if count > after {
                    *cut.lock().unwrap() = true;
                    return None;
                }
                Some(frame)
            },
        );
        let (mine, theirs) = unchanged(&a, &b, run_over((&a, &side_a), (&b, &side_b), links)).await;
        assert_eq!(mine, (Reason::PartnerUnreachable, FaultSide::Network));
        assert_eq!(theirs, (Reason::PartnerUnreachable, FaultSide::Network));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn different_terms_are_refused() {
    let (a, side_a, b, side_b) = with_result().await;
    let (link_a, link_b) = links(60);
    let mut other = side_b.clone();
    other.min_count = 9;
    let run_a = a.run(&b, world::agreement(&side_a, &side_b));
    let run_b = b.run(&a, world::agreement(&other, &side_a));
    let (mine, theirs) = unchanged(&a, &b, async {
        tokio::join!(drive(run_a, link_a), drive(run_b, link_b))
    })
    .await;
    assert_eq!(mine, (Reason::TermsDiffer, FaultSide::Partner));
    assert_eq!(theirs, (Reason::TermsDiffer, FaultSide::Partner));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_leaves_the_last_result() {
    let (a, side_a, b, side_b) = with_result().await;
    let cancel = watch::Sender::new(false);
    let mut run_a = a.run(&b, world::agreement(&side_a, &side_b));
    run_a.cancel = cancel.subscribe();
    let run_b = b.run(&a, world::agreement(&side_b, &side_a));
    let mut frames = 0;
    let (link_a, link_b) = links_through(61, Some, move |frame| {
        frames += 1;
        if frames == 3 {
            cancel.send_replace(true);
        }
        Some(frame)
    });
    let (mine, theirs) = unchanged(&a, &b, async {
        tokio::join!(drive(run_a, link_a), drive(run_b, link_b))
    })
    .await;
    assert_eq!(mine, (Reason::Cancelled, FaultSide::Mine));
    assert_eq!(theirs, (Reason::Cancelled, FaultSide::Partner));
}

#[tokio::test(flavor = "multi_thread")]
async fn p10_a_side_without_keys_fails_as_empty() {
    let (a, side_a, b, mut side_b) = with_result().await;
    // Only private and hidden rows are left.
    side_b.rows = vec![row("b1", "Customer", &[email(1)])];
    side_b.rows[0].private = true;
    b.import(&side_b.rows);
    let (mine, theirs) = unchanged(&a, &b, run_pair((&a, &side_a), (&b, &side_b), 62)).await;
    assert_eq!(mine, (Reason::EmptySet, FaultSide::Partner));
    assert_eq!(theirs, (Reason::EmptySet, FaultSide::Mine));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_over_the_limit_fails_before_anything_is_sent() {
    let (mut a, side_a, b, side_b) = with_result().await;
    a.settings.limits.max_keys = 10;
    let (mine, theirs) = unchanged(&a, &b, run_pair((&a, &side_a), (&b, &side_b), 63)).await;
    assert_eq!(mine, (Reason::SetTooLarge, FaultSide::Mine));
    assert_eq!(theirs, (Reason::SetTooLarge, FaultSide::Partner));
}

#[tokio::test(flavor = "multi_thread")]
async fn z10_a_used_up_budget_ends_the_run_and_says_so() {
    let (a, mut side_a, b, mut side_b) = with_result().await;
    // Enough for some runs of the epoch, but not for many.
    side_a.max_evaluations = 1_000;
    side_b.max_evaluations = 1_000;
    let mut run = 64;
    let (mine, theirs) = loop {
        assert!(run < 96, "the budget is never used up");
        let before = (a.view(), b.view());
        match run_pair((&a, &side_a), (&b, &side_b), run).await {
            (Ok(_), Ok(_)) => run += 1,
            (mine, theirs) => {
                assert_eq!(before, (a.view(), b.view()));
                break (mine.unwrap_err(), theirs.unwrap_err());
            }
        }
    };
    assert!(run > 64, "the first run is within the budget");
    assert_eq!(
        (mine.error.reason(), theirs.error.reason()),
        (Reason::QuotaExhausted, Reason::QuotaExhausted)
    );
    assert!(mine.side == FaultSide::Mine || theirs.side == FaultSide::Mine);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_is_my_own_fault() {
    let (a, side_a, b, side_b) = with_result().await;
    // A file stands where the run's directory has to be.
    std::fs::write(
        a.directory.path().join("runs").join(hex::encode([65; 16])),
        "",
    )
    .unwrap();
    let (done_a, done_b) = run_pair((&a, &side_a), (&b, &side_b), 65).await;
    let (mine, theirs) = (done_a.unwrap_err(), done_b.unwrap_err());
    assert_eq!(
        (mine.error.reason(), mine.side),
        (Reason::StorageFailed, FaultSide::Mine)
    );
    // The partner is not told what failed here.
    assert_eq!(
        (theirs.error.reason(), theirs.side),
        (Reason::PartnerFailed, FaultSide::Partner)
    );
    assert_eq!(a.view(), oracle::view(&side_a, &side_b));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_replaces_the_first_and_keeps_when_customers_were_first_matched() {
    let (a, mut side_a, b, side_b) = with_result().await;
    let first: Vec<_> = a.view().shared;
    let started = a.clock_now();
    a.clock.advance(jiff::SignedDuration::from_hours(48));
    b.clock.advance(jiff::SignedDuration::from_hours(48));
    // One customer of the partner's list that was not shared comes in.
    let new = side_b
        .rows
        .iter()
        .find(|theirs| {
            !theirs.private
                && theirs.stage != "Lead"
                && !theirs.keys.is_empty()
                && !side_a
                    .rows
                    .iter()
                    .any(|mine| !mine.keys.is_disjoint(&theirs.keys))
        })
        .expect("somebody is not shared yet")
        .keys
        .clone();
    let mut row = row("a-new", "Customer", &[]);
    row.keys = new;
    side_a.rows.push(row);
    a.import(&side_a.rows);
    let (done_a, done_b) = run_pair((&a, &side_a), (&b, &side_b), 66).await;
    done_a.unwrap();
    done_b.unwrap();
    assert_eq!(a.view().shared, oracle::view(&side_a, &side_b).shared);
    assert_eq!(a.view().shared.len(), first.len() + 1);
    assert_eq!(a.run_directories().len(), 1);
    let (_, result) = a.open_result();
    for shared in &first {
        let position = result.position_of_row(&shared.id).unwrap().unwrap();
        assert_eq!(result.column(position).unwrap().first_matched, started);
    }
    let position = result.position_of_row("a-new").unwrap().unwrap();
    assert_eq!(
        result.column(position).unwrap().first_matched,
        started + 48 * 3600
    );
}
