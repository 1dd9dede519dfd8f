//! Parquet files that may be damaged or made to harm: rows, or a reason why there are none.
//!
//! The parquet crate believes what a file says of itself: it allocates what a header declares, recurses as deep as the schema
//! goes, panics where parts contradict each other, and reads as many rows as the footer speaks of, whatever there are. So the
//! footer ([`footer`]) and each page ([`pages`], [`values`]) are checked before it sees them, and its panics end here.
//!
//! Invariant: memory is bounded by constants, whatever the file says; a row is handed out only from a row group whose columns
//! agree so far, and the last one of a group only leads to the next if all of them had as many as the footer says.

mod codec;
mod footer;
mod header;
mod pages;
mod thrift;
mod values;

use std::{
    fs::File,
    io::{self, Read, Write as _},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::AtomicU64},
};

use parquet::{
    errors::ParquetError,
    file::metadata::ParquetMetaData,
    record::{
        Field, Row,
        reader::{ReaderIter, TreeBuilder},
    },
};

use pages::{Group, Progress};

/// Rows that the crate reads ahead of each column.
const BATCH_ROWS: usize = 256;
/// Bytes of a decimal number, and its digits after the point, as the largest of other systems.
const MAX_DECIMAL_BYTES: usize = 32;
const MAX_DECIMAL_SCALE: i32 = 76;
/// Bytes of what a reason quotes from the crate.
const MAX_REASON_BYTES: usize = 500;

/// Why a file is not read (any further).
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// It is not what it should be.
    #[error("not a whole Parquet file: {0}; export it again")]
    Damaged(String),
    /// It asks for more than there is, or for what this node does not do; says what to change.
    #[error("{0}")]
    Limit(String),
    /// Its temporary copy cannot be read, which is no fault of its own.
    #[error("the temporary copy of the file cannot be read: {0}")]
    Copy(io::Error),
}

impl Refused {
    fn damaged(problem: String) -> Self {
        Self::Damaged(problem)
    }

    fn limit(problem: impl Into<String>) -> Self {
        Self::Limit(problem.into())
    }

    fn contradiction() -> Self {
        Self::Damaged("its parts contradict each other".to_owned())
    }

    /// Adds the place of a page.
    fn of_column(self, column: &str, at: u64) -> Self {
        let place = |problem| format!("column \"{column}\", before byte {at}: {problem}");
        match self {
            Self::Damaged(problem) => Self::Damaged(place(problem)),
            Self::Limit(problem) => Self::Limit(place(problem)),
            copy @ Self::Copy(_) => copy,
        }
    }
}

impl From<Refused> for ParquetError {
    fn from(refused: Refused) -> Self {
        Self::External(Box::new(refused))
    }
}

impl From<ParquetError> for Refused {
    fn from(error: ParquetError) -> Self {
        let error = match error {
            ParquetError::External(error) => match error.downcast::<Self>() {
                Ok(refused) => return *refused,
                Err(error) => error.to_string(),
            },
            error => error.to_string(),
        };
        let end = error.floor_char_boundary(MAX_REASON_BYTES);
        Self::Damaged(error[..end].to_owned())
    }
}

/// Runs a piece of the parquet crate's work. It panics on files whose parts contradict each other; what it worked on is given up
/// then.
fn contained<T>(work: impl FnOnce() -> Result<T, Refused>) -> Result<T, Refused> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(Refused::contradiction()))
}

/// A number, truth value or time as text. Texts, lists and groups are their readers' own matter.
///
/// # Errors
/// What is wrong with the value: the crate panics on times out of range, and writes out as many digits as a file wishes.
pub(crate) fn text(value: &Field) -> Result<String, String> {
    const DAY_MILLIS: i32 = 24 * 60 * 60 * 1000;
    let sound = match value {
        Field::TimeMillis(time) => (0..DAY_MILLIS).contains(time),
        Field::TimeMicros(time) => (0..i64::from(DAY_MILLIS) * 1000).contains(time),
        Field::Decimal(decimal) => {
            decimal.data().len() <= MAX_DECIMAL_BYTES
                && (0..=MAX_DECIMAL_SCALE).contains(&decimal.scale())
        }
        _ => true,
    };
    let text = sound.then(|| contained(|| Ok(value.to_string())));
    match text {
        Some(Ok(text)) => Ok(text),
        _ => Err("the value is out of range".to_owned()),
    }
}

/// Why a file was not copied.
pub(crate) enum CopyError {
    /// Its source.
    Read(io::Error),
    /// The copy.
    Write(io::Error),
    /// It has more bytes than it may.
    TooLarge,
}

/// Copies a file of at most `limit` bytes, as Parquet is read from its end; returns its bytes.
pub(crate) fn copy(reader: &mut dyn Read, copy: &mut File, limit: u64) -> Result<u64, CopyError> {
    let mut buffer = vec![0; 128 * 1024];
    let mut total = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(length) => {
                total += length as u64;
                if total > limit {
                    return Err(CopyError::TooLarge);
                }
                copy.write_all(&buffer[..length])
                    .map_err(CopyError::Write)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(CopyError::Read(error)),
        }
    }
}

/// A file whose footer is sound.
pub(crate) struct ParquetFile {
    file: Arc<File>,
    metadata: ParquetMetaData,
}

impl ParquetFile {
    /// Reads the footer.
    ///
    /// # Errors
    /// [`Refused`].
    pub(crate) fn open(file: File) -> Result<Self, Refused> {
        let metadata = footer::read(&file)?;
        Ok(Self {
            file: Arc::new(file),
            metadata,
        })
    }

    /// The names of the columns, in the order of a row's values.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &str> {
        let schema = self.metadata.file_metadata().schema();
        schema.get_fields().iter().map(|column| column.name())
    }

    /// The rows; nothing follows an error.
    pub(crate) fn rows(&self) -> Rows<'_> {
        Rows {
            file: self,
            next_group: 0,
            group: None,
            decompressed: Arc::default(),
            ended: false,
        }
    }
}

/// The rows of a file.
pub(crate) struct Rows<'a> {
    file: &'a ParquetFile,
    next_group: usize,
    group: Option<(ReaderIter, Arc<Progress>)>,
    /// Bytes of all pages so far.
    decompressed: Arc<AtomicU64>,
    ended: bool,
}

impl Rows<'_> {
    fn row(&mut self) -> Result<Option<Row>, Refused> {
        let metadata = &self.file.metadata;
        loop {
            if let Some((rows, progress)) = &mut self.group {
                if let Some(row) = rows.next() {
                    return Ok(Some(row?));
                }
                pages::check_end(metadata.row_group(self.next_group - 1), progress)?;
                self.group = None;
            }
            if self.next_group == metadata.num_row_groups() {
                return Ok(None);
            }
            let group = Group::new(
                Arc::clone(&self.file.file),
                metadata.row_group(self.next_group),
                Arc::clone(&self.decompressed),
            );
            let schema = metadata.file_metadata().schema_descr_ptr();
            let rows = TreeBuilder::new()
                .with_batch_size(BATCH_ROWS)
                .as_iter(schema, &group)?;
            self.group = Some((rows, group.progress()));
            self.next_group += 1;
        }
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<Row, Refused>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let row = contained(|| self.row()).transpose();
        self.ended = !matches!(row, Some(Ok(_)));
        row
    }
}
