//! Which of my rows are one customer, and which keys stand for it (PROTOCOL.md "Customers").
//!
//! Memory: a byte a row, and what `merge` says for rows that share a customer. Everything else is in record files.

mod build;
pub(crate) mod merge;
mod stages;
#[cfg(test)]
pub(crate) mod tests;

use std::{path::Path, sync::Arc};

use overlap_crypto::terms::{KeyType, Tier};
use rusqlite::Connection;
use sha2::{Digest as _, Sha256};

pub use build::{Builder, Observer};
pub use stages::{MAX_STAGES, StageTiers};

use self::merge::MergedRows;
use super::{
    keys::HandleKey,
    spool::{RecordFile, RecordReader, RecordWriter},
};
use crate::{
    customers::rows::{DisclosedRow, Disclosure, scan_disclosed},
    error::Error,
    overlap::graph::{HANDLE_BYTES, Handle},
    sharing::policy::Agreement,
};

/// A key on more of my rows than this names nobody and is not used (AMBIGUOUS_KEY).
pub const MAX_ROWS_A_KEY: usize = 32;
/// What keys are hashed with: secret, so that hashes in files say nothing. With a usual key it fits a block of SHA-256.
pub type Salt = [u8; 16];

/// Bytes of the salted hash that groups equal keys.
pub const GROUP_BYTES: usize = 16;

/// How much a run may hold and use.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotLimits {
    /// Keys of one run.
    pub max_keys: u64,
    /// Bytes of a sorter's buffer.
    pub sort_bytes: usize,
}

/// Where and how customers are read for one use.
#[derive(Clone, Copy)]
pub struct Scratch<'a> {
    /// Where the files go.
    pub directory: &'a Path,
    /// Fresh randomness: the order of the keys follows from it.
    pub salt: Salt,
    /// How much may be held and used.
    pub limits: SnapshotLimits,
}

/// My customers as one run sees them.
///
/// Rows are numbered in ascending order of their ids; a local customer is named by its row of highest stage (ties: smallest id).
pub struct LocalCustomers {
    tiers: StageTiers,
    table: Arc<RowTable>,
    rows: RecordFile,
    keys: RecordFile,
    salt: Salt,
    counts: KeyCounts,
    customers_by_stage: Vec<u64>,
    ambiguous_keys: u64,
}

/// What is known of each row.
struct RowTable {
    stage_of_row: Vec<u8>,
    merged: MergedRows,
}

/// Keys by the tier of their customer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyCounts {
    /// Keys of customers in listed stages.
    pub list: u64,
    /// Keys of customers in counted stages.
    pub count: u64,
}

/// One usable key of a local customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<'a> {
    /// Position among all keys of the run, which is random per run: they are in the order of their hashes.
    pub index: u32,
    /// The first row that has it.
    pub row: u32,
    /// The naming row of its customer.
    pub customer: u32,
    /// The stage of its customer.
    pub stage: u8,
    /// Its kind.
    pub key_type: KeyType,
    /// The handle of its customer; zeros unless it is listed.
    pub handle: Handle,
    /// Its salted hash, as [`key_hash`] gives it.
    pub hash: &'a [u8; GROUP_BYTES],
    /// Its normalised value.
    pub value: &'a str,
}

/// A key without its value, as the records of a run carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRef {
    /// Position among all keys of the run.
    pub index: u32,
    /// The naming row of its customer.
    pub customer: u32,
    /// The stage of its customer.
    pub stage: u8,
    /// Its kind.
    pub key_type: KeyType,
    /// The handle of its customer; zeros unless it is listed.
    pub handle: Handle,
}

impl Key<'_> {
    /// The key without its value.
    #[must_use]
    pub const fn reference(&self) -> KeyRef {
        KeyRef {
            index: self.index,
            customer: self.customer,
            stage: self.stage,
            key_type: self.key_type,
            handle: self.handle,
        }
    }
}

impl KeyRef {
    /// Bytes in a record.
    pub const BYTES: usize = 4 + 4 + 1 + 1 + HANDLE_BYTES;

