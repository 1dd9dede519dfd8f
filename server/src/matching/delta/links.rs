//! What makes the shared customers of the result: their links, by number, of the base and of the layer over it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    beside::{BesideWriter, SectionDocument, read_section},
    maps::Map,
    sealed::{StateKey, link},
    texts::{TextWriter, Texts, TextsDocument},
};
use crate::{
    error::Error,
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

/// The links of the last run's shared customers.
pub(crate) struct Links {
    directory: PathBuf,
    document: LinksDocument,
    base: Texts,
    /// Those of the layer by number.
    layer: BTreeMap<u32, Vec<Vec<u8>>>,
    /// In the layer: the shared customer of each of my customers.
    of_customer: Map<u32, u32>,
}

impl Links {
    pub(crate) fn open(
        directory: &Path,
        key: &StateKey,
        document: &LinksDocument,
    ) -> Result<Self, Error> {
        let mut layer: BTreeMap<u32, Vec<Vec<u8>>> = BTreeMap::new();
        let mut of_customer = Map::default();
        read_section(directory, key, &document.layer, &mut |text| {
            let (number, record) = split(text)?;
            of_customer.insert(Link::parse(record)?.0.customer, number);
            layer.entry(number).or_default().push(record.to_vec());
            Ok(())
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
                let records = self.layer.get(&number).into_iter().flatten();
                return records.map(Vec::as_slice).try_for_each(visit);
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

    /// Gives the links to the next run: those of the base, and of a layer whose shared customers come from `origins`.
    pub(crate) fn save(
        &self,
        directory: &Path,
        beside: &mut BesideWriter,
        origins: &[Origin],
        new: &[Vec<Vec<u8>>],
    ) -> Result<LinksDocument, Error> {
        link(&self.directory, directory, BASE)?;
        let mut layer = beside.section();
        for (number, origin) in (0_u32..).zip(origins) {
            let records = match origin {
                Origin::Before(before) => self.layer.get(before),
                Origin::New(place) => new.get(*place as usize),
            };
            for record in records.ok_or_else(malformed)? {
                let number = number.to_be_bytes();
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
        new: &[Vec<Vec<u8>>],
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
                    let records = match origins.get(*number as usize) {
                        Some(Origin::Before(before)) => self.layer.get(before),
                        Some(Origin::New(place)) => new.get(*place as usize),
                        None => None,
                    };
                    for record in records.ok_or_else(malformed)? {
                        visit(now, record)?;
                    }
                }
            }
        }
        Ok(())
    }
}
