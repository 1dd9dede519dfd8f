//! The count flow: numbers of customers that both sides only count (PROTOCOL.md §9). Semi-honest.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use futures::{StreamExt as _, stream::FuturesUnordered};
use overlap_crypto::{
    count::{
        Committed, CountFlow, CountItems, CountMatrix, Exchanging, Group, MIN_PADDING, Party,
        Returning,
    },
    fault::Fault,
    terms::{KeyType, Tier},
    wire::{CountCommitBody, CountElementsBody, CountOpenBody, CountReturnsBody, Flow, FrameKind},
};

use super::{Flows, wire::Inbox};
use crate::{
    error::Error,
    matching::{
        compute::fresh_rng,
        failure::{Failure, misused},
        local_customers::LocalCustomers,
        spool::{Sorted, Sorter},
    },
    overlap::{graph::Graph, matrix::CountFlowResult},
};

/// Items blinded in one go.
const CHUNK: usize = 8192;

/// Counts. Customers that matched in a list flow of this run are replaced by padding, so that no
/// shared customer counts twice and no size tells how many matched.
pub(super) async fn run(
    flows: &Arc<Flows>,
    inbox: &mut Inbox,
    graph: &Arc<Graph>,
) -> Result<(CountMatrix, CountFlowResult), Failure> {
    let terms = &flows.prepared.terms;
    let flow = CountFlow::new(&flows.session, &terms.terms)?;
    let (own_groups, peer_groups) = (flow.own_groups().to_vec(), flow.peer_groups().to_vec());
    let key_type = flow.key_type();
    let (there, graph) = (Arc::clone(flows), Arc::clone(graph));
    let committed = flows
        .run
        .pool
        .run(move || commit(&there, flow, &graph))
        .await?;
    send(flows, FrameKind::CountCommit, committed.encode()).await?;
    let payload = inbox.expect(FrameKind::CountCommit).await?;
    let exchanging = committed.receive(CountCommitBody::decode(&payload)?)?;
    let returning = exchange(flows, inbox, exchanging).await?;
    let matrix = collect(flows, inbox, returning).await?;

    let theirs = terms
        .terms
        .partner_of(&flows.run.parties.me())
        .ok_or_else(|| Error::internal("the partner is no side of the terms"))?;
    let mut counts = BTreeMap::new();
    for (row, own) in own_groups.iter().enumerate() {
        for (column, peer) in peer_groups.iter().enumerate() {
            let at = terms
                .mine
                .from_wire_code(*own)
                .zip(terms.theirs.from_wire_code(*peer));
            if let (Some(at), Some(count)) = (at, matrix.at(row, column)) {
                counts.insert(at, count);
            }
        }
    }
    let result = CountFlowResult {
        key_type,
        counts,
        threshold: u64::from(theirs.min_count),
    };
    Ok((matrix, result))
}

async fn send(flows: &Flows, kind: FrameKind, body: Vec<u8>) -> Result<(), Failure> {
    flows.outgoing.send(Flow::Count, kind, body).await
}

/// Blinds and commits to one item of each counted customer.
fn commit(flows: &Flows, flow: CountFlow, graph: &Graph) -> Result<Committed, Failure> {
    let run = &flows.run;
    let prepared = &flows.prepared;
    let mut rng = fresh_rng()?;
    let items = items(
        prepared.local()?,
        flow.key_type(),
        &flows.directory.scratch(),
        run.settings.limits.sort_bytes,
    )?;
    let local = prepared.local()?;
    let side = prepared.my_terms(run)?;
    let groups = flow.own_groups().to_vec();
    let party = Party::new(run.settings.backend, flow, &mut rng);
    let mut committed = Vec::with_capacity(groups.len());
    for code in groups {
        let stage = prepared
            .terms
            .mine
            .from_wire_code(code)
            .ok_or_else(|| Error::internal("a group is no stage"))?;
        let (mut elements, mut all) = (Vec::new(), 0_u64);
        let mut batch = CountItems::with_capacity(party.flow(), CHUNK);
        let mut previous = None;
        let mut stream = items.stream()?;
        while let Some(record) = stream.next_record()? {
            let (customer, value) = record
                .split_first_chunk::<4>()
                .ok_or_else(|| Error::internal("an item record is malformed"))?;
            let customer = u32::from_be_bytes(*customer);
            // Values of a customer are sorted: the smallest stands for it.
            if local.stage(customer) != stage || previous == Some(customer) {
                continue;
            }
            previous = Some(customer);
            all += 1;
            if graph.of_customer(customer).is_some() {
                continue;
            }
            batch.push(value).map_err(misused)?;
            if batch.len() == CHUNK {
                elements.extend(party.blind(&batch));
                batch = CountItems::with_capacity(party.flow(), CHUNK);
            }
        }
        elements.extend(party.blind(&batch));
        let padded = side.padding.padded(all) + MIN_PADDING as u64;
        let padding = usize::try_from(padded).unwrap_or(usize::MAX) - elements.len();
        committed.push(Group {
            elements,
            padding: party.padding(padding, &mut rng),
        });
    }
    Ok(Committed::new(party, committed, &mut rng)?)
}

