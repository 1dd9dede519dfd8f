//! What the change of a few rows means for customers and keys.

use std::{
    collections::{BTreeSet, VecDeque},
    ops::Range,
};

use overlap_crypto::terms::{KeyType, Tier};

use super::{
    Hash, Hashes, NONE, Own, Reference, RowContent, Totals,
    find::Finder,
    malformed,
    overlay::{GroupChange, OverlayRow, ReferenceChange},
};
use crate::{
    customers::rows::DisclosedRow,
    error::Error,
    matching::{
        delta::maps::{Map, Set},
        keys::HandleKey,
        local_customers::{KeyRef, Salt, StageTiers, key_hash},
    },
};

/// The types and values of keys, by hash.
#[derive(Default)]
pub(super) struct Values {
    keys: Map<Hash, (KeyType, Range<usize>)>,
    bytes: Vec<u8>,
}

impl Values {
    fn insert(&mut self, hash: Hash, key_type: KeyType, value: &[u8]) {
        let bytes = &mut self.bytes;
        self.keys.entry(hash).or_insert_with(|| {
            let start = bytes.len();
            bytes.extend_from_slice(value);
            (key_type, start..bytes.len())
        });
    }

    pub(super) fn key_type(&self, hash: &Hash) -> Option<KeyType> {
        self.keys.get(hash).map(|(key_type, _)| *key_type)
    }

    fn value(&self, hash: &Hash) -> Option<&[u8]> {
        let (_, place) = self.keys.get(hash)?;
        self.bytes.get(place.clone())
    }
}

/// A row that changed.
pub(super) struct ChangedRow {
    pub(super) id: Vec<u8>,
    /// What it says; `None` if it is not disclosed any more.
    pub(super) content: Option<RowContent>,
    pub(super) text: RowTextPlace,
}

/// Where the name of a row that changed is among the texts of those that did, and where its domains are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RowTextPlace {
    name: Range<usize>,
    domains: Range<usize>,
}

/// The rows that changed since the last run.
pub(crate) struct Changes<'a> {
    tiers: &'a StageTiers,
    salt: Salt,
    rows: Vec<ChangedRow>,
    values: Values,
    texts: String,
}

/// What is known of the rows that changed, by ascending id.
pub(super) struct Changed {
    pub(super) rows: Vec<ChangedRow>,
    /// The values of their keys.
    pub(super) values: Values,
    /// What they are called and searched by.
    pub(super) texts: String,
}

impl<'a> Changes<'a> {
    /// For keys whose hashes have this salt.
    pub(crate) fn new(tiers: &'a StageTiers, salt: Salt) -> Self {
        Self {
            tiers,
            salt,
            rows: Vec::new(),
            values: Values::default(),
            texts: String::new(),
        }
    }

    /// A row is as given.
    ///
    /// # Errors
    /// `INTERNAL` if its stage is hidden.
    pub(crate) fn disclosed(&mut self, row: &DisclosedRow<'_>) -> Result<(), Error> {
        let stage = self
            .tiers
            .index_of(row.stage)
            .filter(|stage| self.tiers.tier(*stage) != Tier::Hidden)
            .ok_or_else(|| Error::internal("a row of a hidden stage was read"))?;
        let mut hashes = Hashes::with_capacity(row.keys.len());
        for (key_type, value) in row.keys {
            let hash = key_hash(&self.salt, *key_type, value);
            self.values.insert(hash, *key_type, value.as_bytes());
            hashes.push(hash);
        }
        let mut add = |text| {
            let start = self.texts.len();
            self.texts.push_str(text);
            start..self.texts.len()
        };
        self.rows.push(ChangedRow {
            id: row.id.as_bytes().to_vec(),
            content: Some(RowContent { stage, hashes }),
            text: RowTextPlace {
                name: add(row.name),
                domains: add(row.domains),
            },
        });
        Ok(())
    }

    /// A row is not disclosed any more.
    pub(crate) fn withdrawn(&mut self, id: &str) {
        self.rows.push(ChangedRow {
            id: id.as_bytes().to_vec(),
            content: None,
            text: RowTextPlace::default(),
        });
    }

    /// What is known of the rows, by id.
    pub(super) fn into_parts(mut self) -> Result<Changed, Error> {
        // Those of one import come by ascending id.
        self.rows.sort_by(|one, other| one.id.cmp(&other.id));
        if self.rows.windows(2).any(|pair| pair[0].id == pair[1].id) {
            return Err(Error::internal("a row changed twice at once"));
        }
        Ok(Changed {
            rows: self.rows,
            values: self.values,
            texts: self.texts,
        })
    }
}

/// A row of a customer that is looked at again.
pub(super) struct Row {
    pub(super) number: u32,
    pub(super) id: Vec<u8>,
    /// Whether it changed itself.
    pub(super) changed: bool,
    pub(super) before: Option<RowContent>,
    pub(super) now: Option<RowContent>,
    /// What it is called, if it changed.
    pub(super) text: RowTextPlace,
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
    /// By number.
    pub(super) rows: Vec<Row>,
    /// Where among these a number is.
    pub(super) row_places: Map<u32, u32>,
    /// By place among these: the row that names its customer now, or [`NONE`].
    pub(super) customers: Vec<u32>,
    /// Every key of these customers, by number.
    pub(super) keys: Vec<KeyUpdate>,
    /// Where among these a number is.
    pub(super) key_places: Map<u32, u32>,
    /// The values of the keys of rows that changed.
    pub(super) values: Values,
    /// What rows that changed are called and searched by.
    pub(super) texts: String,
    /// Ids of rows that there were not since the base, from the first number on.
    pub(super) later_ids: Vec<Vec<u8>>,
    pub(super) groups: Vec<(Hash, GroupChange)>,
    pub(super) later_keys: u32,
    pub(crate) totals: Totals,
}

