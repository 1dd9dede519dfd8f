//! Where a run computes: a pool of threads apart from the asynchronous runtime.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use tokio::sync::oneshot;
use zeroize::Zeroize as _;

use super::keys::random;
use crate::error::Error;

/// Threads that do the curve arithmetic, the hashing and the sorting of every run of a node; clones share them.
#[derive(Clone)]
pub struct Pool {
    /// `None`: whoever hands work in does it.
    threads: Option<Arc<rayon::ThreadPool>>,
}

impl Pool {
    /// A pool of `threads` threads; 0 is one a CPU.
    ///
    /// # Errors
    /// `INTERNAL` if the threads cannot be started.
    pub fn new(threads: usize) -> Result<Self, Error> {
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("match-{index}"))
            .build()
            .map_err(|error| Error::internal(format!("threads: {error}")))?;
        Ok(Self {
            threads: Some(Arc::new(threads)),
        })
    }

    /// A pool without threads: work is done where it is handed in, in that order. For simulations, which must not depend on how
    /// threads are scheduled.
    #[must_use]
    pub const fn inline() -> Self {
        Self { threads: None }
    }

    /// Number of threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads
            .as_ref()
            .map_or(1, |threads| threads.current_num_threads())
    }

    /// Runs `work` on the pool; it starts at once.
    ///
    /// # Errors
    /// What `work` reports; `INTERNAL` if it panicked.
    pub fn run<T, E, W>(&self, work: W) -> impl Future<Output = Result<T, E>> + Send + use<T, E, W>
    where
        W: FnOnce() -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let (done, result) = oneshot::channel();
        let work = move || {
            let outcome = catch_unwind(AssertUnwindSafe(work))
                .unwrap_or_else(|_| Err(Error::internal("a computation panicked").into()));
            // Nobody waits for a cancelled run.
            let _ = done.send(outcome);
        };
        match &self.threads {
            Some(threads) => threads.spawn(work),
            None => work(),
        }
        async move {
            result
                .await
                .unwrap_or_else(|_| Err(Error::internal("the pool is gone").into()))
        }
    }
}

/// Fresh randomness for one piece of work: a ChaCha20 stream seeded by the operating system, never stored.
///
/// # Errors
/// `INTERNAL` if the system gives none.
pub fn fresh_rng() -> Result<ChaCha20Rng, Error> {
    let mut seed = [0; 32];
    random(&mut seed)?;
    #[cfg(test)]
    note_seed(&seed);
    let rng = ChaCha20Rng::from_seed(seed);
    seed.zeroize();
    Ok(rng)
}

/// Seeds of this process's generators, for the replay of a run by another implementation. In the library's tests only.
#[cfg(test)]
static SEEDS: std::sync::Mutex<Vec<[u8; 32]>> = std::sync::Mutex::new(Vec::new());

#[cfg(test)]
fn note_seed(seed: &[u8; 32]) {
    SEEDS.lock().expect("nobody panics with it").push(*seed);
}

/// The seeds of every generator so far.
#[cfg(test)]
pub(super) fn noted_seeds() -> Vec<[u8; 32]> {
    SEEDS.lock().expect("nobody panics with it").clone()
}
