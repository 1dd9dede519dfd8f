//! Lifecycle stages: the built-in ones and the organisation's own (P-08).

use std::collections::HashMap;

use overlap_proto::v1;
use rusqlite::{Connection, Transaction, params};

use super::{draft::excerpt, limits};
use crate::{
    error::Error,
    sharing::policy::{Stage, StageCategory},
};

/// The stages by ordinal.
///
/// # Errors
/// What the store reports.
pub fn stages(connection: &Connection) -> Result<Vec<Stage>, Error> {
    Ok(numbered(connection)?
        .into_iter()
        .map(|(_, stage)| stage)
        .collect())
}

/// The stages by ordinal, each with its number in the store.
pub(super) fn numbered(connection: &Connection) -> Result<Vec<(i64, Stage)>, Error> {
    let mut statement = connection.prepare_cached(
        "SELECT number, id, label, ordinal, category FROM stage ORDER BY ordinal",
    )?;
    let mut rows = statement.query([])?;
    let mut stages = Vec::new();
    while let Some(row) = rows.next()? {
        let id: String = row.get(1)?;
        let label: String = row.get(2)?;
        stages.push((
            row.get(0)?,
            Stage {
                label: if label.is_empty() { id.clone() } else { label },
                id,
                ordinal: row.get(3)?,
                category: category_from_code(row.get(4)?)
                    .ok_or_else(|| Error::internal("a stage's category is unknown"))?,
            },
        ));
    }
    Ok(stages)
}

/// Inserts or replaces stages by id, all or nothing, and returns all stages by ordinal.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the field, if an id is empty, too long or differs from another in case only, or two stages would
/// have one ordinal.
pub fn upsert(transaction: &Transaction<'_>, new: &[Stage]) -> Result<Vec<Stage>, Error> {
    let mut known = stages(transaction)?;
    let mut origin: HashMap<String, usize> = HashMap::new();
    for (index, stage) in new.iter().enumerate() {
        check(index, stage)?;
        if let Some(earlier) = origin.insert(stage.id.clone(), index) {
            return Err(Error::invalid(
                format!("stages[{index}].id"),
                format!("\"{}\" is stages[{earlier}] already", stage.id),
            ));
        }
        match known.iter_mut().find(|other| other.id == stage.id) {
            Some(other) => other.clone_from(stage),
            None => known.push(stage.clone()),
        }
    }
    if known.len() > limits::MAX_STAGES {
        return Err(Error::invalid(
            "stages",
            format!(
                "{} stages: at most {} are allowed",
                known.len(),
                limits::MAX_STAGES
            ),
        ));
    }
    for (index, stage) in new.iter().enumerate() {
        for other in known.iter().filter(|other| other.id != stage.id) {
            if other.id.to_lowercase() == stage.id.to_lowercase() {
                return Err(Error::invalid(
                    format!("stages[{index}].id"),
                    format!(
                        "\"{}\" differs from the stage \"{}\" in case only",
                        stage.id, other.id
                    ),
                ));
            }
            if other.ordinal == stage.ordinal {
                return Err(Error::invalid(
                    format!("stages[{index}].ordinal"),
                    format!(
                        "{} is the ordinal of the stage \"{}\": give another",
                        stage.ordinal, other.id
                    ),
                ));
            }
        }
    }
    // Out of the way first, so that stages can swap their ordinals.
    let mut move_away =
        transaction.prepare_cached("UPDATE stage SET ordinal = -number WHERE id = ?1")?;
    for stage in new {
        move_away.execute([&stage.id])?;
    }
    let mut write = transaction.prepare_cached(
        "INSERT INTO stage (id, label, ordinal, category) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (id) DO UPDATE SET label = ?2, ordinal = ?3, category = ?4",
    )?;
    for stage in new {
        write.execute(params![
            stage.id,
            stage.label,
            stage.ordinal,
            category_code(stage.category)
        ])?;
    }
    stages(transaction)
}

fn check(index: usize, stage: &Stage) -> Result<(), Error> {
    let id = format!("stages[{index}].id");
    if stage.id.is_empty() {
        return Err(Error::invalid(id, "the stage's id is missing"));
    }
    for (field, value) in [
        (id, &stage.id),
        (format!("stages[{index}].label"), &stage.label),
    ] {
        if value.len() > limits::MAX_STAGE_BYTES {
            return Err(Error::invalid(
                field,
                format!(
                    "{} bytes long: at most {} are allowed",
                    value.len(),
                    limits::MAX_STAGE_BYTES
                ),
            ));
        }
        if value.trim() != value || value.chars().any(char::is_control) {
            return Err(Error::invalid(
                field,
                format!(
                    "\"{}\" has space around it or a control character in it: remove it",
                    excerpt(value)
                ),
            ));
        }
    }
    Ok(())
}

/// A stage of a request.
///
/// # Errors
/// `INVALID_ARGUMENT` if it has no category.
pub(super) fn from_proto(index: usize, stage: v1::Stage) -> Result<Stage, Error> {
    let category = match stage.category() {
        v1::StageCategory::Open => StageCategory::Open,
        v1::StageCategory::Customer => StageCategory::Customer,
        v1::StageCategory::Lost => StageCategory::Lost,
        v1::StageCategory::Churned => StageCategory::Churned,
        v1::StageCategory::Unspecified => {
            return Err(Error::invalid(
                format!("stages[{index}].category"),
                "give one of OPEN, CUSTOMER, LOST, CHURNED",
            ));
        }
    };
    Ok(Stage {
        id: stage.id,
        label: stage.label,
        ordinal: stage.ordinal,
        category,
    })
}

/// A stage in the API's terms.
pub(super) fn to_proto(stage: Stage) -> v1::Stage {
    let category = match stage.category {
        StageCategory::Open => v1::StageCategory::Open,
        StageCategory::Customer => v1::StageCategory::Customer,
        StageCategory::Lost => v1::StageCategory::Lost,
        StageCategory::Churned => v1::StageCategory::Churned,
    };
    v1::Stage {
        id: stage.id,
        label: stage.label,
        ordinal: stage.ordinal,
        category: category.into(),
    }
}

const fn category_code(category: StageCategory) -> i64 {
    match category {
        StageCategory::Open => 1,
        StageCategory::Customer => 2,
        StageCategory::Lost => 3,
        StageCategory::Churned => 4,
    }
}

const fn category_from_code(code: i64) -> Option<StageCategory> {
    match code {
        1 => Some(StageCategory::Open),
        2 => Some(StageCategory::Customer),
        3 => Some(StageCategory::Lost),
        4 => Some(StageCategory::Churned),
        _ => None,
    }
}
