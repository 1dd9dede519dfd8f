//! A policy and the stages it is about, as they cross the wire and as the store keeps them.

use std::collections::BTreeMap;

use overlap_crypto::terms::{KeyType, Tier};
use serde::{Deserialize, Serialize};

use super::policy::{MAX_STAGES, Policy, Stage, StageCategory, is_name};
use crate::error::{Error, Reason};

/// One side's policy and stages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Document {
    pub(super) policy: Policy,
    /// By ordinal, then id.
    pub(super) stages: Vec<Stage>,
}

impl Document {
    pub(super) fn new(policy: Policy, mut stages: Vec<Stage>) -> Self {
        stages.sort_by(|a, b| (a.ordinal, &a.id).cmp(&(b.ordinal, &b.id)));
        Self { policy, stages }
    }

    /// The document's only encoding: both sides hash it.
    pub(super) fn encode(&self) -> Result<Vec<u8>, Error> {
        serde_json::to_vec(&Text::from(self))
            .map_err(|error| Error::internal(format!("sharing document: {error}")))
    }

    /// Reads a document.
    ///
    /// # Errors
    /// `PEER_FAULT` if it is malformed or its values are out of range.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let fault =
            |problem: String| Error::new(Reason::PeerFault, format!("sharing document: {problem}"));
        let text: Text = serde_json::from_slice(bytes).map_err(|error| fault(error.to_string()))?;
        let document = Self::try_from(text).map_err(fault)?;
        document
            .policy
            .check()
            .and_then(|()| document.policy.check_stages(&document.stages))
            .map_err(|error| fault(error.message().to_owned()))?;
        Ok(document)
    }
}

impl Serialize for Document {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Text::from(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Text::deserialize(deserializer)?;
        let document = Self::try_from(text).map_err(serde::de::Error::custom)?;
        document
            .policy
            .check()
            .and_then(|()| document.policy.check_stages(&document.stages))
            .map_err(serde::de::Error::custom)?;
        Ok(document)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    tiers: BTreeMap<String, TierName>,
    shared_fields: Vec<String>,
    timeline: bool,
    match_on: Vec<String>,
    domain_from_email: bool,
    min_count: u32,
    count_by_count: bool,
    label_field_bytes: u32,
    padding: u32,
    max_evaluations_per_epoch: u64,
    min_interval_s: u32,
    stages: Vec<StageText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StageText {
    id: String,
    label: String,
    ordinal: u32,
    category: String,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TierName {
    Hidden,
    Count,
    List,
}

impl From<&Document> for Text {
    fn from(document: &Document) -> Self {
        let policy = &document.policy;
        Self {
            tiers: policy
                .tiers
                .iter()
                .map(|(stage, tier)| {
                    let tier = match tier {
                        Tier::Hidden => TierName::Hidden,
                        Tier::Count => TierName::Count,
                        Tier::List => TierName::List,
                    };
                    (stage.clone(), tier)
                })
                .collect(),
            shared_fields: policy.shared_fields.clone(),
            timeline: policy.timeline,
            match_on: policy
                .match_on
                .iter()
                .map(|key_type| key_type.name().to_owned())
                .collect(),
            domain_from_email: policy.domain_from_email,
            min_count: policy.min_count,
            count_by_count: policy.count_by_count,
            label_field_bytes: policy.label_field_bytes,
            padding: policy.padding,
            max_evaluations_per_epoch: policy.max_evaluations_per_epoch,
            min_interval_s: policy.min_interval_s,
            stages: document
                .stages
                .iter()
                .map(|stage| StageText {
                    id: stage.id.clone(),
                    label: stage.label.clone(),
                    ordinal: stage.ordinal,
                    category: stage.category.name().to_owned(),
                })
                .collect(),
        }
    }
}

impl TryFrom<Text> for Document {
    type Error = String;

    fn try_from(text: Text) -> Result<Self, String> {
        if text.stages.len() > MAX_STAGES {
            return Err("too many stages".to_owned());
        }
        let mut stages: Vec<Stage> = Vec::with_capacity(text.stages.len());
        for stage in text.stages {
            if !is_name(&stage.id)
                || !is_name(&stage.label)
                || stages.iter().any(|before| before.id == stage.id)
            {
                return Err("a stage's name is malformed or repeated".to_owned());
            }
            stages.push(Stage {
                category: StageCategory::from_name(&stage.category)
                    .ok_or("a stage's category is unknown")?,
                id: stage.id,
                label: stage.label,
                ordinal: stage.ordinal,
            });
        }
        let match_on = text
            .match_on
            .iter()
            .map(|name| {
                KeyType::ALL
                    .into_iter()
                    .find(|key_type| key_type.name() == name)
                    .ok_or_else(|| "a key type is unknown".to_owned())
            })
            .collect::<Result<_, _>>()?;
        let policy = Policy {
            tiers: text
                .tiers
                .into_iter()
                .map(|(stage, tier)| {
                    let tier = match tier {
                        TierName::Hidden => Tier::Hidden,
                        TierName::Count => Tier::Count,
                        TierName::List => Tier::List,
                    };
                    (stage, tier)
                })
                .collect(),
            shared_fields: text.shared_fields,
            timeline: text.timeline,
            match_on,
            domain_from_email: text.domain_from_email,
            min_count: text.min_count,
            count_by_count: text.count_by_count,
            label_field_bytes: text.label_field_bytes,
            padding: text.padding,
            max_evaluations_per_epoch: text.max_evaluations_per_epoch,
            min_interval_s: text.min_interval_s,
        };
        Ok(Self::new(policy, stages))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_read_strictly() {
        let policy = Policy::from_toml("[stages]\nLead = \"list\"\n", "p").unwrap();
        let document = Document::new(policy, Stage::built_in());
        let bytes = document.encode().unwrap();
        assert_eq!(Document::decode(&bytes).unwrap(), document);
        let text = String::from_utf8(bytes).unwrap();
        for (from, to) in [
            ("\"tiers\":{\"Lead\"", "\"tiers\":{\"Nowhere\""),
            ("\"timeline\":false", "\"timeline\":false,\"more\":1"),
            ("\"min_count\":5", "\"min_count\":0"),
            ("\"email\"", "\"e-mail\""),
            ("[\"email\",\"phone\",\"domain\"]", "[\"phone\",\"email\"]"),
            ("\"OPEN\"", "\"CLOSED\""),
            ("\"id\":\"Deal\"", "\"id\":\"Lead\""),
        ] {
            assert!(text.contains(from), "{from} in {text}");
            let error = Document::decode(text.replacen(from, to, 1).as_bytes()).unwrap_err();
            assert_eq!(error.reason(), Reason::PeerFault, "{to}");
        }
    }
}
