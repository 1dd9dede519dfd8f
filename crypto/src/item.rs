//! What goes into the OPRF and what comes out (PROTOCOL.md §4.1 and §4.3).

use std::fmt;

use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::{
    backend::{Backend, Messages},
    context::Context,
    fault::Misuse,
    secrets::{Blank, Secrets, wipe},
    terms::KeyType,
};

/// The longest normalised key value.
pub const MAX_VALUE_BYTES: usize = 1024;

/// The owner of padding: no local customer.
pub const PADDING: u32 = u32::MAX;

/// A batch of OPRF inputs, each with the local customer it belongs to.
pub struct Items {
    context: Context,
    normaliser_version: u16,
    inputs: Messages,
    owners: Vec<u32>,
}

impl Items {
    /// An empty batch with room for `count` items.
    #[must_use]
    pub fn with_capacity(context: Context, normaliser_version: u16, count: usize) -> Self {
        Self {
            context,
            normaliser_version,
            inputs: Messages::with_capacity(count, 64),
            owners: Vec::with_capacity(count),
        }
    }

    /// Appends one normalised key of the local customer `owner`.
    ///
    /// # Errors
    /// [`Misuse::ValueLength`], or [`Misuse::TooMany`] if `owner` is [`PADDING`].
    pub fn push(&mut self, owner: u32, key_type: KeyType, value: &[u8]) -> Result<(), Misuse> {
        if owner == PADDING {
            return Err(Misuse::TooMany);
        }
        let prefix = value_prefix(key_type, self.normaliser_version, value)?;
        self.inputs
            .push(&[b"OVL1/item", &self.context.0, &prefix, value]);
        self.owners.push(owner);
        Ok(())
    }

    /// Appends an input that nobody has.
    pub fn push_padding(&mut self, rng: &mut impl CryptoRng) {
        let mut random = [0_u8; 32];
        rng.fill_bytes(&mut random);
        self.inputs.push(&[b"OVL1/padding", &random]);
        self.owners.push(PADDING);
    }

    /// Number of items, padding included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.owners.len()
    }

    /// Whether there is no item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    pub(crate) const fn inputs(&self) -> &Messages {
        &self.inputs
    }

    pub(crate) const fn context(&self) -> &Context {
        &self.context
    }

    /// The entries of the items that are not padding, in the order of the items.
    pub(crate) fn entries(&self, backend: Backend, outputs: &[[u8; 64]]) -> Secrets<Entry> {
        let prefix = derivation_prefix("OVL1/keys", &[&self.context.0], 64);
        let keys = Secrets::new(backend.sha512_after(&prefix, outputs.iter()));
        let mut entries = Secrets::with_capacity(outputs.len());
        for (key, &owner) in keys.iter().zip(&self.owners) {
            if owner != PADDING {
                let derived = Derived::of_output(key);
                entries.push(Entry { owner, derived });
            }
        }
        entries
    }
}

/// `key type(1) || normaliser version(2) || len(2)`, which stands before a value.
pub(crate) fn value_prefix(
    key_type: KeyType,
    normaliser_version: u16,
    value: &[u8],
) -> Result<[u8; 5], Misuse> {
    let length = match u16::try_from(value.len()) {
        Ok(length) if (1..=MAX_VALUE_BYTES).contains(&value.len()) => length.to_be_bytes(),
        _ => return Err(Misuse::ValueLength),
    };
    let version = normaliser_version.to_be_bytes();
    Ok([
        key_type.code(),
        version[0],
        version[1],
        length[0],
        length[1],
    ])
}

/// The three keys of one item: `K = Derive("OVL1/keys", ctx, F)` cut in three.
#[derive(Clone, Copy)]
pub struct Derived {
    /// What the evaluator publishes.
    pub tag: [u8; 16],
    /// What a receiver that holds the same item can answer with.
    pub claim: [u8; 16],
    /// What label keys are derived from.
    pub master: [u8; 32],
}

impl Derived {
    fn of_output(output: &[u8; 64]) -> Self {
        let mut derived = Self {
            tag: [0; 16],
            claim: [0; 16],
            master: [0; 32],
        };
        derived.tag.copy_from_slice(&output[..16]);
        derived.claim.copy_from_slice(&output[16..32]);
        derived.master.copy_from_slice(&output[32..]);
        derived
    }
}

/// In constant time.
impl PartialEq for Derived {
    fn eq(&self, other: &Self) -> bool {
        let same = self.tag.ct_eq(&other.tag)
            & self.claim.ct_eq(&other.claim)
            & self.master.ct_eq(&other.master);
        same.into()
    }
}

impl Eq for Derived {}

impl fmt::Debug for Derived {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Derived(..)")
    }
}

/// An item's keys and the local customer they belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The caller's index of the local customer, or [`PADDING`].
    pub owner: u32,
    /// The item's keys.
    pub derived: Derived,
}

impl Entry {
    /// An entry that no item leads to, to pad a published set with.
    pub fn padding(rng: &mut impl CryptoRng) -> Self {
        let mut output = [0_u8; 64];
        rng.fill_bytes(&mut output);
        Self {
            owner: PADDING,
            derived: Derived::of_output(&output),
        }
    }
}

impl Zeroize for Entry {
    fn zeroize(&mut self) {
        wipe(std::slice::from_mut(self));
    }
}

impl Blank for Entry {
    const BLANK: Self = Self {
        owner: 0,
        derived: Derived {
            tag: [0; 16],
            claim: [0; 16],
            master: [0; 32],
        },
    };
}

/// What stands before the last field, of `last_bytes` bytes, in the message whose SHA-512 is [`crate::suite::derive`] of a
/// label and fields.
pub(crate) fn derivation_prefix(label: &str, fields: &[&[u8]], last_bytes: u32) -> Vec<u8> {
    let mut prefix = Vec::new();
    for part in [label.as_bytes()].iter().chain(fields) {
        prefix.extend_from_slice(&length32(part));
        prefix.extend_from_slice(part);
    }
    prefix.extend_from_slice(&last_bytes.to_be_bytes());
    prefix
}

fn length32(part: &[u8]) -> [u8; 4] {
    u32::try_from(part.len())
        .expect("derivations in batches have short fields")
        .to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::derivation_prefix;
    use crate::{backend::Backend, suite::derive};

    #[test]
    fn a_batch_of_derivations_is_many_derivations() {
        let items = [[1; 32], [2; 32], [3; 32]];
        let prefix = derivation_prefix("OVL1/keys", &[b"", b"context"], 32);
        let expected = items.map(|item| derive("OVL1/keys", &[b"", b"context", &item]));
        for backend in Backend::available() {
            assert_eq!(backend.sha512_after(&prefix, items.iter()), expected);
        }
    }
}
