//! Answers chosen by hand.

use std::collections::HashMap;

use overlap_client::v1;

/// 2026-05-04 09:30:00 UTC plus some seconds.
pub(crate) fn at(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp {
        seconds: 1_777_887_000 + seconds,
        nanos: 0,
    })
}

pub(crate) fn partnership(organization: &str) -> v1::Partnership {
    v1::Partnership {
        id: "p_1".to_owned(),
        organization: organization.to_owned(),
        state: v1::PartnershipState::Connected.into(),
        endpoint: "node.globex.example:7443".to_owned(),
        fingerprint: "ab12 cd34".to_owned(),
        created_at: at(0),
        connected_at: at(60),
        revoked_at: None,
    }
}

pub(crate) fn stage(id: &str, label: &str, ordinal: u32, category: v1::StageCategory) -> v1::Stage {
    v1::Stage {
        id: id.to_owned(),
        label: label.to_owned(),
        ordinal,
        category: category.into(),
    }
}

pub(crate) fn matrix() -> v1::Matrix {
    use v1::CellState::{Counted, Disabled, Listed, NotShared, Suppressed, Withheld};
    let cell = |mine: &str, theirs: &str, state: v1::CellState, count| v1::Cell {
        mine: mine.to_owned(),
        theirs: theirs.to_owned(),
        state: state.into(),
        count,
        ..v1::Cell::default()
    };
    v1::Matrix {
        partner: "Globex".to_owned(),
        run: "r_7".to_owned(),
        mine: vec![
            stage("Prospect", "", 1, v1::StageCategory::Open),
            stage("Customer", "Kunde", 2, v1::StageCategory::Customer),
            stage("Lost", "失注", 3, v1::StageCategory::Lost),
        ],
        theirs: vec![
            stage("Lead", "", 1, v1::StageCategory::Open),
            stage("Won", "", 2, v1::StageCategory::Customer),
            stage("Gone", "", 3, v1::StageCategory::Churned),
        ],
        cells: vec![
            cell("Prospect", "Lead", Listed, Some(0)),
            cell("Prospect", "Won", Counted, Some(12)),
            cell("Prospect", "Gone", NotShared, None),
            cell("Customer", "Lead", Listed, Some(1234)),
            cell("Customer", "Won", Suppressed, None),
            cell("Customer", "Gone", NotShared, None),
            cell("Lost", "Lead", Withheld, None),
            cell("Lost", "Won", Disabled, None),
            cell("Lost", "Gone", NotShared, None),
        ],
        shared_customers: Some(1246),
        as_of: at(90),
    }
}

pub(crate) fn shared(number: usize) -> v1::SharedCustomer {
    let id = format!("c{number}");
    let mut customer = v1::SharedCustomer {
        ids: vec![id.clone()],
        id,
        name: format!("Customer {number}"),
        mine: "Customer".to_owned(),
        theirs: "Lead".to_owned(),
        matched_on: vec![v1::KeyType::Email.into()],
        r#ref: format!("ref{number}"),
        first_matched_at: at(90),
        ..v1::SharedCustomer::default()
    };
    if number == 1 {
        customer.ids.push("c1b".to_owned());
        customer.matched_on.push(v1::KeyType::Domain.into());
        customer.partner_fields = HashMap::from([
            ("name".to_owned(), "Ünïted, Inc.".to_owned()),
            ("region".to_owned(), "EMEA".to_owned()),
        ]);
        customer.target = true;
    }
    // What a partner may try on a spreadsheet, and a number.
    customer.partner_fields.extend(
        match number {
            3 => vec![("name", "=1+1"), ("region", "-1+A1")],
            4 => vec![("name", "@SUM(A1)"), ("region", "+49 30")],
            5 => vec![("name", "\t=1+1"), ("region", "-0.5")],
            _ => Vec::new(),
        }
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    customer
}

pub(crate) fn run(id: &str, state: v1::RunState) -> v1::Run {
    v1::Run {
        id: id.to_owned(),
        partner: "Globex".to_owned(),
        state: state.into(),
        initiated_here: true,
        started_at: at(0),
        ..v1::Run::default()
    }
}

pub(crate) fn evaluating(id: &str) -> v1::Run {
    v1::Run {
        progress: Some(v1::Progress {
            phase: "blinding".to_owned(),
            items_done: 450,
            items_total: 1000,
            items_per_s: 61.0,
            eta_s: Some(9.0),
        }),
        ..run(id, v1::RunState::Evaluating)
    }
}

pub(crate) fn done(id: &str) -> v1::Run {
    v1::Run {
        ended_at: at(83),
        summary: Some(v1::RunSummary {
            my_keys: 2000,
            their_keys: 3000,
            shared_customers: Some(1246),
            sent_bytes: 120_000,
            received_bytes: 98_000,
            phase_s: HashMap::from([("evaluating".to_owned(), 60.5)]),
            backend: "portable".to_owned(),
            flows: vec!["list: A queries B".to_owned()],
        }),
        ..run(id, v1::RunState::Done)
    }
}

pub(crate) fn broken(id: &str) -> v1::Run {
    v1::Run {
        ended_at: at(5),
        failure: Some(v1::RunFailure {
            reason: "PEER_FAULT".to_owned(),
            message: "chunk 3 holds a point\nthat is not canonical".to_owned(),
            fault: v1::Fault::Partner.into(),
            ..v1::RunFailure::default()
        }),
        ..run(id, v1::RunState::Failed)
    }
}

pub(crate) fn policy() -> v1::SharingPolicy {
    v1::SharingPolicy {
        stages: HashMap::from([
            ("Prospect".to_owned(), v1::Tier::Count.into()),
            ("Customer".to_owned(), v1::Tier::List.into()),
        ]),
        shared_fields: vec!["name".to_owned(), "region".to_owned()],
        timeline: true,
        match_on: vec![v1::KeyType::Email.into(), v1::KeyType::Domain.into()],
        min_count: 5,
        ..v1::SharingPolicy::default()
    }
}

pub(crate) fn sharing(state: v1::SharingState) -> v1::Sharing {
    v1::Sharing {
        partner: "Globex".to_owned(),
        state: state.into(),
        mine: Some(policy()),
        theirs: None,
        my_stages: matrix().mine,
        updated_at: at(0),
        ..v1::Sharing::default()
    }
}

pub(crate) fn customer(id: &str) -> v1::Customer {
    v1::Customer {
        id: id.to_owned(),
        stage: "Lead".to_owned(),
        emails: vec!["a@example.com".to_owned(), "b@example.com".to_owned()],
        phones: vec!["+49 30 1".to_owned()],
        name: "A \"quoted\" name".to_owned(),
        ..v1::Customer::default()
    }
}

pub(crate) fn token(id: &str) -> v1::Token {
    v1::Token {
        id: id.to_owned(),
        user: "ada".to_owned(),
        role: v1::Role::PartnerManager.into(),
        created_at: at(0),
        ..v1::Token::default()
    }
}
