//! What a delta run has to send: decided from the last run's state before the hello.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use overlap_crypto::{item::PADDING, list::LabelFormat, plan::Queries, terms::Tier};

use super::{
    entries::EntryTable,
    kept::{Kept, QUERIES, TAGS},
    links::Links,
    maps::Set,
    own::{ChosenKey, Own, ReadKeys, Reference, Update},
};
use crate::{
    error::Error,
    matching::{
        bits::Bits,
        local_customers::{KeyRef, Salt, StageTiers},
    },
    overlap::{reader::ResultSet, writer::Manifest},
};

/// Changes of one kind are padded to at least this many.
const LEAST_CHANGES: u64 = 1_024;
/// A run of more changes is a full one: a delta run holds about 2 KB a change in memory.
const MOST_CHANGES: u64 = 50_000;
/// Bytes of sealed labels that a side may publish in a delta run.
const MOST_LABEL_BYTES: u64 = 128 << 20;
/// Delta runs after which everything is matched again.
const MAX_DELTAS: u32 = 60;

/// The number that `count` changes to a table of `table` entries are padded to: the next power of two, and not below 1,024 nor
/// 1% of the table.
pub(crate) fn padded(count: u64, table: u64) -> u64 {
    count
        .next_power_of_two()
        .max(LEAST_CHANGES)
        .max(table.div_ceil(100))
}

/// Whether so many changes are better matched in a full run.
fn too_many(changes: usize, table: u64) -> bool {
    changes as u64 > most_changes(table)
}

/// The most changes to a table of `table` entries that a delta run takes.
pub(crate) fn most_changes(table: u64) -> u64 {
    (table / 4).clamp(LEAST_CHANGES, MOST_CHANGES)
}

/// The most tags that a partner's delta run publishes which keeps to [`most_changes`], if it has published `table`: new ones
/// and new labels, and as much again as its table may have shrunk since it was counted.
pub(crate) fn most_tags(table: u64) -> u64 {
    4 * padded(MOST_CHANGES, table)
}

/// Whether the labels of so many tags can be held in memory, which a delta run does.
pub(crate) const fn labels_fit(tags: u64, format: LabelFormat) -> bool {
    tags.saturating_mul(format.sealed_bytes() as u64) <= MOST_LABEL_BYTES
}

/// My customers in a delta run: those of the last run, and what becomes of them.
pub(crate) struct Customers {
    own: Mutex<Own>,
    pub(crate) update: Update,
}

impl Customers {
    /// Those of the last run, for reading.
    pub(crate) fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys with these numbers as they are now, in their order; `None` for one that is not usable.
    pub(crate) fn keys(
        &self,
        numbers: impl Iterator<Item = u32>,
    ) -> Result<Vec<Option<KeyRef>>, Error> {
        let mut own = self.own();
        numbers
            .map(|number| self.update.key_ref(&mut own, number))
            .collect()
    }

    /// The ids of rows, in their order.
    pub(crate) fn ids(&self, rows: impl Iterator<Item = u32>) -> Result<Vec<String>, Error> {
        let mut own = self.own();
        rows.map(|row| match self.update.id(row) {
            Some(id) => {
                String::from_utf8(id.to_vec()).map_err(|_| Error::internal("an id is no text"))
            }
            None => own.id(row),
        })
        .collect()
    }
}

/// A delta run, as this side wants it.
pub(crate) struct DeltaPlan {
    pub(crate) kept: Kept,
    pub(crate) customers: Arc<Customers>,
    pub(crate) links: Links,
    /// The last result.
    pub(crate) previous: (ResultSet, Manifest),
    pub(crate) mine: Option<Queries>,
    pub(crate) queries: Option<QueryPlan>,
    pub(crate) tags: Option<TagPlan>,
}

