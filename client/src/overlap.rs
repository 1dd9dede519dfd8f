//! What the last good run with a partner found.

use std::collections::BTreeMap;

use futures::stream::Stream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Client, Error, KeyType, Page, PageRequest, Stage, Tier,
    convert::{present, time},
    paging::entries,
    v1,
};

named_enum! {
    /// What I may know of a matrix cell.
    CellState of v1::CellState {
        /// Its customers are listed.
        Listed = "LISTED",
        /// Only their number is known.
        Counted = "COUNTED",
        /// The number is below the reporter's threshold, or held back by its release rules.
        Suppressed = "SUPPRESSED",
        /// The partner hides its stage.
        NotShared = "NOT_SHARED",
        /// I hide mine.
        Withheld = "WITHHELD",
        /// Both sides allow counts only and not both enabled count by count.
        Disabled = "DISABLED",
    }
}

named_enum! {
    /// Why a list is empty.
    EmptyReason of v1::EmptyReason {
        /// There was no run yet.
        NoRun = "NO_RUN",
        /// Only numbers are known here.
        CountsOnly = "COUNTS_ONLY",
        /// The partner hides its stage.
        NotShared = "NOT_SHARED",
        /// I hide mine.
        Withheld = "WITHHELD",
        /// There is none.
        NoMatch = "NO_MATCH",
    }
}

/// The lifecycle matrix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Matrix {
    /// With whom.
    pub partner: String,
    /// The run it comes from.
    pub run: String,
    /// Rows: my stages by ordinal.
    pub mine: Vec<Stage>,
    /// Columns: the partner's stages by ordinal.
    pub theirs: Vec<Stage>,
    /// Row by row.
    pub cells: Vec<Cell>,
    /// The sum of visible cells; unset where no cell is visible.
    pub shared_customers: Option<u64>,
    /// When the run ended.
    pub as_of: Option<Timestamp>,
}

/// One cell of the matrix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Cell {
    /// My stage's id.
    pub mine: String,
    /// The partner's stage's id.
    pub theirs: String,
    /// What I may know.
    pub state: CellState,
    /// Set for `LISTED` and `COUNTED`.
    pub count: Option<u64>,
    /// When the count was released, if not by this run.
    pub as_of: Option<Timestamp>,
    /// The only key type the count is based on: a lower bound.
    pub key_type: Option<KeyType>,
    /// What this combination of stages is good for.
    pub hints: Vec<String>,
}

impl From<v1::Matrix> for Matrix {
    fn from(matrix: v1::Matrix) -> Self {
        Self {
            partner: matrix.partner,
            run: matrix.run,
            mine: matrix.mine.into_iter().map(Stage::from).collect(),
            theirs: matrix.theirs.into_iter().map(Stage::from).collect(),
            cells: matrix.cells.into_iter().map(Cell::from).collect(),
            shared_customers: matrix.shared_customers,
            as_of: time(matrix.as_of),
        }
    }
}

impl From<v1::Cell> for Cell {
    fn from(cell: v1::Cell) -> Self {
        let key_type = KeyType::from_proto(cell.key_type);
        Self {
            state: CellState::from_proto(cell.state),
            mine: cell.mine,
            theirs: cell.theirs,
            count: cell.count,
            as_of: time(cell.as_of),
            key_type: (key_type != KeyType::Unknown).then_some(key_type),
            hints: cell.hints,
        }
    }
}

/// A customer of both sides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SharedCustomer {
    /// My row of highest stage.
    pub id: String,
    /// All my rows.
    pub ids: Vec<String>,
    /// Its name in my records.
    pub name: String,
    /// My stage's id.
    pub mine: String,
    /// The partner's stage's id.
    pub theirs: String,
    /// The kinds of identifier that agree.
    pub matched_on: Vec<KeyType>,
    /// The pairwise handle that names this customer between the two nodes.
    #[serde(rename = "ref")]
    pub reference: String,
    /// What the partner discloses.
    pub partner_fields: BTreeMap<String, String>,
    /// Whether it is marked as a target here.
    pub target: bool,
    /// My fields; set by [`Client::shared_customer`].
    pub my_fields: BTreeMap<String, String>,
    /// When it was first found.
    pub first_matched_at: Option<Timestamp>,
}

impl From<v1::SharedCustomer> for SharedCustomer {
    fn from(customer: v1::SharedCustomer) -> Self {
        Self {
            id: customer.id,
            ids: customer.ids,
            name: customer.name,
            mine: customer.mine,
            theirs: customer.theirs,
            matched_on: customer
                .matched_on
                .into_iter()
                .map(KeyType::from_proto)
                .collect(),
            reference: customer.r#ref,
            partner_fields: customer.partner_fields.into_iter().collect(),
            target: customer.target,
            my_fields: customer.my_fields.into_iter().collect(),
            first_matched_at: time(customer.first_matched_at),
        }
    }
}

/// Which shared customers to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharedFilter {
    /// Only this stage of mine.
    pub mine: Option<String>,
    /// Only this stage of the partner's.
    pub theirs: Option<String>,
    /// Substring of name or domain, whatever the case.
    pub search: Option<String>,
    /// Only those marked as targets.
    pub targets_only: bool,
}

