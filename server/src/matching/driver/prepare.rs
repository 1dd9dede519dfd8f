//! What a side has ready before it says hello: terms, epoch keys, and a snapshot of its customers.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use overlap_crypto::{
    handshake::{ListQuerier, Mode},
    list::{Label, fields},
    plan::Role,
    terms::{KeyType, SideTerms, Tier},
    voprf::SecretKey,
};
use rusqlite::Connection;

use super::{
    Run, RunDirectory,
    delta::{self, fields::FieldLookup},
    sets::{FieldAreas, FieldStore},
};
use crate::{
    customers::rows::{FieldsRow, change_seq, scan_fields},
    error::{Error, Reason},
    matching::{
        compute::fresh_rng,
        delta::{
            kept::StateFiles,
            own::{OwnWriter, Totals},
            plan::DeltaPlan,
        },
        failure::misused,
        keys::{self, EpochKeys, random},
        ledger::Ledger,
        local_customers::{KeyRef, LocalCustomers, Salt, Scratch},
        records::{self, PartnerState},
        terms::RunTerms,
    },
};

/// How often a run tries to get the budget ledger from the one before.
const LEDGER_TRIES: u32 = 500;
/// How long it waits in between.
const LEDGER_PAUSE: Duration = Duration::from_millis(20);

/// One side's part of a run.
pub(super) struct Prepared {
    pub(super) terms: RunTerms,
    /// My customers, read for a full run.
    local: Option<Arc<LocalCustomers>>,
    pub(super) totals: Totals,
    pub(super) salt: Salt,
    pub(super) own: Arc<OwnLabels>,
    /// Of this node as evaluator; present if it lists any stage.
    pub(super) keys: Option<EpochKeys>,
    /// What the partner has had of this node; held for the whole run.
    pub(super) ledger: Mutex<Ledger>,
    pub(super) state: PartnerState,
    pub(super) list_querier: ListQuerier,
    /// The last change of customers that the snapshot has.
    pub(super) change_seq: u64,
    /// What a delta run has to send; `None` for a full run.
    pub(super) delta: Option<DeltaPlan>,
    /// Where the run leaves what the next one may go on from.
    pub(super) state_files: Option<(StateFiles, Option<OwnWriter>)>,
}

/// Where the fields that I disclose come from.
enum Fields {
    /// A file with those of every row.
    Stored(FieldStore),
    /// The store, for the few customers that a delta run says something of.
    LookedUp(FieldLookup),
}

/// What I say of my listed customers.
pub(super) struct OwnLabels {
    fields: Fields,
    /// By my stage's index: its number on the wire if it is listed.
    listed_codes: Vec<Option<u8>>,
}

impl OwnLabels {
    /// The list flows are over: nothing more is said of customers.
    pub(super) fn release(&self) {
        if let Fields::LookedUp(fields) = &self.fields {
            fields.release();
        }
    }

    /// The label of the customer that a key stands for, if it is listed.
    pub(super) fn label<'a>(&self, key: &KeyRef, fields: &'a [u8]) -> Option<Label<'a>> {
        let stage = self.listed_codes[usize::from(key.stage)]?;
        Some(Label {
            stage,
            pseudonym: key.handle,
            fields,
        })
    }

    /// The disclosed fields of the customers that keys stand for; zeros for those that are not listed.
    pub(super) fn areas(&self, keys: &[KeyRef]) -> Result<FieldAreas, Error> {
        let rows = keys
            .iter()
            .map(|key| self.listed_codes[usize::from(key.stage)].map(|_| key.customer));
        match &self.fields {
            Fields::Stored(fields) => fields.areas(rows),
            Fields::LookedUp(fields) => fields.areas(rows),
        }
    }
}

impl Prepared {
    /// My customers, read for a full run.
    pub(super) fn local(&self) -> Result<&Arc<LocalCustomers>, Error> {
        self.local
            .as_ref()
            .ok_or_else(|| Error::internal("a delta run does not read all customers"))
    }

