//! Sealed files of an epoch's state: columns of fixed records, and lists of texts.
//!
//! A file is a random salt and then blocks, each sealed with ChaCha20-Poly1305 under a key of the file's own and its number as
//! nonce. A file that was cut short, changed or exchanged for another does not open.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
};
use zeroize::{Zeroize as _, Zeroizing};

use crate::{
    error::{Error, Reason},
    matching::{
        keys::random,
        spool::{disk, new_file},
    },
};

/// Plain bytes of a block, about.
const BLOCK_BYTES: usize = 1 << 16;
const SALT_BYTES: usize = 16;
const TAG_BYTES: usize = 16;

/// The key that seals the files of an epoch's state.
pub(crate) struct StateKey(hmac::Key);

impl StateKey {
    pub(crate) fn new(bytes: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// The key of one file: `HMAC(state key, salt || name)`.
    fn of_file(&self, salt: &[u8; SALT_BYTES], name: &str) -> LessSafeKey {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(salt);
        context.update(name.as_bytes());
        let key = UnboundKey::new(&CHACHA20_POLY1305, context.sign().as_ref())
            .expect("a SHA-256 tag has the length of a key");
        LessSafeKey::new(key)
    }
}

fn damaged(path: &Path) -> Error {
    Error::new(
        Reason::StorageFailed,
        format!("{}: the epoch's state is damaged", path.display()),
    )
}

fn name_of(path: &Path) -> Result<&str, Error> {
    path.file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| Error::internal("a state file without a name"))
}

