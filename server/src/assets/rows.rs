//! Files and who may have them, in the store.

use jiff::Timestamp;
use overlap_proto::v1;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use super::{files, pieces};
use crate::{
    convert::{stored_time, timestamp},
    error::{Error, Reason},
};

/// What there is to know of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asset {
    pub(super) id: String,
    pub(super) kind: v1::AssetKind,
    pub(super) title: String,
    pub(super) file_name: String,
    pub(super) media_type: String,
    pub(super) bytes: u64,
    pub(super) sha256: [u8; 32],
    pub(super) created_at: Timestamp,
}

/// A file in the hands of a partner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shared {
    pub(super) asset: Asset,
    pub(super) partnership: String,
    pub(super) revision: u64,
    pub(super) description: String,
    pub(super) shared_at: Timestamp,
}

impl Asset {
    /// Reads columns from `first` on: id, kind, title, `file_name`, `media_type`, bytes, sha256, `created_us`.
    fn read(row: &Row<'_>, first: usize) -> Result<Self, Error> {
        Ok(Self {
            id: row.get(first)?,
            kind: v1::AssetKind::try_from(row.get::<_, i32>(first + 1)?)
                .map_err(|_| Error::new(Reason::StorageFailed, "an asset's kind is damaged"))?,
            title: row.get(first + 2)?,
            file_name: row.get(first + 3)?,
            media_type: row.get(first + 4)?,
            bytes: row.get(first + 5)?,
            sha256: row.get(first + 6)?,
            created_at: stored_time(row, first + 7)?,
        })
    }

    pub(super) fn to_proto(&self) -> v1::Asset {
        v1::Asset {
            id: self.id.clone(),
            kind: self.kind.into(),
            title: self.title.clone(),
            file_name: self.file_name.clone(),
            media_type: self.media_type.clone(),
            size_bytes: self.bytes,
            sha256: hex::encode(self.sha256),
            created_at: Some(timestamp(self.created_at)),
            shared_with: Vec::new(),
        }
    }
}

impl Shared {
    pub(super) fn to_proto(&self) -> v1::SharedAsset {
        v1::SharedAsset {
            asset: Some(self.asset.to_proto()),
            partner: self.partnership.clone(),
            description: self.description.clone(),
            shared_at: Some(timestamp(self.shared_at)),
        }
    }
}

const OWN: &str =
    "a.id, a.kind, a.title, a.file_name, a.media_type, a.bytes, a.sha256, a.created_us";
const THEIRS: &str = "id, kind, title, file_name, media_type, bytes, sha256, created_us, partnership, revision, description, shared_us";

/// Stores a file of mine.
pub(super) fn insert(tx: &Transaction<'_>, asset: &Asset, user: &str) -> Result<(), Error> {
    tx.prepare_cached(
        "INSERT INTO assets (id, kind, title, file_name, media_type, bytes, sha256, created_us, user) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        asset.id,
        i32::from(asset.kind),
        asset.title,
        asset.file_name,
        asset.media_type,
        asset.bytes,
        asset.sha256,
        asset.created_at.as_microsecond(),
        user
    ])?;
    Ok(())
}

/// How many files of mine there are, and their bytes.
pub(super) fn volume(connection: &Connection) -> Result<(u64, u64), Error> {
    Ok(connection.query_row(
        "SELECT count(*), ifnull(sum(bytes), 0) FROM assets",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?)
}

/// A file of mine.
pub(super) fn find(connection: &Connection, id: &str) -> Result<Asset, Error> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {OWN} FROM assets a WHERE a.id = ?"))?;
    let mut rows = statement.query([id])?;
    match rows.next()? {
        Some(row) => Asset::read(row, 0),
        None => Err(Error::not_found("asset", id)),
    }
}

/// Deletes a file of mine that is shared with nobody.
pub(super) fn delete(tx: &Transaction<'_>, asset: &Asset) -> Result<(), Error> {
    tx.execute("DELETE FROM assets WHERE id = ?", [&asset.id])?;
    files::abandon(tx, &files::own(&asset.sha256))
}

