//! Files of a run: an external sorter and append-only record files.
//!
//! Everything whose size follows the set size goes through here, so that memory stays bounded whatever the set size.
//! Files carry a checksum and their number of records; a file that was cut short or changed is an error, never a shorter
//! answer.

use std::{
    fs::{File, OpenOptions},
    io::{BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::error::{Error, Reason};

/// Bytes of a file buffer.
const BUFFER_BYTES: usize = 1 << 16;
/// The longest record.
pub const MAX_RECORD_BYTES: usize = u16::MAX as usize;
/// A sorter holds at least this many bytes before it spills.
const MIN_BUDGET_BYTES: usize = 1 << 16;
/// Stands where a record's length would stand; the footer follows.
const END: u16 = u16::MAX;
/// What the sorter spends on a record besides its bytes.
const INDEX_BYTES: usize = size_of::<(u64, u32)>();

/// An error of the file system, with the file it concerns.
pub(crate) fn disk(path: &Path, error: &std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Error::new(
            Reason::DiskFull,
            format!(
                "{}: no space left: free some space and run again; the last result is unchanged",
                path.display()
            ),
        ),
        _ => Error::new(
            Reason::StorageFailed,
            format!("{}: {error}", path.display()),
        ),
    }
}

fn damaged(path: &Path) -> Error {
    Error::new(
        Reason::StorageFailed,
        format!(
            "{}: the file is damaged: check the disk and run again",
            path.display()
        ),
    )
}

/// Detects accidental change of a file: not a cryptographic hash.
#[derive(Clone, Copy)]
pub(crate) struct Checksum(u64);

impl Checksum {
    pub(crate) const fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    pub(crate) const fn value(self) -> u64 {
        self.0
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        let mix = |state: u64, word: u64| {
            (state ^ word)
                .wrapping_mul(0xff51_afd7_ed55_8ccd)
                .rotate_left(29)
        };
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
            self.0 = mix(self.0, word);
        }
        let rest = words.remainder();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.0 = mix(
            self.0,
            u64::from_le_bytes(last) ^ (bytes.len() as u64) << 56,
        );
    }
}

/// An append-only file of records of up to [`MAX_RECORD_BYTES`] - 1 bytes.
pub struct RecordWriter {
    path: PathBuf,
    file: BufWriter<File>,
    checksum: Checksum,
    records: u64,
    record: Vec<u8>,
}

impl RecordWriter {
    /// Creates the file; it must not exist.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let file = new_file(path)?;
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::with_capacity(BUFFER_BYTES, file),
            checksum: Checksum::new(),
            records: 0,
            record: Vec::new(),
        })
    }

    /// Appends one record, the concatenation of `parts`.
    ///
    /// # Errors
    /// What the file system reports; `INTERNAL` if the record is too long.
    pub fn push(&mut self, parts: &[&[u8]]) -> Result<(), Error> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if length >= MAX_RECORD_BYTES {
            return Err(Error::internal(format!(
                "a record of {length} bytes is too long for {}",
                self.path.display()
            )));
        }
        let head = u16::try_from(length).expect("checked above").to_le_bytes();
        self.record.clear();
        self.record.extend_from_slice(&head);
        for part in parts {
            self.record.extend_from_slice(part);
        }
        self.checksum.update(&self.record[2..]);
        self.records += 1;
        self.file
            .write_all(&self.record)
            .map_err(|error| disk(&self.path, &error))
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

    /// Completes the file, which is removed when the last handle to it is dropped.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn finish(mut self) -> Result<RecordFile, Error> {
        self.write(&END.to_le_bytes())?;
        self.write(&self.records.to_le_bytes())?;
        self.write(&self.checksum.0.to_le_bytes())?;
        self.file
            .flush()
            .map_err(|error| disk(&self.path, &error))?;
        Ok(RecordFile(Arc::new(TemporaryFile {
            path: self.path,
            records: self.records,
        })))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file
            .write_all(bytes)
            .map_err(|error| disk(&self.path, &error))
    }
}

/// A complete record file; clones share it.
#[derive(Clone)]
pub struct RecordFile(Arc<TemporaryFile>);

struct TemporaryFile {
    path: PathBuf,
    records: u64,
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        // The run's directory goes as a whole if this fails.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl RecordFile {
    /// Number of records.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.records
    }

    /// Whether there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads the records from the start.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn reader(&self) -> Result<RecordReader, Error> {
        let file = File::open(&self.0.path).map_err(|error| disk(&self.0.path, &error))?;
        Ok(RecordReader {
            file: BufReader::with_capacity(BUFFER_BYTES, file),
            source: self.clone(),
            checksum: Checksum::new(),
            read: 0,
            record: Vec::new(),
            ended: false,
        })
    }
}

/// Streams a record file; its end is reached only if number and checksum are right.
pub struct RecordReader {
    source: RecordFile,
    file: BufReader<File>,
    checksum: Checksum,
    read: u64,
    record: Vec<u8>,
    ended: bool,
}

