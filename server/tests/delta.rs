//! Delta runs end with the list result of a full run: against the independent oracle, through any sequence of changes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod oracle;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use overlap_crypto::wire::FrameKind;
use overlap_server::{
    error::Reason,
    matching::{
        driver::{DeltaRule, MergeRule, directory},
        keys,
    },
};

use oracle::{
    Side, Tier,
    harness::{PARTNERSHIP, TestNode, links_through, run_over, run_pair},
    view,
    world::{Dice, STAGES, all, domain, email, external, phone, row, rows, side},
};

/// Two companies and their nodes.
struct Pair {
    sides: [Side; 2],
    nodes: [TestNode; 2],
    runs: u8,
    /// Changes made so far.
    changes: u64,
}

impl Pair {
    fn new(a: Side, b: Side) -> Self {
        let mut nodes = [TestNode::new(1), TestNode::new(2)];
        for node in &mut nodes {
            node.settings.deltas = DeltaRule::Always;
        }
        let pair = Self {
            nodes,
            sides: [a, b],
            runs: 0,
            changes: 0,
        };
        pair.import();
        pair
    }

    fn import(&self) {
        for (node, side) in self.nodes.iter().zip(&self.sides) {
            node.import(&side.rows);
        }
    }

    /// Runs, started by the company `initiator`, and says whether it was a full run. Both nodes must show what the oracle says.
    async fn run(&mut self, initiator: usize) -> bool {
        self.runs += 1;
        let other = 1 - initiator;
        let (one, two) = run_pair(
            (&self.nodes[initiator], &self.sides[initiator]),
            (&self.nodes[other], &self.sides[other]),
            self.runs,
        )
        .await;
        let (one, two) = (one.expect("the initiator"), two.expect("the acceptor"));
        assert_eq!(one.full, two.full, "both ran alike");
        self.check();
        one.full
    }

