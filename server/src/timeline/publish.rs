//! Tells partners the events that they may know.
//!
//! A full publication looks at every event of mine, a partial one at those of customers with new events. Either sends what the
//! partner does not have in that form, and withdraws what it may no longer know. It is interrupted without harm: what was sent is remembered in the transaction that enqueues it.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use overlap_crypto::terms::Tier;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use sha2::{Digest as _, Sha256};

use super::{
    events::{Event, EventType, Side},
    index::read,
    measures::PartnerNames,
    notices::{BATCH, EVENTS, Events, MAX_LABEL_CHARS, WITHDRAWN, WireEvent, Withdrawn},
};
use crate::{
    collaboration::SharedCustomers,
    error::{Error, Reason, unless},
    node::Node,
    notices, partnership,
    sharing::policy::{Agreement, agreement_if_active},
};

/// Customers looked at in one transaction.
const CUSTOMERS: usize = 500;
/// With more notices than this waiting for the partner, publication waits, too.
const MAX_WAITING: u64 = 64;
/// After a change of customers everything is looked at again, but not more often than this.
const EVERY: SignedDuration = SignedDuration::from_secs(60);

/// Publishes events to a partner if anything may have changed. Blocks.
///
/// # Errors
/// What the store reports.
pub(crate) fn publish(
    node: &Node,
    customers: &dyn SharedCustomers,
    partnership: &str,
) -> Result<(), Error> {
    let Some(mut publication) = node
        .store
        .read_blocking(|connection| Publication::due(node, connection, customers, partnership))?
    else {
        return Ok(());
    };
    loop {
        match node.store.write_blocking(|tx| publication.step(tx))? {
            Progress::More(after) => publication.after = after,
            Progress::Ended => return Ok(()),
        }
    }
}

struct Publication<'a> {
    node: &'a Node,
    customers: &'a dyn SharedCustomers,
    partnership: &'a str,
    /// The results that it is for.
    run: String,
    /// Of the results and the customers that it is for.
    version: String,
    /// Whether only customers with new events are looked at.
    is_partial: bool,
    round: u64,
    /// The last customer that was looked at.
    after: String,
}

enum Progress {
    /// There are customers after this one.
    More(String),
    /// It is complete, or has to wait or start anew.
    Ended,
}

