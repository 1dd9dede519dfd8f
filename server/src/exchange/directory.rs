//! The certificates that may connect, in memory: the TLS handshake asks on every connection, and every call asks again.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use jiff::Timestamp;
use rusqlite::Connection;
use tokio::sync::{Semaphore, watch};

use crate::{error::Error, partnership};

/// The pinned certificates of connected partners, and whether an invitation is outstanding.
pub struct Directory(RwLock<State>);

#[derive(Default)]
struct State {
    pinned: HashMap<[u8; 32], Pinned>,
    /// Partners that cannot be called and have not collected yet that the partnership is over: they may do that and nothing else.
    leaving: HashMap<[u8; 32], String>,
    /// When the last outstanding invitation ends.
    invites_until: Option<Timestamp>,
}

struct Pinned {
    partnership_id: String,
    /// Dropped with the entry, which ends what runs over the partner's connections.
    alive: watch::Sender<()>,
    runs: Arc<Semaphore>,
    fetches: Arc<Semaphore>,
}

/// Run streams of one partner beyond the runs it may have: a stream that broke may not have been noticed yet.
const SPARE_STREAMS: usize = 2;
/// Files that one partner fetches at once.
const FETCHES_PER_PARTNER: usize = 4;

impl Directory {
    /// The directory as the store has it.
    ///
    /// # Errors
    /// What the store reports.
    pub(crate) fn load(connection: &Connection, runs_per_partner: usize) -> Result<Self, Error> {
        let directory = Self(RwLock::default());
        directory.reload(connection, runs_per_partner)?;
        Ok(directory)
    }

    /// Follows the store. Connections of partners that are gone end.
    ///
    /// # Errors
    /// What the store reports.
    pub(crate) fn reload(
        &self,
        connection: &Connection,
        runs_per_partner: usize,
    ) -> Result<(), Error> {
        // The lock comes before the snapshot (the first query takes it): of two reloads the later one sees more.
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let certificates = partnership::pinned_certificates(connection)?;
        let leaving = partnership::leaving_certificates(connection)?;
        let invites_until = partnership::invites_until(connection)?;
        let mut before = std::mem::take(&mut state.pinned);
        for (certificate, partnership_id) in certificates {
            let pinned = match before.remove(&certificate) {
                Some(pinned) if pinned.partnership_id == partnership_id => pinned,
                _ => Pinned {
                    partnership_id,
                    alive: watch::Sender::new(()),
                    runs: Arc::new(Semaphore::new(runs_per_partner + SPARE_STREAMS)),
                    fetches: Arc::new(Semaphore::new(FETCHES_PER_PARTNER)),
                },
            };
            state.pinned.insert(certificate, pinned);
        }
        state.leaving = leaving.into_iter().collect();
        state.invites_until = invites_until;
        Ok(())
    }

    /// The connected partnership with this certificate.
    #[must_use]
    pub fn partnership_id(&self, certificate_sha256: &[u8; 32]) -> Option<String> {
        self.state(|state| {
            state
                .pinned
                .get(certificate_sha256)
                .map(|pinned| pinned.partnership_id.clone())
        })
    }

    /// The ended partnership with this certificate, while its partner has yet to collect that it is over.
    pub(crate) fn leaving(&self, certificate_sha256: &[u8; 32]) -> Option<String> {
        self.state(|state| state.leaving.get(certificate_sha256).cloned())
    }

    /// Whether a certificate that is not pinned may connect, to redeem an invitation.
    pub(crate) fn invites_outstanding(&self, now: Timestamp) -> bool {
        self.state(|state| state.invites_until.is_some_and(|until| now < until))
    }

    /// Resolves when the certificate is no longer pinned; at once if it is not.
    pub(crate) fn unpinned(
        &self,
        certificate_sha256: &[u8; 32],
    ) -> impl Future<Output = ()> + Send + use<> {
        let alive = self.state(|state| {
            state
                .pinned
                .get(certificate_sha256)
                .map(|pinned| pinned.alive.subscribe())
        });
        async move {
            if let Some(mut alive) = alive {
                while alive.changed().await.is_ok() {}
            }
        }
    }

    /// Admission for run streams with the partner.
    pub(crate) fn run_streams(&self, certificate_sha256: &[u8; 32]) -> Option<Arc<Semaphore>> {
        self.state(|state| {
            state
                .pinned
                .get(certificate_sha256)
                .map(|pinned| Arc::clone(&pinned.runs))
        })
    }

    /// Admission for the partner's fetches of files.
    pub(crate) fn fetches(&self, certificate_sha256: &[u8; 32]) -> Option<Arc<Semaphore>> {
        self.state(|state| {
            state
                .pinned
                .get(certificate_sha256)
                .map(|pinned| Arc::clone(&pinned.fetches))
        })
    }

    fn state<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}
