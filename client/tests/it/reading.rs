//! What reading commands print.

use serde_json::json;

use crate::{fake::FakeNode, overlap};

#[test]
fn p_05_p_06_p_09_matrix_as_json() {
    let node = FakeNode::start();
    let matrix = overlap(&node, &["matrix", "Globex", "--output", "json"]).json();
    let cell = |mine: &str, theirs: &str, state: &str, count: Option<u64>| json!({"mine": mine, "theirs": theirs, "state": state, "count": count});
    assert_eq!(
        matrix,
        json!({
            "partner": "Globex",
            "run": "r_7",
            "mine": ["Prospect", "Customer", "Lost"],
            "theirs": ["Lead", "Won", "Gone"],
            "cells": [
                cell("Prospect", "Lead", "LISTED", Some(0)),
                cell("Prospect", "Won", "COUNTED", Some(12)),
                cell("Prospect", "Gone", "NOT_SHARED", None),
                cell("Customer", "Lead", "LISTED", Some(1234)),
                cell("Customer", "Won", "SUPPRESSED", None),
                cell("Customer", "Gone", "NOT_SHARED", None),
                cell("Lost", "Lead", "WITHHELD", None),
                cell("Lost", "Won", "DISABLED", None),
                cell("Lost", "Gone", "NOT_SHARED", None),
            ],
            "shared_customers": 1246
        })
    );
}

#[test]
fn p_05_p_09_matrix_as_a_grid() {
    let node = FakeNode::start();
    let text = overlap(&node, &["matrix", "Globex"]).done();
    let expected = "\
Shared customers with Globex, run r_7, 2026-05-04 09:31:30 UTC

mine \\ theirs │  Lead │ Won │ Gone
──────────────┼───────┼─────┼─────
Prospect      │     0 │ 12# │    –
Kunde         │ 1,234 │  <k │    –
失注          │     × │ off │    –

1,246 shared customers in visible cells
  n    shared customers, listed by \"overlap shared\"
  n#   number only, not who
  <k   fewer than the reporter's threshold, maybe none, or held back
  –    the partner hides this stage
  ×    you hide this stage
  off  both sides allow counts only, and not both enabled count by count
";
    assert_eq!(text, expected);
}

#[test]
fn p_09_matrix_as_csv_leaves_unknown_counts_empty() {
    let node = FakeNode::start();
    let text = overlap(&node, &["matrix", "Globex", "-o", "csv"]).done();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "mine,theirs,state,count");
    assert_eq!(lines[1], "Prospect,Lead,LISTED,0");
    assert_eq!(lines[3], "Prospect,Gone,NOT_SHARED,");
    assert_eq!(lines.len(), 10);
}

