//! From the matches to the result: shared customers, reports, files, receipts, and the swap.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use overlap_crypto::{
    receipt::{SignedReceipt, commit_result},
    report::SignedReport,
    session::{AfterReports, ReportPhase},
    wire::{Flow, FrameKind},
};

use super::{
    Flows, count,
    delta::{self, finish::DeltaShared},
    directory,
    handshake::{declared, flow_names},
    lock, reports, wire,
};
use crate::{
    error::Error,
    matching::{
        delta::{keeper::Keeper, links::LinksWriter},
        failure::Failure,
        keys::random,
        local_customers::Key,
        progress::RunState,
        records::{self, ResultRecord, Summary},
        spool::Sorter,
    },
    overlap::{
        files::FileEntry,
        graph::{Graph, LinkSink},
        matrix::{CellSources, Matrix, Reported},
        reader::ResultSet,
        writer::{self, Manifest, MatchedKeysWriter},
    },
};

/// A run that is done: its result is in force.
#[derive(Clone, Debug)]
pub struct Completed {
    /// The run.
    pub run_id: String,
    /// What it did.
    pub summary: Summary,
    /// Whether it matched everything, or changes only.
    pub full: bool,
}

pub(super) async fn run(
    flows: &Arc<Flows>,
    mut phase: ReportPhase,
    session_inbox: &mut wire::Inbox,
    mut count_inbox: wire::Inbox,
    received: &wire::Received,
) -> Result<Completed, Failure> {
    let run = &flows.run;
    run.meter.enter(RunState::Reports, 0);
    let there = Arc::clone(flows);
    let found = run
        .pool
        .run(move || Ok::<_, Failure>(join(&there)?))
        .await?;
    let found = Arc::new(found);
    let bad_labels = flows.bad_labels.load(std::sync::atomic::Ordering::Relaxed);
    if bad_labels + found.disagreeing() > 0 {
        tracing::warn!(
            run = hex::encode(flows.session.run().0),
            bad_labels,
            disagreeing = found.disagreeing(),
            "labels of the partner's said nothing usable; they count as no match"
        );
    }
    let reported = exchange_reports(flows, &mut phase, session_inbox, &found).await?;
    let (phase, count_flow) = match phase.finish()? {
        AfterReports::Count(phase) => {
            let (matrix, result) = count::run(flows, &mut count_inbox, found.graph()?).await?;
            (phase.finish(&matrix), Some(result))
        }
        AfterReports::Receipts(phase) => (phase, None),
    };
    drop(count_inbox);

    let there = Arc::clone(flows);
    let (result, commitment_salt, commitment) = run
        .pool
        .run(move || {
            let sources = CellSources {
                listed: found.cells(),
                reported,
                count_flow,
            };
            Ok::<_, Failure>(write_result(&there, &found, &sources)?)
        })
        .await?;

    run.meter.enter(RunState::Receipt, 0);
    // Every frame that either side sends before its receipt has been waited for: both transcripts are complete.
    let outbound = flows.outgoing.chain();
    let (own, awaiting) = phase.sign(
        &outbound,
        &received.chain(),
        commitment,
        run.parties.signer.as_ref(),
    );
    // Remembered before it leaves: a partner that holds a receipt this node knows nothing of takes it for rolled back.
    let signed = SignedReceipt::decode(&own)?;
    let (partnership, run_id) = (run.partnership_id.clone(), run.record_id.clone());
    let in_force = Arc::clone(&run.in_force);
    run.store
        .write(move |tx| {
            in_force(tx)?;
            records::remember_own_receipt(tx, &partnership, &run_id, &signed, &commitment_salt)
        })
        .await?;
    flows
        .outgoing
        .send(Flow::Session, FrameKind::Receipt, own)
        .await?;
    let peer = SignedReceipt::decode(&session_inbox.expect(FrameKind::Receipt).await?)?;
    let receipts = awaiting.receive(peer)?;
    delta::seal(flows, [receipts.own.hash(), receipts.peer.hash()])?;
    complete(flows, received, result, receipts.peer).await
}

/// The shared customers of a run.
pub(super) enum Found {
    /// Of a full run: all of them.
    All {
        graph: Arc<Graph>,
        /// Taken when the state is completed.
        links: Box<Mutex<Option<LinksWriter>>>,
    },
    /// Of a delta run: what became of those of the last run.
    Changes(Box<DeltaShared>),
}

