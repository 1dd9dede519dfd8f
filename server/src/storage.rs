//! The embedded store: one SQLite database in WAL mode, one writer, snapshot readers.

mod migrations;

use std::{
    cell::Cell,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::error::{Error, Reason};

/// The database's file name inside the node's directory.
pub const FILE_NAME: &str = "overlap.db";

/// Idle readers that are kept open.
const IDLE_READERS: usize = 8;
/// How long a statement waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// A handle to the store; clones share it.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    path: PathBuf,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
}

impl Store {
    /// Opens the store in `directory`, creating it or bringing an older schema up to date.
    ///
    /// # Errors
    /// `STORE_SCHEMA_NEWER` if a newer version wrote it; `STORAGE_FAILED` or `DISK_FULL` otherwise.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(FILE_NAME);
        let mut writer = Connection::open(&path).map_err(|error| {
            Error::new(
                Reason::StorageFailed,
                format!("{}: {error}", path.display()),
            )
        })?;
        prepare(&writer)?;
        // A write that is acknowledged survives a power cut.
        writer.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;",
        )?;
        migrations::migrate(&mut writer, &path)?;
        Ok(Self(Arc::new(Inner {
            path,
            writer: Mutex::new(writer),
            readers: Mutex::new(Vec::new()),
        })))
    }

    /// Runs `work` in a write transaction, which is committed durably if it succeeds and leaves no trace if it fails.
    /// Blocks: call [`Store::write`] from asynchronous code.
    ///
    /// # Errors
    /// What `work` or the store reports.
    pub fn write_blocking<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut writer = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let result = work(&transaction)?;
        transaction.commit()?;
        Ok(result)
    }

    /// Runs `work` on one snapshot of the store. Blocks: call [`Store::read`] from asynchronous code.
    ///
    /// # Errors
    /// What `work` or the store reports.
    pub fn read_blocking<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let snapshot = self.snapshot()?;
        work(snapshot.connection())
    }

    /// One snapshot of the store, for as long as it is held: what is written meanwhile stays in the write-ahead log. Blocks.
    ///
    /// # Errors
    /// What the store reports.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, Error> {
        let idle = self
            .0
            .readers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let reader = match idle {
            Some(reader) => reader,
            None => {
                // A connection is used by one thread at a time: no lock for each value read.
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                let reader = Connection::open_with_flags(&self.0.path, flags)?;
                prepare(&reader)?;
                reader
            }
        };
        reader.execute_batch("BEGIN")?;
        Ok(Snapshot {
            store: self.clone(),
            reader: Some(reader),
        })
    }

    /// [`Store::write_blocking`] off the asynchronous runtime.
    ///
    /// # Errors
    /// What `work` or the store reports.
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let store = self.clone();
        blocking(move || store.write_blocking(work)).await
    }

    /// [`Store::read_blocking`] off the asynchronous runtime.
    ///
    /// # Errors
    /// What `work` or the store reports.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let store = self.clone();
        blocking(move || store.read_blocking(work)).await
    }
}

/// What the store held when it was first read through this.
pub(crate) struct Snapshot {
    store: Store,
    /// Goes back when this is dropped.
    reader: Option<Connection>,
}

impl Snapshot {
    /// Reads it.
    pub(crate) fn connection(&self) -> &Connection {
        self.reader.as_ref().expect("held until this is dropped")
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        let Some(reader) = self.reader.take() else {
            return;
        };
        if reader.execute_batch("ROLLBACK").is_err() {
            // Closing it ends the transaction, too.
            return;
        }
        let readers = &self.store.0.readers;
        let mut readers = readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < IDLE_READERS {
            readers.push(reader);
        }
    }
}

/// Looks a directory's store over without changing it: schema, integrity, audit log.
///
/// # Errors
/// What is wrong with it.
pub fn examine(directory: &Path) -> Result<String, Error> {
    let path = directory.join(FILE_NAME);
    let failed = |problem: &dyn std::fmt::Display| {
        Error::new(
            Reason::StorageFailed,
            format!("{}: {problem}", path.display()),
        )
    };
    let connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .map_err(|error| failed(&error))?;
    prepare(&connection)?;
    let (applied, known) = migrations::version(&connection, &path)?;
    let integrity: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| failed(&error))?;
    if integrity != "ok" {
        return Err(failed(&format_args!("{integrity}: restore a backup")));
    }
    if applied == 0 {
        return Err(failed(&"holds nothing yet"));
    }
    let events = crate::audit::verify(&connection)?;
    Ok(format!(
        "schema {applied} of {known}, intact, {events} audit events in an unbroken chain"
    ))
}

thread_local! {
    static IN_PLACE: Cell<bool> = const { Cell::new(false) };
}

/// From now on [`blocking`] work that this thread asks for is done in place. For simulations: when they drop a run, nothing of
/// it goes on in another thread.
pub fn block_in_place() {
    IN_PLACE.set(true);
}

/// Runs blocking work off the asynchronous runtime.
///
/// # Errors
/// What `work` reports; `INTERNAL` if it panicked.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    if IN_PLACE.get() {
        return work();
    }
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| {
            Err(Error::internal(format!(
                "a blocking task ended abnormally: {error}"
            )))
        })
}

fn prepare(connection: &Connection) -> Result<(), Error> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(())
}
