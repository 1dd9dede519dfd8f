//! The list flow of a delta run in which this side evaluates.

use std::sync::Arc;

use overlap_crypto::{
    fault::Fault,
    item::Entry,
    list::{Committing, Evaluator, Label, ListFlow, Releasing},
    voprf::SecretKey,
    wire::{EarlierClaimsBody, FrameKind, TagsBody},
};
use zeroize::Zeroizing;

use super::super::{
    Flows,
    evaluator::{self, ClaimSink},
    lock,
    sets::{ItemSource, is_padding, parse_entry, push_entry},
    wire::Inbox,
};
use crate::{
    error::Error,
    matching::{
        delta::{
            column::{Column, ColumnWriter},
            kept::{CLAIMED, EvaluatorDocument, Said, TAGS, push_said, said_bytes},
            plan::TagPlan,
            table::{EntryLevelWriter, EntryTable, GONE},
        },
        failure::{Failure, misused},
        progress::RunState,
        spool::{RecordFile, RecordReader, RecordWriter, Sorted, Sorter},
    },
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
    let keys = flows
        .prepared
        .keys
        .as_ref()
        .ok_or_else(|| Error::internal("an evaluator without keys"))?;
    let secret = SecretKey::from_bytes(&keys.secret)?;
    let prf = Arc::new(Evaluator::new(flows.run.settings.backend, flow, secret)?);
    let TagPlan {
        table,
        live,
        new,
        additions,
        resealed,
        removed,
    } = plan;
    let padding = additions.saturating_sub(new.len() as u64);
    let source = ItemSource::chosen(
        &flows.prepared.local,
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
    let (mut table, entries, void) = flows
        .run
        .pool
        .run(move || Ok::<_, Failure>(changes(&there, table, added, &resealed, &removed)?))
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
    let sink = RecordWriter::create(&flows.directory.scratch().join("claims"))?;
    let sink = ClaimSink::Spool(sink);
    let (mut releasing, sink) =
        evaluator::release(&flows, flow, &mut inbox, releasing, slices, &entries, sink).await?;
    let ClaimSink::Spool(claims) = sink else {
        return Err(Error::internal("claims went elsewhere").into());
    };
    let claims = claims.finish()?;

    let mut earlier = RecordWriter::create(&flows.directory.scratch().join("earlier_claims"))?;
    while !releasing.earlier_claims_are_complete() {
        let payload = inbox.expect(FrameKind::EarlierClaims).await?;
        (table, releasing, earlier) = flows
            .run
            .pool
            .run(move || {
                let body = EarlierClaimsBody::decode(&payload)?;
                let claimed = look_up(&mut table, &body)?;
                for claim in releasing.admit_earlier_claims(&body, &claimed)? {
                    push_claim(&mut earlier, &claim.tag, claim.owner, &claim.label)?;
                }
                Ok::<_, Failure>((table, releasing, earlier))
            })
            .await?;
    }
    let mut withdrawn = RecordWriter::create(&flows.directory.scratch().join("withdrawn"))?;
    while !releasing.is_complete() {
        let payload = inbox.expect(FrameKind::Withdrawals).await?;
        let body = TagsBody::decode(&payload)?;
        releasing.admit_withdrawals(&body)?;
        for tag in body.values {
            withdrawn.push(&[tag])?;
        }
        if withdrawn.len() > table.owners.len() as u64 {
            return Err(Fault::WrongCount.into());
        }
    }
    let there = Arc::clone(&flows);
    let spools = Spools {
        claims,
        earlier: earlier.finish()?,
        withdrawn: withdrawn.finish()?,
    };
    flows
        .run
        .pool
        .run(move || {
            keep(&there, flow, table, &live, &spools)?;
            Ok::<_, Failure>(releasing)
        })
        .await
}

/// The entries of this run's slices, and the tags that are void, both by tag; and the table with one level more.
fn changes(
    flows: &Flows,
    mut table: EntryTable,
    added: Sorted,
    resealed: &[u32],
    removed: &[u32],
) -> Result<(EntryTable, Sorted, Vec<[u8; 16]>), Error> {
    let (Some(keeper), Some(delta)) = (&flows.keeper, &flows.delta) else {
        return Err(Error::internal("a delta run that keeps nothing"));
    };
    let mut level = EntryLevelWriter::create(
        &keeper.files.directory,
        &keeper.files.key,
        TAGS,
        table.next_level(),
    )?;
    let mut sorter = Sorter::new(
        &flows.directory.scratch(),
        "changes",
        flows.run.settings.limits.sort_bytes,
    );
    let mut stream = added.stream()?;
    while let Some(record) = stream.next_record()? {
        let entry = parse_entry(record)?;
        level.push(&entry, entry.owner)?;
        sorter.push(&[record])?;
    }
    drop((stream, added));
    for id in resealed {
        let entry = table.entry(*id)?;
        let key = (!is_padding(&entry))
            .then(|| delta.update.keys.at(entry.owner))
            .transpose()?;
        push_entry(&mut sorter, &entry, key)?;
    }
    let mut void = Vec::with_capacity(removed.len());
    for id in removed {
        void.push(table.tag(*id)?);
    }
    void.sort_unstable();
    table.add(&keeper.files.directory, &keeper.files.key, level)?;
    Ok((table, sorter.finish()?, void))
}

/// The entries of the tags that claims name; those that are not published are left out.
fn look_up(
    table: &mut EntryTable,
    body: &EarlierClaimsBody<'_>,
) -> Result<Zeroizing<Vec<Entry>>, Error> {
    let mut entries = Zeroizing::new(Vec::with_capacity(body.tags.len()));
    for tag in body.tags {
        if let Some(id) = table.find(tag)? {
            entries.push(*table.entry(id)?);
        }
    }
    Ok(entries)
}

/// Spools a claim: tag, key, label.
pub(in super::super) fn push_claim(
    spool: &mut RecordWriter,
    tag: &[u8; 16],
    key: u32,
    label: &Label<'_>,
) -> Result<(), Error> {
    spool.push(&[
        tag,
        &key.to_be_bytes(),
        &[1, label.stage],
        &label.pseudonym,
        label.fields,
    ])
}

/// What the receiver said in this run, each by tag.
struct Spools {
    claims: RecordFile,
    earlier: RecordFile,
    withdrawn: RecordFile,
}

/// Reads records one ahead.
struct Ahead {
    reader: RecordReader,
    next: Option<Vec<u8>>,
}

impl Ahead {
    fn new(file: &RecordFile) -> Result<Self, Error> {
        let mut ahead = Self {
            reader: file.reader()?,
            next: None,
        };
        ahead.advance()?;
        Ok(ahead)
    }

    fn advance(&mut self) -> Result<(), Error> {
        self.next = self.reader.next_record()?.map(<[u8]>::to_vec);
        Ok(())
    }

    fn tag(&self) -> Option<[u8; 16]> {
        self.next
            .as_ref()
            .and_then(|record| record.first_chunk::<16>().copied())
    }
}

/// Writes every claim of the epoch that holds, and adds it to the edges.
fn keep(
    flows: &Flows,
    flow: ListFlow,
    table: EntryTable,
    live: &[bool],
    spools: &Spools,
) -> Result<(), Failure> {
    let (Some(keeper), Some(delta)) = (&flows.keeper, &flows.delta) else {
        return Err(Error::internal("a delta run that keeps nothing").into());
    };
    let kept = &delta.kept;
    let document = kept
        .document
        .evaluator
        .as_ref()
        .ok_or_else(|| Error::internal("an evaluator without state"))?;
    let format = flow.receiver_labels;
    let mut writer = ColumnWriter::create(
        &keeper.files.directory.join(CLAIMED),
        &keeper.files.key,
        said_bytes(format),
    )?;
    let mut before = Column::open(
        &kept.directory.join(CLAIMED),
        &kept.key,
        said_bytes(format),
        document.claimed,
    )?;
    let (mut claims, mut earlier) = (Ahead::new(&spools.claims)?, Ahead::new(&spools.earlier)?);
    let mut withdrawn = Ahead::new(&spools.withdrawn)?;
    let mut next = 0;
    loop {
        let old = if next < before.len() {
            Some(said(before.get(next)?)?)
        } else {
            None
        };
        let tags = [
            old.as_ref().map(|said| said.tag),
            claims.tag(),
            earlier.tag(),
        ];
        let Some(tag) = tags.into_iter().flatten().min() else {
            break;
        };
        while withdrawn.tag().is_some_and(|void| void < tag) {
            withdrawn.advance()?;
        }
        let void = withdrawn.tag() == Some(tag);
        // The newest word on a tag stands.
        let newest = [&earlier, &claims]
            .into_iter()
            .find(|ahead| ahead.tag() == Some(tag));
        let holds = match (newest, &old) {
            (Some(ahead), _) => {
                let said = said(ahead.next.as_deref().unwrap_or_default())?;
                Some((said.key, said))
            }
            (None, Some(old)) => {
                let key = delta.update.key_now[old.key as usize];
                (key != GONE && live[key as usize]).then(|| {
                    let said = Said {
                        tag,
                        key,
                        label: old.label,
                    };
                    (key, said)
                })
            }
            (None, None) => None,
        };
        if let Some((key, said)) = holds.filter(|_| !void) {
            push_said(&mut writer, format, &tag, key, said.label.as_ref())?;
            if let Some(label) = &said.label {
                evaluator::take_claim(flows, &delta.update.keys.at(key)?, label)?;
            }
        }
        if old.is_some_and(|old| old.tag == tag) {
            next += 1;
        }
        for ahead in [&mut claims, &mut earlier] {
            if ahead.tag() == Some(tag) {
                ahead.advance()?;
            }
        }
    }
    keeper.evaluator_done(EvaluatorDocument {
        tags: table.finish(&keeper.files.directory, &keeper.files.key)?,
        claimed: writer.finish()?,
    });
    Ok(())
}

fn said(record: &[u8]) -> Result<Said<'_>, Error> {
    Said::parse(record).ok_or_else(|| Error::internal("a kept claim is malformed"))
}
