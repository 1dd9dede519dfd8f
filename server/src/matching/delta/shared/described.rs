//! My customers that a delta run joins anew, and what the result says of them.

use std::rc::Rc;

use super::{
    Joining,
    apart::{Before, Edges},
    incomplete,
};
use crate::{
    customers::rows::searchable,
    error::Error,
    matching::delta::{links::LinkTable, maps::Map, own::Own},
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
        links: &LinkTable,
    ) -> Result<Vec<NewShared>, Error> {
        let mut new = Vec::with_capacity(links.len());
        // The rows whose names are not known from the last result.
        let mut unnamed: Vec<Id> = Vec::new();
        let mut components = graph.components()?;
        for number in (0_u32..).take(links.len()) {
            let found = components.next_component()?.ok_or_else(incomplete)?;
            let (component, my_handle, fields) = found;
            let naming = &customers[component.customer as usize];
            // How many links there are to a customer is the partner's to say: its rows are taken once.
            let of_mine = links.of(number);
            let of_mine = of_mine.map(|record| Ok(Link::parse(record)?.0.customer));
            let mut of_mine: Vec<u32> = of_mine.collect::<Result<_, Error>>()?;
            of_mine.sort_unstable();
            of_mine.dedup();
            let mut ids = vec![Rc::clone(&naming.id)];
            for customer in of_mine {
                let others = &customers[customer as usize].ids;
                let others = others.iter().filter(|id| **id != naming.id);
                ids.extend(others.map(Rc::clone));
            }
            ids[1..].sort_unstable();
            ids.dedup();
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
                unnamed.extend(ids.iter().map(Rc::clone));
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
        let names = self.names(unnamed)?;
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

    /// What rows are called. Those that changed were read by this run; of the others, one that was deleted since has no name.
    fn names(&self, mut ids: Vec<Id>) -> Result<Names, Error> {
        ids.sort_unstable();
        ids.dedup();
        let mut names = Names {
            called: vec![Called::default(); ids.len()],
            ids,
        };
        let mut others: Vec<&str> = Vec::new();
        let mut changed = self.update.texts().peekable();
        for (id, called) in names.ids.iter().zip(&mut names.called) {
            while changed.next_if(|(other, ..)| *other < &**id).is_some() {}
            match changed.next_if(|(other, ..)| *other == &**id) {
                Some((_, name, domains)) => {
                    *called = (name.to_owned(), search_text(name, domains));
                }
                None => others.push(std::str::from_utf8(id).map_err(|_| incomplete())?),
            }
        }
        let mut read = Vec::with_capacity(others.len());
        self.store.read_blocking(|connection| {
            searchable(connection, &mut others.iter().copied(), &mut |row| {
                let text = search_text(row.name, &row.domains()?.join("\n"));
                read.push((Id::from(row.id.as_bytes()), (row.name.to_owned(), text)));
                Ok(())
            })
        })?;
        for (id, called) in read {
            let at = names.ids.binary_search(&id).map_err(|_| incomplete())?;
            names.called[at] = called;
        }
        Ok(names)
    }
}

/// A name, and what a search looks through.
type Called = (String, Vec<u8>);

/// What rows are called.
struct Names {
    /// Ascending.
    ids: Vec<Id>,
    /// By place among these.
    called: Vec<Called>,
}

impl Names {
    fn get(&self, id: &Id) -> Option<&Called> {
        self.called.get(self.ids.binary_search(id).ok()?)
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
