//! What collaboration needs to know of what runs found.

use jiff::Timestamp;
use rusqlite::Connection;

use crate::{error::Error, node::Node};

/// A shared customer that is listed to this side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedCustomer {
    /// My row that names it.
    pub id: String,
    /// All my rows.
    pub ids: Vec<String>,
    /// The handle that names it to the partner.
    pub handle: String,
    /// My stage.
    pub mine: String,
    /// The partner's stage.
    pub theirs: String,
    /// When a run first found it.
    pub first_matched_at: Timestamp,
}

/// The last good result with each partner, as the permissions in force show it.
pub trait SharedCustomers: Send + Sync + 'static {
    /// The shared customer that a row of mine belongs to.
    ///
    /// # Errors
    /// What the store reports.
    fn by_customer(
        &self,
        node: &Node,
        connection: &Connection,
        partnership: &str,
        customer: &str,
    ) -> Result<Option<SharedCustomer>, Error>;

    /// The shared customer that a handle names, mine or the partner's.
    ///
    /// # Errors
    /// What the store reports.
    fn by_handle(
        &self,
        node: &Node,
        connection: &Connection,
        partnership: &str,
        handle: &str,
    ) -> Result<Option<SharedCustomer>, Error>;

    /// Visits every shared customer by ascending id.
    ///
    /// # Errors
    /// What the store or `visit` reports.
    fn visit(
        &self,
        node: &Node,
        connection: &Connection,
        partnership: &str,
        visit: &mut dyn FnMut(SharedCustomer) -> Result<(), Error>,
    ) -> Result<(), Error>;

    /// Whether anything sent to the partner may name the customer that a row of mine belongs to: its own tier must be list
    /// (PROTOCOL.md "Own tier rules naming").
    ///
    /// # Errors
    /// `OWN_TIER_COUNTS_ONLY` if not; what the store reports.
    fn may_name(
        &self,
        node: &Node,
        connection: &Connection,
        partnership: &str,
        customer: &str,
    ) -> Result<(), Error>;

    /// The stage of a row of mine.
    ///
    /// # Errors
    /// What the store reports.
    fn stage_of(&self, connection: &Connection, customer: &str) -> Result<Option<String>, Error>;

    /// The run that the result comes from.
    ///
    /// # Errors
    /// What the store reports.
    fn run(&self, connection: &Connection, partnership: &str) -> Result<Option<String>, Error>;

    /// Something that changes whenever the result, or the tier of any customer of mine, may have.
    ///
    /// # Errors
    /// What the store reports.
    fn version(&self, connection: &Connection, partnership: &str) -> Result<String, Error>;

    /// How many shared customers were first found after an instant, and when the latest was.
    ///
    /// # Errors
    /// What the store reports.
    fn found_after(
        &self,
        node: &Node,
        connection: &Connection,
        partnership: &str,
        after: Timestamp,
    ) -> Result<(u64, Timestamp), Error> {
        let (mut count, mut latest) = (0, after);
        self.visit(node, connection, partnership, &mut |shared| {
            if shared.first_matched_at > after {
                count += 1;
                latest = latest.max(shared.first_matched_at);
            }
            Ok(())
        })?;
        Ok((count, latest))
    }
}
