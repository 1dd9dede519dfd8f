//! Which of my rows are one customer, and which keys stand for it (PROTOCOL.md "Customers").

use std::path::{Path, PathBuf};

use overlap_crypto::terms::{KeyType, Tier};
use ring::digest;
use rusqlite::Connection;

use super::spool::{RecordFile, RecordReader, RecordWriter, Sorter};
use crate::{
    customers::rows::{Disclosure, scan_disclosed},
    error::{Error, Reason},
    sharing::policy::{Agreement, Policy, Stage},
};

/// A key on more of my rows than this names nobody and is not used (AMBIGUOUS_KEY).
pub const MAX_ROWS_A_KEY: usize = 32;
/// More stages than any lifecycle has; a stage index fits a byte.
pub const MAX_STAGES: usize = 250;
/// Bytes of the salted hash that groups equal keys.
const GROUP_BYTES: usize = 16;

/// My stages by ascending ordinal (ties: id), with what the partner may learn of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageTiers {
    stages: Vec<(Stage, Tier)>,
}

impl StageTiers {
    /// The stages of one side under its policy.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for more than [`MAX_STAGES`].
    pub fn new(stages: &[Stage], policy: &Policy) -> Result<Self, Error> {
        if stages.len() > MAX_STAGES {
            return Err(Error::invalid(
                "stages",
                format!("at most {MAX_STAGES} stages can be matched"),
            ));
        }
        let mut stages: Vec<(Stage, Tier)> = stages
            .iter()
            .map(|stage| (stage.clone(), policy.tier(&stage.id)))
            .collect();
        stages.sort_by(|(left, _), (right, _)| {
            (left.ordinal, &left.id).cmp(&(right.ordinal, &right.id))
        });
        Ok(Self { stages })
    }

    /// My side of an agreement.
    ///
    /// # Errors
    /// As [`StageTiers::new`].
    pub fn mine(agreement: &Agreement) -> Result<Self, Error> {
        Self::new(&agreement.my_stages, &agreement.mine)
    }

    /// The partner's side of an agreement.
    ///
    /// # Errors
    /// As [`StageTiers::new`].
    pub fn theirs(agreement: &Agreement) -> Result<Self, Error> {
        Self::new(&agreement.their_stages, &agreement.theirs)
    }

    /// Number of stages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.stages.len()
    }

    /// Whether there is no stage.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// The stage at `index`, if there is one.
    #[must_use]
    pub fn stage(&self, index: u8) -> Option<&Stage> {
        self.stages.get(usize::from(index)).map(|(stage, _)| stage)
    }

    /// The tier of the stage at `index`; hidden if there is none.
    #[must_use]
    pub fn tier(&self, index: u8) -> Tier {
        self.stages
            .get(usize::from(index))
            .map_or(Tier::Hidden, |(_, tier)| *tier)
    }

    /// The index of the stage with this id.
    #[must_use]
    pub fn index_of(&self, id: &str) -> Option<u8> {
        let index = self.stages.iter().position(|(stage, _)| stage.id == id)?;
        u8::try_from(index).ok()
    }

    /// Every stage with its index and tier, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &Stage, Tier)> {
        (0_u8..)
            .zip(&self.stages)
            .map(|(index, (stage, tier))| (index, stage, *tier))
    }

    /// The indexes of the stages with this tier.
    pub fn with_tier(&self, tier: Tier) -> impl Iterator<Item = u8> {
        self.iter()
            .filter(move |(_, _, own)| *own == tier)
            .map(|(index, _, _)| index)
    }

    /// The number by which a disclosed stage is named on the wire: its position among the disclosed stages.
    #[must_use]
    pub fn wire_code(&self, index: u8) -> Option<u8> {
        if self.tier(index) == Tier::Hidden {
            return None;
        }
        let before = self
            .iter()
            .filter(|(other, _, tier)| *other < index && *tier != Tier::Hidden)
            .count();
        u8::try_from(before).ok()
    }

    /// The stage that a number on the wire names.
    #[must_use]
    pub fn from_wire_code(&self, code: u8) -> Option<u8> {
        self.iter()
            .filter(|(_, _, tier)| *tier != Tier::Hidden)
            .nth(usize::from(code))
            .map(|(index, _, _)| index)
    }

    /// Whether any stage has this tier.
    #[must_use]
    pub fn has(&self, tier: Tier) -> bool {
        self.with_tier(tier).next().is_some()
    }

    /// The ids of the stages that are not hidden.
    #[must_use]
    pub fn disclosed(&self) -> Vec<&str> {
        self.iter()
            .filter(|(_, _, tier)| *tier != Tier::Hidden)
            .map(|(_, stage, _)| stage.id.as_str())
            .collect()
    }
}

