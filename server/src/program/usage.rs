//! Who looks at which numbers (K-38): in the audit log, action `dashboard.viewed`. Calls are gathered in memory and written
//! together a little later, so that reading stays reading and the log stays short.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use overlap_proto::v1;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use crate::{
    audit,
    auth::Caller,
    clock::Clock,
    error::Error,
    records::times::{DAY, Nanos},
    storage::Store,
};

/// How long calls may wait to be written; those of a process that is killed before are lost.
const GATHERED_FOR: Duration = Duration::from_secs(5);

/// Counts calls; clones share the counts.
#[derive(Clone)]
pub struct Usage {
    store: Store,
    clock: Arc<dyn Clock>,
    waiting: Arc<Mutex<Waiting>>,
}

/// By UTC day, view and token: how many calls, and when the last was.
type Calls = BTreeMap<(i64, &'static str, String), (u64, Timestamp)>;

#[derive(Default)]
struct Waiting {
    calls: Calls,
    /// Whether somebody will write them.
    is_due: bool,
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

    /// Notes that `caller` looks at `view`. Within a Tokio runtime.
    pub fn note(&self, caller: &Caller, view: &'static str) {
        let now = self.clock.now();
        let mut waiting = self.waiting();
        let key = (day_of(now), view, caller.token_id.clone());
        let entry = waiting.calls.entry(key).or_insert((0, now));
        *entry = (entry.0 + 1, now);
        if waiting.is_due {
            return;
        }
        waiting.is_due = true;
        drop(waiting);
        let usage = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(GATHERED_FOR).await;
            if let Err(error) = usage.write().await {
                tracing::warn!(%error, "use of the dashboard was not written");
            }
        });
    }

    /// Writes what was noted.
    ///
    /// # Errors
    /// What the store reports; then it still waits.
    pub async fn write(&self) -> Result<(), Error> {
        let calls = {
            let mut waiting = self.waiting();
            waiting.is_due = false;
            std::mem::take(&mut waiting.calls)
        };
        if calls.is_empty() {
            return Ok(());
        }
        let writing = Arc::new(calls);
        let copy = Arc::clone(&writing);
        let written = self.store.write(move |tx| record(tx, &copy)).await;
        if written.is_err() {
            let mut waiting = self.waiting();
            for (key, &(count, last)) in &*writing {
                let entry = waiting.calls.entry(key.clone()).or_insert((0, last));
                entry.0 += count;
            }
        }
        written
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn day_of(at: Timestamp) -> i64 {
    at.as_second().div_euclid(86_400)
}

fn record(tx: &Transaction<'_>, calls: &Calls) -> Result<(), Error> {
    for ((_, view, token), (count, last)) in calls {
        let details = [("view", *view), ("calls", &count.to_string())];
        audit::record(tx, *last, token, audit::DASHBOARD_VIEWED, None, &details)?;
    }
    Ok(())
}

/// How the dashboard is used, by view, over the UTC days that `start` to `last` touch (K-38). A user with several tokens is one.
///
/// # Errors
/// What the store reports.
pub fn adoption(
    connection: &Connection,
    start: Nanos,
    last: Nanos,
) -> Result<v1::GetDashboardAdoptionResponse, Error> {
    // In microseconds, from midnight to midnight.
    let midnight = |at: Nanos, days: i64| (at.div_euclid(DAY) + days).saturating_mul(DAY / 1_000);
    let mut users: BTreeMap<String, String> = BTreeMap::new();
    let mut views: BTreeMap<String, (u64, HashSet<String>)> = BTreeMap::new();
    let mut user_of = connection.prepare_cached("SELECT user FROM tokens WHERE id = ?")?;
    audit::viewed(
        connection,
        midnight(start, 0)..midnight(last, 1),
        &mut |actor, view, calls| {
            let user = match users.get(&actor) {
                Some(user) => user,
                None => {
                    let user = user_of
                        .query_row(params![actor], |row| row.get(0))
                        .optional()?
                        .unwrap_or_else(|| actor.clone());
                    users.entry(actor).or_insert(user)
                }
            };
            let entry = views.entry(view).or_default();
            entry.0 += calls;
            entry.1.insert(user.clone());
            Ok(())
        },
    )?;
    let everyone: HashSet<&String> = views.values().flat_map(|(_, users)| users).collect();
    Ok(v1::GetDashboardAdoptionResponse {
        users: everyone.len() as u64,
        calls: views.values().map(|(calls, _)| calls).sum(),
        views: views
            .iter()
            .map(|(view, (calls, users))| v1::DashboardUse {
                view: view.clone(),
                calls: *calls,
                users: users.len() as u64,
            })
            .collect(),
    })
}
