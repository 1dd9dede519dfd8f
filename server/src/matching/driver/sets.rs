//! The sets of a run, streamed: queries in random order, own items, and entries cut into slices.

use std::{
    collections::VecDeque,
    fs::File,
    io::{BufWriter, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use overlap_crypto::{
    item::{Derived, Entry, Items, PADDING},
    list::{ListFlow, SliceLayout},
    plan::Queries,
    secrets::Secrets,
    terms::Tier,
};
use rand_chacha::ChaCha20Rng;
use rand_core::Rng as _;

use crate::{
    error::Error,
    matching::{
        compute::fresh_rng,
        delta::own::ChosenKey,
        failure::misused,
        local_customers::{KeyReader, KeyRef, LocalCustomers, StageTiers},
        spool::{SortedStream, Sorter, disk, new_file},
    },
};

/// Bytes of a spooled entry.
const ENTRY_BYTES: usize = 16 + 16 + 32 + KeyRef::BYTES;

/// Items and the keys they were made of: an item's owner is the position of its key.
pub(super) struct Batch {
    pub(super) items: Items,
    pub(super) keys: Vec<KeyRef>,
}

/// Reads the keys a flow is about, chunk by chunk.
pub(super) struct ItemSource {
    keys: SourceKeys,
    /// Keys and padding still to come.
    real: u64,
    padding: u64,
    flow: ListFlow,
    normaliser_version: u16,
    rng: ChaCha20Rng,
}

/// Where a flow's keys come from.
enum SourceKeys {
    /// All of some tiers.
    Tiers {
        keys: Box<KeyReader>,
        tiers: StageTiers,
        list: bool,
        count: bool,
    },
    Chosen(VecDeque<ChosenKey>),
}

impl ItemSource {
    /// What this side queries, padding strewn in at random. The keys themselves come in the run's random order.
    pub(super) fn queries(
        local: &LocalCustomers,
        flow: ListFlow,
        queries: Queries,
        normaliser_version: u16,
    ) -> Result<Self, Error> {
        let counts = local.key_counts();
        let real = u64::from(queries.list) * counts.list + u64::from(queries.count) * counts.count;
        Ok(Self {
            keys: SourceKeys::Tiers {
                keys: Box::new(local.keys()?),
                tiers: local.tiers().clone(),
                list: queries.list,
                count: queries.count,
            },
            real,
            padding: flow.queries.saturating_sub(real),
            flow,
            normaliser_version,
            rng: fresh_rng()?,
        })
    }

    /// What this side publishes: the keys of its listed customers.
    pub(super) fn own(
        local: &LocalCustomers,
        flow: ListFlow,
        normaliser_version: u16,
    ) -> Result<Self, Error> {
        Ok(Self {
            keys: SourceKeys::Tiers {
                keys: Box::new(local.keys()?),
                tiers: local.tiers().clone(),
                list: true,
                count: false,
            },
            real: local.key_counts().list,
            padding: 0,
            flow,
            normaliser_version,
            rng: fresh_rng()?,
        })
    }

    /// These keys, with padding strewn in.
    pub(super) fn chosen(
        flow: ListFlow,
        normaliser_version: u16,
        chosen: VecDeque<ChosenKey>,
        padding: u64,
    ) -> Result<Self, Error> {
        Ok(Self {
            real: chosen.len() as u64,
            keys: SourceKeys::Chosen(chosen),
            padding,
            flow,
            normaliser_version,
            rng: fresh_rng()?,
        })
    }

    /// Items still to come.
    pub(super) fn left(&self) -> u64 {
        self.real + self.padding
    }

    /// The next `count` items; fewer only at the end.
    pub(super) fn take(&mut self, count: usize) -> Result<Batch, Error> {
        let mut items = Items::with_capacity(self.flow.context, self.normaliser_version, count);
        let mut keys = Vec::with_capacity(count);
        while items.len() < count && self.left() > 0 {
            if self.padding > 0 && self.rng.next_u64() % self.left() < self.padding {
                items.push_padding(&mut self.rng);
                self.padding -= 1;
                continue;
            }
            let position =
                u32::try_from(keys.len()).map_err(|_| Error::internal("a long batch"))?;
            match &mut self.keys {
                SourceKeys::Chosen(chosen) => {
                    let ChosenKey { key, value } = chosen.pop_front().ok_or_else(too_few)?;
                    items
                        .push(position, key.key_type, &value)
                        .map_err(misused)?;
                    keys.push(key);
                    self.real -= 1;
                }
                SourceKeys::Tiers {
                    keys: reader,
                    tiers,
                    list,
                    count,
                } => {
                    let key = reader.next_key()?.ok_or_else(too_few)?;
                    let wanted = match tiers.tier(key.stage) {
                        Tier::List => *list,
                        Tier::Count => *count,
                        Tier::Hidden => false,
                    };
                    if wanted {
                        items
                            .push(position, key.key_type, key.value.as_bytes())
                            .map_err(misused)?;
                        keys.push(key.reference());
                        self.real -= 1;
                    }
                }
            }
        }
        Ok(Batch { items, keys })
    }
}

fn too_few() -> Error {
    Error::internal("there are fewer keys than were counted")
}

/// Spools entries so that sorting brings them into the order of tags: `tag || claim || master || key`, and ones in place of
/// the key of padding.
pub(super) fn push_entries(
    sorter: &mut Sorter,
    entries: &[Entry],
    keys: &[KeyRef],
) -> Result<(), Error> {
    for entry in entries {
        let key = (!is_padding(entry)).then(|| keys[entry.owner as usize]);
        push_entry(sorter, entry, key)?;
    }
    Ok(())
}

/// Spools an entry made of `key`, or padding; its owner does not matter.
pub(super) fn push_entry(
    sorter: &mut Sorter,
    entry: &Entry,
    key: Option<KeyRef>,
) -> Result<(), Error> {
    let derived = &entry.derived;
    let mut record = [0; ENTRY_BYTES];
    record[..16].copy_from_slice(&derived.tag);
    record[16..32].copy_from_slice(&derived.claim);
    record[32..64].copy_from_slice(&derived.master);
    record[64..].copy_from_slice(&key.map_or([0xff; KeyRef::BYTES], KeyRef::to_bytes));
    sorter.push(&[&record])
}

/// A spooled entry whose owner is the position of its key among all keys of the run, or padding.
pub(super) fn parse_entry(record: &[u8]) -> Result<Entry, Error> {
    let mut slice = SliceEntries::default();
    slice.push(record)?;
    let (entry, owner) = slice.with_positions().next().ok_or_else(malformed)?;
    Ok(Entry { owner, ..*entry })
}

/// The entries of a slice and the keys they were made of: an entry's owner is the position of its key, or padding.
#[derive(Default)]
pub(super) struct SliceEntries {
    pub(super) entries: Secrets<Entry>,
    pub(super) keys: Vec<KeyRef>,
}

impl SliceEntries {
    fn with_capacity(entries: usize) -> Self {
        Self {
            entries: Secrets::with_capacity(entries),
            keys: Vec::with_capacity(entries),
        }
    }

    /// The entries, each with the position of its key among all keys of the run, or padding.
    pub(super) fn with_positions(&self) -> impl Iterator<Item = (&Entry, u32)> {
        self.entries.iter().map(|entry| {
            let key = self.keys.get(entry.owner as usize);
            (entry, key.map_or(PADDING, |key| key.index))
        })
    }

    fn push(&mut self, record: &[u8]) -> Result<(), Error> {
        let (tag, rest) = record.split_first_chunk().ok_or_else(malformed)?;
        let (claim, rest) = rest.split_first_chunk().ok_or_else(malformed)?;
        let (master, key) = rest.split_first_chunk().ok_or_else(malformed)?;
        let key: &[u8; KeyRef::BYTES] = key.try_into().map_err(|_| malformed())?;
        let owner = if key == &[0xff; KeyRef::BYTES] {
            PADDING
        } else {
            self.keys.push(KeyRef::from_bytes(key)?);
            u32::try_from(self.keys.len() - 1).map_err(|_| malformed())?
        };
        self.entries.push(Entry {
            owner,
            derived: Derived {
                tag: *tag,
                claim: *claim,
                master: *master,
            },
        });
        Ok(())
    }
}

/// Cuts entries in the order of tags into slices.
pub(super) struct EntrySlices {
    stream: SortedStream,
    layout: SliceLayout,
    /// The first record of a later slice.
    ahead: Secrets<u8>,
    next: u32,
    /// Entries of the longest slice so far.
    longest: usize,
}

impl EntrySlices {
    pub(super) fn new(stream: SortedStream, layout: SliceLayout) -> Self {
        Self {
            stream,
            layout,
            ahead: Secrets::default(),
            next: 0,
            longest: 0,
        }
    }

    /// The entries of the next slice.
    pub(super) fn take(&mut self) -> Result<SliceEntries, Error> {
        let mut slice = SliceEntries::with_capacity(self.longest);
        let number = self.next;
        self.next += 1;
        if !self.ahead.is_empty() {
            if self.slice_of(&self.ahead)? != number {
                return Ok(SliceEntries::default());
            }
            slice.push(&self.ahead)?;
            self.ahead.clear();
        }
        while let Some(record) = self.stream.next_record()? {
            let tag = record.first_chunk().ok_or_else(malformed)?;
            if self.layout.slice_of(tag) != number {
                self.ahead.extend_from_slice(record);
                break;
            }
            slice.push(record)?;
        }
        self.longest = self.longest.max(slice.entries.len());
        Ok(slice)
    }

    fn slice_of(&self, record: &[u8]) -> Result<u32, Error> {
        Ok(self
            .layout
            .slice_of(record.first_chunk().ok_or_else(malformed)?))
    }
}

fn malformed() -> Error {
    Error::internal("a spooled entry is malformed")
}

/// Padding entries have no customer.
pub(super) const fn is_padding(entry: &Entry) -> bool {
    entry.owner == PADDING
}

/// Sealed slices, written once and read back one by one.
pub(super) struct SliceWriter {
    path: PathBuf,
    file: BufWriter<File>,
    starts: Vec<u64>,
    end: u64,
}

impl SliceWriter {
    pub(super) fn create(path: &Path) -> Result<Self, Error> {
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::with_capacity(1 << 18, new_file(path)?),
            starts: Vec::new(),
            end: 0,
        })
    }

    pub(super) fn push(&mut self, payload: &[u8]) -> Result<(), Error> {
        self.starts.push(self.end);
        self.end += payload.len() as u64;
        self.file
            .write_all(payload)
            .map_err(|error| disk(&self.path, &error))
    }

    pub(super) fn finish(mut self) -> Result<SliceFile, Error> {
        self.file
            .flush()
            .map_err(|error| disk(&self.path, &error))?;
        self.starts.push(self.end);
        let file = File::open(&self.path).map_err(|error| disk(&self.path, &error))?;
        Ok(SliceFile {
            path: self.path,
            file,
            starts: self.starts,
        })
    }
}

