//! Runs that this node opens: attempts, giving way to the partner's, and going on after a restart.

use std::{sync::Arc, time::Duration};

use overlap_crypto::context::OrganizationId;
use tokio::sync::mpsc;

use super::{
    super::{
        driver::{Completed, Connection, Dial, Reconnect, Run, Tail, persist},
        failure::{Failure, Side},
        progress::RunState,
        records::{self, RecordedFailure, RunRecord},
        terms::RunTerms,
    },
    Adoption, Slot, YIELD_PATIENCE, claim, drive,
    end::{Done, conclude},
    lock, new_run, refuse_too_soon, release, run_link, stopping,
};
use crate::{
    audit,
    error::{Error, Reason},
    exchange::{self, Link},
    identity::{new_id, random},
    node::Node,
    partnership::{self, Partnership},
    sharing::policy::{Agreement, active_agreement},
};

/// Attempts at one run: the first, and those after a connection that broke where it cannot be resumed or a restart of the
/// partner's node.
const ATTEMPTS: u32 = 3;
/// How long a run waits before another attempt, times the number of those before.
const PAUSE: Duration = Duration::from_secs(1);

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
    if let Some(started) = started {
        tokio::spawn(started.run(Arc::clone(node), false));
    }
    Ok(record)
}

/// A run of this node's that is about to open its stream.
struct Started {
    slot: Arc<Slot>,
    adoptions: mpsc::Receiver<Adoption>,
    partnership: Partnership,
    run: Run,
}

