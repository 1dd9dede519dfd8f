//! The commands of two companies that share customers.

use super::*;

pub(super) fn p17_p30_timeline(a: &Node) {
    wait("the partner's event arrives", || {
        a.json(["timeline", "show", "Globex", "c1"])["events"]
            .as_array()
            .unwrap()
            .len()
            == 2
    });
    let timeline = printed(a, &["timeline", "show", "Globex", "c1"]);
    let expected = "\
Timeline of c1 with Globex
AT                    SIDE     TYPE           LABEL     PARTNER
2026-01-02 00:00 UTC  mine     stage changed  Prospect  -
2026-01-05 00:00 UTC  partner  stage changed  Customer  -

The partner shares its timeline.
";
    assert_eq!(timeline.table, expected);
    assert_eq!(timeline.json["partner_timeline"], "SHARED");
    assert_eq!(timeline.cell(&["2026-01-05T00:00:00Z"], "side"), "PARTNER");
    let customer = printed(a, &["customer", "Globex", "c1", "--timeline"]);
    assert_eq!(customer.json["timeline"]["events"], timeline.json["events"]);
    let january = ["--start", "2026-01-01", "--end", "2026-02-01"];
    let movements = printed(
        a,
        &[&["timeline", "movements", "Globex"], &january[..]].concat(),
    );
    assert_eq!(
        movements.json["movements"],
        json!([
            {"side": "MINE", "from": "", "to": "Prospect", "count": 1},
            {"side": "PARTNER", "from": "", "to": "Customer", "count": 1},
        ])
    );
    let conversion = printed(
        a,
        &[&["timeline", "conversion", "Globex"], &january[..]].concat(),
    );
    assert!(
        conversion
            .table
            .contains("       1          0        0.0%\n"),
        "{}",
        conversion.table
    );
    let earlier = ["--start", "2025-01-01", "--end", "2025-02-01"];
    let nobody = printed(
        a,
        &[&["timeline", "conversion", "Globex"], &earlier[..]].concat(),
    );
    assert_eq!(nobody.json["conversion"], Value::Null);
    assert!(
        nobody.table.contains("       0          0           -\n"),
        "{}",
        nobody.table
    );
    let segments = printed(a, &["timeline", "segments", "Globex"]);
    for (segment, count) in [
        ("MUTUAL_CUSTOMERS", "1"),
        ("MY_PROSPECTS_THEIR_CUSTOMERS", "1"),
        ("COMPLEMENTARY_STAGES", "1"),
        ("ONE_SOLUTION", "1"),
        ("NEWLY_SHARED", "2"),
        ("AT_RISK", "0"),
    ] {
        assert_eq!(segments.cell(&[segment], "count"), count, "{segment}");
    }
    let listed = printed(
        a,
        &[
            "timeline",
            "segments",
            "Globex",
            "--segment",
            "mutual-customers",
        ],
    );
    assert_eq!(listed.json[0]["id"], "c2");
    assert_eq!(listed.cell(&["c2"], "theirs"), "Customer");
}

