//! Page tokens: opaque, bound to the request they continue and to the instant its first page was computed at.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use prost::Message;
use sha2::{Digest as _, Sha256};

use super::times::Nanos;
use crate::{
    auth::Caller,
    error::{Error, Reason},
};

const BINDING_BYTES: usize = 16;

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
    binding: [u8; BINDING_BYTES],
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
        let size = match usize::try_from(std::mem::take(request.page_size())) {
            Err(_) => return Err(Error::invalid("page_size", "must not be negative")),
            Ok(0) => default,
            Ok(size) => size.min(most),
        };
        let mut hash = Sha256::new();
        hash.update(std::any::type_name::<R>().as_bytes());
        hash.update([0]);
        hash.update(caller.partner.as_deref().unwrap_or_default().as_bytes());
        hash.update([0]);
        hash.update(request.encode_to_vec());
        let mut binding = [0; BINDING_BYTES];
        binding.copy_from_slice(&hash.finalize()[..BINDING_BYTES]);
        let mut page = Self {
            as_of: now,
            after: String::new(),
            size,
            binding,
        };
        if !token.is_empty() {
            (page.as_of, page.after) = page.parse(&token).ok_or_else(|| {
                Error::new(
                    Reason::PageTokenInvalid,
                    "page_token: is not one of this listing's: repeat the call with the filter and order of the first page, or start anew without a token",
                )
            })?;
        }
        Ok(page)
    }

    fn parse(&self, token: &str) -> Option<(Nanos, String)> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (binding, rest) = bytes.split_first_chunk::<BINDING_BYTES>()?;
        let (as_of, after) = rest.split_first_chunk::<8>()?;
        (*binding == self.binding).then_some(())?;
        Some((
            Nanos::from_be_bytes(*as_of),
            String::from_utf8(after.to_vec()).ok()?,
        ))
    }

    /// The token of the page after the element at `position`.
    #[must_use]
    pub fn token(&self, position: &str) -> String {
        let mut bytes = self.binding.to_vec();
        bytes.extend(self.as_of.to_be_bytes());
        bytes.extend(position.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
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
