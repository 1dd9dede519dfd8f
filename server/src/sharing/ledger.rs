//! What both sides stated, and what follows from it.
//!
//! Each side numbers its policies, ascending and for good; a side's policy in force is its highest-numbered one that took effect in
//! the current generation, its open proposal its highest-numbered one altogether if nobody decided it. A generation ends by a
//! revocation, or when a proposal is declined before there is an agreement; everything stated in it is then void, whatever is still
//! on its way. So both nodes end with the same terms in whatever order their notices cross.
//!
//! Invariant: within a generation either both sides have a policy in force or neither has.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use sha2::{Digest as _, Sha256};

use super::{
    document::Document,
    policy::{Agreement, Stage},
};
use crate::{
    convert::stored_time,
    error::{Error, Reason},
    node::SharingChange,
};

/// Policies that are kept of each side.
const KEPT: u64 = 100;
/// Numbers beyond this are nobody's honest mistake.
pub(super) const MAX_NUMBER: u64 = 1 << 48;

/// Whose policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Mine,
    Theirs,
}

/// What became of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Open,
    Effective,
    Declined,
}

impl Status {
    const ALL: [Self; 3] = [Self::Open, Self::Effective, Self::Declined];

    const fn name(self) -> &'static str {
        match self {
            Self::Open => "OPEN",
            Self::Effective => "EFFECTIVE",
            Self::Declined => "DECLINED",
        }
    }
}

/// How a generation ended.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Ended {
    Declined,
    Revoked,
}

impl Ended {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Declined => "DECLINED",
            Self::Revoked => "REVOKED",
        }
    }
}

/// A numbered policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stated {
    pub(super) number: u64,
    pub(super) document: Document,
}

/// One side of the ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Statements {
    /// The policy in force.
    pub(super) effective: Option<Stated>,
    /// The proposal that nobody has decided.
    pub(super) open: Option<Stated>,
    /// The highest number ever used.
    pub(super) last: u64,
    /// The stages as last named, in whatever generation.
    pub(super) stages: Vec<Stage>,
}

/// Both sides with one partner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ledger {
    pub(super) generation: u64,
    /// How the generation before this one ended.
    pub(super) ended: Option<Ended>,
    pub(super) mine: Statements,
    pub(super) theirs: Statements,
    pub(super) updated_at: Option<Timestamp>,
}

impl Ledger {
    pub(super) fn load(connection: &Connection, partnership: &str) -> Result<Self, Error> {
        let head = connection
            .prepare_cached(
                "SELECT generation, ended, updated_us FROM sharing WHERE partnership = ?",
            )?
            .query_row([partnership], |row| {
                Ok((
                    row.get::<_, u64>(0)?,
                    row.get::<_, String>(1)?,
                    stored_time(row, 2),
                ))
            })
            .optional()?;
        let (generation, ended, updated_at) = match head {
            None => (1, None, None),
            Some((generation, ended, updated_at)) => (
                generation,
                [Ended::Declined, Ended::Revoked]
                    .into_iter()
                    .find(|known| known.name() == ended),
                Some(updated_at?),
            ),
        };
        let load = |side| Statements::load(connection, partnership, side, generation);
        Ok(Self {
            generation,
            ended,
            mine: load(Side::Mine)?,
            theirs: load(Side::Theirs)?,
            updated_at,
        })
    }

    /// The number of my next policy: never below the generation, so that a rolled-back node skips numbers with generations.
    pub(super) fn next_number(&self) -> u64 {
        (self.mine.last + 1).max(self.generation)
    }

    /// Both policies in force.
    pub(super) fn terms(&self) -> Option<(&Stated, &Stated)> {
        Some((
            self.mine.effective.as_ref()?,
            self.theirs.effective.as_ref()?,
        ))
    }

    /// Rises with every change of the terms, and is the same on both sides.
    pub(super) fn version(&self) -> u64 {
        self.terms()
            .map_or(0, |(mine, theirs)| mine.number + theirs.number)
    }

