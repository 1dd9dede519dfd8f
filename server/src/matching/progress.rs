//! How far a run is, and what it took.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use overlap_proto::v1;
use tokio::sync::watch;

macro_rules! states {
    ($($variant:ident $name:literal $doc:literal;)*) => {
        /// Where a run is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum RunState { $(#[doc = $doc] $variant,)* }

        impl RunState {
            /// Every state.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The API's form.
            #[must_use]
            pub const fn to_proto(self) -> v1::RunState {
                match self { $(Self::$variant => v1::RunState::$variant,)* }
            }

            /// The state with this name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|state| state.name() == name)
            }
        }
    };
}

states! {
    Planned "PLANNED" "It will start.";
    Handshake "HANDSHAKE" "Both sides read their customers and agree on keys and sizes.";
    Evaluating "EVALUATING" "Queries are answered, own items hashed.";
    Tags "TAGS" "Tags and labels are sealed.";
    Claims "CLAIMS" "Slices and claims are exchanged.";
    Reports "REPORTS" "Results are computed, counts exchanged.";
    Receipt "RECEIPT" "Receipts are exchanged.";
    Done "DONE" "The result is in force.";
    Failed "FAILED" "It failed; the last good result stays.";
    Cancelled "CANCELLED" "It was cancelled; the last good result stays.";
}

impl RunState {
    /// Whether nothing changes any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// What can be seen of a run under way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Where it is.
    pub state: RunState,
    /// Items done in this state.
    pub items_done: u64,
    /// Items of this state; 0 if it has none.
    pub items_total: u64,
    /// Since the state began.
    pub items_per_s: f64,
    /// Unset while it cannot be estimated.
    pub eta_s: Option<f64>,
}

impl Progress {
    /// The start.
    #[must_use]
    pub const fn planned() -> Self {
        Self {
            state: RunState::Planned,
            items_done: 0,
            items_total: 0,
            items_per_s: 0.0,
            eta_s: None,
        }
    }
}

/// Measures one run and tells who watches.
pub struct Meter {
    watchers: watch::Sender<Progress>,
    inner: Mutex<Inner>,
}

struct Inner {
    state: RunState,
    since: Instant,
    done: u64,
    total: u64,
    /// Seconds by state.
    spent_s: BTreeMap<&'static str, f64>,
}

impl Meter {
    /// A run that has not begun.
    #[must_use]
    pub fn new() -> Self {
        Self {
            watchers: watch::Sender::new(Progress::planned()),
            inner: Mutex::new(Inner {
                state: RunState::Planned,
                since: now(),
                done: 0,
                total: 0,
                spent_s: BTreeMap::new(),
            }),
        }
    }

    /// Follows the run.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.watchers.subscribe()
    }

    /// The progress now.
    #[must_use]
    pub fn progress(&self) -> Progress {
        *self.watchers.borrow()
    }

    /// Enters a state with a number of items. States only go forward: entering an earlier one changes nothing.
    pub fn enter(&self, state: RunState, total: u64) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if state <= inner.state {
            return;
        }
        let spent = inner.since.elapsed().as_secs_f64();
        let name = inner.state.name();
        *inner.spent_s.entry(name).or_default() += spent;
        inner.state = state;
        inner.since = now();
        inner.done = 0;
        inner.total = total;
        self.publish(&inner);
    }

    /// Begins again: another attempt at the run.
    pub fn begin_again(&self) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let spent = inner.since.elapsed().as_secs_f64();
        let name = inner.state.name();
        *inner.spent_s.entry(name).or_default() += spent;
        (inner.state, inner.since) = (RunState::Planned, now());
        (inner.done, inner.total) = (0, 0);
        self.publish(&inner);
    }

    /// Notes finished items of a state; those of other states change nothing.
    pub fn advance(&self, state: RunState, items: u64) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if state == inner.state {
            inner.done = inner.done.saturating_add(items);
            self.publish(&inner);
        }
    }

    /// Seconds spent in each state so far.
    #[must_use]
    pub fn spent_s(&self) -> BTreeMap<String, f64> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let mut spent_s: BTreeMap<String, f64> = inner
            .spent_s
            .iter()
            .map(|(name, seconds)| ((*name).to_owned(), *seconds))
            .collect();
        *spent_s.entry(inner.state.name().to_owned()).or_default() +=
            inner.since.elapsed().as_secs_f64();
        spent_s
    }

    fn publish(&self, inner: &Inner) {
        let elapsed_s = inner
            .since
            .elapsed()
            .max(Duration::from_millis(1))
            .as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "shown to people")]
        let (done, total) = (inner.done as f64, inner.total as f64);
        let rate = done / elapsed_s;
        let eta_s = (inner.done > 0 && inner.total > inner.done).then(|| (total - done) / rate);
        self.watchers.send_replace(Progress {
            state: inner.state,
            items_done: inner.done,
            items_total: inner.total,
            items_per_s: rate,
            eta_s,
        });
    }
}

impl Default for Meter {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a progress meter measures real time"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_names_of_their_own_and_only_go_forward() {
        for &state in RunState::ALL {
            assert_eq!(RunState::from_name(state.name()), Some(state));
        }
        let meter = Meter::new();
        meter.enter(RunState::Tags, 10);
        meter.advance(RunState::Evaluating, 3);
        meter.advance(RunState::Tags, 4);
        meter.enter(RunState::Evaluating, 99);
        let progress = meter.progress();
        assert_eq!(progress.state, RunState::Tags);
        assert_eq!((progress.items_done, progress.items_total), (4, 10));
        assert!(progress.eta_s.is_some());
        assert_eq!(
            meter.spent_s().keys().collect::<Vec<_>>(),
            ["PLANNED", "TAGS"]
        );
    }
}
