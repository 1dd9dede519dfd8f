//! What changed of my customers since the base.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
};

use overlap_crypto::terms::KeyType;
use serde::{Deserialize, Serialize};

use super::{Hash, Reference, RowContent, malformed};
use crate::{
    error::Error,
    matching::delta::{
        column::{Column, ColumnWriter, SEARCH_BYTES, array, number},
        sealed::StateKey,
        texts::{TextWriter, Texts, TextsDocument},
    },
    overlap::graph::HANDLE_BYTES,
};

const ROWS: &str = "own.changed_rows";
const LATER: &str = "own.later_rows";
const NUMBERS: &str = "own.key_numbers";
const PAIRS: &str = "own.changed_groups";
const REFERENCES: &str = "own.changed_references";

/// Bytes of the number of a key: hash, number or [`super::NONE`], type.
const NUMBER_BYTES: usize = SEARCH_BYTES + 4 + 1;
/// Bytes of a row that came to a key or went: hash, row, whether it came.
const PAIR_BYTES: usize = SEARCH_BYTES + 4 + 1;
/// Bytes of a reference: key, hash, type, whether it is usable, customer, stage, handle.
const REFERENCE_BYTES: usize = 4 + SEARCH_BYTES + 1 + 1 + 4 + 1 + HANDLE_BYTES;

/// What the manifest keeps of the changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OverlayDocument {
    rows: TextsDocument,
    later: TextsDocument,
    numbers: u64,
    pairs: u64,
    references: u64,
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
    /// Rows that were not in the group in the base, and those that are not any more.
    pub(super) added: BTreeSet<u32>,
    pub(super) removed: BTreeSet<u32>,
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
    pub(super) rows: BTreeMap<Vec<u8>, OverlayRow>,
    /// The ids of rows that came after the base, by number.
    pub(super) later_ids: Vec<Vec<u8>>,
    pub(super) groups: BTreeMap<Hash, GroupChange>,
    pub(super) references: HashMap<u32, ReferenceChange>,
    /// Keys that got a number after the base.
    pub(super) later_keys: u32,
}

impl Overlay {
    pub(super) fn open(
        directory: &Path,
        key: &StateKey,
        document: &OverlayDocument,
    ) -> Result<Self, Error> {
        let mut overlay = Self::default();
        let later = usize::try_from(document.later.len()).map_err(|_| malformed())?;
        overlay.later_ids = vec![Vec::new(); later];
        let mut rows = Texts::open(&directory.join(ROWS), key, &document.rows)?;
        for at in 0..rows.len() {
            let (number, rest) = rows.get(at)?.split_first_chunk().ok_or_else(malformed)?;
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
                .insert(id.to_vec(), OverlayRow { number, content });
        }
        let mut later = Texts::open(&directory.join(LATER), key, &document.later)?;
        for (at, id) in overlay.later_ids.iter_mut().enumerate() {
            *id = later.get(at as u64)?.to_vec();
        }
        let kind = |code| KeyType::from_code(code).ok_or_else(malformed);
        let column =
            |name, record, records| Column::open(&directory.join(name), key, record, records);
        column(NUMBERS, NUMBER_BYTES, document.numbers)?.scan(&mut |_, record| {
            let found = number(record, SEARCH_BYTES);
            let change = GroupChange {
                number: (found != super::NONE).then_some(found),
                key_type: kind(record[NUMBER_BYTES - 1])?,
                added: BTreeSet::new(),
                removed: BTreeSet::new(),
            };
            overlay.later_keys += u32::from(change.number.is_some());
            overlay
                .groups
                .insert(array(&record[..SEARCH_BYTES]), change);
            Ok(())
        })?;
        column(PAIRS, PAIR_BYTES, document.pairs)?.scan(&mut |_, record| {
            let change = overlay.groups.get_mut(&record[..SEARCH_BYTES]);
            let change = change.ok_or_else(malformed)?;
            let rows = match record[PAIR_BYTES - 1] {
                1 => &mut change.added,
                _ => &mut change.removed,
            };
            rows.insert(number(record, SEARCH_BYTES));
            Ok(())
        })?;
        let mut references = column(REFERENCES, REFERENCE_BYTES, document.references)?;
        overlay
            .references
            .reserve(usize::try_from(references.len()).map_err(|_| malformed())?);
        references.scan(&mut |_, record| {
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

    pub(super) fn save(&self, directory: &Path, key: &StateKey) -> Result<OverlayDocument, Error> {
        let mut rows = TextWriter::create(&directory.join(ROWS), key)?;
        for (id, row) in &self.rows {
            let head = match &row.content {
                Some(content) => content.head()?,
                None => Vec::new(),
            };
            let present = u8::from(row.content.is_some());
            rows.push(id, &[&row.number.to_be_bytes(), &[present], &head, id])?;
        }
        let mut later = TextWriter::create(&directory.join(LATER), key)?;
        for id in &self.later_ids {
            later.push(&[], &[id])?;
        }
        let column = |name, record| ColumnWriter::create(&directory.join(name), key, record);
        let mut numbers = column(NUMBERS, NUMBER_BYTES)?;
        let mut pairs = column(PAIRS, PAIR_BYTES)?;
        for (hash, change) in &self.groups {
            let number = change.number.unwrap_or(super::NONE);
            numbers.push(&[hash, &number.to_be_bytes(), &[change.key_type.code()]])?;
            for (rows, came) in [(&change.added, 1), (&change.removed, 0)] {
                for row in rows {
                    pairs.push(&[hash, &row.to_be_bytes(), &[came]])?;
                }
            }
        }
        let mut references = column(REFERENCES, REFERENCE_BYTES)?;
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
        let later = later.finish()?;
        Ok(OverlayDocument {
            rows: rows.finish()?,
            later,
            numbers: numbers.finish()?,
            pairs: pairs.finish()?,
            references: references.finish()?,
        })
    }
}
