//! Sorting more records than fit in memory.

use std::{
    cmp::Ordering,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::records::{MAX_RECORD_BYTES, RecordFile, RecordReader, RecordWriter};
use crate::error::Error;

/// A sorter holds at least this many bytes before it spills.
const MIN_BUDGET_BYTES: usize = 1 << 16;
/// What the sorter spends on a record besides its bytes: its place, once more while places are sorted.
const INDEX_BYTES: usize = 2 * size_of::<Place>();
/// Places are first cut into so many parts by the leading bits that differ.
const PARTS_BITS: u32 = 10;
/// Fewer places than this are sorted without.
const MIN_PARTED: usize = 1 << 13;
/// Records that are fetched from memory together.
const FETCHED: usize = 32;
/// Bytes of a line of the cache.
const LINE_BYTES: usize = 64;

/// Leading eight bytes of a record and where it stands; its length stands before it.
type Place = (u64, u32);

/// Sorts records by their bytes, within a bounded buffer.
///
/// Records that are equal stay in no particular order. Sorting n records of b bytes each takes O(n log n) time, the budget in
/// memory, and n (b + 2) bytes of disk if they do not fit.
pub struct Sorter {
    directory: PathBuf,
    name: String,
    budget_bytes: usize,
    held: Held,
    spilled: Vec<RecordFile>,
    records: u64,
}

/// Records in memory.
#[derive(Default)]
struct Held {
    bytes: Vec<u8>,
    places: Vec<Place>,
}

impl Sorter {
    /// A sorter whose buffer takes up to `budget_bytes` and which spills to files called `name` in `directory`.
    #[must_use]
    pub fn new(directory: &Path, name: &str, budget_bytes: usize) -> Self {
        Self {
            directory: directory.to_owned(),
            name: name.to_owned(),
            budget_bytes: budget_bytes.clamp(MIN_BUDGET_BYTES, 1 << 30),
            held: Held::default(),
            spilled: Vec::new(),
            records: 0,
        }
    }

    /// Adds one record, the concatenation of `parts`.
    ///
    /// # Errors
    /// What the file system reports; `INTERNAL` if the record is too long.
    #[inline]
    pub fn push(&mut self, parts: &[&[u8]]) -> Result<(), Error> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if length >= MAX_RECORD_BYTES {
            return Err(Error::internal(format!(
                "a record of {length} bytes is too long to sort"
            )));
        }
        let held = self.held.bytes.len() + self.held.places.len() * INDEX_BYTES;
        if held + length + 2 + INDEX_BYTES > self.budget_bytes && !self.held.places.is_empty() {
            self.spill()?;
        }
        self.held.push(length as u16, parts);
        self.records += 1;
        Ok(())
    }

    /// Number of records so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.records
    }

    /// Whether there is no record yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Ends the input.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn finish(mut self) -> Result<Sorted, Error> {
        if !self.spilled.is_empty() && !self.held.places.is_empty() {
            self.spill()?;
        }
        if self.spilled.is_empty() {
            self.held.sort();
        } else {
            self.held = Held::default();
        }
        Ok(Sorted(Arc::new(SortedRuns {
            held: self.held,
            spilled: self.spilled,
            records: self.records,
        })))
    }

    #[cold]
    fn spill(&mut self) -> Result<(), Error> {
        self.held.sort();
        let path = self
            .directory
            .join(format!("{}.{}", self.name, self.spilled.len()));
        let mut file = RecordWriter::create(&path)?;
        for number in 0..self.held.places.len() {
            if let Some(record) = self.held.nth(number) {
                file.push(&[record])?;
            }
        }
        self.spilled.push(file.finish()?);
        self.held.bytes.clear();
        self.held.places.clear();
        Ok(())
    }
}

impl Held {
    #[inline]
    fn push(&mut self, length: u16, parts: &[&[u8]]) {
        let at = u32::try_from(self.bytes.len()).expect("the budget is at most 2^30 bytes");
        self.bytes.extend_from_slice(&length.to_le_bytes());
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.places
            .push((leading(&self.bytes[at as usize + 2..]), at));
    }

