//! How events and session fragments of a day are laid out: groups of one partner's one user, in order, of varints.

use super::sessions::{Activity, Fragment, OpenSession, Visit};
use crate::{error::Error, records::times::Nanos};

/// A partner and a user, by their indices.
pub type Group = (u32, u32);

/// A stored portal event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// When.
    pub at: Nanos,
    /// The first 16 bytes of the SHA-256 of its id.
    pub id: u128,
    /// `PortalEventKind`.
    pub kind: u8,
    /// The room's index, or 0.
    pub room: u32,
    /// The resource's index, or 0.
    pub resource: u32,
}

impl StoredEvent {
    /// What it is to the metrics.
    #[must_use]
    pub const fn activity(&self) -> Activity {
        Activity {
            at: self.at,
            page_view: self.kind == overlap_proto::v1::PortalEventKind::PageView as u8,
            room: self.room,
            resource: self.resource,
        }
    }
}

/// Writes groups in ascending order.
#[derive(Default)]
pub struct GroupWriter {
    bytes: Vec<u8>,
}

impl GroupWriter {
    /// Appends a group.
    pub fn push(&mut self, (partner, user): Group, payload: &[u8]) {
        put(&mut self.bytes, u64::from(partner));
        put(&mut self.bytes, u64::from(user));
        put(&mut self.bytes, payload.len() as u64);
        self.bytes.extend_from_slice(payload);
    }

    /// What was written.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads groups.
pub struct Groups<'a> {
    rest: Reader<'a>,
}

impl<'a> Groups<'a> {
    /// The groups in `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: Reader(bytes),
        }
    }

    /// The next group, if there is one.
    ///
    /// # Errors
    /// `INTERNAL` if the store is damaged.
    #[inline]
    pub fn next_group(&mut self) -> Result<Option<(Group, &'a [u8])>, Error> {
        if self.rest.0.is_empty() {
            return Ok(None);
        }
        let group = (self.rest.number()?, self.rest.number()?);
        let length = self.rest.take()?;
        let length = usize::try_from(length).map_err(|_| damaged())?;
        let (payload, rest) = self.rest.0.split_at_checked(length).ok_or_else(damaged)?;
        self.rest.0 = rest;
        Ok(Some((group, payload)))
    }
}

/// Writes the events of a group, which are in ascending order of time, of the day that begins at `day`.
#[must_use]
pub fn write_events(day: Nanos, events: &[StoredEvent]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(events.len() * 28);
    let mut last = day;
    for event in events {
        put(&mut bytes, (event.at - last).cast_unsigned());
        last = event.at;
        bytes.push(event.kind);
        put(&mut bytes, u64::from(event.room));
        put(&mut bytes, u64::from(event.resource));
        bytes.extend_from_slice(&event.id.to_le_bytes());
    }
    bytes
}

/// Reads what [`write_events`] wrote, onto `events`.
///
/// # Errors
/// `INTERNAL` if the store is damaged.
pub fn read_events(day: Nanos, payload: &[u8], events: &mut Vec<StoredEvent>) -> Result<(), Error> {
    let mut reader = Reader(payload);
    let mut at = day;
    while !reader.0.is_empty() {
        at += reader.take()?.cast_signed();
        let kind = reader.byte()?;
        let (room, resource) = (reader.number()?, reader.number()?);
        let (id, rest) = reader.0.split_first_chunk::<16>().ok_or_else(damaged)?;
        reader.0 = rest;
        events.push(StoredEvent {
            at,
            id: u128::from_le_bytes(*id),
            kind,
            room,
            resource,
        });
    }
    Ok(())
}

