//! The result of a delta run, and the state that the next one goes on from.

use super::super::{Flows, lock};
use crate::{
    error::Error,
    matching::delta::shared::{Joining, SharedTotals},
    overlap::{layer::LayerUpdate, reader::ResultSet, writer::Manifest},
};

/// The shared customers of a delta run: written, not yet in force.
pub(in super::super) struct DeltaShared {
    pub(in super::super) manifest: Manifest,
    pub(in super::super) totals: SharedTotals,
    pub(in super::super) result: ResultSet,
    pub(in super::super) disagreeing: u64,
}

/// Joins what changed, and writes it into the run's directory.
pub(in super::super) fn join(flows: &Flows) -> Result<DeltaShared, Error> {
    let (Some(delta), Some(keeper)) = (&flows.delta, &flows.keeper) else {
        return Err(Error::internal("a delta run that keeps nothing"));
    };
    let run = &flows.run;
    let (previous, previous_manifest) = &delta.previous;
    let update = &delta.customers.update;
    let mut own = delta.customers.own();
    let mut links = lock(&delta.links);
    let scratch = flows.directory.scratch();
    let shared = Joining {
        terms: &flows.prepared.terms,
        queries: delta.mine,
        update,
        previous,
        totals: &delta.kept.document.totals,
        store: &run.store,
        now: run.now(),
        scratch: &scratch,
        sort_bytes: run.settings.limits.sort_bytes,
    }
    .join(&mut own, &mut links, &lock(&delta.changes))?;
    for _ in 0..shared.bad_labels {
        flows.note_bad_label();
    }
    let (manifest, origins) = LayerUpdate {
        previous,
        previous_directory: &delta.kept.result,
        previous_manifest,
        gone: &shared.gone,
        new: &shared.new,
        handles: &shared.handles,
        matched: &shared.matched,
    }
    .write(&flows.directory.path)?;
    let (directory, key) = (&keeper.files.directory, &keeper.files.key);
    let links = links.save(directory, key, &origins, &shared.links)?;
    update.apply(&mut own);
    let own = own.save(directory, key, flows.prepared.change_seq)?;
    // A partner that contradicts itself is matched in full: which of its words counts may depend on all of them.
    let own = (shared.disagreeing == 0).then_some(own);
    keeper.shared_done(own, links, shared.totals.clone());
    Ok(DeltaShared {
        result: ResultSet::open(&flows.directory.path, &manifest)?,
        manifest,
        totals: shared.totals,
        disagreeing: shared.disagreeing,
    })
}
