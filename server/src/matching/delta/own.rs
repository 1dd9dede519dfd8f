//! What is remembered of my own customers, to tell what a change of a few rows means without reading the others.
//!
//! Rows and keys have numbers that hold from one merge of the state to the next: those of the base count up in the order of
//! ids, and of salted hashes; later ones follow. Beside the base lies what changed since.

mod find;
mod merge;
mod overlay;
mod update;
mod writer;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use overlap_crypto::terms::{KeyType, Tier};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use self::overlay::Overlay;
pub(crate) use self::{
    merge::Renumbered,
    overlay::OverlayDocument,
    update::{Changes, ChosenKey, ReadKeys, Update},
    writer::{OwnWriter, SeeKey},
};
use super::{
    beside::BesideWriter,
    column::{Access, Column, SEARCH_BYTES, array, number},
    maps::Map,
    sealed::StateKey,
    texts::{Texts, TextsDocument},
};
use crate::{
    error::Error,
    matching::{
        local_customers::{KeyCounts, KeyRef, LocalCustomers, MAX_ROWS_A_KEY, Salt, StageTiers},
        spool::link,
    },
    overlap::graph::{HANDLE_BYTES, Handle},
};

const ROWS: &str = "own.rows";
const KEYS: &str = "own.keys";
const GROUPS: &str = "own.groups";
const REFERENCES: &str = "own.references";

/// Bytes of a row's text before the hashes: stage, number of hashes.
const ROW_HEAD_BYTES: usize = 1 + 2;
/// Bytes of a record of keys and groups: salted hash, row, type.
const KEY_BYTES: usize = SEARCH_BYTES + 4 + 1;
/// Bytes of a key's reference: customer, stage, handle, component, type of the key.
const REFERENCE_BYTES: usize = 4 + 1 + HANDLE_BYTES + 4 + 1;

/// The salted hash of a key.
pub(crate) type Hash = [u8; SEARCH_BYTES];

/// Stands for no component, and for no row.
pub(crate) const NONE: u32 = u32::MAX;

/// Numbers of my customers, which a hello says in part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Totals {
    pub(crate) rows: u64,
    pub(crate) listed_keys: u64,
    pub(crate) counted_keys: u64,
    /// Customers with a usable key, by stage.
    pub(crate) customers_by_stage: Vec<u64>,
}

impl Totals {
    pub(crate) fn of(local: &LocalCustomers) -> Self {
        let counts = local.key_counts();
        Self {
            rows: local.rows() as u64,
            listed_keys: counts.list,
            counted_keys: counts.count,
            customers_by_stage: local.customers_by_stage().to_vec(),
        }
    }

    pub(crate) const fn key_counts(&self) -> KeyCounts {
        KeyCounts {
            list: self.listed_keys,
            count: self.counted_keys,
        }
    }
}

/// What the manifest keeps of my customers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OwnDocument {
    /// Salt of the keys' hashes, hexadecimal: keys keep their order through the epoch.
    salt: String,
    /// The last change of customers that the run saw.
    pub(crate) change_seq: u64,
    rows: TextsDocument,
    keys: u64,
    groups: u64,
    pub(crate) totals: Totals,
    overlay: OverlayDocument,
}

impl OwnDocument {
    /// The salt of the keys' hashes.
    pub(crate) fn salt(&self) -> Result<Salt, Error> {
        let mut salt = Salt::default();
        hex::decode_to_slice(&self.salt, &mut salt)
            .map_err(|_| Error::internal("a state manifest is malformed"))?;
        Ok(salt)
    }
}

/// The hashes of a row's keys, of which most have one or two.
pub(super) type Hashes = SmallVec<[Hash; 2]>;

/// What a row says: its stage, and the hashes of its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RowContent {
    stage: u8,
    hashes: Hashes,
}

impl RowContent {
    /// `stage || count || hashes`, before the id.
    fn head(&self) -> Result<Vec<u8>, Error> {
        let count = u16::try_from(self.hashes.len()).map_err(|_| malformed())?;
        let mut bytes = Vec::with_capacity(ROW_HEAD_BYTES + self.hashes.len() * SEARCH_BYTES);
        bytes.push(self.stage);
        bytes.extend_from_slice(&count.to_be_bytes());
        for hash in &self.hashes {
            bytes.extend_from_slice(hash);
        }
        Ok(bytes)
    }

