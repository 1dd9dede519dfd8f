//! The only door through which matching reads customers.

use overlap_crypto::terms::KeyType;
use rusqlite::Connection;

use crate::error::Error;

/// A customer row whose stage is disclosed.
pub struct DisclosedRow<'a> {
    /// The row's id.
    pub id: &'a str,
    /// Its lifecycle stage.
    pub stage: &'a str,
    /// Its usable normalised keys of the wanted types, without duplicates.
    pub keys: &'a [(KeyType, String)],
}

/// Which rows and keys to read.
pub struct Disclosure<'a> {
    /// The disclosed stages; rows of any other stage are filtered by the storage query, as are private rows.
    pub stages: &'a [&'a str],
    /// The key types to read.
    pub key_types: &'a [KeyType],
    /// Whether the domain of an e-mail address acts as a domain key.
    pub domain_from_email: bool,
}

/// Visits the disclosed rows in ascending order of id (byte order).
///
/// # Errors
/// What the store or `visit` reports.
pub fn scan_disclosed(
    connection: &Connection,
    disclosure: &Disclosure<'_>,
    visit: &mut dyn FnMut(&DisclosedRow<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let _ = (connection, disclosure, visit);
    Err(Error::internal("customers are not stored yet"))
}
