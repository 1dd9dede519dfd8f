//! Small conversions between the API's types and ours that every service needs.

use jiff::Timestamp;
use rusqlite::Row;

use crate::{
    error::{Error, Reason},
    paging::{self, Listing},
};

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

/// The values of an enum that a list of a request names.
///
/// # Errors
/// `INVALID_ARGUMENT` for an entry that is none of them, with those that are.
pub fn known<E: TryFrom<i32> + Copy>(
    field: &str,
    codes: &[i32],
    name: fn(&E) -> &'static str,
) -> Result<Vec<E>, Error> {
    // 0 is "unspecified", whose name tells what the others' names begin with.
    let value = |code: &i32| E::try_from(*code).ok().filter(|_| *code != 0);
    let refuse = |index: usize| {
        let prefix = E::try_from(0).map_or("", |zero| name(&zero).trim_end_matches("UNSPECIFIED"));
        let all: Vec<&str> = (1..)
            .map_while(|code| E::try_from(code).ok())
            .map(|value| name(&value).trim_start_matches(prefix))
            .collect();
        Error::invalid(
            format!("{field}[{index}]"),
            format!("must be one of {}", all.join(", ")),
        )
    };
    codes
        .iter()
        .enumerate()
        .map(|(index, code)| value(code).ok_or_else(|| refuse(index)))
        .collect()
}

/// Entries of a page where the caller does not say.
const DEFAULT_PAGE: usize = 50;
/// Entries of the largest page.
const MAX_PAGE: usize = 1000;
/// What tokens of these listings are told from those of others by.
const LISTING: &str = "by offset";

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
        let size = paging::page_size(size, DEFAULT_PAGE, MAX_PAGE)?;
        let offset = match Listing::new(LISTING, &[filter]).position(token)? {
            None => 0,
            Some(position) => <[u8; 8]>::try_from(position)
                .ok()
                .map(u64::from_be_bytes)
                .filter(|&offset| i64::try_from(offset).is_ok())
                .ok_or_else(paging::invalid_token)?,
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
        Listing::new(LISTING, &[filter]).token(&offset.to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use overlap_proto::v1::PartnerScore;

    use super::*;

    #[test]
    fn an_unknown_value_is_refused_with_the_known_ones() {
        let scores = |codes: &[i32]| known("scores", codes, PartnerScore::as_str_name);
        assert_eq!(scores(&[]).unwrap(), []);
        assert_eq!(
            scores(&[2, 1]).unwrap(),
            [PartnerScore::Capability, PartnerScore::Capacity]
        );
        for unknown in [0, 5, -1] {
            assert_eq!(
                scores(&[1, unknown]).unwrap_err().message(),
                "scores[1]: must be one of CAPACITY, CAPABILITY, COMMITMENT, CUSTOMER_ALIGNMENT"
            );
        }
    }

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
