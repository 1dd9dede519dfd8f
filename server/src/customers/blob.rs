//! The compact forms in which a row keeps its identifiers and details.
//!
//! Identifiers: nothing if there are none, else a format byte (1), the two letters of the region that phone numbers were read
//! with (or two zero bytes), then entries: a head byte (key type code - 1 in bits 0 and 1, outcome in bits 2 to 6, bit 7 set
//! when the key equals the raw text), the raw text, and the key if it is used and differs. Details: owner, industry, region,
//! then names and values of the further fields by name. Texts are their length (LEB128) and their bytes.

use overlap_crypto::terms::KeyType;

use super::normalize::Outcome;
use crate::error::{Error, Reason};

const FORMAT: u8 = 1;
const SAME: u8 = 0x80;

/// Appends a number.
pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// Appends a text or blob with its length.
pub(super) fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Starts the identifiers of a row.
pub(super) fn begin_identifiers(out: &mut Vec<u8>, region: Option<&str>) {
    out.push(FORMAT);
    match region.map(str::as_bytes) {
        Some(&[first, second]) => out.extend_from_slice(&[first, second]),
        _ => out.extend_from_slice(&[0, 0]),
    }
}

/// Appends an identifier and what became of it.
pub(super) fn put_identifier(
    out: &mut Vec<u8>,
    key_type: KeyType,
    raw: &str,
    key: Result<&str, Outcome>,
) {
    let head = (key_type.code() - 1) | (key.err().unwrap_or(Outcome::Used).code() << 2);
    match key {
        Ok(key) if key != raw => {
            out.push(head);
            put(out, raw.as_bytes());
            put(out, key.as_bytes());
        }
        Ok(_) => {
            out.push(head | SAME);
            put(out, raw.as_bytes());
        }
        Err(_) => {
            out.push(head);
            put(out, raw.as_bytes());
        }
    }
}

/// A stored identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) key_type: KeyType,
    pub(super) raw: &'a str,
    pub(super) key: Result<&'a str, Outcome>,
}

/// Reads what the functions above wrote.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> Result<u8, Error> {
        let (&first, rest) = self.0.split_first().ok_or_else(damaged)?;
        self.0 = rest;
        Ok(first)
    }

    pub(super) fn number(&mut self) -> Result<u64, Error> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(damaged())
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Error> {
        let length = usize::try_from(self.number()?).map_err(|_| damaged())?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or_else(damaged)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Error> {
        std::str::from_utf8(self.bytes()?).map_err(|_| damaged())
    }

    /// The region of a row's identifiers; what is left are its entries.
    pub(super) fn region(&mut self) -> Result<Option<&'a str>, Error> {
        if self.0.is_empty() {
            return Ok(None);
        }
        if self.byte()? != FORMAT {
            return Err(damaged());
        }
        let (region, rest) = self.0.split_at_checked(2).ok_or_else(damaged)?;
        self.0 = rest;
        if region == [0, 0] {
            return Ok(None);
        }
        std::str::from_utf8(region).map(Some).map_err(|_| damaged())
    }

    /// The next entry.
    pub(super) fn identifier(&mut self) -> Result<Option<Entry<'a>>, Error> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let head = self.byte()?;
        let key_type = KeyType::from_code((head & 3) + 1).ok_or_else(damaged)?;
        let outcome = Outcome::from_code((head & !SAME) >> 2).ok_or_else(damaged)?;
        let raw = self.text()?;
        let key = match outcome {
            Outcome::Used if head & SAME != 0 => Ok(raw),
            Outcome::Used => Ok(self.text()?),
            outcome => Err(outcome),
        };
        Ok(Some(Entry { key_type, raw, key }))
    }
}

/// The row is not what this program wrote.
pub(super) fn damaged() -> Error {
    Error::new(
        Reason::StorageFailed,
        "store: a customer's row is damaged: restore a backup, or import the customers again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_come_back_as_they_were_written() {
        let entries = [
            Entry {
                key_type: KeyType::Email,
                raw: "A@b.example",
                key: Ok("a@b.example"),
            },
            Entry {
                key_type: KeyType::Domain,
                raw: "b.example",
                key: Ok("b.example"),
            },
            Entry {
                key_type: KeyType::Phone,
                raw: "12",
                key: Err(Outcome::Unparsable),
            },
            Entry {
                key_type: KeyType::ExternalId,
                raw: "",
                key: Err(Outcome::NoCountryCode),
            },
        ];
        let mut blob = Vec::new();
        begin_identifiers(&mut blob, Some("DE"));
        for entry in entries {
            put_identifier(&mut blob, entry.key_type, entry.raw, entry.key);
        }
        let mut reader = Reader(&blob);
        assert_eq!(reader.region().unwrap(), Some("DE"));
        for entry in entries {
            assert_eq!(reader.identifier().unwrap(), Some(entry));
        }
        assert_eq!(reader.identifier().unwrap(), None);
    }

    #[test]
    fn a_damaged_row_is_an_error() {
        for blob in [
            &[2u8][..],
            &[1],
            &[1, 0],
            &[1, 0, 0, 0],
            &[1, 0, 0, 0x80, 5, b'a'],
            &[1, 0, 0, 0x7c, 0],
        ] {
            let mut reader = Reader(blob);
            let read = reader.region().and_then(|_| reader.identifier());
            assert_eq!(
                read.unwrap_err().reason(),
                Reason::StorageFailed,
                "{blob:?}"
            );
        }
        for number in [0, 1, 127, 128, 300, u64::MAX] {
            let mut out = Vec::new();
            put_number(&mut out, number);
            assert_eq!(Reader(&out).number().unwrap(), number);
        }
        assert!(Reader(&[0x80; 11]).number().is_err());
    }
}
