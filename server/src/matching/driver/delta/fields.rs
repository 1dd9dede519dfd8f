//! The fields that labels of a delta run disclose: looked up for the customers it says something of, in the snapshot that the run
//! was planned from. Newer ones would contradict what earlier labels said of the same customer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use super::super::{Run, lock, prepare::area, sets::FieldAreas};
use crate::{
    customers::rows::fields_of,
    error::Error,
    matching::{delta::plan::Customers, terms::RunTerms},
    storage::Snapshot,
};

/// Looks the disclosed fields of customers up.
pub(in super::super) struct FieldLookup {
    /// Until the list flows are over.
    snapshot: Mutex<Option<Snapshot>>,
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
        snapshot: Snapshot,
    ) -> Result<Self, Error> {
        let side = terms
            .terms
            .side(&run.parties.me())
            .ok_or_else(|| Error::internal("this organisation is no side of the terms"))?;
        let area_bytes = if side.fields.is_empty() {
            0
        } else {
            usize::from(side.label_field_bytes)
        };
        let stages = terms.mine.disclosed().into_iter().map(str::to_owned);
        Ok(Self {
            snapshot: Mutex::new(Some(snapshot).filter(|_| area_bytes > 0)),
            customers: Arc::clone(customers),
            stages: stages.collect(),
            names: side.fields.clone(),
            area_bytes,
        })
    }

    /// Lets go of the snapshot: nothing more is said of customers.
    pub(in super::super) fn release(&self) {
        lock(&self.snapshot).take();
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
        {
            let snapshot = lock(&self.snapshot);
            let snapshot = snapshot
                .as_ref()
                .ok_or_else(|| Error::internal("fields are wanted after the list flows"))?;
            let mut ids = ids.iter().map(String::as_str);
            fields_of(
                snapshot.connection(),
                &stages,
                &names,
                &mut ids,
                &mut |found| {
                    if let Some(row) = row_of.get(found.id) {
                        areas.insert(*row, area(found, self.area_bytes)?);
                    }
                    Ok(())
                },
            )?;
        }
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
