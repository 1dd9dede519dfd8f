//! What the commands about engagement, the program and its records print, written by hand.

use serde_json::{Value, json};

use crate::{csv_of, fake::FakeNode, json_of, overlap, text};

#[test]
fn g15_g16_g20_leaderboard_reads_all_pages_and_unset_is_not_nought() {
    let expected = "\
Leaderboard
RANK  NAME      TYPE      UNIQUE USERS  SESSIONS  PAGE VIEWS  ACTIONS  AVERAGE DURATION  SCORE
   1  Initech   reseller            12     1,234       5,678       90             12:34  100.0  ████████████████████
   2  Umbrella  -                    3       100          50        7              45 s   12.5  ██▌
   3  Hooli     referral             0         0           0        0                 -    0.0

all of 3 partners: 15 users, 1,334 sessions, 5,728 page views, 97 actions, 11:40 on average
2026-04-05 to 2026-05-04 UTC · as of 2026-05-04 09:30 UTC · data through 2026-05-04 08:30 UTC
";
    assert_eq!(text(&["engagement", "leaderboard"]), expected);
    let short = text(&["engagement", "leaderboard", "--limit", "1"]);
    assert!(
        short.contains("11:40 on average (the first 1 are shown)"),
        "{short}"
    );
    assert!(!short.contains("Umbrella"));

    let board = json_of(&["engagement", "leaderboard"]);
    assert_eq!(board["total_size"], 3);
    assert_eq!(board["rows"][0]["figures"]["average_duration"], "754s");
    assert_eq!(board["rows"][1]["type"], Value::Null);
    assert_eq!(board["rows"][2]["figures"]["average_duration"], Value::Null);
    assert_eq!(board["scope"]["available_types"], json!(["REFERRAL"]));
    assert_eq!(board["scope"]["no_data_reason"], Value::Null);

    let rows = csv_of(&["engagement", "leaderboard"]);
    assert_eq!(
        rows[0].join(","),
        "rank,partner,name,logo_uri,type,unique_users,sessions,page_views,actions,average_duration,total_duration,score"
    );
    assert_eq!(
        rows[1].join(","),
        "1,initech,Initech,,RESELLER,12,1234,5678,90,754s,930436s,100"
    );
    assert_eq!(rows[3].join(","), "3,hooli,Hooli,,REFERRAL,0,0,0,0,,0s,0");
}

#[test]
fn g10_activity_has_bars_in_proportion() {
    let expected = "\
Activity by week
FIRST DAY   LAST DAY    SESSIONS                        PAGE VIEWS  UNIQUE USERS
2026-04-05  2026-04-05         2  █████                        600             2
2026-04-06  2026-04-12         0                                 0             0
2026-04-13  2026-04-19         8  ████████████████████       2,400             3

2026-04-05 to 2026-05-04 UTC · as of 2026-05-04 09:30 UTC · data through 2026-05-04 08:30 UTC
Users are distinct within a row: rows do not add up to the whole.
";
    assert_eq!(text(&["engagement", "activity"]), expected);
}

#[test]
fn g02_g28_nothing_to_show_has_a_reason() {
    let expected = "\
Engagement
UNIQUE USERS  SESSIONS  PAGE VIEWS  ACTIONS  AVERAGE DURATION
           0         0           0        0                 -

2026-04-05 to 2026-05-04 UTC · as of 2026-05-04 09:30 UTC · data through -
There are portal users, but none was active in this time. [NO_LOGINS]
";
    assert_eq!(text(&["engagement", "summary"]), expected);
}

#[test]
fn g26_g30_risks_and_trends() {
    let risks = text(&["engagement", "at-risk"]);
    assert!(
        risks.contains("Hooli  referral  inactive         0                  4                 -                       1:00        0  -"),
        "{risks}"
    );
    let expected = "\
Trends
METRIC      DIRECTION   SEASONAL  MONTH BY MONTH  LATEST
page views  increasing  -         ▁▅█              1,400

";
    let trends = text(&["engagement", "trends"]);
    assert!(trends.starts_with(expected), "{trends}");
}

