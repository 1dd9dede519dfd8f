//! Reads a result: pages, single customers, handles.

use std::path::Path;

use overlap_crypto::terms::KeyType;

use super::{
    files::ResultFile,
    graph::{HANDLE_BYTES, Handle, KeyTypes},
    writer::{Manifest, fold, split_text},
};
use crate::{error::Error, matching::local_customers::key_hash};

/// Bytes of a record of `columns`.
const COLUMN_BYTES: u64 = 12;
/// Bytes of a record of `offsets`.
const OFFSET_BYTES: u64 = 16;
/// Positions that are looked at in one go.
const BLOCK: u64 = 8192;

/// The files of one run's result, held open: they stay readable even while a later result takes their place.
pub struct ResultSet {
    columns: ResultFile,
    offsets: ResultFile,
    shared: ResultFile,
    search: ResultFile,
    members: ResultFile,
    member_offsets: ResultFile,
    handles: ResultFile,
    matched_keys: ResultFile,
    salt: [u8; 32],
    count: u64,
}

/// What can be told of a shared customer without looking it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// My stage.
    pub mine: u8,
    /// The partner's stage.
    pub theirs: u8,
    /// The kinds of keys that matched.
    pub key_types: KeyTypes,
    /// Whether the partner sees who it is, too.
    pub mutual: bool,
    /// Unix time of the first run that found it.
    pub first_matched: i64,
}

impl Column {
    fn parse(record: &[u8]) -> Self {
        Self {
            mine: record[0],
            theirs: record[1],
            key_types: KeyTypes::from_bits(record[2]),
            mutual: record[3] != 0,
            first_matched: i64::from_be_bytes(record[4..12].try_into().expect("eight bytes")),
        }
    }
}

/// A shared customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// Its number in ascending order of ids.
    pub position: u64,
    /// Stages, key types, times.
    pub column: Column,
    /// My row of highest stage (ties: smallest id).
    pub id: String,
    /// All my rows, ascending.
    pub ids: Vec<String>,
    /// Its name when the run ended.
    pub name: String,
    /// My handle for it.
    pub handle: Handle,
    /// The partner's fields as the partner sent them.
    pub fields: Vec<u8>,
}

/// Which shared customers to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only this stage of mine.
    pub mine: Option<u8>,
    /// Only this stage of the partner's.
    pub theirs: Option<u8>,
    /// Only those whose name or domain contains this.
    pub search: String,
    /// Only these positions, ascending.
    pub positions: Option<Vec<u64>>,
}

impl Filter {
    fn admits(&self, column: Column) -> bool {
        self.mine.is_none_or(|stage| stage == column.mine)
            && self.theirs.is_none_or(|stage| stage == column.theirs)
    }
}

/// A part of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Ascending by id.
    pub customers: Vec<Shared>,
    /// How many there are in all.
    pub total: u64,
    /// Whether more follow.
    pub more: bool,
}

impl ResultSet {
    /// Opens the files of a result.
    ///
    /// # Errors
    /// `STORAGE_FAILED` if one is missing or has another length than was written.
    pub fn open(directory: &Path, manifest: &Manifest) -> Result<Self, Error> {
        let open = |name: &str| {
            let entry = manifest
                .files
                .iter()
                .find(|entry| entry.name == name)
                .ok_or_else(|| Error::internal(format!("a result has no file {name}")))?;
            ResultFile::open(directory, entry)
        };
        let mut salt = [0; 32];
        hex::decode_to_slice(&manifest.salt, &mut salt)
            .map_err(|_| Error::internal("a result's salt is malformed"))?;
        Ok(Self {
            columns: open("columns")?,
            offsets: open("offsets")?,
            shared: open("shared")?,
            search: open("search")?,
            members: open("members")?,
            member_offsets: open("member_offsets")?,
            handles: open("handles")?,
            matched_keys: open("matched_keys")?,
            salt,
            count: manifest.shared,
        })
    }

