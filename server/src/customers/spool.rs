//! Customers on their way into the store, sorted by id in bounded memory: sorted runs in unnamed temporary files, merged.
//!
//! Nothing reaches the store before the whole file or stream has been read and checked, and the store's write lock is held
//! for the merge only. The files have no names, so a crash leaves nothing behind.

use std::{
    cmp::Ordering,
    collections::BinaryHeap,
    fs::File,
    io::{self, BufReader, BufWriter, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use rayon::slice::ParallelSliceMut as _;

use super::{
    draft::{Block, Indexed, Record, Tally, prefix},
    limits,
};
use crate::{
    error::{Error, Reason},
    storage::Store,
};

/// What a run may hold in memory.
const RUN_BYTES: usize = 32 * 1024 * 1024;
/// Bytes read or written at once.
const BUFFER_BYTES: usize = 128 * 1024;

/// Sorts customers.
pub(super) struct Spool {
    directory: PathBuf,
    run_bytes: usize,
    blocks: Vec<Block>,
    held: usize,
    runs: Vec<File>,
    pub(super) rows: u64,
    pub(super) unusable: Tally,
}

impl Spool {
    /// A spool whose files are in the node's directory.
    pub(super) fn new(store: &Store) -> Result<Self, Error> {
        let directory = store.read_blocking(|connection| {
            let path = connection
                .path()
                .ok_or_else(|| Error::internal("the store has no path"))?;
            Ok(Path::new(path)
                .parent()
                .map_or_else(|| PathBuf::from("."), Path::to_path_buf))
        })?;
        Ok(Self::in_directory(directory, RUN_BYTES))
    }

    fn in_directory(directory: PathBuf, run_bytes: usize) -> Self {
        Self {
            directory,
            run_bytes,
            blocks: Vec::new(),
            held: 0,
            runs: Vec::new(),
            rows: 0,
            unusable: Tally::default(),
        }
    }

    /// Where its files are.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Takes a block.
    pub(super) fn push(&mut self, block: Block) -> Result<(), Error> {
        self.rows += block.entries.len() as u64;
        if self.rows > limits::MAX_CUSTOMERS {
            return Err(Error::new(
                Reason::InvalidArgument,
                format!(
                    "more than {} customers: split the file",
                    limits::MAX_CUSTOMERS
                ),
            ));
        }
        self.unusable.add(&block.unusable);
        self.held += block.bytes.len() + size_of::<Indexed>() * block.entries.len();
        self.blocks.push(block);
        if self.held >= self.run_bytes {
            self.spill()?;
        }
        Ok(())
    }

    fn spill(&mut self) -> Result<(), Error> {
        let directory = &self.directory;
        let run = Sorted::new(std::mem::take(&mut self.blocks));
        self.held = 0;
        let write = || -> io::Result<File> {
            let mut writer =
                BufWriter::with_capacity(BUFFER_BYTES, tempfile::tempfile_in(directory)?);
            for index in 0..run.order.len() {
                let bytes = run.record(index);
                let length =
                    u32::try_from(bytes.len()).expect("a record is far shorter than 2^32 bytes");
                writer.write_all(&length.to_le_bytes())?;
                writer.write_all(bytes)?;
            }
            let mut file = writer
                .into_inner()
                .map_err(io::IntoInnerError::into_error)?;
            file.rewind()?;
            Ok(file)
        };
        self.runs
            .push(write().map_err(|error| failed(directory, &error))?);
        Ok(())
    }

    /// All customers in ascending order of id.
    pub(super) fn merge(mut self) -> Result<Merge, Error> {
        let last = Sorted::new(std::mem::take(&mut self.blocks));
        let mut sources = Vec::new();
        for file in self.runs {
            sources.push(Source::File {
                reader: BufReader::with_capacity(BUFFER_BYTES, file),
                record: Vec::new(),
            });
        }
        sources.push(Source::Memory { run: last, next: 0 });
        let mut merge = Merge {
            directory: self.directory,
            heap: BinaryHeap::new(),
            started: false,
        };
        for (index, source) in sources.into_iter().enumerate() {
            let mut head = Head {
                prefix: 0,
                index,
                source,
            };
            if head
                .advance()
                .map_err(|error| failed(&merge.directory, &error))?
            {
                merge.heap.push(head);
            }
        }
        Ok(merge)
    }
}

/// An error of a temporary file.
pub(super) fn failed(directory: &Path, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::new(
            Reason::DiskFull,
            format!(
                "{}: the disk is full: free some space and try again; nothing was changed",
                directory.display()
            ),
        ),
        _ => Error::new(
            Reason::StorageFailed,
            format!("{}: temporary file: {error}", directory.display()),
        ),
    }
}

/// Blocks in memory, in order.
struct Sorted {
    blocks: Vec<Block>,
    order: Vec<(Indexed, u32)>,
}

impl Sorted {
    fn new(blocks: Vec<Block>) -> Self {
        let mut order = Vec::with_capacity(blocks.iter().map(|block| block.entries.len()).sum());
        for (number, block) in (0u32..).zip(&blocks) {
            order.extend(block.entries.iter().map(|entry| (*entry, number)));
        }
        let id = |(entry, block): &(Indexed, u32)| -> &[u8] {
            let bytes = &blocks[*block as usize].bytes[entry.start as usize..];
            id_of(bytes)
        };
        let compare = |left: &(Indexed, u32), right: &(Indexed, u32)| {
            left.0
                .prefix
                .cmp(&right.0.prefix)
                .then_with(|| id(left).cmp(id(right)))
        };
        if !order.is_sorted_by(|left, right| compare(left, right) != Ordering::Greater) {
            // Stable, so that of two customers with one id the first of the file comes first.
            order.par_sort_by(compare);
        }
        Self { blocks, order }
    }

    fn record(&self, index: usize) -> &[u8] {
        let (entry, block) = self.order[index];
        &self.blocks[block as usize].bytes[entry.start as usize..][..entry.length as usize]
    }
}

/// The id at the start of an encoded customer.
fn id_of(bytes: &[u8]) -> &[u8] {
    super::blob::Reader(bytes).bytes().unwrap_or_default()
}

enum Source {
    File {
        reader: BufReader<File>,
        record: Vec<u8>,
    },
    Memory {
        run: Sorted,
        next: usize,
    },
}

struct Head {
    prefix: u128,
    index: usize,
    source: Source,
}

impl Head {
    fn record(&self) -> &[u8] {
        match &self.source {
            Source::File { record, .. } => record,
            Source::Memory { run, next } => run.record(*next - 1),
        }
    }

    fn advance(&mut self) -> io::Result<bool> {
        match &mut self.source {
            Source::File { reader, record } => {
                let mut length = [0; 4];
                if let Err(error) = reader.read_exact(&mut length) {
                    return if error.kind() == io::ErrorKind::UnexpectedEof {
                        Ok(false)
                    } else {
                        Err(error)
                    };
                }
                record.resize(u32::from_le_bytes(length) as usize, 0);
                reader.read_exact(record)?;
                self.prefix = std::str::from_utf8(id_of(record)).map_or(0, prefix);
            }
            Source::Memory { run, next } => {
                let Some((entry, _)) = run.order.get(*next) else {
                    return Ok(false);
                };
                self.prefix = entry.prefix;
                *next += 1;
            }
        }
        Ok(true)
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Head {}
impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Head {
    /// The least id is the greatest, as the heap yields the greatest; of equal ids, that of the earlier run.
    fn cmp(&self, other: &Self) -> Ordering {
        other
            .prefix
            .cmp(&self.prefix)
            .then_with(|| id_of(other.record()).cmp(id_of(self.record())))
            .then_with(|| other.index.cmp(&self.index))
    }
}

/// Customers in ascending order of id.
pub(super) struct Merge {
    directory: PathBuf,
    heap: BinaryHeap<Head>,
    started: bool,
}

impl Merge {
    /// The next customer.
    pub(super) fn next(&mut self) -> Result<Option<Record<'_>>, Error> {
        if std::mem::replace(&mut self.started, true)
            && let Some(mut head) = self.heap.peek_mut()
            && !head
                .advance()
                .map_err(|error| failed(&self.directory, &error))?
        {
            std::collections::binary_heap::PeekMut::pop(head);
        }
        self.heap
            .peek()
            .map(|head| Record::decode(head.record()))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::customers::draft::{Draft, Encoder};
    use crate::sharing::policy::{Stage, StageCategory};

    fn block(ids: &[(&str, u64)]) -> Block {
        let stage = Stage {
            id: "Lead".into(),
            label: String::new(),
            ordinal: 1,
            category: StageCategory::Open,
        };
        let encoder = Encoder::new(&[(7, stage)], None);
        let mut block = Block::default();
        for (id, origin) in ids {
            let draft = Draft {
                id: (*id).into(),
                stage: "Lead".into(),
                ..Draft::default()
            };
            encoder
                .encode(&draft, *origin, &mut block, &mut Vec::new())
                .unwrap();
        }
        block
    }

    #[test]
    fn runs_merge_in_order_of_id_and_then_of_origin() {
        let long = "0123456789abcdef";
        for run_bytes in [1, 300, 1 << 20] {
            let mut spool = Spool::in_directory(std::env::temp_dir(), run_bytes);
            spool
                .push(block(&[("b", 2), ("a", 3), (&format!("{long}2"), 4)]))
                .unwrap();
            spool
                .push(block(&[("é", 5), ("a", 6), (&format!("{long}1"), 7)]))
                .unwrap();
            spool.push(block(&[(long, 8), ("B", 9)])).unwrap();
            assert_eq!(spool.rows, 8);
            let mut merge = spool.merge().unwrap();
            let mut found = Vec::new();
            while let Some(record) = merge.next().unwrap() {
                assert_eq!(record.stage, 7);
                found.push((record.id.to_owned(), record.origin));
            }
            let expected = [
                (long.to_owned(), 8),
                (format!("{long}1"), 7),
                (format!("{long}2"), 4),
                ("B".to_owned(), 9),
                ("a".to_owned(), 3),
                ("a".to_owned(), 6),
                ("b".to_owned(), 2),
                ("é".to_owned(), 5),
            ];
            assert_eq!(found, expected, "runs of {run_bytes} bytes");
        }
    }

    #[test]
    fn a_full_disk_is_named() {
        let error = failed(
            Path::new("/node"),
            &io::Error::from(io::ErrorKind::StorageFull),
        );
        assert_eq!(error.reason(), Reason::DiskFull);
        assert_eq!(
            error.message(),
            "/node: the disk is full: free some space and try again; nothing was changed"
        );
    }
}
