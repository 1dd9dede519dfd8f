//! What a ledger says, and whether the database agrees.

use ring::digest;

use super::Budget;
use crate::matching::records::StoredBudget;

/// The last line of a ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Counts how often the ledger was opened and closed.
    pub generation: u64,
    /// The newest epoch of mine; 0 for none.
    pub epoch: u64,
    /// Evaluations debited in the window.
    pub queries: u64,
    /// The partner's tags debited in the window.
    pub tags: u64,
    /// When the window began, Unix time.
    pub since: i64,
    /// When the last run gave the partner what it gives, Unix time; 0 for never.
    pub last_run: i64,
    /// The partner's set in that run.
    pub peer_set: u64,
    /// Whether the database knows of this generation.
    pub settled: bool,
}

/// What a ledger file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing: it is new, or was lost.
    Nothing,
    /// A line that is not as it was written.
    Damaged,
    /// A good last line.
    Last(Balance),
}

impl Balance {
    const FIELDS: usize = 8;
    const CHECK_BYTES: usize = 32;
    /// Bytes of a line.
    pub(super) const BYTES: usize = 8 * Self::FIELDS + Self::CHECK_BYTES;

    pub(super) fn encode(&self) -> Vec<u8> {
        let fields = [
            self.generation,
            self.epoch,
            self.queries,
            self.tags,
            self.since.cast_unsigned(),
            self.last_run.cast_unsigned(),
            self.peer_set,
            u64::from(self.settled),
        ];
        let mut bytes: Vec<u8> = fields
            .iter()
            .flat_map(|field| field.to_be_bytes())
            .collect();
        let check = digest::digest(&digest::SHA256, &bytes);
        bytes.extend_from_slice(check.as_ref());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (fields, _) = bytes.as_chunks::<8>();
        let field = |index: usize| Some(u64::from_be_bytes(*fields.get(index)?));
        let balance = Self {
            generation: field(0)?,
            epoch: field(1)?,
            queries: field(2)?,
            tags: field(3)?,
            since: field(4)?.cast_signed(),
            last_run: field(5)?.cast_signed(),
            peer_set: field(6)?,
            settled: field(7)? == 1,
        };
        (balance.encode() == bytes).then_some(balance)
    }

    pub(super) const fn debited(&self, budget: Budget) -> u64 {
        match budget {
            Budget::Queries => self.queries,
            Budget::Tags => self.tags,
        }
    }

    pub(super) const fn debited_mut(&mut self, budget: Budget) -> &mut u64 {
        match budget {
            Budget::Queries => &mut self.queries,
            Budget::Tags => &mut self.tags,
        }
    }
}

/// The last line of a ledger's whole lines. Every line has to be good.
pub(super) fn last(bytes: &[u8]) -> Found {
    let mut found = Found::Nothing;
    for line in bytes.chunks_exact(Balance::BYTES) {
        match Balance::decode(line) {
            Some(balance) => found = Found::Last(balance),
            None => return Found::Damaged,
        }
    }
    found
}

/// What to count from, and what is wrong if ledger and database disagree. What either knows to be spent stays spent.
pub(super) fn reconcile(
    found: Found,
    stored: Option<StoredBudget>,
    has_keys: bool,
) -> (Balance, Option<&'static str>) {
    let known = stored.unwrap_or_default();
    let problem = match (found, stored) {
        (Found::Nothing, None) if !has_keys => return (Balance::default(), None),
        (Found::Nothing, _) => "the ledger is missing",
        (Found::Damaged, _) => "the ledger is damaged",
        (Found::Last(last), _) if last.generation == known.generation && stored.is_some() => {
            return (last, None);
        }
        // The node stopped between the two writes of a step; nothing was debited since.
        (Found::Last(last), _)
            if !last.settled && last.generation == known.generation.saturating_add(1) =>
        {
            let last = Balance {
                generation: known.generation,
                ..last
            };
            return (last, None);
        }
        (Found::Last(last), _) if last.generation < known.generation => "the ledger is older",
        (Found::Last(_), None) => "the database knows of no ledger",
        (Found::Last(_), Some(_)) => "the database is older",
    };
    let last = match found {
        Found::Last(last) => last,
        Found::Nothing | Found::Damaged => Balance::default(),
    };
    let balance = Balance {
        generation: last.generation.max(known.generation),
        epoch: last.epoch.max(known.epoch),
        queries: last.queries.max(known.queries),
        tags: last.tags.max(known.tags),
        since: last.since.max(known.since),
        ..last
    };
    (balance, Some(problem))
}