/// Reads sealed slices.
pub(super) struct SliceFile {
    path: PathBuf,
    file: File,
    starts: Vec<u64>,
}

impl SliceFile {
    pub(super) fn payload(&self, index: u32) -> Result<Vec<u8>, Error> {
        let index = index as usize;
        let (start, end) = (self.starts[index], self.starts[index + 1]);
        let length = usize::try_from(end - start).map_err(|_| Error::internal("a long slice"))?;
        let mut payload = vec![0; length];
        self.file
            .read_exact_at(&mut payload, start)
            .map_err(|error| disk(&self.path, &error))?;
        Ok(payload)
    }
}

/// The disclosed fields of my rows: one area of fixed length a row.
pub(super) struct FieldStore {
    path: PathBuf,
    file: Option<File>,
    area_bytes: usize,
}

impl FieldStore {
    /// Without shared fields.
    pub(super) const fn empty() -> Self {
        Self {
            path: PathBuf::new(),
            file: None,
            area_bytes: 0,
        }
    }

    /// Writes the areas that `fill` hands over, one a row, in the order of rows.
    pub(super) fn write(
        path: &Path,
        area_bytes: usize,
        fill: impl FnOnce(&mut dyn FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let mut file = BufWriter::with_capacity(1 << 16, new_file(path)?);
        fill(&mut |area| {
            debug_assert_eq!(area.len(), area_bytes);
            file.write_all(area).map_err(|error| disk(path, &error))
        })?;
        file.flush().map_err(|error| disk(path, &error))?;
        Ok(Self {
            file: Some(File::open(path).map_err(|error| disk(path, &error))?),
            path: path.to_owned(),
            area_bytes,
        })
    }

    /// The areas of some rows, back to back; zeros where there is no row.
    pub(super) fn areas(
        &self,
        rows: impl Iterator<Item = Option<u32>>,
    ) -> Result<FieldAreas, Error> {
        let mut bytes = Vec::new();
        if let Some(file) = &self.file {
            for row in rows {
                let start = bytes.len();
                bytes.resize(start + self.area_bytes, 0);
                let Some(row) = row else { continue };
                file.read_exact_at(&mut bytes[start..], u64::from(row) * self.area_bytes as u64)
                    .map_err(|error| disk(&self.path, &error))?;
            }
        }
        Ok(FieldAreas::new(bytes, self.area_bytes))
    }
}

/// Fields of a batch of customers.
pub(super) struct FieldAreas {
    bytes: Vec<u8>,
    area_bytes: usize,
}

impl FieldAreas {
    /// Areas of this length, back to back.
    pub(super) const fn new(bytes: Vec<u8>, area_bytes: usize) -> Self {
        Self { bytes, area_bytes }
    }

    /// The area of the customer that was asked for at this place.
    pub(super) fn at(&self, index: usize) -> &[u8] {
        &self.bytes[index * self.area_bytes..(index + 1) * self.area_bytes]
    }
}
