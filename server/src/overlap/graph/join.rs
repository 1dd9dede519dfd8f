//! Joins edges into shared customers by sorting them twice: by the partner's customers, then by mine.
//!
//! Most shared customers are one edge: one customer of mine and one of the partner's that match nobody else. These only pass
//! by. Edges that share a customer with another edge are held in memory, about 20 bytes each.

use std::{collections::BTreeMap, path::Path};

use overlap_crypto::terms::Tier;

use super::{
    Component, Edge, Graph, HANDLE_BYTES, Handle, KeyTypes, Link, LinkSink,
    link::{MAX_LINK_KEYS, push_key},
};
use crate::{
    error::Error,
    matching::{
        bits::Bits,
        local_customers::{StageTiers, merge::DisjointSets},
        spool::{RecordWriter, Sorted, Sorter},
    },
};

/// What the edges say, by my customers.
struct Links {
    sorted: Sorted,
    mutual_partners_by_stage: Vec<u64>,
    disagreeing: u64,
}

impl Graph {
    /// Joins the edges of my customers, whose numbers are below `customers` and ascend as their ids do. `sink` takes the links
    /// of every shared customer, by ascending position.
    ///
    /// Memory: two bits a customer, three sorters, and about 20 bytes for each edge that shares a customer with another.
    ///
    /// # Errors
    /// What the file system or the sink reports.
    pub fn join(
        tiers: &StageTiers,
        customers: usize,
        edges: &Sorted,
        their_stages: usize,
        (directory, sort_bytes): (&Path, usize),
        mut sink: Option<&mut LinkSink<'_>>,
    ) -> Result<Self, Error> {
        let sorter = |name| Sorter::new(directory, name, sort_bytes);
        let bound = u32::try_from(customers).unwrap_or(u32::MAX);
        let by_customer = Sorter::numbered(directory, "links", sort_bytes, bound);
        let links = link(tiers, edges, their_stages, by_customer)?;
        let mut naming = Bits::new(customers);
        let mut knots = Knots::find(tiers, &links.sorted, &mut naming)?;
        let knot_links = sink.is_some().then(|| sorter("knot_links"));
        let (their_fields, knot_links) =
            knots.look_up(&links.sorted, sorter("knot_fields"), knot_links)?;
        let mut their_fields = their_fields.stream()?;
        let mut knot_links = knot_links.stream()?;
        let mut knot_link = knot_links.next_record()?.map(<[u8]>::to_vec);
        let naming = naming.ranked();

        let mut components = RecordWriter::create(&directory.join("components"))?;
        let mut handles = sorter("handles");
        let mut cells = vec![vec![0_u64; their_stages]; tiers.len()];
        let mut stream = links.sorted.stream()?;
        let mut last = None;
        while let Some(record) = stream.next_record()? {
            let (link, _, fields) = Link::parse(record)?;
            let knot = knots.of_customer(link.customer);
            let names = knot.map_or(link.customer, |knot| knot.component.customer);
            let number = naming.position(names);
            let position = number.to_be_bytes();
            handles.push(&[&link.handle, &position])?;
            // Only the first link of a naming customer.
            if names != link.customer || last == Some(link.customer) {
                continue;
            }
            last = Some(link.customer);
            let (component, my_handle) = match knot {
                Some(knot) => (knot.component, knot.my_handle),
                None => (link.component(tiers), link.my_handle),
            };
            if tiers.tier(component.mine) == Tier::List {
                handles.push(&[&my_handle, &position])?;
            }
            cells[usize::from(component.mine)][usize::from(component.theirs)] += 1;
            let head = component.to_bytes();
            if knot.is_some() {
                let fields = their_fields.next_record()?.and_then(|r| r.get(4..));
                let fields = fields.ok_or_else(|| Error::internal("a knot has no fields"))?;
                components.push(&[&head, &my_handle, fields])?;
                while let Some(found) = &knot_link
                    && found.starts_with(&names.to_be_bytes())
                {
                    if let Some(sink) = &mut sink {
                        sink(number, &found[4..])?;
                    }
                    knot_link = knot_links.next_record()?.map(<[u8]>::to_vec);
                }
            } else {
                components.push(&[&head, &my_handle, fields])?;
                if let Some(sink) = &mut sink {
                    sink(number, record)?;
                }
            }
        }
        Ok(Self {
            components: components.finish()?,
            positions_of_knots: knots.positions(&naming),
            naming,
            handles: handles.finish()?,
            cells: counted(&cells),
            mutual_partners_by_stage: links.mutual_partners_by_stage,
            disagreeing: links.disagreeing,
        })
    }
}

