//! Page tokens: opaque, and good for the listing, filter, order and position they were made for and nothing else. What a
//! listing may show is decided anew with every page, so a token needs no secret: it guards against mistakes, and grants nothing.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Reason};

const CHECK_BYTES: usize = 16;

/// A listing with its filter and order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listing([u8; 32]);

impl Listing {
    /// The listing of this name with these values of its filter and order.
    pub(crate) fn new<T: AsRef<[u8]>>(name: &str, filter: &[T]) -> Self {
        let mut hash = Sha256::new();
        let parts = std::iter::once(name.as_bytes()).chain(filter.iter().map(AsRef::as_ref));
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }

    /// The token of the page at `position`.
    pub(crate) fn token(&self, position: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode([&self.check(position), position].concat())
    }

    /// The position of a page; `None` for the first one.
    ///
    /// # Errors
    /// `PAGE_TOKEN_INVALID` if the token is not one of this listing's.
    pub(crate) fn position(&self, token: &str) -> Result<Option<Vec<u8>>, Error> {
        if token.is_empty() {
            return Ok(None);
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).unwrap_or_default();
        match bytes.split_first_chunk() {
            Some((check, position)) if *check == self.check(position) => {
                Ok(Some(position.to_vec()))
            }
            _ => Err(invalid_token()),
        }
    }

    fn check(&self, position: &[u8]) -> [u8; CHECK_BYTES] {
        let hash: [u8; 32] = Sha256::new()
            .chain_update(b"overlap/page/v1")
            .chain_update(self.0)
            .chain_update(position)
            .finalize()
            .into();
        std::array::from_fn(|index| hash[index])
    }
}

/// The error for a token that is not one of the listing's, or whose position is none.
pub(crate) fn invalid_token() -> Error {
    Error::new(
        Reason::PageTokenInvalid,
        "page_token: is not one of this listing's: repeat the call with the filter and order of the first page, or start anew without a token",
    )
}

/// How many items a page has: `default` if the caller does not say, at most `most`.
///
/// # Errors
/// `INVALID_ARGUMENT` for a negative number.
pub(crate) fn page_size(requested: i32, default: usize, most: usize) -> Result<usize, Error> {
    match usize::try_from(requested) {
        Ok(0) => Ok(default.min(most)),
        Ok(size) => Ok(size.min(most)),
        Err(_) => Err(Error::invalid("page_size", "must not be negative")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_bound_to_its_listing_and_filter() {
        let listing = Listing::new("customers", &["Lead", "acme"]);
        let token = listing.token(b"position");
        assert_eq!(
            listing.position(&token).unwrap(),
            Some(b"position".to_vec())
        );
        assert_eq!(listing.position("").unwrap(), None);
        for other in [
            Listing::new("customers", &["Lead", "acm"]),
            Listing::new("customers", &["Leada", "cme"]),
            Listing::new("stages", &["Lead", "acme"]),
        ] {
            let refused = other.position(&token).unwrap_err();
            assert_eq!(refused.reason(), Reason::PageTokenInvalid);
        }
        for wrong in [
            "AAAA",
            "not base64!",
            &token[1..],
            &token[..token.len() - 1],
        ] {
            let refused = listing.position(wrong).unwrap_err();
            assert_eq!(refused.reason(), Reason::PageTokenInvalid);
        }
    }

    #[test]
    fn a_changed_bit_anywhere_is_noticed() {
        let listing = Listing::new("customers", &["Lead"]);
        let bytes = URL_SAFE_NO_PAD.decode(listing.token(b"12")).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let refused = listing.position(&URL_SAFE_NO_PAD.encode(changed));
            assert_eq!(refused.unwrap_err().reason(), Reason::PageTokenInvalid);
        }
    }

    #[test]
    fn page_sizes_are_bounded() {
        assert_eq!(page_size(0, 100, 1000).unwrap(), 100);
        assert_eq!(page_size(7, 100, 1000).unwrap(), 7);
        assert_eq!(page_size(5000, 100, 1000).unwrap(), 1000);
        assert_eq!(
            page_size(-1, 100, 1000).unwrap_err().message(),
            "page_size: must not be negative"
        );
    }
}
