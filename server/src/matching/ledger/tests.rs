//! The ledger by itself: debits, copies, losses.

use std::fs;

use super::*;

struct Fixture {
    folder: tempfile::TempDir,
    store: Store,
}

const NOW: i64 = 1_800_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        Self { folder, store }
    }

    fn directory(&self) -> PathBuf {
        self.folder.path().join("epochs/p1")
    }

    fn path(&self) -> PathBuf {
        self.directory().join(FILE_NAME)
    }

    fn at(&self, second: i64, epoch: u64, limit: u64) -> Result<Ledger, Error> {
        let mut ledger = Ledger::open(&self.directory(), &self.store, "p1", at(second))?;
        ledger.begin(Some(epoch), limit, limit)?;
        Ok(ledger)
    }

    fn open(&self, epoch: u64, limit: u64) -> Ledger {
        self.at(NOW, epoch, limit).unwrap()
    }

    fn alarms(&self) -> Vec<String> {
        self.store
            .read_blocking(|connection| {
                let mut statement = connection.prepare(
                    "SELECT details FROM audit WHERE action = 'budget.rolled_back' ORDER BY 1",
                )?;
                let rows = statement.query_map([], |row| row.get(0))?;
                Ok(rows.collect::<Result<Vec<String>, _>>()?)
            })
            .unwrap()
    }
}

#[test]
fn z10_a_debit_survives_and_a_crash_wastes_one_block() {
    for budget in [Budget::Queries, Budget::Tags] {
        let books = Fixture::new();
        let limit = 3 * BLOCK;
        let mut ledger = books.open(1, limit);
        ledger.debit(budget, 10).unwrap();
        ledger.debit(budget, BLOCK).unwrap();
        assert_eq!(ledger.remaining(budget), limit - BLOCK - 10);
        // A crash: what was reserved stays debited, and two blocks were.
        ledger.unused = [0; 2];
        drop(ledger);
        let mut ledger = books.open(1, limit);
        assert_eq!(ledger.remaining(budget), BLOCK);
        let error = ledger.debit(budget, BLOCK + 1).unwrap_err();
        assert_eq!(error.reason(), Reason::QuotaExhausted);
        let detail = |name: &str| {
            let found = error.metadata().iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.clone()).unwrap()
        };
        assert_eq!(detail("budget"), budget.name());
        assert_eq!(detail("limit"), (3 * BLOCK).to_string());
        assert_eq!(detail("used"), (2 * BLOCK).to_string());
        assert_eq!(detail("asked"), (BLOCK + 1).to_string());
        // Thirty days after 2027-01-15T08:00:00Z.
        assert_eq!(detail("window_end"), "2027-02-14T08:00:00Z");
        ledger.debit(budget, 1).unwrap();
        // An orderly end gives back what was not used.
        drop(ledger);
        let mut ledger = books.open(1, limit);
        assert_eq!(ledger.remaining(budget), BLOCK - 1);
        ledger.debit(budget, BLOCK - 1).unwrap();
        assert!(ledger.debit(budget, 1).is_err());
        assert_eq!(books.alarms(), [""; 0]);
    }
}

/// Either side can end an epoch; were budgets of an epoch, they could be had again and again.
#[test]
fn z10_budgets_are_for_thirty_days_whatever_epochs_begin() {
    let books = Fixture::new();
    let mut ledger = books.open(1, 100);
    ledger.debit(Budget::Queries, 60).unwrap();
    ledger.debit(Budget::Tags, 70).unwrap();
    drop(ledger);
    for (second, epoch, left) in [
        (NOW + 1000, 2, [40, 30]),
        (NOW + MAX_EPOCH_AGE_S - 1, 3, [40, 30]),
        (NOW + MAX_EPOCH_AGE_S, 3, [100, 100]),
    ] {
        let ledger = books.at(second, epoch, 100).unwrap();
        let remaining = [Budget::Queries, Budget::Tags].map(|budget| ledger.remaining(budget));
        assert_eq!(remaining, left, "epoch {epoch}");
    }
}

