//! Match edges become shared customers (PROTOCOL.md "Shared customers").
//!
//! An edge joins one of my local customers and one of the partner's, known by its pseudonym. A shared customer is a component
//! of the graph that the edges listed to me make. One that has an edge listed to the partner too is mutual: the partner sees
//! who it is, so it is never counted in a report to the partner.

use std::path::Path;

use overlap_crypto::{
    list::{Label, fields},
    terms::{KeyType, Tier},
};

use crate::{
    error::Error,
    matching::{
        local_customers::{DisjointSets, LocalCustomers},
        spool::{RecordFile, RecordWriter, Sorted, Sorter},
        terms::RunTerms,
    },
};

/// Bytes of a pairwise handle.
pub const HANDLE_BYTES: usize = 16;
/// A pairwise handle: names one local customer to one partner during one epoch.
pub type Handle = [u8; HANDLE_BYTES];

/// Marks a customer or partner pseudonym without a component.
const NONE: u32 = u32::MAX;
/// Bytes of an edge before the fields.
const EDGE_BYTES: usize = HANDLE_BYTES + 1 + 4 + 4 + 1;

/// One match that is listed to me.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge<'a> {
    /// The partner's handle for its customer.
    pub handle: Handle,
    /// The partner's stage of it.
    pub their_stage: u8,
    /// My local customer.
    pub customer: u32,
    /// The key that matched: its position in the run.
    pub key: u32,
    /// The kind of that key.
    pub key_type: KeyType,
    /// What the partner discloses of its customer, as it sent it.
    pub fields: &'a [u8],
}

impl<'a> Edge<'a> {
    /// Adds the edge to a sorter that brings the edges of one partner customer together.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn push_to(&self, sorter: &mut Sorter) -> Result<(), Error> {
        sorter.push(&[
            &self.handle,
            &[self.their_stage],
            &self.customer.to_be_bytes(),
            &self.key.to_be_bytes(),
            &[self.key_type.code()],
            self.fields,
        ])
    }

    /// What a label says of the key that matched; `None` if it does not parse or names a stage that is not listed.
    #[must_use]
    pub fn from_label(
        terms: &RunTerms,
        local: &LocalCustomers,
        key: u32,
        label: &Label<'a>,
    ) -> Option<Self> {
        let their_stage = terms.theirs.from_wire_code(label.stage)?;
        if terms.theirs.tier(their_stage) != Tier::List {
            return None;
        }
        let parses = label.fields.is_empty()
            || fields::decode(label.fields, terms.their_fields.len()).is_some();
        parses.then(|| Self {
            handle: label.pseudonym,
            their_stage,
            customer: local.customer_of_key(key),
            key,
            key_type: local.type_of_key(key),
            fields: without_filler(label.fields),
        })
    }

    fn parse(record: &'a [u8]) -> Result<Self, Error> {
        let malformed = || Error::internal("an edge record is malformed");
        let (head, fields) = record.split_at_checked(EDGE_BYTES).ok_or_else(malformed)?;
        let number =
            |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().expect("four bytes"));
        Ok(Self {
            handle: head[..HANDLE_BYTES].try_into().expect("sixteen bytes"),
            their_stage: head[HANDLE_BYTES],
            customer: number(HANDLE_BYTES + 1),
            key: number(HANDLE_BYTES + 5),
            key_type: KeyType::from_code(head[HANDLE_BYTES + 9]).ok_or_else(malformed)?,
            fields,
        })
    }
}

/// One shared customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Component {
    /// My local customer of highest stage (ties: smallest id), which names it.
    pub customer: u32,
    /// The partner's customer of highest stage (ties: smallest handle).
    pub partner: u32,
    /// My highest stage in it.
    pub mine: u8,
    /// The partner's highest stage in it.
    pub theirs: u8,
    /// The key types that matched, one bit each.
    pub key_types: KeyTypes,
    /// Whether an edge of it is listed to the partner.
    pub mutual: bool,
}