/// How much a run may hold and use.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotLimits {
    /// Keys of one run.
    pub max_keys: u64,
    /// Bytes of a sorter's buffer.
    pub sort_bytes: usize,
}

/// My customers as one run sees them.
///
/// Rows are numbered in ascending order of their ids; a local customer is named by its row of highest stage (ties: smallest id).
pub struct LocalCustomers {
    tiers: StageTiers,
    /// The stage of each row.
    stage_of_row: Vec<u8>,
    /// The naming row of each row's customer.
    customer_of_row: Vec<u32>,
    /// The customer of each key.
    customer_of_key: Vec<u32>,
    /// The code of each key's type.
    type_of_key: Vec<u8>,
    ids: RecordFile,
    keys: RecordFile,
    salt: [u8; 32],
    counts: KeyCounts,
    customers_by_stage: Vec<u64>,
    ambiguous_keys: u64,
}

/// Keys by the tier of their customer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyCounts {
    /// Keys of customers in listed stages.
    pub list: u64,
    /// Keys of customers in counted stages.
    pub count: u64,
}

/// One usable key of a local customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<'a> {
    /// Position among all keys of the run, which is random per run.
    pub index: u32,
    /// The naming row of its customer.
    pub customer: u32,
    /// Its kind.
    pub key_type: KeyType,
    /// Its normalised value.
    pub value: &'a str,
}

impl LocalCustomers {
    /// Reads the disclosed rows of one snapshot of the store and merges them. Hidden rows are left out by the storage query.
    ///
    /// `salt` is fresh randomness: the order of the keys follows from it.
    ///
    /// # Errors
    /// `SET_TOO_LARGE`; what the store or the file system reports.
    pub fn read(
        connection: &Connection,
        agreement: &Agreement,
        key_types: &[KeyType],
        directory: &Path,
        salt: [u8; 32],
        limits: SnapshotLimits,
    ) -> Result<Self, Error> {
        let tiers = StageTiers::mine(agreement)?;
        let disclosed: Vec<String> = tiers.disclosed().into_iter().map(str::to_owned).collect();
        let stages: Vec<&str> = disclosed.iter().map(String::as_str).collect();
        let mut builder = Builder::new(tiers, directory, salt, limits)?;
        if !stages.is_empty() {
            let disclosure = Disclosure {
                stages: &stages,
                key_types,
                domain_from_email: agreement.mine.domain_from_email,
            };
            scan_disclosed(connection, &disclosure, &mut |row| {
                builder.push(row.id, row.stage, row.keys)
            })?;
        }
        builder.finish()
    }

    /// My stages and their tiers.
    #[must_use]
    pub fn tiers(&self) -> &StageTiers {
        &self.tiers
    }

