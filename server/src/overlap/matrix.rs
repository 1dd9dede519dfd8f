//! The lifecycle matrix: the one place that computes it, for every consumer.

use std::collections::BTreeMap;

use jiff::Timestamp;
use overlap_crypto::terms::{KeyType, Tier};
use overlap_proto::v1;
use serde::{Deserialize, Serialize};

use crate::{
    matching::local_customers::StageTiers,
    sharing::policy::{Stage, StageCategory},
};

/// What the reader may know of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CellState {
    /// The customers are listed.
    Listed,
    /// Only their number is known.
    Counted,
    /// The number is under the threshold, or held back by the release rules.
    Suppressed,
    /// The partner hides its stage.
    NotShared,
    /// I hide mine.
    Withheld,
    /// Both sides allow counts only and not both enabled count by count.
    Disabled,
}

impl CellState {
    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Listed => "LISTED",
            Self::Counted => "COUNTED",
            Self::Suppressed => "SUPPRESSED",
            Self::NotShared => "NOT_SHARED",
            Self::Withheld => "WITHHELD",
            Self::Disabled => "DISABLED",
        }
    }

    const fn to_proto(self) -> v1::CellState {
        match self {
            Self::Listed => v1::CellState::Listed,
            Self::Counted => v1::CellState::Counted,
            Self::Suppressed => v1::CellState::Suppressed,
            Self::NotShared => v1::CellState::NotShared,
            Self::Withheld => v1::CellState::Withheld,
            Self::Disabled => v1::CellState::Disabled,
        }
    }
}

/// One cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// What the reader may know.
    pub state: CellState,
    /// Set for listed and counted cells.
    pub count: Option<u64>,
    /// When the count was released, if not by this run. Unix time in seconds.
    pub as_of: Option<i64>,
    /// The code of the only key type the count is based on: a lower bound.
    pub key_type: Option<u8>,
}

impl Cell {
    const fn without_count(state: CellState) -> Self {
        Self {
            state,
            count: None,
            as_of: None,
            key_type: None,
        }
    }
}

/// A stage as the matrix shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatrixStage {
    /// The name customers' records use.
    pub id: String,
    /// The name people read.
    pub label: String,
    /// Position in the lifecycle.
    pub ordinal: u32,
    /// `OPEN`, `CUSTOMER`, `LOST` or `CHURNED`.
    pub category: String,
    /// `LIST`, `COUNT` or `HIDDEN`.
    pub tier: String,
}

/// The matrix of one run for this node's reader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matrix {
    /// Rows, by ordinal.
    pub mine: Vec<MatrixStage>,
    /// Columns, by the partner's ordinal.
    pub theirs: Vec<MatrixStage>,
    /// Row by row.
    pub cells: Vec<Cell>,
}

/// A count that the partner released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reported {
    /// The number.
    pub count: u64,
    /// When it was released.
    pub as_of: Timestamp,
}

/// What the count flow found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountFlowResult {
    /// The only key type it is based on.
    pub key_type: KeyType,
    /// By (my stage, the partner's stage); a pair that is not named has none.
    pub counts: BTreeMap<(u8, u8), u64>,
    /// Smaller numbers are not shown: the partner's threshold, at least 1.
    pub threshold: u64,
}

/// Everything a run says about its cells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CellSources {
    /// Listed customers by (my stage, the partner's stage).
    pub listed: BTreeMap<(u8, u8), u64>,
    /// The partner's report, by (my stage, the partner's stage); a pair that is not named is suppressed.
    pub reported: BTreeMap<(u8, u8), Reported>,
    /// The count flow's result, if it ran.
    pub count_flow: Option<CountFlowResult>,
}

