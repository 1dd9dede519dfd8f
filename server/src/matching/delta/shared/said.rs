//! What the flows of a run say of keys that match.

use overlap_crypto::list::Label;

use crate::{
    matching::delta::maps::Map,
    overlap::graph::{EdgeKey, Handle},
};

/// What a label or a claim says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) stage: u8,
    pub(super) pseudonym: Handle,
    pub(super) fields: Vec<u8>,
}

/// What the flows of a run found: what is said of keys now, by key.
#[derive(Default)]
pub(crate) struct EdgeChanges(pub(super) Map<EdgeKey, Option<Said>>);

impl EdgeChanges {
    /// A key matches, and this is said of it; nothing if that is unusable.
    pub(crate) fn say(&mut self, key: EdgeKey, label: Option<&Label<'_>>) {
        let said = label.map(|label| Said {
            stage: label.stage,
            pseudonym: label.pseudonym,
            fields: label.fields.to_vec(),
        });
        self.0.insert(key, said);
    }

    /// A key does not match any more.
    pub(crate) fn end(&mut self, key: EdgeKey) {
        self.0.insert(key, None);
    }

    /// What is said, by key.
    pub(super) fn by_key(&self) -> Vec<(EdgeKey, Option<&Said>)> {
        let said = self.0.iter().map(|(key, said)| (*key, said.as_ref()));
        let mut said: Vec<_> = said.collect();
        said.sort_unstable_by_key(|(key, _)| *key);
        said
    }
}
