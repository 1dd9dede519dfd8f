//! Finds what the change of a few rows means.
//!
//! Rows that share a key are one customer, so a change of one row may say something of others: all rows that were or are one
//! customer with a row that changed are looked at again, and no others.

use std::ops::Range;

use overlap_crypto::terms::{KeyType, Tier};

use super::{
    Hash, NONE, Own, Reference, RowContent, Totals, malformed,
    overlay::GroupChange,
    update::{Changed, ChangedRow, Changes, KeyUpdate, Row, RowTextPlace, Update, Values, places},
};
use crate::{
    error::Error,
    matching::{
        delta::maps::{Map, Set},
        keys::HandleKey,
        local_customers::{MAX_ROWS_A_KEY, StageTiers, merge::DisjointSets},
    },
    overlap::graph::HANDLE_BYTES,
};

/// How a key's rows change.
struct GroupUpdate {
    hash: Hash,
    key: Option<u32>,
    key_type: KeyType,
    /// Which of the changed rows had or have it, of those that the finder lists.
    touching: Range<usize>,
    /// Which rows it has, of those that the finder lists.
    before: Range<usize>,
    now: Range<usize>,
}

/// Whether so many rows can share a key.
const fn usable(rows: &[u32]) -> bool {
    !rows.is_empty() && rows.len() <= MAX_ROWS_A_KEY
}

pub(super) struct Finder<'a> {
    own: &'a mut Own,
    rows: Vec<Row>,
    row_places: Map<u32, u32>,
    /// The changed rows that had or have a key, by key.
    touching: Vec<(Hash, u32)>,
    groups: Vec<GroupUpdate>,
    /// The rows of groups, one group after the other.
    members: Vec<u32>,
    values: Values,
    /// What changed rows are called and searched by.
    texts: String,
    next_row: u32,
    later_ids: Vec<Vec<u8>>,
}

impl<'a> Finder<'a> {
    /// Takes the rows that changed.
    pub(super) fn take(own: &'a mut Own, changes: Changes<'_>) -> Result<Self, Error> {
        let Changed {
            rows: changed,
            values,
            texts,
        } = changes.into_parts()?;
        let later = u32::try_from(own.overlay.later_ids.len()).map_err(|_| malformed())?;
        let mut finder = Self {
            next_row: own.base_rows()? + later,
            rows: Vec::with_capacity(changed.len()),
            row_places: Map::default(),
            touching: Vec::with_capacity(2 * changed.len()),
            groups: Vec::new(),
            members: Vec::new(),
            values,
            texts,
            later_ids: Vec::new(),
            own,
        };
        finder.row_places.reserve(changed.len());
        finder.own.known.reserve(2 * changed.len());
        for ChangedRow {
            id,
            content: now,
            text,
        } in changed
        {
            let (number, before) = match finder.own.row_by_id(&id)? {
                Some(known) => known,
                None if now.is_none() => continue,
                None => {
                    let number = finder.next_row;
                    finder.next_row = number
                        .checked_add(1)
                        .filter(|next| *next < NONE)
                        .ok_or_else(|| Error::internal("more than 2^32 rows"))?;
                    finder.later_ids.push(id.clone());
                    (number, None)
                }
            };
            let row = Row {
                number,
                id,
                changed: true,
                before,
                now,
                text,
            };
            finder
                .touching
                .extend(hashes(&row).map(|hash| (hash, number)));
            finder.push(row)?;
        }
        finder.touching.sort_unstable();
        finder.touching.dedup();
        Ok(finder)
    }

    fn push(&mut self, row: Row) -> Result<(), Error> {
        let place = u32::try_from(self.rows.len()).map_err(|_| malformed())?;
        self.row_places.insert(row.number, place);
        self.rows.push(row);
        Ok(())
    }

    fn row(&self, number: u32) -> Option<&Row> {
        let place = *self.row_places.get(&number)?;
        self.rows.get(place as usize)
    }

    /// Where the changed rows are listed that had or have a key.
    fn touching(&self, hash: &Hash) -> Range<usize> {
        let start = self.touching.partition_point(|(other, _)| other < hash);
        let rest = &self.touching[start..];
        let count = rest.iter().take_while(|(other, _)| other == hash).count();
        start..start + count
    }