/// Where each number is among those that are given.
pub(super) fn places(numbers: impl Iterator<Item = u32>) -> Map<u32, u32> {
    numbers.zip(0..).collect()
}

impl Update {
    /// Finds what the changes mean. `handles` names listed customers.
    pub(crate) fn find(
        own: &mut Own,
        changes: Changes<'_>,
        tiers: &StageTiers,
        handles: Option<&HandleKey>,
    ) -> Result<Self, Error> {
        let mut finder = Finder::take(own, changes)?;
        finder.close()?;
        finder.finish(tiers, handles)
    }

    /// The keys that are looked at again, by number.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &KeyUpdate> {
        self.keys.iter()
    }

    /// What becomes of a key, if it is looked at again.
    pub(crate) fn key(&self, number: u32) -> Option<&KeyUpdate> {
        let place = *self.key_places.get(&number)?;
        self.keys.get(place as usize)
    }

    /// The rows that are looked at again and are there: number, id, and whether the row changed.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (u32, &[u8], bool)> {
        self.rows
            .iter()
            .filter(|row| row.now.is_some())
            .map(|row| (row.number, row.id.as_slice(), row.changed))
    }

    /// What the rows that changed and are there are called, and their domains, one a line; by ascending id.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&[u8], &str, &str)> {
        let changed = self
            .rows
            .iter()
            .filter(|row| row.changed && row.now.is_some());
        let mut changed: Vec<&Row> = changed.collect();
        // Only rows that came since the base are out of order.
        changed.sort_by(|one, other| one.id.cmp(&other.id));
        changed.into_iter().map(|row| {
            let RowTextPlace { name, domains } = row.text.clone();
            (row.id.as_slice(), &self.texts[name], &self.texts[domains])
        })
    }

    /// The row that names the customer of a row that is looked at again.
    pub(crate) fn customer(&self, row: u32) -> Option<u32> {
        let place = *self.row_places.get(&row)?;
        let customer = *self.customers.get(place as usize)?;
        (customer != NONE).then_some(customer)
    }

    /// The id of a row that is looked at again.
    pub(crate) fn id(&self, row: u32) -> Option<&[u8]> {
        let place = *self.row_places.get(&row)?;
        self.rows.get(place as usize).map(|row| row.id.as_slice())
    }

    /// The key with this number as it is now.
    pub(crate) fn key_ref(&self, own: &mut Own, key: u32) -> Result<Option<KeyRef>, Error> {
        if let Some(update) = self.key(key) {
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
        salt: &Salt,
        read: &mut ReadKeys<'_>,
    ) -> Result<VecDeque<ChosenKey>, Error> {
        // Keys of rows that did not change, and come to be sent: their customers changed their tier.
        let mut ids: BTreeSet<&[u8]> = BTreeSet::new();
        let wanted: Set<Hash> = keys
            .iter()
            .filter_map(|key| self.key(*key))
            .map(|update| update.hash)
            .filter(|hash| self.values.value(hash).is_none())
            .collect();
        if !wanted.is_empty() {
            for row in &self.rows {
                let hashes = row.now.iter().flat_map(|content| &content.hashes);
                if hashes.into_iter().any(|hash| wanted.contains(hash)) {
                    ids.insert(&row.id);
                }
            }
            let values = &mut self.values;
            read(&mut ids.iter().copied(), &mut |key_type, value| {
                let hash = key_hash(salt, key_type, value);
                if wanted.contains(&hash) {
                    values.insert(hash, key_type, value.as_bytes());
                }
            })?;
        }
        let mut chosen = Vec::with_capacity(keys.len());
        for key in keys {
            let update = self.key(*key).ok_or_else(malformed)?;
            let now = update.now.ok_or_else(malformed)?;
            let value = self.values.value(&update.hash);
            let value = value.ok_or_else(|| Error::internal("a key without a value"))?;
            let key = now.of_key(update.number, update.key_type);
            chosen.push((
                update.hash,
                ChosenKey {
                    key,
                    value: value.to_vec(),
                },
            ));
        }
        chosen.sort_by_key(|(hash, _)| *hash);
        Ok(chosen.into_iter().map(|(_, key)| key).collect())
    }

    /// Makes what is found the customers that the next run goes on from.
    pub(crate) fn apply(&self, own: &mut Own) {
        let overlay = &mut own.overlay;
        let changed = self.rows.iter().filter(|row| row.changed).map(|row| {
            let changed = OverlayRow {
                number: row.number,
                content: row.now.clone(),
            };
            (row.id.clone(), changed)
        });
        let mut changed: Vec<_> = changed.collect();
        changed.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        overlay.take_rows(changed);
        overlay.later_ids.extend(self.later_ids.iter().cloned());
        overlay.groups.extend(self.groups.iter().cloned());
        overlay.later_keys += self.later_keys;
        overlay.references.reserve(self.keys.len());
        for update in &self.keys {
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
