//! What the two nodes say to each other about requests.

use rusqlite::Transaction;
use serde::{Deserialize, Serialize};

use super::{
    rows::{self, Attribution},
    state::{self, Direction, Effect, Outcome, State, Word},
};
use crate::{
    audit,
    changes::{self, Kind},
    collaboration::{peer_id, peer_paragraph, peer_time},
    error::{Error, Reason},
    node::{Node, Registry},
    notices::{self, Incoming},
    sharing::policy::agreement_if_active,
};

/// I ask for attribution.
pub(super) const REQUESTED: &str = "attribution.requested";
/// I withdraw my request.
pub(super) const CANCEL: &str = "attribution.cancel";
/// Your request has ended.
pub(super) const ENDED: &str = "attribution.ended";

/// Requests of one partner that may wait for a decision.
const MAX_WAITING: u64 = 100_000;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Requested {
    pub(super) id: String,
    /// The pairwise handle of the customer.
    #[serde(rename = "ref")]
    pub(super) handle: String,
    pub(super) details: String,
    pub(super) requested_us: i64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cancel {
    pub(super) id: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ended {
    pub(super) id: String,
    pub(super) outcome: WireOutcome,
    pub(super) comment: String,
    pub(super) decided_us: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum WireOutcome {
    Approved,
    Denied,
    Cancelled,
}

impl From<Outcome> for WireOutcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Approved => Self::Approved,
            Outcome::Denied => Self::Denied,
            Outcome::Cancelled => Self::Cancelled,
        }
    }
}

impl From<WireOutcome> for Outcome {
    fn from(outcome: WireOutcome) -> Self {
        match outcome {
            WireOutcome::Approved => Self::Approved,
            WireOutcome::Denied => Self::Denied,
            WireOutcome::Cancelled => Self::Cancelled,
        }
    }
}

/// Registers what partners may say.
pub fn register(registry: &mut Registry) {
    registry.on_notice(REQUESTED, requested);
    registry.on_notice(CANCEL, cancel_asked);
    registry.on_notice(ENDED, ended);
}

/// Whether anything about shared customers is to be heard from the partner. What was said before sharing ended may arrive
/// after it; then there is nothing it could be about.
fn is_sharing(notice: &Incoming<'_>) -> Result<bool, Error> {
    Ok(agreement_if_active(notice.tx, &notice.partnership.id)?.is_some())
}

fn requested(notice: &Incoming<'_>) -> Result<(), Error> {
    let body: Requested = notice.body()?;
    peer_id("attribution", "atr", &body.id)?;
    check_handle(&body.handle)?;
    peer_paragraph("details", &body.details)?;
    if body.details.trim().is_empty() {
        return Err(Error::new(Reason::PeerFault, "details are empty"));
    }
    let requested_at = peer_time("requested_us", body.requested_us, notice.at)?;
    if !is_sharing(notice)? {
        return Ok(());
    }
    let (tx, partnership) = (notice.tx, &notice.partnership.id);
    let known = rows::find(tx, partnership, &body.id)?;
    match state::hear(known.as_ref().map(Attribution::copy), Word::Requested) {
        Effect::Insert => {}
        Effect::Nothing => return Ok(()),
        _ => return Err(fault()),
    }
    if rows::count_waiting(tx, partnership)? >= MAX_WAITING {
        return Err(Error::new(
            Reason::PeerFault,
            "too many requests wait for a decision",
        ));
    }
    let mut attribution = Attribution {
        partnership: partnership.clone(),
        id: body.id,
        direction: Direction::Received,
        state: State::Pending,
        customer: String::new(),
        handle: body.handle,
        details: body.details,
        comment: String::new(),
        requested_at,
        decided_at: None,
        cancel_asked_at: None,
        user: String::new(),
    };
    attribution.resolve(notice.node, tx, notice.node.shared_customers())?;
    attribution.insert(tx)?;
    note(
        notice,
        Kind::AttributionReceived,
        "attribution.received",
        &attribution,
    )
}

