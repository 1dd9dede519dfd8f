//! The list flow of a delta run in which this side queries.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use overlap_crypto::{
    context::SessionId,
    fault::Fault,
    item::Entry,
    list::{
        AwaitingSlices, EarlierClaims, Label, LabelFormat, ListFlow, Querying, SealedMatches,
        SlicesComplete,
    },
    terms::Tier,
    wire::{CommitmentsBody, FrameKind, SliceBody, TagsBody},
};
use zeroize::Zeroizing;

use super::super::{
    Flows, lock,
    prepare::Prepared,
    receiver,
    sets::{FieldAreas, ItemSource, parse_entry},
    wire::Inbox,
};
use crate::{
    error::Error,
    matching::{
        delta::{
            column::{Column, ColumnWriter},
            kept::{MATCHED, QUERIES, ReceiverDocument, Said, push_said, said_bytes},
            plan::QueryPlan,
            table::{EntryLevelWriter, EntryTable, GONE, Published, PublishedLevelWriter},
        },
        failure::{Failure, misused},
        ledger::Budget,
        local_customers::KeyRef,
        progress::RunState,
        spool::Sorted,
    },
};

/// Labels opened in one go.
const OPEN_BATCH: usize = 8192;

/// What the flow works on: every query of the epoch, and what the partner published.
struct Work {
    table: EntryTable,
    /// By key: whether it is queried.
    live: Vec<bool>,
    /// The queries of this run, by tag.
    new: Zeroizing<Vec<Entry>>,
    level: PublishedLevelWriter,
    /// The tags of this run's slices that matched, with the entries.
    matched: BTreeMap<[u8; 16], Zeroizing<Entry>>,
}

/// Runs the flow to its end.
pub(in super::super) async fn run(
    flows: Arc<Flows>,
    flow: ListFlow,
    mut inbox: Inbox,
) -> Result<SlicesComplete, Failure> {
    let plan = flows
        .delta
        .as_ref()
        .and_then(|delta| lock(&delta.queries).take())
        .ok_or_else(|| Error::internal("a delta flow without a plan"))?;
    let QueryPlan {
        table, live, new, ..
    } = plan;
    let padding = flow.queries.saturating_sub(new.len() as u64);
    let source = ItemSource::chosen(
        &flows.prepared.local,
        flow,
        flows.prepared.terms.terms.normaliser_version(),
        new,
        padding,
    )?;
    let (entries, querying) = receiver::query(&flows, flow, &mut inbox, source).await?;
    let tables = (table, live);
    let (work, awaiting) = take_slices(&flows, flow, &mut inbox, tables, entries, querying).await?;
    let there = Arc::clone(&flows);
    let (settled, awaiting, frames) = flows
        .run
        .pool
        .run(move || settle(&there, flow, work, awaiting))
        .await?;
    for (kind, frame) in frames {
        flows.outgoing.send(flow.flow, kind, frame).await?;
    }
    drop(inbox);
    // The partner has all it will get of this flow: labels may be opened now.
    let complete = awaiting.finish()?;
    let there = Arc::clone(&flows);
    flows
        .run
        .pool
        .run(move || {
            settled.open(&there, flow, &complete)?;
            Ok::<_, Failure>(complete)
        })
        .await
}

