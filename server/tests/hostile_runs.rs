//! A partner that misuses the run stream, and a node that lost what it must not keep copies of: what breaks is a run or an epoch,
//! never the result in force nor the budget.

mod oracle;

use oracle::{
    Tier,
    harness::{check, links, run_pair},
    world::{Dice, agreement, all, rows},
};
use overlap_proto::exchange::v1::Frame;
use overlap_server::{error::Reason, matching::driver::drive};

fn sides() -> (oracle::Side, oracle::Side) {
    let mut dice = Dice::new(77);
    let (mut a, mut b) = (all(Tier::List), all(Tier::List));
    a.rows = rows(&mut dice, "a", 60, 40);
    b.rows = rows(&mut dice, "b", 60, 40);
    (a, b)
}

/// The initiator names the run. One that names the run whose result is in force must not have that result removed when its own
/// run fails.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_id_that_was_used_before_leaves_the_result_in_force() {
    let (side_a, side_b) = sides();
    let (a, b) = check(&side_a, &side_b).await;
    let before = b.view();
    // `check` ran as run 1. The same id again, from a partner that then says nothing sensible.
    let (link_a, link_b) = links(1);
    let acceptor = tokio::spawn(drive(b.run(&a, agreement(&side_b, &side_a)), link_b));
    let garbage = Frame {
        flow: 0,
        kind: 1,
        sequence: 0,
        payload: vec![0; 64].into(),
    };
    let _ = link_a.outgoing.send(garbage).await;
    let failure = acceptor.await.expect("no panic").unwrap_err();
    assert_eq!(failure.error.reason(), Reason::PeerFault);
    assert_eq!(b.view(), before, "the result in force can still be read");
    // And a good run afterwards replaces it.
    let (done_a, done_b) = run_pair((&a, &side_a), (&b, &side_b), 2).await;
    done_a.expect("the initiator's run");
    done_b.expect("the acceptor's run");
    assert_eq!(b.view(), before);
}

/// Epoch keys and ledgers are not backed up. Without them a new epoch begins, which the partner takes for what it is.
#[tokio::test(flavor = "multi_thread")]
async fn lost_epoch_keys_begin_an_epoch_that_the_partner_accepts() {
    let (side_a, side_b) = sides();
    let (a, b) = check(&side_a, &side_b).await;
    let before = (a.view(), b.view());
    for node in [&a, &b] {
        std::fs::remove_dir_all(node.directory.path().join("epochs")).unwrap();
        node.clock.advance(jiff::SignedDuration::from_secs(1));
    }
    let (done_a, done_b) = run_pair((&a, &side_a), (&b, &side_b), 2).await;
    done_a.expect("the initiator's run");
    done_b.expect("the acceptor's run");
    assert_eq!((a.view(), b.view()), before);
}