    /// `index || customer || stage || type || handle`.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..4].copy_from_slice(&self.index.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.customer.to_be_bytes());
        bytes[8] = self.stage;
        bytes[9] = self.key_type.code();
        bytes[10..].copy_from_slice(&self.handle);
        bytes
    }

    /// Reads [`KeyRef::to_bytes`].
    ///
    /// # Errors
    /// `INTERNAL` if there is no such key type.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Result<Self, Error> {
        let number =
            |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        Ok(Self {
            index: number(0),
            customer: number(4),
            stage: bytes[8],
            key_type: KeyType::from_code(bytes[9]).ok_or_else(malformed)?,
            handle: bytes[10..].try_into().expect("sixteen bytes"),
        })
    }
}

fn malformed() -> Error {
    Error::internal("a key record is malformed")
}

impl LocalCustomers {
    /// Reads the disclosed rows of one snapshot of the store and merges them. Hidden rows are left out by the storage query.
    ///
    /// `handles` names listed customers; without it they
    /// have no handles. `observer` sees every row and every key of every row.
    ///
    /// # Errors
    /// `SET_TOO_LARGE`; what the store or the file system reports.
    pub fn read(
        connection: &Connection,
        agreement: &Agreement,
        key_types: &[KeyType],
        scratch: &Scratch<'_>,
        handles: Option<&HandleKey>,
        observer: &mut dyn Observer,
    ) -> Result<Self, Error> {
        let tiers = StageTiers::mine(agreement)?;
        let disclosed: Vec<String> = tiers.disclosed().into_iter().map(str::to_owned).collect();
        let stages: Vec<&str> = disclosed.iter().map(String::as_str).collect();
        let Scratch {
            directory,
            salt,
            limits,
        } = *scratch;
        let mut builder = Builder::new(tiers, handles, directory, salt, limits)?;
        if !stages.is_empty() {
            let disclosure = Disclosure {
                stages: &stages,
                key_types,
                domain_from_email: agreement.mine.domain_from_email,
            };
            scan_disclosed(connection, &disclosure, &mut |row| {
                builder.push_seen(row, observer)
            })?;
        }
        builder.finish_seen(observer)
    }

    /// My stages and their tiers.
    #[must_use]
    pub fn tiers(&self) -> &StageTiers {
        &self.tiers
    }

    /// Number of disclosed rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.table.stage_of_row.len()
    }

    /// The stage of a local customer.
    #[must_use]
    pub fn stage(&self, customer: u32) -> u8 {
        self.table.stage_of_row[customer as usize]
    }

    /// The tier of a local customer.
    #[must_use]
    pub fn tier(&self, customer: u32) -> Tier {
        self.tiers.tier(self.stage(customer))
    }

    /// The local customer that row `row` belongs to.
    #[must_use]
    pub fn customer(&self, row: u32) -> u32 {
        self.table.merged.customer(row)
    }

    /// How many keys take part, by tier.
    #[must_use]
    pub fn key_counts(&self) -> KeyCounts {
        self.counts
    }

    /// How many local customers with a usable key there are, by stage.
    #[must_use]
    pub fn customers_by_stage(&self) -> &[u64] {
        &self.customers_by_stage
    }

    /// How many keys were left out because they stand on too many rows.
    #[must_use]
    pub fn ambiguous_keys(&self) -> u64 {
        self.ambiguous_keys
    }

    /// Number of usable keys: their positions are below.
    #[must_use]
    pub fn keys_len(&self) -> usize {
        usize::try_from(self.keys.len()).unwrap_or(usize::MAX)
    }

    /// Streams the keys in the run's random order.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn keys(&self) -> Result<KeyReader, Error> {
        Ok(KeyReader {
            table: Arc::clone(&self.table),
            records: self.keys.reader()?,
            next: 0,
        })
    }

    /// Streams the rows in ascending order of their ids.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn row_texts(&self) -> Result<RowReader, Error> {
        RowReader::new(&self.rows)
    }

    /// The salted hash under which a key is grouped and remembered within this run.
    #[must_use]
    pub fn key_hash(&self, key_type: KeyType, value: &str) -> [u8; GROUP_BYTES] {
        key_hash(&self.salt, key_type, value)
    }
}

