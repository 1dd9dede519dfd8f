//! Makes a new base of a result: of its base and the layer over it.

use std::path::Path;

use super::{
    files::{FileEntry, FileWriter, ResultFile, Table as _, beyond},
    layer::{EntriesWriter, MembersWriter},
    members::Member,
    part::{HANDLE_RECORD_BYTES, Part, number_of},
    reader::{Layer, ResultSet},
    writer::Manifest,
};
use crate::{error::Error, matching::spool::sync_directory};

/// Records that are read in one go.
const BLOCK: u64 = 8192;
/// Stands for a number of the base that is hidden.
const HIDDEN: u32 = u32::MAX;

/// Where a shared customer of a merged result was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Merged {
    Base(u32),
    Layer(u32),
}

fn short(number: u64) -> Result<u32, Error> {
    u32::try_from(number).map_err(|_| Error::internal("more than 2^32 shared customers"))
}

/// The numbers that shared customers have after the merge.
struct Numbers {
    base: Vec<u32>,
    layer: Vec<u32>,
}

impl Numbers {
    /// Of one of the base, unless it is hidden.
    fn of_base(&self, before: u32) -> Result<Option<u32>, Error> {
        let now = self.base.get(before as usize).ok_or_else(beyond)?;
        Ok((*now != HIDDEN).then_some(*now))
    }

    fn of_layer(&self, before: u32) -> Result<u32, Error> {
        self.layer.get(before as usize).copied().ok_or_else(beyond)
    }
}

impl ResultSet {
    /// Writes the result as a base without a layer, and says where each shared customer was, by number. `manifest` is its own,
    /// and `source` the directory of its files.
    ///
    /// # Errors
    /// `STORAGE_FAILED` if a file of the base is not as it was written: the new base would make the damage its own. What the
    /// file system reports.
    pub(crate) fn merge(
        &self,
        manifest: &Manifest,
        source: &Path,
        directory: &Path,
    ) -> Result<(Manifest, Vec<Merged>), Error> {
        for entry in &manifest.files {
            ResultFile::open(source, entry)?.check(entry)?;
        }
        let layer = self
            .layer
            .as_ref()
            .ok_or_else(|| Error::internal("a result without a layer is a base"))?;
        let order = order(&self.base, layer)?;
        let mut now = Numbers {
            base: vec![HIDDEN; usize::try_from(self.base.len()).unwrap_or(0)],
            layer: vec![HIDDEN; layer.gaps.len()],
        };
        for (number, place) in (0_u32..).zip(&order) {
            match place {
                Merged::Base(before) => now.base[*before as usize] = number,
                Merged::Layer(before) => now.layer[*before as usize] = number,
            }
        }
        let mut files = merge_entries(directory, &self.base, &layer.part, &order)?;
        files.extend(merge_members(directory, &self.base, &layer.part, &now)?);
        files.push(merge_handles(directory, &self.base, &layer.part, &now)?);
        files.push(self.merge_matched(directory, layer)?);
        sync_directory(directory)?;
        let merged = Manifest {
            files,
            shared: order.len() as u64,
            salt: manifest.salt.clone(),
            layer: None,
        };
        Ok((merged, order))
    }

    fn merge_matched(&self, directory: &Path, layer: &Layer) -> Result<FileEntry, Error> {
        let mut file = FileWriter::create(directory, "matched_keys")?;
        let changes = layer.matched_keys.range(0, layer.matched_keys.bytes())?;
        let mut changes = changes.as_chunks::<17>().0.iter().peekable();
        let mut changed = |until: Option<&[u8; 16]>, file: &mut FileWriter| {
            let mut same = false;
            while let Some(change) =
                changes.next_if(|change| until.is_none_or(|until| change[..16] <= until[..]))
            {
                same = until.is_some_and(|until| change[..16] == until[..]);
                if change[16] == 1 {
                    file.push(&change[..16])?;
                }
            }
            Ok::<_, Error>(same)
        };
        let count = self.matched_keys.bytes() / 16;
        let mut start = 0;
        while start < count {
            let end = (start + BLOCK).min(count);
            let bytes = self.matched_keys.range(start * 16, end * 16)?;
            for hash in bytes.as_chunks::<16>().0 {
                if !changed(Some(hash), &mut file)? {
                    file.push(hash)?;
                }
            }
            start = end;
        }
        changed(None, &mut file)?;
        file.finish()
    }
}

