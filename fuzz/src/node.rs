//! Seeds of the targets that read what a node reads: notices, files, tokens, configuration.

use std::{path::Path, sync::Arc};

use overlap_proto::{
    exchange::v1::DeliverRequest,
    v1::{KeyType, RecordKind, SharingPolicy, Tier},
};
use overlap_server::{
    clock::MockClock,
    convert::Page,
    demo::companies::{self, Side},
    fuzzing,
    node::Node,
    partnership::Partnership,
};
use prost::Message as _;
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use crate::seeds::{Seed, Seeds};

/// The hour at which everything happens.
pub const NOW: &str = "2026-03-01T12:00:00Z";

/// A clock that stands still.
#[must_use]
pub fn clock() -> MockClock {
    MockClock::new(NOW.parse().unwrap())
}

/// A node with a partner and terms in force, and the proposal that led to them.
#[must_use]
pub fn partnered(directory: &Path) -> (Arc<Node>, Partnership, Vec<u8>) {
    let tiers = [("Lead", Tier::Count), ("Customer", Tier::List)];
    let policy = SharingPolicy {
        stages: tiers
            .into_iter()
            .map(|(stage, tier)| (stage.to_owned(), tier.into()))
            .collect(),
        shared_fields: vec!["name".to_owned()],
        timeline: true,
        match_on: vec![KeyType::Email.into()],
        min_count: 3,
        ..SharingPolicy::default()
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(fuzzing::partnered(directory, Arc::new(clock()), policy))
        .unwrap()
}

/// Deliveries one after the other, each with its length before it.
#[must_use]
pub fn deliveries<'a>(notices: impl IntoIterator<Item = (&'a str, Value)>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for ((kind, body), sequence) in notices.into_iter().zip(1..) {
        let notice = DeliverRequest {
            notice_id: format!("ntc_{sequence}"),
            kind: kind.to_owned(),
            body: body.to_string().into_bytes(),
            sequence,
        }
        .encode_to_vec();
        bytes.extend(u16::try_from(notice.len()).unwrap().to_be_bytes());
        bytes.extend(notice);
    }
    bytes
}

fn notices() -> Vec<Seed> {
    let directory = tempfile::tempdir().unwrap();
    let (node, _, proposal) = partnered(directory.path());
    let kinds = fuzzing::notice_kinds(&node);
    let proposal: Value = serde_json::from_slice(&proposal).unwrap();
    let (generation, mut document) = (proposal["generation"].clone(), proposal["document"].clone());
    let proposed = |number: u64, document: &Value| json!({ "generation": generation, "number": number, "document": document });
    let before = document.clone();
    document["timeline"] = json!(false);
    let handle = "00112233445566778899aabbccddeeff";
    let at = 1_772_000_000_000_000_i64;
    let asset = json!({
        "id": "ast_1", "revision": 1, "kind": "ASSET_KIND_ONE_PAGER", "title": "Title", "file_name": "a.pdf",
        "media_type": "application/pdf", "description": "", "bytes": 4, "sha256": "00".repeat(32),
        "created_us": at, "shared_us": at,
    });
    let info = json!({
        "name": "Globex", "description": "", "website_uri": "https://globex.example", "logo_uri": "", "industry": "",
        "regions": ["EU"], "contacts": [{"name": "A", "role": "", "email": "a@globex.example", "phone": "+41446681800"}],
    });
    let runs: Vec<Vec<(&str, Value)>> = vec![
        vec![("sharing.proposed", proposed(2, &before))],
        vec![
            (
                "sharing.tightened",
                json!({ "generation": generation, "number": 2, "base": 1, "document": document }),
            ),
            ("sharing.proposed", proposed(3, &before)),
        ],
        vec![(
            "sharing.accepted",
            json!({ "generation": generation, "approves": proposal["number"], "number": 1, "document": before }),
        )],
        vec![(
            "sharing.declined",
            json!({ "generation": generation, "number": proposal["number"] }),
        )],
        vec![
            (
                "sharing.ended",
                json!({ "generation": 2, "how": "REVOKED" }),
            ),
            (
                "sharing.proposed",
                json!({ "generation": 2, "number": 2, "document": before }),
            ),
        ],
        vec![("partnership.revoked", json!({}))],
        vec![(
            "partnership.profile",
            json!({ "organization": "Globex", "endpoint": "globex.example:7650" }),
        )],
        vec![(
            "partner_info.updated",
            json!({ "revision": 1, "info": info }),
        )],
        vec![
            (
                "attribution.requested",
                json!({ "id": "atr_1", "ref": handle, "details": "why", "requested_us": at }),
            ),
            ("attribution.cancel", json!({ "id": "atr_1" })),
        ],
        vec![(
            "attribution.ended",
            json!({ "id": "atr_1", "outcome": "APPROVED", "comment": "", "decided_us": at }),
        )],
        vec![
            ("asset.shared", asset),
            (
                "asset.piece",
                json!({ "id": "ast_1", "offset": 0, "bytes": "AAAAAA==" }),
            ),
            ("asset.unshared", json!({ "id": "ast_1", "revision": 2 })),
        ],
        vec![("asset.wanted", json!({ "id": "ast_1", "offset": 0 }))],
        vec![
            (
                "timeline.events",
                json!({ "customers": { handle: [{ "id": "e1", "at_us": at, "type": "SIGNED", "label": "" }] } }),
            ),
            ("timeline.withdrawn", json!({ "ids": ["e1"] })),
        ],
    ];
    for (kind, _) in runs.iter().flatten() {
        assert!(kinds.contains(kind), "{kind} is no notice");
    }
    for kind in kinds {
        assert!(
            runs.iter().flatten().any(|(seed, _)| *seed == kind),
            "{kind} has no seed"
        );
    }
    runs.into_iter()
        .enumerate()
        .map(|(number, notices)| (format!("notices-{number}"), deliveries(notices)))
        .collect()
}

