//! Tells those who follow changes of the program's alerts (K-29): of each once, however often it is looked at.

use std::{sync::Arc, time::Duration};

use overlap_proto::v1::{self, AlertKind};
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::{
    activity::Activity,
    alerts,
    context::Context,
    facts::FactsCache,
    settings::{self, Settings},
    view::Filter,
};
use crate::{
    changes::{self, Kind},
    error::Error,
    node::Node,
    records::{
        store,
        times::{self, Nanos, SECOND},
    },
    storage::blocking,
};

/// How often the watch looks whether anything has changed, which reads two rows.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// After how long alerts are looked for although nothing has changed but the time.
const RENEW_AFTER: Nanos = 60 * SECOND;
/// Of the time, looking for alerts takes at most one part in so many.
const REST: u32 = 20;
/// How long an alert that is no longer true is remembered: longer than any that could be the same lasts.
const REMEMBERED_DAYS: i64 = 800;

/// Watches a node's program until it stops.
pub(crate) async fn watch(node: Arc<Node>) {
    let mut stopping = Box::pin(node.stopping());
    let mut state = State::default();
    loop {
        let working = Arc::clone(&node);
        let begun = tokio::time::Instant::now();
        let looked = blocking(move || {
            look(&working, &mut state)?;
            Ok(state)
        })
        .await;
        state = looked.unwrap_or_else(|error| {
            tracing::error!(reason = error.reason().name(), %error, "alerts are behind");
            State::default()
        });
        let rest = LOOK_EVERY.max(begun.elapsed() * REST);
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            () = &mut stopping => return,
        }
    }
}

/// What was looked at last.
#[derive(Default)]
struct State {
    cache: FactsCache,
    /// Revision of the records, and the settings.
    seen: Option<(i64, Settings)>,
    at: Nanos,
}

fn look(node: &Node, state: &mut State) -> Result<(), Error> {
    let now = node.now();
    let as_of = times::of(now);
    let is_recent = (state.at..state.at.saturating_add(RENEW_AFTER)).contains(&as_of);
    let found = node.store.read_blocking(|connection| {
        let seen = (store::revision(connection)?, settings::load(connection)?);
        if is_recent && state.seen.as_ref() == Some(&seen) {
            return Ok(None);
        }
        let alerts = current(connection, &state.cache, &seen.1, as_of)?;
        Ok(Some((seen, alerts)))
    })?;
    let Some((seen, alerts)) = found else {
        return Ok(());
    };
    node.store.write_blocking(|tx| {
        for alert in &alerts {
            let cause = cause(alert, &seen.1);
            if is_first(tx, &alert.id, cause, now.as_microsecond())? {
                tell(tx, now, alert)?;
            }
        }
        let forgotten = now.as_microsecond() - REMEMBERED_DAYS * (times::DAY / 1_000);
        tx.prepare_cached("DELETE FROM program_alerts WHERE seen_us < ?")?
            .execute([forgotten])?;
        Ok(())
    })?;
    (state.seen, state.at) = (Some(seen), as_of);
    Ok(())
}

/// What `ListAlerts` lists without a filter.
fn current(
    connection: &Connection,
    cache: &FactsCache,
    settings: &Settings,
    as_of: Nanos,
) -> Result<Vec<v1::Alert>, Error> {
    let facts = cache.load(connection)?;
    let filter = Filter::resolve(None, None, as_of)?;
    let context = Context {
        connection,
        facts: &facts,
        filter: &filter,
        settings,
        activity: Arc::new(Activity::load(connection, as_of, &filter.zone)?),
    };
    alerts::alerts(&context, &context.view()?)
}

/// What tells one occurrence of an alert from the next: since when it is true, or what does not change with the settings.
fn cause(alert: &v1::Alert, settings: &Settings) -> Nanos {
    let since = alert.since.as_ref().and_then(times::to_nanos).unwrap_or(0);
    match alert.kind() {
        AlertKind::ExpiringCertification => since.saturating_add(settings.expiring_within()),
        _ => since,
    }
}

/// Remembers that an alert is true; whether it is new.
fn is_first(tx: &Transaction<'_>, id: &str, cause: Nanos, now_us: i64) -> Result<bool, Error> {
    let known: Option<i64> = tx
        .prepare_cached("SELECT seen_us FROM program_alerts WHERE id = ? AND cause = ?")?
        .query_row(params![id, cause], |row| row.get(0))
        .optional()?;
    // To the day is exact enough for forgetting, and spares writing.
    if known.is_none_or(|seen_us| now_us - seen_us >= times::DAY / 1_000) {
        tx.prepare_cached(
            "INSERT OR REPLACE INTO program_alerts (id, cause, seen_us) VALUES (?, ?, ?)",
        )?
        .execute(params![id, cause, now_us])?;
    }
    Ok(known.is_none())
}

fn tell(tx: &Transaction<'_>, now: jiff::Timestamp, alert: &v1::Alert) -> Result<(), Error> {
    let kind = alert.kind().as_str_name();
    let kind = kind.trim_start_matches("ALERT_KIND_").to_lowercase();
    let since = alert.since.map(|since| since.to_string());
    let since = since.unwrap_or_default();
    let details: Vec<(&str, &str)> = [
        ("alert", kind.as_str()),
        ("since", &since),
        ("message", &alert.message),
        ("partner", &alert.partner),
        ("about", &alert.subject),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .collect();
    changes::record(tx, now, Kind::ProgramAlert, None, &alert.id, &details)
}
