//! The five key figures (G-04 to G-09), pure.

use std::cmp::Ordering;

use super::scan::{NumberSet, SessionPart};
use crate::records::times::Nanos;

/// The five key figures of some sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Distinct people.
    pub unique_users: u64,
    /// Sessions.
    pub sessions: u64,
    /// Page views.
    pub page_views: u64,
    /// Actions.
    pub actions: u64,
    /// All sessions' durations, in nanoseconds.
    pub duration: i128,
}

impl Figures {
    /// Counts a part of a session; people are counted elsewhere.
    #[inline]
    pub fn add(&mut self, part: &SessionPart) {
        self.sessions += u64::from(part.opens);
        self.page_views += u64::from(part.page_views);
        self.actions += u64::from(part.actions);
        self.duration += i128::from(part.duration);
    }

    /// The mean duration of a session in nanoseconds, rounded down; unset if there is none (G-08).
    #[must_use]
    pub fn average_duration(&self) -> Option<i128> {
        (self.sessions > 0).then(|| self.duration / i128::from(self.sessions))
    }

    /// Compares mean durations exactly; none is the least.
    #[must_use]
    pub fn cmp_average_duration(&self, other: &Self) -> Ordering {
        cmp_ratio(
            (self.duration, self.sessions),
            (other.duration, other.sessions),
        )
    }

    /// Compares actions per session exactly; none is the least.
    #[must_use]
    pub fn cmp_actions_per_session(&self, other: &Self) -> Ordering {
        cmp_ratio(
            (self.actions.into(), self.sessions),
            (other.actions.into(), other.sessions),
        )
    }
}

fn cmp_ratio(one: (i128, u64), other: (i128, u64)) -> Ordering {
    match (one.1, other.1) {
        (0, 0) => Ordering::Equal,
        (0, _) => Ordering::Less,
        (_, 0) => Ordering::Greater,
        _ => (one.0 * i128::from(other.1)).cmp(&(other.0 * i128::from(one.1))),
    }
}

/// Figures of successive time spans.
pub struct Buckets {
    /// Where each begins, and where the last ends.
    bounds: Vec<Nanos>,
    figures: Vec<Figures>,
    users: Vec<NumberSet>,
}

impl Buckets {
    /// Empty buckets between `bounds`, which ascend.
    #[must_use]
    pub fn new(bounds: Vec<Nanos>) -> Self {
        let buckets = bounds.len().saturating_sub(1);
        Self {
            bounds,
            figures: vec![Figures::default(); buckets],
            users: vec![NumberSet::default(); buckets],
        }
    }

    /// Counts a part of a session in the bucket that the session begins in.
    #[inline]
    pub fn add(&mut self, part: &SessionPart) {
        let after = self.bounds.partition_point(|&bound| bound <= part.start);
        if after == 0 || after > self.figures.len() {
            return;
        }
        self.figures[after - 1].add(part);
        self.users[after - 1].insert(part.user);
    }

    /// The figures of each bucket.
    #[must_use]
    pub fn finish(self) -> Vec<Figures> {
        let mut figures = self.figures;
        for (figures, users) in figures.iter_mut().zip(&self.users) {
            figures.unique_users = users.len();
        }
        figures
    }
}

/// Figures of each partner, and of any grouping of partners.
#[derive(Default)]
pub struct ByPartner {
    figures: Vec<Figures>,
    last_start: Vec<Option<Nanos>>,
    /// Partner and user of each part; distinct once finished.
    pairs: Vec<u64>,
    sorted: usize,
}

impl ByPartner {
    /// Counts a part of a session.
    #[inline]
    pub fn add(&mut self, part: &SessionPart) {
        let at = part.partner as usize;
        if at >= self.figures.len() {
            self.figures.resize(at + 1, Figures::default());
            self.last_start.resize(at + 1, None);
        }
        self.figures[at].add(part);
        self.last_start[at] = self.last_start[at].max(Some(part.start));
        let pair = u64::from(part.partner) << 32 | u64::from(part.user);
        if self.pairs.last() != Some(&pair) {
            self.pairs.push(pair);
            if self.pairs.len() > 2 * self.sorted + (1 << 20) {
                self.compact();
            }
        }
    }

    fn compact(&mut self) {
        self.pairs.sort_unstable();
        self.pairs.dedup();
        self.sorted = self.pairs.len();
    }

    /// Counts people; to be called once everything was added.
    #[must_use]
    pub fn finish(mut self) -> Self {
        self.compact();
        for pair in &self.pairs {
            self.figures[(pair >> 32) as usize].unique_users += 1;
        }
        self
    }

    /// A partner's figures.
    #[must_use]
    pub fn figures(&self, partner: u32) -> Figures {
        self.figures
            .get(partner as usize)
            .copied()
            .unwrap_or_default()
    }

    /// When a partner's latest session began.
    #[must_use]
    pub fn last_start(&self, partner: u32) -> Option<Nanos> {
        self.last_start.get(partner as usize).copied().flatten()
    }

    /// The figures of all partners that `belongs` to a group; people are distinct across partners.
    #[must_use]
    pub fn total(&self, belongs: impl Fn(u32) -> bool) -> Figures {
        let mut total = Figures::default();
        for (partner, figures) in (0..).zip(&self.figures) {
            if belongs(partner) {
                total.sessions += figures.sessions;
                total.page_views += figures.page_views;
                total.actions += figures.actions;
                total.duration += figures.duration;
            }
        }
        let mut users = NumberSet::default();
        for &pair in &self.pairs {
            if belongs((pair >> 32) as u32) {
                users.insert((pair & u64::from(u32::MAX)) as u32);
            }
        }
        total.unique_users = users.len();
        total
    }
}
