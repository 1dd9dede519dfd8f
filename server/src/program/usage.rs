//! Who looks at which numbers (K-38). Counted in memory and written now and then, so that reading stays reading.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::{Transaction, params};

use crate::{
    auth::Caller,
    clock::Clock,
    error::Error,
    records::times::{self, DAY, Nanos, SECOND},
    storage::Store,
};

/// How long calls may wait to be written.
const WRITE_EVERY: Nanos = 10 * SECOND;

/// Counts calls; clones share the counts.
#[derive(Clone)]
pub struct Usage {
    store: Store,
    clock: Arc<dyn Clock>,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    /// By UTC day, view and user.
    calls: BTreeMap<(i64, &'static str, String), i64>,
    written_at: Nanos,
}

impl Usage {
    /// Counts calls in `store`.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Self {
            store,
            clock,
            waiting: Arc::default(),
        }
    }

    /// Notes that `caller` looks at `view`.
    pub fn note(&self, caller: &Caller, view: &'static str) {
        let now = times::of(self.clock.now());
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting
            .calls
            .entry((now.div_euclid(DAY), view, caller.user.clone()))
            .or_default() += 1;
        if now - waiting.written_at >= WRITE_EVERY
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            waiting.written_at = now;
            drop(waiting);
            let usage = self.clone();
            runtime.spawn(async move {
                if let Err(error) = usage.write().await {
                    tracing::warn!(%error, "use of the dashboard was not written");
                }
            });
        }
    }

    /// Writes what was noted.
    ///
    /// # Errors
    /// What the store reports.
    pub async fn write(&self) -> Result<(), Error> {
        let calls = std::mem::take(
            &mut self
                .waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .calls,
        );
        if calls.is_empty() {
            return Ok(());
        }
        self.store
            .write(move |transaction| write(transaction, &calls))
            .await
    }
}

fn write(
    transaction: &Transaction<'_>,
    calls: &BTreeMap<(i64, &'static str, String), i64>,
) -> Result<(), Error> {
    let mut add = transaction.prepare_cached(
        "INSERT INTO dashboard_use (day, view, user, calls) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (day, view, user) DO UPDATE SET calls = calls + ?4",
    )?;
    for ((day, view, user), count) in calls {
        add.execute(params![day, view, user, count])?;
    }
    Ok(())
}
