//! Events that partners disclose to each other.

use std::collections::{BTreeMap, HashSet};

use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::{
    events::{Event, EventType, Side},
    index::{alert_of_risk, category, forget_alerts_of_partner},
};
use crate::{
    changes::{self, Kind},
    collaboration::{peer_line, peer_time},
    error::{Error, Reason},
    node::Registry,
    notices::Incoming,
    sharing::policy::{Agreement, agreement_if_active},
};

/// Events of mine.
pub(super) const EVENTS: &str = "timeline.events";
/// Events of mine that are not disclosed any more.
pub(super) const WITHDRAWN: &str = "timeline.withdrawn";

/// Events in one notice.
pub(super) const BATCH: usize = 500;
/// Characters of a label.
pub(super) const MAX_LABEL_CHARS: usize = 200;
/// Events that one partner may disclose.
const MAX_FROM_PARTNER: u64 = 5_000_000;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Events {
    /// By the pairwise handle of the customer.
    pub(super) customers: BTreeMap<String, Vec<WireEvent>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WireEvent {
    pub(super) id: String,
    pub(super) at_us: i64,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) label: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Withdrawn {
    pub(super) ids: Vec<String>,
}

/// Registers what partners may say.
pub fn register(registry: &mut Registry) {
    registry.on_notice(EVENTS, events);
    registry.on_notice(WITHDRAWN, withdrawn);
}

/// The terms under which the partner discloses events; what was said before they ended may arrive after.
fn disclosing(notice: &Incoming<'_>) -> Result<Option<Agreement>, Error> {
    let agreement = agreement_if_active(notice.tx, &notice.partnership.id)?;
    Ok(agreement.filter(|agreement| agreement.theirs.timeline))
}

fn events(notice: &Incoming<'_>) -> Result<(), Error> {
    let body: Events = notice.body()?;
    let Some(agreement) = disclosing(notice)? else {
        return Ok(());
    };
    let (tx, partnership) = (notice.tx, &notice.partnership.id);
    let count: u64 = tx
        .prepare_cached("SELECT count(*) FROM partner_events WHERE partnership = ?")?
        .query_row([partnership], |row| row.get(0))?;
    if count > MAX_FROM_PARTNER {
        return Err(Error::new(
            Reason::PeerFault,
            "the partner discloses too many events",
        ));
    }
    let mut known = tx.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM partner_events WHERE partnership = ? AND id = ?)",
    )?;
    let mut put = tx.prepare_cached(
        "INSERT OR REPLACE INTO partner_events (partnership, id, handle, customer, at_us, type, label) VALUES (?, ?, ?, ?, ?, ?, ?)",
    )?;
    let mut stored = 0_u64;
    for (handle, events) in body.customers {
        check_name("a handle", &handle)?;
        let shared =
            notice
                .node
                .shared_customers()
                .by_handle(notice.node, tx, partnership, &handle)?;
        let customer = shared.map(|shared| shared.id).unwrap_or_default();
        for event in events {
            check_name("the id of an event", &event.id)?;
            peer_line("label", &event.label, MAX_LABEL_CHARS)?;
            // Types that only a newer version knows.
            let Some(kind) = EventType::from_name(&event.kind) else {
                continue;
            };
            let event = Event {
                at: peer_time("at_us", event.at_us, notice.at)?,
                side: Side::Partner,
                id: event.id,
                kind,
                label: event.label,
                partner: String::new(),
            };
            let is_new =
                !known.query_row(params![partnership, event.id], |row| row.get::<_, bool>(0))?;
            put.execute(params![
                partnership,
                event.id,
                handle,
                customer,
                event.at.as_microsecond(),
                kind.code(),
                event.label
            ])?;
            stored += 1;
            if is_new
                && !customer.is_empty()
                && event.is_risk(|stage| category(&agreement.their_stages, stage))
            {
                alert_of_risk(notice.at, tx, partnership, &customer, &event)?;
            }
        }
    }
    changed(notice, stored)
}

fn withdrawn(notice: &Incoming<'_>) -> Result<(), Error> {
    let body: Withdrawn = notice.body()?;
    let mut delete = notice
        .tx
        .prepare_cached("DELETE FROM partner_events WHERE partnership = ? AND id = ?")?;
    let mut deleted = 0;
    for id in &body.ids {
        deleted += delete.execute(params![notice.partnership.id, id])? as u64;
    }
    if deleted > 0 {
        let ids: HashSet<&str> = body.ids.iter().map(String::as_str).collect();
        forget_alerts_of_partner(notice.tx, &notice.partnership.id, |id| ids.contains(id))?;
    }
    changed(notice, deleted)
}

fn changed(notice: &Incoming<'_>, count: u64) -> Result<(), Error> {
    if count == 0 {
        return Ok(());
    }
    let partnership = Some(notice.partnership.id.as_str());
    changes::record(
        notice.tx,
        notice.at,
        Kind::TimelineUpdated,
        partnership,
        "",
        &[],
    )
}

fn check_name(what: &str, name: &str) -> Result<(), Error> {
    if (1..=128).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Ok(());
    }
    Err(Error::new(
        Reason::PeerFault,
        format!("{what} is malformed"),
    ))
}
