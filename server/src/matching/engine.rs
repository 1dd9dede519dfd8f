//! The runs of a node: one at a time per partnership, started by either side.

mod accept;
mod end;
mod initiate;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use overlap_crypto::signature::Signer;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    compute::Pool,
    driver::{
        self, Completed, DeltaRule, MergeRule, Parties, Reconnect, Rejoined, ReleaseIntervals,
        ResumeLimits, Run, RunLink, RunSettings, Tail,
    },
    failure::Failure,
    ledger,
    local_customers::SnapshotLimits,
    progress::{Meter, Progress},
    recording::RecordingRules,
    records,
    terms::KeyRules,
};
use crate::{
    config::Span,
    customers::normalize::{NORMALIZER_VERSION, SUFFIX_LIST_VERSION},
    error::{Error, Reason},
    exchange::Link,
    node::Node,
    partnership::{self, Partnership},
    sharing::policy::{Agreement, active_agreement},
};

pub use accept::accept_run;
pub use end::{recover, remove_derived_results};
pub use initiate::{StartRequest, restart_interrupted, start};

/// Bytes of a sorter's buffer.
const SORT_BYTES: usize = 16 << 20;
/// How long the partner may take to read its customers.
const HANDSHAKE_S: u64 = 15 * 60;
/// How long a run that gave way waits for the one that it gave way to.
const YIELD_PATIENCE: Duration = Duration::from_secs(10);
/// Longest spans of time that a configuration can bring about.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// The runs under way on this node.
#[derive(Default)]
pub struct Engine {
    pool: OnceLock<Pool>,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
    settings: Mutex<Option<RunSettings>>,
    /// Runs of partners' whose result is in force here, and whose last frames the partner may need again; by partnership.
    tails: Mutex<HashMap<String, Rejoin>>,
    /// The last run of a partner's that failed here, and the code for a partner that wants to go on with it; by partnership.
    given_up: Mutex<HashMap<String, ([u8; 16], u16)>>,
}

/// A run under way.
struct Slot {
    run_id: String,
    meter: Arc<Meter>,
    cancel: watch::Sender<bool>,
    ended: watch::Sender<bool>,
    /// Takes the partner's run in place of this one, while this one may still give way.
    adopt: Option<mpsc::Sender<Adoption>>,
    /// Takes the partner's further connections, if it opened the run.
    rejoin: Mutex<Option<Rejoin>>,
}

/// Where a run that the partner opened takes further connections.
#[derive(Clone)]
struct Rejoin {
    /// The run, as the partner named it.
    run: [u8; 16],
    connections: mpsc::Sender<Rejoined>,
}

impl Rejoin {
    /// For a run of this name, and the run's end of it.
    fn new(run: [u8; 16]) -> (Self, Reconnect) {
        let (connections, rejoined) = mpsc::channel(4);
        (Self { run, connections }, Reconnect::Await(rejoined))
    }
}

/// The partner's run, which takes the place of mine, and where its outcome is told.
type Adoption = (Link, oneshot::Sender<Result<(), Error>>);

impl Engine {
    /// Uses other settings than the configuration's: for tests.
    pub fn set_settings(&self, settings: RunSettings) {
        *lock(&self.settings) = Some(settings);
    }

    /// The run under way with a partner, and how far it is.
    #[must_use]
    pub fn progress(&self, run_id: &str) -> Option<Progress> {
        lock(&self.slots)
            .values()
            .find(|slot| slot.run_id == run_id)
            .map(|slot| slot.meter.progress())
    }

    /// Follows a run under way: its progress, and when it has ended.
    #[must_use]
    pub fn watch(
        &self,
        run_id: &str,
    ) -> Option<(watch::Receiver<Progress>, watch::Receiver<bool>)> {
        lock(&self.slots)
            .values()
            .find(|slot| slot.run_id == run_id)
            .map(|slot| (slot.meter.watch(), slot.ended.subscribe()))
    }

    /// Asks a run under way to stop. `false` if there is none of that id.
    pub fn cancel(&self, run_id: &str) -> bool {
        let slots = lock(&self.slots);
        let slot = slots.values().find(|slot| slot.run_id == run_id);
        if let Some(slot) = slot {
            slot.cancel.send_replace(true);
        }
        slot.is_some()
    }

    /// Asks the run under way with a partner to stop: its terms are no longer in force.
    pub fn cancel_with(&self, partnership_id: &str) {
        if let Some(slot) = lock(&self.slots).get(partnership_id) {
            slot.cancel.send_replace(true);
        }
    }

    fn pool(&self) -> Result<Pool, Error> {
        if let Some(pool) = self.pool.get() {
            return Ok(pool.clone());
        }
        let pool = Pool::new(0)?;
        Ok(self.pool.get_or_init(|| pool).clone())
    }

    /// What a snapshot of the node's customers may hold.
    ///
    /// # Errors
    /// `CONFIG_INVALID`.
    pub fn limits(&self, node: &Node) -> Result<SnapshotLimits, Error> {
        Ok(self.settings(node)?.limits)
    }

