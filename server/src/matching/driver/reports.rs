//! Reports: what this side says in numbers of the customers it only counts (PROTOCOL.md "Reports").

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use overlap_crypto::{
    fault::Fault,
    report::{Cell, CellReport, Report},
    terms::Tier,
};
use ring::digest;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::Flows;
use crate::{
    error::Error,
    matching::{
        failure::Failure,
        local_customers::{LocalCustomers, StageTiers},
        release::{CellNow, Decision, ReleaseIntervals, Released, column_suppressed, decide},
        spool::{Sorted, SortedStream, Sorter, disk, new_directory, sync_directory},
        terms::RunTerms,
    },
    overlap::{
        files::{FileEntry, FileWriter, ResultFile},
        graph::Graph,
        matrix::Reported,
    },
};

/// Bytes of a member's hash.
const MEMBER_BYTES: usize = 16;

/// The directory of the members of released cells.
pub(crate) fn releases_directory(node_directory: &Path, partnership_id: &str) -> PathBuf {
    node_directory.join("releases").join(partnership_id)
}

/// Computes the report and makes durable what it releases. Only then may it be sent. Blocks.
pub(super) fn make(flows: &Flows, graph: &Graph) -> Result<Report, Error> {
    let (run, prepared) = (&flows.run, &flows.prepared);
    let now = run.now();
    let side = prepared.my_terms(run)?;
    let cells = cells(&prepared.terms);
    let members = members(
        &prepared.local,
        graph,
        &flows.directory.scratch(),
        run.settings.limits.sort_bytes,
    )?;
    let counts = count_members(&members)?;
    let structure = prepared.terms.terms.structure_hash();
    let (series, last) = run.store.read_blocking(|connection| {
        let series = series(
            connection,
            &run.partnership_id,
            &structure,
            now,
            run.settings.releases,
        )?;
        Ok((series, last_releases(connection, &run.partnership_id)?))
    })?;
    let started_at = match series {
        Series::Current(at) => at,
        Series::New => now.as_second(),
        // The old series is over, and it is too early for the next.
        Series::Held(at) => {
            return Ok(Report {
                series: at.unsigned_abs(),
                cells: suppressed(&prepared.terms, &cells)?,
            });
        }
    };
    let last = if matches!(series, Series::New) {
        BTreeMap::new()
    } else {
        last
    };
    let directory = releases_directory(&run.node_directory, &run.partnership_id);
    new_directory(&directory)?;
    let mut report = Vec::with_capacity(cells.len());
    let mut fresh = Vec::new();
    for &(mine, theirs) in &cells {
        let (wire_cell, names) = name(&prepared.terms, mine, theirs)?;
        let column: u64 = cells
            .iter()
            .filter(|(_, other)| *other == theirs)
            .map(|cell| counts.get(cell).copied().unwrap_or(0))
            .sum();
        let declared = flows
            .session
            .peer()
            .stage_sizes
            .get(usize::from(wire_cell.reader_stage))
            .copied()
            .unwrap_or(0);
        let claimed = graph.mutual_partners_by_stage()[usize::from(theirs)];
        let last = last.get(&names);
        let decision = if column_suppressed(declared.into(), claimed, column, side.min_count) {
            Decision::Suppress
        } else {
            let count = counts.get(&(mine, theirs)).copied().unwrap_or(0);
            let difference = match last {
                Some(last) => difference(&directory, last, &members, (mine, theirs))?,
                None => count,
            };
            let cell = CellNow {
                count,
                difference,
                last: last.map(|last| last.released),
            };
            decide(cell, side.min_count, run.settings.releases, now)
        };
        let said = match decision {
            Decision::Suppress => CellReport::Suppressed,
            Decision::Repeat(released) => said(released),
            Decision::Release(released) => {
                let file = format!(
                    "{}-{}-{}",
                    hex::encode(flows.session.run().0),
                    wire_cell.reporter_stage,
                    wire_cell.reader_stage
                );
                let entry = write_members(&directory, &file, &members, (mine, theirs))?;
                fresh.push((names, released, entry));
                said(released)
            }
        };
        report.push((wire_cell, said));
    }
    sync_directory(&directory)?;
    let superseded = run.store.write_blocking(|tx| {
        if matches!(series, Series::New) {
            start_series(tx, &run.partnership_id, &structure, started_at)?;
        }
        store(tx, &run.partnership_id, &fresh)?;
        Ok(())
    });
    superseded?;
    remove_unreferenced(run, &directory)?;
    report.sort_by_key(|(cell, _)| *cell);
    Ok(Report {
        series: started_at.unsigned_abs(),
        cells: report,
    })
}