impl Found {
    fn graph(&self) -> Result<&Arc<Graph>, Error> {
        match self {
            Self::All { graph, .. } => Ok(graph),
            Self::Changes(_) => Err(Error::internal("a delta run with a count flow")),
        }
    }

    fn cells(&self) -> BTreeMap<(u8, u8), u64> {
        match self {
            Self::All { graph, .. } => graph.cells().clone(),
            Self::Changes(shared) => shared.totals.cells(),
        }
    }

    fn disagreeing(&self) -> u64 {
        match self {
            Self::All { graph, .. } => graph.disagreeing(),
            Self::Changes(shared) => shared.disagreeing,
        }
    }

    /// How many of the partner's customers match a listed customer of mine, by the partner's stage.
    pub(super) fn mutual_partners_by_stage(&self) -> &[u64] {
        match self {
            Self::All { graph, .. } => graph.mutual_partners_by_stage(),
            Self::Changes(shared) => &shared.totals.mutual_partners_by_stage,
        }
    }
}

/// Makes shared customers of the matches. Both sides have what the list flows give: whatever becomes of the run, it counts.
fn join(flows: &Flows) -> Result<Found, Error> {
    lock(&flows.prepared.ledger).ran(flows.run.now(), declared(&flows.session))?;
    if flows.delta.is_some() {
        return delta::finish::join(flows).map(|found| Found::Changes(Box::new(found)));
    }
    let scratch = flows.directory.scratch();
    let edges = std::mem::replace(&mut *lock(&flows.edges), Sorter::new(&scratch, "unused", 0));
    let edges = edges.finish()?;
    let prepared = &flows.prepared;
    let mut links = flows.keeper.as_ref().map(Keeper::links).transpose()?;
    let mut keep = links
        .as_mut()
        .map(|links| |position, link: &[u8]| links.push(position, link));
    let local = prepared.local()?;
    let graph = Graph::join(
        local.tiers(),
        local.rows(),
        &edges,
        prepared.terms.theirs.len(),
        (&scratch, flows.run.settings.limits.sort_bytes),
        keep.as_mut().map(|keep| keep as &mut LinkSink<'_>),
    )?;
    Ok(Found::All {
        graph: Arc::new(graph),
        links: Box::new(Mutex::new(links)),
    })
}

/// Sends this side's report and takes the partner's, where the plan has them.
async fn exchange_reports(
    flows: &Arc<Flows>,
    phase: &mut ReportPhase,
    session_inbox: &mut wire::Inbox,
    found: &Arc<Found>,
) -> Result<BTreeMap<(u8, u8), Reported>, Failure> {
    if phase.owes() {
        let (there, found) = (Arc::clone(flows), Arc::clone(found));
        let report = flows
            .run
            .pool
            .run(move || Ok::<_, Failure>(reports::make(&there, &found)?))
            .await?;
        let body = phase.send(report, flows.run.parties.signer.as_ref())?;
        flows
            .outgoing
            .send(Flow::Session, FrameKind::Report, body)
            .await?;
    }
    if !phase.awaits() {
        return Ok(BTreeMap::new());
    }
    let report = SignedReport::decode(&session_inbox.expect(FrameKind::Report).await?)?;
    let terms = &flows.prepared.terms;
    phase.admit(&report, &terms.terms)?;
    Ok(reports::reported(terms, &report.report)?)
}

/// Writes the files of the result, and commits to it.
fn write_result(
    flows: &Flows,
    found: &Found,
    sources: &CellSources,
) -> Result<(ResultRecord, [u8; 32], [u8; 32]), Error> {
    let (run, prepared) = (&flows.run, &flows.prepared);
    let now = run.now();
    let matrix = Matrix::compute(&prepared.terms.mine, &prepared.terms.theirs, sources, now);
    let manifest = match found {
        Found::All { graph, links } => {
            let matched_keys = write_keys(flows, graph, lock(links).take())?;
            write_all(flows, graph, matched_keys)?
        }
        Found::Changes(shared) => shared.manifest.clone(),
    };
    let result = ResultRecord {
        run_id: run.record_id.clone(),
        directory: hex::encode(flows.session.run().0),
        completed_at: now,
        matrix,
        manifest,
        their_fields: prepared.terms.their_fields.clone(),
    };
    let mut salt = [0; 32];
    random(&mut salt)?;
    let commitment = commit_result(&salt, &result.committed_bytes()?);
    Ok((result, salt, commitment))
}

/// Writes what a full run's result and state have of my keys, and completes the state: both in one pass over the keys.
fn write_keys(
    flows: &Flows,
    graph: &Graph,
    links: Option<LinksWriter>,
) -> Result<FileEntry, Error> {
    let prepared = &flows.prepared;
    let local = prepared.local()?;
    let mut file = MatchedKeysWriter::create(&flows.directory.path)?;
    let matched = lock(&flows.matched_keys);
    let mut see = |key: &Key<'_>| match matched.contains(key.index) {
        true => file.push(key.hash),
        false => Ok(()),
    };
    if let (Some(keeper), Some(links)) = (&flows.keeper, links) {
        let mine = (&**local, graph);
        keeper.finish(mine, links, &prepared.salt, prepared.change_seq, &mut see)?;
    } else {
        let mut keys = local.keys()?;
        while let Some(key) = keys.next_key()? {
            see(&key)?;
        }
    }
    file.finish()
}

