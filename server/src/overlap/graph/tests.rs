use std::collections::{BTreeMap, BTreeSet};

use overlap_crypto::terms::{KeyType, Tier};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};

use super::{Component, Edge, EdgeKey, Graph, Handle, KeyTypes, Link};
use crate::matching::{
    local_customers::{Builder, LocalCustomers, SnapshotLimits, tests::tiers},
    spool::Sorter,
};

const ROWS: u32 = 60;
const SORT_BYTES: usize = 1 << 16;

fn rows(rng: &mut ChaCha20Rng, directory: &std::path::Path) -> LocalCustomers {
    let limits = SnapshotLimits {
        max_keys: 1_000,
        sort_bytes: SORT_BYTES,
    };
    let mut builder = Builder::new(tiers(), None, directory, [7; 16], limits).unwrap();
    for row in 0..ROWS {
        let stage = ["Prospect", "Customer"][(rng.next_u32() % 2) as usize];
        builder.push(&format!("{row:03}"), stage, &[]).unwrap();
    }
    builder.finish().unwrap()
}

/// What a partner customer is, whichever edge names it.
#[derive(Clone)]
struct Partner {
    handle: Handle,
    stage: u8,
    fields: Vec<u8>,
}

fn my_handle(local: &LocalCustomers, customer: u32) -> Handle {
    match local.tier(customer) {
        Tier::List => [customer as u8 + 100; 16],
        _ => [0; 16],
    }
}

/// What has to come out, by walking the graph.
fn walk(
    local: &LocalCustomers,
    partners: &[Partner],
    edges: &BTreeSet<(u32, usize, u8)>,
) -> BTreeMap<u32, (Component, Vec<u32>, usize)> {
    let mut left = edges.clone();
    let mut found = BTreeMap::new();
    while let Some(first) = left.pop_first() {
        let mut mine = BTreeSet::from([first.0]);
        let mut theirs = BTreeSet::from([first.1]);
        let mut key_types = KeyTypes::from_bits(1 << first.2);
        loop {
            let joined: Vec<_> = left
                .iter()
                .filter(|edge| mine.contains(&edge.0) || theirs.contains(&edge.1))
                .copied()
                .collect();
            if joined.is_empty() {
                break;
            }
            for edge in joined {
                left.remove(&edge);
                mine.insert(edge.0);
                theirs.insert(edge.1);
                key_types = key_types.with(KeyTypes::from_bits(1 << edge.2));
            }
        }
        let highest = mine.iter().map(|row| local.stage(*row)).max().unwrap();
        let naming = *mine
            .iter()
            .find(|row| local.stage(**row) == highest)
            .unwrap();
        let best = theirs.iter().map(|index| partners[*index].stage).max();
        // Partners are in the order of their handles.
        let partner = *theirs
            .iter()
            .find(|index| Some(partners[**index].stage) == best)
            .unwrap();
        let component = Component {
            customer: naming,
            mine: highest,
            theirs: partners[partner].stage,
            key_types,
            mutual: mine.iter().any(|row| local.tier(*row) == Tier::List),
        };
        found.insert(naming, (component, mine.into_iter().collect(), partner));
    }
    found
}