fn said(released: Released) -> CellReport {
    CellReport::Released {
        count: released.count,
        as_of: released.at.as_second().unsigned_abs(),
    }
}

/// The cells this side reports: its counted stages by the partner's listed ones.
fn cells(terms: &RunTerms) -> Vec<(u8, u8)> {
    terms
        .mine
        .with_tier(Tier::Count)
        .flat_map(|mine| {
            terms
                .theirs
                .with_tier(Tier::List)
                .map(move |theirs| (mine, theirs))
        })
        .collect()
}

/// A cell on the wire, and by the ids of its stages.
fn name(terms: &RunTerms, mine: u8, theirs: u8) -> Result<(Cell, (String, String)), Error> {
    let missing = || Error::internal("a reported stage is not disclosed");
    let id = |tiers: &StageTiers, index| tiers.stage(index).map(|stage| stage.id.clone());
    let cell = Cell {
        reporter_stage: terms.mine.wire_code(mine).ok_or_else(missing)?,
        reader_stage: terms.theirs.wire_code(theirs).ok_or_else(missing)?,
    };
    let names = (
        id(&terms.mine, mine).ok_or_else(missing)?,
        id(&terms.theirs, theirs).ok_or_else(missing)?,
    );
    Ok((cell, names))
}

fn suppressed(terms: &RunTerms, cells: &[(u8, u8)]) -> Result<Vec<(Cell, CellReport)>, Error> {
    let mut report = cells
        .iter()
        .map(|&(mine, theirs)| Ok((name(terms, mine, theirs)?.0, CellReport::Suppressed)))
        .collect::<Result<Vec<_>, Error>>()?;
    report.sort_by_key(|(cell, _)| *cell);
    Ok(report)
}

/// The members of every cell: one for each shared customer that is not listed to the reader, sorted by cell and hash.
fn members(
    local: &LocalCustomers,
    graph: &Graph,
    scratch: &Path,
    sort_bytes: usize,
) -> Result<Sorted, Error> {
    let mut sorter = Sorter::new(scratch, "members_of_cells", sort_bytes);
    let mut ids = local.ids()?;
    let mut row = 0_u32;
    for component in graph
        .components()
        .iter()
        .filter(|component| !component.mutual)
    {
        // Components come by ascending customer, ids by ascending row.
        let id = loop {
            let id = ids
                .next_record()?
                .ok_or_else(|| Error::internal("there are fewer ids than rows"))?;
            row += 1;
            if row == component.customer + 1 {
                break id;
            }
        };
        let hash = digest::digest(&digest::SHA256, id);
        sorter.push(&[
            &[component.mine, component.theirs],
            &hash.as_ref()[..MEMBER_BYTES],
        ])?;
    }
    sorter.finish()
}

fn count_members(members: &Sorted) -> Result<BTreeMap<(u8, u8), u64>, Error> {
    let mut counts = BTreeMap::new();
    let mut stream = members.stream()?;
    while let Some(record) = stream.next_record()? {
        *counts.entry((record[0], record[1])).or_insert(0) += 1;
    }
    Ok(counts)
}

/// The members of one cell.
struct CellMembers {
    stream: SortedStream,
    cell: (u8, u8),
}