    fn at(&self, at: u32) -> &[u8] {
        let at = at as usize;
        let length = usize::from(u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]]));
        &self.bytes[at + 2..at + 2 + length]
    }

    /// Record number `number` in sorted order.
    #[inline]
    fn nth(&self, number: usize) -> Option<&[u8]> {
        if number.is_multiple_of(FETCHED) {
            self.fetch(number + FETCHED);
        }
        self.places.get(number).map(|&(_, at)| self.at(at))
    }

    /// Brings the records from `number` on into the cache. They lie anywhere: read one by one, each would be waited for.
    #[inline(never)]
    fn fetch(&self, number: usize) {
        let mut sum = 0;
        for (_, at) in self.places.iter().skip(number).take(FETCHED) {
            let start = *at as usize;
            let end = (start + LINE_BYTES).min(self.bytes.len() - 1);
            sum ^= self.bytes[start] ^ self.bytes[end];
        }
        std::hint::black_box(sum);
    }

    fn sort(&mut self) {
        let mut places = std::mem::take(&mut self.places);
        for part in part(&mut places) {
            part.sort_unstable_by(|left, right| {
                left.0
                    .cmp(&right.0)
                    .then_with(|| self.at(left.1).cmp(self.at(right.1)))
            });
        }
        self.places = places;
    }
}

/// Cuts places into parts, every place of one before every place of the next, by the first bits in which they differ. Tags
/// and hashes are uniform, so the parts are about equal then and small enough for the fast caches.
fn part(places: &mut Vec<Place>) -> Vec<&mut [Place]> {
    let differing = places
        .iter()
        .fold(0, |differing, place| differing | (place.0 ^ places[0].0));
    if places.len() < MIN_PARTED || differing == 0 {
        return vec![places];
    }
    // The bits above are the same in all.
    let shift = (u64::BITS - differing.leading_zeros()).saturating_sub(PARTS_BITS);
    let number = |place: &Place| (place.0 >> shift) as usize & ((1 << PARTS_BITS) - 1);
    let mut counts = [0; 1 << PARTS_BITS];
    for place in places.iter() {
        counts[number(place)] += 1;
    }
    let mut starts = counts;
    let mut sum = 0;
    for start in &mut starts {
        (*start, sum) = (sum, sum + *start);
    }
    let mut parted = vec![(0, 0); places.len()];
    for place in places.iter() {
        let next = &mut starts[number(place)];
        parted[*next] = *place;
        *next += 1;
    }
    *places = parted;
    let mut rest = places.as_mut_slice();
    let mut parts = Vec::with_capacity(counts.len());
    for count in counts {
        let (part, after) = rest.split_at_mut(count);
        parts.push(part);
        rest = after;
    }
    parts
}

/// The first eight bytes as a number that sorts like them.
#[inline]
fn leading(record: &[u8]) -> u64 {
    if let Some(head) = record.first_chunk() {
        return u64::from_be_bytes(*head);
    }
    let mut head = [0; 8];
    head[..record.len()].copy_from_slice(record);
    u64::from_be_bytes(head)
}

/// Sorted records, which can be streamed any number of times; clones share them.
#[derive(Clone)]
pub struct Sorted(Arc<SortedRuns>);

struct SortedRuns {
    /// All of them, if none were spilled.
    held: Held,
    spilled: Vec<RecordFile>,
    records: u64,
}

impl Sorted {
    /// Number of records.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.records
    }

    /// Whether there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Streams the records in ascending order.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn stream(&self) -> Result<SortedStream, Error> {
        let mut stream = SortedStream {
            runs: self.clone(),
            next: 0,
            readers: Vec::with_capacity(self.0.spilled.len()),
            heap: Vec::new(),
            started: false,
        };
        for file in &self.0.spilled {
            let mut reader = file.reader()?;
            if reader.advance()? {
                stream
                    .heap
                    .push((leading(reader.record()), stream.readers.len()));
                stream.readers.push(reader);
            }
        }
        for root in (0..stream.heap.len() / 2).rev() {
            stream.sift_down(root);
        }
        Ok(stream)
    }
}

