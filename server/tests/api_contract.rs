//! What holds for every method of `overlap.v1`, enumerated from the descriptors: a new method without an entry fails.

#![allow(
    clippy::unwrap_used,
    clippy::result_large_err,
    unreachable_pub,
    missing_docs,
    reason = "a test that cannot go on fails"
)]

mod attribution_support;
#[path = "api_contract/listings.rs"]
mod listings;
#[path = "api_contract/raw.rs"]
mod raw;
#[path = "api_contract/roles.rs"]
mod roles;
#[path = "api_contract/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};

use attribution_support::node_support::reason;
use listings::listings;
use overlap_proto::v1::Role;
use prost_reflect::{DynamicMessage, ReflectMessage as _, Value as FieldValue};
use raw::{Caller, method, methods};
use roles::{May, ROLES, roles};
use serde_json::{Value, json};
use tonic::{Code, Status};
use world::World;

fn code(answer: &Result<DynamicMessage, Status>) -> Code {
    answer.as_ref().map_or_else(Status::code, |_| Code::Ok)
}

/// Message and details of a refusal, with a name that the caller chose put in place of another of the same length.
fn renamed(status: &Status, from: &str, to: &str) -> (Code, String, Vec<u8>) {
    assert_eq!(from.len(), to.len());
    let mut details = status.details().to_vec();
    for start in 0..details.len().saturating_sub(from.len() - 1) {
        if details[start..].starts_with(from.as_bytes()) {
            details[start..start + to.len()].copy_from_slice(to.as_bytes());
        }
    }
    (status.code(), status.message().replace(from, to), details)
}

