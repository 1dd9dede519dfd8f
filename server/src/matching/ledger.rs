//! The budget ledger: how many evaluations a partner has had in an epoch (PROTOCOL.md "Budgets").
//!
//! Evaluations are debited durably before they are computed, in a file outside the database and its backups. A debit reserves
//! a block at a time, so a crash wastes at most one block.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Write},
    path::{Path, PathBuf},
};

use ring::digest;

use super::spool::{disk, new_directory, sync_directory};
use crate::error::{Error, Reason};

/// Evaluations that one durable write reserves.
pub const BLOCK: u64 = 65_536;

const FILE_NAME: &str = "ledger";
const RECORD_BYTES: usize = 32;

/// The ledger of one partnership, open for one run.
pub struct Ledger {
    path: PathBuf,
    file: File,
    epoch: u64,
    budget: u64,
    /// Durably debited in this epoch.
    reserved: u64,
    /// Reserved and not yet used by this run.
    unused: u64,
}

impl Ledger {
    /// Opens the ledger for an epoch in which the partner may have `budget` evaluations.
    ///
    /// # Errors
    /// What the file system reports; `STORAGE_FAILED` for a damaged file.
    pub fn open(directory: &Path, epoch: u64, budget: u64) -> Result<Self, Error> {
        new_directory(directory)?;
        let path = directory.join(FILE_NAME);
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt as _;
            options.mode(0o600);
        }
        let mut file = options.open(&path).map_err(|error| disk(&path, &error))?;
        // Two that count from the same place would each give the budget away.
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Error::new(
                Reason::RunUnderWay,
                "another run with this partner holds the budget ledger",
            ),
            TryLockError::Error(error) => disk(&path, &error),
        })?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .map_err(|error| disk(&path, &error))?;
        let (records, torn) = bytes.as_chunks::<RECORD_BYTES>();
        if !torn.is_empty() {
            // A power cut during the last write: what it was to reserve was never used.
            file.set_len((records.len() * RECORD_BYTES) as u64)
                .and_then(|()| file.sync_all())
                .map_err(|error| disk(&path, &error))?;
        }
        let mut reserved = 0;
        for record in records {
            let (record_epoch, total) = decode(record).ok_or_else(|| {
                Error::new(
                    Reason::StorageFailed,
                    format!("{}: the budget ledger is damaged", path.display()),
                )
            })?;
            if record_epoch == epoch {
                reserved = total;
            }
        }
        sync_directory(directory)?;
        Ok(Self {
            path,
            file,
            epoch,
            budget,
            reserved,
            unused: 0,
        })
    }

    /// The highest epoch in which anything was debited; 0 if there is none.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    pub fn highest_epoch(directory: &Path) -> Result<u64, Error> {
        let path = directory.join(FILE_NAME);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(disk(&path, &error)),
        };
        let (records, _) = bytes.as_chunks::<RECORD_BYTES>();
        Ok(records
            .iter()
            .filter_map(decode)
            .map(|(epoch, _)| epoch)
            .max()
            .unwrap_or(0))
    }

    /// Checks that the budget covers `count` evaluations, without debiting them.
    ///
    /// # Errors
    /// `QUOTA_EXHAUSTED`.
    pub fn require(&self, count: u64) -> Result<(), Error> {
        if count <= self.remaining() {
            return Ok(());
        }
        Err(Error::new(
            Reason::QuotaExhausted,
            format!(
                "the partner's budget of {} evaluations for this epoch does not cover {count} more: raise max_evaluations_per_epoch or wait for the next epoch",
                self.budget
            ),
        )
        .with("limit", self.budget)
        .with("remaining", self.remaining())
        .with("epoch", self.epoch))
    }

    /// Evaluations the partner may still have in this epoch.
    #[must_use]
    pub const fn remaining(&self) -> u64 {
        self.budget.saturating_sub(self.reserved) + self.unused
    }

    /// Debits `count` evaluations durably. Only after it returns may they be computed.
    ///
    /// # Errors
    /// `QUOTA_EXHAUSTED` if the budget does not cover them; what the file system reports.
    pub fn debit(&mut self, count: u64) -> Result<(), Error> {
        self.require(count)?;
        if count > self.unused {
            let missing = count - self.unused;
            let block = missing
                .next_multiple_of(BLOCK)
                .min(self.budget - self.reserved);
            let total = self.reserved + block;
            self.file
                .write_all(&encode(self.epoch, total))
                .and_then(|()| self.file.sync_data())
                .map_err(|error| disk(&self.path, &error))?;
            self.reserved = total;
            self.unused += block;
        }
        self.unused -= count;
        Ok(())
    }
}

