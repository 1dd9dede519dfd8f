//! Two partner nodes with agreed terms, over the real exchange. What runs would have found is set by the test.

#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "each test binary uses its part"
)]

#[path = "../node_support/mod.rs"]
pub mod node_support;
pub mod requests;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use jiff::Timestamp;
use node_support::{Authorized, TestNode, eventually};
use overlap_proto::v1::{
    self, CreateTokenRequest, GetSharingRequest, SetPolicyRequest, SharingPolicy, SharingState,
    Tier, asset_service_client::AssetServiceClient,
    attribution_service_client::AttributionServiceClient,
    change_service_client::ChangeServiceClient,
    partner_info_service_client::PartnerInfoServiceClient,
    timeline_service_client::TimelineServiceClient,
};
use overlap_server::{
    collaboration::{SharedCustomer, SharedCustomers},
    error::{Error, Reason},
    node::{Node, Registry},
};
use prost::Message as _;
use rusqlite::Connection;

/// What a run would have found on one node.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub shared: Vec<SharedCustomer>,
    /// The partner's handles, and my row that names the customer.
    pub their_handles: HashMap<String, String>,
    /// Rows whose own tier is count.
    pub count_tier: HashSet<String>,
    pub stages: HashMap<String, String>,
    pub run: Option<String>,
    pub version: u64,
}

static FOUND: LazyLock<Mutex<HashMap<PathBuf, Found>>> = LazyLock::new(Mutex::default);

/// Shared customers as the test set them, by node.
pub struct Customers;

impl Customers {
    fn of<T>(directory: &Path, read: impl FnOnce(&Found) -> T) -> T {
        let mut all = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
        read(all.entry(directory.to_owned()).or_default())
    }

    fn at<T>(connection: &Connection, read: impl FnOnce(&Found) -> T) -> T {
        Self::of(
            Path::new(connection.path().unwrap()).parent().unwrap(),
            read,
        )
    }
}

impl SharedCustomers for Customers {
    fn by_customer(
        &self,
        node: &Node,
        _: &Connection,
        _: &str,
        customer: &str,
    ) -> Result<Option<SharedCustomer>, Error> {
        Ok(Self::of(&node.directory, |found| {
            let is_it = |shared: &&SharedCustomer| shared.ids.iter().any(|id| id == customer);
            found.shared.iter().find(is_it).cloned()
        }))
    }

    fn by_handle(
        &self,
        node: &Node,
        _: &Connection,
        _: &str,
        handle: &str,
    ) -> Result<Option<SharedCustomer>, Error> {
        Ok(Self::of(&node.directory, |found| {
            let id = found.their_handles.get(handle)?;
            found.shared.iter().find(|shared| shared.id == *id).cloned()
        }))
    }

    fn visit(
        &self,
        node: &Node,
        _: &Connection,
        _: &str,
        visit: &mut dyn FnMut(SharedCustomer) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let shared = Self::of(&node.directory, |found| found.shared.clone());
        shared.into_iter().try_for_each(visit)
    }

    fn may_name(&self, node: &Node, _: &Connection, _: &str, customer: &str) -> Result<(), Error> {
        if Self::of(&node.directory, |found| found.count_tier.contains(customer)) {
            return Err(Error::new(Reason::OwnTierCountsOnly, "count tier"));
        }
        Ok(())
    }

    fn stage_of(&self, connection: &Connection, customer: &str) -> Result<Option<String>, Error> {
        Ok(Self::at(connection, |found| {
            found.stages.get(customer).cloned()
        }))
    }

    fn run(&self, connection: &Connection, _: &str) -> Result<Option<String>, Error> {
        Ok(Self::at(connection, |found| found.run.clone()))
    }

    fn version(&self, connection: &Connection, _: &str) -> Result<String, Error> {
        Ok(Self::at(connection, |found| found.version.to_string()))
    }
}

pub fn registry() -> Registry {
    let mut registry = Registry::standard();
    registry.shared_customers(Arc::new(Customers));
    registry
}

