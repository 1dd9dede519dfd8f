//! Delivers notices: one worker a partner while something waits for it, backing off while its node does not answer.

use std::{collections::HashMap, sync::Arc, time::Duration};

use overlap_proto::exchange::v1::{CollectRequest, DeliverRequest};
use tokio::{
    sync::Notify,
    task::{AbortHandle, JoinSet},
    time::{MissedTickBehavior, timeout},
};

use super::{delivered, receive, refused, renumber, waiting};
use crate::{
    error::{Blame, Error, Reason},
    exchange::{Call, connect},
    node::Node,
    partnership::{self, Partnership},
};

/// The first wait after a failure; it doubles up to the configured one.
const FIRST_RETRY: Duration = Duration::from_millis(200);
/// How often a node that cannot be reached looks for what waits for it.
const COLLECT_EVERY: Duration = Duration::from_secs(5);
/// Notices read at once.
const BATCH: usize = 16;

/// Delivers notices until the node stops.
pub(crate) async fn run(node: Arc<Node>) {
    let mut workers: JoinSet<String> = JoinSet::new();
    let mut busy: HashMap<String, (Arc<Notify>, AbortHandle)> = HashMap::new();
    // One task at most: a partner's node that stays silent must keep nothing else waiting.
    let mut collecting: JoinSet<()> = JoinSet::new();
    let mut stopping = Box::pin(node.stopping());
    let longest = node.config.limits.notice_retry.duration();
    let mut collect = tokio::time::interval(COLLECT_EVERY.min(longest));
    collect.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // What was left by the process before.
    node.outbox.wake();
    loop {
        tokio::select! {
            () = &mut stopping => return,
            () = node.outbox.wake.notified() => {}
            Some(ended) = workers.join_next() => {
                match ended {
                    // Something may have come between its last look and its end.
                    Ok(id) => { busy.remove(&id); }
                    Err(error) => {
                        tracing::error!(%error, "a delivery ended abnormally");
                        busy.retain(|_, (_, worker)| !worker.is_finished());
                    }
                }
            }
            _ = collect.tick(), if collecting.is_empty() && node.exchange_endpoint().is_none() => {
                collecting.spawn(collect_all(Arc::clone(&node)));
                continue;
            }
            Some(ended) = collecting.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "collecting notices ended abnormally");
                }
                continue;
            }
        }
        let pending = match recipients(&node).await {
            Ok(pending) => pending,
            Err(error) => {
                tracing::error!(%error, "the outbox cannot be read");
                tokio::time::sleep(FIRST_RETRY).await;
                node.outbox.wake();
                continue;
            }
        };
        for partnership in pending {
            match busy.get(&partnership.id) {
                Some((wake, _)) => wake.notify_one(),
                None => {
                    let wake = Arc::new(Notify::new());
                    let id = partnership.id.clone();
                    let worker = workers.spawn(deliver_all(
                        Arc::clone(&node),
                        partnership,
                        Arc::clone(&wake),
                    ));
                    busy.insert(id, (wake, worker));
                }
            }
        }
    }
}

