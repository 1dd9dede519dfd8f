//! Drives one run over a link, from the hello to the receipt.
//!
//! The asynchronous part moves frames and keeps order; curve arithmetic, hashing, sorting and files are work for the
//! [`Pool`]. Both list flows run side by side on the one stream. Windows bound what is in flight, so that neither node ever
//! waits for the other to read while the other waits for it.

mod count;
mod delta;
mod evaluator;
mod finish;
mod handshake;
mod prepare;
mod receiver;
mod reports;
mod resume;
mod sets;
mod wire;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use jiff::Timestamp;
use overlap_crypto::{
    backend::Backend, context::OrganizationId, fault::Fault, handshake::Session, list::Label,
    plan::Role, report::SERIES_INTERVAL_S, session::ListPhase, signature::Signer,
};
use overlap_proto::exchange::v1::Frame;
use tokio::sync::{mpsc, watch};

use super::{
    bits::Bits,
    compute::Pool,
    delta::keeper::Keeper,
    failure::Failure,
    local_customers::{KeyRef, SnapshotLimits},
    progress::{Meter, RunState},
    recording::{Recorder, RecordingRules},
    spool::{Sorter, disk, new_directory, sync_directory},
    terms::KeyRules,
};
use crate::{
    clock::Clock,
    error::{Error, Reason},
    identity::Vault,
    overlap::graph::Edge,
    sharing::policy::Agreement,
    storage::Store,
};

pub use finish::Completed;
pub use resume::{Connection, Dial, Reconnect, Rejoined, ResumeLimits};

pub(crate) use resume::persist;

/// Chunks in flight per list flow: what a node has queried and not yet been answered.
const WINDOW: usize = 4;
/// How long a run whose connection ended looks for the reason.
const REASON_PATIENCE: Duration = Duration::from_secs(1);

/// One run's stream: mutually authenticated, in order, with back-pressure.
pub struct RunLink {
    /// The connection's TLS exporter, the same on both sides.
    pub exporter: [u8; 32],
    /// Whether this side opened it.
    pub initiator: bool,
    /// The run, as the initiator named it.
    pub run_id: [u8; 16],
    /// The partner's frames; the end, or one error and then the end.
    pub incoming: mpsc::Receiver<Result<Frame, Error>>,
    /// Frames for the partner.
    pub outgoing: mpsc::Sender<Frame>,
    /// Where another connection comes from if this one breaks.
    pub reconnect: Reconnect,
}

impl RunLink {
    fn role(&self) -> Role {
        if self.initiator {
            Role::Initiator
        } else {
            Role::Acceptor
        }
    }
}

/// How often counts are released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleaseIntervals {
    /// Least seconds between two releases of one cell.
    pub cell_s: u64,
    /// Least seconds between the starts of two series.
    pub series_s: u64,
}

impl Default for ReleaseIntervals {
    fn default() -> Self {
        Self {
            cell_s: 7 * 24 * 3600,
            series_s: SERIES_INTERVAL_S,
        }
    }
}

/// When a run matches changes only, if it can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeltaRule {
    /// When that is less than matching everything: changes are padded, so that for a small set it is not.
    #[default]
    WhenSmaller,
    /// Whatever the size of the set.
    Always,
}

/// When what delta runs changed, and laid beside files that stay as they are, is merged into them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergeRule {
    /// When it is more than one in so many of what stays.
    pub part: u64,
    /// And more than this.
    pub least: u64,
}

impl Default for MergeRule {
    fn default() -> Self {
        Self {
            part: 8,
            least: 4096,
        }
    }
}

impl MergeRule {
    /// Whether so much beside a base of so much is to be merged into it.
    const fn merges(self, (changed, base): (u64, u64)) -> bool {
        changed > self.least && changed > base / self.part
    }
}

/// How a node runs.
#[derive(Clone, Debug)]
pub struct RunSettings {
    /// What a snapshot may hold.
    pub limits: SnapshotLimits,
    /// How long the partner may take to read its customers and answer the hello.
    pub handshake_s: u64,
    /// How long the partner may be silent: after a quarter of it each side says that it is there.
    pub idle_s: u64,
    /// How long a run may take.
    pub max_duration_s: u64,
    /// What is done about a connection that breaks.
    pub resume: ResumeLimits,
    /// When counts are released.
    pub releases: ReleaseIntervals,
    /// The engine of the curve arithmetic.
    pub backend: Backend,
    /// What both sides have to do alike.
    pub rules: KeyRules,
    /// By how many percent a partner's set may grow from one run to the next.
    pub max_growth_percent: u32,
    /// When runs match changes only.
    pub deltas: DeltaRule,
    /// When what they change is merged.
    pub merges: MergeRule,
    /// How runs are recorded, if they are.
    pub recording: Option<RecordingRules>,
}

