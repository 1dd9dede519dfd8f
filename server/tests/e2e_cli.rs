//! The commands about collaboration, records, engagement and the program on real nodes: every reading command in its three
//! forms, with values reckoned by hand.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod e2e;
mod oracle;

use std::fs;

use e2e::{Node, agree, pair, run_match, wait};
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

const QUARTER: [&str; 6] = [
    "--start",
    "2026-01-01",
    "--end",
    "2026-04-01",
    "--as-of",
    "2026-04-01",
];
const FEBRUARY: [&str; 4] = ["--first-day", "2026-02-01", "--last-day", "2026-02-28"];

const PROFILES: &str = "\
id,updated_at,name,type,segment,tier,status,lifecycle_stage,regions,enrolled_at
p1,2026-01-01T00:00:00Z,Initech,RESELLER,Core,Gold,active,producing,Europe,2025-01-01T00:00:00Z
p2,2026-01-01T00:00:00Z,Hooli,referral,Core,Silver,active,onboarding,Europe;Asia,2025-06-01T00:00:00Z
";
const DEALS: &str = r#"id,updated_at,partner,customer,stage,amount,origination,influencing_partners,type,registration.submitted_at,registration.decided_at,registration.status,opened_at,last_activity_at,closed_at,outcome,region,gross_margin,probability_bp,stage_changes
d1,2026-03-01T00:00:00Z,p1,c1,Proposal,1000.00 EUR,SOURCED,,NEW,2026-01-10T00:00:00Z,2026-01-12T00:00:00Z,APPROVED,2026-01-05T00:00:00Z,2026-02-01T00:00:00Z,2026-02-01T00:00:00Z,WON,Europe,600 EUR,,"[{""stage"":""Discovery"",""at"":""2026-01-05T00:00:00Z""},{""stage"":""Proposal"",""at"":""2026-01-20T00:00:00Z""}]"
d2,2026-03-01T00:00:00Z,p1,c2,Discovery,500 EUR,SOURCED,,NEW,2026-02-11T00:00:00Z,,PENDING,2026-02-10T00:00:00Z,2026-02-10T00:00:00Z,,OPEN,Europe,,4000,"[{""stage"":""Discovery"",""at"":""2026-02-10T00:00:00Z""}]"
d3,2026-03-01T00:00:00Z,,c3,Proposal,700 EUR,DIRECT,p2,NEW,,,,2026-01-15T00:00:00Z,2026-03-01T00:00:00Z,2026-03-01T00:00:00Z,WON,Asia,300 EUR,,
d4,2026-03-01T00:00:00Z,p2,c4,Proposal,300 EUR,SOURCED,,NEW,2026-01-21T00:00:00Z,2026-01-25T00:00:00Z,APPROVED,2026-01-20T00:00:00Z,2026-02-20T00:00:00Z,2026-02-20T00:00:00Z,LOST,Asia,,,
"#;
const EVENTS: &str = r#"{"id":"e1","partner":"p1","user":"u1","at":"2026-02-02T10:00:00Z","kind":"PORTAL_EVENT_KIND_PAGE_VIEW","room":"r1","resource":"deck"}
{"id":"e2","partner":"p1","user":"u1","at":"2026-02-02T10:10:00Z","kind":"PORTAL_EVENT_KIND_DOWNLOAD_FILE","room":"r1","resource":"deck"}
{"id":"e3","partner":"p1","user":"u1","at":"2026-02-02T12:00:00Z","kind":"PORTAL_EVENT_KIND_PAGE_VIEW","room":"r1","resource":"deck"}
{"id":"e4","partner":"p1","user":"u2","at":"2026-02-03T09:00:00Z","kind":"PORTAL_EVENT_KIND_PAGE_VIEW","room":"r1","resource":"deck"}
{"id":"e5","partner":"p2","user":"u3","at":"2026-02-03T09:00:00Z","kind":"PORTAL_EVENT_KIND_PAGE_VIEW","room":"r2","resource":"sheet"}
{"id":"e6","partner":"p2","user":"u3","at":"2026-02-03T09:05:00Z","kind":"PORTAL_EVENT_KIND_PAGE_VIEW","room":"r2","resource":"sheet"}
"#;

