//! Everything a running node consists of.

pub mod doctor;
mod init;

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
};

use jiff::Timestamp;
use rusqlite::{Connection, Transaction};
use tokio::sync::watch;

use crate::{
    auth::Tokens,
    clock::Clock,
    collaboration::{Results, SharedCustomers},
    config::Config,
    customers,
    error::{Error, Reason},
    exchange::{Directory, Link},
    identity::{Identity, Vault},
    matching,
    notices::{self, Outbox},
    program::usage::Usage,
    sharing::policy::Stage,
    storage::Store,
};

pub use init::{ADMIN_TOKEN, InitOptions, init};

/// Where a running node keeps what belongs to the process: its lock and the addresses it listens on.
pub const RUN_DIRECTORY: &str = "run";
const LOCK: &str = "lock";

/// Everything a running node consists of; services share it.
pub struct Node {
    /// The node's directory.
    pub directory: PathBuf,
    /// The configuration.
    pub config: Config,
    /// The embedded store.
    pub store: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// This organisation's keys and certificate.
    pub identity: Identity,
    /// Seals secrets at rest.
    pub vault: Arc<Vault>,
    /// The certificates that may connect.
    pub partners: Directory,
    /// The bearer tokens that may call.
    pub tokens: Tokens,
    /// What waits to be told to partners.
    pub outbox: Outbox,
    /// The runs under way.
    pub matching: matching::Engine,
    /// How the dashboard is used.
    pub usage: Usage,
    registry: Registry,
    endpoint: RwLock<Option<String>>,
    stop: watch::Sender<bool>,
    /// Held for as long as the node lives: no two processes use one directory.
    lock: File,
}

/// What happened to the terms with a partner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SharingChange {
    /// Both sides agreed where there was no agreement.
    Activated,
    /// Either side discloses more, or the terms of matching changed, and nothing was taken away.
    Widened,
    /// Either side takes something away.
    Tightened,
    /// Nothing that counts for results: a stage was renamed, say.
    Kept,
    /// There is no agreement any more.
    Ended,
}

impl SharingChange {
    /// Whether results derived under the old terms must go, and keys under which they were made with them.
    #[must_use]
    pub const fn removes_results(self) -> bool {
        matches!(self, Self::Tightened | Self::Ended)
    }
}

