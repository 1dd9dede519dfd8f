//! The fields that labels of a delta run disclose: looked up for the customers it says something of.

use std::{collections::HashMap, sync::Arc};

use super::super::{Run, prepare::area, sets::FieldAreas};
use crate::{
    customers::rows::fields_of,
    error::Error,
    matching::{delta::plan::Customers, terms::RunTerms},
    storage::Store,
};

/// Looks the disclosed fields of customers up.
pub(in super::super) struct FieldLookup {
    store: Store,
    customers: Arc<Customers>,
    stages: Vec<String>,
    names: Vec<String>,
    area_bytes: usize,
}

impl FieldLookup {
    pub(in super::super) fn new(
        run: &Run,
        terms: &RunTerms,
        customers: &Arc<Customers>,
    ) -> Result<Self, Error> {
        let side = terms
            .terms
            .side(&run.parties.me())
            .ok_or_else(|| Error::internal("this organisation is no side of the terms"))?;
        let area_bytes = usize::from(side.label_field_bytes);
        let stages = terms.mine.disclosed().into_iter().map(str::to_owned);
        Ok(Self {
            store: run.store.clone(),
            customers: Arc::clone(customers),
            stages: stages.collect(),
            names: side.fields.clone(),
            area_bytes: if side.fields.is_empty() {
                0
            } else {
                area_bytes
            },
        })
    }

    /// The areas of some rows, back to back; zeros where there is no row, or where it is not disclosed any more.
    pub(in super::super) fn areas(
        &self,
        rows: impl Iterator<Item = Option<u32>>,
    ) -> Result<FieldAreas, Error> {
        let mut bytes = Vec::new();
        if self.area_bytes == 0 {
            return Ok(FieldAreas::new(bytes, 0));
        }
        let rows: Vec<Option<u32>> = rows.collect();
        let mut distinct: Vec<u32> = rows.iter().copied().flatten().collect();
        distinct.sort_unstable();
        distinct.dedup();
        let ids = self.customers.ids(distinct.iter().copied())?;
        let row_of: HashMap<&str, u32> = ids.iter().map(String::as_str).zip(distinct).collect();
        let stages: Vec<&str> = self.stages.iter().map(String::as_str).collect();
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let mut areas: HashMap<u32, Vec<u8>> = HashMap::new();
        self.store.read_blocking(|connection| {
            let mut ids = ids.iter().map(String::as_str);
            fields_of(connection, &stages, &names, &mut ids, &mut |found| {
                if let Some(row) = row_of.get(found.id) {
                    areas.insert(*row, area(found, self.area_bytes)?);
                }
                Ok(())
            })
        })?;
        for row in rows {
            let start = bytes.len();
            bytes.resize(start + self.area_bytes, 0);
            if let Some(area) = row.and_then(|row| areas.get(&row)) {
                bytes[start..].copy_from_slice(area);
            }
        }
        Ok(FieldAreas::new(bytes, self.area_bytes))
    }
}
