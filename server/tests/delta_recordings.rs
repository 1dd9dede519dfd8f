//! Z-09: recordings of delta runs pass the audit, also where one side asked for a delta run and the other for a full one.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod oracle;

use oracle::{
    Side, Tier,
    audited::audited,
    harness::{TestNode, run_pair},
    world::{Dice, all, rows},
};
use overlap_server::matching::{driver::DeltaRule, recording::RecordingRules};

/// Runs, checks both recordings, and says whether the run was full.
async fn recorded(nodes: &[TestNode; 2], sides: &[Side; 2], run: u8) -> bool {
    for (node, side) in nodes.iter().zip(sides) {
        node.import(&side.rows);
    }
    let (one, other) = run_pair((&nodes[0], &sides[0]), (&nodes[1], &sides[1]), run).await;
    let done = [one.unwrap(), other.unwrap()];
    assert_eq!(nodes[0].view(), oracle::view(&sides[0], &sides[1]));
    let mode = if done[0].full { "full" } else { "changes" };
    for at in [0, 1] {
        let (node, partner, id) = (&nodes[at], &nodes[1 - at], &done[at].run_id);
        let checked = audited(node, partner, id, mode, &format!("run {run}, company {at}"));
        assert!(checked.chunks > 0 && checked.slices > 0);
    }
    done[0].full
}

#[tokio::test(flavor = "multi_thread")]
async fn z09_recordings_of_delta_runs_pass_the_audit() {
    let mut dice = Dice::new(8);
    let mut sides = [all(Tier::List), all(Tier::List)];
    sides[0].rows = rows(&mut dice, "a", 60, 60);
    sides[1].rows = rows(&mut dice, "b", 60, 60);
    let mut nodes = [TestNode::new(1), TestNode::new(2)];
    for node in &mut nodes {
        node.settings.deltas = DeltaRule::Always;
        node.settings.recording = Some(RecordingRules {
            max_bytes: 1 << 24,
            keep: 4,
        });
    }
    assert!(recorded(&nodes, &sides, 1).await, "the first run is full");
    sides[0].rows.remove(7);
    "Churned".clone_into(&mut sides[1].rows[3].stage);
    assert!(!recorded(&nodes, &sides, 2).await, "a delta run");
    // The initiator says hello twice.
    nodes[1].full = true;
    sides[1].rows.remove(9);
    assert!(
        recorded(&nodes, &sides, 3).await,
        "the acceptor wants a full run"
    );
}
