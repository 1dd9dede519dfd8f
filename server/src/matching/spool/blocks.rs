//! Files written block by block, with a checksum over the blocks.

use std::{
    fs::File,
    hash::Hasher as _,
    io::Write as _,
    path::{Path, PathBuf},
};

use twox_hash::XxHash3_64;

use super::{disk, new_file};
use crate::error::Error;

/// Bytes of a block: what is written, read and checked at a time.
pub(super) const BLOCK_BYTES: usize = 1 << 17;

/// Detects accidental change of a file: XXH3, which is not a cryptographic hash.
#[derive(Clone, Default)]
pub(crate) struct Checksum(XxHash3_64);

impl Checksum {
    /// Adds some bytes, however they are cut.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.finish()
    }
}

/// A new file that is appended to.
pub(crate) struct BlockWriter {
    path: PathBuf,
    file: File,
    block: Vec<u8>,
    checksum: Checksum,
    bytes: u64,
}

impl BlockWriter {
    /// Creates the file; it must not exist.
    ///
    /// # Errors
    /// What the file system reports.
    pub(crate) fn create(path: &Path) -> Result<Self, Error> {
        Ok(Self {
            file: new_file(path)?,
            path: path.to_owned(),
            block: Vec::with_capacity(BLOCK_BYTES),
            checksum: Checksum::default(),
            bytes: 0,
        })
    }

    /// Appends some bytes.
    ///
    /// # Errors
    /// What the file system reports.
    #[inline]
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.bytes += bytes.len() as u64;
        if bytes.len() <= BLOCK_BYTES - self.block.len() {
            self.block.extend_from_slice(bytes);
            return Ok(());
        }
        self.push_across(bytes)
    }

    fn push_across(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        loop {
            let room = BLOCK_BYTES - self.block.len();
            let Some((fitting, rest)) = bytes.split_at_checked(room) else {
                self.block.extend_from_slice(bytes);
                return Ok(());
            };
            self.block.extend_from_slice(fitting);
            self.write_block()?;
            bytes = rest;
        }
    }

    fn write_block(&mut self) -> Result<(), Error> {
        self.checksum.update(&self.block);
        self.file
            .write_all(&self.block)
            .map_err(|error| disk(&self.path, &error))?;
        self.block.clear();
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes appended so far.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes out what is left, and returns the checksum.
    ///
    /// # Errors
    /// What the file system reports.
    pub(crate) fn finish(mut self) -> Result<(File, PathBuf, u64), Error> {
        self.write_block()?;
        Ok((self.file, self.path, self.checksum.value()))
    }
}
