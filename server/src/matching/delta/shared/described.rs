//! My customers that a delta run joins anew, and what the result says of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use super::{
    Joining,
    apart::{Before, Edges},
    incomplete,
};
use crate::{
    customers::rows::searchable,
    error::Error,
    matching::delta::{maps::Map, own::Own},
    overlap::{
        graph::{Graph, Link},
        layer::{Id, NewShared},
        part::Column,
        writer::{join_texts, search_text},
    },
};

impl Joining<'_> {
    /// My customers that the edges lead to, by id.
    pub(super) fn customers(
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
    pub(super) fn describe(
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
pub(super) struct Customer {
    /// Its naming row, and that row's id.
    pub(super) row: u32,
    pub(super) id: Id,
    /// All its rows.
    pub(super) ids: Vec<Id>,
}

impl Customer {
    const fn new(row: u32, id: Id, ids: Vec<Id>) -> Self {
        Self { row, id, ids }
    }
}
