//! What two nodes must find, written down from the rules with sets and maps only. Shares no code with the node.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    reason = "each test binary uses its part; a test may panic"
)]

pub mod audited;
pub mod harness;
pub mod network;
pub mod world;

use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    Hidden,
    Count,
    List,
}

/// Key types in the agreed order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Type {
    ExternalId,
    Email,
    Phone,
    Domain,
}

pub type Key = (Type, String);

#[derive(Clone, Debug)]
pub struct Row {
    pub id: String,
    pub stage: String,
    pub private: bool,
    pub keys: BTreeSet<Key>,
}

#[derive(Clone, Debug)]
pub struct Side {
    pub rows: Vec<Row>,
    /// Id and ordinal of every stage.
    pub stages: Vec<(String, u32)>,
    /// A stage that is not named is hidden.
    pub tiers: BTreeMap<String, Tier>,
    pub match_on: BTreeSet<Type>,
    pub min_count: u64,
    pub count_by_count: bool,
    /// What the other side may query in an epoch.
    pub max_evaluations: u64,
}

impl View {
    /// The view of a reader to whom the other side does not even name the stages that it hides.
    pub fn without_hidden(mut self) -> Self {
        self.cells.retain(|_, cell| cell.0 != "NOT_SHARED");
        self
    }
}

impl Side {
    pub fn tier(&self, stage: &str) -> Tier {
        self.tiers.get(stage).copied().unwrap_or(Tier::Hidden)
    }

    fn ordinal(&self, stage: &str) -> u32 {
        self.stages
            .iter()
            .find(|(id, _)| id == stage)
            .map(|(_, ordinal)| *ordinal)
            .expect("rows have known stages")
    }
}

/// Rows merged by shared keys.
#[derive(Clone, Debug)]
pub struct Local {
    /// Row of highest stage, then of smallest id.
    pub id: String,
    pub ids: BTreeSet<String>,
    pub stage: String,
    pub ordinal: u32,
    pub tier: Tier,
    pub keys: BTreeSet<Key>,
}

/// Rule 2.1 to 2.3.
pub fn locals(side: &Side, types: &BTreeSet<Type>) -> Vec<Local> {
    let rows: Vec<&Row> = side
        .rows
        .iter()
        .filter(|row| !row.private && side.tier(&row.stage) != Tier::Hidden)
        .collect();
    let mut rows_of_key: BTreeMap<&Key, BTreeSet<usize>> = BTreeMap::new();
    for (index, row) in rows.iter().enumerate() {
        for key in row.keys.iter().filter(|key| types.contains(&key.0)) {
            rows_of_key.entry(key).or_default().insert(index);
        }
    }
    rows_of_key.retain(|_, rows| rows.len() <= 32);
    let edges: Vec<(usize, usize)> = rows_of_key
        .values()
        .flat_map(|rows| rows.iter().map(|row| (*rows.first().unwrap(), *row)))
        .collect();
    components(rows.len(), &edges)
        .into_iter()
        .map(|members| {
            let members: Vec<&Row> = members.into_iter().map(|index| rows[index]).collect();
            let top = members
                .iter()
                .map(|row| side.ordinal(&row.stage))
                .max()
                .unwrap();
            let naming = members
                .iter()
                .filter(|row| side.ordinal(&row.stage) == top)
                .min_by_key(|row| &row.id)
                .unwrap();
            Local {
                id: naming.id.clone(),
                ids: members.iter().map(|row| row.id.clone()).collect(),
                stage: naming.stage.clone(),
                ordinal: top,
                tier: side.tier(&naming.stage),
                keys: members
                    .iter()
                    .flat_map(|row| row.keys.iter())
                    .filter(|key| rows_of_key.contains_key(key))
                    .cloned()
                    .collect(),
            }
        })
        .collect()
}

/// Connected components of `0..count`.
fn components(count: usize, edges: &[(usize, usize)]) -> Vec<BTreeSet<usize>> {
    let mut neighbours = vec![BTreeSet::new(); count];
    for &(a, b) in edges {
        neighbours[a].insert(b);
        neighbours[b].insert(a);
    }
    let mut seen = vec![false; count];
    let mut found = Vec::new();
    for start in 0..count {
        if seen[start] {
            continue;
        }
        let mut members = BTreeSet::new();
        let mut open = vec![start];
        while let Some(node) = open.pop() {
            if std::mem::replace(&mut seen[node], true) {
                continue;
            }
            members.insert(node);
            open.extend(&neighbours[node]);
        }
        found.push(members);
    }
    found
}