/// Changes what a run would have found on a node.
pub fn set(node: &TestNode, change: impl FnOnce(&mut Found)) {
    let mut all = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    let found = all.entry(node.path().to_owned()).or_default();
    change(found);
    found.version += 1;
}

pub fn shared(
    id: &str,
    handle: &str,
    mine: &str,
    theirs: &str,
    first_matched: &str,
) -> SharedCustomer {
    SharedCustomer {
        id: id.to_owned(),
        ids: vec![id.to_owned()],
        handle: handle.to_owned(),
        mine: mine.to_owned(),
        theirs: theirs.to_owned(),
        first_matched_at: first_matched.parse::<Timestamp>().unwrap(),
    }
}

/// Customers 1 to 4 are shared: a1 is b1 and so on.
pub fn find_customers(a: &TestNode, b: &TestNode) {
    let stages = [
        ("Prospect", "Customer"),
        ("Customer", "Customer"),
        ("Lead", "Customer"),
        ("Customer", "Prospect"),
    ];
    let side = |mine: char, theirs: char, is_a: bool| Found {
        shared: (1..=4)
            .map(|number| {
                let (of_a, of_b) = stages[number - 1];
                let (my_stage, their_stage) = if is_a { (of_a, of_b) } else { (of_b, of_a) };
                let first = if number == 4 {
                    "2026-02-20T00:00:00Z"
                } else {
                    "2025-06-01T00:00:00Z"
                };
                shared(
                    &format!("{mine}{number}"),
                    &format!("{mine}{mine}{number}"),
                    my_stage,
                    their_stage,
                    first,
                )
            })
            .collect(),
        their_handles: (1..=4)
            .map(|number| {
                (
                    format!("{theirs}{theirs}{number}"),
                    format!("{mine}{number}"),
                )
            })
            .collect(),
        run: Some("run1".to_owned()),
        ..Found::default()
    };
    set(a, |found| *found = side('a', 'b', true));
    set(b, |found| *found = side('b', 'a', false));
}

pub fn policy(timeline: bool) -> SharingPolicy {
    SharingPolicy {
        stages: ["Prospect", "Lead", "Customer", "Churned"]
            .map(|stage| (stage.to_owned(), i32::from(Tier::List)))
            .into(),
        timeline,
        match_on: vec![v1::KeyType::Email.into()],
        min_count: 5,
        max_evaluations_per_epoch: 1 << 20,
        ..SharingPolicy::default()
    }
}

/// Two nodes that share everything, each with its own decision on timelines.
pub async fn partners(timeline_a: bool, timeline_b: bool) -> (TestNode, TestNode) {
    let (a, b) = node_support::pair_with(registry).await;
    find_customers(&a, &b);
    set_policy(&a, "Globex", policy(timeline_a)).await;
    eventually("the proposal arrives", || async {
        sharing_state(&b, "Acme").await == SharingState::AwaitingMyDecision
    })
    .await;
    set_policy(&b, "Acme", policy(timeline_b)).await;
    eventually("sharing is active", || async {
        sharing_state(&a, "Globex").await == SharingState::Active
            && sharing_state(&b, "Acme").await == SharingState::Active
    })
    .await;
    (a, b)
}

pub async fn set_policy(node: &TestNode, partner: &str, policy: SharingPolicy) {
    let request = SetPolicyRequest {
        partner: partner.to_owned(),
        policy: Some(policy),
    };
    node.sharing().await.set_policy(request).await.unwrap();
}

pub async fn sharing_state(node: &TestNode, partner: &str) -> SharingState {
    let request = GetSharingRequest {
        partner: partner.to_owned(),
    };
    let response = node.sharing().await.get_sharing(request).await.unwrap();
    response.into_inner().sharing.unwrap().state()
}

pub async fn attributions(node: &TestNode) -> AttributionServiceClient<Authorized> {
    AttributionServiceClient::new(node.api().await)
}

pub async fn assets(node: &TestNode) -> AssetServiceClient<Authorized> {
    AssetServiceClient::new(node.api().await)
}

pub async fn timelines(node: &TestNode) -> TimelineServiceClient<Authorized> {
    TimelineServiceClient::new(node.api().await)
}

