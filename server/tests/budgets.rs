//! Z-10: what a partner may have of a node in an epoch, and what happens when the books about it are lost or rolled back.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod oracle;

use std::{collections::BTreeMap, fs, path::PathBuf};

use oracle::{
    Row, Side, Tier,
    harness::{PARTNERSHIP, TestNode, links, links_through, run_pair},
    world::{agreement, all, email, row},
};
use overlap_proto::exchange::v1::Frame;
use overlap_server::{
    error::Reason,
    identity::Vault,
    matching::{
        driver::{Completed, RunLink, drive},
        failure::{Failure, Side as FaultSide},
        keys,
    },
    storage::{FILE_NAME, Store},
};

type Outcome = (Result<Completed, Failure>, Result<Completed, Failure>);

/// What the first company asks, and what the second publishes.
const QUERIES: u64 = 60;
const TAGS: u64 = 160;

/// Rows with one e-mail address each.
fn people(prefix: &str, numbers: std::ops::Range<u64>) -> Vec<Row> {
    numbers
        .map(|number| {
            row(
                &format!("{prefix}{number:07}"),
                "Customer",
                &[email(number)],
            )
        })
        .collect()
}

/// Two listing companies; the first is smaller, so that it queries and the second evaluates.
struct Pair {
    a: TestNode,
    side_a: Side,
    b: TestNode,
    side_b: Side,
    runs: u8,
}

impl Pair {
    fn new() -> Self {
        let (mut side_a, mut side_b) = (all(Tier::List), all(Tier::List));
        side_a.rows = people("a", 0..QUERIES);
        side_b.rows = people("b", 30..30 + TAGS);
        let (a, b) = (TestNode::new(1), TestNode::new(2));
        a.import(&side_a.rows);
        b.import(&side_b.rows);
        Self {
            a,
            side_a,
            b,
            side_b,
            runs: 0,
        }
    }

    async fn run(&mut self) -> Outcome {
        self.runs += 1;
        run_pair((&self.a, &self.side_a), (&self.b, &self.side_b), self.runs).await
    }

    fn advance(&self, hours: i64) {
        for node in [&self.a, &self.b] {
            node.clock.advance(jiff::SignedDuration::from_hours(hours));
        }
    }

    async fn good_run(&mut self) {
        let (mine, theirs) = self.run().await;
        mine.unwrap();
        theirs.unwrap();
        assert_eq!(self.a.view(), oracle::view(&self.side_a, &self.side_b));
        assert_eq!(self.b.view(), oracle::view(&self.side_b, &self.side_a));
    }
}

fn details(failure: &Failure) -> BTreeMap<String, String> {
    failure.error.metadata().iter().cloned().collect()
}

fn figure(failure: &Failure, name: &str) -> u64 {
    details(failure)[name].parse().unwrap()
}

fn books(node: &TestNode) -> PathBuf {
    keys::directory(node.directory.path(), PARTNERSHIP)
}

fn epoch(node: &TestNode) -> u64 {
    let keys = keys::load(&books(node), &Vault::plain()).unwrap();
    keys.expect("an epoch is under way").epoch
}

