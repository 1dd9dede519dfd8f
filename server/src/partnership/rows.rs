//! Partnerships as the store has them.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::Partnership;
use crate::{
    convert::{stored_time, stored_time_opt},
    error::{Error, Reason},
};

/// How far a partnership has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Invited, not yet accepted.
    Pending,
    /// Both sides have proved the invitation.
    Connected,
    /// Either side ended it.
    Revoked,
}

impl State {
    const ALL: [Self; 3] = [Self::Pending, Self::Connected, Self::Revoked];

    const fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Connected => "CONNECTED",
            Self::Revoked => "REVOKED",
        }
    }
}

/// A partnership in any state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Stable id on this node.
    pub id: String,
    /// How far it has come.
    pub state: State,
    /// The partner's name; empty while pending.
    pub organization: String,
    /// Its name as of the pairing; see [`Partnership::known_as`].
    pub known_as: String,
    /// host:port of the partner's exchange listener, if it has one.
    pub endpoint: Option<String>,
    /// SHA-256 of the partner's certificate, unless pending.
    pub certificate_sha256: Option<[u8; 32]>,
    /// The partner's organisation key, unless pending.
    pub organization_key: Option<[u8; 32]>,
    /// When it was invited or accepted.
    pub created_at: Timestamp,
    /// When it was connected.
    pub connected_at: Option<Timestamp>,
    /// When it was ended.
    pub revoked_at: Option<Timestamp>,
}

impl Record {
    /// The partnership, if it is connected.
    ///
    /// # Errors
    /// `PARTNERSHIP_NOT_CONNECTED`.
    pub fn into_connected(self) -> Result<Partnership, Error> {
        let state = match self.state {
            State::Connected => return self.into_paired(),
            State::Pending => "pending: the partner has not accepted the invitation",
            State::Revoked => "revoked: pair again to reconnect",
        };
        let name = if self.organization.is_empty() {
            self.id
        } else {
            self.organization
        };
        Err(Error::new(
            Reason::PartnershipNotConnected,
            format!("the partnership with \"{name}\" is {state}"),
        ))
    }

    /// The partnership, if it is or was connected.
    pub(crate) fn into_paired(self) -> Result<Partnership, Error> {
        match (self.certificate_sha256, self.organization_key) {
            (Some(certificate_sha256), Some(organization_key)) => Ok(Partnership {
                id: self.id,
                organization: self.organization,
                known_as: self.known_as,
                endpoint: self.endpoint,
                certificate_sha256,
                organization_key,
            }),
            _ => Err(Error::new(
                Reason::PartnershipNotConnected,
                format!("the partnership \"{}\" was never connected", self.id),
            )),
        }
    }
}

const COLUMNS: &str = "id, state, organization, endpoint, certificate_sha256, organization_key, created_us, connected_us, revoked_us, known_as";

/// Connected ones first, then by name, then by id.
pub(super) const ORDER: &str =
    "CASE state WHEN 'CONNECTED' THEN 0 WHEN 'PENDING' THEN 1 ELSE 2 END, organization_folded, id";

/// The form in which names are compared.
pub(super) fn fold(organization: &str) -> String {
    organization.to_lowercase()
}

/// The partnership that `partner` names by id or, case-folded, by organisation; of several in another state than connected the
/// newest.
///
/// # Errors
/// `NOT_FOUND` if there is none.
pub fn find(connection: &Connection, partner: &str) -> Result<Record, Error> {
    if let Some(record) = by_id(connection, partner)? {
        return Ok(record);
    }
    // Pending ones have no name yet.
    let found = connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM partnerships WHERE organization_folded = ? AND organization <> '' \
             ORDER BY state = 'CONNECTED' DESC, created_us DESC, id LIMIT 1"
        ))?
        .query_row([fold(partner)], |row| Ok(read(row)))
        .optional()?;
    found.unwrap_or_else(|| Err(Error::not_found("partner", partner)))
}

/// The partnership with this id.
pub(crate) fn by_id(connection: &Connection, id: &str) -> Result<Option<Record>, Error> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM partnerships WHERE id = ?"))?
        .query_row([id], |row| Ok(read(row)))
        .optional()?
        .transpose()
}

/// Partnerships in [`ORDER`]; `only` is the one the caller may see.
pub(super) fn list(
    connection: &Connection,
    connected_only: bool,
    only: Option<&str>,
    offset: u64,
    limit: usize,
) -> Result<Vec<Record>, Error> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM partnerships WHERE (NOT ?1 OR state = 'CONNECTED') AND (?2 IS NULL OR id = ?2) \
         ORDER BY {ORDER} LIMIT ?3 OFFSET ?4"
    ))?;
    let mut rows = statement.query(params![connected_only, only, limit, offset])?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        records.push(read(row)?);
    }
    Ok(records)
}

/// Whether a name is, or was at its pairing, that of a connected partnership besides this one.
pub(super) fn is_taken(connection: &Connection, name: &str, id: &str) -> Result<bool, Error> {
    let folded = fold(name);
    Ok(all_connected(connection)?.iter().any(|other| {
        other.id != id && (fold(&other.organization) == folded || fold(&other.known_as) == folded)
    }))
}

/// Every connected partnership.
pub(crate) fn all_connected(connection: &Connection) -> Result<Vec<Partnership>, Error> {
    list(connection, true, None, 0, usize::MAX >> 1)?
        .into_iter()
        .map(Record::into_connected)
        .collect()
}

/// The certificates of connected partners, with their partnerships.
pub(crate) fn pinned_certificates(
    connection: &Connection,
) -> Result<Vec<([u8; 32], String)>, Error> {
    let mut statement = connection.prepare_cached(
        "SELECT certificate_sha256, id FROM partnerships WHERE state = 'CONNECTED'",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The certificates of partners that have yet to collect that the partnership is over.
pub(crate) fn leaving_certificates(
    connection: &Connection,
) -> Result<Vec<([u8; 32], String)>, Error> {
    let mut statement = connection.prepare_cached(
        "SELECT certificate_sha256, id FROM partnerships WHERE state = 'REVOKED' AND endpoint IS NULL \
         AND certificate_sha256 IS NOT NULL AND id IN (SELECT partnership FROM notices_out)",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// When the last outstanding invitation ends.
pub(crate) fn invites_until(connection: &Connection) -> Result<Option<Timestamp>, Error> {
    connection
        .prepare_cached("SELECT max(expires_us) FROM invites WHERE used_us IS NULL")?
        .query_row([], |row| Ok(stored_time_opt(row, 0)))?
}

fn read(row: &Row<'_>) -> Result<Record, Error> {
    let state: String = row.get(1)?;
    Ok(Record {
        id: row.get(0)?,
        state: State::ALL
            .into_iter()
            .find(|known| known.name() == state)
            .ok_or_else(|| Error::new(Reason::StorageFailed, "store: an unknown state"))?,
        organization: row.get(2)?,
        endpoint: row.get(3)?,
        certificate_sha256: row.get(4)?,
        organization_key: row.get(5)?,
        created_at: stored_time(row, 6)?,
        connected_at: stored_time_opt(row, 7)?,
        revoked_at: stored_time_opt(row, 8)?,
        known_as: row.get(9)?,
    })
}
