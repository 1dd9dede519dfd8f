//! Delta runs in the driver: what they do otherwise than full runs (PROTOCOL.md §7.7).

mod claims;
pub(super) mod evaluator;
pub(super) mod fields;
pub(super) mod finish;
pub(super) mod receiver;

use std::{
    ops::ControlFlow,
    sync::{Arc, Mutex},
};

use overlap_crypto::{
    handshake::{Hello, ListQuerier, Mode, Session},
    plan::{Plan, Queries, Role},
};
use rand_core::Rng as _;
use rusqlite::Connection;

use super::{
    DeltaRule, Flows, Run, RunDirectory, directory, handshake::full_sizes, prepare::Prepared,
};
use crate::{
    customers::rows::{Change, Disclosure, disclosed, scan_changes},
    error::{Error, Reason},
    matching::{
        compute::fresh_rng,
        delta::{
            keeper::Keeper,
            kept::{self, Binding, Kept, StateFiles},
            links::Links,
            own::{Changes, Own, OwnWriter, Totals, Update, describe},
            plan::{
                Basis, Customers, DeltaPlan, QueryPlan, TagPlan, labels_fit, most_changes,
                most_tags,
            },
            shared::EdgeChanges,
        },
        failure::{Failure, misused},
        keys::{self, EpochKeys, HandleKey},
        records::{self, PartnerState, ResultRecord},
        terms::RunTerms,
    },
    overlap::{reader::ResultSet, writer::Manifest},
};

/// Tags of a REMOVALS or WITHDRAWALS frame.
const TAGS_A_FRAME: usize = 8_192;

/// A delta run under way.
pub(super) struct DeltaRun {
    pub(super) kept: Kept,
    pub(super) customers: Arc<Customers>,
    pub(super) links: Mutex<Links>,
    /// The last result.
    pub(super) previous: (ResultSet, Manifest),
    pub(super) mine: Option<Queries>,
    /// Taken by the flow that works with them.
    pub(super) queries: Mutex<Option<QueryPlan>>,
    pub(super) tags: Mutex<Option<TagPlan>>,
    /// What the flows found.
    pub(super) changes: Mutex<EdgeChanges>,
}

impl From<DeltaPlan> for DeltaRun {
    fn from(plan: DeltaPlan) -> Self {
        Self {
            kept: plan.kept,
            customers: plan.customers,
            links: Mutex::new(plan.links),
            previous: plan.previous,
            mine: plan.mine,
            queries: Mutex::new(plan.queries),
            tags: Mutex::new(plan.tags),
            changes: Mutex::default(),
        }
    }
}

/// What a run may go on from: the last result with its state.
pub(super) struct FoundState {
    pub(super) kept: Kept,
    result: ResultRecord,
    plan: Plan,
}

/// The state of the last run, if this run may go on from it.
pub(super) fn find(
    run: &Run,
    role: Role,
    connection: &Connection,
    terms: &RunTerms,
    keys: Option<&EpochKeys>,
    state: &PartnerState,
) -> Result<Option<FoundState>, Error> {
    let Some(result) = records::result(connection, &run.partnership_id)? else {
        return Ok(None);
    };
    let kept = Kept::open(
        &directory(&run.node_directory, &result.directory),
        &keys::directory(&run.node_directory, &run.partnership_id),
        &run.vault,
    );
    let kept = match kept {
        Ok(Some(kept)) => kept,
        Ok(None) => return Ok(None),
        Err(error) => {
            tracing::warn!(%error, "the last run's state cannot be read: this run is full");
            return Ok(None);
        }
    };
    let document = &kept.document;
    let expected = Binding {
        their_epoch: document
            .binding
            .their_epoch
            .as_ref()
            .and(state.highest_epoch)
            .map(their_epoch),
        ..binding(run, terms, keys, None, document.binding.i_query)
    };
    let receipts = [
        state.receipt_head,
        state
            .peer_receipt
            .as_ref()
            .map(|receipt| receipt.hash())
            .unwrap_or_default(),
    ];
    if document.binding != expected || document.receipts != receipts.map(hex::encode) {
        return Ok(None);
    }
    if let Some(keys) = keys {
        let remembered = records::list_querier(connection, &run.partnership_id, keys.epoch)?;
        let settled = querier(document.binding.i_query);
        if remembered != ListQuerier::Open && remembered != settled {
            return Ok(None);
        }
    }
    let (me, partner) = (run.parties.me(), run.parties.partner());
    let initiator = match role {
        Role::Initiator => me,
        Role::Acceptor => partner,
    };
    let list_querier = if document.binding.i_query {
        role
    } else {
        role.peer()
    };
    let plan = Plan::new(&terms.terms, &initiator, list_querier).map_err(misused)?;
    // The count flow is never a delta.
    Ok((!plan.count).then_some(FoundState { kept, result, plan }))
}