    /// Takes all rows that were or are one customer with a row that was taken.
    pub(super) fn close(&mut self) -> Result<(), Error> {
        let mut frontier: Vec<Hash> = self.touching.iter().map(|(hash, _)| *hash).collect();
        frontier.dedup();
        let mut seen: Set<Hash> = frontier.iter().copied().collect();
        self.groups.reserve(frontier.len());
        while !frontier.is_empty() {
            let first = self.groups.len();
            for hash in std::mem::take(&mut frontier) {
                self.take_group(hash)?;
            }
            let mut more = Vec::new();
            for group in &self.groups[first..] {
                for side in [&group.before, &group.now] {
                    let side = &self.members[side.clone()];
                    if usable(side) {
                        let new = side.iter().copied();
                        more.extend(new.filter(|row| !self.row_places.contains_key(row)));
                    }
                }
            }
            more.sort_unstable();
            more.dedup();
            for number in more {
                let (id, content) = self.own.row(number)?;
                let row = Row {
                    number,
                    id,
                    changed: false,
                    before: content.clone(),
                    now: content,
                    text: RowTextPlace::default(),
                };
                frontier.extend(hashes(&row).filter(|hash| seen.insert(*hash)));
                self.push(row)?;
            }
            frontier.sort_unstable();
        }
        Ok(())
    }

    /// Takes the rows that have a key, before and now; no more than it takes to tell that they are too many.
    fn take_group(&mut self, hash: Hash) -> Result<(), Error> {
        let touching = self.touching(&hash);
        // Changed rows may leave: so many more have to be known.
        let most = MAX_ROWS_A_KEY + 1 + touching.len();
        let group = self.own.group(&hash, most)?;
        let start = self.members.len();
        self.members.extend_from_slice(&group.rows);
        let middle = self.members.len();
        for row in &group.rows {
            if !self.row(*row).is_some_and(|row| row.changed) {
                self.members.push(*row);
            }
        }
        for at in touching.clone() {
            let (_, number) = self.touching[at];
            if self.row(number).is_some_and(|row| has(&row.now, &hash)) {
                self.members.push(number);
            }
        }
        self.members[middle..].sort_unstable();
        let key_type = group.key_type.or_else(|| self.values.key_type(&hash));
        self.groups.push(GroupUpdate {
            hash,
            key: group.key,
            key_type: key_type.ok_or_else(malformed)?,
            touching,
            before: start..middle,
            now: middle..self.members.len(),
        });
        Ok(())
    }

    /// Names the customers anew, and compares.
    pub(super) fn finish(
        mut self,
        tiers: &StageTiers,
        handles: Option<&HandleKey>,
    ) -> Result<Update, Error> {
        self.rows.sort_unstable_by_key(|row| row.number);
        self.row_places = places(self.rows.iter().map(|row| row.number));
        let mut groups = std::mem::take(&mut self.groups);
        groups.sort_by_key(|group| group.hash);
        let customers = self.name(&groups);
        let mut named: Map<u32, Reference> = Map::default();
        named.reserve(groups.len());
        let mut keys = Vec::with_capacity(groups.len());
        let mut changes = Vec::with_capacity(groups.len());
        let first_later = self
            .own
            .base_keys()?
            .checked_add(self.own.overlay.later_keys)
            .ok_or_else(malformed)?;
        let mut later_keys = 0;
        for group in &groups {
            let before = match group.key {
                Some(key) if usable(&self.members[group.before.clone()]) => {
                    self.own.reference(key)?
                }
                _ => None,
            };
            let rows = &self.members[group.now.clone()];
            let naming = usable(rows)
                .then(|| self.row_places.get(&rows[0]))
                .flatten()
                .map(|place| customers[*place as usize])
                .filter(|row| *row != NONE);
            let now = match naming {
                Some(row) => Some(match named.get(&row) {
                    Some(reference) => *reference,
                    None => {
                        let reference = self.reference(row, tiers, handles)?;
                        named.insert(row, reference);
                        reference
                    }
                }),
                None => None,
            };
            let mut number = group.key;
            if number.is_none() && now.is_some() {
                // The last numbers stand for no key.
                let next = first_later.checked_add(later_keys);
                number = Some(next.filter(|key| *key < NONE - 1).ok_or_else(malformed)?);
                later_keys += 1;
            }
            if let Some(change) = self.change(group, number) {
                changes.push((group.hash, change));
            }
            let Some(number) = number else { continue };
            let touched = naming.is_some_and(|row| self.row(row).is_some_and(|row| row.changed));
            keys.push(KeyUpdate {
                number,
                hash: group.hash,
                key_type: group.key_type,
                before,
                now,
                relabelled: now.is_some() && (touched || before != now),
            });
        }
        keys.sort_unstable_by_key(|key| key.number);
        let totals = self.totals(&keys, tiers);
        Ok(Update {
            customers,
            key_places: places(keys.iter().map(|key| key.number)),
            keys,
            values: self.values,
            texts: self.texts,
            later_ids: self.later_ids,
            groups: changes,
            later_keys,
            totals,
            rows: self.rows,
            row_places: self.row_places,
        })
    }

