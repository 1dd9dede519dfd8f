//! The list flow in which this side queries.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use futures::{
    StreamExt as _,
    stream::{FuturesOrdered, FuturesUnordered},
};
use overlap_crypto::{
    fault::Fault,
    list::{
        AwaitingSlices, BlindedChunk, LabelFormat, ListFlow, Querying, Receiver, SealedMatches,
        SliceOutcome, SliceTicket, SlicesComplete,
    },
    secrets::Secrets,
    wire::{CommitmentsBody, EvaluationBody, FrameKind, SliceBody},
};

use super::{
    Flows, WINDOW, delta, lock,
    sets::{EntrySlices, ItemSource, push_entries},
    wire::Inbox,
};
use crate::{
    error::Error,
    matching::{
        compute::fresh_rng,
        failure::{Failure, misused},
        ledger::Budget,
        local_customers::KeyRef,
        progress::RunState,
        spool::{RecordFile, RecordWriter, Sorted, Sorter},
    },
};

/// Queries, if this side does in this run.
pub(super) async fn run(
    flows: Arc<Flows>,
    mut inbox: Inbox,
) -> Result<Option<SlicesComplete>, Failure> {
    let Some(flow) = flows.session.receiving() else {
        return Ok(None);
    };
    if flows.delta.is_some() {
        return delta::receiver::run(flows, flow, inbox).await.map(Some);
    }
    let plan = flows.session.plan().queries(flows.session.role());
    let source = ItemSource::queries(
        flows.prepared.local()?,
        flow,
        plan.ok_or_else(|| Error::internal("a flow outside the plan"))?,
        flows.prepared.terms.terms.normaliser_version(),
    )?;
    let (entries, querying) = query(&flows, flow, &mut inbox, source).await?;
    let (matches, complete) = take_slices(&flows, flow, &mut inbox, entries, querying).await?;
    drop(inbox);
    Ok(Some(open_labels(&flows, flow, matches, complete).await?))
}

/// Sends every query and derives the keys of every item.
pub(super) async fn query(
    flows: &Arc<Flows>,
    flow: ListFlow,
    inbox: &mut Inbox,
    source: ItemSource,
) -> Result<(Sorted, Querying), Failure> {
    let run = &flows.run;
    let backend = run.settings.backend;
    let receiver = run
        .pool
        .run(move || Ok::<_, Failure>(Arc::new(Receiver::new(backend, flow))))
        .await?;
    let source = Arc::new(Mutex::new(source));
    let entries = Arc::new(Mutex::new(Sorter::new(
        &flows.directory.scratch(),
        "received",
        run.settings.limits.sort_bytes,
    )));
    let mut querying = Querying::new(flow);
    let mut blinding = FuturesOrdered::new();
    let mut sent: VecDeque<(BlindedChunk, Vec<KeyRef>)> = VecDeque::new();
    let mut finishing = FuturesUnordered::new();
    loop {
        while blinding.len() + sent.len() + finishing.len() < WINDOW
            && let Some(chunk) = querying.next_chunk()
        {
            let (receiver, source) = (Arc::clone(&receiver), Arc::clone(&source));
            blinding.push_back(run.pool.run(move || {
                let batch = lock(&source).take(chunk.count)?;
                let blinded = receiver
                    .blind(batch.items, &mut fresh_rng()?)
                    .map_err(misused)?;
                let body = blinded.encode(chunk.number);
                Ok::<_, Failure>(((blinded, batch.keys), body))
            }));
        }
        if blinding.is_empty() && sent.is_empty() && finishing.is_empty() {
            break;
        }
        tokio::select! {
            biased;
            Some(blinded) = blinding.next() => {
                let (blinded, body) = blinded?;
                sent.push_back(blinded);
                flows.outgoing.send(flow.flow, FrameKind::Query, body).await?;
            }
            Some(finished) = finishing.next() => {
                flows.run.meter.advance(RunState::Evaluating, finished?);
            }
            frame = inbox.next(), if !sent.is_empty() => {
                let frame = frame?;
                if frame.kind != FrameKind::Evaluation {
                    return Err(Fault::UnexpectedFrame.into());
                }
                querying.admit(&EvaluationBody::decode(&frame.payload)?)?;
                let (blinded, keys) = sent.pop_front().ok_or(Fault::UnexpectedFrame)?;
                let (receiver, entries) = (Arc::clone(&receiver), Arc::clone(&entries));
                finishing.push(run.pool.run(move || {
                    let evaluation = EvaluationBody::decode(&frame.payload)?;
                    let elements = evaluation.elements.len() as u64;
                    let finished = blinded.finish(&receiver, &evaluation)?;
                    push_entries(&mut lock(&entries), &finished, &keys)?;
                    Ok::<_, Failure>(elements)
                }));
            }
        }
    }
    let entries = run
        .pool
        .run(move || {
            let sorter = Arc::into_inner(entries)
                .and_then(|entries| entries.into_inner().ok())
                .ok_or_else(|| Error::internal("entries are still in use"))?;
            Ok::<_, Failure>(sorter.finish()?)
        })
        .await?;
    Ok((entries, querying))
}