/// What the last run settled, as a hello says it.
pub(super) const fn querier(i_query: bool) -> ListQuerier {
    if i_query {
        ListQuerier::Sender
    } else {
        ListQuerier::Receiver
    }
}

fn their_epoch((epoch, key): (u64, [u8; 32])) -> (u64, String) {
    (epoch, hex::encode(key))
}

fn binding(
    run: &Run,
    terms: &RunTerms,
    keys: Option<&EpochKeys>,
    peer_epoch: Option<(u64, [u8; 32])>,
    i_query: bool,
) -> Binding {
    let mut stages = describe(&terms.mine);
    // The order in which the partner's labels name its stages follows from the terms; the indexes here do not.
    stages.extend(describe(&terms.theirs));
    Binding {
        terms: hex::encode(terms.terms.hash()),
        stages,
        my_epoch: keys.map(|keys| keys.epoch),
        their_epoch: peer_epoch.map(their_epoch),
        i_query,
    }
    .of(run)
}

impl Binding {
    /// Two organisations' state is no other two's.
    fn of(mut self, run: &Run) -> Self {
        self.stages.push(hex::encode(
            [run.parties.me().0, run.parties.partner().0].concat(),
        ));
        self
    }
}

/// Whether the last run left anything that the next may go on from: for whoever decides before it reads its customers.
pub(super) async fn may(run: &Run) -> Result<bool, Error> {
    let partnership = run.partnership_id.clone();
    let result = run
        .store
        .read(move |connection| records::result(connection, &partnership))
        .await?;
    Ok(result.is_some_and(|result| {
        kept::directory(&directory(&run.node_directory, &result.directory)).exists()
    }))
}

/// What a delta run is made from.
pub(super) struct Planned {
    pub(super) totals: Totals,
    pub(super) plan: DeltaPlan,
    pub(super) files: StateFiles,
}

/// Plans the delta run from what was found; `None` if a full one is better, or if anything is wrong with what was kept.
pub(super) fn plan(
    run: &Run,
    role: Role,
    connection: &Connection,
    terms: &RunTerms,
    handles: Option<&HandleKey>,
    result: &RunDirectory,
    found: FoundState,
) -> Result<Option<Planned>, Error> {
    let stages = terms.mine.disclosed();
    let key_types = terms.terms.key_types();
    let disclosure = Disclosure {
        stages: &stages,
        key_types: &key_types,
        domain_from_email: run.agreement.mine.domain_from_email,
    };
    let changes = Changes::new(&terms.mine, found.kept.document.own.salt()?);
    let own = &found.kept.document.own;
    let last = (own.change_seq, own.totals.rows);
    let changes = match changed(connection, &disclosure, last, changes)? {
        Some(changes) => changes,
        None => return Ok(None),
    };
    plan_from(
        run,
        role,
        (connection, &disclosure),
        terms,
        handles,
        result,
        (found, changes),
    )
    .or_else(|error| {
        tracing::warn!(%error, "the last run's state cannot be used: this run is full");
        Ok(None)
    })
}

