//! Joining what belongs together.

use crate::{matching::bits::Bits, overlap::graph::Handle};

/// Union-find over dense numbers.
pub(crate) struct DisjointSets(Vec<u32>);

impl DisjointSets {
    pub(crate) fn new(count: usize) -> Self {
        Self((0..u32::try_from(count).expect("at most 2^32 elements")).collect())
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
    fn name_by(mut self, rank: impl Fn(u32) -> u8) -> Vec<u32> {
        let count = u32::try_from(self.0.len()).expect("at most 2^32 elements");
        let mut best: Vec<u32> = (0..count).collect();
        for element in 0..count {
            let root = self.find(element) as usize;
            // Ascending: the first of a rank stays.
            if rank(element) > rank(best[root]) {
                best[root] = element;
            }
        }
        (0..count)
            .map(|element| best[self.find(element) as usize])
            .collect()
    }
}

/// The rows that share their customer with another row; every other row is a customer by itself.
///
/// Takes 8 bytes a row and 20 a customer of these, and a bit for every other row.
pub(super) struct MergedRows {
    /// Which rows they are.
    members: Bits,
    /// A row and the row that names its customer, by ascending row.
    rows: Vec<(u32, u32)>,
    /// The handle of each naming row, by ascending row.
    handles: Vec<(u32, Handle)>,
}

impl MergedRows {
    /// Joins pairs of rows; the row of highest stage (ties: smallest number) names a customer.
    pub(super) fn join(pairs: &[(u32, u32)], stage_of_row: &[u8]) -> Self {
        let mut rows: Vec<u32> = pairs
            .iter()
            .flat_map(|(one, other)| [*one, *other])
            .collect();
        rows.sort_unstable();
        rows.dedup();
        let place = |row: u32| {
            let place = rows
                .binary_search(&row)
                .expect("both of a pair are among the rows");
            u32::try_from(place).expect("rows are numbered by u32")
        };
        let mut members = Bits::new(stage_of_row.len());
        for row in &rows {
            members.insert(*row);
        }
        let mut sets = DisjointSets::new(rows.len());
        for (one, other) in pairs {
            sets.union(place(*one), place(*other));
        }
        let names = sets.name_by(|place| stage_of_row[rows[place as usize] as usize]);
        let mut naming: Vec<u32> = names.iter().map(|name| rows[*name as usize]).collect();
        let merged = rows.iter().copied().zip(naming.iter().copied()).collect();
        naming.sort_unstable();
        naming.dedup();
        Self {
            members,
            rows: merged,
            handles: naming.into_iter().map(|row| (row, [0; 16])).collect(),
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The row that names the customer of `row`.
    #[inline]
    pub(super) fn customer(&self, row: u32) -> u32 {
        if !self.is_empty() && self.members.contains(row) {
            self.named(row)
        } else {
            row
        }
    }

    /// The row that names the customer of `row`, and its handle, if several rows make up that customer.
    #[inline]
    pub(super) fn naming(&self, row: u32) -> Option<(u32, Handle)> {
        // Without any there is no need for a look at the bits, which few caches hold.
        (!self.is_empty() && self.members.contains(row)).then(|| {
            let customer = self.named(row);
            let place = self
                .handles
                .binary_search_by_key(&customer, |(row, _)| *row)
                .expect("a naming row has a handle");
            (customer, self.handles[place].1)
        })
    }

    fn named(&self, row: u32) -> u32 {
        let place = self
            .rows
            .binary_search_by_key(&row, |(row, _)| *row)
            .expect("a member has a naming row");
        self.rows[place].1
    }

    /// The naming rows in ascending order, with the handles to fill in.
    pub(super) fn handles_mut(&mut self) -> impl Iterator<Item = (u32, &mut Handle)> {
        self.handles.iter_mut().map(|(row, handle)| (*row, handle))
    }
}