    /// Number of shared customers.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What can be told of a shared customer without looking it up.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn column(&self, position: u64) -> Result<Column, Error> {
        let record: [u8; 12] = self.columns.array(position * COLUMN_BYTES)?;
        Ok(Column::parse(&record))
    }

    /// The shared customer at a position.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn shared(&self, position: u64) -> Result<Shared, Error> {
        let (start, _) = self.offset(position)?;
        let (end, _) = self.offset(position + 1)?;
        let record = self.shared.range(start, end)?;
        parse_shared(position, self.column(position)?, &record)
            .ok_or_else(|| Error::internal("a shared customer's record is malformed"))
    }

    /// The position of the shared customer that row `id` of mine belongs to.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn position_of_row(&self, id: &str) -> Result<Option<u64>, Error> {
        let count = self.member_offsets.bytes() / 8;
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low + (high - low) / 2;
            let (member, position) = self.member(middle, count)?;
            match member.as_slice().cmp(id.as_bytes()) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Ok(Some(position)),
            }
        }
        Ok(None)
    }

    /// The position of the shared customer that a handle names, mine or the partner's.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn position_of_handle(&self, handle: &Handle) -> Result<Option<u64>, Error> {
        let record = self.handles.search::<{ HANDLE_BYTES + 4 }>(handle)?;
        Ok(record.map(|record| {
            let position = record[HANDLE_BYTES..].try_into().expect("four bytes");
            u64::from(u32::from_be_bytes(position))
        }))
    }

    /// The first position whose id is greater than `id`.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn position_after(&self, id: &str) -> Result<u64, Error> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.shared(middle)?.id.as_str() <= id {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// Whether the run matched a key.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn matched(&self, key_type: KeyType, value: &str) -> Result<bool, Error> {
        let hash = key_hash(&self.salt, key_type, value);
        Ok(self.matched_keys.search::<16>(&hash)?.is_some())
    }

    /// Up to `size` shared customers from `start` on that pass the filter.
    ///
    /// `total` is how many pass in all, if that is known: else everything is looked through.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn page(
        &self,
        filter: &Filter,
        start: u64,
        size: usize,
        total: Option<u64>,
    ) -> Result<Page, Error> {
        let mut page = Page::default();
        let mut found = 0;
        let needle = fold(&filter.search);
        let mut look = |position: u64| -> Result<bool, Error> {
            found += 1;
            if position >= start {
                if page.customers.len() == size {
                    page.more = true;
                    return Ok(total.is_none());
                }
                page.customers.push(self.shared(position)?);
            }
            Ok(true)
        };
        let from = if total.is_some() { start } else { 0 };
        if let Some(positions) = &filter.positions {
            for &position in positions.iter().filter(|position| **position >= from) {
                if filter.admits(self.column(position)?)
                    && (needle.is_empty() || self.contains(position, &needle)?)
                    && !look(position)?
                {
                    break;
                }
            }
        } else {
            self.scan(filter, &needle, from, &mut look)?;
        }
        page.total = total.unwrap_or(found);
        Ok(page)
    }

    /// Visits the positions from `from` on that pass, until `look` wants no more.
    fn scan(
        &self,
        filter: &Filter,
        needle: &str,
        from: u64,
        look: &mut dyn FnMut(u64) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let mut start = from;
        while start < self.count {
            let end = (start + BLOCK).min(self.count);
            let columns = self
                .columns
                .range(start * COLUMN_BYTES, end * COLUMN_BYTES)?;
            let texts = if needle.is_empty() {
                None
            } else {
                Some(self.texts(start, end)?)
            };
            for (index, record) in columns.chunks_exact(12).enumerate() {
                if !filter.admits(Column::parse(record)) {
                    continue;
                }
                if texts
                    .as_ref()
                    .is_some_and(|texts| !texts.contain(index, needle))
                {
                    continue;
                }
                if !look(start + index as u64)? {
                    return Ok(());
                }
            }
            start = end;
        }
        Ok(())
    }

    fn texts(&self, start: u64, end: u64) -> Result<Texts, Error> {
        let offsets = self
            .offsets
            .range(start * OFFSET_BYTES, (end + 1) * OFFSET_BYTES)?;
        let ends: Vec<u64> = offsets
            .chunks_exact(16)
            .map(|record| u64::from_be_bytes(record[8..].try_into().expect("eight bytes")))
            .collect();
        let (first, last) = match (ends.first(), ends.last()) {
            (Some(first), Some(last)) => (*first, *last),
            _ => (0, 0),
        };
        Ok(Texts {
            bytes: self.search.range(first, last)?,
            ends,
        })
    }

    fn contains(&self, position: u64, needle: &str) -> Result<bool, Error> {
        Ok(self.texts(position, position + 1)?.contain(0, needle))
    }

    /// Where the records of a position start in `shared` and `search`.
    fn offset(&self, position: u64) -> Result<(u64, u64), Error> {
        let record: [u8; 16] = self.offsets.array(position * OFFSET_BYTES)?;
        let (halves, _) = record.as_chunks::<8>();
        Ok((u64::from_be_bytes(halves[0]), u64::from_be_bytes(halves[1])))
    }

    fn member(&self, index: u64, count: u64) -> Result<(Vec<u8>, u64), Error> {
        let start = u64::from_be_bytes(self.member_offsets.array(index * 8)?);
        let end = if index + 1 < count {
            u64::from_be_bytes(self.member_offsets.array((index + 1) * 8)?)
        } else {
            self.members.bytes()
        };
        split_member(self.members.range(start, end)?)
    }

    /// Streams my rows by id.
    pub(super) fn members(&self) -> Result<Members<'_>, Error> {
        Ok(Members {
            result: self,
            next: 0,
            count: self.member_offsets.bytes() / 8,
            block: std::collections::VecDeque::new(),
        })
    }
}

