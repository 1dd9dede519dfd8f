//! What this side does. Every action is one transaction: the ledger, the notice, the hooks, the audit event.

use rusqlite::Transaction;

use super::{
    document::Document,
    incoming::{
        ACCEPTED, Accepted, DECLINED, Declined, ENDED, End, PROPOSED, Proposed, TIGHTENED,
        Tightened,
    },
    ledger::{self, Ended, Ledger, Side, Stated, Status},
    policy::Policy,
};
use crate::{
    audit,
    error::{Error, Reason},
    node::{Node, SharingChange},
    notices,
    partnership::Partnership,
};

/// A transaction on the ledger with one partner.
pub(super) struct Action<'a> {
    pub(super) node: &'a Node,
    pub(super) tx: &'a Transaction<'a>,
    pub(super) partnership: &'a Partnership,
    pub(super) actor: &'a str,
    before: Ledger,
}

impl<'a> Action<'a> {
    pub(super) fn begin(
        node: &'a Node,
        tx: &'a Transaction<'a>,
        partnership: &'a Partnership,
        actor: &'a str,
    ) -> Result<Self, Error> {
        Ok(Self {
            node,
            tx,
            partnership,
            actor,
            before: Ledger::load(tx, &partnership.id)?,
        })
    }

    /// The ledger as it was when the action began.
    pub(super) const fn ledger(&self) -> &Ledger {
        &self.before
    }

    pub(super) fn state(&self, side: Side, stated: &Stated, status: Status) -> Result<(), Error> {
        ledger::state(
            self.tx,
            &self.partnership.id,
            side,
            self.before.generation,
            stated,
            status,
            self.node.now(),
        )
    }

    /// Writes a policy that the partner put in force itself.
    pub(super) fn settle(&self, stated: &Stated) -> Result<(), Error> {
        let (id, now) = (&self.partnership.id, self.node.now());
        ledger::settle(self.tx, id, stated.number, now)?;
        self.state(Side::Theirs, stated, Status::Effective)
    }

    /// Voids everything stated so far.
    pub(super) fn end_generation(&mut self, generation: u64, ended: Ended) -> Result<(), Error> {
        ledger::head(
            self.tx,
            &self.partnership.id,
            generation,
            Some(ended),
            self.node.now(),
        )?;
        self.before.generation = generation;
        self.before.ended = Some(ended);
        self.before.mine.open = None;
        self.before.theirs.open = None;
        Ok(())
    }

    pub(super) fn tell(&self, kind: &str, body: &impl serde::Serialize) -> Result<(), Error> {
        notices::enqueue(self.node, self.tx, &self.partnership.id, kind, body).map(|_| ())
    }

    /// Tells the modules what changed, records it, and returns the ledger as it is now. `was` is the ledger before.
    pub(super) fn finish(self, was: &Ledger, action: &str) -> Result<Ledger, Error> {
        let (id, now) = (self.partnership.id.as_str(), self.node.now());
        let head = &self.before;
        ledger::head(self.tx, id, head.generation, head.ended, now)?;
        let after = Ledger::load(self.tx, id)?;
        let change = Ledger::change(was, &after);
        let mut details = vec![
            ("generation", after.generation.to_string()),
            ("version", after.version().to_string()),
        ];
        if let Some(change) = change {
            details.push((
                "change",
                match change {
                    SharingChange::Activated => "activated",
                    SharingChange::Widened => "widened",
                    SharingChange::Tightened => "tightened",
                    SharingChange::Kept => "kept",
                    SharingChange::Ended => "ended",
                }
                .to_owned(),
            ));
        }
        if let Some(hash) = after.terms_hash(
            &self.node.identity.organization_key(),
            &self.partnership.organization_key,
        )? {
            details.push(("terms", hex::encode(hash)));
        }
        let details: Vec<_> = details
            .iter()
            .map(|(key, value)| (*key, value.as_str()))
            .collect();
        audit::record(self.tx, now, self.actor, action, Some(id), &details)?;
        if let Some(change) = change {
            self.node.sharing_changed(self.tx, id, change)?;
        }
        Ok(after)
    }
}

