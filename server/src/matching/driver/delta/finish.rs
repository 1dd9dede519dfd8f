//! The result of a delta run, and the state that the next one goes on from.

use std::path::Path;

use super::super::{Flows, MergeRule, lock};
use crate::{
    error::Error,
    matching::{
        delta::{
            beside::BesideWriter,
            entries::EntryTable,
            keeper::{Keeper, ReceiverTables, Tables},
            kept::{EvaluatorDocument, ReceiverDocument},
            links::{Links, LinksDocument, LinksWriter},
            own::{NONE, Own, OwnDocument, Renumbered},
            shared::{Joining, SharedTotals, SharedUpdate},
        },
        spool::new_directory,
    },
    overlap::{
        graph::Link,
        layer::{LayerUpdate, Origin},
        merge::Merged,
        reader::ResultSet,
        writer::Manifest,
    },
};

/// The shared customers of a delta run: written, not yet in force.
pub(in super::super) struct DeltaShared {
    pub(in super::super) manifest: Manifest,
    pub(in super::super) totals: SharedTotals,
    pub(in super::super) result: ResultSet,
    pub(in super::super) disagreeing: u64,
}

/// Joins what changed, and writes it into the run's directory.
pub(in super::super) fn join(flows: &Flows) -> Result<DeltaShared, Error> {
    let (Some(delta), Some(keeper)) = (&flows.delta, &flows.keeper) else {
        return Err(Error::internal("a delta run that keeps nothing"));
    };
    let run = &flows.run;
    let update = &delta.customers.update;
    let mut own = delta.customers.own();
    let mut links = lock(&delta.links);
    let scratch = flows.directory.scratch();
    let shared = Joining {
        terms: &flows.prepared.terms,
        queries: delta.mine,
        update,
        previous: &delta.previous.0,
        totals: &delta.kept.document.totals,
        store: &run.store,
        now: run.now(),
        scratch: &scratch,
        sort_bytes: run.settings.limits.sort_bytes,
    }
    .join(&mut own, &mut links, &lock(&delta.changes))?;
    for _ in 0..shared.bad_labels {
        flows.note_bad_label();
    }
    update.apply(&mut own);
    let rule = run.settings.merges;
    let [rows, keys] = own.shares();
    let merges = [rows, keys, delta.previous.0.share()]
        .into_iter()
        .any(|share| rule.merges(share));
    let files = &keeper.files;
    let mut beside = BesideWriter::create(&files.directory, &files.key)?;
    let written = Writing {
        flows,
        keeper,
        shared: &shared,
        own: &mut own,
        links: &mut links,
        scratch: &scratch,
    };
    let (manifest, own, links, renumbered) = if merges {
        let (manifest, own, links, renumbered) = written.merge()?;
        (manifest, own, links, Some(renumbered))
    } else {
        let (manifest, own, links) = written.lay_over(&mut beside)?;
        (manifest, own, links, None)
    };
    let tables = save(
        keeper,
        keeper.take_tables(),
        renumbered.as_ref(),
        (rule, &scratch),
        &mut beside,
    )?;
    beside.finish()?;
    // A partner that contradicts itself is matched in full: which of its words counts may depend on all of them.
    let own = (shared.disagreeing == 0).then_some(own);
    keeper.shared_done(own, links, shared.totals.clone(), tables);
    Ok(DeltaShared {
        result: ResultSet::open(&flows.directory.path, &manifest)?,
        manifest,
        totals: shared.totals,
        disagreeing: shared.disagreeing,
    })
}

/// What a result and the state of my customers are written from.
struct Writing<'a> {
    flows: &'a Flows,
    keeper: &'a Keeper,
    shared: &'a SharedUpdate,
    own: &'a mut Own,
    links: &'a mut Links,
    scratch: &'a Path,
}

