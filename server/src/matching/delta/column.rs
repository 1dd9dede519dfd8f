//! Sealed columns: records of one length, read at random.

use std::path::Path;

use zeroize::Zeroizing;

use super::{
    sealed::{
        BLOCK_BYTES, BlockReader, BlockWriter, SALT_BYTES, SMALL_BLOCK_BYTES, StateKey, TAG_BYTES,
        damaged,
    },
    search::partition_point_near,
};
use crate::error::Error;

/// Bytes by which sorted columns are searched.
pub(crate) const SEARCH_BYTES: usize = 16;

/// How a column is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Mostly from end to end.
    Through,
    /// A record here and there, by its number.
    ByNumber,
    /// A record here and there, by how it begins: records are in the order of their first [`SEARCH_BYTES`] bytes.
    BySearch,
}

impl Access {
    /// Records of this length in a block.
    fn per_block(self, record: usize) -> usize {
        let bytes = match self {
            Self::Through => BLOCK_BYTES,
            Self::ByNumber | Self::BySearch => SMALL_BLOCK_BYTES,
        };
        (bytes / record).max(1)
    }
}

/// Writes a column. Its index holds how the first record of each block begins, if the column is to be searched.
pub(crate) struct ColumnWriter {
    blocks: BlockWriter,
    record: usize,
    block_bytes: usize,
    block: Zeroizing<Vec<u8>>,
    records: u64,
    fences: Option<Vec<u8>>,
}

impl ColumnWriter {
    /// Creates the file; it must not exist.
    pub(crate) fn create(
        path: &Path,
        key: &StateKey,
        record: usize,
        access: Access,
    ) -> Result<Self, Error> {
        let block_bytes = access.per_block(record) * record;
        Ok(Self {
            blocks: BlockWriter::create(path, key)?,
            record,
            block_bytes,
            block: Zeroizing::new(Vec::with_capacity(block_bytes)),
            records: 0,
            fences: (access == Access::BySearch).then(Vec::new),
        })
    }

    /// Appends a record, the concatenation of `parts`.
    pub(crate) fn push(&mut self, parts: &[&[u8]]) -> Result<(), Error> {
        let start = self.block.len();
        for part in parts {
            self.block.extend_from_slice(part);
        }
        if self.block.len() - start != self.record {
            return Err(Error::internal("a state record has another length"));
        }
        if let Some(fences) = &mut self.fences
            && start == 0
        {
            fences.extend_from_slice(&self.block[..SEARCH_BYTES]);
        }
        self.records += 1;
        if self.block.len() == self.block_bytes {
            self.blocks.push(&mut self.block)?;
        }
        Ok(())
    }

    /// Number of records so far.
    pub(crate) const fn len(&self) -> u64 {
        self.records
    }

    /// Completes the file and returns the number of records.
    pub(crate) fn finish(mut self) -> Result<u64, Error> {
        if !self.block.is_empty() {
            self.blocks.push(&mut self.block)?;
        }
        match self.fences {
            Some(fences) => self.blocks.finish_indexed(fences)?,
            None => self.blocks.finish()?,
        }
        Ok(self.records)
    }
}

/// Reads a column at random; access in ascending order opens each block once.
pub(crate) struct Column {
    blocks: BlockReader,
    record: usize,
    per_block: u64,
    records: u64,
    /// How the first records of the blocks begin; empty if the column is not sorted.
    fences: Vec<[u8; SEARCH_BYTES]>,
    /// The open block.
    current: Option<u64>,
    block: Zeroizing<Vec<u8>>,
}

impl Column {
    /// Opens what [`ColumnWriter::create`] made for the same access.
    pub(crate) fn open(
        path: &Path,
        key: &StateKey,
        record: usize,
        access: Access,
        records: u64,
    ) -> Result<Self, Error> {
        let mut blocks = BlockReader::open(path, key)?;
        let per_block = access.per_block(record) as u64;
        let count = records.div_ceil(per_block);
        let mut expected = SALT_BYTES as u64 + records * record as u64 + count * TAG_BYTES as u64;
        let mut fences = Vec::new();
        if access == Access::BySearch {
            let length = count * SEARCH_BYTES as u64;
            expected += length + TAG_BYTES as u64;
            fences = blocks.index(length)?.as_chunks().0.to_vec();
        }
        if blocks.bytes() != expected {
            return Err(damaged(path));
        }
        Ok(Self {
            blocks,
            record,
            per_block,
            records,
            fences,
            current: None,
            block: Zeroizing::new(Vec::new()),
        })
    }

    /// Number of records.
    pub(crate) const fn len(&self) -> u64 {
        self.records
    }

    /// The record at `index`.
    pub(crate) fn get(&mut self, index: u64) -> Result<&[u8], Error> {
        let number = index / self.per_block;
        self.load(number)?;
        let at = usize::try_from(index % self.per_block).expect("a block is short") * self.record;
        self.block
            .get(at..at + self.record)
            .ok_or_else(|| damaged(self.blocks.path()))
    }

