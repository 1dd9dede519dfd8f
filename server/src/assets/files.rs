//! Files under `assets/` in the node's directory: `own/`, mine; `from/PARTNERSHIP/`, copies of partners'; `incoming/`, not yet
//! complete; `pieces/PARTNERSHIP/`, copies that arrive in pieces, by id. Any other file's name is the SHA-256 of what it holds. Copies of different partners are kept apart, so that whether a copy
//! is fetched tells nobody what else this node has.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use rusqlite::{Connection, Transaction, params};
use sha2::{Digest as _, Sha256};

use super::MAX_BYTES;
use crate::{
    error::{Error, Reason},
    identity::new_id,
    node::Node,
};

const ROOT: &str = "assets";
const OWN: &str = "own";
const FROM: &str = "from";
const INCOMING: &str = "incoming";
const PIECES: &str = "pieces";

/// The place of a file of mine, relative to the root.
pub(super) fn own(sha256: &[u8; 32]) -> String {
    let name = hex::encode(sha256);
    format!("{OWN}/{}/{name}", &name[..2])
}

/// The place of a copy of a partner's file, relative to the root.
pub(super) fn from_partner(partnership: &str, sha256: &[u8; 32]) -> String {
    format!("{}/{}", all_from_partner(partnership), hex::encode(sha256))
}

/// The place of all copies of a partner's files, relative to the root.
pub(super) fn all_from_partner(partnership: &str) -> String {
    format!("{FROM}/{partnership}")
}

/// The place of what has arrived in pieces of a partner's file, relative to the root.
pub(super) fn pieces(partnership: &str, id: &str) -> String {
    format!("{}/{id}", all_pieces(partnership))
}

/// The place of what has arrived in pieces of a partner's files, relative to the root.
pub(super) fn all_pieces(partnership: &str) -> String {
    format!("{PIECES}/{partnership}")
}

/// The file at a place.
pub(super) fn path(node: &Node, place: &str) -> PathBuf {
    node.directory.join(ROOT).join(place)
}

/// Opens the file at a place; nothing if it is not there in full length.
pub(super) fn open(node: &Node, place: &str, bytes: u64) -> Result<Option<File>, Error> {
    let path = path(node, place);
    match File::open(&path) {
        Ok(file) => {
            let length = file
                .metadata()
                .map_err(|error| failed(&path, &error))?
                .len();
            Ok((length == bytes).then_some(file))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(&path, &error)),
    }
}

/// A file that is not complete yet; it goes when this is dropped.
pub(super) struct Incoming {
    path: PathBuf,
    file: File,
    hash: Sha256,
    bytes: u64,
    moved: bool,
}

impl Incoming {
    /// An empty file.
    pub(super) fn create(node: &Node) -> Result<Self, Error> {
        let path = path(node, INCOMING).join(new_id("in")?);
        create_parent(&path)?;
        let file = File::create_new(&path).map_err(|error| failed(&path, &error))?;
        Ok(Self {
            path,
            file,
            hash: Sha256::new(),
            bytes: 0,
            moved: false,
        })
    }

    /// How much there is.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// `ASSET_TOO_LARGE`; `DISK_FULL`; what the file system reports.
    pub(super) fn append(&mut self, chunk: &[u8]) -> Result<(), Error> {
        let bytes = self.bytes + chunk.len() as u64;
        if bytes > MAX_BYTES {
            return Err(Error::new(
                Reason::AssetTooLarge,
                format!("a file may have at most {MAX_BYTES} bytes"),
            )
            .with("max_bytes", MAX_BYTES));
        }
        self.file
            .write_all(chunk)
            .map_err(|error| failed(&self.path, &error))?;
        self.hash.update(chunk);
        self.bytes = bytes;
        Ok(())
    }

    /// Makes what there is durable; its hash.
    pub(super) fn finish(&mut self) -> Result<[u8; 32], Error> {
        self.file
            .sync_all()
            .map_err(|error| failed(&self.path, &error))?;
        Ok(std::mem::take(&mut self.hash).finalize().into())
    }

    /// Puts the finished file at its place. To be called within a write transaction, which excludes [`sweep`].
    pub(super) fn settle(mut self, node: &Node, place: &str) -> Result<(), Error> {
        settle(&self.path, &path(node, place))?;
        self.moved = true;
        Ok(())
    }
}

