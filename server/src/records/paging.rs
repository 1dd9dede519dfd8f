//! Page tokens: opaque, bound to the request they continue and to the instant its first page was computed at. A list in the order
//! of a key goes on after the key; one in the order of its numbers goes on at an offset, while they stay.

use prost::Message;

use super::times::Nanos;
use crate::{
    auth::Caller,
    error::{Error, Reason},
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

    /// This page of a list that was computed whole and is in the order of `key`, which no two elements share, and the token of
    /// the next one, empty if it is the last. Whatever comes or goes meanwhile, no other element is skipped or repeated.
    #[must_use]
    pub fn cut_by_key<T>(&self, all: Vec<T>, key: impl Fn(&T) -> String) -> (Vec<T>, String) {
        let mut page: Vec<T> = all
            .into_iter()
            .skip_while(|one| !self.after.is_empty() && key(one) <= self.after)
            .take(self.size.saturating_add(1))
            .collect();
        let more = page.len() > self.size;
        page.truncate(self.size);
        let token = match page.last() {
            Some(last) if more => self.token(&key(last)),
            _ => String::new(),
        };
        (page, token)
    }

    /// This page of a list that was computed whole from what has this `revision`, and the token of the next one, empty if it is
    /// the last.
    ///
    /// # Errors
    /// As [`Page::offset`].
    pub fn cut<T>(&self, all: Vec<T>, revision: i64) -> Result<(Vec<T>, String), Error> {
        let offset = self.offset(revision)?;
        let total = all.len();
        let page: Vec<T> = all.into_iter().skip(offset).take(self.size).collect();
        let end = offset.saturating_add(page.len());
        let token = if end < total && !page.is_empty() {
            self.token_at(end, revision)
        } else {
            String::new()
        };
        Ok((page, token))
    }

    /// Where this page begins in a list whose order may be another with every revision of what it is computed from.
    ///
    /// # Errors
    /// `PAGE_TOKEN_INVALID` if the page before had another revision.
    pub fn offset(&self, revision: i64) -> Result<usize, Error> {
        if self.after.is_empty() {
            return Ok(0);
        }
        let (before, offset) = self.after.split_once(' ').ok_or_else(invalid_token)?;
        if before != revision.to_string() {
            return Err(Error::new(
                Reason::PageTokenInvalid,
                "page_token: records or settings have changed since the page before, and with them the order: start anew without a token, and with a greater page_size (up to 1000) for fewer pages",
            ));
        }
        offset.parse().map_err(|_| invalid_token())
    }

    /// The token of the page that begins at `offset` of such a list.
    #[must_use]
    pub fn token_at(&self, offset: usize, revision: i64) -> String {
        self.token(&format!("{revision} {offset}"))
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

#[cfg(test)]
mod tests {
    use overlap_proto::v1::ListRecordsRequest;

    use super::*;
    use crate::auth::Role;

    /// The page of two that a token asks for.
    fn page(token: &str) -> Page {
        let request = ListRecordsRequest {
            page_size: 2,
            page_token: token.to_owned(),
            ..Default::default()
        };
        let caller = Caller {
            token_id: String::new(),
            user: String::new(),
            role: Role::Admin,
            partner: None,
        };
        Page::of(&request, &caller, 7, 2, 2).unwrap()
    }

    #[test]
    fn pages_by_key_neither_skip_nor_repeat() {
        let key = |one: &&str| (*one).to_owned();
        let (first, token) = page("").cut_by_key(vec!["b", "d", "f", "h"], key);
        assert_eq!(first, ["b", "d"]);
        // What was there has gone, and others have come, before the position and after it.
        let (second, token) = page(&token).cut_by_key(vec!["a", "b", "c", "e", "f", "h"], key);
        assert_eq!(second, ["e", "f"]);
        let (third, token) = page(&token).cut_by_key(vec!["h"], key);
        assert_eq!((third, token.as_str()), (vec!["h"], ""));
    }

    #[test]
    fn pages_by_position_are_of_one_revision() {
        let all = vec!["a", "b", "c"];
        let (first, token) = page("").cut(all.clone(), 3).unwrap();
        assert_eq!(first, ["a", "b"]);
        let next = page(&token);
        assert_eq!(next.as_of, 7);
        assert_eq!(
            next.cut(all.clone(), 3).unwrap(),
            (vec!["c"], String::new())
        );
        let refused = next.cut(all, 4).unwrap_err();
        assert_eq!(refused.reason(), Reason::PageTokenInvalid);
        assert!(refused.message().contains("start anew"));
    }
}
