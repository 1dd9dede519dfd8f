//! Sealed tables of texts: records of any length in the order of their keys.

use std::path::Path;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    sealed::{BlockReader, BlockWriter, SMALL_BLOCK_BYTES, StateKey, TAG_BYTES, damaged},
    search::partition_point_near,
};
use crate::error::Error;

/// The longest text.
pub(crate) const MAX_TEXT_BYTES: usize = u16::MAX as usize;

/// What the manifest keeps of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TextsDocument {
    records: u64,
    index_bytes: u64,
}

/// Writes texts of up to [`MAX_TEXT_BYTES`] one after the other. The index says of each block how many bytes and texts it
/// has, and the key of its first.
pub(crate) struct TextWriter {
    blocks: BlockWriter,
    block: Zeroizing<Vec<u8>>,
    in_block: u32,
    index: Zeroizing<Vec<u8>>,
    records: u64,
}

impl TextWriter {
    /// Creates the file; it must not exist.
    pub(crate) fn create(path: &Path, key: &StateKey) -> Result<Self, Error> {
        Ok(Self {
            blocks: BlockWriter::create(path, key)?,
            block: Zeroizing::new(Vec::with_capacity(SMALL_BLOCK_BYTES)),
            in_block: 0,
            index: Zeroizing::default(),
            records: 0,
        })
    }

    /// Appends a text, the concatenation of `parts`. Keys do not decrease.
    pub(crate) fn push(&mut self, key: &[u8], parts: &[&[u8]]) -> Result<(), Error> {
        let bytes = parts.iter().map(|part| part.len()).sum::<usize>();
        let long = || Error::internal("a long text");
        let length = u16::try_from(bytes).map_err(|_| long())?;
        if self.block.len() + 2 + bytes > SMALL_BLOCK_BYTES && !self.block.is_empty() {
            self.flush()?;
        }
        if self.block.is_empty() {
            let length = u16::try_from(key.len()).map_err(|_| long())?;
            self.index.extend_from_slice(&length.to_be_bytes());
            self.index.extend_from_slice(key);
        }
        self.block.extend_from_slice(&length.to_be_bytes());
        for part in parts {
            self.block.extend_from_slice(part);
        }
        self.in_block += 1;
        self.records += 1;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        let length = u32::try_from(self.block.len()).expect("a block is short");
        self.index.extend_from_slice(&length.to_be_bytes());
        self.index.extend_from_slice(&self.in_block.to_be_bytes());
        self.in_block = 0;
        self.blocks.push(&mut self.block)
    }

    /// Completes the file.
    pub(crate) fn finish(mut self) -> Result<TextsDocument, Error> {
        if !self.block.is_empty() {
            self.flush()?;
        }
        let index_bytes = self.index.len() as u64;
        self.blocks
            .finish_indexed(std::mem::take(&mut *self.index))?;
        Ok(TextsDocument {
            records: self.records,
            index_bytes,
        })
    }
}

/// A block of a table.
struct Fence {
    /// Where it starts.
    offset: u64,
    bytes: usize,
    /// The number of its first text, and where in the index that text's key is.
    first: u64,
    key: std::ops::Range<usize>,
}

/// Reads a table at random; access in ascending order opens each block once.
pub(crate) struct Texts {
    blocks: BlockReader,
    index: Zeroizing<Vec<u8>>,
    fences: Vec<Fence>,
    records: u64,
    /// The open block, and where its texts are.
    current: Option<usize>,
    block: Zeroizing<Vec<u8>>,
    places: Vec<std::ops::Range<usize>>,
}

fn parse_index(index: &[u8]) -> Option<(Vec<Fence>, u64)> {
    let mut fences = Vec::new();
    let (mut offset, mut first) = (0, 0);
    let mut left = index;
    while !left.is_empty() {
        let (length, rest) = left.split_first_chunk()?;
        let start = index.len() - rest.len();
        let key = start..start + usize::from(u16::from_be_bytes(*length));
        let rest = index.get(key.end..)?;
        let (bytes, rest) = rest.split_first_chunk()?;
        let (count, rest) = rest.split_first_chunk()?;
        let bytes = u32::from_be_bytes(*bytes);
        fences.push(Fence {
            offset,
            bytes: bytes as usize,
            first,
            key,
        });
        offset += u64::from(bytes) + TAG_BYTES as u64;
        first += u64::from(u32::from_be_bytes(*count));
        left = rest;
    }
    Some((fences, first))
}

