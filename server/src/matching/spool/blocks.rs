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

/// Detects accidental change of a file: not a cryptographic hash. For every word of a row a sum and the sum of its sums, so
/// that places count, without a multiplication: most vector units have none of this width.
#[derive(Clone, Copy)]
pub(super) struct Checksum {
    sums: [u64; LANES],
    of_sums: [u64; LANES],
}

impl Default for Checksum {
    fn default() -> Self {
        Self {
            sums: std::array::from_fn(|lane| {
                0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(lane as u64 + 1)
            }),
            of_sums: [0; LANES],
        }
    }
}

impl Checksum {
    /// Bytes of a row.
    pub(super) const ROW_BYTES: usize = 8 * LANES;

    pub(super) fn value(self) -> u64 {
        let words = self.sums.into_iter().chain(self.of_sums);
        words.fold(0, mix)
    }

    /// Adds some bytes. How they are cut matters not if all but the last ones are whole rows.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        let (rows, rest) = bytes.as_chunks::<{ Self::ROW_BYTES }>();
        // A copy stays in registers.
        let mut sum = *self;
        for row in rows {
            sum.add_row(row);
        }
        if !rest.is_empty() {
            let mut last = [0; Self::ROW_BYTES];
            last[..rest.len()].copy_from_slice(rest);
            sum.add_row(&last);
            sum.sums[0] = mix(sum.sums[0], rest.len() as u64);
        }
        *self = sum;
    }

    #[inline]
    fn add_row(&mut self, row: &[u8; Self::ROW_BYTES]) {
        let words = row.as_chunks::<8>().0;
        for ((sum, of_sums), word) in self.sums.iter_mut().zip(&mut self.of_sums).zip(words) {
            *sum = sum.wrapping_add(u64::from_le_bytes(*word));
            *of_sums = of_sums.wrapping_add(*sum);
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

#[cfg(test)]
mod tests {
    use super::Checksum;

    fn of(pieces: &[&[u8]]) -> u64 {
        let mut checksum = Checksum::default();
        pieces.iter().for_each(|piece| checksum.update(piece));
        checksum.value()
    }

    #[test]
    fn a_checksum_tells_of_changed_moved_and_missing_words() {
        let bytes: Vec<u8> = (0..1_000_u32).map(|i| ((i * 37) >> 2) as u8).collect();
        let whole = of(&[&bytes]);
        assert_eq!(of(&[&bytes[..640], &bytes[640..]]), whole, "cut at rows");
        for at in (0..bytes.len()).step_by(7) {
            let mut other = bytes.clone();
            other[at] ^= 1 << (at % 8);
            assert_ne!(of(&[&other]), whole, "{at}");
        }
        // Words of one lane change places.
        for (one, other) in [(0, 64), (64, 512)] {
            let mut moved = bytes.clone();
            let word: Vec<u8> = moved[one..one + 8].to_vec();
            moved.copy_within(other..other + 8, one);
            moved[other..other + 8].copy_from_slice(&word);
            assert_ne!(of(&[&moved]), whole, "{one} {other}");
        }
        // Zeros at the end, more and fewer.
        let zeros = [0; 200];
        let sums: std::collections::BTreeSet<u64> =
            (0..200).map(|count| of(&[&zeros[..count]])).collect();
        assert_eq!(sums.len(), 200);
    }
}
