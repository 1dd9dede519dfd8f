//! The main job through the programs: two `overlapd` processes, everything by `overlap`, results compared with the oracle.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod e2e;
mod oracle;

use std::process::Command;

use e2e::{
    Node, agree, describe,
    expected::{assert_view, cells, policy_file, text},
    pair, refusal, run_match,
};
use oracle::{
    Side, Tier,
    world::{Dice, all, csv, rows, side},
};
use serde_json::Value;

/// Customers with several identifiers, duplicates and private rows.
fn companies(seed: u64, mut a: Side, mut b: Side) -> (Side, Side) {
    let mut dice = Dice::new(seed);
    a.rows = rows(&mut dice, "a", 400, 220);
    b.rows = rows(&mut dice, "b", 300, 220);
    (a, b)
}

fn matched(a: &Side, b: &Side) -> (Node, Node) {
    let nodes = pair();
    nodes.0.import(&csv(&a.rows));
    nodes.1.import(&csv(&b.rows));
    agree((&nodes.0, &policy_file(a)), (&nodes.1, &policy_file(b)));
    run_match(&nodes.0, &nodes.1);
    nodes
}

fn array(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

#[test]
fn p06_full_sharing_gives_both_sides_the_oracles_view_and_transposed_matrices() {
    let (side_a, side_b) = companies(1, all(Tier::List), all(Tier::List));
    let (a, b) = matched(&side_a, &side_b);
    let (of_a, of_b) = (a.results("Globex"), b.results("Acme"));
    assert_view(&side_a, &side_b, &of_a);
    assert_view(&side_b, &side_a, &of_b);
    assert!(array(&of_a.1).len() > 40, "there is something to find");
    let transposed = cells(&of_b.0)
        .into_iter()
        .map(|((mine, theirs), cell)| ((theirs, mine), cell))
        .collect();
    assert_eq!(cells(&of_a.0), transposed);
    assert_eq!(of_a.0["run"], a.json(["runs", "Globex"])[0]["id"]);

    p12_p14_cells_and_searches_narrow_the_list(&a, &of_a);
    z08_explain_says_why(&a, &side_a, &of_a);
    second_run_finds_what_changed(&a, &b, side_a, &side_b);
    z06_revoking_removes_the_results(&a, &b);
}

fn p12_p14_cells_and_searches_narrow_the_list(a: &Node, (matrix, shared): &(Value, Value)) {
    for cell in array(&matrix["cells"]) {
        let (mine, theirs) = (text(&cell["mine"]), text(&cell["theirs"]));
        let narrowed = a.json(["shared", "Globex", "--mine", &mine, "--theirs", &theirs]);
        let wanted: Vec<&Value> = array(shared)
            .iter()
            .filter(|row| row["mine"] == cell["mine"] && row["theirs"] == cell["theirs"])
            .collect();
        assert_eq!(array(&narrowed).iter().collect::<Vec<_>>(), wanted);
        assert_eq!(wanted.len() as u64, cell["count"].as_u64().unwrap());
    }
    let one = &array(shared)[7];
    let found = a.json([
        "shared",
        "Globex",
        "--search",
        &text(&one["name"]).to_uppercase(),
    ]);
    assert!(array(&found).contains(one));
    assert_eq!(
        a.json(["shared", "Globex", "--search", "nobody"]),
        serde_json::json!([])
    );

    let id = text(&one["id"]);
    a.run(["target", "add", "Globex", &id]);
    let targets = a.json(["shared", "Globex", "--targets"]);
    assert_eq!(array(&targets).len(), 1);
    assert_eq!(targets[0]["id"], one["id"]);
    let detail = a.json(["customer", "Globex", &id]);
    assert_eq!(detail["theirs"], one["theirs"]);
}

fn z08_explain_says_why(a: &Node, side_a: &Side, (_, shared): &(Value, Value)) {
    let id = text(&array(shared)[0]["id"]);
    let found = a.json(["explain", "Globex", &id]);
    assert!(
        array(&found["keys"])
            .iter()
            .any(|key| key["matched"] == true),
        "{found}"
    );
    let ids: Vec<&str> = array(shared)
        .iter()
        .flat_map(|row| array(&row["ids"]))
        .map(|id| id.as_str().unwrap())
        .collect();
    let alone = side_a
        .rows
        .iter()
        .find(|row| !row.private && !row.keys.is_empty() && !ids.contains(&row.id.as_str()))
        .unwrap();
    let missed = a.json(["explain", "Globex", &alone.id]);
    assert!(
        array(&missed["keys"])
            .iter()
            .all(|key| key["matched"] == false),
        "{missed}"
    );
    let private = side_a.rows.iter().find(|row| row.private).unwrap();
    let hidden = a.json(["explain", "Globex", &private.id]);
    assert!(
        array(&hidden["keys"])
            .iter()
            .all(|key| key["matched"] != true),
        "{hidden}"
    );
    let unknown = a.refusal(["explain", "Globex", "nobody"]);
    assert!(unknown.ends_with("[NOT_FOUND]"), "{unknown}");
}

fn second_run_finds_what_changed(a: &Node, b: &Node, mut side_a: Side, side_b: &Side) {
    let before = text(&a.results("Globex").0["run"]);
    for (number, row) in side_a.rows.iter_mut().enumerate() {
        if number % 10 == 0 {
            "Customer".clone_into(&mut row.stage);
        }
    }
    side_a.rows.truncate(380);
    a.import(&csv(&side_a.rows));
    // The other side starts this one.
    run_match(b, a);
    let (of_a, of_b) = (a.results("Globex"), b.results("Acme"));
    assert_view(&side_a, side_b, &of_a);
    assert_view(side_b, &side_a, &of_b);
    assert_ne!(text(&of_a.0["run"]), before);
}

fn z06_revoking_removes_the_results(a: &Node, b: &Node) {
    a.run(["sharing", "revoke", "Globex", "--yes"]);
    for (node, partner) in [(a, "Globex"), (b, "Acme")] {
        e2e::wait("the results are gone", || {
            let output = node.command(["matrix", partner]).output().unwrap();
            !output.status.success()
        });
        let line = node.refusal(["matrix", partner]);
        assert!(line.ends_with("[SHARING_NOT_ACTIVE]"), "{line}");
        assert_eq!(node.json(["shared", partner]), serde_json::json!([]));
        let runs = node.dir().join("runs");
        e2e::wait("the files are gone", || {
            std::fs::read_dir(&runs).map_or(0, Iterator::count) == 0
        });
    }
    a.run(["partner", "revoke", "Globex", "--yes"]);
    let line = a.refusal(["match", "Globex"]);
    assert!(line.ends_with("[PARTNERSHIP_NOT_CONNECTED]"), "{line}");
}

#[test]
fn p09_p10_mixed_tiers_give_each_side_the_oracles_view() {
    let tiers = |tiers: [Tier; 6]| {
        let mut side = side();
        side.min_count = 2;
        side.tiers = oracle::world::STAGES
            .iter()
            .zip(tiers)
            .map(|((stage, _), tier)| ((*stage).to_owned(), tier))
            .collect();
        side
    };
    use Tier::{Count, Hidden, List};
    let (side_a, side_b) = companies(
        2,
        tiers([Count, List, List, List, Count, Hidden]),
        tiers([List, Count, List, List, Hidden, Count]),
    );
    let (a, b) = matched(&side_a, &side_b);
    let (of_a, of_b) = (a.results("Globex"), b.results("Acme"));
    assert_view(&side_a, &side_b, &of_a);
    assert_view(&side_b, &side_a, &of_b);
    for (matrix, _) in [&of_a, &of_b] {
        let cells = cells(matrix);
        for state in ["LISTED", "COUNTED", "WITHHELD", "DISABLED"] {
            assert!(cells.values().any(|cell| cell.0 == state), "{state}");
        }
    }
    // A hidden stage is empty, which is not 0.
    let hidden = &cells(&of_a.0)[&("Deal".to_owned(), "Lost".to_owned())];
    assert_eq!(*hidden, ("NOT_SHARED".to_owned(), None));
    // The list of a counted cell says why it is empty.
    let text = a.run(["shared", "Globex", "--mine", "Deal", "--theirs", "Lead"]);
    assert!(text.contains("[COUNTS_ONLY]"), "{text}");
}

#[test]
fn demo_prints_both_sides_as_json() {
    let demo = demo(&[]);
    let (a, b) = (&demo["a"], &demo["b"]);
    assert_ne!(a["organization"], b["organization"]);
    for me in [a, b] {
        assert_eq!(me["matrix"]["partner"], me["run"]["partner"]);
        assert_eq!(me["matrix"]["run"], me["run"]["id"]);
        assert_eq!(me["run"]["state"], "DONE");
        assert!(!array(&me["shared"]).is_empty());
        cells(&me["matrix"]);
        let row = &me["shared"][0];
        for name in ["id", "name", "mine", "theirs", "ref"] {
            assert!(row[name].is_string(), "{name}: {row}");
        }
        assert!(array(&row["ids"]).contains(&row["id"]));
        assert!(row["partner_fields"].is_object());
    }
}

#[test]
fn demo_takes_files_of_ones_own() {
    let (mut side_a, mut side_b) = (all(Tier::List), all(Tier::List));
    side_a.tiers.insert("Prospect".to_owned(), Tier::Count);
    side_b.tiers.insert("Lost".to_owned(), Tier::Hidden);
    let (side_a, side_b) = companies(3, side_a, side_b);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let arguments = [
        ("--a-customers", file("a.csv", csv(&side_a.rows))),
        ("--b-customers", file("b.csv", csv(&side_b.rows))),
        ("--a-policy", file("a.toml", policy_file(&side_a))),
        ("--b-policy", file("b.toml", policy_file(&side_b))),
    ];
    let arguments: Vec<&str> = arguments
        .iter()
        .flat_map(|(name, path)| [*name, path])
        .collect();
    let demo = demo(&arguments);
    for (name, mine, theirs) in [("a", &side_a, &side_b), ("b", &side_b, &side_a)] {
        let seen = &demo[name];
        assert_view(
            mine,
            theirs,
            &(seen["matrix"].clone(), seen["shared"].clone()),
        );
        // The year belongs to the sample's customers; what the two do together does not.
        assert_eq!(seen["scorecard"], Value::Null);
        assert_eq!(seen["leaderboard"], Value::Null);
        assert_eq!(seen["attribution"]["state"], "APPROVED");
    }
    assert_eq!(text(&demo["asset"]["sha256"]).len(), 64);

    let broken = file("broken.csv", "id,stage\na1\n".to_owned());
    let mut command = Command::new(e2e::OVERLAPD);
    let output = command
        .args(["demo", "--a-customers", &broken])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    let last = text.lines().last().unwrap();
    assert!(last.contains("broken.csv, line 2"), "{last}");
    let mut command = Command::new(e2e::OVERLAPD);
    let line = refusal(
        command
            .args(["init", "--organization", "", "--dir"])
            .arg(folder.path().join("new")),
    );
    assert!(line.contains("organization"), "{line}");
}

fn demo(arguments: &[&str]) -> Value {
    let mut command = Command::new(e2e::OVERLAPD);
    command.args(["demo", "--output", "json"]).args(arguments);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", describe(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}
