//! The shared customers of a delta run: those that a change concerns are joined anew, the others stay as they are.
//!
//! A change concerns a shared customer if one of my rows in it changed, or a key that matched, or what the partner says of
//! it; and whatever a new match ties to it. The links of these are taken apart into edges, what changed is put in their
//! place, and the same join that a full run does of everything does its part with them.

mod apart;
mod described;
mod said;

use std::{collections::BTreeMap, path::Path};

use jiff::Timestamp;
use overlap_crypto::plan::Queries;
use serde::{Deserialize, Serialize};

pub(crate) use self::said::EdgeChanges;
use self::{apart::Before, said::Said};
use super::{
    links::{LinkTable, Links},
    maps::{Map, Set},
    own::{Own, Reference, Update},
};
use crate::{
    error::Error,
    matching::{spool::Sorter, terms::RunTerms},
    overlap::{
        graph::{EdgeKey, Graph, Handle, Link},
        layer::NewShared,
        reader::{Place, ResultSet},
    },
    storage::Store,
};

/// Numbers of shared customers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SharedTotals {
    /// By my stage and the partner's.
    cells: Vec<((u8, u8), u64)>,
    /// Customers of the partner's that match a listed customer of mine, by the partner's stage.
    pub(crate) mutual_partners_by_stage: Vec<u64>,
}

impl SharedTotals {
    pub(crate) fn of(graph: &Graph) -> Self {
        Self {
            cells: graph
                .cells()
                .iter()
                .map(|(at, count)| (*at, *count))
                .collect(),
            mutual_partners_by_stage: graph.mutual_partners_by_stage().to_vec(),
        }
    }

    pub(crate) fn cells(&self) -> BTreeMap<(u8, u8), u64> {
        self.cells
            .iter()
            .copied()
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}

/// What is needed to join.
pub(crate) struct Joining<'a> {
    pub(crate) terms: &'a RunTerms,
    /// What I query.
    pub(crate) queries: Option<Queries>,
    pub(crate) update: &'a Update,
    pub(crate) previous: &'a ResultSet,
    pub(crate) totals: &'a SharedTotals,
    pub(crate) store: &'a Store,
    pub(crate) now: Timestamp,
    pub(crate) scratch: &'a Path,
    pub(crate) sort_bytes: usize,
}

/// What becomes of the shared customers.
pub(crate) struct SharedUpdate {
    /// Ascending.
    pub(crate) gone: Vec<Place>,
    /// By id.
    pub(crate) new: Vec<NewShared>,
    /// The links of each.
    pub(crate) links: LinkTable,
    /// Handles, each with the place among the new ones; sorted.
    pub(crate) handles: Vec<(Handle, u32)>,
    /// Keys whose matching changed, by hash: whether they match now.
    pub(crate) matched: Vec<([u8; 16], bool)>,
    pub(crate) totals: SharedTotals,
    /// Labels that said nothing usable.
    pub(crate) bad_labels: u64,
    /// Labels that contradicted another of the same customer.
    pub(crate) disagreeing: u64,
}

fn incomplete() -> Error {
    Error::internal("the parts of a delta run's result do not fit together")
}

