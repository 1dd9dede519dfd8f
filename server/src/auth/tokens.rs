//! Bearer tokens: random, stored as hashes, held in memory so that a call costs no query.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use rusqlite::{Connection, Row, Transaction, params};
use sha2::{Digest as _, Sha256};

use super::{Caller, Role};
use crate::{
    audit,
    convert::{stored_time, stored_time_opt},
    error::{Error, Reason},
    identity::{new_id, random},
    node::Node,
};

/// Begins every secret, so that scanners for leaked credentials find it.
const PREFIX: &str = "overlap_";

/// A token without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Stable id, which the audit log names.
    pub id: String,
    /// Who uses it.
    pub user: String,
    /// What it may do.
    pub role: Role,
    /// For [`Role::Partner`]: the id of the only partnership it sees.
    pub partner: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// When it was ended.
    pub revoked_at: Option<Timestamp>,
}

/// The tokens that may call, by the hash of their secret.
pub struct Tokens(RwLock<HashMap<[u8; 32], Token>>);

impl Tokens {
    /// The tokens as the store has them.
    ///
    /// # Errors
    /// What the store reports.
    pub(crate) fn load(connection: &Connection) -> Result<Self, Error> {
        let tokens = Self(RwLock::default());
        tokens.reload(connection)?;
        Ok(tokens)
    }

    /// Follows the store.
    ///
    /// # Errors
    /// What the store reports.
    pub(crate) fn reload(&self, connection: &Connection) -> Result<(), Error> {
        // The lock comes before the snapshot (the first query takes it): of two reloads the later one sees more.
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut statement = connection.prepare_cached(&format!(
            "SELECT {COLUMNS}, secret_sha256 FROM tokens WHERE revoked_us IS NULL"
        ))?;
        let mut rows = statement.query([])?;
        let mut tokens = HashMap::new();
        while let Some(row) = rows.next()? {
            tokens.insert(row.get(7)?, read(row)?);
        }
        *current = tokens;
        Ok(())
    }

    /// The caller with this secret. Its hash is looked up: what the time taken tells of a hash says nothing of a secret.
    pub(super) fn caller(&self, secret: &str, now: Timestamp) -> Option<Caller> {
        let hash: [u8; 32] = Sha256::digest(secret).into();
        let tokens = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let token = tokens.get(&hash)?;
        if token.expires_at.is_some_and(|expires| now >= expires) {
            return None;
        }
        Some(Caller {
            token_id: token.id.clone(),
            user: token.user.clone(),
            role: token.role,
            partner: token.partner.clone(),
        })
    }
}

impl Node {
    /// Makes the API follow what the store says about tokens. To be called after every write that changes them.
    pub(crate) async fn follow_tokens(self: &Arc<Self>) -> Result<(), Error> {
        let node = Arc::clone(self);
        self.store
            .read(move |connection| node.tokens.reload(connection))
            .await
    }
}

/// Makes a token; its secret is returned and nowhere kept.
///
/// # Errors
/// What the store reports.
pub fn create(
    tx: &Transaction<'_>,
    now: Timestamp,
    actor: &str,
    user: &str,
    role: Role,
    partner: Option<&str>,
    expires_at: Option<Timestamp>,
) -> Result<(Token, String), Error> {
    let secret = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random::<32>()?));
    let token = Token {
        id: new_id("tok")?,
        user: user.to_owned(),
        role,
        partner: partner.map(str::to_owned),
        created_at: now,
        expires_at,
        revoked_at: None,
    };
    tx.execute(
        "INSERT INTO tokens (id, secret_sha256, user, role, partnership, created_us, expires_us) VALUES (?, ?, ?, ?, ?, ?, ?)",
        params![
            token.id,
            <[u8; 32]>::from(Sha256::digest(&secret)),
            user,
            role.name(),
            partner,
            now.as_microsecond(),
            expires_at.map(Timestamp::as_microsecond)
        ],
    )?;
    audit::record(
        tx,
        now,
        actor,
        "token.created",
        partner,
        &[("token", &token.id), ("user", user), ("role", role.name())],
    )?;
    Ok((token, secret))
}

