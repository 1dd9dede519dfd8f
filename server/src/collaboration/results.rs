//! Shared customers as runs left them.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use overlap_crypto::terms::Tier;
use rusqlite::{Connection, OptionalExtension as _};

use super::{SharedCustomer, SharedCustomers};
use crate::{
    customers::rows,
    error::{Error, Reason},
    node::Node,
    overlap::{
        graph::{HANDLE_BYTES, Handle},
        last::LastResult,
        own_tier_allows_naming,
        reader::Shared,
    },
    sharing::policy::active_agreement,
};

/// What the last good run with each partner found. Results are kept open between calls; files that a later run has replaced stay
/// readable to whoever has them open.
#[derive(Default)]
pub struct Results(Mutex<HashMap<(PathBuf, String), Arc<LastResult>>>);

impl Results {
    /// The last good result with a partner, as of the caller's snapshot or later.
    fn last(
        &self,
        node: &Node,
        connection: &Connection,
        partnership: &str,
    ) -> Result<Option<Arc<LastResult>>, Error> {
        let key = (node.directory.clone(), partnership.to_owned());
        let run = self.run(connection, partnership)?;
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(run) = run else {
            open.remove(&key);
            return Ok(None);
        };
        if let Some(last) = open.get(&key)
            && last.record.run_id == run
        {
            return Ok(Some(Arc::clone(last)));
        }
        open.remove(&key);
        let last = match LastResult::open(connection, &node.directory, partnership) {
            // A run that ended after the caller's snapshot has taken the files away: what is in force now takes their place.
            Err(error) if error.reason() == Reason::StorageFailed => {
                let open = |now: &Connection| LastResult::open(now, &node.directory, partnership);
                node.store.read_blocking(open)?
            }
            outcome => outcome?,
        };
        let Some(last) = last else {
            return Ok(None);
        };
        let last = Arc::new(last);
        open.insert(key, Arc::clone(&last));
        Ok(Some(last))
    }
}

fn to_shared(last: &LastResult, shared: Shared) -> SharedCustomer {
    SharedCustomer {
        mine: last.my_stage(&shared).to_owned(),
        theirs: last.their_stage(&shared).to_owned(),
        handle: hex::encode(shared.handle),
        first_matched_at: seconds(shared.column.first_matched),
        id: shared.id,
        ids: shared.ids,
    }
}

fn seconds(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

impl SharedCustomers for Results {
    fn by_customer(
        &self,
        node: &Node,
        connection: &Connection,
        partnership: &str,
        customer: &str,
    ) -> Result<Option<SharedCustomer>, Error> {
        let Some(last) = self.last(node, connection, partnership)? else {
            return Ok(None);
        };
        Ok(last
            .by_row(customer)?
            .map(|shared| to_shared(&last, shared)))
    }

    fn by_handle(
        &self,
        node: &Node,
        connection: &Connection,
        partnership: &str,
        handle: &str,
    ) -> Result<Option<SharedCustomer>, Error> {
        let mut bytes: Handle = [0; HANDLE_BYTES];
        if hex::decode_to_slice(handle, &mut bytes).is_err() {
            return Ok(None);
        }
        let Some(last) = self.last(node, connection, partnership)? else {
            return Ok(None);
        };
        Ok(last
            .by_handle(&bytes)?
            .map(|shared| to_shared(&last, shared)))
    }

    fn visit(
        &self,
        node: &Node,
        connection: &Connection,
        partnership: &str,
        visit: &mut dyn FnMut(SharedCustomer) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Some(last) = self.last(node, connection, partnership)? else {
            return Ok(());
        };
        last.files.columns(&mut |position, _| {
            visit(to_shared(&last, last.files.shared(position)?))?;
            Ok(true)
        })
    }

    fn may_name(
        &self,
        node: &Node,
        connection: &Connection,
        partnership: &str,
        customer: &str,
    ) -> Result<(), Error> {
        let refused = || {
            Error::new(
                Reason::OwnTierCountsOnly,
                "the customer is not one that may be named to the partner: its own stage is not in the list tier",
            )
        };
        match own_tier_allows_naming(connection, &node.directory, partnership, customer) {
            Ok(_) => {}
            // It is not shared any more, so there is nothing by which it might be named.
            Err(error) if error.reason() == Reason::NotFound => return Err(refused()),
            Err(error) => return Err(error),
        }
        // The run knows the stage of its time; a customer that has moved since must not be named under the old one.
        let agreement = active_agreement(connection, partnership)?;
        let shared = self.by_customer(node, connection, partnership, customer)?;
        let ids = shared.map(|shared| shared.ids).unwrap_or_default();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let highest = rows::fetch(connection, &ids)?
            .into_iter()
            .flatten()
            .filter(|row| !row.private && agreement.mine.tier(&row.stage) != Tier::Hidden)
            .max_by_key(|row| {
                let stage = agreement
                    .my_stages
                    .iter()
                    .find(|stage| stage.id == row.stage);
                stage.map(|stage| stage.ordinal)
            });
        match highest {
            Some(row) if agreement.mine.tier(&row.stage) == Tier::List => Ok(()),
            _ => Err(refused()),
        }
    }

    fn stage_of(&self, connection: &Connection, customer: &str) -> Result<Option<String>, Error> {
        let found = rows::fetch(connection, &[customer])?;
        Ok(found.into_iter().flatten().next().map(|row| row.stage))
    }

    fn run(&self, connection: &Connection, partnership: &str) -> Result<Option<String>, Error> {
        Ok(connection
            .prepare_cached("SELECT run_id FROM matching_results WHERE partnership_id = ?")?
            .query_row([partnership], |row| row.get(0))
            .optional()?)
    }

    fn version(&self, connection: &Connection, partnership: &str) -> Result<String, Error> {
        let run = self.run(connection, partnership)?.unwrap_or_default();
        Ok(format!("{run} {}", rows::change_seq(connection)?))
    }

    fn found_after(
        &self,
        node: &Node,
        connection: &Connection,
        partnership: &str,
        after: Timestamp,
    ) -> Result<(u64, Timestamp), Error> {
        let Some(last) = self.last(node, connection, partnership)? else {
            return Ok((0, after));
        };
        let (mut count, mut latest) = (0, after);
        last.files.columns(&mut |_, column| {
            let first_matched = seconds(column.first_matched);
            if first_matched > after {
                count += 1;
                latest = latest.max(first_matched);
            }
            Ok(true)
        })?;
        Ok((count, latest))
    }
}
