//! Runs whose connections break: they go on where they stood, find what the oracle finds, and spend nothing twice; a partner that
//! resumes with anything but the truth is refused.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod oracle;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use oracle::{
    Side, Tier,
    harness::{TestNode, run_over},
    network::{Fate, Network, To, resumable},
    view,
    world::{Dice, all, email, row, rows},
};
use overlap_crypto::{
    signature::Signer,
    suite::derive,
    wire::{AckBody, ResumeBody},
};
use overlap_proto::exchange::v1::Frame;
use overlap_server::{
    error::Reason,
    matching::{
        driver::{Completed, ResumeLimits},
        failure::{Failure, Side as FaultSide},
    },
};

const RESUME: u32 = 5;
const ACK: u32 = 7;

/// Two nodes that have not run yet; reports and list flows in both directions.
fn nodes(customers: u64) -> (TestNode, Side, TestNode, Side) {
    let mut dice = Dice::new(31);
    let (mut side_a, mut side_b) = (all(Tier::List), all(Tier::List));
    side_a.tiers.insert("Lead".to_owned(), Tier::Count);
    side_b.tiers.insert("Deal".to_owned(), Tier::Count);
    side_a.rows = rows(&mut dice, "a", customers, customers * 2 / 3);
    side_b.rows = rows(&mut dice, "b", customers, customers * 2 / 3);
    let (mut a, mut b) = (TestNode::new(1), TestNode::new(2));
    for node in [&mut a, &mut b] {
        node.settings.resume = ResumeLimits {
            patience: Duration::from_secs(20),
            reconnections: 1000,
        };
    }
    a.import(&side_a.rows);
    b.import(&side_b.rows);
    (a, side_a, b, side_b)
}

fn assert_right(a: &TestNode, side_a: &Side, b: &TestNode, side_b: &Side, what: &str) {
    assert_eq!(a.view(), view(side_a, side_b).without_hidden(), "{what}");
    assert_eq!(b.view(), view(side_b, side_a).without_hidden(), "{what}");
}

/// What is left of the budget that `node` grants: every evaluation is debited once.
fn remaining(node: &TestNode) -> u64 {
    node.evaluations_left(10_000_000).1
}

type Outcome = (Result<Completed, Failure>, Result<Completed, Failure>);

fn reasons((a, b): Outcome) -> [(Reason, FaultSide); 2] {
    [a, b].map(|outcome| {
        let failure = outcome.expect_err("the run fails");
        (failure.error.reason(), failure.side)
    })
}

/// Every single frame of a run with flows in both directions, lost with its connection or the last that its connection carried.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_at_any_frame_changes_nothing() {
    let mut cases = 0;
    for to in [To::Acceptor, To::Initiator] {
        for fate in [Fate::Cut, Fate::CutAfter] {
            for nth in 1.. {
                let (a, side_a, b, side_b) = nodes(60);
                let cut = Arc::new(AtomicU32::new(0));
                let there = Arc::clone(&cut);
                let with = fate.clone();
                let mut seen = 0;
                let network = Network::new(1, move |towards, frame, _| {
                    if towards == to && resumable(frame) {
                        seen += 1;
                        if seen == nth && there.fetch_add(1, Ordering::Relaxed) == 0 {
                            return with.clone();
                        }
                    }
                    Fate::Pass
                });
                let (done_a, done_b) =
                    run_over((&a, &side_a), (&b, &side_b), network.links()).await;
                let what = format!("{fate:?} at frame {nth} to {to:?}");
                done_a.unwrap_or_else(|failure| panic!("{what}: {failure:?}"));
                done_b.unwrap_or_else(|failure| panic!("{what}: {failure:?}"));
                assert_right(&a, &side_a, &b, &side_b, &what);
                if cut.load(Ordering::Relaxed) == 0 {
                    break;
                }
                cases += 1;
            }
        }
    }
    // Query, evaluation, commitments, slices, claims both ways, reports, receipts.
    assert!(cases >= 24, "{cases} cuts");
}

