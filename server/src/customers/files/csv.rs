//! CSV with a header, after RFC 4180. Our own reader, because a quotation mark that is not closed, a value after a closing one
//! and a wrong number of values are errors here, each with its place.

use std::borrow::Cow;

use super::{Chunk, Position, Role, error_at, error_of};
use crate::{
    customers::{
        draft::{self, Block, Draft, Encoder, Fault, Place, excerpt},
        limits,
    },
    error::Error,
};

/// A CSV file whose header has been read.
pub(in crate::customers) struct Csv {
    file: String,
    columns: Vec<(String, Role)>,
    /// The columns that are further fields, by name.
    fields: Vec<usize>,
}

impl Csv {
    /// Reads the header off the first chunk.
    pub(super) fn start(file: &str, chunk: &mut Chunk) -> Result<Self, Error> {
        let mut values = Vec::new();
        let mut records = Records::new(&chunk.bytes, chunk.line);
        let line = match records.next(&mut values) {
            Ok(line) => line,
            Err(problem) => return Err(problem.at(file, &[])),
        }
        .ok_or_else(|| error_of(file, "the file is empty"))?;
        let mut columns: Vec<(String, Role)> = Vec::with_capacity(values.len());
        for (number, value) in (1..).zip(&values) {
            let at = |name: &str, problem: String| {
                error_at(
                    file,
                    Position {
                        line,
                        column: Some((number, name)),
                    },
                    problem,
                )
            };
            let name = std::str::from_utf8(value)
                .map_err(|_| at("header", NOT_UTF8.to_owned()))?
                .trim();
            let role = Role::of(name);
            if name.is_empty() {
                return Err(at("header", "the column has no name".to_owned()));
            }
            if role == Role::Field
                && let Some(problem) = draft::field_name(name)
            {
                return Err(at("header", problem));
            }
            let twice = |(other, other_role): &(String, Role)| {
                other == name || (*other_role == role && role != Role::Field)
            };
            if let Some(first) = columns.iter().position(twice) {
                return Err(at(
                    name,
                    format!(
                        "column {} has this name too: rename or remove one",
                        first + 1
                    ),
                ));
            }
            columns.push((name.to_owned(), role));
        }
        for (name, role) in [("id", Role::Id), ("stage", Role::Stage)] {
            if !columns.iter().any(|(_, other)| *other == role) {
                let hint = columns
                    .iter()
                    .find_map(|(other, _)| {
                        other
                            .contains([';', '\t', '|'])
                            .then_some(": separate the values by commas")
                    })
                    .unwrap_or_default();
                return Err(error_at(
                    file,
                    Position { line, column: None },
                    format!("the header has no column \"{name}\"{hint}"),
                ));
            }
        }
        let mut fields: Vec<usize> = (0..columns.len())
            .filter(|&index| columns[index].1 == Role::Field)
            .collect();
        if fields.len() > limits::MAX_FIELDS {
            return Err(error_at(
                file,
                Position { line, column: None },
                format!(
                    "{} further columns: at most {} are allowed",
                    fields.len(),
                    limits::MAX_FIELDS
                ),
            ));
        }
        fields.sort_by(|&left, &right| columns[left].0.cmp(&columns[right].0));
        (chunk.start, chunk.line) = (records.at, records.line);
        Ok(Self {
            file: file.to_owned(),
            columns,
            fields,
        })
    }

    pub(super) fn field_columns(&self) -> Vec<String> {
        self.columns
            .iter()
            .filter(|(_, role)| *role == Role::Field)
            .map(|(name, _)| name.clone())
            .collect()
    }

    pub(super) fn block(&self, chunk: &Chunk, encoder: &Encoder) -> Result<Block, Error> {
        let mut block = Block::default();
        block
            .bytes
            .reserve(chunk.bytes.len() + chunk.bytes.len() / 2);
        let mut scratch = Vec::new();
        let mut values = Vec::new();
        let mut spare = Draft::default();
        let mut records = Records::new(&chunk.bytes[chunk.start..], chunk.line);
        loop {
            let line = match records.next(&mut values) {
                Ok(Some(line)) => line,
                Ok(None) => return Ok(block),
                Err(problem) => return Err(problem.at(&self.file, &self.columns)),
            };
            if values.len() != self.columns.len() {
                // Spreadsheets write rows of nothing but separators.
                if values.iter().all(|value| value.is_empty()) {
                    continue;
                }
                return Err(error_at(
                    &self.file,
                    Position { line, column: None },
                    format!(
                        "{} values, where the header has {} columns",
                        values.len(),
                        self.columns.len()
                    ),
                ));
            }
            if values.iter().all(|value| value.is_empty()) {
                continue;
            }
            let draft = self.draft(draft::renew(spare), line, &values)?;
            encoder
                .encode(&draft, line, &mut block, &mut scratch)
                .map_err(|fault| self.fault(line, fault))?;
            spare = draft::renew(draft);
        }
    }

