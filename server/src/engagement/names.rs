//! Small integers in place of the platform's ids.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use crate::error::Error;

/// What is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Named {
    /// A partner.
    Partner = 0,
    /// A portal user.
    User = 1,
    /// A room.
    Room = 2,
    /// A resource.
    Resource = 3,
}

/// Names of one kind, numbered in order of first use; the empty name is 0.
#[derive(Default)]
pub struct Interner {
    numbers: HashMap<Box<str>, u32>,
    names: Vec<Box<str>>,
}

impl Interner {
    /// The number of a name.
    pub fn number(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        self.names.push(name.into());
        let number = u32::try_from(self.names.len()).expect("fewer than 2^32 records a call");
        self.numbers.insert(name.into(), number);
        number
    }

    /// The store's number for each of this interner's, new ones being handed out.
    ///
    /// # Errors
    /// What the store reports.
    pub fn store(&self, transaction: &Transaction<'_>, kind: Named) -> Result<Vec<u32>, Error> {
        let mut numbers = vec![0; self.names.len() + 1];
        let mut find = transaction
            .prepare_cached("SELECT idx FROM engagement_names WHERE kind = ?1 AND name = ?2")?;
        let mut missing = Vec::new();
        for (at, name) in (1..).zip(&self.names) {
            match find
                .query_row(params![kind as u8, &**name], |row| row.get(0))
                .optional()?
            {
                Some(number) => numbers[at] = number,
                None => missing.push((at, name)),
            }
        }
        let mut last: u32 = highest(transaction, kind)?;
        let mut put = transaction
            .prepare_cached("INSERT INTO engagement_names (kind, name, idx) VALUES (?1, ?2, ?3)")?;
        for (at, name) in missing {
            last += 1;
            put.execute(params![kind as u8, &**name, last])?;
            numbers[at] = last;
        }
        Ok(numbers)
    }
}

/// The highest number handed out.
///
/// # Errors
/// What the store reports.
pub fn highest(connection: &Connection, kind: Named) -> Result<u32, Error> {
    Ok(connection
        .prepare_cached("SELECT coalesce(max(idx), 0) FROM engagement_names WHERE kind = ?1")?
        .query_row([kind as u8], |row| row.get(0))?)
}

/// The name with this number; empty for 0.
///
/// # Errors
/// What the store reports.
pub fn name(connection: &Connection, kind: Named, number: u32) -> Result<String, Error> {
    if number == 0 {
        return Ok(String::new());
    }
    Ok(connection
        .prepare_cached("SELECT name FROM engagement_names WHERE kind = ?1 AND idx = ?2")?
        .query_row(params![kind as u8, number], |row| row.get(0))?)
}

/// Every name of a kind, at the index of its number.
///
/// # Errors
/// What the store reports.
pub fn all(connection: &Connection, kind: Named) -> Result<Vec<String>, Error> {
    let mut names = vec![String::new(); highest(connection, kind)? as usize + 1];
    let mut statement =
        connection.prepare_cached("SELECT idx, name FROM engagement_names WHERE kind = ?1")?;
    let mut rows = statement.query([kind as u8])?;
    while let Some(row) = rows.next()? {
        let number: u32 = row.get(0)?;
        names[number as usize] = row.get(1)?;
    }
    Ok(names)
}