    /// What a row's text says, and the id behind it.
    fn parse(text: &[u8]) -> Option<(Self, &[u8])> {
        let (&[stage, high, low], rest) = text.split_first_chunk()?;
        let count = usize::from(u16::from_be_bytes([high, low]));
        let (hashes, id) = rest.split_at_checked(count * SEARCH_BYTES)?;
        let hashes = Hashes::from_slice(hashes.as_chunks().0);
        Some((Self { stage, hashes }, id))
    }
}

/// The id in a row's text; empty if the text is malformed.
fn id_of(text: &[u8]) -> &[u8] {
    let start = match text {
        [_, high, low, ..] => 3 + usize::from(u16::from_be_bytes([*high, *low])) * SEARCH_BYTES,
        _ => 0,
    };
    text.get(start..).unwrap_or_default()
}

fn malformed() -> Error {
    Error::internal("the state of my customers is malformed")
}

/// The customer that a key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// Its naming row.
    pub(crate) customer: u32,
    pub(crate) stage: u8,
    pub(crate) handle: Handle,
}

impl Reference {
    /// The key with this number, as the records of a run carry it.
    pub(crate) const fn of_key(self, number: u32, key_type: KeyType) -> KeyRef {
        KeyRef {
            index: number,
            customer: self.customer,
            stage: self.stage,
            key_type,
            handle: self.handle,
        }
    }
}

/// The rows that a key stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    /// The number of the key, if it ever had one.
    key: Option<u32>,
    key_type: Option<KeyType>,
    /// Ascending; cut off after as many as were asked for.
    rows: SmallVec<[u32; 4]>,
}

/// The row that names a customer, and the ids of all its rows.
pub(crate) type CustomerRows = (u32, Vec<Vec<u8>>);

/// My customers as the last run saw them.
pub(crate) struct Own {
    directory: PathBuf,
    document: OwnDocument,
    rows: Texts,
    keys: Column,
    groups: Column,
    references: Column,
    overlay: Overlay,
    /// The references of the base that were looked up: a run asks for most of them several times.
    known: Map<u32, BaseReference>,
}

/// What a key of the base stood for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BaseReference {
    reference: Reference,
    /// The shared customer that its customer was in, or [`NONE`].
    component: u32,
    key_type: KeyType,
}

impl Own {
    pub(crate) fn open(
        directory: &Path,
        key: &StateKey,
        document: &OwnDocument,
    ) -> Result<Self, Error> {
        let open = |name, record, access, records| {
            Column::open(&directory.join(name), key, record, access, records)
        };
        Ok(Self {
            rows: Texts::open(&directory.join(ROWS), key, &document.rows)?,
            keys: open(KEYS, KEY_BYTES, Access::BySearch, document.keys)?,
            groups: open(GROUPS, KEY_BYTES, Access::BySearch, document.groups)?,
            references: open(REFERENCES, REFERENCE_BYTES, Access::ByNumber, document.keys)?,
            overlay: Overlay::open(directory, key, &document.overlay)?,
            known: Map::default(),
            directory: directory.to_owned(),
            document: document.clone(),
        })
    }

    /// Gives my customers to the next run: those of the base, and what changed.
    pub(crate) fn save(
        &self,
        directory: &Path,
        beside: &mut BesideWriter,
        change_seq: u64,
    ) -> Result<OwnDocument, Error> {
        for name in [ROWS, KEYS, GROUPS, REFERENCES] {
            link(&self.directory, directory, name)?;
        }
        Ok(OwnDocument {
            change_seq,
            overlay: self.overlay.save(beside)?,
            ..self.document.clone()
        })
    }

    /// How much lies beside the base, and how large that is: of rows, and of keys.
    pub(crate) fn shares(&self) -> [(u64, u64); 2] {
        [
            (self.overlay.rows.len() as u64, self.rows.len()),
            (self.overlay.references.len() as u64, self.keys.len()),
        ]
    }

    fn base_rows(&self) -> Result<u32, Error> {
        u32::try_from(self.rows.len()).map_err(|_| malformed())
    }