/// Up to `limit` files of mine after a position, newest first, and how many there are in all.
pub(super) fn list(
    connection: &Connection,
    kind: i32,
    (before_us, after_id): (i64, &str),
    limit: usize,
) -> Result<(Vec<Asset>, u64), Error> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {OWN} FROM assets a WHERE (?1 = 0 OR a.kind = ?1) \
         AND (a.created_us < ?2 OR (a.created_us = ?2 AND a.id > ?3)) ORDER BY a.created_us DESC, a.id LIMIT ?4"
    ))?;
    let mut rows = statement.query(params![kind, before_us, after_id, limit])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(Asset::read(row, 0)?);
    }
    let total = connection
        .prepare_cached("SELECT count(*) FROM assets WHERE ?1 = 0 OR kind = ?1")?
        .query_row([kind], |row| row.get(0))?;
    Ok((found, total))
}

/// The partnerships that a file of mine is shared with.
pub(super) fn shared_with(connection: &Connection, id: &str) -> Result<Vec<String>, Error> {
    Ok(connection
        .prepare_cached(
            "SELECT partnership FROM asset_shares WHERE asset = ? AND shared = 1 ORDER BY partnership",
        )?
        .query_map([id], |row| row.get(0))?
        .collect::<Result<_, _>>()?)
}

/// How a file of mine is shared with a partner: revision, whether it still is, description, since when.
pub(super) fn share_of(
    connection: &Connection,
    partnership: &str,
    id: &str,
) -> Result<Option<(u64, bool, String, Timestamp)>, Error> {
    let mut statement = connection.prepare_cached(
        "SELECT revision, shared, description, shared_us FROM asset_shares WHERE partnership = ? AND asset = ?",
    )?;
    let mut rows = statement.query([partnership, id])?;
    match rows.next()? {
        Some(row) => Ok(Some((
            row.get(0)?,
            row.get(1)?,
            row.get(2)?,
            stored_time(row, 3)?,
        ))),
        None => Ok(None),
    }
}

/// Stores how a file of mine is shared with a partner.
pub(super) fn put_share(
    tx: &Transaction<'_>,
    share: &Shared,
    is_shared: bool,
) -> Result<(), Error> {
    tx.prepare_cached(
        "INSERT OR REPLACE INTO asset_shares (partnership, asset, revision, shared, description, shared_us) VALUES (?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        share.partnership,
        share.asset.id,
        share.revision,
        is_shared,
        share.description,
        share.shared_at.as_microsecond()
    ])?;
    if !is_shared {
        pieces::stop_sending(tx, &share.partnership, &share.asset.id)?;
    }
    Ok(())
}

/// Up to `limit` files of mine that a partner has, after a position, newest first, and how many there are in all.
pub(super) fn list_shared(
    connection: &Connection,
    partnership: &str,
    kind: i32,
    (before_us, after_id): (i64, &str),
    limit: usize,
) -> Result<(Vec<Shared>, u64), Error> {
    const CONDITION: &str = "FROM asset_shares s JOIN assets a ON a.id = s.asset WHERE s.partnership = ?1 AND s.shared = 1 AND (?2 = 0 OR a.kind = ?2)";
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {OWN}, s.partnership, s.revision, s.description, s.shared_us {CONDITION} \
         AND (s.shared_us < ?3 OR (s.shared_us = ?3 AND a.id > ?4)) ORDER BY s.shared_us DESC, a.id LIMIT ?5"
    ))?;
    let found =
        read_shared(statement.query(params![partnership, kind, before_us, after_id, limit])?)?;
    let total = connection
        .prepare_cached(&format!("SELECT count(*) {CONDITION}"))?
        .query_row(params![partnership, kind], |row| row.get(0))?;
    Ok((found, total))
}

fn read_shared(mut rows: rusqlite::Rows<'_>) -> Result<Vec<Shared>, Error> {
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(Shared {
            asset: Asset::read(row, 0)?,
            partnership: row.get(8)?,
            revision: row.get(9)?,
            description: row.get(10)?,
            shared_at: stored_time(row, 11)?,
        });
    }
    Ok(found)
}