/// A value of a field, as JSON has it.
fn sample(field: &FieldDescriptor) -> Value {
    let value = match field.kind() {
        Kind::Message(message) => match message.full_name() {
            "google.protobuf.Timestamp" => json!(NOW),
            "google.protobuf.Duration" => json!("60s"),
            _ => object(&message),
        },
        Kind::Enum(of) => json!(of.values().last().unwrap().name()),
        Kind::String => json!("EUR"),
        Kind::Bytes => json!("AAAA"),
        Kind::Bool => json!(true),
        _ => json!(1),
    };
    if field.is_list() {
        json!([value])
    } else {
        value
    }
}

fn object(message: &MessageDescriptor) -> Value {
    message
        .fields()
        .filter(|field| !field.is_map() && field.containing_oneof().is_none())
        .map(|field| (field.name().to_owned(), sample(&field)))
        .collect::<Map<_, _>>()
        .into()
}

/// The kinds of records by the first byte of an input.
#[must_use]
pub fn kinds() -> Vec<RecordKind> {
    (1..=19)
        .filter_map(|kind| RecordKind::try_from(kind).ok())
        .collect()
}

/// Inputs of the target of imports: a byte for the kind, one for the format, the file.
fn imports() -> Vec<Seed> {
    let mut seeds: Vec<Seed> = Vec::new();
    let csv = companies::customers_csv(Side::A);
    let lines: Vec<&str> = csv.lines().take(40).collect();
    seeds.push((
        "customers-csv".to_owned(),
        [vec![0, 0], lines.join("\n").into_bytes()].concat(),
    ));
    let ndjson = json!({
        "id": "a1", "stage": "Lead", "email": ["a@b.example"], "phone": "+41446681800", "domain": "b.example",
        "external_id": "X1", "name": "A", "private": false, "size": "10",
    });
    seeds.push((
        "customers-ndjson".to_owned(),
        [vec![0, 1], format!("{ndjson}\n").into_bytes()].concat(),
    ));
    let pool = DescriptorPool::decode(overlap_proto::DESCRIPTORS).unwrap();
    let record = pool.get_message_by_name("overlap.v1.Record").unwrap();
    let contents = record.oneofs().next().unwrap();
    for (number, kind) in (1_u8..).zip(kinds()) {
        let name = kind
            .as_str_name()
            .trim_start_matches("RECORD_KIND_")
            .to_lowercase();
        let field = contents
            .fields()
            .find(|field| field.name() == name)
            .unwrap_or_else(|| panic!("{name} is a record"));
        let Kind::Message(message) = field.kind() else {
            panic!("{name} is a message");
        };
        let content = object(&message);
        let whole = json!({ "id": "r1", "updated_at": NOW, name: content });
        seeds.push((
            format!("{}-ndjson", field.name()),
            [vec![number, 1], format!("{whole}\n").into_bytes()].concat(),
        ));
        let columns: Vec<(String, String)> = content
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| {
                let text = match value {
                    Value::String(text) => text.clone(),
                    Value::Object(money) if money.contains_key("currency_code") => {
                        "1234.50 EUR".to_owned()
                    }
                    Value::Array(values) if values[0].is_string() => "a;b".to_owned(),
                    other => format!("\"{}\"", other.to_string().replace('"', "\"\"")),
                };
                (name.clone(), text)
            })
            .collect();
        let names: Vec<&str> = columns.iter().map(|column| column.0.as_str()).collect();
        let values: Vec<&str> = columns.iter().map(|column| column.1.as_str()).collect();
        let file = format!(
            "id,updated_at,{}\nr1,{NOW},{}\n",
            names.join(","),
            values.join(",")
        );
        seeds.push((
            format!("{}-csv", field.name()),
            [vec![number, 0], file.into_bytes()].concat(),
        ));
    }
    seeds
}

/// Inputs of the target of texts: a byte for what it is, the text.
fn texts() -> Vec<Seed> {
    let policy = "[stages]\nLead = \"count\"\nCustomer = \"list\"\n[fields]\nshare = [\"name\"]\n[keys]\nmatch_on = [\"email\"]\n\
                  [limits]\nmin_count = 5\n";
    let config = "organization = \"Acme\"\ndefault_region = \"CH\"\n[exchange]\nlisten = \"127.0.0.1:7650\"\n\
                  [limits]\nidle_timeout = \"2m\"\nmax_frame_bytes = 1048576\n";
    let invite = "overlap-invite-1.eyJlbmRwb2ludCI6ImFjbWUuZXhhbXBsZTo3NjUwIn0";
    let seeds: [(u8, &str, Vec<u8>); 6] = [
        (0, "token", Page::token(7, "filter").into_bytes()),
        (0, "invitation", invite.as_bytes().to_vec()),
        (1, "position", b"1772000000000000 id".to_vec()),
        (
            1,
            "position-of-records",
            [7_i64.to_be_bytes().as_slice(), b"id"].concat(),
        ),
        (2, "configuration", config.as_bytes().to_vec()),
        (3, "policy", policy.as_bytes().to_vec()),
    ];
    seeds
        .into_iter()
        .map(|(what, name, text)| (name.to_owned(), [vec![what], text].concat()))
        .collect()
}

/// The seeds of these targets.
#[must_use]
pub fn seeds() -> Vec<Seeds> {
    vec![
        ("notices", notices()),
        ("imports", imports()),
        ("texts", texts()),
    ]
}
