//! The names of my rows, kept from run to run so that only those that changed are read from the store.

use std::{cell::RefCell, path::Path};

use super::{
    column::{StateKey, TextReader, TextWriter},
    kept::Kept,
};
use crate::{
    customers::rows::{scan_searchable, searchable},
    error::Error,
    matching::{local_customers::LocalCustomers, spool::RecordReader},
    overlap::writer::{Names, VisitName},
    storage::Store,
};

const NAMES: &str = "names";

/// Keeps the names of the rows that took part in the run.
struct Keeping {
    file: TextWriter,
    /// The rows' ids, and the one that comes next.
    ids: RecordReader,
    id: Option<Vec<u8>>,
    record: Vec<u8>,
}

impl Keeping {
    fn new(directory: &Path, key: &StateKey, local: &LocalCustomers) -> Result<Self, Error> {
        let mut keeping = Self {
            file: TextWriter::create(&directory.join(NAMES), key)?,
            ids: local.ids()?,
            id: None,
            record: Vec::new(),
        };
        keeping.advance()?;
        Ok(keeping)
    }

    fn advance(&mut self) -> Result<(), Error> {
        self.id = self.ids.next_record()?.map(<[u8]>::to_vec);
        Ok(())
    }

    /// Keeps what a row is called, if it took part. Rows come in ascending order of id.
    fn take(&mut self, id: &str, name: &str, domains: &[&str]) -> Result<(), Error> {
        while self.id.as_deref().is_some_and(|next| next < id.as_bytes()) {
            self.advance()?;
        }
        if self.id.as_deref() != Some(id.as_bytes()) {
            return Ok(());
        }
        self.record.clear();
        for text in [id, name].iter().chain(domains) {
            let length = u16::try_from(text.len()).map_err(|_| Error::internal("a long name"))?;
            self.record.extend_from_slice(&length.to_be_bytes());
            self.record.extend_from_slice(text.as_bytes());
        }
        self.file.push(&self.record)
    }
}

/// Reads what [`Keeping::take`] wrote: id, name, domains.
fn parse(record: &[u8]) -> Option<Vec<&str>> {
    let mut texts = Vec::with_capacity(3);
    let mut rest = record;
    while let Some((length, more)) = rest.split_first_chunk::<2>() {
        let (text, more) = more.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        texts.push(std::str::from_utf8(text).ok()?);
        rest = more;
    }
    (texts.len() >= 2 && rest.is_empty()).then_some(texts)
}

/// My rows' names for a result: those of the last run where nothing changed, else the store's.
pub(crate) struct KeptNames<'a> {
    store: &'a Store,
    keeping: Option<RefCell<Option<Keeping>>>,
    last: Option<(&'a Kept, &'a [Vec<u8>])>,
}

impl<'a> KeptNames<'a> {
    /// `keep` is where they are kept for the next run; `last` what the last run kept, and the ids that changed since,
    /// ascending.
    pub(crate) fn new(
        store: &'a Store,
        keep: Option<(&Path, &StateKey)>,
        local: &LocalCustomers,
        last: Option<(&'a Kept, &'a [Vec<u8>])>,
    ) -> Result<Self, Error> {
        let keeping = keep
            .map(|(directory, key)| Keeping::new(directory, key, local))
            .transpose()?;
        Ok(Self {
            store,
            keeping: keeping.map(|keeping| RefCell::new(Some(keeping))),
            last,
        })
    }

    /// What the manifest keeps of them, once they were visited.
    pub(crate) fn finish(self) -> Result<Vec<u32>, Error> {
        match self.keeping.and_then(RefCell::into_inner) {
            Some(keeping) => keeping.file.finish(),
            None => Ok(Vec::new()),
        }
    }

    fn keep(&self, id: &str, name: &str, domains: &[&str]) -> Result<(), Error> {
        match &self.keeping {
            Some(keeping) => match &mut *keeping.borrow_mut() {
                Some(keeping) => keeping.take(id, name, domains),
                None => Ok(()),
            },
            None => Ok(()),
        }
    }

    fn visit_changed(
        &self,
        kept: &Kept,
        changed: &[Vec<u8>],
        visit: &mut VisitName<'_>,
    ) -> Result<(), Error> {
        let mut before =
            TextReader::open(&kept.directory.join(NAMES), &kept.key, &kept.document.names)?;
        let malformed = || Error::internal("a kept name is malformed");
        // The kept names up to an id, without those of changed rows.
        let mut ahead: Option<Vec<u8>> = before.next_text()?.map(<[u8]>::to_vec);
        let mut until = |id: Option<&str>, visit: &mut VisitName<'_>| {
            while let Some(record) = &ahead {
                let texts = parse(record).ok_or_else(malformed)?;
                if id.is_some_and(|id| texts[0] >= id) {
                    break;
                }
                if changed
                    .binary_search_by(|other| other.as_slice().cmp(texts[0].as_bytes()))
                    .is_err()
                {
                    self.keep(texts[0], texts[1], &texts[2..])?;
                    visit(texts[0], texts[1], &texts[2..])?;
                }
                ahead = before.next_text()?.map(<[u8]>::to_vec);
            }
            Ok::<_, Error>(())
        };
        let ids: Vec<&str> = changed
            .iter()
            .map(|id| std::str::from_utf8(id).map_err(|_| malformed()))
            .collect::<Result<_, _>>()?;
        self.store.read_blocking(|connection| {
            searchable(connection, &mut ids.iter().copied(), &mut |row| {
                until(Some(row.id), visit)?;
                let domains = row.domains()?;
                self.keep(row.id, row.name, &domains)?;
                visit(row.id, row.name, &domains)
            })
        })?;
        until(None, visit)
    }
}

impl Names for KeptNames<'_> {
    fn scan(&self, visit: &mut VisitName<'_>) -> Result<(), Error> {
        if let Some((kept, changed)) = self.last {
            return self.visit_changed(kept, changed, visit);
        }
        self.store.read_blocking(|connection| {
            scan_searchable(connection, &mut |row| {
                let domains = row.domains()?;
                self.keep(row.id, row.name, &domains)?;
                visit(row.id, row.name, &domains)?;
                Ok(true)
            })
        })
    }
}
