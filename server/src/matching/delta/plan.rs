//! What a delta run has to send: decided from the last run's state before the hello.

use std::collections::VecDeque;

use overlap_crypto::{item::PADDING, plan::Queries, terms::Tier};

use super::{
    kept::{Kept, QUERIES, TAGS},
    own::{ChosenKey, Update},
    table::{EntryTable, GONE},
};
use crate::{error::Error, matching::local_customers::LocalCustomers};

/// Changes of one kind are padded to at least this many.
const LEAST_CHANGES: u64 = 1_024;
/// Delta runs after which everything is matched again.
const MAX_DELTAS: u32 = 60;
/// Tables up to this many entries may grow without limit but the number of runs.
const SMALL_TABLE: u64 = 1 << 16;

/// The number that `count` changes to a table of `table` entries are padded to: the next power of two, and not below 1,024 nor
/// 1% of the table.
pub(crate) fn padded(count: u64, table: u64) -> u64 {
    count
        .next_power_of_two()
        .max(LEAST_CHANGES)
        .max(table.div_ceil(100))
}

/// Whether so many changes are better matched in a full run.
const fn too_many(changes: usize, table: u64) -> bool {
    changes as u64 > most_changes(table)
}

/// The most changes to a table of `table` entries that a delta run takes.
pub(crate) const fn most_changes(table: u64) -> u64 {
    if table / 4 > LEAST_CHANGES {
        table / 4
    } else {
        LEAST_CHANGES
    }
}

/// A delta run, as this side wants it.
pub(crate) struct DeltaPlan {
    pub(crate) kept: Kept,
    pub(crate) update: Update,
    /// The ids of rows that changed since the last run, ascending.
    pub(crate) changed: Vec<Vec<u8>>,
    pub(crate) queries: Option<QueryPlan>,
    pub(crate) tags: Option<TagPlan>,
}

/// What I query.
pub(crate) struct QueryPlan {
    /// Every query of the epoch, with the keys as owners that are still queried.
    pub(crate) table: EntryTable,
    /// By key: whether it is queried in this run or was before.
    pub(crate) live: Vec<bool>,
    /// Keys that no run of the epoch has queried, by position.
    pub(crate) new: VecDeque<ChosenKey>,
    /// Their padded number, by tier.
    pub(crate) list: u64,
    pub(crate) count: u64,
}

/// What I publish.
pub(crate) struct TagPlan {
    /// Every tag of the epoch, with the keys as owners that are still published.
    pub(crate) table: EntryTable,
    /// By key: whether it has a tag, or gets one.
    pub(crate) live: Vec<bool>,
    /// Keys without a tag, by position.
    pub(crate) new: VecDeque<ChosenKey>,
    /// Their number, padded.
    pub(crate) additions: u64,
    /// Tags whose labels changed, then as many more as padding asks for.
    pub(crate) resealed: Vec<u32>,
    /// Tags that are void, padding among them.
    pub(crate) removed: Vec<u32>,
}

impl DeltaPlan {
    /// Plans the run; `None` if a full one is better. `mine` is what I query, `published` whether the partner queries me.
    pub(crate) fn new(
        kept: Kept,
        mut update: Update,
        changed: Vec<Vec<u8>>,
        local: &LocalCustomers,
        mine: Option<Queries>,
        published: bool,
        below: &mut dyn FnMut(u64) -> u64,
    ) -> Result<Option<Self>, Error> {
        let document = &kept.document;
        if document.deltas >= MAX_DELTAS
            || document.receiver.is_some() != mine.is_some()
            || document.evaluator.is_some() != published
        {
            return Ok(None);
        }
        let queries = match (&document.receiver, mine) {
            (Some(receiver), Some(mine)) => {
                let table =
                    EntryTable::open(&kept.directory, &kept.key, QUERIES, &receiver.queries)?;
                let grown = receiver.queries.added().max(receiver.published.added());
                if grown > SMALL_TABLE.max(table.declared() / 2) {
                    return Ok(None);
                }
                match QueryPlan::new(table, &mut update, local, mine)? {
                    Some(plan) => Some(plan),
                    None => return Ok(None),
                }
            }
            _ => None,
        };
        let tags = match &document.evaluator {
            Some(evaluator) => {
                let table = EntryTable::open(&kept.directory, &kept.key, TAGS, &evaluator.tags)?;
                if evaluator.tags.added() > SMALL_TABLE.max(table.declared() / 2) {
                    return Ok(None);
                }
                match TagPlan::new(table, &mut update, local, below)? {
                    Some(plan) => Some(plan),
                    None => return Ok(None),
                }
            }
            None => None,
        };
        Ok(Some(Self {
            kept,
            update,
            changed,
            queries,
            tags,
        }))
    }
}

impl DeltaPlan {
    /// Sizes for the hello: list-tier queries, count-tier queries, tags.
    pub(crate) fn sizes(&self) -> [u64; 3] {
        let [list, count] = self
            .queries
            .as_ref()
            .map_or([0, 0], |plan| [plan.list, plan.count]);
        let tags = self
            .tags
            .as_ref()
            .map_or(0, |plan| plan.additions + plan.resealed.len() as u64);
        [list, count, tags]
    }
}