/// Matches slice by slice. What is sent depends on tags and own tiers alone: no label is opened here.
async fn take_slices(
    flows: &Arc<Flows>,
    flow: ListFlow,
    inbox: &mut Inbox,
    entries: Sorted,
    querying: Querying,
) -> Result<(RecordFile, SlicesComplete), Failure> {
    let payload = inbox.expect(FrameKind::Commitments).await?;
    let mut awaiting: AwaitingSlices = querying
        .finish()?
        .admit(&CommitmentsBody::decode(&payload)?)?;
    flows.run.meter.enter(RunState::Claims, flow.tags);
    let matching = Matching {
        entries: EntrySlices::new(entries.stream()?, awaiting.layout()),
        matches: RecordWriter::create(&flows.directory.scratch().join("matches"))?,
    };
    let matching = match_slices(flows, flow, inbox, &mut awaiting, matching, |state, one| {
        let labels = &one.flows.prepared.own;
        let own = state.entries.take()?;
        // Fields are read before the tags are looked at, whether or not anything matches.
        let areas = labels.areas(&own.keys)?;
        let outcome = one.ticket.match_own(&one.slice, &own.entries, |owner| {
            let place = owner as usize;
            labels.label(&own.keys[place], areas.at(place))
        })?;
        if let Some(keeper) = &one.flows.keeper {
            keeper.slice_received(&one.slice, own.with_positions())?;
        }
        let stride = outcome.matches.stride();
        let records = outcome.matches.as_bytes().chunks_exact(stride);
        for (record, owner) in records.zip(outcome.matches.owners()) {
            let key = own.keys[owner as usize].to_bytes();
            state.matches.push(&[&key, record])?;
        }
        Ok(outcome)
    })
    .await?;
    Ok((matching.matches.finish()?, awaiting.finish()?))
}

/// A slice that came, debited, and the right to match it.
pub(super) struct OneSlice<'a> {
    pub(super) flows: &'a Flows,
    pub(super) ticket: SliceTicket,
    pub(super) slice: SliceBody<'a>,
}

/// Takes slice after slice: `step` matches it and changes the state, and the claims that come of it leave.
pub(super) async fn match_slices<S, F>(
    flows: &Arc<Flows>,
    flow: ListFlow,
    inbox: &mut Inbox,
    awaiting: &mut AwaitingSlices,
    mut state: S,
    step: F,
) -> Result<S, Failure>
where
    S: Send + 'static,
    F: Fn(&mut S, OneSlice<'_>) -> Result<SliceOutcome, Failure> + Copy + Send + 'static,
{
    while !awaiting.all_matched() {
        let payload = inbox.expect(FrameKind::Slice).await?;
        let ticket = awaiting.admit(&SliceBody::decode(&payload)?)?;
        let there = Arc::clone(flows);
        let (back, outcome, tags) = flows
            .run
            .pool
            .run(move || {
                let slice = SliceBody::decode(&payload)?;
                let tags = slice.tags.len() as u64;
                lock(&there.prepared.ledger).debit(Budget::Tags, tags)?;
                let one = OneSlice {
                    flows: &there,
                    ticket,
                    slice,
                };
                let outcome = step(&mut state, one)?;
                Ok::<_, Failure>((state, outcome, tags))
            })
            .await?;
        state = back;
        flows
            .outgoing
            .send(flow.flow, FrameKind::Claims, outcome.claims)
            .await?;
        awaiting.done(outcome.done);
        flows.run.meter.advance(RunState::Claims, tags);
    }
    Ok(state)
}

/// What matching a slice reads and writes.
struct Matching {
    entries: EntrySlices,
    matches: RecordWriter,
}

/// Opens the labels of every match, off the response path: the partner has all it will get of this flow.
async fn open_labels(
    flows: &Arc<Flows>,
    flow: ListFlow,
    matches: RecordFile,
    complete: SlicesComplete,
) -> Result<SlicesComplete, Failure> {
    let flows_there = Arc::clone(flows);
    flows
        .run
        .pool
        .run(move || {
            let format = flow.evaluator_labels;
            let mut reader = matches.reader()?;
            let mut batch = MatchBatch::default();
            while let Some(record) = reader.next_record()? {
                batch.push(record)?;
                if batch.keys.len() == OPEN_BATCH {
                    std::mem::take(&mut batch).open(&flows_there, format, &complete)?;
                }
            }
            batch.open(&flows_there, format, &complete)?;
            Ok(complete)
        })
        .await
}

/// Labels opened in one go.
const OPEN_BATCH: usize = 8192;

/// Matches whose labels are opened together, and the keys that matched.
#[derive(Default)]
struct MatchBatch {
    keys: Vec<KeyRef>,
    /// With the masters of the labels, which are wiped wherever the batch has grown from.
    sealed: Secrets<u8>,
}

impl MatchBatch {
    fn push(&mut self, record: &[u8]) -> Result<(), Error> {
        let (key, sealed) = record
            .split_first_chunk()
            .ok_or_else(|| Error::internal("a match record is malformed"))?;
        self.keys.push(KeyRef::from_bytes(key)?);
        self.sealed.extend_from_slice(sealed);
        Ok(())
    }

    fn open(
        self,
        flows: &Flows,
        format: LabelFormat,
        complete: &SlicesComplete,
    ) -> Result<(), Failure> {
        let matches = SealedMatches::from_bytes(format, self.sealed)?;
        let opened = complete.open(flows.run.settings.backend, &matches)?;
        let mut edges = flows.edges();
        for (found, key) in opened.iter().zip(&self.keys) {
            edges.take(key, found.label.as_ref(), false)?;
        }
        Ok(())
    }
}
