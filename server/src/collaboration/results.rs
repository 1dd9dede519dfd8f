//! Shared customers as runs left them.

use jiff::Timestamp;
use rusqlite::Connection;

use super::{SharedCustomer, SharedCustomers};
use crate::{
    error::{Error, Reason},
    node::Node,
};

/// What the last good run with each partner found.
pub struct Results;

impl SharedCustomers for Results {
    fn by_customer(
        &self,
        _: &Node,
        _: &Connection,
        _: &str,
        _: &str,
    ) -> Result<Option<SharedCustomer>, Error> {
        Ok(None)
    }

    fn by_handle(
        &self,
        _: &Node,
        _: &Connection,
        _: &str,
        _: &str,
    ) -> Result<Option<SharedCustomer>, Error> {
        Ok(None)
    }

    fn visit(
        &self,
        _: &Node,
        _: &Connection,
        _: &str,
        _: &mut dyn FnMut(SharedCustomer) -> Result<(), Error>,
    ) -> Result<(), Error> {
        Ok(())
    }

    fn may_name(&self, _: &Node, _: &Connection, _: &str, _: &str) -> Result<(), Error> {
        Err(Error::new(
            Reason::OwnTierCountsOnly,
            "this customer's stage is not listed to the partner, so nothing sent may name it",
        ))
    }

    fn stage_of(&self, _: &Connection, _: &str) -> Result<Option<String>, Error> {
        Ok(None)
    }

    fn run(&self, _: &Connection, _: &str) -> Result<Option<String>, Error> {
        Ok(None)
    }

    fn version(&self, _: &Connection, _: &str) -> Result<String, Error> {
        Ok(String::new())
    }

    fn found_after(
        &self,
        _: &Node,
        _: &Connection,
        _: &str,
        after: Timestamp,
    ) -> Result<(u64, Timestamp), Error> {
        Ok((0, after))
    }
}
