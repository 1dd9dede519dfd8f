//! Typed client of an Overlap node.
//!
//! [`Client`] has one method a call of the node's API. It takes and returns plain structs, puts a deadline on every
//! call, pages through lists as streams, and reports errors by the node's stable reasons ([`Error::reason`]).
//!
//! ```no_run
//! use futures::TryStreamExt as _;
//! use overlap_client::{Client, ClientConfig, SharedFilter};
//!
//! # async fn example() -> Result<(), overlap_client::Error> {
//! let client = Client::connect(ClientConfig::from_node_dir("/var/lib/overlap")?).await?;
//! let matrix = client.matrix("Globex").await?;
//! println!("{:?} shared customers", matrix.shared_customers);
//! let mut shared = std::pin::pin!(client.shared_customers("Globex", SharedFilter::default()));
//! while let Some(customer) = shared.try_next().await? {
//!     println!("{} is {} here and {} there", customer.name, customer.mine, customer.theirs);
//! }
//! # Ok(())
//! # }
//! ```

#[macro_use]
mod names;
mod admin;
mod config;
mod connection;
mod convert;
mod customer;
mod error;
mod import;
mod overlap;
mod paging;
mod partnership;
mod run;
mod sharing;
pub mod terminal;
mod transfer;
pub mod view;

pub use admin::{AuditEvent, NewToken, Node, Role, Token, TokenWithSecret};
pub use config::{BearerToken, ClientConfig};
pub use connection::Client;
pub use customer::{
    Customer, CustomerFilter, CustomerPage, KeyType, Stage, StageCategory, UpsertOptions,
    UpsertReport,
};
pub use error::{Error, FieldViolation, NodeError, Retry};
pub use import::{Import, ImportFormat, ImportReport};
pub use overlap::{
    Cell, CellState, EmptyReason, Explanation, KeyExplanation, Matrix, SharedCustomer,
    SharedCustomerPage, SharedFilter,
};
pub use paging::{Page, PageRequest};
pub use partnership::{Invite, Partnership, PartnershipState};
pub use run::{Fault, Progress, Run, RunFailure, RunState, RunSummary, StartRun};
pub use sharing::{Sharing, SharingPolicy, SharingState, Tier};

/// The times of records.
pub use jiff::Timestamp;
/// The messages of the API, for what the typed methods do not cover.
pub use overlap_proto::v1;
