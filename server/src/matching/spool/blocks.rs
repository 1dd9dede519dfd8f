//! Files written block by block, with a checksum over the blocks.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
};

use super::{disk, new_file};
use crate::error::Error;

/// Bytes of a block: what is written, read and checked at a time.
pub(super) const BLOCK_BYTES: usize = 1 << 16;

/// Detects accidental change of a file: not a cryptographic hash. Four words at a time, so that the sums do not wait for
/// each other.
#[derive(Clone, Copy)]
pub(super) struct Checksum([u64; 4]);

impl Checksum {
    pub(super) const fn new() -> Self {
        Self([
            0x9e37_79b9_7f4a_7c15,
            0xbf58_476d_1ce4_e5b9,
            0x94d0_49bb_1331_11eb,
            0x2545_f491_4f6c_dd1d,
        ])
    }

    pub(super) fn value(self) -> u64 {
        self.0.into_iter().fold(0, mix)
    }

    /// Adds a block. Only the last one may be shorter than [`BLOCK_BYTES`].
    pub(super) fn update(&mut self, block: &[u8]) {
        let (rows, rest) = block.as_chunks::<32>();
        for row in rows {
            self.row(row);
        }
        if !rest.is_empty() {
            let mut last = [0; 32];
            last[..rest.len()].copy_from_slice(rest);
            self.row(&last);
            self.0[0] = mix(self.0[0], rest.len() as u64);
        }
    }

    fn row(&mut self, row: &[u8; 32]) {
        for (sum, word) in self.0.iter_mut().zip(row.as_chunks::<8>().0) {
            *sum = mix(*sum, u64::from_le_bytes(*word));
        }
    }
}

fn mix(state: u64, word: u64) -> u64 {
    (state ^ word)
        .wrapping_mul(0xff51_afd7_ed55_8ccd)
        .rotate_left(29)
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
            checksum: Checksum::new(),
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
