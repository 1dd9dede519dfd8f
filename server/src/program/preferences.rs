//! Which tiles of a view a user sees (I-03, I-20).

use std::collections::BTreeMap;

use overlap_proto::v1::{self, record::Content};
use rusqlite::{Connection, Transaction};
use sha2::{Digest as _, Sha256};

use super::definitions::{ENGAGEMENT, MetricId};
use crate::{
    auth::{Caller, Role},
    error::Error,
    records::{
        kind::Kind,
        store::{self, Row},
        times::{self, Nanos},
        validate,
    },
};

/// The view that role PARTNER does not have (I-13).
pub const PARTNER_LIFECYCLE: &str = "partner-lifecycle";

/// The tiles of a view, as a role knows them.
fn tiles(view: &str, role: Role) -> Option<Vec<&'static str>> {
    match view {
        "program" => {
            let metrics = MetricId::known_to(role).iter();
            Some(metrics.map(|metric| metric.name()).collect())
        }
        "engagement" => Some(ENGAGEMENT.iter().map(|one| one.id).collect()),
        PARTNER_LIFECYCLE => Some(vec![
            "stages",
            "statuses",
            "regions",
            "subtypes",
            "verticals",
            "offerings",
            "gaps",
            "tiers",
            "strengths",
            "areas",
        ]),
        _ => None,
    }
}

/// Refuses a view that does not exist, or that the caller may not know to exist, in the same words.
///
/// # Errors
/// `NOT_FOUND`.
pub fn require_view(caller: &Caller, view: &str) -> Result<Vec<&'static str>, Error> {
    tiles(view, caller.role)
        .filter(|_| {
            caller.role != Role::Partner || (view != PARTNER_LIFECYCLE && view != "engagement")
        })
        .ok_or_else(|| Error::not_found("view", view))
}

/// What a user sees of a view: its own choice, or else everyone's, or else everything.
///
/// # Errors
/// What the store reports.
pub fn visible(
    connection: &Connection,
    user: &str,
    view: &str,
    tiles: &[&'static str],
) -> Result<Vec<v1::TilePreference>, Error> {
    // The latest of each user's choices; everyone's are those of no user.
    let mut own: BTreeMap<String, (Nanos, bool)> = BTreeMap::new();
    let mut everyone = own.clone();
    store::scan(connection, Kind::ViewPreference, &mut |_, at, content| {
        if let Content::ViewPreference(preference) = content
            && preference.view == view
        {
            let choices = if preference.user == user {
                &mut own
            } else if preference.user == EVERYONE {
                &mut everyone
            } else {
                return Ok(());
            };
            let choice = choices
                .entry(preference.tile)
                .or_insert((Nanos::MIN, preference.visible));
            if choice.0 <= at {
                *choice = (at, preference.visible);
            }
        }
        Ok(())
    })?;
    Ok(tiles
        .iter()
        .map(|&tile| v1::TilePreference {
            tile: tile.to_owned(),
            visible: own
                .get(tile)
                .or_else(|| everyone.get(tile))
                .is_none_or(|choice| choice.1),
        })
        .collect())
}

/// The user that stands for everyone who did not choose.
const EVERYONE: &str = "*";

/// Stores a user's choices.
///
/// # Errors
/// `ROLE_NOT_ALLOWED` for a choice for everyone by another role than ADMIN; `INVALID_ARGUMENT` for an unknown tile.
pub fn update(
    transaction: &Transaction<'_>,
    caller: &Caller,
    now: Nanos,
    request: &v1::UpdateViewPreferencesRequest,
) -> Result<Vec<v1::TilePreference>, Error> {
    let tiles = require_view(caller, &request.view)?;
    let user = if request.everyone {
        caller.require(&[Role::Admin])?;
        EVERYONE
    } else {
        &caller.user
    };
    let mut rows = Vec::new();
    for (at, choice) in request.tiles.iter().enumerate() {
        if !tiles.contains(&choice.tile.as_str()) {
            return Err(Error::invalid(
                format!("tiles[{at}].tile"),
                format!(
                    "\"{}\" is not a tile of view \"{}\"",
                    choice.tile, request.view
                ),
            ));
        }
        let name = serde_json::json!([user, request.view, choice.tile]).to_string();
        let id = format!("choice-{}", hex::encode(&Sha256::digest(name)[..16]));
        // A later choice wins even if the clock stood still.
        let before = store::find(transaction, Kind::ViewPreference, &id)?
            .and_then(|record| times::to_nanos(&record.updated_at?));
        let version = before.map_or(now, |before| now.max(before + 1));
        let record = v1::Record {
            id,
            updated_at: Some(times::to_proto(version)),
            deleted: false,
            content: Some(Content::ViewPreference(v1::ViewPreferenceRecord {
                user: user.to_owned(),
                view: request.view.clone(),
                tile: choice.tile.clone(),
                visible: choice.visible,
            })),
        };
        let header = validate::check(&record, now)
            .map_err(|_| Error::invalid("tiles", "cannot be stored"))?;
        rows.push(Row::new(&record, header));
    }
    store::upsert(transaction, &rows)?;
    visible(transaction, &caller.user, &request.view, &tiles)
}