    fn settings(&self, node: &Node) -> Result<RunSettings, Error> {
        if let Some(settings) = &*lock(&self.settings) {
            return Ok(settings.clone());
        }
        let limits = &node.config.limits;
        let span = |configured: Span| configured.duration().min(LONGEST);
        Ok(RunSettings {
            limits: SnapshotLimits {
                max_keys: limits.max_set_size,
                sort_bytes: SORT_BYTES,
            },
            handshake_s: HANDSHAKE_S,
            idle_s: span(limits.idle_timeout).as_secs().max(1),
            max_duration_s: span(limits.run_timeout).as_secs(),
            resume: ResumeLimits {
                patience: span(limits.resume_timeout),
                reconnections: limits.max_reconnections,
            },
            releases: ReleaseIntervals::default(),
            backend: node
                .config
                .engine()
                .map_err(|problem| Error::new(Reason::ConfigInvalid, problem))?,
            rules: KeyRules {
                normaliser_version: NORMALIZER_VERSION,
                suffix_list: SUFFIX_LIST_VERSION.to_owned(),
            },
            max_growth_percent: node.config.matching.max_growth_percent,
            deltas: DeltaRule::default(),
            merges: MergeRule::default(),
            recording: node
                .config
                .matching
                .record_frames
                .then_some(RecordingRules {
                    max_bytes: node.config.matching.max_recording_bytes,
                    keep: node.config.matching.keep_recordings,
                }),
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Signs with the node's organisation key.
struct NodeSigner(Arc<Node>);

impl Signer for NodeSigner {
    fn public_key(&self) -> [u8; 32] {
        self.0.identity.organization_key()
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.identity.sign(message)
    }
}

/// Takes the partnership's slot, or says who has it.
fn claim(
    node: &Node,
    partnership_id: &str,
    run_id: &str,
    adopt: Option<mpsc::Sender<Adoption>>,
    rejoin: Option<Rejoin>,
) -> Result<Arc<Slot>, Arc<Slot>> {
    let mut slots = lock(&node.matching.slots);
    if let Some(slot) = slots.get(partnership_id) {
        return Err(Arc::clone(slot));
    }
    let slot = Arc::new(Slot {
        run_id: run_id.to_owned(),
        meter: Arc::new(Meter::new()),
        cancel: watch::Sender::new(false),
        ended: watch::Sender::new(false),
        adopt,
        rejoin: Mutex::new(rejoin),
    });
    slots.insert(partnership_id.to_owned(), Arc::clone(&slot));
    Ok(slot)
}

fn release(node: &Node, partnership_id: &str, slot: &Slot) {
    lock(&node.matching.slots).remove(partnership_id);
    slot.ended.send_replace(true);
}

fn new_run(
    node: &Arc<Node>,
    partnership: &Partnership,
    agreement: Agreement,
    slot: &Slot,
    full: bool,
) -> Result<Run, Error> {
    let there = Arc::clone(node);
    let (id, agreed) = (partnership.id.clone(), agreement.clone());
    Ok(Run {
        store: node.store.clone(),
        node_directory: node.directory.clone(),
        vault: Arc::clone(&node.vault),
        clock: Arc::clone(&node.clock),
        pool: node.matching.pool()?,
        settings: Arc::new(node.matching.settings(node)?),
        parties: Parties {
            signer: Arc::new(NodeSigner(there)),
            partner_key: partnership.organization_key,
        },
        partnership_id: partnership.id.clone(),
        record_id: slot.run_id.clone(),
        full,
        agreement,
        meter: Arc::clone(&slot.meter),
        cancel: slot.cancel.subscribe(),
        in_force: Arc::new(move |connection| still_agreed(connection, &id, &agreed)),
    })
}

/// A result may only come into force while the terms it was made under are.
fn still_agreed(
    connection: &Connection,
    partnership_id: &str,
    agreed: &Agreement,
) -> Result<(), Error> {
    partnership::connected(connection, partnership_id)?;
    if active_agreement(connection, partnership_id)? == *agreed {
        return Ok(());
    }
    Err(Error::new(
        Reason::TermsDiffer,
        "the sharing permissions changed during the run: run again",
    ))
}

/// "Least seconds between two runs": the longer of both sides' counts.
fn refuse_too_soon(
    connection: &Connection,
    node: &Node,
    partnership_id: &str,
    agreement: &Agreement,
) -> Result<(), Error> {
    let least_s = agreement
        .mine
        .min_interval_s
        .max(agreement.theirs.min_interval_s);
    let Some(last) = records::result(connection, partnership_id)? else {
        return Ok(());
    };
    let passed_s = node.now().as_second() - last.completed_at.as_second();
    ledger::refuse_too_soon(passed_s, least_s.into())
}

fn run_link(link: Link, reconnect: Reconnect) -> RunLink {
    RunLink {
        exporter: link.exporter,
        initiator: link.initiator,
        run_id: link.run_id,
        incoming: link.incoming,
        outgoing: link.outgoing,
        reconnect,
    }
}

/// Drives a run until its result is in force; a node that stops ends it when calls under way have had their time.
async fn drive(node: &Node, run: Run, link: RunLink) -> Result<(Completed, Tail), Failure> {
    tokio::select! {
        biased;
        outcome = driver::drive_to_result(run, link) => outcome,
        () = stopped(node) => Err(Failure::mine(stopping())),
    }
}

/// Resolves when the node stops and calls under way have had their time.
async fn stopped(node: &Node) {
    node.stopping().await;
    tokio::time::sleep(node.config.limits.drain_timeout.duration()).await;
}

fn stopping() -> Error {
    Error::new(Reason::NodeStopping, "this node is stopping")
}
