//! My rows that are part of shared customers, by id.

use super::{
    files::ResultFile,
    part::{BLOCK, MEMBER_TAIL_BYTES, Part},
};
use crate::error::Error;

/// A row of mine that is part of a shared customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member<'a> {
    pub(super) id: &'a [u8],
    pub(super) number: u32,
    pub(super) is_naming: bool,
}

fn malformed() -> Error {
    Error::internal("a member record is malformed")
}

/// Consecutive rows of mine, as they are stored.
#[derive(Default)]
pub(super) struct Members {
    records: Vec<u8>,
    /// Where each starts in its file, and where the last ends.
    starts: Vec<[u8; 8]>,
}

impl Members {
    pub(super) fn read(
        (members, offsets): (&ResultFile, &ResultFile),
        start: u64,
        end: u64,
    ) -> Result<Self, Error> {
        let count = offsets.bytes() / 8;
        let bytes = offsets.range(start * 8, (end + 1).min(count) * 8)?;
        let mut starts = bytes.as_chunks::<8>().0.to_vec();
        if end == count {
            starts.push(members.bytes().to_be_bytes());
        }
        let (Some(first), Some(last)) = (starts.first(), starts.last()) else {
            return Ok(Self::default());
        };
        Ok(Self {
            records: members.range(u64::from_be_bytes(*first), u64::from_be_bytes(*last))?,
            starts,
        })
    }

    pub(super) const fn len(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    pub(super) fn get(&self, place: usize) -> Result<Member<'_>, Error> {
        self.parse(place).ok_or_else(malformed)
    }

    fn parse(&self, place: usize) -> Option<Member<'_>> {
        let first = u64::from_be_bytes(*self.starts.first()?);
        let at = |place: usize| {
            let start = u64::from_be_bytes(*self.starts.get(place)?);
            usize::try_from(start.checked_sub(first)?).ok()
        };
        let record = self.records.get(at(place)?..at(place + 1)?)?;
        let (id, [number @ .., naming]) = record.split_last_chunk::<MEMBER_TAIL_BYTES>()?;
        Some(Member {
            id,
            number: u32::from_be_bytes(*number),
            is_naming: *naming == 1,
        })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Result<Member<'_>, Error>> {
        (0..self.len()).map(|place| self.get(place))
    }

    /// The first place, not before `from`, of a row whose id is not less.
    fn lower_bound(&self, from: usize, id: &[u8]) -> Result<usize, Error> {
        let (mut low, mut high) = (from, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.get(middle)?.id < id {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// The last row that names a shared customer, of those from `from` to `to`.
    fn last_naming(&self, from: usize, to: usize) -> Result<Option<Member<'_>>, Error> {
        for place in (from..to).rev() {
            let member = self.get(place)?;
            if member.is_naming {
                return Ok(Some(member));
            }
        }
        Ok(None)
    }
}

/// Reads rows of mine by ascending id.
pub(super) struct MemberCursor<'a> {
    part: &'a Part,
    /// Whether reading everything is less work than looking for each.
    is_dense: bool,
    /// The rows that were read, how many of them were passed, and the number of the next one.
    block: Members,
    passed: usize,
    next: u64,
    /// Shared customers whose naming rows were passed.
    named: u64,
}

impl<'a> MemberCursor<'a> {
    /// For looking up `many` ids.
    pub(super) fn new(part: &'a Part, many: usize) -> Self {
        Self {
            part,
            is_dense: many as u64 > part.member_count() / 1024,
            block: Members::default(),
            passed: 0,
            next: 0,
            named: 0,
        }
    }

    /// The shared customer that row `id` belongs to.
    pub(super) fn find(&mut self, id: &[u8]) -> Result<Option<u64>, Error> {
        self.seek(id)?;
        if self.passed == self.block.len() {
            return Ok(None);
        }
        let member = self.block.get(self.passed)?;
        Ok((member.id == id).then_some(member.number.into()))
    }

    /// How many shared customers have ids before `id`.
    pub(super) fn named_before(&mut self, id: &[u8]) -> Result<u64, Error> {
        self.seek(id)?;
        Ok(self.named)
    }