    /// My side of the terms.
    pub(super) fn my_terms<'a>(&'a self, run: &Run) -> Result<&'a SideTerms, Error> {
        self.terms
            .terms
            .side(&run.parties.me())
            .ok_or_else(|| Error::internal("this organisation is no side of the terms"))
    }

    /// Reads one snapshot of the store, for a delta run if this side wants and can, else for a full one. Blocks.
    pub(super) fn read(
        run: &Run,
        directory: &RunDirectory,
        role: Role,
        mode: Mode,
    ) -> Result<Self, Error> {
        if mode == Mode::Delta {
            if let Some(prepared) = Self::read_as(run, directory, role, Mode::Delta)? {
                return Ok(prepared);
            }
            directory.clear_scratch()?;
        }
        Self::read_as(run, directory, role, Mode::Full)?
            .ok_or_else(|| Error::internal("a full run was not prepared"))
    }

    /// `None` if a delta run was wanted and a full one is better.
    fn read_as(
        run: &Run,
        directory: &RunDirectory,
        role: Role,
        mode: Mode,
    ) -> Result<Option<Self>, Error> {
        let terms = RunTerms::new(
            &run.agreement,
            run.parties.me(),
            run.parties.partner(),
            &run.settings.rules,
        )?;
        let mut ledger = open_ledger(run)?;
        let keys = if terms.mine.has(Tier::List) {
            Some(epoch_keys(run, &terms, ledger.least_epoch())?)
        } else {
            None
        };
        let mine = terms
            .terms
            .side(&run.parties.me())
            .ok_or_else(|| Error::internal("this organisation is no side of the terms"))?;
        let epoch = keys.as_ref().map(|keys| keys.epoch);
        ledger.begin(epoch, mine.max_queries, mine.max_tags)?;
        let handles = keys.as_ref().map(EpochKeys::handle_key);
        let snapshot = run.store.snapshot()?;
        let connection = snapshot.connection();
        let state = records::partner_state(connection, &run.partnership_id)?;
        let mut list_querier = match &keys {
            Some(keys) => records::list_querier(connection, &run.partnership_id, keys.epoch)?,
            None => ListQuerier::Open,
        };
        let mut salt = Salt::default();
        let (local, totals, delta, state_files) = match mode {
            Mode::Full => {
                // Fresh: positions of queries say nothing across full runs.
                random(&mut salt)?;
                let mut files = delta::files(run, &terms, directory)?;
                let mut nobody = ();
                let local = LocalCustomers::read(
                    connection,
                    &run.agreement,
                    &terms.terms.key_types(),
                    &Scratch {
                        directory: &directory.scratch(),
                        salt,
                        limits: run.settings.limits,
                    },
                    handles.as_ref(),
                    match &mut files {
                        Some((_, own)) => own,
                        None => &mut nobody,
                    },
                )?;
                let totals = Totals::of(&local);
                let files = files.map(|(files, own)| (files, Some(own)));
                (Some(Arc::new(local)), totals, None, files)
            }
            Mode::Delta => {
                let Some(found) =
                    delta::find(run, role, connection, &terms, keys.as_ref(), &state)?
                else {
                    return Ok(None);
                };
                salt = found.kept.document.own.salt()?;
                list_querier = delta::querier(found.kept.document.binding.i_query);
                let names = handles.as_ref();
                let Some(planned) =
                    delta::plan(run, role, connection, &terms, names, directory, found)?
                else {
                    return Ok(None);
                };
                (
                    None,
                    planned.totals,
                    Some(planned.plan),
                    Some((planned.files, None)),
                )
            }
        };
        refuse_empty(&terms, &totals)?;
        let change_seq = change_seq(connection)?;
        let fields = match (&local, &delta) {
            (Some(local), _) if terms.mine.has(Tier::List) => {
                Fields::Stored(own_fields(run, connection, &terms, local, directory)?)
            }
            (None, Some(delta)) if terms.mine.has(Tier::List) => {
                Fields::LookedUp(FieldLookup::new(run, &terms, &delta.customers, snapshot)?)
            }
            _ => Fields::Stored(FieldStore::empty()),
        };
        let own = own_labels(&terms, fields);
        Ok(Some(Self {
            own: Arc::new(own),
            local,
            totals,
            salt,
            keys,
            ledger: Mutex::new(ledger),
            change_seq,
            delta,
            state_files,
            state,
            list_querier,
            terms,
        }))
    }
}

