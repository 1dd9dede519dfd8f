//! This organisation's own customers and their lifecycle stages.

use std::collections::BTreeMap;

use futures::{
    FutureExt as _,
    stream::{self, Stream, StreamExt as _},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Client, Error, Page, PageRequest,
    convert::time,
    paging::entries,
    transfer::{batches, ended},
    v1,
};

named_enum! {
    /// A kind of identifier on which customers are matched.
    KeyType of v1::KeyType {
        /// An identifier that both organisations use.
        ExternalId = "external_id",
        /// An e-mail address.
        Email = "email",
        /// A telephone number.
        Phone = "phone",
        /// A company's domain.
        Domain = "domain",
    }
}

named_enum! {
    /// What a stage means for metrics.
    StageCategory of v1::StageCategory {
        /// On the way to becoming a customer.
        Open = "OPEN",
        /// A customer.
        Customer = "CUSTOMER",
        /// Never became one.
        Lost = "LOST",
        /// No longer is one.
        Churned = "CHURNED",
    }
}

/// A lifecycle stage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// The name that customers' records use.
    pub id: String,
    /// The name people read; the id where it is empty.
    #[serde(default)]
    pub label: String,
    /// Position in the lifecycle, ascending.
    #[serde(default)]
    pub ordinal: u32,
    /// What it means for metrics.
    #[serde(default)]
    pub category: StageCategory,
}

impl Stage {
    /// The name people read.
    #[must_use]
    pub fn title(&self) -> &str {
        if self.label.is_empty() {
            &self.id
        } else {
            &self.label
        }
    }
}

impl From<v1::Stage> for Stage {
    fn from(stage: v1::Stage) -> Self {
        Self {
            id: stage.id,
            label: stage.label,
            ordinal: stage.ordinal,
            category: StageCategory::from_proto(stage.category),
        }
    }
}

impl From<Stage> for v1::Stage {
    fn from(stage: Stage) -> Self {
        Self {
            id: stage.id,
            label: stage.label,
            ordinal: stage.ordinal,
            category: stage.category.to_proto(),
        }
    }
}

/// One customer record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Customer {
    /// Unique within the organisation.
    pub id: String,
    /// Id of its lifecycle stage.
    pub stage: String,
    /// E-mail addresses.
    pub emails: Vec<String>,
    /// Telephone numbers.
    pub phones: Vec<String>,
    /// Company domains.
    pub domains: Vec<String>,
    /// Identifiers that both organisations use.
    pub external_ids: Vec<String>,
    /// Its name.
    pub name: String,
    /// Who looks after it.
    pub owner: String,
    /// Its industry.
    pub industry: String,
    /// Its region.
    pub region: String,
    /// Never matched and never shared.
    pub private: bool,
    /// Any further columns.
    pub fields: BTreeMap<String, String>,
    /// When the node last changed it; ignored when sent.
    pub updated_at: Option<Timestamp>,
}

impl From<v1::Customer> for Customer {
    fn from(customer: v1::Customer) -> Self {
        Self {
            id: customer.id,
            stage: customer.stage,
            emails: customer.emails,
            phones: customer.phones,
            domains: customer.domains,
            external_ids: customer.external_ids,
            name: customer.name,
            owner: customer.owner,
            industry: customer.industry,
            region: customer.region,
            private: customer.private,
            fields: customer.fields.into_iter().collect(),
            updated_at: time(customer.updated_at),
        }
    }
}

impl From<Customer> for v1::Customer {
    fn from(customer: Customer) -> Self {
        Self {
            id: customer.id,
            stage: customer.stage,
            emails: customer.emails,
            phones: customer.phones,
            domains: customer.domains,
            external_ids: customer.external_ids,
            name: customer.name,
            owner: customer.owner,
            industry: customer.industry,
            region: customer.region,
            private: customer.private,
            fields: customer.fields.into_iter().collect(),
            updated_at: None,
        }
    }
}

/// How to write customers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpsertOptions {
    /// ISO 3166-1 alpha-2 region of telephone numbers without a country code; the node's if unset.
    pub default_region: Option<String>,
    /// Delete every customer that is not named.
    pub replace_all: bool,
}

/// What writing customers changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UpsertReport {
    /// New ones.
    pub inserted: u64,
    /// Changed ones.
    pub updated: u64,
    /// Those that were there already, just so.
    pub unchanged: u64,
    /// Those that went because the file replaces all.
    pub deleted: u64,
    /// Identifiers that are kept but cannot be matched, by reason.
    pub unusable_identifiers: BTreeMap<String, u64>,
}

/// Which of the own customers to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CustomerFilter {
    /// Only this stage.
    pub stage: Option<String>,
    /// Substring of id, name or domain, whatever the case.
    pub search: Option<String>,
}