/// The keys of the one type of every counted customer, by customer and value.
fn items(
    local: &LocalCustomers,
    key_type: KeyType,
    scratch: &Path,
    sort_bytes: usize,
) -> Result<Sorted, Error> {
    let mut sorter = Sorter::new(scratch, "count_items", sort_bytes);
    let mut keys = local.keys()?;
    while let Some(key) = keys.next_key()? {
        if key.key_type == key_type && local.tiers().tier(key.stage) == Tier::Count {
            sorter.push(&[&key.customer.to_be_bytes(), key.value.as_bytes()])?;
        }
    }
    sorter.finish()
}

/// Exchanges the elements and re-blinds the partner's.
async fn exchange(
    flows: &Arc<Flows>,
    inbox: &mut Inbox,
    mut exchanging: Exchanging,
) -> Result<Returning, Failure> {
    let open = exchanging.open_body();
    let bodies: Vec<Vec<u8>> = exchanging.element_bodies().collect();
    let sending = async {
        send(flows, FrameKind::CountOpen, open).await?;
        for body in bodies {
            send(flows, FrameKind::CountElements, body).await?;
        }
        Ok::<_, Failure>(())
    };
    let receiving = async {
        let payload = inbox.expect(FrameKind::CountOpen).await?;
        exchanging.admit_open(CountOpenBody::decode(&payload)?)?;
        while !exchanging.is_complete() {
            let payload = inbox.expect(FrameKind::CountElements).await?;
            exchanging.admit_elements(&CountElementsBody::decode(&payload)?)?;
        }
        Ok::<_, Failure>(exchanging)
    };
    let ((), exchanging) = tokio::try_join!(sending, receiving)?;
    let exchanged = Arc::new(
        flows
            .run
            .pool
            .run(move || Ok::<_, Failure>(exchanging.finish()?))
            .await?,
    );
    let mut chunks: Vec<_> = exchanged.chunks().collect();
    let mut working = FuturesUnordered::new();
    let mut pieces = Vec::new();
    loop {
        while working.len() < flows.run.pool.threads()
            && let Some(chunk) = chunks.pop()
        {
            let exchanged = Arc::clone(&exchanged);
            working.push(
                flows
                    .run
                    .pool
                    .run(move || Ok::<_, Failure>(exchanged.reblind(chunk)?)),
            );
        }
        match working.next().await {
            Some(piece) => pieces.push(piece?),
            None => break,
        }
    }
    flows
        .run
        .pool
        .run(move || {
            let exchanged = Arc::into_inner(exchanged)
                .ok_or_else(|| Error::internal("elements are still in use"))?;
            Ok::<_, Failure>(exchanged.finish(pieces)?)
        })
        .await
}

/// Returns the partner's elements and takes back this side's.
async fn collect(
    flows: &Arc<Flows>,
    inbox: &mut Inbox,
    mut returning: Returning,
) -> Result<CountMatrix, Failure> {
    let bodies: Vec<Vec<u8>> = returning.return_bodies().collect();
    let sending = async {
        for body in bodies {
            send(flows, FrameKind::CountReturns, body).await?;
        }
        Ok::<_, Failure>(())
    };
    let receiving = async {
        while !returning.is_complete() {
            let frame = inbox.next().await?;
            if frame.kind != FrameKind::CountReturns {
                return Err(Failure::from(Fault::UnexpectedFrame));
            }
            returning.admit_returns(&CountReturnsBody::decode(&frame.payload)?)?;
        }
        Ok::<_, Failure>(returning)
    };
    let ((), returning) = tokio::try_join!(sending, receiving)?;
    flows
        .run
        .pool
        .run(move || Ok::<_, Failure>(returning.finish()?))
        .await
}
