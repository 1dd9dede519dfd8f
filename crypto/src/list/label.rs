//! Labels: stage, pseudonym and permitted fields at one fixed length per run (PROTOCOL.md §7.4).

use super::{MAX_LABEL_BYTES, SealedMatches};
use crate::{
    backend::{Backend, SEAL_BYTES, SealBatch, SealKey},
    context::{Context, SessionId},
    fault::Misuse,
    item::derivation_prefix,
    secrets::{Secrets, wipe},
};

/// What one side tells the other about a shared customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label<'a> {
    /// The stage, as an index into the owner's stages in the terms.
    pub stage: u8,
    /// The local customer's pseudonym for this partner and epoch.
    pub pseudonym: [u8; 16],
    /// The fields area, or its beginning: it is filled up with zeros.
    pub fields: &'a [u8],
}

/// The length of every label of one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelFormat {
    field_bytes: u16,
}

impl LabelFormat {
    /// Bytes of the stage and the pseudonym.
    pub const FIXED_BYTES: usize = 17;
    /// Bytes that sealing adds.
    pub const SEAL_BYTES: usize = SEAL_BYTES;
    /// The most bytes of a fields area.
    pub const MAX_FIELD_BYTES: usize = MAX_LABEL_BYTES - Self::FIXED_BYTES - Self::SEAL_BYTES;

    /// Labels with a fields area of this length.
    ///
    /// # Errors
    /// [`Misuse::FieldsTooLong`] above [`Self::MAX_FIELD_BYTES`].
    pub const fn new(field_bytes: u16) -> Result<Self, Misuse> {
        if field_bytes as usize > Self::MAX_FIELD_BYTES {
            return Err(Misuse::FieldsTooLong);
        }
        Ok(Self { field_bytes })
    }

    /// Bytes of the fields area.
    #[must_use]
    pub const fn field_bytes(self) -> usize {
        self.field_bytes as usize
    }

    /// Bytes of a label.
    #[must_use]
    pub const fn plain_bytes(self) -> usize {
        self.field_bytes as usize + Self::FIXED_BYTES
    }

    /// Bytes of a sealed label.
    #[must_use]
    pub const fn sealed_bytes(self) -> usize {
        self.plain_bytes() + Self::SEAL_BYTES
    }

    pub(super) fn append(self, label: &Label<'_>, out: &mut Secrets<u8>) -> Result<(), Misuse> {
        if label.fields.len() > self.field_bytes() {
            return Err(Misuse::FieldsTooLong);
        }
        let end = out.len() + self.plain_bytes();
        out.push(label.stage);
        out.extend_from_slice(&label.pseudonym);
        out.extend_from_slice(label.fields);
        out.fill_up(end);
        Ok(())
    }

    pub(super) fn parse(self, plain: &[u8]) -> Option<Label<'_>> {
        let (&stage, rest) = plain.split_first()?;
        let (pseudonym, fields) = rest.split_first_chunk()?;
        (fields.len() == self.field_bytes()).then_some(Label {
            stage,
            pseudonym: *pseudonym,
            fields,
        })
    }
}

/// Labels back to back, one for each entry of a slice.
pub struct Labels {
    format: LabelFormat,
    bytes: Secrets<u8>,
    count: usize,
}

impl Labels {
    /// No labels, with room for `count`.
    #[must_use]
    pub fn with_capacity(format: LabelFormat, count: usize) -> Self {
        Self {
            format,
            bytes: Secrets::with_capacity(count * format.plain_bytes()),
            count: 0,
        }
    }

    /// Appends a label.
    ///
    /// # Errors
    /// [`Misuse::FieldsTooLong`].
    pub fn push(&mut self, label: &Label<'_>) -> Result<(), Misuse> {
        self.format.append(label, &mut self.bytes)?;
        self.count += 1;
        Ok(())
    }

    /// Appends the label of a padding entry: nobody can open it.
    pub fn push_padding(&mut self) {
        self.bytes
            .fill_up(self.bytes.len() + self.format.plain_bytes());
        self.count += 1;
    }

    /// Number of labels.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no label.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) const fn format(&self) -> LabelFormat {
        self.format
    }

    pub(super) fn at(&self, index: usize) -> &[u8] {
        let stride = self.format.plain_bytes();
        &self.bytes[index * stride..(index + 1) * stride]
    }
}

/// A set of stages, by their index in the terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct StageSet([u64; 4]);

impl StageSet {
    /// Adds a stage.
    #[must_use]
    pub const fn with(mut self, stage: u8) -> Self {
        self.0[stage as usize / 64] |= 1 << (stage % 64);
        self
    }

    /// Whether the stage is in the set.
    #[must_use]
    pub const fn contains(self, stage: u8) -> bool {
        self.0[stage as usize / 64] >> (stage % 64) & 1 == 1
    }

    /// The stages in ascending order.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..=u8::MAX).filter(move |stage| self.contains(*stage))
    }

    /// Whether no stage is in the set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0[0] | self.0[1] | self.0[2] | self.0[3] == 0
    }
}