/// A node with two partners and a quarter of records.
fn program() -> Node {
    let node = Node::new("Acme");
    let said = import(&node, "partner-profiles", "profiles.csv", PROFILES);
    assert!(
        said.ends_with("profiles.csv: 2 new, 0 changed, 0 unchanged\n"),
        "{said}"
    );
    import(&node, "deals", "deals.csv", DEALS);
    import(&node, "portal-events", "events.ndjson", EVENTS);
    for (kind, content) in [
        ("portal-users", "id,partner\nu1,p1\nu2,p1\nu3,p2\n"),
        ("rooms", "id,title\nr1,Selling\nr2,News\n"),
        (
            "resources",
            "id,title,uri\ndeck,Pitch deck,https://x.example/deck\nsheet,Price sheet,\n",
        ),
        (
            "trainings",
            "id,partner,course,assigned_at,completed_at\nt1,p1,Basics,2026-01-10T00:00:00Z,2026-01-20T00:00:00Z\nt2,p2,Basics,2026-02-01T00:00:00Z,\n",
        ),
        (
            "channel-costs",
            "id,amount,incurred_at\nk1,400 EUR,2026-02-15T00:00:00Z\n",
        ),
        (
            "targets",
            "id,metric,period_start,period_end,money\ng1,sourced_closed_revenue,2026-01-01T00:00:00Z,2026-04-01T00:00:00Z,2000 EUR\n",
        ),
        (
            "certifications",
            "id,partner,user,name,issued_at\ns1,p1,u1,Seller,2026-01-01T00:00:00Z\n",
        ),
        (
            "ecosystem-events",
            "id,partner,type,at,quantity\nx1,p1,USAGE,2026-02-01T00:00:00Z,3\n",
        ),
        (
            "partner-analysis",
            "id,partner,analyzed_at,strengths,capacity\na1,p1,2026-02-01T00:00:00Z,\"[{\"\"label\"\":\"\"Fast\"\",\"\"score\"\":80}]\",40\na2,p2,2026-02-01T00:00:00Z,\"[{\"\"label\"\":\"\"fast\"\",\"\"score\"\":60}]\",\n",
        ),
    ] {
        import(&node, kind, "records.csv", content);
    }
    node
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

fn k35_imports_repeat_and_say_what_is_wrong(node: &Node) {
    let again = import(node, "deals", "deals.csv", DEALS);
    assert!(
        again.ends_with(": 0 new, 0 changed, 4 unchanged\n"),
        "{again}"
    );
    let wrong = DEALS
        .replace(
            "d2,2026-03-01T00:00:00Z,p1,c2,Discovery,500 EUR",
            "d2,2026-03-01T00:00:00Z,p1,c2,Discovery,plenty",
        )
        .replace("d1,", "d9,");
    let file = node.write("wrong.csv", wrong);
    let line = node.refusal([
        "records",
        "import",
        file.to_str().unwrap(),
        "--kind",
        "deals",
    ]);
    assert!(
        line.contains("wrong.csv, line 3, column amount") && line.contains("1234.50 EUR"),
        "{line}"
    );
    let absent = node.refusal(["records", "show", "deal", "d9"]);
    assert!(absent.ends_with("[NOT_FOUND]"), "all or nothing: {absent}");

    let shown = printed(node, &["records", "show", "deal", "d2"]);
    assert_eq!(shown.json["deal"]["outcome"], "DEAL_OUTCOME_OPEN");
    assert_eq!(shown.cell(&["d2"], "probability_bp"), "4000");
    assert!(
        shown.table.contains("amount                     500 EUR"),
        "{}",
        shown.table
    );
    let listed = printed(node, &["records", "list", "deals", "--partner", "p1"]);
    assert_eq!(listed.json.as_array().unwrap().len(), 2);
    assert_eq!(listed.cell(&["d1"], "gross_margin"), "600 EUR");

    // What is exported is imported as it was.
    for (format, name) in [("csv", "out.csv"), ("ndjson", "out.ndjson")] {
        let file = node.write(name, "");
        let path = file.to_str().unwrap();
        node.run([
            "records", "export", "deals", "--format", format, "--to", path,
        ]);
        let back = node.run(["records", "import", path, "--kind", "deals"]);
        assert!(
            back.ends_with(": 0 new, 0 changed, 4 unchanged\n"),
            "{back}"
        );
    }
}

fn k16_scorecard(node: &Node) {
    let card = printed(node, &[&["program", "scorecard"][..], &QUARTER].concat());
    let ids: Vec<&str> = card.json["metrics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|metric| metric["id"].as_str().unwrap())
        .collect();
    assert_eq!(
        ids,
        [
            "sourced_pipeline",
            "sourced_closed_revenue",
            "registration_win_rate",
            "active_partner_rate",
            "training_completion",
            "renewal_revenue",
            "channel_return",
        ]
    );
    let expected = "\
Scorecard
LABEL                                VALUE                    MADE OF
Sourced pipeline                500.00 EUR
Closed revenue                1,000.00 EUR
Win rate                             50.0%                      1 / 2
Active partner rate                 100.0%                      2 / 2
Training completion                  50.0%                      1 / 2
Renewal revenue                          -
Return on channel investment        425.0%  1,700.00 EUR / 400.00 EUR

2026-01-01 00:00 UTC to 2026-04-01 00:00 UTC · as of 2026-04-01 00:00 UTC · data through ";
    assert!(card.table.starts_with(expected), "{}", card.table);
    assert_eq!(card.json["metrics"][5]["values"], json!([]), "not 0");
    assert_eq!(card.cell(&["channel_return"], "value"), "4.25");
    assert_eq!(card.cell(&["channel_return"], "numerator"), "1700 EUR");
    assert_eq!(card.cell(&["channel_return"], "denominator"), "400 EUR");
    assert_eq!(card.cell(&["renewal_revenue"], "value"), "");
}

fn k17_k22_program(node: &Node) {
    let quarter = |arguments: &[&str]| printed(node, &[arguments, &QUARTER].concat());
    let shown = quarter(&["program", "metrics", "partner_share", "average_deal_size"]);
    assert_eq!(
        shown.cell(&["partner_share"], "value"),
        (1000.0 / 1700.0).to_string()
    );
    assert!(
        shown.table.contains("850.00 EUR"),
        "1,700 EUR over 2 deals: {}",
        shown.table
    );
    let revenue = quarter(&["program", "revenue"]);
    assert_eq!(
        revenue.cell(&["influenced_revenue"], "numerator"),
        "700 EUR"
    );
    let velocity = quarter(&["program", "velocity"]);
    // From 10 January to 1 February.
    assert_eq!(velocity.cell(&["sales_cycle"], "value"), "22");
    assert!(velocity.table.contains("22.0 d"), "{}", velocity.table);

    let funnel = quarter(&["program", "funnel"]);
    let conversion = &funnel.json["conversions"][0];
    assert_eq!(conversion["from_stage"], "Discovery");
    assert_eq!(conversion["conversion"]["values"][0]["value"], 0.5);
    assert!(
        funnel.table.contains("50.0%    1 / 2  ██████████\n"),
        "{}",
        funnel.table
    );
    let breakdown = quarter(&["program", "breakdown", "partner", "sourced_closed_revenue"]);
    assert_eq!(breakdown.cell(&["p1"], "value"), "1000");
    assert_eq!(breakdown.cell(&["p2"], "value"), "");
    assert!(breakdown.table.contains("Initech"), "{}", breakdown.table);
    let series = quarter(&["program", "series", "sourced_closed_revenue"]);
    assert_eq!(series.cell(&["2026-02"], "value"), "1000");
    assert_eq!(series.cell(&["2026-01"], "value"), "");
    assert!(
        series.table.starts_with("Closed revenue, EUR   █ "),
        "{}",
        series.table
    );

    let forecast = quarter(&["program", "forecast"]);
    // 1,000 won and 40% of 500 open, of 2,000.
    assert_eq!(forecast.json["forecasts"][0]["attainment"], 0.6);
    assert_eq!(forecast.cell(&["EUR"], "weighted_open"), "200 EUR");
    assert!(
        forecast
            .table
            .contains("1,200.00 EUR  2,000.00 EUR       60.0%  ████████████\n"),
        "{}",
        forecast.table
    );
    let compared = quarter(&["program", "compare"]);
    assert_eq!(compared.cell(&["g1"], "attainment"), "0.5");
    let cohorts = quarter(&[
        "program",
        "compare",
        "sourced_closed_revenue",
        "--cohorts",
        "tier",
    ]);
    assert_eq!(cohorts.json["cohorts"].as_array().unwrap().len(), 2);
    let enablement = quarter(&["program", "enablement"]);
    assert_eq!(enablement.cell(&["certified_partner_rate"], "value"), "0.5");
    let alerts = quarter(&["program", "alerts", "--kind", "stalled-deal"]);
    assert_eq!(alerts.json["alerts"][0]["subject"], "d2");
    assert_eq!(alerts.json["alerts"].as_array().unwrap().len(), 1);
    assert!(
        alerts.table.contains("has not moved for 50 days"),
        "{}",
        alerts.table
    );
    let executive = printed(node, &["program", "executive", "--as-of", "2026-03-31"]);
    assert_eq!(executive.json["top"][0]["partner"], "p1");
    assert_eq!(executive.cell(&["partner_share"], "numerator"), "1000 EUR");
    assert!(
        executive.table.contains("Top partners\n"),
        "{}",
        executive.table
    );
    let partner = quarter(&["program", "partner", "p1"]);
    assert_eq!(partner.json["profile"]["name"], "Initech");
    assert_eq!(partner.json["deals"].as_array().unwrap().len(), 2);
    assert!(
        partner.table.starts_with("Partner p1\n"),
        "{}",
        partner.table
    );
    let signals = quarter(&["program", "signals"]);
    assert_eq!(signals.cell(&["USAGE"], "quantity"), "3");
    let adoption = printed(node, &["program", "adoption"]);
    assert!(adoption.json["calls"].as_u64().unwrap() > 0);
    let defined = printed(node, &["program", "definitions", "sales_cycle"]);
    assert_eq!(defined.cell(&["sales_cycle"], "unit"), "DAYS");
    let unknown = node.refusal(["program", "definitions", "luck"]);
    assert!(unknown.contains("\"luck\""), "{unknown}");
    let unknown = node.refusal(["program", "metrics", "luck"]);
    assert!(
        unknown.contains("luck") && unknown.ends_with("[INVALID_ARGUMENT]"),
        "{unknown}"
    );
}

fn i04_i21_intelligence(node: &Node) {
    let quarter = |arguments: &[&str]| printed(node, &[arguments, &QUARTER].concat());
    let cards = quarter(&["program", "cards"]);
    assert_eq!(cards.cell(&["Closed revenue"], "value"), "1,000.00 EUR");
    assert_eq!(cards.cell(&["Renewal revenue"], "value"), "-");
    let strengths = quarter(&["program", "strengths"]);
    assert_eq!(strengths.json["strengths"][0]["partners"], 2);
    assert_eq!(strengths.json["strengths"][0]["average_score"], 70.0);
    let areas = quarter(&["program", "areas"]);
    assert_eq!(
        areas.json,
        json!([{"partner": "p1", "name": "Initech", "score": "CAPACITY", "value": 40}])
    );
    let lifecycle = quarter(&["program", "lifecycle"]);
    assert_eq!(lifecycle.json["profiles"], 2);
    assert_eq!(lifecycle.cell(&["producing"], "percent"), "50");
    let coverage = quarter(&["program", "coverage", "region"]);
    assert_eq!(coverage.cell(&["Europe"], "partners"), "2");
    assert_eq!(coverage.cell(&["Asia"], "percent"), "50");
    let gaps = quarter(&["program", "gaps", "region", "Europe", "Africa"]);
    assert_eq!(
        gaps.json["gaps"],
        json!([{"value": "Africa", "partners": 0}])
    );
    assert!(
        gaps.table.contains("partners also cover: Asia"),
        "{}",
        gaps.table
    );
    let tiers = quarter(&["program", "tiers"]);
    assert_eq!(tiers.json["tiers"][0]["tier"], "Gold");
    let asked = node.json(["program", "refresh", "p1", "--request-id", "once"]);
    let twice = node.json(["program", "refresh", "p1", "--request-id", "once"]);
    assert_eq!(asked["sequence"], twice["sequence"]);
    let refreshes = printed(node, &["program", "refreshes"]);
    assert_eq!(refreshes.json[0]["partner"], "p1");
    assert_eq!(refreshes.json.as_array().unwrap().len(), 1);
}

fn g04_g20_engagement(node: &Node) {
    let february =
        |arguments: &[&str]| printed(node, &[&["engagement"], arguments, &FEBRUARY].concat());
    let summary = february(&["summary"]);
    assert_eq!(
        summary.json["figures"],
        json!({"unique_users": 3, "sessions": 4, "page_views": 5, "actions": 1, "average_duration": "225s", "total_duration": "900s"})
    );
    assert!(
        summary
            .table
            .contains("           3         4           5        1              3:45\n"),
        "{}",
        summary.table
    );
    let board = february(&["leaderboard"]);
    assert_eq!(board.json["rows"][0]["name"], "Initech");
    // 40 + 30 + 20 + 10 x 200 s / 300 s.
    let score = board.json["rows"][0]["score"].as_f64().unwrap();
    assert!((score - (90.0 + 20.0 / 3.0)).abs() < 1e-9, "{score}");
    assert_eq!(board.cell(&["2", "p2"], "average_duration"), "300s");
    assert!(
        board.table.contains(
            "all of 2 partners: 3 users, 4 sessions, 5 page views, 1 action, 3:45 on average"
        ),
        "{}",
        board.table
    );
    let by_name = february(&["leaderboard", "--sort", "name"]);
    assert_eq!(by_name.json["rows"][0]["name"], "Hooli");
    let reversed = february(&["leaderboard", "--sort", "name", "--reverse", "--limit", "1"]);
    assert_eq!(reversed.json["rows"][0]["name"], "Initech");
    assert_eq!(reversed.json["total_size"], 2);
    let only = february(&["leaderboard", "--type", "referral"]);
    assert_eq!(only.json["total_size"], 1);

    let activity = february(&["activity"]);
    assert_eq!(activity.json["bucket_size"], "WEEK");
    assert_eq!(activity.cell(&["2026-02-02"], "sessions"), "4");
    assert_eq!(activity.cell(&["2026-02-09"], "sessions"), "0");
    let resources = february(&["resources"]);
    assert_eq!(resources.cell(&["deck"], "page_views"), "3");
    assert_eq!(resources.cell(&["deck"], "unique_users"), "2");
    let rooms = february(&["rooms"]);
    assert_eq!(rooms.cell(&["r2"], "title"), "News");
    let risk = printed(
        node,
        &[
            "engagement",
            "at-risk",
            "--first-day",
            "2026-03-04",
            "--last-day",
            "2026-03-31",
        ],
    );
    assert_eq!(risk.json["partners"].as_array().unwrap().len(), 2);
    assert!(risk.table.contains("inactive"), "{}", risk.table);
    let compared = february(&["compare", "type"]);
    assert_eq!(compared.cell(&["RESELLER"], "sessions"), "3");
    let history = printed(
        node,
        &["engagement", "history", "--period", "year", "--count", "1"],
    );
    assert_eq!(history.json["entries"].as_array().unwrap().len(), 1);
    let trends = printed(node, &["engagement", "trends", "--months", "12"]);
    assert_eq!(
        trends.json["trends"][0]["values"].as_array().unwrap().len(),
        12
    );
    let typo = node.refusal(["engagement", "summary", "--time-zone", "Mars/Olympus"]);
    assert!(typo.contains("[INVALID_ARGUMENT]"), "{typo}");
}

fn k28_exports(node: &Node) {
    let text = node.run([&["engagement", "export", "leaderboard"][..], &FEBRUARY].concat());
    assert_eq!(text.lines().count(), 3, "{text}");
    let lines = node.run(
        [
            &[
                "program",
                "export",
                "sourced_closed_revenue",
                "--format",
                "ndjson",
            ][..],
            &QUARTER,
        ]
        .concat(),
    );
    let row: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(row["metric"], "sourced_closed_revenue", "{lines}");
    let file = node.write("feed.csv", "");
    node.run([
        "program",
        "feed",
        "sourced_closed_revenue",
        "--first-day",
        "2026-01-31",
        "--last-day",
        "2026-02-02",
        "--to",
        file.to_str().unwrap(),
    ]);
    let feed = fs::read_to_string(file).unwrap();
    assert!(feed.contains("2026-02-02"), "{feed}");
}

fn settings_and_preferences(node: &Node) {
    let changed = node.json(["program", "settings", "set", "--stalled-deal-days", "60"]);
    assert_eq!(changed["stalled_deal_days"], 60);
    assert_eq!(changed["swing_percent"], 50, "what is not named stays");
    let shown = printed(node, &["program", "settings", "show"]);
    assert_eq!(shown.cell(&["stalled_deal_days"], "value"), "60");
    let none = node.run(
        [
            &["program", "alerts", "--kind", "stalled-deal"][..],
            &QUARTER,
        ]
        .concat(),
    );
    assert!(none.contains("Nothing needs attention."), "{none}");
    node.run([
        "program",
        "preferences",
        "set",
        "program",
        "--hide",
        "sourced_pipeline",
    ]);
    let tiles = printed(node, &["program", "preferences", "show", "program"]);
    assert_eq!(tiles.cell(&["sourced_pipeline"], "visible"), "false");
    let cards = node.json(["program", "cards"]);
    assert!(
        cards["cards"]
            .as_array()
            .unwrap()
            .iter()
            .all(|card| card["metric"]["id"] != "sourced_pipeline")
    );
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

fn p17_p30_timeline(a: &Node) {
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

fn p19_p27_attribution(a: &Node, b: &Node) {
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

fn p24_p26_assets(a: &Node, b: &Node) {
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

fn p03_partner_information(a: &Node, b: &Node) {
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

fn changes_are_followed(a: &Node) {
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
