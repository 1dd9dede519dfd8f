//! Maps by what nobody else can choose: my own numbers, and salted hashes. Their hash is fast and its seed fixed, so that the
//! same run goes the same way again.

use std::collections::{HashMap, HashSet};

use foldhash::fast::{FixedState, RandomState};

/// A map for keys that the partner cannot choose.
pub(crate) type Map<K, V> = HashMap<K, V, FixedState>;
/// A set of the same kind.
pub(crate) type Set<K> = HashSet<K, FixedState>;
/// A map for my own ids, which people give: its seed is drawn afresh in every process.
pub(crate) type IdMap<K, V> = HashMap<K, V, RandomState>;
/// A set of the same kind.
pub(crate) type IdSet<K> = HashSet<K, RandomState>;
