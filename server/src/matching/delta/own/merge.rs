//! Makes a new base of my customers: rows and keys get new numbers.

use std::path::Path;

use overlap_crypto::terms::KeyType;

use super::{
    GROUPS, Hash, KEY_BYTES, NONE, Own, OwnDocument, ROWS, Reference, id_of, malformed,
    overlay::OverlayDocument, writer::KeysWriter,
};
use crate::{
    error::Error,
    matching::delta::{
        column::{Access, ColumnWriter, SEARCH_BYTES, array, number},
        sealed::StateKey,
        texts::{TextWriter, TextsDocument},
    },
};

/// The numbers of rows and keys in a new base, by their numbers before.
pub(crate) struct Renumbered {
    rows: Vec<u32>,
    keys: Vec<u32>,
}

fn look_up(numbers: &[u32], number: u32) -> Option<u32> {
    let now = *numbers.get(number as usize)?;
    (now != NONE).then_some(now)
}

impl Renumbered {
    pub(crate) fn row(&self, number: u32) -> Option<u32> {
        look_up(&self.rows, number)
    }

    pub(crate) fn key(&self, number: u32) -> Option<u32> {
        look_up(&self.keys, number)
    }
}

impl Own {
    /// Writes a base of what there is now. `component` gives the shared customer of each of my customers, both by their
    /// numbers: the customer's before, the shared customer's after.
    pub(crate) fn merge(
        &mut self,
        directory: &Path,
        key: &StateKey,
        change_seq: u64,
        component: &dyn Fn(u32) -> u32,
    ) -> Result<(OwnDocument, Renumbered), Error> {
        let later_keys = self.overlay.later_keys;
        let keys = self
            .base_keys()?
            .checked_add(later_keys)
            .ok_or_else(malformed)?;
        let mut now = Renumbered {
            rows: Vec::new(),
            keys: vec![NONE; keys as usize],
        };
        let rows = self.merge_rows(directory, key, &mut now)?;
        let (keys, groups) = self.merge_keys(directory, key, &mut now, component)?;
        let document = OwnDocument {
            change_seq,
            rows,
            keys,
            groups,
            overlay: OverlayDocument::default(),
            ..self.document.clone()
        };
        Ok((document, now))
    }

    fn merge_rows(
        &mut self,
        directory: &Path,
        key: &StateKey,
        now: &mut Renumbered,
    ) -> Result<TextsDocument, Error> {
        let base = self.base_rows()?;
        now.rows = vec![NONE; base as usize + self.overlay.later_ids.len()];
        let mut writer = TextWriter::create(&directory.join(ROWS), key)?;
        let mut next = 0;
        let mut push = |number: u32, id: &[u8], head: &[u8]| {
            writer.push(id, &[head, id])?;
            now.rows[number as usize] = next;
            next += 1;
            Ok::<_, Error>(())
        };
        let mut changed = self.overlay.rows.iter().peekable();
        for number in 0..base {
            let text = self.rows.get(number.into())?;
            let id = id_of(text);
            while let Some((id, row)) = changed.next_if(|(other, _)| other.as_slice() < id) {
                if let Some(content) = &row.content {
                    push(row.number, id, &content.head()?)?;
                }
            }
            match changed.next_if(|(other, _)| other.as_slice() == id) {
                Some((_, row)) => {
                    if let Some(content) = &row.content {
                        push(number, id, &content.head()?)?;
                    }
                }
                None => push(number, id, &text[..text.len() - id.len()])?,
            }
        }
        for (id, row) in changed {
            if let Some(content) = &row.content {
                push(row.number, id, &content.head()?)?;
            }
        }
        writer.finish()
    }

    /// Writes keys and groups, both by hash; returns how many there are of each.
    fn merge_keys(
        &mut self,
        directory: &Path,
        key: &StateKey,
        now: &mut Renumbered,
        component: &dyn Fn(u32) -> u32,
    ) -> Result<(u64, u64), Error> {
        let mut keys = KeysWriter::create(directory, key)?;
        let mut groups =
            ColumnWriter::create(&directory.join(GROUPS), key, KEY_BYTES, Access::BySearch)?;
        let mut changed: Vec<Hash> = self.overlay.groups.keys().copied().collect();
        changed.sort_unstable();
        let mut changed = changed.into_iter().peekable();
        let (mut at_key, mut at_group) = (0, 0);
        loop {
            let in_keys: Option<Hash> = if at_key < self.keys.len() {
                Some(array(&self.keys.get(at_key)?[..SEARCH_BYTES]))
            } else {
                None
            };
            let in_groups: Option<Hash> = if at_group < self.groups.len() {
                Some(array(&self.groups.get(at_group)?[..SEARCH_BYTES]))
            } else {
                None
            };
            let heads = [in_keys, in_groups, changed.peek().copied()];
            let Some(hash) = heads.into_iter().flatten().min() else {
                break;
            };
            let is_changed = changed.next_if_eq(&hash).is_some();
            let mut number_before = None;
            let mut kind = None;
            let mut rows = Vec::new();
            if in_keys == Some(hash) {
                let record = self.keys.get(at_key)?;
                kind = KeyType::from_code(record[KEY_BYTES - 1]);
                rows.push(number(record, SEARCH_BYTES));
                number_before = Some(u32::try_from(at_key).map_err(|_| malformed())?);
                at_key += 1;
            }
            if in_groups == Some(hash) {
                rows.clear();
                while at_group < self.groups.len() {
                    let record = self.groups.get(at_group)?;
                    if record[..SEARCH_BYTES] != hash {
                        break;
                    }
                    kind = KeyType::from_code(record[KEY_BYTES - 1]);
                    rows.push(number(record, SEARCH_BYTES));
                    at_group += 1;
                }
            }
            if is_changed && let Some(change) = self.overlay.groups.get(&hash) {
                number_before = number_before.or(change.number);
                kind = kind.or(Some(change.key_type));
                rows.retain(|row| change.removed.binary_search(row).is_err());
                rows.extend(&change.added);
            }
            let rows_now = rows.iter().map(|row| now.row(*row));
            let mut rows: Vec<u32> = rows_now.collect::<Option<_>>().ok_or_else(malformed)?;
            rows.sort_unstable();
            let Some(first) = rows.first() else { continue };
            let kind = kind.ok_or_else(malformed)?.code();
            let reference = match number_before {
                Some(before) => match self.overlay.references.get(&before) {
                    Some(changed) => changed.reference,
                    None => Some(self.read_reference(before)?.reference),
                },
                None => None,
            };
            if let (Some(before), Some(reference)) = (number_before, reference) {
                let component = component(reference.customer);
                let reference = Reference {
                    customer: now.row(reference.customer).ok_or_else(malformed)?,
                    ..reference
                };
                now.keys[before as usize] = u32::try_from(keys.len()).map_err(|_| malformed())?;
                keys.push(&hash, *first, kind, &reference, component)?;
            }
            if rows.len() > 1 {
                for row in &rows {
                    groups.push(&[&hash, &row.to_be_bytes(), &[kind]])?;
                }
            }
        }
        Ok((keys.finish()?, groups.finish()?))
    }
}
