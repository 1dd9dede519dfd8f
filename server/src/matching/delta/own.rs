//! What has to be remembered of my own customers, to tell what changed without reading them all again.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    io::{BufWriter, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use overlap_crypto::terms::{KeyType, Tier};
use serde::{Deserialize, Serialize};

use super::{
    column::{Column, ColumnWriter, StateKey, TextReader, TextWriter},
    kept::Kept,
    table::GONE,
};
use crate::{
    error::Error,
    matching::{
        keys::HandleKey,
        local_customers::{Builder, KeyReader, KeyRef, LocalCustomers, SnapshotLimits, StageTiers},
        spool::{disk, new_file},
    },
};

const ROWS: &str = "rows";
const GROUPED: &str = "grouped";
const KEYS: &str = "keys";
/// Bytes of a key's record: salted hash, naming row of its customer, stage.
const KEY_BYTES: usize = 16 + 4 + 1;

/// What the manifest keeps of my customers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OwnDocument {
    /// Salt of the keys' hashes, hexadecimal: keys keep their order through the epoch.
    salt: String,
    /// The last change of customers that the run saw.
    pub(crate) change_seq: u64,
    count: u64,
    rows: Vec<u32>,
    grouped: Vec<u32>,
    keys: u64,
}

impl OwnDocument {
    /// The salt of the keys' hashes.
    pub(crate) fn salt(&self) -> Result<[u8; 32], Error> {
        let mut salt = [0; 32];
        hex::decode_to_slice(&self.salt, &mut salt)
            .map_err(|_| Error::internal("a state manifest is malformed"))?;
        Ok(salt)
    }

    /// Number of rows.
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }
}

/// Writes what the next run needs of my customers.
pub(crate) struct OwnWriter {
    grouped: TextWriter,
}

impl OwnWriter {
    pub(crate) fn create(directory: &Path, key: &StateKey) -> Result<Self, Error> {
        Ok(Self {
            grouped: TextWriter::create(&directory.join(GROUPED), key)?,
        })
    }

    /// Takes every key of every row, sorted.
    pub(crate) fn key(&mut self, record: &[u8]) -> Result<(), Error> {
        self.grouped.push(record)
    }

    /// Adds the rows and the keys with their customers.
    pub(crate) fn finish(
        self,
        directory: &Path,
        key: &StateKey,
        local: &LocalCustomers,
        salt: &[u8; 32],
        change_seq: u64,
    ) -> Result<OwnDocument, Error> {
        let mut rows = TextWriter::create(&directory.join(ROWS), key)?;
        let mut ids = local.ids()?;
        let mut row = 0;
        while let Some(id) = ids.next_record()? {
            rows.push_parts(&[&[local.stage(row)], id])?;
            row += 1;
        }
        let mut keys = ColumnWriter::create(&directory.join(KEYS), key, KEY_BYTES)?;
        let mut reader = local.keys()?;
        while let Some(found) = reader.next_key()? {
            keys.push(&[found.hash, &found.customer.to_be_bytes(), &[found.stage]])?;
        }
        Ok(OwnDocument {
            salt: hex::encode(salt),
            change_seq,
            count: u64::from(row),
            rows: rows.finish()?,
            grouped: self.grouped.finish()?,
            keys: keys.finish()?,
        })
    }
}

/// A row as it is now.
pub(crate) struct ChangedRow {
    pub(crate) stage: String,
    pub(crate) keys: Vec<(KeyType, String)>,
}

/// The rows that changed since the last run, by id: as they are, or `None` if they are not disclosed any more.
pub(crate) type Changes = BTreeMap<Vec<u8>, Option<ChangedRow>>;

/// My customers now, made from those of the last run and what changed.
pub(crate) struct Renewed {
    pub(crate) local: LocalCustomers,
    rows: Rows,
}

#[derive(Default)]
struct Rows {
    /// By the row's number in the last run: its number now, or [`GONE`].
    now: Vec<u32>,
    /// By the row's number in the last run: whether its keys are read anew, or it is gone.
    replaced: Vec<bool>,
    /// By the row's number now: whether it is new or changed.
    touched: Vec<bool>,
}