    /// Both nodes show the lists that the oracle finds. (Report cells follow what was released before.)
    fn check(&self) {
        for (mine, theirs) in [(0, 1), (1, 0)] {
            let expected = view(&self.sides[mine], &self.sides[theirs]).without_hidden();
            let found = self.nodes[mine].view();
            assert_eq!(found.shared, expected.shared, "company {mine}");
            for (at, cell) in &expected.cells {
                if cell.0 == "LISTED" {
                    assert_eq!(found.cells.get(at), Some(cell), "company {mine} {at:?}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delta_run_finds_what_a_full_run_finds() {
    let mut dice = Dice::new(5);
    let (mut a, mut b) = (all(Tier::List), all(Tier::List));
    a.rows = rows(&mut dice, "a", 150, 120);
    b.rows = rows(&mut dice, "b", 150, 120);
    let mut pair = Pair::new(a, b);
    assert!(pair.run(0).await, "the first run is full");
    assert!(!pair.run(0).await, "nothing changed");
    assert!(!pair.run(1).await, "started by the other side");
    // A stage move, a customer that goes, one that comes, on either side.
    for side in &mut pair.sides {
        side.rows[3].stage = "Churned".to_owned();
        side.rows.remove(10);
        side.rows
            .push(row("z1", "Lead", &[email(1), email(2), external(3)]));
    }
    pair.import();
    assert!(!pair.run(0).await);
    // A full run on request, and a delta on top of it.
    pair.nodes[1].full = true;
    pair.sides[0].rows.remove(20);
    pair.import();
    assert!(pair.run(1).await, "the initiator wants a full run");
    assert!(pair.run(0).await, "the acceptor wants a full run");
    pair.nodes[1].full = false;
    pair.sides[1].rows.remove(21);
    pair.import();
    assert!(!pair.run(0).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_set_is_matched_in_full() {
    let mut dice = Dice::new(6);
    let (mut a, mut b) = (all(Tier::List), all(Tier::List));
    a.rows = rows(&mut dice, "a", 150, 120);
    b.rows = rows(&mut dice, "b", 150, 120);
    let mut pair = Pair::new(a, b);
    assert!(pair.run(0).await, "the first run is full");
    // 1,024 padded changes of either kind are more than both sets.
    for node in &mut pair.nodes {
        node.settings.deltas = DeltaRule::WhenSmaller;
    }
    pair.sides[0].rows.remove(3);
    pair.import();
    assert!(pair.run(0).await, "a delta run would not be smaller");
    // One side that prefers a full run is enough, whichever began it.
    pair.nodes[0].settings.deltas = DeltaRule::Always;
    pair.sides[1].rows.remove(4);
    pair.import();
    assert!(pair.run(0).await, "the acceptor prefers a full run");
    assert!(pair.run(1).await, "the initiator prefers a full run");
    pair.nodes[1].settings.deltas = DeltaRule::Always;
    assert!(!pair.run(0).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_larger_set_is_matched_by_its_changes() {
    let mut dice = Dice::new(7);
    let (mut a, mut b) = (all(Tier::List), all(Tier::List));
    a.rows = rows(&mut dice, "a", 4_000, 5_000);
    b.rows = rows(&mut dice, "b", 4_000, 5_000);
    let mut pair = Pair::new(a, b);
    for node in &mut pair.nodes {
        node.settings.deltas = DeltaRule::WhenSmaller;
    }
    assert!(pair.run(0).await, "the first run is full");
    pair.sides[0].rows.remove(3);
    pair.import();
    assert!(
        !pair.run(0).await,
        "3,072 padded changes are less than both sets"
    );
}

fn random_key(dice: &mut Dice, universe: u64) -> oracle::Key {
    let person = dice.below(universe);
    match dice.below(5) {
        0 => external(person),
        1 => phone(person),
        2 => domain(person),
        _ => email(person),
    }
}

/// One random change to a company's customers.
fn change(dice: &mut Dice, side: &mut Side, name: &str, number: u64, universe: u64) {
    let at = dice.below(side.rows.len() as u64) as usize;
    let stage = STAGES[dice.below(6) as usize].0;
    match dice.below(7) {
        0 => {
            let keys: Vec<_> = (0..dice.below(3))
                .map(|_| random_key(dice, universe))
                .collect();
            side.rows
                .push(row(&format!("{name}{number:05}n"), stage, &keys));
        }
        1 if side.rows.len() > 20 => {
            side.rows.remove(at);
        }
        2 => side.rows[at].private = !side.rows[at].private,
        3 => {
            side.rows[at].keys.insert(random_key(dice, universe));
        }
        4 => {
            side.rows[at].keys.pop_first();
        }
        // A key of another row: the two become one customer, or part again.
        5 => {
            let other = dice.below(side.rows.len() as u64) as usize;
            let keys = side.rows[other].keys.clone();
            side.rows[at].keys.extend(keys);
        }
        _ => side.rows[at].stage = stage.to_owned(),
    }
}

fn random_pair(dice: &mut Dice) -> Pair {
    let mut sides = [side(), side()];
    for (side, name) in sides.iter_mut().zip(["a", "b"]) {
        side.rows = rows(dice, name, 60, 50);
        for (stage, _) in STAGES {
            let tier = [Tier::Hidden, Tier::Count, Tier::List, Tier::List][dice.below(4) as usize];
            side.tiers.insert(stage.to_owned(), tier);
        }
        side.tiers.insert("Prospect".to_owned(), Tier::List);
        side.min_count = 1 + dice.below(3);
    }
    // A key on exactly as many rows as may share one: it turns ambiguous and back.
    for number in 0..32 {
        let name = format!("a{number:05}amb");
        sides[0].rows.push(row(&name, "Prospect", &[domain(999)]));
    }
    sides[1].rows.push(row("bamb", "Prospect", &[domain(999)]));
    let [a, b] = sides;
    Pair::new(a, b)
}

/// Any sequence of changes, in any mixture of tiers, run after run, started by either side.
#[tokio::test(flavor = "multi_thread")]
async fn any_sequence_of_changes_gives_what_full_runs_give() {
    let mut deltas = 0;
    for seed in 0..12 {
        let mut dice = Dice::new(900 + seed);
        let mut pair = random_pair(&mut dice);
        pair.run(0).await;
        for step in 0..5 {
            for (number, name) in ["a", "b"].into_iter().enumerate() {
                for i in 0..dice.below(9) {
                    change(&mut dice, &mut pair.sides[number], name, step * 10 + i, 50);
                }
            }
            if dice.chance(20) {
                // A row more on the key that stands on as many as may be, or one less.
                let extra = "a99999amb";
                let rows = &mut pair.sides[0].rows;
                let before = rows.len();
                rows.retain(|row| row.id != extra);
                if rows.len() == before {
                    rows.push(row(extra, "Prospect", &[domain(999)]));
                }
            }
            if dice.chance(15) {
                pair.nodes[0].full = true;
            }
            pair.import();
            let initiator = dice.below(2) as usize;
            let full = pair.run(initiator).await;
            assert_eq!(full, pair.nodes[0].full, "seed {seed} step {step}");
            deltas += u32::from(!full);
            pair.nodes[0].full = false;
        }
    }
    assert!(deltas > 30, "most runs are deltas: {deltas}");
}

fn listed_pair(seed: u64) -> Pair {
    let mut dice = Dice::new(seed);
    let (mut a, mut b) = (all(Tier::List), all(Tier::List));
    // Both query, so that both flows run.
    a.tiers.insert("Lost".to_owned(), Tier::Count);
    b.tiers.insert("Lost".to_owned(), Tier::Count);
    a.rows = rows(&mut dice, "a", 80, 70);
    b.rows = rows(&mut dice, "b", 80, 70);
    Pair::new(a, b)
}

/// Some customers of either side change.
fn change_some(pair: &mut Pair, seed: u64) {
    let mut dice = Dice::new(seed);
    for (number, name) in ["a", "b"].into_iter().enumerate() {
        for _ in 0..6 {
            pair.changes += 1;
            let id = pair.changes;
            change(&mut dice, &mut pair.sides[number], name, id, 70);
        }
    }
    pair.import();
}

/// The directory of the result in force.
fn result(node: &TestNode) -> PathBuf {
    let result = node.result().expect("a result is in force");
    directory(node.directory.path(), &result.directory)
}

/// The files of the state that the result in force keeps.
fn state(node: &TestNode) -> PathBuf {
    result(node).join("epoch")
}

/// The names of a directory's files.
fn files(directory: &Path) -> Vec<String> {
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    files.sort();
    files
}

/// Damages a byte in the middle of a file.
fn damage(path: &Path, alignment: usize, bit: u8) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = bytes.len() / 2;
    bytes[at - at % alignment] ^= bit;
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

fn state_keys(node: &TestNode) -> usize {
    let epochs = keys::directory(node.directory.path(), PARTNERSHIP);
    std::fs::read_dir(epochs)
        .unwrap()
        .filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_str().unwrap().starts_with("state-")
        })
        .count()
}

/// Waits until the work of a run that broke off has let go of the budget ledger.
fn await_ledger(node: &TestNode) {
    let path = keys::directory(node.directory.path(), PARTNERSHIP).join("ledger.lock");
    for _ in 0..1_000 {
        match std::fs::File::open(&path).map(|file| file.try_lock()) {
            Ok(Err(_)) => std::thread::sleep(std::time::Duration::from_millis(10)),
            _ => return,
        }
    }
    panic!("the ledger stays locked");
}

/// A delta run that breaks off anywhere leaves result and state as they were; the next one goes on from them.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_delta_run_leaves_the_last_result_and_the_next_is_a_delta() {
    let mut pair = listed_pair(41);
    pair.run(0).await;
    for (round, cut) in [1, 3, 5, 7, 9, 11, 13].into_iter().enumerate() {
        let before = [pair.nodes[0].view(), pair.nodes[1].view()];
        change_some(&mut pair, 100 + round as u64);
        let frames = Arc::new(AtomicU32::new(0));
        let relay = |frames: Arc<AtomicU32>| {
            move |frame| (frames.fetch_add(1, Ordering::Relaxed) < cut).then_some(frame)
        };
        pair.runs += 1;
        let links = links_through(pair.runs, relay(Arc::clone(&frames)), relay(frames));
        let (one, two) = run_over(
            (&pair.nodes[0], &pair.sides[0]),
            (&pair.nodes[1], &pair.sides[1]),
            links,
        )
        .await;
        assert!(one.is_err() && two.is_err(), "cut after {cut} frames");
        for node in &pair.nodes {
            await_ledger(node);
        }
        let after = [pair.nodes[0].view(), pair.nodes[1].view()];
        assert_eq!(before, after, "the last result stays");
        assert!(!pair.run(round % 2).await, "cut after {cut} frames");
    }
}

/// If only one side completed a run, the two no longer go on from the same: the next run is full, without a failure.
#[tokio::test(flavor = "multi_thread")]
async fn sides_that_do_not_go_on_from_the_same_run_run_in_full() {
    let mut pair = listed_pair(42);
    pair.run(0).await;
    change_some(&mut pair, 200);
    // The initiator's receipt never arrives.
    pair.runs += 1;
    let keep = |frame: overlap_proto::exchange::v1::Frame| {
        (frame.kind != u32::from(FrameKind::Receipt.code())).then_some(frame)
    };
    let (one, two) = run_over(
        (&pair.nodes[0], &pair.sides[0]),
        (&pair.nodes[1], &pair.sides[1]),
        links_through(pair.runs, keep, Some),
    )
    .await;
    assert!(two.is_err(), "the acceptor misses a receipt");
    drop(one);
    assert!(pair.run(1).await);
    // The initiator's result may have been on its way into force when the link ended, and come in between: then once more.
    assert!(!pair.run(0).await || !pair.run(0).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_side_without_its_state_or_its_key_makes_the_run_full() {
    for side in [0, 1] {
        for initiator in [0, 1] {
            let mut pair = listed_pair(43);
            pair.run(0).await;
            change_some(&mut pair, 300);
            std::fs::remove_dir_all(state(&pair.nodes[side])).unwrap();
            assert!(pair.run(initiator).await, "without state at {side}");
            assert!(!pair.run(initiator).await);
            assert_eq!(state_keys(&pair.nodes[side]), 1);
            // The epoch ends: so does what its runs kept.
            change_some(&mut pair, 301);
            let epochs = keys::directory(pair.nodes[side].directory.path(), PARTNERSHIP);
            keys::destroy(&epochs).unwrap();
            assert_eq!(state_keys(&pair.nodes[side]), 0);
            assert!(pair.run(initiator).await, "without keys at {side}");
            assert!(!pair.run(1 - initiator).await);
        }
    }
}

/// Whatever file is damaged, the worst is one failed run, and then everything is matched again.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_state_leads_to_a_full_run() {
    let mut pair = listed_pair(44);
    pair.run(0).await;
    let files = files(&state(&pair.nodes[0]));
    assert!(files.len() > 8, "{files:?}");
    for (round, file) in files.iter().enumerate() {
        change_some(&mut pair, 400 + round as u64);
        damage(&state(&pair.nodes[0]).join(file), 1, 1);
        pair.runs += 1;
        let (one, two) = run_pair(
            (&pair.nodes[0], &pair.sides[0]),
            (&pair.nodes[1], &pair.sides[1]),
            pair.runs,
        )
        .await;
        match (one, two) {
            // A file that this run did not need to read.
            (Ok(_), Ok(_)) => pair.check(),
            _ => assert!(pair.run(1).await, "{file:?}"),
        }
    }
}

/// Whatever file of the last result is damaged, a full run does without it. (Offsets and numbers are whole words: the top bit of
/// one leads far beyond its file.)
#[tokio::test(flavor = "multi_thread")]
async fn a_full_run_does_without_a_damaged_result() {
    let mut pair = listed_pair(48);
    pair.run(0).await;
    change_some(&mut pair, 700);
    // With a layer over the base.
    assert!(!pair.run(0).await);
    let files = files(&result(&pair.nodes[0]));
    assert_eq!(files.len(), 9, "{files:?}");
    for (round, file) in files.iter().enumerate() {
        change_some(&mut pair, 701 + round as u64);
        pair.nodes[0].full = false;
        pair.run(0).await;
        damage(&result(&pair.nodes[0]).join(file), 8, 0x80);
        pair.nodes[0].full = true;
        assert!(pair.run(round % 2).await, "{file}");
    }
}

/// A delta run that makes a new base finds whatever is damaged in the old one, and everything is matched again.
#[tokio::test(flavor = "multi_thread")]
async fn no_damage_goes_into_a_new_base() {
    let mut pair = listed_pair(49);
    let always = MergeRule {
        part: u64::MAX,
        least: 0,
    };
    pair.nodes[0].settings.merges = always;
    pair.run(0).await;
    let files = files(&result(&pair.nodes[0]));
    assert_eq!(files.len(), 8, "{files:?}");
    for (round, file) in files.iter().enumerate() {
        change_some(&mut pair, 800 + round as u64);
        assert!(!pair.run(0).await, "{file}");
        let before = pair.nodes[1].view();
        change_some(&mut pair, 850 + round as u64);
        damage(&result(&pair.nodes[0]).join(file), 1, 1);
        pair.runs += 1;
        let (one, two) = run_pair(
            (&pair.nodes[0], &pair.sides[0]),
            (&pair.nodes[1], &pair.sides[1]),
            pair.runs,
        )
        .await;
        let reason = one.unwrap_err().error.reason();
        assert!(
            matches!(reason, Reason::StorageFailed | Reason::Internal),
            "{file}: {reason:?}"
        );
        assert!(two.is_err(), "{file}");
        assert_eq!(pair.nodes[1].view(), before, "the last result stays");
        assert!(pair.run(1).await, "{file}");
    }
}

/// The last result lies where no link can lead to: a delta run copies what it would link.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn without_hard_links_a_delta_run_copies() {
    for merges in [
        MergeRule::default(),
        MergeRule {
            part: u64::MAX,
            least: 0,
        },
    ] {
        let mut pair = listed_pair(50);
        pair.run(0).await;
        for round in 0..2 {
            let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
            pair.nodes[0].settings.merges = merges;
            let here = result(&pair.nodes[0]);
            let there = elsewhere.path().join("result");
            std::fs::create_dir_all(there.join("epoch")).unwrap();
            for file in files(&here) {
                std::fs::copy(here.join(&file), there.join(&file)).unwrap();
            }
            for file in files(&here.join("epoch")) {
                let file = Path::new("epoch").join(file);
                std::fs::copy(here.join(&file), there.join(&file)).unwrap();
            }
            std::fs::remove_dir_all(&here).unwrap();
            std::os::unix::fs::symlink(&there, &here).unwrap();
            let refused = std::fs::hard_link(
                there.join("columns"),
                pair.nodes[0].directory.path().join("columns"),
            );
            let refused = refused.expect_err("/dev/shm is another file system").kind();
            assert_eq!(refused, std::io::ErrorKind::CrossesDevices);
            change_some(&mut pair, 900 + round);
            assert!(!pair.run(0).await, "round {round}");
        }
    }
}

/// Other terms make the run full: a wider policy as well as a narrower one.
#[tokio::test(flavor = "multi_thread")]
async fn other_terms_make_the_run_full() {
    let mut pair = listed_pair(45);
    pair.run(0).await;
    for (tier, name) in [(Tier::List, "wider"), (Tier::Hidden, "narrower")] {
        change_some(&mut pair, 500);
        pair.sides[1].tiers.insert("Lost".to_owned(), tier);
        assert!(pair.run(0).await, "{name}");
        change_some(&mut pair, 501);
        assert!(!pair.run(1).await, "{name}");
    }
}

/// The count flow is never a delta.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_with_a_count_flow_is_full() {
    let mut pair = listed_pair(46);
    for side in &mut pair.sides {
        side.count_by_count = true;
    }
    assert!(pair.run(0).await);
    assert!(pair.run(0).await);
}

/// What a delta run shows of the number of changes: the same frames of the same sizes, whether nothing changed or some
/// customers did. Claims alone follow the matches.
#[tokio::test(flavor = "multi_thread")]
async fn few_changes_look_like_none() {
    let mut pair = listed_pair(47);
    pair.run(0).await;
    let mut seen = Vec::new();
    for round in 0..3 {
        if round > 0 {
            change_some(&mut pair, 600 + round);
        }
        let frames = Arc::new(Mutex::new(Vec::new()));
        let watch = |direction: u8| {
            let frames = Arc::clone(&frames);
            move |frame: overlap_proto::exchange::v1::Frame| {
                let kind = FrameKind::from_code(frame.kind).unwrap();
                // Every frame whose size says something of the customers but not of matches.
                if matches!(
                    kind,
                    FrameKind::Query | FrameKind::Evaluation | FrameKind::Commitments
                ) {
                    let line = (direction, frame.flow, frame.kind, frame.payload.len());
                    frames.lock().unwrap().push(line);
                }
                Some(frame)
            }
        };
        pair.runs += 1;
        let links = links_through(pair.runs, watch(0), watch(1));
        let (one, two) = run_over(
            (&pair.nodes[0], &pair.sides[0]),
            (&pair.nodes[1], &pair.sides[1]),
            links,
        )
        .await;
        assert!(!one.unwrap().full && !two.unwrap().full);
        pair.check();
        let mut frames = frames.lock().unwrap().clone();
        frames.sort_unstable();
        let queries: Vec<_> = frames
            .iter()
            .filter(|(_, _, kind, _)| *kind == u32::from(FrameKind::Query.code()))
            .map(|(_, _, _, bytes)| (bytes - 8) / 32)
            .collect();
        // One side queries both its tiers, the other its count tier.
        assert_eq!(queries.iter().sum::<usize>(), 3 * 1_024);
        seen.push(frames);
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:?}");
}
