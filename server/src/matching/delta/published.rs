//! What the partner has published in the epoch: a base that stays as it is, and beside it what was published, published
//! anew and removed since.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{
    column::{Access, Column, ColumnWriter, array, number},
    sealed::StateKey,
};
use crate::{error::Error, matching::spool::link};

const TAGS: &str = "published.tags";
const LABELS: &str = "published.labels";
const CHANGES: &str = "published.changes";
/// Stands for the session that sealed a label where the tag is void.
const REMOVED: u32 = u32::MAX;
/// Bytes of a change before the label: tag, session.
const CHANGE_BYTES: usize = 16 + 4;

/// What the manifest keeps of [`Published`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PublishedDocument {
    base: u64,
    changes: u64,
    /// The sessions that sealed the labels, hexadecimal: first that of the base.
    sessions: Vec<String>,
}

impl PublishedDocument {
    /// Tags of the base.
    pub(crate) const fn base(&self) -> u64 {
        self.base
    }
}

/// Writes a base, in the order of tags. Labels of several sessions make changes of those of the later ones.
pub(crate) struct PublishedWriter {
    tags: ColumnWriter,
    labels: ColumnWriter,
}

impl PublishedWriter {
    pub(crate) fn create(
        directory: &Path,
        key: &StateKey,
        sealed_bytes: usize,
    ) -> Result<Self, Error> {
        Ok(Self {
            tags: ColumnWriter::create(&directory.join(TAGS), key, 16, Access::BySearch)?,
            labels: ColumnWriter::create(
                &directory.join(LABELS),
                key,
                4 + sealed_bytes,
                Access::Through,
            )?,
        })
    }

    /// A tag with its label, sealed by the session of this number; tags increase.
    pub(crate) fn publish(
        &mut self,
        tag: &[u8; 16],
        session: u32,
        sealed: &[u8],
    ) -> Result<(), Error> {
        self.tags.push(&[tag])?;
        self.labels.push(&[&session.to_be_bytes(), sealed])
    }

    /// Completes a base whose labels these sessions sealed.
    pub(crate) fn finish(self, sessions: &[[u8; 32]]) -> Result<PublishedDocument, Error> {
        self.labels.finish()?;
        Ok(PublishedDocument {
            base: self.tags.finish()?,
            changes: 0,
            sessions: sessions.iter().map(hex::encode).collect(),
        })
    }
}

fn changes_writer(
    directory: &Path,
    key: &StateKey,
    sealed_bytes: usize,
) -> Result<ColumnWriter, Error> {
    let path = directory.join(CHANGES);
    ColumnWriter::create(&path, key, CHANGE_BYTES + sealed_bytes, Access::BySearch)
}

/// What a run publishes and removes, each by tag.
#[derive(Default)]
pub(crate) struct PublishedNow {
    removed: Vec<[u8; 16]>,
    tags: Vec<[u8; 16]>,
    labels: Vec<u8>,
}

impl PublishedNow {
    /// A tag that is void; tags increase.
    pub(crate) fn remove(&mut self, tag: &[u8; 16]) {
        self.removed.push(*tag);
    }

    /// A tag with its sealed label; tags increase.
    pub(crate) fn publish(&mut self, tag: &[u8; 16], sealed: &[u8]) {
        self.tags.push(*tag);
        self.labels.extend_from_slice(sealed);
    }

    /// Whether a tag is published.
    pub(crate) fn publishes(&self, tag: &[u8; 16]) -> bool {
        self.tags.binary_search(tag).is_ok()
    }

    /// The label of a tag that is published, which is so many bytes long.
    pub(crate) fn label(&self, tag: &[u8; 16], sealed_bytes: usize) -> Option<&[u8]> {
        let place = self.tags.binary_search(tag).ok()?;
        self.labels.chunks_exact(sealed_bytes).nth(place)
    }

    /// The tags that are void, ascending.
    pub(crate) fn removed(&self) -> &[[u8; 16]] {
        &self.removed
    }
}

