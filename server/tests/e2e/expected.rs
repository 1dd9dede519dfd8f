//! What the oracle says, in the shapes that the programs print.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::oracle::{self, Cell, Side, Tier, Type};

/// A side's sharing policy as its administrator writes it.
pub fn policy_file(side: &Side) -> String {
    let mut file = String::from("[stages]\n");
    for (stage, tier) in &side.tiers {
        let tier = match tier {
            Tier::Hidden => "hidden",
            Tier::Count => "count",
            Tier::List => "list",
        };
        file.push_str(&format!("{stage} = \"{tier}\"\n"));
    }
    let keys: Vec<String> = side
        .match_on
        .iter()
        .map(|key| format!("\"{}\"", key_name(*key)))
        .collect();
    file.push_str(&format!(
        "\n[keys]\nmatch_on = [{}]\n\n[limits]\nmin_count = {}\ncount_by_count = {}\n",
        keys.join(", "),
        side.min_count,
        side.count_by_count
    ));
    file
}

fn key_name(key: Type) -> &'static str {
    match key {
        Type::ExternalId => "external_id",
        Type::Email => "email",
        Type::Phone => "phone",
        Type::Domain => "domain",
    }
}

/// A shared customer as the list shows it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shown {
    id: String,
    ids: BTreeSet<String>,
    name: String,
    mine: String,
    theirs: String,
    matched_on: BTreeSet<String>,
}

pub type Cells = BTreeMap<(String, String), (String, Option<u64>)>;

/// Compares what a node prints with what the oracle says.
pub fn assert_view(mine: &Side, theirs: &Side, (matrix, shared): &(Value, Value)) {
    let view = oracle::view(mine, theirs);
    let wanted: Cells = view
        .cells
        .iter()
        .map(|(at, (state, count)): (_, &Cell)| (at.clone(), ((*state).to_owned(), *count)))
        .collect();
    assert_eq!(cells(matrix), wanted);
    assert_eq!(matrix["shared_customers"].as_u64(), view.shared_customers);

    let wanted: Vec<Shown> = view
        .shared
        .into_iter()
        .map(|customer| Shown {
            name: format!("Name of {}", customer.id),
            id: customer.id,
            ids: customer.ids,
            mine: customer.mine,
            theirs: customer.theirs,
            matched_on: customer
                .matched_on
                .into_iter()
                .map(|key| key_name(key).to_owned())
                .collect(),
        })
        .collect();
    let mut found = rows(shared);
    found.sort();
    assert_eq!(found, wanted);
}

/// A matrix by cell; its axes name every cell, and only those.
pub fn cells(matrix: &Value) -> Cells {
    let cells: Cells = matrix["cells"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cell| {
            let at = (text(&cell["mine"]), text(&cell["theirs"]));
            (at, (text(&cell["state"]), cell["count"].as_u64()))
        })
        .collect();
    let axis = |name: &str| -> Vec<String> {
        matrix[name].as_array().unwrap().iter().map(text).collect()
    };
    let (mine, theirs) = (axis("mine"), axis("theirs"));
    assert_eq!(cells.len(), mine.len() * theirs.len());
    for row in &mine {
        for column in &theirs {
            assert!(cells.contains_key(&(row.clone(), column.clone())));
        }
    }
    cells
}

pub fn rows(shared: &Value) -> Vec<Shown> {
    shared
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            assert_eq!(row["partner_fields"], serde_json::json!({}));
            assert!(row["ref"].is_string());
            Shown {
                id: text(&row["id"]),
                ids: texts(&row["ids"]),
                name: text(&row["name"]),
                mine: text(&row["mine"]),
                theirs: text(&row["theirs"]),
                matched_on: texts(&row["matched_on"]),
            }
        })
        .collect()
}

fn texts(value: &Value) -> BTreeSet<String> {
    value.as_array().unwrap().iter().map(text).collect()
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