impl Matrix {
    /// Computes every cell.
    #[must_use]
    pub fn compute(
        mine: &StageTiers,
        theirs: &StageTiers,
        sources: &CellSources,
        now: Timestamp,
    ) -> Self {
        let mut cells = Vec::with_capacity(mine.len() * theirs.len());
        for (row, _, my_tier) in mine.iter() {
            for (column, _, their_tier) in theirs.iter() {
                cells.push(cell(sources, (row, column), my_tier, their_tier, now));
            }
        }
        Self {
            mine: stages(mine),
            theirs: stages(theirs),
            cells,
        }
    }

    /// The cell of two stages.
    #[must_use]
    pub fn cell(&self, mine: usize, theirs: usize) -> Option<&Cell> {
        (theirs < self.theirs.len())
            .then(|| self.cells.get(mine * self.theirs.len() + theirs))
            .flatten()
    }

    /// The number of a stage of mine.
    #[must_use]
    pub fn row(&self, id: &str) -> Option<usize> {
        self.mine.iter().position(|stage| stage.id == id)
    }

    /// The number of a stage of the partner's.
    #[must_use]
    pub fn column(&self, id: &str) -> Option<usize> {
        self.theirs.iter().position(|stage| stage.id == id)
    }

    /// The sum of visible cells; `None` where no cell is visible.
    #[must_use]
    pub fn shared_customers(&self) -> Option<u64> {
        let mut counts = self.cells.iter().filter_map(|cell| cell.count).peekable();
        counts.peek()?;
        Some(counts.sum())
    }

    /// The cells a filter by stages admits.
    pub fn filtered(
        &self,
        mine: Option<usize>,
        theirs: Option<usize>,
    ) -> impl Iterator<Item = &Cell> {
        let columns = self.theirs.len().max(1);
        self.cells
            .iter()
            .enumerate()
            .filter(move |(index, _)| {
                mine.is_none_or(|row| row == index / columns)
                    && theirs.is_none_or(|column| column == index % columns)
            })
            .map(|(_, cell)| cell)
    }

    /// The API's form.
    #[must_use]
    pub fn to_proto(&self, partner: &str, run: &str, completed_at: Timestamp) -> v1::Matrix {
        let columns = self.theirs.len().max(1);
        let cells = self
            .cells
            .iter()
            .enumerate()
            .map(|(index, cell)| {
                let (mine, theirs) = (&self.mine[index / columns], &self.theirs[index % columns]);
                v1::Cell {
                    mine: mine.id.clone(),
                    theirs: theirs.id.clone(),
                    state: cell.state.to_proto().into(),
                    count: cell.count,
                    as_of: cell
                        .as_of
                        .map(|seconds| prost_types::Timestamp { seconds, nanos: 0 }),
                    key_type: cell
                        .key_type
                        .and_then(KeyType::from_code)
                        .map_or(v1::KeyType::Unspecified, key_type_to_proto)
                        .into(),
                    hints: hints(mine, theirs)
                        .iter()
                        .map(|hint| (*hint).to_owned())
                        .collect(),
                }
            })
            .collect();
        v1::Matrix {
            partner: partner.to_owned(),
            run: run.to_owned(),
            mine: self.mine.iter().map(stage_to_proto).collect(),
            theirs: self.theirs.iter().map(stage_to_proto).collect(),
            cells,
            shared_customers: self.shared_customers(),
            as_of: Some(prost_types::Timestamp {
                seconds: completed_at.as_second(),
                nanos: 0,
            }),
        }
    }
}

