//! Parts in a file.

use std::{
    fs::File,
    io::{self, ErrorKind, IoSlice, Write as _},
    ops::Range,
    os::unix::fs::FileExt as _,
    path::Path,
};

use super::super::{
    super::{
        TemporaryFile,
        blocks::{BLOCK_BYTES, Checksum},
        damaged, disk, new_file, unreadable,
    },
    held::split_record,
};
use crate::error::Error;

/// Slices written at a time at most: systems take 1,024.
const MAX_SLICES: usize = 1 << 10;
/// Bytes written at a time: they are still in a fast cache from the checksum.
const WRITTEN_BYTES: usize = 1 << 18;

/// Writes a file of rows, each with a piece of every part.
pub(super) struct PartsFileWriter {
    file: File,
    rows: PartsFile,
    bytes: u64,
}

/// A complete file of parts.
pub(super) struct PartsFile {
    file: TemporaryFile,
    /// Where every row starts, and where each of its pieces ends.
    rows: Vec<Box<[u64]>>,
    checksums: Vec<Checksum>,
}

impl PartsFileWriter {
    /// Creates the file; it must not exist.
    pub(super) fn create(path: &Path, parts: usize) -> Result<Self, Error> {
        Ok(Self {
            file: new_file(path)?,
            rows: PartsFile {
                file: TemporaryFile::new(path.to_owned()),
                rows: Vec::new(),
                checksums: vec![Checksum::default(); parts],
            },
            bytes: 0,
        })
    }

    /// Appends a row: for every part some slices.
    pub(super) fn append<'a>(
        &mut self,
        parts: impl Iterator<Item: Iterator<Item = &'a [u8]>>,
    ) -> Result<(), Error> {
        let mut row = Vec::with_capacity(self.rows.checksums.len() + 1);
        row.push(self.bytes);
        let mut slices = Vec::new();
        let mut unwritten = 0;
        for (checksum, part) in self.rows.checksums.iter_mut().zip(parts) {
            for slice in part {
                checksum.update(slice);
                slices.push(IoSlice::new(slice));
                self.bytes += slice.len() as u64;
                unwritten += slice.len();
                if slices.len() == MAX_SLICES || unwritten >= WRITTEN_BYTES {
                    write_all(&self.file, &mut slices)
                        .map_err(|error| disk(self.rows.file.path(), &error))?;
                    slices.clear();
                    unwritten = 0;
                }
            }
            row.push(self.bytes);
        }
        self.rows.rows.push(row.into());
        write_all(&self.file, &mut slices).map_err(|error| disk(self.rows.file.path(), &error))
    }

    pub(super) fn finish(self) -> PartsFile {
        self.rows
    }
}

fn write_all(mut file: &File, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    while !slices.is_empty() {
        match file.write_vectored(slices) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut slices, written),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl PartsFile {
    /// Where the pieces of a part are.
    fn pieces(&self, part: usize) -> impl Iterator<Item = Range<u64>> {
        self.rows.iter().map(move |row| row[part]..row[part + 1])
    }

    /// Bytes of a part.
    pub(super) fn part_bytes(&self, part: usize) -> usize {
        self.pieces(part)
            .map(|piece| (piece.end - piece.start) as usize)
            .sum()
    }

    pub(super) fn open(&self) -> Result<File, Error> {
        File::open(self.file.path()).map_err(|error| disk(self.file.path(), &error))
    }

    /// Reads a part, of which `into` has the size.
    pub(super) fn read_part(
        &self,
        file: &File,
        part: usize,
        mut into: &mut [u8],
    ) -> Result<(), Error> {
        let mut checksum = Checksum::default();
        for piece in self.pieces(part) {
            let (here, rest) = into.split_at_mut((piece.end - piece.start) as usize);
            self.read(file, piece.start, here, &mut checksum)?;
            into = rest;
        }
        self.check(part, &checksum)
    }

    /// Hands every record of a part to `each`, in the order they were written.
    pub(super) fn for_each_record(
        &self,
        part: usize,
        mut each: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let file = self.open()?;
        let mut checksum = Checksum::default();
        let mut held = Vec::new();
        for piece in self.pieces(part) {
            for at in piece.clone().step_by(BLOCK_BYTES) {
                let start = held.len();
                held.resize(start + (piece.end - at).min(BLOCK_BYTES as u64) as usize, 0);
                self.read(&file, at, &mut held[start..], &mut checksum)?;
                let mut rest = held.as_slice();
                while let Some((record, after)) = split_record(rest) {
                    each(record)?;
                    rest = after;
                }
                let used = held.len() - rest.len();
                held.drain(..used);
            }
        }
        self.check(part, &checksum)
    }

    fn read(
        &self,
        file: &File,
        at: u64,
        into: &mut [u8],
        checksum: &mut Checksum,
    ) -> Result<(), Error> {
        file.read_exact_at(into, at)
            .map_err(|error| unreadable(self.file.path(), &error))?;
        checksum.update(into);
        Ok(())
    }

    fn check(&self, part: usize, checksum: &Checksum) -> Result<(), Error> {
        if checksum.value() == self.checksums[part].value() {
            Ok(())
        } else {
            Err(damaged(self.file.path()))
        }
    }
}