    /// Number of disclosed rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.stage_of_row.len()
    }

    /// The stage of a local customer.
    #[must_use]
    pub fn stage(&self, customer: u32) -> u8 {
        self.stage_of_row[customer as usize]
    }

    /// The tier of a local customer.
    #[must_use]
    pub fn tier(&self, customer: u32) -> Tier {
        self.tiers.tier(self.stage(customer))
    }

    /// The local customer that row `row` belongs to.
    #[must_use]
    pub fn customer(&self, row: u32) -> u32 {
        self.customer_of_row[row as usize]
    }

    /// The local customer of key `index`.
    ///
    /// # Panics
    /// If there is no such key.
    #[must_use]
    pub fn customer_of_key(&self, index: u32) -> u32 {
        self.customer_of_key[index as usize]
    }

    /// The kind of key `index`.
    ///
    /// # Panics
    /// If there is no such key.
    #[must_use]
    pub fn type_of_key(&self, index: u32) -> KeyType {
        KeyType::from_code(self.type_of_key[index as usize])
            .expect("the codes were written from key types")
    }

    /// How many keys take part, by tier.
    #[must_use]
    pub fn key_counts(&self) -> KeyCounts {
        self.counts
    }

    /// How many local customers with a usable key there are, by stage.
    #[must_use]
    pub fn customers_by_stage(&self) -> &[u64] {
        &self.customers_by_stage
    }

    /// How many keys were left out because they stand on too many rows.
    #[must_use]
    pub fn ambiguous_keys(&self) -> u64 {
        self.ambiguous_keys
    }

    /// Streams the keys in the run's random order.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn keys(&self) -> Result<KeyReader, Error> {
        Ok(KeyReader {
            records: self.keys.reader()?,
            next: 0,
        })
    }

    /// Streams the rows' ids in ascending order.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn ids(&self) -> Result<RecordReader, Error> {
        self.ids.reader()
    }

    /// The salted hash under which a key is grouped and remembered within this run.
    #[must_use]
    pub fn key_hash(&self, key_type: KeyType, value: &str) -> [u8; GROUP_BYTES] {
        key_hash(&self.salt, key_type, value)
    }
}

/// The salted hash of a key.
#[must_use]
pub fn key_hash(salt: &[u8; 32], key_type: KeyType, value: &str) -> [u8; GROUP_BYTES] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(salt);
    context.update(&[key_type.code()]);
    context.update(value.as_bytes());
    let hash = context.finish();
    hash.as_ref()[..GROUP_BYTES]
        .try_into()
        .expect("a SHA-256 hash is longer")
}

/// Streams keys.
pub struct KeyReader {
    records: RecordReader,
    next: u32,
}

impl KeyReader {
    /// The next key, or `None` after the last.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn next_key(&mut self) -> Result<Option<Key<'_>>, Error> {
        let index = self.next;
        let Some(record) = self.records.next_record()? else {
            return Ok(None);
        };
        self.next += 1;
        let malformed = || Error::internal("a key record is malformed");
        let (head, value) = record.split_at_checked(5).ok_or_else(malformed)?;
        Ok(Some(Key {
            index,
            customer: u32::from_be_bytes(head[..4].try_into().expect("four bytes")),
            key_type: KeyType::from_code(head[4]).ok_or_else(malformed)?,
            value: std::str::from_utf8(value).map_err(|_| malformed())?,
        }))
    }
}

/// Merges rows that are handed in by ascending id.
pub struct Builder {
    tiers: StageTiers,
    directory: PathBuf,
    salt: [u8; 32],
    limits: SnapshotLimits,
    stage_of_row: Vec<u8>,
    ids: RecordWriter,
    grouped: Sorter,
    last_id: String,
}