#[test]
fn k16_scorecard_shows_currencies_apart_and_what_values_are_made_of() {
    let expected = "\
Scorecard
LABEL                           VALUE  MADE OF  NOTES
Sourced pipeline     1,234,567.50 EUR
Sourced pipeline           900.00 USD
Win rate                        37.5%    3 / 8  2 pending
Training completion                 -    0 / 0
Renewal revenue                     -

2026-05-03 09:30 UTC to 2026-05-04 09:30 UTC · as of 2026-05-04 09:30 UTC · data through 2026-05-04 09:29 UTC
";
    assert_eq!(text(&["program", "scorecard"]), expected);

    let card = json_of(&["program", "scorecard"]);
    let pipeline = &card["metrics"][0];
    assert_eq!(pipeline["values"][0]["value"], 1_234_567.5);
    assert_eq!(
        pipeline["values"][0]["numerator"],
        json!({"money": {"currency_code": "EUR", "units": 1_234_567, "nanos": 500_000_000}})
    );
    assert_eq!(card["metrics"][2]["values"][0]["value"], Value::Null);
    assert_eq!(
        card["metrics"][2]["values"][0]["denominator"],
        json!({"count": 0})
    );
    assert_eq!(card["metrics"][0]["data_through"], "2026-05-04T09:29:00Z");

    let rows = csv_of(&["program", "scorecard"]);
    assert_eq!(
        rows[0].join(","),
        "id,label,unit,currency_code,value,numerator,denominator,definition_version,period_start,period_end,as_of,data_through"
    );
    assert_eq!(rows[1][4..7].join(","), "1234567.5,1234567.50 EUR,");
    assert_eq!(rows[3][4..7].join(","), "0.375,3,8");
    assert_eq!(rows[4][4..7].join(","), ",0,0");
    assert_eq!(rows[5][4..7].join(","), ",,");
}

#[test]
fn k21_forecast_and_series() {
    let expected = "\
Forecast
CURRENCY CODE           WON  WEIGHTED OPEN      FORECAST        TARGET  ATTAINMENT
EUR            1,000.00 EUR     250.00 EUR  1,250.00 EUR  2,500.00 EUR       50.0%  ██████████
USD                       -              -             -             -           -

2 open deals are left out: neither they nor the settings say how likely they are (overlap program settings set --probability STAGE=PERCENT)
as of 2026-05-04 09:30 UTC · data through -
";
    assert_eq!(text(&["program", "forecast"]), expected);
    let expected = "\
Won revenue, EUR  █▃
PERIOD        VALUE
2026-Q1  800.00 EUR  ████████████████████
2026-Q2  200.00 EUR  █████

";
    let series = text(&["program", "series", "won_revenue", "--period", "quarter"]);
    assert!(series.starts_with(expected), "{series}");
    assert_eq!(
        csv_of(&["program", "series", "won_revenue"])[2][0],
        "2026-Q2"
    );
}

#[test]
fn k29_alerts() {
    let expected = "\
Alerts
KIND          PARTNER  SUBJECT  SINCE                 MESSAGE
STALLED_DEAL  initech  d1       2026-05-04 09:30 UTC  deal \"d1\" has not moved for 35 days

as of 2026-05-04 09:31 UTC
";
    assert_eq!(
        text(&["program", "alerts", "--kind", "stalled-deal"]),
        expected
    );
}

#[test]
fn k28_records_are_exported_as_they_are_imported() {
    let rows = csv_of(&["records", "export", "deals"]);
    let cell = |name: &str| {
        let column = rows[0].iter().position(|column| column == name).unwrap();
        rows[1][column].as_str()
    };
    assert_eq!(cell("id"), "d1");
    assert_eq!(cell("amount"), "1234.50 EUR");
    assert_eq!(cell("origination"), "SOURCED");
    assert_eq!(cell("influencing_partners"), "hooli;umbrella");
    assert_eq!(cell("registration.submitted_at"), "2026-05-04T09:30:00Z");
    assert_eq!(cell("registration.status"), "PENDING");
    assert_eq!(cell("registration.decided_at"), "");
    assert_eq!(cell("product"), "=Seats, \"gold\"");
    let listed = csv_of(&["records", "list", "deals"]);
    let product = rows[0].iter().position(|column| column == "product");
    assert_eq!(listed[1][product.unwrap()], "'=Seats, \"gold\"");
    // A chance of 0 is known.
    assert_eq!(cell("probability_bp"), "0");
    assert_eq!(
        cell("stage_changes"),
        r#"[{"at":"2026-05-04T09:31:00Z","stage":"Proposal"}]"#
    );
    let line = text(&["records", "export", "deal", "--format", "ndjson"]);
    let record: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        record["deal"]["amount"],
        json!({"currency_code": "EUR", "units": 1234, "nanos": 500_000_000})
    );
    assert_eq!(record["deal"]["type"], "DEAL_TYPE_NEW");
}

