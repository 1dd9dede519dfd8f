//! Append-only files of records.

use std::{
    fs::File, io::Write as _, ops::Range, os::unix::fs::FileExt as _, path::Path, sync::Arc,
};

use super::{
    TemporaryFile,
    blocks::{BLOCK_BYTES, BlockWriter, Checksum},
    damaged, disk, unreadable,
};
use crate::error::Error;

/// The longest record.
pub const MAX_RECORD_BYTES: usize = u16::MAX as usize;
/// Stands where a record's length would stand; the number of records follows.
const END: u16 = u16::MAX;
/// Bytes of the checksum, which is the end of a file.
const CHECKSUM_BYTES: u64 = 8;

/// An append-only file of records of up to [`MAX_RECORD_BYTES`] - 1 bytes.
pub struct RecordWriter {
    file: BlockWriter,
    records: u64,
}

impl RecordWriter {
    /// Creates the file; it must not exist.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn create(path: &Path) -> Result<Self, Error> {
        Ok(Self {
            file: BlockWriter::create(path)?,
            records: 0,
        })
    }

    /// Appends one record, the concatenation of `parts`.
    ///
    /// # Errors
    /// What the file system reports; `INTERNAL` if the record is too long.
    #[inline]
    pub fn push(&mut self, parts: &[&[u8]]) -> Result<(), Error> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let Some(head) = u16::try_from(length).ok().filter(|length| *length != END) else {
            return Err(Error::internal(format!(
                "a record of {length} bytes is too long for {}",
                self.file.path().display()
            )));
        };
        self.file.push(&head.to_le_bytes())?;
        for part in parts {
            self.file.push(part)?;
        }
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

    /// Completes the file, which is removed when the last handle to it is dropped.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn finish(mut self) -> Result<RecordFile, Error> {
        self.file.push(&END.to_le_bytes())?;
        self.file.push(&self.records.to_le_bytes())?;
        let (mut file, path, checksum) = self.file.finish()?;
        file.write_all(&checksum.to_le_bytes())
            .map_err(|error| disk(&path, &error))?;
        Ok(RecordFile {
            file: Arc::new(TemporaryFile::new(path)),
            records: self.records,
        })
    }
}

/// A complete record file; clones share it.
#[derive(Clone)]
pub struct RecordFile {
    file: Arc<TemporaryFile>,
    records: u64,
}

impl RecordFile {
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

    /// Reads the records from the start.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn reader(&self) -> Result<RecordReader, Error> {
        let path = self.file.path();
        let file = File::open(path).map_err(|error| disk(path, &error))?;
        let length = file.metadata().map_err(|error| disk(path, &error))?.len();
        Ok(RecordReader {
            source: self.clone(),
            file,
            end: length
                .checked_sub(CHECKSUM_BYTES)
                .ok_or_else(|| damaged(path))?,
            position: 0,
            checksum: Checksum::default(),
            buffer: Vec::new(),
            filled: 0,
            next: 0,
            record: 0..0,
            read: 0,
            ended: false,
        })
    }
}

/// Streams a record file; its end is reached only if number and checksum are right.
pub struct RecordReader {
    source: RecordFile,
    file: File,
    /// Bytes of the file before the checksum.
    end: u64,
    /// Bytes of the file that were read into the buffer.
    position: u64,
    checksum: Checksum,
    buffer: Vec<u8>,
    /// Bytes of the buffer that were read.
    filled: usize,
    /// Where in the buffer the next record starts.
    next: usize,
    /// Where in the buffer the current record is.
    record: Range<usize>,
    read: u64,
    ended: bool,
}

impl RecordReader {
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

    /// The current record; empty before the first and after the last.
    #[inline]
    pub(super) fn record(&self) -> &[u8] {
        &self.buffer[self.record.clone()]
    }

    #[inline]
    pub(super) fn advance(&mut self) -> Result<bool, Error> {
        if self.ended {
            return Ok(false);
        }
        self.need(2)?;
        let head = u16::from_le_bytes([self.buffer[self.next], self.buffer[self.next + 1]]);
        if head == END {
            self.check_end()?;
            return Ok(false);
        }
        self.need(2 + usize::from(head))?;
        let start = self.next + 2;
        self.next = start + usize::from(head);
        self.record = start..self.next;
        self.read += 1;
        Ok(true)
    }