/// Keys of the labels with these masters: the first half of `Derive("OVL1/label", ctx, sid, master)`.
pub(super) fn label_keys<'a>(
    backend: Backend,
    context: &Context,
    session: &SessionId,
    masters: impl ExactSizeIterator<Item = &'a [u8; 32]>,
) -> Secrets<[u8; 64]> {
    let prefix = derivation_prefix("OVL1/label", &[&context.0, &session.0], 32);
    Secrets::new(backend.sha512_after(&prefix, masters))
}

/// The keys as sealing takes them.
pub(super) fn seal_keys(keys: &[[u8; 64]]) -> Vec<SealKey<'_>> {
    keys.iter()
        .map(|key| key.first_chunk().expect("half of a hash"))
        .collect()
}

/// A match and what the evaluator says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenedMatch<'a> {
    /// The caller's index of the local customer that matched.
    pub owner: u32,
    /// The tag it matched under.
    pub tag: [u8; 16],
    /// The evaluator's label, or `None` if it did not open or names a stage that is not of the list tier: no match then, to
    /// be noted in the local log and nowhere else.
    pub label: Option<Label<'a>>,
}

/// The opened labels of a batch of matches.
pub struct LabelsOpened {
    format: LabelFormat,
    stages: StageSet,
    /// `owner, tag, plain` of each match; `plain` starts at a multiple of the sealed length.
    heads: Vec<(u32, [u8; 16], bool)>,
    plain: Secrets<u8>,
}

impl LabelsOpened {
    pub(super) fn new(
        backend: Backend,
        context: &Context,
        session: &SessionId,
        format: LabelFormat,
        stages: StageSet,
        matches: &SealedMatches,
    ) -> Self {
        let keys = label_keys(backend, context, session, matches.masters());
        let stride = format.sealed_bytes();
        let mut plain = Secrets::with_capacity(matches.len() * stride);
        let mut tags = Vec::with_capacity(matches.len());
        let mut owners = Vec::with_capacity(matches.len());
        for (owner, tag, sealed) in (0..matches.len()).map(|index| matches.at(index)) {
            owners.push(owner);
            tags.push(tag);
            plain.extend_from_slice(sealed);
        }
        let opened = backend.open_each(SealBatch {
            keys: &seal_keys(&keys),
            aads: &tags,
            texts: &mut plain,
            stride,
        });
        for (plain, _) in plain
            .chunks_exact_mut(stride)
            .zip(&opened)
            .filter(|(_, opened)| !**opened)
        {
            wipe(plain);
        }
        let heads = owners
            .into_iter()
            .zip(tags)
            .zip(opened)
            .map(|((owner, tag), opened)| (owner, *tag, opened))
            .collect();
        Self {
            format,
            stages,
            heads,
            plain,
        }
    }

    /// The matches in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = OpenedMatch<'_>> {
        let stride = self.format.sealed_bytes();
        let plain_bytes = self.format.plain_bytes();
        self.heads
            .iter()
            .enumerate()
            .map(move |(index, &(owner, tag, opened))| OpenedMatch {
                owner,
                tag,
                label: opened
                    .then(|| &self.plain[index * stride..index * stride + plain_bytes])
                    .and_then(|plain| self.format.parse(plain))
                    .filter(|label| self.stages.contains(label.stage)),
            })
    }
}

/// The fields area: the values of the terms' fields in their order, each `length(2) || bytes`, absent ones with length
/// 0xffff, then zeros.
pub mod fields {
    use crate::fault::Misuse;

    const ABSENT: u16 = u16::MAX;

    /// Writes the values into an area of `area_bytes`.
    ///
    /// # Errors
    /// [`Misuse::FieldsTooLong`].
    pub fn encode(values: &[Option<&str>], area_bytes: usize) -> Result<Vec<u8>, Misuse> {
        let mut area = Vec::with_capacity(area_bytes);
        for value in values {
            let length = match value {
                None => ABSENT,
                Some(value) => u16::try_from(value.len())
                    .ok()
                    .filter(|length| *length != ABSENT)
                    .ok_or(Misuse::FieldsTooLong)?,
            };
            area.extend_from_slice(&length.to_be_bytes());
            area.extend_from_slice(value.unwrap_or_default().as_bytes());
        }
        if area.len() > area_bytes {
            return Err(Misuse::FieldsTooLong);
        }
        area.resize(area_bytes, 0);
        Ok(area)
    }

    /// Reads `count` values; `None` if the area is not one that [`encode`] writes.
    #[must_use]
    pub fn decode(area: &[u8], count: usize) -> Option<Vec<Option<&str>>> {
        let mut rest = area;
        let mut values = Vec::with_capacity(count.min(256));
        for _ in 0..count {
            let (length, tail) = rest.split_first_chunk()?;
            let length = u16::from_be_bytes(*length);
            if length == ABSENT {
                values.push(None);
                rest = tail;
            } else {
                let (value, tail) = tail.split_at_checked(length.into())?;
                values.push(Some(std::str::from_utf8(value).ok()?));
                rest = tail;
            }
        }
        rest.iter().all(|byte| *byte == 0).then_some(values)
    }
}
