//! Z-09: a run that goes on over another connection is recorded as one, and both sides' recordings pass the audit.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod oracle;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    time::Duration,
};

use oracle::{
    Tier,
    audited::audited,
    harness::TestNode,
    world::{Dice, agreement, all, rows},
};
use overlap_proto::exchange::v1::Frame;
use overlap_server::{
    error::Error,
    matching::{
        driver::{Connection, Reconnect, Rejoined, RunLink, drive},
        failure::Failure,
        recording::RecordingRules,
    },
};
use tokio::sync::{mpsc, watch};

/// Both ends of a connection that breaks once so many frames have crossed it.
fn connection(exporter: u8, frames: usize) -> (Connection, Connection) {
    let (left, broken) = (
        Arc::new(AtomicUsize::new(frames)),
        watch::Sender::new(false),
    );
    let (one_out, from_one) = mpsc::channel(4);
    let (other_out, from_other) = mpsc::channel(4);
    let relay = |mut from: mpsc::Receiver<Frame>| {
        let (to, received) = mpsc::channel::<Result<Frame, Error>>(4);
        let (left, broken) = (Arc::clone(&left), broken.clone());
        tokio::spawn(async move {
            let mut breaks = broken.subscribe();
            loop {
                let frame = tokio::select! {
                    frame = from.recv() => frame,
                    _ = breaks.wait_for(|broken| *broken) => None,
                };
                let Some(frame) = frame else { return };
                let before = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                    left.checked_sub(1)
                });
                if before.is_err() {
                    broken.send_replace(true);
                    return;
                }
                if to.send(Ok(frame)).await.is_err() {
                    return;
                }
            }
        });
        received
    };
    let end = |incoming, outgoing| Connection {
        exporter: [exporter; 32],
        incoming,
        outgoing,
        ended: None,
    };
    let (at_other, at_one) = (relay(from_one), relay(from_other));
    (end(at_one, one_out), end(at_other, other_out))
}

/// A link that breaks after so many frames, and again after as many on the next connection; then it holds.
fn links(run: u8, frames: usize) -> (RunLink, RunLink, Arc<AtomicU8>) {
    let (first, first_there) = connection(run, frames);
    let (to_acceptor, rejoined) = mpsc::channel(1);
    let dialled = Arc::new(AtomicU8::new(0));
    let count = Arc::clone(&dialled);
    let dial = move || {
        let number = count.fetch_add(1, Ordering::SeqCst);
        let frames = if number == 0 { frames } else { usize::MAX };
        let (here, there) = connection(run + 100 + number, frames);
        let to_acceptor = to_acceptor.clone();
        Box::pin(async move {
            let gone = |_| Failure::mine(Error::internal("the acceptor is done"));
            let rejoin = to_acceptor.send(Rejoined::Connection(there)).await;
            rejoin.map(|()| here).map_err(gone)
        }) as _
    };
    let link = |initiator, connection: Connection, reconnect| RunLink {
        exporter: connection.exporter,
        initiator,
        run_id: [run; 16],
        incoming: connection.incoming,
        outgoing: connection.outgoing,
        reconnect,
    };
    (
        link(true, first, Reconnect::Dial(Box::new(dial))),
        link(false, first_there, Reconnect::Await(rejoined)),
        dialled,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn z09_a_run_over_several_connections_is_one_recording() {
    let mut dice = Dice::new(4);
    let (mut side_a, mut side_b) = (all(Tier::List), all(Tier::List));
    side_a.rows = rows(&mut dice, "a", 40, 40);
    side_b.rows = rows(&mut dice, "b", 40, 40);
    side_b.tiers.insert("Lead".to_owned(), Tier::Count);
    let mut resumed = 0;
    // The handshake takes four frames; a connection that breaks in it ends the run.
    for frames in 5..10 {
        let (mut a, mut b) = (TestNode::new(1), TestNode::new(2));
        for (node, side) in [(&mut a, &side_a), (&mut b, &side_b)] {
            node.import(&side.rows);
            node.settings.resume.patience = Duration::from_secs(5);
            node.settings.recording = Some(RecordingRules {
                max_bytes: 1 << 24,
                keep: 1,
            });
        }
        let (link_a, link_b, dialled) = links(1, frames);
        let (done_a, done_b) = tokio::join!(
            tokio::spawn(drive(a.run(&b, agreement(&side_a, &side_b)), link_a)),
            tokio::spawn(drive(b.run(&a, agreement(&side_b, &side_a)), link_b))
        );
        let (run_a, run_b) = (
            done_a.unwrap().unwrap().run_id,
            done_b.unwrap().unwrap().run_id,
        );
        assert_eq!(a.view(), oracle::view(&side_a, &side_b));
        resumed += usize::from(dialled.load(Ordering::SeqCst) > 1);
        for (node, partner, run) in [(&a, &b, &run_a), (&b, &a, &run_b)] {
            // What was sent twice counts once.
            audited(
                node,
                partner,
                run,
                "full",
                &format!("broken after {frames} frames"),
            );
        }
    }
    assert!(resumed > 0, "connections break twice in a run");
}
