//! What an epoch's runs derived and published, by tag: one level a run, the newest last.

use std::path::{Path, PathBuf};

use overlap_crypto::item::{Derived, Entry, PADDING};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::column::{Column, ColumnWriter, FENCE_BYTES, StateKey, read_numbers, write_numbers};
use crate::{error::Error, matching::spool::disk};

/// Stands for the owner of an entry whose key is gone.
pub(crate) const GONE: u32 = PADDING - 1;
/// Bytes of the claim and the label master of an entry.
const SECRETS_BYTES: usize = 48;

/// What the manifest keeps of one sorted column of tags.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TagsDocument {
    records: u64,
    /// Hexadecimal.
    fences: String,
}

/// What the manifest keeps of an [`EntryTable`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EntriesDocument {
    levels: Vec<TagsDocument>,
    /// How many entries the full run declared, padding included.
    pub(crate) declared: u64,
}

impl EntriesDocument {
    /// Entries of the levels after the first.
    pub(crate) fn added(&self) -> u64 {
        self.levels.iter().skip(1).map(|level| level.records).sum()
    }
}

fn fences(document: &TagsDocument) -> Result<Vec<[u8; FENCE_BYTES]>, Error> {
    let bytes = hex::decode(&document.fences)
        .map_err(|_| Error::internal("a state manifest is malformed"))?;
    Ok(bytes.as_chunks::<FENCE_BYTES>().0.to_vec())
}

fn finish_tags(tags: ColumnWriter) -> Result<TagsDocument, Error> {
    let (records, fences) = tags.finish_fenced()?;
    Ok(TagsDocument {
        records,
        fences: hex::encode(fences),
    })
}

/// Gives a file of the last run to this one as well.
fn link(from: &Path, to: &Path, name: &str) -> Result<(), Error> {
    let (from, to) = (from.join(name), to.join(name));
    std::fs::hard_link(&from, &to).map_err(|error| disk(&to, &error))
}

/// Writes one level of entries, in the order of tags.
pub(crate) struct EntryLevelWriter {
    tags: ColumnWriter,
    secrets: ColumnWriter,
    owners: Vec<u32>,
}

impl EntryLevelWriter {
    /// The `level`-th level of the table `name`.
    pub(crate) fn create(
        directory: &Path,
        key: &StateKey,
        name: &str,
        level: usize,
    ) -> Result<Self, Error> {
        Ok(Self {
            tags: ColumnWriter::create(&directory.join(tags_name(name, level)), key, 16)?,
            secrets: ColumnWriter::create(
                &directory.join(secrets_name(name, level)),
                key,
                SECRETS_BYTES,
            )?,
            owners: Vec::new(),
        })
    }

    /// Appends the entry of the key at position `key`, or of padding.
    pub(crate) fn push(&mut self, entry: &Entry, key: u32) -> Result<(), Error> {
        self.tags.push(&[&entry.derived.tag])?;
        self.secrets
            .push(&[&entry.derived.claim, &entry.derived.master])?;
        self.owners.push(key);
        Ok(())
    }

    /// The level's part of the manifest, and the owners of its entries.
    pub(crate) fn finish(self) -> Result<(TagsDocument, Vec<u32>), Error> {
        self.secrets.finish()?;
        Ok((finish_tags(self.tags)?, self.owners))
    }

    /// Completes a table that has this level only.
    pub(crate) fn finish_table(
        self,
        directory: &Path,
        key: &StateKey,
        name: &str,
        declared: u64,
    ) -> Result<EntriesDocument, Error> {
        let (level, owners) = self.finish()?;
        write_numbers(&directory.join(owners_name(name)), key, &owners)?;
        Ok(EntriesDocument {
            levels: vec![level],
            declared,
        })
    }
}

fn tags_name(name: &str, level: usize) -> String {
    format!("{name}.{level}.tags")
}

fn secrets_name(name: &str, level: usize) -> String {
    format!("{name}.{level}.secrets")
}

