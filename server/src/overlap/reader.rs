//! Reads a result: pages, single customers, handles.

use std::path::Path;

use overlap_crypto::terms::KeyType;

pub use super::part::Column;
use super::{
    files::ResultFile,
    graph::Handle,
    members::MemberCursor,
    part::{COLUMN_BYTES, Part, Records, Stored, open},
    writer::{Manifest, fold},
};
use crate::{
    error::Error,
    matching::local_customers::{Salt, key_hash},
};

/// Shared customers of the base that are looked at in one go.
const BLOCK: u64 = 8192;
/// The lower half of the position of a shared customer of the base.
const IN_BASE: u64 = 0xffff_ffff;

/// The files of one run's result, held open: they stay readable even while a later result takes their place.
pub struct ResultSet {
    pub(super) base: Part,
    pub(crate) layer: Option<Layer>,
    pub(super) matched_keys: ResultFile,
    salt: Salt,
    count: u64,
}

/// What lies over the base.
pub(crate) struct Layer {
    pub(super) part: Part,
    /// Numbers of the base that are gone or in the layer, ascending.
    pub(super) hidden: Vec<u32>,
    /// By number in the layer: how many of the base come before.
    pub(super) gaps: Vec<u32>,
    pub(super) matched_keys: ResultFile,
}

impl Layer {
    pub(crate) fn hides(&self, number: u64) -> bool {
        u32::try_from(number).is_ok_and(|number| self.hidden.binary_search(&number).is_ok())
    }
}

/// Where a shared customer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Base(u64),
    Layer(u64),
}

/// A shared customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// Orders shared customers by their ids within one result; not every position is taken.
    pub position: u64,
    /// Stages, key types, times.
    pub column: Column,
    /// My row of highest stage (ties: smallest id).
    pub id: String,
    /// All my rows, ascending.
    pub ids: Vec<String>,
    /// Its name when the run ended.
    pub name: String,
    /// My handle for it.
    pub handle: Handle,
    /// The partner's fields as the partner sent them.
    pub fields: Vec<u8>,
}

/// Which shared customers to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only this stage of mine.
    pub mine: Option<u8>,
    /// Only this stage of the partner's.
    pub theirs: Option<u8>,
    /// Only those whose name or domain contains this.
    pub search: String,
    /// Only these positions, ascending.
    pub positions: Option<Vec<u64>>,
}

impl Filter {
    fn admits(&self, column: Column) -> bool {
        self.mine.is_none_or(|stage| stage == column.mine)
            && self.theirs.is_none_or(|stage| stage == column.theirs)
    }
}

/// A part of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Ascending by id.
    pub customers: Vec<Shared>,
    /// How many there are in all.
    pub total: u64,
    /// Whether more follow.
    pub more: bool,
}

impl ResultSet {
    /// Opens the files of a result.
    ///
    /// # Errors
    /// `STORAGE_FAILED` if one is missing or has another length than was written.
    pub fn open(directory: &Path, manifest: &Manifest) -> Result<Self, Error> {
        let mut salt = Salt::default();
        hex::decode_to_slice(&manifest.salt, &mut salt)
            .map_err(|_| Error::internal("a result's salt is malformed"))?;
        let layer = match &manifest.layer {
            Some(sections) => {
                let file = ResultFile::open(directory, &sections.file)?;
                let open = |name: &str| sections.open(&file, name);
                Some(Layer {
                    part: Part::open(open)?,
                    hidden: open("hidden")?.numbers()?,
                    gaps: open("gaps")?.numbers()?,
                    matched_keys: open("matched_keys")?,
                })
            }
            None => None,
        };
        Ok(Self {
            base: Part::open(|name| open(directory, &manifest.files, name))?,
            layer,
            matched_keys: open(directory, &manifest.files, "matched_keys")?,
            salt,
            count: manifest.shared,
        })
    }