/// The latest revision of a partner's file that arrived.
pub(super) fn partner_revision(
    connection: &Connection,
    partnership: &str,
    id: &str,
) -> Result<u64, Error> {
    Ok(connection
        .prepare_cached("SELECT revision FROM partner_assets WHERE partnership = ? AND id = ?")?
        .query_row([partnership, id], |row| row.get(0))
        .optional()?
        .unwrap_or(0))
}

/// How many files of a partner are known, the ones it took back included.
pub(super) fn count_from_partner(connection: &Connection, partnership: &str) -> Result<u64, Error> {
    Ok(connection
        .prepare_cached("SELECT count(*) FROM partner_assets WHERE partnership = ?")?
        .query_row([partnership], |row| row.get(0))?)
}

/// Stores what a partner says of its file; the copy of what it was before goes.
pub(super) fn put_from_partner(
    tx: &Transaction<'_>,
    shared: &Shared,
    is_shared: bool,
) -> Result<(), Error> {
    let asset = &shared.asset;
    let before: Option<[u8; 32]> = tx
        .prepare_cached("SELECT sha256 FROM partner_assets WHERE partnership = ? AND id = ?")?
        .query_row([&shared.partnership, &asset.id], |row| row.get(0))
        .optional()?;
    if let Some(before) = before {
        files::abandon(tx, &files::from_partner(&shared.partnership, &before))?;
        if !is_shared || before != asset.sha256 {
            pieces::give_up(tx, &shared.partnership, &asset.id)?;
        }
    }
    tx.prepare_cached(&format!(
        "INSERT OR REPLACE INTO partner_assets ({THEIRS}, shared) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    ))?
    .execute(params![
        asset.id,
        i32::from(asset.kind),
        asset.title,
        asset.file_name,
        asset.media_type,
        asset.bytes,
        asset.sha256,
        asset.created_at.as_microsecond(),
        shared.partnership,
        shared.revision,
        shared.description,
        shared.shared_at.as_microsecond(),
        is_shared
    ])?;
    Ok(())
}

/// A file that a partner shares.
pub(super) fn find_from_partner(
    connection: &Connection,
    partnership: &str,
    id: &str,
) -> Result<Option<Shared>, Error> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {THEIRS} FROM partner_assets WHERE partnership = ? AND id = ? AND shared = 1"
    ))?;
    Ok(read_shared(statement.query([partnership, id])?)?.pop())
}

/// Up to `limit` files that a partner shares, after a position, newest first, and how many there are in all.
pub(super) fn list_from_partner(
    connection: &Connection,
    partnership: &str,
    kind: i32,
    (before_us, after_id): (i64, &str),
    limit: usize,
) -> Result<(Vec<Shared>, u64), Error> {
    const CONDITION: &str =
        "FROM partner_assets WHERE partnership = ?1 AND shared = 1 AND (?2 = 0 OR kind = ?2)";
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {THEIRS} {CONDITION} AND (shared_us < ?3 OR (shared_us = ?3 AND id > ?4)) ORDER BY shared_us DESC, id LIMIT ?5"
    ))?;
    let found =
        read_shared(statement.query(params![partnership, kind, before_us, after_id, limit])?)?;
    let total = connection
        .prepare_cached(&format!("SELECT count(*) {CONDITION}"))?
        .query_row(params![partnership, kind], |row| row.get(0))?;
    Ok((found, total))
}

/// Removes what is shared with a partner and what it shares, and the copies.
///
/// # Errors
/// What the store reports.
pub(crate) fn forget(tx: &Transaction<'_>, partnership: &str) -> Result<(), Error> {
    tx.execute(
        "DELETE FROM asset_shares WHERE partnership = ?",
        [partnership],
    )?;
    tx.execute(
        "DELETE FROM partner_assets WHERE partnership = ?",
        [partnership],
    )?;
    pieces::forget(tx, partnership)?;
    files::abandon(tx, &files::all_from_partner(partnership))
}
