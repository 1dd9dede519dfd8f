//! What the partner's side did. A notice of a generation that is over changes nothing; so does one that arrives again.

use serde::{Deserialize, Serialize};

use super::{
    actions::Action,
    document::Document,
    ledger::{self, Ended, Ledger, MAX_NUMBER, Side, Stated, Status},
};
use crate::{
    audit,
    error::{Error, Reason},
    node::Registry,
    notices::Incoming,
};

pub(super) const PROPOSED: &str = "sharing.proposed";
pub(super) const ACCEPTED: &str = "sharing.accepted";
pub(super) const TIGHTENED: &str = "sharing.tightened";
pub(super) const DECLINED: &str = "sharing.declined";
pub(super) const ENDED: &str = "sharing.ended";

/// A policy that waits for the other side's approval.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Proposed {
    pub(super) generation: u64,
    pub(super) number: u64,
    pub(super) document: Document,
}

/// The other side's proposal is approved, and this policy takes effect with it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Accepted {
    pub(super) generation: u64,
    pub(super) approves: u64,
    pub(super) number: u64,
    pub(super) document: Document,
}

/// A policy that takes effect at once, since it only takes away from the one it is based on.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tightened {
    pub(super) generation: u64,
    pub(super) number: u64,
    pub(super) base: u64,
    pub(super) document: Document,
}

/// The other side's proposal is declined; what is in force stays.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Declined {
    pub(super) generation: u64,
    pub(super) number: u64,
}

/// Everything stated before this generation is void.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct End {
    pub(super) generation: u64,
    pub(super) how: Ended,
}

pub(super) fn register(registry: &mut Registry) {
    registry.on_notice(PROPOSED, |notice| {
        let body: Proposed = notice.body()?;
        take(notice, PROPOSED, body.generation, |action| {
            let stated = Stated {
                number: body.number,
                document: body.document,
            };
            if is_new(action.ledger(), &stated)? {
                action.state(Side::Theirs, &stated, Status::Open)?;
            }
            Ok(())
        })
    });
    registry.on_notice(ACCEPTED, |notice| {
        let body: Accepted = notice.body()?;
        take(notice, ACCEPTED, body.generation, |action| {
            accepted(action, body)
        })
    });
    registry.on_notice(TIGHTENED, |notice| {
        let body: Tightened = notice.body()?;
        take(notice, TIGHTENED, body.generation, |action| {
            tightened(action, body)
        })
    });
    registry.on_notice(DECLINED, |notice| {
        let body: Declined = notice.body()?;
        take(notice, DECLINED, body.generation, |action| {
            let id = &action.partnership.id;
            let found = ledger::policy(action.tx, id, Side::Mine, body.number)?;
            // What took effect meanwhile stays.
            if let Some((generation, Status::Open, document)) = found
                && generation == body.generation
            {
                let stated = Stated {
                    number: body.number,
                    document,
                };
                action.state(Side::Mine, &stated, Status::Declined)?;
            }
            Ok(())
        })
    });
    registry.on_notice(ENDED, |notice| {
        let End { generation, how } = notice.body()?;
        check_number(generation)?;
        let actor = audit::partner(&notice.partnership.id);
        let mut action = Action::begin(notice.node, notice.tx, notice.partnership, &actor)?;
        let was = action.ledger().clone();
        if generation < was.generation {
            return Ok(());
        }
        if generation == was.generation {
            // Both ended it; that one revoked counts for more than that one declined.
            if was.ended.is_some_and(|ended| ended < how) {
                ledger::head(
                    notice.tx,
                    &notice.partnership.id,
                    generation,
                    Some(how),
                    notice.at,
                )?;
            }
            return Ok(());
        }
        action.end_generation(generation, how)?;
        action.finish(
            &was,
            match how {
                Ended::Declined => "sharing.declined",
                Ended::Revoked => "sharing.revoked",
            },
        )?;
        Ok(())
    });
}

/// Gives a notice its effect, unless its generation is over.
fn take(
    notice: &Incoming<'_>,
    action_name: &str,
    generation: u64,
    effect: impl FnOnce(&Action<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    check_number(generation)?;
    let actor = audit::partner(&notice.partnership.id);
    let mut action = Action::begin(notice.node, notice.tx, notice.partnership, &actor)?;
    let was = action.ledger().clone();
    if generation < was.generation {
        return Ok(());
    }
    if generation > was.generation {
        // The notice that ended the generation before was lost, which an honest partner cannot do: nothing of it may stay.
        action.end_generation(generation, Ended::Revoked)?;
    }
    effect(&action)?;
    let id = &notice.partnership.id;
    let now = Ledger::load(notice.tx, id)?;
    let unchanged = now == was && generation == was.generation;
    if unchanged {
        return Ok(());
    }
    action.finish(&was, action_name)?;
    Ok(())
}

fn accepted(action: &Action<'_>, body: Accepted) -> Result<(), Error> {
    let id = &action.partnership.id;
    let approved = match ledger::policy(action.tx, id, Side::Mine, body.approves)? {
        Some((generation, Status::Open | Status::Effective, document))
            if generation == body.generation =>
        {
            Stated {
                number: body.approves,
                document,
            }
        }
        _ => return Err(fault("approves what was not proposed")),
    };
    let stated = Stated {
        number: body.number,
        document: body.document,
    };
    check_number(stated.number)?;
    if let Some((generation, _, document)) =
        ledger::policy(action.tx, id, Side::Theirs, stated.number)?
    {
        if generation != body.generation || document != stated.document {
            return Err(fault("uses a number again"));
        }
    } else if !is_new(action.ledger(), &stated)? {
        return Err(fault("uses a number again"));
    }
    action.state(Side::Mine, &approved, Status::Effective)?;
    action.settle(&stated)
}

fn tightened(action: &Action<'_>, body: Tightened) -> Result<(), Error> {
    let stated = Stated {
        number: body.number,
        document: body.document,
    };
    if !is_new(action.ledger(), &stated)? {
        return Ok(());
    }
    let id = &action.partnership.id;
    // An older base may be right if what followed it took effect by an approval here, of which the partner had not heard. What
    // the partner put in force itself it knows of: else it could go back to anything that was ever agreed.
    let settled = ledger::settled(action.tx, id)?;
    match ledger::policy(action.tx, id, Side::Theirs, body.base)? {
        Some((generation, Status::Effective, base))
            if generation == body.generation
                && body.base >= settled
                && stated.document.policy.only_takes_away_from(&base.policy) =>
        {
            action.settle(&stated)
        }
        _ => Err(fault("widens what it says it tightens")),
    }
}

/// Whether the partner's policy has not been seen before.
fn is_new(ledger: &Ledger, stated: &Stated) -> Result<bool, Error> {
    check_number(stated.number)?;
    Ok(stated.number > ledger.theirs.last)
}

fn check_number(number: u64) -> Result<(), Error> {
    if (1..=MAX_NUMBER).contains(&number) {
        Ok(())
    } else {
        Err(fault("has a number out of range"))
    }
}

fn fault(problem: &str) -> Error {
    Error::new(Reason::PeerFault, format!("a sharing notice {problem}"))
}
