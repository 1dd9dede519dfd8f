//! Request ids: a call that is repeated with the same id does its work once.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{OptionalExtension as _, Transaction, params};
use sha2::{Digest as _, Sha256};

use crate::{auth::Caller, error::Error};

/// How long a request id is remembered.
const KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);
const MAX_CHARS: usize = 128;

/// What the call with this id made when it was made before. Nothing for an empty id.
///
/// # Errors
/// `INVALID_ARGUMENT` if the id was used for something else, or is too long.
pub(crate) fn repeated(
    tx: &Transaction<'_>,
    caller: &Caller,
    call: &str,
    request_id: &str,
    content: &[&str],
) -> Result<Option<String>, Error> {
    if request_id.is_empty() {
        return Ok(None);
    }
    super::line("request_id", request_id, MAX_CHARS)?;
    let known: Option<([u8; 32], String)> = tx
        .prepare_cached(
            "SELECT content_sha256, subject FROM request_ids WHERE token = ? AND call = ? AND request_id = ?",
        )?
        .query_row(params![caller.token_id, call, request_id], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    match known {
        Some((hash, _)) if hash != digest(content) => Err(Error::invalid(
            "request_id",
            "was used for a different request: use a new one",
        )),
        Some((_, subject)) => Ok(Some(subject)),
        None => Ok(None),
    }
}

/// Remembers what a call made.
///
/// # Errors
/// What the store reports.
pub(crate) fn remember(
    tx: &Transaction<'_>,
    caller: &Caller,
    call: &str,
    request_id: &str,
    content: &[&str],
    subject: &str,
    now: Timestamp,
) -> Result<(), Error> {
    if request_id.is_empty() {
        return Ok(());
    }
    let oldest = now
        .saturating_sub(KEPT)
        .map_or(i64::MIN, Timestamp::as_microsecond);
    tx.execute("DELETE FROM request_ids WHERE at_us < ?", [oldest])?;
    tx.prepare_cached(
        "INSERT INTO request_ids (token, call, request_id, content_sha256, subject, at_us) VALUES (?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        caller.token_id,
        call,
        request_id,
        digest(content),
        subject,
        now.as_microsecond()
    ])?;
    Ok(())
}

fn digest(content: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for text in content {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    hash.finalize().into()
}
