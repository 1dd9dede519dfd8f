//! NDJSON: one JSON object a line.

use std::{borrow::Cow, fmt};

use overlap_crypto::terms::KeyType;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Chunk, Position, Role, error_at, put_identifier};
use crate::{
    customers::draft::{Block, Draft, Encoder, Fault, Place, excerpt},
    error::Error,
};

/// An NDJSON file.
pub(in crate::customers) struct Ndjson {
    file: String,
}

/// A problem with a member of an object; the member's index.
struct Problem {
    member: usize,
    problem: String,
}

impl Ndjson {
    pub(super) fn new(file: &str) -> Self {
        Self {
            file: file.to_owned(),
        }
    }

    pub(super) fn block(&self, chunk: &Chunk, encoder: &Encoder) -> Result<Block, Error> {
        let mut block = Block::default();
        let mut scratch = Vec::new();
        for (number, bytes) in
            (chunk.line..).zip(chunk.bytes[chunk.start..].split(|&byte| byte == b'\n'))
        {
            let at = |column, problem: String| {
                error_at(
                    &self.file,
                    Position {
                        line: number,
                        column,
                    },
                    problem,
                )
            };
            let line = std::str::from_utf8(bytes).map_err(|_| {
                at(
                    None,
                    "the text is not UTF-8: save the file as UTF-8".to_owned(),
                )
            })?;
            if line.trim().is_empty() {
                continue;
            }
            let Object(members) = serde_json::from_str(line)
                .map_err(|error| at(Some((error.column() as u64, "JSON")), described(&error)))?;
            let place = |index: usize| {
                let (name, value): &(Cow<'_, str>, &RawValue) = &members[index];
                let offset = value.get().as_ptr().addr() - line.as_ptr().addr();
                let column = line
                    .get(..offset)
                    .map_or(0, |before| before.chars().count()) as u64
                    + 1;
                (column, name.as_ref())
            };
            let draft = draft(&members).map_err(|Problem { member, problem }| {
                at(members.get(member).map(|_| place(member)), problem)
            })?;
            encoder
                .encode(&draft, number, &mut block, &mut scratch)
                .map_err(|fault| {
                    let member = member_of(&members, &fault);
                    at(member.map(place), fault.problem)
                })?;
        }
        Ok(block)
    }
}

/// serde_json's message without the position, which we give in our own terms.
fn described(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let end = message.rfind(" at line ").unwrap_or(message.len());
    format!("not a JSON object: {}", &message[..end])
}

fn member_of(members: &[(Cow<'_, str>, &RawValue)], fault: &Fault) -> Option<usize> {
    match &fault.place {
        Place::Field(field) => members.iter().position(|(name, _)| name == field),
        _ => {
            let role = Role::of_fault(fault)?;
            members.iter().position(|(name, _)| Role::of(name) == role)
        }
    }
}

fn draft<'a>(members: &'a [(Cow<'a, str>, &'a RawValue)]) -> Result<Draft<'a>, Problem> {
    let mut draft = Draft::default();
    for (member, (name, value)) in members.iter().enumerate() {
        let problem = |problem: String| Problem { member, problem };
        let role = Role::of(name);
        let twice = members[..member]
            .iter()
            .any(|(other, _)| other == name || (role != Role::Field && Role::of(other) == role));
        if twice {
            return Err(problem("this member occurs twice: remove one".to_owned()));
        }
        match role {
            Role::Identifier(key_type) if value.get().starts_with('[') => {
                listed(&mut draft, key_type, value)
            }
            _ => scalar(value).and_then(|text| role.put(&mut draft, name, text)),
        }
        .map_err(problem)?;
    }
    draft.fields.sort_unstable();
    Ok(draft)
}

/// Adds an array of texts, each of which is one identifier.
fn listed<'a>(draft: &mut Draft<'a>, key_type: KeyType, value: &'a RawValue) -> Result<(), String> {
    let values: Vec<&'a RawValue> =
        serde_json::from_str(value.get()).map_err(|error| error.to_string())?;
    for (number, value) in values.into_iter().enumerate() {
        put_identifier(draft, key_type, number, scalar(value)?);
    }
    Ok(())
}

/// A text, or a number or truth value as it is written; `null` is an empty text.
fn scalar(value: &RawValue) -> Result<Cow<'_, str>, String> {
    let json = value.get();
    match json.as_bytes() {
        [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => {
            Ok(Cow::Borrowed(&json[1..json.len() - 1]))
        }
        [b'"', ..] => serde_json::from_str(json)
            .map(Cow::Owned)
            .map_err(|error| error.to_string()),
        [b'{' | b'[', ..] => Err(format!("a text is wanted here, not {}", excerpt(json))),
        b"null" => Ok(Cow::Borrowed("")),
        _ => Ok(Cow::Borrowed(json)),
    }
}

/// An object's members in order, their values as they are written.
struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((Name(name), value)) = map.next_entry()? {
                    members.push((name, value));
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// A member's name, borrowed where it has no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}