/// States what I disclose: an answer to the partner's open proposal, a change, or a proposal.
pub(super) fn set(
    node: &Node,
    tx: &Transaction<'_>,
    partnership: &Partnership,
    policy: Policy,
    actor: &str,
) -> Result<Ledger, Error> {
    let stages = node.stages(tx)?;
    policy.check_stages(&stages)?;
    let document = Document::new(policy, stages);
    let action = Action::begin(node, tx, partnership, actor)?;
    if action.ledger().theirs.open.is_some() {
        return accept(action, document);
    }
    if let Some((mine, _)) = action.ledger().terms() {
        let base = mine.clone();
        return change(action, &base, document);
    }
    propose(action, document)
}

/// Approves the partner's open proposal.
pub(super) fn approve(
    node: &Node,
    tx: &Transaction<'_>,
    partnership: &Partnership,
    actor: &str,
) -> Result<Ledger, Error> {
    let action = Action::begin(node, tx, partnership, actor)?;
    let ledger = action.ledger();
    let Some(proposal) = &ledger.theirs.open else {
        return match ledger.terms() {
            // Approved already.
            Some(_) => Ok(action.before),
            None => Err(nothing_open(partnership)),
        };
    };
    let current = match ledger.terms() {
        Some((mine, _)) => Some(mine),
        None => ledger.mine.open.as_ref(),
    };
    let document = match current {
        Some(current) => current.document.clone(),
        None => {
            let stages = node.stages(tx)?;
            Document::new(Policy::mirror(&proposal.document.policy, &stages), stages)
        }
    };
    accept(action, document)
}

/// Declines the partner's open proposal. What is in force stays; if nothing is, the negotiation is over.
pub(super) fn decline(
    node: &Node,
    tx: &Transaction<'_>,
    partnership: &Partnership,
    actor: &str,
) -> Result<Ledger, Error> {
    let mut action = Action::begin(node, tx, partnership, actor)?;
    let was = action.ledger().clone();
    let Some(proposal) = &was.theirs.open else {
        return match (was.terms(), was.ended, &was.mine.open) {
            (None, Some(Ended::Declined), None) => Ok(was),
            _ => Err(nothing_open(partnership)),
        };
    };
    if was.terms().is_some() {
        action.state(Side::Theirs, proposal, Status::Declined)?;
        action.tell(
            DECLINED,
            &Declined {
                generation: was.generation,
                number: proposal.number,
            },
        )?;
        return action.finish(&was, "sharing.declined");
    }
    end(&mut action, Ended::Declined)?;
    action.finish(&was, "sharing.declined")
}

/// Withdraws everything stated, which ends sharing both ways.
pub(super) fn revoke(
    node: &Node,
    tx: &Transaction<'_>,
    partnership: &Partnership,
    actor: &str,
) -> Result<Ledger, Error> {
    let mut action = Action::begin(node, tx, partnership, actor)?;
    let was = action.ledger().clone();
    if was.terms().is_none() && was.mine.open.is_none() && was.theirs.open.is_none() {
        return match was.ended {
            Some(Ended::Revoked) => Ok(was),
            _ => Err(Error::new(
                Reason::FailedPrecondition,
                format!(
                    "nothing is shared with \"{}\" and nothing proposed",
                    partnership.organization
                ),
            )),
        };
    }
    end(&mut action, Ended::Revoked)?;
    action.finish(&was, "sharing.revoked")
}

/// Generations that a rolled-back node skips: more than any two nodes ever have.
const SKIPPED: u64 = 1 << 20;

/// Ends sharing because this node's store was restored from a backup: what it holds of the terms may be long over, and the numbers it
/// would give next are taken.
pub(super) fn rolled_back(
    node: &Node,
    tx: &Transaction<'_>,
    partnership: &Partnership,
) -> Result<(), Error> {
    let mut action = Action::begin(node, tx, partnership, audit::SYSTEM)?;
    let was = action.ledger().clone();
    end_at(&mut action, was.generation + SKIPPED, Ended::Revoked)?;
    action.finish(&was, "sharing.revoked")?;
    Ok(())
}