/// Moves a finished file to where it belongs, durably.
pub(super) fn settle(from: &Path, to: &Path) -> Result<(), Error> {
    create_parent(to)?;
    fs::rename(from, to).map_err(|error| failed(to, &error))?;
    to.parent().map_or(Ok(()), sync_directory)
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.moved
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, "an incomplete file could not be removed");
        }
    }
}

/// Notes in a transaction that a place may hold what nothing refers to any more.
pub(super) fn abandon(tx: &Transaction<'_>, place: &str) -> Result<(), Error> {
    tx.prepare_cached("INSERT OR IGNORE INTO asset_garbage (path) VALUES (?)")?
        .execute([place])?;
    Ok(())
}

/// Deletes what was abandoned and is not referred to again.
///
/// # Errors
/// What the store or the file system reports.
pub(crate) fn sweep(node: &Node) -> Result<(), Error> {
    let is_any = node.store.read_blocking(|connection| {
        Ok(
            connection.query_row("SELECT EXISTS (SELECT 1 FROM asset_garbage)", [], |row| {
                row.get::<_, bool>(0)
            })?,
        )
    })?;
    if !is_any {
        return Ok(());
    }
    node.store.write_blocking(|tx| {
        let places: Vec<String> = tx
            .prepare_cached("SELECT path FROM asset_garbage")?
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for place in places {
            if !is_referred_to(tx, &place)? {
                remove(&path(node, &place))?;
            }
            tx.prepare_cached("DELETE FROM asset_garbage WHERE path = ?")?
                .execute([&place])?;
        }
        Ok(())
    })
}

/// Deletes what the process before left incomplete. To be called before anything is served.
///
/// # Errors
/// What the file system reports.
pub(crate) fn sweep_incoming(node: &Node) -> Result<(), Error> {
    remove(&path(node, INCOMING))
}

fn is_referred_to(connection: &Connection, place: &str) -> Result<bool, Error> {
    let mut parts = place.split('/');
    let (first, second, third) = (parts.next(), parts.next(), parts.next());
    let hash = |name: &str| hex::decode(name).unwrap_or_default();
    Ok(match (first, second, third) {
        (Some(OWN), Some(_), Some(name)) => connection
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM assets WHERE sha256 = ?)")?
            .query_row([hash(name)], |row| row.get(0))?,
        (Some(FROM), Some(partnership), Some(name)) => connection
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM partner_assets WHERE partnership = ? AND shared = 1 AND sha256 = ?)",
            )?
            .query_row(params![partnership, hash(name)], |row| row.get(0))?,
        (Some(FROM), Some(partnership), None) => connection
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM partner_assets WHERE partnership = ? AND shared = 1)",
            )?
            .query_row([partnership], |row| row.get(0))?,
        (Some(PIECES), Some(partnership), Some(asset)) => connection
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM asset_wanted WHERE partnership = ? AND asset = ?)",
            )?
            .query_row([partnership, asset], |row| row.get(0))?,
        (Some(PIECES), Some(partnership), None) => connection
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM asset_wanted WHERE partnership = ?)")?
            .query_row([partnership], |row| row.get(0))?,
        _ => true,
    })
}

/// Removes a file, or a folder with what is in it.
fn remove(path: &Path) -> Result<(), Error> {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(path, &error)),
        _ => Ok(()),
    }
}

pub(super) fn create_parent(path: &Path) -> Result<(), Error> {
    let Some(parent) = path.parent() else {
        return Ok(());
    };
    if parent.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(parent).map_err(|error| failed(parent, &error))?;
    parent.parent().map_or(Ok(()), sync_directory)
}

/// Makes the names in a folder durable.
fn sync_directory(path: &Path) -> Result<(), Error> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| failed(path, &error))
}

pub(super) fn failed(path: &Path, error: &std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Error::new(
            Reason::DiskFull,
            format!(
                "{}: the disk is full: free some space and try again",
                path.display()
            ),
        ),
        _ => Error::new(
            Reason::StorageFailed,
            format!("{}: {error}", path.display()),
        ),
    }
}
