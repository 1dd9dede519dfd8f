//! Events by customer.

use jiff::{SignedDuration, Timestamp};
use overlap_proto::v1::{Record, record::Content};
use prost::Message as _;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::events::{Event, EventType, Side};
use crate::{
    changes::{self, Details, Kind},
    collaboration::SharedCustomers,
    convert::stored_time,
    error::{Error, Reason},
    node::Node,
    sharing::policy::{Stage, StageCategory, agreement_if_active},
};

/// Events indexed in one transaction.
const BATCH: usize = 2_000;
/// Events of one side in one timeline.
pub(super) const MAX_EVENTS: usize = 10_000;
/// Older events raise no alert.
const ALERT_WINDOW: SignedDuration = SignedDuration::from_hours(30 * 24);
/// What alerts about the partner's events say of their side.
const PARTNER: &str = "PARTNER";

/// Brings the index up to what has been ingested. Blocks.
///
/// # Errors
/// What the store reports.
pub(crate) fn index(node: &Node, customers: &dyn SharedCustomers) -> Result<(), Error> {
    loop {
        let is_done = node.store.read_blocking(|connection| {
            Ok(!connection
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM timeline_unindexed)")?
                .query_row([], |row| row.get::<_, bool>(0))?)
        })?;
        if is_done {
            return Ok(());
        }
        node.store
            .write_blocking(|tx| index_batch(node, tx, customers))?;
    }
}