impl Builder {
    /// Starts with no rows; files go to `directory`.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn new(
        tiers: StageTiers,
        directory: &Path,
        salt: [u8; 32],
        limits: SnapshotLimits,
    ) -> Result<Self, Error> {
        Ok(Self {
            tiers,
            directory: directory.to_owned(),
            salt,
            limits,
            stage_of_row: Vec::new(),
            ids: RecordWriter::create(&directory.join("ids"))?,
            grouped: Sorter::new(directory, "grouped", limits.sort_bytes),
            last_id: String::new(),
        })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// `SET_TOO_LARGE`; what the file system reports; `INTERNAL` if the row is hidden or out of order.
    pub fn push(&mut self, id: &str, stage: &str, keys: &[(KeyType, String)]) -> Result<(), Error> {
        let stage = self
            .tiers
            .index_of(stage)
            .filter(|&stage| self.tiers.tier(stage) != Tier::Hidden)
            .ok_or_else(|| Error::internal("a row of a hidden stage was read"))?;
        if !self.stage_of_row.is_empty() && id <= self.last_id.as_str() {
            return Err(Error::internal("rows were not read in the order of ids"));
        }
        self.last_id.clear();
        self.last_id.push_str(id);
        let row = u32::try_from(self.stage_of_row.len()).map_err(|_| self.too_large())?;
        self.stage_of_row.push(stage);
        self.ids.push(&[id.as_bytes()])?;
        for (key_type, value) in keys {
            self.grouped.push(&[
                &key_hash(&self.salt, *key_type, value),
                &row.to_be_bytes(),
                &[key_type.code()],
                value.as_bytes(),
            ])?;
        }
        if self.grouped.len() > self.limits.max_keys {
            return Err(self.too_large());
        }
        Ok(())
    }

    fn too_large(&self) -> Error {
        Error::new(
            Reason::SetTooLarge,
            format!(
                "more than {} keys are disclosed: raise the node's limit or disclose fewer stages or key types",
                self.limits.max_keys
            ),
        )
        .with("max_keys", self.limits.max_keys)
    }

    /// Merges the rows that share a key.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn finish(self) -> Result<LocalCustomers, Error> {
        let mut sets = DisjointSets::new(self.stage_of_row.len());
        let mut groups = Groups {
            keys: RecordWriter::create(&self.directory.join("unmerged"))?,
            ambiguous: 0,
            hash: [0; GROUP_BYTES],
            rows: Vec::with_capacity(MAX_ROWS_A_KEY + 1),
            key: Vec::new(),
        };
        let sorted = self.grouped.finish()?;
        let mut stream = sorted.stream()?;
        while let Some(record) = stream.next_record()? {
            groups.push(record, &mut sets)?;
        }
        groups.end(&mut sets)?;
        drop((stream, sorted));

        let customer_of_row = sets.name_by(&self.stage_of_row);
        let mut snapshot = LocalCustomers {
            stage_of_row: self.stage_of_row,
            customer_of_row,
            customer_of_key: Vec::new(),
            type_of_key: Vec::new(),
            ids: self.ids.finish()?,
            keys: groups.keys.finish()?,
            salt: self.salt,
            counts: KeyCounts::default(),
            customers_by_stage: vec![0; self.tiers.len()],
            ambiguous_keys: groups.ambiguous,
            tiers: self.tiers,
        };
        snapshot.name_keys(&self.directory)?;
        Ok(snapshot)
    }
}

/// Groups the sorted (hash, row, type, value) records.
struct Groups {
    keys: RecordWriter,
    ambiguous: u64,
    hash: [u8; GROUP_BYTES],
    rows: Vec<u32>,
    /// Type and value of the group.
    key: Vec<u8>,
}

impl Groups {
    fn push(&mut self, record: &[u8], sets: &mut DisjointSets) -> Result<(), Error> {
        let (hash, rest) = record.split_at(GROUP_BYTES);
        let (row, key) = rest.split_at(4);
        if hash != self.hash || self.rows.is_empty() {
            self.end(sets)?;
            self.hash.copy_from_slice(hash);
            self.key.clear();
            self.key.extend_from_slice(key);
        }
        let row = u32::from_be_bytes(row.try_into().expect("four bytes"));
        // Rows of a group come in ascending order.
        if self.rows.last() != Some(&row) && self.rows.len() <= MAX_ROWS_A_KEY {
            self.rows.push(row);
        }
        Ok(())
    }