fn split_member(mut record: Vec<u8>) -> Result<(Vec<u8>, u64), Error> {
    let malformed = || Error::internal("a member record is malformed");
    let at = record.len().checked_sub(4).ok_or_else(malformed)?;
    let position = record[at..].try_into().expect("four bytes");
    record.truncate(at);
    Ok((record, u64::from(u32::from_be_bytes(position))))
}

/// Search texts of consecutive positions.
struct Texts {
    bytes: Vec<u8>,
    /// Where each text starts, and where the last ends.
    ends: Vec<u64>,
}

impl Texts {
    fn contain(&self, index: usize, needle: &str) -> bool {
        let at = |index: usize| {
            let relative = self.ends[index].saturating_sub(self.ends[0]);
            usize::try_from(relative).unwrap_or(usize::MAX)
        };
        self.bytes
            .get(at(index)..at(index + 1))
            .and_then(|text| std::str::from_utf8(text).ok())
            .is_some_and(|text| text.contains(needle))
    }
}

fn parse_shared(position: u64, column: Column, record: &[u8]) -> Option<Shared> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let (handle, rest) = record.split_first_chunk::<HANDLE_BYTES>()?;
    let (name, rest) = split_text(rest)?;
    let (count, mut rest) = rest.split_first_chunk::<2>()?;
    let mut ids = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (id, more) = split_text(rest)?;
        ids.push(text(id)?);
        rest = more;
    }
    let id = ids.first()?.clone();
    ids.sort();
    Some(Shared {
        position,
        column,
        id,
        ids,
        name: text(name)?,
        handle: *handle,
        fields: rest.to_vec(),
    })
}

/// My matched rows by ascending id.
pub(super) struct Members<'a> {
    result: &'a ResultSet,
    next: u64,
    count: u64,
    block: std::collections::VecDeque<(Vec<u8>, i64)>,
}

impl Members<'_> {
    /// When the shared customer of row `id` was first matched. Asked for ascending ids.
    pub(super) fn first_matched(&mut self, id: &str) -> Result<Option<i64>, Error> {
        loop {
            if self.block.is_empty() && !self.fill()? {
                return Ok(None);
            }
            let Some((member, time)) = self.block.front() else {
                return Ok(None);
            };
            match member.as_slice().cmp(id.as_bytes()) {
                std::cmp::Ordering::Less => {
                    self.block.pop_front();
                }
                std::cmp::Ordering::Equal => return Ok(Some(*time)),
                std::cmp::Ordering::Greater => return Ok(None),
            }
        }
    }

    /// Reads the next rows; `false` at the end.
    fn fill(&mut self) -> Result<bool, Error> {
        let end = (self.next + BLOCK).min(self.count);
        if self.next == end {
            return Ok(false);
        }
        let offsets = self.result.member_offsets.range(self.next * 8, end * 8)?;
        let mut starts: Vec<u64> = offsets
            .chunks_exact(8)
            .map(|start| u64::from_be_bytes(start.try_into().expect("eight bytes")))
            .collect();
        starts.push(if end < self.count {
            u64::from_be_bytes(self.result.member_offsets.array(end * 8)?)
        } else {
            self.result.members.bytes()
        });
        let bytes = self
            .result
            .members
            .range(starts[0], starts[starts.len() - 1])?;
        for bounds in starts.windows(2) {
            let relative = |offset: u64| {
                usize::try_from(offset.saturating_sub(starts[0])).unwrap_or(usize::MAX)
            };
            let record = bytes
                .get(relative(bounds[0])..relative(bounds[1]))
                .ok_or_else(|| Error::internal("member offsets are wrong"))?;
            let (member, position) = split_member(record.to_vec())?;
            let time = self.result.column(position)?.first_matched;
            self.block.push_back((member, time));
        }
        self.next = end;
        Ok(true)
    }
}
