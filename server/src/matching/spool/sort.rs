//! Sorting more records than fit in memory.
//!
//! Records whose leading bytes are spread evenly are dealt into [`parts`]; others become sorted [`runs`].

mod held;
mod parts;
mod runs;
#[cfg(test)]
mod tests;

use std::{
    fmt::Display,
    path::{Path, PathBuf},
    sync::Arc,
};

use self::{
    held::{Held, INDEX_BYTES, LENGTH_BYTES},
    parts::{Parts, PartsStream, PartsWriter, Shape},
    runs::Merge,
};
use super::records::{MAX_RECORD_BYTES, RecordFile};
use crate::error::Error;

/// A sorter holds at least this many bytes before it spills.
const MIN_BUDGET_BYTES: usize = 1 << 16;
/// Places are 32 bits.
const MAX_BUDGET_BYTES: usize = 1 << 30;

/// Sorts records by their bytes, within a bounded buffer.
///
/// Records that are equal stay in no particular order. Sorting n records of b bytes each takes O(n log n) time and, if they do
/// not fit in memory, n (b + 2) bytes of disk; up to three times as much if the first ones were spread evenly and the others are
/// not. Memory is the budget, a block of 128 KiB for each file being written or read, and 1 KiB for every 2 MiB in parts. A
/// stream holds a part, which is 1/128 of evenly spread records and the budget at most, or a block of every run.
pub struct Sorter {
    files: Files,
    budget_bytes: usize,
    held: Held,
    /// What `held` may take before something is done.
    limit_bytes: usize,
    /// How to deal the records into parts, until that is decided.
    shape: Option<Shape>,
    parts: Option<PartsWriter>,
    runs: Vec<RecordFile>,
    records: u64,
}

/// Where files go.
struct Files {
    directory: PathBuf,
    name: String,
}

impl Files {
    fn new(directory: &Path, name: &str) -> Self {
        Self {
            directory: directory.to_owned(),
            name: name.to_owned(),
        }
    }

    fn path(&self, suffix: impl Display) -> PathBuf {
        self.directory.join(format!("{}.{suffix}", self.name))
    }

    /// Where those of a part go.
    fn part(&self, number: usize) -> Self {
        Self {
            directory: self.directory.clone(),
            name: format!("{}.part{number}", self.name),
        }
    }
}

impl Sorter {
    /// A sorter whose buffer takes up to `budget_bytes` and which spills to files called `name` in `directory`.
    #[must_use]
    pub fn new(directory: &Path, name: &str, budget_bytes: usize) -> Self {
        Self::with_shape(Files::new(directory, name), budget_bytes, Shape::uniform)
    }

    /// [`Sorter::new`] for records that begin with a number below `bound`, four bytes, big-endian: numbers that come in no
    /// order are spread as evenly as hashes are.
    #[must_use]
    pub fn numbered(directory: &Path, name: &str, budget_bytes: usize, bound: u32) -> Self {
        Self::with_shape(Files::new(directory, name), budget_bytes, |bytes| {
            Shape::numbered(bytes, bound)
        })
    }

    fn with_shape(
        files: Files,
        budget_bytes: usize,
        shape: impl FnOnce(usize) -> Option<Shape>,
    ) -> Self {
        let budget_bytes = budget_bytes.clamp(MIN_BUDGET_BYTES, MAX_BUDGET_BYTES);
        let shape = shape(budget_bytes);
        Self {
            files,
            budget_bytes,
            held: Held::default(),
            limit_bytes: budget_bytes - shape.map_or(0, |shape| shape.buffer_bytes),
            shape,
            parts: None,
            runs: Vec::new(),
            records: 0,
        }
    }

