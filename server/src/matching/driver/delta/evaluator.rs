//! The list flow of a delta run in which this side evaluates.

use std::sync::Arc;

use overlap_crypto::{
    fault::Fault,
    item::{Entry, PADDING},
    list::{Committing, Label, ListFlow, Releasing},
    wire::{EarlierClaimsBody, FrameKind, TagsBody},
};
use zeroize::Zeroizing;

use super::super::{
    Flows,
    evaluator::{self, ClaimSink},
    lock,
    sets::{ItemSource, parse_entry, push_entry},
    wire::Inbox,
};
use crate::{
    error::Error,
    matching::{
        delta::{entries::EntryTable, plan::TagPlan},
        failure::{Failure, misused},
        progress::RunState,
        spool::{Sorted, Sorter},
    },
    overlap::graph::EdgeKey,
};

/// Runs the flow to its end.
pub(in super::super) async fn run(
    flows: Arc<Flows>,
    flow: ListFlow,
    mut inbox: Inbox,
) -> Result<Releasing, Failure> {
    let plan = flows
        .delta
        .as_ref()
        .and_then(|delta| lock(&delta.tags).take())
        .ok_or_else(|| Error::internal("a delta flow without a plan"))?;
    let prf = evaluator::evaluator(&flows, flow)?;
    let TagPlan {
        table,
        new,
        additions,
        resealed,
        removed: void,
    } = plan;
    let padding = additions.saturating_sub(new.len() as u64);
    let source = ItemSource::chosen(
        flow,
        flows.prepared.terms.terms.normaliser_version(),
        new,
        0,
    )?;
    let (answering, added) = tokio::try_join!(
        evaluator::answer(&flows, flow, &prf, &mut inbox),
        evaluator::hash_own(&flows, &prf, source, padding),
    )?;
    flows.run.meter.enter(RunState::Tags, flow.tags);
    let there = Arc::clone(&flows);
    let (mut table, entries) = flows
        .run
        .pool
        .run(move || Ok::<_, Failure>(changes(&there, table, &added, &resealed)?))
        .await?;
    let (slices, hashes) = evaluator::seal(&flows, flow, &prf, &entries).await?;
    let mut committing: Committing = answering.finish()?;
    let mut chunks = void.chunks(super::TAGS_A_FRAME).peekable();
    loop {
        let tags = chunks.next().unwrap_or_default();
        let last = chunks.peek().is_none();
        let frame = committing.remove(tags, last).map_err(misused)?;
        flows
            .outgoing
            .send(flow.flow, FrameKind::Removals, frame)
            .await?;
        if last {
            break;
        }
    }
    let (commitments, releasing) = committing.commit(&hashes)?;
    flows
        .outgoing
        .send(flow.flow, FrameKind::Commitments, commitments)
        .await?;
    flows.run.meter.enter(RunState::Claims, flow.tags);
    let sink = ClaimSink::Changes;
    let mut releasing =
        evaluator::release(&flows, flow, &mut inbox, releasing, slices, &entries, sink).await?;
    while !releasing.earlier_claims_are_complete() {
        let payload = inbox.expect(FrameKind::EarlierClaims).await?;
        let there = Arc::clone(&flows);
        (table, releasing) = flows
            .run
            .pool
            .run(move || {
                let body = EarlierClaimsBody::decode(&payload)?;
                let claimed = look_up(&mut table, &body)?;
                for claim in releasing.admit_earlier_claims(&body, &claimed)? {
                    take_claim(&there, claim.owner, &claim.label)?;
                }
                Ok::<_, Failure>((table, releasing))
            })
            .await?;
    }
    let mut withdrawn = 0;
    while !releasing.is_complete() {
        let payload = inbox.expect(FrameKind::Withdrawals).await?;
        let body = TagsBody::decode(&payload)?;
        releasing.admit_withdrawals(&body)?;
        withdrawn += body.values.len() as u64;
        if withdrawn > table.bound() {
            return Err(Fault::WrongCount.into());
        }
        let there = Arc::clone(&flows);
        table = flows
            .run
            .pool
            .run(move || {
                let body = TagsBody::decode(&payload)?;
                for tag in body.values {
                    if let Some(entry) = table.find(tag)?
                        && entry.owner != PADDING
                    {
                        lock(&delta(&there)?.changes).end(claimed(entry.owner));
                    }
                }
                Ok::<_, Failure>(table)
            })
            .await?;
    }
    let keeper = flows
        .keeper
        .as_ref()
        .ok_or_else(|| Error::internal("a delta run that keeps nothing"))?;
    keeper.evaluator_done(table);
    Ok(releasing)
}

fn delta(flows: &Flows) -> Result<&super::DeltaRun, Error> {
    flows
        .delta
        .as_ref()
        .ok_or_else(|| Error::internal("not a delta run"))
}

/// The match of a key that the partner claims.
const fn claimed(number: u32) -> EdgeKey {
    EdgeKey {
        number,
        claimed: true,
    }
}

/// Takes a claim on the tag of a key.
pub(in super::super) fn take_claim(
    flows: &Flows,
    key: u32,
    label: &Label<'_>,
) -> Result<(), Error> {
    lock(&delta(flows)?.changes).say(claimed(key), Some(label));
    Ok(())
}

/// The entries of this run's slices, by tag; and the table with the new ones.
fn changes(
    flows: &Flows,
    mut table: EntryTable,
    added: &Sorted,
    resealed: &[u32],
) -> Result<(EntryTable, Sorted), Error> {
    let customers = &delta(flows)?.customers;
    let mut sorter = Sorter::new(
        &flows.directory.scratch(),
        "changes",
        flows.run.settings.limits.sort_bytes,
    );
    let mut again = Zeroizing::new(Vec::with_capacity(resealed.len()));
    for id in resealed {
        again.push(*table.entry(*id)?);
    }
    again.sort_by_key(|entry| entry.owner);
    let owners = again.iter().map(|entry| entry.owner);
    let keys = customers.keys(owners.take_while(|owner| *owner != PADDING))?;
    for (place, entry) in again.iter().enumerate() {
        // Padding comes last.
        let key = match keys.get(place) {
            Some(key) => {
                Some(key.ok_or_else(|| Error::internal("a tag of a key that is not usable"))?)
            }
            None => None,
        };
        push_entry(&mut sorter, entry, key)?;
    }
    let mut new = Zeroizing::new(Vec::new());
    let mut stream = added.stream()?;
    while let Some(record) = stream.next_record()? {
        new.push(parse_entry(record)?);
        sorter.push(&[record])?;
    }
    table.add(&new);
    Ok((table, sorter.finish()?))
}

/// The entries of the tags that claims name; those that are not published are left out.
fn look_up(
    table: &mut EntryTable,
    body: &EarlierClaimsBody<'_>,
) -> Result<Zeroizing<Vec<Entry>>, Error> {
    let mut entries = Zeroizing::new(Vec::with_capacity(body.tags.len()));
    for tag in body.tags {
        if let Some(entry) = table.find(tag)? {
            entries.push(*entry);
        }
    }
    Ok(entries)
}