fn nonce(block: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[4..].copy_from_slice(&block.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// Writes sealed blocks.
struct BlockWriter {
    path: PathBuf,
    file: BufWriter<File>,
    key: LessSafeKey,
    blocks: u64,
}

impl BlockWriter {
    fn create(path: &Path, key: &StateKey) -> Result<Self, Error> {
        let mut salt = [0; SALT_BYTES];
        random(&mut salt)?;
        let mut file = BufWriter::with_capacity(1 << 17, new_file(path)?);
        file.write_all(&salt).map_err(|error| disk(path, &error))?;
        Ok(Self {
            key: key.of_file(&salt, name_of(path)?),
            path: path.to_owned(),
            file,
            blocks: 0,
        })
    }

    /// Seals `block` in place, writes it, and leaves it empty.
    fn push(&mut self, block: &mut Vec<u8>) -> Result<(), Error> {
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce(self.blocks), Aad::empty(), block)
            .map_err(|_| Error::internal("a block could not be sealed"))?;
        self.blocks += 1;
        self.file
            .write_all(block)
            .and_then(|()| self.file.write_all(tag.as_ref()))
            .map_err(|error| disk(&self.path, &error))?;
        block.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<(), Error> {
        self.file.flush().map_err(|error| disk(&self.path, &error))
    }
}

/// Reads sealed blocks at random.
struct BlockReader {
    path: PathBuf,
    file: File,
    key: LessSafeKey,
    bytes: u64,
}

impl BlockReader {
    fn open(path: &Path, key: &StateKey) -> Result<Self, Error> {
        let file = File::open(path).map_err(|error| disk(path, &error))?;
        let mut salt = [0; SALT_BYTES];
        file.read_exact_at(&mut salt, 0)
            .map_err(|_| damaged(path))?;
        Ok(Self {
            bytes: file.metadata().map_err(|error| disk(path, &error))?.len(),
            key: key.of_file(&salt, name_of(path)?),
            path: path.to_owned(),
            file,
        })
    }

    /// Opens the block that starts at `offset` after the salt and has `length` plain bytes.
    fn read(
        &self,
        number: u64,
        offset: u64,
        length: usize,
        block: &mut Vec<u8>,
    ) -> Result<(), Error> {
        block.resize(length + TAG_BYTES, 0);
        self.file
            .read_exact_at(block, SALT_BYTES as u64 + offset)
            .map_err(|_| damaged(&self.path))?;
        self.key
            .open_in_place(nonce(number), Aad::empty(), block)
            .map_err(|_| damaged(&self.path))?;
        block.truncate(length);
        Ok(())
    }
}

/// Writes a column: records of one length.
pub(crate) struct ColumnWriter {
    blocks: BlockWriter,
    record: usize,
    block_bytes: usize,
    block: Zeroizing<Vec<u8>>,
    records: u64,
    fences: Vec<u8>,
}

/// Bytes of a fence: how the first record of a block begins.
pub(crate) const FENCE_BYTES: usize = 16;

impl ColumnWriter {
    /// Creates the file; it must not exist.
    pub(crate) fn create(path: &Path, key: &StateKey, record: usize) -> Result<Self, Error> {
        let block_bytes = (BLOCK_BYTES / record).max(1) * record;
        Ok(Self {
            blocks: BlockWriter::create(path, key)?,
            record,
            block_bytes,
            block: Zeroizing::new(Vec::with_capacity(block_bytes)),
            records: 0,
            fences: Vec::new(),
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
        if start == 0 && self.record >= FENCE_BYTES {
            self.fences.extend_from_slice(&self.block[..FENCE_BYTES]);
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
    pub(crate) fn finish(self) -> Result<u64, Error> {
        Ok(self.finish_fenced()?.0)
    }

    /// Completes the file and returns the number of records, and the fences of its blocks back to back.
    pub(crate) fn finish_fenced(mut self) -> Result<(u64, Vec<u8>), Error> {
        if !self.block.is_empty() {
            self.blocks.push(&mut self.block)?;
        }
        self.blocks.finish()?;
        Ok((self.records, self.fences))
    }
}

/// Reads a column at random; access in ascending order opens each block once.
pub(crate) struct Column {
    blocks: BlockReader,
    record: usize,
    per_block: u64,
    records: u64,
    /// The open block.
    current: Option<u64>,
    block: Zeroizing<Vec<u8>>,
}

impl Column {
    pub(crate) fn open(
        path: &Path,
        key: &StateKey,
        record: usize,
        records: u64,
    ) -> Result<Self, Error> {
        let blocks = BlockReader::open(path, key)?;
        let per_block = (BLOCK_BYTES / record).max(1) as u64;
        let expected = SALT_BYTES as u64
            + records * record as u64
            + records.div_ceil(per_block) * TAG_BYTES as u64;
        if blocks.bytes != expected {
            return Err(damaged(path));
        }
        Ok(Self {
            blocks,
            record,
            per_block,
            records,
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
        if self.current != Some(number) {
            self.load(number)?;
        }
        let at = usize::try_from(index % self.per_block).expect("a block is short") * self.record;
        self.block
            .get(at..at + self.record)
            .ok_or_else(|| damaged(&self.blocks.path))
    }

    /// The position of the record that begins with `key`, in a column sorted by its first 16 bytes with these fences.
    pub(crate) fn find(
        &mut self,
        fences: &[[u8; FENCE_BYTES]],
        key: &[u8; FENCE_BYTES],
    ) -> Result<Option<u64>, Error> {
        let after = fences.partition_point(|fence| fence <= key);
        let Some(number) = after.checked_sub(1) else {
            return Ok(None);
        };
        let number = number as u64;
        if self.current != Some(number) {
            self.load(number)?;
        }
        let (record, block) = (self.record, &self.block);
        let at = |index: usize| &block[index * record..index * record + FENCE_BYTES];
        let (mut low, mut high) = (0, block.len() / record);
        while low < high {
            let middle = low + (high - low) / 2;
            match at(middle).cmp(key.as_slice()) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => {
                    return Ok(Some(number * self.per_block + middle as u64));
                }
            }
        }
        Ok(None)
    }

    /// All records of the block that starts at `index`, which is a multiple of the block's length; empty at the end.
    pub(crate) fn block_at(&mut self, index: u64) -> Result<&[u8], Error> {
        if index >= self.records {
            return Ok(&[]);
        }
        self.load(index / self.per_block)?;
        Ok(&self.block)
    }

    fn load(&mut self, number: u64) -> Result<(), Error> {
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

/// Writes one sealed block.
pub(crate) fn write_sealed(path: &Path, key: &StateKey, mut bytes: Vec<u8>) -> Result<(), Error> {
    let mut file = BlockWriter::create(path, key)?;
    file.push(&mut bytes)?;
    file.finish()
}

/// Reads one sealed block.
pub(crate) fn read_sealed(path: &Path, key: &StateKey) -> Result<Vec<u8>, Error> {
    let blocks = BlockReader::open(path, key)?;
    let length = blocks
        .bytes
        .checked_sub((SALT_BYTES + TAG_BYTES) as u64)
        .and_then(|length| usize::try_from(length).ok())
        .ok_or_else(|| damaged(path))?;
    let mut block = Vec::new();
    blocks.read(0, 0, length, &mut block)?;
    Ok(block)
}

/// Reads a whole column of 32-bit numbers.
pub(crate) fn read_numbers(path: &Path, key: &StateKey, count: u64) -> Result<Vec<u32>, Error> {
    let mut column = Column::open(path, key, 4, count)?;
    let mut numbers =
        Vec::with_capacity(usize::try_from(count).map_err(|_| Error::internal("a long column"))?);
    while (numbers.len() as u64) < count {
        let block = column.block_at(numbers.len() as u64)?;
        let (records, _) = block.as_chunks::<4>();
        numbers.extend(records.iter().map(|record| u32::from_be_bytes(*record)));
    }
    Ok(numbers)
}

/// Writes a whole column of 32-bit numbers.
pub(crate) fn write_numbers(path: &Path, key: &StateKey, numbers: &[u32]) -> Result<(), Error> {
    let mut column = ColumnWriter::create(path, key, 4)?;
    for number in numbers {
        column.push(&[&number.to_be_bytes()])?;
    }
    column.finish()?;
    Ok(())
}

/// Writes texts of up to 65,535 bytes one after the other.
pub(crate) struct TextWriter {
    blocks: BlockWriter,
    block: Zeroizing<Vec<u8>>,
    /// Plain lengths of the blocks.
    lengths: Vec<u32>,
}

impl TextWriter {
    /// Creates the file; it must not exist.
    pub(crate) fn create(path: &Path, key: &StateKey) -> Result<Self, Error> {
        Ok(Self {
            blocks: BlockWriter::create(path, key)?,
            block: Zeroizing::new(Vec::with_capacity(BLOCK_BYTES)),
            lengths: Vec::new(),
        })
    }

    /// Appends a text.
    pub(crate) fn push(&mut self, text: &[u8]) -> Result<(), Error> {
        self.push_parts(&[text])
    }

    /// Appends a text, the concatenation of `parts`.
    pub(crate) fn push_parts(&mut self, parts: &[&[u8]]) -> Result<(), Error> {
        let bytes = parts.iter().map(|part| part.len()).sum::<usize>();
        let length = u16::try_from(bytes).map_err(|_| Error::internal("a long text"))?;
        if self.block.len() + 2 + bytes > BLOCK_BYTES && !self.block.is_empty() {
            self.flush()?;
        }
        self.block.extend_from_slice(&length.to_be_bytes());
        for part in parts {
            self.block.extend_from_slice(part);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        let length = u32::try_from(self.block.len()).expect("a block is short");
        self.lengths.push(length);
        self.blocks.push(&mut self.block)
    }

    /// Completes the file and returns the lengths of its blocks, without which it cannot be read.
    pub(crate) fn finish(mut self) -> Result<Vec<u32>, Error> {
        if !self.block.is_empty() {
            self.flush()?;
        }
        self.blocks.finish()?;
        Ok(self.lengths)
    }
}

/// Reads texts in the order in which they were written.
pub(crate) struct TextReader {
    blocks: BlockReader,
    lengths: Vec<u32>,
    next_block: usize,
    offset: u64,
    block: Zeroizing<Vec<u8>>,
    at: usize,
}

impl TextReader {
    pub(crate) fn open(path: &Path, key: &StateKey, lengths: &[u32]) -> Result<Self, Error> {
        Ok(Self {
            blocks: BlockReader::open(path, key)?,
            lengths: lengths.to_vec(),
            next_block: 0,
            offset: 0,
            block: Zeroizing::new(Vec::new()),
            at: 0,
        })
    }

    /// The next text, or `None` after the last.
    pub(crate) fn next_text(&mut self) -> Result<Option<&[u8]>, Error> {
        if self.at == self.block.len() {
            let Some(&length) = self.lengths.get(self.next_block) else {
                return Ok(None);
            };
            self.block.zeroize();
            self.blocks.read(
                self.next_block as u64,
                self.offset,
                length as usize,
                &mut self.block,
            )?;
            self.offset += u64::from(length) + TAG_BYTES as u64;
            self.next_block += 1;
            self.at = 0;
        }
        let damaged = || damaged(&self.blocks.path);
        let rest = &self.block[self.at..];
        let (length, rest) = rest.split_first_chunk::<2>().ok_or_else(damaged)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let text = rest.get(..length).ok_or_else(damaged)?;
        self.at += 2 + length;
        Ok(Some(text))
    }
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
        let mut writer = ColumnWriter::create(&path, &key(), 20).unwrap();
        let record = |index: u32| [index.to_be_bytes(); 5].concat();
        for index in 0..10_000 {
            let record = record(index);
            writer.push(&[&record[..3], &record[3..]]).unwrap();
        }
        assert!(writer.push(&[&[0; 19]]).is_err());
        drop(writer);
        std::fs::remove_file(&path).unwrap();
        let mut writer = ColumnWriter::create(&path, &key(), 20).unwrap();
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

        let mut column = Column::open(&path, &key(), 20, 10_000).unwrap();
        for index in [0, 9_999, 5_000, 3_275, 3_276, 1] {
            assert_eq!(column.get(index).unwrap(), record(index as u32));
        }
        assert!(column.get(10_000).is_err());
        assert!(
            Column::open(&path, &key(), 20, 9_999).is_err(),
            "another number"
        );
        // The whole file read under another key, with a changed byte, or cut.
        let read = |key: &StateKey| {
            let mut column = Column::open(&path, key, 20, 10_000)?;
            for index in 0..10_000 {
                column.get(index)?;
            }
            Ok::<_, Error>(())
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
        let mut column = Column::open(&other, &key(), 20, 10_000).unwrap();
        assert!(column.get(0).is_err());
    }

    #[test]
    fn texts_and_numbers_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("texts");
        let mut writer = TextWriter::create(&path, &key()).unwrap();
        let text = |index: usize| "x".repeat(index % 97);
        for index in 0..5_000 {
            writer.push(text(index).as_bytes()).unwrap();
        }
        let lengths = writer.finish().unwrap();
        assert!(lengths.len() > 1);
        let mut reader = TextReader::open(&path, &key(), &lengths).unwrap();
        for index in 0..5_000 {
            assert_eq!(reader.next_text().unwrap().unwrap(), text(index).as_bytes());
        }
        assert!(reader.next_text().unwrap().is_none());

        let path = directory.path().join("numbers");
        let numbers: Vec<u32> = (0..40_000).map(|i| i * 7).collect();
        write_numbers(&path, &key(), &numbers).unwrap();
        assert_eq!(read_numbers(&path, &key(), 40_000).unwrap(), numbers);
    }
}