impl Writing<'_> {
    /// Writes the layer.
    fn layer(&self, directory: &Path) -> Result<(Manifest, Vec<Origin>), Error> {
        let delta = self.flows.delta.as_ref();
        let delta = delta.ok_or_else(|| Error::internal("not a delta run"))?;
        LayerUpdate {
            previous: &delta.previous.0,
            previous_directory: &delta.kept.result,
            previous_manifest: &delta.previous.1,
            gone: &self.shared.gone,
            new: &self.shared.new,
            handles: &self.shared.handles,
            matched: &self.shared.matched,
        }
        .write(directory)
    }

    /// Leaves the base as it is.
    fn lay_over(
        self,
        beside: &mut BesideWriter,
    ) -> Result<(Manifest, OwnDocument, LinksDocument), Error> {
        let (manifest, origins) = self.layer(&self.flows.directory.path)?;
        let directory = &self.keeper.files.directory;
        let links = self
            .links
            .save(directory, beside, &origins, &self.shared.links)?;
        let own = self
            .own
            .save(directory, beside, self.flows.prepared.change_seq)?;
        Ok((manifest, own, links))
    }

    /// Makes a new base of everything.
    fn merge(mut self) -> Result<(Manifest, OwnDocument, LinksDocument, Renumbered), Error> {
        let layered = self.scratch.join("layered");
        new_directory(&layered)?;
        let (manifest, origins) = self.layer(&layered)?;
        let (manifest, order) = ResultSet::open(&layered, &manifest)?.merge(
            &manifest,
            &layered,
            &self.flows.directory.path,
        )?;
        let files = &self.keeper.files;
        let (directory, key) = (&files.directory, &files.key);
        let components = self.components(&order, &origins)?;
        let component = |customer: u32| components.get(customer as usize).copied().unwrap_or(NONE);
        let change_seq = self.flows.prepared.change_seq;
        let (own, now) = self.own.merge(directory, key, change_seq, &component)?;
        let mut writer = LinksWriter::create(directory, key)?;
        let mut link = Vec::new();
        self.links.visit(
            &order,
            &origins,
            &self.shared.links,
            &mut |number, record| {
                link.clear();
                link.extend_from_slice(record);
                let customer = now.row(Link::parse(record)?.0.customer);
                let customer =
                    customer.ok_or_else(|| Error::internal("a shared customer's row is gone"))?;
                Link::renumber(&mut link, customer, &|key| now.key(key))?;
                writer.push(number, &link)
            },
        )?;
        Ok((manifest, own, writer.finish()?, now))
    }

    /// The shared customer of each of my customers.
    fn components(&mut self, order: &[Merged], origins: &[Origin]) -> Result<Vec<u32>, Error> {
        let mut components = Vec::new();
        self.links
            .visit(order, origins, &self.shared.links, &mut |number, record| {
                let customer = Link::parse(record)?.0.customer as usize;
                if components.len() <= customer {
                    components.resize(customer + 1, NONE);
                }
                components[customer] = number;
                Ok(())
            })?;
        Ok(components)
    }
}

type TableDocuments = (Option<ReceiverDocument>, Option<EvaluatorDocument>);

/// Writes the flows' tables. If keys were renumbered, their owners change with them.
fn save(
    keeper: &Keeper,
    tables: Tables,
    renumbered: Option<&Renumbered>,
    (rule, scratch): (MergeRule, &Path),
    beside: &mut BesideWriter,
) -> Result<TableDocuments, Error> {
    let (directory, key) = (&keeper.files.directory, &keeper.files.key);
    let mut entries = |table: EntryTable| match renumbered {
        Some(now) => table.merge(directory, key, &|key| now.key(key)),
        None if rule.merges(table.share()) => table.merge(directory, key, &Some),
        None => table.save(directory, beside),
    };
    let receiver = match tables.receiver {
        Some(ReceiverTables {
            queries,
            published,
            now,
            session,
        }) => Some(ReceiverDocument {
            queries: entries(queries)?,
            published: if rule.merges(published.share()) {
                published.merge(directory, key, &now, session, scratch)?
            } else {
                published.extend(directory, key, &now, session)?
            },
        }),
        None => None,
    };
    let evaluator = match tables.evaluator {
        Some(tags) => Some(EvaluatorDocument {
            tags: entries(tags)?,
        }),
        None => None,
    };
    Ok((receiver, evaluator))
}
