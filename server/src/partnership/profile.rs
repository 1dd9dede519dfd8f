//! What partners know of this node beyond its keys: told again whenever the configuration changes it.

use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use super::rows::{fold, is_taken};
use crate::{
    audit,
    config::{check_endpoint, check_organization},
    error::{Error, Reason},
    node::{Node, Registry},
    notices,
};

const PROFILE: &str = "partnership.profile";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Profile {
    organization: String,
    endpoint: Option<String>,
}

/// This node's profile as it is remembered once a partner knows it.
pub(super) fn current(node: &Node) -> Result<String, Error> {
    serde_json::to_string(&Profile {
        organization: node.config.organization.clone(),
        endpoint: node.exchange_endpoint(),
    })
    .map_err(|error| Error::internal(format!("profile: {error}")))
}

/// Tells partners that know another profile of this node.
pub(crate) async fn announce(node: &std::sync::Arc<Node>) -> Result<(), Error> {
    let writer = std::sync::Arc::clone(node);
    node.store
        .write(move |tx| {
            let current = current(&writer)?;
            for id in to_tell(tx, &current)? {
                let profile: Profile = serde_json::from_str(&current)
                    .map_err(|error| Error::internal(format!("profile: {error}")))?;
                notices::enqueue(&writer, tx, &id, PROFILE, &profile)?;
                tx.execute(
                    "UPDATE partnerships SET announced = ? WHERE id = ?",
                    params![current, id],
                )?;
            }
            Ok(())
        })
        .await
}

fn to_tell(connection: &Connection, current: &str) -> Result<Vec<String>, Error> {
    let mut statement = connection
        .prepare("SELECT id FROM partnerships WHERE state = 'CONNECTED' AND announced <> ?")?;
    let ids = statement.query_map([current], |row| row.get(0))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

pub(super) fn register(registry: &mut Registry) {
    registry.on_notice(PROFILE, |notice| {
        let profile: Profile = notice.body()?;
        let fault = |problem: String| Error::new(Reason::PeerFault, problem);
        check_organization(&profile.organization).map_err(fault)?;
        if let Some(endpoint) = &profile.endpoint {
            check_endpoint(endpoint).map_err(fault)?;
        }
        let id = &notice.partnership.id;
        if is_taken(notice.tx, &profile.organization, id)? {
            return Err(fault("the name is another partner's".to_owned()));
        }
        // `known_as` stays: which records are the partner's is not for the partner to say.
        notice.tx.execute(
            "UPDATE partnerships SET organization = ?, organization_folded = ?, endpoint = ? WHERE id = ?",
            params![profile.organization, fold(&profile.organization), profile.endpoint, id],
        )?;
        audit::record(
            notice.tx,
            notice.at,
            &audit::partner(id),
            PROFILE,
            Some(id),
            &[
                ("organization", &profile.organization),
                ("endpoint", profile.endpoint.as_deref().unwrap_or_default()),
            ],
        )
    });
}
