//! Lays over a result what a delta run found, without touching the files of the base.

use std::{path::Path, rc::Rc};

use super::{
    files::{FileEntry, FileWriter, ResultFile, Section, Sections, Table, beyond},
    graph::Handle,
    part::{Column, HANDLE_RECORD_BYTES, MEMBER_TAIL_BYTES, Part, Stored, number_of},
    reader::{Place, ResultSet},
    writer::{Manifest, push_count, push_text},
};
use crate::{
    error::Error,
    matching::spool::{link, sync_directory},
};

/// The file of a layer.
const LAYER: &str = "layer";

/// A section with its name.
type Named = (&'static str, Section);

/// The id of a row of mine.
pub(crate) type Id = Rc<[u8]>;

/// A shared customer of a delta run.
pub(crate) struct NewShared {
    pub(crate) column: Column,
    pub(crate) my_handle: Handle,
    pub(crate) name: String,
    /// What a search looks through.
    pub(crate) text: Vec<u8>,
    /// My rows: first the one that names it.
    pub(crate) ids: Vec<Id>,
    /// What the partner says of it.
    pub(crate) fields: Vec<u8>,
}

impl NewShared {
    fn record(&self) -> Result<Vec<u8>, Error> {
        let mut record = self.my_handle.to_vec();
        push_text(&mut record, self.name.as_bytes())?;
        push_count(&mut record, self.ids.len())?;
        for id in &self.ids {
            push_text(&mut record, id)?;
        }
        record.extend_from_slice(&self.fields);
        Ok(record)
    }
}

/// What a delta run changes of a result.
pub(crate) struct LayerUpdate<'a> {
    pub(crate) previous: &'a ResultSet,
    pub(crate) previous_directory: &'a Path,
    pub(crate) previous_manifest: &'a Manifest,
    /// What is gone, or among the new ones; ascending.
    pub(crate) gone: &'a [Place],
    /// By id.
    pub(crate) new: &'a [NewShared],
    /// Handles of the new ones, each with the place among these; sorted.
    pub(crate) handles: &'a [(Handle, u32)],
    /// Keys whose matching changed, by hash: whether they match now.
    pub(crate) matched: &'a [([u8; 16], bool)],
}

/// Where a shared customer of a layer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A number of the layer before.
    Before(u32),
    /// A place among the new ones.
    New(u32),
}

/// A layer of one's own, in memory.
#[derive(Default)]
struct Before {
    gaps: Vec<u32>,
    hidden: Vec<u32>,
    matched: Vec<u8>,
    handles: Vec<u8>,
}

fn number(place: usize) -> Result<u32, Error> {
    u32::try_from(place).map_err(|_| Error::internal("more than 2^32 shared customers"))
}

