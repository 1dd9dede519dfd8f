//! What the change of a few rows means for customers and keys.
//!
//! Rows that share a key are one customer, so a change of one row may say something of others: all rows that were or are one
//! customer with a row that changed are looked at again, and no others.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use overlap_crypto::terms::{KeyType, Tier};

use super::{
    Hash, Own, Reference, RowContent, Totals, malformed,
    overlay::{GroupChange, OverlayRow, ReferenceChange},
};
use crate::{
    error::Error,
    matching::{
        keys::HandleKey,
        local_customers::{KeyRef, MAX_ROWS_A_KEY, StageTiers, key_hash, merge::DisjointSets},
    },
    overlap::graph::HANDLE_BYTES,
};

/// A row as it is now.
pub(crate) struct ChangedRow {
    pub(crate) stage: String,
    pub(crate) keys: Vec<(KeyType, String)>,
}

/// The rows that changed since the last run, by id: as they are, or `None` if they are not disclosed any more.
pub(crate) type Changes = BTreeMap<Vec<u8>, Option<ChangedRow>>;

/// A row of a customer that is looked at again.
struct Row {
    id: Vec<u8>,
    /// Whether it changed itself.
    changed: bool,
    before: Option<RowContent>,
    now: Option<RowContent>,
}

/// What becomes of a key of a customer that is looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyUpdate {
    pub(crate) number: u32,
    pub(crate) hash: Hash,
    pub(crate) key_type: KeyType,
    /// What it stood for, and what it stands for; `None` if it was or is not usable.
    pub(crate) before: Option<Reference>,
    pub(crate) now: Option<Reference>,
    /// Whether what a label says of its customer may be something else than before.
    pub(crate) relabelled: bool,
}

/// A key to be sent.
pub(crate) struct ChosenKey {
    pub(crate) key: KeyRef,
    /// Its normalised value.
    pub(crate) value: Vec<u8>,
}

/// How my customers and keys differ from those of the last run.
pub(crate) struct Update {
    rows: BTreeMap<u32, Row>,
    /// By row of a customer that is looked at again: the row that names its customer now.
    customers: BTreeMap<u32, u32>,
    /// Every key of these customers, by number.
    keys: BTreeMap<u32, KeyUpdate>,
    /// The values of the keys of rows that changed.
    values: HashMap<Hash, Vec<u8>>,
    /// Ids of rows that there were not since the base, from the first number on.
    later_ids: Vec<Vec<u8>>,
    groups: BTreeMap<Hash, GroupChange>,
    later_keys: u32,
    pub(crate) totals: Totals,
}

/// How a key's rows change.
struct GroupUpdate {
    key: Option<u32>,
    key_type: KeyType,
    before: Vec<u32>,
    now: Vec<u32>,
}

/// Whether so many rows can share a key.
const fn usable(rows: &[u32]) -> bool {
    !rows.is_empty() && rows.len() <= MAX_ROWS_A_KEY
}

impl Update {
    /// Finds what the changes mean. `handles` names listed customers.
    pub(crate) fn find(
        own: &mut Own,
        changes: Changes,
        tiers: &StageTiers,
        handles: Option<&HandleKey>,
    ) -> Result<Self, Error> {
        let salt = own.document.salt()?;
        let mut finder = Finder {
            next_row: own.base_rows()?
                + u32::try_from(own.overlay.later_ids.len()).map_err(|_| malformed())?,
            rows: BTreeMap::new(),
            touching: HashMap::new(),
            kinds: HashMap::new(),
            groups: BTreeMap::new(),
            values: HashMap::new(),
            later_ids: Vec::new(),
            own,
        };
        finder.take(changes, tiers, &salt)?;
        finder.close()?;
        finder.finish(tiers, handles)
    }