    fn end(&mut self, sets: &mut DisjointSets) -> Result<(), Error> {
        if self.rows.len() > MAX_ROWS_A_KEY {
            self.ambiguous += 1;
        } else if let Some((&first, others)) = self.rows.split_first() {
            for &other in others {
                sets.union(first, other);
            }
            self.keys.push(&[&first.to_be_bytes(), &self.key])?;
        }
        self.rows.clear();
        Ok(())
    }
}

impl LocalCustomers {
    /// Replaces a row of each key by the row that names its customer, and counts.
    fn name_keys(&mut self, directory: &Path) -> Result<(), Error> {
        let mut with_key = vec![false; self.stage_of_row.len()];
        let mut named = RecordWriter::create(&directory.join("keys"))?;
        let keys = usize::try_from(self.keys.len()).unwrap_or(0);
        self.customer_of_key.reserve_exact(keys);
        self.type_of_key.reserve_exact(keys);
        let mut reader = self.keys.reader()?;
        while let Some(record) = reader.next_record()? {
            let (row, key) = record.split_at(4);
            let row = u32::from_be_bytes(row.try_into().expect("four bytes"));
            let customer = self.customer_of_row[row as usize];
            named.push(&[&customer.to_be_bytes(), key])?;
            self.customer_of_key.push(customer);
            self.type_of_key.push(key[0]);
            match self.tiers.tier(self.stage_of_row[customer as usize]) {
                Tier::List => self.counts.list += 1,
                Tier::Count => self.counts.count += 1,
                Tier::Hidden => return Err(Error::internal("a hidden row was read")),
            }
            if !std::mem::replace(&mut with_key[customer as usize], true) {
                let stage = self.stage_of_row[customer as usize];
                self.customers_by_stage[usize::from(stage)] += 1;
            }
        }
        self.keys = named.finish()?;
        Ok(())
    }
}

/// Union-find over dense numbers.
pub(crate) struct DisjointSets(Vec<u32>);

impl DisjointSets {
    pub(crate) fn new(count: usize) -> Self {
        Self((0..u32::try_from(count).expect("at most 2^32 rows")).collect())
    }

    /// Adds an element with the next number.
    pub(crate) fn push(&mut self) {
        self.0
            .push(u32::try_from(self.0.len()).expect("at most 2^32 elements"));
    }

    pub(crate) fn find(&mut self, mut element: u32) -> u32 {
        loop {
            let parent = self.0[element as usize];
            if parent == element {
                return element;
            }
            let grandparent = self.0[parent as usize];
            self.0[element as usize] = grandparent;
            element = grandparent;
        }
    }

    /// Joins two sets; the smaller number becomes the root.
    pub(crate) fn union(&mut self, left: u32, right: u32) {
        let (left, right) = (self.find(left), self.find(right));
        let (low, high) = (left.min(right), left.max(right));
        self.0[high as usize] = low;
    }