impl Texts {
    pub(crate) fn open(
        path: &Path,
        key: &StateKey,
        document: &TextsDocument,
    ) -> Result<Self, Error> {
        let mut blocks = BlockReader::open(path, key)?;
        let index = Zeroizing::new(blocks.index(document.index_bytes)?);
        let (fences, records) = parse_index(&index)
            .filter(|(_, records)| *records == document.records)
            .ok_or_else(|| damaged(path))?;
        Ok(Self {
            blocks,
            index,
            fences,
            records,
            current: None,
            block: Zeroizing::new(Vec::new()),
            places: Vec::new(),
        })
    }

    /// Number of texts.
    pub(crate) const fn len(&self) -> u64 {
        self.records
    }

    /// The text with this number.
    pub(crate) fn get(&mut self, number: u64) -> Result<&[u8], Error> {
        if number >= self.records {
            return Err(Error::internal("a state text beyond the end"));
        }
        let fences = &self.fences;
        let at = partition_point_near(fences.len(), self.current.unwrap_or(0), |at| {
            fences[at].first <= number
        }) - 1;
        self.load(at)?;
        let place = usize::try_from(number - self.fences[at].first).unwrap_or(usize::MAX);
        let place = self
            .places
            .get(place)
            .ok_or_else(|| damaged(self.blocks.path()))?;
        Ok(&self.block[place.clone()])
    }

    /// The number of the first text whose key is not less than `key`; `of` finds the key in a text.
    pub(crate) fn lower_bound(
        &mut self,
        key: &[u8],
        of: impl Fn(&[u8]) -> &[u8],
    ) -> Result<u64, Error> {
        let (fences, index) = (&self.fences, &self.index);
        let after = partition_point_near(fences.len(), self.current.unwrap_or(0), |at| {
            &index[fences[at].key.clone()] < key
        });
        if let Some(at) = after.checked_sub(1) {
            self.load(at)?;
            let place = self
                .places
                .partition_point(|place| of(&self.block[place.clone()]) < key);
            if place < self.places.len() {
                return Ok(self.fences[at].first + place as u64);
            }
        }
        Ok(self
            .fences
            .get(after)
            .map_or(self.records, |fence| fence.first))
    }

    fn load(&mut self, at: usize) -> Result<(), Error> {
        if self.current == Some(at) {
            return Ok(());
        }
        self.current = None;
        let fence = &self.fences[at];
        self.blocks
            .read(at as u64, fence.offset, fence.bytes, &mut self.block)?;
        self.places.clear();
        let mut start = 0;
        while let Some(length) = self.block.get(start..start + 2) {
            let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
            let end = start + 2 + length;
            if end > self.block.len() {
                return Err(damaged(self.blocks.path()));
            }
            self.places.push(start + 2..end);
            start = end;
        }
        self.current = Some(at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_by_number_and_by_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("texts");
        let key = StateKey::new(&[3; 32]);
        let text = |index: u64| format!("{:05}{}", index * 2, "x".repeat(index as usize % 97));
        for count in [0, 1, 5_000] {
            let mut writer = TextWriter::create(&path, &key).unwrap();
            for index in 0..count {
                let text = text(index);
                let (head, tail) = text.as_bytes().split_at(5);
                writer.push(head, &[head, tail]).unwrap();
            }
            assert!(writer.push(b"", &[&[0; MAX_TEXT_BYTES], &[0]]).is_err());
            let document = writer.finish().unwrap();
            let mut texts = Texts::open(&path, &key, &document).unwrap();
            assert_eq!(texts.len(), count);
            for index in (0..count).chain([count / 2]).take(count as usize) {
                assert_eq!(texts.get(index).unwrap(), text(index).as_bytes());
                let key = format!("{:05}", index * 2);
                let found = texts
                    .lower_bound(key.as_bytes(), |text| &text[..5])
                    .unwrap();
                assert_eq!(found, index);
                let between = format!("{:05}", index * 2 + 1);
                let found = texts.lower_bound(between.as_bytes(), |text| &text[..5]);
                assert_eq!(found.unwrap(), index + 1);
            }
            assert!(texts.get(count).is_err());
            let other = TextsDocument {
                records: count + 1,
                ..document
            };
            assert!(Texts::open(&path, &key, &other).is_err());
            std::fs::remove_file(&path).unwrap();
        }
    }
}
