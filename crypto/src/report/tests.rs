use std::collections::BTreeMap;

use super::{Cell, CellReport, Member, ReleaseInput, Report, ReportRules, Series};
use crate::{fault::Fault, list::StageSet};

const RULES: ReportRules = ReportRules {
    min_count: 3,
    min_interval_s: 100,
    series_interval_s: 1_000,
};

const CELL: Cell = Cell {
    reporter_stage: 0,
    reader_stage: 1,
};

fn members(ids: impl IntoIterator<Item = u8>) -> Vec<Member> {
    ids.into_iter().map(|id| [id; 16]).collect()
}

fn release(previous: Option<&Series>, now: u64, ids: Vec<Member>) -> (CellReport, Series) {
    release_in(previous, now, ids, 100, [1; 32])
}

fn release_in(
    previous: Option<&Series>,
    now: u64,
    ids: Vec<Member>,
    unclaimed: u64,
    structure: [u8; 32],
) -> (CellReport, Series) {
    release_by(&RULES, previous, now, ids, unclaimed, structure)
}

fn release_by(
    rules: &ReportRules,
    previous: Option<&Series>,
    now: u64,
    ids: Vec<Member>,
    unclaimed: u64,
    structure: [u8; 32],
) -> (CellReport, Series) {
    let (report, series) = Series::release(
        rules,
        previous,
        &ReleaseInput {
            structure,
            now,
            reporter_stages: StageSet::default().with(0),
            reader_stages: StageSet::default().with(1),
            members: &BTreeMap::from([(CELL, ids)]),
            unclaimed: &BTreeMap::from([(1, unclaimed)]),
        },
    );
    let stored = Series::from_bytes(&series.to_bytes()).unwrap();
    assert_eq!(stored, series);
    assert_eq!(report.cells[0].0, CELL);
    (report.cells[0].1, series)
}

fn released(count: u64, as_of: u64) -> CellReport {
    CellReport::Released { count, as_of }
}

#[test]
fn z07_counts_under_the_threshold_are_suppressed_zero_included() {
    assert_eq!(release(None, 0, members([])).0, CellReport::Suppressed);
    assert_eq!(release(None, 0, members(0..2)).0, CellReport::Suppressed);
    assert_eq!(release(None, 0, members(0..3)).0, released(3, 0));
}

#[test]
fn z07_a_column_with_too_few_unreported_customers_is_suppressed() {
    let column = |unclaimed| release_in(None, 0, members(0..4), unclaimed, [1; 32]).0;
    assert_eq!(column(6), CellReport::Suppressed);
    assert_eq!(column(7), released(4, 0));
    assert_eq!(column(0), CellReport::Suppressed);
}

#[test]
fn z07_small_changes_and_no_change_look_the_same() {
    let (_, series) = release(None, 0, members(0..5));
    for ids in [members(0..5), members(0..6), members(1..6), members(0..7)] {
        assert_eq!(release(Some(&series), 500, ids).0, released(5, 0));
    }
    assert_eq!(
        release(Some(&series), 500, members(0..8)).0,
        released(8, 500)
    );
    assert_eq!(release(Some(&series), 99, members(0..8)).0, released(5, 0));
}

#[test]
fn z07_falling_under_the_threshold_is_a_change_like_any_other() {
    let (_, series) = release(None, 0, members(0..4));
    // Two of four left: fewer than k changed, so the old value stands.
    assert_eq!(release(Some(&series), 500, members(0..2)).0, released(4, 0));
    let (report, series) = release(Some(&series), 500, members([]));
    assert_eq!(report, CellReport::Suppressed);
    // And it comes back only with k members more.
    let (report, series) = release(Some(&series), 550, members(0..9));
    assert_eq!(report, CellReport::Suppressed);
    assert_eq!(
        release(Some(&series), 600, members(0..9)).0,
        released(9, 600)
    );
}

#[test]
fn z07_a_raised_threshold_holds_for_what_was_released_below_it() {
    let (_, series) = release(None, 0, members(0..4));
    let at = |min_count, previous: &Series| {
        let rules = ReportRules { min_count, ..RULES };
        release_by(&rules, Some(previous), 500, members(0..4), 100, [1; 32])
    };
    let (report, raised) = at(5, &series);
    assert_eq!(report, CellReport::Suppressed);
    assert_eq!(at(4, &series).0, released(4, 0));
    // Lowered again, it is the same old value: raising is no way to have it counted anew.
    assert_eq!(at(3, &raised).0, released(4, 0));
}

#[test]
fn z07_a_new_series_starts_at_most_once_in_its_interval() {
    let (_, series) = release(None, 0, members(0..5));
    let (report, kept) = release_in(Some(&series), 999, members(0..5), 100, [2; 32]);
    assert_eq!(report, CellReport::Suppressed);
    assert_eq!(kept, series);
    let (report, fresh) = release_in(Some(&series), 1_000, members(0..6), 100, [2; 32]);
    assert_eq!(report, released(6, 1_000));
    assert_eq!(fresh.id(), 2);
}

#[test]
fn a_reader_checks_cells_threshold_and_signature() {
    let stages = |stage| StageSet::default().with(stage);
    let report = |cells| Report { series: 1, cells };
    let key = ring::signature::Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap();
    let public_key = crate::signature::Signer::public_key(&key);
    let session = crate::context::SessionId([3; 32]);
    let role = crate::plan::Role::Acceptor;
    let sign = |cells| report(cells).sign(&session, role, &key);
    let good = sign(vec![(CELL, released(5, 1))]);
    let decoded = super::SignedReport::decode(&good.encode()).unwrap();
    assert_eq!(decoded, good);
    assert_eq!(good.verify(&session, role, &public_key), Ok(()));
    assert_eq!(
        good.verify(&session, role.peer(), &public_key),
        Err(Fault::SignatureInvalid)
    );
    let other = crate::context::SessionId([4; 32]);
    assert_eq!(
        good.verify(&other, role, &public_key),
        Err(Fault::SignatureInvalid)
    );
    assert_eq!(good.check(stages(0), stages(1), 5), Ok(()));
    assert_eq!(
        good.check(stages(0), stages(1), 6),
        Err(Fault::ReportInvalid)
    );
    assert_eq!(
        good.check(stages(1), stages(1), 5),
        Err(Fault::ReportInvalid)
    );
    assert_eq!(
        sign(vec![]).check(stages(0), stages(1), 5),
        Err(Fault::ReportInvalid)
    );
}
