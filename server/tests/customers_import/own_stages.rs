//! An organisation's own stages (P-08).

use super::*;

#[test]
fn p08_custom_stages() {
    let node = Node::new();
    let text = "id,stage\na,Pilot\n";
    let error = node.import("f.csv", text).unwrap_err();
    assert_eq!(
        error.message(),
        "f.csv, line 2, column 2 (stage): unknown stage \"Pilot\": the stages are Prospect, Lead, Deal, Customer, Lost, Churned; define a new one before customers use it"
    );
    let pilot = Stage {
        id: "Pilot".into(),
        label: "In pilot".into(),
        ordinal: 35,
        category: StageCategory::Open,
    };
    let all = node
        .store
        .write_blocking(|transaction| stages::upsert(transaction, &[pilot]))
        .unwrap();
    let shown: Vec<_> = all
        .iter()
        .map(|stage| (stage.id.as_str(), stage.ordinal, stage.category))
        .collect();
    assert_eq!(
        shown,
        [
            ("Prospect", 10, StageCategory::Open),
            ("Lead", 20, StageCategory::Open),
            ("Deal", 30, StageCategory::Open),
            ("Pilot", 35, StageCategory::Open),
            ("Customer", 40, StageCategory::Customer),
            ("Lost", 50, StageCategory::Lost),
            ("Churned", 60, StageCategory::Churned),
        ]
    );
    assert_eq!(all[3].label, "In pilot");
    assert_eq!(all[4].label, "Customer", "the id where there is no label");
    assert_eq!(counts(&node.import("f.csv", text).unwrap()), [1, 0, 0, 0]);
    assert_eq!(node.details("a").unwrap().stage, "Pilot");
}

#[test]
fn p08_stages_that_make_no_sense_are_refused() {
    let node = Node::new();
    let stage = |id: &str, ordinal| Stage {
        id: id.into(),
        label: String::new(),
        ordinal,
        category: StageCategory::Open,
    };
    let many: Vec<Stage> = (0..59)
        .map(|number| stage(&format!("s{number}"), 100 + number))
        .collect();
    for (new, expected) in [
        (
            vec![stage("", 1)],
            "stages[0].id: the stage's id is missing",
        ),
        (
            vec![stage(" x", 1)],
            "stages[0].id: \" x\" has space around it or a control character in it: remove it",
        ),
        (
            vec![stage(&"s".repeat(65), 1)],
            "stages[0].id: 65 bytes long: at most 64 are allowed",
        ),
        (
            vec![stage("x", 1), stage("x", 2)],
            "stages[1].id: \"x\" is stages[0] already",
        ),
        (
            vec![stage("lead", 1)],
            "stages[0].id: \"lead\" differs from the stage \"Lead\" in case only",
        ),
        (
            vec![stage("x", 20)],
            "stages[0].ordinal: 20 is the ordinal of the stage \"Lead\": give another",
        ),
        (many, "stages: 65 stages: at most 64 are allowed"),
    ] {
        let error = node
            .store
            .write_blocking(|transaction| stages::upsert(transaction, &new))
            .unwrap_err();
        assert_eq!(error.message(), expected);
    }
    // Two stages may swap their places.
    let all = node
        .store
        .write_blocking(|transaction| {
            stages::upsert(transaction, &[stage("Lead", 10), stage("Prospect", 20)])
        })
        .unwrap();
    assert_eq!(
        [all[0].id.as_str(), all[1].id.as_str()],
        ["Lead", "Prospect"]
    );
}