/// Gives the entries of a table the keys of this run as owners. Says which keys that are `wanted` have none, and which keys
/// are wanted at all.
fn renumber(
    table: &mut EntryTable,
    update: &Update,
    local: &LocalCustomers,
    wanted: impl Fn(Tier) -> bool,
    mut gone: impl FnMut(u32),
) -> (Vec<u32>, Vec<bool>) {
    let keys = update.relabelled.len();
    let wants = |key: u32| wanted(local.tiers().tier(update.keys.stage(key)));
    let mut has = vec![false; keys];
    for (id, owner) in (0_u32..).zip(&mut table.owners) {
        if *owner == PADDING || *owner == GONE {
            continue;
        }
        let key = update.key_now[*owner as usize];
        if key != GONE && wants(key) {
            has[key as usize] = true;
            *owner = key;
        } else {
            *owner = GONE;
            gone(id);
        }
    }
    let mut new = Vec::new();
    for (key, has) in (0_u32..).zip(&mut has) {
        if !*has && wants(key) {
            *has = true;
            new.push(key);
        }
    }
    (new, has)
}

impl QueryPlan {
    fn new(
        mut table: EntryTable,
        update: &mut Update,
        local: &LocalCustomers,
        mine: Queries,
    ) -> Result<Option<Self>, Error> {
        let wanted = |tier| match tier {
            Tier::List => mine.list,
            Tier::Count => mine.count,
            Tier::Hidden => false,
        };
        let (new, live) = renumber(&mut table, update, local, wanted, |_| ());
        let declared = table.declared();
        if too_many(new.len(), declared) {
            return Ok(None);
        }
        let listed = new
            .iter()
            .filter(|key| local.tiers().tier(update.keys.stage(**key)) == Tier::List)
            .count() as u64;
        let pad = |queried: bool, count| if queried { padded(count, declared) } else { 0 };
        Ok(Some(Self {
            list: pad(mine.list, listed),
            count: pad(mine.count, new.len() as u64 - listed),
            table,
            live,
            new: update.values(local, &new)?,
        }))
    }
}

impl TagPlan {
    fn new(
        mut table: EntryTable,
        update: &mut Update,
        local: &LocalCustomers,
        below: &mut dyn FnMut(u64) -> u64,
    ) -> Result<Option<Self>, Error> {
        let mut removed = Vec::new();
        let (new, live) = renumber(
            &mut table,
            update,
            local,
            |tier| tier == Tier::List,
            |id| removed.push(id),
        );
        let declared = table.declared();
        let (mut resealed, mut unchanged, mut paddings) = (Vec::new(), 0_u64, 0_u64);
        for (id, &owner) in (0_u32..).zip(&table.owners) {
            match owner {
                GONE => {}
                PADDING => paddings += 1,
                key if update.relabelled[key as usize] => resealed.push(id),
                _ => unchanged += 1,
            }
        }
        if [new.len(), removed.len(), resealed.len()]
            .into_iter()
            .any(|changes| too_many(changes, declared))
        {
            return Ok(None);
        }
        // Padding of earlier runs goes, so that the number of removals says as little as that of additions.
        let more = padded(removed.len() as u64, declared) - removed.len() as u64;
        let mut dropping = Selection::new(more, paddings);
        for (id, owner) in (0_u32..).zip(&mut table.owners) {
            if *owner == PADDING && dropping.takes(below) {
                *owner = GONE;
                removed.push(id);
                paddings -= 1;
            }
        }
        removed.sort_unstable();
        let more = padded(resealed.len() as u64, declared) - resealed.len() as u64;
        let mut resealing = Selection::new(more, unchanged + paddings);
        for (id, &owner) in (0_u32..).zip(&table.owners) {
            let changed = owner == GONE || (owner != PADDING && update.relabelled[owner as usize]);
            if !changed && resealing.takes(below) {
                resealed.push(id);
            }
        }
        Ok(Some(Self {
            additions: padded(new.len() as u64, declared),
            table,
            live,
            new: update.values(local, &new)?,
            resealed,
            removed,
        }))
    }
}

/// Chooses some of a known number of things that come one by one, every choice equally likely (Knuth, algorithm S).
struct Selection {
    wanted: u64,
    left: u64,
}

impl Selection {
    fn new(wanted: u64, among: u64) -> Self {
        Self {
            wanted: wanted.min(among),
            left: among,
        }
    }

    /// Whether to take the next; `below(n)` is a random number below n.
    fn takes(&mut self, below: &mut dyn FnMut(u64) -> u64) -> bool {
        if self.wanted == 0 || self.left == 0 {
            return false;
        }
        let takes = below(self.left) < self.wanted;
        self.left -= 1;
        self.wanted -= u64::from(takes);
        takes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_padded_to_a_power_of_two_a_thousand_or_a_hundredth() {
        for (count, table, expected) in [
            (0, 10, 1_024),
            (1_024, 10, 1_024),
            (1_025, 10, 2_048),
            (5, 1 << 20, 10_486),
            (10_487, 1 << 20, 16_384),
        ] {
            assert_eq!(padded(count, table), expected, "{count} of {table}");
        }
    }

    #[test]
    fn a_selection_takes_as_many_as_wanted_or_there_are() {
        let mut state = 1_u64;
        let mut below = |bound: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % bound
        };
        for (wanted, among, expected) in [(0, 5, 0), (3, 10, 3), (10, 10, 10), (11, 10, 10)] {
            let mut selection = Selection::new(wanted, among);
            let taken = (0..among).filter(|_| selection.takes(&mut below)).count();
            assert_eq!(taken as u64, expected, "{wanted} of {among}");
        }
    }
}
