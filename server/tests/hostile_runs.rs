//! A partner that misuses the run stream, and a node that lost what it must not keep copies of: what breaks is a run or an epoch,
//! never the result in force nor the budget.

mod oracle;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex},
};

use oracle::{
    Tier,
    harness::{PARTNERSHIP, TestNode, check, links, links_through, run_over, run_pair},
    world::{Dice, agreement, all, rows},
};
use overlap_crypto::{fault::Fault, wire::FrameKind};
use overlap_proto::exchange::v1::Frame;
use overlap_server::{
    error::{Error, Reason},
    matching::{
        driver::drive,
        failure::Side,
        progress::RunState,
        recording::{self, RecordingRules},
        records::{self, RecordedFailure, RunRecord},
    },
};

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

/// PROTOCOL.md §6.4: "HELLO is frame 0 of flow 0". A recording of a run with another number would fail its audit.
#[tokio::test(flavor = "multi_thread")]
async fn z09_a_hello_with_another_number_is_out_of_order() {
    let (side_a, side_b) = sides();
    let (a, b) = (TestNode::new(1), TestNode::new(2));
    a.import(&side_a.rows);
    b.import(&side_b.rows);
    for (run, by_initiator) in [(1, true), (2, false)] {
        let aborts = Arc::new(Mutex::new(Vec::new()));
        let renumber = |renumbers: bool| {
            let aborts = Arc::clone(&aborts);
            move |mut frame: Frame| {
                if frame.kind == u32::from(FrameKind::Abort.code()) {
                    aborts.lock().unwrap().push(frame.payload.to_vec());
                }
                if renumbers && frame.kind == u32::from(FrameKind::Hello.code()) {
                    frame.sequence = 1;
                }
                Some(frame)
            }
        };
        let link = links_through(run, renumber(by_initiator), renumber(!by_initiator));
        let (done_a, done_b) = run_over((&a, &side_a), (&b, &side_b), link).await;
        let (refuses, told) = if by_initiator {
            (done_b, done_a)
        } else {
            (done_a, done_b)
        };
        let failure = refuses.unwrap_err();
        assert_eq!(failure.error.reason(), Reason::PeerFault);
        told.unwrap_err();
        let code = Fault::OutOfOrder.code().to_be_bytes();
        assert_eq!(*aborts.lock().unwrap(), [code.to_vec()]);
    }
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

/// Permissions that were withdrawn after a run read them, and before it was known: nothing of the customers leaves.
#[tokio::test(flavor = "multi_thread")]
async fn z06_a_run_discloses_nothing_under_permissions_that_are_no_longer_in_force() {
    let (side_a, side_b) = sides();
    let (a, b) = check(&side_a, &side_b).await;
    for withdrawn_by_initiator in [true, false] {
        let run_id = 2 + u8::from(withdrawn_by_initiator);
        let sent = Arc::new(Mutex::new(BTreeSet::new()));
        let note = |initiator: bool| {
            let sent = Arc::clone(&sent);
            move |frame: Frame| {
                sent.lock().unwrap().insert((initiator, frame.kind));
                Some(frame)
            }
        };
        let (link_a, link_b) = links_through(run_id, note(true), note(false));
        let mut run_a = a.run(&b, agreement(&side_a, &side_b));
        let mut run_b = b.run(&a, agreement(&side_b, &side_a));
        let withdrawn = if withdrawn_by_initiator {
            &mut run_a
        } else {
            &mut run_b
        };
        withdrawn.in_force = Arc::new(|_| Err(Error::new(Reason::TermsDiffer, "withdrawn")));
        let (done_a, done_b) = tokio::join!(drive(run_a, link_a), drive(run_b, link_b));
        let (mine, theirs) = if withdrawn_by_initiator {
            (done_a, done_b)
        } else {
            (done_b, done_a)
        };
        let failure = mine.unwrap_err();
        assert_eq!(
            (failure.error.reason(), failure.side),
            (Reason::TermsDiffer, Side::Mine)
        );
        theirs.unwrap_err();
        let sent: BTreeSet<u32> = sent
            .lock()
            .unwrap()
            .iter()
            .filter(|(initiator, _)| *initiator == withdrawn_by_initiator)
            .map(|(_, kind)| *kind)
            .collect();
        let greetings = [FrameKind::Hello, FrameKind::Confirm, FrameKind::Abort];
        assert_eq!(sent, greetings.map(|kind| kind.code().into()).into());
    }
}

/// Starting a run and dropping it costs a partner nothing: it must not be able to push out what tells of its good runs.
#[tokio::test(flavor = "multi_thread")]
async fn z09_recordings_of_good_runs_outlast_any_number_of_failed_ones() {
    let (side_a, side_b) = sides();
    let (mut a, mut b) = (TestNode::new(1), TestNode::new(2));
    for (node, side) in [(&mut a, &side_a), (&mut b, &side_b)] {
        node.import(&side.rows);
        node.settings.recording = Some(RecordingRules {
            max_bytes: 1 << 30,
            keep: 2,
        });
    }
    let path = |run: &str| recording::path(b.directory.path(), PARTNERSHIP, run);
    let all_paths = || {
        let folder = recording::directory(b.directory.path(), PARTNERSHIP);
        let files = std::fs::read_dir(folder).unwrap();
        files
            .map(|file| file.unwrap().path())
            .collect::<BTreeSet<PathBuf>>()
    };
    let good = async |number| {
        let (done_a, done_b) = run_pair((&a, &side_a), (&b, &side_b), number).await;
        done_a.unwrap();
        path(&done_b.unwrap().run_id)
    };
    let first = good(1).await;
    for number in 10..18 {
        let (link_a, link_b) = links(number);
        drop(link_a);
        drive(b.run(&a, agreement(&side_b, &side_a)), link_b)
            .await
            .unwrap_err();
    }
    let kept = all_paths();
    assert!(kept.contains(&first), "{kept:?}");
    assert_eq!(kept.len(), 1 + 3, "{kept:?}");
    // One that a stop cuts off is not finished at all.
    let (_waiting, link_b) = links(18);
    let cut = tokio::spawn(drive(b.run(&a, agreement(&side_b, &side_a)), link_b));
    while all_paths().is_subset(&kept) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    cut.abort();
    cut.await.unwrap_err();
    let (second, third) = (good(2).await, good(3).await);
    let kept = all_paths();
    assert!(kept.contains(&second) && kept.contains(&third), "{kept:?}");
    assert!(!kept.contains(&first), "{kept:?}");
}

/// A partner's attempts leave a bounded number of records, and none with a receipt goes.
#[test]
fn failed_runs_of_a_partner_are_forgotten_and_those_with_receipts_are_not() {
    let node = TestNode::new(1);
    let failure = RecordedFailure {
        reason: "PARTNER_UNREACHABLE".to_owned(),
        message: String::new(),
        side: Side::Network,
        details: BTreeMap::new(),
    };
    let remembered = node
        .store
        .write_blocking(|tx| {
            for number in 0..1_010_u32 {
                let id = format!("run_{number:05}");
                let started_at = jiff::Timestamp::from_second(number.into()).unwrap();
                records::insert(
                    tx,
                    &RunRecord {
                        id: id.clone(),
                        partnership_id: PARTNERSHIP.to_owned(),
                        state: RunState::Planned,
                        full: true,
                        initiated_here: number == 1,
                        request_id: None,
                        started_at,
                        ended_at: None,
                        failure: None,
                        summary: None,
                    },
                )?;
                records::fail(tx, &id, RunState::Failed, &failure, started_at)?;
            }
            let sql = "INSERT INTO matching_receipts (run_id, partnership_id, own, result_salt) VALUES ('run_00003', ?1, x'00', x'00')";
            tx.execute(sql, [PARTNERSHIP])?;
            records::forget_failed(tx, PARTNERSHIP)?;
            let mut statement = tx.prepare("SELECT id FROM matching_runs ORDER BY id LIMIT 4")?;
            let first = statement.query_map([], |row| row.get(0))?;
            let first = first.collect::<Result<Vec<String>, _>>()?;
            let count: u32 = tx.query_row("SELECT count(*) FROM matching_runs", [], |row| row.get(0))?;
            Ok((first, count))
        })
        .unwrap();
    // This node's own, the one with a receipt, and the newest thousand of the others: 0, 2, 4 to 9 are gone.
    let expected = ["run_00001", "run_00003", "run_00010", "run_00011"];
    assert_eq!(remembered, (expected.map(str::to_owned).to_vec(), 1_002));
}

/// `explain` and runs write identifiers below `runs/` alone: whatever a killed process left there is gone after the next start.
#[tokio::test(flavor = "multi_thread")]
async fn z01_what_a_killed_process_left_is_cleared_away_at_the_start() {
    let (side_a, side_b) = sides();
    let (a, _) = check(&side_a, &side_b).await;
    let kept = a.run_directories();
    let left = a.directory.path().join("runs/.tmpAbCdEf");
    std::fs::create_dir(&left).unwrap();
    std::fs::write(left.join("keys"), "anna@example.com").unwrap();
    overlap_server::matching::recover(&a.store, a.directory.path(), jiff::Timestamp::now())
        .unwrap();
    assert_eq!(a.run_directories(), kept);
}
