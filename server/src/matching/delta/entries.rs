//! What an epoch's runs derived: the entries of every query, or of every published tag, by tag.
//!
//! The entries of the last full run, or of the last that merged, are a base that stays as it is; what came and went since
//! lies beside it.

use std::path::{Path, PathBuf};

use overlap_crypto::item::{Derived, Entry, PADDING};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    beside::{BesideWriter, SectionDocument, read_section},
    column::{Access, Column, ColumnWriter, array, number},
    sealed::StateKey,
};
use crate::{error::Error, matching::spool::link};

/// Bytes of the claim and the label master of an entry.
const SECRETS_BYTES: usize = 48;
/// Bytes of an entry that was added: tag, secrets, owner.
const ADDED_BYTES: usize = 16 + SECRETS_BYTES + 4;

/// What the manifest keeps of an [`EntryTable`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EntriesDocument {
    base: u64,
    added: SectionDocument,
    dead: SectionDocument,
    /// How many entries the full run declared, padding included.
    declared: u64,
}

fn tags_name(name: &str) -> String {
    format!("{name}.tags")
}

fn secrets_name(name: &str) -> String {
    format!("{name}.secrets")
}

fn owners_name(name: &str) -> String {
    format!("{name}.owners")
}

/// Writes a base, in the order of tags.
pub(crate) struct EntriesWriter {
    tags: ColumnWriter,
    secrets: ColumnWriter,
    owners: ColumnWriter,
}

impl EntriesWriter {
    pub(crate) fn create(directory: &Path, key: &StateKey, name: &str) -> Result<Self, Error> {
        let create = |name: String, record, access| {
            ColumnWriter::create(&directory.join(name), key, record, access)
        };
        Ok(Self {
            tags: create(tags_name(name), 16, Access::BySearch)?,
            secrets: create(secrets_name(name), SECRETS_BYTES, Access::ByNumber)?,
            owners: create(owners_name(name), 4, Access::Through)?,
        })
    }

    /// Appends the entry of the key with this number, or of padding.
    pub(crate) fn push(&mut self, entry: &Entry, key: u32) -> Result<(), Error> {
        let derived = &entry.derived;
        self.tags.push(&[&derived.tag])?;
        self.secrets.push(&[&derived.claim, &derived.master])?;
        self.owners.push(&[&key.to_be_bytes()])
    }

    /// Completes the table; the epoch's full run declared so many entries.
    pub(crate) fn finish(self, declared: u64) -> Result<EntriesDocument, Error> {
        self.secrets.finish()?;
        self.owners.finish()?;
        Ok(EntriesDocument {
            base: self.tags.finish()?,
            added: SectionDocument::default(),
            dead: SectionDocument::default(),
            declared,
        })
    }
}

/// Every live entry of the epoch. An entry's id is its place in the base, counted on through those that were added.
pub(crate) struct EntryTable {
    name: &'static str,
    directory: PathBuf,
    declared: u64,
    base: u32,
    tags: Column,
    secrets: Column,
    owners: Column,
    /// By tag; their owners are numbers of keys.
    added: Zeroizing<Vec<Entry>>,
    /// Ids that are void, ascending.
    dead: Vec<u32>,
}