/// Sets of several chunks and slices over connections of which none carries more than a few frames.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_break_after_every_few_frames_change_nothing_and_cost_no_budget() {
    let (mut a, side_a, mut b, side_b) = nodes(24_000);
    // So that every run costs the same.
    (a.full, b.full) = (true, true);
    let whole = Network::new(1, |_, _, _| Fate::Pass);
    let (done_a, done_b) = run_over((&a, &side_a), (&b, &side_b), whole.links()).await;
    done_a.unwrap();
    done_b.unwrap();
    let spent = [&a, &b].map(|node| 10_000_000 - remaining(node));
    assert!(spent[0] > 16_384 && spent[1] > 500, "{spent:?}");
    for (run, every) in [(2, 2), (3, 5)] {
        let before = [&a, &b].map(remaining);
        let mut carried = [0; 2];
        let mut of = 0;
        let network = Network::new(run, move |to, frame, connection| {
            if connection != of {
                (carried, of) = ([0; 2], connection);
            }
            if !resumable(frame) {
                return Fate::Pass;
            }
            let count = &mut carried[usize::from(to == To::Acceptor)];
            *count += 1;
            if *count == every {
                Fate::Cut
            } else {
                Fate::Pass
            }
        });
        let (done_a, done_b) = run_over((&a, &side_a), (&b, &side_b), network.links()).await;
        done_a.unwrap_or_else(|failure| panic!("every {every}: {failure:?}"));
        done_b.unwrap_or_else(|failure| panic!("every {every}: {failure:?}"));
        assert!(network.connections() >= 3, "{}", network.connections());
        assert_eq!(a.view(), view(&side_a, &side_b).without_hidden());
        let after = [&a, &b].map(remaining);
        for node in 0..2 {
            assert_eq!(
                before[node] - after[node],
                spent[node],
                "evaluations of node {node}"
            );
        }
    }
}

/// A run that breaks once at its fifth frame towards the acceptor, with somebody who changes frames of the second connection.
async fn resumed(
    mut meddle: impl FnMut(To, &Frame, u32) -> Fate + Send + 'static,
) -> (TestNode, Outcome) {
    let (a, side_a, b, side_b) = nodes(60);
    let mut seen = 0;
    let network = Network::new(1, move |to, frame, connection| {
        if connection == 0 && to == To::Acceptor && resumable(frame) {
            seen += 1;
            if seen == 3 {
                return Fate::Cut;
            }
        }
        meddle(to, frame, connection)
    });
    let outcome = run_over((&a, &side_a), (&b, &side_b), network.links()).await;
    (a, outcome)
}

fn fault(outcome: Outcome) -> String {
    let failure = outcome.1.expect_err("the acceptor refuses");
    assert_eq!(failure.side, FaultSide::Partner);
    let initiator = outcome.0.expect_err("the initiator is told");
    assert_eq!(initiator.error.reason(), Reason::PeerFault);
    failure
        .error
        .message()
        .split(':')
        .next()
        .unwrap()
        .to_owned()
}