fn index_batch(
    node: &Node,
    tx: &Transaction<'_>,
    customers: &dyn SharedCustomers,
) -> Result<(), Error> {
    let ids: Vec<String> = tx
        .prepare_cached("SELECT id FROM timeline_unindexed ORDER BY id LIMIT ?")?
        .query_map([BATCH], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let partnerships: Vec<String> = tx
        .prepare_cached("SELECT id FROM partnerships WHERE state = 'CONNECTED'")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let stages = node.stages(tx)?;
    let mut forget = tx.prepare_cached("DELETE FROM timeline_events WHERE id = ?")?;
    let mut put = tx.prepare_cached(
        "INSERT INTO timeline_events (customer, at_us, id, type, label, partner) VALUES (?, ?, ?, ?, ?, ?)",
    )?;
    // Where no publication is complete yet, one that looks at everything is due.
    let mut unpublished = tx.prepare_cached(
        "INSERT OR IGNORE INTO timeline_unpublished (partnership, customer) SELECT partnership, ?1 FROM timeline_publication",
    )?;
    let mut done = tx.prepare_cached("DELETE FROM timeline_unindexed WHERE id = ?")?;
    for id in ids {
        let is_new = forget.execute([&id])? == 0;
        if let Some((customer, event)) = ingested(tx, &id)? {
            unpublished.execute([&customer])?;
            put.execute(params![
                customer,
                event.at.as_microsecond(),
                event.id,
                event.kind.code(),
                event.label,
                event.partner
            ])?;
            if is_new && event.is_risk(|stage| category(&stages, stage)) {
                for partnership in &partnerships {
                    let shared = customers.by_customer(node, tx, partnership, &customer)?;
                    if let Some(shared) = shared {
                        alert_of_risk(node.now(), tx, partnership, &shared.id, &event)?;
                    }
                }
            }
        }
        done.execute([&id])?;
    }
    Ok(())
}

/// The event of a record, and the customer it is about.
fn ingested(connection: &Connection, id: &str) -> Result<Option<(String, Event)>, Error> {
    let body: Option<Vec<u8>> = connection
        .prepare_cached("SELECT body FROM records WHERE kind = 1 AND id = ? AND NOT deleted")?
        .query_row([id], |row| row.get(0))
        .optional()?;
    let Some(body) = body else {
        return Ok(None);
    };
    let record = Record::decode(body.as_slice())
        .map_err(|_| Error::new(Reason::StorageFailed, "a stored record cannot be decoded"))?;
    let Some(Content::LifecycleEvent(event)) = record.content else {
        return Ok(None);
    };
    let at = event
        .at
        .and_then(|at| Timestamp::new(at.seconds, at.nanos).ok());
    let (Some(at), Some(kind)) = (at, EventType::from_code(event.r#type)) else {
        return Ok(None);
    };
    let found = Event {
        at,
        side: Side::Mine,
        id: id.to_owned(),
        kind,
        label: event.label,
        partner: event.partner,
    };
    Ok(Some((event.customer, found)))
}

/// Tells those who follow that a shared customer may be lost.
pub(super) fn alert_of_risk(
    now: Timestamp,
    tx: &Transaction<'_>,
    partnership: &str,
    customer: &str,
    event: &Event,
) -> Result<(), Error> {
    if now.duration_since(event.at) > ALERT_WINDOW
        || agreement_if_active(tx, partnership)?.is_none()
    {
        return Ok(());
    }
    let side = match event.side {
        Side::Mine => "MINE",
        Side::Partner => PARTNER,
    };
    changes::record(
        tx,
        now,
        Kind::Alert,
        Some(partnership),
        &format!("at_risk:{customer}"),
        &[
            ("alert", "CUSTOMER_AT_RISK"),
            ("customer", customer),
            ("event", event.kind.name()),
            ("event_id", &event.id),
            ("side", side),
        ],
    )
}

/// Removes the alerts about events of the partner's that may no longer be known (P-18, Z-06), by the partner's names of the events.
pub(super) fn forget_alerts_of_partner(
    tx: &Transaction<'_>,
    partnership: &str,
    is_gone: impl Fn(&str) -> bool,
) -> Result<(), Error> {
    changes::forget_alerts(tx, partnership, |details: &Details| {
        let detail = |name: &str| details.get(name).map(String::as_str).unwrap_or_default();
        detail("side") == PARTNER && is_gone(detail("event_id"))
    })
}

/// What a stage means.
pub(super) fn category(stages: &[Stage], id: &str) -> Option<StageCategory> {
    stages
        .iter()
        .find(|stage| stage.id == id)
        .map(|stage| stage.category)
}

/// The latest events of rows of mine.
pub(super) fn mine(connection: &Connection, rows: &[String]) -> Result<Vec<Event>, Error> {
    let mut statement = connection.prepare_cached(
        "SELECT at_us, id, type, label, partner FROM timeline_events WHERE customer = ? ORDER BY at_us DESC, id DESC LIMIT ?",
    )?;
    let mut events = Vec::new();
    for customer in rows {
        let mut found = statement.query(params![customer, MAX_EVENTS])?;
        while let Some(row) = found.next()? {
            events.extend(read(row, Side::Mine)?);
        }
    }
    Ok(latest(events))
}

/// The latest events that the partner disclosed of the shared customer that a row of mine names.
pub(super) fn theirs(
    connection: &Connection,
    partnership: &str,
    customer: &str,
) -> Result<Vec<Event>, Error> {
    let mut statement = connection.prepare_cached(
        "SELECT at_us, id, type, label, '' FROM partner_events WHERE partnership = ? AND customer = ? ORDER BY at_us DESC, id DESC LIMIT ?",
    )?;
    let mut found = statement.query(params![partnership, customer, MAX_EVENTS])?;
    let mut events = Vec::new();
    while let Some(row) = found.next()? {
        events.extend(read(row, Side::Partner)?);
    }
    Ok(events)
}

/// Finds out anew which customers of mine the partner's events are about: a run gave other answers, or arrived later than they.
///
/// # Errors
/// What the store reports.
pub(crate) fn resolve(
    node: &Node,
    tx: &Transaction<'_>,
    customers: &dyn SharedCustomers,
    partnership: &str,
) -> Result<(), Error> {
    let known: Vec<(String, String)> = tx
        .prepare_cached(
            "SELECT DISTINCT handle, customer FROM partner_events WHERE partnership = ?",
        )?
        .query_map([partnership], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let mut update = tx.prepare_cached(
        "UPDATE partner_events SET customer = ?1 WHERE partnership = ?2 AND handle = ?3 AND customer <> ?1",
    )?;
    for (handle, customer) in known {
        let shared = customers.by_handle(node, tx, partnership, &handle)?;
        let now = shared.map(|shared| shared.id).unwrap_or_default();
        if now != customer {
            update.execute([&now, partnership, &handle])?;
        }
    }
    Ok(())
}

fn latest(mut events: Vec<Event>) -> Vec<Event> {
    events.sort_by(|one, other| other.order().cmp(&one.order()));
    events.truncate(MAX_EVENTS);
    events
}

/// Reads `at_us`, id, type, label, partner.
pub(super) fn read(row: &rusqlite::Row<'_>, side: Side) -> Result<Option<Event>, Error> {
    let Some(kind) = EventType::from_code(row.get(2)?) else {
        return Ok(None);
    };
    Ok(Some(Event {
        at: stored_time(row, 0)?,
        side,
        id: row.get(1)?,
        kind,
        label: row.get(3)?,
        partner: row.get(4)?,
    }))
}
