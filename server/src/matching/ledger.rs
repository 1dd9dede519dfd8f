//! The budget ledger: what a partner has had of this node (PROTOCOL.md §11, KEY_MANAGEMENT.md "Budgets").
//!
//! Evaluations of the partner's queries, and the partner's published tags that are compared with this node's customers, are
//! debited durably before they are used, in a file outside the database and its backups. A debit reserves a block at a time,
//! so a crash wastes at most one block. Both are counted in windows of 30 days and not by epochs, which either side can end:
//! by changing its terms, or by presenting what destroys keys. Ledger and database carry the same generation: if they disagree, one of them was
//! rolled back, and whoever has the older one does not know any more what was spent.

mod balance;

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{Read, Write},
    path::{Path, PathBuf},
};

use jiff::Timestamp;

pub use balance::Balance;

use super::{
    keys::{self, MAX_EPOCH_AGE_S},
    records,
    spool::{disk, new_directory, sync_directory},
};
use crate::{
    audit,
    error::{Error, Reason},
    storage::Store,
};

/// Evaluations or tags that one durable write reserves.
pub const BLOCK: u64 = 65_536;
/// A partner's set may always grow by this many keys a run, however small it was.
pub const GROWTH_FLOOR: u64 = 10_000;

const FILE_NAME: &str = "ledger";
/// The lock is a file of its own, so that the ledger can be replaced while it is held.
const LOCK_NAME: &str = "ledger.lock";
/// A ledger that is longer is replaced by its last line: every attempt at a run adds some.
const MAX_BYTES: usize = 64 * 1024;
/// Budgets are for this long, from the first use.
const WINDOW_S: i64 = MAX_EPOCH_AGE_S;

/// What is debited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// Evaluations of the partner's queries.
    Queries,
    /// Tags of the partner's that are compared with my customers.
    Tags,
}

impl Budget {
    const fn name(self) -> &'static str {
        match self {
            Self::Queries => "queries",
            Self::Tags => "tags",
        }
    }
}

/// What the partner declares to bring to a run, padding included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declared {
    /// So many keys, all it has.
    All(u64),
    /// So many changes of what it had.
    Changes(u64),
}

impl Declared {
    /// The largest set that the partner may have afterwards.
    const fn set_after(self, before: u64) -> u64 {
        match self {
            Self::All(keys) => keys,
            Self::Changes(keys) => before.saturating_add(keys),
        }
    }
}

/// The ledger of one partnership, open for one run.
pub struct Ledger {
    path: PathBuf,
    file: File,
    _lock: File,
    store: Store,
    partnership_id: String,
    balance: Balance,
    /// What the partner may have of each budget.
    limits: [u64; 2],
    /// Reserved and not yet used by this run.
    unused: [u64; 2],
    /// The number that the epoch of this run has at least.
    least_epoch: u64,
}