impl EntryTable {
    pub(crate) fn open(
        directory: &Path,
        key: &StateKey,
        name: &'static str,
        document: &EntriesDocument,
    ) -> Result<Self, Error> {
        let long = |_| Error::internal("a long column");
        let mut added = Zeroizing::new(Vec::with_capacity(
            usize::try_from(document.added.len()).map_err(long)?,
        ));
        read_section(directory, key, &document.added, &mut |record| {
            let record: &[u8; ADDED_BYTES] = record.try_into().map_err(|_| malformed())?;
            added.push(Entry {
                owner: number(record, 64),
                derived: derived(&record[..16], &record[16..64]),
            });
            Ok(())
        })?;
        let mut dead = Vec::with_capacity(usize::try_from(document.dead.len()).map_err(long)?);
        read_section(directory, key, &document.dead, &mut |record| {
            let id = record.try_into().map_err(|_| malformed())?;
            dead.push(u32::from_be_bytes(id));
            Ok(())
        })?;
        let open = |name: String, record, access| {
            Column::open(&directory.join(name), key, record, access, document.base)
        };
        Ok(Self {
            name,
            directory: directory.to_owned(),
            declared: document.declared,
            base: u32::try_from(document.base).map_err(|_| Error::internal("a long table"))?,
            tags: open(tags_name(name), 16, Access::BySearch)?,
            secrets: open(secrets_name(name), SECRETS_BYTES, Access::ByNumber)?,
            owners: open(owners_name(name), 4, Access::Through)?,
            added,
            dead,
        })
    }

    /// Number of entries the full run declared, padding included.
    pub(crate) const fn declared(&self) -> u64 {
        self.declared
    }

    /// How much lies beside the base, and how large that is.
    pub(crate) fn share(&self) -> (u64, u64) {
        let changed = self.added.len().max(self.dead.len());
        (changed as u64, self.base.into())
    }

    /// Number of live entries, padding included.
    pub(crate) fn live(&self) -> u64 {
        (u64::from(self.base) + self.added.len() as u64).saturating_sub(self.dead.len() as u64)
    }

    /// Whether an id stands for a live entry.
    pub(crate) fn is_live(&self, id: u32) -> bool {
        self.dead.binary_search(&id).is_err()
    }

    /// Ids are below this.
    pub(crate) fn bound(&self) -> u64 {
        u64::from(self.base) + self.added.len() as u64
    }

    /// Visits the live entries' ids and owners.
    pub(crate) fn scan(&mut self, mut visit: impl FnMut(u32, u32)) -> Result<(), Error> {
        let mut dead = self.dead.iter().copied().peekable();
        let mut live = |id: u32, owner: u32| {
            if dead.next_if_eq(&id).is_none() {
                visit(id, owner);
            }
        };
        let mut id = 0;
        self.owners.scan(|_, record| {
            live(id, number(record, 0));
            id += 1;
            Ok(())
        })?;
        for entry in self.added.iter() {
            live(id, entry.owner);
            id += 1;
        }
        Ok(())
    }

    /// The id of the live entry with this tag.
    pub(crate) fn id(&mut self, tag: &[u8; 16]) -> Result<Option<u32>, Error> {
        if let Ok(place) = self
            .added
            .binary_search_by(|entry| entry.derived.tag.cmp(tag))
        {
            let id = self.base + u32::try_from(place).expect("at most 2^32 entries");
            if self.is_live(id) {
                return Ok(Some(id));
            }
        }
        let id = self.tags.find(tag)?;
        let id = id.map(|id| u32::try_from(id).expect("at most 2^32 entries"));
        Ok(id.filter(|id| self.is_live(*id)))
    }

    /// The live entry with this tag.
    pub(crate) fn find(&mut self, tag: &[u8; 16]) -> Result<Option<Zeroizing<Entry>>, Error> {
        match self.id(tag)? {
            Some(id) => self.entry(id).map(Some),
            None => Ok(None),
        }
    }

    /// The tag of an entry.
    pub(crate) fn tag(&mut self, id: u32) -> Result<[u8; 16], Error> {
        match id.checked_sub(self.base) {
            Some(place) => Ok(self.added[place as usize].derived.tag),
            None => Ok(array(self.tags.get(id.into())?)),
        }
    }

    /// The key whose entry it is, or [`PADDING`].
    pub(crate) fn owner(&mut self, id: u32) -> Result<u32, Error> {
        match id.checked_sub(self.base) {
            Some(place) => Ok(self.added[place as usize].owner),
            None => Ok(number(self.owners.get(id.into())?, 0)),
        }
    }

