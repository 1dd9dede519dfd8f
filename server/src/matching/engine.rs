//! The runs of a node: one at a time per partnership, started by either side.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use overlap_crypto::{context::OrganizationId, signature::Signer};
use rusqlite::{Connection, Transaction};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    compute::Pool,
    driver::{self, Parties, ReleaseIntervals, Run, RunLink, RunSettings},
    failure::{Failure, Side, abort},
    keys,
    local_customers::SnapshotLimits,
    progress::{Meter, Progress, RunState},
    records::{self, RecordedFailure, RunRecord},
    terms::KeyRules,
};
use crate::{
    audit,
    customers::normalize::{NORMALIZER_VERSION, SUFFIX_LIST_VERSION},
    error::{Error, Reason},
    exchange::{self, Link},
    identity::new_id,
    node::Node,
    partnership::{self, Partnership},
    sharing::policy::{Agreement, active_agreement},
};

/// Bytes of a sorter's buffer.
const SORT_BYTES: usize = 32 << 20;
/// How long the partner may take to read its customers.
const HANDSHAKE_S: u64 = 15 * 60;
/// How long a run that gave way waits for the one that it gave way to.
const YIELD_PATIENCE: Duration = Duration::from_secs(10);

/// The runs under way on this node.
#[derive(Default)]
pub struct Engine {
    pool: OnceLock<Pool>,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
    settings: Mutex<Option<RunSettings>>,
}