    /// The position of the first record that begins with `key`, in a sorted column.
    pub(crate) fn find(&mut self, key: &[u8; SEARCH_BYTES]) -> Result<Option<u64>, Error> {
        // The first block that begins with the key or beyond: the record is in it, or in the one before.
        let (fences, current) = (&self.fences, self.current.unwrap_or(0));
        let near = usize::try_from(current).unwrap_or(usize::MAX);
        let after = partition_point_near(fences.len(), near, |at| fences[at] < *key);
        if let Some(number) = after.checked_sub(1) {
            self.load(number as u64)?;
            let (record, block) = (self.record, &self.block);
            let at = |index: usize| &block[index * record..index * record + SEARCH_BYTES];
            let (mut low, mut high) = (0, block.len() / record);
            while low < high {
                let middle = low + (high - low) / 2;
                if at(middle) < key.as_slice() {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            if low < block.len() / record {
                let found = at(low) == key.as_slice();
                return Ok(found.then_some(number as u64 * self.per_block + low as u64));
            }
        }
        let found = self.fences.get(after) == Some(key);
        Ok(found.then_some(after as u64 * self.per_block))
    }

    /// All records of the block that starts at `index`, which is a multiple of the block's length; empty at the end.
    pub(crate) fn block_at(&mut self, index: u64) -> Result<&[u8], Error> {
        if index >= self.records {
            return Ok(&[]);
        }
        self.load(index / self.per_block)?;
        Ok(&self.block)
    }

    /// Visits every record in order.
    pub(crate) fn scan(
        &mut self,
        mut visit: impl FnMut(u64, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut index = 0;
        let record = self.record;
        while index < self.records {
            for record in self.block_at(index)?.chunks_exact(record) {
                visit(index, record)?;
                index += 1;
            }
        }
        Ok(())
    }

    fn load(&mut self, number: u64) -> Result<(), Error> {
        if self.current == Some(number) {
            return Ok(());
        }
        let first = number * self.per_block;
        if first >= self.records {
            return Err(Error::internal("a state record beyond the end"));
        }
        let records = self.per_block.min(self.records - first);
        let length = usize::try_from(records).expect("a block is short") * self.record;
        let offset = number * (self.per_block * self.record as u64 + TAG_BYTES as u64);
        self.current = None;
        self.blocks.read(number, offset, length, &mut self.block)?;
        self.current = Some(number);
        Ok(())
    }
}

/// A record of a column as an array.
pub(crate) fn array<const N: usize>(record: &[u8]) -> [u8; N] {
    record
        .try_into()
        .expect("a column's records have its length")
}

/// Four bytes of a record, from `at` on, as a number.
pub(crate) fn number(record: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array(&record[at..at + 4]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> StateKey {
        StateKey::new(&[3; 32])
    }

    #[test]
    fn a_column_reads_back_and_a_changed_one_does_not_open() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("column");
        let mut writer = ColumnWriter::create(&path, &key(), 20, Access::Through).unwrap();
        let record = |index: u32| [index.to_be_bytes(); 5].concat();
        for index in 0..10_000 {
            let record = record(index);
            writer.push(&[&record[..3], &record[3..]]).unwrap();
        }
        assert!(writer.push(&[&[0; 19]]).is_err());
        drop(writer);
        std::fs::remove_file(&path).unwrap();
        let mut writer = ColumnWriter::create(&path, &key(), 20, Access::Through).unwrap();
        for index in 0..10_000 {
            writer.push(&[&record(index)]).unwrap();
        }
        assert_eq!(writer.finish().unwrap(), 10_000);
        let bytes = std::fs::read(&path).unwrap();
        assert!(
            !bytes
                .windows(20)
                .any(|window| window == record(7).as_slice())
        );

        let mut column = Column::open(&path, &key(), 20, Access::Through, 10_000).unwrap();
        for index in [0, 9_999, 5_000, 3_275, 3_276, 1] {
            assert_eq!(column.get(index).unwrap(), record(index as u32));
        }
        assert!(column.get(10_000).is_err());
        assert!(
            Column::open(&path, &key(), 20, Access::Through, 9_999).is_err(),
            "another number"
        );
        // The whole file read under another key, with a changed byte, or cut.
        let read = |key: &StateKey| {
            let mut column = Column::open(&path, key, 20, Access::Through, 10_000)?;
            column.scan(|_, _| Ok(()))
        };
        read(&key()).unwrap();
        assert!(read(&StateKey::new(&[4; 32])).is_err());
        for at in [0, 16, 70_000, bytes.len() - 1] {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            std::fs::write(&path, changed).unwrap();
            assert!(read(&key()).is_err(), "{at}");
        }
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(read(&key()).is_err());
        // Under another name.
        let other = directory.path().join("other");
        std::fs::write(&other, &bytes).unwrap();
        let mut column = Column::open(&other, &key(), 20, Access::Through, 10_000).unwrap();
        assert!(column.get(0).is_err());
    }

    #[test]
    fn a_sorted_column_is_searched_for_the_first_of_equal_records() {
        let directory = tempfile::tempdir().unwrap();
        for (count, equal) in [(0_u32, 1), (1, 1), (5_000, 1), (5_000, 3), (3_000, 700)] {
            let path = directory.path().join(format!("{count}-{equal}"));
            let mut writer = ColumnWriter::create(&path, &key(), 20, Access::BySearch).unwrap();
            let search = |index: u32| [(2 * (index / equal)).to_be_bytes(); 4].concat();
            for index in 0..count {
                writer
                    .push(&[&search(index), &index.to_be_bytes()])
                    .unwrap();
            }
            writer.finish().unwrap();
            let mut column =
                Column::open(&path, &key(), 20, Access::BySearch, count.into()).unwrap();
            for index in 0..count {
                let wanted: [u8; 16] = array(&search(index));
                let first = u64::from(index / equal * equal);
                assert_eq!(column.find(&wanted).unwrap(), Some(first), "{index}");
                let between = u128::from_be_bytes(wanted) + 1;
                assert_eq!(column.find(&between.to_be_bytes()).unwrap(), None);
            }
            assert_eq!(column.find(&[0xff; 16]).unwrap(), None);
        }
    }
}