#[test]
fn p06_shared_customers_are_the_components_of_the_graph() {
    for seed in 0..200 {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let directory = tempfile::tempdir().unwrap();
        let local = rows(&mut rng, directory.path());
        let partners: Vec<Partner> = (0..40_u8)
            .map(|index| Partner {
                handle: [index; 16],
                stage: (rng.next_u32() % 3) as u8,
                fields: vec![index; (rng.next_u32() % 3) as usize],
            })
            .collect();
        let count = rng.next_u32() % 90;
        let edges: BTreeSet<(u32, usize, u8)> = (0..count)
            .map(|_| {
                let key_type = 1 + (rng.next_u32() % 4) as u8;
                (
                    rng.next_u32() % ROWS,
                    (rng.next_u32() % 40) as usize,
                    key_type,
                )
            })
            .collect();
        let mut sorter = Sorter::new(directory.path(), "edges", SORT_BYTES);
        let mut contradicted = 0;
        for (number, (customer, partner, key_type)) in (0..).zip(&edges) {
            let Partner {
                handle,
                stage,
                fields,
            } = &partners[*partner];
            let edge = Edge {
                handle: *handle,
                their_stage: *stage,
                customer: *customer,
                my_stage: local.stage(*customer),
                my_handle: my_handle(&local, *customer),
                key_type: KeyType::from_code(*key_type).unwrap(),
                key: EdgeKey {
                    number,
                    claimed: key_type % 2 == 0,
                },
                fields,
            };
            edge.push_to(&mut sorter).unwrap();
            if rng.next_u32().is_multiple_of(10) {
                // A second word on a customer, which sorts behind the first.
                contradicted += 1;
                let other = Edge {
                    their_stage: stage + 1,
                    customer: rng.next_u32() % ROWS,
                    ..edge
                };
                other.push_to(&mut sorter).unwrap();
            }
        }
        let mut links = Vec::new();
        let graph = Graph::join(
            local.tiers(),
            local.rows(),
            &sorter.finish().unwrap(),
            4,
            (directory.path(), SORT_BYTES),
            Some(&mut |position, link| {
                links.push((position, link.to_vec()));
                Ok(())
            }),
        )
        .unwrap();
        let expected = walk(&local, &partners, &edges);
        assert_eq!(graph.disagreeing(), contradicted, "seed {seed}");
        assert_eq!(graph.len() as usize, expected.len(), "seed {seed}");

        let mut position_of = BTreeMap::new();
        let mut handles = BTreeSet::new();
        let mut cells = BTreeMap::new();
        let mut components = graph.components().unwrap();
        for (position, (component, mine, partner)) in (0_u32..).zip(expected.values()) {
            let (found, handle, fields) = components.next_component().unwrap().unwrap();
            assert_eq!(found, *component, "seed {seed}");
            assert_eq!(*handle, my_handle(&local, component.customer));
            assert_eq!(fields, partners[*partner].fields, "seed {seed}");
            *cells.entry((component.mine, component.theirs)).or_insert(0) += 1;
            if *handle != [0; 16] {
                handles.insert((*handle, position));
            }
            for row in mine {
                position_of.insert(*row, position);
            }
        }
        assert_eq!(components.next_component().unwrap(), None);
        assert_eq!(*graph.cells(), cells);
        for row in 0..ROWS {
            assert_eq!(graph.of_customer(row), position_of.get(&row).copied());
            assert_eq!(graph.is_naming(row), expected.contains_key(&row));
        }

        for (customer, partner, _) in &edges {
            handles.insert((partners[*partner].handle, position_of[customer]));
        }
        let mut found = BTreeSet::new();
        let mut stream = graph.handles().stream().unwrap();
        while let Some(record) = stream.next_record().unwrap() {
            let (handle, position) = record.split_first_chunk().unwrap();
            let position = u32::from_be_bytes(position.try_into().unwrap());
            found.insert((*handle, position));
        }
        assert_eq!(found, handles, "seed {seed}");

        // The links give every edge back, under the shared customer that it is part of.
        assert!(links.is_sorted_by_key(|(position, _)| *position));
        let mut edges_left: BTreeMap<u32, _> = (0..).zip(&edges).collect();
        for (position, record) in &links {
            let (link, keys, fields) = Link::parse(record).unwrap();
            assert_eq!(position_of[&link.customer], *position);
            for key in Link::keys(keys) {
                let (key, key_type) = key.unwrap();
                let (customer, partner, kind) = edges_left.remove(&key.number).unwrap();
                assert_eq!((link.customer, key_type.code()), (*customer, *kind));
                assert_eq!(key.claimed, kind % 2 == 0);
                let partner = &partners[*partner];
                assert_eq!((link.handle, link.theirs), (partner.handle, partner.stage));
                assert_eq!(link.my_handle, my_handle(&local, *customer));
                assert_eq!(fields, partner.fields);
            }
        }
        assert!(edges_left.is_empty(), "seed {seed}: {edges_left:?}");

        let mutual: BTreeSet<usize> = edges
            .iter()
            .filter(|edge| local.tier(edge.0) == Tier::List)
            .map(|edge| edge.1)
            .collect();
        let mut by_stage = [0; 4];
        for partner in mutual {
            by_stage[usize::from(partners[partner].stage)] += 1;
        }
        assert_eq!(graph.mutual_partners_by_stage(), by_stage);
    }
}
