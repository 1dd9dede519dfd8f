//! The list flow in which this side answers queries and publishes its listed customers.

use std::sync::{Arc, Mutex};

use futures::{
    StreamExt as _,
    stream::{FuturesOrdered, FuturesUnordered},
};
use overlap_crypto::{
    fault::Fault,
    item::Entry,
    list::{Answering, Claimed, Evaluator, Labels, ListFlow, Releasing},
    voprf::SecretKey,
    wire::{ClaimsBody, FrameKind, QueryBody},
};

use super::{
    Flows, delta, lock,
    sets::{
        EntrySlices, ItemSource, SliceEntries, SliceFile, SliceWriter, is_padding, push_entries,
        push_entry,
    },
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
        spool::{Sorted, Sorter},
    },
};

/// Own items hashed in one go.
const OWN_CHUNK: usize = 8192;

/// Evaluates, if this side does in this run.
pub(super) async fn run(flows: Arc<Flows>, mut inbox: Inbox) -> Result<Option<Releasing>, Failure> {
    let Some(flow) = flows.session.evaluating() else {
        return Ok(None);
    };
    if flows.delta.is_some() {
        return delta::evaluator::run(flows, flow, inbox).await.map(Some);
    }
    let evaluator = evaluator(&flows, flow)?;
    let source = ItemSource::own(
        flows.prepared.local()?,
        flow,
        flows.prepared.terms.terms.normaliser_version(),
    )?;
    let padding = flow.tags.saturating_sub(source.left());
    let (answering, entries) = tokio::try_join!(
        answer(&flows, flow, &evaluator, &mut inbox),
        hash_own(&flows, &evaluator, source, padding),
    )?;
    flows.run.meter.enter(RunState::Tags, flow.tags);
    let (slices, hashes) = seal(&flows, flow, &evaluator, &entries).await?;
    let (commitments, releasing) = answering.finish()?.commit(&hashes)?;
    flows
        .outgoing
        .send(flow.flow, FrameKind::Commitments, commitments)
        .await?;
    flows.run.meter.enter(RunState::Claims, flow.tags);
    let sink = ClaimSink::Edges;
    let released = release(&flows, flow, &mut inbox, releasing, slices, &entries, sink).await?;
    Ok(Some(released))
}

/// What evaluates with the epoch's key.
pub(super) fn evaluator(flows: &Flows, flow: ListFlow) -> Result<Arc<Evaluator>, Failure> {
    let keys = flows
        .prepared
        .keys
        .as_ref()
        .ok_or_else(|| Error::internal("an evaluator without keys"))?;
    let secret = SecretKey::from_bytes(&keys.secret)?;
    let evaluator = Evaluator::new(flows.run.settings.backend, flow, secret)?;
    Ok(Arc::new(evaluator))
}

/// Answers every query. Each is debited durably before it is computed.
pub(super) async fn answer(
    flows: &Arc<Flows>,
    flow: ListFlow,
    evaluator: &Arc<Evaluator>,
    inbox: &mut Inbox,
) -> Result<Answering, Failure> {
    let run = &flows.run;
    let in_flight = run.pool.threads() * 2;
    let mut answering = Answering::new(flow);
    let mut evaluating = FuturesOrdered::new();
    loop {
        if answering.all_admitted() && evaluating.is_empty() {
            return Ok(answering);
        }
        tokio::select! {
            biased;
            Some(answered) = evaluating.next() => {
                let (body, elements): (Vec<u8>, u64) = answered?;
                flows.outgoing.send(flow.flow, FrameKind::Evaluation, body).await?;
                answering.answered()?;
                run.meter.advance(RunState::Evaluating, elements);
            }
            frame = inbox.next(), if !answering.all_admitted() && evaluating.len() < in_flight => {
                let frame = frame?;
                if frame.kind != FrameKind::Query {
                    return Err(Fault::UnexpectedFrame.into());
                }
                answering.admit(&QueryBody::decode(&frame.payload)?)?;
                let (evaluator, there) = (Arc::clone(evaluator), Arc::clone(flows));
                evaluating.push_back(run.pool.run(move || {
                    let query = QueryBody::decode(&frame.payload)?;
                    let elements = query.elements.len() as u64;
                    lock(&there.prepared.ledger).debit(Budget::Queries, elements)?;
                    let body = evaluator.evaluate(&query, &mut fresh_rng()?)?;
                    Ok::<_, Failure>((body, elements))
                }));
            }
        }
    }
}

/// Derives the keys of own items, in the background of answering, and adds padding.
pub(super) async fn hash_own(
    flows: &Arc<Flows>,
    evaluator: &Arc<Evaluator>,
    source: ItemSource,
    padding: u64,
) -> Result<Sorted, Failure> {
    let run = &flows.run;
    let real = source.left();
    let chunks = real.div_ceil(OWN_CHUNK as u64);
    let source = Arc::new(Mutex::new(source));
    let entries = Arc::new(Mutex::new(Sorter::new(
        &flows.directory.scratch(),
        "own",
        run.settings.limits.sort_bytes,
    )));
    let mut hashing = FuturesUnordered::new();
    let mut started = 0;
    loop {
        while started < chunks && hashing.len() < run.pool.threads() {
            started += 1;
            let (evaluator, source) = (Arc::clone(evaluator), Arc::clone(&source));
            let entries = Arc::clone(&entries);
            hashing.push(run.pool.run(move || {
                let batch = lock(&source).take(OWN_CHUNK)?;
                let derived = evaluator.derive(&batch.items)?;
                push_entries(&mut lock(&entries), &derived, &batch.keys)?;
                Ok::<_, Failure>(derived.len() as u64)
            }));
        }
        match hashing.next().await {
            Some(items) => run.meter.advance(RunState::Evaluating, items?),
            None => break,
        }
    }
    run.pool
        .run(move || {
            let mut sorter = Arc::into_inner(entries)
                .and_then(|entries| entries.into_inner().ok())
                .ok_or_else(|| Error::internal("entries are still in use"))?;
            let mut rng = fresh_rng()?;
            for _ in 0..padding {
                push_entry(&mut sorter, &Entry::padding(&mut rng), None)?;
            }
            Ok::<_, Failure>(sorter.finish()?)
        })
        .await
}

