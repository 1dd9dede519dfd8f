//! The files of a base or of a layer: shared customers by number, by id, by handle.

use std::path::Path;

use super::{
    files::{FileEntry, ResultFile},
    graph::{HANDLE_BYTES, Handle, KeyTypes},
    members::{Member, MemberCursor, Members},
    writer::{split_count, split_text},
};
use crate::error::Error;

/// Bytes of a record of `columns`.
pub(super) const COLUMN_BYTES: u64 = 12;
/// Bytes of a record of `offsets`.
const OFFSET_BYTES: u64 = 16;
/// Bytes of a record of `handles`.
pub(super) const HANDLE_RECORD_BYTES: usize = HANDLE_BYTES + 4;
/// Bytes of a member behind the id: number, whether it names the shared customer.
pub(super) const MEMBER_TAIL_BYTES: usize = 5;
/// Records that are read in one go.
pub(super) const BLOCK: u64 = 4096;
/// Records and texts that are read in one go, at least and at most.
const RECORDS_AT_A_TIME: [u64; 2] = [64, 2048];

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
    pub(super) fn parse(record: &[u8]) -> Self {
        Self {
            mine: record[0],
            theirs: record[1],
            key_types: KeyTypes::from_bits(record[2]),
            mutual: record[3] != 0,
            first_matched: i64::from_be_bytes(record[4..12].try_into().expect("eight bytes")),
        }
    }

    pub(super) fn to_bytes(self) -> [u8; COLUMN_BYTES as usize] {
        let mut bytes = [0; COLUMN_BYTES as usize];
        bytes[0] = self.mine;
        bytes[1] = self.theirs;
        bytes[2] = self.key_types.bits();
        bytes[3] = self.mutual.into();
        bytes[4..].copy_from_slice(&self.first_matched.to_be_bytes());
        bytes
    }
}

/// What is stored of a shared customer besides its column.
pub(crate) struct Stored<'a> {
    pub(crate) handle: Handle,
    pub(crate) name: &'a str,
    /// My rows: first the one that names it.
    pub(crate) ids: Vec<&'a str>,
    pub(crate) fields: &'a [u8],
}

impl<'a> Stored<'a> {
    pub(super) fn parse(record: &'a [u8]) -> Result<Self, Error> {
        Self::parts(record)
            .ok_or_else(|| Error::internal("a shared customer's record is malformed"))
    }

    fn parts(record: &'a [u8]) -> Option<Self> {
        let text = |bytes| std::str::from_utf8(bytes).ok();
        let (handle, rest) = record.split_first_chunk::<HANDLE_BYTES>()?;
        let (name, rest) = split_text(rest)?;
        let (count, mut rest) = split_count(rest)?;
        let mut ids = Vec::new();
        for _ in 0..count {
            let (id, more) = split_text(rest)?;
            ids.push(text(id)?);
            rest = more;
        }
        ids.first()?;
        Some(Self {
            handle: *handle,
            name: text(name)?,
            ids,
            fields: rest,
        })
    }
}

/// The files of a base or of a layer.
pub(super) struct Part {
    columns: ResultFile,
    offsets: ResultFile,
    shared: ResultFile,
    search: ResultFile,
    members: ResultFile,
    member_offsets: ResultFile,
    handles: ResultFile,
}

/// Opens one of a result's files.
pub(super) fn open(directory: &Path, files: &[FileEntry], name: &str) -> Result<ResultFile, Error> {
    let entry = files
        .iter()
        .find(|entry| entry.name == name)
        .ok_or_else(|| Error::internal(format!("a result has no file {name}")))?;
    ResultFile::open(directory, entry)
}

impl Part {
    /// `open` opens what has a name.
    pub(super) fn open(open: impl Fn(&str) -> Result<ResultFile, Error>) -> Result<Self, Error> {
        Ok(Self {
            columns: open("columns")?,
            offsets: open("offsets")?,
            shared: open("shared")?,
            search: open("search")?,
            members: open("members")?,
            member_offsets: open("member_offsets")?,
            handles: open("handles")?,
        })
    }

    /// Number of shared customers.
    pub(super) fn len(&self) -> u64 {
        self.columns.bytes() / COLUMN_BYTES
    }

    pub(super) fn column(&self, number: u64) -> Result<Column, Error> {
        let record: [u8; 12] = self.columns.array(number * COLUMN_BYTES)?;
        Ok(Column::parse(&record))
    }

