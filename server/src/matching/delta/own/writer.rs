//! Writes my customers as a full run reads them.

use std::path::Path;

use super::{
    GROUPS, Hash, KEY_BYTES, KEYS, NONE, OwnDocument, REFERENCE_BYTES, REFERENCES, ROW_HEAD_BYTES,
    ROWS, Reference, Totals, overlay::OverlayDocument,
};
use crate::{
    error::Error,
    matching::{
        delta::{
            column::{Access, ColumnWriter, SEARCH_BYTES},
            sealed::StateKey,
            texts::{MAX_TEXT_BYTES, TextWriter},
        },
        local_customers::{Key, LocalCustomers, Observer, Salt},
    },
    overlap::graph::Graph,
};

/// Bytes of a row's key in the records that an [`Observer`] sees, before the type.
const SEEN_HEAD_BYTES: usize = SEARCH_BYTES + 4;

/// Takes a key that is read.
pub(crate) type SeeKey<'a> = dyn FnMut(&Key<'_>) -> Result<(), Error> + 'a;

/// Writes what the next run needs of my customers.
pub(crate) struct OwnWriter {
    rows: TextWriter,
    groups: ColumnWriter,
    /// The last key of a row that was seen, and whether its group was written.
    last: Option<([u8; KEY_BYTES], bool)>,
    /// Whether a row was too long to be kept.
    overflow: bool,
}

impl OwnWriter {
    pub(crate) fn create(directory: &Path, key: &StateKey) -> Result<Self, Error> {
        Ok(Self {
            rows: TextWriter::create(&directory.join(ROWS), key)?,
            groups: ColumnWriter::create(
                &directory.join(GROUPS),
                key,
                KEY_BYTES,
                Access::BySearch,
            )?,
            last: None,
            overflow: false,
        })
    }

    /// Adds the keys with their customers, which `see` takes too; `None` if my customers cannot be kept.
    pub(crate) fn finish(
        self,
        directory: &Path,
        key: &StateKey,
        (local, graph): (&LocalCustomers, &Graph),
        salt: &Salt,
        change_seq: u64,
        see: &mut SeeKey<'_>,
    ) -> Result<Option<OwnDocument>, Error> {
        let mut keys = KeysWriter::create(directory, key)?;
        let mut reader = local.keys()?;
        while let Some(found) = reader.next_key()? {
            see(&found)?;
            let reference = Reference {
                customer: found.customer,
                stage: found.stage,
                handle: found.handle,
            };
            let component = graph.of_customer(found.customer).unwrap_or(NONE);
            keys.push(
                found.hash,
                found.row,
                found.key_type.code(),
                &reference,
                component,
            )?;
        }
        let document = OwnDocument {
            salt: hex::encode(salt),
            change_seq,
            rows: self.rows.finish()?,
            keys: keys.finish()?,
            groups: self.groups.finish()?,
            totals: Totals::of(local),
            overlay: OverlayDocument::default(),
        };
        Ok((!self.overflow).then_some(document))
    }
}

impl Observer for OwnWriter {
    fn row(&mut self, id: &str, stage: u8, hashes: &[Hash]) -> Result<(), Error> {
        let count = u16::try_from(hashes.len());
        let bytes = ROW_HEAD_BYTES + hashes.as_flattened().len() + id.len();
        let (Ok(count), ..=MAX_TEXT_BYTES) = (count, bytes) else {
            self.overflow = true;
            return Ok(());
        };
        let [high, low] = count.to_be_bytes();
        self.rows.push(
            id.as_bytes(),
            &[&[stage, high, low], hashes.as_flattened(), id.as_bytes()],
        )
    }

    fn key(&mut self, record: &[u8]) -> Result<(), Error> {
        let mut found = [0; KEY_BYTES];
        found.copy_from_slice(
            record
                .get(..=SEEN_HEAD_BYTES)
                .ok_or_else(|| Error::internal("a key record is malformed"))?,
        );
        let mut written = false;
        if let Some((last, was_written)) = &self.last
            && last[..SEARCH_BYTES] == found[..SEARCH_BYTES]
        {
            // A row that has a key twice has it once here.
            if *last == found {
                return Ok(());
            }
            if !was_written {
                self.groups.push(&[last])?;
            }
            self.groups.push(&[&found])?;
            written = true;
        }
        self.last = Some((found, written));
        Ok(())
    }
}

/// Writes keys and what they stand for, by hash.
pub(super) struct KeysWriter {
    keys: ColumnWriter,
    references: ColumnWriter,
}

impl KeysWriter {
    pub(super) fn create(directory: &Path, key: &StateKey) -> Result<Self, Error> {
        Ok(Self {
            keys: ColumnWriter::create(&directory.join(KEYS), key, KEY_BYTES, Access::BySearch)?,
            references: ColumnWriter::create(
                &directory.join(REFERENCES),
                key,
                REFERENCE_BYTES,
                Access::ByNumber,
            )?,
        })
    }

    pub(super) fn push(
        &mut self,
        hash: &Hash,
        row: u32,
        key_type: u8,
        reference: &Reference,
        component: u32,
    ) -> Result<(), Error> {
        self.keys.push(&[hash, &row.to_be_bytes(), &[key_type]])?;
        self.references.push(&[
            &reference.customer.to_be_bytes(),
            &[reference.stage],
            &reference.handle,
            &component.to_be_bytes(),
            &[key_type],
        ])
    }

    pub(super) const fn len(&self) -> u64 {
        self.keys.len()
    }

    pub(super) fn finish(self) -> Result<u64, Error> {
        self.references.finish()?;
        self.keys.finish()
    }
}