    fn check_end(&mut self) -> Result<(), Error> {
        self.need(10)?;
        let mut records = [0; 8];
        records.copy_from_slice(&self.buffer[self.next + 2..self.next + 10]);
        let mut checksum = [0; CHECKSUM_BYTES as usize];
        self.file
            .read_exact_at(&mut checksum, self.end)
            .map_err(|error| unreadable(self.source.file.path(), &error))?;
        if u64::from_le_bytes(records) != self.read
            || self.read != self.source.len()
            || self.position != self.end
            || self.next + 10 != self.filled
            || u64::from_le_bytes(checksum) != self.checksum.value()
        {
            return Err(damaged(self.source.file.path()));
        }
        self.ended = true;
        self.record = 0..0;
        Ok(())
    }

    /// Makes sure that so many bytes from the next record on are in the buffer.
    #[inline]
    fn need(&mut self, count: usize) -> Result<(), Error> {
        while self.filled - self.next < count {
            self.read_block()?;
        }
        Ok(())
    }

    fn read_block(&mut self) -> Result<(), Error> {
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        if left == 0 {
            return Err(damaged(self.source.file.path()));
        }
        self.buffer.copy_within(self.next..self.filled, 0);
        let start = self.filled - self.next;
        self.next = 0;
        self.filled = start + left.min(BLOCK_BYTES);
        if self.buffer.len() < self.filled {
            self.buffer.resize(self.filled, 0);
        }
        let block = &mut self.buffer[start..self.filled];
        self.file
            .read_exact_at(block, self.position)
            .map_err(|error| unreadable(self.source.file.path(), &error))?;
        self.checksum.update(block);
        self.position += block.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Reason;

    fn record(index: u32) -> Vec<u8> {
        let mut record = index.to_be_bytes().to_vec();
        record.extend(std::iter::repeat_n(b'x', (index % 40) as usize));
        record
    }

    #[test]
    fn records_of_any_length_come_back_across_blocks() {
        let directory = tempfile::tempdir().unwrap();
        let lengths = [0, 1, 65_534, 100, 65_533, 40_000, 40_000, 65_534, 0];
        let mut writer = RecordWriter::create(&directory.path().join("records")).unwrap();
        for (fill, length) in (1_u8..).zip(lengths) {
            let record = vec![fill; length];
            let (one, other) = record.split_at(length / 3);
            writer.push(&[one, other]).unwrap();
        }
        let too_long = writer.push(&[&[0; 65_535]]).unwrap_err();
        assert_eq!(too_long.reason(), Reason::Internal);
        let mut reader = writer.finish().unwrap().reader().unwrap();
        for (fill, length) in (1_u8..).zip(lengths) {
            assert_eq!(reader.next_record().unwrap(), Some(&*vec![fill; length]));
        }
        assert_eq!(reader.next_record().unwrap(), None);
        assert_eq!(reader.next_record().unwrap(), None);
    }

    #[test]
    fn a_changed_or_cut_file_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records");
        // Several blocks.
        for count in [100, 10_000] {
            let mut writer = RecordWriter::create(&path).unwrap();
            for index in 0..count {
                writer.push(&[&record(index)]).unwrap();
            }
            let file = writer.finish().unwrap();
            let good = std::fs::read(&path).unwrap();
            let read_all = || {
                let mut reader = file.reader()?;
                while reader.next_record()?.is_some() {}
                Ok::<_, Error>(())
            };
            read_all().unwrap();
            for at in [10, good.len() / 2, good.len() - 1] {
                let mut flipped = good.clone();
                flipped[at] ^= 1;
                std::fs::write(&path, flipped).unwrap();
                assert_eq!(read_all().unwrap_err().reason(), Reason::StorageFailed);
            }
            for length in [good.len() - 1, good.len() - 17, 60, 0] {
                std::fs::write(&path, &good[..length]).unwrap();
                assert_eq!(read_all().unwrap_err().reason(), Reason::StorageFailed);
            }
        }
    }
}
