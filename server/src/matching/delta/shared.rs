//! The shared customers of a delta run: those that a change concerns are joined anew, the others stay as they are.
//!
//! A change concerns a shared customer if one of my rows in it changed, or a key that matched, or what the partner says of
//! it; and whatever a new match ties to it. The links of these are taken apart into edges, what changed is put in their
//! place, and the same join that a full run does of everything does its part with them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::Path,
    rc::Rc,
};

use jiff::Timestamp;
use overlap_crypto::{
    list::Label,
    plan::Queries,
    terms::{KeyType, Tier},
};
use serde::{Deserialize, Serialize};

use super::{
    links::Links,
    maps::{Map, Set},
    own::{Own, Reference, Update},
};
use crate::{
    customers::rows::searchable,
    error::Error,
    matching::{spool::Sorter, terms::RunTerms},
    overlap::{
        graph::{Edge, EdgeKey, Graph, Handle, Link},
        layer::{Id, NewShared},
        part::Column,
        reader::{Place, ResultSet},
        writer::{join_texts, search_text},
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

/// What a label or a claim says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    stage: u8,
    pseudonym: Handle,
    fields: Vec<u8>,
}

/// What the flows of a run found: what is said of keys now, by key.
#[derive(Default)]
pub(crate) struct EdgeChanges(Map<EdgeKey, Option<Said>>);

impl EdgeChanges {
    /// A key matches, and this is said of it; nothing if that is unusable.
    pub(crate) fn say(&mut self, key: EdgeKey, label: Option<&Label<'_>>) {
        let said = label.map(|label| Said {
            stage: label.stage,
            pseudonym: label.pseudonym,
            fields: label.fields.to_vec(),
        });
        self.0.insert(key, said);
    }

    /// A key does not match any more.
    pub(crate) fn end(&mut self, key: EdgeKey) {
        self.0.insert(key, None);
    }

    /// What is said, by key.
    fn by_key(&self) -> Vec<(EdgeKey, Option<&Said>)> {
        let said = self.0.iter().map(|(key, said)| (*key, said.as_ref()));
        let mut said: Vec<_> = said.collect();
        said.sort_unstable_by_key(|(key, _)| *key);
        said
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
    pub(crate) links: Vec<Vec<Vec<u8>>>,
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

/// The shared customers that a change concerns, as they were.
#[derive(Default)]
struct Before {
    /// Ascending.
    places: Vec<Place>,
    /// Those that may be as they were but for the links, by the id of the naming row.
    stored: HashMap<Id, Unchanged>,
    /// When the shared customer of a row was first matched, by the row's id.
    first_matched: HashMap<Id, i64>,
    /// The rows of my customers that did not change, the naming one first.
    rows: Map<u32, Vec<Id>>,
    keys: Set<u32>,
}

/// What a shared customer was called.
struct Unchanged {
    ids: Vec<Id>,
    name: String,
    text: Vec<u8>,
}

fn incomplete() -> Error {
    Error::internal("the parts of a delta run's result do not fit together")
}

/// The edges of the shared customers that are joined anew.
struct Edges {
    /// With the fields of each.
    edges: Vec<(EdgeKey, KeyType, Link, usize)>,
    fields: Vec<Vec<u8>>,
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
        let mut found: Vec<Vec<Vec<u8>>> = Vec::new();
        let graph = Graph::join(
            &self.terms.mine,
            customers.len(),
            &sorter.finish()?,
            self.terms.theirs.len(),
            (self.scratch, self.sort_bytes),
            Some(&mut |position, record| {
                found.resize_with(found.len().max(position as usize + 1), Vec::new);
                found[position as usize].push(record.to_vec());
                Ok(())
            }),
        )?;
        found.resize_with(graph.len() as usize, Vec::new);
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
        for record in found.iter_mut().flatten() {
            let (link, listed, _) = Link::parse(record)?;
            for key in Link::keys(listed) {
                keys.insert(key?.0.number);
            }
            let row = customers[link.customer as usize].row;
            Link::renumber(record, row, &|key| Some(key))?;
        }
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
    fn take_apart(
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
        let changed: HashSet<&[u8]> = self
            .update
            .rows()
            .filter(|(_, _, changed)| *changed)
            .map(|(_, id, _)| id)
            .collect();
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
            let ids = stored.ids.into_iter().map(|id| Id::from(id.into_bytes()));
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
                    name: stored.name,
                    text,
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
    fn add(
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

    /// My customers that the edges lead to, by id.
    fn customers(
        &self,
        own: &mut Own,
        before: &mut Before,
        edges: &Edges,
    ) -> Result<Vec<Customer>, Error> {
        let rows = edges.edges.iter().map(|(_, _, link, _)| link.customer);
        let mut rows: Vec<u32> = rows.collect();
        rows.sort_unstable();
        rows.dedup();
        let mut touched: Map<u32, Vec<Id>> = Map::default();
        for (row, id, _) in self.update.rows() {
            if let Some(customer) = self.update.customer(row)
                && rows.binary_search(&customer).is_ok()
            {
                touched.entry(customer).or_default().push(id.into());
            }
        }
        let mut customers = Vec::with_capacity(rows.len());
        let mut alone = Vec::new();
        for row in rows {
            let customer = if let Some(id) = self.update.id(row) {
                let ids = touched.remove(&row).ok_or_else(incomplete)?;
                Customer::new(row, id.into(), ids)
            } else if let Some(ids) = before.rows.remove(&row) {
                Customer::new(row, own_id(own, row, &ids)?, ids)
            } else {
                // It was not shared before, and is not looked at for a change of its own.
                alone.push(row);
                continue;
            };
            customers.push(customer);
        }
        for (row, ids) in own.rows_of(&alone)? {
            let id = own.id(row)?.into_bytes().into();
            let ids = ids.into_iter().map(Id::from).collect();
            customers.push(Customer::new(row, id, ids));
        }
        customers.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(customers)
    }

    /// What the result's files say of the shared customers.
    fn describe(
        &self,
        graph: &Graph,
        customers: &[Customer],
        before: &Before,
        links: &[Vec<Vec<u8>>],
    ) -> Result<Vec<NewShared>, Error> {
        let mut new = Vec::with_capacity(links.len());
        // The rows that have to be looked up, and what they are called.
        let mut names: BTreeMap<Id, (String, Vec<u8>)> = BTreeMap::new();
        let mut components = graph.components()?;
        for records in links {
            let found = components.next_component()?.ok_or_else(incomplete)?;
            let (component, my_handle, fields) = found;
            let naming = &customers[component.customer as usize];
            let mut ids = BTreeSet::new();
            for record in records {
                let customer = &customers[Link::parse(record)?.0.customer as usize];
                ids.extend(customer.ids.iter().map(Rc::clone));
            }
            ids.remove(&naming.id);
            let ids: Vec<Id> = std::iter::once(Rc::clone(&naming.id)).chain(ids).collect();
            let now = self.now.as_second();
            let first_matched = ids
                .iter()
                .map(|id| before.first_matched.get(id).copied().unwrap_or(now))
                .min();
            let unchanged = before.stored.get(&naming.id).filter(|stored| {
                let mut were: Vec<&Id> = stored.ids[1..].iter().collect();
                were.sort_unstable();
                were.into_iter().eq(&ids[1..])
            });
            if unchanged.is_none() {
                names.extend(ids.iter().map(|id| (Rc::clone(id), Default::default())));
            }
            new.push(NewShared {
                column: Column {
                    mine: component.mine,
                    theirs: component.theirs,
                    key_types: component.key_types,
                    mutual: component.mutual,
                    first_matched: first_matched.unwrap_or(now),
                },
                my_handle: *my_handle,
                name: unchanged
                    .map(|stored| stored.name.clone())
                    .unwrap_or_default(),
                text: unchanged
                    .map(|stored| stored.text.clone())
                    .unwrap_or_default(),
                ids,
                fields: fields.to_vec(),
            });
        }
        self.look_up(&mut names)?;
        for shared in &mut new {
            let Some((name, text)) = names.get(&shared.ids[0]) else {
                continue;
            };
            shared.name.clone_from(name);
            let others = shared.ids[1..].iter().filter_map(|id| names.get(id));
            shared.text = join_texts(text, others.map(|(_, text)| text.as_slice()));
        }
        Ok(new)
    }

    /// What rows are called now; a row that was deleted since the run read it has no name.
    fn look_up(&self, names: &mut BTreeMap<Id, (String, Vec<u8>)>) -> Result<(), Error> {
        let ids: Vec<String> = names
            .keys()
            .map(|id| String::from_utf8(id.to_vec()).map_err(|_| incomplete()))
            .collect::<Result<_, _>>()?;
        self.store.read_blocking(|connection| {
            searchable(
                connection,
                &mut ids.iter().map(String::as_str),
                &mut |row| {
                    let text = search_text(row.name, &row.domains()?.join("\n"));
                    names.insert(row.id.as_bytes().into(), (row.name.to_owned(), text));
                    Ok(())
                },
            )
        })
    }
}

/// The id of a customer's naming row, among those of its rows if there is but one.
fn own_id(own: &mut Own, row: u32, ids: &[Id]) -> Result<Id, Error> {
    match ids {
        [id] => Ok(Rc::clone(id)),
        _ => Ok(own.id(row)?.into_bytes().into()),
    }
}

/// One of my customers.
struct Customer {
    /// Its naming row, and that row's id.
    row: u32,
    id: Id,
    /// All its rows.
    ids: Vec<Id>,
}

impl Customer {
    const fn new(row: u32, id: Id, ids: Vec<Id>) -> Self {
        Self { row, id, ids }
    }
}