    /// Hash of the terms in force, the same on both sides.
    pub(super) fn terms_hash(
        &self,
        my_key: &[u8; 32],
        their_key: &[u8; 32],
    ) -> Result<Option<[u8; 32]>, Error> {
        let Some((mine, theirs)) = self.terms() else {
            return Ok(None);
        };
        let mut sides = [(my_key, mine), (their_key, theirs)];
        sides.sort_by_key(|(key, _)| **key);
        let mut hash = Sha256::new();
        hash.update(b"overlap/sharing/terms/v1");
        for (key, stated) in sides {
            let document = stated.document.encode()?;
            hash.update(key);
            hash.update(stated.number.to_be_bytes());
            hash.update((document.len() as u64).to_be_bytes());
            hash.update(document);
        }
        Ok(Some(hash.finalize().into()))
    }

    pub(super) fn agreement(&self, partnership: &str) -> Result<Agreement, Error> {
        if let Some((mine, theirs)) = self.terms() {
            return Ok(Agreement {
                mine: mine.document.policy.clone(),
                theirs: theirs.document.policy.clone(),
                my_stages: mine.document.stages.clone(),
                their_stages: theirs.document.stages.clone(),
            });
        }
        let problem = match (&self.mine.open, &self.theirs.open, self.ended) {
            (_, Some(_), _) => {
                "the partner has proposed sharing permissions: approve them, or set yours, with `overlap sharing`"
            }
            (Some(_), None, _) => "the partner has not approved the sharing permissions yet",
            (None, None, Some(Ended::Declined)) => {
                "the sharing permissions were declined: propose others with `overlap sharing set`"
            }
            (None, None, Some(Ended::Revoked)) => {
                "the sharing permissions were revoked: propose new ones with `overlap sharing set`"
            }
            (None, None, None) => {
                "no sharing permissions are agreed: propose some with `overlap sharing set`"
            }
        };
        Err(Error::new(Reason::SharingNotActive, problem).with("partner", partnership))
    }

    /// What changed for results between two states of the ledger.
    pub(super) fn change(before: &Self, after: &Self) -> Option<SharingChange> {
        let (old, new) = match (before.terms(), after.terms()) {
            (None, None) => return None,
            (None, Some(_)) => return Some(SharingChange::Activated),
            (Some(_), None) => return Some(SharingChange::Ended),
            // The generation between was void.
            (Some(_), Some(_)) if before.generation != after.generation => {
                return Some(SharingChange::Tightened);
            }
            (Some(old), Some(new)) => (old, new),
        };
        let sides = [(old.0, new.0), (old.1, new.1)];
        if sides.iter().all(|(old, new)| old.document == new.document) {
            return (old != new).then_some(SharingChange::Kept);
        }
        let kept = sides
            .iter()
            .all(|(old, new)| new.document.policy.keeps_all_of(&old.document.policy));
        let same = sides
            .iter()
            .all(|(old, new)| old.document.policy == new.document.policy);
        Some(match (kept, same) {
            (_, true) => SharingChange::Kept,
            (true, false) => SharingChange::Widened,
            (false, false) => SharingChange::Tightened,
        })
    }
}

impl Statements {
    fn load(
        connection: &Connection,
        partnership: &str,
        side: Side,
        generation: u64,
    ) -> Result<Self, Error> {
        let mut statement = connection.prepare_cached(
            "SELECT number, generation, status, document FROM sharing_policies \
             WHERE partnership = ? AND mine = ? ORDER BY number DESC",
        )?;
        let mut rows = statement.query(params![partnership, side == Side::Mine])?;
        let mut found = Self::default();
        let mut newest = true;
        while let Some(row) = rows.next()? {
            let number = row.get(0)?;
            let current = row.get::<_, u64>(1)? == generation;
            let status: String = row.get(2)?;
            let wanted = current
                && found.effective.is_none()
                && (status == Status::Effective.name() || newest && status == Status::Open.name());
            if newest || wanted {
                let document = stored(&row.get::<_, Vec<u8>>(3)?)?;
                if newest {
                    found.last = number;
                    found.stages.clone_from(&document.stages);
                }
                if wanted {
                    let stated = Stated { number, document };
                    if status == Status::Effective.name() {
                        found.effective = Some(stated);
                    } else {
                        found.open = Some(stated);
                    }
                }
            }
            newest = false;
        }
        Ok(found)
    }
}

