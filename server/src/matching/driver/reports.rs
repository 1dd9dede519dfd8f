//! Reports: what this side says in numbers of the customers it only counts (PROTOCOL.md §8).

use std::collections::BTreeMap;

use jiff::Timestamp;
use overlap_crypto::{
    fault::Fault,
    report::{Cell, CellReport, Member, ReleaseInput, Report, ReportRules, Series},
    terms::Tier,
};
use ring::digest;

use super::{Flows, finish::Found};
use crate::{
    error::Error,
    matching::{failure::misused, local_customers::LocalCustomers, records, terms::RunTerms},
    overlap::{graph::Graph, matrix::Reported, reader::ResultSet},
};

/// Computes the report and makes durable what it releases. Only then may it be sent. Blocks.
pub(super) fn make(flows: &Flows, found: &Found) -> Result<Report, Error> {
    let (run, prepared) = (&flows.run, &flows.prepared);
    let side = prepared.my_terms(run)?;
    let reader = prepared
        .terms
        .terms
        .partner_of(&run.parties.me())
        .ok_or_else(|| Error::internal("the partner is no side of the terms"))?;
    let members = match found {
        Found::All { graph, .. } => members(&prepared.terms, prepared.local()?, graph)?,
        Found::Changes(shared) => listed_members(&prepared.terms, &shared.result)?,
    };
    let input = ReleaseInput {
        structure: prepared.terms.terms.structure_hash(),
        now: run.now().as_second().unsigned_abs(),
        reporter_stages: side.stages_of(Tier::Count),
        reader_stages: reader.stages_of(Tier::List),
        members: &members,
        unclaimed: &unclaimed(flows, found),
    };
    let intervals = run.settings.releases;
    let rules = ReportRules {
        min_count: side.min_count,
        min_interval_s: intervals.cell_s,
        series_interval_s: intervals.series_s,
    };
    let previous = run
        .store
        .read_blocking(|connection| records::series(connection, &run.partnership_id))?
        .map(|bytes| Series::from_bytes(&bytes).map_err(misused))
        .transpose()?;
    let (report, series) = Series::release(&rules, previous.as_ref(), &input);
    if previous.as_ref() != Some(&series) {
        run.store.write_blocking(|tx| {
            records::remember_series(tx, &run.partnership_id, &series.to_bytes())
        })?;
    }
    Ok(report)
}

/// The members of every cell: one for each shared customer that is not listed to the reader.
fn members(
    terms: &RunTerms,
    local: &LocalCustomers,
    graph: &Graph,
) -> Result<BTreeMap<Cell, Vec<Member>>, Error> {
    let mut members: BTreeMap<Cell, Vec<Member>> = BTreeMap::new();
    let mut rows = local.row_texts()?;
    let mut components = graph.components()?;
    while let Some((component, _, _)) = components.next_component()? {
        if component.mutual {
            continue;
        }
        // Components come by ascending customer.
        let id = rows.at(component.customer)?.id;
        let cell = cell(terms, component.mine, component.theirs)?;
        members.entry(cell).or_default().push(member(id.as_bytes()));
    }
    Ok(members)
}

/// [`members`] of a result that is written.
fn listed_members(
    terms: &RunTerms,
    result: &ResultSet,
) -> Result<BTreeMap<Cell, Vec<Member>>, Error> {
    let mut members: BTreeMap<Cell, Vec<Member>> = BTreeMap::new();
    result.columns(&mut |position, column| {
        if !column.mutual {
            let cell = cell(terms, column.mine, column.theirs)?;
            let id = result.shared(position)?.id;
            members.entry(cell).or_default().push(member(id.as_bytes()));
        }
        Ok(true)
    })?;
    Ok(members)
}

fn cell(terms: &RunTerms, mine: u8, theirs: u8) -> Result<Cell, Error> {
    let missing = || Error::internal("a reported stage is not disclosed");
    Ok(Cell {
        reporter_stage: terms.mine.wire_code(mine).ok_or_else(missing)?,
        reader_stage: terms.theirs.wire_code(theirs).ok_or_else(missing)?,
    })
}

/// The id itself stays out: the series outlives the customer's row.
fn member(id: &[u8]) -> Member {
    let hash = digest::digest(&digest::SHA256, id);
    let mut member = Member::default();
    member.copy_from_slice(&hash.as_ref()[..size_of::<Member>()]);
    member
}

/// For each of the reader's stages: its declared customers that are not known to both already.
fn unclaimed(flows: &Flows, found: &Found) -> BTreeMap<u8, u64> {
    let declared = &flows.session.peer().stage_sizes;
    let theirs = &flows.prepared.terms.theirs;
    (0_u8..)
        .zip(declared)
        .filter_map(|(code, size)| {
            let stage = theirs.from_wire_code(code)?;
            let claimed = found.mutual_partners_by_stage()[usize::from(stage)];
            Some((code, u64::from(*size).saturating_sub(claimed)))
        })
        .collect()
}

/// The partner's report, already checked against the terms, in the matrix's terms.
pub(super) fn reported(
    terms: &RunTerms,
    report: &Report,
) -> Result<BTreeMap<(u8, u8), Reported>, Fault> {
    let mut reported = BTreeMap::new();
    for (cell, said) in &report.cells {
        let CellReport::Released { count, as_of } = said else {
            continue;
        };
        let at = terms
            .mine
            .from_wire_code(cell.reader_stage)
            .zip(terms.theirs.from_wire_code(cell.reporter_stage))
            .ok_or(Fault::ReportInvalid)?;
        let as_of = i64::try_from(*as_of)
            .ok()
            .and_then(|seconds| Timestamp::from_second(seconds).ok())
            .ok_or(Fault::ReportInvalid)?;
        reported.insert(
            at,
            Reported {
                count: *count,
                as_of,
            },
        );
    }
    Ok(reported)
}
