//! Which counts may be released: threshold, column rule and sticky release (PROTOCOL.md §8.2).

use std::collections::BTreeMap;

use super::{Cell, CellReport, Report, cells};
use crate::{
    fault::{Fault, Misuse},
    list::StageSet,
    wire::{Reader, Writer},
};

/// One of the reporter's local customers, under an id that stays the same from run to run.
pub type Member = [u8; 16];

/// The shortest time between two series: 30 days.
pub const SERIES_INTERVAL_S: u64 = 30 * 24 * 60 * 60;

/// The reporter's rules, out of its terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportRules {
    /// `k`: the smallest count that is released.
    pub min_count: u32,
    /// The shortest time between two releases of a cell.
    pub min_interval_s: u64,
    /// [`SERIES_INTERVAL_S`], except in tests.
    pub series_interval_s: u64,
}

/// What a run found out, from the reporter's side.
#[derive(Clone, Debug)]
pub struct ReleaseInput<'a> {
    /// The hash of stages, tiers and keys ([`crate::terms::Terms::structure_hash`]).
    pub structure: [u8; 32],
    /// Now, in seconds of Unix time.
    pub now: u64,
    /// The reporter's count-tier stages.
    pub reporter_stages: StageSet,
    /// The reader's list-tier stages.
    pub reader_stages: StageSet,
    /// The reporter's customers in each cell, without those of components with an edge listed to the reader.
    pub members: &'a BTreeMap<Cell, Vec<Member>>,
    /// For each of the reader's stages, its declared list-tier size minus the customers already claimed there.
    pub unclaimed: &'a BTreeMap<u8, u64>,
}

/// A cell as it was released last.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ReleasedCell {
    members: Vec<Member>,
    at: u64,
    report: CellReport,
}

/// The reporter's memory of what it released to one reader. Kept as secret as the customers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    id: u64,
    structure: [u8; 32],
    started_at: u64,
    cells: BTreeMap<Cell, ReleasedCell>,
}

impl Series {
    /// The report of a run, and the memory to keep for the next one.
    ///
    /// 1. Other stages, tiers or keys start a new series, at most one every `series_interval_s`; until then all is
    ///    suppressed.
    /// 2. A column whose reader stage would be left with fewer than `k` unreported customers is suppressed.
    /// 3. A cell changes only if at least `k` members changed since its last release and `min_interval_s` have passed;
    ///    otherwise the old value is repeated, with its old time, so that no change and a small one look the same.
    /// 4. A cell with fewer than `k` members is suppressed, 0 included, and so is an old value below a `k` that was raised
    ///    since.
    #[must_use]
    pub fn release(
        rules: &ReportRules,
        previous: Option<&Self>,
        input: &ReleaseInput<'_>,
    ) -> (Report, Self) {
        let mut series = match previous {
            None => Self::start(1, input),
            Some(series) if series.structure == input.structure => series.clone(),
            Some(series)
                if input.now >= series.started_at.saturating_add(rules.series_interval_s) =>
            {
                Self::start(series.id + 1, input)
            }
            Some(series) => {
                let report = Report {
                    series: series.id,
                    cells: cells(input.reporter_stages, input.reader_stages)
                        .map(|cell| (cell, CellReport::Suppressed))
                        .collect(),
                };
                return (report, series.clone());
            }
        };
        let threshold = u64::from(rules.min_count);
        let mut reported: BTreeMap<u8, u64> = BTreeMap::new();
        for (cell, members) in input.members {
            *reported.entry(cell.reader_stage).or_default() += members.len() as u64;
        }
        let column_open = |stage| {
            let unclaimed = input.unclaimed.get(&stage).copied().unwrap_or(0);
            let reported = reported.get(&stage).copied().unwrap_or(0);
            unclaimed.saturating_sub(reported) >= threshold
        };
        let mut reports = Vec::new();
        for cell in cells(input.reporter_stages, input.reader_stages) {
            let report = if column_open(cell.reader_stage) {
                let mut members = input.members.get(&cell).cloned().unwrap_or_default();
                members.sort_unstable();
                members.dedup();
                series.release_cell(rules, cell, members, input.now)
            } else {
                CellReport::Suppressed
            };
            reports.push((cell, report));
        }
        let report = Report {
            series: series.id,
            cells: reports,
        };
        (report, series)
    }

    const fn start(id: u64, input: &ReleaseInput<'_>) -> Self {
        Self {
            id,
            structure: input.structure,
            started_at: input.now,
            cells: BTreeMap::new(),
        }
    }

    fn release_cell(
        &mut self,
        rules: &ReportRules,
        cell: Cell,
        members: Vec<Member>,
        now: u64,
    ) -> CellReport {
        let threshold = rules.min_count as usize;
        let enough = members.len() >= threshold;
        match self.cells.get(&cell) {
            None if !enough => return CellReport::Suppressed,
            Some(last)
                if changed(&last.members, &members) < threshold
                    || now < last.at.saturating_add(rules.min_interval_s) =>
            {
                return last.report.of_at_least(rules.min_count);
            }
            None | Some(_) => {}
        }
        let report = if enough {
            CellReport::Released {
                count: members.len() as u64,
                as_of: now,
            }
        } else {
            CellReport::Suppressed
        };
        self.cells.insert(
            cell,
            ReleasedCell {
                members,
                at: now,
                report,
            },
        );
        report
    }

    /// The series' number, as reports carry it.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// The bytes to store.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(64)
            .u64(self.id)
            .bytes(&self.structure)
            .u64(self.started_at)
            .count(self.cells.len());
        for (cell, released) in &self.cells {
            writer = writer
                .u8(cell.reporter_stage)
                .u8(cell.reader_stage)
                .u64(released.at);
            writer = match released.report {
                CellReport::Suppressed => writer.u8(0),
                CellReport::Released { count, as_of } => writer.u8(1).u64(count).u64(as_of),
            };
            writer = writer
                .count(released.members.len())
                .bytes(released.members.as_flattened());
        }
        writer.finish()
    }

    /// Reads stored bytes.
    ///
    /// # Errors
    /// [`Misuse::StoredState`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Misuse> {
        Self::read(bytes).map_err(|_| Misuse::StoredState)
    }

    fn read(bytes: &[u8]) -> Result<Self, Fault> {
        let mut reader = Reader::new(bytes);
        let id = reader.u64()?;
        let structure = reader.array()?;
        let started_at = reader.u64()?;
        let mut cells = BTreeMap::new();
        for _ in 0..reader.u32()? {
            let cell = Cell {
                reporter_stage: reader.u8()?,
                reader_stage: reader.u8()?,
            };
            let at = reader.u64()?;
            let report = if reader.flag()? {
                CellReport::Released {
                    count: reader.u64()?,
                    as_of: reader.u64()?,
                }
            } else {
                CellReport::Suppressed
            };
            let count = reader.u32()? as usize;
            let members = reader.arrays(count)?.to_vec();
            cells.insert(
                cell,
                ReleasedCell {
                    members,
                    at,
                    report,
                },
            );
        }
        reader.finish()?;
        Ok(Self {
            id,
            structure,
            started_at,
            cells,
        })
    }
}

/// The size of the symmetric difference of two sorted sets.
fn changed(one: &[Member], other: &[Member]) -> usize {
    let common = one
        .iter()
        .filter(|member| other.binary_search(member).is_ok())
        .count();
    one.len() + other.len() - 2 * common
}