/// One page of own customers.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CustomerPage {
    /// The customers, by id.
    pub customers: Vec<Customer>,
    /// The token of the page after this one.
    pub next: Option<String>,
    /// How many the filter admits on all pages.
    pub total: u64,
}

/// Ids a message of an upload.
const BATCH: usize = 500;

impl Client {
    /// Inserts or replaces customers by id, all or nothing.
    ///
    /// # Errors
    /// What the node reports, or the way there; then nothing was changed.
    pub fn upsert_customers(
        &self,
        options: UpsertOptions,
        customers: impl Stream<Item = Customer> + Send + 'static,
    ) -> impl Future<Output = Result<UpsertReport, Error>> + Send {
        let header = v1::UpsertCustomersRequest {
            customers: Vec::new(),
            default_region: options.default_region.unwrap_or_default(),
            replace_all: options.replace_all,
            last: false,
        };
        let last = v1::UpsertCustomersRequest {
            last: true,
            ..Default::default()
        };
        let batches = batches(customers.map(v1::Customer::from)).map(|customers| {
            v1::UpsertCustomersRequest {
                customers,
                ..Default::default()
            }
        });
        let messages = stream::once(async { header }).chain(batches).map(Ok);
        let nobody = v1::UpsertCustomersRequest {
            customers: vec![v1::Customer::default()],
            ..Default::default()
        };
        let (request, cause) = self.upload(ended(messages, last), nobody);
        async move {
            let mut api = self.customer_api();
            let answer = self
                .uploaded(cause, api.upsert_customers(request).boxed())
                .await?;
            Ok(UpsertReport {
                inserted: answer.inserted,
                updated: answer.updated,
                unchanged: answer.unchanged,
                deleted: answer.deleted,
                unusable_identifiers: answer.unusable_identifiers.into_iter().collect(),
            })
        }
    }

    /// Deletes customers by id, all or nothing, and says how many there were.
    ///
    /// # Errors
    /// What the node reports, or the way there; then nothing was changed.
    pub fn delete_customers(
        &self,
        ids: impl Stream<Item = String> + Send + 'static,
    ) -> impl Future<Output = Result<u64, Error>> + Send {
        let messages = ids
            .chunks(BATCH)
            .map(|ids| Ok(v1::DeleteCustomersRequest { ids, last: false }));
        let last = v1::DeleteCustomersRequest {
            ids: Vec::new(),
            last: true,
        };
        let nobody = v1::DeleteCustomersRequest {
            ids: vec![String::new()],
            last: false,
        };
        let (request, cause) = self.upload(ended(messages, last), nobody);
        async move {
            let mut api = self.customer_api();
            let answer = self
                .uploaded(cause, api.delete_customers(request).boxed())
                .await?;
            Ok(answer.deleted)
        }
    }

    /// One page of own customers.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn list_customers(
        &self,
        filter: &CustomerFilter,
        page: PageRequest,
    ) -> Result<CustomerPage, Error> {
        let answer = ask!(
            self.customer_api()
                .list_customers(v1::ListCustomersRequest {
                    page_size: page.size(),
                    page_token: page.token,
                    stage: filter.stage.clone().unwrap_or_default(),
                    search: filter.search.clone().unwrap_or_default(),
                })
        )
        .await?;
        let page = Page::new(answer.customers, answer.next_page_token);
        Ok(CustomerPage {
            customers: page.items,
            next: page.next,
            total: answer.total_size,
        })
    }

    /// Every own customer that the filter admits, by id.
    pub fn customers(
        &self,
        filter: CustomerFilter,
    ) -> impl Stream<Item = Result<Customer, Error>> + Send + '_ {
        entries(move |page| {
            let filter = filter.clone();
            async move {
                let page = self.list_customers(&filter, page).await?;
                Ok(Page {
                    items: page.customers,
                    next: page.next,
                    total: Some(page.total),
                })
            }
        })
    }

    /// The lifecycle stages, by ordinal.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn stages(&self) -> Result<Vec<Stage>, Error> {
        let answer = ask!(self.customer_api().list_stages(v1::ListStagesRequest {})).await?;
        Ok(answer.stages.into_iter().map(Stage::from).collect())
    }

    /// Inserts or replaces stage definitions by id, and returns all of them.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn upsert_stages(&self, stages: Vec<Stage>) -> Result<Vec<Stage>, Error> {
        let answer = ask!(self.customer_api().upsert_stages(v1::UpsertStagesRequest {
            stages: stages.into_iter().map(v1::Stage::from).collect(),
        }))
        .await?;
        Ok(answer.stages.into_iter().map(Stage::from).collect())
    }
}
