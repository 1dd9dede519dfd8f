//! The only door through which matching reads customers, and the ways to look at single ones.

mod details;
mod search;

use std::ops::ControlFlow;

use overlap_crypto::terms::KeyType;
use rusqlite::{Connection, Row, types::ValueRef};

pub(super) use self::search::{Search, find};
pub use self::{
    details::{Details, Identifier, fetch},
    search::{Searchable, searchable},
};
use super::{apply, blob, normalize, stages};
use crate::error::{Error, Reason};

/// A customer row whose stage is disclosed.
#[derive(Debug)]
pub struct DisclosedRow<'a> {
    /// The row's id.
    pub id: &'a str,
    /// Its lifecycle stage.
    pub stage: &'a str,
    /// The place of that stage in [`Disclosure::stages`].
    pub stage_at: usize,
    /// Its usable normalised keys of the wanted types, without duplicates.
    pub keys: &'a [(KeyType, String)],
    /// The customer's name, or empty.
    pub name: &'a str,
    /// Its domains as the source has them, one a line; none beyond [`MAX_DOMAINS_BYTES`].
    pub domains: &'a str,
}

/// Domains of a row are left out beyond so many bytes: nobody searches that far.
pub const MAX_DOMAINS_BYTES: usize = 1 << 14;

/// Which rows and keys to read.
pub struct Disclosure<'a> {
    /// The disclosed stages; rows of any other stage are filtered by the storage query, as are private rows.
    pub stages: &'a [&'a str],
    /// The key types to read.
    pub key_types: &'a [KeyType],
    /// Whether the domain of an e-mail address acts as a domain key.
    pub domain_from_email: bool,
}

/// Visits the disclosed rows in ascending order of id (byte order).
///
/// # Errors
/// What the store or `visit` reports.
pub fn scan_disclosed(
    connection: &Connection,
    disclosure: &Disclosure<'_>,
    visit: &mut dyn FnMut(&DisclosedRow<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    require_current_keys(connection)?;
    let stages = DisclosedStages::find(connection, disclosure.stages)?;
    let mut statement = connection.prepare(&format!(
        "SELECT id, stage, identifiers, name FROM customer WHERE {} ORDER BY id",
        stages.condition
    ))?;
    let mut rows = statement.query([])?;
    let mut keys = Keys::default();
    while let Some(row) = rows.next()? {
        visit(&keys.disclosed_row(row, &stages, disclosure)?)?;
    }
    Ok(())
}

/// [`scan_disclosed`] of the rows with these ids, in the order given; those that are not disclosed are passed over.
///
/// # Errors
/// What the store or `visit` reports.
pub fn disclosed(
    connection: &Connection,
    disclosure: &Disclosure<'_>,
    ids: &mut dyn Iterator<Item = &str>,
    visit: &mut dyn FnMut(&DisclosedRow<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let stages = DisclosedStages::find(connection, disclosure.stages)?;
    let mut statement = connection.prepare_cached(&format!(
        "SELECT id, stage, identifiers, name FROM customer WHERE id = ?1 AND {}",
        stages.condition
    ))?;
    let mut keys = Keys::default();
    for id in ids {
        let mut rows = statement.query([id])?;
        if let Some(row) = rows.next()? {
            visit(&keys.disclosed_row(row, &stages, disclosure)?)?;
        }
    }
    Ok(())
}

/// A disclosed row's fields.
pub struct FieldsRow<'a> {
    /// The row's id.
    pub id: &'a str,
    /// The values asked for, in the order asked for; one that the row lacks is empty.
    pub values: &'a [&'a str],
}

/// Visits the disclosed rows in ascending order of id with the values of `fields`, in their order: the names `name`, `owner`,
/// `industry` and `region`, and those of further fields.
///
/// # Errors
/// What the store or `visit` reports.
pub fn scan_fields(
    connection: &Connection,
    disclosed_stages: &[&str],
    fields: &[&str],
    visit: &mut dyn FnMut(&FieldsRow<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let stages = DisclosedStages::find(connection, disclosed_stages)?;
    let mut statement = connection.prepare(&format!(
        "SELECT id, name, details FROM customer WHERE {} ORDER BY id",
        stages.condition
    ))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        visit_fields(row, fields, visit)?;
    }
    Ok(())
}