impl RecordReader {
    /// The next record, or `None` after the last.
    ///
    /// # Errors
    /// What the file system reports; `STORAGE_FAILED` for a damaged file.
    pub fn next_record(&mut self) -> Result<Option<&[u8]>, Error> {
        Ok(if self.advance()? {
            Some(&self.record)
        } else {
            None
        })
    }

    fn advance(&mut self) -> Result<bool, Error> {
        if self.ended {
            return Ok(false);
        }
        let mut head = [0; 2];
        self.fill(&mut head)?;
        let length = u16::from_le_bytes(head);
        if length == END {
            let (mut records, mut checksum) = ([0; 8], [0; 8]);
            self.fill(&mut records)?;
            self.fill(&mut checksum)?;
            if u64::from_le_bytes(records) != self.read
                || self.read != self.source.len()
                || u64::from_le_bytes(checksum) != self.checksum.0
            {
                return Err(damaged(&self.source.0.path));
            }
            self.ended = true;
            self.record.clear();
            return Ok(false);
        }
        self.record.resize(usize::from(length), 0);
        if let Err(error) = self.file.read_exact(&mut self.record) {
            return Err(self.unreadable(&error));
        }
        self.checksum.update(&self.record);
        self.read += 1;
        Ok(true)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.file
            .read_exact(bytes)
            .map_err(|error| self.unreadable(&error))
    }

    fn unreadable(&self, error: &std::io::Error) -> Error {
        if error.kind() == std::io::ErrorKind::UnexpectedEof {
            damaged(&self.source.0.path)
        } else {
            disk(&self.source.0.path, error)
        }
    }
}

/// Sorts records by their bytes, within a bounded buffer.
///
/// Records that are equal stay in no particular order. Sorting n records of b bytes each takes O(n log n) time, the budget in
/// memory, and n (b + 2) bytes of disk if they do not fit.
pub struct Sorter {
    directory: PathBuf,
    name: String,
    budget_bytes: usize,
    bytes: Vec<u8>,
    /// Leading eight bytes and place of each record; its length stands before it.
    index: Vec<(u64, u32)>,
    spilled: Vec<RecordFile>,
    records: u64,
}

impl Sorter {
    /// A sorter whose buffer takes up to `budget_bytes` and which spills to files called `name` in `directory`.
    #[must_use]
    pub fn new(directory: &Path, name: &str, budget_bytes: usize) -> Self {
        Self {
            directory: directory.to_owned(),
            name: name.to_owned(),
            budget_bytes: budget_bytes.clamp(MIN_BUDGET_BYTES, 1 << 30),
            bytes: Vec::new(),
            index: Vec::new(),
            spilled: Vec::new(),
            records: 0,
        }
    }

    /// Adds one record, the concatenation of `parts`.
    ///
    /// # Errors
    /// What the file system reports; `INTERNAL` if the record is too long.
    pub fn push(&mut self, parts: &[&[u8]]) -> Result<(), Error> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if length >= MAX_RECORD_BYTES {
            return Err(Error::internal(format!(
                "a record of {length} bytes is too long to sort"
            )));
        }
        let held = self.bytes.len() + self.index.len() * INDEX_BYTES;
        if held + length + 2 + INDEX_BYTES > self.budget_bytes && !self.index.is_empty() {
            self.spill()?;
        }
        let at = u32::try_from(self.bytes.len()).expect("the budget is at most 2^30 bytes");
        self.bytes
            .extend_from_slice(&u16::try_from(length).expect("checked above").to_le_bytes());
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.index
            .push((leading(&self.bytes[at as usize + 2..]), at));
        self.records += 1;
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
        if !self.spilled.is_empty() && !self.index.is_empty() {
            self.spill()?;
        }
        self.sort();
        Ok(Sorted(Arc::new(SortedRuns {
            bytes: self.bytes,
            index: self.index,
            spilled: self.spilled,
            records: self.records,
        })))
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        self.index.sort_unstable_by(|left, right| {
            left.0
                .cmp(&right.0)
                .then_with(|| record_at(bytes, left.1).cmp(record_at(bytes, right.1)))
        });
    }

    fn spill(&mut self) -> Result<(), Error> {
        self.sort();
        let path = self
            .directory
            .join(format!("{}.{}", self.name, self.spilled.len()));
        let mut file = RecordWriter::create(&path)?;
        for &(_, at) in &self.index {
            file.push(&[record_at(&self.bytes, at)])?;
        }
        self.spilled.push(file.finish()?);
        self.bytes.clear();
        self.index.clear();
        Ok(())
    }
}

/// The first eight bytes as a number that sorts like them.
fn leading(record: &[u8]) -> u64 {
    let mut head = [0; 8];
    let length = record.len().min(8);
    head[..length].copy_from_slice(&record[..length]);
    u64::from_be_bytes(head)
}

fn record_at(bytes: &[u8], at: u32) -> &[u8] {
    let at = at as usize;
    let length = usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    &bytes[at + 2..at + 2 + length]
}

/// Sorted records, which can be streamed any number of times; clones share them.
#[derive(Clone)]
pub struct Sorted(Arc<SortedRuns>);

