//! What an answer is computed from: a snapshot, what is asked of it, and what portal sessions say then and now.

use std::sync::Arc;

use rusqlite::Connection;

use super::{
    activity::Activity,
    definitions::MetricId,
    facts::Facts,
    settings::Settings,
    view::{Filter, View},
};
use crate::{
    error::Error,
    records::{kind::Kind, times::Nanos},
};

/// What an answer is computed from.
#[derive(Clone)]
pub struct Context<'a> {
    /// The snapshot.
    pub connection: &'a Connection,
    /// Its records.
    pub facts: &'a Facts,
    /// What is asked for.
    pub filter: &'a Filter,
    /// The program's settings.
    pub settings: &'a Settings,
    /// What portal sessions say of partners, as of the filter's as_of.
    pub activity: Arc<Activity>,
}

impl<'a> Context<'a> {
    /// What the filter leaves.
    ///
    /// # Errors
    /// Those of [`Filter::view`].
    pub fn view(&self) -> Result<View<'a>, Error> {
        let activity = Arc::clone(&self.activity);
        self.filter.view(self.facts, self.settings, activity)
    }

    /// Lets a view see portal sessions as they stood at an instant, if one of `metrics` is made of them.
    ///
    /// # Errors
    /// What the store reports.
    pub fn recall(
        &self,
        view: &mut View<'_>,
        metrics: &[MetricId],
        as_of: Nanos,
    ) -> Result<(), Error> {
        let of_sessions = |metric: &MetricId| metric.kinds().contains(&Kind::PortalEvent);
        if metrics.iter().any(of_sessions) && view.activity.as_of != Some(as_of) {
            let activity = Activity::load(self.connection, as_of, &self.filter.zone)?;
            view.activity = Arc::new(activity);
        }
        Ok(())
    }
}
