//! A node about which every listing has at least two things to say: Acme, with the partners Globex (matched, sharing, talking)
//! and Initech (connected, nothing more).

use std::time::Duration;

use overlap_proto::v1::Role;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    attribution_support::{
        delivered,
        node_support::{TestNode, eventually, pair},
        policy, set_policy, sharing_state, token,
    },
    raw::{Caller, method},
};

pub struct World {
    pub a: TestNode,
    _b: TestNode,
    _c: TestNode,
}

async fn caller(node: &TestNode, token: String) -> Caller {
    Caller {
        channel: node.channel().await,
        token,
    }
}

/// Calls as administrator; what it answers.
async fn ask(node: &TestNode, name: &str, request: Value) -> Value {
    let caller = caller(node, node.admin_token()).await;
    let answer = caller.call(&method(name), &request).await;
    let answer = answer.unwrap_or_else(|status| panic!("{name} {request}: {status:?}"));
    serde_json::to_value(&answer).unwrap()
}

impl World {
    pub async fn new() -> Self {
        let (a, b) = pair().await;
        let c = TestNode::start("Initech").await;
        c.accept(&a.invite().await).await.unwrap();
        for (node, own) in [(&a, "a"), (&b, "b")] {
            let customers: Vec<Value> = (1..=4)
                .map(|number| {
                    json!({
                        "id": format!("{own}{number}"), "name": format!("Customer {number}"),
                        "stage": if number <= 2 { "Customer" } else { "Prospect" },
                        "emails": [format!("x@customer{number}.example")],
                    })
                })
                .collect();
            let request = json!({"customers": customers, "last": true});
            ask(node, "CustomerService.UpsertCustomers", request).await;
        }
        set_policy(&a, "Globex", policy(true)).await;
        eventually("the proposal arrives", || async {
            sharing_state(&b, "Acme").await == overlap_proto::v1::SharingState::AwaitingMyDecision
        })
        .await;
        set_policy(&b, "Acme", policy(true)).await;
        eventually("sharing is active", || async {
            sharing_state(&a, "Globex").await == overlap_proto::v1::SharingState::Active
                && sharing_state(&b, "Acme").await == overlap_proto::v1::SharingState::Active
        })
        .await;
        for run in 1..=2 {
            for node in [&a, &b] {
                node.clock.advance(jiff::SignedDuration::from_hours(25));
            }
            let states = async |node, partner| -> Vec<Value> {
                let runs = ask(node, "MatchService.ListRuns", json!({"partner": partner})).await;
                let runs = runs["runs"].as_array().cloned().unwrap_or_default();
                runs.iter().map(|run| run["state"].clone()).collect()
            };
            let done = vec![json!("RUN_STATE_DONE"); run];
            // Several worlds at once take their time.
            for look in 0.. {
                let (at_a, at_b) = (states(&a, "Globex").await, states(&b, "Acme").await);
                if at_a == done && at_b == done {
                    break;
                }
                assert!(look < 1_200, "run {run} is not done: {at_a:?} {at_b:?}");
                if at_a.len() < run {
                    // The run before may still be ending, and is what this call then returns.
                    ask(&a, "MatchService.StartRun", json!({"partner": "Globex"})).await;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        for (node, partner, own) in [(&a, "Globex", "a"), (&b, "Acme", "b")] {
            for number in 1..=2 {
                let file = format!("file {number} of {own}");
                let header = json!({
                    "header": {
                        "kind": "ASSET_KIND_CASE_STUDY", "file_name": file,
                        "sha256": hex::encode(Sha256::digest(b"")),
                    }
                });
                let asset = ask(node, "AssetService.UploadAsset", header).await;
                let share = json!({"partner": partner, "id": asset["asset"]["id"]});
                ask(node, "AssetService.ShareAsset", share).await;
                let request = json!({
                    "partner": partner, "customer": format!("{own}{number}"), "details": "we met",
                });
                eventually("the results can be talked about", || async {
                    let caller = caller(node, node.admin_token()).await;
                    let method = method("AttributionService.RequestAttribution");
                    let asked = caller.call(&method, &request).await;
                    asked.is_ok_and(|_| true)
                })
                .await;
            }
            delivered(node).await;
        }
        ask(&a, "RecordService.IngestRecords", records()).await;
        let token = json!({"user": "somebody", "role": "ROLE_MEMBER"});
        ask(&a, "AdminService.CreateToken", token).await;
        Self { a, _b: b, _c: c }
    }

    pub async fn anonymous(&self) -> Caller {
        caller(&self.a, String::new()).await
    }

    pub async fn admin(&self) -> Caller {
        caller(&self.a, self.a.admin_token()).await
    }

    pub async fn role(&self, role: Role) -> Caller {
        let partner = if role == Role::Partner { "Globex" } else { "" };
        let secret = token(&self.a, role.as_str_name(), role, partner).await;
        caller(&self.a, secret).await
    }
}

/// Partners p1 (Globex) and p2, active in the portal and with stalled deals and low scores, p3 and p4 with portal users only.
fn records() -> Value {
    let mut records = Vec::new();
    let mut push = |kind: &str, id: String, content: Value| {
        records.push(json!({"id": id, "updated_at": "2026-01-31T00:00:00Z", kind: content}));
    };
    for number in 1..=4 {
        let partner = format!("p{number}");
        let name = if number == 1 { "Globex" } else { &partner };
        push(
            "partner_profile",
            partner.clone(),
            json!({"name": name, "type": "PARTNER_TYPE_REFERRAL", "enrolled_at": "2025-01-01T00:00:00Z"}),
        );
        push(
            "portal_user",
            format!("u{number}"),
            json!({"partner": partner}),
        );
        if number > 2 {
            continue;
        }
        push(
            "portal_event",
            format!("e{number}"),
            json!({
                "partner": partner, "user": format!("u{number}"), "at": "2026-02-27T10:00:00Z",
                "kind": "PORTAL_EVENT_KIND_PAGE_VIEW", "room": format!("r{number}"), "resource": format!("s{number}"),
            }),
        );
        push(
            "deal",
            format!("d{number}"),
            json!({
                "partner": partner, "amount": {"currency_code": "EUR", "units": 100},
                "origination": "DEAL_ORIGINATION_SOURCED", "type": "DEAL_TYPE_NEW", "outcome": "DEAL_OUTCOME_OPEN",
                "opened_at": "2026-01-05T00:00:00Z",
            }),
        );
        push(
            "partner_analysis",
            format!("n{number}"),
            json!({"partner": partner, "analyzed_at": "2026-02-01T00:00:00Z", "capability": 10 * number}),
        );
    }
    json!({"records": records, "last": true})
}