/// The salted hash of a key.
#[must_use]
pub fn key_hash(salt: &Salt, key_type: KeyType, value: &str) -> [u8; GROUP_BYTES] {
    let hash = Sha256::new()
        .chain_update(salt)
        .chain_update([key_type.code()])
        .chain_update(value)
        .finalize();
    hash[..GROUP_BYTES]
        .try_into()
        .expect("a SHA-256 hash is longer")
}

/// What a row is called and searched by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowText<'a> {
    /// Its id.
    pub id: &'a str,
    /// The customer's name, or empty.
    pub name: &'a str,
    /// Its domains as the source has them, one a line.
    pub domains: &'a str,
}

impl<'a> RowText<'a> {
    const fn of(row: &DisclosedRow<'a>) -> Self {
        Self {
            id: row.id,
            name: row.name,
            domains: row.domains,
        }
    }

    /// `length of the id || id || length of the name || name || domains`.
    fn push_to(&self, file: &mut RecordWriter) -> Result<(), Error> {
        let length = |text: &str| {
            let length = u16::try_from(text.len());
            length.map_err(|_| Error::internal("a row has a long text"))
        };
        file.push(&[
            &length(self.id)?.to_be_bytes(),
            self.id.as_bytes(),
            &length(self.name)?.to_be_bytes(),
            self.name.as_bytes(),
            self.domains.as_bytes(),
        ])
    }

    fn parse(record: &'a [u8]) -> Option<Self> {
        let text = |bytes| std::str::from_utf8(bytes).ok();
        let split = |bytes: &'a [u8]| {
            let (length, rest) = bytes.split_first_chunk()?;
            rest.split_at_checked(u16::from_be_bytes(*length).into())
        };
        let (id, rest) = split(record)?;
        let (name, domains) = split(rest)?;
        Some(Self {
            id: text(id)?,
            name: text(name)?,
            domains: text(domains)?,
        })
    }
}

/// Streams rows by number.
pub struct RowReader {
    records: RecordReader,
    next: u32,
}

impl RowReader {
    fn new(rows: &RecordFile) -> Result<Self, Error> {
        Ok(Self {
            records: rows.reader()?,
            next: 0,
        })
    }

    /// The row with this number, which is above those that were read.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn at(&mut self, row: u32) -> Result<RowText<'_>, Error> {
        let missing = || Error::internal("there are fewer row texts than rows");
        while self.next < row {
            self.records.next_record()?.ok_or_else(missing)?;
            self.next += 1;
        }
        self.next += 1;
        let record = self.records.next_record()?.ok_or_else(missing)?;
        RowText::parse(record).ok_or_else(|| Error::internal("a row text is malformed"))
    }
}

/// Streams keys.
pub struct KeyReader {
    table: Arc<RowTable>,
    /// `hash || row || type || stage and handle of the row || value`, by hash.
    records: RecordReader,
    next: u32,
}

impl KeyReader {
    /// The next key, or `None` after the last.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn next_key(&mut self) -> Result<Option<Key<'_>>, Error> {
        let index = self.next;
        let Some(record) = self.records.next_record()? else {
            return Ok(None);
        };
        self.next += 1;
        let (hash, rest) = record.split_first_chunk().ok_or_else(malformed)?;
        let (row, rest) = rest.split_first_chunk().ok_or_else(malformed)?;
        let (&[key_type, stage], rest) = rest.split_first_chunk().ok_or_else(malformed)?;
        let (handle, value) = rest.split_first_chunk().ok_or_else(malformed)?;
        let row = u32::from_be_bytes(*row);
        let RowTable {
            stage_of_row,
            merged,
        } = &*self.table;
        // Rows come in the order of hashes: a look at the table is a miss of the cache, so only a bit is looked at.
        let (customer, stage, handle) = match merged.naming(row) {
            Some((customer, handle)) => (customer, stage_of_row[customer as usize], handle),
            None => (row, stage, *handle),
        };
        Ok(Some(Key {
            index,
            row,
            customer,
            stage,
            key_type: KeyType::from_code(key_type).ok_or_else(malformed)?,
            handle,
            hash,
            value: std::str::from_utf8(value).map_err(|_| malformed())?,
        }))
    }
}