/// Ends a token; ending it again changes nothing.
///
/// # Errors
/// `NOT_FOUND`; `FAILED_PRECONDITION` if it is the last one that administers the node.
pub(crate) fn revoke(
    tx: &Transaction<'_>,
    now: Timestamp,
    actor: &str,
    id: &str,
) -> Result<Token, Error> {
    let mut token = find(tx, id)?;
    if token.revoked_at.is_some() {
        return Ok(token);
    }
    let others: bool = tx.query_row(
        "SELECT EXISTS (SELECT 1 FROM tokens WHERE role = 'ADMIN' AND id <> ? AND revoked_us IS NULL \
         AND (expires_us IS NULL OR expires_us > ?))",
        params![id, now.as_microsecond()],
        |row| row.get(0),
    )?;
    if token.role == Role::Admin && !others {
        return Err(Error::new(
            Reason::FailedPrecondition,
            "this is the last ADMIN token: make another one first",
        ));
    }
    end(tx, now, actor, &mut token)?;
    Ok(token)
}

/// Ends the tokens of a partner's users.
///
/// # Errors
/// What the store reports.
pub(crate) fn revoke_of_partnership(
    tx: &Transaction<'_>,
    now: Timestamp,
    actor: &str,
    partnership: &str,
) -> Result<(), Error> {
    let mut tokens = Vec::new();
    {
        let mut statement = tx.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM tokens WHERE partnership = ? AND revoked_us IS NULL ORDER BY created_us, rowid"
        ))?;
        let mut rows = statement.query([partnership])?;
        while let Some(row) = rows.next()? {
            tokens.push(read(row)?);
        }
    }
    for token in &mut tokens {
        end(tx, now, actor, token)?;
    }
    Ok(())
}

fn end(tx: &Transaction<'_>, now: Timestamp, actor: &str, token: &mut Token) -> Result<(), Error> {
    tx.execute(
        "UPDATE tokens SET revoked_us = ? WHERE id = ?",
        params![now.as_microsecond(), token.id],
    )?;
    audit::record(
        tx,
        now,
        actor,
        "token.revoked",
        token.partner.as_deref(),
        &[("token", &token.id), ("user", &token.user)],
    )?;
    token.revoked_at = Some(now);
    Ok(())
}

/// Tokens in order of their making.
///
/// # Errors
/// What the store reports.
pub(crate) fn list(
    connection: &Connection,
    offset: u64,
    limit: usize,
) -> Result<Vec<Token>, Error> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM tokens ORDER BY created_us, rowid LIMIT ? OFFSET ?"
    ))?;
    let mut rows = statement.query(params![limit, offset])?;
    let mut tokens = Vec::new();
    while let Some(row) = rows.next()? {
        tokens.push(read(row)?);
    }
    Ok(tokens)
}

fn find(connection: &Connection, id: &str) -> Result<Token, Error> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {COLUMNS} FROM tokens WHERE id = ?"))?;
    let mut rows = statement.query([id])?;
    match rows.next()? {
        Some(row) => read(row),
        None => Err(Error::not_found("token", id)),
    }
}

const COLUMNS: &str = "id, user, role, partnership, created_us, expires_us, revoked_us";

fn read(row: &Row<'_>) -> Result<Token, Error> {
    let role: String = row.get(2)?;
    Ok(Token {
        id: row.get(0)?,
        user: row.get(1)?,
        role: Role::from_name(&role)
            .ok_or_else(|| Error::new(Reason::StorageFailed, "store: an unknown role"))?,
        partner: row.get(3)?,
        created_at: stored_time(row, 4)?,
        expires_at: stored_time_opt(row, 5)?,
        revoked_at: stored_time_opt(row, 6)?,
    })
}