/// Makes my customers of now: no row that did not change is read from the store, and no key of one is hashed.
pub(crate) fn renew(
    kept: &Kept,
    tiers: StageTiers,
    handles: Option<&HandleKey>,
    changes: &Changes,
    directory: &Path,
    limits: SnapshotLimits,
    writer: &mut OwnWriter,
) -> Result<Renewed, Error> {
    let document = &kept.document.own;
    let mut builder = Builder::new(tiers, handles, directory, document.salt()?, limits)?;
    let mut rows = Rows::default();
    let mut before = TextReader::open(&kept.directory.join(ROWS), &kept.key, &document.rows)?;
    let mut changes = changes.iter().peekable();
    while let Some(record) = before.next_text()? {
        let (&stage, id) = record
            .split_first()
            .ok_or_else(|| Error::internal("a kept row is malformed"))?;
        while let Some((other, row)) = changes.next_if(|(other, _)| other.as_slice() < id) {
            rows.push(&mut builder, other, row.as_ref())?;
        }
        match changes.next_if(|(other, _)| other.as_slice() == id) {
            Some((_, row)) => {
                rows.now.push(match row {
                    Some(_) => rows.next()?,
                    None => GONE,
                });
                rows.replaced.push(true);
                rows.push(&mut builder, id, row.as_ref())?;
            }
            None => {
                rows.now.push(rows.next()?);
                rows.replaced.push(false);
                rows.touched.push(false);
                builder.push_without_keys(text(id)?, stage)?;
            }
        }
    }
    for (id, row) in changes {
        rows.push(&mut builder, id, row.as_ref())?;
    }
    let mut grouped =
        TextReader::open(&kept.directory.join(GROUPED), &kept.key, &document.grouped)?;
    let local = builder.finish_merging(
        &mut |next| {
            while let Some(record) = grouped.next_text()? {
                let row = record
                    .get(16..20)
                    .and_then(|row| row.try_into().ok())
                    .map(u32::from_be_bytes)
                    .filter(|row| (*row as usize) < rows.now.len())
                    .ok_or_else(|| Error::internal("a kept key is malformed"))?;
                if rows.replaced[row as usize] {
                    continue;
                }
                next.clear();
                next.extend_from_slice(record);
                next[16..20].copy_from_slice(&rows.now[row as usize].to_be_bytes());
                return Ok(true);
            }
            Ok(false)
        },
        &mut |record| writer.key(record),
    )?;
    Ok(Renewed { local, rows })
}

impl Rows {
    fn next(&self) -> Result<u32, Error> {
        u32::try_from(self.touched.len()).map_err(|_| Error::internal("more than 2^32 rows"))
    }

    fn push(
        &mut self,
        builder: &mut Builder<'_>,
        id: &[u8],
        row: Option<&ChangedRow>,
    ) -> Result<(), Error> {
        let Some(row) = row else { return Ok(()) };
        self.touched.push(true);
        builder.push(text(id)?, &row.stage, &row.keys)
    }
}

fn text(id: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(id).map_err(|_| Error::internal("an id is no text"))
}

/// How my keys differ from those of the last run.
pub(crate) struct Update {
    /// By the key's position in the last run: its position now, or [`GONE`].
    pub(crate) key_now: Vec<u32>,
    /// By the key's position in the last run: whether its customer was listed.
    pub(crate) was_listed: Vec<bool>,
    /// By the key's position now: whether what a label says of its customer may differ from the last run's, or there was none.
    pub(crate) relabelled: Vec<bool>,
    /// My keys by position.
    pub(crate) keys: KeyTable,
    /// The values of the keys that the last run did not have, by position.
    fresh: BTreeMap<u32, Vec<u8>>,
}

impl Update {
    /// Compares the keys with those of the last run. Temporary files go to `scratch`.
    pub(crate) fn find(kept: &Kept, renewed: &Renewed, scratch: &Path) -> Result<Self, Error> {
        let Renewed { local, rows } = renewed;
        let document = &kept.document.own;
        let mut column = Column::open(
            &kept.directory.join(KEYS),
            &kept.key,
            KEY_BYTES,
            document.keys,
        )?;
        let keys = usize::try_from(local.key_counts().list + local.key_counts().count)
            .map_err(|_| Error::internal("too many keys"))?;
        let before = usize::try_from(document.keys).unwrap_or(0);
        let mut key_now = Vec::with_capacity(before);
        let mut was_listed = Vec::with_capacity(before);
        let mut relabelled = vec![true; keys];
        let mut fresh = BTreeMap::new();
        let mut now = NowKeys {
            reader: local.keys()?,
            table: KeyTableWriter::create(&scratch.join("key_table"), keys)?,
            next: None,
            value: Vec::new(),
        };
        now.advance()?;
        for index in 0..document.keys {
            let record = column.get(index)?;
            let (hash, rest) = record
                .split_first_chunk::<16>()
                .ok_or_else(|| Error::internal("a short record"))?;
            while let Some((other, key)) = now.next
                && other < *hash
            {
                fresh.insert(key.index, std::mem::take(&mut now.value));
                now.advance()?;
            }
            let stage = rest[4];
            was_listed.push(local.tiers().tier(stage) == Tier::List);
            match now.next {
                Some((other, key)) if other == *hash => {
                    let customer = u32::from_be_bytes([rest[0], rest[1], rest[2], rest[3]]);
                    relabelled[key.index as usize] = rows.now.get(customer as usize)
                        != Some(&key.customer)
                        || key.stage != stage
                        || rows.touched[key.customer as usize];
                    key_now.push(key.index);
                    now.advance()?;
                }
                _ => key_now.push(GONE),
            }
        }
        while let Some((_, key)) = now.next {
            fresh.insert(key.index, std::mem::take(&mut now.value));
            now.advance()?;
        }
        Ok(Self {
            key_now,
            was_listed,
            relabelled,
            keys: now.table.finish()?,
            fresh,
        })
    }

