//! The files a result is made of: written once, then read at random.
//!
//! | file | record | order |
//! |---|---|---|
//! | `columns` | stages, key types, mutual, first matched: 12 bytes | number |
//! | `offsets` | where `shared` and `search` records start: 16 bytes | number |
//! | `shared` | handle, ids, name, the partner's fields | number |
//! | `search` | case-folded name and domains | number |
//! | `members`, `member_offsets` | id of a row of mine, number, whether it names; 8 bytes an offset | id |
//! | `handles` | handle, number: 20 bytes | handle |
//! | `matched_keys` | salted hash of a key that matched: 16 bytes | hash |
//!
//! Shared customers are numbered in ascending order of their ids. The files of a full run are a base. A delta run leaves the
//! base as it is and lays over it a layer: the same files of the shared customers that are new or otherwise than in the base,
//! under names with `layer_` before them, and
//!
//! | file | record | order |
//! |---|---|---|
//! | `layer_hidden` | number of a shared customer of the base that is gone or in the layer: 4 bytes | number |
//! | `layer_gaps` | how many shared customers of the base come before one of the layer: 4 bytes | number |
//! | `layer_matched_keys` | salted hash of a key, whether it matches now: 17 bytes | hash |

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Reason},
    matching::spool::{BlockWriter, disk},
};

/// What the database keeps of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileEntry {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) checksum: u64,
}

pub(crate) struct FileWriter {
    name: String,
    file: BlockWriter,
}

impl FileWriter {
    pub(crate) fn create(directory: &Path, name: &str) -> Result<Self, Error> {
        Ok(Self {
            file: BlockWriter::create(&directory.join(name))?,
            name: name.to_owned(),
        })
    }

    #[inline]
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.push(bytes)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.file.bytes()
    }

    /// Makes the file durable.
    pub(crate) fn finish(self) -> Result<FileEntry, Error> {
        let bytes = self.file.bytes();
        let (file, path, checksum) = self.file.finish()?;
        file.sync_all().map_err(|error| disk(&path, &error))?;
        Ok(FileEntry {
            name: self.name,
            bytes,
            checksum,
        })
    }
}

/// A complete file; reading it needs no lock.
pub(crate) struct ResultFile {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl ResultFile {
    pub(crate) fn open(directory: &Path, entry: &FileEntry) -> Result<Self, Error> {
        let path = directory.join(&entry.name);
        let file = File::open(&path).map_err(|error| disk(&path, &error))?;
        let length = file.metadata().map_err(|error| disk(&path, &error))?.len();
        if length != entry.bytes {
            return Err(Error::new(
                Reason::StorageFailed,
                format!(
                    "{}: the file has {length} bytes instead of {}: check the disk and run the match again",
                    path.display(),
                    entry.bytes
                ),
            ));
        }
        Ok(Self {
            path,
            file,
            bytes: length,
        })
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn read(&self, at: u64, bytes: &mut [u8]) -> Result<(), Error> {
        self.file
            .read_exact_at(bytes, at)
            .map_err(|error| disk(&self.path, &error))
    }

    /// All 32-bit numbers of the file.
    pub(crate) fn numbers(&self) -> Result<Vec<u32>, Error> {
        let bytes = self.range(0, self.bytes)?;
        let (numbers, _) = bytes.as_chunks();
        Ok(numbers.iter().copied().map(u32::from_be_bytes).collect())
    }

    pub(crate) fn array<const N: usize>(&self, at: u64) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.read(at, &mut bytes)?;
        Ok(bytes)
    }

    /// The bytes from `start` to `end`.
    pub(crate) fn range(&self, start: u64, end: u64) -> Result<Vec<u8>, Error> {
        let damaged = || Error::internal(format!("{}: offsets are wrong", self.path.display()));
        if end > self.bytes {
            return Err(damaged());
        }
        let length = end.checked_sub(start).ok_or_else(damaged)?;
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| damaged())?];
        self.read(start, &mut bytes)?;
        Ok(bytes)
    }

    /// Position of `key` in a file of sorted records of `N` bytes that start with it.
    pub(crate) fn search<const N: usize>(&self, key: &[u8]) -> Result<Option<[u8; N]>, Error> {
        let (mut low, mut high) = (0, self.bytes / N as u64);
        while low < high {
            let middle = low + (high - low) / 2;
            let record: [u8; N] = self.array(middle * N as u64)?;
            match record[..key.len()].cmp(key) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Ok(Some(record)),
            }
        }
        Ok(None)
    }
}
