//! The commands about collaboration, records, engagement and the program on real nodes: every reading command in its three
//! forms, with values reckoned by hand.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "e2e_cli/collaboration.rs"]
mod collaboration;
mod e2e;
#[path = "e2e_cli/numbers.rs"]
mod numbers;
mod oracle;

use std::fs;

use collaboration::{
    changes_are_followed, p03_partner_information, p17_p30_timeline, p19_p27_attribution,
    p24_p26_assets,
};
use e2e::{Node, agree, pair, run_match, wait};
use numbers::{
    g04_g20_engagement, i04_i21_intelligence, k16_scorecard, k17_k22_program, k28_exports,
    k35_imports_repeat_and_say_what_is_wrong, program, settings_and_preferences,
};
use serde_json::{Value, json};

/// What a command prints: for people, for programs, for spreadsheets.
struct Printed {
    table: String,
    json: Value,
    csv: Vec<Vec<String>>,
}

impl Printed {
    /// A spreadsheet's cell by its row's first cells and its column.
    fn cell(&self, first: &[&str], column: &str) -> &str {
        let at = self.csv[0].iter().position(|name| name == column);
        let at = at.unwrap_or_else(|| panic!("no column {column}: {:?}", self.csv[0]));
        let row = self.csv[1..]
            .iter()
            .find(|row| row.iter().zip(first).all(|(cell, first)| cell == first))
            .unwrap_or_else(|| panic!("no row {first:?}: {:?}", self.csv));
        &row[at]
    }
}

fn printed(node: &Node, arguments: &[&str]) -> Printed {
    let table = node.run(arguments);
    assert!(!table.trim().is_empty(), "{arguments:?} says nothing");
    assert!(!table.contains('\x1b'), "{arguments:?} colours a file");
    let json = node.json(arguments);
    let text = node.run([arguments, &["--output", "csv"]].concat());
    // The reader refuses rows of different lengths.
    let csv = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(text.as_bytes())
        .records()
        .map(|row| row.unwrap().iter().map(str::to_owned).collect())
        .collect();
    Printed { table, json, csv }
}

fn import(node: &Node, kind: &str, name: &str, content: &str) -> String {
    let file = node.write(name, content);
    node.run(["records", "import", file.to_str().unwrap(), "--kind", kind])
}

#[test]
fn numbers_of_a_quarter_reckoned_by_hand() {
    let node = program();
    k35_imports_repeat_and_say_what_is_wrong(&node);
    k16_scorecard(&node);
    k17_k22_program(&node);
    i04_i21_intelligence(&node);
    g04_g20_engagement(&node);
    k28_exports(&node);
    settings_and_preferences(&node);
}

const POLICY: &str = "\
[stages]
Prospect = \"list\"
Customer = \"list\"
[fields]
timeline = true
[keys]
match_on = [\"email\"]
";

#[test]
fn two_companies_collaborate() {
    let (a, b) = pair();
    a.import("id,stage,email,name\nc1,Prospect,anna@initrode.com,Initrode\nc2,Customer,bob@hooli.com,Hooli\n");
    b.import("id,stage,email,name\ng1,Customer,anna@initrode.com,Initrode Ltd\ng2,Customer,bob@hooli.com,Hooli AG\n");
    for (node, event) in [
        (&a, "c1-1,c1,STAGE_CHANGED,2026-01-02T00:00:00Z,Prospect"),
        (&b, "g1-1,g1,STAGE_CHANGED,2026-01-05T00:00:00Z,Customer"),
    ] {
        let events = format!("id,customer,type,at,label\n{event}\n");
        import(node, "lifecycle-events", "lifecycle.csv", &events);
    }
    import(
        &a,
        "referrals",
        "referrals.csv",
        "id,partner,customer,referred_at,status\nf1,Globex,c1,2026-01-01T00:00:00Z,ACCEPTED\n",
    );
    agree((&a, POLICY), (&b, POLICY));
    run_match(&a, &b);

    p17_p30_timeline(&a);
    p19_p27_attribution(&a, &b);
    p24_p26_assets(&a, &b);
    p03_partner_information(&a, &b);
    changes_are_followed(&a);
}