/// A sealed label, and the session that sealed it.
pub(crate) type SessionLabel<'a> = ([u8; 32], &'a [u8]);

/// Takes a tag, the number of the session that sealed its label, and the label.
type VisitChange<'a> = dyn FnMut(&[u8; 16], u32, &[u8]) -> Result<(), Error> + 'a;

/// Every tag that the partner has published in the epoch, with the label it has now.
pub(crate) struct Published {
    directory: PathBuf,
    sealed_bytes: usize,
    tags: Column,
    labels: Column,
    /// Present if there are any.
    changes: Option<Column>,
    sessions: Vec<[u8; 32]>,
}

/// Where the label of a published tag is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LabelPlace {
    Base(u64),
    Changed(u64),
}

fn open_changes(
    directory: &Path,
    key: &StateKey,
    sealed_bytes: usize,
    count: u64,
) -> Result<Column, Error> {
    let path = directory.join(CHANGES);
    Column::open(
        &path,
        key,
        CHANGE_BYTES + sealed_bytes,
        Access::BySearch,
        count,
    )
}

impl Published {
    pub(crate) fn open(
        directory: &Path,
        key: &StateKey,
        document: &PublishedDocument,
        sealed_bytes: usize,
    ) -> Result<Self, Error> {
        let sessions = document.sessions.iter().map(|session| {
            let mut bytes = [0; 32];
            hex::decode_to_slice(session, &mut bytes)
                .map_err(|_| Error::internal("a state manifest is malformed"))?;
            Ok(bytes)
        });
        Ok(Self {
            directory: directory.to_owned(),
            sealed_bytes,
            tags: Column::open(
                &directory.join(TAGS),
                key,
                16,
                Access::BySearch,
                document.base,
            )?,
            labels: Column::open(
                &directory.join(LABELS),
                key,
                4 + sealed_bytes,
                Access::Through,
                document.base,
            )?,
            changes: (document.changes > 0)
                .then(|| open_changes(directory, key, sealed_bytes, document.changes))
                .transpose()?,
            sessions: sessions.collect::<Result<_, Error>>()?,
        })
    }

    fn changed(&self) -> u64 {
        self.changes.as_ref().map_or(0, Column::len)
    }

    /// Tags that were ever published: more cannot be removed.
    pub(crate) fn ever(&self) -> u64 {
        self.tags.len() + self.changed()
    }

    /// How much lies beside the base, and how large that is.
    pub(crate) fn share(&self) -> (u64, u64) {
        (self.changed(), self.tags.len())
    }

    /// Where the label of a tag is; `None` if it is not published or void.
    pub(crate) fn find(&mut self, tag: &[u8; 16]) -> Result<Option<LabelPlace>, Error> {
        if let Some(changes) = &mut self.changes
            && let Some(at) = changes.find(tag)?
        {
            let is_void = number(changes.get(at)?, 16) == REMOVED;
            return Ok((!is_void).then_some(LabelPlace::Changed(at)));
        }
        Ok(self.tags.find(tag)?.map(LabelPlace::Base))
    }

