//! What the commands about attribution, timelines, assets and changes print, written by hand.

use serde_json::{Value, json};

use crate::{fake::FakeNode, json_of, overlap, text};

#[test]
fn p20_p21_attributions() {
    let expected = "\
ID     DIRECTION  STATE     CUSTOMER  REQUESTED AT          DECIDED AT            DETAILS                                   COMMENT
atr_2  sent       APPROVED  c1        2026-05-04 09:30 UTC  2026-05-04 09:31 UTC  We introduced them at the fair, and sta…  Yes
atr_1  sent       PENDING   c1        2026-05-04 09:30 UTC  -                     We introduced them at the fair, and sta…  -
";
    assert_eq!(text(&["attribution", "sent", "Globex"]), expected);
    let all = json_of(&["attribution", "list", "Globex"]);
    assert_eq!(all.as_array().unwrap().len(), 2);
    assert_eq!(all[1]["decided_at"], Value::Null);
    assert_eq!(
        all[0]["details"],
        "We introduced them at the fair, and stayed in touch"
    );

    let node = FakeNode::start();
    let filed = overlap(
        &node,
        &[
            "attribution",
            "request",
            "Globex",
            "c7",
            "--details",
            " By us ",
            "--request-id",
            "r-1",
            "-o",
            "json",
        ],
    )
    .json();
    assert_eq!(filed["customer"], "c7");
    let request = &node.requests("request_attribution")[0];
    assert!(
        request.contains("details: \"By us\"") && request.contains("request_id: \"r-1\""),
        "{request}"
    );
    let cancelled = overlap(&node, &["attribution", "withdraw", "Globex", "atr_1"]).done();
    assert!(cancelled.contains("has not confirmed yet"), "{cancelled}");
    let denied = overlap(
        &node,
        &["attribution", "reject", "Globex", "atr_1", "-o", "json"],
    )
    .json();
    assert_eq!(denied["state"], "DENIED");
}

#[test]
fn p27_attribution_metrics() {
    let expected = "\
Approved attributions with Globex
MONTH    SENT APPROVED  BY THE PARTNER    RECEIVED APPROVED  BY YOU
2026-03              4  ████████████████                  0
2026-04              2  ████████                          1  ████

over all time: 12 of yours approved by the partner, 4 of the partner's approved by you
as of 2026-05-04 09:30 UTC
";
    assert_eq!(text(&["attribution", "metrics", "Globex"]), expected);
}

#[test]
fn p17_p18_timeline_says_what_the_partner_keeps() {
    let expected = "\
Timeline of c1 with Globex
AT                    SIDE  TYPE              LABEL  PARTNER
2026-05-04 09:30 UTC  mine  stage changed     Deal   -
2026-05-04 09:31 UTC  mine  first engagement  -      globex

The partner does not share its timeline: only your side is known. [NOT_SHARED]
";
    assert_eq!(text(&["timeline", "show", "Globex", "c1"]), expected);
    let customer = json_of(&["customer", "Globex", "c1", "--timeline"]);
    assert_eq!(customer["timeline"]["partner_timeline"], "NOT_SHARED");
    assert_eq!(customer["timeline"]["events"][0]["type"], "STAGE_CHANGED");
    let table = text(&["customer", "Globex", "c1", "--timeline"]);
    assert!(table.contains("\nTimeline\nAT "), "{table}");
}

#[test]
fn p28_p29_movements_and_conversion() {
    let expected = "\
Movement between stages with Globex
SIDE  FROM  TO    COUNT                    BY MONTH
mine  Lead  Deal      8  ████████████████  █▁▂

2026-02 to 2026-04
The partner shares its timeline.
";
    assert_eq!(text(&["timeline", "movements", "Globex"]), expected);
    let expected = "\
Prospects referred by Globex
REFERRED  CONVERTED  CONVERSION
       0          0           -

as of 2026-05-04 09:30 UTC
";
    assert_eq!(text(&["timeline", "conversion", "Globex"]), expected);
}

#[test]
fn p24_a_download_is_checked_before_it_is_saved() {
    let node = FakeNode::start();
    let path = node.dir().join("case.txt");
    let to = path.to_str().unwrap();
    let saved = overlap(
        &node,
        &[
            "assets", "download", "ast_1", "--from", "Globex", "--to", to,
        ],
    )
    .done();
    assert_eq!(
        saved,
        format!(
            "{to}: 5 B saved\nsha256 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824 checked\n"
        )
    );
    assert_eq!(std::fs::read(&path).unwrap(), b"hello");
    let twice = overlap(&node, &["assets", "download", "ast_1", "--to", to]).failed();
    assert!(
        twice.contains("--force") && twice.ends_with("[ALREADY_EXISTS]"),
        "{twice}"
    );
    for (id, problem) in [
        ("ast_forged", "SHA-256"),
        ("ast_short", "the end of the file"),
        ("ast_long", "where it was announced"),
    ] {
        let refused = overlap(&node, &["assets", "download", id, "--to", to, "--force"]).failed();
        assert!(refused.contains(problem), "{refused}");
    }
    assert_eq!(
        std::fs::read(&path).unwrap(),
        b"hello",
        "what was there stays"
    );
    // A partner does not choose the folder.
    let led_out = overlap(&node, &["assets", "download", "ast_named"]).failed();
    assert!(led_out.contains("--to FILE"), "{led_out}");
}

#[test]
fn p24_upload_announces_the_sha256() {
    let node = FakeNode::start();
    let path = node.dir().join("hello.pdf");
    std::fs::write(&path, "hello").unwrap();
    let asset = overlap(
        &node,
        &[
            "assets",
            "add",
            path.to_str().unwrap(),
            "--kind",
            "product-sheet",
            "-o",
            "json",
        ],
    )
    .json();
    assert_eq!(
        asset["sha256"],
        "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    );
    assert_eq!(asset["media_type"], "application/pdf");
    assert_eq!(asset["kind"], "PRODUCT_SHEET");
    assert_eq!(asset["size_bytes"], 5);
    let expected = "\
ID     KIND        TITLE   FILE NAME  SIZE BYTES  SHA256         CREATED AT            PARTNERS
ast_1  case study  A case  case.txt          5 B  2cf24dba5fb0…  2026-05-04 09:30 UTC         1
";
    assert_eq!(overlap(&node, &["assets", "list"]).done(), expected);
}

#[test]
fn changes_go_on_after_a_break() {
    let node = FakeNode::start();
    let lines = overlap(&node, &["changes", "watch", "--limit", "2"]).done();
    let expected = "\
2026-05-04 09:30 UTC  attribution received    p_1 s1  count=1  cur1
2026-05-04 09:30 UTC  alert                   p_1 s2  count=2  cur2
";
    assert_eq!(lines, expected);
    let calls = node.requests("watch_changes");
    assert_eq!(calls.len(), 2, "{calls:?}");
    assert!(calls[1].contains("cursor: \"cur1\""), "{calls:?}");

    let json = overlap(
        &node,
        &[
            "changes", "watch", "--from", "cur1", "--limit", "1", "-o", "json",
        ],
    )
    .json();
    assert_eq!(json["cursor"], "cur2");
    assert_eq!(json["change"]["kind"], "ALERT");
    assert_eq!(json["change"]["details"], json!({"count": "2"}));
    let old = overlap(&node, &["changes", "watch", "--from", "ancient"]).failed();
    assert!(old.ends_with("[CURSOR_TOO_OLD]"), "{old}");
}