/// What I query.
pub(crate) struct QueryPlan {
    /// Every query of the epoch that holds.
    pub(crate) table: EntryTable,
    /// The tags of keys that were queried before and are looked at again, by key.
    pub(crate) tags: Vec<(u32, [u8; 16])>,
    /// Keys that no run of the epoch has queried, or that were dropped since, in random order.
    pub(crate) new: VecDeque<ChosenKey>,
    /// Their padded number, by tier.
    pub(crate) list: u64,
    pub(crate) count: u64,
}

/// What I publish.
pub(crate) struct TagPlan {
    /// Every tag of the epoch that holds.
    pub(crate) table: EntryTable,
    /// Keys without a tag.
    pub(crate) new: VecDeque<ChosenKey>,
    /// Their number, padded.
    pub(crate) additions: u64,
    /// Tags whose labels changed, and as many more as padding asks for.
    pub(crate) resealed: Vec<u32>,
    /// Tags that are void, padding among them, ascending.
    pub(crate) removed: Vec<[u8; 16]>,
}

/// What a plan is made from.
pub(crate) struct Basis<'a> {
    pub(crate) own: Own,
    pub(crate) update: Update,
    pub(crate) tiers: &'a StageTiers,
    /// Reads the keys of rows that did not change.
    pub(crate) read: &'a mut ReadKeys<'a>,
    /// A random number below another.
    pub(crate) below: &'a mut dyn FnMut(u64) -> u64,
}

impl DeltaPlan {
    /// Plans the run; `None` if a full one is better. `mine` is what I query, `published` whether the partner queries me.
    pub(crate) fn new(
        kept: Kept,
        mut basis: Basis<'_>,
        previous: (ResultSet, Manifest),
        mine: Option<Queries>,
        published: bool,
    ) -> Result<Option<Self>, Error> {
        let document = &kept.document;
        if document.deltas >= MAX_DELTAS
            || document.receiver.is_some() != mine.is_some()
            || document.evaluator.is_some() != published
        {
            return Ok(None);
        }
        let salt = document.own.salt()?;
        let queries = match (&document.receiver, mine) {
            (Some(receiver), Some(mine)) => {
                let table =
                    EntryTable::open(&kept.directory, &kept.key, QUERIES, &receiver.queries)?;
                match QueryPlan::new(table, &mut basis, mine, &salt)? {
                    Some(plan) => Some(plan),
                    None => return Ok(None),
                }
            }
            _ => None,
        };
        let tags = match &document.evaluator {
            Some(evaluator) => {
                let table = EntryTable::open(&kept.directory, &kept.key, TAGS, &evaluator.tags)?;
                match TagPlan::new(table, &mut basis, &salt)? {
                    Some(plan) => Some(plan),
                    None => return Ok(None),
                }
            }
            None => None,
        };
        Ok(Some(Self {
            customers: Arc::new(Customers {
                own: Mutex::new(basis.own),
                update: basis.update,
            }),
            links: Links::open(&kept.directory, &kept.key, &document.links)?,
            kept,
            previous,
            mine,
            queries,
            tags,
        }))
    }

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

/// Which keys come to be sent, go, and stay; by number.
#[derive(Default)]
struct Changed {
    new: Vec<u32>,
    gone: Set<u32>,
    /// Those that stay, but whose customer is something else now.
    relabelled: Set<u32>,
    /// Every one that was sent before and is looked at again.
    sent: Vec<u32>,
}

impl Changed {
    fn find(update: &Update, wanted: impl Fn(Reference) -> bool) -> Self {
        let mut changed = Self::default();
        for key in update.keys() {
            let was = key.before.is_some_and(&wanted);
            let is = key.now.is_some_and(&wanted);
            if was {
                changed.sent.push(key.number);
            }
            match (was, is) {
                (false, true) => changed.new.push(key.number),
                (true, false) => {
                    changed.gone.insert(key.number);
                }
                (true, true) if key.relabelled => {
                    changed.relabelled.insert(key.number);
                }
                _ => {}
            }
        }
        changed
    }

