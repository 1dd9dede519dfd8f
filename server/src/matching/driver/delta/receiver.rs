//! The list flow of a delta run in which this side queries.

use std::{collections::BTreeMap, sync::Arc};

use overlap_crypto::{
    context::SessionId,
    fault::Fault,
    item::Entry,
    list::{
        AwaitingSlices, EarlierClaims, Label, ListFlow, Querying, SealedMatches, SlicesComplete,
    },
    wire::{CommitmentsBody, FrameKind, TagsBody},
};
use zeroize::Zeroizing;

use super::{
    super::{
        Flows, lock, receiver,
        sets::{ItemSource, parse_entry},
        wire::Inbox,
    },
    claims::own_labels,
};
use crate::{
    error::Error,
    matching::{
        delta::{
            entries::EntryTable,
            keeper::ReceiverTables,
            own::is_listed,
            plan::QueryPlan,
            published::{LabelPlace, Published, PublishedNow},
        },
        failure::{Failure, misused},
        progress::RunState,
        spool::Sorted,
    },
    overlap::graph::EdgeKey,
};

/// Labels opened in one go.
const OPEN_BATCH: usize = 8192;

/// What the flow works on: every query of the epoch, and what the partner published.
struct Work {
    table: EntryTable,
    /// The tags of keys that were queried before and are looked at again, by key.
    tags: Vec<(u32, [u8; 16])>,
    /// The queries of this run, by tag.
    new: Zeroizing<Vec<Entry>>,
    /// What the partner published before this run, and what it does now.
    published: Published,
    now: PublishedNow,
    /// How many of the tags that the partner removed were looked up, and those of them that were queries of mine, with
    /// their keys.
    removed: usize,
    ended: Vec<([u8; 16], u32)>,
    /// The entries that match a tag of this run's slices, by tag.
    matched: Zeroizing<Vec<Entry>>,
    /// New queries that match what earlier runs published, and where the labels of these are.
    earlier: Zeroizing<Vec<Entry>>,
    places: Vec<LabelPlace>,
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
        table, tags, new, ..
    } = plan;
    let padding = flow.queries.saturating_sub(new.len() as u64);
    let source = ItemSource::chosen(
        flow,
        flows.prepared.terms.terms.normaliser_version(),
        new,
        padding,
    )?;
    let (entries, querying) = receiver::query(&flows, flow, &mut inbox, source).await?;
    let work = Work {
        table,
        tags,
        new: collect(&entries)?,
        published: open_published(&flows, flow)?,
        now: PublishedNow::default(),
        removed: 0,
        ended: Vec::new(),
        matched: Zeroizing::default(),
        earlier: Zeroizing::default(),
        places: Vec::new(),
    };
    drop(entries);
    let (work, awaiting) = take_slices(&flows, flow, &mut inbox, work, querying).await?;
    let there = Arc::clone(&flows);
    let (work, awaiting, frames) = flows
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
            work.open(&there, flow, &complete)?;
            Ok::<_, Failure>(complete)
        })
        .await
}

/// Takes removals and slices, and claims what matches them.
async fn take_slices(
    flows: &Arc<Flows>,
    flow: ListFlow,
    inbox: &mut Inbox,
    mut work: Work,
    querying: Querying,
) -> Result<(Work, AwaitingSlices), Failure> {
    let most = work.published.ever();
    let mut awaiting = querying.finish()?;
    let commitments = loop {
        let frame = inbox.next().await?;
        match frame.kind {
            FrameKind::Removals => {
                let body = TagsBody::decode(&frame.payload)?;
                awaiting.admit_removals(&body)?;
                for tag in body.values {
                    work.now.remove(tag);
                }
                if work.now.removed().len() as u64 > most {
                    return Err(Fault::WrongCount.into());
                }
            }
            FrameKind::Commitments => break frame.payload,
            _ => return Err(Fault::UnexpectedFrame.into()),
        }
    };
    let mut awaiting = awaiting.admit(&CommitmentsBody::decode(&commitments)?)?;
    flows.run.meter.enter(RunState::Claims, flow.tags);
    let work = receiver::match_slices(flows, flow, inbox, &mut awaiting, work, move |work, one| {
        let mut own = Zeroizing::new(Vec::new());
        for tag in one.slice.tags {
            work.end(Some(tag))?;
            if let Some(entry) = work.find(tag)? {
                own.push(*entry);
            }
        }
        let labels = own_labels(one.flows, &own)?;
        let outcome = one.ticket.match_own(&one.slice, &own, |owner| {
            labels.of(&one.flows.prepared, owner)
        })?;
        let sealed = flow.evaluator_labels.sealed_bytes();
        for (tag, label) in one
            .slice
            .tags
            .iter()
            .zip(one.slice.labels.chunks_exact(sealed))
        {
            work.now.publish(tag, label);
        }
        work.matched.extend_from_slice(&own);
        Ok(outcome)
    })
    .await?;
    Ok((work, awaiting))
}