/// One page of shared customers.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SharedCustomerPage {
    /// The customers, by id.
    pub customers: Vec<SharedCustomer>,
    /// The token of the page after this one.
    pub next: Option<String>,
    /// How many the filter admits on all pages.
    pub total: u64,
    /// Why there are none.
    pub empty_reason: Option<EmptyReason>,
}

/// Why one of my customers did or did not match.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Explanation {
    /// The customer.
    pub id: String,
    /// Its stage.
    pub stage: String,
    /// What the partner may learn about that stage.
    pub tier: Tier,
    /// Rows merged with this one, itself included.
    pub merged_ids: Vec<String>,
    /// The stage of the merged customer.
    pub merged_stage: String,
    /// What became of each identifier.
    pub keys: Vec<KeyExplanation>,
    /// One sentence.
    pub conclusion: String,
}

/// What became of one identifier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KeyExplanation {
    /// Its kind.
    pub key_type: KeyType,
    /// As my record has it.
    pub raw: String,
    /// As it is matched; unset if it cannot be.
    pub normalized: Option<String>,
    /// Stable code, e.g. `USED`, `FREE_MAIL_DOMAIN`.
    pub outcome: String,
    /// What that means and what to do.
    pub detail: String,
    /// Whether the last run matched it; unset where I may not know.
    pub matched: Option<bool>,
}

impl From<v1::ExplainCustomerResponse> for Explanation {
    fn from(explanation: v1::ExplainCustomerResponse) -> Self {
        Self {
            tier: Tier::from_proto(explanation.tier),
            id: explanation.id,
            stage: explanation.stage,
            merged_ids: explanation.merged_ids,
            merged_stage: explanation.merged_stage,
            keys: explanation
                .keys
                .into_iter()
                .map(|key| KeyExplanation {
                    key_type: KeyType::from_proto(key.key_type),
                    raw: key.raw,
                    normalized: key.normalized,
                    outcome: key.outcome,
                    detail: key.detail,
                    matched: key.matched,
                })
                .collect(),
            conclusion: explanation.conclusion,
        }
    }
}

impl Client {
    /// The lifecycle matrix.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn matrix(&self, partner: &str) -> Result<Matrix, Error> {
        let answer = ask!(self.overlap_api().get_matrix(v1::GetMatrixRequest {
            partner: partner.to_owned(),
        }))
        .await?;
        Ok(present(answer.matrix, "the matrix")?.into())
    }

    /// One page of shared customers.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn list_shared_customers(
        &self,
        partner: &str,
        filter: &SharedFilter,
        page: PageRequest,
    ) -> Result<SharedCustomerPage, Error> {
        let answer = ask!(self.overlap_api().list_shared_customers(
            v1::ListSharedCustomersRequest {
                partner: partner.to_owned(),
                page_size: page.size(),
                page_token: page.token,
                mine: filter.mine.clone().unwrap_or_default(),
                theirs: filter.theirs.clone().unwrap_or_default(),
                search: filter.search.clone().unwrap_or_default(),
                targets_only: filter.targets_only,
            }
        ))
        .await?;
        let page = Page::new(answer.customers, answer.next_page_token);
        let empty_reason = EmptyReason::from_proto(answer.empty_reason);
        Ok(SharedCustomerPage {
            customers: page.items,
            next: page.next,
            total: answer.total_size,
            empty_reason: (empty_reason != EmptyReason::Unknown).then_some(empty_reason),
        })
    }

    /// Every shared customer that the filter admits, by id.
    pub fn shared_customers<'a>(
        &'a self,
        partner: &'a str,
        filter: SharedFilter,
    ) -> impl Stream<Item = Result<SharedCustomer, Error>> + Send + 'a {
        entries(move |page| {
            let filter = filter.clone();
            async move {
                let page = self.list_shared_customers(partner, &filter, page).await?;
                Ok(Page {
                    items: page.customers,
                    next: page.next,
                    total: Some(page.total),
                })
            }
        })
    }

    /// One shared customer, by the id of any of my rows in it.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn shared_customer(&self, partner: &str, id: &str) -> Result<SharedCustomer, Error> {
        let answer = ask!(
            self.overlap_api()
                .get_shared_customer(v1::GetSharedCustomerRequest {
                    partner: partner.to_owned(),
                    id: id.to_owned(),
                })
        )
        .await?;
        Ok(present(answer.customer, "the customer")?.into())
    }

    /// Marks or unmarks shared customers as targets and says how many changed; the partner never learns.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn set_targets(
        &self,
        partner: &str,
        ids: Vec<String>,
        target: bool,
    ) -> Result<u64, Error> {
        let answer = ask!(self.overlap_api().set_targets(v1::SetTargetsRequest {
            partner: partner.to_owned(),
            ids,
            target,
        }))
        .await?;
        Ok(answer.changed)
    }

    /// Why one of my customers did or did not match, from my own records alone.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn explain_customer(&self, partner: &str, id: &str) -> Result<Explanation, Error> {
        let answer = ask!(
            self.overlap_api()
                .explain_customer(v1::ExplainCustomerRequest {
                    partner: partner.to_owned(),
                    id: id.to_owned(),
                })
        )
        .await?;
        Ok(answer.into())
    }
}
