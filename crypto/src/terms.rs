//! What two parties agreed to disclose to each other, in the canonical form both hash (PROTOCOL.md §5.1).

use std::collections::BTreeSet;

use crate::{
    context::OrganizationId,
    fault::Misuse,
    list::{LabelFormat, MAX_CHUNK, StageSet},
    suite::{SUITE, VERSION, derive_truncated},
    wire::Writer,
};

/// What the partner may learn about the customers of one stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Never loaded into the protocol.
    Hidden,
    /// How many, never who.
    Count,
    /// Who, the stage and the permitted fields.
    List,
}

/// A kind of identifier; the order of the variants is the agreed order of key types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyType {
    /// An identifier both organisations keep, compared byte for byte.
    ExternalId,
    /// An e-mail address.
    Email,
    /// A phone number in E.164.
    Phone,
    /// A registrable domain.
    Domain,
}

impl Tier {
    const fn code(self) -> u8 {
        match self {
            Self::Hidden => 0,
            Self::Count => 1,
            Self::List => 2,
        }
    }
}

impl KeyType {
    /// Every key type in the agreed order.
    pub const ALL: [Self; 4] = [Self::ExternalId, Self::Email, Self::Phone, Self::Domain];

    /// The byte that stands for it on the wire and in storage.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::ExternalId => 1,
            Self::Email => 2,
            Self::Phone => 3,
            Self::Domain => 4,
        }
    }

    /// The key type with this code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|key_type| key_type.code() == code)
    }

    /// The name used in policy files and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ExternalId => "external_id",
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Domain => "domain",
        }
    }
}

/// Where in a customer's life a stage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    /// Not decided yet.
    Open,
    /// A customer.
    Customer,
    /// Decided against.
    Lost,
    /// A former customer.
    Churned,
}

impl Category {
    const fn code(self) -> u8 {
        match self {
            Self::Open => 0,
            Self::Customer => 1,
            Self::Lost => 2,
            Self::Churned => 3,
        }
    }
}

/// One lifecycle stage of one side, and what it grants the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The owner's stable id.
    pub id: String,
    /// The name shown.
    pub label: String,
    /// Its place in the lifecycle.
    pub ordinal: u32,
    /// Its category.
    pub category: Category,
    /// What the partner may learn about its customers.
    pub tier: Tier,
}

/// How set sizes are rounded up before the partner sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// Not at all.
    None,
    /// To the next multiple of this number.
    Multiple(u32),
    /// To the next power of two, at least this number.
    PowerOfTwo(u32),
}

impl Padding {
    /// The padded size of a set of `count` items.
    #[must_use]
    pub const fn padded(self, count: u64) -> u64 {
        match self {
            Self::None | Self::Multiple(0) => count,
            Self::Multiple(step) => {
                let step = step as u64;
                let padded = count.div_ceil(step) * step;
                if padded == 0 { step } else { padded }
            }
            Self::PowerOfTwo(least) => {
                let padded = count.next_power_of_two();
                if padded < least as u64 {
                    least as u64
                } else {
                    padded
                }
            }
        }
    }

    const fn code(self) -> (u8, u32) {
        match self {
            Self::None => (0, 0),
            Self::Multiple(step) => (1, step),
            Self::PowerOfTwo(least) => (2, least),
        }
    }
}

/// What one side discloses, and under which limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SideTerms {
    /// Whose terms these are.
    pub organization: OrganizationId,
    /// Every stage, hidden ones too; [`Terms::new`] puts them in the order of ordinal and id, and a stage's index in that
    /// order stands for it on the wire.
    pub stages: Vec<Stage>,
    /// The fields it discloses with list-tier customers, in the order of the label's fields area.
    pub fields: Vec<String>,
    /// Whether it discloses timelines.
    pub timeline: bool,
    /// The key types it lets be matched.
    pub key_types: BTreeSet<KeyType>,
    /// Whether its company keys may come from e-mail addresses.
    pub domain_from_email: bool,
    /// The smallest count it reports.
    pub min_count: u32,
    /// Whether it takes part in the count flow.
    pub count_by_count: bool,
    /// Bytes of the fields area of its labels.
    pub label_field_bytes: u16,
    /// How its set sizes are rounded up.
    pub padding: Padding,
    /// Queries it answers in 30 days.
    pub max_queries: u64,
    /// Tags of the other side's that it compares with its own in 30 days.
    pub max_tags: u64,
    /// The longest life of its VOPRF key.
    pub epoch_days: u16,
    /// The shortest time between two releases of a reported cell.
    pub min_interval_s: u64,
}