    /// The keys that are looked at again, by number.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &KeyUpdate> {
        self.keys.values()
    }

    /// What becomes of a key, if it is looked at again.
    pub(crate) fn key(&self, number: u32) -> Option<&KeyUpdate> {
        self.keys.get(&number)
    }

    /// The rows that are looked at again and are there: number, id, and whether the row changed.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (u32, &[u8], bool)> {
        self.rows
            .iter()
            .filter(|(_, row)| row.now.is_some())
            .map(|(number, row)| (*number, row.id.as_slice(), row.changed))
    }

    /// The row that names the customer of a row that is looked at again.
    pub(crate) fn customer(&self, row: u32) -> Option<u32> {
        self.customers.get(&row).copied()
    }

    /// The id of a row that is looked at again.
    pub(crate) fn id(&self, row: u32) -> Option<&[u8]> {
        self.rows.get(&row).map(|row| row.id.as_slice())
    }

    /// The key with this number as it is now.
    pub(crate) fn key_ref(&self, own: &mut Own, key: u32) -> Result<Option<KeyRef>, Error> {
        if let Some(update) = self.keys.get(&key) {
            let now = update.now.map(|now| now.of_key(key, update.key_type));
            return Ok(now);
        }
        own.key_ref(key)
    }

    /// Keys with their values, in the order of their hashes; `read` hands over the keys of some rows, whose ids ascend, that
    /// did not change.
    pub(crate) fn values(
        &mut self,
        keys: &[u32],
        salt: &[u8; 32],
        read: &mut ReadKeys<'_>,
    ) -> Result<VecDeque<ChosenKey>, Error> {
        // Keys of rows that did not change, and come to be sent: their customers changed their tier.
        let mut ids: BTreeSet<&[u8]> = BTreeSet::new();
        let wanted: HashSet<Hash> = keys
            .iter()
            .filter_map(|key| self.keys.get(key))
            .map(|update| update.hash)
            .filter(|hash| !self.values.contains_key(hash))
            .collect();
        for row in self.rows.values() {
            let hashes = row.now.iter().flat_map(|content| &content.hashes);
            if !wanted.is_empty() && hashes.into_iter().any(|hash| wanted.contains(hash)) {
                ids.insert(&row.id);
            }
        }
        let values = &mut self.values;
        read(&mut ids.iter().copied(), &mut |key_type, value| {
            let hash = key_hash(salt, key_type, value);
            if wanted.contains(&hash) {
                values.insert(hash, value.as_bytes().to_vec());
            }
        })?;
        let mut chosen = Vec::with_capacity(keys.len());
        for key in keys {
            let update = self.keys.get(key).ok_or_else(malformed)?;
            let now = update.now.ok_or_else(malformed)?;
            let value = self.values.get(&update.hash);
            let value = value.ok_or_else(|| Error::internal("a key without a value"))?;
            let key = now.of_key(update.number, update.key_type);
            chosen.push((
                update.hash,
                ChosenKey {
                    key,
                    value: value.clone(),
                },
            ));
        }
        chosen.sort_by_key(|(hash, _)| *hash);
        Ok(chosen.into_iter().map(|(_, key)| key).collect())
    }

    /// Makes what is found the customers that the next run goes on from.
    pub(crate) fn apply(&self, own: &mut Own) {
        let overlay = &mut own.overlay;
        for (number, row) in &self.rows {
            if row.changed {
                let changed = OverlayRow {
                    number: *number,
                    content: row.now.clone(),
                };
                overlay.rows.insert(row.id.clone(), changed);
            }
        }
        overlay.later_ids.extend(self.later_ids.iter().cloned());
        for (hash, change) in &self.groups {
            overlay.groups.insert(*hash, change.clone());
        }
        overlay.later_keys += self.later_keys;
        for update in self.keys.values() {
            if update.before != update.now || overlay.references.contains_key(&update.number) {
                overlay.references.insert(
                    update.number,
                    ReferenceChange {
                        hash: update.hash,
                        key_type: update.key_type,
                        reference: update.now,
                    },
                );
            }
        }
        own.document.totals.clone_from(&self.totals);
    }
}

/// Hands over the keys of the rows with these ids.
pub(crate) type ReadKeys<'a> = dyn FnMut(&mut dyn Iterator<Item = &[u8]>, &mut dyn FnMut(KeyType, &str)) -> Result<(), Error>
    + 'a;

struct Finder<'a> {
    own: &'a mut Own,
    rows: BTreeMap<u32, Row>,
    /// The changed rows that had or have a key.
    touching: HashMap<Hash, Vec<u32>>,
    kinds: HashMap<Hash, KeyType>,
    groups: BTreeMap<Hash, GroupUpdate>,
    values: HashMap<Hash, Vec<u8>>,
    next_row: u32,
    later_ids: Vec<Vec<u8>>,
}