/// Takes removals and slices, and claims what matches them.
async fn take_slices(
    flows: &Arc<Flows>,
    flow: ListFlow,
    inbox: &mut Inbox,
    (table, live): (EntryTable, Vec<bool>),
    entries: Sorted,
    querying: Querying,
) -> Result<(Work, AwaitingSlices), Failure> {
    let keeper = flows
        .keeper
        .as_ref()
        .ok_or_else(|| Error::internal("a delta run that keeps nothing"))?;
    let delta = delta(flows)?;
    let published = open_published(flows, flow)?;
    let mut work = Work {
        table,
        live,
        new: collect(&entries)?,
        level: PublishedLevelWriter::create(
            &keeper.files.directory,
            &keeper.files.key,
            published.levels(),
            flow.evaluator_labels.sealed_bytes(),
        )?,
        matched: BTreeMap::new(),
    };
    let most = published.ever();
    drop((entries, published, delta));
    let mut awaiting = querying.finish()?;
    let commitments = loop {
        let frame = inbox.next().await?;
        match frame.kind {
            FrameKind::Removals => {
                let body = TagsBody::decode(&frame.payload)?;
                awaiting.admit_removals(&body)?;
                for tag in body.values {
                    work.level.remove(tag)?;
                }
                if work.level.removed() > most {
                    return Err(Fault::WrongCount.into());
                }
            }
            FrameKind::Commitments => break frame.payload,
            _ => return Err(Fault::UnexpectedFrame.into()),
        }
    };
    let mut awaiting = awaiting.admit(&CommitmentsBody::decode(&commitments)?)?;
    flows.run.meter.enter(RunState::Claims, flow.tags);
    while !awaiting.all_matched() {
        let payload = inbox.expect(FrameKind::Slice).await?;
        let ticket = awaiting.admit(&SliceBody::decode(&payload)?)?;
        let there = Arc::clone(flows);
        let (back, outcome, tags) = flows
            .run
            .pool
            .run(move || {
                let slice = SliceBody::decode(&payload)?;
                lock(&there.prepared.ledger).debit(Budget::Tags, slice.tags.len() as u64)?;
                let mut own = Zeroizing::new(Vec::new());
                for tag in slice.tags {
                    if let Some(entry) = work.find(tag)? {
                        own.push(*entry);
                    }
                }
                let labels = own_labels(&there, &own)?;
                let outcome =
                    ticket.match_own(&slice, &own, |owner| labels.of(&there.prepared, owner))?;
                let sealed = flow.evaluator_labels.sealed_bytes();
                for (tag, label) in slice.tags.iter().zip(slice.labels.chunks_exact(sealed)) {
                    work.level.publish(tag, label)?;
                }
                for entry in own.iter() {
                    work.matched
                        .insert(entry.derived.tag, Zeroizing::new(*entry));
                }
                Ok::<_, Failure>((work, outcome, slice.tags.len() as u64))
            })
            .await?;
        work = back;
        flows
            .outgoing
            .send(flow.flow, FrameKind::Claims, outcome.claims)
            .await?;
        awaiting.done(outcome.done);
        flows.run.meter.advance(RunState::Claims, tags);
    }
    Ok((work, awaiting))
}

fn delta(flows: &Flows) -> Result<&super::DeltaRun, Error> {
    flows
        .delta
        .as_ref()
        .ok_or_else(|| Error::internal("not a delta run"))
}

fn open_published(flows: &Flows, flow: ListFlow) -> Result<Published, Error> {
    let kept = &delta(flows)?.kept;
    let document = kept
        .document
        .receiver
        .as_ref()
        .ok_or_else(|| Error::internal("a receiver without state"))?;
    Published::open(
        &kept.directory,
        &kept.key,
        &document.published,
        flow.evaluator_labels.sealed_bytes(),
    )
}

/// What claims would say of my customers.
struct ClaimLabels {
    keys: Vec<KeyRef>,
    areas: FieldAreas,
    /// By position among all keys: the place among these.
    places: HashMap<u32, usize>,
}

/// Reads what claims would say of these entries' customers, if they are listed.
fn own_labels(flows: &Flows, own: &[Entry]) -> Result<ClaimLabels, Error> {
    let table = &delta(flows)?.update.keys;
    let keys = own
        .iter()
        .map(|entry| table.at(entry.owner))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(ClaimLabels {
        areas: flows.prepared.own.areas(&keys)?,
        places: keys.iter().map(|key| key.index).zip(0..).collect(),
        keys,
    })
}