pub(super) fn p19_p27_attribution(a: &Node, b: &Node) {
    let request = [
        "attribution",
        "request",
        "Globex",
        "c1",
        "--details",
        "Introduced at the fair",
        "--request-id",
        "r1",
    ];
    let filed = a.json(request);
    assert_eq!(filed["state"], "PENDING");
    assert_eq!(
        a.json(request)["id"],
        filed["id"],
        "repeating it files nothing new"
    );
    let id = filed["id"].as_str().unwrap();
    wait("the request arrives", || {
        !b.json(["attribution", "received", "Acme", "--state", "pending"])
            .as_array()
            .unwrap()
            .is_empty()
    });
    let received = printed(b, &["attribution", "received", "Acme"]);
    assert_eq!(received.json[0]["customer"], "g1");
    assert_eq!(received.json[0]["ref"], filed["ref"]);
    assert_eq!(received.cell(&[id], "details"), "Introduced at the fair");
    let own = a.refusal(["attribution", "approve", "Globex", id]);
    assert!(own.ends_with("[OWN_REQUEST]"), "{own}");
    let approved = b.run([
        "attribution",
        "approve",
        "Acme",
        id,
        "--comment",
        "Thank you",
    ]);
    assert!(approved.contains("state         APPROVED"), "{approved}");
    let second = b.refusal(["attribution", "deny", "Acme", id]);
    assert!(second.ends_with("[ALREADY_DECIDED]"), "{second}");
    wait("the decision arrives", || {
        a.json(["attribution", "show", "Globex", id])["state"] == "APPROVED"
    });
    let shown = printed(a, &["attribution", "show", "Globex", id]);
    assert_eq!(shown.json["comment"], "Thank you");

    let other = a.json([
        "attribution",
        "request",
        "Globex",
        "c2",
        "--details",
        "By mistake",
    ]);
    let cancelled = a.json([
        "attribution",
        "cancel",
        "Globex",
        other["id"].as_str().unwrap(),
    ]);
    assert_eq!(cancelled["state"], "CANCELLED");
    let all = printed(a, &["attribution", "list", "Globex"]);
    assert_eq!(all.json.as_array().unwrap().len(), 2);
    assert_eq!(
        a.json(["attribution", "sent", "Globex", "--customer", "c1"])
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let metrics = printed(a, &["attribution", "metrics", "Globex"]);
    assert_eq!(metrics.json["sent_approved"], 1);
    let months = metrics.json["months"].as_array().unwrap();
    assert_eq!(
        (months.len(), &months[11]["sent_approved"]),
        (12, &json!(1))
    );
    assert!(
        metrics.table.contains("1 of yours approved by the partner"),
        "{}",
        metrics.table
    );

    let unknown = a.refusal(["attribution", "request", "Globex", "c9", "--details", "x"]);
    assert!(unknown.ends_with("[NOT_FOUND]"), "{unknown}");
    let empty = a.refusal(["attribution", "request", "Globex", "c2", "--details", " "]);
    assert!(empty.contains("[INVALID_ARGUMENT]"), "{empty}");
}

pub(super) fn p24_p26_assets(a: &Node, b: &Node) {
    const SHA256: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let file = a.write("hello.txt", "hello");
    let added = a.json([
        "assets",
        "add",
        file.to_str().unwrap(),
        "--kind",
        "product-sheet",
        "--title",
        "Hello",
    ]);
    assert_eq!(added["sha256"], SHA256);
    assert_eq!(added["media_type"], "text/plain");
    let id = added["id"].as_str().unwrap();
    let shared = a.run(["assets", "share", "Globex", id, "--description", "Read me"]);
    assert!(shared.contains(SHA256), "{shared}");
    let own = printed(a, &["assets", "list"]);
    assert_eq!(own.cell(&[id], "size_bytes"), "5");
    let with = printed(a, &["assets", "list", "--with", "Globex"]);
    assert_eq!(with.json[0]["description"], "Read me");
    wait("the file is announced", || {
        !b.json(["assets", "list", "--from", "Acme"])
            .as_array()
            .unwrap()
            .is_empty()
    });
    let from = printed(b, &["assets", "list", "--from", "Acme"]);
    assert_eq!(from.json[0]["asset"]["kind"], "PRODUCT_SHEET");
    assert_eq!(from.cell(&[id], "sha256"), SHA256);
    let to = b.write("target", "");
    let said = b.run([
        "assets",
        "download",
        id,
        "--from",
        "Acme",
        "--force",
        "--to",
        to.to_str().unwrap(),
    ]);
    assert!(
        said.ends_with(&format!("sha256 {SHA256} checked\n")),
        "{said}"
    );
    assert_eq!(fs::read(&to).unwrap(), b"hello");
    assert_eq!(
        b.run(["assets", "download", id, "--from", "Acme", "--to", "-"]),
        "hello"
    );

    a.run(["assets", "unshare", "Globex", id]);
    wait("the file is taken back", || {
        b.json(["assets", "list", "--from", "Acme"])
            .as_array()
            .unwrap()
            .is_empty()
    });
    let gone = b.refusal(["assets", "download", id, "--from", "Acme", "--to", "never"]);
    assert!(gone.ends_with("[NOT_FOUND]"), "{gone}");
    a.run(["assets", "remove", id]);
    assert_eq!(a.json(["assets", "list"]), json!([]));
}

pub(super) fn p03_partner_information(a: &Node, b: &Node) {
    let before = b.run(["partner", "info", "Acme"]);
    assert!(before.starts_with("name  Acme\n"), "{before}");
    let info = "name = \"Acme\"\nindustry = \"Tools\"\n[[contacts]]\nname = \"Ada\"\nemail = \"ada@acme.example\"\n";
    let file = a.write("info.toml", info);
    a.run(["partner", "set-info", "--file", file.to_str().unwrap()]);
    let told = printed(a, &["partner", "info"]);
    assert_eq!(told.json["info"]["contacts"][0]["name"], "Ada");
    wait("the partner learns of it", || {
        b.json(["partner", "info", "Acme"])["info"]["industry"] == "Tools"
    });
    let shown = printed(b, &["partner", "info", "Acme"]);
    assert!(
        shown.table.contains("Contacts\nNAME  ROLE  EMAIL"),
        "{}",
        shown.table
    );
    let file = a.write("info.toml", "nmae = \"Acme\"\n");
    let typo = a.refusal(["partner", "set-info", "--file", file.to_str().unwrap()]);
    assert!(
        typo.contains("info.toml") && typo.contains("nmae"),
        "{typo}"
    );
}

pub(super) fn changes_are_followed(a: &Node) {
    let first = a.json(["changes", "watch", "--from-oldest", "--limit", "1"]);
    let cursor = first["cursor"].as_str().unwrap();
    let next = a.json([
        "changes",
        "watch",
        "--from",
        cursor,
        "--kind",
        "attribution-approved",
        "--limit",
        "1",
    ]);
    assert_eq!(next["change"]["kind"], "ATTRIBUTION_APPROVED");
    let table = a.run([
        "changes",
        "watch",
        "--from-oldest",
        "--kind",
        "asset-shared",
        "--limit",
        "1",
    ]);
    assert!(table.contains("asset shared"), "{table}");
    let csv = a.run([
        "changes",
        "watch",
        "--from-oldest",
        "--limit",
        "2",
        "--output",
        "csv",
    ]);
    assert!(
        csv.starts_with("at,kind,partner,subject,details,cursor\n"),
        "{csv}"
    );
    assert_eq!(csv.lines().count(), 3, "{csv}");
}