impl Finder<'_> {
    /// Takes the rows that changed.
    fn take(&mut self, changes: Changes, tiers: &StageTiers, salt: &[u8; 32]) -> Result<(), Error> {
        for (id, row) in changes {
            let known = self.own.row_by_id(&id)?;
            let now = match row {
                Some(row) => {
                    let stage = tiers
                        .index_of(&row.stage)
                        .filter(|stage| tiers.tier(*stage) != Tier::Hidden)
                        .ok_or_else(|| Error::internal("a row of a hidden stage was read"))?;
                    let mut hashes = Vec::with_capacity(row.keys.len());
                    for (key_type, value) in row.keys {
                        let hash = key_hash(salt, key_type, &value);
                        self.kinds.insert(hash, key_type);
                        self.values.insert(hash, value.into_bytes());
                        hashes.push(hash);
                    }
                    Some(RowContent { stage, hashes })
                }
                None => None,
            };
            let (number, before) = match known {
                Some(known) => known,
                None if now.is_none() => continue,
                None => {
                    let number = self.next_row;
                    self.next_row = number
                        .checked_add(1)
                        .filter(|next| *next < super::NONE)
                        .ok_or_else(|| Error::internal("more than 2^32 rows"))?;
                    self.later_ids.push(id.clone());
                    (number, None)
                }
            };
            let row = Row {
                id,
                changed: true,
                before,
                now,
            };
            for hash in hashes(&row).collect::<BTreeSet<_>>() {
                self.touching.entry(hash).or_default().push(number);
            }
            self.rows.insert(number, row);
        }
        Ok(())
    }

    /// Takes all rows that were or are one customer with a row that was taken.
    fn close(&mut self) -> Result<(), Error> {
        let mut frontier: BTreeSet<Hash> = self.rows.values().flat_map(hashes).collect();
        while !frontier.is_empty() {
            let mut rows = BTreeSet::new();
            for hash in std::mem::take(&mut frontier) {
                let group = self.group(&hash)?;
                for side in [&group.before, &group.now] {
                    if usable(side) {
                        rows.extend(side.iter().copied());
                    }
                }
                self.groups.insert(hash, group);
            }
            for number in rows {
                if self.rows.contains_key(&number) {
                    continue;
                }
                let (id, content) = self.own.row(number)?;
                let row = Row {
                    id,
                    changed: false,
                    before: content.clone(),
                    now: content,
                };
                frontier.extend(hashes(&row).filter(|hash| !self.groups.contains_key(hash)));
                self.rows.insert(number, row);
            }
        }
        Ok(())
    }

    /// The rows that have a key, before and now; no more than it takes to tell that they are too many.
    fn group(&mut self, hash: &Hash) -> Result<GroupUpdate, Error> {
        let touching = self.touching.get(hash).map_or(&[][..], Vec::as_slice);
        // Changed rows may leave: so many more have to be known.
        let group = self.own.group(hash, MAX_ROWS_A_KEY + 1 + touching.len())?;
        let came = touching
            .iter()
            .filter(|number| has(&self.rows[number].now, hash));
        let mut now: Vec<u32> = group
            .rows
            .iter()
            .copied()
            .filter(|number| !self.rows.get(number).is_some_and(|row| row.changed))
            .chain(came.copied())
            .collect();
        now.sort_unstable();
        let key_type = group
            .key_type
            .or_else(|| self.kinds.get(hash).copied())
            .ok_or_else(malformed)?;
        Ok(GroupUpdate {
            key: group.key,
            key_type,
            before: group.rows,
            now,
        })
    }

    /// Names the customers anew, and compares.
    fn finish(mut self, tiers: &StageTiers, handles: Option<&HandleKey>) -> Result<Update, Error> {
        let customers = self.name();
        let mut named: HashMap<u32, Reference> = HashMap::new();
        let mut keys = BTreeMap::new();
        let mut changes = BTreeMap::new();
        let first_later = self
            .own
            .base_keys()?
            .checked_add(self.own.overlay.later_keys)
            .ok_or_else(malformed)?;
        let mut later_keys = 0;
        for (hash, group) in std::mem::take(&mut self.groups) {
            let before = match group.key {
                Some(key) if usable(&group.before) => self.own.reference(key)?,
                _ => None,
            };
            let naming = usable(&group.now)
                .then(|| customers.get(&group.now[0]).copied())
                .flatten();
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
                number = Some(
                    next.filter(|key| *key < super::NONE - 1)
                        .ok_or_else(malformed)?,
                );
                later_keys += 1;
            }
            if let Some(touching) = self.touching.get(&hash) {
                changes.insert(hash, self.change(&hash, &group, number, touching));
            }
            let Some(number) = number else { continue };
            let touched = naming.is_some_and(|row| self.rows[&row].changed);
            keys.insert(
                number,
                KeyUpdate {
                    number,
                    hash,
                    key_type: group.key_type,
                    before,
                    now,
                    relabelled: now.is_some() && (touched || before != now),
                },
            );
        }
        let totals = self.totals(&keys, tiers);
        Ok(Update {
            customers,
            keys,
            values: self.values,
            later_ids: self.later_ids,
            groups: changes,
            later_keys,
            totals,
            rows: self.rows,
        })
    }

    /// The row that names the customer of each row that is there: the one of highest stage (ties: smallest id).
    fn name(&self) -> BTreeMap<u32, u32> {
        let rows: Vec<(u32, &Row)> = self
            .rows
            .iter()
            .filter(|(_, row)| row.now.is_some())
            .map(|(number, row)| (*number, row))
            .collect();
        let place: HashMap<u32, u32> = rows.iter().map(|(number, _)| *number).zip(0..).collect();
        let mut sets = DisjointSets::new(rows.len());
        for group in self.groups.values().filter(|group| usable(&group.now)) {
            for row in &group.now[1..] {
                sets.union(place[&group.now[0]], place[row]);
            }
        }
        let mut naming: HashMap<u32, usize> = HashMap::new();
        let rank = |at: usize| {
            let row = rows[at].1;
            let stage = row.now.as_ref().map_or(0, |content| content.stage);
            (stage, std::cmp::Reverse(&row.id))
        };
        for at in 0..rows.len() {
            let root = sets.find(u32::try_from(at).expect("rows are numbered by u32"));
            let best = naming.entry(root).or_insert(at);
            if rank(at) > rank(*best) {
                *best = at;
            }
        }
        (0..rows.len())
            .map(|at| {
                let root = sets.find(u32::try_from(at).expect("rows are numbered by u32"));
                (rows[at].0, rows[naming[&root]].0)
            })
            .collect()
    }

    fn reference(
        &self,
        naming: u32,
        tiers: &StageTiers,
        handles: Option<&HandleKey>,
    ) -> Result<Reference, Error> {
        let row = &self.rows[&naming];
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

    /// How a group differs from that of the base.
    fn change(
        &self,
        hash: &Hash,
        group: &GroupUpdate,
        number: Option<u32>,
        touching: &[u32],
    ) -> GroupChange {
        let known = self.own.overlay.groups.get(hash);
        let mut change = known.cloned().unwrap_or_else(|| GroupChange {
            number: None,
            key_type: group.key_type,
            added: BTreeSet::new(),
            removed: BTreeSet::new(),
        });
        if group.key.is_none() {
            change.number = number;
        }
        for number in touching {
            let row = &self.rows[number];
            let (from, to) = match (has(&row.before, hash), has(&row.now, hash)) {
                (false, true) => (&mut change.removed, &mut change.added),
                (true, false) => (&mut change.added, &mut change.removed),
                _ => continue,
            };
            if !from.remove(number) {
                to.insert(*number);
            }
        }
        change
    }

    fn totals(&self, keys: &BTreeMap<u32, KeyUpdate>, tiers: &StageTiers) -> Totals {
        let mut totals = self.own.document.totals.clone();
        let mut seen = [HashSet::new(), HashSet::new()];
        let add = |total: &mut u64, sign: i64| *total = total.wrapping_add_signed(sign);
        for update in keys.values() {
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
        for row in self.rows.values() {
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