    fn draft<'a>(
        &'a self,
        mut draft: Draft<'a>,
        line: u64,
        values: &'a [Cow<'_, [u8]>],
    ) -> Result<Draft<'a>, Error> {
        let text = |index: usize| {
            std::str::from_utf8(&values[index])
                .map_err(|_| self.error(line, index, NOT_UTF8.to_owned()))
        };
        let mut put = |index: usize| {
            let (name, role) = &self.columns[index];
            role.put(&mut draft, name, Cow::Borrowed(text(index)?))
                .map_err(|problem| self.error(line, index, problem))
        };
        for (index, (_, role)) in self.columns.iter().enumerate() {
            if *role != Role::Field {
                put(index)?;
            }
        }
        // By name, as a draft has them.
        for &index in &self.fields {
            put(index)?;
        }
        Ok(draft)
    }

    fn error(&self, line: u64, index: usize, problem: String) -> Error {
        let name = self.columns[index].0.as_str();
        error_at(
            &self.file,
            Position {
                line,
                column: Some((index as u64 + 1, name)),
            },
            problem,
        )
    }

    fn fault(&self, line: u64, fault: Fault) -> Error {
        let column = match &fault.place {
            Place::Field(name) => self.columns.iter().position(|(other, _)| other == name),
            _ => Role::of_fault(&fault)
                .and_then(|role| self.columns.iter().position(|(_, other)| *other == role)),
        };
        match column {
            Some(index) => self.error(line, index, fault.problem),
            None => error_at(&self.file, Position { line, column: None }, fault.problem),
        }
    }
}

pub(crate) const NOT_UTF8: &str = "the text is not UTF-8: save the file as UTF-8";

/// A record that is not CSV.
#[derive(Debug)]
pub(crate) struct Malformed {
    /// Where it starts.
    pub(crate) line: u64,
    /// Of the value that is wrong, from 0.
    pub(crate) column: usize,
    pub(crate) problem: String,
}

impl Malformed {
    fn at(self, file: &str, columns: &[(String, Role)]) -> Error {
        let name = columns.get(self.column).map_or("header", |(name, _)| name);
        error_at(
            file,
            Position {
                line: self.line,
                column: Some((self.column as u64 + 1, name)),
            },
            self.problem,
        )
    }
}

/// Splits CSV text into records and values.
pub(crate) struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
    line: u64,
}

impl<'a> Records<'a> {
    pub(crate) const fn new(bytes: &'a [u8], line: u64) -> Self {
        Self { bytes, at: 0, line }
    }

    /// Puts the values of the next record, empty lines aside, into `values` and returns the line it starts on.
    ///
    /// # Errors
    /// What is not CSV; then there is nothing more to read.
    pub(crate) fn next(
        &mut self,
        values: &mut Vec<Cow<'a, [u8]>>,
    ) -> Result<Option<u64>, Malformed> {
        values.clear();
        loop {
            match self.bytes[self.at..] {
                [] => return Ok(None),
                [b'\n', ..] => self.at += 1,
                [b'\r', b'\n', ..] => self.at += 2,
                _ => break,
            }
            self.line += 1;
        }
        let line = self.line;
        loop {
            let malformed = |problem: String| Malformed {
                line,
                column: values.len(),
                problem,
            };
            let (value, last) = if self.bytes.get(self.at) == Some(&b'"') {
                self.quoted().map_err(malformed)?
            } else {
                self.plain().map_err(malformed)?
            };
            values.push(value);
            if last {
                self.line += 1;
                return Ok(Some(line));
            }
        }
    }

    /// A value without quotation marks around it, and whether it is the record's last.
    fn plain(&mut self) -> Result<(Cow<'a, [u8]>, bool), String> {
        let rest = &self.bytes[self.at..];
        let length = rest
            .iter()
            .position(|byte| matches!(byte, b',' | b'\n'))
            .unwrap_or(rest.len());
        let value = &rest[..length];
        self.at += (length + 1).min(rest.len());
        let last = rest.get(length) != Some(&b',');
        let value = if last {
            value.strip_suffix(b"\r").unwrap_or(value)
        } else {
            value
        };
        if memchr::memchr(b'\r', value).is_some() {
            return Err(
                "a carriage return without a line feed: save the file with LF or CRLF line ends"
                    .to_owned(),
            );
        }
        Ok((Cow::Borrowed(value), last))
    }

    /// A value in quotation marks, and whether it is the record's last.
    fn quoted(&mut self) -> Result<(Cow<'a, [u8]>, bool), String> {
        let start = self.at + 1;
        let mut at = start;
        let mut doubled = false;
        let end = loop {
            let Some(quote) = memchr::memchr(b'"', &self.bytes[at..]) else {
                return Err("the quotation mark at the value's start is not closed".to_owned());
            };
            at += quote;
            if self.bytes.get(at + 1) != Some(&b'"') {
                break at;
            }
            doubled = true;
            at += 2;
        };
        let value = &self.bytes[start..end];
        self.line += memchr::memchr_iter(b'\n', value).count() as u64;
        let (length, last) = match self.bytes[end + 1..] {
            [] => (0, true),
            [b',', ..] => (1, false),
            [b'\n', ..] => (1, true),
            [b'\r', b'\n', ..] => (2, true),
            [b'\r'] => (1, true),
            [..] => {
                let rest = self.bytes[end + 1..]
                    .split(|byte| matches!(byte, b',' | b'\n' | b'\r'))
                    .next();
                return Err(format!(
                    "\"{}\" follows the closing quotation mark: write quotation marks inside a value twice",
                    excerpt(&String::from_utf8_lossy(rest.unwrap_or_default()))
                ));
            }
        };
        self.at = end + 1 + length;
        if !doubled {
            return Ok((Cow::Borrowed(value), last));
        }
        let mut plain = Vec::with_capacity(value.len());
        let mut bytes = value.iter();
        while let Some(&byte) = bytes.next() {
            plain.push(byte);
            if byte == b'"' {
                bytes.next();
            }
        }
        Ok((Cow::Owned(plain), last))
    }
}

#[cfg(test)]
mod tests;