    /// The sealed label at a place, and the session that sealed it.
    pub(crate) fn label(&mut self, place: LabelPlace) -> Result<SessionLabel<'_>, Error> {
        let (session, label) = match (place, &mut self.changes) {
            (LabelPlace::Base(at), _) => {
                let record = self.labels.get(at)?;
                (number(record, 0), &record[4..])
            }
            (LabelPlace::Changed(at), Some(changes)) => {
                let record = changes.get(at)?;
                (number(record, 16), &record[CHANGE_BYTES..])
            }
            (LabelPlace::Changed(_), None) => {
                return Err(Error::internal("a label among changes that there are not"));
            }
        };
        let session = self.sessions.get(session as usize).copied();
        let session = session.ok_or_else(|| Error::internal("a label of an unknown session"))?;
        Ok((session, label))
    }

    /// The table of the next run in its directory: this one, and what `session` published and removed.
    pub(crate) fn extend(
        mut self,
        directory: &Path,
        key: &StateKey,
        now: &PublishedNow,
        session: [u8; 32],
    ) -> Result<PublishedDocument, Error> {
        link(&self.directory, directory, TAGS)?;
        link(&self.directory, directory, LABELS)?;
        let mut writer = changes_writer(directory, key, self.sealed_bytes)?;
        self.sessions.push(session);
        self.visit_changes(now, &mut |tag, session, sealed| {
            writer.push(&[tag, &session.to_be_bytes(), sealed])
        })?;
        Ok(PublishedDocument {
            base: self.tags.len(),
            changes: writer.finish()?,
            sessions: self.sessions.iter().map(hex::encode).collect(),
        })
    }

    /// [`Published::extend`] into a new base.
    pub(crate) fn merge(
        mut self,
        directory: &Path,
        key: &StateKey,
        now: &PublishedNow,
        session: [u8; 32],
        scratch: &Path,
    ) -> Result<PublishedDocument, Error> {
        // First all that is beside the base, then both together.
        self.sessions.push(session);
        let mut records = changes_writer(scratch, key, self.sealed_bytes)?;
        self.visit_changes(now, &mut |tag, session, sealed| {
            records.push(&[tag, &session.to_be_bytes(), sealed])
        })?;
        let count = records.finish()?;
        let mut changes = open_changes(scratch, key, self.sealed_bytes, count)?;
        let mut writer = PublishedWriter::create(directory, key, self.sealed_bytes)?;
        let mut next = 0;
        let mut change = |until: Option<&[u8; 16]>, writer: &mut PublishedWriter| {
            while next < count {
                let record = changes.get(next)?;
                let tag = array(&record[..16]);
                if until.is_some_and(|until| tag > *until) {
                    break;
                }
                next += 1;
                let session = number(record, 16);
                if session != REMOVED {
                    writer.publish(&tag, session, &record[CHANGE_BYTES..])?;
                }
                if until == Some(&tag) {
                    return Ok(true);
                }
            }
            Ok::<_, Error>(false)
        };
        for at in 0..self.tags.len() {
            let tag = array(self.tags.get(at)?);
            if !change(Some(&tag), &mut writer)? {
                let record = self.labels.get(at)?;
                writer.publish(&tag, number(record, 0), &record[4..])?;
            }
        }
        change(None, &mut writer)?;
        writer.finish(&self.sessions)
    }

    /// Visits what was changed since the base, by tag; what the newest session says counts.
    fn visit_changes(
        &mut self,
        now: &PublishedNow,
        visit: &mut VisitChange<'_>,
    ) -> Result<(), Error> {
        let newest =
            u32::try_from(self.sessions.len() - 1).map_err(|_| Error::internal("many sessions"))?;
        let nothing = vec![0; self.sealed_bytes];
        let labels = now.labels.chunks_exact(self.sealed_bytes);
        let mut published = now.tags.iter().zip(labels).peekable();
        let mut removed = now.removed.iter().peekable();
        let mut before = 0;
        loop {
            let old = match &mut self.changes {
                Some(changes) if before < changes.len() => Some(changes.get(before)?),
                _ => None,
            };
            let tags = [
                old.map(|record| array(&record[..16])),
                published.peek().map(|(tag, _)| **tag),
                removed.peek().map(|tag| **tag),
            ];
            let Some(tag) = tags.into_iter().flatten().min() else {
                return Ok(());
            };
            // A tag that was removed and published in one run is published.
            let is_void = removed.next_if(|other| **other == tag).is_some();
            if let Some((_, sealed)) = published.next_if(|(other, _)| **other == tag) {
                visit(&tag, newest, sealed)?;
            } else if is_void {
                visit(&tag, REMOVED, &nothing)?;
            } else if let Some(record) = old {
                visit(&tag, number(record, 16), &record[CHANGE_BYTES..])?;
            }
            before += u64::from(tags[0] == Some(tag));
        }
    }
}