fn owners_name(name: &str) -> String {
    format!("{name}.owners")
}

/// The entries of every query, or of every published tag, of the epoch. An entry's id is its place in its level, counted on
/// through the levels; its owner is a key of the current run.
pub(crate) struct EntryTable {
    name: &'static str,
    directory: PathBuf,
    document: EntriesDocument,
    levels: Vec<EntryLevel>,
    /// By id: the position of the key, [`PADDING`], or [`GONE`].
    pub(crate) owners: Vec<u32>,
}

struct EntryLevel {
    start: u64,
    fences: Vec<[u8; FENCE_BYTES]>,
    tags: Column,
    secrets: Column,
}

impl EntryLevel {
    fn open(
        directory: &Path,
        key: &StateKey,
        (name, number): (&str, usize),
        document: &TagsDocument,
        start: u64,
    ) -> Result<Self, Error> {
        let column = |name: String, record| {
            Column::open(&directory.join(name), key, record, document.records)
        };
        Ok(Self {
            start,
            fences: fences(document)?,
            tags: column(tags_name(name, number), 16)?,
            secrets: column(secrets_name(name, number), SECRETS_BYTES)?,
        })
    }
}

impl EntryTable {
    pub(crate) fn open(
        directory: &Path,
        key: &StateKey,
        name: &'static str,
        document: &EntriesDocument,
    ) -> Result<Self, Error> {
        let mut levels = Vec::new();
        let mut start = 0;
        for (number, level) in document.levels.iter().enumerate() {
            levels.push(EntryLevel::open(
                directory,
                key,
                (name, number),
                level,
                start,
            )?);
            start += level.records;
        }
        Ok(Self {
            owners: read_numbers(&directory.join(owners_name(name)), key, start)?,
            name,
            directory: directory.to_owned(),
            document: document.clone(),
            levels,
        })
    }

    /// Number of entries the full run declared, padding included.
    pub(crate) const fn declared(&self) -> u64 {
        self.document.declared
    }

    /// The live entry with this tag.
    pub(crate) fn find(&mut self, tag: &[u8; 16]) -> Result<Option<u32>, Error> {
        for level in self.levels.iter_mut().rev() {
            if let Some(at) = level.tags.find(&level.fences, tag)? {
                let id = level.start + at;
                let index = usize::try_from(id).expect("a table in memory");
                if self.owners[index] != GONE {
                    return Ok(Some(u32::try_from(id).expect("at most 2^32 entries")));
                }
            }
        }
        Ok(None)
    }

    fn level(&mut self, id: u32) -> (&mut EntryLevel, u64) {
        let id = u64::from(id);
        let number = self.levels.partition_point(|level| level.start <= id) - 1;
        let level = &mut self.levels[number];
        let at = id - level.start;
        (level, at)
    }

    /// The tag of an entry.
    pub(crate) fn tag(&mut self, id: u32) -> Result<[u8; 16], Error> {
        let (level, at) = self.level(id);
        Ok(array(level.tags.get(at)?))
    }

    /// An entry with its current owner.
    pub(crate) fn entry(&mut self, id: u32) -> Result<Zeroizing<Entry>, Error> {
        let owner = self.owners[id as usize];
        let (level, at) = self.level(id);
        let mut entry = Zeroizing::new(Entry {
            owner,
            derived: Derived {
                tag: array(level.tags.get(at)?),
                claim: [0; 16],
                master: [0; 32],
            },
        });
        let secrets = level.secrets.get(at)?;
        entry.derived.claim.copy_from_slice(&secrets[..16]);
        entry.derived.master.copy_from_slice(&secrets[16..]);
        Ok(entry)
    }

    /// Takes a new level in, for the next run: its entries can be found from now on.
    pub(crate) fn add(
        &mut self,
        directory: &Path,
        key: &StateKey,
        level: EntryLevelWriter,
    ) -> Result<(), Error> {
        let number = self.levels.len();
        let (document, owners) = level.finish()?;
        self.levels.push(EntryLevel::open(
            directory,
            key,
            (self.name, number),
            &document,
            self.owners.len() as u64,
        )?);
        self.document.levels.push(document);
        self.owners.extend(owners);
        Ok(())
    }

