//! Why one of my customers did or did not match, from my own records alone (Z-08).

use std::{collections::BTreeSet, path::Path};

use overlap_crypto::terms::{KeyType, Tier};
use overlap_proto::v1;
use rusqlite::Connection;

use super::{last::LastResult, matrix::key_type_to_proto};
use crate::{
    customers::{normalize::Outcome, rows},
    error::Error,
    matching::{
        keys::random,
        local_customers::{
            LocalCustomers, MAX_ROWS_A_KEY, Salt, Scratch, SnapshotLimits, StageTiers,
        },
        spool::{disk, new_directory},
    },
    sharing::policy::Agreement,
};

/// Explains the customer with row `id`. Reads all disclosed rows once.
///
/// Nothing of the partner's shows: whether a key matched is left open wherever only the partner may know.
///
/// # Errors
/// `NOT_FOUND`; what the store or the file system reports.
pub fn explain(
    connection: &Connection,
    node_directory: &Path,
    partnership_id: &str,
    agreement: &Agreement,
    limits: SnapshotLimits,
    id: &str,
) -> Result<v1::ExplainCustomerResponse, Error> {
    // Before the customers are read, which may take longer than the next run leaves these files in place.
    let last = LastResult::open(connection, node_directory, partnership_id)?;
    let row = rows::fetch(connection, &[id])?
        .pop()
        .flatten()
        .ok_or_else(|| Error::not_found("customer", id))?;
    let tiers = StageTiers::mine(agreement)?;
    let agreed: Vec<KeyType> = KeyType::ALL
        .into_iter()
        .filter(|key_type| {
            agreement.mine.match_on.contains(key_type)
                && agreement.theirs.match_on.contains(key_type)
        })
        .collect();
    let tier = tiers
        .index_of(&row.stage)
        .map_or(Tier::Hidden, |index| tiers.tier(index));
    let merged = if row.private || tier == Tier::Hidden {
        None
    } else {
        Some(Merged::find(
            connection,
            node_directory,
            agreement,
            &agreed,
            limits,
            id,
        )?)
    };
    // A customer of a stage that the partner only counts may match without my knowing.
    let may_know = last.as_ref().is_some_and(|last| {
        last.matrix()
            .theirs
            .iter()
            .all(|stage| stage.tier != "COUNT")
    });
    let mut keys = Vec::new();
    let mut usable = 0;
    let mut any_matched = false;
    for identifier in &row.identifiers {
        let (outcome, detail) = match &identifier.key {
            Err(outcome) => (outcome.name(), outcome.explanation().to_owned()),
            Ok(_) if !agreed.contains(&identifier.key_type) => (
                "NOT_ENABLED",
                "both policies have to name this key type in match_on".to_owned(),
            ),
            Ok(_) if row.private => ("PRIVATE", "the customer is private".to_owned()),
            Ok(_) if tier == Tier::Hidden => (
                "STAGE_HIDDEN",
                "the customer's stage is not disclosed to this partner".to_owned(),
            ),
            Ok(key) => match &merged {
                Some(merged) if !merged.keys.contains(&(identifier.key_type, key.clone())) => (
                    "AMBIGUOUS_KEY",
                    format!(
                        "more than {MAX_ROWS_A_KEY} of the disclosed customers have it, so it names nobody"
                    ),
                ),
                _ => (Outcome::Used.name(), Outcome::Used.explanation().to_owned()),
            },
        };
        let used = outcome == Outcome::Used.name();
        usable += usize::from(used);
        let matched = match (&identifier.key, &last) {
            (Ok(key), Some(last)) if used => {
                if last.files.matched(identifier.key_type, key)? {
                    any_matched = true;
                    Some(true)
                } else {
                    may_know.then_some(false)
                }
            }
            _ => None,
        };
        keys.push(v1::KeyExplanation {
            key_type: key_type_to_proto(identifier.key_type).into(),
            raw: identifier.raw.clone(),
            normalized: identifier.key.as_ref().ok().cloned(),
            outcome: outcome.to_owned(),
            detail,
            matched,
        });
    }
    let (merged_ids, merged_stage) = merged.map_or_else(
        || (vec![row.id.clone()], row.stage.clone()),
        |merged| (merged.ids, merged.stage),
    );
    let conclusion = conclude(
        row.private,
        tier,
        usable,
        last.is_some(),
        any_matched,
        may_know,
    );
    Ok(v1::ExplainCustomerResponse {
        id: row.id,
        stage: row.stage,
        tier: match tier {
            Tier::Hidden => v1::Tier::Hidden,
            Tier::Count => v1::Tier::Count,
            Tier::List => v1::Tier::List,
        }
        .into(),
        merged_ids,
        merged_stage,
        keys,
        conclusion: conclusion.to_owned(),
    })
}

const fn conclude(
    private: bool,
    tier: Tier,
    usable: usize,
    ran: bool,
    matched: bool,
    may_know: bool,
) -> &'static str {
    match (private, tier) {
        (true, _) => "The customer is private: it is never matched.",
        (false, Tier::Hidden) => {
            "The customer's stage is hidden from this partner: it is never matched."
        }
        _ if usable == 0 => "No identifier of the customer is a usable key: it cannot match.",
        _ if !ran => "No run with this partner is done yet.",
        _ if matched => "The last run matched it.",
        _ if may_know => "The last run found no customer of the partner's with one of its keys.",
        _ => {
            "The last run listed no match; whether the partner counts it is the partner's to know."
        }
    }
}

/// The local customer of a row, as a run would make it now.
struct Merged {
    ids: Vec<String>,
    stage: String,
    keys: BTreeSet<(KeyType, String)>,
}

impl Merged {
    fn find(
        connection: &Connection,
        node_directory: &Path,
        agreement: &Agreement,
        agreed: &[KeyType],
        limits: SnapshotLimits,
        id: &str,
    ) -> Result<Self, Error> {
        // Where the next start clears away what a process that was killed left: identifiers in the clear.
        let runs = node_directory.join("runs");
        new_directory(&runs)?;
        let scratch = tempfile::tempdir_in(&runs).map_err(|error| disk(&runs, &error))?;
        let mut salt = Salt::default();
        random(&mut salt)?;
        let local = LocalCustomers::read(
            connection,
            agreement,
            agreed,
            &Scratch {
                directory: scratch.path(),
                salt,
                limits,
            },
            None,
            &mut (),
        )?;
        let mut customer = None;
        let all = 0..u32::try_from(local.rows()).map_err(|_| Error::internal("many rows"))?;
        let mut texts = local.row_texts()?;
        for row in all.clone() {
            if texts.at(row)?.id == id {
                customer = Some(local.customer(row));
            }
        }
        let customer = customer.ok_or_else(|| Error::internal("a disclosed row was not read"))?;
        let mut merged = Self {
            ids: Vec::new(),
            stage: local
                .tiers()
                .stage(local.stage(customer))
                .map(|stage| stage.id.clone())
                .unwrap_or_default(),
            keys: BTreeSet::new(),
        };
        let mut texts = local.row_texts()?;
        for row in all.filter(|row| local.customer(*row) == customer) {
            merged.ids.push(texts.at(row)?.id.to_owned());
        }
        let mut keys = local.keys()?;
        while let Some(key) = keys.next_key()? {
            if key.customer == customer {
                merged.keys.insert((key.key_type, key.value.to_owned()));
            }
        }
        Ok(merged)
    }
}
