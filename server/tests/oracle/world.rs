//! Random companies, and their policies in the node's and in the oracle's form.

use std::collections::{BTreeMap, BTreeSet};

use overlap_crypto::terms::{KeyType, Tier as NodeTier};
use overlap_server::{
    clock::Clock,
    customers::{
        files::Format,
        import::{ImportOptions, Source, import_reader},
    },
    sharing::policy::{Agreement, Policy, Stage},
    storage::Store,
};

use super::{Key, Row, Side, Tier, Type};

/// A small deterministic generator (xorshift64*).
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 16) % bound
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// The built-in stages, written down again.
pub const STAGES: [(&str, u32); 6] = [
    ("Prospect", 10),
    ("Lead", 20),
    ("Deal", 30),
    ("Customer", 40),
    ("Lost", 50),
    ("Churned", 60),
];

/// A side without customers that discloses nothing.
pub fn side() -> Side {
    Side {
        rows: Vec::new(),
        stages: STAGES.map(|(id, ordinal)| (id.to_owned(), ordinal)).into(),
        tiers: BTreeMap::new(),
        match_on: BTreeSet::from([Type::ExternalId, Type::Email, Type::Phone, Type::Domain]),
        min_count: 5,
        count_by_count: false,
        max_evaluations: 10_000_000,
    }
}

/// A side that discloses all stages in one tier.
pub fn all(tier: Tier) -> Side {
    let mut side = side();
    side.tiers = STAGES.map(|(id, _)| (id.to_owned(), tier)).into();
    side
}

pub fn row(id: &str, stage: &str, keys: &[Key]) -> Row {
    Row {
        id: id.to_owned(),
        stage: stage.to_owned(),
        private: false,
        keys: keys.iter().cloned().collect(),
    }
}

pub fn email(number: u64) -> Key {
    (
        Type::Email,
        format!("user{number}@mail{}.example", number % 7),
    )
}

pub fn external(number: u64) -> Key {
    (Type::ExternalId, format!("X-{number}"))
}

pub fn phone(number: u64) -> Key {
    (Type::Phone, format!("+4930{:07}", 1_000_000 + number))
}

pub fn domain(number: u64) -> Key {
    (Type::Domain, format!("company{number}.com"))
}

/// Random rows over a common universe of people, so that two companies share some: several identifiers each, duplicates,
/// private rows, identifiers that join what would else be two.
pub fn rows(dice: &mut Dice, prefix: &str, count: u64, universe: u64) -> Vec<Row> {
    (0..count)
        .map(|number| {
            let person = dice.below(universe);
            let mut keys = BTreeSet::new();
            if dice.chance(80) {
                keys.insert(email(person));
            }
            if dice.chance(40) {
                keys.insert(phone(person));
            }
            if dice.chance(25) {
                keys.insert(external(person));
            }
            if dice.chance(15) {
                keys.insert(domain(person));
            }
            // A second person's identifier joins the two on this side only.
            if dice.chance(8) {
                keys.insert(email(dice.below(universe)));
            }
            Row {
                id: format!("{prefix}{number:05}"),
                stage: STAGES[dice.below(STAGES.len() as u64) as usize]
                    .0
                    .to_owned(),
                private: dice.chance(4),
                keys,
            }
        })
        .collect()
}

/// Random tiers for every stage.
pub fn tiers(dice: &mut Dice) -> BTreeMap<String, Tier> {
    STAGES
        .iter()
        .map(|(id, _)| {
            let tier = [Tier::Hidden, Tier::Count, Tier::List][dice.below(3) as usize];
            ((*id).to_owned(), tier)
        })
        .collect()
}

/// The customers as a file to import.
pub fn csv(rows: &[Row]) -> String {
    let mut file = String::from("id,stage,private,name,email,phone,domain,external_id\n");
    for row in rows {
        let of = |wanted: Type| {
            row.keys
                .iter()
                .filter(|key| key.0 == wanted)
                .map(|key| key.1.as_str())
                .collect::<Vec<_>>()
                .join(";")
        };
        file.push_str(&format!(
            "{},{},{},Name of {},{},{},{},{}\n",
            row.id,
            row.stage,
            row.private,
            row.id,
            of(Type::Email),
            of(Type::Phone),
            of(Type::Domain),
            of(Type::ExternalId),
        ));
    }
    file
}

fn policy(side: &Side) -> Policy {
    Policy {
        tiers: side
            .tiers
            .iter()
            .map(|(stage, tier)| {
                let tier = match tier {
                    Tier::Hidden => NodeTier::Hidden,
                    Tier::Count => NodeTier::Count,
                    Tier::List => NodeTier::List,
                };
                (stage.clone(), tier)
            })
            .collect(),
        shared_fields: Vec::new(),
        timeline: false,
        match_on: side
            .match_on
            .iter()
            .map(|wanted| match wanted {
                Type::ExternalId => KeyType::ExternalId,
                Type::Email => KeyType::Email,
                Type::Phone => KeyType::Phone,
                Type::Domain => KeyType::Domain,
            })
            .collect(),
        domain_from_email: false,
        min_count: u32::try_from(side.min_count).unwrap(),
        count_by_count: side.count_by_count,
        label_field_bytes: 0,
        padding: 0,
        max_evaluations_per_epoch: side.max_evaluations,
        min_interval_s: 0,
    }
}

fn stages(side: &Side, all: bool) -> Vec<Stage> {
    Stage::built_in()
        .into_iter()
        .filter(|stage| all || side.tier(&stage.id) != Tier::Hidden)
        .collect()
}

/// The agreement as `mine` holds it: hidden stages of the partner's are not named.
pub fn agreement(mine: &Side, theirs: &Side) -> Agreement {
    Agreement {
        mine: policy(mine),
        theirs: policy(theirs),
        my_stages: stages(mine, true),
        their_stages: stages(theirs, false),
    }
}

/// Replaces a store's customers by those of a file.
pub fn import(store: &Store, clock: &dyn Clock, csv: &str) {
    let source = Source {
        file: "customers.csv",
        format: Format::Csv,
        reader: &mut csv.as_bytes(),
        total_bytes: None,
    };
    let options = ImportOptions {
        default_region: None,
        replace_all: true,
    };
    import_reader(store, clock, source, &options, &mut |_| ()).unwrap();
}
