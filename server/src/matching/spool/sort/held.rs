//! Records held in memory, sorted there.

/// What sorting spends on a record besides its bytes: its place, twice.
pub(super) const INDEX_BYTES: usize = 2 * size_of::<Place>();
/// Bytes of a record's length, which stands before it.
pub(super) const LENGTH_BYTES: usize = 2;
/// Places are first dealt into up to 2^so many buckets.
const MAX_BUCKET_BITS: u32 = 13;
/// Records that are fetched from memory together.
const FETCHED: usize = 32;
/// Bytes of a line of the cache.
const LINE_BYTES: usize = 64;

/// Leading eight bytes of a record and where it stands.
pub(super) type Place = (u64, u32);

/// Records one after the other, each behind its length.
#[derive(Default)]
pub(super) struct Held {
    bytes: Vec<u8>,
    records: usize,
    /// In sorted order, once sorted.
    places: Vec<Place>,
}

impl Held {
    /// Adds the concatenation of `parts`, which is `length` bytes.
    #[inline]
    pub(super) fn push(&mut self, length: u16, parts: &[&[u8]]) {
        self.bytes.extend_from_slice(&length.to_le_bytes());
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.records += 1;
    }

    pub(super) fn clear(&mut self) {
        self.read_into(0);
    }

    /// So many bytes to be overwritten with records, which are found when they are sorted.
    pub(super) fn read_into(&mut self, bytes: usize) -> &mut [u8] {
        self.places.clear();
        self.records = 0;
        self.bytes.resize(bytes, 0);
        &mut self.bytes
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.records == 0
    }

    pub(super) const fn len(&self) -> usize {
        self.records
    }

    /// Bytes of memory, with what sorting will take.
    #[inline]
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.len() + self.records * INDEX_BYTES
    }

    /// The records in the order they came in.
    pub(super) fn records(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (record, after) = split_record(rest)?;
            rest = after;
            Some(record)
        })
    }

    /// Record number `number` in sorted order.
    #[inline]
    pub(super) fn nth(&self, number: usize) -> Option<&[u8]> {
        if number.is_multiple_of(FETCHED) {
            self.fetch(number + FETCHED);
        }
        self.places.get(number).map(|&(_, at)| self.at(at))
    }

    #[inline]
    fn at(&self, at: u32) -> &[u8] {
        split_record(&self.bytes[at as usize..]).map_or(&[], |(record, _)| record)
    }

    /// Brings the records from `number` on into the cache. They lie anywhere: read one by one, each would be waited for.
    #[inline(never)]
    fn fetch(&self, number: usize) {
        let mut sum = 0;
        for (_, at) in self.places.iter().skip(number).take(FETCHED) {
            let start = *at as usize;
            let end = (start + LINE_BYTES).min(self.bytes.len() - 1);
            sum ^= self.bytes[start] ^ self.bytes[end];
        }
        std::hint::black_box(sum);
    }

    /// Sorts the records; `scratch` takes places meanwhile.
    pub(super) fn sort(&mut self, scratch: &mut Vec<Place>) {
        let mut places = std::mem::take(&mut self.places);
        self.find(&mut places);
        deal(&mut places, scratch, |bucket| {
            bucket.sort_unstable_by(|left, right| {
                left.0
                    .cmp(&right.0)
                    .then_with(|| self.at(left.1).cmp(self.at(right.1)))
            });
        });
        self.records = places.len();
        self.places = places;
    }

    fn find(&self, places: &mut Vec<Place>) {
        places.clear();
        places.reserve(self.records);
        let mut rest = self.bytes.as_slice();
        while let Some((record, after)) = split_record(rest) {
            places.push((leading(record), (self.bytes.len() - rest.len()) as u32));
            rest = after;
        }
    }
}

/// Deals places into buckets, every place of one before every place of the next, by the first bits in which they differ, and
/// sorts each bucket. Tags and hashes are uniform, so that a bucket has few places then.
fn deal(places: &mut Vec<Place>, scratch: &mut Vec<Place>, sort: impl Fn(&mut [Place])) {
    let Some(&(first, _)) = places.first() else {
        return;
    };
    let differing = places
        .iter()
        .fold(0, |differing, place| differing | (place.0 ^ first));
    let bits = places.len().ilog2().min(MAX_BUCKET_BITS);
    if bits == 0 || differing == 0 {
        sort(places);
        return;
    }
    // The bits above are the same in all.
    let shift = (u64::BITS - differing.leading_zeros()).saturating_sub(bits);
    let number = |place: &Place| (place.0 >> shift) as usize & ((1 << bits) - 1);
    let mut ends = [0_u32; 1 << MAX_BUCKET_BITS];
    let ends = &mut ends[..1 << bits];
    for place in places.iter() {
        ends[number(place)] += 1;
    }
    let mut sum = 0;
    for end in ends.iter_mut() {
        (*end, sum) = (sum, sum + *end);
    }
    scratch.clear();
    scratch.resize(places.len(), (0, 0));
    for place in places.iter() {
        let next = &mut ends[number(place)];
        scratch[*next as usize] = *place;
        *next += 1;
    }
    std::mem::swap(places, scratch);
    let mut start = 0;
    for end in ends {
        sort(&mut places[start..*end as usize]);
        start = *end as usize;
    }
}

/// The first record of some bytes and what stands behind it, if it is there as a whole.
#[inline]
pub(super) fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))
}

/// The first eight bytes as a number that sorts like them.
#[inline]
pub(super) fn leading(record: &[u8]) -> u64 {
    if let Some(head) = record.first_chunk() {
        return u64::from_be_bytes(*head);
    }
    let mut head = [0; 8];
    head[..record.len()].copy_from_slice(record);
    u64::from_be_bytes(head)
}
