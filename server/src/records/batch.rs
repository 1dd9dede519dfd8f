//! Records of one call, checked and packed until all of them are known to be good.

use overlap_proto::v1::{self, record::Content};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use super::{
    store::{self, Outcome, Row},
    times::Nanos,
    validate::{self, Violation},
};
use crate::{
    engagement::ingest::{EventBatch, NewEvent},
    error::{DOMAIN, Error, Reason},
    storage::Store,
};

/// Most records of one call.
pub const MAX_RECORDS: u64 = 2_000_000;
/// Refused fields that are named; a call goes on no further than that.
const MAX_REFUSALS: usize = 100;

/// A wrong field of a call or file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Where: `records[3].deal.amount`, or `deals.csv, line 4, column amount`.
    pub place: String,
    /// What it must be.
    pub problem: String,
}

/// Why a call is refused as a whole.
#[derive(Clone, Debug)]
pub enum Refusals {
    /// Wrong fields.
    Fields(Vec<Refusal>),
    /// Anything else.
    Other(Error),
}

impl From<Error> for Refusals {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl From<Refusals> for Status {
    fn from(refusals: Refusals) -> Self {
        let refusals = match refusals {
            Refusals::Other(error) => return error.into(),
            Refusals::Fields(refusals) => refusals,
        };
        let mut details = ErrorDetails::with_error_info(
            Reason::InvalidArgument.name(),
            DOMAIN,
            [("refused".to_owned(), refusals.len().to_string())],
        );
        let first = refusals.first().map_or_else(String::new, |refusal| {
            format!("{}: {}", refusal.place, refusal.problem)
        });
        let more = match refusals.len() {
            0 | 1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        details.set_bad_request(
            refusals
                .into_iter()
                .map(|refusal| FieldViolation::new(refusal.place, refusal.problem))
                .collect::<Vec<_>>(),
        );
        Self::with_error_details(
            Code::InvalidArgument,
            format!("{first}{more}; nothing was stored"),
            details,
        )
    }
}

/// Records that are to be stored together.
pub struct Batch {
    now: Nanos,
    count: u64,
    rows: Vec<Row>,
    events: EventBatch,
    refused: Vec<Refusal>,
}

impl Batch {
    /// An empty batch of records that arrive at `now`.
    #[must_use]
    pub fn new(now: Nanos) -> Self {
        Self {
            now,
            count: 0,
            rows: Vec::new(),
            events: EventBatch::default(),
            refused: Vec::new(),
        }
    }

    /// Adds the next record; `place` names a field of it.
    ///
    /// # Errors
    /// The refused fields once there are too many, or `QUOTA_EXHAUSTED` if there are too many records.
    pub fn push(
        &mut self,
        record: v1::Record,
        place: impl Fn(u64, &str) -> String,
    ) -> Result<(), Refusals> {
        let index = self.count;
        self.count += 1;
        if self.count > MAX_RECORDS {
            return Err(Error::new(
                Reason::QuotaExhausted,
                format!("more than {MAX_RECORDS} records in one call: send them in several calls; nothing was stored"),
            )
            .with("limit", MAX_RECORDS)
            .into());
        }
        match validate::check(&record, self.now) {
            Err(violations) => {
                for Violation { field, problem } in violations {
                    self.refuse(place(index, &field), problem)?;
                }
            }
            Ok(_) if !self.refused.is_empty() => {}
            Ok(header) => match &record.content {
                Some(Content::PortalEvent(event)) => self.events.push(&NewEvent {
                    id: &record.id,
                    partner: &event.partner,
                    user: &event.user,
                    at: header.version,
                    kind: u8::try_from(event.kind).unwrap_or_default(),
                    room: &event.room,
                    resource: &event.resource,
                }),
                _ => {
                    let row = Row::new(&record, header);
                    self.rows.push(row);
                }
            },
        }
        Ok(())
    }

    /// Refuses the call for a wrong field.
    ///
    /// # Errors
    /// The refused fields once there are too many.
    pub fn refuse(&mut self, place: String, problem: String) -> Result<(), Refusals> {
        self.refused.push(Refusal { place, problem });
        if self.refused.len() >= MAX_REFUSALS {
            return Err(Refusals::Fields(std::mem::take(&mut self.refused)));
        }
        Ok(())
    }

    /// Whether anything was refused.
    #[must_use]
    pub const fn has_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    /// What was refused.
    pub fn take_refused(&mut self) -> Vec<Refusal> {
        std::mem::take(&mut self.refused)
    }

    /// Stores the batch. Blocks.
    ///
    /// # Errors
    /// The refused fields, if there are any; what the store reports.
    pub fn store(self, store: &Store) -> Result<Outcome, Refusals> {
        if !self.refused.is_empty() {
            return Err(Refusals::Fields(self.refused));
        }
        let Self { rows, events, .. } = self;
        Ok(store.write_blocking(|transaction| {
            let mut outcome = store::upsert(transaction, &rows)?;
            if !events.is_empty() {
                outcome += events.store(transaction)?;
            }
            store::count_change(transaction, !rows.is_empty())?;
            Ok(outcome)
        })?)
    }
}