/// Called within the transaction that ends a partnership.
pub type PartnershipEnded =
    Box<dyn Fn(&Node, &Transaction<'_>, &str) -> Result<(), Error> + Send + Sync>;
/// Called within the transaction that changes the terms with a partner.
pub type SharingChanged =
    Box<dyn Fn(&Node, &Transaction<'_>, &str, SharingChange) -> Result<(), Error> + Send + Sync>;
/// Reads this organisation's stages by ordinal.
pub type OwnStages = Box<dyn Fn(&Connection) -> Result<Vec<Stage>, Error> + Send + Sync>;

/// Answers the runs that partners' nodes open.
pub type AcceptRun = Box<
    dyn Fn(Arc<Node>, Link) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>
        + Send
        + Sync,
>;

/// What modules want to be told, and what they answer for. Filled before the node starts.
pub struct Registry {
    partnership_ended: Vec<PartnershipEnded>,
    sharing_changed: Vec<SharingChanged>,
    own_stages: OwnStages,
    shared_customers: Arc<dyn SharedCustomers>,
    accept_run: AcceptRun,
    notices: notices::Handlers,
}

impl Registry {
    /// What every node has: the one list of modules.
    #[must_use]
    pub fn standard() -> Self {
        let mut registry = Self {
            partnership_ended: Vec::new(),
            sharing_changed: Vec::new(),
            own_stages: Box::new(customers::stages::stages),
            shared_customers: Arc::new(Results::default()),
            accept_run: Box::new(|node, link| Box::pin(matching::accept_run(node, link))),
            notices: notices::Handlers::default(),
        };
        crate::partnership::register(&mut registry);
        crate::sharing::register(&mut registry);
        matching::register(&mut registry);
        crate::collaboration::register(&mut registry);
        registry
    }

    /// Calls `hook` when a partnership ends, in the same transaction.
    pub fn on_partnership_ended(
        &mut self,
        hook: impl Fn(&Node, &Transaction<'_>, &str) -> Result<(), Error> + Send + Sync + 'static,
    ) {
        self.partnership_ended.push(Box::new(hook));
    }

    /// Calls `hook` when the terms with a partner change, in the same transaction.
    pub fn on_sharing_changed(
        &mut self,
        hook: impl Fn(&Node, &Transaction<'_>, &str, SharingChange) -> Result<(), Error>
        + Send
        + Sync
        + 'static,
    ) {
        self.sharing_changed.push(Box::new(hook));
    }

    /// Reads this organisation's stages with `stages`.
    pub fn own_stages(
        &mut self,
        stages: impl Fn(&Connection) -> Result<Vec<Stage>, Error> + Send + Sync + 'static,
    ) {
        self.own_stages = Box::new(stages);
    }

    /// Answers the runs that partners' nodes open with `accept`.
    pub fn on_run<F>(&mut self, accept: impl Fn(Arc<Node>, Link) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        self.accept_run = Box::new(move |node, link| Box::pin(accept(node, link)));
    }

    /// Looks shared customers up in `customers`.
    pub fn shared_customers(&mut self, customers: Arc<dyn SharedCustomers>) {
        self.shared_customers = customers;
    }

    /// Hands notices of a kind that partners send to `handler`.
    pub fn on_notice(
        &mut self,
        kind: &'static str,
        handler: impl Fn(&notices::Incoming<'_>) -> Result<(), Error> + Send + Sync + 'static,
    ) {
        self.notices.add(kind, handler);
    }
}

impl Node {
    /// Opens the node in a directory that `overlapd init` made.
    ///
    /// # Errors
    /// `STORE_LOCKED` if another process uses it, and what its files have wrong.
    pub fn open(directory: &Path, clock: Arc<dyn Clock>) -> Result<Arc<Self>, Error> {
        Self::open_with(
            directory,
            clock,
            Config::read(directory)?,
            Registry::standard(),
        )
    }

    /// [`Node::open`] with a configuration and modules of one's own.
    ///
    /// # Errors
    /// As [`Node::open`].
    pub fn open_with(
        directory: &Path,
        clock: Arc<dyn Clock>,
        config: Config,
        registry: Registry,
    ) -> Result<Arc<Self>, Error> {
        let lock = lock(directory)?;
        let vault = Vault::configured(&config)?;
        let identity = Identity::load(directory, &vault)?;
        let store = Store::open(directory)?;
        // Keys that other rules made are made again before anything reads them.
        customers::import::bring_keys_up_to_date(&store, &*clock)?;
        matching::recover(&store, directory, clock.now())?;
        let (partners, tokens) = store.read_blocking(|connection| {
            Ok((
                Directory::load(connection, config.limits.max_runs_per_partner)?,
                Tokens::load(connection)?,
            ))
        })?;
        Ok(Arc::new(Self {
            directory: directory.to_owned(),
            endpoint: RwLock::new(config.exchange.endpoint.clone()),
            config,
            usage: Usage::new(store.clone(), Arc::clone(&clock)),
            store,
            clock,
            identity,
            vault: Arc::new(vault),
            partners,
            tokens,
            outbox: Outbox::new(),
            matching: matching::Engine::default(),
            registry,
            stop: watch::Sender::new(false),
            lock,
        }))
    }

    /// The current instant.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// host:port at which partners reach this node, if they can.
    #[must_use]
    pub fn exchange_endpoint(&self) -> Option<String> {
        self.endpoint
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn set_exchange_endpoint(&self, endpoint: String) {
        *self
            .endpoint
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Some(endpoint);
    }

    /// This organisation's stages by ordinal.
    ///
    /// # Errors
    /// What the store reports.
    pub fn stages(&self, connection: &Connection) -> Result<Vec<Stage>, Error> {
        (self.registry.own_stages)(connection)
    }

    /// What runs found, as far as collaboration needs it.
    #[must_use]
    pub fn shared_customers(&self) -> &dyn SharedCustomers {
        &*self.registry.shared_customers
    }

    /// Tells every module that a partnership has ended.
    ///
    /// # Errors
    /// What a module reports; the transaction must then not be committed.
    pub(crate) fn partnership_ended(
        &self,
        tx: &Transaction<'_>,
        partnership_id: &str,
    ) -> Result<(), Error> {
        self.registry
            .partnership_ended
            .iter()
            .try_for_each(|hook| hook(self, tx, partnership_id))
    }

    /// Tells every module that the terms with a partner have changed.
    ///
    /// # Errors
    /// What a module reports; the transaction must then not be committed.
    pub(crate) fn sharing_changed(
        &self,
        tx: &Transaction<'_>,
        partnership_id: &str,
        change: SharingChange,
    ) -> Result<(), Error> {
        self.registry
            .sharing_changed
            .iter()
            .try_for_each(|hook| hook(self, tx, partnership_id, change))
    }

    pub(crate) async fn accept_run(self: Arc<Self>, link: Link) -> Result<(), Error> {
        let answer = (self.registry.accept_run)(Arc::clone(&self), link);
        answer.await
    }

    pub(crate) fn notice_handlers(&self) -> &notices::Handlers {
        &self.registry.notices
    }

    /// Releases the directory for another process, after everything that runs has stopped.
    pub(crate) fn release(&self) {
        // It is released with the file at the latest.
        let _ = self.lock.unlock();
    }

    /// Asks everything that runs to stop.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Whether the node has been asked to stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Resolves when the node has been asked to stop.
    pub fn stopping(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stop = self.stop.subscribe();
        async move {
            // An error means that the node is gone, which is as good a reason to stop.
            let _ = stop.wait_for(|stop| *stop).await;
        }
    }
}

/// Takes the directory for this process.
fn lock(directory: &Path) -> Result<File, Error> {
    let run = directory.join(RUN_DIRECTORY);
    let failed = |error: &dyn std::fmt::Display| {
        Error::new(Reason::StorageFailed, format!("{}: {error}", run.display()))
    };
    if !run.is_dir() {
        std::fs::create_dir(&run).map_err(|error| failed(&error))?;
    }
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(run.join(LOCK))
        .map_err(|error| failed(&error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::new(
            Reason::StoreLocked,
            format!(
                "{}: another overlapd serves this directory",
                directory.display()
            ),
        )),
        Err(TryLockError::Error(error)) => Err(failed(&error)),
    }
}
