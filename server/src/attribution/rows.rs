//! Attribution requests in the store.

use jiff::Timestamp;
use overlap_proto::v1;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use super::state::{Copy, Direction, Outcome, State};
use crate::{
    collaboration::SharedCustomers,
    convert::{stored_time, stored_time_opt, timestamp},
    error::{Error, Reason},
    node::Node,
};

/// One request as this node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attribution {
    pub(super) partnership: String,
    pub(super) id: String,
    pub(super) direction: Direction,
    pub(super) state: State,
    /// My row; empty while it is not known.
    pub(super) customer: String,
    pub(super) handle: String,
    pub(super) details: String,
    pub(super) comment: String,
    pub(super) requested_at: Timestamp,
    pub(super) decided_at: Option<Timestamp>,
    pub(super) cancel_asked_at: Option<Timestamp>,
    pub(super) user: String,
}

const COLUMNS: &str = "partnership, id, sent, state, customer, handle, details, comment, requested_us, decided_us, cancel_us, user";

impl Attribution {
    pub(super) const fn copy(&self) -> Copy {
        Copy {
            direction: self.direction,
            state: self.state,
            cancel_asked: self.cancel_asked_at.is_some(),
        }
    }

    fn read(row: &Row<'_>) -> Result<Self, Error> {
        let state: String = row.get(3)?;
        Ok(Self {
            partnership: row.get(0)?,
            id: row.get(1)?,
            direction: if row.get(2)? {
                Direction::Sent
            } else {
                Direction::Received
            },
            state: State::from_name(&state).ok_or_else(|| {
                Error::new(Reason::StorageFailed, "an attribution's state is damaged")
            })?,
            customer: row.get(4)?,
            handle: row.get(5)?,
            details: row.get(6)?,
            comment: row.get(7)?,
            requested_at: stored_time(row, 8)?,
            decided_at: stored_time_opt(row, 9)?,
            cancel_asked_at: stored_time_opt(row, 10)?,
            user: row.get(11)?,
        })
    }

