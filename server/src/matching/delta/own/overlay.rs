//! What changed of my customers since the base.

use std::path::Path;

use overlap_crypto::terms::KeyType;
use serde::{Deserialize, Serialize};

use super::{Hash, Reference, RowContent, malformed};
use crate::{
    error::Error,
    matching::delta::{
        beside::{BesideWriter, SectionDocument, read_section},
        column::{SEARCH_BYTES, array, number},
        maps::Map,
        sealed::StateKey,
    },
    overlap::graph::HANDLE_BYTES,
};

/// Bytes of the number of a key: hash, number or [`super::NONE`], type.
const NUMBER_BYTES: usize = SEARCH_BYTES + 4 + 1;
/// Bytes of a row that came to a key or went: hash, row, whether it came.
const PAIR_BYTES: usize = SEARCH_BYTES + 4 + 1;
/// Bytes of a reference: key, hash, type, whether it is usable, customer, stage, handle.
const REFERENCE_BYTES: usize = 4 + SEARCH_BYTES + 1 + 1 + 4 + 1 + HANDLE_BYTES;

/// What the manifest keeps of the changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OverlayDocument {
    rows: SectionDocument,
    later: SectionDocument,
    numbers: SectionDocument,
    pairs: SectionDocument,
    references: SectionDocument,
}

/// A row that changed, came or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OverlayRow {
    pub(super) number: u32,
    pub(super) content: Option<RowContent>,
}

/// A key to which rows came, or from which they went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GroupChange {
    /// Its number, if it got one after the base.
    pub(super) number: Option<u32>,
    pub(super) key_type: KeyType,
    /// Rows that were not in the group in the base, and those that are not any more; each ascending.
    pub(super) added: Vec<u32>,
    pub(super) removed: Vec<u32>,
}

impl GroupChange {
    /// Notes that a row came to the group or went: if it went or came before, that is undone.
    pub(super) fn note(&mut self, row: u32, came: bool) {
        let (from, to) = match came {
            true => (&mut self.removed, &mut self.added),
            false => (&mut self.added, &mut self.removed),
        };
        if let Ok(at) = from.binary_search(&row) {
            from.remove(at);
        } else if let Err(at) = to.binary_search(&row) {
            to.insert(at, row);
        }
    }
}

/// A key that stands for something else than in the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReferenceChange {
    pub(super) hash: Hash,
    pub(super) key_type: KeyType,
    pub(super) reference: Option<Reference>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Overlay {
    /// By id.
    pub(super) rows: Vec<(Vec<u8>, OverlayRow)>,
    /// The ids of rows that came after the base, by number.
    pub(super) later_ids: Vec<Vec<u8>>,
    pub(super) groups: Map<Hash, GroupChange>,
    pub(super) references: Map<u32, ReferenceChange>,
    /// Keys that got a number after the base.
    pub(super) later_keys: u32,
}

impl Overlay {
    /// The row with this id, if it changed.
    pub(super) fn row(&self, id: &[u8]) -> Option<&OverlayRow> {
        let at = self
            .rows
            .binary_search_by(|(other, _)| other.as_slice().cmp(id));
        Some(&self.rows[at.ok()?].1)
    }

    /// Takes rows that changed, by ascending id; what was known of them counts no longer.
    pub(super) fn take_rows(&mut self, mut changed: Vec<(Vec<u8>, OverlayRow)>) {
        changed.append(&mut self.rows);
        // Two ascending runs, which a stable sort merges; of two that are equal the first is the newer.
        changed.sort_by(|(one, _), (other, _)| one.cmp(other));
        changed.dedup_by(|(one, _), (other, _)| one == other);
        self.rows = changed;
    }