/// [`scan_fields`] of the rows with these ids, in the order given; those that are not disclosed are passed over.
///
/// # Errors
/// What the store or `visit` reports.
pub fn fields_of(
    connection: &Connection,
    disclosed_stages: &[&str],
    fields: &[&str],
    ids: &mut dyn Iterator<Item = &str>,
    visit: &mut dyn FnMut(&FieldsRow<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let stages = DisclosedStages::find(connection, disclosed_stages)?;
    let mut statement = connection.prepare_cached(&format!(
        "SELECT id, name, details FROM customer WHERE id = ?1 AND {}",
        stages.condition
    ))?;
    for id in ids {
        let mut rows = statement.query([id])?;
        if let Some(row) = rows.next()? {
            visit_fields(row, fields, visit)?;
        }
    }
    Ok(())
}

fn visit_fields(
    row: &Row<'_>,
    fields: &[&str],
    visit: &mut dyn FnMut(&FieldsRow<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut values = vec![""; fields.len()];
    let mut put = |name: &str, value| {
        for (field, slot) in fields.iter().zip(&mut values) {
            if *field == name {
                *slot = value;
            }
        }
    };
    put("name", text(row, 1)?);
    let mut details = blob::Reader(blob(row, 2)?);
    if !details.is_empty() {
        for name in ["owner", "industry", "region"] {
            put(name, details.text()?);
        }
    }
    while !details.is_empty() {
        put(details.text()?, details.text()?);
    }
    visit(&FieldsRow {
        id: text(row, 0)?,
        values: &values,
    })
}

/// A row that changed.
#[derive(Debug)]
pub enum Change<'a> {
    /// It is disclosed, and is as given.
    Disclosed(DisclosedRow<'a>),
    /// It is deleted, private or of a stage that is not disclosed, whether or not it was disclosed before. Of such a row
    /// nothing but the id is read.
    Withdrawn(&'a str),
}

/// The number of the last change of customers.
///
/// # Errors
/// What the store reports.
pub fn change_seq(connection: &Connection) -> Result<u64, Error> {
    Ok(apply::state(connection)?.change_seq)
}

/// How many customers there are.
///
/// # Errors
/// What the store reports.
pub fn count(connection: &Connection) -> Result<u64, Error> {
    Ok(apply::state(connection)?.customers)
}

/// Visits the rows that changed after change number `since_seq`, each once, and returns the number to go on from; `None` if
/// `visit` ended it before. Reads the change index, not the whole table. The order is that of the change numbers.
///
/// # Errors
/// `FAILED_PRECONDITION` if deletions since then are no longer remembered: read everything instead. What the store or `visit`
/// reports.
pub fn scan_changes(
    connection: &Connection,
    since_seq: u64,
    disclosure: &Disclosure<'_>,
    visit: &mut dyn FnMut(&Change<'_>) -> Result<ControlFlow<()>, Error>,
) -> Result<Option<u64>, Error> {
    require_current_keys(connection)?;
    let state = apply::state(connection)?;
    if since_seq < state.pruned_seq || since_seq > state.change_seq {
        return Err(Error::new(
            Reason::FailedPrecondition,
            format!("the changes since number {since_seq} are not known: start a full run"),
        ));
    }
    let stages = DisclosedStages::find(connection, disclosure.stages)?;
    let mut statement = connection.prepare(&format!(
        "SELECT id, stage, CASE WHEN {0} THEN identifiers END, CASE WHEN {0} THEN name END FROM customer
         WHERE changed_seq > ?1 ORDER BY changed_seq, id",
        stages.condition
    ))?;
    let mut rows = statement.query([since_seq])?;
    let mut keys = Keys::default();
    while let Some(row) = rows.next()? {
        let wanted = if row.get_ref(2)? == ValueRef::Null {
            visit(&Change::Withdrawn(text(row, 0)?))?
        } else {
            visit(&Change::Disclosed(
                keys.disclosed_row(row, &stages, disclosure)?,
            ))?
        };
        if wanted.is_break() {
            return Ok(None);
        }
    }
    let mut statement = connection.prepare_cached(
        "SELECT id FROM customer_tombstone WHERE changed_seq > ?1 ORDER BY changed_seq, id",
    )?;
    let mut rows = statement.query([since_seq])?;
    while let Some(row) = rows.next()? {
        if visit(&Change::Withdrawn(text(row, 0)?))?.is_break() {
            return Ok(None);
        }
    }
    Ok(Some(state.change_seq))
}

/// Keys and domains read from a row, in buffers that are reused.
#[derive(Default)]
struct Keys {
    keys: Vec<(KeyType, String)>,
    used: usize,
    domains: String,
}

impl Keys {
    /// A row of id, stage, identifiers and name.
    fn disclosed_row<'a>(
        &'a mut self,
        row: &'a Row<'_>,
        stages: &'a DisclosedStages,
        disclosure: &Disclosure<'_>,
    ) -> Result<DisclosedRow<'a>, Error> {
        self.read(blob(row, 2)?, disclosure)?;
        let stage = stages.stage(row.get(1)?)?;
        Ok(DisclosedRow {
            id: text(row, 0)?,
            stage: &stage.id,
            stage_at: stage.place,
            keys: &self.keys[..self.used],
            name: text(row, 3)?,
            domains: &self.domains,
        })
    }

    fn read(&mut self, identifiers: &[u8], disclosure: &Disclosure<'_>) -> Result<(), Error> {
        self.used = 0;
        self.domains.clear();
        let wanted = |key_type| disclosure.key_types.contains(&key_type);
        let mut reader = blob::Reader(identifiers);
        reader.region()?;
        while let Some(entry) = reader.identifier()? {
            if entry.key_type == KeyType::Domain
                && self.domains.len() + entry.raw.len() < MAX_DOMAINS_BYTES
            {
                if !self.domains.is_empty() {
                    self.domains.push('\n');
                }
                self.domains.push_str(entry.raw);
            }
            let Ok(key) = entry.key else { continue };
            if wanted(entry.key_type) {
                self.add(entry.key_type, key);
            }
            if disclosure.domain_from_email
                && entry.key_type == KeyType::Email
                && wanted(KeyType::Domain)
                && let Ok(domain) = normalize::domain_of_email(key)
            {
                self.add(KeyType::Domain, &domain);
            }
        }
        Ok(())
    }

    fn add(&mut self, key_type: KeyType, key: &str) {
        if self.keys[..self.used]
            .iter()
            .any(|(other, text)| *other == key_type && text == key)
        {
            return;
        }
        match self.keys.get_mut(self.used) {
            Some((slot_type, slot)) => {
                *slot_type = key_type;
                slot.clear();
                slot.push_str(key);
            }
            None => self.keys.push((key_type, key.to_owned())),
        }
        self.used += 1;
    }
}

/// A disclosed stage.
struct DisclosedStage {
    /// Its number in the store.
    number: i64,
    id: String,
    /// Its place among those asked for.
    place: usize,
}

/// The disclosed stages that the store has.
struct DisclosedStages {
    stages: Vec<DisclosedStage>,
    /// The SQL condition that a row is disclosed.
    condition: String,
}

impl DisclosedStages {
    fn find(connection: &Connection, disclosed: &[&str]) -> Result<Self, Error> {
        let stages: Vec<DisclosedStage> = stages::numbered(connection)?
            .into_iter()
            .filter_map(|(number, stage)| {
                let place = disclosed.iter().position(|id| *id == stage.id)?;
                let id = stage.id;
                Some(DisclosedStage { number, id, place })
            })
            .collect();
        let numbers = stages.iter().map(|stage| stage.number);
        let condition = format!("private = 0 AND {}", is_one_of("stage", numbers));
        Ok(Self { stages, condition })
    }

    fn stage(&self, number: i64) -> Result<&DisclosedStage, Error> {
        self.stages
            .iter()
            .find(|stage| stage.number == number)
            .ok_or_else(|| Error::internal("the query let an undisclosed stage through"))
    }
}

/// The SQL condition that a column, which is no negative number, has one of these values. One of a few small numbers is a bit of a
/// constant, which takes no look-up in a table of them at every row.
fn is_one_of(column: &str, numbers: impl Iterator<Item = i64> + Clone) -> String {
    if numbers.clone().all(|number| (0..63).contains(&number)) {
        let bits = numbers.fold(0, |bits, number| bits | 1_i64 << number);
        return format!("({bits} >> {column}) & 1");
    }
    let numbers: Vec<String> = numbers.map(|number| number.to_string()).collect();
    format!("{column} IN ({})", numbers.join(", "))
}

fn require_current_keys(connection: &Connection) -> Result<(), Error> {
    if apply::state(connection)?.keys_are_current {
        return Ok(());
    }
    Err(Error::new(
        Reason::FailedPrecondition,
        "the customers' keys were made by other normalisation rules: restart the node, which makes them anew",
    ))
}

fn text<'a>(row: &'a Row<'_>, column: usize) -> Result<&'a str, Error> {
    Ok(row
        .get_ref(column)?
        .as_str()
        .map_err(rusqlite::Error::from)?)
}

fn blob<'a>(row: &'a Row<'_>, column: usize) -> Result<&'a [u8], Error> {
    Ok(row
        .get_ref(column)?
        .as_blob()
        .map_err(rusqlite::Error::from)?)
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::is_one_of;

    #[test]
    fn p10_the_condition_lets_these_numbers_through_and_no_other() {
        let connection = Connection::open_in_memory().unwrap();
        let sets: [&[i64]; 6] = [&[], &[0], &[62], &[1, 2, 62], &[3, 63], &[0, 64, 1 << 40]];
        for numbers in sets {
            let condition = is_one_of("?1", numbers.iter().copied());
            let query = format!("SELECT 1 WHERE 1 AND {condition}");
            let mut statement = connection.prepare(&query).unwrap();
            for number in (0..200).chain([1 << 32, 1 << 40, i64::MAX]) {
                let found = statement.exists([number]).unwrap();
                assert_eq!(found, numbers.contains(&number), "{condition} {number}");
            }
        }
    }
}
