//! Two stores, two drivers, real cryptography, and a link in memory.

use std::{
    path::PathBuf,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU32, Ordering},
    },
};

use overlap_crypto::{backend::Backend, signature::Signer};
use overlap_proto::exchange::v1::Frame;
use overlap_server::{
    clock::{Clock, MockClock},
    customers::normalize::{NORMALIZER_VERSION, SUFFIX_LIST_VERSION},
    error::Error,
    matching::{
        compute::Pool,
        driver::{
            Completed, DeltaRule, MergeRule, Parties, Reconnect, ReleaseIntervals, ResumeLimits,
            Run, RunLink, RunSettings, directory, drive,
        },
        failure::Failure,
        keys,
        ledger::{Budget, Ledger},
        local_customers::SnapshotLimits,
        progress::Meter,
        records::{self, ResultRecord},
        terms::KeyRules,
    },
    overlap::reader::{Filter, ResultSet},
    sharing::policy::Agreement,
    storage::Store,
};
use ring::signature::Ed25519KeyPair;
use tokio::sync::{mpsc, watch};

use super::{Row, SharedCustomer, Side, Type, View, world};

/// One pool for all tests of a binary.
pub static POOL: LazyLock<Pool> = LazyLock::new(|| Pool::new(2).unwrap());

/// Runs so far: a node's records may outlive the value that stands for it.
static RUNS: AtomicU32 = AtomicU32::new(0);

pub struct TestNode {
    pub directory: tempfile::TempDir,
    pub store: Store,
    pub signer: Arc<Ed25519KeyPair>,
    pub clock: MockClock,
    pub settings: RunSettings,
    /// Whether the node's runs match everything again.
    pub full: bool,
    pub pool: Pool,
}

/// The partnership's id on either node.
pub const PARTNERSHIP: &str = "prt_test";

impl TestNode {
    /// The epoch, and what is left of a budget of evaluations.
    pub fn evaluations_left(&self, budget: u64) -> (u64, u64) {
        let directory = keys::directory(self.directory.path(), PARTNERSHIP);
        let now = self.clock.now();
        let mut ledger = Ledger::open(&directory, &self.store, PARTNERSHIP, now).unwrap();
        ledger.begin(None, budget, 0).unwrap();
        (ledger.least_epoch(), ledger.remaining(Budget::Queries))
    }

    /// An empty node; nodes with different numbers are different organisations.
    pub fn new(number: u8) -> Self {
        Self::open(number, tempfile::tempdir().unwrap())
    }

    /// A node in a directory of one's own.
    pub fn open(number: u8, directory: tempfile::TempDir) -> Self {
        Self {
            store: Store::open(directory.path()).unwrap(),
            directory,
            signer: Arc::new(Ed25519KeyPair::from_seed_unchecked(&[number; 32]).unwrap()),
            clock: MockClock::new("2026-03-01T12:00:00Z".parse().unwrap()),
            settings: RunSettings {
                limits: SnapshotLimits {
                    max_keys: 1 << 22,
                    sort_bytes: 32 << 20,
                },
                handshake_s: 120,
                idle_s: 120,
                max_duration_s: 3600,
                resume: ResumeLimits::default(),
                releases: ReleaseIntervals::default(),
                backend: Backend::detect(),
                rules: KeyRules {
                    normaliser_version: NORMALIZER_VERSION,
                    suffix_list: SUFFIX_LIST_VERSION.to_owned(),
                },
                max_growth_percent: 100,
                deltas: DeltaRule::default(),
                merges: MergeRule::default(),
                recording: None,
            },
            full: false,
            pool: POOL.clone(),
        }
    }

    pub fn import(&self, rows: &[Row]) {
        if !rows.is_empty() {
            self.import_csv(&world::csv(rows));
        }
    }

    pub fn import_csv(&self, file: &str) {
        world::import(&self.store, &self.clock, file);
    }

    pub fn run(&self, partner: &Self, agreement: Agreement) -> Run {
        Run {
            store: self.store.clone(),
            node_directory: self.directory.path().to_owned(),
            vault: Arc::new(overlap_server::identity::Vault::plain()),
            clock: Arc::new(self.clock.clone()),
            pool: self.pool.clone(),
            settings: Arc::new(self.settings.clone()),
            parties: Parties {
                signer: self.signer.clone(),
                partner_key: Signer::public_key(&*partner.signer),
            },
            partnership_id: PARTNERSHIP.to_owned(),
            record_id: format!("run_{}", RUNS.fetch_add(1, Ordering::Relaxed)),
            full: self.full,
            agreement,
            meter: Arc::new(Meter::new()),
            cancel: watch::Sender::new(false).subscribe(),
            in_force: Arc::new(|_| Ok(())),
        }
    }

    pub fn result(&self) -> Option<ResultRecord> {
        self.store
            .read_blocking(|connection| records::result(connection, PARTNERSHIP))
            .unwrap()
    }

    pub fn open_result(&self) -> (ResultRecord, ResultSet) {
        let record = self.result().expect("a result is in force");
        let path = directory(self.directory.path(), &record.directory);
        let result = ResultSet::open(&path, &record.manifest).unwrap();
        (record, result)
    }