    pub(super) fn open(
        directory: &Path,
        key: &StateKey,
        document: &OverlayDocument,
    ) -> Result<Self, Error> {
        let mut overlay = Self::default();
        let read = |section, visit: &mut dyn FnMut(&[u8]) -> Result<(), Error>| {
            read_section(directory, key, section, visit)
        };
        let length =
            |section: &SectionDocument| usize::try_from(section.len()).map_err(|_| malformed());
        overlay.rows.reserve(length(&document.rows)?);
        read(&document.rows, &mut |record| {
            let (number, rest) = record.split_first_chunk().ok_or_else(malformed)?;
            let (content, id) = match rest.split_first() {
                Some((1, rest)) => {
                    let (content, id) = RowContent::parse(rest).ok_or_else(malformed)?;
                    (Some(content), id)
                }
                Some((_, id)) => (None, id),
                None => return Err(malformed()),
            };
            let number = u32::from_be_bytes(*number);
            overlay
                .rows
                .push((id.to_vec(), OverlayRow { number, content }));
            Ok(())
        })?;
        read(&document.later, &mut |id| {
            overlay.later_ids.push(id.to_vec());
            Ok(())
        })?;
        let kind = |code| KeyType::from_code(code).ok_or_else(malformed);
        overlay.groups.reserve(length(&document.numbers)?);
        read(&document.numbers, &mut |record| {
            let record: &[u8; NUMBER_BYTES] = record.try_into().map_err(|_| malformed())?;
            let found = number(record, SEARCH_BYTES);
            let change = GroupChange {
                number: (found != super::NONE).then_some(found),
                key_type: kind(record[NUMBER_BYTES - 1])?,
                added: Vec::new(),
                removed: Vec::new(),
            };
            overlay.later_keys += u32::from(change.number.is_some());
            overlay
                .groups
                .insert(array(&record[..SEARCH_BYTES]), change);
            Ok(())
        })?;
        read(&document.pairs, &mut |record| {
            let record: &[u8; PAIR_BYTES] = record.try_into().map_err(|_| malformed())?;
            let change = overlay.groups.get_mut(&array(&record[..SEARCH_BYTES]));
            let change = change.ok_or_else(malformed)?;
            let rows = match record[PAIR_BYTES - 1] {
                1 => &mut change.added,
                _ => &mut change.removed,
            };
            rows.push(number(record, SEARCH_BYTES));
            Ok(())
        })?;
        overlay.references.reserve(length(&document.references)?);
        read(&document.references, &mut |record| {
            let record: &[u8; REFERENCE_BYTES] = record.try_into().map_err(|_| malformed())?;
            let [usable, rest @ ..] = &record[5 + SEARCH_BYTES..] else {
                return Err(malformed());
            };
            let reference = Reference {
                customer: number(rest, 0),
                stage: rest[4],
                handle: array(&rest[5..]),
            };
            let change = ReferenceChange {
                hash: array(&record[4..4 + SEARCH_BYTES]),
                key_type: kind(record[4 + SEARCH_BYTES])?,
                reference: (*usable == 1).then_some(reference),
            };
            overlay.references.insert(number(record, 0), change);
            Ok(())
        })?;
        Ok(overlay)
    }

    pub(super) fn save(&self, beside: &mut BesideWriter) -> Result<OverlayDocument, Error> {
        let mut rows = beside.section();
        for (id, row) in &self.rows {
            let head = match &row.content {
                Some(content) => content.head()?,
                None => Vec::new(),
            };
            let present = u8::from(row.content.is_some());
            rows.push(&[&row.number.to_be_bytes(), &[present], &head, id])?;
        }
        let rows = rows.finish()?;
        let mut later = beside.section();
        for id in &self.later_ids {
            later.push(&[id])?;
        }
        let later = later.finish()?;
        let mut numbers = beside.section();
        for (hash, change) in &self.groups {
            let number = change.number.unwrap_or(super::NONE);
            numbers.push(&[hash, &number.to_be_bytes(), &[change.key_type.code()]])?;
        }
        let numbers = numbers.finish()?;
        let mut pairs = beside.section();
        for (hash, change) in &self.groups {
            for (rows, came) in [(&change.added, 1), (&change.removed, 0)] {
                for row in rows {
                    pairs.push(&[hash, &row.to_be_bytes(), &[came]])?;
                }
            }
        }
        let pairs = pairs.finish()?;
        let mut references = beside.section();
        for (number, change) in &self.references {
            let reference = change.reference.unwrap_or(Reference {
                customer: 0,
                stage: 0,
                handle: [0; HANDLE_BYTES],
            });
            references.push(&[
                &number.to_be_bytes(),
                &change.hash,
                &[change.key_type.code(), change.reference.is_some().into()],
                &reference.customer.to_be_bytes(),
                &[reference.stage],
                &reference.handle,
            ])?;
        }
        Ok(OverlayDocument {
            rows,
            later,
            numbers,
            pairs,
            references: references.finish()?,
        })
    }
}