pub async fn infos(node: &TestNode) -> PartnerInfoServiceClient<Authorized> {
    PartnerInfoServiceClient::new(node.api().await)
}

pub async fn changes(node: &TestNode) -> ChangeServiceClient<Authorized> {
    ChangeServiceClient::new(node.api().await)
}

/// The secret of a new token.
pub async fn token(node: &TestNode, user: &str, role: v1::Role, partner: &str) -> String {
    let request = CreateTokenRequest {
        user: user.to_owned(),
        role: role.into(),
        partner: partner.to_owned(),
        ..CreateTokenRequest::default()
    };
    let response = node.admin().await.create_token(request).await.unwrap();
    response.into_inner().secret
}

/// Says something to the partner's node that this node's own code would not say.
pub async fn say(node: &TestNode, kind: &'static str, body: serde_json::Value) {
    let speaking = Arc::clone(node.node());
    node.node()
        .store
        .write(move |tx| {
            let partnership: String = tx.query_row(
                "SELECT id FROM partnerships WHERE state = 'CONNECTED'",
                [],
                |row| row.get(0),
            )?;
            overlap_server::notices::enqueue(&speaking, tx, &partnership, kind, &body)?;
            Ok(())
        })
        .await
        .unwrap();
}

/// What waits in a node's outbox, as text.
pub async fn outbox(node: &TestNode) -> String {
    node.node()
        .store
        .read(|connection| {
            let mut statement =
                connection.prepare("SELECT kind, body FROM notices_out ORDER BY sequence")?;
            let lines: Vec<String> = statement
                .query_map([], |row| {
                    let body: Vec<u8> = row.get(1)?;
                    Ok(format!(
                        "{} {}",
                        row.get::<_, String>(0)?,
                        String::from_utf8_lossy(&body)
                    ))
                })?
                .collect::<Result<_, _>>()?;
            Ok(lines.join("\n"))
        })
        .await
        .unwrap()
}

/// Waits until nothing waits in a node's outbox.
pub async fn delivered(node: &TestNode) {
    eventually("everything is delivered", || async {
        outbox(node).await.is_empty()
    })
    .await;
}

/// Audit actions of a node, with how often each occurs.
pub async fn audit(node: &TestNode) -> BTreeMap<String, u64> {
    node.node()
        .store
        .read(|connection| {
            Ok(connection
                .prepare("SELECT action, count(*) FROM audit GROUP BY action")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<Result<_, _>>()?)
        })
        .await
        .unwrap()
}

/// The number that a query on a node's store gives.
pub async fn count(node: &TestNode, sql: &'static str) -> u64 {
    node.node()
        .store
        .read(move |connection| Ok(connection.query_row(sql, [], |row| row.get(0))?))
        .await
        .unwrap()
}

/// Stores a record as ingestion does.
pub async fn ingest(node: &TestNode, id: &str, content: v1::record::Content) {
    let kind = match content {
        v1::record::Content::LifecycleEvent(_) => 1,
        v1::record::Content::PartnerProfile(_) => 2,
        v1::record::Content::Referral(_) => 5,
        _ => unreachable!("not a kind that is read here"),
    };
    let body = v1::Record {
        content: Some(content),
        ..v1::Record::default()
    }
    .encode_to_vec();
    let id = id.to_owned();
    node.node()
        .store
        .write(move |tx| {
            tx.execute(
                "INSERT INTO records (kind, id, partner, customer, version, deleted, body) VALUES (?, ?, '', '', 0, 0, ?)",
                rusqlite::params![kind, id, body],
            )?;
            Ok(())
        })
        .await
        .unwrap();
}

pub fn proto_time(text: &str) -> Option<prost_types::Timestamp> {
    let at: Timestamp = text.parse().unwrap();
    Some(prost_types::Timestamp {
        seconds: at.as_second(),
        nanos: 0,
    })
}

pub fn text_time(at: Option<prost_types::Timestamp>) -> String {
    let at = at.unwrap();
    Timestamp::new(at.seconds, at.nanos).unwrap().to_string()
}
