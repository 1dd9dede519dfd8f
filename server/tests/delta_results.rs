//! What a delta run leaves is what a full run of the same customers leaves: every page, field, name, handle and matched key,
//! whatever lies over the base, and however often that was merged.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod oracle;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use overlap_crypto::terms::KeyType;
use overlap_proto::exchange::v1::Frame;
use overlap_server::{
    matching::driver::{DeltaRule, MergeRule, directory, drive},
    overlap::{
        last::LastResult,
        reader::{Column, Filter, ResultSet, Shared},
    },
    sharing::policy::Agreement,
};

use oracle::{
    Row, Side, Tier, Type,
    harness::{TestNode, links, links_through},
    world::{Dice, STAGES, agreement, all, domain, email, external, phone, row, rows},
};

/// A company with what its customers are called.
struct Company {
    node: TestNode,
    side: Side,
    names: BTreeMap<String, u64>,
    regions: BTreeMap<String, u64>,
}

/// What a result says of a shared customer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    column: Column,
    ids: Vec<String>,
    name: String,
    handle: [u8; 16],
    fields: Vec<u8>,
}

/// All that can be read of a result.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    shared: BTreeMap<String, Said>,
    matched: BTreeSet<(Type, String)>,
    found: BTreeMap<String, Vec<String>>,
}

const fn node_type(key_type: Type) -> KeyType {
    match key_type {
        Type::ExternalId => KeyType::ExternalId,
        Type::Email => KeyType::Email,
        Type::Phone => KeyType::Phone,
        Type::Domain => KeyType::Domain,
    }
}

impl Company {
    fn new(number: u8, side: Side, merges: MergeRule) -> Self {
        let mut node = TestNode::new(number);
        node.settings.deltas = DeltaRule::Always;
        node.settings.merges = merges;
        Self {
            node,
            side,
            names: BTreeMap::new(),
            regions: BTreeMap::new(),
        }
    }

    fn import(&self) {
        self.node.import_csv(&self.file());
    }

    fn file(&self) -> String {
        let mut file =
            String::from("id,stage,private,name,region,email,phone,domain,external_id\n");
        for Row {
            id,
            stage,
            private,
            keys,
        } in &self.side.rows
        {
            let of = |wanted: Type| {
                let keys = keys.iter().filter(|key| key.0 == wanted);
                keys.map(|key| key.1.as_str()).collect::<Vec<_>>().join(";")
            };
            let number = |numbers: &BTreeMap<String, u64>| numbers.get(id).copied().unwrap_or(0);
            file.push_str(&format!(
                "{id},{stage},{private},Name {} of {id},Region {},{},{},{},{}\n",
                number(&self.names),
                number(&self.regions),
                of(Type::Email),
                of(Type::Phone),
                of(Type::Domain),
                of(Type::ExternalId),
            ));
        }
        file
    }

    fn agreement(&self, other: &Self) -> Agreement {
        let mut agreement = agreement(&self.side, &other.side);
        for policy in [&mut agreement.mine, &mut agreement.theirs] {
            policy.shared_fields = vec!["name".to_owned(), "region".to_owned()];
            policy.label_field_bytes = 64;
        }
        agreement
    }

    /// Reads everything in every way, and checks that the ways agree.
    fn read(&self, other: &Self) -> Read {
        let (_, result) = self.node.open_result();
        let page = result
            .page(&Filter::default(), 0, usize::MAX, None)
            .unwrap();
        assert_eq!(page.total, result.len());
        let mut by_pages = Vec::new();
        let mut start = 0;
        loop {
            let page = result
                .page(&Filter::default(), start, 7, Some(result.len()))
                .unwrap();
            by_pages.extend(page.customers.iter().map(|shared| shared.id.clone()));
            if !page.more {
                break;
            }
            start = page.customers.last().unwrap().position + 1;
        }
        let ids: Vec<String> = page
            .customers
            .iter()
            .map(|shared| shared.id.clone())
            .collect();
        assert_eq!(by_pages, ids);
        assert!(ids.is_sorted());
        let mut shared = BTreeMap::new();
        for found in page.customers {
            assert_eq!(result.shared(found.position).unwrap(), found);
            for id in &found.ids {
                assert_eq!(result.position_of_row(id).unwrap(), Some(found.position));
            }
            if found.handle != [0; 16] {
                let position = result.position_of_handle(&found.handle).unwrap();
                assert_eq!(position, Some(found.position), "{}", found.id);
            }
            let said = Said {
                column: found.column,
                ids: found.ids,
                name: found.name,
                handle: found.handle,
                fields: found.fields,
            };
            assert!(shared.insert(found.id, said).is_none());
        }
        self.read_searches(&result, shared, other)
    }