fn alarms(node: &TestNode) -> Vec<String> {
    node.store
        .read_blocking(|connection| {
            let mut statement = connection
                .prepare("SELECT details FROM audit WHERE action = 'budget.rolled_back'")?;
            let found = statement.query_map([], |row| row.get(0))?;
            Ok(found.collect::<Result<Vec<String>, _>>()?)
        })
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn z10_tags_of_a_partner_have_a_budget() {
    let mut pair = Pair::new();
    pair.side_a.max_evaluations = 400;
    pair.good_run().await;
    pair.good_run().await;
    let before = pair.a.view();
    let (mine, theirs) = pair.run().await;
    let (mine, theirs) = (mine.unwrap_err(), theirs.unwrap_err());
    assert_eq!(mine.error.reason(), Reason::QuotaExhausted);
    assert_eq!(theirs.error.reason(), Reason::QuotaExhausted);
    assert_eq!(
        (mine.side, theirs.side),
        (FaultSide::Mine, FaultSide::Partner)
    );
    assert_eq!(details(&mine)["budget"], "tags");
    assert_eq!(figure(&mine, "limit"), 400);
    assert_eq!(figure(&mine, "used"), 2 * TAGS);
    assert_eq!(figure(&mine, "asked"), TAGS);
    // Thirty days after the first tag.
    assert_eq!(details(&mine)["window_end"], "2026-03-31T12:00:00Z");
    assert_eq!(pair.a.view(), before);
    pair.advance(30 * 24);
    pair.good_run().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn z10_queries_of_a_partner_have_a_budget() {
    let mut pair = Pair::new();
    pair.side_b.max_evaluations = TAGS;
    pair.good_run().await;
    pair.good_run().await;
    let (mine, theirs) = pair.run().await;
    assert_eq!(mine.unwrap_err().error.reason(), Reason::QuotaExhausted);
    let theirs = theirs.unwrap_err();
    assert_eq!(theirs.side, FaultSide::Mine);
    assert_eq!(details(&theirs)["budget"], "queries");
    assert_eq!(figure(&theirs, "limit"), TAGS);
    assert_eq!(figure(&theirs, "used"), 2 * QUERIES);
    assert_eq!(figure(&theirs, "asked"), QUERIES);
    assert_eq!(details(&theirs)["window_end"], "2026-03-31T12:00:00Z");
    pair.advance(30 * 24);
    pair.good_run().await;
}

/// The partner can end my epochs by changing its own stages, without anyone here approving.
#[tokio::test(flavor = "multi_thread")]
async fn z10_a_new_epoch_brings_no_new_budget() {
    let mut pair = Pair::new();
    pair.side_b.max_evaluations = TAGS;
    pair.good_run().await;
    pair.good_run().await;
    let before = epoch(&pair.b);
    pair.advance(1);
    pair.side_a.tiers.remove("Lost");
    let (mine, theirs) = pair.run().await;
    mine.unwrap_err();
    let theirs = theirs.unwrap_err();
    assert!(epoch(&pair.b) > before);
    assert_eq!(theirs.error.reason(), Reason::QuotaExhausted);
    assert_eq!(details(&theirs)["budget"], "queries");
    assert_eq!(figure(&theirs, "used"), 2 * QUERIES);
}

#[tokio::test(flavor = "multi_thread")]
async fn z10_a_partners_set_grows_within_bounds() {
    let mut pair = Pair::new();
    pair.good_run().await;
    // As many new keys as the floor allows, and one more.
    pair.side_b.rows = people("b", 30..30 + TAGS + 10_001);
    pair.b.import(&pair.side_b.rows);
    let view = pair.a.view();
    let (mine, theirs) = pair.run().await;
    let mine = mine.unwrap_err();
    assert_eq!(mine.error.reason(), Reason::QuotaExhausted);
    assert_eq!(theirs.unwrap_err().side, FaultSide::Partner);
    assert_eq!(details(&mine)["budget"], "growth");
    assert_eq!(figure(&mine, "limit"), TAGS + 10_000);
    assert_eq!(figure(&mine, "used"), TAGS);
    assert_eq!(figure(&mine, "asked"), TAGS + 10_001);
    assert_eq!(pair.a.view(), view);
    pair.side_b.rows.pop();
    pair.b.import(&pair.side_b.rows);
    pair.good_run().await;
}

/// Whoever has what the list flows give has had a run, whether or not it signs for it.
#[tokio::test(flavor = "multi_thread")]
async fn z10_a_run_that_is_broken_off_before_its_receipts_counts_for_the_interval() {
    let pair = Pair::new();
    let agreed = |mine: &Side, theirs: &Side| {
        let mut agreement = agreement(mine, theirs);
        agreement.mine.min_interval_s = 3600;
        agreement.theirs.min_interval_s = 3600;
        agreement
    };
    let run = async |links: (RunLink, RunLink)| {
        let run_a = pair.a.run(&pair.b, agreed(&pair.side_a, &pair.side_b));
        let run_b = pair.b.run(&pair.a, agreed(&pair.side_b, &pair.side_a));
        tokio::join!(drive(run_a, links.0), drive(run_b, links.1))
    };
    const RECEIPT: u32 = 4;
    let unless_receipt = |frame: Frame| (frame.kind != RECEIPT).then_some(frame);
    let (mine, theirs) = run(links_through(1, unless_receipt, unless_receipt)).await;
    for failed in [mine, theirs] {
        assert_eq!(failed.unwrap_err().side, FaultSide::Network);
    }
    let (mine, theirs) = run(links(2)).await;
    let reasons = [mine.unwrap_err(), theirs.unwrap_err()].map(|failure| failure.error.reason());
    assert_eq!(reasons, [Reason::RunTooSoon; 2]);
    pair.advance(1);
    let (mine, theirs) = run(links(3)).await;
    mine.unwrap();
    theirs.unwrap();
}

/// The ledger is gone, damaged, or an older copy of itself: the epoch ends, an alarm is raised, and the run goes on with new keys.
#[tokio::test(flavor = "multi_thread")]
async fn z10_a_lost_or_older_ledger_costs_the_epoch() {
    type Loss = fn(&std::path::Path, &[u8]);
    let losses: [(Loss, &str); 3] = [
        (|path, _| fs::remove_file(path).unwrap(), "missing"),
        (|path, older| fs::write(path, older).unwrap(), "older"),
        (
            |path, older| fs::write(path, vec![0; older.len()]).unwrap(),
            "damaged",
        ),
    ];
    let mut pair = Pair::new();
    for (lose, problem) in losses {
        pair.good_run().await;
        let path = books(&pair.b).join("ledger");
        let older = fs::read(&path).unwrap();
        pair.good_run().await;
        let (before, raised) = (epoch(&pair.b), alarms(&pair.b).len());
        lose(&path, &older);
        pair.good_run().await;
        assert!(epoch(&pair.b) > before, "{problem}");
        let alarms = alarms(&pair.b);
        assert_eq!(alarms.len(), raised + 1, "{problem}: {alarms:?}");
        assert!(alarms[raised].contains(problem), "{alarms:?}");
        // Once is enough.
        let now = epoch(&pair.b);
        pair.good_run().await;
        assert_eq!(epoch(&pair.b), now);
    }
    assert_eq!(alarms(&pair.a), [""; 0]);
}

/// The whole directory of epochs is gone, as after a restore that leaves it out.
#[tokio::test(flavor = "multi_thread")]
async fn z10_without_keys_and_ledger_a_new_epoch_begins() {
    let mut pair = Pair::new();
    pair.good_run().await;
    let before = epoch(&pair.b);
    fs::remove_dir_all(pair.b.directory.path().join("epochs")).unwrap();
    pair.good_run().await;
    assert!(epoch(&pair.b) > before, "the partner knows that one");
    assert_eq!(alarms(&pair.b).len(), 1);
}

/// An older copy of the database, the ledger being where it was: the ledger tells, and the partner's receipt tells.
#[tokio::test(flavor = "multi_thread")]
async fn z10_an_older_database_costs_the_epoch_and_the_next_run_is_right() {
    let mut pair = Pair::new();
    pair.good_run().await;
    let older = pair.b.directory.path().join("older.db");
    let copy = older.to_str().unwrap().to_owned();
    pair.b.store.read_blocking(|_| Ok(())).unwrap();
    rusqlite::Connection::open(pair.b.directory.path().join(FILE_NAME))
        .unwrap()
        .execute("VACUUM INTO ?1", [copy])
        .unwrap();
    pair.good_run().await;
    let before = epoch(&pair.b);

    // The node stops, is restored without its epochs being touched, and starts.
    let elsewhere = tempfile::tempdir().unwrap();
    pair.b.store = Store::open(elsewhere.path()).unwrap();
    let path = pair.b.directory.path().join(FILE_NAME);
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{suffix}", path.display()));
    }
    fs::rename(older, path).unwrap();
    pair.b.store = Store::open(pair.b.directory.path()).unwrap();

    let (mine, theirs) = pair.run().await;
    assert_eq!(
        theirs.unwrap_err().error.reason(),
        Reason::FailedPrecondition
    );
    assert_eq!(mine.unwrap_err().side, FaultSide::Partner);
    let raised = alarms(&pair.b);
    assert!(raised[0].contains("the database is older"), "{raised:?}");
    assert!(raised[1].contains("newer receipt"), "{raised:?}");
    assert_eq!(raised.len(), 2);
    // The partner's copy of the receipt is as good as the lost one.
    pair.good_run().await;
    assert!(epoch(&pair.b) > before);
    assert_eq!(alarms(&pair.b).len(), 2);
    // What the three good runs asked for stays debited, two epochs later.
    let (_, evaluations) = pair.b.evaluations_left(1_000);
    assert_eq!(evaluations, 1_000 - 3 * QUERIES);
}
