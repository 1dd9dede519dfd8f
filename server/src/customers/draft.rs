//! One customer on its way into the store: checked, normalised, in its stored form.

use std::{borrow::Cow, collections::HashMap};

use overlap_crypto::terms::KeyType;

use super::{
    blob, limits,
    normalize::{self, Outcome, Region, trim},
};
use crate::{error::Error, sharing::policy::Stage};

/// A customer as a file or a message has it.
#[derive(Default)]
pub(super) struct Draft<'a> {
    pub(super) id: Cow<'a, str>,
    pub(super) stage: Cow<'a, str>,
    pub(super) name: Cow<'a, str>,
    pub(super) owner: Cow<'a, str>,
    pub(super) industry: Cow<'a, str>,
    pub(super) region: Cow<'a, str>,
    pub(super) private: bool,
    /// With the index of the value where it came from, which errors name.
    pub(super) identifiers: Vec<(KeyType, usize, Cow<'a, str>)>,
    /// Further fields, ascending by name, without empty values.
    pub(super) fields: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl Draft<'_> {
    fn clear(&mut self) {
        self.identifiers.clear();
        self.fields.clear();
        self.private = false;
    }
}

/// A draft to be filled with the next customer, reusing what the last one allocated.
pub(super) fn renew<'a>(mut draft: Draft<'_>) -> Draft<'a> {
    draft.clear();
    let Draft {
        identifiers,
        fields,
        ..
    } = draft;
    Draft {
        // An empty vector's items may take any lifetime; collecting it in place keeps its allocation.
        identifiers: identifiers
            .into_iter()
            .map(|(key_type, index, _)| (key_type, index, Cow::Borrowed("")))
            .collect(),
        fields: fields
            .into_iter()
            .map(|_| (Cow::Borrowed(""), Cow::Borrowed("")))
            .collect(),
        ..Draft::default()
    }
}

/// Where in a customer a problem is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    Id,
    Stage,
    Name,
    Owner,
    Industry,
    Region,
    Identifier(KeyType, usize),
    /// All identifiers of the customer.
    Identifiers,
    /// The further field of this name.
    Field(String),
    /// All further fields of the customer.
    Fields,
}

/// What is wrong with a customer, and where in it.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) place: Place,
    pub(super) problem: String,
}

/// Customers in their stored form, with what sorting needs.
#[derive(Default)]
pub(super) struct Block {
    pub(super) bytes: Vec<u8>,
    pub(super) entries: Vec<Indexed>,
    pub(super) unusable: Tally,
}

/// A customer of a [`Block`].
#[derive(Clone, Copy)]
pub(super) struct Indexed {
    /// The first bytes of the id, big-endian.
    pub(super) prefix: u128,
    pub(super) start: u32,
    pub(super) length: u32,
}

/// Identifiers that are no keys, by outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tally([u64; Outcome::ALL.len()]);

impl Default for Tally {
    fn default() -> Self {
        Self([0; Outcome::ALL.len()])
    }
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    /// The outcomes that occurred.
    pub(super) fn counts(&self) -> impl Iterator<Item = (Outcome, u64)> + '_ {
        Outcome::ALL
            .iter()
            .copied()
            .zip(self.0)
            .filter(|(_, count)| *count > 0)
    }
}

/// A customer in its stored form, with where it came from.
#[derive(Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) id: &'a str,
    /// The line of a file, or [`Origin`](super::spool::Origin) of a stream.
    pub(super) origin: u64,
    pub(super) stage: i64,
    pub(super) private: bool,
    pub(super) name: &'a str,
    pub(super) identifiers: &'a [u8],
    pub(super) details: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads what [`Encoder::encode`] wrote.
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut reader = blob::Reader(bytes);
        Ok(Self {
            id: reader.text()?,
            origin: reader.number()?,
            stage: i64::try_from(reader.number()?).map_err(|_| blob::damaged())?,
            private: reader.byte()? != 0,
            name: reader.text()?,
            identifiers: reader.bytes()?,
            details: reader.0,
        })
    }
}

/// Checks and encodes customers.
pub(super) struct Encoder {
    stages: HashMap<String, u64>,
    known: String,
    region: Option<Region>,
}

impl Encoder {
    /// An encoder that knows these stages, each with its number in the store.
    pub(super) fn new(stages: &[(i64, Stage)], region: Option<Region>) -> Self {
        Self {
            stages: stages
                .iter()
                .map(|(number, stage)| (stage.id.clone(), number.unsigned_abs()))
                .collect(),
            known: stages
                .iter()
                .map(|(_, stage)| stage.id.as_str())
                .collect::<Vec<_>>()
                .join(", "),
            region,
        }
    }

    /// Appends a customer to `block`.
    pub(super) fn encode(
        &self,
        draft: &Draft<'_>,
        origin: u64,
        block: &mut Block,
        scratch: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let id = id(&draft.id).map_err(|problem| fault(Place::Id, problem))?;
        let stage = self.stage(&draft.stage)?;
        let start = block.bytes.len();
        let out = &mut block.bytes;
        blob::put(out, id.as_bytes());
        blob::put_number(out, origin);
        blob::put_number(out, stage);
        out.push(u8::from(draft.private));
        blob::put(out, text(&draft.name, Place::Name)?.as_bytes());
        scratch.clear();
        self.identifiers(draft, scratch, &mut block.unusable)?;
        blob::put(out, scratch);
        details(draft, out)?;
        let position = |position: usize| {
            u32::try_from(position).expect("a block holds far fewer than 2^32 bytes")
        };
        block.entries.push(Indexed {
            prefix: prefix(id),
            start: position(start),
            length: position(out.len() - start),
        });
        Ok(())
    }