/// Writes the other files of a full run's result.
fn write_all(flows: &Flows, graph: &Graph, matched_keys: FileEntry) -> Result<Manifest, Error> {
    let (run, prepared) = (&flows.run, &flows.prepared);
    let previous = run
        .store
        .read_blocking(|connection| records::result(connection, &run.partnership_id))?
        .and_then(|result| {
            let path = directory(&run.node_directory, &result.directory);
            ResultSet::open(&path, &result.manifest)
                .inspect_err(|error| tracing::warn!(%error, "the last result cannot be read"))
                .ok()
        });
    writer::Found {
        local: prepared.local()?,
        graph,
        salt: &prepared.salt,
        previous: previous.as_ref(),
        now: run.now(),
        sort_bytes: run.settings.limits.sort_bytes,
    }
    .write(
        matched_keys,
        &flows.directory.path,
        &flows.directory.scratch(),
    )
}

/// Puts the result in force in one transaction, and removes what it replaces.
async fn complete(
    flows: &Arc<Flows>,
    received: &wire::Received,
    result: ResultRecord,
    peer_receipt: SignedReceipt,
) -> Result<Completed, Failure> {
    let run = &flows.run;
    let counts = flows.prepared.totals.key_counts();
    let peer = flows.session.peer();
    let summary = Summary {
        my_keys: counts.list + counts.count,
        their_keys: peer.list_queries.max(peer.tags) + peer.count_queries,
        shared_customers: result.matrix.shared_customers(),
        sent_bytes: flows.outgoing.sent_bytes(),
        received_bytes: received.bytes(),
        phase_s: run.meter.spent_s(),
        backend: run.settings.backend.name().to_owned(),
        flows: flow_names(flows.session.plan(), flows.session.role()),
    };
    let run_id = result.run_id.clone();
    let completed = Completed {
        run_id: run_id.clone(),
        summary: summary.clone(),
        full: flows.delta.is_none(),
    };
    let there = Arc::clone(flows);
    crate::storage::blocking(move || {
        let run = &there.run;
        let partnership = run.partnership_id.as_str();
        // Files first: the pointer must never lead to nothing.
        there.directory.keep()?;
        let previous = run.store.write_blocking(|tx| {
            (run.in_force)(tx)?;
            records::remember_peer_receipt(tx, partnership, &run_id, &peer_receipt)?;
            records::complete(tx, partnership, &result, &summary)
        });
        let previous = match previous {
            Ok(previous) => previous,
            Err(error) => {
                there.directory.discard();
                return Err(error);
            }
        };
        if let Some(keeper) = &there.keeper {
            keeper.came_into_force();
        }
        if let Some(previous) = previous {
            let path = directory(&run.node_directory, &previous);
            if let Err(error) = std::fs::remove_dir_all(&path) {
                tracing::warn!(%error, path = %path.display(), "the last result's files could not be removed");
            }
        }
        Ok(())
    })
    .await?;
    // Told only now: whoever reads that the run is done finds its result.
    run.meter.enter(RunState::Done, 0);
    Ok(completed)
}