/// Writes a group's fragments of the day that begins at `day`; the second part is the visits.
#[must_use]
pub fn write_fragments(day: Nanos, fragments: &[Fragment]) -> (Vec<u8>, Vec<u8>) {
    let (mut bytes, mut visits) = (Vec::new(), Vec::new());
    for fragment in fragments {
        let start = fragment.start - day;
        put(&mut bytes, ((start << 1) ^ (start >> 63)).cast_unsigned());
        put(&mut bytes, fragment.before.cast_unsigned());
        put(
            &mut bytes,
            (fragment.after - fragment.before).cast_unsigned(),
        );
        put(&mut bytes, u64::from(fragment.page_views));
        put(&mut bytes, u64::from(fragment.actions));
        put(&mut visits, fragment.visits.len() as u64);
        for visit in &fragment.visits {
            put(&mut visits, u64::from(visit.room));
            put(&mut visits, u64::from(visit.resource));
            put(&mut visits, u64::from(visit.page_views));
        }
    }
    (bytes, visits)
}

/// A fragment without its visits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentRow {
    /// The session's first event.
    pub start: Nanos,
    /// How far into the session the day before got.
    pub before: Nanos,
    /// How much longer this day made the session.
    pub elapsed: Nanos,
    /// Page views in this day.
    pub page_views: u32,
    /// Actions in this day.
    pub actions: u32,
}

/// Reads a group's fragments.
pub struct Fragments<'a> {
    reader: Reader<'a>,
    day: Nanos,
}

impl<'a> Fragments<'a> {
    /// The fragments in a group's payload.
    #[must_use]
    pub const fn new(day: Nanos, payload: &'a [u8]) -> Self {
        Self {
            reader: Reader(payload),
            day,
        }
    }

    /// The next fragment, if there is one.
    ///
    /// # Errors
    /// `INTERNAL` if the store is damaged.
    #[inline]
    pub fn next_fragment(&mut self) -> Result<Option<FragmentRow>, Error> {
        if self.reader.0.is_empty() {
            return Ok(None);
        }
        let start = self.reader.take()?;
        let start = (start >> 1).cast_signed() ^ -((start & 1).cast_signed());
        Ok(Some(FragmentRow {
            start: self.day + start,
            before: self.reader.take()?.cast_signed(),
            elapsed: self.reader.take()?.cast_signed(),
            page_views: self.reader.number()?,
            actions: self.reader.number()?,
        }))
    }

    /// The session that the last fragment leaves.
    ///
    /// # Errors
    /// `INTERNAL` if the store is damaged.
    pub fn open_session(mut self) -> Result<Option<OpenSession>, Error> {
        let mut open = None;
        while let Some(row) = self.next_fragment()? {
            open = Some(OpenSession {
                start: row.start,
                last: row.start + row.before + row.elapsed,
            });
        }
        Ok(open)
    }
}

/// Reads a group's visits, fragment by fragment.
pub struct Visits<'a>(Reader<'a>);

impl<'a> Visits<'a> {
    /// The visits in a group's payload.
    #[must_use]
    pub const fn new(payload: &'a [u8]) -> Self {
        Self(Reader(payload))
    }

    /// Whether all fragments were read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.0.is_empty()
    }

    /// Visits the next fragment's visits.
    ///
    /// # Errors
    /// `INTERNAL` if the store is damaged.
    #[inline]
    pub fn next_fragment(&mut self, mut visit: impl FnMut(Visit)) -> Result<(), Error> {
        for _ in 0..self.0.take()? {
            visit(Visit {
                room: self.0.number()?,
                resource: self.0.number()?,
                page_views: self.0.number()?,
            });
        }
        Ok(())
    }
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    #[inline]
    fn byte(&mut self) -> Result<u8, Error> {
        let (&byte, rest) = self.0.split_first().ok_or_else(damaged)?;
        self.0 = rest;
        Ok(byte)
    }

    #[inline]
    fn take(&mut self) -> Result<u64, Error> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let mut number = u64::from(first & 0x7f);
        for shift in [7, 14, 21, 28, 35, 42, 49, 56, 63] {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(damaged())
    }

    #[inline]
    fn number(&mut self) -> Result<u32, Error> {
        u32::try_from(self.take()?).map_err(|_| damaged())
    }
}

#[cold]
fn damaged() -> Error {
    Error::internal("a block of portal activity is damaged")
}