/// A policy with its status, in whatever generation.
pub(super) fn policy(
    connection: &Connection,
    partnership: &str,
    side: Side,
    number: u64,
) -> Result<Option<(u64, Status, Document)>, Error> {
    connection
        .prepare_cached(
            "SELECT generation, status, document FROM sharing_policies WHERE partnership = ? AND mine = ? AND number = ?",
        )?
        .query_row(params![partnership, side == Side::Mine, number], |row| {
            Ok((
                row.get::<_, u64>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, Vec<u8>>(2)?,
            ))
        })
        .optional()?
        .map(|(generation, status, document)| {
            let status = Status::ALL
                .into_iter()
                .find(|known| known.name() == status)
                .ok_or_else(|| Error::new(Reason::StorageFailed, "store: an unknown status"))?;
            Ok((generation, status, stored(&document)?))
        })
        .transpose()
}

/// Writes a policy, or the status that one has now.
pub(super) fn state(
    tx: &Transaction<'_>,
    partnership: &str,
    side: Side,
    generation: u64,
    stated: &Stated,
    status: Status,
    at: Timestamp,
) -> Result<(), Error> {
    tx.prepare_cached(
        "INSERT INTO sharing_policies (partnership, mine, number, generation, status, document, created_us) \
         VALUES (?, ?, ?, ?, ?, ?, ?) \
         ON CONFLICT (partnership, mine, number) DO UPDATE SET status = excluded.status",
    )?
    .execute(params![
        partnership,
        side == Side::Mine,
        stated.number,
        generation,
        status.name(),
        stated.document.encode()?,
        at.as_microsecond()
    ])?;
    // What is in force stays whatever its number.
    tx.prepare_cached(
        "DELETE FROM sharing_policies WHERE partnership = ?1 AND mine = ?2 AND number + ?3 < ?4 AND status <> 'EFFECTIVE'",
    )?
    .execute(params![
        partnership,
        side == Side::Mine,
        KEPT,
        stated.number
    ])?;
    Ok(())
}

/// Writes the generation.
pub(super) fn head(
    tx: &Transaction<'_>,
    partnership: &str,
    generation: u64,
    ended: Option<Ended>,
    at: Timestamp,
) -> Result<(), Error> {
    tx.prepare_cached(
        "INSERT INTO sharing (partnership, generation, ended, updated_us) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (partnership) DO UPDATE SET generation = ?2, ended = ?3, updated_us = ?4",
    )?
    .execute(params![
        partnership,
        generation,
        ended.map_or("", Ended::name),
        at.as_microsecond()
    ])?;
    Ok(())
}

/// The highest number of a policy that the partner put in force itself.
pub(super) fn settled(connection: &Connection, partnership: &str) -> Result<u64, Error> {
    Ok(connection
        .prepare_cached("SELECT settled FROM sharing WHERE partnership = ?")?
        .query_row([partnership], |row| row.get(0))
        .optional()?
        .unwrap_or(0))
}

/// Notes that the partner put a policy of its own in force.
pub(super) fn settle(
    tx: &Transaction<'_>,
    partnership: &str,
    number: u64,
    at: Timestamp,
) -> Result<(), Error> {
    tx.prepare_cached(
        "INSERT INTO sharing (partnership, updated_us, settled) VALUES (?1, ?2, ?3) \
         ON CONFLICT (partnership) DO UPDATE SET settled = max(settled, ?3)",
    )?
    .execute(params![partnership, at.as_microsecond(), number])?;
    Ok(())
}

/// Forgets everything about a partner.
pub(super) fn forget(tx: &Transaction<'_>, partnership: &str) -> Result<(), Error> {
    for table in ["sharing_policies", "sharing"] {
        tx.execute(
            &format!("DELETE FROM {table} WHERE partnership = ?"),
            [partnership],
        )?;
    }
    Ok(())
}

fn stored(bytes: &[u8]) -> Result<Document, Error> {
    Document::decode(bytes)
        .map_err(|error| Error::new(Reason::StorageFailed, format!("store: {error}")))
}
