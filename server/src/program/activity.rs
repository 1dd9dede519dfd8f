//! What portal sessions say of partners, for the program's metrics (K-09).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::{ToSpan as _, civil::Date, tz::TimeZone};
use rusqlite::Connection;

use crate::{
    engagement::{
        names::{self, Named},
        scan::{self, Selection},
    },
    error::Error,
    records::{
        calendar::{self, Days, Unit},
        store,
        times::Nanos,
    },
};

/// What portal sessions say of partners.
#[derive(Clone, Debug, Default)]
pub struct Activity {
    /// Days with sessions among the 30 that end with the day of as_of, by partner.
    pub days: HashMap<String, u32>,
    /// The latest event that was taken in.
    pub through: Option<Nanos>,
    /// The instant it was read for, though a later one of the same day may see the same.
    pub as_of: Option<Nanos>,
}

impl Activity {
    /// As seen at `as_of` in a zone.
    ///
    /// # Errors
    /// What the store reports.
    pub fn load(connection: &Connection, as_of: Nanos, zone: &TimeZone) -> Result<Self, Error> {
        Ok(Self {
            days: active_days(connection, as_of, zone)?,
            through: through(connection)?,
            as_of: Some(as_of),
        })
    }
}

fn through(connection: &Connection) -> Result<Option<Nanos>, Error> {
    Ok(connection
        .prepare_cached("SELECT through FROM engagement_state WHERE id = 1")?
        .query_row([], |row| row.get(0))?)
}

fn active_days(
    connection: &Connection,
    as_of: Nanos,
    zone: &TimeZone,
) -> Result<HashMap<String, u32>, Error> {
    let last = calendar::date(as_of, zone);
    let days = Days {
        first: last.saturating_sub(29.days()),
        last,
        zone: zone.clone(),
    };
    let mut bounds = Vec::new();
    for day in days.cut(Unit::Day) {
        bounds.push(day.span()?.end);
    }
    let names = names::all(connection, Named::Partner)?;
    let mut seen = vec![0_u32; names.len()];
    let everyone = Selection(vec![true; names.len()]);
    let span = days.span()?;
    let until = span.end.min(as_of.saturating_add(1));
    scan::sessions(connection, &(span.start..until), &everyone, &mut |part| {
        // One bit for each of the thirty days.
        let day = bounds.partition_point(|&end| end <= part.start);
        seen[part.partner as usize] |= 1 << day;
    })?;
    Ok(names
        .into_iter()
        .zip(seen)
        .filter(|(_, days)| *days != 0)
        .map(|(name, days)| (name, days.count_ones()))
        .collect())
}

/// Activity read once for every state of the events and day.
#[derive(Clone, Default)]
pub struct ActivityCache(Arc<Mutex<Option<Cached>>>);

struct Cached {
    key: Key,
    activity: Arc<Activity>,
}

/// What activity depends on.
#[derive(PartialEq)]
struct Key {
    /// Of all records.
    revision: i64,
    /// The last of the thirty days.
    last: Date,
    zone: TimeZone,
    /// Where later events are known already.
    as_of: Option<Nanos>,
}

impl ActivityCache {
    /// The activity of the snapshot that `connection` reads.
    ///
    /// # Errors
    /// What the store reports.
    pub fn load(
        &self,
        connection: &Connection,
        as_of: Nanos,
        zone: &TimeZone,
    ) -> Result<Arc<Activity>, Error> {
        let key = Key {
            revision: store::revision(connection)?,
            last: calendar::date(as_of, zone),
            zone: zone.clone(),
            as_of: through(connection)?
                .is_some_and(|through| through > as_of)
                .then_some(as_of),
        };
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cached) = &*lock()
            && cached.key == key
        {
            return Ok(Arc::clone(&cached.activity));
        }
        let activity = Arc::new(Activity::load(connection, as_of, zone)?);
        *lock() = Some(Cached {
            key,
            activity: Arc::clone(&activity),
        });
        Ok(activity)
    }
}
