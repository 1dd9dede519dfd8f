//! Runs of the matching protocol.

use std::collections::BTreeMap;

use futures::stream::Stream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Client, Error, Page, PageRequest,
    convert::{present, time},
    paging::entries,
    v1,
};

named_enum! {
    /// How far a run is.
    RunState of v1::RunState {
        /// Not begun.
        Planned = "PLANNED",
        /// The nodes agree on the terms.
        Handshake = "HANDSHAKE",
        /// Keys are blinded and evaluated.
        Evaluating = "EVALUATING",
        /// Tags are exchanged.
        Tags = "TAGS",
        /// Matches are claimed.
        Claims = "CLAIMS",
        /// Counts are reported.
        Reports = "REPORTS",
        /// The receipt is signed.
        Receipt = "RECEIPT",
        /// It ended well.
        Done = "DONE",
        /// It ended badly.
        Failed = "FAILED",
        /// Somebody ended it.
        Cancelled = "CANCELLED",
    }
}

impl RunState {
    /// Whether nothing more will happen.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

named_enum! {
    /// Which side made a run fail.
    Fault of v1::Fault {
        /// This node or its environment.
        Mine = "MINE",
        /// The partner's node.
        Partner = "PARTNER",
        /// The connection between them.
        Network = "NETWORK",
    }
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Run {
    /// Its identifier.
    pub id: String,
    /// With whom.
    pub partner: String,
    /// How far it is.
    pub state: RunState,
    /// Whether it matches everything again.
    pub full: bool,
    /// Whether this node started it.
    pub initiated_here: bool,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// What it is doing.
    pub progress: Option<Progress>,
    /// Why it failed.
    pub failure: Option<RunFailure>,
    /// What it did.
    pub summary: Option<RunSummary>,
}

/// What a run is doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Progress {
    /// The phase under way.
    pub phase: String,
    /// Items of this phase that are done.
    pub items_done: u64,
    /// Items of this phase; 0 while not known.
    pub items_total: u64,
    /// Speed.
    pub items_per_s: f64,
    /// Seconds left; unset while they cannot be estimated.
    pub eta_s: Option<f64>,
}

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunFailure {
    /// Stable code.
    pub reason: String,
    /// A sentence for a person.
    pub message: String,
    /// Which side.
    pub fault: Fault,
    /// Figures; of a budget: `budget`, `limit`, `used`, `asked`, `window_end`.
    #[serde(default)]
    pub details: BTreeMap<String, String>,
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunSummary {
    /// Keys of mine that took part.
    pub my_keys: u64,
    /// Keys of the partner's that took part.
    pub their_keys: u64,
    /// Shared customers in visible cells.
    pub shared_customers: Option<u64>,
    /// Bytes sent to the partner.
    pub sent_bytes: u64,
    /// Bytes received from the partner.
    pub received_bytes: u64,
    /// Seconds a phase.
    pub phase_s: BTreeMap<String, f64>,
    /// The engine that did the curve arithmetic.
    pub backend: String,
    /// The flows that ran.
    pub flows: Vec<String>,
}

impl From<v1::Run> for Run {
    fn from(run: v1::Run) -> Self {
        Self {
            state: RunState::from_proto(run.state),
            id: run.id,
            partner: run.partner,
            full: run.full,
            initiated_here: run.initiated_here,
            started_at: time(run.started_at),
            ended_at: time(run.ended_at),
            progress: run.progress.map(|progress| Progress {
                phase: progress.phase,
                items_done: progress.items_done,
                items_total: progress.items_total,
                items_per_s: progress.items_per_s,
                eta_s: progress.eta_s,
            }),
            failure: run.failure.map(|failure| RunFailure {
                fault: Fault::from_proto(failure.fault),
                reason: failure.reason,
                message: failure.message,
                details: failure.details.into_iter().collect(),
            }),
            summary: run.summary.map(|summary| RunSummary {
                my_keys: summary.my_keys,
                their_keys: summary.their_keys,
                shared_customers: summary.shared_customers,
                sent_bytes: summary.sent_bytes,
                received_bytes: summary.received_bytes,
                phase_s: summary.phase_s.into_iter().collect(),
                backend: summary.backend,
                flows: summary.flows,
            }),
        }
    }
}

/// How to start a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartRun {
    /// Match everything again even where only changes would do.
    pub full: bool,
    /// Starting again with the same id returns the same run, so that a lost answer can be asked for again.
    pub request_id: Option<String>,
}

impl Client {
    /// Starts a run with a partner, or returns the one under way.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn start_run(&self, partner: &str, options: StartRun) -> Result<Run, Error> {
        let answer = ask!(self.match_api().start_run(v1::StartRunRequest {
            partner: partner.to_owned(),
            full: options.full,
            request_id: options.request_id.unwrap_or_default(),
        }))
        .await?;
        Ok(present(answer.run, "the run")?.into())
    }

    /// One run.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn run(&self, run: &str) -> Result<Run, Error> {
        let answer = ask!(self.match_api().get_run(v1::GetRunRequest {
            run: run.to_owned(),
        }))
        .await?;
        Ok(present(answer.run, "the run")?.into())
    }

    /// One page of the runs with a partner.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn list_runs(&self, partner: &str, page: PageRequest) -> Result<Page<Run>, Error> {
        let answer = ask!(self.match_api().list_runs(v1::ListRunsRequest {
            partner: partner.to_owned(),
            page_size: page.size(),
            page_token: page.token,
        }))
        .await?;
        Ok(Page::new(answer.runs, answer.next_page_token))
    }

    /// Every run with a partner, newest first.
    pub fn runs<'a>(
        &'a self,
        partner: &'a str,
    ) -> impl Stream<Item = Result<Run, Error>> + Send + 'a {
        entries(move |page| self.list_runs(partner, page))
    }

    /// A run's progress until it ends; the last entry has its final state. The stream ends after the final state, or
    /// with an error if the connection breaks.
    pub fn watch_run<'a>(
        &'a self,
        run: &'a str,
    ) -> impl Stream<Item = Result<Run, Error>> + Send + 'a {
        let request = self.watch_request(v1::WatchRunRequest {
            run: run.to_owned(),
        });
        self.answers(
            async move { self.match_api().watch_run(request).await },
            |update| Ok(present(update.run, "the run")?.into()),
        )
    }

    /// Cancels a run under way.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn cancel_run(&self, run: &str) -> Result<Run, Error> {
        let answer = ask!(self.match_api().cancel_run(v1::CancelRunRequest {
            run: run.to_owned(),
        }))
        .await?;
        Ok(present(answer.run, "the run")?.into())
    }
}
