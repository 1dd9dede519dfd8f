//! Parts that are complete: read and sorted one at a time.

use std::{fs::File, sync::Arc};

use super::{
    super::{
        Files, Sorted, SortedStream, Sorter,
        held::{Held, INDEX_BYTES, Place},
    },
    PartsWriter, Shape,
    file::PartsFile,
};
use crate::error::Error;

/// Every part, in a file.
pub(in super::super) struct Parts {
    parts: Vec<Part>,
    file: PartsFile,
}

struct Part {
    bytes: usize,
    records: usize,
    /// The records, sorted in files of their own, if they are more than the budget.
    sorted: Option<Sorted>,
}

impl PartsWriter {
    /// Ends the input.
    pub(in super::super) fn finish(mut self, files: &Files) -> Result<Parts, Error> {
        self.write_out()?;
        drop(self.buffer);
        let mut finished = Parts {
            parts: Vec::with_capacity(self.records.len()),
            file: self.file.finish(),
        };
        for (number, records) in self.records.into_iter().enumerate() {
            let bytes = finished.file.part_bytes(number);
            let needed_bytes = bytes.saturating_add(records.saturating_mul(INDEX_BYTES));
            let sorted = if needed_bytes > self.shape.budget_bytes {
                let files = files.part(number);
                Some(sort_large(&finished.file, number, self.shape, files)?)
            } else {
                None
            };
            finished.parts.push(Part {
                bytes,
                records,
                sorted,
            });
        }
        Ok(finished)
    }
}

#[cfg(test)]
impl Parts {
    /// The parts that are in files of their own.
    pub(in super::super) fn large(&self) -> impl Iterator<Item = &Sorted> {
        self.parts.iter().filter_map(|part| part.sorted.as_ref())
    }

    /// What a stream holds at most.
    pub(in super::super) fn largest_held_bytes(&self) -> usize {
        let held = self.parts.iter().filter(|part| part.sorted.is_none());
        held.map(|part| part.bytes + part.records * INDEX_BYTES)
            .max()
            .unwrap_or(0)
    }
}

/// Sorts a part that is more than the budget, in files of its own.
fn sort_large(file: &PartsFile, part: usize, shape: Shape, files: Files) -> Result<Sorted, Error> {
    let left_bytes = shape.budget_bytes - shape.buffer_bytes;
    let mut sorter = Sorter::with_shape(files, left_bytes, |bytes| shape.of_part(bytes));
    file.for_each_record(part, |record| sorter.push(&[record]))?;
    sorter.finish()
}

/// Streams part after part.
pub(in super::super) struct PartsStream {
    parts: Arc<Parts>,
    /// Once one was read.
    file: Option<File>,
    /// Number of the part that follows.
    number: usize,
    /// The part being streamed, sorted.
    held: Held,
    scratch: Vec<Place>,
    /// How many records of it were handed out, of how many.
    done: usize,
    records: usize,
    /// Or this one, in files of its own.
    large: Option<Box<SortedStream>>,
}

impl PartsStream {
    pub(in super::super) fn new(parts: Arc<Parts>) -> Self {
        Self {
            parts,
            file: None,
            number: 0,
            held: Held::default(),
            scratch: Vec::new(),
            done: 0,
            records: 0,
            large: None,
        }
    }

    /// Whether there is another record, which is [`PartsStream::record`] then.
    #[inline]
    pub(in super::super) fn advance(&mut self) -> Result<bool, Error> {
        if self.done < self.records {
            self.done += 1;
            return Ok(true);
        }
        self.advance_part()
    }

    #[inline(never)]
    fn advance_part(&mut self) -> Result<bool, Error> {
        (self.done, self.records) = (0, 0);
        loop {
            if let Some(large) = &mut self.large {
                if large.advance()? {
                    return Ok(true);
                }
                self.large = None;
                self.number += 1;
            }
            let Some(part) = self.parts.parts.get(self.number) else {
                return Ok(false);
            };
            if let Some(sorted) = &part.sorted {
                self.large = Some(Box::new(sorted.stream()?));
                continue;
            }
            let records = part.records;
            self.load(self.number)?;
            self.number += 1;
            if records > 0 {
                (self.done, self.records) = (1, records);
                return Ok(true);
            }
        }
    }

    /// Reads a part and sorts it.
    fn load(&mut self, number: usize) -> Result<(), Error> {
        let part = &self.parts.parts[number];
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(self.parts.file.open()?),
        };
        let into = self.held.read_into(part.bytes);
        self.parts.file.read_part(file, number, into)?;
        self.held.sort(&mut self.scratch);
        if self.held.len() == part.records {
            Ok(())
        } else {
            Err(Error::internal("a part has lost records"))
        }
    }

    #[inline]
    pub(in super::super) fn record(&self) -> &[u8] {
        if let Some(large) = &self.large {
            return large.record();
        }
        self.held.nth(self.done.wrapping_sub(1)).unwrap_or(&[])
    }
}
