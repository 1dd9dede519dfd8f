//! What happens without anybody asking: publishing events, telling partners about this organisation, noticing what runs found,
//! cleaning up.

use std::{sync::Arc, time::Duration};

use rusqlite::Connection;

use super::SharedCustomers;
use crate::{
    assets, attribution,
    changes::{self, Kind},
    error::Error,
    node::Node,
    partner_info,
    storage::blocking,
    timeline,
};

/// How often the follower looks. A look that finds nothing reads a few rows.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Follows a node until it stops.
pub async fn follow(node: Arc<Node>) {
    let starting = Arc::clone(&node);
    if let Err(error) = blocking(move || assets::sweep_incoming(&starting)).await {
        tracing::warn!(%error, "incomplete files could not be removed");
    }
    let mut stopping = Box::pin(node.stopping());
    loop {
        let working = Arc::clone(&node);
        if let Err(error) = blocking(move || follow_once(&working)).await {
            tracing::error!(reason = error.reason().name(), %error, "collaboration is behind");
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = &mut stopping => return,
        }
    }
}

/// Does what is to do now. Blocks.
///
/// # Errors
/// What the store reports.
pub fn follow_once(node: &Node) -> Result<(), Error> {
    let customers = node.shared_customers();
    timeline::index(node, customers)?;
    for partnership in node.store.read_blocking(connected_ids)? {
        note_results(node, customers, &partnership)?;
        timeline::publish(node, customers, &partnership)?;
        partner_info::tell(node, &partnership)?;
        assets::send(node, &partnership)?;
    }
    assets::sweep(node)
}

fn connected_ids(connection: &Connection) -> Result<Vec<String>, Error> {
    Ok(connection
        .prepare_cached("SELECT id FROM partnerships WHERE state = 'CONNECTED' ORDER BY id")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?)
}

/// Tells those who follow that a run replaced the results.
fn note_results(
    node: &Node,
    customers: &dyn SharedCustomers,
    partnership: &str,
) -> Result<(), Error> {
    let found = node.store.read_blocking(|connection| {
        let Some(run) = customers.run(connection, partnership)? else {
            return Ok(None);
        };
        let (noted, newest) = changes::noted_run(connection, partnership)?;
        if noted == run {
            return Ok(None);
        }
        let (count, newest) = customers.found_after(node, connection, partnership, newest)?;
        Ok(Some((run, count, newest)))
    })?;
    let Some((run, count, newest)) = found else {
        return Ok(());
    };
    node.store.write_blocking(|tx| {
        let now = node.now();
        attribution::resolve(node, tx, customers, partnership)?;
        timeline::resolve(node, tx, customers, partnership)?;
        changes::note_run(tx, partnership, &run, newest)?;
        changes::record(tx, now, Kind::ResultsReplaced, Some(partnership), &run, &[])?;
        if count > 0 {
            let count = count.to_string();
            let details = [("count", count.as_str())];
            changes::record(
                tx,
                now,
                Kind::SharedCustomersFound,
                Some(partnership),
                &run,
                &details,
            )?;
        }
        Ok(())
    })
}