impl Started {
    async fn run(self, node: Arc<Node>, restarted: bool) {
        let partnership = self.partnership.id.clone();
        let slot = Arc::clone(&self.slot);
        let outcome = initiate(&node, self, restarted).await;
        conclude(&node, &partnership, &slot, outcome).await;
    }
}

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
    let slot = match claim(node, &partnership.id, &run_id, Some(sender), None) {
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
        Ok((record, run)) => {
            let started = Started {
                slot,
                adoptions,
                partnership,
                run,
            };
            Ok((record, Some(started)))
        }
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
    let run = new_run(node, partnership, agreement.clone(), slot, request.full)?;
    RunTerms::new(
        agreement,
        run.parties.me(),
        run.parties.partner(),
        &run.settings.rules,
    )?;
    let record = RunRecord {
        id: slot.run_id.clone(),
        partnership_id: partnership.id.clone(),
        state: RunState::Planned,
        full: request.full,
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

/// Goes on with the runs that this node had opened when it was stopped or killed.
pub async fn restart_interrupted(node: Arc<Node>) {
    let unfinished = node.store.read(records::unfinished).await;
    let unfinished = match unfinished {
        Ok(unfinished) => unfinished,
        Err(error) => {
            tracing::error!(%error, "interrupted runs could not be read");
            return;
        }
    };
    for record in unfinished {
        let there = Arc::clone(&node);
        let again = record.clone();
        let begun = crate::storage::blocking(move || begin_again(&there, &again)).await;
        match begun {
            Ok(started) => {
                tracing::info!(run = record.id, "a run that was interrupted begins again");
                tokio::spawn(started.run(Arc::clone(&node), true));
            }
            Err(error) => {
                let failure = RecordedFailure::from(&Failure::mine(error));
                let (id, now) = (record.id, node.now());
                let stored = node
                    .store
                    .write(move |tx| records::fail(tx, &id, RunState::Failed, &failure, now))
                    .await;
                if let Err(error) = stored {
                    tracing::error!(%error, "an interrupted run's end could not be stored");
                }
            }
        }
    }
}

/// Claims the partnership's slot for a run that was interrupted, under the permissions that are in force now.
fn begin_again(node: &Arc<Node>, record: &RunRecord) -> Result<Started, Error> {
    let (partnership, agreement) = node.store.read_blocking(|connection| {
        let partnership = partnership::connected(connection, &record.partnership_id)?;
        let agreement = active_agreement(connection, &partnership.id)?;
        Ok((partnership, agreement))
    })?;
    partnership.reachable()?;
    let (sender, adoptions) = mpsc::channel(1);
    let slot = claim(node, &partnership.id, &record.id, Some(sender), None).map_err(|_| {
        Error::new(
            Reason::RunInterrupted,
            "this node was restarted during the run, and another run was started first",
        )
    })?;
    let begun = new_run(node, &partnership, agreement, &slot, record.full).and_then(|run| {
        note(node, &partnership.id, &record.id, "run.restarted", &[])?;
        Ok(run)
    });
    match begun {
        Ok(run) => Ok(Started {
            slot,
            adoptions,
            partnership,
            run,
        }),
        Err(error) => {
            release(node, &partnership.id, &slot);
            Err(error)
        }
    }
}

/// What the node did with a run by itself, for the audit log.
fn note(
    node: &Node,
    partnership: &str,
    run: &str,
    action: &str,
    details: &[(&str, &str)],
) -> Result<(), Error> {
    let details = [&[("run", run)], details].concat();
    node.store.write_blocking(|tx| {
        audit::record(
            tx,
            node.now(),
            audit::SYSTEM,
            action,
            Some(partnership),
            &details,
        )
    })
}

/// Runs what this side started. If the partner started at the same time, the run of the lower organisation id goes on.
async fn initiate(node: &Arc<Node>, started: Started, restarted: bool) -> Result<Done, Failure> {
    let Started {
        slot,
        mut adoptions,
        partnership,
        run,
    } = started;
    let own = attempts(node, &slot, &partnership, run.clone(), restarted);
    // Dropping the attempt that gives way ends its stream.
    let outcome = tokio::select! {
        biased;
        Some(adoption) = adoptions.recv() => Err(adoption),
        outcome = own => Ok(outcome),
    };
    let failure = match outcome {
        Ok(Ok((_, tail))) => return Ok(Done { tail, told: None }),
        Ok(Err(failure)) => failure,
        Err(adoption) => return adopt(node, &slot, run, adoption).await,
    };
    let may_give_way = failure.error.reason() == Reason::RunUnderWay
        && failure.side == Side::Partner
        && !wins(node, &partnership);
    if !may_give_way {
        return Err(failure);
    }
    match tokio::time::timeout(YIELD_PATIENCE, adoptions.recv()).await {
        Ok(Some(adoption)) => adopt(node, &slot, run, adoption).await,
        _ => Err(failure),
    }
}

/// Opens the run's stream and drives it, a bounded number of times: a connection that broke where it cannot be resumed, and a
/// partner that was restarted, are no reason to give a run up. Each attempt is a session of its own; a partner's fault, a
/// refusal and a cancellation are final.
async fn attempts(
    node: &Arc<Node>,
    slot: &Slot,
    partnership: &Partnership,
    run: Run,
    restarted: bool,
) -> Result<(Completed, Tail), Failure> {
    let mut attempt = 1;
    loop {
        let patience = run.settings.resume.patience;
        // A node that cannot be reached at all is told of at once; one that was there is waited for.
        let patience = (restarted || attempt > 1).then_some(patience);
        let link = unless_cancelled(slot, open(node, partnership, patience)).await?;
        let reconnect = Reconnect::Dial(dial(node, &partnership.id, link.run_id));
        let failure = match drive(node, run.clone(), run_link(link, reconnect)).await {
            Ok(done) => return Ok(done),
            Err(failure) => failure,
        };
        if attempt == ATTEMPTS || node.is_stopping() || !worth_another(&failure, attempt) {
            return Err(failure);
        }
        tracing::warn!(
            run = slot.run_id,
            partnership = partnership.id,
            attempt,
            reason = failure.error.reason().name(),
            message = failure.error.message(),
            "an attempt at a run failed; another follows"
        );
        let (there, partnership_id) = (Arc::clone(node), partnership.id.clone());
        let (run_id, reason) = (slot.run_id.clone(), failure.error.reason().name());
        crate::storage::blocking(move || {
            let details = [("attempt", &*attempt.to_string()), ("reason", reason)];
            note(
                &there,
                &partnership_id,
                &run_id,
                "run.attempt_failed",
                &details,
            )
        })
        .await?;
        slot.meter.begin_again();
        let pause = tokio::time::sleep(PAUSE * attempt);
        unless_cancelled(slot, async {
            pause.await;
            Ok(())
        })
        .await?;
        attempt += 1;
    }
}

/// Whether a failure is nobody's fault.
fn worth_another(failure: &Failure, attempt: u32) -> bool {
    match (failure.error.reason(), failure.side) {
        (Reason::PartnerUnreachable | Reason::NodeStopping, Side::Network)
        | (Reason::RunInterrupted, Side::Network | Side::Partner) => true,
        // The partner has not yet noticed the end of the last attempt.
        (Reason::RunUnderWay, Side::Partner) => attempt > 1,
        _ => false,
    }
}

async fn unless_cancelled<T>(
    slot: &Slot,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let mut cancel = slot.cancel.subscribe();
    tokio::select! {
        biased;
        _ = cancel.wait_for(|cancel| *cancel) => Err(Failure::mine(Error::new(
            Reason::Cancelled,
            "the run was cancelled; the last good result stays",
        ))),
        done = work => done,
    }
}

/// Opens a stream under a new name; with patience, again and again for that long.
async fn open(
    node: &Arc<Node>,
    partnership: &Partnership,
    patience: Option<Duration>,
) -> Result<Link, Failure> {
    let Some(patience) = patience else {
        // A connection that broke just while it was made is no node that is away.
        return match exchange::open_run(node, partnership).await {
            Err(error) if error.reason() == Reason::PartnerUnreachable => {
                tokio::time::sleep(PAUSE / 4).await;
                exchange::open_run(node, partnership).await
            }
            opened => opened,
        }
        .map_err(Failure::link);
    };
    let opening = persist(|| async {
        let partnership = reachable(node, &partnership.id).await?;
        let run_id = random()?;
        exchange::open_run_as(node, &partnership, run_id)
            .await
            .map_err(passing)
    });
    tokio::time::timeout(patience, opening)
        .await
        .unwrap_or_else(|_| {
            Err(Failure::network(format!(
                "the partner's node cannot be reached since {} s",
                patience.as_secs()
            )))
        })
}

/// Opens further connections of a run.
fn dial(node: &Arc<Node>, partnership_id: &str, run_id: [u8; 16]) -> Dial {
    let (node, partnership_id) = (Arc::clone(node), partnership_id.to_owned());
    Box::new(move || {
        let (node, partnership_id) = (Arc::clone(&node), partnership_id.clone());
        Box::pin(async move {
            let partnership = reachable(&node, &partnership_id).await?;
            let link = exchange::resume_run(&node, &partnership, run_id)
                .await
                .map_err(passing)?;
            Ok(Connection {
                exporter: link.exporter,
                incoming: link.incoming,
                outgoing: link.outgoing,
                ended: None,
            })
        })
    })
}

/// The partner as it is now: its node may have moved.
async fn reachable(node: &Arc<Node>, partnership_id: &str) -> Result<Partnership, Failure> {
    if node.is_stopping() {
        return Err(Failure::mine(stopping()));
    }
    let id = partnership_id.to_owned();
    Ok(node
        .store
        .read(move |connection| partnership::connected(connection, &id))
        .await?)
}

/// What keeps a node from taking a connection just now is no reason to give up.
fn passing(error: Error) -> Failure {
    let failure = Failure::link(error);
    match failure.error.reason() {
        Reason::QuotaExhausted | Reason::RunUnderWay => Failure {
            side: Side::Network,
            ..failure
        },
        _ => failure,
    }
}

/// Goes on with the partner's run under the record of mine.
async fn adopt(
    node: &Arc<Node>,
    slot: &Slot,
    run: Run,
    (link, told): Adoption,
) -> Result<Done, Failure> {
    let run_id = slot.run_id.clone();
    node.store
        .write(move |tx| records::give_way(tx, &run_id))
        .await?;
    slot.meter.begin_again();
    let (rejoin, reconnect) = super::Rejoin::new(link.run_id);
    *lock(&slot.rejoin) = Some(rejoin);
    match drive(node, run, run_link(link, reconnect)).await {
        Ok((_, tail)) => Ok(Done {
            tail,
            told: Some(told),
        }),
        Err(failure) => {
            // The stream may be gone.
            let _ = told.send(Err(failure.error.clone()));
            Err(failure)
        }
    }
}

/// Whether my run goes on if both sides start at once.
pub(super) fn wins(node: &Node, partnership: &Partnership) -> bool {
    OrganizationId::of_key(&node.identity.organization_key())
        < OrganizationId::of_key(&partnership.organization_key)
}