impl<'a> Publication<'a> {
    /// The publication to a partner that is due, if one is.
    fn due(
        node: &'a Node,
        connection: &Connection,
        customers: &'a dyn SharedCustomers,
        partnership: &'a str,
    ) -> Result<Option<Self>, Error> {
        if agreement_if_active(connection, partnership)?.is_none() {
            return Ok(None);
        }
        let run = customers.run(connection, partnership)?.unwrap_or_default();
        let version = customers.version(connection, partnership)?;
        let last: Option<(String, String, i64)> = connection
            .prepare_cached(
                "SELECT run, version, at_us FROM timeline_publication WHERE partnership = ?",
            )?
            .query_row([partnership], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()?;
        let is_full_due = last.is_none_or(|(last_run, last_version, at_us)| {
            let age =
                SignedDuration::from_micros(node.now().as_microsecond().saturating_sub(at_us));
            last_run != run || (last_version != version && age >= EVERY)
        });
        if !is_full_due {
            let is_any_new: bool = connection
                .prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM timeline_unpublished WHERE partnership = ?)",
                )?
                .query_row([partnership], |row| row.get(0))?;
            if !is_any_new {
                return Ok(None);
            }
        }
        let round = connection
            .prepare_cached(
                "SELECT ifnull(max(round), 0) + 1 FROM timeline_sent WHERE partnership = ?",
            )?
            .query_row([partnership], |row| row.get(0))?;
        Ok(Some(Self {
            node,
            customers,
            partnership,
            run,
            version,
            is_partial: !is_full_due,
            round,
            after: String::new(),
        }))
    }

    fn step(&self, tx: &Transaction<'_>) -> Result<Progress, Error> {
        let Some(partnership) = partnership::if_connected(tx, self.partnership)? else {
            return Ok(Progress::Ended);
        };
        let Some(agreement) = agreement_if_active(tx, self.partnership)? else {
            return Ok(Progress::Ended);
        };
        // Something changed since the last step: the next look starts anew.
        if !self.is_partial && self.customers.version(tx, self.partnership)? != self.version {
            return Ok(Progress::Ended);
        }
        if !agreement.mine.timeline {
            return self.complete(tx);
        }
        let waiting: u64 = tx
            .prepare_cached("SELECT count(*) FROM notices_out WHERE partnership = ?")?
            .query_row([self.partnership], |row| row.get(0))?;
        if waiting > MAX_WAITING {
            return Ok(Progress::Ended);
        }
        let sql = if self.is_partial {
            "SELECT customer FROM timeline_unpublished WHERE partnership = ?3 AND customer > ?1 ORDER BY customer LIMIT ?2"
        } else {
            "SELECT DISTINCT customer FROM timeline_events WHERE customer > ?1 AND ?3 <> '' ORDER BY customer LIMIT ?2"
        };
        let rows: Vec<String> = tx
            .prepare_cached(sql)?
            .query_map(params![self.after, CUSTOMERS, self.partnership], |row| {
                row.get(0)
            })?
            .collect::<Result<_, _>>()?;
        let names = PartnerNames::read(tx, &partnership)?;
        let mut batch = Batch::default();
        for customer in &rows {
            self.publish_row(tx, &agreement, &names, customer, &mut batch)?;
            tx.prepare_cached(
                "DELETE FROM timeline_unpublished WHERE partnership = ? AND customer = ?",
            )?
            .execute([self.partnership, customer])?;
        }
        self.flush(tx, &mut batch)?;
        match rows.last() {
            Some(last) if rows.len() == CUSTOMERS => Ok(Progress::More(last.clone())),
            _ if self.is_partial => Ok(Progress::Ended),
            _ => self.complete(tx),
        }
    }

    /// Sends what is new of one row of mine, and withdraws what may no longer be known.
    fn publish_row(
        &self,
        tx: &Transaction<'_>,
        agreement: &Agreement,
        names: &PartnerNames,
        customer: &str,
        batch: &mut Batch,
    ) -> Result<(), Error> {
        let handle = self.handle(tx, customer)?;
        let mut statement = tx.prepare_cached(
            "SELECT at_us, id, type, label, partner FROM timeline_events WHERE customer = ? ORDER BY at_us, id",
        )?;
        let mut found = statement.query([customer])?;
        while let Some(row) = found.next()? {
            let Some(event) = read(row, Side::Mine)? else {
                continue;
            };
            let label = disclosed_label(&event, agreement, names);
            match (&handle, label) {
                (Some(handle), Some(label)) => {
                    self.publish_event(tx, &event, &label, handle, batch)?;
                }
                _ => self.withdraw_event(tx, &event, batch)?,
            }
        }
        Ok(())
    }

    /// The handle of a row's customer, if it is shared and may be named.
    fn handle(&self, tx: &Transaction<'_>, customer: &str) -> Result<Option<String>, Error> {
        let shared = self
            .customers
            .by_customer(self.node, tx, self.partnership, customer)?;
        let Some(shared) = shared else {
            return Ok(None);
        };
        let allowed = self
            .customers
            .may_name(self.node, tx, self.partnership, &shared.id);
        let allowed = unless(allowed, &[Reason::OwnTierCountsOnly])?;
        Ok(allowed.map(|()| shared.handle))
    }

    fn withdraw_event(
        &self,
        tx: &Transaction<'_>,
        event: &Event,
        batch: &mut Batch,
    ) -> Result<(), Error> {
        let alias: Option<String> = tx
            .prepare_cached(
                "DELETE FROM timeline_sent WHERE partnership = ? AND event = ? RETURNING alias",
            )?
            .query_row([self.partnership, &event.id], |row| row.get(0))
            .optional()?;
        batch.withdrawn.extend(alias);
        if batch.withdrawn.len() >= BATCH {
            self.flush(tx, batch)?;
        }
        Ok(())
    }

    fn publish_event(
        &self,
        tx: &Transaction<'_>,
        event: &Event,
        label: &str,
        handle: &str,
        batch: &mut Batch,
    ) -> Result<(), Error> {
        let content = content(event, label, handle);
        let same = tx
            .prepare_cached(
                "UPDATE timeline_sent SET round = ? WHERE partnership = ? AND event = ? AND content = ?",
            )?
            .execute(params![self.round, self.partnership, event.id, content])?;
        if same > 0 {
            return Ok(());
        }
        let alias = self.alias(&event.id);
        tx.prepare_cached(
            "INSERT OR REPLACE INTO timeline_sent (partnership, event, alias, content, round) VALUES (?, ?, ?, ?, ?)",
        )?
        .execute(params![self.partnership, event.id, alias, content, self.round])?;
        batch.count += 1;
        batch
            .customers
            .entry(handle.to_owned())
            .or_default()
            .push(WireEvent {
                id: alias,
                at_us: event.at.as_microsecond(),
                kind: event.kind.name().to_owned(),
                label: label.to_owned(),
            });
        if batch.count >= BATCH {
            self.flush(tx, batch)?;
        }
        Ok(())
    }

    fn flush(&self, tx: &Transaction<'_>, batch: &mut Batch) -> Result<(), Error> {
        let batch = std::mem::take(batch);
        if batch.count > 0 {
            let body = Events {
                customers: batch.customers,
            };
            notices::enqueue(self.node, tx, self.partnership, EVENTS, &body)?;
        }
        self.withdraw(tx, &batch.withdrawn)
    }

    fn withdraw(&self, tx: &Transaction<'_>, aliases: &[String]) -> Result<(), Error> {
        for ids in aliases.chunks(BATCH) {
            let body = Withdrawn { ids: ids.to_vec() };
            notices::enqueue(self.node, tx, self.partnership, WITHDRAWN, &body)?;
        }
        Ok(())
    }

    /// Withdraws what this publication did not see, and remembers that it is complete.
    fn complete(&self, tx: &Transaction<'_>) -> Result<Progress, Error> {
        let gone: Vec<String> = tx
            .prepare_cached(
                "DELETE FROM timeline_sent WHERE partnership = ? AND round <> ? RETURNING alias",
            )?
            .query_map(params![self.partnership, self.round], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        self.withdraw(tx, &gone)?;
        tx.prepare_cached(
            "INSERT OR REPLACE INTO timeline_publication (partnership, run, version, at_us) VALUES (?, ?, ?, ?)",
        )?
        .execute(params![
            self.partnership,
            self.run,
            self.version,
            self.node.now().as_microsecond()
        ])?;
        tx.prepare_cached("DELETE FROM timeline_unpublished WHERE partnership = ?")?
            .execute([self.partnership])?;
        Ok(Progress::Ended)
    }

    /// The name under which the partner knows an event: always the same, and meaningless to anybody else. A signature is a
    /// pseudorandom function of what is signed that only this node can compute.
    fn alias(&self, event: &str) -> String {
        let mut message = b"overlap/timeline/alias/v1".to_vec();
        for text in [self.partnership, event] {
            message.extend_from_slice(&(text.len() as u64).to_be_bytes());
            message.extend_from_slice(text.as_bytes());
        }
        let hash: [u8; 32] = Sha256::digest(self.node.identity.sign(&message)).into();
        hex::encode(&hash[..16])
    }
}