impl Ledger {
    /// Opens the ledger and compares it with the database. If they disagree, the epoch's keys are destroyed, what either knows
    /// to be debited stays so, and the audit log says so.
    ///
    /// # Errors
    /// `RUN_UNDER_WAY` if another run holds the ledger; what the file system or the store reports.
    pub fn open(
        directory: &Path,
        store: &Store,
        partnership_id: &str,
        now: Timestamp,
    ) -> Result<Self, Error> {
        new_directory(directory)?;
        let (path, lock_path) = (directory.join(FILE_NAME), directory.join(LOCK_NAME));
        let lock = open_file(&lock_path)?;
        // Two that count from the same place would each give the budget away.
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Error::new(
                Reason::RunUnderWay,
                "another run with this partner holds the budget ledger",
            ),
            TryLockError::Error(error) => disk(&lock_path, &error),
        })?;
        let mut file = open_file(&path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .map_err(|error| disk(&path, &error))?;
        let whole = bytes.len() - bytes.len() % Balance::BYTES;
        if whole < bytes.len() {
            // A power cut during the last write: what it was to reserve was never used.
            file.set_len(whole as u64)
                .and_then(|()| file.sync_all())
                .map_err(|error| disk(&path, &error))?;
        }
        let found = balance::last(&bytes[..whole]);
        if let balance::Found::Last(last) = found
            && whole > MAX_BYTES
        {
            file = replace(directory, &last)?;
        }
        sync_directory(directory)?;
        let stored =
            store.read_blocking(|connection| records::budget(connection, partnership_id))?;
        let has_keys = keys::exist(directory);
        let mut least_epoch = stored.map_or(0, |stored| stored.epoch);
        if let balance::Found::Last(last) = found {
            least_epoch = least_epoch.max(last.epoch);
        }
        let (mut balance, problem) = balance::reconcile(found, stored, has_keys);
        if let Some(problem) = problem {
            tracing::error!(
                partnership = partnership_id,
                problem,
                "the budget ledger and the store disagree: one was rolled back; the epoch's keys are destroyed"
            );
            keys::destroy(directory)?;
            least_epoch += 1;
            if found == balance::Found::Damaged {
                file.set_len(0).map_err(|error| disk(&path, &error))?;
            }
            store.write_blocking(|tx| {
                let details = [("problem", problem)];
                audit::record(
                    tx,
                    now,
                    audit::SYSTEM,
                    "budget.rolled_back",
                    Some(partnership_id),
                    &details,
                )
            })?;
        }
        // Times in the future are of a clock that was wrong: counted from now, they end.
        balance.since = balance.since.min(now.as_second());
        balance.last_run = balance.last_run.min(now.as_second());
        if now.as_second().saturating_sub(balance.since) >= WINDOW_S {
            (balance.queries, balance.tags) = (0, 0);
            balance.since = now.as_second();
        }
        let mut ledger = Self {
            path,
            file,
            _lock: lock,
            store: store.clone(),
            partnership_id: partnership_id.to_owned(),
            least_epoch,
            balance,
            limits: [0; 2],
            unused: [0; 2],
        };
        ledger.advance()?;
        Ok(ledger)
    }

    /// Begins to count for a run: in which epoch of mine, if I evaluate, and what the partner may have.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn begin(
        &mut self,
        epoch: Option<u64>,
        max_queries: u64,
        max_tags: u64,
    ) -> Result<(), Error> {
        self.limits = [max_queries, max_tags];
        if let Some(epoch) = epoch
            && self.balance.epoch != epoch
        {
            self.balance.epoch = epoch;
            self.append()?;
        }
        Ok(())
    }

    /// The number that the epoch of this run has at least: partners refuse a lower one, and a second key for one they know.
    #[must_use]
    pub const fn least_epoch(&self) -> u64 {
        self.least_epoch
    }

    /// Checks that a budget covers `count` more, without debiting them.
    ///
    /// # Errors
    /// `QUOTA_EXHAUSTED` with limit, used, asked and the end of the window.
    pub fn require(&self, budget: Budget, count: u64) -> Result<(), Error> {
        if count <= self.remaining(budget) {
            return Ok(());
        }
        let limit = self.limits[budget as usize];
        let used = self.balance.debited(budget) - self.unused[budget as usize];
        let end = Timestamp::from_second(self.balance.since.saturating_add(WINDOW_S))
            .map_or_else(|_| "unknown".to_owned(), |end| end.to_string());
        Err(Error::new(
            Reason::QuotaExhausted,
            format!(
                "the partner's budget of {limit} {} in 30 days does not cover {count} more: {used} are used until {end}; \
                 raise max_evaluations_per_epoch or wait until then",
                budget.name()
            ),
        )
        .with("budget", budget.name())
        .with("limit", limit)
        .with("used", used)
        .with("asked", count)
        .with("window_end", end))
    }

    /// What the partner may still have.
    #[must_use]
    pub const fn remaining(&self, budget: Budget) -> u64 {
        let at = budget as usize;
        self.limits[at].saturating_sub(self.balance.debited(budget)) + self.unused[at]
    }

    /// Debits durably. Only after it returns may what was debited be used.
    ///
    /// # Errors
    /// `QUOTA_EXHAUSTED` if the budget does not cover it; what the file system reports.
    pub fn debit(&mut self, budget: Budget, count: u64) -> Result<(), Error> {
        self.require(budget, count)?;
        let at = budget as usize;
        if count > self.unused[at] {
            let missing = count - self.unused[at];
            let block = missing
                .next_multiple_of(BLOCK)
                .min(self.limits[at] - self.balance.debited(budget));
            let before = self.balance;
            *self.balance.debited_mut(budget) += block;
            if let Err(error) = self.append() {
                self.balance = before;
                return Err(error);
            }
            self.unused[at] += block;
        }
        self.unused[at] -= count;
        Ok(())
    }

    /// Checks how far the partner's set has grown since its last run.
    ///
    /// # Errors
    /// `QUOTA_EXHAUSTED` with limit, used (the size before) and asked (the size now).
    pub fn require_growth(&self, declared: Declared, max_percent: u32) -> Result<(), Error> {
        let before = self.balance.peer_set;
        let set_size = declared.set_after(before);
        let growth = u128::from(before) * u128::from(max_percent) / 100;
        let growth = u64::try_from(growth).unwrap_or(u64::MAX).max(GROWTH_FLOOR);
        let limit = before.saturating_add(growth);
        if before == 0 || set_size <= limit {
            return Ok(());
        }
        Err(Error::new(
            Reason::QuotaExhausted,
            format!(
                "the partner's set grew from {before} to {set_size} keys since its last run, and may grow to {limit}: \
                 raise max_growth_percent if that is plausible"
            ),
        )
        .with("budget", "growth")
        .with("limit", limit)
        .with("used", before)
        .with("asked", set_size))
    }

    /// Checks the least time between two runs.
    ///
    /// # Errors
    /// `RUN_TOO_SOON`.
    pub fn require_interval(&self, now: Timestamp, least_s: u64) -> Result<(), Error> {
        match self.balance.last_run {
            0 => Ok(()),
            last_run => refuse_too_soon(now.as_second().saturating_sub(last_run), least_s),
        }
    }

    /// Notes that the partner has learnt what this run gives.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn ran(&mut self, now: Timestamp, declared: Declared) -> Result<(), Error> {
        self.balance.last_run = now.as_second();
        self.balance.peer_set = declared.set_after(self.balance.peer_set);
        self.append()
    }

    /// Goes on to the next generation: the ledger first, then the database, then the ledger says that the database knows.
    fn advance(&mut self) -> Result<(), Error> {
        self.balance.generation += 1;
        self.balance.settled = false;
        self.append()?;
        let balance = self.balance;
        self.store
            .write_blocking(|tx| records::remember_budget(tx, &self.partnership_id, &balance))?;
        self.balance.settled = true;
        self.append()
    }

    fn append(&mut self) -> Result<(), Error> {
        self.file
            .write_all(&self.balance.encode())
            .and_then(|()| self.file.sync_data())
            .map_err(|error| disk(&self.path, &error))
    }
}

