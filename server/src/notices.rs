//! What one node tells the other outside a run, exactly once in effect.
//!
//! A notice is enqueued in the transaction that makes it true and delivered in order, with retries, until the partner's node has
//! stored its effect. Each side numbers its notices from 1; the receiver remembers the last number, so a notice that arrives
//! again changes nothing.
//!
//! Invariant: a notice takes effect in one transaction with the memory of having seen it.

mod delivery;

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use overlap_proto::exchange::v1::DeliverRequest;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::Notify;

use crate::{
    audit,
    error::{Error, Reason},
    identity::new_id,
    node::Node,
    partnership::Partnership,
    sharing,
};

pub(crate) use delivery::run;

/// Bytes of a notice's body.
pub const MAX_BODY_BYTES: usize = 512 << 10;
/// Notices that wait for one partner; with more, something is badly wrong with it.
const MAX_QUEUED: u64 = 100_000;
/// Numbers beyond this are nobody's honest mistake.
const MAX_SEQUENCE: u64 = 1 << 48;
/// Notices handed out at once to a node that collects them.
const COLLECTED: usize = 16;

/// Wakes the delivery of notices.
pub struct Outbox {
    wake: Arc<Notify>,
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self {
            wake: Arc::new(Notify::new()),
        }
    }

    /// Tries to deliver what waits, now.
    pub fn wake(&self) {
        self.wake.notify_one();
    }
}

/// A notice from a partner, handed to the handler of its kind within the transaction that remembers it.
pub struct Incoming<'a> {
    /// This node.
    pub node: &'a Node,
    /// The transaction.
    pub tx: &'a Transaction<'a>,
    /// When it arrived.
    pub at: Timestamp,
    /// Who sent it.
    pub partnership: &'a Partnership,
    /// E.g. `sharing.proposed`.
    pub kind: &'a str,
    /// JSON of the kind's own shape.
    pub bytes: &'a [u8],
}

impl Incoming<'_> {
    /// The body, strictly parsed: its type denies unknown fields.
    ///
    /// # Errors
    /// `PEER_FAULT`.
    pub fn body<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(self.bytes).map_err(|error| {
            Error::new(
                Reason::PeerFault,
                // Where, not what: the parser's own words repeat what the partner sent, and this ends up in the log.
                format!(
                    "notice {} is malformed at line {}, column {}",
                    self.kind,
                    error.line(),
                    error.column()
                ),
            )
        })
    }
}