    /// Goes to the first row whose id is not less.
    fn seek(&mut self, id: &[u8]) -> Result<(), Error> {
        let count = self.part.member_count();
        if !self.is_dense && self.is_beyond_block(id)? {
            self.next = self.part.member_from(id)?;
            self.block = Members::default();
            self.passed = 0;
            // The last naming row before says how many there are.
            let mut end = self.next;
            self.named = 0;
            while end > 0 && self.named == 0 {
                let start = end.saturating_sub(8);
                let members = self.part.members(start, end)?;
                self.note_named(&members, 0, members.len())?;
                end = start;
            }
        }
        loop {
            let until = self.block.lower_bound(self.passed, id)?;
            let block = std::mem::take(&mut self.block);
            self.note_named(&block, self.passed, until)?;
            self.block = block;
            self.passed = until;
            if until < self.block.len() || self.next == count {
                return Ok(());
            }
            let length = if self.is_dense { BLOCK } else { 8 };
            let end = (self.next + length).min(count);
            self.block = self.part.members(self.next, end)?;
            self.passed = 0;
            self.next = end;
        }
    }

    fn is_beyond_block(&self, id: &[u8]) -> Result<bool, Error> {
        Ok(match self.block.len().checked_sub(1) {
            Some(last) => self.block.get(last)?.id < id,
            None => true,
        })
    }

    fn note_named(&mut self, members: &Members, from: usize, to: usize) -> Result<(), Error> {
        if let Some(member) = members.last_naming(from, to)? {
            self.named = u64::from(member.number) + 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            files::{FileWriter, Table as _},
            layer::{EntriesWriter, MembersWriter},
            part::open,
        },
        *,
    };

    /// Shared customers of one to three rows, whose ids lie between each other; the first id names.
    fn rows(count: u32) -> Vec<(Vec<u8>, u32, bool)> {
        let id = |number: u32| format!("{number:07}").into_bytes();
        let mut rows = Vec::new();
        for number in 0..count {
            rows.push((id(10 * number), number, true));
            for more in 0..number % 3 {
                rows.push((id(10 * number + 13 + 20 * more), number, false));
            }
        }
        rows.sort();
        rows
    }

    fn part(directory: &std::path::Path, rows: &[(Vec<u8>, u32, bool)]) -> Part {
        let mut members = MembersWriter::create(directory).unwrap();
        for (id, number, is_naming) in rows {
            members.push(id, *number, *is_naming).unwrap();
        }
        let mut files = members.finish().unwrap();
        let mut entries = EntriesWriter::create(directory).unwrap();
        entries.push(&[0; 12], b"record", b"text").unwrap();
        files.extend(entries.finish().unwrap());
        let mut handles = FileWriter::create(directory, "handles").unwrap();
        handles.push(&[0; 20]).unwrap();
        files.push(handles.finish().unwrap());
        Part::open(|name| open(directory, &files, name)).unwrap()
    }

    #[test]
    fn ids_are_found_in_both_ways_and_customers_before_them_counted() {
        for count in [0, 1, 2, 9, 5_000] {
            let directory = tempfile::tempdir().unwrap();
            let rows = rows(count);
            let part = part(directory.path(), &rows);
            assert_eq!(part.member_count(), rows.len() as u64);
            let all = part.all_members().unwrap();
            let read: Vec<_> = all
                .iter()
                .map(|member| {
                    let member = member.unwrap();
                    (member.id.to_vec(), member.number, member.is_naming)
                })
                .collect();
            assert_eq!(read, rows);
            for is_dense in [true, false] {
                for step in [1, 3, 700, 20_000] {
                    let mut cursor = MemberCursor {
                        is_dense,
                        ..MemberCursor::new(&part, 0)
                    };
                    for wanted in (0..10 * count + 30).step_by(step) {
                        let id = format!("{wanted:07}").into_bytes();
                        let expected = rows.iter().find(|(other, ..)| *other == id);
                        let named = rows.partition_point(|(other, ..)| *other < id);
                        let named = rows[..named].iter().filter(|(.., naming)| *naming).count();
                        if step == 700 || wanted % 50 == 0 {
                            assert_eq!(cursor.named_before(&id).unwrap(), named as u64);
                            assert_eq!(
                                cursor.find(&id).unwrap(),
                                expected.map(|(_, number, _)| u64::from(*number)),
                                "{wanted} of {count}, dense {is_dense}"
                            );
                        }
                    }
                }
            }
        }
    }
}
