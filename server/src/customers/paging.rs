//! Page tokens: opaque, and bound to the listing and its filter, so that a token of one listing is refused by another.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Reason};

const BINDING_BYTES: usize = 8;

/// A listing with its filter.
pub(crate) struct Listing {
    binding: [u8; BINDING_BYTES],
}

impl Listing {
    /// The listing of this name with these values of its filter.
    pub(crate) fn new(name: &str, filter: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for part in std::iter::once(&name).chain(filter) {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        let mut binding = [0; BINDING_BYTES];
        binding.copy_from_slice(&hash.finalize()[..BINDING_BYTES]);
        Self { binding }
    }

    /// The token of the page that starts at `position`.
    pub(crate) fn token(&self, position: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode([&self.binding, position].concat())
    }

    /// The position of a page; `None` for the first one.
    ///
    /// # Errors
    /// `PAGE_TOKEN_INVALID` if the token is not one of this listing's.
    pub(crate) fn position(&self, token: &str) -> Result<Option<Vec<u8>>, Error> {
        if token.is_empty() {
            return Ok(None);
        }
        URL_SAFE_NO_PAD
            .decode(token)
            .ok()
            .and_then(|bytes| bytes.strip_prefix(&self.binding).map(<[u8]>::to_vec))
            .map(Some)
            .ok_or_else(invalid_token)
    }
}

/// The error for a token whose position is no position.
pub(crate) fn invalid_token() -> Error {
    Error::new(
        Reason::PageTokenInvalid,
        "page_token: not a token of this listing with this filter: start again without one",
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
        Err(_) => Err(Error::invalid(
            "page_size",
            format!("{requested} is negative"),
        )),
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
            assert_eq!(
                other.position(&token).unwrap_err().reason(),
                Reason::PageTokenInvalid
            );
        }
        for wrong in ["AAAA", "not base64!", &token[1..]] {
            assert_eq!(
                listing.position(wrong).unwrap_err().reason(),
                Reason::PageTokenInvalid
            );
        }
    }

    #[test]
    fn page_sizes_are_bounded() {
        assert_eq!(page_size(0, 100, 1000).unwrap(), 100);
        assert_eq!(page_size(7, 100, 1000).unwrap(), 7);
        assert_eq!(page_size(5000, 100, 1000).unwrap(), 1000);
        assert_eq!(
            page_size(-1, 100, 1000).unwrap_err().message(),
            "page_size: -1 is negative"
        );
    }
}