/// A streaming merge of sorted runs.
pub struct SortedStream {
    runs: Sorted,
    /// Position among the records in memory.
    next: usize,
    readers: Vec<RecordReader>,
    /// A binary heap of readers, with the leading bytes of their records, the one with the least record on top.
    heap: Vec<(u64, usize)>,
    started: bool,
}

impl SortedStream {
    /// The next record, or `None` after the last.
    ///
    /// # Errors
    /// What the file system reports; `STORAGE_FAILED` for a damaged file.
    #[inline]
    pub fn next_record(&mut self) -> Result<Option<&[u8]>, Error> {
        if self.runs.0.spilled.is_empty() {
            self.next += 1;
            return Ok(self.runs.0.held.nth(self.next - 1));
        }
        // The reader on top holds the record handed out last.
        if self.started
            && let Some(top) = self.heap.first_mut()
        {
            let reader = &mut self.readers[top.1];
            if reader.advance()? {
                top.0 = leading(reader.record());
            } else {
                self.heap.swap_remove(0);
            }
            self.sift_down(0);
        }
        self.started = true;
        Ok(self
            .heap
            .first()
            .map(|&(_, top)| self.readers[top].record()))
    }

    fn sift_down(&mut self, mut root: usize) {
        loop {
            let mut least = root;
            for child in [2 * root + 1, 2 * root + 2] {
                if child < self.heap.len() && self.before(child, least) {
                    least = child;
                }
            }
            if least == root {
                return;
            }
            self.heap.swap(root, least);
            root = least;
        }
    }

    fn before(&self, left: usize, right: usize) -> bool {
        let (left, right) = (self.heap[left], self.heap[right]);
        match left.0.cmp(&right.0) {
            Ordering::Equal => self.readers[left.1].record() < self.readers[right.1].record(),
            unequal => unequal == Ordering::Less,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(sorted: &Sorted) -> Vec<Vec<u8>> {
        let mut stream = sorted.stream().unwrap();
        let mut records = Vec::new();
        while let Some(record) = stream.next_record().unwrap() {
            records.push(record.to_vec());
        }
        records
    }

    /// Records of any length; `prefix` stands before all of them.
    fn sample(count: u32, prefix: &[u8]) -> Vec<Vec<u8>> {
        (0..count)
            .map(|i| {
                let mut record = prefix.to_vec();
                record.extend(i.wrapping_mul(2_654_435_761).to_be_bytes());
                record.extend(std::iter::repeat_n(b'x', (i % 40) as usize));
                record.truncate(prefix.len() + (i % 50) as usize);
                record
            })
            .collect()
    }

    #[test]
    fn sorts_alike_in_memory_and_spilled() {
        let directory = tempfile::tempdir().unwrap();
        // Uniform from the first bit, from a bit within the first eight bytes, and only behind them.
        for prefix in [&b""[..], b"abc", b"abcdefgh"] {
            let mut expected = sample(20_000, prefix);
            expected.sort();
            for budget in [0, 1 << 18, 1 << 24] {
                let mut sorter = Sorter::new(directory.path(), "s", budget);
                for record in sample(20_000, prefix) {
                    let (one, other) = record.split_at(record.len() / 2);
                    sorter.push(&[one, other]).unwrap();
                }
                let sorted = sorter.finish().unwrap();
                assert_eq!(sorted.len(), 20_000);
                assert_eq!(collect(&sorted), expected);
                assert_eq!(collect(&sorted), expected, "a second pass");
                drop(sorted);
                assert_eq!(
                    std::fs::read_dir(directory.path()).unwrap().count(),
                    0,
                    "files go with the last handle"
                );
            }
        }
    }
}