impl LayerUpdate<'_> {
    /// Writes the layer into `directory`, links the base's files there, and says where each shared customer of the layer
    /// comes from, by number.
    ///
    /// # Errors
    /// `STORAGE_FAILED` if the layer before is not as it was written: the new one would make the damage its own. What the file
    /// system reports.
    pub(crate) fn write(&self, directory: &Path) -> Result<(Manifest, Vec<Origin>), Error> {
        if let Some(layer) = &self.previous_manifest.layer {
            ResultFile::open(self.previous_directory, &layer.file)?.check(&layer.file)?;
        }
        let old = self.previous.layer.as_ref();
        let before = match old {
            Some(layer) => Before {
                gaps: layer.gaps.clone(),
                hidden: layer.hidden.clone(),
                matched: layer.matched_keys.range(0, layer.matched_keys.bytes())?,
                handles: layer
                    .part
                    .handles()
                    .range(0, layer.part.handles().bytes())?,
            },
            None => Before::default(),
        };
        let origins = self.order(&before)?;
        let part = old.map(|layer| &layer.part);
        let mut sections = self.entries(part, &origins.order)?;
        let now_of = origins.numbers(before.gaps.len(), self.new.len());
        sections.extend(self.members(part, &now_of)?);
        sections.push(("handles", self.handles(&before.handles, &now_of)?));
        let (hidden, hidden_count) = self.hidden(&before.hidden)?;
        let count = self.previous.base.len() - hidden_count + origins.order.len() as u64;
        sections.push(("hidden", hidden));
        sections.push(("matched_keys", self.matched(&before.matched)?));
        let layer = Sections::write(directory, LAYER, sections)?;
        for file in &self.previous_manifest.files {
            link(self.previous_directory, directory, &file.name)?;
        }
        sync_directory(directory)?;
        let manifest = Manifest {
            files: self.previous_manifest.files.clone(),
            shared: count,
            salt: self.previous_manifest.salt.clone(),
            layer: Some(layer),
        };
        Ok((
            manifest,
            origins
                .order
                .into_iter()
                .map(|(_, origin)| origin)
                .collect(),
        ))
    }

    fn is_gone(&self, number: usize) -> bool {
        self.gone
            .binary_search(&Place::Layer(number as u64))
            .is_ok()
    }

    /// What stays of the layer and what is new, in the order of ids, each with the number of those of the base before.
    fn order(&self, before: &Before) -> Result<Order, Error> {
        let mut cursor = self.previous.base.member_cursor(self.new.len());
        let mut order = Vec::with_capacity(before.gaps.len() + self.new.len());
        let mut old = (0..before.gaps.len())
            .filter(|number| !self.is_gone(*number))
            .peekable();
        for (place, new) in self.new.iter().enumerate() {
            let id = &new.ids[0];
            let gap = u32::try_from(cursor.named_before(id)?)
                .map_err(|_| Error::internal("more than 2^32 shared customers"))?;
            while let Some(&number_before) = old.peek() {
                let other = before.gaps[number_before];
                let comes_first = other < gap
                    || (other == gap && self.id_before(number_before)?.as_bytes() < &**id);
                if !comes_first {
                    break;
                }
                order.push((other, Origin::Before(number(number_before)?)));
                old.next();
            }
            order.push((gap, Origin::New(number(place)?)));
        }
        for number_before in old {
            let gap = before.gaps[number_before];
            order.push((gap, Origin::Before(number(number_before)?)));
        }
        Ok(Order { order })
    }

    fn id_before(&self, number: usize) -> Result<String, Error> {
        let layer = self.previous.layer.as_ref();
        let layer = layer.ok_or_else(|| Error::internal("there is no layer"))?;
        let record = layer.part.record(number as u64)?;
        Ok(Stored::parse(&record)?.ids[0].to_owned())
    }

    fn entries(&self, part: Option<&Part>, order: &[(u32, Origin)]) -> Result<Vec<Named>, Error> {
        let mut gaps = Section::default();
        let mut entries = EntriesWriter::<Section>::default();
        let mut records = part.map(Part::records).transpose()?;
        for (gap, origin) in order {
            gaps.push(&gap.to_be_bytes())?;
            match (origin, &mut records) {
                (Origin::New(place), _) => {
                    let new = &self.new[*place as usize];
                    entries.push(&new.column.to_bytes(), &new.record()?, &new.text)?;
                }
                (Origin::Before(number), Some(records)) => {
                    let (column, record, text) = records.get(*number)?;
                    entries.push(column, record, text)?;
                }
                (Origin::Before(_), None) => return Err(Error::internal("there is no layer")),
            }
        }
        let mut sections = entries.finish()?;
        sections.push(("gaps", gaps));
        Ok(sections)
    }

    fn members(&self, part: Option<&Part>, now_of: &Numbers) -> Result<Vec<Named>, Error> {
        let mut members: Vec<(&[u8], u32, bool)> = Vec::new();
        for (new, number) in self.new.iter().zip(&now_of.new) {
            for (place, id) in new.ids.iter().enumerate() {
                members.push((id, *number, place == 0));
            }
        }
        let old = part.map(Part::all_members).transpose()?.unwrap_or_default();
        for member in old.iter() {
            let member = member?;
            if let Some(number) = now_of.of_before(member.number)? {
                members.push((member.id, number, member.is_naming));
            }
        }
        members.sort_unstable();
        let mut writer = MembersWriter::<Section>::default();
        for (id, number, is_naming) in members {
            writer.push(id, number, is_naming)?;
        }
        Ok(writer.finish())
    }

    fn handles(&self, before: &[u8], now_of: &Numbers) -> Result<Section, Error> {
        let mut handles: Vec<(Handle, u32)> = self
            .handles
            .iter()
            .map(|(handle, place)| (*handle, now_of.new[*place as usize]))
            .collect();
        let (old, _) = before.as_chunks::<HANDLE_RECORD_BYTES>();
        for record in old {
            if let Some(number) = now_of.of_before(number_of(record))? {
                let handle = *record.first_chunk().expect("a record begins with a handle");
                handles.push((handle, number));
            }
        }
        handles.sort_unstable();
        handles.dedup();
        let mut section = Section::default();
        for (handle, number) in handles {
            section.push(&handle)?;
            section.push(&number.to_be_bytes())?;
        }
        Ok(section)
    }

    /// The section, and how many there are.
    fn hidden(&self, before: &[u32]) -> Result<(Section, u64), Error> {
        let mut hidden = before.to_vec();
        for place in self.gone {
            if let Place::Base(base) = place {
                let base = usize::try_from(*base).unwrap_or(usize::MAX);
                hidden.push(number(base)?);
            }
        }
        hidden.sort_unstable();
        hidden.dedup();
        let mut section = Section::default();
        for number in &hidden {
            section.push(&number.to_be_bytes())?;
        }
        Ok((section, hidden.len() as u64))
    }

    fn matched(&self, before: &[u8]) -> Result<Section, Error> {
        let mut section = Section::default();
        let mut new = self.matched.iter().peekable();
        let mut push = |(hash, matches): &([u8; 16], bool)| {
            section.push(hash)?;
            section.push(&[u8::from(*matches)])
        };
        for record in before.as_chunks::<17>().0 {
            while let Some(found) = new.next_if(|(hash, _)| hash[..] < record[..16]) {
                push(found)?;
            }
            match new.next_if(|(hash, _)| hash[..] == record[..16]) {
                Some(found) => push(found)?,
                None => push(&(*record.first_chunk().expect("a hash"), record[16] == 1))?,
            }
        }
        for found in new {
            push(found)?;
        }
        Ok(section)
    }
}