/// Tells the partner of stages that have other names, places or categories than in the terms.
pub(super) fn rename_stages(
    node: &Node,
    tx: &Transaction<'_>,
    partnership: &Partnership,
    actor: &str,
) -> Result<(), Error> {
    let action = Action::begin(node, tx, partnership, actor)?;
    let Some((mine, _)) = action.ledger().terms() else {
        return Ok(());
    };
    let mine = mine.clone();
    let document = Document::new(mine.document.policy.clone(), node.stages(tx)?);
    if document == mine.document {
        return Ok(());
    }
    let open = action.ledger().mine.open.clone();
    tighten(action, &mine, document)?;
    // The open proposal stands, under a new number.
    if let Some(open) = open {
        propose(Action::begin(node, tx, partnership, actor)?, open.document)?;
    }
    Ok(())
}

fn end(action: &mut Action<'_>, ended: Ended) -> Result<(), Error> {
    let generation = action.ledger().generation + 1;
    end_at(action, generation, ended)
}

fn end_at(action: &mut Action<'_>, generation: u64, ended: Ended) -> Result<(), Error> {
    action.end_generation(generation, ended)?;
    action.tell(
        ENDED,
        &End {
            generation,
            how: ended,
        },
    )
}

fn propose(action: Action<'_>, document: Document) -> Result<Ledger, Error> {
    let was = action.ledger().clone();
    if was
        .mine
        .open
        .as_ref()
        .is_some_and(|open| open.document == document)
    {
        return Ok(was);
    }
    let stated = Stated {
        number: was.next_number(),
        document,
    };
    action.state(Side::Mine, &stated, Status::Open)?;
    action.tell(
        PROPOSED,
        &Proposed {
            generation: was.generation,
            number: stated.number,
            document: stated.document,
        },
    )?;
    action.finish(&was, "sharing.proposed")
}

fn change(action: Action<'_>, base: &Stated, document: Document) -> Result<Ledger, Error> {
    let was = action.ledger();
    let unchanged = base.document == document && was.mine.open.is_none();
    if unchanged {
        return Ok(action.before);
    }
    if document.policy.only_takes_away_from(&base.document.policy) {
        return tighten(action, base, document);
    }
    propose(action, document)
}

fn tighten(action: Action<'_>, base: &Stated, document: Document) -> Result<Ledger, Error> {
    let was = action.ledger().clone();
    let stated = Stated {
        number: was.next_number(),
        document,
    };
    action.state(Side::Mine, &stated, Status::Effective)?;
    action.tell(
        TIGHTENED,
        &Tightened {
            generation: was.generation,
            number: stated.number,
            base: base.number,
            document: stated.document,
        },
    )?;
    action.finish(&was, "sharing.tightened")
}

/// Approves the partner's open proposal with a policy of mine, which takes effect with it.
fn accept(action: Action<'_>, document: Document) -> Result<Ledger, Error> {
    let was = action.ledger().clone();
    let Some(proposal) = &was.theirs.open else {
        return Err(Error::internal("no proposal to accept"));
    };
    let same = |stated: &&Stated| stated.document == document;
    let stated = was
        .mine
        .open
        .as_ref()
        .filter(same)
        .or_else(|| was.mine.effective.as_ref().filter(same))
        .cloned()
        .unwrap_or_else(|| Stated {
            number: was.next_number(),
            document: document.clone(),
        });
    action.state(Side::Theirs, proposal, Status::Effective)?;
    action.state(Side::Mine, &stated, Status::Effective)?;
    action.tell(
        ACCEPTED,
        &Accepted {
            generation: was.generation,
            approves: proposal.number,
            number: stated.number,
            document: stated.document,
        },
    )?;
    action.finish(&was, "sharing.approved")
}

fn nothing_open(partnership: &Partnership) -> Error {
    Error::new(
        Reason::FailedPrecondition,
        format!("\"{}\" has no open proposal", partnership.organization),
    )
}
