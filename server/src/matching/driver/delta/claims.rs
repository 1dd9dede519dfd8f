//! What claims of a delta run say of my customers.

use std::collections::HashMap;

use overlap_crypto::{item::Entry, list::Label};

use super::{
    super::{Flows, prepare::Prepared, sets::FieldAreas},
    receiver::delta,
};
use crate::{
    error::Error,
    matching::{delta::plan::Customers, local_customers::KeyRef},
};

/// What claims would say of my customers.
pub(super) struct ClaimLabels {
    keys: Vec<KeyRef>,
    areas: FieldAreas,
    /// By position among all keys: the place among these.
    places: HashMap<u32, usize>,
}

/// Reads what claims would say of these entries' customers, if they are listed.
pub(super) fn own_labels(flows: &Flows, own: &[Entry]) -> Result<ClaimLabels, Error> {
    let customers = &delta(flows)?.customers;
    let keys = keys_of(customers, own)?;
    Ok(ClaimLabels {
        areas: flows.prepared.own.areas(&keys)?,
        places: keys.iter().map(|key| key.index).zip(0..).collect(),
        keys,
    })
}

/// The keys of these entries, in ascending order.
fn keys_of(customers: &Customers, own: &[Entry]) -> Result<Vec<KeyRef>, Error> {
    let mut owners: Vec<u32> = own.iter().map(|entry| entry.owner).collect();
    owners.sort_unstable();
    customers
        .keys(owners.into_iter())?
        .into_iter()
        .map(|key| key.ok_or_else(|| Error::internal("a query of a key that is not usable")))
        .collect()
}

impl ClaimLabels {
    /// The label of a key's customer; `None` if it is not listed.
    pub(super) fn of<'a>(&'a self, prepared: &Prepared, key: u32) -> Option<Label<'a>> {
        let place = *self.places.get(&key)?;
        prepared.own.label(&self.keys[place], self.areas.at(place))
    }
}