/// The two organisations of a run, seen from here.
#[derive(Clone)]
pub struct Parties {
    /// Signs for this organisation.
    pub signer: Arc<dyn Signer + Send + Sync>,
    /// The partner's pinned organisation key.
    pub partner_key: [u8; 32],
}

impl Parties {
    /// This organisation.
    #[must_use]
    pub fn me(&self) -> OrganizationId {
        OrganizationId::of_key(&self.signer.public_key())
    }

    /// The partner.
    #[must_use]
    pub fn partner(&self) -> OrganizationId {
        OrganizationId::of_key(&self.partner_key)
    }
}

/// Everything a run needs of its node.
#[derive(Clone)]
pub struct Run {
    /// The node's store.
    pub store: Store,
    /// The node's directory.
    pub node_directory: PathBuf,
    /// Seals the secrets of epochs.
    pub vault: Arc<Vault>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The threads to compute on.
    pub pool: Pool,
    /// How the node runs.
    pub settings: Arc<RunSettings>,
    /// Who takes part.
    pub parties: Parties,
    /// The partnership on this node.
    pub partnership_id: String,
    /// The run's id on this node.
    pub record_id: String,
    /// Whether everything is to be matched again, whatever could be gone on from.
    pub full: bool,
    /// The permissions in force.
    pub agreement: Agreement,
    /// Where progress is told.
    pub meter: Arc<Meter>,
    /// Turns true when the run is to stop.
    pub cancel: watch::Receiver<bool>,
    /// Says, within the transaction that puts the result in force, whether the permissions still are.
    pub in_force: Arc<InForce>,
}

/// Checks that permissions are in force.
pub type InForce = dyn Fn(&rusqlite::Connection) -> Result<(), Error> + Send + Sync;

impl Run {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// The directory of a run's files: its name is the run's on the wire, so that no two attempts share one.
#[must_use]
pub fn directory(node_directory: &Path, name: &str) -> PathBuf {
    node_directory.join("runs").join(name)
}

/// A run's directory, which goes unless it is kept.
pub(crate) struct RunDirectory {
    path: PathBuf,
    keep: Mutex<bool>,
}

impl RunDirectory {
    /// Makes the directory of a run. The run's initiator names it, so one that exists is refused: else a run that fails would
    /// take the files of the result in force with it.
    fn create(path: &Path, initiator: bool) -> Result<Arc<Self>, Failure> {
        if let Some(parent) = path.parent() {
            new_directory(parent)?;
        }
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        {
            use std::os::unix::fs::DirBuilderExt as _;
            builder.mode(0o700);
        }
        builder.create(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists if !initiator => Failure::from(Fault::WrongRun),
            _ => disk(path, &error).into(),
        })?;
        let directory = Arc::new(Self {
            path: path.to_owned(),
            keep: Mutex::new(false),
        });
        new_directory(&directory.scratch())?;
        Ok(directory)
    }

    fn scratch(&self) -> PathBuf {
        self.path.join("scratch")
    }

    /// Starts again with an empty directory for temporary files.
    fn clear_scratch(&self) -> Result<(), Error> {
        let scratch = self.scratch();
        std::fs::remove_dir_all(&scratch).map_err(|error| disk(&scratch, &error))?;
        new_directory(&scratch)
    }

    fn keep(&self) -> Result<(), Error> {
        let scratch = self.scratch();
        std::fs::remove_dir_all(&scratch).map_err(|error| disk(&scratch, &error))?;
        // The directory's own name has to last as well.
        if let Some(parent) = self.path.parent() {
            sync_directory(parent)?;
        }
        *lock(&self.keep) = true;
        Ok(())
    }

    fn discard(&self) {
        *lock(&self.keep) = false;
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        let path = if *lock(&self.keep) {
            return;
        } else {
            &self.path
        };
        if let Err(error) = std::fs::remove_dir_all(path) {
            tracing::warn!(%error, path = %path.display(), "a run's files could not be removed");
        }
    }
}