    fn base_keys(&self) -> Result<u32, Error> {
        u32::try_from(self.keys.len()).map_err(|_| malformed())
    }

    /// The number of the row with this id, if there ever was one since the base, and what it says, if it is there.
    fn row_by_id(&mut self, id: &[u8]) -> Result<Option<(u32, Option<RowContent>)>, Error> {
        if let Some(row) = self.overlay.row(id) {
            return Ok(Some((row.number, row.content.clone())));
        }
        let number = self.rows.lower_bound(id, id_of)?;
        if number == self.rows.len() {
            return Ok(None);
        }
        let (content, found) = RowContent::parse(self.rows.get(number)?).ok_or_else(malformed)?;
        let number = u32::try_from(number).map_err(|_| malformed())?;
        Ok((found == id).then_some((number, Some(content))))
    }

    /// The id of a row, and what it says, if it is there.
    fn row(&mut self, number: u32) -> Result<(Vec<u8>, Option<RowContent>), Error> {
        let base = self.base_rows()?;
        if let Some(later) = number.checked_sub(base) {
            let id = self.overlay.later_ids.get(later as usize);
            let id = id.ok_or_else(malformed)?;
            let row = self.overlay.row(id).ok_or_else(malformed)?;
            return Ok((id.clone(), row.content.clone()));
        }
        let text = self.rows.get(number.into())?;
        let (content, id) = RowContent::parse(text).ok_or_else(malformed)?;
        let content = match self.overlay.row(id) {
            Some(row) => row.content.clone(),
            None => Some(content),
        };
        Ok((id.to_vec(), content))
    }

    /// The id of a row.
    pub(crate) fn id(&mut self, number: u32) -> Result<String, Error> {
        String::from_utf8(self.row(number)?.0).map_err(|_| malformed())
    }

    /// The rows that a key stands on, up to `most` of them.
    fn group(&mut self, hash: &Hash, most: usize) -> Result<Group, Error> {
        let mut group = Group {
            key: None,
            key_type: None,
            rows: SmallVec::new(),
        };
        if let Some(at) = self.keys.find(hash)? {
            let record = self.keys.get(at)?;
            group.key = Some(u32::try_from(at).map_err(|_| malformed())?);
            group.key_type = KeyType::from_code(record[KEY_BYTES - 1]);
            group.rows.push(number(record, SEARCH_BYTES));
        }
        let change = self.overlay.groups.get(hash);
        let removed = change.map_or(0, |change| change.removed.len());
        if let Some(first) = self.groups.find(hash)? {
            group.rows.clear();
            for at in first..self.groups.len() {
                let record = self.groups.get(at)?;
                if record[..SEARCH_BYTES] != *hash || group.rows.len() > most + removed {
                    break;
                }
                group.key_type = KeyType::from_code(record[KEY_BYTES - 1]);
                group.rows.push(number(record, SEARCH_BYTES));
            }
        }
        if let Some(change) = change {
            group.key = group.key.or(change.number);
            group.key_type = group.key_type.or(Some(change.key_type));
            group
                .rows
                .retain(|row| change.removed.binary_search(row).is_err());
            group.rows.extend_from_slice(&change.added);
            group.rows.sort_unstable();
        }
        group.rows.truncate(most);
        Ok(group)
    }

    /// What a key stands for; `None` if it is not usable.
    pub(crate) fn reference(&mut self, key: u32) -> Result<Option<Reference>, Error> {
        if let Some(changed) = self.overlay.references.get(&key) {
            return Ok(changed.reference);
        }
        Ok(Some(self.base_reference(key)?.reference))
    }

    /// A key as the records of a run carry it; `None` if it is not usable.
    pub(crate) fn key_ref(&mut self, key: u32) -> Result<Option<KeyRef>, Error> {
        if let Some(changed) = self.overlay.references.get(&key) {
            let reference = changed.reference;
            return Ok(reference.map(|reference| reference.of_key(key, changed.key_type)));
        }
        let base = self.base_reference(key)?;
        Ok(Some(base.reference.of_key(key, base.key_type)))
    }

