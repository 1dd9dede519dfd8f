//! Reports: signed counts of the cells in which the receiver of a list flow discloses numbers only (PROTOCOL.md §8).

mod series;
#[cfg(test)]
mod tests;

pub use series::{Member, ReleaseInput, ReportRules, SERIES_INTERVAL_S, Series};

use crate::{
    context::SessionId,
    fault::Fault,
    list::StageSet,
    plan::Role,
    signature::{Signer, verify},
    suite::derive,
    wire::{Reader, Writer},
};

/// The most cells of a report.
const MAX_CELLS: usize = 64 * 64;

/// A cell: the reporter's stage and the reader's, each by its index in the terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell {
    /// The reporter's stage, of its count tier.
    pub reporter_stage: u8,
    /// The reader's stage, of its list tier.
    pub reader_stage: u8,
}

/// What a report says about a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellReport {
    /// Under the threshold, 0 included, or withheld with its column.
    Suppressed,
    /// The number of the reporter's local customers in the cell.
    Released {
        /// The number.
        count: u64,
        /// When it was computed, in seconds of Unix time.
        as_of: u64,
    },
}

impl CellReport {
    /// The same, suppressed if it is a count below `min_count`.
    const fn of_at_least(self, min_count: u32) -> Self {
        match self {
            Self::Released { count, .. } if count < min_count as u64 => Self::Suppressed,
            report => report,
        }
    }
}

/// The counts of one run, or repeated from an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The series: counts of different series are not comparable.
    pub series: u64,
    /// The cells, strictly increasing.
    pub cells: Vec<(Cell, CellReport)>,
}

impl Report {
    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(12 + 19 * self.cells.len())
            .u64(self.series)
            .count(self.cells.len());
        for (cell, report) in &self.cells {
            writer = writer.u8(cell.reporter_stage).u8(cell.reader_stage);
            writer = match report {
                CellReport::Suppressed => writer.u8(0),
                CellReport::Released { count, as_of } => writer.u8(1).u64(*count).u64(*as_of),
            };
        }
        writer.finish()
    }

    fn message(&self, session: &SessionId, reporter: Role) -> [u8; 64] {
        derive(
            "OVL1/report",
            &[&session.0, &[reporter.code()], &self.encode()],
        )
    }

    /// Signs it for a session.
    #[must_use]
    pub fn sign(
        self,
        session: &SessionId,
        reporter: Role,
        signer: &(impl Signer + ?Sized),
    ) -> SignedReport {
        SignedReport {
            signature: signer.sign(&self.message(session, reporter)),
            report: self,
        }
    }
}

/// A report with its reporter's signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedReport {
    /// The counts.
    pub report: Report,
    /// The organisation key's signature.
    pub signature: [u8; 64],
}

impl SignedReport {
    /// Decodes the body of a REPORT frame.
    ///
    /// # Errors
    /// [`Fault::MalformedPayload`], [`Fault::SetTooLarge`] or [`Fault::ReportInvalid`].
    pub fn decode(payload: &[u8]) -> Result<Self, Fault> {
        let mut reader = Reader::new(payload);
        let series = reader.u64()?;
        let count = reader.count(MAX_CELLS)?;
        let mut cells = Vec::new();
        for _ in 0..count {
            let cell = Cell {
                reporter_stage: reader.u8()?,
                reader_stage: reader.u8()?,
            };
            let report = if reader.flag()? {
                CellReport::Released {
                    count: reader.u64()?,
                    as_of: reader.u64()?,
                }
            } else {
                CellReport::Suppressed
            };
            cells.push((cell, report));
        }
        let signature = reader.array()?;
        reader.finish()?;
        if !cells.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(Fault::ReportInvalid);
        }
        Ok(Self {
            report: Report { series, cells },
            signature,
        })
    }

    /// The bytes of the body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.report.encode();
        bytes.extend_from_slice(&self.signature);
        bytes
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// [`Fault::SignatureInvalid`].
    pub fn verify(
        &self,
        session: &SessionId,
        reporter: Role,
        organization_key: &[u8; 32],
    ) -> Result<(), Fault> {
        let message = self.report.message(session, reporter);
        verify(organization_key, &message, &self.signature)
    }

    /// What a reader checks: every cell of the reporter's count tier and the reader's list tier, once, none under the
    /// reporter's threshold.
    ///
    /// # Errors
    /// [`Fault::ReportInvalid`].
    pub fn check(
        &self,
        reporter_stages: StageSet,
        reader_stages: StageSet,
        min_count: u32,
    ) -> Result<(), Fault> {
        let expected = cells(reporter_stages, reader_stages);
        let same = expected.eq(self.report.cells.iter().map(|(cell, _)| *cell));
        let under = self.report.cells.iter().any(|(_, report)| {
            matches!(report, CellReport::Released { count, .. } if *count < u64::from(min_count))
        });
        if same && !under {
            Ok(())
        } else {
            Err(Fault::ReportInvalid)
        }
    }
}

/// The cells of a report, in its order.
fn cells(reporter_stages: StageSet, reader_stages: StageSet) -> impl Iterator<Item = Cell> {
    reporter_stages.iter().flat_map(move |reporter_stage| {
        reader_stages.iter().map(move |reader_stage| Cell {
            reporter_stage,
            reader_stage,
        })
    })
}