    /// For each element the one of highest rank (ties: smallest number) of its set.
    fn name_by(mut self, rank: &[u8]) -> Vec<u32> {
        let count = u32::try_from(rank.len()).expect("at most 2^32 rows");
        let mut best: Vec<u32> = (0..count).collect();
        for element in 0..count {
            let root = self.find(element) as usize;
            // Ascending: the first of a rank stays.
            if rank[element as usize] > rank[best[root] as usize] {
                best[root] = element;
            }
        }
        for element in 0..count {
            let root = self.find(element);
            self.0[element as usize] = root;
        }
        for name in &mut self.0 {
            *name = best[*name as usize];
        }
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::sharing::policy::StageCategory;

    fn tiers() -> StageTiers {
        let stage = |id: &str, ordinal| Stage {
            id: id.to_owned(),
            label: String::new(),
            ordinal,
            category: StageCategory::Open,
        };
        let policy = Policy {
            tiers: BTreeMap::from([
                ("Prospect".to_owned(), Tier::List),
                ("Customer".to_owned(), Tier::Count),
            ]),
            shared_fields: Vec::new(),
            timeline: false,
            match_on: vec![KeyType::Email],
            domain_from_email: false,
            min_count: 5,
            count_by_count: false,
            label_field_bytes: 0,
            padding: 0,
            max_evaluations_per_epoch: 1,
            min_interval_s: 0,
        };
        StageTiers::new(
            &[
                stage("Customer", 40),
                stage("Prospect", 10),
                stage("Lost", 50),
            ],
            &policy,
        )
        .unwrap()
    }

    const LIMITS: SnapshotLimits = SnapshotLimits {
        max_keys: 1_000,
        sort_bytes: 1 << 16,
    };

    fn build(rows: &[(&str, &str, &[&str])]) -> (LocalCustomers, Vec<(u32, String)>) {
        let directory = tempfile::tempdir().unwrap();
        let mut builder = Builder::new(tiers(), directory.path(), [7; 32], LIMITS).unwrap();
        for (id, stage, emails) in rows {
            let keys: Vec<_> = emails
                .iter()
                .map(|email| (KeyType::Email, (*email).to_owned()))
                .collect();
            builder.push(id, stage, &keys).unwrap();
        }
        let snapshot = builder.finish().unwrap();
        let mut keys = Vec::new();
        let mut reader = snapshot.keys().unwrap();
        while let Some(key) = reader.next_key().unwrap() {
            keys.push((key.customer, key.value.to_owned()));
        }
        drop(reader);
        keys.sort();
        (snapshot, keys)
    }

    #[test]
    fn p06_rows_that_share_a_key_are_one_customer_of_the_highest_stage() {
        let (snapshot, keys) = build(&[
            ("a", "Prospect", &["x", "y"]),
            ("b", "Customer", &["y", "z"]),
            ("c", "Customer", &["z"]),
            ("d", "Prospect", &["w"]),
            ("e", "Prospect", &[]),
        ]);
        // a-b-c are one: b and c are of the highest stage, b is first.
        assert_eq!(
            (0..5).map(|row| snapshot.customer(row)).collect::<Vec<_>>(),
            [1, 1, 1, 3, 4]
        );
        let expected = [(1, "x"), (1, "y"), (1, "z"), (3, "w")];
        assert_eq!(keys, expected.map(|(c, v)| (c, v.to_owned())));
        assert_eq!(snapshot.tier(1), Tier::Count);
        assert_eq!(snapshot.key_counts(), KeyCounts { list: 1, count: 3 });
        // Prospect, Customer, Lost: the row without keys does not count.
        assert_eq!(snapshot.customers_by_stage(), [1, 1, 0]);
    }

    #[test]
    fn p06_a_key_on_33_rows_is_not_used() {
        let ids: Vec<String> = (0..65).map(|i| format!("{i:02}")).collect();
        let rows: Vec<(&str, &str, &[&str])> = ids
            .iter()
            .enumerate()
            .map(|(i, id)| {
                let keys: &[&str] = if i < 32 { &["on32"] } else { &["on33"] };
                (id.as_str(), "Prospect", keys)
            })
            .collect();
        let (snapshot, keys) = build(&rows);
        assert_eq!(keys, [(0, "on32".to_owned())]);
        assert_eq!(snapshot.ambiguous_keys(), 1);
        assert_eq!(snapshot.customer(31), 0);
        assert_eq!(snapshot.customer(33), 33);
    }

    #[test]
    fn p10_a_hidden_row_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let mut builder = Builder::new(tiers(), directory.path(), [7; 32], LIMITS).unwrap();
        let error = builder.push("a", "Lost", &[]).unwrap_err();
        assert_eq!(error.reason(), Reason::Internal);
    }

    #[test]
    fn a_set_over_the_limit_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let mut builder = Builder::new(tiers(), directory.path(), [7; 32], LIMITS).unwrap();
        let keys: Vec<_> = (0..1_001)
            .map(|i| (KeyType::Email, i.to_string()))
            .collect();
        let error = builder.push("a", "Prospect", &keys).unwrap_err();
        assert_eq!(error.reason(), Reason::SetTooLarge);
    }
}