pub(super) fn delta(flows: &Flows) -> Result<&super::DeltaRun, Error> {
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
        self.table.find(tag)
    }

    /// Notes which queries the tags void that the partner removed, those up to `until` or all: whoever looks tags up in
    /// their order opens each block of the table once.
    fn end(&mut self, until: Option<&[u8; 16]>) -> Result<(), Error> {
        while let Some(tag) = self.now.removed().get(self.removed)
            && until.is_none_or(|until| tag <= until)
        {
            if let Some(id) = self.table.id(tag)? {
                self.ended.push((*tag, self.table.owner(id)?));
            }
            self.removed += 1;
        }
        Ok(())
    }

    /// Whether a tag of this run's slices matched.
    fn has_matched(&self, tag: &[u8; 16]) -> bool {
        self.matched
            .binary_search_by(|entry| entry.derived.tag.cmp(tag))
            .is_ok()
    }

    /// Whether the partner removed a tag in this run.
    fn is_removed(&self, tag: &[u8; 16]) -> bool {
        self.now.removed().binary_search(tag).is_ok()
    }
}

type Frames = Vec<(FrameKind, Vec<u8>)>;

/// Why a tag is looked up in what earlier runs published.
enum Asked {
    /// It is a new query, which may match: the place among these.
    New(usize),
    /// A match whose customer says something else now, or is listed now.
    Claim,
    /// A match whose customer is not listed any more.
    Withdrawal,
}

