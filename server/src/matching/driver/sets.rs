//! The sets of a run, streamed: queries in random order, own items, and entries cut into slices.

use std::{
    fs::File,
    io::{BufWriter, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
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
        failure::misused,
        local_customers::{KeyReader, LocalCustomers},
        spool::{SortedStream, Sorter, disk, new_file},
    },
};

/// Bytes of a spooled entry.
const ENTRY_BYTES: usize = 16 + 16 + 32 + 4;

/// Reads the keys a flow is about, chunk by chunk.
pub(super) struct ItemSource {
    local: Arc<LocalCustomers>,
    keys: KeyReader,
    list: bool,
    count: bool,
    /// Keys and padding still to come.
    real: u64,
    padding: u64,
    flow: ListFlow,
    normaliser_version: u16,
    rng: ChaCha20Rng,
}

impl ItemSource {
    /// What this side queries, padding strewn in at random. The keys themselves come in the run's random order.
    pub(super) fn queries(
        local: &Arc<LocalCustomers>,
        flow: ListFlow,
        queries: Queries,
        normaliser_version: u16,
    ) -> Result<Self, Error> {
        let counts = local.key_counts();
        let real = u64::from(queries.list) * counts.list + u64::from(queries.count) * counts.count;
        Ok(Self {
            keys: local.keys()?,
            local: Arc::clone(local),
            list: queries.list,
            count: queries.count,
            real,
            padding: flow.queries.saturating_sub(real),
            flow,
            normaliser_version,
            rng: fresh_rng()?,
        })
    }

    /// What this side publishes: the keys of its listed customers.
    pub(super) fn own(
        local: &Arc<LocalCustomers>,
        flow: ListFlow,
        normaliser_version: u16,
    ) -> Result<Self, Error> {
        Ok(Self {
            keys: local.keys()?,
            local: Arc::clone(local),
            list: true,
            count: false,
            real: local.key_counts().list,
            padding: 0,
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
    pub(super) fn take(&mut self, count: usize) -> Result<Items, Error> {
        let mut items = Items::with_capacity(self.flow.context, self.normaliser_version, count);
        while items.len() < count && self.left() > 0 {
            if self.padding > 0 && self.rng.next_u64() % self.left() < self.padding {
                items.push_padding(&mut self.rng);
                self.padding -= 1;
                continue;
            }
            let Some(key) = self.keys.next_key()? else {
                return Err(Error::internal("there are fewer keys than were counted"));
            };
            let wanted = match self.local.tier(key.customer) {
                Tier::List => self.list,
                Tier::Count => self.count,
                Tier::Hidden => false,
            };
            if wanted {
                items
                    .push(key.index, key.key_type, key.value.as_bytes())
                    .map_err(misused)?;
                self.real -= 1;
            }
        }
        Ok(items)
    }
}

/// Spools an entry so that sorting brings it into the order of tags.
pub(super) fn push_entry(sorter: &mut Sorter, entry: &Entry) -> Result<(), Error> {
    sorter.push(&[
        &entry.derived.tag,
        &entry.derived.claim,
        &entry.derived.master,
        &entry.owner.to_be_bytes(),
    ])
}

fn parse_entry(record: &[u8]) -> Result<Entry, Error> {
    let record: &[u8; ENTRY_BYTES] = record
        .try_into()
        .map_err(|_| Error::internal("a spooled entry is malformed"))?;
    let mut derived = Derived {
        tag: [0; 16],
        claim: [0; 16],
        master: [0; 32],
    };
    derived.tag.copy_from_slice(&record[..16]);
    derived.claim.copy_from_slice(&record[16..32]);
    derived.master.copy_from_slice(&record[32..64]);
    let owner = u32::from_be_bytes(record[64..].try_into().expect("four bytes"));
    Ok(Entry { owner, derived })
}

/// Cuts entries in the order of tags into slices.
pub(super) struct EntrySlices {
    stream: SortedStream,
    layout: SliceLayout,
    ahead: Option<Entry>,
    next: u32,
}

impl EntrySlices {
    pub(super) fn new(stream: SortedStream, layout: SliceLayout) -> Self {
        Self {
            stream,
            layout,
            ahead: None,
            next: 0,
        }
    }

    /// The entries of the next slice.
    pub(super) fn take(&mut self) -> Result<Secrets<Entry>, Error> {
        let mut entries = Secrets::default();
        loop {
            if self.ahead.is_none() {
                self.ahead = self.stream.next_record()?.map(parse_entry).transpose()?;
            }
            match &self.ahead {
                Some(entry) if self.layout.slice_of(&entry.derived.tag) == self.next => {
                    entries.push(*entry);
                    self.ahead = None;
                }
                _ => break,
            }
        }
        self.next += 1;
        Ok(entries)
    }
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

    /// The areas of some rows, back to back.
    pub(super) fn areas(&self, rows: impl Iterator<Item = u32>) -> Result<FieldAreas, Error> {
        let mut bytes = Vec::new();
        if let Some(file) = &self.file {
            for row in rows {
                let start = bytes.len();
                bytes.resize(start + self.area_bytes, 0);
                file.read_exact_at(&mut bytes[start..], u64::from(row) * self.area_bytes as u64)
                    .map_err(|error| disk(&self.path, &error))?;
            }
        }
        Ok(FieldAreas {
            bytes,
            area_bytes: self.area_bytes,
        })
    }
}

/// Fields of a batch of customers.
pub(super) struct FieldAreas {
    bytes: Vec<u8>,
    area_bytes: usize,
}

impl FieldAreas {
    /// The area of the customer that was asked for at this place.
    pub(super) fn at(&self, index: usize) -> &[u8] {
        &self.bytes[index * self.area_bytes..(index + 1) * self.area_bytes]
    }
}