    /// Number of shared customers.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How much lies over the base, and how large that is.
    pub(crate) fn share(&self) -> (u64, u64) {
        let layer = self.layer.as_ref();
        let over = layer.map_or(0, |layer| layer.gaps.len().max(layer.hidden.len()));
        (over as u64, self.base.len())
    }

    fn layer(&self) -> Result<&Layer, Error> {
        self.layer
            .as_ref()
            .ok_or_else(|| Error::internal("a position in a layer that there is not"))
    }

    fn part(&self, place: Place) -> Result<(&Part, u64), Error> {
        Ok(match place {
            Place::Base(number) => (&self.base, number),
            Place::Layer(number) => (&self.layer()?.part, number),
        })
    }

    const fn place(position: u64) -> Place {
        match (position >> 32, position & IN_BASE) {
            (number, IN_BASE) => Place::Base(number),
            (_, number) => Place::Layer(number),
        }
    }

    /// The position of what is at a place: those of the layer that come before a number of the base come before its position.
    fn position(&self, place: Place) -> Result<u64, Error> {
        Ok(match place {
            Place::Base(number) => number << 32 | IN_BASE,
            Place::Layer(number) => {
                let gap = usize::try_from(number)
                    .ok()
                    .and_then(|number| self.layer.as_ref()?.gaps.get(number))
                    .ok_or_else(|| Error::internal("a position in a layer that there is not"))?;
                u64::from(*gap) << 32 | number
            }
        })
    }