/// A shared customer as its reader sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SharedCustomer {
    pub id: String,
    pub ids: BTreeSet<String>,
    pub mine: String,
    pub theirs: String,
    pub matched_on: BTreeSet<Type>,
    /// Whether the other side sees who it is, too.
    pub mutual: bool,
}

/// What a reader sees of a cell.
pub type Cell = (&'static str, Option<u64>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    pub cells: BTreeMap<(String, String), Cell>,
    pub shared: Vec<SharedCustomer>,
    pub shared_customers: Option<u64>,
}

/// Everything `reader` may see of what it shares with `other`, after a first run.
pub fn view(reader: &Side, other: &Side) -> View {
    let types: BTreeSet<Type> = reader
        .match_on
        .intersection(&other.match_on)
        .copied()
        .collect();
    let (mine, theirs) = (locals(reader, &types), locals(other, &types));
    let edges: Vec<(usize, usize, BTreeSet<Type>)> = (0..mine.len())
        .flat_map(|i| (0..theirs.len()).map(move |j| (i, j)))
        .filter_map(|(i, j)| {
            let shared: BTreeSet<Type> = mine[i]
                .keys
                .intersection(&theirs[j].keys)
                .map(|key| key.0)
                .collect();
            (!shared.is_empty()).then_some((i, j, shared))
        })
        .collect();

    let shared = listed(&mine, &theirs, &edges);
    let report = report(reader, other, &mine, &theirs, &edges);
    let counted = count_flow(reader, other, &mine, &theirs, &edges, &types);

    let mut cells = BTreeMap::new();
    for (my_stage, _) in &reader.stages {
        for (their_stage, _) in &other.stages {
            let at = (my_stage.clone(), their_stage.clone());
            let cell: Cell = match (reader.tier(my_stage), other.tier(their_stage)) {
                (_, Tier::Hidden) => ("NOT_SHARED", None),
                (Tier::Hidden, _) => ("WITHHELD", None),
                (_, Tier::List) => {
                    let count = shared
                        .iter()
                        .filter(|s| s.mine == *my_stage && s.theirs == *their_stage)
                        .count();
                    ("LISTED", Some(count as u64))
                }
                (Tier::List, Tier::Count) => match report.get(&at) {
                    Some(count) => ("COUNTED", Some(*count)),
                    None => ("SUPPRESSED", None),
                },
                (Tier::Count, Tier::Count) => match &counted {
                    None => ("DISABLED", None),
                    Some(counts) => {
                        let count = counts.get(&at).copied().unwrap_or(0);
                        if count >= other.min_count.max(1) {
                            ("COUNTED", Some(count))
                        } else {
                            ("SUPPRESSED", None)
                        }
                    }
                },
            };
            cells.insert(at, cell);
        }
    }
    let visible: Vec<u64> = cells.values().filter_map(|cell| cell.1).collect();
    View {
        shared_customers: (!visible.is_empty()).then(|| visible.iter().sum()),
        cells,
        shared,
    }
}

type Edges = [(usize, usize, BTreeSet<Type>)];

/// Components over the edges that are listed to the owner of `mine` (rule 2.5).
fn listed_components(mine: &[Local], theirs: &[Local], edges: &Edges) -> Vec<BTreeSet<usize>> {
    let listed: Vec<(usize, usize)> = edges
        .iter()
        .filter(|(_, j, _)| theirs[*j].tier == Tier::List)
        .map(|(i, j, _)| (*i, mine.len() + *j))
        .collect();
    components(mine.len() + theirs.len(), &listed)
        .into_iter()
        .filter(|members| members.len() > 1)
        .collect()
}

fn listed(mine: &[Local], theirs: &[Local], edges: &Edges) -> Vec<SharedCustomer> {
    let mut shared: Vec<SharedCustomer> = listed_components(mine, theirs, edges)
        .into_iter()
        .map(|members| {
            let (own, partners): (Vec<usize>, Vec<usize>) =
                members.iter().partition(|member| **member < mine.len());
            let own: Vec<&Local> = own.into_iter().map(|i| &mine[i]).collect();
            let top = own.iter().map(|local| local.ordinal).max().unwrap();
            let naming = own
                .iter()
                .filter(|local| local.ordinal == top)
                .min_by_key(|local| &local.id)
                .unwrap();
            let partner = partners
                .iter()
                .map(|j| &theirs[j - mine.len()])
                .max_by_key(|local| local.ordinal)
                .unwrap();
            SharedCustomer {
                id: naming.id.clone(),
                ids: own.iter().flat_map(|local| local.ids.clone()).collect(),
                mine: naming.stage.clone(),
                theirs: partner.stage.clone(),
                matched_on: edges
                    .iter()
                    .filter(|(i, j, _)| members.contains(i) && members.contains(&(mine.len() + j)))
                    .filter(|(_, j, _)| theirs[*j].tier == Tier::List)
                    .flat_map(|(_, _, types)| types.clone())
                    .collect(),
                mutual: own.iter().any(|local| local.tier == Tier::List),
            }
        })
        .collect();
    shared.sort();
    shared
}

