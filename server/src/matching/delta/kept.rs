//! What a run leaves for the next one of its epoch, in the directory of its result.
//!
//! The files come into force with the result, by the same pointer, and go with it. They are sealed under a key beside the
//! epoch's secrets, which goes with the epoch. A manifest binds them to everything they depend on; whoever doubts any of it
//! runs in full.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    entries::EntriesDocument,
    links::LinksDocument,
    own::OwnDocument,
    published::PublishedDocument,
    sealed::{StateKey, read_sealed},
    shared::SharedTotals,
};
use crate::{
    error::Error,
    identity::Vault,
    matching::{
        keys::random,
        spool::{disk, new_directory, new_file},
    },
};

/// The table of queries.
pub(crate) const QUERIES: &str = "queries";
/// The table of published tags.
pub(crate) const TAGS: &str = "tags";
pub(super) const MANIFEST: &str = "manifest";
pub(super) const VERSION: u32 = 3;

/// The directory of the state within that of a result.
#[must_use]
pub(crate) fn directory(result: &Path) -> PathBuf {
    result.join("epoch")
}

/// What the state depends on besides my customers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Binding {
    /// Of the whole terms, hexadecimal: with the normaliser and the suffix list.
    pub(crate) terms: String,
    /// My stages with ordinals and tiers, hidden ones too: their indexes are stored.
    pub(crate) stages: Vec<String>,
    /// My epoch, if I evaluate.
    pub(crate) my_epoch: Option<u64>,
    /// The partner's epoch and its key, if it evaluates.
    pub(crate) their_epoch: Option<(u64, String)>,
    /// Whether I query for list x list.
    pub(crate) i_query: bool,
}

/// What the receiver keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReceiverDocument {
    pub(crate) queries: EntriesDocument,
    pub(crate) published: PublishedDocument,
}

/// What the evaluator keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EvaluatorDocument {
    pub(crate) tags: EntriesDocument,
}

/// The manifest of an epoch's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Document {
    pub(super) version: u32,
    pub(crate) binding: Binding,
    /// The directory of the full run it goes back to, which names the key.
    pub(crate) base: String,
    /// Delta runs since then.
    pub(crate) deltas: u32,
    /// Hashes of both receipts of the run that wrote it, hexadecimal.
    pub(crate) receipts: [String; 2],
    pub(crate) own: OwnDocument,
    pub(crate) links: LinksDocument,
    pub(crate) totals: SharedTotals,
    pub(crate) receiver: Option<ReceiverDocument>,
    pub(crate) evaluator: Option<EvaluatorDocument>,
}

/// A partnership's state keys lie beside the epoch's secrets.
pub(super) fn key_path(epochs: &Path, base: &str) -> PathBuf {
    epochs.join(format!("{KEY_PREFIX}{base}"))
}

const KEY_PREFIX: &str = "state-";

fn key_purpose(base: &str) -> String {
    format!("matching/state/{base}")
}

fn new_key(epochs: &Path, base: &str, vault: &Vault) -> Result<StateKey, Error> {
    let mut bytes = Zeroizing::new([0; 32]);
    random(bytes.as_mut())?;
    new_directory(epochs)?;
    let path = key_path(epochs, base);
    let sealed = vault.seal(&key_purpose(base), bytes.as_ref())?;
    std::io::Write::write_all(&mut new_file(&path)?, &sealed)
        .map_err(|error| disk(&path, &error))?;
    Ok(StateKey::new(&bytes))
}

fn load_key(epochs: &Path, base: &str, vault: &Vault) -> Result<StateKey, Error> {
    let secret = vault.open(&key_purpose(base), &key_path(epochs, base))?;
    let bytes: &[u8; 32] = secret
        .as_slice()
        .try_into()
        .map_err(|_| Error::internal("a state key of the wrong length"))?;
    Ok(StateKey::new(bytes))
}