    /// The keys at these positions, which ascend, with their values.
    pub(crate) fn values(
        &mut self,
        local: &LocalCustomers,
        positions: &[u32],
    ) -> Result<VecDeque<ChosenKey>, Error> {
        if positions.iter().any(|key| !self.fresh.contains_key(key)) {
            // Keys that were there before and come to be sent now: customers that changed their tier.
            let mut reader = local.keys()?;
            let mut wanted = positions.iter().peekable();
            while wanted.peek().is_some()
                && let Some(key) = reader.next_key()?
            {
                if wanted.next_if(|next| **next == key.index).is_some() {
                    self.fresh.insert(key.index, key.value.as_bytes().to_vec());
                }
            }
        }
        positions
            .iter()
            .map(|&index| {
                let value = self.fresh.get(&index);
                let value = value.ok_or_else(|| Error::internal("a key without a value"))?;
                Ok(ChosenKey {
                    key: self.keys.at(index)?,
                    value: value.clone(),
                })
            })
            .collect()
    }
}

/// Reads the keys of now, and tables them.
struct NowKeys {
    reader: KeyReader,
    table: KeyTableWriter,
    /// The next key and its hash; its value is in `value`.
    next: Option<([u8; 16], KeyRef)>,
    value: Vec<u8>,
}

impl NowKeys {
    fn advance(&mut self) -> Result<(), Error> {
        self.next = match self.reader.next_key()? {
            Some(key) => {
                self.value.clear();
                self.value.extend_from_slice(key.value.as_bytes());
                self.table.push(key.reference())?;
                Some((*key.hash, key.reference()))
            }
            None => None,
        };
        Ok(())
    }
}

struct KeyTableWriter {
    path: PathBuf,
    file: BufWriter<File>,
    stages: Vec<u8>,
}

impl KeyTableWriter {
    fn create(path: &Path, keys: usize) -> Result<Self, Error> {
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::with_capacity(1 << 18, new_file(path)?),
            stages: Vec::with_capacity(keys),
        })
    }

    fn push(&mut self, key: KeyRef) -> Result<(), Error> {
        self.stages.push(key.stage);
        self.file
            .write_all(&key.to_bytes())
            .map_err(|error| disk(&self.path, &error))
    }

    fn finish(mut self) -> Result<KeyTable, Error> {
        self.file
            .flush()
            .map_err(|error| disk(&self.path, &error))?;
        Ok(KeyTable {
            file: File::open(&self.path).map_err(|error| disk(&self.path, &error))?,
            path: self.path,
            stages: self.stages,
        })
    }
}

/// My keys by their position in the run. Memory: a byte a key.
pub(crate) struct KeyTable {
    path: PathBuf,
    file: File,
    stages: Vec<u8>,
}

impl KeyTable {
    /// The stage of the customer that a key stands for.
    pub(crate) fn stage(&self, index: u32) -> u8 {
        self.stages[index as usize]
    }

    /// The key at a position.
    pub(crate) fn at(&self, index: u32) -> Result<KeyRef, Error> {
        let mut bytes = [0; KeyRef::BYTES];
        self.file
            .read_exact_at(&mut bytes, u64::from(index) * KeyRef::BYTES as u64)
            .map_err(|error| disk(&self.path, &error))?;
        let key = KeyRef::from_bytes(&bytes)?;
        if key.index != index {
            return Err(Error::internal("the table of keys is out of order"));
        }
        Ok(key)
    }
}

/// A key to be sent.
pub(crate) struct ChosenKey {
    pub(crate) key: KeyRef,
    /// Its normalised value.
    pub(crate) value: Vec<u8>,
}

/// A side's stages as the state binds them.
pub(crate) fn describe(tiers: &StageTiers) -> Vec<String> {
    tiers
        .iter()
        .map(|(_, stage, tier)| format!("{} {} {tier:?}", stage.ordinal, stage.id))
        .collect()
}