/// Partners that can be called and for which something waits. Takes the write lock, so that what a transaction under way enqueues
/// is seen.
async fn recipients(node: &Arc<Node>) -> Result<Vec<Partnership>, Error> {
    node.store
        .write(|tx| {
            let mut statement =
                tx.prepare_cached("SELECT DISTINCT partnership FROM notices_out")?;
            let ids: Vec<String> = statement
                .query_map([], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            let mut found = Vec::new();
            for id in ids {
                if let Some(record) = partnership::by_id(tx, &id)?
                    && record.endpoint.is_some()
                {
                    found.push(record.into_paired()?);
                }
            }
            Ok(found)
        })
        .await
}

async fn deliver_all(node: Arc<Node>, partnership: Partnership, wake: Arc<Notify>) -> String {
    let id = partnership.id.clone();
    let longest = node.config.limits.notice_retry.duration();
    let mut retry = FIRST_RETRY.min(longest);
    let mut stopping = Box::pin(node.stopping());
    loop {
        let attempt = tokio::select! {
            attempt = attempt(&node, &id) => attempt,
            () = &mut stopping => return id,
        };
        match attempt {
            Ok(()) => return id,
            Err(error) => {
                tracing::debug!(partner = %id, reason = error.reason().name(), %error, "notices wait");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(retry) => retry = (retry * 2).min(longest),
            // Something new: no reason to wait for it.
            () = wake.notified() => {}
            () = &mut stopping => return id,
        }
    }
}

/// Delivers what waits for a partner, until nothing does.
async fn attempt(node: &Arc<Node>, id: &str) -> Result<(), Error> {
    let mut call: Option<Call> = None;
    loop {
        let key = id.to_owned();
        let (record, notices) = node
            .store
            .read(move |connection| {
                Ok((
                    partnership::by_id(connection, &key)?,
                    waiting(connection, &key, BATCH)?,
                ))
            })
            .await?;
        let Some(record) = record.filter(|_| !notices.is_empty()) else {
            return Ok(());
        };
        // Read anew: the partner may have told of another endpoint.
        let partnership = record.into_paired()?;
        for notice in notices {
            let call = match &mut call {
                Some(call) => call,
                None => call.insert(
                    connect(
                        node,
                        partnership.reachable()?,
                        partnership.certificate_sha256,
                    )
                    .await?,
                ),
            };
            deliver(node, call, id, notice).await?;
        }
    }
}

async fn deliver(
    node: &Arc<Node>,
    call: &mut Call,
    id: &str,
    notice: DeliverRequest,
) -> Result<(), Error> {
    let answer = timeout(
        node.config.limits.call_timeout.duration(),
        call.client.deliver(notice.clone()),
    )
    .await
    .map_err(|_| call.silent())?
    .map_err(|status| call.explain(&status));
    let (writer, id) = (Arc::clone(node), id.to_owned());
    let sequence = notice.sequence;
    match answer {
        Ok(answer) if answer.get_ref().seen > sequence => {
            let seen = answer.get_ref().seen;
            tracing::error!(partner = %id, "the partner has seen notices that this store does not know: it was restored from a backup");
            node.store
                .write(move |tx| renumber(&writer, tx, &id, seen))
                .await?;
            Err(Error::new(
                Reason::StorageFailed,
                "the store was restored from a backup: notices are numbered anew",
            ))
        }
        Ok(_) => {
            node.store
                .write(move |tx| delivered(tx, &id, sequence))
                .await
        }
        Err(error) if is_final(&notice, &error) => {
            tracing::warn!(partner = %id, kind = %notice.kind, reason = error.reason().name(), "a notice was refused");
            node.store
                .write(move |tx| refused(&writer, tx, &id, &notice, &error))
                .await
        }
        Err(error) => Err(error),
    }
}

/// Whether delivering a notice again would change nothing.
fn is_final(notice: &DeliverRequest, error: &Error) -> bool {
    match error.reason() {
        // It does not know us: it told us to go, or will. To tell it to go is then pointless.
        Reason::PeerUnknown | Reason::PartnershipNotConnected => {
            notice.kind == partnership::REVOKED
        }
        // A certificate can be mended, a clock set.
        Reason::CertificateExpired | Reason::PartnerHasNoEndpoint | Reason::QuotaExhausted => false,
        reason => matches!(
            reason.blame(),
            Blame::Peer | Blame::PeerVersion | Blame::Caller
        ),
    }
}

/// Fetches what waits for this node at every partner, as long as none can call it.
async fn collect_all(node: Arc<Node>) {
    let partnerships = match node.store.read(partnership::all_connected).await {
        Ok(partnerships) => partnerships,
        Err(error) => {
            tracing::error!(%error, "the partners to collect notices from cannot be read");
            return;
        }
    };
    for partnership in partnerships {
        if partnership.endpoint.is_none() {
            continue;
        }
        if let Err(error) = collect(&node, &partnership).await {
            tracing::debug!(partner = %partnership.id, %error, "notices could not be collected");
        }
    }
}

async fn collect(node: &Arc<Node>, partnership: &Partnership) -> Result<(), Error> {
    let mut call = connect(
        node,
        partnership.reachable()?,
        partnership.certificate_sha256,
    )
    .await?;
    let mut acknowledged = 0;
    loop {
        let response = timeout(
            node.config.limits.call_timeout.duration(),
            call.client.collect(CollectRequest { acknowledged }),
        )
        .await
        .map_err(|_| call.silent())?
        .map_err(|status| call.explain(&status))?
        .into_inner();
        if response.notices.is_empty() {
            return Ok(());
        }
        for notice in response.notices {
            let sequence = notice.sequence;
            match receive(node, partnership.clone(), notice).await {
                Ok(_) => {}
                Err(error) if matches!(error.reason().blame(), Blame::Environment | Blame::Bug) => {
                    return Err(error);
                }
                Err(error) => {
                    tracing::warn!(partner = %partnership.id, %error, "a notice was refused")
                }
            }
            acknowledged = sequence;
        }
    }
}