impl Drop for Ledger {
    /// Gives back what was reserved and not used. Without this, after a crash, the block stays debited.
    fn drop(&mut self) {
        if self.unused == 0 {
            return;
        }
        let total = self.reserved - self.unused;
        let written = self
            .file
            .write_all(&encode(self.epoch, total))
            .and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            tracing::warn!(%error, path = %self.path.display(), "unused evaluations stay debited");
        }
    }
}

fn encode(epoch: u64, total: u64) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    record[..8].copy_from_slice(&epoch.to_be_bytes());
    record[8..16].copy_from_slice(&total.to_be_bytes());
    let check = digest::digest(&digest::SHA256, &record[..16]);
    record[16..].copy_from_slice(&check.as_ref()[..16]);
    record
}

fn decode(record: &[u8; RECORD_BYTES]) -> Option<(u64, u64)> {
    let (halves, _) = record.as_chunks::<8>();
    let (epoch, total) = (u64::from_be_bytes(halves[0]), u64::from_be_bytes(halves[1]));
    (encode(epoch, total) == *record).then_some((epoch, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn z10_a_debit_survives_and_a_crash_wastes_one_block() {
        let directory = tempfile::tempdir().unwrap();
        let budget = 3 * BLOCK;
        let mut ledger = Ledger::open(directory.path(), 1, budget).unwrap();
        ledger.debit(10).unwrap();
        ledger.debit(BLOCK).unwrap();
        assert_eq!(ledger.remaining(), budget - BLOCK - 10);
        // A crash: what was reserved stays debited, and two blocks were.
        ledger.unused = 0;
        drop(ledger);
        let mut ledger = Ledger::open(directory.path(), 1, budget).unwrap();
        assert_eq!(ledger.remaining(), BLOCK);
        let error = ledger.debit(BLOCK + 1).unwrap_err();
        assert_eq!(error.reason(), Reason::QuotaExhausted);
        ledger.debit(1).unwrap();
        // An orderly end gives back what was not used.
        drop(ledger);
        let mut ledger = Ledger::open(directory.path(), 1, budget).unwrap();
        assert_eq!(ledger.remaining(), BLOCK - 1);
        ledger.debit(BLOCK - 1).unwrap();
        assert_eq!(
            ledger.debit(1).unwrap_err().reason(),
            Reason::QuotaExhausted
        );
        drop(ledger);
        // The next epoch has a budget of its own.
        let ledger = Ledger::open(directory.path(), 2, budget).unwrap();
        assert_eq!(ledger.remaining(), budget);
    }

    #[test]
    fn z10_a_ledger_has_one_user_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let first = Ledger::open(directory.path(), 1, BLOCK).unwrap();
        let error = Ledger::open(directory.path(), 1, BLOCK).err().unwrap();
        assert_eq!(error.reason(), Reason::RunUnderWay);
        drop(first);
        assert!(Ledger::open(directory.path(), 1, BLOCK).is_ok());
    }

    #[test]
    fn z10_a_small_budget_is_not_rounded_up() {
        let directory = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(directory.path(), 1, 100).unwrap();
        ledger.debit(60).unwrap();
        ledger.debit(40).unwrap();
        assert_eq!(
            ledger.debit(1).unwrap_err().reason(),
            Reason::QuotaExhausted
        );
    }

    #[test]
    fn a_torn_record_is_dropped_and_a_changed_one_refused() {
        let directory = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(directory.path(), 1, 1_000_000).unwrap();
        ledger.debit(BLOCK).unwrap();
        drop(ledger);
        let path = directory.path().join(FILE_NAME);
        let good = std::fs::read(&path).unwrap();
        std::fs::write(&path, [good.as_slice(), &[1, 2, 3]].concat()).unwrap();
        let ledger = Ledger::open(directory.path(), 1, 1_000_000).unwrap();
        assert_eq!(ledger.remaining(), 1_000_000 - BLOCK);
        drop(ledger);
        assert_eq!(std::fs::read(&path).unwrap(), good);
        let mut changed = good;
        changed[15] ^= 1;
        std::fs::write(&path, changed).unwrap();
        let error = Ledger::open(directory.path(), 1, 1_000_000).err().unwrap();
        assert_eq!(error.reason(), Reason::StorageFailed);
    }
}
