//! Reads rows and merges those that share a key.

use std::path::{Path, PathBuf};

use overlap_crypto::terms::{KeyType, Tier};

use super::{
    GROUP_BYTES, KeyCounts, LocalCustomers, MAX_ROWS_A_KEY, RowReader, RowTable, RowText, Salt,
    SnapshotLimits, StageTiers, key_hash, merge::MergedRows,
};
use crate::{
    customers::rows::DisclosedRow,
    error::{Error, Reason},
    matching::{
        bits::Bits,
        keys::HandleKey,
        spool::{RecordWriter, Sorter},
    },
    overlap::graph::HANDLE_BYTES,
};

/// Bytes of a key record before the value: hash, row, type, stage and handle of the row.
const KEY_HEAD_BYTES: usize = GROUP_BYTES + 4 + 1 + 1 + HANDLE_BYTES;

/// Takes what is read of my customers.
pub trait Observer {
    /// Takes a row with the salted hashes of its keys. Rows come by ascending id.
    ///
    /// # Errors
    /// Whatever keeps it from taking the row.
    fn row(&mut self, id: &str, stage: u8, hashes: &[[u8; GROUP_BYTES]]) -> Result<(), Error>;

    /// Takes one key of one row: salted hash, number of the row, type, stage and handle of the row, value. They come sorted,
    /// after the rows.
    ///
    /// # Errors
    /// Whatever keeps it from taking the key.
    fn key(&mut self, record: &[u8]) -> Result<(), Error>;
}

/// Takes nothing down.
impl Observer for () {
    fn row(&mut self, _: &str, _: u8, _: &[[u8; GROUP_BYTES]]) -> Result<(), Error> {
        Ok(())
    }

    fn key(&mut self, _: &[u8]) -> Result<(), Error> {
        Ok(())
    }
}

/// Merges rows that are handed in by ascending id.
pub struct Builder<'a> {
    tiers: StageTiers,
    /// The indexes of the disclosed stages.
    disclosed: Vec<u8>,
    handles: Option<&'a HandleKey>,
    directory: PathBuf,
    salt: Salt,
    limits: SnapshotLimits,
    stage_of_row: Vec<u8>,
    keys_of_row: Vec<u16>,
    rows: RecordWriter,
    grouped: Sorter,
    last_id: String,
    hashes: Vec<[u8; GROUP_BYTES]>,
}

impl<'a> Builder<'a> {
    /// Starts with no rows; files go to `directory`. Without `handles`, customers have none.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn new(
        tiers: StageTiers,
        handles: Option<&'a HandleKey>,
        directory: &Path,
        salt: Salt,
        limits: SnapshotLimits,
    ) -> Result<Self, Error> {
        let disclosed = tiers
            .iter()
            .filter(|(_, _, tier)| *tier != Tier::Hidden)
            .map(|(index, _, _)| index)
            .collect();
        Ok(Self {
            tiers,
            disclosed,
            handles,
            directory: directory.to_owned(),
            salt,
            limits,
            stage_of_row: Vec::new(),
            keys_of_row: Vec::new(),
            rows: RecordWriter::create(&directory.join("rows"))?,
            grouped: Sorter::new(directory, "grouped", limits.sort_bytes),
            last_id: String::new(),
            hashes: Vec::new(),
        })
    }

    /// Adds a row without a name.
    ///
    /// # Errors
    /// `SET_TOO_LARGE`; what the file system reports; `INTERNAL` if the row is hidden or out of order.
    pub fn push(&mut self, id: &str, stage: &str, keys: &[(KeyType, String)]) -> Result<(), Error> {
        let (name, domains) = ("", "");
        let place = self.tiers.disclosed().iter().position(|id| *id == stage);
        let row = DisclosedRow {
            id,
            stage,
            stage_at: place.ok_or_else(hidden)?,
            keys,
            name,
            domains,
        };
        self.push_seen(&row, &mut ())
    }

    /// Adds a row before an observer. It was read for the disclosed stages in the order of [`StageTiers::disclosed`].
    ///
    /// # Errors
    /// As [`Builder::push`]; what the observer reports.
    pub fn push_seen(
        &mut self,
        found: &DisclosedRow<'_>,
        observer: &mut dyn Observer,
    ) -> Result<(), Error> {
        let DisclosedRow { id, keys, .. } = *found;
        let stage = *self.disclosed.get(found.stage_at).ok_or_else(hidden)?;
        let row = self.push_row(found, stage)?;
        self.hashes.clear();
        for (key_type, value) in keys {
            self.hashes.push(key_hash(&self.salt, *key_type, value));
        }
        observer.row(id, stage, &self.hashes)?;
        if keys.is_empty() {
            return Ok(());
        }
        let handle = match self.handles {
            Some(handles) if self.tiers.tier(stage) == Tier::List => handles.handle(id),
            _ => [0; 16],
        };
        let mut head = [0; KEY_HEAD_BYTES];
        head[GROUP_BYTES..][..4].copy_from_slice(&row.to_be_bytes());
        head[GROUP_BYTES + 5] = stage;
        head[GROUP_BYTES + 6..].copy_from_slice(&handle);
        for ((key_type, value), hash) in keys.iter().zip(&self.hashes) {
            head[..GROUP_BYTES].copy_from_slice(hash);
            head[GROUP_BYTES + 4] = key_type.code();
            self.grouped.push(&[&head, value.as_bytes()])?;
        }
        if self.grouped.len() > self.limits.max_keys {
            return Err(self.too_large());
        }
        Ok(())
    }

    fn push_row(&mut self, found: &DisclosedRow<'_>, stage: u8) -> Result<u32, Error> {
        let id = found.id;
        if !self.stage_of_row.is_empty() && id <= self.last_id.as_str() {
            return Err(Error::internal("rows were not read in the order of ids"));
        }
        self.last_id.clear();
        self.last_id.push_str(id);
        let row = u32::try_from(self.stage_of_row.len()).map_err(|_| self.too_large())?;
        let keys = u16::try_from(found.keys.len())
            .map_err(|_| Error::internal("a row has more keys than can be counted"))?;
        self.stage_of_row.push(stage);
        self.keys_of_row.push(keys);
        RowText::of(found).push_to(&mut self.rows)?;
        Ok(row)
    }

    fn too_large(&self) -> Error {
        Error::new(
            Reason::SetTooLarge,
            format!(
                "more than {} keys are disclosed: raise the node's limit or disclose fewer stages or key types",
                self.limits.max_keys
            ),
        )
        .with("max_keys", self.limits.max_keys)
    }

    /// Merges the rows that share a key.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn finish(self) -> Result<LocalCustomers, Error> {
        self.finish_seen(&mut ())
    }

    /// [`Builder::finish`] before an observer.
    ///
    /// # Errors
    /// What the file system or the observer reports.
    pub fn finish_seen(self, observer: &mut dyn Observer) -> Result<LocalCustomers, Error> {
        let mut groups = Groups {
            keys: RecordWriter::create(&self.directory.join("keys"))?,
            keys_of_row: self.keys_of_row,
            pairs: Vec::new(),
            ambiguous: 0,
            rows: Vec::with_capacity(MAX_ROWS_A_KEY + 1),
            first: Vec::new(),
        };
        let sorted = self.grouped.finish()?;
        let mut stream = sorted.stream()?;
        while let Some(record) = stream.next_record()? {
            observer.key(record)?;
            groups.push(record)?;
        }
        groups.end()?;
        drop((stream, sorted));

        let merged = MergedRows::join(&groups.pairs, &self.stage_of_row);
        let keys_of_row = groups.keys_of_row;
        let mut snapshot = LocalCustomers {
            table: RowTable {
                stage_of_row: self.stage_of_row,
                merged,
            }
            .into(),
            rows: self.rows.finish()?,
            keys: groups.keys.finish()?,
            salt: self.salt,
            counts: KeyCounts::default(),
            customers_by_stage: vec![0; self.tiers.len()],
            ambiguous_keys: groups.ambiguous,
            tiers: self.tiers,
        };
        snapshot.name_merged(self.handles)?;
        snapshot.count(&keys_of_row)?;
        Ok(snapshot)
    }
}