fn plan_from(
    run: &Run,
    role: Role,
    (connection, disclosure): (&Connection, &Disclosure<'_>),
    terms: &RunTerms,
    handles: Option<&HandleKey>,
    result: &RunDirectory,
    (found, changes): (FoundState, Changes<'_>),
) -> Result<Option<Planned>, Error> {
    let FoundState {
        kept,
        result: last,
        plan,
    } = found;
    let epochs = keys::directory(&run.node_directory, &run.partnership_id);
    let files = StateFiles::delta(&result.path, &epochs, &run.vault, &kept)?;
    let previous = ResultSet::open(&kept.result, &last.manifest)?;
    let mut own = Own::open(&kept.directory, &kept.key, &kept.document.own)?;
    let update = Update::find(&mut own, changes, &terms.mine, handles)?;
    let totals = update.totals.clone();
    let counts = totals.key_counts();
    if counts.list + counts.count > run.settings.limits.max_keys {
        return Ok(None);
    }
    let mut rng = fresh_rng()?;
    let planned = DeltaPlan::new(
        kept,
        Basis {
            own,
            update,
            tiers: &terms.mine,
            read: &mut |ids, visit| {
                let mut ids = ids.filter_map(|id| std::str::from_utf8(id).ok());
                disclosed(connection, disclosure, &mut ids, &mut |row| {
                    for (key_type, value) in row.keys {
                        visit(*key_type, value);
                    }
                    Ok(())
                })
            },
            below: &mut |bound| rng.next_u64() % bound,
        },
        (previous, last.manifest),
        plan.queries(role),
        plan.queries(role.peer()).is_some(),
    )?;
    if run.settings.deltas == DeltaRule::WhenSmaller
        && !saves(run, role, terms, &totals, &plan, planned.as_ref())
    {
        return Ok(None);
    }
    // Padding must not break a limit that a full run of small sets keeps.
    let (me, partner) = (run.parties.me(), run.parties.partner());
    let planned = planned.filter(|plan| {
        let [list, count, tags] = plan.sizes();
        let within_caps = terms
            .terms
            .side(&partner)
            .is_some_and(|side| list + count <= side.max_queries && tags <= side.max_tags);
        let labels_fit = terms.terms.side(&me).is_some_and(|side| {
            side.label_format()
                .is_ok_and(|format| labels_fit(tags, format))
        });
        within_caps && labels_fit
    });
    Ok(planned.map(|plan| Planned {
        totals,
        plan,
        files,
    }))
}

/// Whether this side sends less in the delta run than in a full one.
fn saves(
    run: &Run,
    role: Role,
    terms: &RunTerms,
    totals: &Totals,
    plan: &Plan,
    planned: Option<&DeltaPlan>,
) -> bool {
    let Some((planned, side)) = planned.zip(terms.terms.side(&run.parties.me())) else {
        return false;
    };
    let [list, count, tags] = full_sizes(terms, side, totals.key_counts());
    let queries = plan.queries(role).map_or(0, |queries| {
        u64::from(queries.list) * list + u64::from(queries.count) * count
    });
    let published = if plan.queries(role.peer()).is_some() {
        tags
    } else {
        0
    };
    planned.sizes().iter().sum::<u64>() < queries + published
}

/// Adds what changed since the last run, which went up to a change number and had so many rows; `None` if it is too much, or
/// too long ago.
fn changed<'a>(
    connection: &Connection,
    disclosure: &Disclosure<'_>,
    (change_seq, rows): (u64, u64),
    mut changes: Changes<'a>,
) -> Result<Option<Changes<'a>>, Error> {
    let mut left = most_changes(rows);
    let scanned = scan_changes(connection, change_seq, disclosure, &mut |change| {
        if left == 0 {
            return Ok(ControlFlow::Break(()));
        }
        left -= 1;
        match change {
            Change::Disclosed(row) => changes.disclosed(row)?,
            Change::Withdrawn(id) => changes.withdrawn(id),
        }
        Ok(ControlFlow::Continue(()))
    });
    match scanned {
        Ok(end) => Ok(end.map(|_| changes)),
        // Deletions since then are forgotten.
        Err(error) if error.reason() == Reason::FailedPrecondition => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the partner's hello goes on from the same run of the same epoch as `kept`, with no more than can be held in memory.
pub(super) fn agrees(kept: &Kept, terms: &RunTerms, peer: &Hello) -> bool {
    let document = &kept.document;
    let theirs = peer.peer_receipt.as_ref().map(|receipt| receipt.hash());
    let [own_head, peer_head] = &document.receipts;
    let epoch = peer
        .epoch_key
        .as_ref()
        .map(|key| their_epoch((key.epoch, key.public_key)));
    let most = document.receiver.as_ref();
    let most = most.map_or(0, |receiver| most_tags(receiver.published.base()));
    let labels = terms.terms.side(&peer.sender);
    let labels = labels.and_then(|side| side.label_format().ok());
    peer.mode == Mode::Delta
        && peer.tags <= most
        && labels.is_some_and(|format| labels_fit(peer.tags, format))
        && hex::encode(peer.receipt_head) == *peer_head
        && theirs.is_some_and(|hash| hex::encode(hash) == *own_head)
        && epoch == document.binding.their_epoch
}

/// Where a full run leaves its state; `None` if no run can go on from it.
pub(super) fn files(
    run: &Run,
    terms: &RunTerms,
    result: &RunDirectory,
) -> Result<Option<(StateFiles, OwnWriter)>, Error> {
    if terms.terms.has_count_flow() {
        return Ok(None);
    }
    let base = result
        .path
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| Error::internal("a run without a name"))?;
    let epochs = keys::directory(&run.node_directory, &run.partnership_id);
    let files = StateFiles::full(&result.path, &epochs, &run.vault, base)?;
    let own = OwnWriter::create(&files.directory, &files.key)?;
    Ok(Some((files, own)))
}

/// What gathers the state that this run leaves.
pub(super) fn keeper(prepared: &mut Prepared, session: &Session) -> Result<Option<Keeper>, Error> {
    let mode = prepared.mode();
    match prepared.state_files.take() {
        Some((files, own)) if session.receiving().is_some() || session.evaluating().is_some() => {
            Keeper::new(files, own, session, mode).map(Some)
        }
        _ => Ok(None),
    }
}

/// Completes the state, which comes into force with the result.
pub(super) fn seal(flows: &Flows, receipts: [[u8; 32]; 2]) -> Result<(), Error> {
    let Some(keeper) = &flows.keeper else {
        return Ok(());
    };
    let session = &flows.session;
    let prepared = &flows.prepared;
    keeper.seal(
        binding(
            &flows.run,
            &prepared.terms,
            prepared.keys.as_ref(),
            session.peer_epoch(),
            session.list_querier() == session.role(),
        ),
        receipts,
    )
}

/// After a delta run failed by what a disk, this program or the partner made of the state: the next run is full.
pub(super) fn doubt(run: &Run, failure: &Failure) {
    let doubtful = matches!(
        failure.error.reason(),
        Reason::StorageFailed | Reason::KeyUnusable | Reason::Internal | Reason::PeerFault
    );
    if !doubtful {
        return;
    }
    let result = run
        .store
        .read_blocking(|connection| records::result(connection, &run.partnership_id));
    match result {
        Ok(Some(result)) => kept::forget(&directory(&run.node_directory, &result.directory)),
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, "the last run's state could not be looked up"),
    }
}

