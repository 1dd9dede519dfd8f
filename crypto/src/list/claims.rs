//! Claims: what makes the evaluator see the receiver's list-tier matches (PROTOCOL.md §7.5).

use subtle::ConstantTimeEq;

use super::{LabelFormat, StageSet, label::Label};
use crate::{
    fault::{Fault, Misuse},
    item::{Entry, PADDING},
    secrets::Secrets,
    wire::ClaimsBody,
};

/// The claims of one slice as the receiver builds them.
pub struct Claims {
    format: LabelFormat,
    claims: Vec<[u8; 16]>,
    labels: Secrets<u8>,
}

impl Claims {
    pub(super) fn new(format: LabelFormat) -> Self {
        Self {
            format,
            claims: Vec::new(),
            labels: Secrets::default(),
        }
    }

    pub(super) fn push(&mut self, claim: &[u8; 16], label: &Label<'_>) -> Result<(), Misuse> {
        self.format.append(label, &mut self.labels)?;
        self.claims.push(*claim);
        Ok(())
    }

    pub(super) fn encode(&self, index: u32) -> Vec<u8> {
        ClaimsBody {
            index,
            label_bytes: u16::try_from(self.format.plain_bytes())
                .expect("a label has at most 4096 bytes"),
            claims: &self.claims,
            labels: &self.labels,
        }
        .encode()
    }
}

/// A customer that the receiver claims, and what it says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimed<'a> {
    /// The evaluator's own index of the local customer.
    pub owner: u32,
    /// The tag that was claimed.
    pub tag: [u8; 16],
    /// The receiver's label.
    pub label: Label<'a>,
}

/// Looks the claims of a slice up among the entries that the slice was made of, in one pass: both are in tag order.
pub(super) fn look_up<'a>(
    format: LabelFormat,
    stages: StageSet,
    body: &ClaimsBody<'a>,
    entries: &[Entry],
) -> Result<Vec<Claimed<'a>>, Fault> {
    if usize::from(body.label_bytes) != format.plain_bytes() {
        return Err(Fault::LabelLength);
    }
    if body.claims.len() > entries.len() {
        return Err(Fault::WrongCount);
    }
    // One comparison of whole words, in constant time.
    let same = |entry: &Entry, claim: &[u8; 16]| {
        let (own, claimed) = (entry.derived.claim, *claim);
        let is_equal = u128::from_ne_bytes(own).ct_eq(&u128::from_ne_bytes(claimed));
        entry.owner != PADDING && bool::from(is_equal)
    };
    let mut next = 0;
    let mut found = Vec::with_capacity(body.claims.len());
    for (claim, plain) in body
        .claims
        .iter()
        .zip(body.labels.chunks_exact(format.plain_bytes()))
    {
        let Some(ahead) = entries[next..].iter().position(|entry| same(entry, claim)) else {
            let behind = entries[..next].iter().any(|entry| same(entry, claim));
            return Err(if behind {
                Fault::ClaimRepeated
            } else {
                Fault::ClaimUnknown
            });
        };
        let entry = &entries[next + ahead];
        next += ahead + 1;
        let label = format.parse(plain).ok_or(Fault::LabelLength)?;
        if !stages.contains(label.stage) {
            return Err(Fault::ClaimStage);
        }
        found.push(Claimed {
            owner: entry.owner,
            tag: entry.derived.tag,
            label,
        });
    }
    Ok(found)
}
