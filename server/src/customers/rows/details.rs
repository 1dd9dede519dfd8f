//! All that is known of single customers.

use std::collections::BTreeMap;

use jiff::Timestamp;
use overlap_crypto::terms::KeyType;
use rusqlite::{Connection, OptionalExtension as _, Row};

use super::blob;
use crate::{customers::normalize::Outcome, error::Error};

/// A customer's identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identifier {
    /// Its type.
    pub key_type: KeyType,
    /// As the source has it.
    pub raw: String,
    /// The key it is compared by, or why it is not compared.
    pub key: Result<String, Outcome>,
}

/// All that is known of a customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Details {
    /// The row's id.
    pub id: String,
    /// Its lifecycle stage.
    pub stage: String,
    /// Never matched and never shared.
    pub private: bool,
    /// The customer's name, or empty.
    pub name: String,
    /// Who looks after it, or empty.
    pub owner: String,
    /// Its industry, or empty.
    pub industry: String,
    /// Its region, or empty.
    pub region: String,
    /// Further fields.
    pub fields: BTreeMap<String, String>,
    /// Its identifiers, in the order of the source.
    pub identifiers: Vec<Identifier>,
    /// When the row was last written.
    pub updated_at: Timestamp,
}

impl Details {
    /// The domains as the source has them.
    pub fn domains(&self) -> impl Iterator<Item = &str> {
        self.of_type(KeyType::Domain)
    }

    /// The identifiers of one type as the source has them.
    pub fn of_type(&self, key_type: KeyType) -> impl Iterator<Item = &str> {
        self.identifiers
            .iter()
            .filter(move |identifier| identifier.key_type == key_type)
            .map(|identifier| identifier.raw.as_str())
    }

    /// The value of a field that a policy may share: `name`, `owner`, `industry`, `region`, or a further field.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        let value = match name {
            "name" => &self.name,
            "owner" => &self.owner,
            "industry" => &self.industry,
            "region" => &self.region,
            _ => return self.fields.get(name).map(String::as_str),
        };
        (!value.is_empty()).then_some(value)
    }
}

/// The customers with these ids, in their order; `None` where there is none.
///
/// # Errors
/// What the store reports.
pub fn fetch(connection: &Connection, ids: &[&str]) -> Result<Vec<Option<Details>>, Error> {
    let mut statement = connection.prepare_cached(
        "SELECT customer.id, stage.id, private, identifiers, name, updated_at_ms, details
         FROM customer CROSS JOIN stage ON stage.number = customer.stage WHERE customer.id = ?1",
    )?;
    ids.iter()
        .map(|id| {
            statement
                .query_row([id], |row| Ok(details(row)))
                .optional()?
                .transpose()
        })
        .collect()
}

fn details(row: &Row<'_>) -> Result<Details, Error> {
    let mut identifiers = Vec::new();
    let mut reader = blob::Reader(blob(row, 3)?);
    reader.region()?;
    while let Some(entry) = reader.identifier()? {
        identifiers.push(Identifier {
            key_type: entry.key_type,
            raw: entry.raw.to_owned(),
            key: entry.key.map(str::to_owned),
        });
    }
    let mut reader = blob::Reader(blob(row, 6)?);
    let [mut owner, mut industry, mut region] = [const { String::new() }; 3];
    let mut fields = BTreeMap::new();
    if !reader.is_empty() {
        for text in [&mut owner, &mut industry, &mut region] {
            reader.text()?.clone_into(text);
        }
        while !reader.is_empty() {
            fields.insert(reader.text()?.to_owned(), reader.text()?.to_owned());
        }
    }
    Ok(Details {
        id: row.get(0)?,
        stage: row.get(1)?,
        private: row.get(2)?,
        name: row.get(4)?,
        owner,
        industry,
        region,
        fields,
        identifiers,
        updated_at: Timestamp::from_millisecond(row.get(5)?).map_err(|_| blob::damaged())?,
    })
}