/// What is visible, in the order of ids.
fn order(base: &Part, layer: &Layer) -> Result<Vec<Merged>, Error> {
    let mut order = Vec::new();
    let mut hidden = layer.hidden.iter().copied().peekable();
    let mut gaps = (0_u32..).zip(layer.gaps.iter().copied()).peekable();
    for number in 0..short(base.len())? {
        while let Some((place, _)) = gaps.next_if(|(_, gap)| *gap <= number) {
            order.push(Merged::Layer(place));
        }
        if hidden.next_if_eq(&number).is_none() {
            order.push(Merged::Base(number));
        }
    }
    order.extend(gaps.map(|(place, _)| Merged::Layer(place)));
    Ok(order)
}

fn merge_entries(
    directory: &Path,
    base: &Part,
    layer: &Part,
    order: &[Merged],
) -> Result<Vec<FileEntry>, Error> {
    let mut writer = EntriesWriter::create(directory)?;
    let (mut in_base, mut in_layer) = (base.records()?, layer.records()?);
    for place in order {
        let (column, record, text) = match place {
            Merged::Base(number) => in_base.get(*number)?,
            Merged::Layer(number) => in_layer.get(*number)?,
        };
        writer.push(column, record, text)?;
    }
    writer.finish()
}

fn merge_members(
    directory: &Path,
    base: &Part,
    layer: &Part,
    now: &Numbers,
) -> Result<Vec<FileEntry>, Error> {
    let mut writer = MembersWriter::create(directory)?;
    let over = layer.all_members()?;
    let mut over = over.iter().peekable();
    let push_over = |member: Member<'_>, writer: &mut MembersWriter<FileWriter>| {
        writer.push(member.id, now.of_layer(member.number)?, member.is_naming)
    };
    base.visit_members(&mut |member| {
        let Some(number) = now.of_base(member.number)? else {
            return Ok(());
        };
        // A record that is malformed comes first, and is reported.
        while let Some(other) =
            over.next_if(|other| other.as_ref().map_or(true, |other| other.id < member.id))
        {
            push_over(other?, &mut writer)?;
        }
        writer.push(member.id, number, member.is_naming)
    })?;
    for other in over {
        push_over(other?, &mut writer)?;
    }
    writer.finish()
}

fn merge_handles(
    directory: &Path,
    base: &Part,
    layer: &Part,
    now: &Numbers,
) -> Result<FileEntry, Error> {
    let mut file = FileWriter::create(directory, "handles")?;
    let mut push = |record: &[u8; HANDLE_RECORD_BYTES], number: u32| {
        file.push(&record[..HANDLE_RECORD_BYTES - 4])?;
        file.push(&number.to_be_bytes())
    };
    let over = layer.handles().range(0, layer.handles().bytes())?;
    let mut over = over.as_chunks::<HANDLE_RECORD_BYTES>().0.iter().peekable();
    let count = base.handles().bytes() / HANDLE_RECORD_BYTES as u64;
    let mut start = 0;
    while start < count {
        let end = (start + BLOCK).min(count);
        let bytes = HANDLE_RECORD_BYTES as u64;
        let records = base.handles().range(start * bytes, end * bytes)?;
        for record in records.as_chunks::<HANDLE_RECORD_BYTES>().0 {
            let Some(number) = now.of_base(number_of(record))? else {
                continue;
            };
            while let Some(other) = over.next_if(|other| *other < record) {
                push(other, now.of_layer(number_of(other))?)?;
            }
            push(record, number)?;
        }
        start = end;
    }
    for other in over {
        push(other, now.of_layer(number_of(other))?)?;
    }
    file.finish()
}