    fn read_searches(
        &self,
        result: &ResultSet,
        shared: BTreeMap<String, Said>,
        other: &Self,
    ) -> Read {
        let members: BTreeSet<&String> = shared.values().flat_map(|said| &said.ids).collect();
        let mut matched = BTreeSet::new();
        for row in self.side.rows.iter().chain(&other.side.rows) {
            if !members.contains(&row.id) {
                assert_eq!(result.position_of_row(&row.id).unwrap(), None, "{}", row.id);
            }
            for (key_type, value) in &row.keys {
                if result.matched(node_type(*key_type), value).unwrap() {
                    matched.insert((*key_type, value.clone()));
                }
            }
        }
        let mut found = BTreeMap::new();
        for search in ["name 0", "NAME 1 of", "company1", "000", "nobody"] {
            let filter = Filter {
                search: search.to_owned(),
                ..Filter::default()
            };
            let page = result.page(&filter, 0, usize::MAX, None).unwrap();
            let ids = page.customers.into_iter().map(|shared| shared.id).collect();
            found.insert(search.to_owned(), ids);
        }
        Read {
            shared,
            matched,
            found,
        }
    }

    /// One random change.
    fn change(&mut self, dice: &mut Dice, name: &str, number: u64) {
        let rows = &mut self.side.rows;
        let at = dice.below(rows.len() as u64) as usize;
        let stage = STAGES[dice.below(6) as usize].0;
        let key = |dice: &mut Dice| {
            let person = dice.below(90);
            match dice.below(5) {
                0 => external(person),
                1 => phone(person),
                2 => domain(person),
                _ => email(person),
            }
        };
        match dice.below(24) {
            0 | 9..12 => {
                let keys: Vec<_> = (0..dice.below(3)).map(|_| key(dice)).collect();
                // Before, between and behind the others.
                let place = ["0", name, "z"][dice.below(3) as usize];
                rows.push(row(&format!("{place}{number:05}n"), stage, &keys));
            }
            1 if rows.len() > 60 => {
                rows.remove(at);
            }
            2 => rows[at].private = !rows[at].private,
            3 => {
                rows[at].keys.insert(key(dice));
            }
            4 => {
                rows[at].keys.pop_first();
            }
            5 => {
                let other = dice.below(rows.len() as u64) as usize;
                let keys = rows[other].keys.clone();
                rows[at].keys.extend(keys);
            }
            6 | 12..16 => *self.names.entry(rows[at].id.clone()).or_default() += 1,
            7 | 16..20 => *self.regions.entry(rows[at].id.clone()).or_default() += 1,
            _ => rows[at].stage = stage.to_owned(),
        }
    }
}

/// Both run over a link of their own; whether that was a full run.
async fn run(companies: &[Company; 2], initiator: usize, number: u8) -> bool {
    for company in companies {
        company.import();
        company
            .node
            .clock
            .advance(jiff::SignedDuration::from_hours(1));
    }
    let (one, other) = (&companies[initiator], &companies[1 - initiator]);
    let (link, other_link) = links(number);
    let (done, other_done) = tokio::join!(
        tokio::spawn(drive(one.node.run(&other.node, one.agreement(other)), link)),
        tokio::spawn(drive(
            other.node.run(&one.node, other.agreement(one)),
            other_link
        )),
    );
    let (done, other_done) = (done.unwrap().unwrap(), other_done.unwrap().unwrap());
    assert_eq!(done.full, other_done.full);
    for company in companies {
        assert_eq!(
            company.node.run_directories().len(),
            1,
            "nothing else is left"
        );
    }
    done.full
}

/// Whether a result has a layer over its base.
fn has_layer(company: &Company) -> bool {
    let record = company.node.result().unwrap();
    let path = directory(company.node.directory.path(), &record.directory);
    path.join("layer").exists()
}

const NEVER: MergeRule = MergeRule {
    part: 1,
    least: u64::MAX,
};
const ALWAYS: MergeRule = MergeRule {
    part: u64::MAX,
    least: 0,
};
const OFTEN: MergeRule = MergeRule { part: 8, least: 0 };

