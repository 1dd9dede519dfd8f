//! What is asked of the node when its numbers are read.

use jiff::Timestamp;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge, info::Info},
    registry::{Registry, Unit},
};
use rusqlite::Connection;

use crate::{error::Error, identity::validity, node::Node};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Partnership {
    partnership: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RunsEnded {
    partnership: String,
    state: String,
    reason: String,
}

/// The node's numbers at this moment.
///
/// # Errors
/// What the store reports.
pub(super) fn registry(node: &Node) -> Result<Registry, Error> {
    let mut registry = Registry::default();
    let overlap = registry.sub_registry_with_prefix("overlap");
    let backend = node
        .config
        .engine()
        .map_or("invalid", |engine| engine.name());
    overlap.register(
        "build",
        "The version that runs and its engine for curve arithmetic",
        Info::new([("version", env!("CARGO_PKG_VERSION")), ("backend", backend)]),
    );
    let expires: Gauge = Gauge::default();
    let (_, until) = validity(node.identity.certificate()).map_err(Error::internal)?;
    expires.set(until.as_second());
    overlap.register_with_unit(
        "certificate_expiry_timestamp",
        "When the certificate that partners pin ends, since 1970",
        Unit::Seconds,
        expires,
    );
    node.store.read_blocking(|connection| {
        partnerships(connection, overlap)?;
        runs(connection, overlap)?;
        notices(connection, node.now(), overlap)
    })?;
    Ok(registry)
}

fn partnerships(connection: &Connection, registry: &mut Registry) -> Result<(), Error> {
    let states = Family::<State, Gauge>::default();
    let mut statement =
        connection.prepare_cached("SELECT state, count(*) FROM partnerships GROUP BY state")?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        let state = State { state: row.get(0)? };
        states.get_or_create(&state).set(row.get(1)?);
    }
    registry.register("partnerships", "Partnerships, by state", states);
    Ok(())
}

fn runs(connection: &Connection, registry: &mut Registry) -> Result<(), Error> {
    let ended = Family::<RunsEnded, Gauge>::default();
    let under_way = Family::<Partnership, Gauge>::default();
    let mut statement = connection.prepare_cached(
        "SELECT partnership_id, state, coalesce(failure_reason, ''), count(*), ended_at IS NULL
         FROM matching_runs GROUP BY 1, 2, 3, 5",
    )?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        let (partnership, count): (String, i64) = (row.get(0)?, row.get(3)?);
        if row.get(4)? {
            under_way
                .get_or_create(&Partnership { partnership })
                .inc_by(count);
        } else {
            let labels = RunsEnded {
                partnership,
                state: row.get(1)?,
                reason: row.get(2)?,
            };
            ended.get_or_create(&labels).set(count);
        }
    }
    registry.register("runs_under_way", "Runs that have not ended", under_way);
    registry.register(
        "runs_ended",
        "Runs in the store that have ended, by outcome",
        ended,
    );

    let good = Family::<Partnership, Gauge>::default();
    let mut statement = connection.prepare_cached(
        "SELECT partnership_id, max(ended_at) FROM matching_runs WHERE state = 'DONE' GROUP BY 1",
    )?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        let milliseconds: i64 = row.get(1)?;
        good.get_or_create(&Partnership {
            partnership: row.get(0)?,
        })
        .set(milliseconds.div_euclid(1000));
    }
    registry.register_with_unit(
        "run_last_good_timestamp",
        "When the last good run ended, since 1970",
        Unit::Seconds,
        good,
    );
    Ok(())
}

fn notices(connection: &Connection, now: Timestamp, registry: &mut Registry) -> Result<(), Error> {
    let waiting = Family::<Partnership, Gauge>::default();
    let oldest = Family::<Partnership, Gauge>::default();
    let mut statement = connection.prepare_cached(
        "SELECT partnership, count(*), min(created_us) FROM notices_out GROUP BY partnership",
    )?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        let labels = Partnership {
            partnership: row.get(0)?,
        };
        waiting.get_or_create(&labels).set(row.get(1)?);
        let since: i64 = row.get(2)?;
        oldest
            .get_or_create(&labels)
            .set((now.as_microsecond() - since).max(0) / 1_000_000);
    }
    registry.register(
        "notices_waiting",
        "Notices not yet delivered to the partner's node",
        waiting,
    );
    registry.register_with_unit(
        "notices_oldest_age",
        "Age of the oldest notice that waits",
        Unit::Seconds,
        oldest,
    );
    Ok(())
}