#[test]
fn p_13_every_page_of_the_list_as_json() {
    let node = FakeNode::start();
    let shared = overlap(&node, &["shared", "Globex", "--output", "json"]).json();
    assert_eq!(
        shared[0],
        json!({
            "id": "c1",
            "ids": ["c1", "c1b"],
            "name": "Customer 1",
            "mine": "Customer",
            "theirs": "Lead",
            "matched_on": ["email", "domain"],
            "ref": "ref1",
            "partner_fields": {"name": "Ünïted, Inc.", "region": "EMEA"}
        })
    );
    let ids: Vec<&str> = shared
        .as_array()
        .unwrap()
        .iter()
        .map(|customer| customer["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["c1", "c2", "c3", "c4", "c5"]);
    let requests = node.requests("list_shared_customers");
    assert_eq!(requests.len(), 3);
    assert!(requests[2].contains("after:4"), "{}", requests[2]);
}

#[test]
fn p_13_a_limit_ends_the_list() {
    let node = FakeNode::start();
    let shared = overlap(&node, &["shared", "Globex", "--limit", "3", "-o", "json"]).json();
    assert_eq!(shared.as_array().unwrap().len(), 3);
    assert_eq!(node.requests("list_shared_customers").len(), 2);
    let text = overlap(&node, &["shared", "Globex", "--limit", "1"]).done();
    assert_eq!(text.lines().last(), Some("1 of 5"));
    let none = overlap(&node, &["shared", "Globex", "--limit", "0", "-o", "json"]).json();
    assert_eq!(none, json!([]));
}

#[test]
fn p_13_a_list_of_counts_only_says_so() {
    let node = FakeNode::start();
    let text = overlap(&node, &["shared", "Counts"]).done();
    assert!(text.contains("[COUNTS_ONLY]"), "{text}");
    let shared = overlap(&node, &["shared", "Counts", "-o", "json"]).json();
    assert_eq!(shared, json!([]));
    let text = overlap(&node, &["shared", "Counts", "-o", "csv"]).done();
    assert_eq!(text, "id,ids,name,mine,theirs,matched_on,ref\n");
}

#[test]
fn p_12_p_14_p_15_filters_reach_the_node() {
    let node = FakeNode::start();
    let arguments = [
        "shared",
        "Globex",
        "--mine",
        "Customer",
        "--theirs",
        "Won",
        "--search",
        "ünï",
        "--targets",
    ];
    overlap(&node, &arguments).done();
    let request = &node.requests("list_shared_customers")[0];
    for part in [
        "mine: \"Customer\"",
        "theirs: \"Won\"",
        "search: \"ünï\"",
        "targets_only: true",
    ] {
        assert!(request.contains(part), "{request}");
    }
}

#[test]
fn p_13_the_list_as_table_and_csv() {
    let node = FakeNode::start();
    let text = overlap(&node, &["shared", "Globex"]).done();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        "ID  NAME        MINE      THEIRS  MATCHED ON    TARGET  THEIR NAME    THEIR REGION"
    );
    assert_eq!(
        lines[1],
        "c1  Customer 1  Customer  Lead    email;domain  yes     Ünïted, Inc.  EMEA"
    );
    assert_eq!(lines[2], "c2  Customer 2  Customer  Lead    email");
    assert_eq!(lines.len(), 6);
    let text = overlap(&node, &["shared", "Globex", "-o", "csv"]).done();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        "id,ids,name,mine,theirs,matched_on,ref,partner.name,partner.region"
    );
    assert_eq!(
        lines[1],
        "c1,c1;c1b,Customer 1,Customer,Lead,email;domain,ref1,\"Ünïted, Inc.\",EMEA"
    );
    assert_eq!(lines[2], "c2,c2,Customer 2,Customer,Lead,email,ref2,,");
    // The partner's text does not run in a spreadsheet.
    let theirs: Vec<&str> = lines[3..]
        .iter()
        .map(|line| line.split_once(",email,ref").unwrap().1)
        .collect();
    assert_eq!(
        theirs,
        ["3,'=1+1,'-1+A1", "4,'@SUM(A1),'+49 30", "5,'\t=1+1,-0.5"]
    );
}

#[test]
fn p_16_a_customer_shows_both_sides_fields() {
    let node = FakeNode::start();
    let text = overlap(&node, &["customer", "Globex", "c1b"]).done();
    let expected = "\
id                c1
ids               c1;c1b
name              Customer 1
mine              Customer
theirs            Lead
matched on        email;domain
ref               ref1
target            yes
first matched at  2026-05-04 09:31:30 UTC

My fields
  owner  Ada

The partner's fields
  name    Ünïted, Inc.
  region  EMEA
";
    assert_eq!(text, expected);
    let json = overlap(&node, &["customer", "Globex", "c1b", "-o", "json"]).json();
    assert_eq!(json["my_fields"], json!({"owner": "Ada"}));
    assert_eq!(json["first_matched_at"], "2026-05-04T09:31:30Z");
    let text = overlap(&node, &["customer", "Globex", "c1b", "-o", "csv"]).done();
    assert!(text.starts_with("id,ids,name,mine,theirs,matched_on,ref,target,first_matched_at,my.owner,partner.name,partner.region\n"), "{text}");
}

#[test]
fn z_08_explain_says_why() {
    let node = FakeNode::start();
    let text = overlap(&node, &["explain", "Globex", "c1"]).done();
    let expected = "\
customer  c1
stage     Customer
tier      list: the partner may learn who
merged    c1, c1b, as Customer

KEY TYPE  RAW            NORMALIZED     OUTCOME     MATCHED    DETAIL
email     A@Example.com  a@example.com  USED        yes
phone     12                            UNPARSABLE  not known  not a telephone number

It matched on its e-mail address.
";
    assert_eq!(text, expected);
    let json = overlap(&node, &["explain", "Globex", "c1", "-o", "json"]).json();
    assert_eq!(json["keys"][1]["normalized"], json!(null));
    assert_eq!(json["keys"][1]["matched"], json!(null));
    assert_eq!(json["tier"], "list");
}