/// Claims on tags of earlier runs, and withdrawals: functions of tags and of my own customers.
fn settle(
    flows: &Flows,
    flow: ListFlow,
    mut work: Work,
    mut awaiting: AwaitingSlices,
) -> Result<(Work, AwaitingSlices, Frames), Failure> {
    let delta = delta(flows)?;
    let tiers = &flows.prepared.terms.mine;
    work.end(None)?;
    let new = std::mem::take(&mut work.new);
    // By tag: what is looked up in what earlier runs published.
    let mut asked: Vec<([u8; 16], Asked)> = Vec::new();
    for (place, entry) in new.iter().enumerate() {
        asked.push((entry.derived.tag, Asked::New(place)));
    }
    for (key, tag) in std::mem::take(&mut work.tags) {
        let update = delta.customers.update.key(key);
        let update = update.ok_or_else(|| Error::internal("a key that is not looked at"))?;
        let was_listed = is_listed(tiers, update.before);
        let listed = is_listed(tiers, update.now) && delta.mine.is_some_and(|mine| mine.list);
        if !listed && was_listed {
            asked.push((tag, Asked::Withdrawal));
        } else if listed && (update.relabelled || !was_listed) && !work.has_matched(&tag) {
            asked.push((tag, Asked::Claim));
        }
    }
    asked.sort_unstable_by_key(|(tag, _)| *tag);
    let mut claimed = Vec::new();
    let mut withdrawn = Vec::new();
    for (tag, asked) in asked {
        if work.is_removed(&tag) || matches!(asked, Asked::New(_)) && work.has_matched(&tag) {
            continue;
        }
        let Some(place) = work.published.find(&tag)? else {
            continue;
        };
        match asked {
            Asked::New(at) => {
                let entry = &new[at];
                work.earlier.push(*entry);
                work.places.push(place);
                let update = delta.customers.update.key(entry.owner);
                if is_listed(tiers, update.and_then(|update| update.now)) {
                    claimed.push(tag);
                }
            }
            Asked::Claim => claimed.push(tag),
            Asked::Withdrawal => withdrawn.push(tag),
        }
    }
    work.new = new;

    let mut frames = Vec::new();
    let mut claims = EarlierClaims::new(flow.receiver_labels);
    for tags in claimed.chunks(OPEN_BATCH) {
        let mut entries = Zeroizing::new(Vec::with_capacity(tags.len()));
        for tag in tags {
            let entry = work.find(tag)?;
            entries.push(*entry.ok_or_else(|| Error::internal("a claim without a query"))?);
        }
        let labels = own_labels(flows, &entries)?;
        for entry in entries.iter() {
            let label = labels
                .of(&flows.prepared, entry.owner)
                .ok_or_else(|| Error::internal("a claim of a customer that is not listed"))?;
            if claims.is_full() {
                let full = std::mem::replace(&mut claims, EarlierClaims::new(flow.receiver_labels));
                let frame = awaiting.claim_earlier(&full, false).map_err(misused)?;
                frames.push((FrameKind::EarlierClaims, frame));
            }
            let derived = &entry.derived;
            claims
                .push(&derived.tag, &derived.claim, &label)
                .map_err(misused)?;
        }
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
    Ok((work, awaiting, frames))
}

impl Work {
    /// Opens the labels that are new, notes which matches ended, and writes what the next run goes on from.
    fn open(
        mut self,
        flows: &Flows,
        flow: ListFlow,
        complete: &SlicesComplete,
    ) -> Result<(), Failure> {
        let keeper = flows
            .keeper
            .as_ref()
            .ok_or_else(|| Error::internal("a delta run that keeps nothing"))?;
        let mut changes = lock(&delta(flows)?.changes);
        let key = |number| EdgeKey {
            number,
            claimed: false,
        };
        for (tag, owner) in &self.ended {
            if !self.now.publishes(tag) {
                changes.end(key(*owner));
            }
        }
        let matched = std::mem::take(&mut self.matched);
        let earlier = std::mem::take(&mut self.earlier);
        let places = std::mem::take(&mut self.places);
        let here = matched.chunks(OPEN_BATCH).map(|batch| (batch, &[][..]));
        let there = earlier.chunks(OPEN_BATCH).zip(places.chunks(OPEN_BATCH));
        for (batch, places) in here.chain(there) {
            let labels = self.open_labels(flows, flow, (batch, places), complete)?;
            for (entry, label) in batch.iter().zip(labels) {
                let label = label.as_deref().and_then(|plain| parse_plain(plain));
                changes.say(key(entry.owner), label.as_ref());
                if label.is_none() {
                    flows.note_bad_label();
                }
            }
        }
        drop(changes);
        self.table.add(&self.new);
        keeper.receiver_done(ReceiverTables {
            queries: self.table,
            published: self.published,
            now: self.now,
            session: flow.session.0,
        });
        Ok(())
    }

    /// Opens the labels that the partner has published last for these entries, in their order: in this run, or at these
    /// places.
    fn open_labels(
        &mut self,
        flows: &Flows,
        flow: ListFlow,
        (entries, places): (&[Entry], &[LabelPlace]),
        complete: &SlicesComplete,
    ) -> Result<Vec<Option<Plain>>, Failure> {
        let format = flow.evaluator_labels;
        let mut by_session: BTreeMap<[u8; 32], (Vec<usize>, SealedMatches)> = BTreeMap::new();
        for (place, entry) in entries.iter().enumerate() {
            let tag = &entry.derived.tag;
            let (session, sealed) = match places.get(place) {
                Some(earlier) => self.published.label(*earlier)?,
                None => {
                    let sealed = self.now.label(tag, format.sealed_bytes());
                    let sealed =
                        sealed.ok_or_else(|| Error::internal("a match without a label"))?;
                    (flow.session.0, sealed)
                }
            };
            let (places, matches) = by_session
                .entry(session)
                .or_insert_with(|| (Vec::new(), SealedMatches::with_capacity(format, 64)));
            places.push(place);
            matches.push(entry, sealed);
        }
        let mut labels = vec![None; entries.len()];
        for (session, (places, matches)) in by_session {
            let session = SessionId(session);
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