    /// An entry with its owner.
    pub(crate) fn entry(&mut self, id: u32) -> Result<Zeroizing<Entry>, Error> {
        if let Some(place) = id.checked_sub(self.base) {
            return Ok(Zeroizing::new(self.added[place as usize]));
        }
        let tag = self.tag(id)?;
        Ok(Zeroizing::new(Entry {
            owner: self.owner(id)?,
            derived: derived(&tag, self.secrets.get(id.into())?),
        }))
    }

    /// Makes entries void.
    pub(crate) fn remove(&mut self, ids: impl Iterator<Item = u32>) {
        self.dead.extend(ids);
        self.dead.sort_unstable();
        self.dead.dedup();
    }

    /// Adds entries. No id that was handed out holds any longer.
    pub(crate) fn add(&mut self, entries: &[Entry]) {
        let base = self.base;
        let live = |place: usize| {
            let id = base + u32::try_from(place).expect("at most 2^32 entries");
            self.dead.binary_search(&id).is_err()
        };
        let mut added = Zeroizing::new(Vec::with_capacity(self.added.len() + entries.len()));
        for (place, entry) in self.added.iter().enumerate() {
            if live(place) {
                added.push(*entry);
            }
        }
        added.extend_from_slice(entries);
        added.sort_by_key(|entry| entry.derived.tag);
        self.added = added;
        self.dead.retain(|id| *id < base);
    }

    /// Gives the table to the next run, in its directory.
    pub(crate) fn save(
        mut self,
        directory: &Path,
        beside: &mut BesideWriter,
    ) -> Result<EntriesDocument, Error> {
        // Those that are void go.
        self.add(&[]);
        for name in [
            tags_name(self.name),
            secrets_name(self.name),
            owners_name(self.name),
        ] {
            link(&self.directory, directory, &name)?;
        }
        let mut added = beside.section();
        for Entry { owner, derived } in self.added.iter() {
            added.push(&[
                &derived.tag,
                &derived.claim,
                &derived.master,
                &owner.to_be_bytes(),
            ])?;
        }
        let added = added.finish()?;
        let mut dead = beside.section();
        for id in &self.dead {
            dead.push(&[&id.to_be_bytes()])?;
        }
        Ok(EntriesDocument {
            base: self.base.into(),
            added,
            dead: dead.finish()?,
            declared: self.declared,
        })
    }

    /// Writes the live entries as a new base; `renumbered` gives the keys' new numbers.
    pub(crate) fn merge(
        mut self,
        directory: &Path,
        key: &StateKey,
        renumbered: &dyn Fn(u32) -> Option<u32>,
    ) -> Result<EntriesDocument, Error> {
        self.add(&[]);
        let owner_now = |owner| {
            if owner == PADDING {
                return Ok(PADDING);
            }
            renumbered(owner).ok_or_else(|| Error::internal("an entry's key is gone"))
        };
        let mut writer = EntriesWriter::create(directory, key, self.name)?;
        let mut dead = std::mem::take(&mut self.dead).into_iter().peekable();
        let added = std::mem::take(&mut self.added);
        let mut added = added.iter().peekable();
        for id in 0..self.base {
            if dead.next_if_eq(&id).is_some() {
                continue;
            }
            let entry = self.entry(id)?;
            while let Some(before) = added.next_if(|other| other.derived.tag < entry.derived.tag) {
                writer.push(before, owner_now(before.owner)?)?;
            }
            writer.push(&entry, owner_now(entry.owner)?)?;
        }
        for entry in added {
            writer.push(entry, owner_now(entry.owner)?)?;
        }
        writer.finish(self.declared)
    }
}

fn malformed() -> Error {
    Error::internal("a kept entry is malformed")
}

fn derived(tag: &[u8], secrets: &[u8]) -> Derived {
    let mut derived = Derived {
        tag: array(tag),
        claim: [0; 16],
        master: [0; 32],
    };
    derived.claim.copy_from_slice(&secrets[..16]);
    derived.master.copy_from_slice(&secrets[16..]);
    derived
}
