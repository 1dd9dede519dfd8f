//! What a run leaves for the next one of its epoch, in the directory of its result.
//!
//! The files come into force with the result, by the same pointer, and go with it. They are sealed under a key beside the
//! epoch's secrets, which goes with the epoch. A manifest binds them to everything they depend on; whoever doubts any of it
//! runs in full.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use overlap_crypto::{
    handshake::{Mode, Session},
    item::Entry,
    list::{Label, LabelFormat, ListFlow},
    wire::SliceBody,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    column::{ColumnWriter, StateKey, read_sealed, write_sealed},
    own::{OwnDocument, OwnWriter},
    table::{EntriesDocument, EntryLevelWriter, PublishedDocument, PublishedLevelWriter},
};
use crate::{
    error::Error,
    identity::Vault,
    matching::{
        keys::random,
        local_customers::LocalCustomers,
        spool::{disk, new_directory, new_file},
    },
};

/// The table of queries.
pub(crate) const QUERIES: &str = "queries";
/// The table of published tags.
pub(crate) const TAGS: &str = "tags";
/// What the partner's labels said of my queries.
pub(crate) const MATCHED: &str = "matched";
/// What the partner's claims said of my tags.
pub(crate) const CLAIMED: &str = "claimed";
const MANIFEST: &str = "manifest";
const VERSION: u32 = 1;

/// The directory of the state within that of a result.
#[must_use]
pub(crate) fn directory(result: &Path) -> PathBuf {
    result.join("epoch")
}

/// Bytes of a record of [`MATCHED`] and [`CLAIMED`]: tag, key, whether the label says anything, stage, pseudonym, fields.
pub(crate) const fn said_bytes(format: LabelFormat) -> usize {
    16 + 4 + 1 + format.plain_bytes()
}

/// Appends what a label said of a key that matched.
pub(crate) fn push_said(
    column: &mut ColumnWriter,
    format: LabelFormat,
    tag: &[u8; 16],
    key: u32,
    label: Option<&Label<'_>>,
) -> Result<(), Error> {
    let key = key.to_be_bytes();
    match label {
        Some(label) => column.push(&[tag, &key, &[1, label.stage], &label.pseudonym, label.fields]),
        None => column.push(&[tag, &key, &vec![0; 1 + format.plain_bytes()]]),
    }
}

/// A record of [`MATCHED`] or [`CLAIMED`].
pub(crate) struct Said<'a> {
    pub(crate) tag: [u8; 16],
    pub(crate) key: u32,
    pub(crate) label: Option<Label<'a>>,
}

impl<'a> Said<'a> {
    pub(crate) fn parse(record: &'a [u8]) -> Option<Self> {
        let (tag, rest) = record.split_first_chunk::<16>()?;
        let (key, rest) = rest.split_first_chunk::<4>()?;
        let ([usable, stage], rest) = rest.split_first_chunk::<2>()?;
        let (pseudonym, fields) = rest.split_first_chunk::<16>()?;
        Some(Self {
            tag: *tag,
            key: u32::from_be_bytes(*key),
            label: (*usable == 1).then_some(Label {
                stage: *stage,
                pseudonym: *pseudonym,
                fields,
            }),
        })
    }
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
    pub(crate) matched: u64,
}

/// What the evaluator keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EvaluatorDocument {
    pub(crate) tags: EntriesDocument,
    pub(crate) claimed: u64,
}

/// The manifest of an epoch's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Document {
    version: u32,
    pub(crate) binding: Binding,
    /// The directory of the full run it goes back to, which names the key.
    pub(crate) base: String,
    /// Delta runs since then.
    pub(crate) deltas: u32,
    /// Hashes of both receipts of the run that wrote it, hexadecimal.
    pub(crate) receipts: [String; 2],
    pub(crate) own: OwnDocument,
    /// Blocks of the rows' names.
    pub(crate) names: Vec<u32>,
    pub(crate) receiver: Option<ReceiverDocument>,
    pub(crate) evaluator: Option<EvaluatorDocument>,
}