    /// The columns from `start` to `end`.
    pub(super) fn columns(&self, start: u64, end: u64) -> Result<Vec<u8>, Error> {
        self.columns.range(start * COLUMN_BYTES, end * COLUMN_BYTES)
    }

    /// The record of a shared customer, without its column.
    pub(super) fn record(&self, number: u64) -> Result<Vec<u8>, Error> {
        let (start, _) = self.offset(number)?;
        let (end, _) = self.offset(number + 1)?;
        self.shared.range(start, end)
    }

    /// The texts from `start` to `end`.
    pub(super) fn texts(&self, start: u64, end: u64) -> Result<Texts, Error> {
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

    /// Where the records of a number start in `shared` and `search`.
    fn offset(&self, number: u64) -> Result<(u64, u64), Error> {
        let record: [u8; 16] = self.offsets.array(number * OFFSET_BYTES)?;
        let (halves, _) = record.as_chunks::<8>();
        Ok((u64::from_be_bytes(halves[0]), u64::from_be_bytes(halves[1])))
    }

    /// Number of rows of mine.
    pub(super) fn member_count(&self) -> u64 {
        self.member_offsets.bytes() / 8
    }

    /// Rows of mine from `start` to `end`, by id.
    pub(super) fn members(&self, start: u64, end: u64) -> Result<Members, Error> {
        Members::read((&self.members, &self.member_offsets), start, end)
    }

    /// All rows of mine, by id.
    pub(super) fn all_members(&self) -> Result<Members, Error> {
        self.members(0, self.member_count())
    }

    /// Visits all rows of mine, by id.
    pub(super) fn visit_members(
        &self,
        visit: &mut dyn FnMut(Member<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let count = self.member_count();
        let mut start = 0;
        while start < count {
            let end = (start + BLOCK).min(count);
            for member in self.members(start, end)?.iter() {
                visit(member?)?;
            }
            start = end;
        }
        Ok(())
    }

    /// Reads the records and texts by ascending number.
    pub(super) fn records(&self) -> Result<Records<'_>, Error> {
        Ok(Records {
            part: self,
            start: 0,
            end: 0,
            columns: Vec::new(),
            stored_offsets: Vec::new(),
            offsets: Vec::new(),
            shared: Vec::new(),
            search: Vec::new(),
        })
    }

    /// The number of the first row of mine whose id is not less than `id`.
    pub(super) fn member_from(&self, id: &[u8]) -> Result<u64, Error> {
        let (mut low, mut high) = (0, self.member_count());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.members(middle, middle + 1)?.get(0)?.id < id {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// The shared customer that row `id` of mine belongs to.
    pub(super) fn of_row(&self, id: &str) -> Result<Option<u64>, Error> {
        let at = self.member_from(id.as_bytes())?;
        if at == self.member_count() {
            return Ok(None);
        }
        let members = self.members(at, at + 1)?;
        let member = members.get(0)?;
        Ok((member.id == id.as_bytes()).then_some(member.number.into()))
    }

    /// The shared customer that a handle names, mine or the partner's.
    pub(super) fn of_handle(&self, handle: &Handle) -> Result<Option<u64>, Error> {
        let record = self.handles.search::<HANDLE_RECORD_BYTES>(handle)?;
        Ok(record.map(|record| u64::from(number_of(&record))))
    }

    /// The shared customers that any of these handles names, which ascend.
    pub(super) fn of_handles(
        &self,
        handles: &[Handle],
        visit: &mut dyn FnMut(u64),
    ) -> Result<(), Error> {
        let count = self.handles.bytes() / HANDLE_RECORD_BYTES as u64;
        if (handles.len() as u64) < count / 1024 {
            for handle in handles {
                if let Some(number) = self.of_handle(handle)? {
                    visit(number);
                }
            }
            return Ok(());
        }
        // Reading everything is less work than looking for each.
        let mut wanted = handles.iter().peekable();
        let mut start = 0;
        let mut bytes = Vec::new();
        while start < count && wanted.peek().is_some() {
            let end = (start + BLOCK).min(count);
            let record = HANDLE_RECORD_BYTES as u64;
            self.handles
                .read_range(start * record, end * record, &mut bytes)?;
            let (records, _) = bytes.as_chunks::<HANDLE_RECORD_BYTES>();
            let mut from = 0;
            while let Some(handle) = wanted.peek() {
                from +=
                    records[from..].partition_point(|record| record[..HANDLE_BYTES] < handle[..]);
                let Some(record) = records.get(from) else {
                    break;
                };
                if record[..HANDLE_BYTES] == handle[..] {
                    visit(number_of(record).into());
                }
                wanted.next();
            }
            start = end;
        }
        Ok(())
    }

    /// The handles, each with a number.
    pub(super) const fn handles(&self) -> &ResultFile {
        &self.handles
    }

    /// Looks ids up that ascend; `many` of them.
    pub(super) fn member_cursor(&self, many: usize) -> MemberCursor<'_> {
        MemberCursor::new(self, many)
    }
}

/// The number at the end of a record of `handles`.
pub(super) fn number_of(record: &[u8; HANDLE_RECORD_BYTES]) -> u32 {
    u32::from_be_bytes(record[HANDLE_BYTES..].try_into().expect("four bytes"))
}

/// The column, the record and the text of a shared customer.
pub(super) type Parts<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// Reads records and texts by ascending number, many at a time.
pub(crate) struct Records<'a> {
    part: &'a Part,
    start: u64,
    end: u64,
    columns: Vec<u8>,
    stored_offsets: Vec<u8>,
    /// Where each starts in both files, and where the last ends.
    offsets: Vec<(u64, u64)>,
    shared: Vec<u8>,
    search: Vec<u8>,
}

impl Records<'_> {
    /// The column, the record and the text of a shared customer.
    pub(super) fn get(&mut self, number: u32) -> Result<Parts<'_>, Error> {
        let number = u64::from(number);
        if !(self.start..self.end).contains(&number) {
            self.load(number)?;
        }
        usize::try_from(number - self.start)
            .ok()
            .and_then(|at| self.parts(at))
            .ok_or_else(|| Error::internal("a result's offsets are wrong"))
    }

    fn parts(&self, at: usize) -> Option<Parts<'_>> {
        let [(shared, search), (shared_end, search_end)] = *self.offsets.get(at..at + 2)? else {
            return None;
        };
        let (first_shared, first_search) = self.offsets[0];
        let relative = |offset: u64, first| usize::try_from(offset.checked_sub(first)?).ok();
        let record = relative(shared, first_shared)?..relative(shared_end, first_shared)?;
        let text = relative(search, first_search)?..relative(search_end, first_search)?;
        let column = at * COLUMN_BYTES as usize;
        Some((
            self.columns.get(column..column + COLUMN_BYTES as usize)?,
            self.shared.get(record)?,
            self.search.get(text)?,
        ))
    }

    fn load(&mut self, number: u64) -> Result<(), Error> {
        // Close behind what was read: twice as much this time.
        let [least, most] = RECORDS_AT_A_TIME;
        let before = self.end - self.start;
        let follows = number >= self.end && number < self.end + before;
        let count = if follows { 2 * before } else { least };
        let end = (number + count.clamp(least, most)).min(self.part.len());
        let part = self.part;
        // Whatever fails from here on, nothing of it counts as read.
        (self.start, self.end) = (0, 0);
        part.columns
            .read_range(number * COLUMN_BYTES, end * COLUMN_BYTES, &mut self.columns)?;
        part.offsets.read_range(
            number * OFFSET_BYTES,
            (end + 1) * OFFSET_BYTES,
            &mut self.stored_offsets,
        )?;
        let half = |half: &[u8; 8]| u64::from_be_bytes(*half);
        let offsets = self.stored_offsets.as_chunks::<16>().0.iter();
        self.offsets.clear();
        self.offsets.extend(offsets.map(|record| {
            let (halves, _) = record.as_chunks::<8>();
            (half(&halves[0]), half(&halves[1]))
        }));
        let (Some(first), Some(last)) = (self.offsets.first(), self.offsets.last()) else {
            return Err(Error::internal("a result's offsets are wrong"));
        };
        part.shared.read_range(first.0, last.0, &mut self.shared)?;
        part.search.read_range(first.1, last.1, &mut self.search)?;
        (self.start, self.end) = (number, end);
        Ok(())
    }
}

/// Search texts of consecutive numbers.
pub(super) struct Texts {
    bytes: Vec<u8>,
    /// Where each text starts, and where the last ends.
    ends: Vec<u64>,
}

impl Texts {
    pub(super) fn contain(&self, index: usize, needle: &str) -> bool {
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
