//! Claims: what makes the evaluator see the receiver's list-tier matches (PROTOCOL.md §7.5).

use subtle::ConstantTimeEq;

use super::{LabelFormat, MAX_SLICE_TAGS, SLICE_BYTES, StageSet, label::Label};
use crate::{
    fault::{Fault, Misuse},
    item::{Entry, PADDING},
    secrets::Secrets,
    wire::{ClaimsBody, EarlierClaimsBody},
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

    fn label_bytes(&self) -> u16 {
        u16::try_from(self.format.plain_bytes()).expect("a label has at most 4096 bytes")
    }

    pub(super) fn encode(&self, index: u32) -> Vec<u8> {
        ClaimsBody {
            index,
            label_bytes: self.label_bytes(),
            claims: &self.claims,
            labels: &self.labels,
        }
        .encode()
    }
}

/// Claims of one frame on tags that earlier runs of the epoch published, in the order of the tags (PROTOCOL.md §7.7).
pub struct EarlierClaims {
    tags: Vec<[u8; 16]>,
    claims: Claims,
}

impl EarlierClaims {
    /// No claims, with labels of this format.
    #[must_use]
    pub fn new(format: LabelFormat) -> Self {
        Self {
            tags: Vec::new(),
            claims: Claims::new(format),
        }
    }

    /// Appends the claim on `tag`; tags increase.
    ///
    /// # Errors
    /// [`Misuse::FieldsTooLong`].
    pub fn push(
        &mut self,
        tag: &[u8; 16],
        claim: &[u8; 16],
        label: &Label<'_>,
    ) -> Result<(), Misuse> {
        self.claims.push(claim, label)?;
        self.tags.push(*tag);
        Ok(())
    }

    /// Number of claims.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.tags.len()
    }

    /// Whether there is no claim.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.tags.is_empty()
    }

    /// Whether the frame has the size that slices are laid out for.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.tags.len() == MAX_SLICE_TAGS / 2
            || self.claims.labels.len() + 32 * self.tags.len() >= SLICE_BYTES as usize
    }

    pub(super) fn body(&self, last: bool) -> EarlierClaimsBody<'_> {
        EarlierClaimsBody {
            last,
            label_bytes: self.claims.label_bytes(),
            tags: &self.tags,
            claims: &self.claims.claims,
            labels: &self.claims.labels,
        }
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

/// Looks claims on tags of earlier runs up among the entries of these tags; both are in tag order.
pub(super) fn look_up_earlier<'a>(
    format: LabelFormat,
    stages: StageSet,
    body: &EarlierClaimsBody<'a>,
    entries: &[Entry],
) -> Result<Vec<Claimed<'a>>, Fault> {
    if usize::from(body.label_bytes) != format.plain_bytes() {
        return Err(Fault::LabelLength);
    }
    let mut entries = entries.iter();
    let mut found = Vec::with_capacity(body.tags.len());
    for ((tag, claim), plain) in body
        .tags
        .iter()
        .zip(body.claims)
        .zip(body.labels.chunks_exact(format.plain_bytes()))
    {
        let entry = entries
            .by_ref()
            .find(|entry| entry.derived.tag == *tag)
            .filter(|entry| entry.owner != PADDING && bool::from(entry.derived.claim.ct_eq(claim)))
            .ok_or(Fault::ClaimUnknown)?;
        let label = format.parse(plain).ok_or(Fault::LabelLength)?;
        if !stages.contains(label.stage) {
            return Err(Fault::ClaimStage);
        }
        found.push(Claimed {
            owner: entry.owner,
            tag: *tag,
            label,
        });
    }
    Ok(found)
}