#[test]
fn records_import_says_what_it_needs() {
    let node = FakeNode::start();
    let file = node.dir().join("deals.csv");
    std::fs::write(&file, "id\nd1\n").unwrap();
    let path = file.to_str().unwrap();
    let done = overlap(&node, &["records", "import", path, "--kind", "deals"]).done();
    assert_eq!(done, format!("{path}: 1,200 new, 3 changed, 0 unchanged\n"));
    let request = &node.requests("import_records")[0];
    assert!(
        request.contains("deals.csv") && request.contains("Deal"),
        "{request}"
    );
    let kindless = overlap(&node, &["records", "import", path]).failed();
    assert!(kindless.contains("--kind deals"), "{kindless}");
    let nameless = overlap(
        &node,
        &["records", "import", "deals.txt", "--kind", "deals"],
    )
    .failed();
    assert!(
        nameless.contains("--format csv, ndjson or parquet"),
        "{nameless}"
    );
    let missing = overlap(
        &node,
        &["records", "import", "no/such.csv", "--kind", "deals"],
    )
    .failed();
    assert!(
        missing.contains("no/such.csv") && missing.ends_with("[FILE_UNREADABLE]"),
        "{missing}"
    );
    let unknown = overlap(&node, &["records", "import", path, "--kind", "dreams"]);
    assert_eq!(unknown.code, Some(2));
    assert!(
        unknown
            .stderr
            .contains("one of lifecycle-event, partner-profile"),
        "{}",
        unknown.stderr
    );
}

#[test]
fn parquet_files_of_records_are_sent_as_such() {
    let node = FakeNode::start();
    let bytes = b"PAR1 and what follows";
    for (name, more) in [
        ("deals.parquet", &[][..]),
        ("DEALS.PARQUET", &[]),
        ("deals.bin", &["--format", "parquet"]),
    ] {
        let file = node.dir().join(name);
        std::fs::write(&file, bytes).unwrap();
        let path = file.to_str().unwrap();
        let import = [&["records", "import", path, "--kind", "deals"], more].concat();
        overlap(&node, &import).done();
        let request = node.requests("import_records").pop().unwrap();
        assert!(
            request.contains("format: Parquet") && request.contains("kind: Deal"),
            "{request}"
        );
        assert!(
            request.contains(&format!("{:?}", bytes.to_vec())),
            "{request}"
        );
    }
    let path = node.dir().join("deals.parquet");
    let path = path.to_str().unwrap();
    let kindless = overlap(&node, &["records", "import", path]).failed();
    assert!(
        kindless.contains("a CSV or Parquet file does not tell")
            && kindless.contains("--kind deals"),
        "{kindless}"
    );
    let export = ["records", "export", "deals", "--format", "parquet"];
    let refused = overlap(&node, &export);
    assert_eq!(refused.code, Some(2));
    assert!(
        refused
            .stderr
            .contains("records are exported as csv or ndjson only"),
        "{}",
        refused.stderr
    );
}

#[test]
fn exports_are_written_as_the_node_streams_them() {
    let node = FakeNode::start();
    let file = node.dir().join("board.csv");
    let to = file.to_str().unwrap();
    assert_eq!(
        overlap(&node, &["engagement", "export", "leaderboard", "--to", to]).done(),
        ""
    );
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        "rank,partner\n1,initech\n"
    );
    assert_eq!(
        overlap(&node, &["engagement", "export", "leaderboard"]).done(),
        "rank,partner\n1,initech\n"
    );
    overlap(
        &node,
        &["engagement", "export", "leaderboard", "-o", "json"],
    )
    .done();
    let requests = node.requests("export_engagement");
    let formats: Vec<bool> = requests
        .iter()
        .map(|request| request.contains("format: Ndjson"))
        .collect();
    assert_eq!(formats, [false, false, true]);
    // A refusal leaves no file.
    let none = node.dir().join("none.csv");
    let refused = overlap(
        &node,
        &["program", "export", "--to", none.to_str().unwrap()],
    )
    .failed();
    assert!(refused.contains("the fake has none"), "{refused}");
    assert!(!none.exists() && !node.dir().join("none.csv.part").exists());
}

#[test]
fn days_and_settings_that_make_no_sense_are_named() {
    let node = FakeNode::start();
    let day = overlap(
        &node,
        &[
            "program",
            "scorecard",
            "--start",
            "soon",
            "--end",
            "2026-01-01",
        ],
    )
    .failed();
    assert!(
        day.contains("--start: \"soon\" is neither a day (2026-01-31)"),
        "{day}"
    );
    let alone = overlap(&node, &["program", "scorecard", "--start", "2026-01-01"]);
    assert_eq!(alone.code, Some(2));
    let chance = overlap(
        &node,
        &["program", "settings", "set", "--probability", "Proposal"],
    )
    .failed();
    assert!(chance.contains("STAGE=PERCENT"), "{chance}");
    let nothing = overlap(&node, &["program", "settings", "set"]).failed();
    assert!(nothing.contains("--stalled-deal-days"), "{nothing}");
    let set = overlap(
        &node,
        &[
            "program",
            "settings",
            "set",
            "--probability",
            "Proposal=37.5",
            "--swing-percent",
            "40",
        ],
    )
    .done();
    assert!(set.contains("probability of Proposal    37.5%"), "{set}");
    assert!(set.contains("stalled deal days              -"), "{set}");
    let request = &node.requests("update_program_settings")[0];
    assert!(
        request.contains(r#"paths: ["swing_percent", "stage_probabilities"]"#),
        "{request}"
    );
}
