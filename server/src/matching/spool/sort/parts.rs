//! Records dealt into parts by their leading bits.
//!
//! Records that begin with uniform bytes, as tags and hashes do, fall into parts of about the same size. They are gathered,
//! unsorted, in a buffer that fits the caches and written part after part whenever it is full. Streaming reads and sorts one part
//! at a time.

mod buffer;
mod file;
mod finished;

use std::path::Path;

pub(super) use self::finished::{Parts, PartsStream};
use self::{buffer::Buffer, file::PartsFileWriter};
use super::held::{Held, leading};
use crate::error::Error;

/// Number of parts, as a power of two.
const PARTS_BITS: std::ops::RangeInclusive<u32> = 4..=7;
/// The share of the budget that the buffer takes, and its size at most: a larger one would not stay in the caches while it is
/// filled, and of a smaller one the pieces of a part would be too short to read fast.
const BUFFER_SHARE: usize = 8;
const MAX_BUFFER_BYTES: usize = 1 << 21;
/// Blocks of the buffer a part. One of them is half empty when the buffer is written.
const BLOCKS_A_PART: usize = 8;
const WANTED_BLOCK_BYTES: usize = 1 << 11;
/// So many records a part are needed to say whether they are spread evenly.
const SAMPLED: usize = 4;

/// How a sorter deals records into parts.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    budget_bytes: usize,
    pub(super) buffer_bytes: usize,
    /// Leading bits that are the same in all records.
    skipped_bits: u32,
    /// No part has records whose leading bytes are beyond, but for the last.
    most: u64,
    bits: u32,
}

impl Shape {
    /// For records whose first bits are uniform.
    pub(super) fn uniform(budget_bytes: usize) -> Option<Self> {
        Some(Self::new(budget_bytes, 0, u64::MAX))
    }

    /// For records that begin with numbers below `bound`.
    pub(super) fn numbered(budget_bytes: usize, bound: u32) -> Option<Self> {
        let zeros = bound.saturating_sub(1).leading_zeros();
        Some(Self::new(budget_bytes, zeros, u64::MAX >> zeros))
    }

    /// For the records of a part; `None` for a part of a part, which is not dealt again: whoever chooses the records could
    /// otherwise have them written anew for every few bits.
    pub(super) fn of_part(self, budget_bytes: usize) -> Option<Self> {
        (self.skipped_bits == 0).then(|| Self::new(budget_bytes, self.bits, u64::MAX))
    }

    fn new(budget_bytes: usize, skipped_bits: u32, most: u64) -> Self {
        let buffer_bytes = (budget_bytes / BUFFER_SHARE).min(MAX_BUFFER_BYTES);
        let bits = (buffer_bytes / (BLOCKS_A_PART * WANTED_BLOCK_BYTES))
            .max(1)
            .ilog2()
            .clamp(*PARTS_BITS.start(), *PARTS_BITS.end());
        Self {
            budget_bytes,
            buffer_bytes,
            skipped_bits,
            most,
            bits,
        }
    }

    const fn parts(self) -> usize {
        1 << self.bits
    }

    #[inline]
    fn number(self, leading: u64) -> usize {
        ((leading.min(self.most) << self.skipped_bits) >> (u64::BITS - self.bits)) as usize
    }

    /// Whether the part of a record has at most twice the even share of records, in the mean over the records.
    pub(super) fn is_even(self, held: &Held) -> bool {
        if held.len() < SAMPLED * self.parts() {
            return false;
        }
        let mut counts = vec![0_u64; self.parts()];
        for record in held.records() {
            counts[self.number(leading(record))] += 1;
        }
        let records = held.len() as u64;
        let expected = records * records / self.parts() as u64 + records;
        counts.iter().map(|count| count * count).sum::<u64>() <= 2 * expected
    }
}

/// Deals records into parts, in a file.
pub(super) struct PartsWriter {
    shape: Shape,
    buffer: Buffer,
    records: Vec<usize>,
    file: PartsFileWriter,
}

impl PartsWriter {
    /// Creates the file; it must not exist.
    pub(super) fn create(shape: Shape, path: &Path) -> Result<Self, Error> {
        let block_bytes = (shape.buffer_bytes / BLOCKS_A_PART) >> shape.bits;
        Ok(Self {
            shape,
            buffer: Buffer::new(shape.parts(), block_bytes, shape.buffer_bytes),
            records: vec![0; shape.parts()],
            file: PartsFileWriter::create(path, shape.parts())?,
        })
    }

    /// Adds the concatenation of `parts`, which is `length` bytes.
    #[inline]
    pub(super) fn push(&mut self, length: u16, parts: &[&[u8]]) -> Result<(), Error> {
        let number = self.shape.number(leading_of(parts));
        self.records[number] += 1;
        if self.buffer.push(number, length, parts) {
            return Ok(());
        }
        self.push_across(number, length, parts)
    }

    #[inline(never)]
    fn push_across(&mut self, number: usize, length: u16, parts: &[&[u8]]) -> Result<(), Error> {
        let length = length.to_le_bytes();
        for mut bytes in std::iter::once(&length[..]).chain(parts.iter().copied()) {
            bytes = self.buffer.append(number, bytes);
            while !bytes.is_empty() {
                self.write_out()?;
                bytes = self.buffer.append(number, bytes);
            }
        }
        Ok(())
    }

    /// Appends everything in the buffer to the file.
    #[cold]
    fn write_out(&mut self) -> Result<(), Error> {
        self.file
            .append((0..self.shape.parts()).map(|number| self.buffer.part(number)))?;
        self.buffer.clear();
        Ok(())
    }
}

/// [`leading`] of the concatenation of `parts`.
#[inline]
fn leading_of(parts: &[&[u8]]) -> u64 {
    if let Some(head) = parts.first().and_then(|first| first.first_chunk()) {
        return u64::from_be_bytes(*head);
    }
    let mut head = [0; 8];
    let bytes = parts.iter().copied().flatten();
    for (to, from) in head.iter_mut().zip(bytes) {
        *to = *from;
    }
    u64::from_be_bytes(head)
}