fn open_file(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options.open(path).map_err(|error| disk(path, &error))
}

/// Puts a ledger of one line in place of the one in `directory`.
fn replace(directory: &Path, last: &Balance) -> Result<File, Error> {
    let (path, temporary) = (directory.join(FILE_NAME), directory.join("ledger.new"));
    let _ = fs::remove_file(&temporary);
    let mut file = open_file(&temporary)?;
    file.write_all(&last.encode())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&temporary, &path))
        .map_err(|error| disk(&path, &error))?;
    Ok(file)
}

/// "Least seconds between two runs": refuses one that comes `passed_s` after the last. A last run in the future, by a clock that
/// was wrong, counts as one just now.
///
/// # Errors
/// `RUN_TOO_SOON`.
pub(crate) fn refuse_too_soon(passed_s: i64, least_s: u64) -> Result<(), Error> {
    let least_s = i64::try_from(least_s).unwrap_or(i64::MAX);
    let passed_s = passed_s.max(0);
    if passed_s >= least_s {
        return Ok(());
    }
    let left_s = least_s.saturating_sub(passed_s);
    Err(Error::new(
        Reason::RunTooSoon,
        format!(
            "the last run ended {passed_s} s ago and the permissions ask for {least_s} s between two: wait {left_s} s"
        ),
    )
    .with("retry_after_s", left_s))
}

impl Drop for Ledger {
    /// Gives back what was reserved and not used, in a generation of its own, so that no copy made during the run fits the
    /// database any more. Without this, after a crash, the block stays debited.
    fn drop(&mut self) {
        for budget in [Budget::Queries, Budget::Tags] {
            *self.balance.debited_mut(budget) -= self.unused[budget as usize];
        }
        if let Err(error) = self.advance() {
            tracing::warn!(%error, path = %self.path.display(), "the budget ledger could not be closed");
        }
    }
}

#[cfg(test)]
mod tests;