impl Prepared {
    /// Full or delta.
    pub(super) const fn mode(&self) -> Mode {
        if self.delta.is_some() {
            Mode::Delta
        } else {
            Mode::Full
        }
    }
}

#[cfg(test)]
mod tests {
    use overlap_crypto::terms::KeyType;

    use super::*;
    use crate::{
        clock::MockClock,
        customers::{
            files::Format,
            import::{ImportOptions, Source, import_reader},
        },
        matching::local_customers::{Salt, tests::tiers},
        storage::Store,
    };

    /// The row behind the first that is too many cannot be read: whoever looks at it fails.
    #[test]
    fn what_is_beyond_the_most_changes_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let clock = MockClock::new("2026-03-01T00:00:00Z".parse().unwrap());
        let most = most_changes(0);
        let mut file = "id,stage\n".to_owned();
        for number in 0..most + 2 {
            file.push_str(&format!("{number:05},Prospect\n"));
        }
        let source = Source {
            file: "f.csv",
            format: Format::Csv,
            reader: &mut file.as_bytes(),
            total_bytes: None,
        };
        let options = ImportOptions::default();
        import_reader(&store, &clock, source, &options, &mut |_| ()).unwrap();
        let poison = format!(
            "UPDATE customer SET identifiers = x'ff' WHERE id = '{:05}'",
            most + 1
        );
        store
            .write_blocking(|tx| Ok(tx.execute_batch(&poison)?))
            .unwrap();
        let disclosure = Disclosure {
            stages: &["Prospect"],
            key_types: &KeyType::ALL,
            domain_from_email: false,
        };
        let tiers = tiers();
        let fits = |rows| {
            store.read_blocking(|connection| {
                let changes = Changes::new(&tiers, Salt::default());
                let changed = changed(connection, &disclosure, (0, rows), changes)?;
                Ok(changed.is_some())
            })
        };
        assert!(!fits(0).unwrap());
        // With room for one more, it is looked at.
        let failed = fits(4 * (most + 1)).unwrap_err();
        assert_eq!(failed.reason(), Reason::StorageFailed);
    }
}
