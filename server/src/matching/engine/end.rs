//! How runs end: with a result, with a failure, or with the process.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::Transaction;
use tokio::sync::oneshot;

use super::{
    super::{
        driver::{self, Tail},
        failure::{Failure, abort},
        keys,
        progress::RunState,
        recording,
        records::{self, RecordedFailure},
    },
    Slot, lock, release, stopped,
};
use crate::{
    error::{Error, Reason},
    node::Node,
};

/// A run whose result is in force.
pub(super) struct Done {
    pub(super) tail: Tail,
    /// Where the outcome is told once the partner has everything.
    pub(super) told: Option<oneshot::Sender<Result<(), Error>>>,
}

/// Records how a run ended, frees the partnership for the next, and stays until the partner has what it needs of this one.
pub(super) async fn conclude(
    node: &Arc<Node>,
    partnership_id: &str,
    slot: &Slot,
    outcome: Result<Done, Failure>,
) {
    let rejoin = lock(&slot.rejoin).clone().filter(|_| outcome.is_ok());
    if let Some(rejoin) = rejoin.clone() {
        lock(&node.matching.tails).insert(partnership_id.to_owned(), rejoin);
    }
    end(node, partnership_id, slot, outcome.as_ref().err()).await;
    let Ok(Done { tail, told }) = outcome else {
        return;
    };
    tokio::select! {
        () = tail.finish() => {}
        () = stopped(node) => {}
    }
    if let Some(rejoin) = rejoin {
        // A later run's tail may have taken its place.
        lock(&node.matching.tails)
            .retain(|id, tail| id != partnership_id || tail.run != rejoin.run);
    }
    if let Some(told) = told {
        // The stream may be gone.
        let _ = told.send(Ok(()));
    }
}

/// Records how a run ended and frees the partnership for the next. A good run is recorded with its result.
async fn end(node: &Arc<Node>, partnership_id: &str, slot: &Slot, failure: Option<&Failure>) {
    let run_id = slot.run_id.as_str();
    if let Some(failure) = failure {
        if let Some(rejoin) = &*lock(&slot.rejoin) {
            let code = failure.abort.unwrap_or(abort::RUN_INTERRUPTED);
            lock(&node.matching.given_up).insert(partnership_id.to_owned(), (rejoin.run, code));
        }
        if node.is_stopping() && failure.error.reason() != Reason::Cancelled {
            // The next start says what becomes of it.
            slot.meter.enter(RunState::Failed, 0);
            release(node, partnership_id, slot);
            return;
        }
        let state = if failure.error.reason() == Reason::Cancelled {
            RunState::Cancelled
        } else {
            RunState::Failed
        };
        let recorded = RecordedFailure::from(failure);
        let (id, now) = (run_id.to_owned(), node.now());
        let stored = node
            .store
            .write(move |tx| records::fail(tx, &id, state, &recorded, now))
            .await;
        // The connection may break, or somebody cancel, just when the result comes into force: then the run is done.
        let done = matches!(stored, Ok(false));
        if !done {
            tracing::warn!(
                run = run_id,
                partnership = partnership_id,
                reason = failure.error.reason().name(),
                side = failure.side.name(),
                message = failure.error.message(),
                "a run failed; the last good result stays"
            );
        }
        if let Err(error) = stored {
            tracing::error!(run = run_id, %error, "a run's end could not be stored");
        }
        slot.meter
            .enter(if done { RunState::Done } else { state }, 0);
    }
    release(node, partnership_id, slot);
}

/// Clears away what a stopped process left: runs that never ended, and files that belong to no result.
/// Runs that this node opened begin again with [`restart_interrupted`](super::restart_interrupted).
///
/// # Errors
/// What the store reports.
pub fn recover(
    store: &crate::storage::Store,
    directory: &Path,
    now: jiff::Timestamp,
) -> Result<(), Error> {
    let kept = store.write_blocking(|tx| {
        records::settle_interrupted(tx, now)?;
        records::directories(tx)
    })?;
    let Ok(entries) = std::fs::read_dir(directory.join("runs")) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_str().is_none_or(|name| !kept.contains(name)) {
            remove_directory(&entry.path());
        }
    }
    Ok(())
}

fn remove_directory(path: &PathBuf) {
    if let Err(error) = std::fs::remove_dir_all(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %path.display(), "a run's files could not be removed");
    }
}

/// Removes everything derived from a partner's customers, and ends the epoch: for tightened or revoked permissions (Z-06).
/// What was released in reports is remembered, so that thresholds hold across a new agreement. The files go once the
/// transaction has been committed, so that one that fails leaves the result whole.
///
/// # Errors
/// What the store or the file system reports.
pub fn remove_derived_results(
    tx: &Transaction<'_>,
    store: &crate::storage::Store,
    node_directory: &Path,
    partnership_id: &str,
) -> Result<(), Error> {
    if let Some(result) = records::result(tx, partnership_id)? {
        let path = driver::directory(node_directory, &result.directory);
        let (store, name) = (store.clone(), result.directory);
        std::thread::spawn(move || {
            // The store has one writer: this waits for the transaction to end. A node that stops before clears up at its next start.
            match store.write_blocking(|tx| records::directories(tx)) {
                Ok(kept) if kept.contains(&name) => {}
                Ok(_) => remove_directory(&path),
                Err(error) => tracing::warn!(%error, "a result's files could not be removed"),
            }
        });
    }
    records::remove_derived(tx, partnership_id)?;
    recording::remove(node_directory, partnership_id);
    keys::destroy(&keys::directory(node_directory, partnership_id))
}
