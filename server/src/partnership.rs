//! Invitations, pairing, revocation.

use rusqlite::Connection;

use crate::error::{Error, Reason};

/// A connected partner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partnership {
    /// Stable id on this node.
    pub id: String,
    /// The partner's name for people.
    pub organization: String,
    /// host:port of the partner's exchange listener, if it has one.
    pub endpoint: Option<String>,
    /// SHA-256 of the partner's end-entity certificate.
    pub certificate_sha256: [u8; 32],
    /// The partner's Ed25519 organisation key.
    pub organization_key: [u8; 32],
}

/// The connected partnership that `partner` names by id or organisation (P-01).
///
/// # Errors
/// `NOT_FOUND` if there is none; `PARTNERSHIP_NOT_CONNECTED` if it is pending or revoked.
pub fn connected(connection: &Connection, partner: &str) -> Result<Partnership, Error> {
    let _ = connection;
    Err(Error::new(
        Reason::NotFound,
        format!("partner \"{partner}\" does not exist"),
    ))
}