impl CellMembers {
    fn new(members: &Sorted, cell: (u8, u8)) -> Result<Self, Error> {
        Ok(Self {
            stream: members.stream()?,
            cell,
        })
    }

    fn next(&mut self) -> Result<Option<[u8; MEMBER_BYTES]>, Error> {
        while let Some(record) = self.stream.next_record()? {
            match (record[0], record[1]).cmp(&self.cell) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => {
                    return Ok(Some(record[2..].try_into().map_err(|_| {
                        Error::internal("a member's hash has another length")
                    })?));
                }
                std::cmp::Ordering::Greater => return Ok(None),
            }
        }
        Ok(None)
    }
}

fn write_members(
    directory: &Path,
    name: &str,
    members: &Sorted,
    cell: (u8, u8),
) -> Result<FileEntry, Error> {
    let path = directory.join(name);
    if let Err(error) = fs::remove_file(&path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(disk(&path, &error));
    }
    let mut file = FileWriter::create(directory, name)?;
    let mut members = CellMembers::new(members, cell)?;
    while let Some(member) = members.next()? {
        file.push(&member)?;
    }
    file.finish()
}

/// How many members came or went since the last release.
fn difference(
    directory: &Path,
    last: &LastRelease,
    members: &Sorted,
    cell: (u8, u8),
) -> Result<u64, Error> {
    let file = ResultFile::open(
        directory,
        &FileEntry {
            name: last.members.clone(),
            bytes: last.released.count * MEMBER_BYTES as u64,
            checksum: 0,
        },
    )?;
    let mut old = OldMembers {
        file,
        at: 0,
        block: Vec::new(),
    };
    let mut new = CellMembers::new(members, cell)?;
    let (mut left, mut right) = (old.next()?, new.next()?);
    let mut difference = 0;
    loop {
        match (left, right) {
            (None, None) => return Ok(difference),
            (Some(l), Some(r)) if l == r => {
                (left, right) = (old.next()?, new.next()?);
            }
            (Some(l), right_now) if right_now.is_none_or(|r| l < r) => {
                difference += 1;
                left = old.next()?;
            }
            _ => {
                difference += 1;
                right = new.next()?;
            }
        }
    }
}

/// The members of a cell as of its last release.
struct OldMembers {
    file: ResultFile,
    at: u64,
    block: Vec<[u8; MEMBER_BYTES]>,
}

impl OldMembers {
    fn next(&mut self) -> Result<Option<[u8; MEMBER_BYTES]>, Error> {
        if self.block.is_empty() {
            let end = (self.at + (1 << 16)).min(self.file.bytes());
            let bytes = self.file.range(self.at, end)?;
            self.at = end;
            self.block = bytes.as_chunks().0.to_vec();
            self.block.reverse();
        }
        Ok(self.block.pop())
    }
}

enum Series {
    /// Began at this time.
    Current(i64),
    /// Begins now.
    New,
    /// The terms changed, and it is too early for a new one; the old one began at this time.
    Held(i64),
}

fn series(
    connection: &Connection,
    partnership_id: &str,
    structure: &[u8; 32],
    now: Timestamp,
    intervals: ReleaseIntervals,
) -> Result<Series, Error> {
    let stored: Option<([u8; 32], i64)> = connection
        .query_row(
            "SELECT terms, started_at FROM matching_series WHERE partnership_id = ?1",
            [partnership_id],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    Ok(match stored {
        None => Series::New,
        Some((terms, at)) if terms == *structure => Series::Current(at),
        Some((_, at)) if now.as_second() - at < intervals.series_s => Series::Held(at),
        Some(_) => Series::New,
    })
}

fn start_series(
    tx: &Transaction<'_>,
    partnership_id: &str,
    structure: &[u8; 32],
    started_at: i64,
) -> Result<(), Error> {
    tx.execute(
        "INSERT OR REPLACE INTO matching_series (partnership_id, terms, started_at) VALUES (?1, ?2, ?3)",
        params![partnership_id, structure, started_at],
    )?;
    tx.execute(
        "DELETE FROM matching_releases WHERE partnership_id = ?1",
        [partnership_id],
    )?;
    Ok(())
}

/// The last release of a cell.
struct LastRelease {
    released: Released,
    members: String,
}

fn last_releases(
    connection: &Connection,
    partnership_id: &str,
) -> Result<BTreeMap<(String, String), LastRelease>, Error> {
    let mut statement = connection.prepare(
        "SELECT mine, theirs, count, released_at, members FROM matching_releases WHERE partnership_id = ?1",
    )?;
    let mut rows = statement.query([partnership_id])?;
    let mut releases = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let at = Timestamp::from_second(row.get(3)?)
            .map_err(|error| Error::internal(format!("a stored time: {error}")))?;
        let release = LastRelease {
            released: Released {
                count: row.get(2)?,
                at,
            },
            members: row.get(4)?,
        };
        releases.insert((row.get(0)?, row.get(1)?), release);
    }
    Ok(releases)
}

