//! The last good result with a partner, opened.

use std::path::Path;

use overlap_crypto::list::fields;
use rusqlite::Connection;

use super::{
    graph::Handle,
    matrix::{CellState, Matrix},
    reader::{Filter, ResultSet, Shared},
};
use crate::{
    error::{Error, Reason},
    matching::{
        driver::directory,
        records::{self, ResultRecord},
    },
};

/// The filler that a stored fields area was relieved of, at most.
const MAX_AREA_BYTES: usize = 4096;

/// The last good result with a partner.
pub struct LastResult {
    /// Its record: run, matrix, fields.
    pub record: ResultRecord,
    /// Its files.
    pub files: ResultSet,
}

/// Why there is nothing to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Empty {
    /// No run is done.
    NoRun,
    /// The permissions allow numbers only.
    CountsOnly,
    /// The partner hides its stages.
    NotShared,
    /// I hide mine.
    Withheld,
    /// There could be something, and there is not.
    NoMatch,
}

impl LastResult {
    /// Opens the last good result with a partner; `None` if there is none.
    ///
    /// # Errors
    /// What the store or the file system reports.
    pub fn open(
        connection: &Connection,
        node_directory: &Path,
        partnership_id: &str,
    ) -> Result<Option<Self>, Error> {
        let Some(record) = records::result(connection, partnership_id)? else {
            return Ok(None);
        };
        let path = directory(node_directory, &record.directory);
        let files = ResultSet::open(&path, &record.manifest)?;
        Ok(Some(Self { record, files }))
    }

    /// The matrix.
    #[must_use]
    pub const fn matrix(&self) -> &Matrix {
        &self.record.matrix
    }

    /// How many shared customers the stages of a filter admit; search and targets are left aside.
    #[must_use]
    pub fn listed(&self, filter: &Filter) -> u64 {
        let stage = |index: Option<u8>| index.map(usize::from);
        self.matrix()
            .filtered(stage(filter.mine), stage(filter.theirs))
            .filter(|cell| cell.state == CellState::Listed)
            .filter_map(|cell| cell.count)
            .sum()
    }

    /// Why a filter admits nothing.
    #[must_use]
    pub fn why_empty(&self, filter: &Filter) -> Empty {
        let stage = |index: Option<u8>| index.map(usize::from);
        let states: Vec<CellState> = self
            .matrix()
            .filtered(stage(filter.mine), stage(filter.theirs))
            .map(|cell| cell.state)
            .collect();
        let any = |wanted: &[CellState]| states.iter().any(|state| wanted.contains(state));
        if any(&[CellState::Listed]) {
            Empty::NoMatch
        } else if any(&[
            CellState::Counted,
            CellState::Suppressed,
            CellState::Disabled,
        ]) {
            Empty::CountsOnly
        } else if any(&[CellState::Withheld]) {
            Empty::Withheld
        } else {
            // All of the partner's stages are hidden, or not even named.
            Empty::NotShared
        }
    }

    /// The shared customer that any of my rows is part of.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn by_row(&self, id: &str) -> Result<Option<Shared>, Error> {
        self.files
            .position_of_row(id)?
            .map(|position| self.files.shared(position))
            .transpose()
    }

    /// The shared customer that a handle names, mine or the partner's.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn by_handle(&self, handle: &Handle) -> Result<Option<Shared>, Error> {
        if *handle == Handle::default() {
            return Ok(None);
        }
        self.files
            .position_of_handle(handle)?
            .map(|position| self.files.shared(position))
            .transpose()
    }

    /// What the partner discloses of a shared customer.
    #[must_use]
    pub fn partner_fields(&self, shared: &Shared) -> Vec<(String, String)> {
        let names = &self.record.their_fields;
        let mut area = shared.fields.clone();
        area.resize(area.len() + MAX_AREA_BYTES, 0);
        let values = fields::decode(&area, names.len()).unwrap_or_default();
        names
            .iter()
            .zip(values)
            .filter_map(|(name, value)| Some((name.clone(), value?.to_owned())))
            .collect()
    }

    /// The id of a stage of mine.
    #[must_use]
    pub fn my_stage(&self, shared: &Shared) -> &str {
        let stage = self.matrix().mine.get(usize::from(shared.column.mine));
        stage.map_or("", |stage| stage.id.as_str())
    }

    /// The id of a stage of the partner's.
    #[must_use]
    pub fn their_stage(&self, shared: &Shared) -> &str {
        let stage = self.matrix().theirs.get(usize::from(shared.column.theirs));
        stage.map_or("", |stage| stage.id.as_str())
    }
}

/// A shared customer that may be named to the partner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nameable {
    /// Its id here.
    pub id: String,
    /// What names it between the two nodes.
    pub handle: Handle,
}

/// Whether something sent to the partner may name a customer: only if the customer's own tier is list. Every sender calls this
/// before it sends.
///
/// # Errors
/// `NOT_FOUND` if no shared customer has this row; `OWN_TIER_COUNTS_ONLY` if it may not be named.
pub fn own_tier_allows_naming(
    connection: &Connection,
    node_directory: &Path,
    partnership_id: &str,
    id: &str,
) -> Result<Nameable, Error> {
    let shared = match LastResult::open(connection, node_directory, partnership_id)? {
        Some(last) => last.by_row(id)?.map(|shared| {
            let stage = last.matrix().mine.get(usize::from(shared.column.mine));
            (shared, stage.is_some_and(|stage| stage.tier == "LIST"))
        }),
        None => None,
    };
    let Some((shared, listed)) = shared else {
        return Err(Error::not_found("shared customer", id));
    };
    if !listed || shared.handle == Handle::default() {
        return Err(Error::new(
            Reason::OwnTierCountsOnly,
            format!(
                "customer \"{id}\" is of a stage that the partner may only count, so nothing sent to it may name the customer"
            ),
        ));
    }
    Ok(Nameable {
        id: shared.id,
        handle: shared.handle,
    })
}