impl ClaimLabels {
    /// The label of a key's customer; `None` if it is not listed.
    fn of<'a>(&'a self, prepared: &Prepared, key: u32) -> Option<Label<'a>> {
        let place = *self.places.get(&key)?;
        prepared.own.label(&self.keys[place], self.areas.at(place))
    }
}

fn collect(entries: &Sorted) -> Result<Zeroizing<Vec<Entry>>, Error> {
    let mut collected = Zeroizing::new(Vec::with_capacity(
        usize::try_from(entries.len()).map_err(|_| Error::internal("too many entries"))?,
    ));
    let mut stream = entries.stream()?;
    while let Some(record) = stream.next_record()? {
        collected.push(parse_entry(record)?);
    }
    Ok(collected)
}

impl Work {
    /// The live query with this tag.
    fn find(&mut self, tag: &[u8; 16]) -> Result<Option<Zeroizing<Entry>>, Error> {
        if let Ok(at) = self
            .new
            .binary_search_by(|entry| entry.derived.tag.cmp(tag))
        {
            return Ok(Some(Zeroizing::new(self.new[at])));
        }
        match self.table.find(tag)? {
            Some(id) => self.table.entry(id).map(Some),
            None => Ok(None),
        }
    }
}

/// A sorted set that is asked for ascending values.
struct Ascending {
    values: Vec<[u8; 16]>,
    next: usize,
}

impl Ascending {
    const fn new(values: Vec<[u8; 16]>) -> Self {
        Self { values, next: 0 }
    }

    fn contains(&mut self, value: &[u8; 16]) -> bool {
        while self.values.get(self.next).is_some_and(|next| next < value) {
            self.next += 1;
        }
        self.values.get(self.next) == Some(value)
    }
}

/// What remains to be opened and kept, once every frame is sent.
struct Settled {
    work: Work,
    published: Published,
    document: ReceiverDocument,
}

type Frames = Vec<(FrameKind, Vec<u8>)>;