/// Seals every slice into a file.
pub(super) async fn seal(
    flows: &Arc<Flows>,
    flow: ListFlow,
    evaluator: &Arc<Evaluator>,
    entries: &Sorted,
) -> Result<(SliceFile, Vec<[u8; 32]>), Failure> {
    let run = &flows.run;
    let layout = flow.layout();
    let mut source = EntrySlices::new(entries.stream()?, layout);
    let mut file = SliceWriter::create(&flows.directory.scratch().join("slices"))?;
    let mut hashes = Vec::with_capacity(layout.slices() as usize);
    let mut sealing = FuturesOrdered::new();
    let mut next = 0;
    while (hashes.len() as u32) < layout.slices() {
        while next < layout.slices() && sealing.len() < run.pool.threads() + 1 {
            let there = Arc::clone(flows);
            let (back, slice) = run
                .pool
                .run(move || {
                    let slice = source.take()?;
                    if let Some(keeper) = &there.keeper {
                        keeper.slice_sealed(slice.with_positions())?;
                    }
                    Ok::<_, Failure>((source, slice))
                })
                .await?;
            source = back;
            let (flows, evaluator) = (Arc::clone(flows), Arc::clone(evaluator));
            let index = next;
            next += 1;
            sealing.push_back(run.pool.run(move || {
                let labels = labels(&flows, flow, &slice)?;
                let sealed = evaluator.seal_slice(index, &slice.entries, &labels)?;
                Ok::<_, Failure>((sealed, slice.entries.len() as u64))
            }));
        }
        if let Some(sealed) = sealing.next().await {
            let (sealed, tags) = sealed?;
            hashes.push(sealed.commitment);
            file = run
                .pool
                .run(move || {
                    file.push(&sealed.payload)?;
                    Ok::<_, Failure>(file)
                })
                .await?;
            run.meter.advance(RunState::Tags, tags);
        }
    }
    Ok((file.finish()?, hashes))
}

/// The labels of a slice's entries.
fn labels(flows: &Flows, flow: ListFlow, slice: &SliceEntries) -> Result<Labels, Failure> {
    let own = &flows.prepared.own;
    let areas = own.areas(&slice.keys)?;
    let mut labels = Labels::with_capacity(flow.evaluator_labels, slice.entries.len());
    for entry in slice.entries.iter() {
        if is_padding(entry) {
            labels.push_padding();
            continue;
        }
        let place = entry.owner as usize;
        let label = own
            .label(&slice.keys[place], areas.at(place))
            .ok_or_else(|| Error::internal("a customer that is not listed has a tag"))?;
        labels.push(&label).map_err(misused)?;
    }
    Ok(labels)
}

/// Where the claims of a run's slices go.
#[derive(Clone, Copy)]
pub(super) enum ClaimSink {
    /// To the edges listed to me.
    Edges,
    /// To what changes of them: later claims and withdrawals of the run may change what they say.
    Changes,
}

impl ClaimSink {
    /// Takes claims; their owners are places among the keys.
    fn take(self, flows: &Flows, claims: &[Claimed<'_>], keys: &[KeyRef]) -> Result<(), Error> {
        let mut claims = claims
            .iter()
            .map(|claim| (&keys[claim.owner as usize], &claim.label));
        match self {
            Self::Edges => {
                let mut edges = flows.edges();
                claims.try_for_each(|(key, label)| edges.take(key, Some(label), true))
            }
            Self::Changes => claims
                .try_for_each(|(key, label)| delta::evaluator::take_claim(flows, key.index, label)),
        }
    }
}

/// Releases slice after slice and takes the claims of each.
pub(super) async fn release(
    flows: &Arc<Flows>,
    flow: ListFlow,
    inbox: &mut Inbox,
    mut releasing: Releasing,
    slices: SliceFile,
    entries: &Sorted,
    sink: ClaimSink,
) -> Result<Releasing, Failure> {
    let run = &flows.run;
    let slices = Arc::new(slices);
    let mut claimed = EntrySlices::new(entries.stream()?, flow.layout());
    loop {
        while let Some(index) = releasing.release() {
            let slices = Arc::clone(&slices);
            let payload = run
                .pool
                .run(move || Ok::<_, Failure>(slices.payload(index)?))
                .await?;
            flows
                .outgoing
                .send(flow.flow, FrameKind::Slice, payload)
                .await?;
        }
        if releasing.all_claimed() {
            return Ok(releasing);
        }
        let payload = inbox.expect(FrameKind::Claims).await?;
        let flows_there = Arc::clone(flows);
        let (releasing_back, claimed_back, tags) = run
            .pool
            .run(move || {
                let slice = claimed.take()?;
                let body = ClaimsBody::decode(&payload)?;
                let found = releasing.admit_claims(&body, &slice.entries)?;
                sink.take(&flows_there, &found, &slice.keys)?;
                let tags = slice.entries.len() as u64;
                Ok::<_, Failure>((releasing, claimed, tags))
            })
            .await?;
        (releasing, claimed) = (releasing_back, claimed_back);
        run.meter.advance(RunState::Claims, tags);
    }
}