struct SortedRuns {
    bytes: Vec<u8>,
    index: Vec<(u64, u32)>,
    spilled: Vec<RecordFile>,
    records: u64,
}

impl Sorted {
    /// Number of records.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.records
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
        let mut stream = SortedStream {
            runs: self.clone(),
            next: 0,
            readers: Vec::with_capacity(self.0.spilled.len()),
            heap: Vec::new(),
            started: false,
        };
        for file in &self.0.spilled {
            let mut reader = file.reader()?;
            if reader.advance()? {
                stream.heap.push(stream.readers.len());
                stream.readers.push(reader);
            }
        }
        for root in (0..stream.heap.len() / 2).rev() {
            stream.sift_down(root);
        }
        Ok(stream)
    }
}

/// A streaming merge of sorted runs.
pub struct SortedStream {
    runs: Sorted,
    /// Position among the records in memory.
    next: usize,
    readers: Vec<RecordReader>,
    /// A binary heap of readers, the one with the least record on top.
    heap: Vec<usize>,
    started: bool,
}

impl SortedStream {
    /// The next record, or `None` after the last.
    ///
    /// # Errors
    /// What the file system reports; `STORAGE_FAILED` for a damaged file.
    pub fn next_record(&mut self) -> Result<Option<&[u8]>, Error> {
        if self.runs.0.spilled.is_empty() {
            let runs = &self.runs.0;
            let record = runs.index.get(self.next);
            self.next += 1;
            return Ok(record.map(|&(_, at)| record_at(&runs.bytes, at)));
        }
        // The reader on top holds the record handed out last.
        if self.started
            && let Some(&top) = self.heap.first()
        {
            if !self.readers[top].advance()? {
                self.heap.swap_remove(0);
            }
            self.sift_down(0);
        }
        self.started = true;
        Ok(self
            .heap
            .first()
            .map(|&top| self.readers[top].record.as_slice()))
    }

    fn sift_down(&mut self, mut root: usize) {
        loop {
            let mut least = root;
            for child in [2 * root + 1, 2 * root + 2] {
                if child < self.heap.len()
                    && self.readers[self.heap[child]].record < self.readers[self.heap[least]].record
                {
                    least = child;
                }
            }
            if least == root {
                return;
            }
            self.heap.swap(root, least);
            root = least;
        }
    }
}

/// Creates a file only its owner may read.
pub(crate) fn new_file(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options.open(path).map_err(|error| disk(path, &error))
}

/// Creates a directory only its owner may enter, with its parents.
pub(crate) fn new_directory(path: &Path) -> Result<(), Error> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(path).map_err(|error| disk(path, &error))
}

/// Makes what was created, renamed or removed in a directory survive a power cut.
pub(crate) fn sync_directory(path: &Path) -> Result<(), Error> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| disk(path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(sorted: &Sorted) -> Vec<Vec<u8>> {
        let mut stream = sorted.stream().unwrap();
        let mut records = Vec::new();
        while let Some(record) = stream.next_record().unwrap() {
            records.push(record.to_vec());
        }
        records
    }

    fn sample(count: u32) -> Vec<Vec<u8>> {
        (0..count)
            .map(|i| {
                let mut record = i.wrapping_mul(2_654_435_761).to_be_bytes().to_vec();
                record.extend(std::iter::repeat_n(b'x', (i % 40) as usize));
                record
            })
            .collect()
    }

    #[test]
    fn sorts_alike_in_memory_and_spilled() {
        let directory = tempfile::tempdir().unwrap();
        let mut expected = sample(20_000);
        for budget in [0, 1 << 18, 1 << 24] {
            let mut sorter = Sorter::new(directory.path(), "s", budget);
            for record in sample(20_000) {
                sorter.push(&[&record[..3], &record[3..]]).unwrap();
            }
            let sorted = sorter.finish().unwrap();
            expected.sort();
            assert_eq!(sorted.len(), 20_000);
            assert_eq!(collect(&sorted), expected);
            assert_eq!(collect(&sorted), expected, "a second pass");
            drop(sorted);
            assert_eq!(
                std::fs::read_dir(directory.path()).unwrap().count(),
                0,
                "files go with the last handle"
            );
        }
    }

    #[test]
    fn a_changed_or_cut_file_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records");
        let mut writer = RecordWriter::create(&path).unwrap();
        for record in sample(100) {
            writer.push(&[&record]).unwrap();
        }
        let file = writer.finish().unwrap();
        let good = std::fs::read(&path).unwrap();
        let read_all = || {
            let mut reader = file.reader()?;
            while reader.next_record()?.is_some() {}
            Ok::<_, Error>(())
        };
        read_all().unwrap();
        let mut flipped = good.clone();
        flipped[10] ^= 1;
        std::fs::write(&path, flipped).unwrap();
        assert_eq!(read_all().unwrap_err().reason(), Reason::StorageFailed);
        for length in [good.len() - 1, good.len() - 17, 60, 0] {
            std::fs::write(&path, &good[..length]).unwrap();
            assert_eq!(read_all().unwrap_err().reason(), Reason::StorageFailed);
        }
    }
}