    /// What this node shows, in the oracle's form.
    pub fn view(&self) -> View {
        let (record, result) = self.open_result();
        let matrix = &record.matrix;
        let cells = matrix
            .cells
            .iter()
            .enumerate()
            .map(|(index, cell)| {
                let columns = matrix.theirs.len();
                let at = (
                    matrix.mine[index / columns].id.clone(),
                    matrix.theirs[index % columns].id.clone(),
                );
                (at, (cell.state.name(), cell.count))
            })
            .collect();
        let page = result
            .page(&Filter::default(), 0, usize::MAX, None)
            .unwrap();
        assert_eq!(page.total, page.customers.len() as u64);
        assert!(
            page.customers.is_sorted_by(|a, b| a.id < b.id),
            "the list is sorted by id"
        );
        let mut shared: Vec<SharedCustomer> = page
            .customers
            .into_iter()
            .map(|found| SharedCustomer {
                id: found.id,
                ids: found.ids.into_iter().collect(),
                mine: matrix.mine[usize::from(found.column.mine)].id.clone(),
                theirs: matrix.theirs[usize::from(found.column.theirs)].id.clone(),
                matched_on: found
                    .column
                    .key_types
                    .iter()
                    .map(|key_type| match key_type.code() {
                        1 => Type::ExternalId,
                        2 => Type::Email,
                        3 => Type::Phone,
                        _ => Type::Domain,
                    })
                    .collect(),
                mutual: found.column.mutual,
            })
            .collect();
        shared.sort();
        View {
            cells,
            shared,
            shared_customers: matrix.shared_customers(),
        }
    }

    pub fn run_directories(&self) -> Vec<PathBuf> {
        match std::fs::read_dir(self.directory.path().join("runs")) {
            Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
            Err(_) => Vec::new(),
        }
    }
}

/// Both ends of a link in memory; `run` names the run.
pub fn links(run: u8) -> (RunLink, RunLink) {
    links_through(run, Some, Some)
}

/// [`links`] with somebody in between: `to_acceptor` and `to_initiator` see every frame, and end the link by keeping it.
pub fn links_through(
    run: u8,
    to_acceptor: impl FnMut(Frame) -> Option<Frame> + Send + 'static,
    to_initiator: impl FnMut(Frame) -> Option<Frame> + Send + 'static,
) -> (RunLink, RunLink) {
    let (initiator_out, from_initiator) = mpsc::channel(4);
    let (acceptor_out, from_acceptor) = mpsc::channel(4);
    let at_acceptor = relay(from_initiator, to_acceptor);
    let at_initiator = relay(from_acceptor, to_initiator);
    let link = |initiator, incoming, outgoing| RunLink {
        exporter: [run; 32],
        initiator,
        run_id: [run; 16],
        incoming,
        outgoing,
        reconnect: Reconnect::Never,
    };
    (
        link(true, at_initiator, initiator_out),
        link(false, at_acceptor, acceptor_out),
    )
}

fn relay(
    mut frames: mpsc::Receiver<Frame>,
    mut through: impl FnMut(Frame) -> Option<Frame> + Send + 'static,
) -> mpsc::Receiver<Result<Frame, Error>> {
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        while let Some(frame) = frames.recv().await {
            let Some(frame) = through(frame) else { break };
            if sender.send(Ok(frame)).await.is_err() {
                break;
            }
        }
    });
    receiver
}

/// A run between two nodes under two sides' policies.
pub async fn run_pair(
    (a, side_a): (&TestNode, &Side),
    (b, side_b): (&TestNode, &Side),
    run: u8,
) -> (Result<Completed, Failure>, Result<Completed, Failure>) {
    run_over((a, side_a), (b, side_b), links(run)).await
}

/// [`run_pair`] over a link of one's own.
pub async fn run_over(
    (a, side_a): (&TestNode, &Side),
    (b, side_b): (&TestNode, &Side),
    (link_a, link_b): (RunLink, RunLink),
) -> (Result<Completed, Failure>, Result<Completed, Failure>) {
    let run_a = a.run(b, world::agreement(side_a, side_b));
    let run_b = b.run(a, world::agreement(side_b, side_a));
    let (done_a, done_b) = tokio::join!(
        tokio::spawn(drive(run_a, link_a)),
        tokio::spawn(drive(run_b, link_b))
    );
    (
        done_a.expect("a run does not panic"),
        done_b.expect("a run does not panic"),
    )
}

/// Imports both sides' rows, runs, and compares what each node shows with what the oracle says.
pub async fn check(side_a: &Side, side_b: &Side) -> (TestNode, TestNode) {
    let (a, b) = (TestNode::new(1), TestNode::new(2));
    a.import(&side_a.rows);
    b.import(&side_b.rows);
    let (done_a, done_b) = run_pair((&a, side_a), (&b, side_b), 1).await;
    done_a.expect("the initiator's run");
    done_b.expect("the acceptor's run");
    let (mine, theirs) = (super::view(side_a, side_b), super::view(side_b, side_a));
    assert_eq!(a.view(), mine.without_hidden(), "the initiator's view");
    assert_eq!(b.view(), theirs.without_hidden(), "the acceptor's view");
    (a, b)
}

impl TestNode {
    /// The node's time, in seconds.
    pub fn clock_now(&self) -> i64 {
        self.clock.now().as_second()
    }
}