fn cancel_asked(notice: &Incoming<'_>) -> Result<(), Error> {
    let body: Cancel = notice.body()?;
    peer_id("attribution", "atr", &body.id)?;
    if !is_sharing(notice)? {
        return Ok(());
    }
    let (tx, partnership) = (notice.tx, &notice.partnership.id);
    let known = rows::find(tx, partnership, &body.id)?;
    match (
        state::hear(known.as_ref().map(Attribution::copy), Word::CancelAsked),
        known,
    ) {
        (Effect::InsertCancelled, _) => {
            let attribution = Attribution {
                partnership: partnership.clone(),
                id: body.id,
                direction: Direction::Received,
                state: State::Cancelled,
                customer: String::new(),
                handle: String::new(),
                details: String::new(),
                comment: String::new(),
                requested_at: notice.at,
                decided_at: Some(notice.at),
                cancel_asked_at: None,
                user: String::new(),
            };
            attribution.insert(tx)?;
            tell(notice.node, tx, &attribution)
        }
        (Effect::EndAndTell(outcome), Some(mut attribution)) => {
            attribution.end(tx, outcome, "", notice.at)?;
            tell(notice.node, tx, &attribution)?;
            note(notice, kind_of(outcome), action_of(outcome), &attribution)
        }
        (Effect::TellAgain(_), Some(attribution)) => tell(notice.node, tx, &attribution),
        _ => Err(fault()),
    }
}

fn ended(notice: &Incoming<'_>) -> Result<(), Error> {
    let body: Ended = notice.body()?;
    peer_id("attribution", "atr", &body.id)?;
    peer_paragraph("comment", &body.comment)?;
    let decided_at = peer_time("decided_us", body.decided_us, notice.at)?;
    let tx = notice.tx;
    let known = rows::find(tx, &notice.partnership.id, &body.id)?;
    match (
        state::hear(
            known.as_ref().map(Attribution::copy),
            Word::Ended(body.outcome.into()),
        ),
        known,
    ) {
        (Effect::Nothing, _) => Ok(()),
        (Effect::End(outcome), Some(mut attribution)) => {
            attribution.end(tx, outcome, &body.comment, decided_at)?;
            note(notice, kind_of(outcome), action_of(outcome), &attribution)
        }
        _ => Err(fault()),
    }
}

/// Tells the requester's node how its request ended.
pub(super) fn tell(
    node: &Node,
    tx: &Transaction<'_>,
    attribution: &Attribution,
) -> Result<(), Error> {
    let (Some(outcome), Some(decided_at)) =
        (Outcome::of(attribution.state), attribution.decided_at)
    else {
        return Err(Error::internal("a request that has not ended"));
    };
    let body = Ended {
        id: attribution.id.clone(),
        outcome: outcome.into(),
        comment: attribution.comment.clone(),
        decided_us: decided_at.as_microsecond(),
    };
    notices::enqueue(node, tx, &attribution.partnership, ENDED, &body)?;
    Ok(())
}

pub(super) const fn kind_of(outcome: Outcome) -> Kind {
    match outcome {
        Outcome::Approved => Kind::AttributionApproved,
        Outcome::Denied => Kind::AttributionDenied,
        Outcome::Cancelled => Kind::AttributionCancelled,
    }
}

pub(super) const fn action_of(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Approved => "attribution.approved",
        Outcome::Denied => "attribution.denied",
        Outcome::Cancelled => "attribution.cancelled",
    }
}

/// Leaves what a partner's notice did in the change log and the audit log.
fn note(
    notice: &Incoming<'_>,
    kind: Kind,
    action: &str,
    attribution: &Attribution,
) -> Result<(), Error> {
    let partnership = &notice.partnership.id;
    changes::record(
        notice.tx,
        notice.at,
        kind,
        Some(partnership),
        &attribution.id,
        &[],
    )?;
    audit::record(
        notice.tx,
        notice.at,
        &audit::partner(partnership),
        action,
        Some(partnership),
        &[("attribution", &attribution.id)],
    )
}

fn check_handle(handle: &str) -> Result<(), Error> {
    if (1..=128).contains(&handle.len()) && handle.bytes().all(|byte| byte.is_ascii_alphanumeric())
    {
        return Ok(());
    }
    Err(Error::new(Reason::PeerFault, "a handle is malformed"))
}

fn fault() -> Error {
    Error::new(
        Reason::PeerFault,
        "the partner's node contradicts what it said of an attribution",
    )
}