/// What `other` reports to `reader` (section 5.6), by (reader's stage, other's stage).
fn report(
    reader: &Side,
    other: &Side,
    mine: &[Local],
    theirs: &[Local],
    edges: &Edges,
) -> BTreeMap<(String, String), u64> {
    // Seen from the reporter.
    let turned: Vec<(usize, usize, BTreeSet<Type>)> = edges
        .iter()
        .map(|(i, j, types)| (*j, *i, types.clone()))
        .collect();
    let seen = listed(theirs, mine, &turned);
    let mut members: BTreeMap<(String, String), u64> = BTreeMap::new();
    for shared in seen.iter().filter(|shared| !shared.mutual) {
        // The reporter's "theirs" is the reader's stage.
        *members
            .entry((shared.theirs.clone(), shared.mine.clone()))
            .or_default() += 1;
    }
    let threshold = other.min_count.max(1);
    let mut released = BTreeMap::new();
    for (reader_stage, _) in &reader.stages {
        if reader.tier(reader_stage) != Tier::List {
            continue;
        }
        let listed: Vec<usize> = (0..mine.len())
            .filter(|i| mine[*i].stage == *reader_stage && !mine[*i].keys.is_empty())
            .collect();
        let declared = listed.len() as u64 / 16 * 16;
        let claimed = listed
            .iter()
            .filter(|i| {
                edges
                    .iter()
                    .any(|(a, j, _)| a == *i && theirs[*j].tier == Tier::List)
            })
            .count() as u64;
        let column: u64 = members
            .iter()
            .filter(|((stage, _), _)| stage == reader_stage)
            .map(|(_, count)| *count)
            .sum();
        if declared.saturating_sub(claimed) < column + threshold {
            continue;
        }
        for (other_stage, _) in &other.stages {
            let at = (reader_stage.clone(), other_stage.clone());
            let count = members.get(&at).copied().unwrap_or(0);
            if other.tier(other_stage) == Tier::Count && count >= threshold {
                released.insert(at, count);
            }
        }
    }
    released
}

/// The one-key count flow (section 6), `None` if it does not run.
fn count_flow(
    reader: &Side,
    other: &Side,
    mine: &[Local],
    theirs: &[Local],
    edges: &Edges,
    types: &BTreeSet<Type>,
) -> Option<BTreeMap<(String, String), u64>> {
    let counts = |side: &Side| side.tiers.values().any(|tier| *tier == Tier::Count);
    if !(reader.count_by_count && other.count_by_count && counts(reader) && counts(other)) {
        return None;
    }
    let first = types.first()?;
    let item = |local: &Local| {
        local
            .keys
            .iter()
            .filter(|key| key.0 == *first)
            .min()
            .cloned()
    };
    let own: Vec<(Key, &Local)> = (0..mine.len())
        .filter(|i| mine[*i].tier == Tier::Count)
        .filter(|i| {
            !edges
                .iter()
                .any(|(a, j, _)| a == i && theirs[*j].tier == Tier::List)
        })
        .filter_map(|i| item(&mine[i]).map(|key| (key, &mine[i])))
        .collect();
    let partners: BTreeMap<Key, &Local> = (0..theirs.len())
        .filter(|j| theirs[*j].tier == Tier::Count)
        .filter(|j| {
            !edges
                .iter()
                .any(|(i, b, _)| b == j && mine[*i].tier == Tier::List)
        })
        .filter_map(|j| item(&theirs[j]).map(|key| (key, &theirs[j])))
        .collect();
    let mut found = BTreeMap::new();
    for (key, local) in own {
        if let Some(partner) = partners.get(&key) {
            *found
                .entry((local.stage.clone(), partner.stage.clone()))
                .or_insert(0) += 1;
        }
    }
    Some(found)
}