    /// Completes the table of the next run in its directory, which has the new level already.
    pub(crate) fn finish(self, directory: &Path, key: &StateKey) -> Result<EntriesDocument, Error> {
        for number in 0..self.levels.len().saturating_sub(1) {
            link(&self.directory, directory, &tags_name(self.name, number))?;
            link(&self.directory, directory, &secrets_name(self.name, number))?;
        }
        write_numbers(&directory.join(owners_name(self.name)), key, &self.owners)?;
        Ok(self.document)
    }

    /// The number that the next level has.
    pub(crate) const fn next_level(&self) -> usize {
        self.document.levels.len()
    }
}

fn array<const N: usize>(record: &[u8]) -> [u8; N] {
    record
        .try_into()
        .expect("a column's records have its length")
}

/// What the manifest keeps of [`Published`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PublishedDocument {
    levels: Vec<PublishedLevelDocument>,
}

impl PublishedDocument {
    /// Tags of the levels after the first.
    pub(crate) fn added(&self) -> u64 {
        self.levels
            .iter()
            .skip(1)
            .map(|level| level.tags.records)
            .sum()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PublishedLevelDocument {
    tags: TagsDocument,
    removed: TagsDocument,
    /// The session that sealed the labels, hexadecimal.
    session: String,
}

/// Writes what one run published.
pub(crate) struct PublishedLevelWriter {
    tags: ColumnWriter,
    labels: ColumnWriter,
    removed: ColumnWriter,
}

const PUBLISHED: &str = "published";

fn labels_name(level: usize) -> String {
    format!("{PUBLISHED}.{level}.labels")
}

fn removed_name(level: usize) -> String {
    format!("{PUBLISHED}.{level}.removed")
}

impl PublishedLevelWriter {
    pub(crate) fn create(
        directory: &Path,
        key: &StateKey,
        level: usize,
        sealed_bytes: usize,
    ) -> Result<Self, Error> {
        let column =
            |name: String, record| ColumnWriter::create(&directory.join(name), key, record);
        Ok(Self {
            tags: column(tags_name(PUBLISHED, level), 16)?,
            labels: column(labels_name(level), sealed_bytes)?,
            removed: column(removed_name(level), 16)?,
        })
    }

    /// A tag with its sealed label; tags increase.
    pub(crate) fn publish(&mut self, tag: &[u8; 16], sealed: &[u8]) -> Result<(), Error> {
        self.tags.push(&[tag])?;
        self.labels.push(&[sealed])
    }

    /// A tag that is void; tags increase.
    pub(crate) fn remove(&mut self, tag: &[u8; 16]) -> Result<(), Error> {
        self.removed.push(&[tag])
    }

    /// Number of tags that were removed.
    pub(crate) const fn removed(&self) -> u64 {
        self.removed.len()
    }

    /// Completes the level that `session` published.
    fn finish(self, session: &[u8; 32]) -> Result<PublishedLevelDocument, Error> {
        self.labels.finish()?;
        Ok(PublishedLevelDocument {
            tags: finish_tags(self.tags)?,
            removed: finish_tags(self.removed)?,
            session: hex::encode(session),
        })
    }

    /// Completes a table that has this level only.
    pub(crate) fn finish_table(self, session: &[u8; 32]) -> Result<PublishedDocument, Error> {
        Ok(PublishedDocument {
            levels: vec![self.finish(session)?],
        })
    }
}

/// Every tag that the partner has published in the epoch, with the label it has now.
pub(crate) struct Published {
    directory: PathBuf,
    document: PublishedDocument,
    levels: Vec<PublishedLevel>,
}

struct PublishedLevel {
    tags: Column,
    tag_fences: Vec<[u8; FENCE_BYTES]>,
    labels: Column,
    removed: Column,
    removed_fences: Vec<[u8; FENCE_BYTES]>,
    session: [u8; 32],
}

impl Published {
    pub(crate) fn open(
        directory: &Path,
        key: &StateKey,
        document: &PublishedDocument,
        sealed_bytes: usize,
    ) -> Result<Self, Error> {
        let mut levels = Vec::new();
        for (number, level) in document.levels.iter().enumerate() {
            levels.push(open_level(directory, key, number, level, sealed_bytes)?);
        }
        Ok(Self {
            directory: directory.to_owned(),
            document: document.clone(),
            levels,
        })
    }

    /// Tags that were ever published: more cannot be removed.
    pub(crate) fn ever(&self) -> u64 {
        self.levels.iter().map(|level| level.tags.len()).sum()
    }

    /// The level and the place in it of a tag's label; `None` if it is not published or void.
    fn place(&mut self, tag: &[u8; 16]) -> Result<Option<(usize, u64)>, Error> {
        for (number, level) in self.levels.iter_mut().enumerate().rev() {
            if let Some(at) = level.tags.find(&level.tag_fences, tag)? {
                return Ok(Some((number, at)));
            }
            if level.removed.find(&level.removed_fences, tag)?.is_some() {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// A tag's sealed label, and the number of the level that has it.
    pub(crate) fn label(&mut self, tag: &[u8; 16]) -> Result<Option<(usize, &[u8])>, Error> {
        match self.place(tag)? {
            Some((number, at)) => Ok(Some((number, self.levels[number].labels.get(at)?))),
            None => Ok(None),
        }
    }

    /// The tags that the newest level removed, ascending.
    pub(crate) fn newly_removed(&mut self) -> Result<Vec<[u8; 16]>, Error> {
        let Some(level) = self.levels.last_mut() else {
            return Ok(Vec::new());
        };
        (0..level.removed.len())
            .map(|index| level.removed.get(index).map(array))
            .collect()
    }

    /// The session that published a level.
    pub(crate) fn session(&self, level: usize) -> [u8; 32] {
        self.levels[level].session
    }

    /// Number of levels.
    pub(crate) const fn levels(&self) -> usize {
        self.levels.len()
    }

    /// The table of the next run: this one and one level more.
    pub(crate) fn extend(
        self,
        directory: &Path,
        key: &StateKey,
        level: PublishedLevelWriter,
        session: &[u8; 32],
        sealed_bytes: usize,
    ) -> Result<(Self, PublishedDocument), Error> {
        let Self {
            directory: from,
            mut document,
            mut levels,
        } = self;
        for number in 0..levels.len() {
            link(&from, directory, &tags_name(PUBLISHED, number))?;
            link(&from, directory, &labels_name(number))?;
            link(&from, directory, &removed_name(number))?;
        }
        let level = level.finish(session)?;
        levels.push(open_level(
            directory,
            key,
            levels.len(),
            &level,
            sealed_bytes,
        )?);
        document.levels.push(level);
        let extended = Self {
            directory: directory.to_owned(),
            document: document.clone(),
            levels,
        };
        Ok((extended, document))
    }
}

fn open_level(
    directory: &Path,
    key: &StateKey,
    number: usize,
    level: &PublishedLevelDocument,
    sealed_bytes: usize,
) -> Result<PublishedLevel, Error> {
    let column =
        |name: String, record, records| Column::open(&directory.join(name), key, record, records);
    let mut session = [0; 32];
    hex::decode_to_slice(&level.session, &mut session)
        .map_err(|_| Error::internal("a state manifest is malformed"))?;
    Ok(PublishedLevel {
        tags: column(tags_name(PUBLISHED, number), 16, level.tags.records)?,
        tag_fences: fences(&level.tags)?,
        labels: column(labels_name(number), sealed_bytes, level.tags.records)?,
        removed: column(removed_name(number), 16, level.removed.records)?,
        removed_fences: fences(&level.removed)?,
        session,
    })
}
