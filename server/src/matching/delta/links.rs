//! What makes the shared customers of the result: their links, by number, of the base and of the layer over it.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    beside::{BesideWriter, SectionDocument, read_section},
    maps::Map,
    sealed::StateKey,
    texts::{TextWriter, Texts, TextsDocument},
};
use crate::{
    error::Error,
    matching::spool::link,
    overlap::{
        graph::{Link, LinkSink},
        layer::Origin,
        merge::Merged,
        reader::Place,
    },
};

const BASE: &str = "links.base";

/// What the manifest keeps of the links.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LinksDocument {
    base: TextsDocument,
    layer: SectionDocument,
}

/// Writes the links of shared customers by number.
pub(crate) struct LinksWriter(TextWriter);

impl LinksWriter {
    /// For those of a base.
    pub(crate) fn create(directory: &Path, key: &StateKey) -> Result<Self, Error> {
        Ok(Self(TextWriter::create(&directory.join(BASE), key)?))
    }

    pub(crate) fn push(&mut self, number: u32, record: &[u8]) -> Result<(), Error> {
        let number = number.to_be_bytes();
        self.0.push(&number, &[&number, record])
    }

    /// Completes a base without a layer.
    pub(crate) fn finish(self) -> Result<LinksDocument, Error> {
        Ok(LinksDocument {
            base: self.0.finish()?,
            layer: SectionDocument::default(),
        })
    }
}

fn malformed() -> Error {
    Error::internal("a kept link is malformed")
}

fn split(text: &[u8]) -> Result<(u32, &[u8]), Error> {
    let (number, record) = text.split_first_chunk().ok_or_else(malformed)?;
    Ok((u32::from_be_bytes(*number), record))
}

/// Links in memory, by the number of the shared customer.
#[derive(Default)]
pub(crate) struct LinkTable {
    bytes: Vec<u8>,
    /// Where each record is.
    records: Vec<Range<usize>>,
    /// Which records each number has.
    of: Vec<Range<usize>>,
}

impl LinkTable {
    /// Appends a record; numbers do not decrease.
    pub(crate) fn push(&mut self, number: u32, record: &[u8]) -> Result<(), Error> {
        let (number, next) = (number as usize, self.records.len());
        if number + 1 < self.of.len() {
            return Err(Error::internal("links that do not ascend"));
        }
        self.of.resize(number + 1, next..next);
        self.of[number].end += 1;
        let start = self.bytes.len();
        self.bytes.extend_from_slice(record);
        self.records.push(start..self.bytes.len());
        Ok(())
    }

    /// The numbers that have links are below this.
    pub(crate) fn len(&self) -> usize {
        self.of.len()
    }

    /// The records of a number.
    pub(crate) fn of(&self, number: u32) -> impl Iterator<Item = &[u8]> {
        let records = self.of.get(number as usize).cloned().unwrap_or_default();
        let records = self.records[records].iter();
        records.map(|record| &self.bytes[record.clone()])
    }

    /// Visits every record, to change it in place.
    pub(crate) fn change(
        &mut self,
        mut visit: impl FnMut(&mut [u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for record in &self.records {
            visit(&mut self.bytes[record.clone()])?;
        }
        Ok(())
    }
}

/// The links of the last run's shared customers.
pub(crate) struct Links {
    directory: PathBuf,
    document: LinksDocument,
    base: Texts,
    layer: LinkTable,
    /// In the layer: the shared customer of each of my customers.
    of_customer: Map<u32, u32>,
}

impl Links {
    pub(crate) fn open(
        directory: &Path,
        key: &StateKey,
        document: &LinksDocument,
    ) -> Result<Self, Error> {
        let mut layer = LinkTable::default();
        let mut of_customer = Map::default();
        of_customer.reserve(usize::try_from(document.layer.len()).map_err(|_| malformed())?);
        read_section(directory, key, &document.layer, &mut |text| {
            let (number, record) = split(text)?;
            of_customer.insert(Link::parse(record)?.0.customer, number);
            layer.push(number, record)
        })?;
        Ok(Self {
            directory: directory.to_owned(),
            document: document.clone(),
            base: Texts::open(&directory.join(BASE), key, &document.base)?,
            layer,
            of_customer,
        })
    }

    /// The shared customer of the layer that one of my customers is part of.
    pub(crate) fn in_layer(&self, customer: u32) -> Option<Place> {
        let number = self.of_customer.get(&customer)?;
        Some(Place::Layer(u64::from(*number)))
    }

    /// Visits the links of a shared customer.
    pub(crate) fn of(
        &mut self,
        place: Place,
        visit: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let number = match place {
            Place::Layer(number) => {
                let number = u32::try_from(number).map_err(|_| malformed())?;
                return self.layer.of(number).try_for_each(visit);
            }
            Place::Base(number) => u32::try_from(number).map_err(|_| malformed())?,
        };
        let key = |text: &[u8]| -> usize { text.len().min(4) };
        let mut at = self
            .base
            .lower_bound(&number.to_be_bytes(), |text| &text[..key(text)])?;
        while at < self.base.len() {
            let (other, record) = split(self.base.get(at)?)?;
            if other != number {
                break;
            }
            visit(record)?;
            at += 1;
        }
        Ok(())
    }

    /// The links of a shared customer of the next layer.
    fn origin<'a>(
        &'a self,
        origin: Origin,
        new: &'a LinkTable,
    ) -> Result<impl Iterator<Item = &'a [u8]>, Error> {
        let (table, number) = match origin {
            Origin::Before(number) => (&self.layer, number),
            Origin::New(place) => (new, place),
        };
        let exists = (number as usize) < table.len();
        exists.then(|| table.of(number)).ok_or_else(malformed)
    }

    /// Gives the links to the next run: those of the base, and of a layer whose shared customers come from `origins`.
    pub(crate) fn save(
        &self,
        directory: &Path,
        beside: &mut BesideWriter,
        origins: &[Origin],
        new: &LinkTable,
    ) -> Result<LinksDocument, Error> {
        link(&self.directory, directory, BASE)?;
        let mut layer = beside.section();
        for (number, origin) in (0_u32..).zip(origins) {
            let number = number.to_be_bytes();
            for record in self.origin(*origin, new)? {
                layer.push(&[&number, record])?;
            }
        }
        Ok(LinksDocument {
            base: self.document.base.clone(),
            layer: layer.finish()?,
        })
    }

    /// Visits the links of all shared customers of a result, by the numbers that they have once it is merged.
    pub(crate) fn visit(
        &mut self,
        order: &[Merged],
        origins: &[Origin],
        new: &LinkTable,
        visit: &mut LinkSink<'_>,
    ) -> Result<(), Error> {
        let mut at = 0;
        for (now, place) in (0_u32..).zip(order) {
            match place {
                Merged::Base(number) => {
                    // Those of a base ascend.
                    while at < self.base.len() {
                        let (other, record) = split(self.base.get(at)?)?;
                        if other > *number {
                            break;
                        }
                        if other == *number {
                            visit(now, record)?;
                        }
                        at += 1;
                    }
                }
                Merged::Layer(number) => {
                    let origin = origins.get(*number as usize).ok_or_else(malformed)?;
                    for record in self.origin(*origin, new)? {
                        visit(now, record)?;
                    }
                }
            }
        }
        Ok(())
    }
}