/// Removes the state keys of a partnership except the one in force: what was sealed under the others is lost.
///
/// # Errors
/// What the file system reports.
pub(crate) fn destroy_keys(epochs: &Path, but: Option<&str>) -> Result<(), Error> {
    let entries = match fs::read_dir(epochs) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(disk(epochs, &error)),
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let base = name.to_str().and_then(|name| name.strip_prefix(KEY_PREFIX));
        if base.is_some_and(|base| Some(base) != but) {
            fs::remove_file(entry.path()).map_err(|error| disk(&entry.path(), &error))?;
        }
    }
    Ok(())
}

/// The state that the last run left, with its key.
pub(crate) struct Kept {
    /// The directory of the result, and that of the state.
    pub(crate) result: PathBuf,
    pub(crate) directory: PathBuf,
    pub(crate) key: StateKey,
    pub(crate) document: Document,
}

impl Kept {
    /// Opens the state in the directory of a result; `None` if there is none.
    ///
    /// # Errors
    /// What the file system reports; `STORAGE_FAILED` or `KEY_UNUSABLE` if it does not open.
    pub(crate) fn open(result: &Path, epochs: &Path, vault: &Vault) -> Result<Option<Self>, Error> {
        let directory = directory(result);
        let manifest = directory.join(MANIFEST);
        // The key is named beside the sealed manifest: it says nothing but which run began the state.
        let base = match fs::read_to_string(directory.join(BASE)) {
            Ok(base) => base,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(disk(&manifest, &error)),
        };
        if !manifest.exists() || !base.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(None);
        }
        let key = load_key(epochs, &base, vault)?;
        let bytes = read_sealed(&manifest, &key)?;
        let document: Document = serde_json::from_slice(&bytes)
            .map_err(|error| Error::internal(format!("a state manifest: {error}")))?;
        if document.version != VERSION || document.base != base {
            return Ok(None);
        }
        Ok(Some(Self {
            result: result.to_owned(),
            directory,
            key,
            document,
        }))
    }
}

const BASE: &str = "base";

/// Removes the state in the directory of a result, so that the next run is full.
pub(crate) fn forget(result: &Path) {
    let directory = directory(result);
    if let Err(error) = fs::remove_dir_all(&directory)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %directory.display(), "an epoch's state could not be removed");
    }
}

/// The directory in which a run leaves its state, and the key that seals it. Both go unless the result comes into force.
pub(crate) struct StateFiles {
    pub(crate) directory: PathBuf,
    pub(crate) key: StateKey,
    pub(super) epochs: PathBuf,
    pub(super) base: String,
    pub(super) deltas: u32,
    pub(super) in_force: AtomicBool,
}

impl StateFiles {
    /// For a full run called `base` whose files are in `result`.
    pub(crate) fn full(
        result: &Path,
        epochs: &Path,
        vault: &Vault,
        base: &str,
    ) -> Result<Self, Error> {
        Ok(Self {
            key: new_key(epochs, base, vault)?,
            directory: start(result, base)?,
            epochs: epochs.to_owned(),
            base: base.to_owned(),
            deltas: 0,
            in_force: AtomicBool::new(false),
        })
    }

    /// For a delta run that goes on from `kept`.
    pub(crate) fn delta(
        result: &Path,
        epochs: &Path,
        vault: &Vault,
        kept: &Kept,
    ) -> Result<Self, Error> {
        let base = kept.document.base.clone();
        Ok(Self {
            key: load_key(epochs, &base, vault)?,
            directory: start(result, &base)?,
            epochs: epochs.to_owned(),
            base,
            deltas: kept.document.deltas + 1,
            in_force: AtomicBool::new(false),
        })
    }
}

impl Drop for StateFiles {
    fn drop(&mut self) {
        if self.in_force.load(Ordering::Relaxed) {
            return;
        }
        // The run's directory goes as a whole if this fails, and the key with the next result.
        let _ = fs::remove_dir_all(&self.directory);
        if self.deltas == 0 {
            let _ = fs::remove_file(key_path(&self.epochs, &self.base));
        }
    }
}

fn start(result: &Path, base: &str) -> Result<PathBuf, Error> {
    let directory = directory(result);
    new_directory(&directory)?;
    let path = directory.join(BASE);
    std::io::Write::write_all(&mut new_file(&path)?, base.as_bytes())
        .map_err(|error| disk(&path, &error))?;
    Ok(directory)
}