    pub(super) fn insert(&self, tx: &Transaction<'_>) -> Result<(), Error> {
        tx.prepare_cached(&format!(
            "INSERT INTO attributions ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        ))?
        .execute(params![
            self.partnership,
            self.id,
            self.direction == Direction::Sent,
            self.state.name(),
            self.customer,
            self.handle,
            self.details,
            self.comment,
            self.requested_at.as_microsecond(),
            self.decided_at.map(Timestamp::as_microsecond),
            self.cancel_asked_at.map(Timestamp::as_microsecond),
            self.user,
        ])?;
        Ok(())
    }

    /// Ends the request.
    pub(super) fn end(
        &mut self,
        tx: &Transaction<'_>,
        outcome: Outcome,
        comment: &str,
        at: Timestamp,
    ) -> Result<(), Error> {
        self.state = outcome.state();
        comment.clone_into(&mut self.comment);
        self.decided_at = Some(at);
        self.cancel_asked_at = None;
        tx.prepare_cached(
            "UPDATE attributions SET state = ?, comment = ?, decided_us = ?, cancel_us = NULL, user = ? WHERE partnership = ? AND id = ?",
        )?
        .execute(params![
            self.state.name(),
            self.comment,
            at.as_microsecond(),
            self.user,
            self.partnership,
            self.id
        ])?;
        Ok(())
    }

    pub(super) fn ask_to_cancel(
        &mut self,
        tx: &Transaction<'_>,
        at: Timestamp,
    ) -> Result<(), Error> {
        self.cancel_asked_at = Some(at);
        tx.prepare_cached(
            "UPDATE attributions SET cancel_us = ? WHERE partnership = ? AND id = ?",
        )?
        .execute(params![at.as_microsecond(), self.partnership, self.id])?;
        Ok(())
    }

    /// Names my row of the customer that the partner asks about, if the last run found it, and says whether it is another than
    /// before. The row of an earlier run may be gone while the customer is still shared; one that is not stays as it is.
    pub(super) fn resolve(
        &mut self,
        node: &Node,
        connection: &Connection,
        customers: &dyn SharedCustomers,
    ) -> Result<bool, Error> {
        if self.direction == Direction::Sent || self.handle.is_empty() {
            return Ok(false);
        }
        match customers.by_handle(node, connection, &self.partnership, &self.handle)? {
            Some(shared) if shared.id != self.customer => {
                self.customer = shared.id;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    pub(super) fn to_proto(&self) -> v1::Attribution {
        let state = match self.state {
            State::Pending => v1::AttributionState::Pending,
            State::Approved => v1::AttributionState::Approved,
            State::Denied => v1::AttributionState::Denied,
            State::Cancelled => v1::AttributionState::Cancelled,
        };
        let direction = match self.direction {
            Direction::Sent => v1::AttributionDirection::Sent,
            Direction::Received => v1::AttributionDirection::Received,
        };
        v1::Attribution {
            id: self.id.clone(),
            partner: self.partnership.clone(),
            direction: direction.into(),
            state: state.into(),
            customer: self.customer.clone(),
            r#ref: self.handle.clone(),
            details: self.details.clone(),
            comment: self.comment.clone(),
            requested_at: Some(timestamp(self.requested_at)),
            decided_at: self.decided_at.map(timestamp),
            cancel_requested_at: self.cancel_asked_at.map(timestamp),
            user: self.user.clone(),
        }
    }
}

/// One request.
pub(super) fn find(
    connection: &Connection,
    partnership: &str,
    id: &str,
) -> Result<Option<Attribution>, Error> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM attributions WHERE partnership = ? AND id = ?"
    ))?;
    let mut rows = statement.query([partnership, id])?;
    rows.next()?.map(Attribution::read).transpose()
}

/// The id of my request for a shared customer that waits for a decision. `rows` are all my rows of it: the one that the request
/// was stored with may name the customer no longer.
pub(super) fn pending(
    connection: &Connection,
    partnership: &str,
    rows: &[String],
) -> Result<Option<String>, Error> {
    let mut statement = connection.prepare_cached(
        "SELECT id FROM attributions WHERE partnership = ? AND customer = ? AND sent = 1 AND state = 'PENDING'",
    )?;
    for customer in rows {
        let found = statement.query_row([partnership, customer], |row| row.get(0));
        if let Some(id) = found.optional()? {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// How many requests of the partner's wait for a decision.
pub(super) fn count_waiting(connection: &Connection, partnership: &str) -> Result<u64, Error> {
    Ok(connection
        .prepare_cached(
            "SELECT count(*) FROM attributions WHERE partnership = ? AND sent = 0 AND state = 'PENDING'",
        )?
        .query_row([partnership], |row| row.get(0))?)
}

/// Which requests to list.
pub(super) struct Filter<'a> {
    pub(super) partnership: &'a str,
    pub(super) direction: Direction,
    pub(super) state: Option<State>,
    /// Rows of mine, one of which the request must name; of all customers if `None`.
    pub(super) customers: Option<&'a [String]>,
}

/// Up to `limit` requests after a position, newest first, and how many there are in all.
pub(super) fn list(
    connection: &Connection,
    filter: &Filter<'_>,
    (before_us, after_id): (i64, &str),
    limit: usize,
) -> Result<(Vec<Attribution>, u64), Error> {
    const CONDITION: &str = "partnership = ?1 AND sent = ?2 AND (?3 = '' OR state = ?3) AND (?4 IS NULL OR customer IN (SELECT value FROM json_each(?4))) AND handle <> ''";
    let sent = filter.direction == Direction::Sent;
    let state = filter.state.map_or("", State::name);
    let customers = filter
        .customers
        .map(|rows| serde_json::Value::from(rows).to_string());
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM attributions WHERE {CONDITION} \
         AND (requested_us < ?5 OR (requested_us = ?5 AND id > ?6)) ORDER BY requested_us DESC, id LIMIT ?7"
    ))?;
    let mut rows = statement.query(params![
        filter.partnership,
        sent,
        state,
        customers,
        before_us,
        after_id,
        limit
    ])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(Attribution::read(row)?);
    }
    let total = connection
        .prepare_cached(&format!(
            "SELECT count(*) FROM attributions WHERE {CONDITION}"
        ))?
        .query_row(params![filter.partnership, sent, state, customers], |row| {
            row.get(0)
        })?;
    Ok((found, total))
}

/// Names my rows of customers as the last run found them: a request may arrive before the run's results are in place, and a run
/// may name a customer by another row than the one before.
///
/// # Errors
/// What the store reports.
pub(crate) fn resolve(
    node: &Node,
    tx: &Transaction<'_>,
    customers: &dyn SharedCustomers,
    partnership: &str,
) -> Result<(), Error> {
    let mut statement = tx.prepare_cached(
        "SELECT id, handle, customer FROM attributions WHERE partnership = ? AND sent = 0 AND handle <> ''",
    )?;
    let mut rows = statement.query([partnership])?;
    let mut renamed: Vec<(String, String)> = Vec::new();
    while let Some(row) = rows.next()? {
        let handle: String = row.get(1)?;
        if let Some(shared) = customers.by_handle(node, tx, partnership, &handle)?
            && row.get::<_, String>(2)? != shared.id
        {
            renamed.push((row.get(0)?, shared.id));
        }
    }
    for (id, customer) in renamed {
        set_customer(tx, partnership, &id, &customer)?;
    }
    Ok(())
}

/// Stores my row of the customer.
pub(super) fn set_customer(
    tx: &Transaction<'_>,
    partnership: &str,
    id: &str,
    customer: &str,
) -> Result<(), Error> {
    tx.prepare_cached("UPDATE attributions SET customer = ? WHERE partnership = ? AND id = ?")?
        .execute([customer, partnership, id])?;
    Ok(())
}

/// Removes every request with a partner: they name shared customers.
///
/// # Errors
/// What the store reports.
pub(crate) fn forget(tx: &Transaction<'_>, partnership: &str) -> Result<(), Error> {
    tx.execute(
        "DELETE FROM attributions WHERE partnership = ?",
        [partnership],
    )?;
    Ok(())
}
