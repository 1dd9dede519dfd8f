//! Parts in a file, or in memory as far as there is room.

use std::{
    fs::File,
    io::{self, ErrorKind, IoSlice, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::{
    super::{
        super::{
            TemporaryFile,
            blocks::{BLOCK_BYTES, Checksum},
            damaged, disk, new_file, unreadable,
        },
        held::split_record,
    },
    buffer::Buffer,
};
use crate::error::Error;

/// Slices written at a time at most: systems take 1,024.
const MAX_SLICES: usize = 1 << 10;
/// Bytes written at a time: they are still in a fast cache from the checksum.
const WRITTEN_BYTES: usize = 1 << 18;

/// What full buffers of all sorters may still take together, instead of being written.
static ROOM_BYTES: AtomicUsize = AtomicUsize::new(48 << 20);

/// Some of the room in memory that all sorters share, until this is dropped.
pub(in super::super) struct Room {
    bytes: usize,
}

impl Room {
    /// So many bytes of it, if there are as many.
    pub(in super::super) fn take(bytes: usize) -> Option<Self> {
        let less = |left: usize| left.checked_sub(bytes);
        let taken = ROOM_BYTES.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        taken.ok().map(|_| Self { bytes })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        ROOM_BYTES.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

/// A piece of every part.
enum Row {
    Held {
        buffer: Buffer,
        _room: Room,
    },
    /// Where it starts in the file, and where each of its pieces ends.
    Written(Box<[u64]>),
}

/// Writes a file of rows.
pub(super) struct PartsFileWriter {
    file: File,
    rows: PartsFile,
    bytes: u64,
}

/// A complete file of parts.
pub(super) struct PartsFile {
    file: TemporaryFile,
    rows: Vec<Row>,
    /// Of what is in the file of each part.
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

    /// Appends a row without writing it.
    pub(super) fn hold(&mut self, row: Buffer, room: Room) {
        self.rows.rows.push(Row::Held {
            buffer: row,
            _room: room,
        });
    }

    /// Appends a row.
    pub(super) fn write(&mut self, row: &Buffer) -> Result<(), Error> {
        let parts = (0..self.rows.checksums.len()).map(|part| row.part(part));
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
        self.rows.rows.push(Row::Written(row.into()));
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
    /// How many rows are in memory, and how many in the file.
    #[cfg(test)]
    pub(super) fn rows(&self) -> (usize, usize) {
        let is_held = |row: &&Row| matches!(row, Row::Held { .. });
        let held = self.rows.iter().filter(is_held).count();
        (held, self.rows.len() - held)
    }

    /// Bytes of a part.
    pub(super) fn part_bytes(&self, part: usize) -> usize {
        let pieces = self.rows.iter().map(|row| match row {
            Row::Held { buffer, .. } => buffer.part_bytes(part),
            Row::Written(ends) => (ends[part + 1] - ends[part]) as usize,
        });
        pieces.sum()
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
        for row in &self.rows {
            match row {
                Row::Held { buffer, .. } => {
                    for piece in buffer.part(part) {
                        let (here, rest) = into.split_at_mut(piece.len());
                        here.copy_from_slice(piece);
                        into = rest;
                    }
                }
                Row::Written(ends) => {
                    let bytes = (ends[part + 1] - ends[part]) as usize;
                    let (here, rest) = into.split_at_mut(bytes);
                    self.read(file, ends[part], here, &mut checksum)?;
                    into = rest;
                }
            }
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
        // The beginning of a record whose end is in the next piece.
        let mut held = Vec::new();
        let mut take = |held: &mut Vec<u8>| {
            let mut rest = held.as_slice();
            while let Some((record, after)) = split_record(rest) {
                each(record)?;
                rest = after;
            }
            let used = held.len() - rest.len();
            held.drain(..used);
            Ok::<_, Error>(())
        };
        for row in &self.rows {
            match row {
                Row::Held { buffer, .. } => {
                    for piece in buffer.part(part) {
                        held.extend_from_slice(piece);
                        take(&mut held)?;
                    }
                }
                Row::Written(ends) => {
                    for at in (ends[part]..ends[part + 1]).step_by(BLOCK_BYTES) {
                        let start = held.len();
                        let bytes = (ends[part + 1] - at).min(BLOCK_BYTES as u64) as usize;
                        held.resize(start + bytes, 0);
                        self.read(&file, at, &mut held[start..], &mut checksum)?;
                        take(&mut held)?;
                    }
                }
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