/// The counts that are not zero, by my stage and the partner's.
fn counted(cells: &[Vec<u64>]) -> BTreeMap<(u8, u8), u64> {
    (0_u8..)
        .zip(cells)
        .flat_map(|(mine, row)| {
            (0_u8..)
                .zip(row)
                .map(move |(theirs, n)| ((mine, theirs), *n))
        })
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// Numbers the partner's customers and sorts what is known of them by mine.
fn link(
    tiers: &StageTiers,
    edges: &Sorted,
    their_stages: usize,
    mut sorter: Sorter,
) -> Result<Links, Error> {
    let mut mutual_partners_by_stage = vec![0_u64; their_stages];
    let mut disagreeing = 0;
    // The last link of the current partner customer, and what it says.
    let mut current: Option<Link> = None;
    let mut keys = Vec::new();
    let mut fields = Vec::new();
    let mut is_mutual = false;
    let mut stream = edges.stream()?;
    while let Some(record) = stream.next_record()? {
        let edge = Edge::parse(record)?;
        let mut next = Link::of_edge(&edge);
        match &mut current {
            Some(link) if link.handle == edge.handle => {
                // A partner that says two things of one customer is not believed the second time.
                if link.theirs != edge.their_stage || fields != edge.fields {
                    disagreeing += 1;
                    continue;
                }
                // The edges of one partner customer come by ascending customer of mine.
                if link.customer == edge.customer && keys.len() < MAX_LINK_KEYS {
                    link.key_types.insert(edge.key_type);
                    push_key(&mut keys, edge.key, edge.key_type);
                    continue;
                }
                link.is_shared = true;
                link.push_to(&mut sorter, &keys, &fields)?;
                (next.partner, next.is_shared) = (link.partner, true);
            }
            _ => {
                if let Some(link) = &current {
                    link.push_to(&mut sorter, &keys, &fields)?;
                    next.partner = link.partner.checked_add(1).ok_or_else(overflow)?;
                }
                fields.clear();
                fields.extend_from_slice(edge.fields);
                is_mutual = false;
            }
        }
        if tiers.tier(edge.my_stage) == Tier::List && !is_mutual {
            is_mutual = true;
            mutual_partners_by_stage[usize::from(edge.their_stage)] += 1;
        }
        keys.clear();
        push_key(&mut keys, edge.key, edge.key_type);
        current = Some(next);
    }
    if let Some(link) = &current {
        link.push_to(&mut sorter, &keys, &fields)?;
    }
    Ok(Links {
        sorted: sorter.finish()?,
        mutual_partners_by_stage,
        disagreeing,
    })
}

fn overflow() -> Error {
    Error::internal("more than 2^32 customers")
}

/// The shared customers of more than one link.
struct Knots {
    knots: Vec<Knot>,
    /// The knot of each of my customers in them, by ascending customer.
    of_customer: Vec<(u32, u32)>,
}

struct Knot {
    component: Component,
    /// The partner's customer of highest stage (ties: smallest handle).
    partner: u32,
    my_handle: Handle,
    is_looked_up: bool,
}

/// What a link says, without the handles.
struct Tie {
    customer: u32,
    partner: u32,
    mine: u8,
    theirs: u8,
    key_types: KeyTypes,
}

impl From<&Link> for Tie {
    fn from(link: &Link) -> Self {
        Self {
            customer: link.customer,
            partner: link.partner,
            mine: link.mine,
            theirs: link.theirs,
            key_types: link.key_types,
        }
    }
}

impl Knots {
    /// Finds them, and marks the customers that name a shared customer, those of a single link included.
    fn find(tiers: &StageTiers, links: &Sorted, naming: &mut Bits) -> Result<Self, Error> {
        let mut ties: Vec<Tie> = Vec::new();
        let mut stream = links.stream()?;
        let mut held: Option<Link> = None;
        while let Some(record) = stream.next_record()? {
            let (mut next, _, _) = Link::parse(record)?;
            if let Some(link) = &mut held {
                if link.customer == next.customer {
                    (link.is_shared, next.is_shared) = (true, true);
                }
                keep(link, naming, &mut ties);
            }
            held = Some(next);
        }
        if let Some(link) = &held {
            keep(link, naming, &mut ties);
        }
        let knots = Self::tie(tiers, &ties);
        for knot in &knots.knots {
            naming.insert(knot.component.customer);
        }
        Ok(knots)
    }

    fn tie(tiers: &StageTiers, ties: &[Tie]) -> Self {
        let mut customers: Vec<u32> = ties.iter().map(|tie| tie.customer).collect();
        let mut partners: Vec<u32> = ties.iter().map(|tie| tie.partner).collect();
        for numbers in [&mut customers, &mut partners] {
            numbers.sort_unstable();
            numbers.dedup();
        }
        let place = |numbers: &[u32], number: u32| {
            let place = numbers.binary_search(&number).expect("it was collected");
            u32::try_from(place).expect("not more than 2^32 customers")
        };
        // My customers, then the partner's: so the root of a set is one of mine.
        let mut sets = DisjointSets::new(customers.len() + partners.len());
        let first_partner = u32::try_from(customers.len()).expect("not more than 2^32 customers");
        for tie in ties {
            sets.union(
                place(&customers, tie.customer),
                first_partner + place(&partners, tie.partner),
            );
        }
        const NONE: u32 = u32::MAX;
        let mut knot_of_root = vec![NONE; customers.len()];
        let mut knots: Vec<Knot> = Vec::new();
        let mut of_customer: Vec<(u32, u32)> = Vec::with_capacity(customers.len());
        for tie in ties {
            let root = sets.find(place(&customers, tie.customer)) as usize;
            if knot_of_root[root] == NONE {
                knot_of_root[root] = u32::try_from(knots.len()).expect("not more than 2^32 knots");
                knots.push(Knot {
                    component: Component {
                        customer: tie.customer,
                        mine: tie.mine,
                        theirs: tie.theirs,
                        key_types: KeyTypes::default(),
                        mutual: false,
                    },
                    partner: tie.partner,
                    my_handle: [0; HANDLE_BYTES],
                    is_looked_up: false,
                });
            }
            if of_customer.last().map(|(customer, _)| *customer) != Some(tie.customer) {
                of_customer.push((tie.customer, knot_of_root[root]));
            }
            let knot = &mut knots[knot_of_root[root] as usize];
            let component = &mut knot.component;
            // Ascending customers: the first of a stage stays.
            if tie.mine > component.mine {
                (component.mine, component.customer) = (tie.mine, tie.customer);
            }
            if tie.theirs > component.theirs
                || (tie.theirs == component.theirs && tie.partner < knot.partner)
            {
                (component.theirs, knot.partner) = (tie.theirs, tie.partner);
            }
            component.key_types = component.key_types.with(tie.key_types);
            component.mutual |= tiers.tier(tie.mine) == Tier::List;
        }
        Self { knots, of_customer }
    }

    fn of_customer(&self, customer: u32) -> Option<&Knot> {
        self.number(customer).map(|number| &self.knots[number])
    }

    fn number(&self, customer: u32) -> Option<usize> {
        let place = self
            .of_customer
            .binary_search_by_key(&customer, |(customer, _)| *customer);
        place.ok().map(|place| self.of_customer[place].1 as usize)
    }

    /// Looks up my handle of each, and what the partner says of its customer: its fields behind the naming customer, by
    /// ascending naming customer. The links themselves go to `links_of`, each behind the naming customer.
    fn look_up(
        &mut self,
        links: &Sorted,
        mut fields_of: Sorter,
        mut links_of: Option<Sorter>,
    ) -> Result<(Sorted, Sorted), Error> {
        if !self.knots.is_empty() {
            let mut stream = links.stream()?;
            while let Some(record) = stream.next_record()? {
                let (link, _, fields) = Link::parse(record)?;
                let Some(number) = self.number(link.customer) else {
                    continue;
                };
                let knot = &mut self.knots[number];
                if let Some(sorter) = &mut links_of {
                    sorter.push(&[&knot.component.customer.to_be_bytes(), record])?;
                }
                if link.customer == knot.component.customer {
                    knot.my_handle = link.my_handle;
                }
                if link.partner == knot.partner && !knot.is_looked_up {
                    knot.is_looked_up = true;
                    fields_of.push(&[&knot.component.customer.to_be_bytes(), fields])?;
                }
            }
        }
        let nothing = Sorter::new(Path::new(""), "nothing", 0);
        Ok((fields_of.finish()?, links_of.unwrap_or(nothing).finish()?))
    }

    /// The position of the shared customer that each of my customers is part of, by ascending customer.
    fn positions(&self, naming: &crate::matching::bits::RankedBits) -> Vec<(u32, u32)> {
        self.of_customer
            .iter()
            .map(|(customer, number)| {
                let names = self.knots[*number as usize].component.customer;
                (*customer, naming.position(names))
            })
            .collect()
    }
}

/// A link by itself names a shared customer; others are tied together later.
fn keep(link: &Link, naming: &mut Bits, ties: &mut Vec<Tie>) {
    if link.is_shared {
        ties.push(link.into());
    } else {
        naming.insert(link.customer);
    }
}