fn cell(sources: &CellSources, at: (u8, u8), mine: Tier, theirs: Tier, now: Timestamp) -> Cell {
    match (mine, theirs) {
        (_, Tier::Hidden) => Cell::without_count(CellState::NotShared),
        (Tier::Hidden, _) => Cell::without_count(CellState::Withheld),
        (_, Tier::List) => Cell {
            count: Some(sources.listed.get(&at).copied().unwrap_or(0)),
            ..Cell::without_count(CellState::Listed)
        },
        (Tier::List, Tier::Count) => match sources.reported.get(&at) {
            Some(reported) => Cell {
                count: Some(reported.count),
                as_of: (reported.as_of.as_second() < now.as_second())
                    .then(|| reported.as_of.as_second()),
                ..Cell::without_count(CellState::Counted)
            },
            None => Cell::without_count(CellState::Suppressed),
        },
        (Tier::Count, Tier::Count) => match &sources.count_flow {
            None => Cell::without_count(CellState::Disabled),
            Some(flow) => {
                let count = flow.counts.get(&at).copied().unwrap_or(0);
                let visible = count >= flow.threshold.max(1);
                Cell {
                    count: visible.then_some(count),
                    key_type: Some(flow.key_type.code()),
                    ..Cell::without_count(if visible {
                        CellState::Counted
                    } else {
                        CellState::Suppressed
                    })
                }
            }
        },
    }
}

fn stages(tiers: &StageTiers) -> Vec<MatrixStage> {
    tiers
        .iter()
        .map(|(_, stage, tier)| MatrixStage {
            id: stage.id.clone(),
            label: stage.label.clone(),
            ordinal: stage.ordinal,
            category: category_name(stage).to_owned(),
            tier: match tier {
                Tier::Hidden => "HIDDEN",
                Tier::Count => "COUNT",
                Tier::List => "LIST",
            }
            .to_owned(),
        })
        .collect()
}

const fn category_name(stage: &Stage) -> &'static str {
    match stage.category {
        StageCategory::Open => "OPEN",
        StageCategory::Customer => "CUSTOMER",
        StageCategory::Lost => "LOST",
        StageCategory::Churned => "CHURNED",
    }
}

fn stage_to_proto(stage: &MatrixStage) -> v1::Stage {
    let category = match stage.category.as_str() {
        "OPEN" => v1::StageCategory::Open,
        "CUSTOMER" => v1::StageCategory::Customer,
        "LOST" => v1::StageCategory::Lost,
        "CHURNED" => v1::StageCategory::Churned,
        _ => v1::StageCategory::Unspecified,
    };
    v1::Stage {
        id: stage.id.clone(),
        label: stage.label.clone(),
        ordinal: stage.ordinal,
        category: category.into(),
    }
}

/// The API's name of a key type.
#[must_use]
pub const fn key_type_to_proto(key_type: KeyType) -> v1::KeyType {
    match key_type {
        KeyType::ExternalId => v1::KeyType::ExternalId,
        KeyType::Email => v1::KeyType::Email,
        KeyType::Phone => v1::KeyType::Phone,
        KeyType::Domain => v1::KeyType::Domain,
    }
}