fn companies(dice: &mut Dice, tiers: [Tier; 2], merges: [MergeRule; 2]) -> [Company; 2] {
    let mut companies = [0, 1].map(|index: usize| {
        let mut side = all(Tier::List);
        side.tiers.insert("Lost".to_owned(), tiers[index]);
        Company::new(index as u8 + 1, side, merges[index])
    });
    for (company, name) in companies.iter_mut().zip(["a", "b"]) {
        company.side.rows = rows(dice, name, 120, 90);
    }
    companies
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_run_finds_what_many_delta_runs_left() {
    let mut layered = 0;
    for (seed, merges) in [
        [NEVER, OFTEN],
        [OFTEN, ALWAYS],
        [ALWAYS, NEVER],
        [OFTEN, OFTEN],
    ]
    .into_iter()
    .enumerate()
    {
        let mut dice = Dice::new(7_000 + seed as u64);
        let tiers = [[Tier::List, Tier::Count], [Tier::Count, Tier::Count]][seed % 2];
        let mut companies = companies(&mut dice, tiers, merges);
        let mut number = 1;
        assert!(run(&companies, 0, number).await);
        for round in 0..12 {
            for (index, name) in ["a", "b"].into_iter().enumerate() {
                for i in 0..dice.below(8) {
                    companies[index].change(&mut dice, name, round * 10 + i);
                }
            }
            number += 1;
            assert!(!run(&companies, dice.below(2) as usize, number).await);
            let [a, b] = &companies;
            assert!(has_layer(a) || merges[0] != NEVER);
            layered += usize::from(has_layer(a)) + usize::from(has_layer(b));
            if round % 4 != 3 {
                a.read(b);
                b.read(a);
                continue;
            }
            let after_deltas = [a.read(b), b.read(a)];
            companies[0].node.full = true;
            number += 1;
            assert!(run(&companies, 0, number).await, "a full run on request");
            companies[0].node.full = false;
            let [a, b] = &companies;
            assert!(!has_layer(a) && !has_layer(b));
            assert_eq!(
                after_deltas[0].shared,
                a.read(b).shared,
                "seed {seed} round {round}"
            );
            assert_eq!(
                after_deltas,
                [a.read(b), b.read(a)],
                "seed {seed} round {round}"
            );
            assert!(after_deltas[0].shared.len() > 10);
        }
    }
    assert!(layered > 20, "most results have a layer: {layered}");
}

/// A delta run that breaks off anywhere, also while it would merge, leaves the last result and all its files.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_run_leaves_base_and_layer() {
    let mut dice = Dice::new(7_100);
    let mut companies = companies(&mut dice, [Tier::List, Tier::Count], [OFTEN, ALWAYS]);
    assert!(run(&companies, 0, 1).await);
    let mut number = 1;
    for cut in [2, 6, 10, 13] {
        for (index, name) in ["a", "b"].into_iter().enumerate() {
            for i in 0..6 {
                companies[index].change(&mut dice, name, u64::from(cut) * 10 + i);
            }
        }
        let [a, b] = &companies;
        let before = [a.read(b).shared, b.read(a).shared];
        a.import();
        b.import();
        number += 1;
        let passed = Arc::new(AtomicU32::new(0));
        let relay = |passed: Arc<AtomicU32>| {
            move |frame: Frame| (passed.fetch_add(1, Ordering::Relaxed) < cut).then_some(frame)
        };
        let (link, other_link) = links_through(number, relay(Arc::clone(&passed)), relay(passed));
        let (one, two) = tokio::join!(
            tokio::spawn(drive(a.node.run(&b.node, a.agreement(b)), link)),
            tokio::spawn(drive(b.node.run(&a.node, b.agreement(a)), other_link)),
        );
        let broke = one.unwrap().is_err() && two.unwrap().is_err();
        assert!(broke, "cut after {cut} frames");
        assert_eq!(before, [a.read(b).shared, b.read(a).shared]);
        number += 1;
        while a.node.run_directories().len() + b.node.run_directories().len() > 2 {
            // The work of the run that broke off has not let go of its files.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        run(&companies, 0, number).await;
        let [a, b] = &companies;
        a.read(b);
        b.read(a);
    }
}

/// Names that change while a delta run is under way are the next run's: labels of one run say of a customer what earlier labels
/// said of it, else the partner believes neither.
#[tokio::test(flavor = "multi_thread")]
async fn names_that_change_during_a_delta_run_reach_the_partner_with_the_next() {
    // Each of A's customers is two of B's, which only A's knowledge of both keys links.
    let mut a = Company::new(1, all(Tier::List), NEVER);
    let mut b = Company::new(2, all(Tier::List), NEVER);
    for number in 0..300 {
        let keys = [email(number), phone(number)];
        a.side
            .rows
            .push(row(&format!("a{number:03}"), "Lead", &keys));
        b.side
            .rows
            .push(row(&format!("b{number:03}e"), "Deal", &keys[..1]));
        b.side
            .rows
            .push(row(&format!("b{number:03}p"), "Deal", &keys[1..]));
    }
    let mut companies = [a, b];
    assert!(run(&companies, 0, 1).await);
    let before = companies[1].read(&companies[0]);
    assert_eq!(before.shared.len(), 300);

    let ids: Vec<String> = companies[0]
        .side
        .rows
        .iter()
        .map(|row| row.id.clone())
        .collect();
    companies[0].names = ids.into_iter().map(|id| (id, 1)).collect();
    let [a, b] = &companies;
    let (file, store, clock) = (a.file(), a.node.store.clone(), a.node.clock.clone());
    let mut greeted = false;
    // The partner's first frame after its hello: by then this side has planned its run.
    let change_names = move |frame: Frame| {
        if frame.kind != 1 && !greeted {
            greeted = true;
            oracle::world::import(&store, &clock, &file);
        }
        Some(frame)
    };
    let (link_a, link_b) = links_through(2, Some, change_names);
    let (done_a, done_b) = tokio::join!(
        tokio::spawn(drive(a.node.run(&b.node, a.agreement(b)), link_a)),
        tokio::spawn(drive(b.node.run(&a.node, b.agreement(a)), link_b)),
    );
    assert!(!done_a.unwrap().unwrap().full && !done_b.unwrap().unwrap().full);
    assert_eq!(b.read(a), before);

    assert!(!run(&companies, 0, 3).await);
    let after = companies[1].read(&companies[0]);
    for (id, said) in &after.shared {
        assert_ne!(said.fields, before.shared[id].fields, "{id}");
    }
}

/// The one shared customer of a company, and what the partner says of its region.
fn only_shared(company: &Company) -> (Shared, String) {
    let (record, result) = company.node.open_result();
    let page = result
        .page(&Filter::default(), 0, usize::MAX, None)
        .unwrap();
    let [shared] = &page.customers[..] else {
        panic!("one shared customer, not {}", page.customers.len());
    };
    for id in [&shared.ids[0], &shared.ids[shared.ids.len() - 1]] {
        let position = result.position_of_row(id).unwrap();
        assert_eq!(position, Some(shared.position), "{id}");
    }
    let last = LastResult {
        record,
        files: result,
    };
    let fields = last.partner_fields(shared);
    let region = fields.into_iter().find(|(name, _)| name == "region");
    (shared.clone(), region.expect("a region").1)
}

/// More rows than two bytes count, tied by keys of 31 rows each, and many customers of the partner's with one of those keys each.
#[tokio::test(flavor = "multi_thread")]
async fn a_customer_of_very_many_rows_is_the_same_in_full_and_by_changes() {
    const ROWS: u64 = 70_000;
    let mut companies = [1, 2].map(|number| Company::new(number, all(Tier::List), NEVER));
    companies[0].side.rows = (0..ROWS)
        .map(|number| {
            let mut keys = vec![email(number / 30)];
            if number % 30 == 0 && number > 0 {
                keys.push(email(number / 30 - 1));
            }
            row(&format!("a{number:05}"), "Prospect", &keys)
        })
        .collect();
    companies[1].side.rows = (0..1_000)
        .map(|number| row(&format!("b{number:05}"), "Prospect", &[email(number)]))
        .collect();
    assert!(run(&companies, 0, 1).await);
    let ids = |shared: &Shared| (shared.id.clone(), shared.ids.clone());
    let expected: Vec<String> = (0..ROWS).map(|number| format!("a{number:05}")).collect();
    let (shared, region) = only_shared(&companies[0]);
    assert_eq!(ids(&shared), ("a00000".to_owned(), expected.clone()));
    assert_eq!(region, "Region 0");

    // The last row goes, and the partner says something else.
    companies[0].side.rows.pop();
    let partners = companies[1].side.rows.iter().map(|row| (row.id.clone(), 1));
    companies[1].regions = partners.collect();
    assert!(!run(&companies, 0, 2).await);
    let (by_changes, region) = only_shared(&companies[0]);
    let left = expected[..expected.len() - 1].to_vec();
    assert_eq!(ids(&by_changes), ("a00000".to_owned(), left));
    assert_eq!(region, "Region 1");

    companies[0].node.full = true;
    assert!(run(&companies, 0, 3).await);
    let (in_full, region) = only_shared(&companies[0]);
    assert_eq!(ids(&in_full), ids(&by_changes));
    assert_eq!(in_full.fields, by_changes.fields);
    assert_eq!(region, "Region 1");
}