    /// What can be told of a shared customer without looking it up.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn column(&self, position: u64) -> Result<Column, Error> {
        let (part, number) = self.part(Self::place(position))?;
        part.column(number)
    }

    /// The shared customer at a position.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn shared(&self, position: u64) -> Result<Shared, Error> {
        let (part, number) = self.part(Self::place(position))?;
        let record = part.record(number)?;
        let stored = Stored::parse(&record)?;
        let mut ids: Vec<String> = stored.ids.iter().map(|id| (*id).to_owned()).collect();
        ids.sort();
        Ok(Shared {
            position,
            column: part.column(number)?,
            id: stored.ids[0].to_owned(),
            ids,
            name: stored.name.to_owned(),
            handle: stored.handle,
            fields: stored.fields.to_vec(),
        })
    }

    /// What of the base is not hidden, and all of the layer.
    fn visible(&self, in_layer: Option<u64>, in_base: Option<u64>) -> Result<Option<u64>, Error> {
        let hides = |number| self.layer.as_ref().is_some_and(|layer| layer.hides(number));
        in_layer
            .map(Place::Layer)
            .or(in_base.filter(|number| !hides(*number)).map(Place::Base))
            .map(|place| self.position(place))
            .transpose()
    }

    /// The position of the shared customer that row `id` of mine belongs to.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn position_of_row(&self, id: &str) -> Result<Option<u64>, Error> {
        let in_layer = match &self.layer {
            Some(layer) => layer.part.of_row(id)?,
            None => None,
        };
        self.visible(in_layer, self.base.of_row(id)?)
    }

    /// The position of the shared customer that a handle names, mine or the partner's.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn position_of_handle(&self, handle: &Handle) -> Result<Option<u64>, Error> {
        let in_layer = match &self.layer {
            Some(layer) => layer.part.of_handle(handle)?,
            None => None,
        };
        self.visible(in_layer, self.base.of_handle(handle)?)
    }

    /// Whether the run matched a key.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn matched(&self, key_type: KeyType, value: &str) -> Result<bool, Error> {
        let hash = key_hash(&self.salt, key_type, value);
        if let Some(layer) = &self.layer
            && let Some(record) = layer.matched_keys.search::<17>(&hash)?
        {
            return Ok(record[16] == 1);
        }
        Ok(self.matched_keys.search::<16>(&hash)?.is_some())
    }

    /// Up to `size` shared customers from position `start` on that pass the filter.
    ///
    /// `total` is how many pass in all, if that is known: else everything is looked through.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn page(
        &self,
        filter: &Filter,
        start: u64,
        size: usize,
        total: Option<u64>,
    ) -> Result<Page, Error> {
        let mut page = Page::default();
        let mut found = 0;
        let needle = fold(&filter.search);
        let mut look = |position: u64| -> Result<bool, Error> {
            found += 1;
            if position >= start {
                if page.customers.len() == size {
                    page.more = true;
                    return Ok(total.is_none());
                }
                page.customers.push(self.shared(position)?);
            }
            Ok(true)
        };
        let from = if total.is_some() { start } else { 0 };
        if let Some(positions) = &filter.positions {
            for &position in positions.iter().filter(|position| **position >= from) {
                if filter.admits(self.column(position)?)
                    && (needle.is_empty() || self.contains(position, &needle)?)
                    && !look(position)?
                {
                    break;
                }
            }
        } else {
            self.scan(from, !needle.is_empty(), &mut |position, column, texts| {
                let passes = filter.admits(column)
                    && texts.is_none_or(|(texts, index)| texts.contain(index, &needle));
                Ok(!passes || look(position)?)
            })?;
        }
        page.total = total.unwrap_or(found);
        Ok(page)
    }

    /// Visits the shared customers with their columns in the order of their ids, until `visit` wants no more.
    ///
    /// # Errors
    /// What the file system or `visit` reports.
    pub fn columns(
        &self,
        visit: &mut dyn FnMut(u64, Column) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        self.scan(0, false, &mut |position, column, _| visit(position, column))
    }

    /// Visits the positions from `from` on, with their texts if they are wanted, until `visit` wants no more.
    fn scan(&self, from: u64, texts: bool, visit: &mut Visit<'_>) -> Result<(), Error> {
        let (hidden, gaps): (&[u32], &[u32]) = match &self.layer {
            Some(layer) => (&layer.hidden, &layer.gaps),
            None => (&[], &[]),
        };
        let count = self.base.len();
        let mut hidden = hidden.iter().map(|number| u64::from(*number)).peekable();
        let mut start = match Self::place(from) {
            Place::Base(number) => number,
            Place::Layer(_) => from >> 32,
        };
        // The first of the layer whose position is not less.
        let mut next = (0_u64..)
            .zip(gaps)
            .take_while(|(number, gap)| (u64::from(**gap) << 32 | number) < from)
            .count();
        loop {
            let end = (start + BLOCK).min(count);
            let base = Block::read(&self.base, start, end, texts)?;
            let last = next + gaps[next..].partition_point(|gap| u64::from(*gap) < end);
            let last = if end == count { gaps.len() } else { last };
            let over = match &self.layer {
                Some(layer) => Some(Block::read(&layer.part, next as u64, last as u64, texts)?),
                None => None,
            };
            let first = next;
            let mut layered = |until: u64, visit: &mut Visit<'_>| {
                while next < last && u64::from(gaps[next]) <= until {
                    let position = self.position(Place::Layer(next as u64))?;
                    if let Some(over) = &over
                        && !over.visit(next - first, position, visit)?
                    {
                        return Ok::<_, Error>(false);
                    }
                    next += 1;
                }
                Ok(true)
            };
            for number in start..end {
                if !layered(number, visit)? {
                    return Ok(());
                }
                while hidden.next_if(|other| *other < number).is_some() {}
                let is_hidden = hidden.next_if_eq(&number).is_some();
                let index = usize::try_from(number - start).expect("a block is short");
                if !is_hidden && !base.visit(index, self.position(Place::Base(number))?, visit)? {
                    return Ok(());
                }
            }
            if end == count {
                layered(count, visit)?;
                return Ok(());
            }
            start = end;
        }
    }

    /// Reads shared customers in the order of their places.
    pub(crate) fn reader(&self) -> Result<PlaceReader<'_>, Error> {
        Ok(PlaceReader {
            base: self.base.records()?,
            layer: match &self.layer {
                Some(layer) => Some(layer.part.records()?),
                None => None,
            },
        })
    }

    /// Adds the shared customers that any of these handles names, which ascend.
    pub(crate) fn places_of_handles(
        &self,
        handles: &[Handle],
        places: &mut Vec<Place>,
    ) -> Result<(), Error> {
        self.base.of_handles(handles, &mut |number| {
            let is_hidden = self.layer.as_ref().is_some_and(|layer| layer.hides(number));
            if !is_hidden {
                places.push(Place::Base(number));
            }
        })?;
        if let Some(layer) = &self.layer {
            layer.part.of_handles(handles, &mut |number| {
                places.push(Place::Layer(number));
            })?;
        }
        Ok(())
    }

    fn contains(&self, position: u64, needle: &str) -> Result<bool, Error> {
        let (part, number) = self.part(Self::place(position))?;
        Ok(part.texts(number, number + 1)?.contain(0, needle))
    }

    /// Looks rows of mine up by ascending id; `many` of them.
    pub(super) fn members(&self, many: usize) -> Members<'_> {
        Members {
            result: self,
            base: self.base.member_cursor(many),
            layer: self
                .layer
                .as_ref()
                .map(|layer| layer.part.member_cursor(many)),
        }
    }
}