/// A run under way.
struct Slot {
    run_id: String,
    meter: Arc<Meter>,
    cancel: watch::Sender<bool>,
    ended: watch::Sender<bool>,
    /// Takes the partner's run in place of this one, while this one may still give way.
    adopt: Option<mpsc::Sender<Adoption>>,
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
        Ok(RunSettings {
            limits: SnapshotLimits {
                max_keys: node.config.limits.max_set_size,
                sort_bytes: SORT_BYTES,
            },
            handshake_s: HANDSHAKE_S,
            idle_s: node.config.limits.idle_timeout.duration().as_secs(),
            releases: ReleaseIntervals::default(),
            backend: node
                .config
                .engine()
                .map_err(|problem| Error::new(Reason::ConfigInvalid, problem))?,
            rules: KeyRules {
                normaliser_version: NORMALIZER_VERSION,
                suffix_list: SUFFIX_LIST_VERSION.to_owned(),
            },
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

/// What a caller asks for.
#[derive(Clone, Debug, Default)]
pub struct StartRequest {
    /// Partnership id or organisation.
    pub partner: String,
    /// Match everything again.
    pub full: bool,
    /// What the caller names its request; empty for none.
    pub request_id: String,
    /// Who asks, for the audit log.
    pub actor: String,
}

/// Starts a run, or returns the one under way, or the one that the same request began.
///
/// # Errors
/// `NOT_FOUND`, `PARTNERSHIP_NOT_CONNECTED`, `SHARING_NOT_ACTIVE`, `NO_KEYS_AGREED`, `RUN_TOO_SOON`,
/// `PARTNER_HAS_NO_ENDPOINT`; what the store reports.
pub async fn start(node: &Arc<Node>, request: StartRequest) -> Result<RunRecord, Error> {
    let there = Arc::clone(node);
    let (record, started) = crate::storage::blocking(move || begin(&there, &request)).await?;
    if let Some((slot, adoptions, partnership, run)) = started {
        let (node, run_id) = (Arc::clone(node), record.id.clone());
        tokio::spawn(async move {
            let outcome = initiate(&node, &slot, adoptions, &partnership, run).await;
            end(
                &node,
                &partnership.id,
                &run_id,
                &slot,
                outcome.as_ref().err(),
            )
            .await;
        });
    }
    Ok(record)
}

type Started = (Arc<Slot>, mpsc::Receiver<Adoption>, Partnership, Run);

fn begin(node: &Arc<Node>, request: &StartRequest) -> Result<(RunRecord, Option<Started>), Error> {
    let (partnership, agreement, result) = node.store.read_blocking(|connection| {
        let partnership = partnership::connected(connection, &request.partner)?;
        if !request.request_id.is_empty()
            && let Some(run) =
                records::by_request(connection, &partnership.id, &request.request_id)?
        {
            return Ok((partnership, None, Some(run)));
        }
        let agreement = active_agreement(connection, &partnership.id)?;
        Ok((partnership, Some(agreement), None))
    })?;
    let Some(agreement) = agreement else {
        let run = result.ok_or_else(|| Error::internal("neither an agreement nor a run"))?;
        return Ok((run, None));
    };
    let run_id = new_id("run")?;
    let (sender, adoptions) = mpsc::channel(1);
    let slot = match claim(node, &partnership.id, &run_id, Some(sender)) {
        Ok(slot) => slot,
        Err(other) => {
            let run = node
                .store
                .read_blocking(|connection| records::get(connection, &other.run_id))?;
            return Ok((run, None));
        }
    };
    let record = prepare(node, &partnership, &agreement, &slot, request);
    match record {
        Ok((record, run)) => Ok((record, Some((slot, adoptions, partnership, run)))),
        Err(error) => {
            release(node, &partnership.id, &slot);
            Err(error)
        }
    }
}

/// Checks what can be checked before the partner is called, and stores the run.
fn prepare(
    node: &Arc<Node>,
    partnership: &Partnership,
    agreement: &Agreement,
    slot: &Slot,
    request: &StartRequest,
) -> Result<(RunRecord, Run), Error> {
    partnership.reachable()?;
    let run = new_run(node, partnership, agreement.clone(), slot)?;
    super::terms::RunTerms::new(
        agreement,
        run.parties.me(),
        run.parties.partner(),
        &run.settings.rules,
    )?;
    let record = RunRecord {
        id: slot.run_id.clone(),
        partnership_id: partnership.id.clone(),
        state: RunState::Planned,
        full: true,
        initiated_here: true,
        request_id: (!request.request_id.is_empty()).then(|| request.request_id.clone()),
        started_at: node.now(),
        ended_at: None,
        failure: None,
        summary: None,
    };
    node.store.write_blocking(|tx| {
        refuse_too_soon(tx, node, &partnership.id, agreement)?;
        records::insert(tx, &record)?;
        audit::record(
            tx,
            node.now(),
            &request.actor,
            "run.started",
            Some(&partnership.id),
            &[("run", &record.id)],
        )
    })?;
    Ok((record, run))
}

/// Takes the partnership's slot, or says who has it.
fn claim(
    node: &Node,
    partnership_id: &str,
    run_id: &str,
    adopt: Option<mpsc::Sender<Adoption>>,
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
    if least_s == 0 || passed_s >= i64::from(least_s) {
        return Ok(());
    }
    Err(Error::new(
        Reason::RunTooSoon,
        format!(
            "the last run ended {passed_s} s ago and the permissions ask for {least_s} s between two: wait {} s",
            i64::from(least_s) - passed_s
        ),
    )
    .with("retry_after_s", i64::from(least_s) - passed_s))
}

fn run_link(link: Link) -> RunLink {
    RunLink {
        exporter: link.exporter,
        initiator: link.initiator,
        run_id: link.run_id,
        incoming: link.incoming,
        outgoing: link.outgoing,
    }
}

/// Runs what this side started. If the partner started at the same time, the run of the lower organisation id goes on.
async fn initiate(
    node: &Arc<Node>,
    slot: &Slot,
    mut adoptions: mpsc::Receiver<Adoption>,
    partnership: &Partnership,
    run: Run,
) -> Result<(), Failure> {
    let mine = run.clone();
    let own = async move {
        let link = exchange::open_run(node, partnership)
            .await
            .map_err(Failure::link)?;
        driver::drive(mine, run_link(link)).await
    };
    // Dropping the attempt that gives way ends its stream.
    let outcome = tokio::select! {
        biased;
        Some(adoption) = adoptions.recv() => Err(adoption),
        outcome = own => Ok(outcome),
    };
    let failure = match outcome {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(failure)) => failure,
        Err(adoption) => return adopt(node, slot, run, adoption).await,
    };
    let may_give_way = failure.error.reason() == Reason::RunUnderWay
        && failure.side == Side::Partner
        && !wins(node, partnership);
    if !may_give_way {
        return Err(failure);
    }
    match tokio::time::timeout(YIELD_PATIENCE, adoptions.recv()).await {
        Ok(Some(adoption)) => adopt(node, slot, run, adoption).await,
        _ => Err(failure),
    }
}

/// Goes on with the partner's run under the record of mine.
async fn adopt(
    node: &Arc<Node>,
    slot: &Slot,
    run: Run,
    (link, told): Adoption,
) -> Result<(), Failure> {
    let run_id = slot.run_id.clone();
    node.store
        .write(move |tx| records::give_way(tx, &run_id))
        .await?;
    let outcome = driver::drive(run, run_link(link)).await;
    let result = outcome
        .as_ref()
        .map(|_| ())
        .map_err(|failure| failure.error.clone());
    // The stream may be gone.
    let _ = told.send(result);
    outcome.map(|_| ())
}

/// Whether my run goes on if both sides start at once.
fn wins(node: &Node, partnership: &Partnership) -> bool {
    OrganizationId::of_key(&node.identity.organization_key())
        < OrganizationId::of_key(&partnership.organization_key)
}

/// Answers a run that a partner's node opened.
///
/// # Errors
/// Why the run failed; the partner is told the reason alone.
pub async fn accept_run(node: Arc<Node>, link: Link) -> Result<(), Error> {
    let partnership = link.partnership.clone();
    let run_id = new_id("run")?;
    let slot = match claim(&node, &partnership.id, &run_id, None) {
        Ok(slot) => slot,
        Err(other) => return meet(&node, &partnership, &other, link).await,
    };
    let (there, with) = (Arc::clone(&node), partnership.clone());
    let claimed = Arc::clone(&slot);
    let begun = crate::storage::blocking(move || accept(&there, &with, &claimed)).await;
    let run = match begun {
        Ok(run) => run,
        Err(error) => {
            release(&node, &partnership.id, &slot);
            let failure = Failure::mine(error);
            if let Some(code) = failure.abort {
                driver::refuse(&link.outgoing, code).await;
            }
            return Err(failure.error);
        }
    };
    let outcome = driver::drive(run, run_link(link)).await;
    end(
        &node,
        &partnership.id,
        &run_id,
        &slot,
        outcome.as_ref().err(),
    )
    .await;
    outcome.map(|_| ()).map_err(|failure| failure.error)
}

/// Stores a run that the partner opened.
fn accept(node: &Arc<Node>, partnership: &Partnership, slot: &Slot) -> Result<Run, Error> {
    let agreement = node
        .store
        .read_blocking(|connection| active_agreement(connection, &partnership.id))?;
    let run = new_run(node, partnership, agreement.clone(), slot)?;
    node.store.write_blocking(|tx| {
        refuse_too_soon(tx, node, &partnership.id, &agreement)?;
        records::insert(
            tx,
            &RunRecord {
                id: slot.run_id.clone(),
                partnership_id: partnership.id.clone(),
                state: RunState::Planned,
                full: true,
                initiated_here: false,
                request_id: None,
                started_at: node.now(),
                ended_at: None,
                failure: None,
                summary: None,
            },
        )
    })?;
    Ok(run)
}

/// The partner opens a run while one is under way: the only one that gives way is mine, before its session, to a winner.
async fn meet(
    node: &Arc<Node>,
    partnership: &Partnership,
    slot: &Slot,
    link: Link,
) -> Result<(), Error> {
    let early = slot.meter.progress().state <= RunState::Handshake;
    if let Some(adopt) = slot
        .adopt
        .as_ref()
        .filter(|_| early && !wins(node, partnership))
    {
        let (told, outcome) = oneshot::channel();
        match adopt.try_send((link, told)) {
            Ok(()) => {
                return outcome.await.unwrap_or_else(|_| {
                    Err(Error::new(Reason::RunUnderWay, "another run is under way"))
                });
            }
            Err(
                mpsc::error::TrySendError::Full((link, _))
                | mpsc::error::TrySendError::Closed((link, _)),
            ) => {
                return refuse(link).await;
            }
        }
    }
    refuse(link).await
}

async fn refuse(link: Link) -> Result<(), Error> {
    driver::refuse(&link.outgoing, abort::RUN_UNDER_WAY).await;
    Err(Error::new(
        Reason::RunUnderWay,
        "another run of this partnership is under way",
    ))
}

/// Records how a run ended and frees the partnership for the next. A good run is recorded with its result.
async fn end(
    node: &Arc<Node>,
    partnership_id: &str,
    run_id: &str,
    slot: &Slot,
    failure: Option<&Failure>,
) {
    if let Some(failure) = failure {
        let state = if failure.error.reason() == Reason::Cancelled {
            RunState::Cancelled
        } else {
            RunState::Failed
        };
        let recorded = RecordedFailure::from(failure);
        let (id, now) = (run_id.to_owned(), node.now());
        let stored = node
            .store
            .write(move |tx| records::fail(tx, &id, state, &recorded, now))
            .await;
        // The connection may break, or somebody cancel, just when the result comes into force: then the run is done.
        let done = matches!(stored, Ok(false));
        if !done {
            tracing::warn!(
                run = run_id,
                partnership = partnership_id,
                reason = failure.error.reason().name(),
                side = failure.side.name(),
                message = failure.error.message(),
                "a run failed; the last good result stays"
            );
        }
        if let Err(error) = stored {
            tracing::error!(run = run_id, %error, "a run's end could not be stored");
        }
        slot.meter
            .enter(if done { RunState::Done } else { state }, 0);
    }
    release(node, partnership_id, slot);
}

/// Clears away what a stopped process left: runs that never ended, and files that belong to no result.
///
/// # Errors
/// What the store reports.
pub fn recover(
    store: &crate::storage::Store,
    directory: &Path,
    now: jiff::Timestamp,
) -> Result<(), Error> {
    let kept = store.write_blocking(|tx| {
        records::fail_abandoned(tx, now)?;
        records::directories(tx)
    })?;
    let Ok(entries) = std::fs::read_dir(directory.join("runs")) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_str().is_none_or(|name| !kept.contains(name)) {
            remove_directory(&entry.path());
        }
    }
    Ok(())
}

fn remove_directory(path: &PathBuf) {
    if let Err(error) = std::fs::remove_dir_all(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %path.display(), "a run's files could not be removed");
    }
}

/// Removes everything derived from a partner's customers, and ends the epoch: for tightened or revoked permissions (Z-06).
/// What was released in reports is remembered, so that thresholds hold across a new agreement. The files go once the
/// transaction has been committed, so that one that fails leaves the result whole.
///
/// # Errors
/// What the store or the file system reports.
pub fn remove_derived_results(
    tx: &Transaction<'_>,
    store: &crate::storage::Store,
    node_directory: &Path,
    partnership_id: &str,
) -> Result<(), Error> {
    if let Some(result) = records::result(tx, partnership_id)? {
        let path = driver::directory(node_directory, &result.directory);
        let (store, name) = (store.clone(), result.directory);
        std::thread::spawn(move || {
            // The store has one writer: this waits for the transaction to end. A node that stops before clears up at its next start.
            match store.write_blocking(|tx| records::directories(tx)) {
                Ok(kept) if kept.contains(&name) => {}
                Ok(_) => remove_directory(&path),
                Err(error) => tracing::warn!(%error, "a result's files could not be removed"),
            }
        });
    }
    records::remove_derived(tx, partnership_id)?;
    keys::destroy(&keys::directory(node_directory, partnership_id))
}