    /// The entries of the keys that were sent before, each with its key, by id; and of padding, if it is asked for.
    fn entries(
        &self,
        table: &mut EntryTable,
        mut padding: Option<&mut Vec<u32>>,
    ) -> Result<Vec<(u32, u32)>, Error> {
        let bound = self.sent.last().map_or(0, |key| *key as usize + 1);
        let mut sent = Bits::new(bound);
        for key in &self.sent {
            sent.insert(*key);
        }
        let mut entries = Vec::with_capacity(self.sent.len());
        table.scan(|id, owner| {
            if (owner as usize) < bound && sent.contains(owner) {
                entries.push((id, owner));
            } else if owner == PADDING
                && let Some(padding) = &mut padding
            {
                padding.push(id);
            }
        })?;
        if entries.len() != self.sent.len() {
            return Err(Error::internal("a key that was sent has no entry"));
        }
        Ok(entries)
    }
}

impl QueryPlan {
    fn new(
        mut table: EntryTable,
        basis: &mut Basis<'_>,
        mine: Queries,
        salt: &Salt,
    ) -> Result<Option<Self>, Error> {
        let tiers = basis.tiers;
        let tier = |reference: Reference| tiers.tier(reference.stage);
        let changed = Changed::find(&basis.update, |reference| match tier(reference) {
            Tier::List => mine.list,
            Tier::Count => mine.count,
            Tier::Hidden => false,
        });
        let declared = table.declared();
        if too_many(changed.new.len(), declared) {
            return Ok(None);
        }
        let entries = changed.entries(&mut table, None)?;
        let mut tags = Vec::with_capacity(entries.len());
        for (id, key) in &entries {
            tags.push((*key, table.tag(*id)?));
        }
        let gone = entries.iter().filter(|(_, key)| changed.gone.contains(key));
        table.remove(gone.map(|(id, _)| *id));
        let listed = changed
            .new
            .iter()
            .filter_map(|key| basis.update.key(*key)?.now)
            .filter(|now| tier(*now) == Tier::List)
            .count() as u64;
        let pad = |queried: bool, count| if queried { padded(count, declared) } else { 0 };
        Ok(Some(Self {
            list: pad(mine.list, listed),
            count: pad(mine.count, changed.new.len() as u64 - listed),
            table,
            tags,
            new: basis.update.values(&changed.new, salt, basis.read)?,
        }))
    }
}

impl TagPlan {
    fn new(
        mut table: EntryTable,
        basis: &mut Basis<'_>,
        salt: &Salt,
    ) -> Result<Option<Self>, Error> {
        let tiers = basis.tiers;
        let changed = Changed::find(&basis.update, |reference| {
            tiers.tier(reference.stage) == Tier::List
        });
        let declared = table.declared();
        if [
            &changed.new.len(),
            &changed.gone.len(),
            &changed.relabelled.len(),
        ]
        .into_iter()
        .any(|changes| too_many(*changes, declared))
        {
            return Ok(None);
        }
        let mut paddings = Vec::new();
        let entries = changed.entries(&mut table, Some(&mut paddings))?;
        let of = |keys: &Set<u32>| -> Vec<u32> {
            let chosen = entries.iter().filter(|(_, key)| keys.contains(key));
            chosen.map(|(id, _)| *id).collect()
        };
        let mut removed = of(&changed.gone);
        let mut resealed = of(&changed.relabelled);
        // Padding of earlier runs goes, so that the number of removals says as little as that of additions.
        let more = padded(removed.len() as u64, declared) - removed.len() as u64;
        removed.extend(choose(paddings, more, basis.below));
        removed.sort_unstable();
        let mut void = removed
            .iter()
            .map(|id| table.tag(*id))
            .collect::<Result<Vec<_>, _>>()?;
        void.sort_unstable();
        table.remove(removed.into_iter());
        let more = padded(resealed.len() as u64, declared) - resealed.len() as u64;
        choose_unchanged(&mut table, &mut resealed, more, basis.below)?;
        resealed.sort_unstable();
        Ok(Some(Self {
            additions: padded(changed.new.len() as u64, declared),
            new: basis.update.values(&changed.new, salt, basis.read)?,
            table,
            resealed,
            removed: void,
        }))
    }
}

/// So many of these, every choice equally likely; all of them if there are no more.
fn choose(mut among: Vec<u32>, wanted: u64, below: &mut dyn FnMut(u64) -> u64) -> Vec<u32> {
    let wanted = usize::try_from(wanted)
        .unwrap_or(usize::MAX)
        .min(among.len());
    for place in 0..wanted {
        let left = (among.len() - place) as u64;
        let other = place + usize::try_from(below(left)).expect("below the length of a vector");
        among.swap(place, other);
    }
    among.truncate(wanted);
    among
}

/// Adds so many live entries that are not among `chosen`, every choice equally likely; all of them if there are no more.
fn choose_unchanged(
    table: &mut EntryTable,
    chosen: &mut Vec<u32>,
    wanted: u64,
    below: &mut dyn FnMut(u64) -> u64,
) -> Result<(), Error> {
    let mut taken: Set<u32> = chosen.iter().copied().collect();
    let left = table.live().saturating_sub(taken.len() as u64);
    if wanted.saturating_mul(4) >= left {
        let mut among = Vec::new();
        table.scan(|id, _| {
            if !taken.contains(&id) {
                among.push(id);
            }
        })?;
        chosen.extend(choose(among, wanted, below));
        return Ok(());
    }
    let bound = table.bound();
    let mut missing = wanted;
    while missing > 0 {
        let id = u32::try_from(below(bound)).expect("ids are 32 bits");
        if table.is_live(id) && taken.insert(id) {
            chosen.push(id);
            missing -= 1;
        }
    }
    Ok(())
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
    fn a_quarter_of_a_table_may_change_at_least_1024_at_most_50_000() {
        for (table, most) in [
            (0, 1_024),
            (4_096, 1_024),
            (4_104, 1_026),
            (199_999, 49_999),
            (200_000, 50_000),
            (1 << 22, 50_000),
        ] {
            assert_eq!(most_changes(table), most, "of {table}");
            assert!(!too_many(most as usize, table), "of {table}");
            assert!(too_many(most as usize + 1, table), "of {table}");
        }
        // 50,000 are padded to 65,536, and to a hundredth of ten million.
        assert_eq!(most_tags(1 << 20), 262_144);
        assert_eq!(most_tags(10_000_000), 400_000);
        // 128 MiB of the longest labels, of 4,096 bytes; of those with the default fields area, of 289, as many as there may be.
        let longest = LabelFormat::new(4_063).unwrap();
        assert!(labels_fit(32_768, longest) && !labels_fit(32_769, longest));
        assert!(labels_fit(400_000, LabelFormat::new(256).unwrap()));
        assert!(!labels_fit(u64::MAX, longest));
    }

    #[test]
    fn a_choice_has_as_many_as_wanted_or_there_are_and_none_twice() {
        let mut state = 1_u64;
        let mut below = |bound: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % bound
        };
        let mut often = [0; 10];
        for _ in 0..1_000 {
            for (wanted, among, expected) in [(0, 5, 0), (3, 10, 3), (10, 10, 10), (11, 10, 10)] {
                let mut chosen = choose((0..among).collect(), wanted, &mut below);
                if wanted == 3 {
                    chosen.iter().for_each(|id| often[*id as usize] += 1);
                }
                chosen.sort_unstable();
                chosen.dedup();
                assert_eq!(chosen.len(), expected, "{wanted} of {among}");
            }
        }
        // 300 each, give or take five standard deviations.
        assert!(
            often.iter().all(|count| (228..372).contains(count)),
            "{often:?}"
        );
    }
}
