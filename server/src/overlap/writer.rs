//! Writes what a run found as immutable sorted files.

use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    files::{FileEntry, FileWriter, Sections, Table as _},
    graph::Graph,
    layer::{EntriesWriter, MembersWriter},
    part::Column,
    reader::ResultSet,
};
use crate::{
    error::Error,
    matching::{
        local_customers::{LocalCustomers, RowText, Salt},
        spool::{RecordReader, RecordWriter, SortedStream, Sorter, sync_directory},
    },
};

/// The longest search text of one customer.
pub(super) const MAX_SEARCH_BYTES: usize = 4096;

/// What the database keeps of a result's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub(super) files: Vec<FileEntry>,
    pub(super) shared: u64,
    /// The salt of `matched_keys`, hexadecimal.
    pub(super) salt: String,
    /// The layer over them, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) layer: Option<Sections>,
}

impl Manifest {
    /// Number of shared customers that are listed.
    #[must_use]
    pub const fn shared(&self) -> u64 {
        self.shared
    }
}

/// What goes into a result's files.
pub(crate) struct Found<'a> {
    /// My customers of the run.
    pub local: &'a LocalCustomers,
    /// What the edges made of them.
    pub graph: &'a Graph,
    /// The salt of the run's key hashes.
    pub salt: &'a Salt,
    /// The last good result, for the time of first match: left aside from where it cannot be read.
    pub previous: Option<&'a ResultSet>,
    /// The time of this run.
    pub now: Timestamp,
    /// Bytes of a sorter's buffer.
    pub sort_bytes: usize,
}

impl Found<'_> {
    /// Writes the files beside that of the matched keys into `directory` and makes them durable. Temporary files go to `scratch`.
    ///
    /// # Errors
    /// What the store or the file system reports.
    pub(crate) fn write(
        &self,
        matched_keys: FileEntry,
        directory: &Path,
        scratch: &Path,
    ) -> Result<Manifest, Error> {
        let mut files = vec![matched_keys];
        let mut spread = Spread {
            main: RecordWriter::create(&scratch.join("main"))?,
            extras: Sorter::new(scratch, "extras", self.sort_bytes),
            members: MembersWriter::create(directory)?,
        };
        self.spread_rows(&mut spread)?;
        files.extend(spread.members.finish()?);

        files.extend(self.gather(
            directory,
            spread.main.finish()?.reader()?,
            spread.extras.finish()?.stream()?,
        )?);
        files.push(self.write_handles(directory)?);
        sync_directory(directory)?;
        Ok(Manifest {
            files,
            shared: self.graph.len().into(),
            salt: hex::encode(self.salt),
            layer: None,
        })
    }

    /// Visits my matched rows by id. The row that names a shared customer comes in the order of positions, so only the
    /// others need sorting.
    fn spread_rows(&self, spread: &mut Spread) -> Result<(), Error> {
        let rows = self.local.rows();
        let mut texts = self.local.row_texts()?;
        let mut previous = self.previous.map(|previous| previous.members(rows));
        for row in 0..u32::try_from(rows).map_err(|_| incomplete())? {
            let Some(position) = self.graph.of_customer(self.local.customer(row)) else {
                continue;
            };
            let RowText { id, name, domains } = texts.at(row)?;
            let first_matched = match previous.as_mut().map(|members| members.first_matched(id)) {
                Some(Ok(first_matched)) => first_matched,
                Some(Err(error)) => {
                    tracing::warn!(%error, "the last result cannot be read: what it found is taken for found now");
                    previous = None;
                    None
                }
                None => None,
            };
            spread.row(
                position,
                (!self.graph.is_naming(row)).then_some(row),
                id,
                name,
                &search_text(name, domains),
                first_matched.unwrap_or(self.now.as_second()),
            )?;
        }
        Ok(())
    }

    /// Merges rows, further rows and shared customers, all by position.
    fn gather(
        &self,
        directory: &Path,
        mut main: RecordReader,
        mut extras: SortedStream,
    ) -> Result<Vec<FileEntry>, Error> {
        let mut entries = EntriesWriter::create(directory)?;
        let mut extra = extras.next_record()?.map(<[u8]>::to_vec);
        let (mut record, mut text) = (Vec::new(), Vec::new());
        let mut components = self.graph.components()?;
        let mut position = 0_u32;
        while let Some((component, own_handle, their_fields)) = components.next_component()? {
            let row = main.next_record()?.ok_or_else(incomplete)?;
            let row = Row::parse(row).ok_or_else(incomplete)?;
            let mut first_matched = row.first_matched;
            let (mut ids, mut count) = (Vec::new(), 1);
            push_text(&mut ids, row.id)?;
            text.clear();
            text.extend_from_slice(row.text);
            while let Some(bytes) = &extra {
                if bytes[..4] != position.to_be_bytes() {
                    break;
                }
                let more = Row::parse(&bytes[8..]).ok_or_else(incomplete)?;
                first_matched = first_matched.min(more.first_matched);
                push_text(&mut ids, more.id)?;
                count += 1;
                if text.len() + more.text.len() < MAX_SEARCH_BYTES {
                    text.push(b'\n');
                    text.extend_from_slice(more.text);
                }
                extra = extras.next_record()?.map(<[u8]>::to_vec);
            }
            let column = Column {
                mine: component.mine,
                theirs: component.theirs,
                key_types: component.key_types,
                mutual: component.mutual,
                first_matched,
            };
            record.clear();
            record.extend_from_slice(own_handle);
            push_text(&mut record, row.name)?;
            push_count(&mut record, count)?;
            record.extend_from_slice(&ids);
            record.extend_from_slice(their_fields);
            entries.push(&column.to_bytes(), &record, &text)?;
            position += 1;
        }
        entries.finish()
    }

    fn write_handles(&self, directory: &Path) -> Result<FileEntry, Error> {
        let mut file = FileWriter::create(directory, "handles")?;
        let mut stream = self.graph.handles().stream()?;
        let mut last = Vec::new();
        while let Some(record) = stream.next_record()? {
            if record != last {
                file.push(record)?;
                last.clear();
                last.extend_from_slice(record);
            }
        }
        file.finish()
    }
}