/// Gives a notice its effect. An error that the partner or a person has to mend ([`crate::error::Blame::Peer`],
/// `PeerVersion`, `Caller`) refuses it for good: the sender drops it. With any other, the sender tries again.
pub(crate) type Handler = Box<dyn Fn(&Incoming<'_>) -> Result<(), Error> + Send + Sync>;

/// The handlers by kind.
#[derive(Default)]
pub(crate) struct Handlers(HashMap<&'static str, Handler>);

impl Handlers {
    pub(crate) fn add(
        &mut self,
        kind: &'static str,
        handler: impl Fn(&Incoming<'_>) -> Result<(), Error> + Send + Sync + 'static,
    ) {
        self.0.insert(kind, Box::new(handler));
    }

    pub(crate) fn get(&self, kind: &str) -> Option<&Handler> {
        self.0.get(kind)
    }

    #[cfg(feature = "fuzzing")]
    pub(crate) fn kinds(&self) -> Vec<&'static str> {
        let mut kinds: Vec<_> = self.0.keys().copied().collect();
        kinds.sort_unstable();
        kinds
    }
}

/// Enqueues a notice in the transaction that makes it true; it is delivered as soon as that commits, and returns its id.
///
/// # Errors
/// `QUOTA_EXHAUSTED` if far too many wait for the partner; `INVALID_ARGUMENT` if it is too large; what the store reports.
pub fn enqueue(
    node: &Node,
    tx: &Transaction<'_>,
    partnership_id: &str,
    kind: &str,
    body: &impl Serialize,
) -> Result<String, Error> {
    let body = serde_json::to_vec(body)
        .map_err(|error| Error::internal(format!("notice {kind}: {error}")))?;
    if body.len() > MAX_BODY_BYTES {
        return Err(Error::new(
            Reason::InvalidArgument,
            format!("a notice {kind} of {} bytes is too large", body.len()),
        ));
    }
    let waiting: u64 = tx
        .prepare_cached("SELECT count(*) FROM notices_out WHERE partnership = ?")?
        .query_row([partnership_id], |row| row.get(0))?;
    if waiting >= MAX_QUEUED {
        return Err(Error::new(
            Reason::QuotaExhausted,
            "too many notices wait for the partner's node: it has not answered for long",
        ));
    }
    let sequence: u64 = tx
        .prepare_cached(
            "INSERT INTO notice_positions (partnership, sent) VALUES (?, 1) \
             ON CONFLICT (partnership) DO UPDATE SET sent = sent + 1 RETURNING sent",
        )?
        .query_row([partnership_id], |row| row.get(0))?;
    let id = new_id("ntc")?;
    tx.prepare_cached(
        "INSERT INTO notices_out (partnership, sequence, notice_id, kind, body, created_us) VALUES (?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        partnership_id,
        sequence,
        id,
        kind,
        body,
        node.now().as_microsecond()
    ])?;
    // The deliverer takes the write lock before it looks, so it sees this transaction's end.
    node.outbox.wake();
    Ok(id)
}

/// Notices that wait for a partner, in order.
pub(crate) fn waiting(
    connection: &Connection,
    partnership_id: &str,
    limit: usize,
) -> Result<Vec<DeliverRequest>, Error> {
    let mut statement = connection.prepare_cached(
        "SELECT notice_id, kind, body, sequence FROM notices_out WHERE partnership = ? ORDER BY sequence LIMIT ?",
    )?;
    let notices = statement.query_map(params![partnership_id, limit], |row| {
        Ok(DeliverRequest {
            notice_id: row.get(0)?,
            kind: row.get(1)?,
            body: row.get(2)?,
            sequence: row.get(3)?,
        })
    })?;
    Ok(notices.collect::<Result<_, _>>()?)
}

/// Forgets the notices up to `sequence`: the partner has them.
pub(crate) fn delivered(
    tx: &Transaction<'_>,
    partnership_id: &str,
    sequence: u64,
) -> Result<(), Error> {
    tx.prepare_cached("DELETE FROM notices_out WHERE partnership = ? AND sequence <= ?")?
        .execute(params![partnership_id, sequence.min(MAX_SEQUENCE)])?;
    Ok(())
}

/// What every notice keeps to, whatever its kind.
pub(crate) fn check(notice: &DeliverRequest) -> Result<(), Error> {
    if !(1..=MAX_SEQUENCE).contains(&notice.sequence) {
        return Err(Error::new(
            Reason::PeerFault,
            "a notice numbered out of range",
        ));
    }
    if notice.body.len() > MAX_BODY_BYTES || notice.kind.len() > 64 || notice.notice_id.len() > 64 {
        return Err(Error::new(Reason::PeerFault, "a notice over the limit"));
    }
    Ok(())
}

/// Takes a notice in, and returns the last sequence of the sender's. That it arrived before is no error.
pub(crate) async fn receive(
    node: &Arc<Node>,
    partnership: Partnership,
    notice: DeliverRequest,
) -> Result<u64, Error> {
    check(&notice)?;
    let receiver = Arc::clone(node);
    let seen = node
        .store
        .write(move |tx| {
            let id = &partnership.id;
            let seen: u64 = tx
                .prepare_cached("SELECT seen FROM notice_positions WHERE partnership = ?")?
                .query_row([id], |row| row.get(0))
                .optional()?
                .unwrap_or_default();
            if notice.sequence <= seen {
                return Ok(seen);
            }
            let handler = receiver
                .notice_handlers()
                .get(notice.kind.as_str())
                .ok_or_else(|| {
                    Error::new(
                        Reason::PeerVersion,
                        format!("notice {} is unknown", notice.kind),
                    )
                })?;
            handler(&Incoming {
                node: &receiver,
                tx,
                at: receiver.now(),
                partnership: &partnership,
                kind: &notice.kind,
                bytes: &notice.body,
            })?;
            tx.prepare_cached(
                "INSERT INTO notice_positions (partnership, seen) VALUES (?1, ?2) \
                 ON CONFLICT (partnership) DO UPDATE SET seen = ?2",
            )?
            .execute(params![id, notice.sequence])?;
            Ok(notice.sequence)
        })
        .await?;
    // It may have been about the partnership itself.
    node.follow_partners().await?;
    Ok(seen)
}

/// Numbers what waits for a partner anew, after all that it has seen: this node's store was restored from a backup, and what it sent
/// since then is forgotten here but not there.
fn renumber(
    node: &Node,
    tx: &Transaction<'_>,
    partnership_id: &str,
    seen: u64,
) -> Result<(), Error> {
    if seen > MAX_SEQUENCE {
        return Err(Error::new(
            Reason::PeerFault,
            "the partner's node has seen notices numbered out of range",
        ));
    }
    // In two steps: no two notices have the same number in between.
    for statement in [
        "UPDATE notices_out SET sequence = -(sequence + ?2) WHERE partnership = ?1",
        "UPDATE notices_out SET sequence = -sequence WHERE partnership = ?1 AND ?2 > 0",
        "UPDATE notice_positions SET sent = sent + ?2 WHERE partnership = ?1",
    ] {
        tx.execute(statement, params![partnership_id, seen])?;
    }
    audit::record(
        tx,
        node.now(),
        audit::SYSTEM,
        "store.rolled_back",
        Some(partnership_id),
        &[("seen_by_partner", &seen.to_string())],
    )?;
    sharing::rolled_back(node, tx, partnership_id)
}

/// Hands out what waits for a partner that fetches it, and forgets what it has.
pub(crate) async fn collected(
    node: &Arc<Node>,
    partnership_id: String,
    acknowledged: u64,
) -> Result<Vec<DeliverRequest>, Error> {
    let notices = node
        .store
        .write(move |tx| {
            delivered(tx, &partnership_id, acknowledged)?;
            waiting(tx, &partnership_id, COLLECTED)
        })
        .await?;
    // It may have been the last thing an ended partnership was open for.
    node.follow_partners().await?;
    Ok(notices)
}

/// A notice that the partner's node refused for good.
fn refused(
    node: &Node,
    tx: &Transaction<'_>,
    partnership_id: &str,
    notice: &DeliverRequest,
    error: &Error,
) -> Result<(), Error> {
    delivered(tx, partnership_id, notice.sequence)?;
    audit::record(
        tx,
        node.now(),
        &audit::partner(partnership_id),
        "notice.refused",
        Some(partnership_id),
        &[("kind", &notice.kind), ("reason", error.reason().name())],
    )
}