/// Attempts cost the partner little: they must not fill the disk, nor make the next one read a long file.
#[test]
fn z10_a_ledger_stays_short_however_many_attempts_there_are() {
    let books = Fixture::new();
    let mut ledger = books.open(1, 100);
    ledger.debit(Budget::Queries, 60).unwrap();
    drop(ledger);
    let mut longest = 0;
    for _ in 0..400 {
        drop(books.open(1, 100));
        longest = longest.max(fs::metadata(books.path()).unwrap().len());
    }
    // Each attempt writes four lines of 96 bytes: 400 of them would make 153,600.
    assert!((60_000..70_000).contains(&longest), "{longest}");
    assert_eq!(books.open(1, 100).remaining(Budget::Queries), 40);
    assert_eq!(books.alarms(), [""; 0]);
}

#[test]
fn z10_a_ledger_has_one_user_at_a_time() {
    let books = Fixture::new();
    let first = books.open(1, BLOCK);
    let error = books.at(NOW, 1, BLOCK).err().unwrap();
    assert_eq!(error.reason(), Reason::RunUnderWay);
    drop(first);
    assert!(books.at(NOW, 1, BLOCK).is_ok());
}

#[test]
fn z10_a_small_budget_is_not_rounded_up() {
    let books = Fixture::new();
    let mut ledger = books.open(1, 100);
    ledger.debit(Budget::Queries, 60).unwrap();
    ledger.debit(Budget::Queries, 40).unwrap();
    assert!(ledger.debit(Budget::Queries, 1).is_err());
}

#[test]
fn z10_a_set_grows_within_bounds() {
    let books = Fixture::new();
    let mut ledger = books.open(1, 100);
    let all = Declared::All;
    ledger.require_growth(all(u64::MAX), 0).unwrap();
    ledger.ran(at(NOW), all(50_000)).unwrap();
    drop(ledger);
    let mut ledger = books.open(1, 100);
    // 50,000 and 40% of it; then the floor of 10,000.
    ledger.require_growth(all(70_000), 40).unwrap();
    let error = ledger.require_growth(all(70_001), 40).unwrap_err();
    assert_eq!(error.reason(), Reason::QuotaExhausted);
    assert!(error.message().contains("from 50000 to 70001 keys"));
    ledger.require_growth(all(60_000), 0).unwrap();
    assert!(ledger.require_growth(all(60_001), 0).is_err());
    ledger.require_growth(all(1), 0).unwrap();
    // Changes come on top, and a full run after them may have as many as they made.
    ledger.require_growth(Declared::Changes(10_000), 0).unwrap();
    assert!(ledger.require_growth(Declared::Changes(10_001), 0).is_err());
    ledger.ran(at(NOW), Declared::Changes(10_000)).unwrap();
    ledger.require_growth(all(70_000), 0).unwrap();
    assert!(ledger.require_growth(all(70_001), 0).is_err());
}

#[test]
fn z10_the_least_interval_is_in_the_ledger() {
    let books = Fixture::new();
    let mut ledger = books.open(1, 100);
    ledger.require_interval(at(NOW), 3600).unwrap();
    ledger.ran(at(NOW), Declared::All(1)).unwrap();
    let error = ledger.require_interval(at(NOW + 3599), 3600).unwrap_err();
    assert_eq!(error.reason(), Reason::RunTooSoon);
    ledger.require_interval(at(NOW + 3600), 3600).unwrap();
}

/// A clock that was wrong once must not keep a partner waiting until that time comes.
#[test]
fn z10_times_in_the_future_count_as_now() {
    let books = Fixture::new();
    let years = 5 * 365 * 24 * 3600;
    let mut ledger = books.at(NOW + years, 1, 100).unwrap();
    ledger.debit(Budget::Queries, 60).unwrap();
    ledger.ran(at(NOW + years), Declared::All(1)).unwrap();
    ledger.require_interval(at(NOW), 0).unwrap();
    drop(ledger);
    let ledger = books.at(NOW, 1, 100).unwrap();
    ledger.require_interval(at(NOW), 0).unwrap();
    let error = ledger.require_interval(at(NOW + 59), 60).unwrap_err();
    assert_eq!(
        error.metadata(),
        [("retry_after_s".to_owned(), "1".to_owned())]
    );
    ledger.require_interval(at(NOW + 60), 60).unwrap();
    drop(ledger);
    let ledger = books.at(NOW + MAX_EPOCH_AGE_S - 1, 1, 100).unwrap();
    assert_eq!(ledger.remaining(Budget::Queries), 40);
    drop(ledger);
    let ledger = books.at(NOW + MAX_EPOCH_AGE_S, 1, 100).unwrap();
    assert_eq!(ledger.remaining(Budget::Queries), 100);
}

