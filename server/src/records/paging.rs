//! Page tokens: opaque, bound to the request they continue and to the instant its first page was computed at.

use prost::Message;

use super::times::Nanos;
use crate::{
    auth::Caller,
    error::Error,
    paging::{self, Listing, invalid_token},
};

/// A request that is answered page by page.
pub trait Paged: Message + Clone {
    /// Its `page_token`.
    fn page_token(&mut self) -> &mut String;
    /// Its `page_size`.
    fn page_size(&mut self) -> &mut i32;
}

/// Makes requests [`Paged`].
#[macro_export]
macro_rules! paged {
    ($($request:ty),* $(,)?) => {
        $(impl $crate::records::paging::Paged for $request {
            fn page_token(&mut self) -> &mut String {
                &mut self.page_token
            }
            fn page_size(&mut self) -> &mut i32 {
                &mut self.page_size
            }
        })*
    };
}

/// Where a page begins and how long it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The instant every page is computed at.
    pub as_of: Nanos,
    /// The position before its first element; empty for the first page.
    pub after: String,
    /// Most elements.
    pub size: usize,
    listing: Listing,
}

impl Page {
    /// The page a request asks for at `now`.
    ///
    /// # Errors
    /// `PAGE_TOKEN_INVALID` if the token is not this listing's; `INVALID_ARGUMENT` for a negative size.
    pub fn of<R: Paged>(
        request: &R,
        caller: &Caller,
        now: Nanos,
        default: usize,
        most: usize,
    ) -> Result<Self, Error> {
        let mut request = request.clone();
        let token = std::mem::take(request.page_token());
        let size = paging::page_size(std::mem::take(request.page_size()), default, most)?;
        let partner = caller.partner.as_deref().unwrap_or_default().as_bytes();
        let filter = [partner, &request.encode_to_vec()];
        let listing = Listing::new(std::any::type_name::<R>(), &filter);
        let (as_of, after) = match listing.position(&token)? {
            None => (now, String::new()),
            Some(position) => parse(&position).ok_or_else(invalid_token)?,
        };
        Ok(Self {
            as_of,
            after,
            size,
            listing,
        })
    }

    /// The token of the page after the element at `position`.
    #[must_use]
    pub fn token(&self, position: &str) -> String {
        self.listing
            .token(&[&self.as_of.to_be_bytes(), position.as_bytes()].concat())
    }

    /// This page of a list that was computed whole, and the token of the next one, empty if it is the last.
    #[must_use]
    pub fn cut<T>(&self, all: Vec<T>) -> (Vec<T>, String) {
        let offset: usize = self.after.parse().unwrap_or(0);
        let total = all.len();
        let page: Vec<T> = all.into_iter().skip(offset).take(self.size).collect();
        let end = offset.saturating_add(page.len());
        let token = if end < total && !page.is_empty() {
            self.token(&end.to_string())
        } else {
            String::new()
        };
        (page, token)
    }
}

/// Reads a position, as a token of any caller's making may hold it.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_position(position: &[u8]) {
    let _ = parse(position);
}

fn parse(position: &[u8]) -> Option<(Nanos, String)> {
    let (as_of, after) = position.split_first_chunk()?;
    let after = String::from_utf8(after.to_vec()).ok()?;
    Some((Nanos::from_be_bytes(*as_of), after))
}