/// K-27, G-01, I-13: every method of the API, called as every role and without a token.
#[tokio::test(flavor = "multi_thread")]
async fn k27_g01_i13_every_method_knows_its_roles() {
    let table = roles();
    let entries: BTreeSet<String> = table.iter().map(|entry| entry.0.to_owned()).collect();
    let all: BTreeSet<String> = methods().into_iter().map(|(name, _)| name).collect();
    assert_eq!(entries, all, "every method has one entry");
    assert_eq!(table.len(), entries.len());
    let world = World::new().await;
    let mut wrong = Vec::new();
    let mut note = |name: &str, role: &str, problem: String| {
        wrong.push(format!("{name} as {role}: {problem}"));
    };
    for role in ROLES {
        let caller = world.role(role).await;
        let absent = caller
            .call(
                &method("ProgramIntelligenceService.GetViewPreferences"),
                &json!({"view": "no-such-view-here"}),
            )
            .await
            .unwrap_err();
        let absent = renamed(&absent, "no-such-view-here", "partner-lifecycle");
        for (name, may, request, expected) in &table {
            let answer = caller.call(&method(name), request).await;
            let role_name = role.as_str_name();
            if may.admits(role) {
                if code(&answer) != *expected {
                    note(name, role_name, format!("{answer:?}, not {expected:?}"));
                }
            } else if *may == May::Lifecycle && role == Role::Partner {
                let refused = answer.expect_err("hidden");
                let hidden = renamed(&refused, "no-such-view-here", "partner-lifecycle");
                if hidden != absent || hidden.0 != Code::NotFound {
                    note(
                        name,
                        role_name,
                        format!("{refused:?} is not how absence is told"),
                    );
                }
            } else if code(&answer) != Code::PermissionDenied
                || reason(&answer.as_ref().unwrap_err().clone()) != "ROLE_NOT_ALLOWED"
            {
                note(name, role_name, format!("{answer:?}, not refused"));
            }
        }
    }
    let anonymous = world.anonymous().await;
    for (name, _, request, _) in &table {
        let answer = anonymous.call(&method(name), request).await;
        if code(&answer) != Code::Unauthenticated
            || reason(&answer.as_ref().unwrap_err().clone()) != "UNAUTHENTICATED"
        {
            note(name, "nobody", format!("{answer:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// K-27, I-13: what a partner's user may not know of is answered, to the byte, like what does not exist.
#[tokio::test(flavor = "multi_thread")]
async fn i13_k27_what_is_hidden_is_worded_like_what_is_absent() {
    let world = World::new().await;
    let partner = world.role(Role::Partner).await;
    let cases = [
        (
            "PartnershipService.GetPartnership",
            json!({"partner": "Initech"}),
            "Initech",
            "Nowhere",
        ),
        (
            "ProgramService.GetMetrics",
            json!({"filter": {"partners": ["p2"]}}),
            "p2",
            "zz",
        ),
        (
            "ProgramService.ListAlerts",
            json!({"filter": {"partners": ["p2"]}}),
            "p2",
            "zz",
        ),
        (
            "ProgramIntelligenceService.GetViewPreferences",
            json!({"view": "partner-lifecycle"}),
            "partner-lifecycle",
            "no-such-view-here",
        ),
        (
            "ProgramIntelligenceService.UpdateViewPreferences",
            json!({"view": "partner-lifecycle"}),
            "partner-lifecycle",
            "no-such-view-here",
        ),
        (
            "ProgramIntelligenceService.GetViewPreferences",
            json!({"view": "engagement"}),
            "engagement",
            "engagemend",
        ),
    ];
    for (name, request, there, absent) in cases {
        let method = method(name);
        let hidden = partner.call(&method, &request).await.unwrap_err();
        let text = request.to_string().replace(there, absent);
        let request = serde_json::from_str(&text).unwrap();
        let missing = partner.call(&method, &request).await.unwrap_err();
        assert_eq!(hidden.code(), Code::NotFound, "{name}");
        assert_eq!(reason(&hidden), "NOT_FOUND", "{name}");
        assert_eq!(
            renamed(&hidden, there, absent),
            renamed(&missing, absent, absent),
            "{name}"
        );
    }
    // What it does see is its own company, although its token names the partnership and records the profile.
    let overview = partner
        .call(
            &method("ProgramService.GetPartnerOverview"),
            &json!({"partner": "p2"}),
        )
        .await
        .unwrap();
    let overview = serde_json::to_value(&overview).unwrap();
    assert_eq!(
        (&overview["partner"], &overview["profile"]["name"]),
        (&json!("p1"), &json!("Globex"))
    );
    assert_eq!(overview["deals"].as_array().unwrap().len(), 1);
    let alerts = partner
        .call(&method("ProgramService.ListAlerts"), &json!({}))
        .await
        .unwrap();
    let alerts = serde_json::to_value(&alerts).unwrap();
    let alerts: Vec<_> = alerts["alerts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["id"])
        .collect();
    assert_eq!(alerts, ["stalled_deal:d1"]);
}

fn with(base: &Value, field: &str, value: &Value) -> Value {
    let mut request = base.clone();
    request[field] = value.clone();
    request
}

/// The entries of a page: the answer's first repeated field.
fn entries(answer: &DynamicMessage) -> Vec<FieldValue> {
    let list = answer
        .descriptor()
        .fields()
        .find(prost_reflect::FieldDescriptor::is_list);
    answer.get_field(&list.unwrap()).as_list().unwrap().to_vec()
}

fn next_token(answer: &DynamicMessage) -> String {
    let token = answer.get_field_by_name("next_page_token").unwrap();
    token.as_str().unwrap().to_owned()
}

async fn is_refused(admin: &Caller, name: &str, request: &Value, problem: &str) {
    let answer = admin.call(&method(name), request).await;
    let Err(status) = answer else {
        panic!("{name} takes {problem}: {request}");
    };
    // Where nothing is shared with a partner there is no listing that a token could continue.
    let is_not_shared = problem == "another partner" && reason(&status) == "SHARING_NOT_ACTIVE";
    assert!(
        reason(&status) == "PAGE_TOKEN_INVALID" || is_not_shared,
        "{name}, {problem}: {status:?}"
    );
}

/// G-19, K-27: a page token continues its own listing, filter and order, and nothing else, to the bit.
#[tokio::test(flavor = "multi_thread")]
async fn g19_page_tokens_are_bound_to_filter_and_order() {
    let listings = listings();
    let paged: BTreeSet<String> = methods()
        .into_iter()
        .filter(|(_, method)| method.input().get_field_by_name("page_token").is_some())
        .map(|(name, _)| name)
        .collect();
    let entered: BTreeSet<String> = listings.keys().map(|&name| name.to_owned()).collect();
    assert_eq!(entered, paged, "every paged method has one entry");
    let world = World::new().await;
    let admin = world.admin().await;
    let mut tokens = BTreeMap::new();
    for (&name, (base, others)) in &listings {
        let input = method(name).input();
        let filters: BTreeSet<String> = input
            .fields()
            .map(|field| field.name().to_owned())
            .filter(|field| !["page_size", "page_token"].contains(&field.as_str()))
            .collect();
        let changed: BTreeSet<String> = others.as_object().unwrap().keys().cloned().collect();
        assert_eq!(changed, filters, "{name}: every field has another value");
        let first_request = with(base, "page_size", &json!(1));
        let first = admin.call(&method(name), &first_request).await.unwrap();
        let token = next_token(&first);
        assert_eq!(entries(&first).len(), 1, "{name}");
        assert!(!token.is_empty(), "{name} has a second page");
        let continued = with(&first_request, "page_token", &json!(token));
        let second = admin.call(&method(name), &continued).await.unwrap();
        assert_eq!(entries(&second).len(), 1, "{name}");
        assert_ne!(entries(&first), entries(&second), "{name}");
        // The same again, and pages of another size, are fine.
        let again = admin.call(&method(name), &continued).await.unwrap();
        assert_eq!(entries(&again), entries(&second), "{name}");
        let larger = with(&continued, "page_size", &json!(7));
        let larger = admin.call(&method(name), &larger).await.unwrap();
        assert_eq!(entries(&larger)[0], entries(&second)[0], "{name}");
        for (field, value) in others.as_object().unwrap() {
            let request = with(&continued, field, value);
            is_refused(&admin, name, &request, &format!("another {field}")).await;
        }
        let flipped = |at: usize| {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            String::from_utf8(bytes).unwrap()
        };
        let mut wrong: Vec<String> = (0..token.len()).map(flipped).collect();
        wrong.push(token[1..].to_owned());
        wrong.push(token[..token.len() - 1].to_owned());
        wrong.push(format!("{token}AAAA"));
        wrong.push("?".to_owned());
        for wrong in wrong {
            let request = with(&continued, "page_token", &json!(wrong));
            is_refused(&admin, name, &request, "a changed token").await;
        }
        tokens.insert(name, token);
    }
    for (&name, (base, _)) in &listings {
        for (&other, token) in &tokens {
            if other != name {
                let request = with(base, "page_token", &json!(token));
                is_refused(&admin, name, &request, &format!("a token of {other}")).await;
            }
        }
    }
}

/// Field masks: every field of the message alone, and nothing that is no field; enumerated from the descriptors.
#[tokio::test(flavor = "multi_thread")]
async fn g15_k29_field_masks_take_fields_and_nothing_else() {
    let masked: Vec<(String, String)> = methods()
        .into_iter()
        .flat_map(|(name, method)| {
            let fields: Vec<_> = method.input().fields().collect();
            fields.into_iter().filter_map(move |field| {
                let message = field.kind().as_message()?.full_name().to_owned();
                let is_mask = message == "google.protobuf.FieldMask";
                is_mask.then(|| (name.clone(), field.name().to_owned()))
            })
        })
        .collect();
    let expected = [
        ("EngagementService.ListLeaderboard", "read_mask"),
        ("ProgramService.UpdateProgramSettings", "update_mask"),
    ];
    assert_eq!(
        masked,
        expected.map(|(name, field)| (name.to_owned(), field.to_owned()))
    );
    let world = World::new().await;
    let admin = world.admin().await;
    for (name, field) in expected {
        for wrong in ["nothing", "rank.nothing"] {
            let request = json!({field: format!("{wrong},x")});
            let refused = admin.call(&method(name), &request).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{name} {wrong}");
            assert!(refused.message().starts_with(field), "{refused:?}");
        }
    }
    let [(board, read_mask), (update, update_mask)] = expected;
    let columns = method(board).output().get_field_by_name("rows").unwrap();
    for column in columns.kind().as_message().unwrap().fields() {
        let request = json!({read_mask: column.json_name()});
        let answer = admin.call(&method(board), &request).await.unwrap();
        let rows = entries(&answer);
        assert!(!rows.is_empty());
        for row in rows {
            let row = row.as_message().unwrap().clone();
            let set: Vec<_> = row
                .fields()
                .map(|(field, _)| field.name().to_owned())
                .collect();
            assert!(set.iter().all(|name| name == column.name()), "{set:?}");
        }
    }
    // Each setting changes alone: what the mask does not name stays, although the request has another value for it.
    let values = json!({
        "stalled_deal_days": 1, "certification_expiry_days": 2, "swing_percent": 3, "approval_drop_points": 4,
        "enabled_types": ["PARTNER_TYPE_RESELLER"], "stage_probabilities": [{"stage": "Lead", "probability_bp": 5}],
    });
    let settings = method(update)
        .input()
        .get_field_by_name("settings")
        .unwrap();
    let mut before = admin
        .call(&method(update), &json!({"settings": {}}))
        .await
        .unwrap();
    for setting in settings.kind().as_message().unwrap().fields() {
        let request = json!({"settings": values, update_mask: setting.json_name()});
        let answer = admin.call(&method(update), &request).await.unwrap();
        let read = |answer: &DynamicMessage| {
            let settings = answer.get_field_by_name("settings").unwrap().into_owned();
            serde_json::to_value(settings.as_message().unwrap()).unwrap()
        };
        let (old, new) = (read(&before), read(&answer));
        let changed: Vec<_> = new
            .as_object()
            .unwrap()
            .iter()
            .filter(|(key, value)| old.get(key.as_str()) != Some(value))
            .map(|(key, _)| key.as_str())
            .collect();
        assert_eq!(changed, [setting.json_name()]);
        before = answer;
    }
}