/// Writes the salted hashes of the keys that matched.
pub(crate) struct MatchedKeysWriter(FileWriter);

impl MatchedKeysWriter {
    /// Creates the file of a result.
    pub(crate) fn create(directory: &Path) -> Result<Self, Error> {
        Ok(Self(FileWriter::create(directory, "matched_keys")?))
    }

    /// Adds a key; hashes ascend.
    pub(crate) fn push(&mut self, hash: &[u8; 16]) -> Result<(), Error> {
        self.0.push(hash)
    }

    /// Makes the file durable.
    pub(crate) fn finish(self) -> Result<FileEntry, Error> {
        self.0.finish()
    }
}

fn incomplete() -> Error {
    Error::internal("the parts of a result do not fit together")
}

/// Where my rows go.
struct Spread {
    main: RecordWriter,
    extras: Sorter,
    members: MembersWriter<FileWriter>,
}

impl Spread {
    /// `further` is the row's number if it is not the one that names its shared customer.
    fn row(
        &mut self,
        position: u32,
        further: Option<u32>,
        id: &str,
        name: &str,
        text: &[u8],
        first_matched: i64,
    ) -> Result<(), Error> {
        self.members
            .push(id.as_bytes(), position, further.is_none())?;
        let id_length = u16::try_from(id.len()).map_err(|_| incomplete())?;
        let name_length = u16::try_from(name.len()).map_err(|_| incomplete())?;
        let time = first_matched.to_be_bytes();
        let (id_length, name_length) = (id_length.to_be_bytes(), name_length.to_be_bytes());
        if let Some(row) = further {
            self.extras.push(&[
                &position.to_be_bytes(),
                &row.to_be_bytes(),
                &time,
                &id_length,
                id.as_bytes(),
                &[0, 0],
                text,
            ])
        } else {
            self.main.push(&[
                &time,
                &id_length,
                id.as_bytes(),
                &name_length,
                name.as_bytes(),
                text,
            ])
        }
    }
}

/// A matched row of mine on its way.
struct Row<'a> {
    first_matched: i64,
    id: &'a [u8],
    name: &'a [u8],
    text: &'a [u8],
}

impl<'a> Row<'a> {
    fn parse(record: &'a [u8]) -> Option<Self> {
        let (time, rest) = record.split_first_chunk::<8>()?;
        let (id, rest) = split_text(rest)?;
        let (name, text) = split_text(rest)?;
        Some(Self {
            first_matched: i64::from_be_bytes(*time),
            id,
            name,
            text,
        })
    }
}

/// Splits off a text with its length before it as two bytes.
pub(super) fn split_text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// Appends a text with its length before it as two bytes.
pub(super) fn push_text(record: &mut Vec<u8>, text: &[u8]) -> Result<(), Error> {
    let length = u16::try_from(text.len()).map_err(|_| Error::internal("a long text"))?;
    record.extend_from_slice(&length.to_be_bytes());
    record.extend_from_slice(text);
    Ok(())
}

/// Stands for a count that four more bytes hold.
const LONG_COUNT: u16 = u16::MAX;

/// Splits off a count that [`push_count`] appended.
pub(super) fn split_count(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (count, rest) = bytes.split_first_chunk::<2>()?;
    match u16::from_be_bytes(*count) {
        LONG_COUNT => {
            let (count, rest) = rest.split_first_chunk::<4>()?;
            Some((u32::from_be_bytes(*count), rest))
        }
        count => Some((count.into(), rest)),
    }
}

/// Appends a count: two bytes, or [`LONG_COUNT`] and four.
pub(super) fn push_count(record: &mut Vec<u8>, count: usize) -> Result<(), Error> {
    match u16::try_from(count) {
        Ok(count) if count != LONG_COUNT => record.extend_from_slice(&count.to_be_bytes()),
        _ => {
            let count = u32::try_from(count).map_err(|_| Error::internal("more than 2^32 rows"))?;
            record.extend_from_slice(&LONG_COUNT.to_be_bytes());
            record.extend_from_slice(&count.to_be_bytes());
        }
    }
    Ok(())
}

/// The text that a search looks through: case-folded, one line each.
///
/// `domains` are one a line.
pub(crate) fn search_text(name: &str, domains: &str) -> Vec<u8> {
    let mut text = fold(name);
    if !domains.is_empty() {
        text.push('\n');
        text.push_str(&fold(domains));
    }
    while text.len() > MAX_SEARCH_BYTES {
        text.pop();
    }
    text.into_bytes()
}

/// The case-folded form in which texts are compared.
pub(super) fn fold(text: &str) -> String {
    text.to_lowercase()
}

/// The text of a shared customer: that of its naming row, and those of the others as far as there is room.
pub(crate) fn join_texts<'a>(first: &[u8], others: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut text = first.to_vec();
    for other in others {
        if text.len() + other.len() < MAX_SEARCH_BYTES {
            text.push(b'\n');
            text.extend_from_slice(other);
        }
    }
    text
}