#[test]
fn p_02_partnerships_of_all_pages_are_listed() {
    let node = FakeNode::start();
    let text = overlap(&node, &["partner", "list"]).done();
    let expected = "\
ID   ORGANIZATION  STATE      ENDPOINT                  CONNECTED AT
p_1  Globex        CONNECTED  node.globex.example:7443  2026-05-04 09:31:00 UTC
p_1  東京商事      CONNECTED  node.globex.example:7443  2026-05-04 09:31:00 UTC
";
    assert_eq!(text, expected);
    let json = overlap(&node, &["partner", "list", "--connected", "-o", "json"]).json();
    assert_eq!(json[1]["organization"], "東京商事");
    assert_eq!(json[1]["state"], "CONNECTED");
    assert_eq!(json[1]["revoked_at"], json!(null));
    assert!(node.requests("list_partnerships")[2].contains("connected_only: true"));
}

#[test]
fn p_02_one_partnership() {
    let node = FakeNode::start();
    let text = overlap(&node, &["partner", "show", "Globex"]).done();
    assert!(text.contains("fingerprint   ab12 cd34\n"), "{text}");
    assert!(!text.contains("revoked"), "{text}");
}

#[test]
fn p_31_sharing_shows_both_sides() {
    let node = FakeNode::start();
    let text = overlap(&node, &["sharing", "show", "Globex"]).done();
    let expected = "\
Sharing with Globex
state    AWAITING_MY_DECISION
updated  2026-05-04 09:30:00 UTC

You disclose
  stage Prospect             count
  stage Customer             list
  stage Lost                 hidden
  match on                   email, domain
  domain from email          no
  shared fields              name, region
  timeline                   yes
  min count                  5
  count by count             no
  label field bytes          0
  padding                    0
  max evaluations per epoch  0
  min interval s             0

The partner discloses nothing yet.

Decide: overlap sharing approve Globex, or decline, or set --file FILE to change and approve
";
    assert_eq!(text, expected);
    let json = overlap(&node, &["sharing", "show", "Globex", "-o", "json"]).json();
    assert_eq!(
        json["mine"]["stages"],
        json!({"Customer": "list", "Prospect": "count"})
    );
    assert_eq!(json["theirs"], json!(null));
    let text = overlap(&node, &["sharing", "show", "Globex", "-o", "csv"]).done();
    assert!(
        text.starts_with(
            "side,setting,name,value\n,state,,AWAITING_MY_DECISION\nmine,stage,Prospect,count\n"
        ),
        "{text}"
    );
}

#[test]
fn runs_are_listed() {
    let node = FakeNode::start();
    let text = overlap(&node, &["runs", "Globex"]).done();
    let expected = "\
ID   STATE   FULL  INITIATED HERE  STARTED AT               SHARED CUSTOMERS  REASON
r_2  DONE          yes             2026-05-04 09:30:00 UTC             1,246
r_1  FAILED        yes             2026-05-04 09:30:00 UTC                    PEER_FAULT
";
    assert_eq!(text, expected);
    let json = overlap(&node, &["runs", "Globex", "--limit", "1", "-o", "json"]).json();
    assert_eq!(json.as_array().unwrap().len(), 1);
    assert_eq!(json[0]["summary"]["shared_customers"], 1246);
}

#[test]
fn own_customers_stages_tokens_and_audit_are_listed() {
    let node = FakeNode::start();
    let text = overlap(&node, &["customers", "list", "-o", "csv"]).done();
    let line = text.lines().nth(1);
    assert_eq!(
        line,
        Some("k1,Lead,\"A \"\"quoted\"\" name\",a@example.com;b@example.com,+49 30 1,,,,,,false")
    );
    let json = overlap(&node, &["customers", "list", "--limit", "1", "-o", "json"]).json();
    assert_eq!(json[0]["emails"], json!(["a@example.com", "b@example.com"]));
    assert_eq!(json.as_array().unwrap().len(), 1);

    let text = overlap(&node, &["stages", "list"]).done();
    assert_eq!(
        text.lines().nth(2),
        Some("Customer  Kunde        2  CUSTOMER")
    );

    let json = overlap(&node, &["token", "list", "-o", "json"]).json();
    assert_eq!(json[0]["role"], "PARTNER_MANAGER");
    assert_eq!(json[0].get("secret"), None);

    let text = overlap(&node, &["audit", "list", "--partner", "Globex"]).done();
    assert!(
        text.contains("sharing.policy_set  p_1      state=PROPOSED"),
        "{text}"
    );
    assert!(text.contains("1041"), "a sequence number is not an amount");
    assert!(node.requests("list_audit_events")[0].contains("partner: \"Globex\""));
}

#[test]
fn what_goes_into_a_pipe_has_no_colours() {
    let node = FakeNode::start();
    for arguments in [
        &["matrix", "Globex"][..],
        &["partner", "list"],
        &["runs", "Globex"],
    ] {
        assert!(!overlap(&node, arguments).done().contains('\x1b'));
    }
}
