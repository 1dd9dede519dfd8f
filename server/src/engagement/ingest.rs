//! Taking portal events in: days are merged with what they hold, and only the fragments that change are counted anew.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension as _, Transaction, params};
use sha2::{Digest as _, Sha256};

use super::{
    blocks::{self, Fragments, Group, GroupWriter, Groups, StoredEvent},
    names::{self, Interner, Named},
    sessions::{self, Fragment, LONGEST_GAP, OpenSession},
};
use crate::{
    error::Error,
    records::{
        store::Outcome,
        times::{DAY, Nanos},
    },
};

/// Partners are spread over this many blocks a day.
const SHARDS: u32 = 8;
/// Keys of one day; more than there are shards, so that they may grow.
const KEYS_PER_DAY: i64 = 64;

/// The block that holds a partner's events of a day.
#[must_use]
pub fn key(day: i64, partner: u32) -> i64 {
    day * KEYS_PER_DAY + i64::from(partner % SHARDS)
}

/// The first key of the day of an instant.
#[must_use]
pub const fn first_key(at: Nanos) -> i64 {
    at.div_euclid(DAY) * KEYS_PER_DAY
}

/// The beginning of the day of a key.
#[must_use]
pub const fn day_start(key: i64) -> Nanos {
    key.div_euclid(KEYS_PER_DAY) * DAY
}

/// Checked portal events of one call, packed.
#[derive(Default)]
pub struct EventBatch {
    partners: Interner,
    users: Interner,
    rooms: Interner,
    resources: Interner,
    events: Vec<(Group, StoredEvent)>,
}

/// A checked portal event.
pub struct NewEvent<'a> {
    /// Its id.
    pub id: &'a str,
    /// The partner's id.
    pub partner: &'a str,
    /// The user's id.
    pub user: &'a str,
    /// When.
    pub at: Nanos,
    /// `PortalEventKind`.
    pub kind: u8,
    /// The room's id, or empty.
    pub room: &'a str,
    /// The resource's id, or empty.
    pub resource: &'a str,
}

impl EventBatch {
    /// Adds an event.
    pub fn push(&mut self, event: &NewEvent<'_>) {
        let digest = Sha256::digest(event.id.as_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        self.events.push((
            (
                self.partners.number(event.partner),
                self.users.number(event.user),
            ),
            StoredEvent {
                at: event.at,
                id: u128::from_le_bytes(id),
                kind: event.kind,
                room: self.rooms.number(event.room),
                resource: self.resources.number(event.resource),
            },
        ));
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Stores the events.
    ///
    /// # Errors
    /// What the store reports.
    pub fn store(self, transaction: &Transaction<'_>) -> Result<Outcome, Error> {
        let partners = self.partners.store(transaction, Named::Partner)?;
        let users = self.users.store(transaction, Named::User)?;
        let rooms = self.rooms.store(transaction, Named::Room)?;
        let resources = self.resources.store(transaction, Named::Resource)?;
        let mut events: Vec<(i64, Group, StoredEvent)> = self
            .events
            .into_iter()
            .map(|((partner, user), event)| {
                let group = (partners[partner as usize], users[user as usize]);
                let event = StoredEvent {
                    room: rooms[event.room as usize],
                    resource: resources[event.resource as usize],
                    ..event
                };
                (key(event.at.div_euclid(DAY), group.0), group, event)
            })
            .collect();
        events.sort_unstable_by_key(|(key, group, event)| (*key, *group, event.at, event.id));
        let through = events.iter().map(|(_, _, event)| event.at).max();
        let mut ingest = Ingest {
            transaction,
            outcome: Outcome::default(),
        };
        ingest.days(&events)?;
        transaction
            .prepare_cached(
                "UPDATE engagement_state SET events = events + ?1, through = max(coalesce(through, ?2), ?2)",
            )?
            .execute(params![
                i64::try_from(ingest.outcome.inserted).unwrap_or(i64::MAX),
                through
            ])?;
        Ok(ingest.outcome)
    }
}

/// What is to be done in one block.
#[derive(Default)]
struct Work<'a> {
    /// Sorted by group and time.
    new: &'a [(i64, Group, StoredEvent)],
    /// Groups whose day before now ends otherwise, ascending.
    carried: Vec<Group>,
}

/// A group whose fragments are to be counted anew.
struct Touched {
    group: Group,
    events: Vec<StoredEvent>,
    entry: Option<OpenSession>,
}

struct Ingest<'a> {
    transaction: &'a Transaction<'a>,
    outcome: Outcome,
}