/// What the flows of a run share.
struct Flows {
    run: Run,
    session: Session,
    prepared: prepare::Prepared,
    directory: Arc<RunDirectory>,
    /// What a delta run goes on from.
    delta: Option<delta::DeltaRun>,
    /// Gathers what the next run may go on from.
    keeper: Option<Keeper>,
    outgoing: Arc<wire::Outgoing>,
    /// Matches that are listed to me.
    edges: Mutex<Sorter>,
    /// Positions of the keys that matched, in a full run.
    matched_keys: Mutex<Bits>,
    /// Labels that said nothing usable; for the local log.
    bad_labels: AtomicU64,
}

impl Flows {
    fn note_bad_label(&self) {
        self.bad_labels.fetch_add(1, Ordering::Relaxed);
    }

    /// The matches of a full run, to add to.
    fn edges(&self) -> Edges<'_> {
        Edges {
            flows: self,
            edges: lock(&self.edges),
            matched_keys: lock(&self.matched_keys),
        }
    }
}

/// Takes matches of a full run.
struct Edges<'a> {
    flows: &'a Flows,
    edges: MutexGuard<'a, Sorter>,
    matched_keys: MutexGuard<'a, Bits>,
}

impl Edges<'_> {
    /// Adds what a label, or a claim, says of a key to the matches that are listed to me.
    fn take(
        &mut self,
        key: &KeyRef,
        label: Option<&Label<'_>>,
        claimed: bool,
    ) -> Result<(), Error> {
        let terms = &self.flows.prepared.terms;
        let Some(edge) = label.and_then(|label| Edge::from_label(terms, key, label, claimed))
        else {
            self.flows.note_bad_label();
            return Ok(());
        };
        self.matched_keys.insert(key.index);
        edge.push_to(&mut self.edges)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Drives a run to its end. Whatever happens, the last good result stays in force until the new one is complete; the files
/// of a run that fails are removed.
///
/// # Errors
/// Why it failed; the partner was told as far as it may know.
pub async fn drive(run: Run, link: RunLink) -> Result<Completed, Failure> {
    let (completed, tail) = drive_to_result(run, link).await?;
    tail.finish().await;
    Ok(completed)
}

/// [`drive`] until the result is in force. The partner may still need what this side sent last: see [`Tail`].
///
/// # Errors
/// As [`drive`].
pub async fn drive_to_result(run: Run, link: RunLink) -> Result<(Completed, Tail), Failure> {
    let Some(rules) = run.settings.recording else {
        return drive_over(run, link).await;
    };
    let (directory, id) = (&run.node_directory, &run.record_id);
    let recorder = Recorder::start(directory, &run.partnership_id, id, link.initiator, rules)?;
    let link = recorder.tap(link).await;
    match drive_over(run, link).await {
        Ok((completed, tail)) => {
            recorder.keep().await;
            let recorder = Some(recorder);
            Ok((completed, Tail { recorder, ..tail }))
        }
        Err(failure) => {
            recorder.fail().await;
            Err(failure)
        }
    }
}

async fn drive_over(run: Run, link: RunLink) -> Result<(Completed, Tail), Failure> {
    let mut cancel = run.cancel.clone();
    let cancelled = async move {
        // Without a sender nobody can cancel.
        if cancel.wait_for(|cancel| *cancel).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let way = Arc::new(resume::Way::default());
    way.set(Some(link.outgoing.clone()));
    let longest_s = run.settings.max_duration_s;
    let result = tokio::select! {
        biased;
        result = Box::pin(drive_link(run, link, Arc::clone(&way))) => result,
        () = tokio::time::sleep(Duration::from_secs(longest_s)) => Err(Failure::mine(Error::new(
            Reason::DeadlineExceeded,
            format!("the run took longer than {longest_s} s: raise limits.run_timeout"),
        ))),
        () = cancelled => Err(Failure::mine(Error::new(
            Reason::Cancelled,
            "the run was cancelled; the last good result stays",
        ))),
    };
    if let Err(failure) = &result
        && let Some(code) = failure.abort
    {
        way.abort(code).await;
    }
    result
}

/// What is left of a run whose result is in force: the partner may need its last frames again.
pub struct Tail {
    line: BoxFuture<'static, Result<(), Failure>>,
    patience: Duration,
    recorder: Option<Recorder>,
}

impl Tail {
    /// Waits until the partner holds everything, for as long as a broken connection is waited for.
    pub async fn finish(self) {
        match tokio::time::timeout(self.patience, self.line).await {
            Ok(Ok(())) => {}
            // The result is in force here; whether the partner got as far is its own affair.
            Ok(Err(failure)) => tracing::debug!(error = %failure.error, "the end of a run"),
            Err(_) => tracing::debug!("the end of a run was not acknowledged"),
        }
        if let Some(recorder) = self.recorder {
            recorder.finish().await;
        }
    }
}

/// Tells the partner that its run is not taken.
pub(crate) async fn refuse(outgoing: &mpsc::Sender<Frame>, code: u16) {
    wire::send_abort(outgoing, code).await;
}

async fn drive_link(
    run: Run,
    mut link: RunLink,
    way: Arc<resume::Way>,
) -> Result<(Completed, Tail), Failure> {
    run.meter.enter(RunState::Handshake, 0);
    let name = hex::encode(link.run_id);
    let directory = RunDirectory::create(&directory(&run.node_directory, &name), link.initiator)?;
    let mut reconnect = std::mem::replace(&mut link.reconnect, Reconnect::Never);
    let mut next = None;
    let (session, mut prepared, outbound, inbound) = tokio::select! {
        biased;
        failure = resume::outrun(&mut reconnect, &mut next) => return Err(failure),
        agreed = handshake::handshake(&run, &mut link, &directory) => agreed?,
    };
    link.reconnect = reconnect;
    let keeper = delta::keeper(&mut prepared, &session)?;
    let delta = prepared.delta.take().map(delta::DeltaRun::from);
    let (senders, inboxes) = wire::inboxes(link.role());
    let received = Arc::new(wire::Received::new(&run.pool, link.run_id, inbound));
    let outgoing = Arc::new(wire::Outgoing::new(&run.pool, outbound, &received));
    let patience = run.settings.resume.patience;
    let line = resume::Line::new(
        &run,
        session.clone(),
        link,
        way,
        Arc::clone(&outgoing),
        Arc::clone(&received),
        senders,
    );
    let mut line: BoxFuture<'static, _> = Box::pin(line.run(next));
    let sort_bytes = run.settings.limits.sort_bytes;
    let scratch = directory.scratch();
    let keys = prepared.local().map_or(0, |local| local.keys_len());
    let flows = Arc::new(Flows {
        edges: Mutex::new(Sorter::new(&scratch, "edges", sort_bytes)),
        matched_keys: Mutex::new(Bits::new(keys)),
        bad_labels: AtomicU64::new(0),
        outgoing: Arc::clone(&outgoing),
        session,
        prepared,
        directory,
        delta,
        keeper,
        run,
    });
    let completed = tokio::select! {
        biased;
        ended = &mut line => {
            return Err(ended.err().unwrap_or_else(wire::closed));
        }
        completed = work(&flows, inboxes, &received) => completed?,
    };
    // Both receipts are exchanged and the result is in force.
    outgoing.close();
    let tail = Tail {
        line,
        patience,
        recorder: None,
    };
    Ok((completed, tail))
}

/// Everything after the handshake.
async fn work(
    flows: &Arc<Flows>,
    inboxes: wire::Inboxes,
    received: &wire::Received,
) -> Result<Completed, Failure> {
    let outcome = run_flows(flows, inboxes, received).await;
    if let (Some(_), Err(failure)) = (&flows.delta, &outcome) {
        delta::doubt(&flows.run, failure);
    }
    outcome
}

async fn run_flows(
    flows: &Arc<Flows>,
    inboxes: wire::Inboxes,
    received: &wire::Received,
) -> Result<Completed, Failure> {
    let wire::Inboxes {
        session: mut session_inbox,
        receiving,
        evaluating,
        count,
    } = inboxes;
    flows.enter_evaluating();
    let (complete, released) = tokio::try_join!(
        receiver::run(Arc::clone(flows), receiving),
        evaluator::run(Arc::clone(flows), evaluating),
    )?;
    flows.prepared.own.release();
    let phase = ListPhase::new(flows.session.clone()).finish(complete.as_ref(), released)?;
    finish::run(flows, phase, &mut session_inbox, count, received).await
}

impl Flows {
    /// Items of the evaluating state: queries both ways, and own items.
    fn enter_evaluating(&self) {
        let queries = self.session.receiving().map_or(0, |flow| flow.queries);
        let answers = self
            .session
            .evaluating()
            .map_or(0, |flow| flow.queries + flow.tags);
        self.run
            .meter
            .enter(RunState::Evaluating, queries + answers);
    }
}
