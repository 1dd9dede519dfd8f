//! Takes the shared customers that a change concerns apart into the edges that hold of them.

use std::{
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use overlap_crypto::{
    list::Label,
    terms::{KeyType, Tier},
};

use super::{EdgeChanges, Joining, SharedTotals, incomplete, said::Said};
use crate::{
    error::Error,
    matching::delta::{
        links::Links,
        maps::{IdMap, IdSet, Map, Set},
        own::Own,
    },
    overlap::{
        graph::{Edge, EdgeKey, Handle, Link},
        layer::Id,
        reader::Place,
    },
};

/// The shared customers that a change concerns, as they were.
#[derive(Default)]
pub(super) struct Before {
    /// Ascending.
    pub(super) places: Vec<Place>,
    /// Those that may be as they were but for the links, by the id of the naming row.
    pub(super) stored: IdMap<Id, Unchanged>,
    /// When the shared customer of a row was first matched, by the row's id.
    pub(super) first_matched: IdMap<Id, i64>,
    /// The rows of my customers that did not change, the naming one first.
    pub(super) rows: Map<u32, Vec<Id>>,
    pub(super) keys: Set<u32>,
}

/// What a shared customer was called.
pub(super) struct Unchanged {
    pub(super) ids: Vec<Id>,
    pub(super) name: String,
    pub(super) text: Vec<u8>,
}

/// The edges of the shared customers that are joined anew.
pub(super) struct Edges {
    /// With the fields of each.
    pub(super) edges: Vec<(EdgeKey, KeyType, Link, usize)>,
    pub(super) fields: Vec<Vec<u8>>,
}

impl Joining<'_> {
    /// Whether a key of this stage is one that takes part in a flow.
    fn takes_part(&self, key: EdgeKey, stage: u8) -> bool {
        match (self.terms.mine.tier(stage), key.claimed) {
            (Tier::List, true) => true,
            (_, true) | (Tier::Hidden, false) => false,
            (Tier::List, false) => self.queries.is_some_and(|queries| queries.list),
            (Tier::Count, false) => self.queries.is_some_and(|queries| queries.count),
        }
    }

    /// The edges that hold of the shared customers that a change concerns.
    pub(super) fn take_apart(
        &self,
        own: &mut Own,
        links: &mut Links,
        changes: &EdgeChanges,
        before: &mut Before,
        cells: &mut BTreeMap<(u8, u8), u64>,
        totals: &mut SharedTotals,
    ) -> Result<Edges, Error> {
        let mut edges = Edges {
            edges: Vec::new(),
            fields: Vec::new(),
        };
        let mut partners: HashMap<Handle, (u8, bool)> = HashMap::new();
        // Shared customers of several of mine, of which it has to be found out whose rows are whose.
        let mut several: Vec<Id> = Vec::new();
        let changed: IdSet<&[u8]> = self
            .update
            .rows()
            .filter(|(_, _, changed)| *changed)
            .map(|(_, id, _)| id)
            .collect();
        before.stored.reserve(before.places.len());
        before.first_matched.reserve(before.places.len());
        before.rows.reserve(before.places.len());
        before.keys.reserve(before.places.len());
        let mut reader = self.previous.reader()?;
        for place in &before.places {
            let (column, stored, text) = reader.at(*place)?;
            let count = cells.entry((column.mine, column.theirs)).or_default();
            *count = count.checked_sub(1).ok_or_else(incomplete)?;
            let mut customer = None;
            let mut is_several = false;
            links.of(*place, &mut |record| {
                let (link, keys, fields) = Link::parse(record)?;
                is_several |= customer.is_some_and(|other| other != link.customer);
                customer = Some(link.customer);
                let partner = partners.entry(link.handle).or_insert((link.theirs, false));
                partner.1 |= self.terms.mine.tier(link.mine) == Tier::List;
                edges.fields.push(fields.to_vec());
                for key in Link::keys(keys) {
                    let (key, key_type) = key?;
                    before.keys.insert(key.number);
                    if changes.0.contains_key(&key) {
                        continue;
                    }
                    let mut link = link;
                    if let Some(update) = self.update.key(key.number) {
                        let Some(now) = update.now else { continue };
                        (link.customer, link.mine) = (now.customer, now.stage);
                        link.my_handle = now.handle;
                    }
                    if self.takes_part(key, link.mine) {
                        edges
                            .edges
                            .push((key, key_type, link, edges.fields.len() - 1));
                    }
                }
                Ok(())
            })?;
            let ids = stored.ids.iter().map(|id| Id::from(id.as_bytes()));
            let ids: Vec<Id> = ids.collect();
            for id in &ids {
                before
                    .first_matched
                    .insert(Rc::clone(id), column.first_matched);
            }
            match customer {
                Some(customer) if !is_several => {
                    if self.update.id(customer).is_none() {
                        before.rows.insert(customer, ids.clone());
                    }
                }
                _ => several.extend(ids.iter().cloned()),
            }
            if !ids.iter().any(|id| changed.contains(&**id)) {
                let unchanged = Unchanged {
                    name: stored.name.to_owned(),
                    text: text.to_vec(),
                    ids,
                };
                let naming = unchanged.ids.first().ok_or_else(incomplete)?;
                before.stored.insert(Rc::clone(naming), unchanged);
            }
        }
        for (stage, is_mutual) in partners.into_values() {
            if is_mutual {
                let total = totals.mutual_partners_by_stage.get_mut(usize::from(stage));
                let total = total.ok_or_else(incomplete)?;
                *total = total.checked_sub(1).ok_or_else(incomplete)?;
            }
        }
        several.sort_unstable();
        let ids: Vec<&[u8]> = several.iter().map(|id| &**id).collect();
        for (id, customer) in own.customers_of(&ids)? {
            if self.update.id(customer).is_none() {
                before.rows.entry(customer).or_default().push(id.into());
            }
        }
        Ok(edges)
    }

    /// Adds what is said anew, and returns how much of it is unusable.
    pub(super) fn add(
        &self,
        own: &mut Own,
        said: &[(EdgeKey, Option<&Said>)],
        edges: &mut Edges,
    ) -> Result<u64, Error> {
        let mut bad = 0;
        for (key, said) in said {
            let Some(said) = said else { continue };
            let found = self.update.key_ref(own, key.number)?;
            let found = found.ok_or_else(incomplete)?;
            let label = Label {
                stage: said.stage,
                pseudonym: said.pseudonym,
                fields: &said.fields,
            };
            match Edge::from_label(self.terms, &found, &label, key.claimed) {
                Some(edge) => {
                    edges.fields.push(edge.fields.to_vec());
                    let fields = edges.fields.len() - 1;
                    let link = Link::of_edge(&edge);
                    edges.edges.push((*key, found.key_type, link, fields));
                }
                None => bad += 1,
            }
        }
        Ok(bad)
    }
}