impl SideTerms {
    /// The stages of this tier, by index.
    #[must_use]
    pub fn stages_of(&self, tier: Tier) -> StageSet {
        (0_u8..)
            .zip(&self.stages)
            .filter(|(_, stage)| stage.tier == tier)
            .fold(StageSet::default(), |set, (index, _)| set.with(index))
    }

    /// The index of a stage.
    #[must_use]
    pub fn stage_index(&self, id: &str) -> Option<u8> {
        (0_u8..)
            .zip(&self.stages)
            .find_map(|(index, stage)| (stage.id == id).then_some(index))
    }

    /// The format of its labels.
    /// # Errors
    /// [`Misuse::FieldsTooLong`].
    pub const fn label_format(&self) -> Result<LabelFormat, Misuse> {
        LabelFormat::new(self.label_field_bytes)
    }

    fn check(&self) -> Result<(), Misuse> {
        if self.stages.is_empty() || self.stages.len() > 64 {
            return Err(Misuse::Terms("a side has 1 to 64 stages"));
        }
        if self.fields.len() > 64 {
            return Err(Misuse::Terms("a side discloses at most 64 fields"));
        }
        let ids: BTreeSet<&str> = self.stages.iter().map(|stage| stage.id.as_str()).collect();
        let fields: BTreeSet<&str> = self.fields.iter().map(String::as_str).collect();
        if ids.len() != self.stages.len() || fields.len() != self.fields.len() {
            return Err(Misuse::Terms("stage ids and fields are unique"));
        }
        let names = self
            .stages
            .iter()
            .flat_map(|stage| [&stage.id, &stage.label])
            .chain(&self.fields);
        for name in names {
            if name.is_empty() || name.len() > 255 {
                return Err(Misuse::Terms("names have 1 to 255 bytes"));
            }
        }
        if self.min_count == 0 {
            return Err(Misuse::Terms("the threshold is at least 1"));
        }
        self.label_format().map(|_| ())
    }

    /// What a change of starts a new series of reports: stages, tiers and keys.
    fn write_structure(&self, writer: Writer) -> Writer {
        let mut writer = writer.bytes(&self.organization.0).count(self.stages.len());
        for stage in &self.stages {
            writer = writer
                .count(stage.id.len())
                .bytes(stage.id.as_bytes())
                .u32(stage.ordinal)
                .u8(stage.category.code())
                .u8(stage.tier.code());
        }
        writer = writer.count(self.key_types.len());
        for key_type in &self.key_types {
            writer = writer.u8(key_type.code());
        }
        writer.u8(u8::from(self.domain_from_email))
    }

    fn write(&self, writer: Writer) -> Writer {
        let mut writer = self.write_structure(writer);
        for stage in &self.stages {
            writer = writer
                .count(stage.label.len())
                .bytes(stage.label.as_bytes());
        }
        writer = writer.count(self.fields.len());
        for field in &self.fields {
            writer = writer.count(field.len()).bytes(field.as_bytes());
        }
        let (padding, size) = self.padding.code();
        writer
            .u8(u8::from(self.timeline))
            .u32(self.min_count)
            .u8(u8::from(self.count_by_count))
            .u16(self.label_field_bytes)
            .u8(padding)
            .u32(size)
            .u64(self.max_queries)
            .u64(self.max_tags)
            .u16(self.epoch_days)
            .u64(self.min_interval_s)
    }
}

/// The terms of one partnership: both sides' disclosures and everything both have to do alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    sides: [SideTerms; 2],
    normaliser_version: u16,
    suffix_list: String,
    chunk_elements: u32,
}

