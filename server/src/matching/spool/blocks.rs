//! Files written block by block, with a checksum over the blocks.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
};

use super::{disk, new_file};
use crate::error::Error;

/// Bytes of a block: what is written, read and checked at a time.
pub(super) const BLOCK_BYTES: usize = 1 << 17;

/// Words that are added to the checksum at a time.
const LANES: usize = 8;

/// Detects accidental change of a file: not a cryptographic hash. A sum for every word of a row, so that they do not wait for
/// each other.
#[derive(Clone, Copy)]
pub(super) struct Checksum([u64; LANES]);

impl Default for Checksum {
    fn default() -> Self {
        Self(std::array::from_fn(|lane| {
            0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(lane as u64 + 1)
        }))
    }
}

impl Checksum {
    /// Bytes of a row.
    pub(super) const ROW_BYTES: usize = 8 * LANES;

    pub(super) fn value(self) -> u64 {
        self.0.into_iter().fold(0, mix)
    }

    /// Adds some bytes. How they are cut matters not if all but the last ones are whole rows.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        let (rows, rest) = bytes.as_chunks::<{ Self::ROW_BYTES }>();
        // A copy stays in registers.
        let mut sums = self.0;
        for row in rows {
            add_row(&mut sums, row);
        }
        if !rest.is_empty() {
            let mut last = [0; Self::ROW_BYTES];
            last[..rest.len()].copy_from_slice(rest);
            add_row(&mut sums, &last);
            sums[0] = mix(sums[0], rest.len() as u64);
        }
        self.0 = sums;
    }
}

fn add_row(sums: &mut [u64; LANES], row: &[u8; Checksum::ROW_BYTES]) {
    for (sum, word) in sums.iter_mut().zip(row.as_chunks::<8>().0) {
        *sum = mix(*sum, u64::from_le_bytes(*word));
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