    fn stage(&self, raw: &str) -> Result<u64, Fault> {
        let stage = trim(raw);
        self.stages.get(stage).copied().ok_or_else(|| {
            fault(
                Place::Stage,
                if stage.is_empty() {
                    format!("the stage is missing: give one of {}", self.known)
                } else {
                    format!(
                        "unknown stage \"{}\": the stages are {}; define a new one before customers use it",
                        excerpt(stage),
                        self.known
                    )
                },
            )
        })
    }

    fn identifiers(
        &self,
        draft: &Draft<'_>,
        out: &mut Vec<u8>,
        unusable: &mut Tally,
    ) -> Result<(), Fault> {
        for (key_type, index, raw) in &draft.identifiers {
            if trim(raw).is_empty() {
                continue;
            }
            let raw = raw.trim();
            if raw.len() > limits::MAX_IDENTIFIER_BYTES {
                return Err(fault(
                    Place::Identifier(*key_type, *index),
                    too_long(raw, limits::MAX_IDENTIFIER_BYTES),
                ));
            }
            if out.is_empty() {
                let phones = draft
                    .identifiers
                    .iter()
                    .any(|(key_type, ..)| *key_type == KeyType::Phone);
                let region = self.region.as_ref().filter(|_| phones).map(Region::code);
                blob::begin_identifiers(out, region);
            }
            let key = normalize::normalize(*key_type, raw, self.region);
            if let Err(outcome) = key {
                unusable.0[usize::from(outcome.code())] += 1;
            }
            blob::put_identifier(
                out,
                *key_type,
                raw,
                key.as_deref().map_err(|outcome| *outcome),
            );
        }
        if draft.identifiers.len() > limits::MAX_IDENTIFIERS {
            return Err(fault(
                Place::Identifiers,
                format!(
                    "{} identifiers: a customer has at most {}",
                    draft.identifiers.len(),
                    limits::MAX_IDENTIFIERS
                ),
            ));
        }
        Ok(())
    }
}

fn details(draft: &Draft<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    let owner = text(&draft.owner, Place::Owner)?;
    let industry = text(&draft.industry, Place::Industry)?;
    let region = text(&draft.region, Place::Region)?;
    if draft.fields.len() > limits::MAX_FIELDS {
        return Err(fault(
            Place::Fields,
            format!(
                "{} further fields: a customer has at most {}",
                draft.fields.len(),
                limits::MAX_FIELDS
            ),
        ));
    }
    if draft.fields.is_empty() && owner.is_empty() && industry.is_empty() && region.is_empty() {
        return Ok(());
    }
    for text in [owner, industry, region] {
        blob::put(out, text.as_bytes());
    }
    for (name, value) in &draft.fields {
        if let Some(problem) = field_name(name) {
            return Err(fault(Place::Fields, problem));
        }
        if value.len() > limits::MAX_FIELD_BYTES {
            return Err(fault(
                Place::Field(name.to_string()),
                too_long(value, limits::MAX_FIELD_BYTES),
            ));
        }
        if value.chars().any(is_forbidden) {
            return Err(fault(Place::Field(name.to_string()), CONTROL.to_owned()));
        }
        blob::put(out, name.as_bytes());
        blob::put(out, value.as_bytes());
    }
    Ok(())
}

const CONTROL: &str = "it contains a control character: remove it";

/// What is wrong with the name of a further field.
pub(super) fn field_name(name: &str) -> Option<String> {
    if name.is_empty() {
        Some("a further field has no name".to_owned())
    } else if name.len() > limits::MAX_FIELD_NAME_BYTES {
        Some(format!(
            "a field's name is {}",
            too_long(name, limits::MAX_FIELD_NAME_BYTES)
        ))
    } else if name.chars().any(char::is_control) {
        Some("a field's name contains a control character: remove it".to_owned())
    } else {
        None
    }
}

/// A customer's id without space around it, if it is one.
pub(super) fn id(raw: &str) -> Result<&str, String> {
    let id = trim(raw);
    if id.is_empty() {
        return Err("the id is missing".to_owned());
    }
    if id.len() > limits::MAX_ID_BYTES {
        return Err(too_long(id, limits::MAX_ID_BYTES));
    }
    if id.chars().any(char::is_control) {
        return Err(CONTROL.to_owned());
    }
    Ok(id)
}

fn text(raw: &str, place: Place) -> Result<&str, Fault> {
    let text = raw.trim();
    if text.len() > limits::MAX_TEXT_BYTES {
        return Err(fault(place, too_long(text, limits::MAX_TEXT_BYTES)));
    }
    if text.chars().any(is_forbidden) {
        return Err(fault(place, CONTROL.to_owned()));
    }
    Ok(text)
}

/// Control characters that would garble a terminal or a file; line breaks and tabs are text.
fn is_forbidden(character: char) -> bool {
    character.is_control() && !matches!(character, '\n' | '\r' | '\t')
}

fn too_long(value: &str, limit: usize) -> String {
    format!("{} bytes long: at most {limit} are allowed", value.len())
}

fn fault(place: Place, problem: String) -> Fault {
    Fault { place, problem }
}

/// The start of a value, fit for a message.
pub(super) fn excerpt(value: &str) -> String {
    const MOST: usize = 40;
    let mut start: String = value
        .chars()
        .take(MOST)
        .flat_map(char::escape_debug)
        .collect();
    if value.chars().nth(MOST).is_some() {
        start.push('…');
    }
    start
}

/// The first bytes of an id as a number that orders like the id.
pub(super) fn prefix(id: &str) -> u128 {
    let mut bytes = [0; 16];
    let length = id.len().min(16);
    bytes[..length].copy_from_slice(&id.as_bytes()[..length]);
    u128::from_be_bytes(bytes)
}