impl Ingest<'_> {
    fn days(&mut self, events: &[(i64, Group, StoredEvent)]) -> Result<(), Error> {
        let mut work: BTreeMap<i64, Work<'_>> = events
            .chunk_by(|one, two| one.0 == two.0)
            .map(|chunk| {
                let carried = Vec::new();
                (
                    chunk[0].0,
                    Work {
                        new: chunk,
                        carried,
                    },
                )
            })
            .collect();
        // Keys of later days are greater, so what one day hands to the next is still to come.
        while let Some((key, todo)) = work.pop_first() {
            let carried = self.block(key, &todo)?;
            if !carried.is_empty() {
                work.entry(key + KEYS_PER_DAY).or_default().carried = carried;
            }
        }
        Ok(())
    }

    /// Brings one block up to date; returns the groups whose next day is affected.
    fn block(&mut self, key: i64, work: &Work<'_>) -> Result<Vec<Group>, Error> {
        let day = day_start(key);
        let old = self.blob("SELECT events FROM engagement_events WHERE key = ?1", key)?;
        let (events, mut touched) = self.merge_events(day, &old, work)?;
        if let Some(events) = events {
            self.transaction
                .prepare_cached(
                    "INSERT INTO engagement_events (key, events) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET events = ?2",
                )?
                .execute(params![key, events])?;
        }
        if touched.is_empty() {
            return Ok(Vec::new());
        }
        self.entries(key, day, &mut touched)?;
        self.merge_fragments(key, day, &touched)
    }

    fn blob(&self, sql: &str, key: i64) -> Result<Vec<u8>, Error> {
        Ok(self
            .transaction
            .prepare_cached(sql)?
            .query_row([key], |row| row.get(0))
            .optional()?
            .unwrap_or_default())
    }

    /// The block's new events, if they differ, and the groups to be counted anew, ascending.
    fn merge_events(
        &mut self,
        day: Nanos,
        old: &[u8],
        work: &Work<'_>,
    ) -> Result<(Option<Vec<u8>>, Vec<Touched>), Error> {
        let mut merged = GroupWriter::default();
        let mut touched = Vec::new();
        let mut changed = false;
        let mut new = work.new.chunk_by(|one, two| one.1 == two.1).peekable();
        let mut carried = work.carried.iter().copied().peekable();
        let mut known = Groups::new(old);
        let mut next_known = known.next_group()?;
        loop {
            let next_new = new.peek().map(|chunk| chunk[0].1);
            let next_carried = carried.peek().copied();
            let next_old = next_known.map(|(group, _)| group);
            let Some(group) = [next_new, next_carried, next_old]
                .into_iter()
                .flatten()
                .min()
            else {
                break;
            };
            let payload = match next_known {
                Some((known_group, payload)) if known_group == group => {
                    next_known = known.next_group()?;
                    payload
                }
                _ => &[],
            };
            let arrived = if next_new == Some(group) {
                new.next().unwrap_or_default()
            } else {
                &[]
            };
            let is_carried = next_carried == Some(group);
            if is_carried {
                carried.next();
            }
            if arrived.is_empty() && !is_carried {
                merged.push(group, payload);
                continue;
            }
            let mut events = Vec::new();
            blocks::read_events(day, payload, &mut events)?;
            let differs = self.merge_group(&mut events, arrived)?;
            if differs {
                changed = true;
                merged.push(group, &blocks::write_events(day, &events));
            } else if !payload.is_empty() {
                merged.push(group, payload);
            }
            if (differs || is_carried) && !events.is_empty() {
                touched.push(Touched {
                    group,
                    events,
                    entry: None,
                });
            }
        }
        Ok((changed.then(|| merged.finish()), touched))
    }

    /// Adds a group's new events to its old ones; of two with one id the earlier stays. Says whether anything changed.
    fn merge_group(
        &mut self,
        events: &mut Vec<StoredEvent>,
        arrived: &[(i64, Group, StoredEvent)],
    ) -> Result<bool, Error> {
        if arrived.is_empty() {
            return Ok(false);
        }
        let known = events.len();
        // Known ones first, so that of two equal ones the known one is met first.
        let mut all: Vec<(bool, StoredEvent)> =
            events.iter().map(|&event| (false, event)).collect();
        all.extend(arrived.iter().map(|&(_, _, event)| (true, event)));
        all.sort_by_key(|(_, event)| event.id);
        events.clear();
        let mut changed = false;
        for same in all.chunk_by(|one, two| one.1.id == two.1.id) {
            let (mut is_new, mut kept) = same[0];
            let mut replaced = false;
            for &(_, other) in &same[1..] {
                if other != kept && self.precedes(&other, &kept)? {
                    kept = other;
                    replaced = true;
                }
            }
            if is_new {
                self.outcome.inserted += 1;
                self.outcome.unchanged += same.len() as u64 - 1;
            } else if replaced {
                is_new = true;
                self.outcome.updated += 1;
                self.outcome.unchanged += same.len() as u64 - 2;
            } else {
                self.outcome.unchanged += same.len() as u64 - 1;
            }
            changed |= is_new;
            events.push(kept);
        }
        debug_assert!(events.len() >= known);
        events.sort_unstable_by_key(|event| (event.at, event.id));
        Ok(changed)
    }

    /// Which of two different events with one id is kept; never by the order in which names arrived.
    fn precedes(&self, one: &StoredEvent, other: &StoredEvent) -> Result<bool, Error> {
        if (one.at, one.kind) != (other.at, other.kind) {
            return Ok((one.at, one.kind) < (other.at, other.kind));
        }
        let place = |event: &StoredEvent| -> Result<(String, String), Error> {
            Ok((
                names::name(self.transaction, Named::Room, event.room)?,
                names::name(self.transaction, Named::Resource, event.resource)?,
            ))
        };
        Ok(place(one)? < place(other)?)
    }

    /// Finds the session that each group's day before left open.
    fn entries(&self, key: i64, day: Nanos, touched: &mut [Touched]) -> Result<(), Error> {
        let mut near_midnight = touched
            .iter_mut()
            .filter(|touched| touched.events[0].at - day < LONGEST_GAP)
            .peekable();
        if near_midnight.peek().is_none() {
            return Ok(());
        }
        let yesterday = key - KEYS_PER_DAY;
        let blob = self.blob(
            "SELECT fragments FROM engagement_days WHERE key = ?1",
            yesterday,
        )?;
        let mut groups = Groups::new(&blob);
        let mut next = groups.next_group()?;
        for touched in near_midnight {
            while let Some((group, payload)) = next {
                if group > touched.group {
                    break;
                }
                if group == touched.group {
                    touched.entry = Fragments::new(day_start(yesterday), payload).open_session()?;
                }
                next = groups.next_group()?;
            }
        }
        Ok(())
    }

    /// Counts the touched groups anew; returns those whose day now ends otherwise.
    fn merge_fragments(
        &self,
        key: i64,
        day: Nanos,
        touched: &[Touched],
    ) -> Result<Vec<Group>, Error> {
        let old_fragments =
            self.blob("SELECT fragments FROM engagement_days WHERE key = ?1", key)?;
        let old_visits = self.blob("SELECT visits FROM engagement_visits WHERE key = ?1", key)?;
        let (mut known, mut known_visits) = (Groups::new(&old_fragments), Groups::new(&old_visits));
        let mut next = known.next_group()?.zip(known_visits.next_group()?);
        let (mut merged, mut merged_visits) = (GroupWriter::default(), GroupWriter::default());
        let mut carried = Vec::new();
        for touched in touched {
            let mut before = None;
            while let Some(((group, payload), (_, visits))) = next {
                if group > touched.group {
                    break;
                }
                if group == touched.group {
                    before = Fragments::new(day, payload).open_session()?;
                } else {
                    merged.push(group, payload);
                    merged_visits.push(group, visits);
                }
                next = known.next_group()?.zip(known_visits.next_group()?);
            }
            let activities: Vec<_> = touched.events.iter().map(StoredEvent::activity).collect();
            let fragments = sessions::fragments(touched.entry, &activities);
            let after = fragments.last().map(Fragment::open);
            // Only what reaches over midnight matters to the day after.
            let reaches = |session: &OpenSession| session.last > day + DAY - LONGEST_GAP;
            if before.filter(reaches) != after.filter(reaches) {
                carried.push(touched.group);
            }
            let (payload, visits) = blocks::write_fragments(day, &fragments);
            merged.push(touched.group, &payload);
            merged_visits.push(touched.group, &visits);
        }
        while let Some(((group, payload), (_, visits))) = next {
            merged.push(group, payload);
            merged_visits.push(group, visits);
            next = known.next_group()?.zip(known_visits.next_group()?);
        }
        self.transaction
            .prepare_cached(
                "INSERT INTO engagement_days (key, fragments) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET fragments = ?2",
            )?
            .execute(params![key, merged.finish()])?;
        self.transaction
            .prepare_cached(
                "INSERT INTO engagement_visits (key, visits) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET visits = ?2",
            )?
            .execute(params![key, merged_visits.finish()])?;
        Ok(carried)
    }
}
