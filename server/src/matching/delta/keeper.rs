//! Gathers what a run leaves for the next one.

use std::sync::{Mutex, MutexGuard, PoisonError, atomic::Ordering};

use overlap_crypto::{
    handshake::{Mode, Session},
    item::Entry,
    list::ListFlow,
    wire::SliceBody,
};

use super::{
    entries::{EntriesWriter, EntryTable},
    kept::{
        Binding, Document, EvaluatorDocument, MANIFEST, QUERIES, ReceiverDocument, StateFiles,
        TAGS, VERSION, destroy_keys,
    },
    links::{LinksDocument, LinksWriter},
    own::{OwnDocument, OwnWriter, SeeKey},
    published::{Published, PublishedNow, PublishedWriter},
    sealed::write_sealed,
    shared::SharedTotals,
};
use crate::{
    error::Error,
    matching::local_customers::{LocalCustomers, Salt},
    overlap::graph::Graph,
};

/// Gathers what a run leaves for the next one.
pub(crate) struct Keeper {
    pub(crate) files: StateFiles,
    own: Mutex<Option<OwnWriter>>,
    receiving: Option<(ListFlow, Mutex<Option<ReceivingColumns>>)>,
    evaluating: Option<(ListFlow, Mutex<Option<EntriesWriter>>)>,
    /// Of a delta run.
    tables: Mutex<Tables>,
    documents: Mutex<Documents>,
}

/// What a full run writes as receiver.
struct ReceivingColumns {
    queries: EntriesWriter,
    published: PublishedWriter,
}

/// The tables of a delta run's receiver, as its flow left them.
pub(crate) struct ReceiverTables {
    pub(crate) queries: EntryTable,
    pub(crate) published: Published,
    /// What the partner published and removed in this run, and the session it did in.
    pub(crate) now: PublishedNow,
    pub(crate) session: [u8; 32],
}

/// The tables of a delta run's flows: written once the result is.
#[derive(Default)]
pub(crate) struct Tables {
    pub(crate) receiver: Option<ReceiverTables>,
    pub(crate) evaluator: Option<EntryTable>,
}

#[derive(Default)]
struct Documents {
    receiver: Option<ReceiverDocument>,
    evaluator: Option<EvaluatorDocument>,
    own: Option<OwnDocument>,
    links: Option<LinksDocument>,
    totals: SharedTotals,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn closed() -> Error {
    Error::internal("an epoch's state is written out of order")
}

impl Keeper {
    /// For a run of this session. A full run's flows write what they keep as they go, and `own` has its customers.
    pub(crate) fn new(
        files: StateFiles,
        own: Option<OwnWriter>,
        session: &Session,
        mode: Mode,
    ) -> Result<Self, Error> {
        let mut keeper = Self {
            files,
            own: Mutex::new(own),
            receiving: None,
            evaluating: None,
            tables: Mutex::default(),
            documents: Mutex::default(),
        };
        if mode == Mode::Delta {
            return Ok(keeper);
        }
        let (directory, key) = (&keeper.files.directory, &keeper.files.key);
        if let Some(flow) = session.receiving() {
            let sealed = flow.evaluator_labels.sealed_bytes();
            let columns = ReceivingColumns {
                queries: EntriesWriter::create(directory, key, QUERIES)?,
                published: PublishedWriter::create(directory, key, sealed)?,
            };
            keeper.receiving = Some((flow, Mutex::new(Some(columns))));
        }
        if let Some(flow) = session.evaluating() {
            let tags = EntriesWriter::create(directory, key, TAGS)?;
            keeper.evaluating = Some((flow, Mutex::new(Some(tags))));
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
            columns.published.publish(tag, 0, label)?;
        }
        Ok(())
    }

    /// A full run's evaluator sealed a slice of these entries, which come with their keys' positions. Slices come in order.
    pub(crate) fn slice_sealed<'a>(
        &self,
        entries: impl Iterator<Item = (&'a Entry, u32)>,
    ) -> Result<(), Error> {
        let Some((_, tags)) = &self.evaluating else {
            return Ok(());
        };
        let mut tags = lock(tags);
        let tags = tags.as_mut().ok_or_else(closed)?;
        for (entry, key) in entries {
            tags.push(entry, key)?;
        }
        Ok(())
    }

    /// Takes the links of a full run's shared customers.
    pub(crate) fn links(&self) -> Result<LinksWriter, Error> {
        LinksWriter::create(&self.files.directory, &self.files.key)
    }

    /// A delta run's receiver is done.
    pub(crate) fn receiver_done(&self, tables: ReceiverTables) {
        lock(&self.tables).receiver = Some(tables);
    }

    /// A delta run's evaluator is done.
    pub(crate) fn evaluator_done(&self, tags: EntryTable) {
        lock(&self.tables).evaluator = Some(tags);
    }

    /// The tables of a delta run whose flows are done.
    pub(crate) fn take_tables(&self) -> Tables {
        std::mem::take(&mut *lock(&self.tables))
    }

    /// A delta run's result is written; without what is kept of my customers the next run is full.
    pub(crate) fn shared_done(
        &self,
        own: Option<OwnDocument>,
        links: LinksDocument,
        totals: SharedTotals,
        (receiver, evaluator): (Option<ReceiverDocument>, Option<EvaluatorDocument>),
    ) {
        *lock(&self.documents) = Documents {
            receiver,
            evaluator,
            own,
            links: Some(links),
            totals,
        };
    }

    /// Completes the columns of a full run, and writes what is needed of my customers; `see` takes every key on the way. Customers that cannot be kept, and a
    /// partner that contradicts itself, leave nothing: the next run is full.
    pub(crate) fn finish(
        &self,
        (local, graph): (&LocalCustomers, &Graph),
        links: LinksWriter,
        salt: &Salt,
        change_seq: u64,
        see: &mut SeeKey<'_>,
    ) -> Result<(), Error> {
        let (directory, key) = (&self.files.directory, &self.files.key);
        let mut documents = lock(&self.documents);
        if let Some((flow, columns)) = &self.receiving {
            let columns = lock(columns).take().ok_or_else(closed)?;
            documents.receiver = Some(ReceiverDocument {
                queries: columns.queries.finish(flow.queries)?,
                published: columns.published.finish(&[flow.session.0])?,
            });
        }
        if let Some((flow, tags)) = &self.evaluating {
            let tags = lock(tags).take().ok_or_else(closed)?;
            documents.evaluator = Some(EvaluatorDocument {
                tags: tags.finish(flow.tags)?,
            });
        }
        let own = lock(&self.own).take().ok_or_else(closed)?;
        documents.links = Some(links.finish()?);
        documents.totals = SharedTotals::of(graph);
        documents.own = own.finish(directory, key, (local, graph), salt, change_seq, see)?;
        if graph.disagreeing() > 0 {
            documents.own = None;
        }
        Ok(())
    }

    /// Writes the manifest: from now on the state can be read, once the result is in force. Without what is kept of my
    /// customers there is none.
    pub(crate) fn seal(&self, binding: Binding, receipts: [[u8; 32]; 2]) -> Result<(), Error> {
        let mut documents = lock(&self.documents);
        let Some(own) = documents.own.take() else {
            return Ok(());
        };
        let document = Document {
            version: VERSION,
            binding,
            base: self.files.base.clone(),
            deltas: self.files.deltas,
            receipts: receipts.map(hex::encode),
            own,
            links: documents.links.take().ok_or_else(closed)?,
            totals: std::mem::take(&mut documents.totals),
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