/// What a combination of stages is good for (P-11). An open stage counts as a prospect.
fn hints(mine: &MatrixStage, theirs: &MatrixStage) -> Vec<&'static str> {
    let mut hints: Vec<&'static str> = match (mine.category.as_str(), theirs.category.as_str()) {
        ("CUSTOMER", "OPEN") => vec!["introductions", "co-marketing"],
        ("OPEN", "CUSTOMER") => vec!["referrals", "integration selling"],
        ("CUSTOMER", "CUSTOMER") => vec!["co-marketing", "integration", "customer success"],
        _ => Vec::new(),
    };
    if mine.ordinal == theirs.ordinal {
        hints.push("aligned");
    }
    hints
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sharing::policy::Policy;

    fn side(tiers: &[(&str, u32, StageCategory, Tier)]) -> StageTiers {
        let policy = Policy {
            tiers: tiers
                .iter()
                .map(|(id, _, _, tier)| ((*id).to_owned(), *tier))
                .collect(),
            shared_fields: Vec::new(),
            timeline: false,
            match_on: Vec::new(),
            domain_from_email: false,
            min_count: 5,
            count_by_count: false,
            label_field_bytes: 0,
            padding: 0,
            max_evaluations_per_epoch: 0,
            min_interval_s: 0,
        };
        let stages: Vec<Stage> = tiers
            .iter()
            .map(|(id, ordinal, category, _)| Stage {
                id: (*id).to_owned(),
                label: (*id).to_owned(),
                ordinal: *ordinal,
                category: *category,
            })
            .collect();
        StageTiers::new(&stages, &policy).unwrap()
    }

    fn all_tiers() -> StageTiers {
        side(&[
            ("H", 10, StageCategory::Open, Tier::Hidden),
            ("C", 20, StageCategory::Open, Tier::Count),
            ("L", 40, StageCategory::Customer, Tier::List),
        ])
    }

    #[test]
    fn p09_a_hidden_stage_has_no_count_and_takes_precedence() {
        let now = Timestamp::from_second(1_000).unwrap();
        // Sources that claim something of every cell must not show through.
        let everywhere: BTreeMap<(u8, u8), u64> = (0..3)
            .flat_map(|row| (0..3).map(move |column| ((row, column), 7)))
            .collect();
        let sources = CellSources {
            listed: everywhere.clone(),
            reported: BTreeMap::from([(
                (2, 1),
                Reported {
                    count: 9,
                    as_of: Timestamp::from_second(900).unwrap(),
                },
            )]),
            count_flow: None,
        };
        let matrix = Matrix::compute(&all_tiers(), &all_tiers(), &sources, now);
        let states: Vec<_> = matrix
            .cells
            .iter()
            .map(|cell| (cell.state.name(), cell.count))
            .collect();
        assert_eq!(
            states,
            [
                ("NOT_SHARED", None),
                ("WITHHELD", None),
                ("WITHHELD", None),
                ("NOT_SHARED", None),
                ("DISABLED", None),
                ("LISTED", Some(7)),
                ("NOT_SHARED", None),
                ("COUNTED", Some(9)),
                ("LISTED", Some(7)),
            ]
        );
        assert_eq!(matrix.cells[7].as_of, Some(900));
        assert_eq!(matrix.shared_customers(), Some(23));

        let flow = CellSources {
            count_flow: Some(CountFlowResult {
                key_type: KeyType::Email,
                counts: everywhere,
                threshold: 8,
            }),
            ..CellSources::default()
        };
        let matrix = Matrix::compute(&all_tiers(), &all_tiers(), &flow, now);
        assert_eq!(matrix.cells[4].state, CellState::Suppressed);
        assert_eq!(matrix.cells[4].count, None);
        assert_eq!(matrix.cells[7].state, CellState::Suppressed);
        assert_eq!(matrix.shared_customers(), Some(0), "two listed cells of 0");
    }

    #[test]
    fn p06_nothing_visible_has_no_sum() {
        let hidden = side(&[("H", 10, StageCategory::Open, Tier::Hidden)]);
        let now = Timestamp::from_second(1_000).unwrap();
        let matrix = Matrix::compute(&all_tiers(), &hidden, &CellSources::default(), now);
        assert_eq!(matrix.shared_customers(), None);
        assert_eq!(matrix.to_proto("p", "r", now).shared_customers, None);
    }

    #[test]
    fn p11_cells_have_hints() {
        let stages = side(&[
            ("Prospect", 10, StageCategory::Open, Tier::List),
            ("Customer", 40, StageCategory::Customer, Tier::List),
            ("Lost", 50, StageCategory::Lost, Tier::List),
        ]);
        let now = Timestamp::from_second(1_000).unwrap();
        let matrix = Matrix::compute(&stages, &stages, &CellSources::default(), now);
        let proto = matrix.to_proto("p", "r", now);
        let hints: Vec<String> = proto
            .cells
            .iter()
            .map(|cell| cell.hints.join(","))
            .collect();
        assert_eq!(
            hints,
            [
                "aligned",
                "referrals,integration selling",
                "",
                "introductions,co-marketing",
                "co-marketing,integration,customer success,aligned",
                "",
                "",
                "",
                "aligned",
            ]
        );
    }
}
