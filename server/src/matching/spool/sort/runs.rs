//! Sorted runs in files, merged as they are streamed.

use std::{cmp::Ordering, path::Path};

use super::{
    super::records::{RecordFile, RecordReader, RecordWriter},
    held::{Held, leading},
};
use crate::error::Error;

/// Writes the records, sorted, to a new file.
pub(super) fn write(held: &Held, path: &Path) -> Result<RecordFile, Error> {
    let mut file = RecordWriter::create(path)?;
    for number in 0..held.len() {
        if let Some(record) = held.nth(number) {
            file.push(&[record])?;
        }
    }
    file.finish()
}

/// A streaming merge of sorted runs. It holds a block of each.
pub(super) struct Merge {
    readers: Vec<RecordReader>,
    /// A binary heap of readers, with the leading bytes of their records, the one with the least record on top.
    heap: Vec<(u64, usize)>,
    started: bool,
}

impl Merge {
    pub(super) fn new(runs: &[RecordFile]) -> Result<Self, Error> {
        let mut merge = Self {
            readers: Vec::with_capacity(runs.len()),
            heap: Vec::with_capacity(runs.len()),
            started: false,
        };
        for file in runs {
            let mut reader = file.reader()?;
            if reader.advance()? {
                merge
                    .heap
                    .push((leading(reader.record()), merge.readers.len()));
                merge.readers.push(reader);
            }
        }
        for root in (0..merge.heap.len() / 2).rev() {
            merge.sift_down(root);
        }
        Ok(merge)
    }

    /// Whether there is another record, which is [`Merge::record`] then.
    pub(super) fn advance(&mut self) -> Result<bool, Error> {
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
        Ok(!self.heap.is_empty())
    }

    /// That of the reader on top.
    pub(super) fn record(&self) -> &[u8] {
        self.heap
            .first()
            .map_or(&[], |&(_, top)| self.readers[top].record())
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
