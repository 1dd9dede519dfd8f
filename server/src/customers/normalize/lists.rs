//! Domains that stand for no company: free mailboxes, throw-away mailboxes (Z-04).

use std::{collections::HashMap, sync::LazyLock};

use super::Outcome;

pub(super) const FREE_MAIL: &str = include_str!("../data/free_mail.txt");
pub(super) const DISPOSABLE: &str = include_str!("../data/disposable.txt");

static LISTED: LazyLock<HashMap<&'static str, Outcome>> = LazyLock::new(|| {
    entries(DISPOSABLE)
        .map(|domain| (domain, Outcome::DisposableDomain))
        .chain(entries(FREE_MAIL).map(|domain| (domain, Outcome::FreeMailDomain)))
        .collect()
});

/// The lines of a list less its comments.
pub(super) fn entries(list: &'static str) -> impl Iterator<Item = &'static str> {
    list.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
}

/// What a listed domain is.
pub(super) fn find(domain: &str) -> Option<Outcome> {
    LISTED.get(domain).copied()
}
