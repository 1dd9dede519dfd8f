//! Pages of a listing. A token is good for the listing, filter and order it was made for, and nothing else.

use crate::{
    error::Error,
    paging::{self, Listing, invalid_token},
};

const DEFAULT_SIZE: usize = 100;
const MAX_SIZE: usize = 1_000;

/// What part of a listing is wanted.
#[derive(Clone, Debug)]
pub(crate) struct PageRequest {
    /// How many entries.
    pub(crate) size: usize,
    /// The last entry of the page before, as [`PageToken`] was given it.
    pub(crate) after: Option<String>,
    listing: Listing,
}

/// Makes the token of the page that follows.
pub(crate) type PageToken = String;

impl PageRequest {
    /// Reads size and token. `listing` names call and order, `filter` everything that narrows the listing.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a negative size; `PAGE_TOKEN_INVALID` for a token of another listing.
    pub(crate) fn read(
        listing: &str,
        filter: &[&str],
        page_size: i32,
        page_token: &str,
    ) -> Result<Self, Error> {
        let listing = Listing::new(listing, filter);
        let after = match listing.position(page_token)? {
            None => None,
            Some(position) => Some(String::from_utf8(position).map_err(|_| invalid_token())?),
        };
        Ok(Self {
            size: paging::page_size(page_size, DEFAULT_SIZE, MAX_SIZE)?,
            after,
            listing,
        })
    }

    /// The token of the page after the entry `last`.
    pub(crate) fn token_after(&self, last: &str) -> PageToken {
        self.listing.token(last.as_bytes())
    }

    /// Cuts one entry too many off, which shows that more follow; the token for them, or nothing.
    pub(crate) fn cut<T>(
        &self,
        entries: &mut Vec<T>,
        position: impl Fn(&T) -> String,
    ) -> PageToken {
        if entries.len() <= self.size {
            return String::new();
        }
        entries.truncate(self.size);
        entries
            .last()
            .map(|last| self.token_after(&position(last)))
            .unwrap_or_default()
    }

    /// The position in an order of descending time and ascending id, as [`newest_first`] wrote it.
    ///
    /// # Errors
    /// `PAGE_TOKEN_INVALID`.
    pub(crate) fn after_newest(&self) -> Result<(i64, String), Error> {
        let Some(after) = &self.after else {
            return Ok((i64::MAX, String::new()));
        };
        after
            .split_once(' ')
            .and_then(|(time, id)| Some((time.parse().ok()?, id.to_owned())))
            .ok_or_else(invalid_token)
    }
}

/// A position in an order of descending time and ascending id.
pub(crate) fn newest_first(microseconds: i64, id: &str) -> String {
    format!("{microseconds} {id}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Reason;

    #[test]
    fn tokens_are_bound_to_listing_and_filter() {
        let first = PageRequest::read("a", &["p", ""], 2, "").unwrap();
        assert_eq!((first.size, first.after.clone()), (2, None));
        let mut entries = vec!["x", "y", "z"];
        let token = first.cut(&mut entries, |entry| newest_first(5, entry));
        assert_eq!(entries, ["x", "y"]);
        let second = PageRequest::read("a", &["p", ""], 0, &token).unwrap();
        assert_eq!(second.size, 100);
        assert_eq!(second.after_newest().unwrap(), (5, "y".to_owned()));
        for (listing, filter, token) in [
            ("b", ["p", ""], token.as_str()),
            ("a", ["p", "q"], token.as_str()),
            ("a", ["p", ""], "?"),
            ("a", ["p", ""], "AAAA"),
        ] {
            let refused = PageRequest::read(listing, &filter, 0, token).unwrap_err();
            assert_eq!(refused.reason(), Reason::PageTokenInvalid);
        }
        assert!(PageRequest::read("a", &[], -1, "").is_err());
        assert_eq!(
            PageRequest::read("a", &[], i32::MAX, "").unwrap().size,
            1_000
        );
        assert!(first.cut(&mut vec![1, 2], |_| unreachable!()).is_empty());
    }
}
