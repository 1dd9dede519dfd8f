//! Sealed files of an epoch's state, block by block.
//!
//! A file is a random salt and then blocks, each sealed with AES-256-GCM under a key of the file's own and its number as
//! nonce. A file that was cut short, changed or exchanged for another does not open.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
};

use crate::{
    error::{Error, Reason},
    matching::{
        keys::random,
        spool::{disk, new_file},
    },
};

/// Plain bytes of a block of what is read from end to end, about.
pub(super) const BLOCK_BYTES: usize = 1 << 12;
/// Plain bytes of a block of what is looked up, about: one is opened for every record that is looked up by itself.
pub(super) const SMALL_BLOCK_BYTES: usize = 1 << 10;
pub(super) const SALT_BYTES: usize = 16;
pub(super) const TAG_BYTES: usize = 16;
/// Bytes that are fetched at a time, at most.
const MOST_FETCHED: usize = 1 << 16;
/// The number under which a file's index is sealed: no block has it.
const INDEX: u64 = u64::MAX;

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
        let key = UnboundKey::new(&AES_256_GCM, context.sign().as_ref())
            .expect("a SHA-256 tag has the length of a key");
        LessSafeKey::new(key)
    }
}

pub(super) fn damaged(path: &Path) -> Error {
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
pub(super) struct BlockWriter {
    path: PathBuf,
    file: BufWriter<File>,
    key: LessSafeKey,
    blocks: u64,
}

impl BlockWriter {
    pub(super) fn create(path: &Path, key: &StateKey) -> Result<Self, Error> {
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
    pub(super) fn push(&mut self, block: &mut Vec<u8>) -> Result<(), Error> {
        self.seal(self.blocks, block)?;
        self.blocks += 1;
        Ok(())
    }

    fn seal(&mut self, number: u64, block: &mut Vec<u8>) -> Result<(), Error> {
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce(number), Aad::empty(), block)
            .map_err(|_| Error::internal("a block could not be sealed"))?;
        self.file
            .write_all(block)
            .and_then(|()| self.file.write_all(tag.as_ref()))
            .map_err(|error| disk(&self.path, &error))?;
        block.clear();
        Ok(())
    }

    /// Number of blocks so far.
    pub(super) const fn len(&self) -> u64 {
        self.blocks
    }

    /// Completes the file.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        self.file.flush().map_err(|error| disk(&self.path, &error))
    }

    /// Completes the file with an index of its blocks.
    pub(super) fn finish_indexed(mut self, mut index: Vec<u8>) -> Result<(), Error> {
        self.seal(INDEX, &mut index)?;
        self.finish()
    }
}

/// Reads sealed blocks at random. Whoever goes on where it read last is going to read more: so more is fetched at a time.
pub(super) struct BlockReader {
    path: PathBuf,
    file: File,
    key: LessSafeKey,
    bytes: u64,
    /// What was fetched, still sealed, and where it starts in the file.
    fetched: (u64, Vec<u8>),
}

impl BlockReader {
    pub(super) fn open(path: &Path, key: &StateKey) -> Result<Self, Error> {
        let file = File::open(path).map_err(|error| disk(path, &error))?;
        let mut salt = [0; SALT_BYTES];
        file.read_exact_at(&mut salt, 0)
            .map_err(|_| damaged(path))?;
        Ok(Self {
            bytes: file.metadata().map_err(|error| disk(path, &error))?.len(),
            key: key.of_file(&salt, name_of(path)?),
            path: path.to_owned(),
            file,
            fetched: (0, Vec::new()),
        })
    }

    /// Opens the block that starts at `offset` after the salt and has `length` plain bytes.
    pub(super) fn read(
        &mut self,
        number: u64,
        offset: u64,
        length: usize,
        block: &mut Vec<u8>,
    ) -> Result<(), Error> {
        self.fetch(SALT_BYTES as u64 + offset, length + TAG_BYTES, block)
            .map_err(|_| damaged(&self.path))?;
        self.key
            .open_in_place(nonce(number), Aad::empty(), block)
            .map_err(|_| damaged(&self.path))?;
        block.truncate(length);
        Ok(())
    }

    /// The bytes from `start` on, sealed as they are.
    fn fetch(&mut self, start: u64, length: usize, block: &mut Vec<u8>) -> std::io::Result<()> {
        let (first, fetched) = &mut self.fetched;
        let end = start + length as u64;
        let fetched_end = *first + fetched.len() as u64;
        if start < *first || end > fetched_end {
            // Close behind what was fetched: twice as much this time.
            let close = fetched.len().max(length) as u64;
            let follows = start >= *first && start < fetched_end + close;
            let more = if follows { 2 * fetched.len() } else { 0 };
            let left = usize::try_from(self.bytes.saturating_sub(start)).unwrap_or(usize::MAX);
            let wanted = more.min(MOST_FETCHED).min(left).max(length);
            fetched.resize(wanted, 0);
            *first = start;
            self.file.read_exact_at(fetched, start).inspect_err(|_| {
                // What is there now is not what the file has.
                fetched.clear();
            })?;
        }
        let at = usize::try_from(start - *first).expect("within what was fetched");
        block.clear();
        block.extend_from_slice(&fetched[at..at + length]);
        Ok(())
    }

    /// Opens the index at the end, which has `length` plain bytes.
    pub(super) fn index(&mut self, length: u64) -> Result<Vec<u8>, Error> {
        let end = SALT_BYTES as u64 + length + TAG_BYTES as u64;
        let offset = self.bytes.checked_sub(end);
        let length = usize::try_from(length).map_err(|_| damaged(&self.path))?;
        let mut index = Vec::new();
        self.read(
            INDEX,
            offset.ok_or_else(|| damaged(&self.path))?,
            length,
            &mut index,
        )?;
        Ok(index)
    }

    /// Bytes of the file.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
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
    let mut blocks = BlockReader::open(path, key)?;
    let length = blocks
        .bytes
        .checked_sub((SALT_BYTES + TAG_BYTES) as u64)
        .and_then(|length| usize::try_from(length).ok())
        .ok_or_else(|| damaged(path))?;
    let mut block = Vec::new();
    blocks.read(0, 0, length, &mut block)?;
    Ok(block)
}
