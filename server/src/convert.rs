//! Small conversions between the API's types and ours that every service needs.

use jiff::Timestamp;
use rusqlite::Row;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Reason};

/// An instant in the API's terms.
#[must_use]
pub fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: at.as_microsecond().div_euclid(1_000_000),
        nanos: i32::try_from(at.as_microsecond().rem_euclid(1_000_000) * 1_000)
            .expect("less than a billion"),
    }
}

/// A stored instant, in microseconds since 1970.
///
/// # Errors
/// `STORAGE_FAILED` if the value is out of range.
pub fn stored_time(row: &Row<'_>, column: usize) -> Result<Timestamp, Error> {
    instant(row.get(column)?)
}

/// A stored instant that may be absent.
///
/// # Errors
/// `STORAGE_FAILED` if the value is out of range.
pub fn stored_time_opt(row: &Row<'_>, column: usize) -> Result<Option<Timestamp>, Error> {
    row.get::<_, Option<i64>>(column)?.map(instant).transpose()
}

fn instant(microseconds: i64) -> Result<Timestamp, Error> {
    Timestamp::from_microsecond(microseconds)
        .map_err(|_| Error::new(Reason::StorageFailed, "store: a time is out of range"))
}

/// Entries of a page where the caller does not say.
const DEFAULT_PAGE: usize = 50;
/// Entries of the largest page.
const MAX_PAGE: usize = 1000;

/// A page of a listing. Its token is opaque to callers and bound to the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Entries on the pages before.
    pub offset: u64,
    /// Entries on this one.
    pub size: usize,
}

impl Page {
    /// The page that a request asks for; `filter` says which listing, and what of it.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a negative size; `PAGE_TOKEN_INVALID` for a token that is not one of this listing's.
    pub fn of(size: i32, token: &str, filter: &str) -> Result<Self, Error> {
        let size = match usize::try_from(size) {
            Ok(0) => DEFAULT_PAGE,
            Ok(size) => size.min(MAX_PAGE),
            Err(_) => return Err(Error::invalid("page_size", "must not be negative")),
        };
        let offset = if token.is_empty() {
            0
        } else {
            hex::decode(token)
                .ok()
                .and_then(|bytes| <[u8; 16]>::try_from(bytes).ok())
                .and_then(|bytes| {
                    let (offset, check) = bytes.split_first_chunk::<8>()?;
                    let offset = u64::from_be_bytes(*offset);
                    (check == Self::check(offset, filter) && i64::try_from(offset).is_ok())
                        .then_some(offset)
                })
                .ok_or_else(|| {
                    Error::new(
                        Reason::PageTokenInvalid,
                        "page_token is not one of this listing's: keep the filter, or begin without a token",
                    )
                })?
        };
        Ok(Self { offset, size })
    }

    /// Cuts one entry more than the page holds down to the page, with the token of the next.
    #[must_use]
    pub fn cut<T>(self, mut entries: Vec<T>, filter: &str) -> (Vec<T>, String) {
        if entries.len() <= self.size {
            return (entries, String::new());
        }
        entries.truncate(self.size);
        let token = Self::token(self.offset + self.size as u64, filter);
        (entries, token)
    }

    /// The token of the page that begins at an offset, which may count anything the listing is ordered by.
    #[must_use]
    pub fn token(offset: u64, filter: &str) -> String {
        let mut token = hex::encode(offset.to_be_bytes());
        token.push_str(&hex::encode(Self::check(offset, filter)));
        token
    }

    fn check(offset: u64, filter: &str) -> [u8; 8] {
        let hash: [u8; 32] = Sha256::new()
            .chain_update(b"overlap/page/")
            .chain_update(offset.to_be_bytes())
            .chain_update(filter)
            .finalize()
            .into();
        let mut check = [0; 8];
        check.copy_from_slice(&hash[..8]);
        check
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_token_is_bound_to_its_listing() {
        let first = Page::of(2, "", "a").unwrap();
        let (entries, token) = first.cut(vec![1, 2, 3], "a");
        assert_eq!(entries, [1, 2]);
        let second = Page::of(2, &token, "a").unwrap();
        assert_eq!(second.offset, 2);
        assert_eq!(second.cut(vec![3], "a").1, "");
        for (token, filter) in [(token.as_str(), "b"), ("00", "a"), ("x", "a")] {
            let error = Page::of(2, token, filter).unwrap_err();
            assert_eq!(error.reason(), Reason::PageTokenInvalid);
        }
        assert!(Page::of(-1, "", "a").is_err());
        assert_eq!(Page::of(i32::MAX, "", "a").unwrap().size, MAX_PAGE);
    }

    #[test]
    fn times_before_1970_convert() {
        let at: Timestamp = "1969-12-31T23:59:59.5Z".parse().unwrap();
        let converted = timestamp(at);
        assert_eq!((converted.seconds, converted.nanos), (-1, 500_000_000));
    }
}
