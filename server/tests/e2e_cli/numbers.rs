//! The program and engagement commands, on records reckoned by hand.

use super::*;

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
pub(super) fn program() -> Node {
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

pub(super) fn k35_imports_repeat_and_say_what_is_wrong(node: &Node) {
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

pub(super) fn k16_scorecard(node: &Node) {
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

pub(super) fn k17_k22_program(node: &Node) {
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

pub(super) fn i04_i21_intelligence(node: &Node) {
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

pub(super) fn g04_g20_engagement(node: &Node) {
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

pub(super) fn k28_exports(node: &Node) {
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

pub(super) fn settings_and_preferences(node: &Node) {
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