/// Claims on tags of earlier runs, and withdrawals: functions of tags and of my own customers.
fn settle(
    flows: &Flows,
    flow: ListFlow,
    mut work: Work,
    mut awaiting: AwaitingSlices,
) -> Result<(Settled, AwaitingSlices, Frames), Failure> {
    let keeper = flows
        .keeper
        .as_ref()
        .ok_or_else(|| Error::internal("a delta run that keeps nothing"))?;
    let delta = delta(flows)?;
    let local = &flows.prepared.local;
    let document = delta
        .kept
        .document
        .receiver
        .clone()
        .ok_or_else(|| Error::internal("a receiver without state"))?;
    let level = std::mem::replace(
        &mut work.level,
        // The tables move on; nothing is written to this one.
        PublishedLevelWriter::create(
            &flows.directory.scratch(),
            &keeper.files.key,
            0,
            flow.evaluator_labels.sealed_bytes(),
        )?,
    );
    let (mut published, published_document) = open_published(flows, flow)?.extend(
        &keeper.files.directory,
        &keeper.files.key,
        level,
        &flow.session.0,
        flow.evaluator_labels.sealed_bytes(),
    )?;
    let is_listed = |key: u32| local.tiers().tier(delta.update.keys.stage(key)) == Tier::List;

    // New queries may match what earlier runs published.
    let mut earlier: BTreeMap<[u8; 16], u32> = BTreeMap::new();
    let mut first_matches = Vec::new();
    for entry in work.new.iter() {
        let tag = entry.derived.tag;
        if work.matched.contains_key(&tag) || published.label(&tag)?.is_none() {
            continue;
        }
        first_matches.push(*entry);
        if is_listed(entry.owner) {
            earlier.insert(tag, entry.owner);
        }
    }
    // Earlier matches whose customer says something else now, or is not listed any more.
    let mut withdrawn = Vec::new();
    let mut before = open_said(flows, MATCHED, document.matched, flow.evaluator_labels)?;
    let mut removed = Ascending::new(published.newly_removed()?);
    let mut anew = Ascending::new(work.matched.keys().copied().collect());
    for index in 0..before.len() {
        let said = said(before.get(index)?)?;
        let was = said.key as usize;
        let key = delta.update.key_now[was];
        let listed = key != GONE && work.live[key as usize] && is_listed(key);
        if listed {
            let changed = delta.update.relabelled[key as usize] || !delta.update.was_listed[was];
            if changed && !anew.contains(&said.tag) && !removed.contains(&said.tag) {
                earlier.insert(said.tag, key);
            }
        } else if delta.update.was_listed[was] && !removed.contains(&said.tag) {
            withdrawn.push(said.tag);
        }
    }
    for entry in first_matches {
        work.matched
            .insert(entry.derived.tag, Zeroizing::new(entry));
    }

    let mut frames = Vec::new();
    let mut claims = EarlierClaims::new(flow.receiver_labels);
    for tag in earlier.keys() {
        let entry = work
            .find(tag)?
            .ok_or_else(|| Error::internal("a claim without a query"))?;
        let labels = own_labels(flows, std::slice::from_ref(&*entry))?;
        let label = labels
            .of(&flows.prepared, entry.owner)
            .ok_or_else(|| Error::internal("a claim of a customer that is not listed"))?;
        if claims.is_full() {
            let full = std::mem::replace(&mut claims, EarlierClaims::new(flow.receiver_labels));
            let frame = awaiting.claim_earlier(&full, false).map_err(misused)?;
            frames.push((FrameKind::EarlierClaims, frame));
        }
        claims
            .push(tag, &entry.derived.claim, &label)
            .map_err(misused)?;
    }
    let frame = awaiting.claim_earlier(&claims, true).map_err(misused)?;
    frames.push((FrameKind::EarlierClaims, frame));
    let mut chunks = withdrawn.chunks(super::TAGS_A_FRAME).peekable();
    loop {
        let tags = chunks.next().unwrap_or_default();
        let last = chunks.peek().is_none();
        let frame = awaiting.withdraw(tags, last).map_err(misused)?;
        frames.push((FrameKind::Withdrawals, frame));
        if last {
            break;
        }
    }
    let settled = Settled {
        work,
        published,
        document: ReceiverDocument {
            published: published_document,
            ..document
        },
    };
    Ok((settled, awaiting, frames))
}

fn open_said(
    flows: &Flows,
    name: &str,
    records: u64,
    format: LabelFormat,
) -> Result<Column, Error> {
    let kept = &delta(flows)?.kept;
    Column::open(
        &kept.directory.join(name),
        &kept.key,
        said_bytes(format),
        records,
    )
}

fn said(record: &[u8]) -> Result<Said<'_>, Error> {
    Said::parse(record).ok_or_else(|| Error::internal("a kept match is malformed"))
}