impl Joining<'_> {
    /// Joins what the changes concern.
    pub(crate) fn join(
        &self,
        own: &mut Own,
        links: &mut Links,
        changes: &EdgeChanges,
    ) -> Result<SharedUpdate, Error> {
        let said = changes.by_key();
        let mut before = Before {
            places: self.concerned(own, links, &said)?,
            ..Before::default()
        };
        let mut totals = self.totals.clone();
        let mut cells: BTreeMap<(u8, u8), u64> = totals.cells.iter().copied().collect();
        let mut edges =
            self.take_apart(own, links, changes, &mut before, &mut cells, &mut totals)?;
        let bad_labels = self.add(own, &said, &mut edges)?;

        let customers = self.customers(own, &mut before, &edges)?;
        let number_of: Map<u32, u32> = customers
            .iter()
            .map(|customer| customer.row)
            .zip(0..)
            .collect();
        let mut sorter = Sorter::new(self.scratch, "edges", self.sort_bytes);
        for (key, key_type, link, fields) in &edges.edges {
            let mut link = *link;
            link.customer = number_of[&link.customer];
            link.edge(*key, *key_type, &edges.fields[*fields])
                .push_to(&mut sorter)?;
        }
        let mut found = LinkTable::default();
        let graph = Graph::join(
            &self.terms.mine,
            customers.len(),
            &sorter.finish()?,
            self.terms.theirs.len(),
            (self.scratch, self.sort_bytes),
            Some(&mut |position, record| found.push(position, record)),
        )?;
        if found.len() != graph.len() as usize {
            return Err(incomplete());
        }
        for (at, count) in graph.cells() {
            *cells.entry(*at).or_default() += count;
        }
        totals.cells = cells.into_iter().collect();
        for (total, count) in totals
            .mutual_partners_by_stage
            .iter_mut()
            .zip(graph.mutual_partners_by_stage())
        {
            *total += count;
        }
        let mut keys = Set::default();
        let new = self.describe(&graph, &customers, &before, &found)?;
        keys.reserve(found.len());
        found.change(|record| {
            let (link, listed, _) = Link::parse(record)?;
            for key in Link::keys(listed) {
                keys.insert(key?.0.number);
            }
            let row = customers[link.customer as usize].row;
            Link::renumber(record, row, &|key| Some(key))
        })?;
        let mut handles = Vec::new();
        let mut stream = graph.handles().stream()?;
        while let Some(record) = stream.next_record()? {
            let (handle, place) = record.split_first_chunk().ok_or_else(incomplete)?;
            let place = place.try_into().map_err(|_| incomplete())?;
            handles.push((*handle, u32::from_be_bytes(place)));
        }
        handles.dedup();
        let differing = keys.symmetric_difference(&before.keys);
        let mut differing: Vec<u32> = differing.copied().collect();
        differing.sort_unstable();
        let mut matched = Vec::with_capacity(differing.len());
        for key in differing {
            let hash = match self.update.key(key) {
                Some(update) => update.hash,
                None => own.hash(key)?,
            };
            matched.push((hash, keys.contains(&key)));
        }
        matched.sort_unstable();
        Ok(SharedUpdate {
            gone: before.places,
            new,
            links: found,
            handles,
            matched,
            totals,
            bad_labels,
            disagreeing: graph.disagreeing(),
        })
    }

    /// The shared customers that a change concerns.
    fn concerned(
        &self,
        own: &mut Own,
        links: &Links,
        said: &[(EdgeKey, Option<&Said>)],
    ) -> Result<Vec<Place>, Error> {
        let mut places = Vec::new();
        let layer = self.previous.layer.as_ref();
        let mut take = |own: &mut Own, key: u32, reference: Reference| {
            if let Some(place) = links.in_layer(reference.customer) {
                places.push(place);
            } else if let Some(number) = own.component(key)? {
                let number = u64::from(number);
                if !layer.is_some_and(|layer| layer.hides(number)) {
                    places.push(Place::Base(number));
                }
            }
            Ok::<_, Error>(())
        };
        for update in self.update.keys() {
            if let Some(before) = update.before {
                take(own, update.number, before)?;
            }
        }
        let mut handles = Vec::new();
        for (key, said) in said {
            if self.update.key(key.number).is_none()
                && let Some(reference) = own.reference(key.number)?
            {
                take(own, key.number, reference)?;
            }
            handles.extend(said.map(|said| said.pseudonym));
        }
        handles.sort_unstable();
        handles.dedup();
        self.previous.places_of_handles(&handles, &mut places)?;
        places.sort_unstable();
        places.dedup();
        Ok(places)
    }
}