/// A partnership's state keys lie beside the epoch's secrets.
fn key_path(epochs: &Path, base: &str) -> PathBuf {
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
    epochs: PathBuf,
    base: String,
    deltas: u32,
    in_force: AtomicBool,
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

/// Gathers what a run leaves for the next one.
pub(crate) struct Keeper {
    pub(crate) files: StateFiles,
    own: Mutex<Option<OwnWriter>>,
    receiving: Option<(ListFlow, Mutex<Option<ReceivingColumns>>)>,
    evaluating: Option<(ListFlow, Mutex<Option<EvaluatingColumns>>)>,
    documents: Mutex<Documents>,
}

/// What a full run writes as receiver.
struct ReceivingColumns {
    queries: EntryLevelWriter,
    published: PublishedLevelWriter,
    matched: ColumnWriter,
}

/// What a full run writes as evaluator.
struct EvaluatingColumns {
    tags: EntryLevelWriter,
    claimed: ColumnWriter,
}

#[derive(Default)]
struct Documents {
    receiver: Option<ReceiverDocument>,
    evaluator: Option<EvaluatorDocument>,
    own: Option<OwnDocument>,
    names: Vec<u32>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Keeper {
    /// For a run of this session. A full run's flows write what they keep as they go.
    pub(crate) fn new(
        files: StateFiles,
        own: OwnWriter,
        session: &Session,
        mode: Mode,
    ) -> Result<Self, Error> {
        let mut keeper = Self {
            files,
            own: Mutex::new(Some(own)),
            receiving: None,
            evaluating: None,
            documents: Mutex::default(),
        };
        if mode == Mode::Delta {
            return Ok(keeper);
        }
        let (directory, key) = (&keeper.files.directory, &keeper.files.key);
        if let Some(flow) = session.receiving() {
            let sealed = flow.evaluator_labels.sealed_bytes();
            let columns = ReceivingColumns {
                queries: EntryLevelWriter::create(directory, key, QUERIES, 0)?,
                published: PublishedLevelWriter::create(directory, key, 0, sealed)?,
                matched: ColumnWriter::create(
                    &directory.join(MATCHED),
                    key,
                    said_bytes(flow.evaluator_labels),
                )?,
            };
            keeper.receiving = Some((flow, Mutex::new(Some(columns))));
        }
        if let Some(flow) = session.evaluating() {
            let columns = EvaluatingColumns {
                tags: EntryLevelWriter::create(directory, key, TAGS, 0)?,
                claimed: ColumnWriter::create(
                    &directory.join(CLAIMED),
                    key,
                    said_bytes(flow.receiver_labels),
                )?,
            };
            keeper.evaluating = Some((flow, Mutex::new(Some(columns))));
        }
        Ok(keeper)
    }

    /// A full run's receiver took a slice; `own` are its entries of the slice, with the positions of
    /// their keys. Slices come in order.
    pub(crate) fn slice_received<'a>(
        &self,
        slice: &SliceBody<'_>,
        own: impl Iterator<Item = (&'a Entry, u32)>,
    ) -> Result<(), Error> {
        let Some((flow, columns)) = &self.receiving else {
            return Ok(());
        };
        let mut columns = lock(columns);
        let columns = columns.as_mut().ok_or_else(closed)?;
        for (entry, key) in own {
            columns.queries.push(entry, key)?;
        }
        let sealed = flow.evaluator_labels.sealed_bytes();
        for (tag, label) in slice.tags.iter().zip(slice.labels.chunks_exact(sealed)) {
            columns.published.publish(tag, label)?;
        }
        Ok(())
    }

    /// A full run's receiver opened the label of a match; matches come in the order of tags.
    pub(crate) fn matched(
        &self,
        tag: &[u8; 16],
        key: u32,
        label: Option<&Label<'_>>,
    ) -> Result<(), Error> {
        let Some((flow, columns)) = &self.receiving else {
            return Ok(());
        };
        let mut columns = lock(columns);
        let columns = columns.as_mut().ok_or_else(closed)?;
        push_said(&mut columns.matched, flow.evaluator_labels, tag, key, label)
    }

    /// A full run's evaluator sealed a slice of these entries, which come with their keys' positions. Slices come in order.
    pub(crate) fn slice_sealed<'a>(
        &self,
        entries: impl Iterator<Item = (&'a Entry, u32)>,
    ) -> Result<(), Error> {
        let Some((_, columns)) = &self.evaluating else {
            return Ok(());
        };
        let mut columns = lock(columns);
        let columns = columns.as_mut().ok_or_else(closed)?;
        for (entry, key) in entries {
            columns.tags.push(entry, key)?;
        }
        Ok(())
    }

    /// A full run's evaluator took a claim; claims come in the order of tags.
    pub(crate) fn claimed(&self, tag: &[u8; 16], key: u32, label: &Label<'_>) -> Result<(), Error> {
        let Some((flow, columns)) = &self.evaluating else {
            return Ok(());
        };
        let mut columns = lock(columns);
        let columns = columns.as_mut().ok_or_else(closed)?;
        push_said(
            &mut columns.claimed,
            flow.receiver_labels,
            tag,
            key,
            Some(label),
        )
    }

    /// A delta run's receiver is done.
    pub(crate) fn receiver_done(&self, document: ReceiverDocument) {
        lock(&self.documents).receiver = Some(document);
    }

    /// A delta run's evaluator is done.
    pub(crate) fn evaluator_done(&self, document: EvaluatorDocument) {
        lock(&self.documents).evaluator = Some(document);
    }

    /// Completes the columns of a full run, and writes what is needed of my customers.
    pub(crate) fn finish(
        &self,
        local: &LocalCustomers,
        salt: &[u8; 32],
        change_seq: u64,
        names: Vec<u32>,
    ) -> Result<(), Error> {
        let (directory, key) = (&self.files.directory, &self.files.key);
        let mut documents = lock(&self.documents);
        if let Some((flow, columns)) = &self.receiving {
            let columns = lock(columns).take().ok_or_else(closed)?;
            documents.receiver = Some(ReceiverDocument {
                queries: columns
                    .queries
                    .finish_table(directory, key, QUERIES, flow.queries)?,
                published: columns.published.finish_table(&flow.session.0)?,
                matched: columns.matched.finish()?,
            });
        }
        if let Some((flow, columns)) = &self.evaluating {
            let columns = lock(columns).take().ok_or_else(closed)?;
            documents.evaluator = Some(EvaluatorDocument {
                tags: columns.tags.finish_table(directory, key, TAGS, flow.tags)?,
                claimed: columns.claimed.finish()?,
            });
        }
        let own = lock(&self.own).take().ok_or_else(closed)?;
        documents.own = Some(own.finish(directory, key, local, salt, change_seq)?);
        documents.names = names;
        Ok(())
    }

    /// Writes the manifest: from now on the state can be read, once the result is in force.
    pub(crate) fn seal(&self, binding: Binding, receipts: [[u8; 32]; 2]) -> Result<(), Error> {
        let mut documents = lock(&self.documents);
        let document = Document {
            version: VERSION,
            binding,
            base: self.files.base.clone(),
            deltas: self.files.deltas,
            receipts: receipts.map(hex::encode),
            own: documents.own.take().ok_or_else(closed)?,
            names: std::mem::take(&mut documents.names),
            receiver: documents.receiver.take(),
            evaluator: documents.evaluator.take(),
        };
        let bytes = serde_json::to_vec(&document)
            .map_err(|error| Error::internal(format!("JSON: {error}")))?;
        write_sealed(&self.files.directory.join(MANIFEST), &self.files.key, bytes)
    }

    /// The result is in force: no other state of the partnership is needed any more.
    pub(crate) fn came_into_force(&self) {
        let files = &self.files;
        files.in_force.store(true, Ordering::Relaxed);
        if let Err(error) = destroy_keys(&files.epochs, Some(&files.base)) {
            tracing::warn!(%error, "an epoch's old state key could not be removed");
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

fn closed() -> Error {
    Error::internal("an epoch's state is written out of order")
}
