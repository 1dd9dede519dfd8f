//! Importing files: all or nothing, in bounded memory, on every core.

use std::{collections::BTreeMap, fs::File, io::Read, path::Path};

use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};

use super::{
    apply::{self, Applied, Plan},
    draft::{Block, Encoder, Tally},
    files::{self, ChunkReader, Format, Lines},
    normalize::Region,
    spool::{Merge, Spool},
    stages,
};
use crate::{clock::Clock, error::Error, storage::Store};

/// How to import a file.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImportOptions {
    /// The region of phone numbers without a country code.
    pub default_region: Option<Region>,
    /// Delete every customer that the file does not name.
    pub replace_all: bool,
}

/// How far an import is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Customers read and checked.
    pub rows: u64,
    /// Bytes read.
    pub bytes: u64,
    /// The file's size, where it is known.
    pub total_bytes: Option<u64>,
    /// Customers written to the store, which starts once all are read.
    pub written: u64,
}

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportSummary {
    /// New customers.
    pub inserted: u64,
    /// Customers that changed.
    pub updated: u64,
    /// Customers that are as they were.
    pub unchanged: u64,
    /// Customers that were deleted, as the whole was to be replaced.
    pub deleted: u64,
    /// Identifiers that are kept but are no keys, by [`Outcome::name`](super::normalize::Outcome::name).
    pub unusable_identifiers: BTreeMap<&'static str, u64>,
    /// The columns that became further fields, where the file has a header.
    pub field_columns: Vec<String>,
}

impl ImportSummary {
    pub(super) fn new(applied: Applied, unusable: &Tally, field_columns: Vec<String>) -> Self {
        Self {
            inserted: applied.inserted,
            updated: applied.updated,
            unchanged: applied.unchanged,
            deleted: applied.deleted,
            unusable_identifiers: unusable
                .counts()
                .map(|(outcome, count)| (outcome.name(), count))
                .collect(),
            field_columns,
        }
    }
}

/// Imports a file. Blocks.
///
/// # Errors
/// `INVALID_ARGUMENT` naming file, line and column; `FILE_UNREADABLE`; `DISK_FULL`; what the store reports. Whatever the error,
/// the store is as it was.
pub fn import_file(
    store: &Store,
    clock: &dyn Clock,
    path: &Path,
    format: Option<Format>,
    options: &ImportOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<ImportSummary, Error> {
    let name = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy();
    let format = match format {
        Some(format) => format,
        None => Format::find("", &name)?,
    };
    let unreadable = |error| files::unreadable(&path.display().to_string(), &error);
    let mut file = File::open(path).map_err(unreadable)?;
    let total_bytes = file.metadata().map_err(unreadable)?.len();
    let source = Source {
        file: &name,
        format,
        reader: &mut file,
        total_bytes: Some(total_bytes),
    };
    import_reader(store, clock, source, options, progress)
}

/// The bytes of a file.
pub struct Source<'a> {
    /// What errors call it.
    pub file: &'a str,
    /// Its format.
    pub format: Format,
    /// Where the bytes come from.
    pub reader: &'a mut (dyn Read + Send),
    /// How many there are, where it is known.
    pub total_bytes: Option<u64>,
}

/// [`import_file`] from any source of bytes. Blocks.
///
/// # Errors
/// As [`import_file`].
pub fn import_reader(
    store: &Store,
    clock: &dyn Clock,
    source: Source<'_>,
    options: &ImportOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<ImportSummary, Error> {
    let Source {
        file,
        format,
        reader,
        total_bytes,
    } = source;
    let known = store.read_blocking(stages::numbered)?;
    let encoder = Encoder::new(&known, options.default_region);
    let mut spool = Spool::new(store)?;
    let mut done = Progress {
        rows: 0,
        bytes: 0,
        total_bytes,
        written: 0,
    };
    let field_columns = if format == Format::Parquet {
        let directory = spool.directory().to_path_buf();
        files::read_parquet(file, reader, &directory, &encoder, &mut |block, bytes| {
            spool.push(block)?;
            (done.rows, done.bytes) = (spool.rows, bytes);
            progress(done);
            Ok(())
        })?
    } else {
        read_lines(file, format, reader, &encoder, &mut |block, bytes| {
            spool.push(block)?;
            (done.rows, done.bytes) = (spool.rows, done.bytes + bytes);
            progress(done);
            Ok(())
        })?
    };
    if spool.rows == 0 && options.replace_all {
        return Err(files::error_of(
            file,
            "the file has no customers, and replacing all would delete every one: delete them by id if that is meant",
        ));
    }
    let unusable = spool.unusable;
    let mut merge = spool.merge()?;
    let duplicate =
        |id: &str, first: u64, second: u64| files::duplicate(file, format, id, first, second);
    let applied = write(
        store,
        clock,
        &mut merge,
        options.replace_all,
        &duplicate,
        &mut |written| {
            done.written = written;
            progress(done);
        },
    )?;
    Ok(ImportSummary::new(applied, &unusable, field_columns))
}

fn read_lines(
    file: &str,
    format: Format,
    reader: &mut (dyn Read + Send),
    encoder: &Encoder,
    take: &mut dyn FnMut(Block, u64) -> Result<(), Error>,
) -> Result<Vec<String>, Error> {
    let mut reader = ChunkReader::new(file, format, reader);
    let Some(mut first) = reader.next()? else {
        return Err(files::error_of(file, "the file is empty"));
    };
    let lines = Lines::start(file, format, &mut first)?;
    let at_once = 2 * rayon::current_num_threads();
    let mut chunks = vec![first];
    loop {
        while chunks.len() < at_once
            && let Some(chunk) = reader.next()?
        {
            chunks.push(chunk);
        }
        if chunks.is_empty() {
            return Ok(lines.field_columns());
        }
        let blocks: Vec<Result<Block, Error>> = chunks
            .par_iter()
            .map(|chunk| lines.block(chunk, encoder))
            .collect();
        // In the file's order, so that the error reported is the file's first.
        for (block, chunk) in blocks.into_iter().zip(chunks.drain(..)) {
            take(block?, chunk.bytes.len() as u64)?;
        }
    }
}

/// Writes sorted customers in one transaction.
pub(super) fn write(
    store: &Store,
    clock: &dyn Clock,
    merge: &mut Merge,
    replace_all: bool,
    duplicate: &dyn Fn(&str, u64, u64) -> Error,
    progress: &mut dyn FnMut(u64),
) -> Result<Applied, Error> {
    store.write_blocking(|transaction| {
        apply::apply(
            transaction,
            merge,
            Plan {
                replace_all,
                now: clock.now(),
                duplicate,
                progress,
            },
        )
    })
}

pub use apply::bring_keys_up_to_date;