/// Reads shared customers in the order of their places.
pub(crate) struct PlaceReader<'a> {
    base: Records<'a>,
    layer: Option<Records<'a>>,
}

impl PlaceReader<'_> {
    /// What is stored of a shared customer, and its text.
    pub(crate) fn at(&mut self, place: Place) -> Result<(Column, Stored<'_>, &[u8]), Error> {
        let (records, number) = match (place, &mut self.layer) {
            (Place::Base(number), _) => (&mut self.base, number),
            (Place::Layer(number), Some(layer)) => (layer, number),
            (Place::Layer(_), None) => {
                return Err(Error::internal("a place in a layer that there is not"));
            }
        };
        let number =
            u32::try_from(number).map_err(|_| Error::internal("a place beyond the end"))?;
        let (column, record, text) = records.get(number)?;
        Ok((Column::parse(column), Stored::parse(record)?, text))
    }
}

/// Takes a position, its column and, if asked for, where its text is.
type Visit<'a> =
    dyn FnMut(u64, Column, Option<(&super::part::Texts, usize)>) -> Result<bool, Error> + 'a;

/// Consecutive shared customers of a part.
struct Block {
    columns: Vec<u8>,
    texts: Option<super::part::Texts>,
}

impl Block {
    fn read(part: &Part, start: u64, end: u64, texts: bool) -> Result<Self, Error> {
        Ok(Self {
            columns: part.columns(start, end)?,
            texts: texts.then(|| part.texts(start, end)).transpose()?,
        })
    }

    fn visit(&self, index: usize, position: u64, visit: &mut Visit<'_>) -> Result<bool, Error> {
        let record = &self.columns[index * COLUMN_BYTES as usize..][..COLUMN_BYTES as usize];
        let texts = self.texts.as_ref().map(|texts| (texts, index));
        visit(position, Column::parse(record), texts)
    }
}

/// Finds rows of mine by ascending id.
pub(super) struct Members<'a> {
    result: &'a ResultSet,
    base: MemberCursor<'a>,
    layer: Option<MemberCursor<'a>>,
}

impl Members<'_> {
    /// When the shared customer of row `id` was first matched.
    pub(super) fn first_matched(&mut self, id: &str) -> Result<Option<i64>, Error> {
        let in_layer = match &mut self.layer {
            Some(layer) => layer.find(id.as_bytes())?,
            None => None,
        };
        let in_base = self.base.find(id.as_bytes())?;
        match self.result.visible(in_layer, in_base)? {
            Some(position) => Ok(Some(self.result.column(position)?.first_matched)),
            None => Ok(None),
        }
    }
}