impl Settled {
    /// Opens the labels that are new, and writes every match of the epoch as it is now.
    fn open(self, flows: &Flows, flow: ListFlow, complete: &SlicesComplete) -> Result<(), Failure> {
        let Self {
            mut work,
            mut published,
            document,
        } = self;
        let keeper = flows
            .keeper
            .as_ref()
            .ok_or_else(|| Error::internal("a delta run that keeps nothing"))?;
        let delta = delta(flows)?;
        let format = flow.evaluator_labels;
        let mut writer = ColumnWriter::create(
            &keeper.files.directory.join(MATCHED),
            &keeper.files.key,
            said_bytes(format),
        )?;
        let mut before = open_said(flows, MATCHED, document.matched, format)?;
        let mut next = 0;
        let mut removed = Ascending::new(published.newly_removed()?);
        let mut anew = Ascending::new(work.matched.keys().copied().collect());
        // Earlier matches up to a tag, those that hold.
        let live = std::mem::take(&mut work.live);
        let mut copy = |until: Option<&[u8; 16]>, writer: &mut ColumnWriter| {
            while next < before.len() {
                let said = said(before.get(next)?)?;
                if until.is_some_and(|until| said.tag >= *until) {
                    break;
                }
                next += 1;
                let key = delta.update.key_now[said.key as usize];
                if key == GONE
                    || !live[key as usize]
                    || anew.contains(&said.tag)
                    || removed.contains(&said.tag)
                {
                    continue;
                }
                push_said(writer, format, &said.tag, key, said.label.as_ref())?;
                receiver::take_label(flows, &delta.update.keys.at(key)?, said.label.as_ref())?;
            }
            Ok::<_, Failure>(())
        };
        let matched: Vec<Zeroizing<Entry>> = work.matched.values().cloned().collect();
        for batch in matched.chunks(OPEN_BATCH) {
            for (entry, label) in
                batch
                    .iter()
                    .zip(open(flows, flow, &mut published, batch, complete)?)
            {
                let tag = entry.derived.tag;
                copy(Some(&tag), &mut writer)?;
                let label = label.as_deref().and_then(|plain| parse_plain(plain));
                push_said(&mut writer, format, &tag, entry.owner, label.as_ref())?;
                let key = delta.update.keys.at(entry.owner)?;
                receiver::take_label(flows, &key, label.as_ref())?;
            }
        }
        copy(None, &mut writer)?;

        let mut level = EntryLevelWriter::create(
            &keeper.files.directory,
            &keeper.files.key,
            QUERIES,
            work.table.next_level(),
        )?;
        for entry in work.new.iter() {
            level.push(entry, entry.owner)?;
        }
        work.table
            .add(&keeper.files.directory, &keeper.files.key, level)?;
        keeper.receiver_done(ReceiverDocument {
            queries: work
                .table
                .finish(&keeper.files.directory, &keeper.files.key)?,
            matched: writer.finish()?,
            ..document
        });
        Ok(())
    }
}

/// A label that was opened: stage, pseudonym, fields.
type Plain = Zeroizing<Vec<u8>>;

fn parse_plain(plain: &[u8]) -> Option<Label<'_>> {
    let (&stage, rest) = plain.split_first()?;
    let (pseudonym, fields) = rest.split_first_chunk::<16>()?;
    Some(Label {
        stage,
        pseudonym: *pseudonym,
        fields,
    })
}

/// Opens the labels that the partner has published last for these entries, in their order.
fn open(
    flows: &Flows,
    flow: ListFlow,
    published: &mut Published,
    entries: &[Zeroizing<Entry>],
    complete: &SlicesComplete,
) -> Result<Vec<Option<Plain>>, Failure> {
    let format = flow.evaluator_labels;
    let mut by_level: BTreeMap<usize, (Vec<usize>, SealedMatches)> = BTreeMap::new();
    for (place, entry) in entries.iter().enumerate() {
        let (level, sealed) = published
            .label(&entry.derived.tag)?
            .ok_or_else(|| Error::internal("a match without a label"))?;
        let (places, matches) = by_level
            .entry(level)
            .or_insert_with(|| (Vec::new(), SealedMatches::with_capacity(format, 64)));
        places.push(place);
        matches.push(entry, sealed);
    }
    let mut labels = vec![None; entries.len()];
    for (level, (places, matches)) in by_level {
        let session = SessionId(published.session(level));
        let opened = complete.open_published(flows.run.settings.backend, &session, &matches)?;
        for (place, found) in places.into_iter().zip(opened.iter()) {
            labels[place] = found.label.map(|label| {
                let mut plain = Zeroizing::new(Vec::with_capacity(format.plain_bytes()));
                plain.push(label.stage);
                plain.extend_from_slice(&label.pseudonym);
                plain.extend_from_slice(label.fields);
                plain
            });
        }
    }
    Ok(labels)
}