fn with_payload(frame: &Frame, payload: Vec<u8>) -> Fate {
    Fate::Replace(Frame {
        payload: payload.into(),
        ..frame.clone()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn z05_a_resumption_that_is_not_signed_by_the_partner_is_refused() {
    for (byte, expected) in [
        (0, "WRONG_RUN"),
        (39, "SIGNATURE_INVALID"),
        (170, "SIGNATURE_INVALID"),
    ] {
        let (_, outcome) = resumed(move |to, frame, _| {
            if frame.kind != RESUME || to != To::Acceptor {
                return Fate::Pass;
            }
            let mut payload = frame.payload.to_vec();
            payload[byte] ^= 1;
            with_payload(frame, payload)
        })
        .await;
        assert_eq!(fault(outcome), expected, "byte {byte}");
    }
    let (_, outcome) = resumed(move |to, frame, _| match (frame.kind, to) {
        (RESUME, To::Acceptor) => with_payload(frame, frame.payload[1..].to_vec()),
        _ => Fate::Pass,
    })
    .await;
    assert_eq!(fault(outcome), "MALFORMED_PAYLOAD");
    // It is outside the numbering.
    let (_, outcome) = resumed(move |to, frame, _| match (frame.kind, to) {
        (RESUME, To::Acceptor) => Fate::Replace(Frame {
            sequence: 1,
            ..frame.clone()
        }),
        _ => Fate::Pass,
    })
    .await;
    assert_eq!(fault(outcome), "OUT_OF_ORDER");
    // Anything else in its place.
    let (_, outcome) = resumed(move |to, frame, _| match (frame.kind, to) {
        (RESUME, To::Acceptor) => Fate::Replace(Frame {
            flow: 1,
            kind: 16,
            sequence: 7,
            payload: vec![0; 8].into(),
        }),
        _ => Fate::Pass,
    })
    .await;
    assert_eq!(fault(outcome), "UNEXPECTED_FRAME");
}

/// The partner itself signs for counts and heads that were never true.
#[tokio::test(flavor = "multi_thread")]
async fn z05_a_resumption_at_a_point_that_was_never_reached_is_refused() {
    type Change = fn(&mut ResumeBody);
    let changes: [(&str, Change); 5] = [
        ("more received than was sent", |body| body.received += 1000),
        ("less received than was acknowledged", |body| {
            body.received = 0
        }),
        ("another transcript", |body| body.received_head[0] ^= 1),
        ("less sent than was received", |body| body.sent = 1),
        ("the largest counts", |body| {
            (body.received, body.sent) = (u64::MAX, u64::MAX)
        }),
    ];
    for (what, change) in changes {
        let signer = TestNode::new(1).signer;
        let (_, outcome) = resumed(move |to, frame, connection| {
            if frame.kind != RESUME || to != To::Acceptor {
                return Fate::Pass;
            }
            let mut body = ResumeBody::decode(&frame.payload).unwrap();
            change(&mut body);
            // As PROTOCOL.md §6.4 has it; the initiator's role is 0.
            let mut exporter = [1; 32];
            exporter[..4].copy_from_slice(&connection.to_be_bytes());
            body.signature = Signer::sign(
                &*signer,
                &derive(
                    "OVL1/resume",
                    &[
                        &body.session,
                        &[0],
                        &exporter,
                        &body.received.to_be_bytes(),
                        &body.received_head,
                        &body.sent.to_be_bytes(),
                        &body.sent_head,
                    ],
                ),
            );
            with_payload(frame, body.encode())
        })
        .await;
        assert_eq!(fault(outcome), "RESUME_INVALID", "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn z05_a_resumption_that_was_used_before_is_refused() {
    let used = Mutex::new(None);
    let mut seen = 0;
    let (_, outcome) = resumed(move |to, frame, connection| {
        if to != To::Acceptor || connection == 0 {
            return Fate::Pass;
        }
        if frame.kind != RESUME {
            seen += 1;
            // The second connection breaks as well.
            return if seen == 1 { Fate::Cut } else { Fate::Pass };
        }
        match used.lock().unwrap().replace(frame.clone()) {
            None => Fate::Pass,
            Some(old) => Fate::Replace(old),
        }
    })
    .await;
    assert_eq!(fault(outcome), "SIGNATURE_INVALID");
}

#[tokio::test(flavor = "multi_thread")]
async fn z05_an_acknowledgement_of_what_was_never_sent_is_refused() {
    let (_, outcome) = resumed(|to, frame, _| match (frame.kind, to) {
        (ACK, To::Acceptor) => {
            let received = AckBody::decode(&frame.payload).unwrap().received + 1000;
            with_payload(frame, AckBody { received }.encode())
        }
        _ => Fate::Pass,
    })
    .await;
    // The first acknowledgement may be of the initiator's last frames, when its own result is already in force.
    let refused = outcome.1.expect_err("the acceptor refuses");
    assert_eq!(refused.side, FaultSide::Partner);
    assert!(refused.error.message().starts_with("WRONG_COUNT"));
    if let Err(told) = outcome.0 {
        assert_eq!(told.error.reason(), Reason::PeerFault);
    }
}

/// The acceptor still talks over a connection that the initiator has given up, twice over: the newest one counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_newer_connection_takes_the_place_of_one_that_seems_to_live() {
    let (a, side_a, b, side_b) = nodes(60);
    let mut seen = 0;
    let network = Network::new(1, move |to, frame, connection| {
        if connection == 0 && to == To::Acceptor && resumable(frame) {
            seen += 1;
            if seen == 3 {
                return Fate::Cut;
            }
        }
        Fate::Pass
    })
    .half([1, 2]);
    let (done_a, done_b) = run_over((&a, &side_a), (&b, &side_b), network.links()).await;
    done_a.unwrap();
    done_b.unwrap();
    assert_eq!(network.connections(), 4);
    assert_right(&a, &side_a, &b, &side_b, "the fourth connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_that_does_not_come_back_is_not_waited_for_longer_than_configured() {
    let (mut a, side_a, mut b, side_b) = nodes(60);
    for node in [&mut a, &mut b] {
        node.settings.resume.patience = Duration::from_millis(700);
    }
    let (done_a, done_b) = run_over(
        (&a, &side_a),
        (&b, &side_b),
        Network::new(1, |_, _, _| Fate::Pass).links(),
    )
    .await;
    done_a.unwrap();
    done_b.unwrap();
    let before = (a.view(), b.view());
    let network = Network::new(2, |to, frame, _| {
        if to == To::Initiator && frame.kind == 19 {
            Fate::Cut
        } else {
            Fate::Pass
        }
    });
    let links = network.links();
    network.lose_acceptor();
    let outcome = run_over((&a, &side_a), (&b, &side_b), links).await;
    let expected = (Reason::DeadlineExceeded, FaultSide::Network);
    assert_eq!(reasons(outcome)[0], expected);
    assert_eq!((a.view(), b.view()), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_for_ever_ends_the_run() {
    let (mut a, side_a, mut b, side_b) = nodes(60);
    for node in [&mut a, &mut b] {
        node.settings.resume.reconnections = 5;
    }
    let network = Network::new(1, |to, frame, _| {
        if to == To::Initiator && frame.kind == 19 {
            Fate::Cut
        } else {
            Fate::Pass
        }
    });
    let outcome = run_over((&a, &side_a), (&b, &side_b), network.links()).await;
    let expected = (Reason::PartnerUnreachable, FaultSide::Network);
    assert_eq!(reasons(outcome)[0], expected);
    assert!(network.connections() <= 7, "{}", network.connections());
}

/// PROTOCOL.md §9: the count flow is never resumed.
#[tokio::test(flavor = "multi_thread")]
async fn the_count_flow_is_not_resumed() {
    for kind in 32..=35 {
        let (a, mut side_a, b, mut side_b) = nodes(60);
        for side in [&mut side_a, &mut side_b] {
            side.tiers.insert("Lead".to_owned(), Tier::Count);
            side.count_by_count = true;
        }
        // The acceptor still blinds its customers when the initiator's first frame of the flow is on its way.
        side_b.rows.extend((0..4_000).map(|number| {
            let keys = [email(1_000_000 + number)];
            row(&format!("many{number}"), "Deal", &keys)
        }));
        b.import(&side_b.rows);
        let network = Network::new(1, move |to, frame, _| {
            if to == To::Acceptor && frame.kind == kind {
                Fate::Cut
            } else {
                Fate::Pass
            }
        });
        // Neither waits for another connection, for which it would have 20 seconds: nor does an acceptor that comes to the count
        // flow without one, because the frame that was lost was the initiator's first.
        let run = run_over((&a, &side_a), (&b, &side_b), network.links());
        let outcome = tokio::time::timeout(Duration::from_secs(15), run)
            .await
            .unwrap_or_else(|_| panic!("kind {kind}: a side waits"));
        let expected = (Reason::PartnerUnreachable, FaultSide::Network);
        assert_eq!(reasons(outcome), [expected; 2], "kind {kind}");
        assert_eq!(network.connections(), 1);
    }
}

/// Time that does not pass costs nothing: a partner that computes for long says that it is there, one that says nothing is given
/// up.
#[tokio::test(flavor = "multi_thread")]
async fn silence_breaks_a_connection_and_the_run_goes_on_over_the_next() {
    let (mut a, side_a, mut b, side_b) = nodes(60);
    for node in [&mut a, &mut b] {
        node.settings.idle_s = 1;
    }
    // From its third frame on nothing arrives over the first connection, and nobody is told.
    let mut seen = 0;
    let network = Network::new(1, move |_, frame, connection| {
        seen += u32::from(resumable(frame));
        if connection == 0 && seen >= 3 {
            Fate::Drop
        } else {
            Fate::Pass
        }
    });
    let (done_a, done_b) = run_over((&a, &side_a), (&b, &side_b), network.links()).await;
    done_a.unwrap();
    done_b.unwrap();
    assert!(network.connections() >= 2);
    assert_right(&a, &side_a, &b, &side_b, "after silence");
}