    /// What a key of the base stood for.
    fn base_reference(&mut self, key: u32) -> Result<BaseReference, Error> {
        if let Some(known) = self.known.get(&key) {
            return Ok(*known);
        }
        let found = self.read_reference(key)?;
        self.known.insert(key, found);
        Ok(found)
    }

    fn read_reference(&mut self, key: u32) -> Result<BaseReference, Error> {
        let record = self.references.get(key.into())?;
        Ok(BaseReference {
            reference: Reference {
                customer: number(record, 0),
                stage: record[4],
                handle: array(&record[5..5 + HANDLE_BYTES]),
            },
            component: number(record, 5 + HANDLE_BYTES),
            key_type: KeyType::from_code(record[REFERENCE_BYTES - 1]).ok_or_else(malformed)?,
        })
    }

    /// The component of the base that a key's customer was in, if neither has changed since.
    pub(crate) fn component(&mut self, key: u32) -> Result<Option<u32>, Error> {
        if self.overlay.references.contains_key(&key) || key >= self.base_keys()? {
            return Ok(None);
        }
        let component = self.base_reference(key)?.component;
        Ok((component != NONE).then_some(component))
    }

    /// The salted hash of a key.
    pub(crate) fn hash(&mut self, key: u32) -> Result<Hash, Error> {
        if key >= self.base_keys()? {
            let changed = self.overlay.references.get(&key).ok_or_else(malformed)?;
            return Ok(changed.hash);
        }
        let record = self.keys.get(key.into())?;
        Ok(array(&record[..SEARCH_BYTES]))
    }

    /// The rows of customers that did not change, by their naming rows, which ascend: the ids of each.
    pub(crate) fn rows_of(&mut self, naming: &[u32]) -> Result<Vec<CustomerRows>, Error> {
        let mut found = Vec::with_capacity(naming.len());
        for &customer in naming {
            // Most customers are one row.
            let mut rows = BTreeMap::new();
            let mut open = vec![customer];
            while let Some(number) = open.pop() {
                if rows.contains_key(&number) {
                    continue;
                }
                let (id, content) = self.row(number)?;
                rows.insert(number, id);
                for hash in content.ok_or_else(malformed)?.hashes {
                    let group = self.group(&hash, MAX_ROWS_A_KEY + 1)?;
                    if group.rows.len() <= MAX_ROWS_A_KEY {
                        open.extend(group.rows);
                    }
                }
            }
            found.push((customer, rows.into_values().collect()));
        }
        Ok(found)
    }

    /// The customers that rows are part of: by the rows' ids, which ascend.
    pub(crate) fn customers_of(&mut self, ids: &[&[u8]]) -> Result<BTreeMap<Vec<u8>, u32>, Error> {
        let mut hashes: BTreeMap<Hash, Vec<&[u8]>> = BTreeMap::new();
        for id in ids {
            if let Some((_, Some(content))) = self.row_by_id(id)? {
                for hash in content.hashes {
                    hashes.entry(hash).or_default().push(id);
                }
            }
        }
        let mut keys: BTreeMap<u32, Vec<&[u8]>> = BTreeMap::new();
        for (hash, ids) in hashes {
            let number = match self
                .overlay
                .groups
                .get(&hash)
                .and_then(|group| group.number)
            {
                Some(number) => Some(number),
                None => match self.keys.find(&hash)? {
                    Some(at) => Some(u32::try_from(at).map_err(|_| malformed())?),
                    None => None,
                },
            };
            if let Some(number) = number {
                keys.entry(number).or_default().extend(ids);
            }
        }
        let mut customers = BTreeMap::new();
        for (key, ids) in keys {
            if let Some(reference) = self.reference(key)? {
                for id in ids {
                    customers.insert(id.to_vec(), reference.customer);
                }
            }
        }
        Ok(customers)
    }
}

/// A side's stages as the state binds them.
pub(crate) fn describe(tiers: &StageTiers) -> Vec<String> {
    tiers
        .iter()
        .map(|(_, stage, tier)| format!("{} {} {tier:?}", stage.ordinal, stage.id))
        .collect()
}

/// Whether keys of a stage are listed.
pub(crate) fn is_listed(tiers: &StageTiers, reference: Option<Reference>) -> bool {
    reference.is_some_and(|reference| tiers.tier(reference.stage) == Tier::List)
}