    /// Adds one record, the concatenation of `parts`.
    ///
    /// # Errors
    /// What the file system reports; `INTERNAL` if the record is too long.
    #[inline]
    pub fn push(&mut self, parts: &[&[u8]]) -> Result<(), Error> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if length >= MAX_RECORD_BYTES {
            return Err(Error::internal(format!(
                "a record of {length} bytes is too long to sort"
            )));
        }
        self.records += 1;
        if let Some(writer) = &mut self.parts {
            return writer.push(length as u16, parts);
        }
        let needed = LENGTH_BYTES + length + INDEX_BYTES;
        while self.held.held_bytes() + needed > self.limit_bytes && !self.held.is_empty() {
            self.full()?;
            if let Some(writer) = &mut self.parts {
                return writer.push(length as u16, parts);
            }
        }
        self.held.push(length as u16, parts);
        Ok(())
    }

    /// Number of records so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.records
    }

    /// Whether there is no record yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Ends the input.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn finish(mut self) -> Result<Sorted, Error> {
        let source = if let Some(writer) = self.parts {
            Source::Parts(Arc::new(writer.finish(&self.files)?))
        } else if self.runs.is_empty() {
            self.held.sort(&mut Vec::new());
            Source::Held(Arc::new(self.held))
        } else {
            if !self.held.is_empty() {
                self.write_run()?;
            }
            Source::Runs(self.runs.into())
        };
        Ok(Sorted {
            source,
            records: self.records,
        })
    }

    /// Makes room for another record.
    #[cold]
    fn full(&mut self) -> Result<(), Error> {
        let Some(shape) = self.shape.take() else {
            return self.write_run();
        };
        self.limit_bytes = self.budget_bytes;
        if shape.is_even(&self.held) {
            let held = std::mem::take(&mut self.held);
            let mut writer = PartsWriter::create(shape, &self.files.path("parts"))?;
            for record in held.records() {
                writer.push(record.len() as u16, &[record])?;
            }
            self.parts = Some(writer);
        }
        Ok(())
    }

    fn write_run(&mut self) -> Result<(), Error> {
        self.held.sort(&mut Vec::new());
        let path = self.files.path(self.runs.len());
        self.runs.push(runs::write(&self.held, &path)?);
        self.held.clear();
        Ok(())
    }
}

/// Sorted records, which can be streamed any number of times; clones share them.
#[derive(Clone)]
pub struct Sorted {
    source: Source,
    records: u64,
}

#[derive(Clone)]
enum Source {
    Held(Arc<Held>),
    Parts(Arc<Parts>),
    Runs(Arc<[RecordFile]>),
}

impl Sorted {
    /// Number of records.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.records
    }

    /// Whether there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Streams the records in ascending order.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn stream(&self) -> Result<SortedStream, Error> {
        Ok(SortedStream(match &self.source {
            Source::Held(held) => Streaming::Held {
                held: Arc::clone(held),
                done: 0,
            },
            Source::Parts(parts) => Streaming::Parts(PartsStream::new(Arc::clone(parts))),
            Source::Runs(runs) => Streaming::Runs(Merge::new(runs)?),
        }))
    }
}

/// Sorted records one by one.
pub struct SortedStream(Streaming);

enum Streaming {
    Held { held: Arc<Held>, done: usize },
    Parts(PartsStream),
    Runs(Merge),
}

impl SortedStream {
    /// The next record, or `None` after the last.
    ///
    /// # Errors
    /// What the file system reports; `STORAGE_FAILED` for a damaged file.
    #[inline]
    pub fn next_record(&mut self) -> Result<Option<&[u8]>, Error> {
        Ok(if self.advance()? {
            Some(self.record())
        } else {
            None
        })
    }

    #[inline]
    fn advance(&mut self) -> Result<bool, Error> {
        match &mut self.0 {
            Streaming::Held { held, done } => {
                *done += usize::from(*done <= held.len());
                Ok(*done <= held.len())
            }
            Streaming::Parts(parts) => parts.advance(),
            Streaming::Runs(merge) => merge.advance(),
        }
    }

    /// The record that the stream advanced to.
    #[inline]
    fn record(&self) -> &[u8] {
        match &self.0 {
            Streaming::Held { held, done } => held.nth(done - 1).unwrap_or(&[]),
            Streaming::Parts(parts) => parts.record(),
            Streaming::Runs(merge) => merge.record(),
        }
    }
}