fn store(
    tx: &Transaction<'_>,
    partnership_id: &str,
    fresh: &[((String, String), Released, FileEntry)],
) -> Result<(), Error> {
    for ((mine, theirs), released, file) in fresh {
        tx.execute(
            "INSERT OR REPLACE INTO matching_releases (partnership_id, mine, theirs, count, released_at, members)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                partnership_id,
                mine,
                theirs,
                released.count,
                released.at.as_second(),
                file.name
            ],
        )?;
    }
    Ok(())
}

/// Removes the files that no release refers to any more.
fn remove_unreferenced(run: &super::Run, directory: &Path) -> Result<(), Error> {
    let kept: std::collections::HashSet<String> = run.store.read_blocking(|connection| {
        Ok(last_releases(connection, &run.partnership_id)?
            .into_values()
            .map(|release| release.members)
            .collect())
    })?;
    for entry in fs::read_dir(directory).map_err(|error| disk(directory, &error))? {
        let entry = entry.map_err(|error| disk(directory, &error))?;
        let name = entry.file_name();
        if name.to_str().is_none_or(|name| !kept.contains(name)) {
            fs::remove_file(entry.path()).map_err(|error| disk(&entry.path(), &error))?;
        }
    }
    Ok(())
}

/// Takes the partner's report: every cell it owes, each inside the terms and not under its own threshold.
pub(super) fn admit(
    flows: &Flows,
    report: &Report,
) -> Result<BTreeMap<(u8, u8), Reported>, Failure> {
    let terms = &flows.prepared.terms;
    let theirs = terms
        .terms
        .partner_of(&flows.run.parties.me())
        .ok_or(Fault::ReportInvalid)?;
    let mut reported = BTreeMap::new();
    let owed =
        terms.theirs.with_tier(Tier::Count).count() * terms.mine.with_tier(Tier::List).count();
    if report.cells.len() != owed {
        return Err(Fault::ReportInvalid.into());
    }
    for (cell, said) in &report.cells {
        let mine = terms.mine.from_wire_code(cell.reader_stage);
        let their_stage = terms.theirs.from_wire_code(cell.reporter_stage);
        let (Some(mine), Some(their_stage)) = (mine, their_stage) else {
            return Err(Fault::ReportInvalid.into());
        };
        if terms.mine.tier(mine) != Tier::List || terms.theirs.tier(their_stage) != Tier::Count {
            return Err(Fault::ReportInvalid.into());
        }
        if let CellReport::Released { count, as_of } = said {
            let as_of = i64::try_from(*as_of)
                .ok()
                .and_then(|seconds| Timestamp::from_second(seconds).ok())
                .ok_or(Fault::ReportInvalid)?;
            if *count < u64::from(theirs.min_count) {
                return Err(Fault::ReportInvalid.into());
            }
            reported.insert(
                (mine, their_stage),
                Reported {
                    count: *count,
                    as_of,
                },
            );
        }
    }
    Ok(reported)
}
