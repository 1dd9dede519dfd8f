//! The session rule (G-05), pure: docs/METRICS.md, "session".
//!
//! A session is stored as fragments, one for each UTC day it touches. Everything in a fragment adds up over the fragments of
//! a session, so a late event rewrites the day it belongs to and, at most, the days after it that it reaches into.

use crate::records::times::{Nanos, SECOND};

/// A gap this long, or longer, ends a session.
pub const LONGEST_GAP: Nanos = 30 * 60 * SECOND;
/// An event this long after a session's start, or later, opens a new one.
pub const LONGEST_SESSION: Nanos = 4 * 3600 * SECOND;

/// What a portal event is to the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activity {
    /// When.
    pub at: Nanos,
    /// A page view; otherwise an action (G-07).
    pub page_view: bool,
    /// Where; 0 is nowhere in particular.
    pub room: u32,
    /// At what; 0 is nothing in particular.
    pub resource: u32,
}

/// A session that may still go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenSession {
    /// Its first event.
    pub start: Nanos,
    /// Its last event so far.
    pub last: Nanos,
}

impl OpenSession {
    /// Whether an event at `at`, the next one of this user, belongs to it.
    #[must_use]
    pub const fn takes(self, at: Nanos) -> bool {
        at - self.last < LONGEST_GAP && at - self.start < LONGEST_SESSION
    }
}

/// Page views of one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// The room, or 0.
    pub room: u32,
    /// The resource, or 0.
    pub resource: u32,
    /// How many page views.
    pub page_views: u32,
}

/// The part of a session that lies in one day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// The session's first event, which may lie in an earlier day.
    pub start: Nanos,
    /// How far into the session the day before got; 0 for the fragment that opens the session.
    pub before: Nanos,
    /// How far into the session this day got.
    pub after: Nanos,
    /// Page views in this day.
    pub page_views: u32,
    /// Actions in this day.
    pub actions: u32,
    /// Where the page views were, those nowhere in particular left out; by room and resource.
    pub visits: Vec<Visit>,
}

impl Fragment {
    /// The session as this fragment leaves it.
    #[must_use]
    pub const fn open(&self) -> OpenSession {
        OpenSession {
            start: self.start,
            last: self.start + self.after,
        }
    }
}

/// The fragments of one user's events of one day, which are in ascending order; `entry` is the session the day before left.
#[must_use]
pub fn fragments(entry: Option<OpenSession>, events: &[Activity]) -> Vec<Fragment> {
    let mut fragments: Vec<Fragment> = Vec::new();
    let mut open = entry;
    for event in events {
        let continued = open.filter(|session| session.takes(event.at));
        let (start, before) = match continued {
            Some(session) => (session.start, session.last - session.start),
            None => (event.at, 0),
        };
        if fragments
            .last()
            .is_none_or(|fragment| fragment.start != start || continued.is_none())
        {
            fragments.push(Fragment {
                start,
                before,
                after: before,
                page_views: 0,
                actions: 0,
                visits: Vec::new(),
            });
        }
        let fragment = fragments.last_mut().expect("one was just pushed");
        fragment.after = event.at - start;
        if event.page_view {
            fragment.page_views += 1;
            visit(&mut fragment.visits, event);
        } else {
            fragment.actions += 1;
        }
        open = Some(OpenSession {
            start,
            last: event.at,
        });
    }
    for fragment in &mut fragments {
        fragment
            .visits
            .sort_unstable_by_key(|visit| (visit.room, visit.resource));
    }
    fragments
}

fn visit(visits: &mut Vec<Visit>, event: &Activity) {
    if (event.room, event.resource) == (0, 0) {
        return;
    }
    match visits
        .iter_mut()
        .find(|visit| (visit.room, visit.resource) == (event.room, event.resource))
    {
        Some(visit) => visit.page_views += 1,
        None => visits.push(Visit {
            room: event.room,
            resource: event.resource,
            page_views: 1,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Nanos = 60 * SECOND;

    fn starts(times: &[Nanos]) -> Vec<Nanos> {
        let events: Vec<Activity> = times
            .iter()
            .map(|&at| Activity {
                at,
                page_view: true,
                room: 0,
                resource: 0,
            })
            .collect();
        fragments(None, &events)
            .iter()
            .map(|fragment| fragment.start)
            .collect()
    }

    /// G-05: one nanosecond short of 30:00 stays, 30:00 opens a new session.
    #[test]
    fn g05_a_gap_of_thirty_minutes_opens_a_session() {
        assert_eq!(starts(&[0, 30 * MINUTE - 1]), [0]);
        assert_eq!(starts(&[0, 30 * MINUTE]), [0, 30 * MINUTE]);
    }

    /// G-05: without any gap, one nanosecond short of 4:00:00 stays, 4:00:00 opens a new session.
    #[test]
    fn g05_four_hours_of_use_open_a_session() {
        let mut every_20_minutes: Vec<Nanos> = (0..12).map(|step| step * 20 * MINUTE).collect();
        every_20_minutes.push(240 * MINUTE - 1);
        assert_eq!(starts(&every_20_minutes), [0]);
        every_20_minutes.push(240 * MINUTE);
        assert_eq!(starts(&every_20_minutes), [0, 240 * MINUTE]);
        // The new session's own four hours begin with it.
        every_20_minutes.extend((13..=25).map(|step| step * 20 * MINUTE));
        assert_eq!(starts(&every_20_minutes), [0, 240 * MINUTE, 480 * MINUTE]);
    }

    /// G-08: the duration is last - first event, 0 for a single event.
    #[test]
    fn g08_duration_is_last_minus_first_event() {
        let event = |at| Activity {
            at,
            page_view: false,
            room: 0,
            resource: 0,
        };
        let one = fragments(None, &[event(5)]);
        assert_eq!((one[0].before, one[0].after, one[0].actions), (0, 0, 1));
        let three = fragments(None, &[event(5), event(6), event(9)]);
        assert_eq!(
            (three[0].before, three[0].after, three[0].actions),
            (0, 4, 3)
        );
    }

    #[test]
    fn a_day_goes_on_where_the_day_before_left() {
        let entry = OpenSession { start: 0, last: 10 };
        let view = Activity {
            at: 15,
            page_view: true,
            room: 3,
            resource: 7,
        };
        let found = fragments(Some(entry), &[view, Activity { at: 18, ..view }]);
        assert_eq!(
            found,
            [Fragment {
                start: 0,
                before: 10,
                after: 18,
                page_views: 2,
                actions: 0,
                visits: vec![Visit {
                    room: 3,
                    resource: 7,
                    page_views: 2
                }],
            }]
        );
    }
}