    /// By place: the row that names the customer of a row that is there, the one of highest stage (ties: smallest id); for
    /// others, [`NONE`].
    fn name(&self, groups: &[GroupUpdate]) -> Vec<u32> {
        let mut sets = DisjointSets::new(self.rows.len());
        for group in groups {
            let rows = &self.members[group.now.clone()];
            if usable(rows) {
                for row in &rows[1..] {
                    sets.union(self.row_places[&rows[0]], self.row_places[row]);
                }
            }
        }
        let rank = |row: &Row| row.now.as_ref().map(|content| content.stage);
        let comes_first = |row: &Row, other: &Row| {
            (rank(row), std::cmp::Reverse(&row.id)) > (rank(other), std::cmp::Reverse(&other.id))
        };
        let mut best: Vec<u32> = (0..).take(self.rows.len()).collect();
        for (place, row) in (0_u32..).zip(&self.rows) {
            let root = sets.find(place) as usize;
            if comes_first(row, &self.rows[best[root] as usize]) {
                best[root] = place;
            }
        }
        (0_u32..)
            .zip(&self.rows)
            .map(|(place, row)| match row.now {
                Some(_) => self.rows[best[sets.find(place) as usize] as usize].number,
                None => NONE,
            })
            .collect()
    }

    fn reference(
        &self,
        naming: u32,
        tiers: &StageTiers,
        handles: Option<&HandleKey>,
    ) -> Result<Reference, Error> {
        let row = self.row(naming).ok_or_else(malformed)?;
        let stage = row.now.as_ref().ok_or_else(malformed)?.stage;
        let handle = match handles.filter(|_| tiers.tier(stage) == Tier::List) {
            Some(handles) => handles.handle(std::str::from_utf8(&row.id).map_err(|_| malformed())?),
            None => [0; HANDLE_BYTES],
        };
        Ok(Reference {
            customer: naming,
            stage,
            handle,
        })
    }

    /// How a group differs from that of the base; `None` if no row of it changed.
    fn change(&self, group: &GroupUpdate, number: Option<u32>) -> Option<GroupChange> {
        let touching = &self.touching[group.touching.clone()];
        if touching.is_empty() {
            return None;
        }
        let known = self.own.overlay.groups.get(&group.hash);
        let mut change = known.cloned().unwrap_or_else(|| GroupChange {
            number: None,
            key_type: group.key_type,
            added: Vec::new(),
            removed: Vec::new(),
        });
        if group.key.is_none() {
            change.number = number;
        }
        for (_, number) in touching {
            let Some(row) = self.row(*number) else {
                continue;
            };
            let has_now = has(&row.now, &group.hash);
            if has(&row.before, &group.hash) != has_now {
                change.note(*number, has_now);
            }
        }
        Some(change)
    }

    fn totals(&self, keys: &[KeyUpdate], tiers: &StageTiers) -> Totals {
        let mut totals = self.own.document.totals.clone();
        let mut seen = [Set::default(), Set::default()];
        let add = |total: &mut u64, sign: i64| *total = total.wrapping_add_signed(sign);
        for update in keys {
            for ((reference, sign), seen) in [(update.before, -1), (update.now, 1)]
                .into_iter()
                .zip(&mut seen)
            {
                let Some(reference) = reference else { continue };
                match tiers.tier(reference.stage) {
                    Tier::List => add(&mut totals.listed_keys, sign),
                    Tier::Count => add(&mut totals.counted_keys, sign),
                    Tier::Hidden => {}
                }
                if seen.insert(reference.customer)
                    && let Some(total) = totals
                        .customers_by_stage
                        .get_mut(usize::from(reference.stage))
                {
                    add(total, sign);
                }
            }
        }
        for row in &self.rows {
            add(
                &mut totals.rows,
                i64::from(row.now.is_some()) - i64::from(row.before.is_some()),
            );
        }
        totals
    }
}

fn has(content: &Option<RowContent>, hash: &Hash) -> bool {
    content
        .as_ref()
        .is_some_and(|content| content.hashes.contains(hash))
}

/// The keys that a row has or had.
fn hashes(row: &Row) -> impl Iterator<Item = Hash> {
    [&row.before, &row.now]
        .into_iter()
        .flatten()
        .flat_map(|content| content.hashes.iter().copied())
}