impl Terms {
    /// Elements of a chunk unless agreed otherwise.
    pub const DEFAULT_CHUNK_ELEMENTS: u32 = 16_384;

    /// The canonical terms: sides in the order of their ids, stages in the order of ordinal and id.
    ///
    /// # Errors
    /// [`Misuse::Terms`] or [`Misuse::FieldsTooLong`] if the protocol cannot express them.
    pub fn new(
        one: SideTerms,
        other: SideTerms,
        normaliser_version: u16,
        suffix_list: String,
        chunk_elements: u32,
    ) -> Result<Self, Misuse> {
        let mut sides = [one, other];
        sides.sort_by_key(|side| side.organization);
        for side in &mut sides {
            side.check()?;
            side.stages
                .sort_by(|a, b| (a.ordinal, &a.id).cmp(&(b.ordinal, &b.id)));
        }
        if sides[0].organization == sides[1].organization {
            return Err(Misuse::Terms("the two sides are two organisations"));
        }
        if suffix_list.len() > 255 {
            return Err(Misuse::Terms(
                "the suffix list's version has at most 255 bytes",
            ));
        }
        if chunk_elements == 0 || chunk_elements as usize > MAX_CHUNK {
            return Err(Misuse::Terms("a chunk has 1 to 16384 elements"));
        }
        Ok(Self {
            sides,
            normaliser_version,
            suffix_list,
            chunk_elements,
        })
    }

    /// The terms of one side.
    #[must_use]
    pub fn side(&self, organization: &OrganizationId) -> Option<&SideTerms> {
        self.sides
            .iter()
            .find(|side| side.organization == *organization)
    }

    /// The terms of the other side.
    #[must_use]
    pub fn partner_of(&self, organization: &OrganizationId) -> Option<&SideTerms> {
        match &self.sides {
            [one, other] if one.organization == *organization => Some(other),
            [other, one] if one.organization == *organization => Some(other),
            _ => None,
        }
    }

    /// Both sides, in canonical order.
    #[must_use]
    pub const fn sides(&self) -> &[SideTerms; 2] {
        &self.sides
    }

    /// The key types both let be matched, in the agreed order.
    #[must_use]
    pub fn key_types(&self) -> Vec<KeyType> {
        KeyType::ALL
            .into_iter()
            .filter(|key_type| {
                self.sides
                    .iter()
                    .all(|side| side.key_types.contains(key_type))
            })
            .collect()
    }

    /// The version of the rules that normalise keys.
    #[must_use]
    pub const fn normaliser_version(&self) -> u16 {
        self.normaliser_version
    }

    /// Elements of every chunk but the last.
    #[must_use]
    pub const fn chunk_elements(&self) -> u32 {
        self.chunk_elements
    }

    /// Whether both sides take part in the count flow and both have count-tier stages.
    #[must_use]
    pub fn has_count_flow(&self) -> bool {
        self.sides
            .iter()
            .all(|side| side.count_by_count && !side.stages_of(Tier::Count).is_empty())
    }

    /// The canonical bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(1024)
            .u16(VERSION)
            .u16(SUITE)
            .u16(self.normaliser_version)
            .count(self.suffix_list.len())
            .bytes(self.suffix_list.as_bytes())
            .u32(self.chunk_elements);
        for side in &self.sides {
            writer = side.write(writer);
        }
        writer.finish()
    }

    /// The hash both hellos carry.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        derive_truncated("OVL1/terms", &[&self.encode()])
    }

    /// The hash of stages, tiers and keys of both sides: a change starts a new epoch and a new series of reports. What a stage
    /// is called is left out: renaming it moves no customer.
    #[must_use]
    pub fn structure_hash(&self) -> [u8; 32] {
        let writer = Writer::with_capacity(1024)
            .u16(self.normaliser_version)
            .count(self.suffix_list.len())
            .bytes(self.suffix_list.as_bytes());
        let bytes = self
            .sides
            .iter()
            .fold(writer, |writer, side| side.write_structure(writer))
            .finish();
        derive_truncated("OVL1/structure", &[&bytes])
    }
}

#[cfg(test)]
mod tests;
