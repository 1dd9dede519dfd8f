//! What lies beside the bases of a state, in one file: sections of records of any length, each read from end to end.

use std::path::Path;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::sealed::{BlockReader, BlockWriter, StateKey, TAG_BYTES, damaged};
use crate::error::Error;

const BESIDE: &str = "beside";
/// Plain bytes of a block; the last one of a section has fewer.
const BLOCK_BYTES: usize = 1 << 14;

/// What the manifest keeps of a section; one without records needs no file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SectionDocument {
    records: u64,
    bytes: u64,
    /// The number of its first block, and where that starts behind the salt.
    block: u64,
    offset: u64,
}

impl SectionDocument {
    /// Number of records.
    pub(crate) const fn len(&self) -> u64 {
        self.records
    }
}

/// Writes sections one after the other.
pub(crate) struct BesideWriter {
    blocks: BlockWriter,
    offset: u64,
}

impl BesideWriter {
    /// Creates the file; it must not exist.
    pub(crate) fn create(directory: &Path, key: &StateKey) -> Result<Self, Error> {
        Ok(Self {
            blocks: BlockWriter::create(&directory.join(BESIDE), key)?,
            offset: 0,
        })
    }

    /// Begins a section.
    pub(crate) fn section(&mut self) -> SectionWriter<'_> {
        SectionWriter {
            document: SectionDocument {
                block: self.blocks.len(),
                offset: self.offset,
                ..SectionDocument::default()
            },
            file: self,
            block: Zeroizing::new(Vec::with_capacity(2 * BLOCK_BYTES)),
        }
    }

    /// Completes the file.
    pub(crate) fn finish(self) -> Result<(), Error> {
        self.blocks.finish()
    }
}

/// Writes a section.
pub(crate) struct SectionWriter<'a> {
    file: &'a mut BesideWriter,
    document: SectionDocument,
    block: Zeroizing<Vec<u8>>,
}

impl SectionWriter<'_> {
    /// Appends a record, the concatenation of `parts`.
    pub(crate) fn push(&mut self, parts: &[&[u8]]) -> Result<(), Error> {
        let bytes = parts.iter().map(|part| part.len()).sum::<usize>();
        let length = u16::try_from(bytes).map_err(|_| Error::internal("a long state record"))?;
        self.block.extend_from_slice(&length.to_be_bytes());
        for part in parts {
            self.block.extend_from_slice(part);
        }
        self.document.records += 1;
        while self.block.len() >= BLOCK_BYTES {
            let rest = Zeroizing::new(self.block.split_off(BLOCK_BYTES));
            self.seal()?;
            self.block.extend_from_slice(&rest);
        }
        Ok(())
    }

    fn seal(&mut self) -> Result<(), Error> {
        let bytes = self.block.len() as u64;
        self.document.bytes += bytes;
        self.file.offset += bytes + TAG_BYTES as u64;
        self.file.blocks.push(&mut self.block)
    }

    /// Completes the section.
    pub(crate) fn finish(mut self) -> Result<SectionDocument, Error> {
        if !self.block.is_empty() {
            self.seal()?;
        }
        Ok(self.document)
    }
}

/// Visits the records of a section in their order.
pub(crate) fn read_section(
    directory: &Path,
    key: &StateKey,
    document: &SectionDocument,
    visit: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    if document.records == 0 {
        return Ok(());
    }
    let path = directory.join(BESIDE);
    let mut blocks = BlockReader::open(&path, key)?;
    let (mut number, mut offset, mut left) = (document.block, document.offset, document.bytes);
    let mut block = Zeroizing::new(Vec::new());
    // What was read and not visited yet begins with the start of a record.
    let mut open = Zeroizing::new(Vec::new());
    let mut records = 0;
    while left > 0 {
        let length = usize::try_from(left).map_or(BLOCK_BYTES, |left| left.min(BLOCK_BYTES));
        blocks.read(number, offset, length, &mut block)?;
        open.extend_from_slice(&block);
        number += 1;
        offset += (length + TAG_BYTES) as u64;
        left -= length as u64;
        let mut rest = open.as_slice();
        while let Some((length, behind)) = rest.split_first_chunk()
            && let Some((record, behind)) =
                behind.split_at_checked(u16::from_be_bytes(*length).into())
        {
            visit(record)?;
            records += 1;
            rest = behind;
        }
        let visited = open.len() - rest.len();
        open.drain(..visited);
    }
    if records == document.records && open.is_empty() {
        Ok(())
    } else {
        Err(damaged(&path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(
        directory: &Path,
        key: &StateKey,
        document: &SectionDocument,
    ) -> Result<Vec<Vec<u8>>, Error> {
        let mut records = Vec::new();
        read_section(directory, key, document, &mut |record| {
            records.push(record.to_vec());
            Ok(())
        })?;
        Ok(records)
    }

    #[test]
    fn sections_read_back_each_by_itself() {
        let directory = tempfile::tempdir().unwrap();
        let key = StateKey::new(&[3; 32]);
        let mut file = BesideWriter::create(directory.path(), &key).unwrap();
        let record = |section: usize, index: usize| vec![(section * 7 + index) as u8; index % 300];
        let counts = [3, 0, 2_000, 1];
        let mut documents = Vec::new();
        for (section, count) in counts.into_iter().enumerate() {
            let mut writer = file.section();
            for index in 0..count {
                let record = record(section, index);
                let (head, tail) = record.split_at(record.len() / 2);
                writer.push(&[head, tail]).unwrap();
            }
            if section == 3 {
                // Longer than a block, and too long.
                writer.push(&[&[9; 65_535]]).unwrap();
                assert!(writer.push(&[&[9; 65_535], &[9]]).is_err());
            }
            documents.push(writer.finish().unwrap());
        }
        file.finish().unwrap();
        for (section, count) in counts.into_iter().enumerate().rev() {
            let mut expected: Vec<Vec<u8>> =
                (0..count).map(|index| record(section, index)).collect();
            if section == 3 {
                expected.push(vec![9; 65_535]);
            }
            let document = &documents[section];
            assert_eq!(document.len(), expected.len() as u64);
            assert_eq!(read(directory.path(), &key, document).unwrap(), expected);
        }

        let whole = &documents[2];
        assert!(read(directory.path(), &StateKey::new(&[4; 32]), whole).is_err());
        for changed in [
            SectionDocument {
                records: whole.records + 1,
                ..whole.clone()
            },
            SectionDocument {
                records: whole.records - 1,
                ..whole.clone()
            },
            SectionDocument {
                bytes: whole.bytes - 1,
                ..whole.clone()
            },
            SectionDocument {
                block: whole.block + 1,
                ..whole.clone()
            },
            SectionDocument {
                offset: whole.offset + 16,
                ..whole.clone()
            },
        ] {
            assert!(
                read(directory.path(), &key, &changed).is_err(),
                "{changed:?}"
            );
        }
        let path = directory.path().join(BESIDE);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(read(directory.path(), &key, whole).is_err());
        assert!(read(directory.path(), &key, &documents[0]).is_ok());
        // What has no records needs no file.
        std::fs::remove_file(&path).unwrap();
        assert!(
            read(directory.path(), &key, &SectionDocument::default())
                .unwrap()
                .is_empty()
        );
    }
}
