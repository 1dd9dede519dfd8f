//! Lists that come in pages.

use std::future::Future;

use futures::stream::{self, Stream, TryStreamExt as _};
use serde::{Deserialize, Serialize};

use crate::{Error, message::FromWire};

/// Which page to fetch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// How many entries at most; the node's default if 0.
    pub size: u32,
    /// [`Page::next`] of the page before; empty for the first.
    pub token: String,
}

impl PageRequest {
    pub(crate) fn size(&self) -> i32 {
        i32::try_from(self.size).unwrap_or(i32::MAX)
    }
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Page<T> {
    /// The entries.
    pub items: Vec<T>,
    /// The token of the page after this one.
    pub next: Option<String>,
    /// How many there are on all pages, where the node says so.
    pub total: Option<u64>,
}

impl<T> Page<T> {
    /// A page whose entries are read already.
    pub(crate) fn part(items: Vec<T>, next: String, total: Option<u64>) -> Self {
        Self {
            items,
            next: (!next.is_empty()).then_some(next),
            total,
        }
    }

    /// A page of what an answer has.
    pub(crate) fn of<W>(items: Vec<W>, next: String, total: Option<u64>) -> Result<Self, Error>
    where
        T: FromWire<W>,
    {
        Ok(Self::part(FromWire::from_wire(items)?, next, total))
    }

    pub(crate) fn new<P>(items: Vec<P>, next: String) -> Self
    where
        T: From<P>,
    {
        Self::part(items.into_iter().map(T::from).collect(), next, None)
    }
}

/// Entries a page when everything is read.
pub(crate) const WHOLE_LIST_PAGE: u32 = 1000;

/// Every entry of a list, fetched a page at a time as the reader gets there.
pub(crate) fn entries<T, F, Fut>(fetch: F) -> impl Stream<Item = Result<T, Error>> + Send
where
    T: Send,
    F: FnMut(PageRequest) -> Fut + Send,
    Fut: Future<Output = Result<Page<T>, Error>> + Send,
{
    stream::try_unfold((fetch, Some(String::new())), |(mut fetch, token)| async {
        let Some(token) = token else { return Ok(None) };
        let page = fetch(PageRequest {
            size: WHOLE_LIST_PAGE,
            token: token.clone(),
        })
        .await?;
        // A page that names itself as the next would never end.
        if page.next.as_ref() == Some(&token) {
            return Err(Error::Response {
                missing: "an end of its list",
            });
        }
        let entries = stream::iter(page.items.into_iter().map(Ok::<T, Error>));
        Ok(Some((entries, (fetch, page.next))))
    })
    .try_flatten()
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt as _;

    use super::{Page, entries};
    use crate::Error;

    #[tokio::test]
    async fn a_list_that_never_ends_is_refused() {
        let endless = entries(|page| async move {
            Ok(Page {
                items: vec![page.token],
                next: Some("again".to_owned()),
                total: None,
            })
        });
        let error = endless.try_collect::<Vec<_>>().await.unwrap_err();
        assert!(matches!(error, Error::Response { .. }), "{error:?}");
    }
}