#[test]
fn z10_a_torn_line_is_dropped() {
    let books = Fixture::new();
    let mut ledger = books.open(1, 1_000_000);
    ledger.debit(Budget::Queries, BLOCK).unwrap();
    drop(ledger);
    let good = fs::read(books.path()).unwrap();
    fs::write(books.path(), [good.as_slice(), &[1, 2, 3]].concat()).unwrap();
    let ledger = books.open(1, 1_000_000);
    assert_eq!(ledger.remaining(Budget::Queries), 1_000_000 - BLOCK);
    assert_eq!(books.alarms(), [""; 0]);
}

/// What is spent stays spent, whichever of the two books is lost, damaged or older.
#[test]
fn z10_books_that_disagree_raise_an_alarm_and_refund_nothing() {
    type Loss = fn(&Fixture, &[u8]);
    let losses: [(Loss, &str); 5] = [
        (
            |books, _| fs::remove_file(books.path()).unwrap(),
            "the ledger is missing",
        ),
        (
            |books, older| fs::write(books.path(), older).unwrap(),
            "the ledger is older",
        ),
        (
            |books, _| {
                let mut bytes = fs::read(books.path()).unwrap();
                bytes[15] ^= 1;
                fs::write(books.path(), bytes).unwrap();
            },
            "the ledger is damaged",
        ),
        (
            |books, _| {
                let sql = "UPDATE matching_budgets SET generation = generation - 2, queries = 0";
                books
                    .store
                    .write_blocking(|tx| Ok(tx.execute(sql, [])?))
                    .unwrap();
            },
            "the database is older",
        ),
        (
            |books, _| {
                let sql = "DELETE FROM matching_budgets";
                books
                    .store
                    .write_blocking(|tx| Ok(tx.execute(sql, [])?))
                    .unwrap();
            },
            "the database knows of no ledger",
        ),
    ];
    for (lose, problem) in losses {
        let books = Fixture::new();
        drop(books.open(1, 100));
        let older = fs::read(books.path()).unwrap();
        let mut ledger = books.open(1, 100);
        ledger.debit(Budget::Queries, 60).unwrap();
        ledger.debit(Budget::Tags, 70).unwrap();
        drop(ledger);
        lose(&books, &older);
        let ledger = books.open(2, 100);
        assert_eq!(ledger.remaining(Budget::Queries), 40, "{problem}");
        assert_eq!(ledger.remaining(Budget::Tags), 30, "{problem}");
        drop(ledger);
        let alarms = books.alarms();
        assert_eq!(alarms.len(), 1, "{problem}: {alarms:?}");
        assert!(alarms[0].contains(problem), "{alarms:?}");
        // The books agree again.
        drop(books.open(2, 100));
        assert_eq!(books.alarms().len(), 1, "{problem}");
    }
}

#[test]
fn z10_a_stop_between_the_two_books_is_no_roll_back() {
    let books = Fixture::new();
    for _ in 0..3 {
        let ledger = books.open(1, 100);
        let balance = Balance {
            generation: ledger.balance.generation + 1,
            settled: false,
            ..ledger.balance
        };
        let mut bytes = fs::read(books.path()).unwrap();
        // The process ends after the ledger's line and before the database's.
        bytes.extend_from_slice(&balance.encode());
        drop(ledger);
        let sql = "UPDATE matching_budgets SET generation = ?1";
        let generation = balance.generation - 1;
        books
            .store
            .write_blocking(|tx| Ok(tx.execute(sql, [generation])?))
            .unwrap();
        fs::write(books.path(), bytes).unwrap();
        drop(books.open(1, 100));
        assert_eq!(books.alarms(), [""; 0]);
    }
}