/// A run with nothing to bring is a mistake, unless one side hides everything: then there is nothing to match anyway.
fn refuse_empty(terms: &RunTerms, totals: &Totals) -> Result<(), Error> {
    let counts = totals.key_counts();
    let disclosing = !terms.mine.disclosed().is_empty() && !terms.theirs.disclosed().is_empty();
    if disclosing && counts.list + counts.count == 0 {
        let types: Vec<&str> = terms
            .terms
            .key_types()
            .iter()
            .map(|t| KeyType::name(*t))
            .collect();
        return Err(Error::new(
            Reason::EmptySet,
            format!(
                "no disclosed customer has a usable key of the agreed types ({}): import customers or disclose more stages",
                types.join(", ")
            ),
        ));
    }
    Ok(())
}

/// The partnership's ledger. A run that gave way to this one may still be letting go of it.
fn open_ledger(run: &Run) -> Result<Ledger, Error> {
    let directory = keys::directory(&run.node_directory, &run.partnership_id);
    let mut tries = 0;
    loop {
        match Ledger::open(&directory, &run.store, &run.partnership_id, run.now()) {
            Err(error) if error.reason() == Reason::RunUnderWay && tries < LEDGER_TRIES => {
                tries += 1;
                std::thread::sleep(LEDGER_PAUSE);
            }
            opened => return opened,
        }
    }
}

/// The keys of my epoch: a new one if the terms changed or the old one is too old.
fn epoch_keys(run: &Run, terms: &RunTerms, least_epoch: u64) -> Result<EpochKeys, Error> {
    let directory = keys::directory(&run.node_directory, &run.partnership_id);
    keys::current_or_new(
        &directory,
        &run.vault,
        &terms.terms.structure_hash(),
        run.now(),
        least_epoch,
        || Ok(SecretKey::random(&mut fresh_rng()?).to_bytes()),
    )
}

fn own_labels(terms: &RunTerms, fields: Fields) -> OwnLabels {
    let listed_codes = terms
        .mine
        .iter()
        .map(|(index, _, tier)| terms.mine.wire_code(index).filter(|_| tier == Tier::List))
        .collect();
    OwnLabels {
        fields,
        listed_codes,
    }
}

/// The disclosed fields of every row, in the same snapshot and order as the rows.
fn own_fields(
    run: &Run,
    connection: &Connection,
    terms: &RunTerms,
    local: &LocalCustomers,
    directory: &RunDirectory,
) -> Result<FieldStore, Error> {
    let side = terms
        .terms
        .side(&run.parties.me())
        .ok_or_else(|| Error::internal("this organisation is no side of the terms"))?;
    let area_bytes = usize::from(side.label_field_bytes);
    if side.fields.is_empty() || area_bytes == 0 {
        return Ok(FieldStore::empty());
    }
    let names: Vec<&str> = side.fields.iter().map(String::as_str).collect();
    let stages = terms.mine.disclosed();
    let path = directory.scratch().join("fields");
    FieldStore::write(&path, area_bytes, |push| {
        let mut row = 0_u32;
        let nothing = vec![0; area_bytes];
        scan_fields(connection, &stages, &names, &mut |found| {
            if row as usize >= local.rows() {
                return Err(Error::internal("there are more rows with fields than rows"));
            }
            // Only a customer's naming row speaks for it.
            if local.customer(row) == row && local.tier(row) == Tier::List {
                push(&area(found, area_bytes)?)?;
            } else {
                push(&nothing)?;
            }
            row += 1;
            Ok(())
        })?;
        if row as usize != local.rows() {
            return Err(Error::internal(
                "there are fewer rows with fields than rows",
            ));
        }
        Ok(())
    })
}

/// What a label says of a row's fields.
pub(super) fn area(row: &FieldsRow<'_>, area_bytes: usize) -> Result<Vec<u8>, Error> {
    let values: Vec<Option<&str>> = row
        .values
        .iter()
        .map(|value| (!value.is_empty()).then_some(*value))
        .collect();
    fields::encode(&values, area_bytes).map_err(|misuse| {
        Error::new(
            misused(misuse).reason(),
            format!(
                "customer \"{}\": its shared fields exceed label_field_bytes = {area_bytes}: raise it or share fewer fields",
                row.id
            ),
        )
    })
}