/// What a layer consists of.
struct Order {
    order: Vec<(u32, Origin)>,
}

/// The numbers in a layer.
struct Numbers {
    /// Of those of the layer before, if they stay.
    before: Vec<Option<u32>>,
    /// Of the new ones.
    new: Vec<u32>,
}

impl Numbers {
    fn of_before(&self, number: u32) -> Result<Option<u32>, Error> {
        self.before.get(number as usize).copied().ok_or_else(beyond)
    }
}

impl Order {
    fn numbers(&self, before: usize, new: usize) -> Numbers {
        let mut numbers = Numbers {
            before: vec![None; before],
            new: vec![0; new],
        };
        for (now, (_, origin)) in (0_u32..).zip(&self.order) {
            match origin {
                Origin::Before(number) => numbers.before[*number as usize] = Some(now),
                Origin::New(place) => numbers.new[*place as usize] = now,
            }
        }
        numbers
    }
}

/// Writes shared customers by number.
#[derive(Default)]
pub(super) struct EntriesWriter<T> {
    columns: T,
    offsets: T,
    shared: T,
    search: T,
}

impl<T: Table> EntriesWriter<T> {
    pub(super) fn push(&mut self, column: &[u8], record: &[u8], text: &[u8]) -> Result<(), Error> {
        self.push_offsets()?;
        self.columns.push(column)?;
        self.shared.push(record)?;
        self.search.push(text)
    }

    fn push_offsets(&mut self) -> Result<(), Error> {
        self.offsets.push(&self.shared.bytes().to_be_bytes())?;
        self.offsets.push(&self.search.bytes().to_be_bytes())
    }

    fn complete(mut self) -> Result<[(&'static str, T); 4], Error> {
        self.push_offsets()?;
        Ok([
            ("columns", self.columns),
            ("offsets", self.offsets),
            ("shared", self.shared),
            ("search", self.search),
        ])
    }
}

impl EntriesWriter<Section> {
    fn finish(self) -> Result<Vec<Named>, Error> {
        Ok(self.complete()?.into())
    }
}

impl EntriesWriter<FileWriter> {
    pub(super) fn create(directory: &Path) -> Result<Self, Error> {
        let create = |name| FileWriter::create(directory, name);
        Ok(Self {
            columns: create("columns")?,
            offsets: create("offsets")?,
            shared: create("shared")?,
            search: create("search")?,
        })
    }

    pub(super) fn finish(self) -> Result<Vec<FileEntry>, Error> {
        let files = self.complete()?.into_iter();
        files.map(|(_, file)| file.finish()).collect()
    }
}

/// Writes my rows by id.
#[derive(Default)]
pub(super) struct MembersWriter<T> {
    members: T,
    offsets: T,
}

impl<T: Table> MembersWriter<T> {
    pub(super) fn push(&mut self, id: &[u8], number: u32, is_naming: bool) -> Result<(), Error> {
        let mut tail = [u8::from(is_naming); MEMBER_TAIL_BYTES];
        tail[..4].copy_from_slice(&number.to_be_bytes());
        self.offsets.push(&self.members.bytes().to_be_bytes())?;
        self.members.push(id)?;
        self.members.push(&tail)
    }
}

impl MembersWriter<Section> {
    fn finish(self) -> Vec<Named> {
        vec![("members", self.members), ("member_offsets", self.offsets)]
    }
}

impl MembersWriter<FileWriter> {
    pub(super) fn create(directory: &Path) -> Result<Self, Error> {
        Ok(Self {
            members: FileWriter::create(directory, "members")?,
            offsets: FileWriter::create(directory, "member_offsets")?,
        })
    }

    pub(super) fn finish(self) -> Result<Vec<FileEntry>, Error> {
        Ok(vec![self.members.finish()?, self.offsets.finish()?])
    }
}

#[cfg(test)]
mod tests {
    use super::{super::graph::KeyTypes, *};

    #[test]
    fn a_record_says_all_its_rows_however_many() {
        for count in [1, 2, 65_534, 65_535, 65_536, 70_000] {
            let ids: Vec<String> = (0..count).map(|number| format!("row{number}")).collect();
            let shared = NewShared {
                column: Column {
                    mine: 0,
                    theirs: 0,
                    key_types: KeyTypes::default(),
                    mutual: true,
                    first_matched: 0,
                },
                my_handle: [7; 16],
                name: "Acme".to_owned(),
                text: Vec::new(),
                ids: ids.iter().map(|id| Id::from(id.as_bytes())).collect(),
                fields: b"\x04fine".to_vec(),
            };
            let record = shared.record().unwrap();
            let stored = Stored::parse(&record).unwrap();
            assert_eq!(stored.ids, ids);
            assert_eq!((stored.handle, stored.name), ([7; 16], "Acme"));
            assert_eq!(stored.fields, b"\x04fine", "of {count} rows");
        }
    }
}