/// A set of key types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyTypes(u8);

impl KeyTypes {
    /// The set with these bits.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// One bit a key type.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Adds a key type.
    pub const fn insert(&mut self, key_type: KeyType) {
        self.0 |= 1 << key_type.code();
    }

    /// The key types in the agreed order.
    pub fn iter(self) -> impl Iterator<Item = KeyType> {
        KeyType::ALL
            .into_iter()
            .filter(move |key_type| self.0 & (1 << key_type.code()) != 0)
    }
}

/// The shared customers of a run.
pub struct Graph {
    /// In ascending order of the naming customer, that is of the id.
    components: Vec<Component>,
    /// By row: the component of a local customer.
    component_of_customer: Vec<u32>,
    /// By ascending handle: the component of a partner's customer.
    component_of_partner: Vec<u32>,
    /// By ascending handle: handle, then fields.
    partners: RecordFile,
    mutual_partners_by_stage: Vec<u64>,
    disagreeing: u64,
}

impl Graph {
    /// Joins the edges. Memory: four to eight bytes a row and a matched partner customer, twelve a shared customer.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn join(
        local: &LocalCustomers,
        edges: &Sorted,
        their_stages: usize,
        directory: &Path,
    ) -> Result<Self, Error> {
        let rows = u32::try_from(local.rows()).expect("rows are numbered by u32");
        let mut sets = DisjointSets::new(local.rows());
        // The key types by which each of my customers matched.
        let mut matched = vec![KeyTypes::default(); local.rows()];
        let mut partners = RecordWriter::create(&directory.join("partners"))?;
        let mut stage_of_partner: Vec<u8> = Vec::new();
        let mut mutual_partners_by_stage = vec![0_u64; their_stages];
        let mut disagreeing = 0;
        let mut current: Option<Handle> = None;
        let mut current_fields = Vec::new();
        let mut current_is_mutual = false;
        let mut stream = edges.stream()?;
        while let Some(record) = stream.next_record()? {
            let edge = Edge::parse(record)?;
            if current != Some(edge.handle) {
                current = Some(edge.handle);
                current_is_mutual = false;
                current_fields.clear();
                current_fields.extend_from_slice(edge.fields);
                sets.push();
                stage_of_partner.push(edge.their_stage);
                partners.push(&[&edge.handle, edge.fields])?;
            }
            let partner = u32::try_from(stage_of_partner.len() - 1).map_err(too_many)?;
            // A partner that says two things of one customer is not believed the second time.
            if stage_of_partner[partner as usize] != edge.their_stage
                || current_fields != edge.fields
            {
                disagreeing += 1;
                continue;
            }
            matched[edge.customer as usize].insert(edge.key_type);
            sets.union(
                edge.customer,
                rows.checked_add(partner).ok_or_else(overflow)?,
            );
            if local.tier(edge.customer) == Tier::List && !current_is_mutual {
                current_is_mutual = true;
                mutual_partners_by_stage[usize::from(edge.their_stage)] += 1;
            }
        }
        drop(stream);

        let mut graph = Self {
            components: Vec::new(),
            component_of_customer: vec![NONE; local.rows()],
            component_of_partner: vec![NONE; stage_of_partner.len()],
            partners: partners.finish()?,
            mutual_partners_by_stage,
            disagreeing,
        };
        graph.number_components(local, &matched, &mut sets);
        graph.name_partners(rows, &stage_of_partner, &mut sets);
        graph.order_by_customer();
        Ok(graph)
    }

    /// The root of a set is its smallest number, so a component's root is one of my customers.
    fn number_components(
        &mut self,
        local: &LocalCustomers,
        matched: &[KeyTypes],
        sets: &mut DisjointSets,
    ) {
        for (customer, &key_types) in (0_u32..).zip(matched) {
            if key_types == KeyTypes::default() {
                continue;
            }
            let root = sets.find(customer) as usize;
            if self.component_of_customer[root] == NONE {
                self.component_of_customer[root] = self.next_component();
                self.components.push(Component {
                    customer,
                    partner: NONE,
                    mine: local.stage(customer),
                    theirs: 0,
                    key_types: KeyTypes::default(),
                    mutual: false,
                });
            }
            let component = self.component_of_customer[root];
            self.component_of_customer[customer as usize] = component;
            let component = &mut self.components[component as usize];
            if local.stage(customer) > component.mine {
                component.mine = local.stage(customer);
                component.customer = customer;
            }
            // Every edge here leads to a listed customer of the partner's, so mine being listed makes it mutual.
            component.key_types.0 |= key_types.0;
            component.mutual |= local.tier(customer) == Tier::List;
        }
    }

    fn next_component(&self) -> u32 {
        u32::try_from(self.components.len()).expect("not more components than rows")
    }

    fn name_partners(&mut self, rows: u32, stage_of_partner: &[u8], sets: &mut DisjointSets) {
        for (partner, &stage) in (0_u32..).zip(stage_of_partner) {
            let root = sets.find(rows + partner);
            if root >= rows {
                continue;
            }
            let component = self.component_of_customer[root as usize];
            self.component_of_partner[partner as usize] = component;
            let component = &mut self.components[component as usize];
            // Ascending handles: the first of a stage stays.
            if component.partner == NONE || stage > component.theirs {
                component.partner = partner;
                component.theirs = stage;
            }
        }
    }

    fn order_by_customer(&mut self) {
        let count = self.next_component();
        let mut order: Vec<u32> = (0..count).collect();
        order.sort_unstable_by_key(|&component| self.components[component as usize].customer);
        let mut place = vec![NONE; order.len()];
        for (position, &component) in (0_u32..).zip(&order) {
            place[component as usize] = position;
        }
        for component in self
            .component_of_customer
            .iter_mut()
            .chain(&mut self.component_of_partner)
        {
            if *component != NONE {
                *component = place[*component as usize];
            }
        }
        self.components
            .sort_unstable_by_key(|component| component.customer);
    }

    /// The shared customers, by ascending naming customer.
    #[must_use]
    pub fn components(&self) -> &[Component] {
        &self.components
    }

    /// The position of the shared customer that a local customer is part of.
    #[must_use]
    pub fn of_customer(&self, customer: u32) -> Option<u32> {
        let component = self.component_of_customer[customer as usize];
        (component != NONE).then_some(component)
    }

    /// Visits the partner's matched customers by ascending handle: number, handle, position of the shared customer, fields.
    ///
    /// # Errors
    /// What the file system or `visit` reports.
    pub fn visit_partners(
        &self,
        mut visit: impl FnMut(u32, Handle, u32, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut reader = self.partners.reader()?;
        let mut partner = 0;
        while let Some(record) = reader.next_record()? {
            let (handle, fields) = record
                .split_first_chunk::<HANDLE_BYTES>()
                .ok_or_else(|| Error::internal("a partner record is malformed"))?;
            let component = self.component_of_partner[partner as usize];
            if component != NONE {
                visit(partner, *handle, component, fields)?;
            }
            partner += 1;
        }
        Ok(())
    }

    /// How many of the partner's customers match a listed customer of mine, by the partner's stage.
    #[must_use]
    pub fn mutual_partners_by_stage(&self) -> &[u64] {
        &self.mutual_partners_by_stage
    }

    /// How many labels contradicted another label of the same customer and were left out.
    #[must_use]
    pub fn disagreeing(&self) -> u64 {
        self.disagreeing
    }
}

fn too_many(_: std::num::TryFromIntError) -> Error {
    overflow()
}

fn overflow() -> Error {
    Error::internal("more than 2^32 customers")
}

/// A fields area without the zeros it was filled up with.
fn without_filler(area: &[u8]) -> &[u8] {
    let used = area
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    &area[..used]
}
