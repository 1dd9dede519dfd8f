//! Slices: the published tags cut by prefix, each committed to before the first is sent (PROTOCOL.md §7.4).

use super::{
    MAX_SLICE_TAGS, MAX_SLICES, SLICE_BYTES, SLICE_TAGS,
    label::{Labels, label_keys, seal_keys},
};
use crate::{
    backend::{Backend, SEAL_BYTES, SealBatch},
    context::{Context, SessionId},
    fault::{Fault, Misuse},
    item::Entry,
    suite::derive_truncated,
    transcript::payload_digest,
    wire::{Flow, SliceBody},
};

/// Bytes of a tag.
const TAG_BYTES: u64 = 16;

/// How tags are cut into slices: by their first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceLayout {
    prefix_bits: u8,
}

impl SliceLayout {
    /// The layout of `tags` tags with labels of `label_bytes` sealed bytes: the smallest power of two of slices with at most
    /// [`SLICE_TAGS`] tags and [`SLICE_BYTES`] bytes on average, but never more than [`MAX_SLICES`].
    #[must_use]
    pub const fn for_total(tags: u64, label_bytes: u64) -> Self {
        let fitting = SLICE_BYTES / (TAG_BYTES + label_bytes);
        let each = if fitting < SLICE_TAGS {
            fitting
        } else {
            SLICE_TAGS
        };
        let prefix_bits = tags.div_ceil(each).next_power_of_two().trailing_zeros();
        let most = MAX_SLICES.trailing_zeros();
        Self {
            prefix_bits: if prefix_bits < most {
                prefix_bits
            } else {
                most
            } as u8,
        }
    }

    /// How many bits of a tag say which slice it is in.
    #[must_use]
    pub const fn prefix_bits(self) -> u8 {
        self.prefix_bits
    }

    /// Number of slices.
    #[must_use]
    pub const fn slices(self) -> u32 {
        1 << self.prefix_bits
    }

    /// The slice of a tag.
    #[must_use]
    pub const fn slice_of(self, tag: &[u8; 16]) -> u32 {
        let head = u32::from_be_bytes([tag[0], tag[1], tag[2], tag[3]]);
        // A shift by all 32 bits is no shift at all.
        (head as u64 >> (32 - self.prefix_bits as u32)) as u32
    }
}

/// What the commitment to a slice is.
pub(crate) fn commitment(session: &SessionId, flow: Flow, index: u32, payload: &[u8]) -> [u8; 32] {
    derive_truncated(
        "OVL1/slice",
        &[
            &session.0,
            &[flow.code()],
            &index.to_be_bytes(),
            &payload_digest(payload),
        ],
    )
}

/// A slice ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedSlice {
    /// The body of the SLICE frame.
    pub payload: Vec<u8>,
    /// Its hash, for the COMMITMENTS frame.
    pub commitment: [u8; 32],
}

impl SealedSlice {
    pub(super) fn new(
        backend: Backend,
        (session, flow, context): (&SessionId, Flow, &Context),
        layout: SliceLayout,
        index: u32,
        entries: &[Entry],
        labels: &Labels,
    ) -> Result<Self, Misuse> {
        if entries.len() > MAX_SLICE_TAGS {
            return Err(Misuse::TooMany);
        }
        let sorted = entries.is_sorted_by(|a, b| a.derived.tag < b.derived.tag);
        let inside = [entries.first(), entries.last()]
            .into_iter()
            .flatten()
            .all(|entry| layout.slice_of(&entry.derived.tag) == index);
        if !sorted || !inside || entries.len() != labels.len() {
            return Err(Misuse::EntriesUnsorted);
        }
        let sealed_bytes = labels.format().sealed_bytes();
        let keys = label_keys(
            backend,
            context,
            session,
            entries.iter().map(|entry| &entry.derived.master),
        );
        let mut sealed = Vec::with_capacity(entries.len() * sealed_bytes);
        for position in 0..entries.len() {
            sealed.extend_from_slice(labels.at(position));
            sealed.extend_from_slice(&[0; SEAL_BYTES]);
        }
        let tags: Vec<[u8; 16]> = entries.iter().map(|entry| entry.derived.tag).collect();
        let bindings: Vec<&[u8; 16]> = tags.iter().collect();
        backend.seal_each(SealBatch {
            keys: &seal_keys(&keys),
            aads: &bindings,
            texts: &mut sealed,
            stride: sealed_bytes,
        });
        let sealed_bytes = u16::try_from(sealed_bytes).expect("a label has at most 4096 bytes");
        let payload = SliceBody::encode(index, sealed_bytes, &tags, &sealed);
        let commitment = commitment(session, flow, index, &payload);
        Ok(Self {
            payload,
            commitment,
        })
    }
}

/// Whether a received slice is the committed one and well formed.
pub(super) fn check(
    session: &SessionId,
    flow: Flow,
    layout: SliceLayout,
    committed: &[u8; 32],
    slice: &SliceBody<'_>,
) -> Result<(), Fault> {
    if &commitment(session, flow, slice.index, slice.payload) != committed {
        return Err(Fault::CommitmentMismatch);
    }
    if !slice.tags.is_sorted_by(|a, b| a < b) {
        return Err(Fault::TagsNotIncreasing);
    }
    // The tags are sorted: the ends tell for all.
    let outside = [slice.tags.first(), slice.tags.last()]
        .into_iter()
        .flatten()
        .any(|tag| layout.slice_of(tag) != slice.index);
    if outside {
        return Err(Fault::TagOutsideSlice);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::SliceLayout;

    #[test]
    fn slices_of_long_labels_hold_about_512_kib() {
        // 524,288 / (16 + 1,008) = 512 tags a slice.
        for (tags, label_bytes, slices) in [
            (512, 1_008, 1),
            (513, 1_008, 2),
            (1 << 20, 1_008, 2_048),
            (1 << 26, 1_008, 16_384),
        ] {
            assert_eq!(
                SliceLayout::for_total(tags, label_bytes).slices(),
                slices,
                "{tags} of {label_bytes}"
            );
        }
    }

    #[test]
    fn slices_hold_about_8192_tags() {
        for (tags, slices) in [
            (0, 1),
            (1, 1),
            (8_192, 1),
            (8_193, 2),
            (1 << 20, 128),
            ((1 << 20) + 1, 256),
            (1 << 26, 8_192),
        ] {
            assert_eq!(SliceLayout::for_total(tags, 33).slices(), slices, "{tags}");
        }
        let one = SliceLayout::for_total(10, 33);
        assert_eq!(one.slice_of(&[0xff; 16]), 0);
        let many = SliceLayout::for_total(1 << 20, 33);
        assert_eq!(many.slice_of(&[0xff; 16]), 127);
        assert_eq!(many.slice_of(&[0x02; 16]), 1);
    }
}
