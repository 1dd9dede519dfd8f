//! Runs that a partner's node opens, and further connections of theirs.

use std::sync::Arc;

use tokio::sync::{mpsc::error::TrySendError, oneshot};

use super::{
    super::{
        driver::{self, Connection, Rejoined, Run},
        failure::{Failure, abort},
        progress::RunState,
        records::{self, RunRecord},
    },
    Rejoin, Slot, YIELD_PATIENCE, claim, drive,
    end::{Done, conclude},
    initiate::wins,
    lock, new_run, refuse_too_soon, release, run_link,
};
use crate::{
    error::{Error, Reason},
    exchange::Link,
    identity::new_id,
    node::Node,
    partnership::Partnership,
    sharing::policy::active_agreement,
};

/// Answers a stream that a partner's node opened: a run, or a run's further connection.
///
/// # Errors
/// Why the run failed; the partner is told the reason alone.
pub async fn accept_run(node: Arc<Node>, link: Link) -> Result<(), Error> {
    if link.resumes {
        return rejoin(&node, link).await;
    }
    let partnership = link.partnership.clone();
    let run_id = new_id("run")?;
    let (rejoin, reconnect) = Rejoin::new(link.run_id);
    let slot = loop {
        let rejoin = Some(rejoin.clone());
        match claim(&node, &partnership.id, &run_id, None, rejoin) {
            Ok(slot) => break slot,
            Err(other) if superseded(&other, link.run_id).await => {}
            Err(other) => return meet(&node, &partnership, &other, link).await,
        }
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
    let outcome = drive(&node, run, run_link(link, reconnect))
        .await
        .map(|(_, tail)| Done { tail, told: None });
    let result = outcome
        .as_ref()
        .map(|_| ())
        .map_err(|failure| failure.error.clone());
    conclude(&node, &partnership.id, &slot, outcome).await;
    result
}

/// Stores a run that the partner opened.
fn accept(node: &Arc<Node>, partnership: &Partnership, slot: &Slot) -> Result<Run, Error> {
    let agreement = node
        .store
        .read_blocking(|connection| active_agreement(connection, &partnership.id))?;
    let run = new_run(node, partnership, agreement.clone(), slot, false)?;
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
        )?;
        records::forget_failed(tx, &partnership.id)
    })?;
    Ok(run)
}

/// The partner opens a run while one that it opened before is under way: a node has one at a time, so it has given the other
/// one up. Waits for its end.
async fn superseded(slot: &Slot, run: [u8; 16]) -> bool {
    let other = lock(&slot.rejoin).clone().filter(|other| other.run != run);
    let mut ended = slot.ended.subscribe();
    other.is_some_and(|other| other.connections.try_send(Rejoined::Superseded).is_ok())
        && tokio::time::timeout(YIELD_PATIENCE, ended.wait_for(|ended| *ended))
            .await
            .is_ok_and(|ended| ended.is_ok())
}

/// Hands a further connection to the run it belongs to.
async fn rejoin(node: &Node, link: Link) -> Result<(), Error> {
    let partnership = &link.partnership.id;
    let of_slot = lock(&node.matching.slots)
        .get(partnership)
        .and_then(|slot| lock(&slot.rejoin).clone());
    let of_tail = lock(&node.matching.tails).get(partnership).cloned();
    let place = [of_slot, of_tail]
        .into_iter()
        .flatten()
        .find(|place| place.run == link.run_id);
    let gone = || {
        let given_up = lock(&node.matching.given_up);
        match given_up.get(partnership) {
            Some((run, code)) if *run == link.run_id => *code,
            _ => abort::RUN_INTERRUPTED,
        }
    };
    let Some(place) = place else {
        driver::refuse(&link.outgoing, gone()).await;
        return Err(Error::new(
            Reason::RunInterrupted,
            "the partner wants to go on with a run that is not under way here",
        ));
    };
    let (ended, end) = oneshot::channel();
    let connection = Connection {
        exporter: link.exporter,
        incoming: link.incoming,
        outgoing: link.outgoing,
        ended: Some(ended),
    };
    match place.connections.try_send(Rejoined::Connection(connection)) {
        Ok(()) => {
            // It ends with the sender: nothing is ever sent.
            let _ = end.await;
            Ok(())
        }
        Err(TrySendError::Full(_) | TrySendError::Closed(_)) => Err(Error::new(
            Reason::RunUnderWay,
            "the run takes no further connection just now",
        )),
    }
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
            Err(TrySendError::Full((link, _)) | TrySendError::Closed((link, _))) => {
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
