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
//! base as it is and lays over it a layer, one file, `layer`, with a section for each of the same tables of the shared
//! customers that are new or otherwise than in the base, and
//!
//! | section | record | order |
//! |---|---|---|
//! | `hidden` | number of a shared customer of the base that is gone or in the layer: 4 bytes | number |
//! | `gaps` | how many shared customers of the base come before one of the layer: 4 bytes | number |
//! | `matched_keys` | salted hash of a key, whether it matches now: 17 bytes | hash |

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Reason},
    matching::spool::{BlockWriter, Checksum, disk},
};

/// Bytes of a file that are checked in one go.
const CHECKED_BYTES: u64 = 1 << 17;

/// What the database keeps of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileEntry {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) checksum: u64,
}

/// A table of a result on its way into a file.
pub(super) trait Table {
    fn push(&mut self, bytes: &[u8]) -> Result<(), Error>;

    /// Bytes so far.
    fn bytes(&self) -> u64;
}

/// A table that is written as a file.
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

impl Table for FileWriter {
    #[inline]
    fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.push(bytes)
    }

    fn bytes(&self) -> u64 {
        self.file.bytes()
    }
}

/// A table that becomes a section of a file.
#[derive(Default)]
pub(super) struct Section(Vec<u8>);

impl Table for Section {
    #[inline]
    fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.0.len() as u64
    }
}

/// A file of several sections: what the database keeps of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sections {
    pub(super) file: FileEntry,
    /// The name of each, and where it ends.
    ends: Vec<(String, u64)>,
}

impl Sections {
    /// Writes the sections and makes the file durable.
    pub(super) fn write(
        directory: &Path,
        name: &str,
        sections: Vec<(&str, Section)>,
    ) -> Result<Self, Error> {
        let mut file = FileWriter::create(directory, name)?;
        let mut ends = Vec::with_capacity(sections.len());
        for (name, section) in sections {
            file.push(&section.0)?;
            ends.push((name.to_owned(), file.bytes()));
        }
        Ok(Self {
            file: file.finish()?,
            ends,
        })
    }

    /// Opens a section of the file.
    pub(super) fn open(&self, file: &ResultFile, name: &str) -> Result<ResultFile, Error> {
        let missing = || Error::internal(format!("a result has no section {name}"));
        let place = self.ends.iter().position(|(other, _)| other == name);
        let place = place.ok_or_else(missing)?;
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before].1);
        file.section(start, self.ends[place].1)
    }
}

/// A complete file, or a section of one; reading it needs no lock.
pub(crate) struct ResultFile {
    path: PathBuf,
    file: Arc<File>,
    start: u64,
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
            file: Arc::new(file),
            start: 0,
            bytes: length,
        })
    }

    /// What lies between two places.
    fn section(&self, start: u64, end: u64) -> Result<Self, Error> {
        if start > end || end > self.bytes {
            return Err(self.damaged());
        }
        Ok(Self {
            path: self.path.clone(),
            file: Arc::clone(&self.file),
            start: self.start + start,
            bytes: end - start,
        })
    }

    fn damaged(&self) -> Error {
        Error::internal(format!("{}: offsets are wrong", self.path.display()))
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads the file through and compares it with the checksum it was written with. Whoever writes what it says anew looks
    /// first: what is written anew has a checksum of its own.
    ///
    /// # Errors
    /// `STORAGE_FAILED` if it is another.
    pub(super) fn check(&self, entry: &FileEntry) -> Result<(), Error> {
        let mut checksum = Checksum::default();
        let mut block = Vec::new();
        let mut start = 0;
        while start < self.bytes {
            let end = (start + CHECKED_BYTES).min(self.bytes);
            self.read_range(start, end, &mut block)?;
            checksum.update(&block);
            start = end;
        }
        if checksum.value() == entry.checksum {
            return Ok(());
        }
        Err(Error::new(
            Reason::StorageFailed,
            format!(
                "{}: the file is damaged: check the disk and run the match again",
                self.path.display()
            ),
        ))
    }

    pub(crate) fn read(&self, at: u64, bytes: &mut [u8]) -> Result<(), Error> {
        let end = at.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > self.bytes) {
            return Err(self.damaged());
        }
        self.file
            .read_exact_at(bytes, self.start + at)
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
        let mut bytes = Vec::new();
        self.read_range(start, end, &mut bytes)?;
        Ok(bytes)
    }

    /// [`ResultFile::range`] in the place of what `bytes` holds.
    pub(crate) fn read_range(
        &self,
        start: u64,
        end: u64,
        bytes: &mut Vec<u8>,
    ) -> Result<(), Error> {
        if end > self.bytes {
            return Err(self.damaged());
        }
        let length = end.checked_sub(start).ok_or_else(|| self.damaged())?;
        bytes.resize(usize::try_from(length).map_err(|_| self.damaged())?, 0);
        self.read(start, bytes)
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

/// A record names a shared customer that there is not.
pub(super) fn beyond() -> Error {
    Error::new(
        Reason::StorageFailed,
        "a result's files do not fit together: check the disk and run the match again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changed_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..300_000_u32).map(|number| number as u8).collect();
        let mut file = FileWriter::create(directory.path(), "columns").unwrap();
        file.push(&bytes).unwrap();
        let entry = file.finish().unwrap();
        let check = || ResultFile::open(directory.path(), &entry)?.check(&entry);
        check().unwrap();
        for at in [0, 131_071, 131_072, 299_999] {
            let mut changed = bytes.clone();
            changed[at] ^= 0x80;
            std::fs::write(directory.path().join("columns"), changed).unwrap();
            let reason = check().unwrap_err().reason();
            assert_eq!(reason, Reason::StorageFailed, "at {at}");
        }
    }

    #[test]
    fn sections_read_back_and_none_reaches_into_another() {
        let directory = tempfile::tempdir().unwrap();
        let section = |bytes: &[u8]| {
            let mut section = Section::default();
            section.push(bytes).unwrap();
            section
        };
        let sections = vec![
            ("one", section(b"abcdef")),
            ("none", section(b"")),
            ("other", section(b"ghi")),
        ];
        let layer = Sections::write(directory.path(), "layer", sections).unwrap();
        let file = ResultFile::open(directory.path(), &layer.file).unwrap();
        let one = layer.open(&file, "one").unwrap();
        assert_eq!(one.bytes(), 6);
        assert_eq!(one.range(0, 6).unwrap(), b"abcdef");
        assert_eq!(one.range(2, 4).unwrap(), b"cd");
        assert!(one.range(2, 7).is_err());
        assert!(one.array::<4>(3).is_err());
        assert_eq!(layer.open(&file, "none").unwrap().bytes(), 0);
        let other = layer.open(&file, "other").unwrap();
        assert_eq!(other.array::<2>(1).unwrap(), *b"hi");
        assert!(layer.open(&file, "another").is_err());
    }
}