fn hidden() -> Error {
    Error::internal("a row of a hidden stage was read")
}

/// Groups the sorted (hash, row, type, stage, handle, value) records.
struct Groups {
    keys: RecordWriter,
    /// Of each row, its keys but for those that do not count: another row is the first that has them, or they are not usable.
    /// Rows come in the order of hashes, so that each look here is a miss of the cache.
    keys_of_row: Vec<u16>,
    /// Rows that share a key: the first of the key, and each other.
    pairs: Vec<(u32, u32)>,
    ambiguous: u64,
    rows: Vec<u32>,
    /// The first record of the group.
    first: Vec<u8>,
}

impl Groups {
    fn push(&mut self, record: &[u8]) -> Result<(), Error> {
        let (hash, rest) = record.split_at(GROUP_BYTES);
        let row = u32::from_be_bytes(rest[..4].try_into().expect("four bytes"));
        if self.rows.is_empty() || hash != &self.first[..GROUP_BYTES] {
            self.end()?;
            self.first.clear();
            self.first.extend_from_slice(record);
        } else {
            self.keys_of_row[row as usize] -= 1;
        }
        // Rows of a group come in ascending order.
        if self.rows.last() != Some(&row) && self.rows.len() <= MAX_ROWS_A_KEY {
            self.rows.push(row);
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Error> {
        if self.rows.len() > MAX_ROWS_A_KEY {
            self.ambiguous += 1;
            self.keys_of_row[self.rows[0] as usize] -= 1;
        } else if let Some((first, others)) = self.rows.split_first() {
            self.pairs
                .extend(others.iter().map(|other| (*first, *other)));
            self.keys.push(&[&self.first])?;
        }
        self.rows.clear();
        Ok(())
    }
}

impl LocalCustomers {
    /// Makes the handles of customers that several rows make up: that of the naming row counts, whichever row has a key.
    fn name_merged(&mut self, handles: Option<&HandleKey>) -> Result<(), Error> {
        let table = std::sync::Arc::get_mut(&mut self.table).expect("nobody reads keys yet");
        let Some(handles) = handles.filter(|_| !table.merged.is_empty()) else {
            return Ok(());
        };
        let mut rows = RowReader::new(&self.rows)?;
        for (row, handle) in table.merged.handles_mut() {
            if self.tiers.tier(table.stage_of_row[row as usize]) != Tier::List {
                continue;
            }
            *handle = handles.handle(rows.at(row)?.id);
        }
        Ok(())
    }

    /// Counts keys by tier, and customers with a key by stage.
    fn count(&mut self, keys_of_row: &[u16]) -> Result<(), Error> {
        let mut with_key = Bits::new(self.rows());
        for (row, keys) in (0_u32..).zip(keys_of_row).filter(|(_, keys)| **keys > 0) {
            let customer = self.customer(row);
            let stage = self.stage(customer);
            match self.tiers.tier(stage) {
                Tier::List => self.counts.list += u64::from(*keys),
                Tier::Count => self.counts.count += u64::from(*keys),
                Tier::Hidden => return Err(Error::internal("a hidden row was read")),
            }
            if with_key.insert(customer) {
                self.customers_by_stage[usize::from(stage)] += 1;
            }
        }
        Ok(())
    }
}
