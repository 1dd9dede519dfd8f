//! Reading sessions: every figure comes from one pass over the fragments of the days asked for.

use std::ops::Range;

use rusqlite::{Connection, params};

use super::{
    blocks::{Fragments, Groups, Visits},
    ingest::{day_start, first_key},
    sessions::{LONGEST_SESSION, Visit},
};
use crate::{
    error::Error,
    records::times::{DAY, Nanos},
};

/// What one day adds to one session that begins in the range asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionPart {
    /// The partner's number.
    pub partner: u32,
    /// The user's number.
    pub user: u32,
    /// The session's first event.
    pub start: Nanos,
    /// Whether this part is the session's first.
    pub opens: bool,
    /// Adds up to the session's duration.
    pub duration: Nanos,
    /// Adds up to its page views.
    pub page_views: u32,
    /// Adds up to its actions.
    pub actions: u32,
}

/// Partners that count, by number.
#[derive(Clone, Debug, Default)]
pub struct Selection(pub Vec<bool>);

impl Selection {
    /// Lets a partner count; number 0 is nobody.
    pub fn add(&mut self, partner: u32) {
        if partner > 0 {
            let partner = partner as usize;
            if self.0.len() <= partner {
                self.0.resize(partner + 1, false);
            }
            self.0[partner] = true;
        }
    }

    /// Whether a partner counts.
    #[inline]
    #[must_use]
    pub fn has(&self, partner: u32) -> bool {
        self.0.get(partner as usize).copied().unwrap_or(false)
    }
}

/// The keys of blocks that can hold parts of sessions that begin in `span`.
fn keys(span: &Range<Nanos>) -> Range<i64> {
    // A session that begins just before the end may go on for less than LONGEST_SESSION.
    first_key(span.start)..first_key(span.end.saturating_add(LONGEST_SESSION).saturating_add(DAY))
}

/// Visits the parts of the sessions that begin in `span`, day by day.
///
/// # Errors
/// What the store reports.
pub fn sessions(
    connection: &Connection,
    span: &Range<Nanos>,
    selection: &Selection,
    visit: &mut impl FnMut(&SessionPart),
) -> Result<(), Error> {
    let keys = keys(span);
    let mut statement = connection.prepare_cached(
        "SELECT key, fragments FROM engagement_days WHERE key >= ?1 AND key < ?2 ORDER BY key",
    )?;
    let mut rows = statement.query(params![keys.start, keys.end])?;
    while let Some(row) = rows.next()? {
        let day = day_start(row.get(0)?);
        let mut groups = Groups::new(row.get_ref(1)?.as_blob().unwrap_or_default());
        while let Some(((partner, user), payload)) = groups.next_group()? {
            if !selection.has(partner) {
                continue;
            }
            let mut fragments = Fragments::new(day, payload);
            while let Some(fragment) = fragments.next_fragment()? {
                if !span.contains(&fragment.start) {
                    continue;
                }
                visit(&SessionPart {
                    partner,
                    user,
                    start: fragment.start,
                    opens: fragment.start >= day,
                    duration: fragment.elapsed,
                    page_views: fragment.page_views,
                    actions: fragment.actions,
                });
            }
        }
    }
    Ok(())
}

/// Visits where the sessions that begin in `span` viewed pages: user and visit.
///
/// # Errors
/// What the store reports.
pub fn visits(
    connection: &Connection,
    span: &Range<Nanos>,
    selection: &Selection,
    visit: &mut impl FnMut(u32, Visit),
) -> Result<(), Error> {
    let keys = keys(span);
    let mut statement = connection.prepare_cached(
        "SELECT key, visits FROM engagement_visits WHERE key >= ?1 AND key < ?2 ORDER BY key",
    )?;
    let mut beside =
        connection.prepare_cached("SELECT fragments FROM engagement_days WHERE key = ?1")?;
    let mut rows = statement.query(params![keys.start, keys.end])?;
    while let Some(row) = rows.next()? {
        let key = row.get(0)?;
        let day = day_start(key);
        let mut places = Groups::new(row.get_ref(1)?.as_blob().unwrap_or_default());
        // Only days at the range's ends hold sessions that begin outside it.
        if span.start <= day - LONGEST_SESSION && day + DAY <= span.end {
            while let Some(((partner, user), places)) = places.next_group()? {
                let mut places = Visits::new(places);
                while selection.has(partner) && !places.is_empty() {
                    places.next_fragment(|place| visit(user, place))?;
                }
            }
            continue;
        }
        let fragments: Vec<u8> = beside.query_row([key], |row| row.get(0))?;
        let mut groups = Groups::new(&fragments);
        while let (Some(((partner, user), payload)), Some((_, places))) =
            (groups.next_group()?, places.next_group()?)
        {
            if !selection.has(partner) {
                continue;
            }
            let mut places = Visits::new(places);
            let mut fragments = Fragments::new(day, payload);
            while let Some(fragment) = fragments.next_fragment()? {
                let counts = span.contains(&fragment.start);
                places.next_fragment(|place| {
                    if counts {
                        visit(user, place);
                    }
                })?;
            }
        }
    }
    Ok(())
}

/// A set of small numbers.
#[derive(Clone, Debug, Default)]
pub struct NumberSet {
    words: Vec<u64>,
    count: u64,
}

impl NumberSet {
    /// An empty set with room for numbers up to `largest`.
    #[must_use]
    pub fn with_room(largest: u32) -> Self {
        Self {
            words: vec![0; largest as usize / 64 + 1],
            count: 0,
        }
    }

    /// Adds a number.
    #[inline]
    pub fn insert(&mut self, number: u32) {
        let (word, bit) = (number as usize / 64, 1 << (number % 64));
        if word >= self.words.len() {
            self.words.resize((word + 1).next_power_of_two(), 0);
        }
        if self.words[word] & bit == 0 {
            self.words[word] |= bit;
            self.count += 1;
        }
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
}
