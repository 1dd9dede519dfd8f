//! Records from files: CSV, NDJSON, and Parquet where it is built in.

mod columns;
mod csv;
mod ndjson;
#[cfg(feature = "parquet")]
mod parquet;

use std::{
    io::{self, Read},
    sync::LazyLock,
};

use overlap_proto::v1::{self, RecordFileFormat as Format, import_records_request::Part};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};

use super::{
    batch::{Batch, Refusals},
    kind::Kind,
    store::Outcome,
    times::Nanos,
};
#[cfg(not(feature = "parquet"))]
use crate::error::Reason;
use crate::{customers::files, error::Error, storage::Store, streams::Messages};

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(overlap_proto::DESCRIPTORS).expect("compiled from our own .proto files")
});

fn message(name: &str) -> MessageDescriptor {
    POOL.get_message_by_name(name)
        .expect("a message of our own .proto files")
}

/// Takes the file in that `messages` carry. Blocks.
///
/// # Errors
/// Every wrong field with file, line and column.
pub(super) fn import(
    mut messages: Messages<v1::ImportRecordsRequest>,
    store: &Store,
    now: Nanos,
) -> Result<Outcome, Refusals> {
    let first = messages.next()?;
    let Some(Part::Header(header)) = first.and_then(|message| message.part) else {
        return Err(Error::invalid("header", "must come first").into());
    };
    let kind = match v1::RecordKind::try_from(header.kind) {
        Ok(kind) => Kind::from_proto(kind),
        Err(_) => return Err(Error::invalid("header.kind", "is not a known kind").into()),
    };
    let file = match header.file_name.as_str() {
        "" => "file".to_owned(),
        name => name.to_owned(),
    };
    let chunks = Chunks {
        messages,
        chunk: Vec::new(),
        at: 0,
        ended: false,
    };
    let mut batch = Batch::new(now);
    let of_one_kind = |format: &str| {
        kind.ok_or_else(|| Error::invalid("header.kind", format!("must be set for {format}")))
    };
    match Format::try_from(header.format) {
        Ok(Format::Ndjson) => ndjson::read(&mut batch, chunks, &file, kind)?,
        Ok(Format::Csv) => csv::read(&mut batch, chunks, &file, of_one_kind("CSV")?)?,
        #[cfg(feature = "parquet")]
        Ok(Format::Parquet) => {
            parquet::read(&mut batch, chunks, &file, of_one_kind("Parquet")?)?;
        }
        #[cfg(not(feature = "parquet"))]
        Ok(Format::Parquet) => {
            return Err(Error::new(
                Reason::Unimplemented,
                format!("{file}: this node was built without Parquet: build it with `--features parquet`, or send CSV or NDJSON"),
            )
            .into());
        }
        _ => {
            return Err(Error::invalid("header.format", "must be CSV, NDJSON or Parquet").into());
        }
    }
    batch.store(store)
}

/// The file's bytes, as they arrive.
struct Chunks {
    messages: Messages<v1::ImportRecordsRequest>,
    chunk: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.chunk.len() {
            if self.ended {
                return Ok(0);
            }
            match self.messages.next().map_err(io::Error::other)? {
                None => self.ended = true,
                Some(v1::ImportRecordsRequest { part: None, .. }) => {}
                Some(v1::ImportRecordsRequest {
                    part: Some(Part::Chunk(chunk)),
                    ..
                }) => (self.chunk, self.at) = (chunk, 0),
                Some(_) => return Err(io::Error::other("a header after the first message")),
            }
        }
        let count = buffer.len().min(self.chunk.len() - self.at);
        buffer[..count].copy_from_slice(&self.chunk[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

fn unreadable(file: &str, error: &io::Error) -> Refusals {
    files::unreadable(file, error).into()
}

/// Reads a file as [`import`] does, and forgets the records.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(
    now: Nanos,
    kind: Option<Kind>,
    format: Format,
    bytes: &[u8],
) -> Result<(), Refusals> {
    let mut batch = Batch::new(now);
    match (format, kind) {
        (Format::Csv, Some(kind)) => csv::read(&mut batch, bytes, "file", kind)?,
        #[cfg(feature = "parquet")]
        (Format::Parquet, Some(kind)) => parquet::read(&mut batch, bytes, "file", kind)?,
        _ => ndjson::read(&mut batch, bytes, "file", kind)?,
    }
    match batch.take_refused() {
        refused if refused.is_empty() => Ok(()),
        refused => Err(Refusals::Fields(refused)),
    }
}

/// The refused fields so far.
fn finish(batch: &mut Batch) -> Refusals {
    Refusals::Fields(batch.take_refused())
}

fn typed(message: &DynamicMessage) -> Result<v1::Record, String> {
    message
        .transcode_to()
        .map_err(|error| format!("is not a record: {error}"))
}