#[derive(Default)]
struct Batch {
    customers: BTreeMap<String, Vec<WireEvent>>,
    count: usize,
    withdrawn: Vec<String>,
}

/// The terms in force, if there are any.
fn content(event: &Event, label: &str, handle: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(event.at.as_microsecond().to_be_bytes());
    hash.update(event.kind.code().to_be_bytes());
    for text in [label, handle] {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    hash.finalize().into()
}

/// What the partner may read of an event; nothing if it may not know of it at all.
fn disclosed_label(event: &Event, agreement: &Agreement, names: &PartnerNames) -> Option<String> {
    // What a customer has to do with other partners is not this one's business.
    if !event.partner.is_empty() && !names.is_named_by(&event.partner) {
        return None;
    }
    if event.kind == EventType::StageChanged {
        // A stage that is not listed is not to be named together with a customer.
        return (agreement.mine.tier(&event.label) == Tier::List).then(|| event.label.clone());
    }
    Some(if may_identify(&event.label) {
        String::new()
    } else {
        event.label.chars().take(MAX_LABEL_CHARS).collect()
    })
}

/// Whether a text may hold an identifier: an e-mail address, or as many digits in a row as a telephone number has.
fn may_identify(text: &str) -> bool {
    let mut digits = 0;
    let has_number = text.chars().any(|character| {
        if character.is_numeric() {
            digits += 1;
        } else if !matches!(character, ' ' | '-' | '.' | '/' | '(' | ')' | '+') {
            digits = 0;
        }
        digits >= 7
    });
    has_number || text.contains('@') || text.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_may_identify_are_left_out() {
        assert!(may_identify("renewed by ada@acme.example"));
        assert!(may_identify("called +49 30 1234567"));
        assert!(!may_identify("100 seats, 2026-03, 25 users"));
    }
}
