//! Sharing policies as people write them, in TOML.
//!
//! ```
//! let policy = overlap_proto::policy_file::parse(
//!     r#"
//!     [stages]
//!     Prospect = "list"
//!     Customer = "count"
//!
//!     [keys]
//!     match_on = ["email", "domain"]
//!     "#,
//!     "policy.toml",
//! )?;
//! assert_eq!(policy.stages.len(), 2);
//! # Ok::<(), overlap_proto::policy_file::PolicyFileError>(())
//! ```

use std::{collections::BTreeMap, fmt, ops::Range, time::Duration};

use serde::{Deserialize, Deserializer, de};
use toml::Spanned;

use crate::v1;

/// Counts below this are suppressed where the policy does not say.
pub const DEFAULT_MIN_COUNT: u32 = 5;
/// Length of a label's fields where there are some and the policy does not say.
pub const DEFAULT_LABEL_BYTES: u32 = 256;
/// Evaluations granted per epoch where the policy does not say.
pub const DEFAULT_MAX_EVALUATIONS: u64 = 1 << 24;
/// Key types where the policy does not say. External ids are left out: equal ids of unrelated systems would match.
pub const DEFAULT_MATCH_ON: [v1::KeyType; 3] =
    [v1::KeyType::Email, v1::KeyType::Phone, v1::KeyType::Domain];

/// What is wrong with a policy file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyFileError {
    /// The file, as the caller names it.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong.
    pub problem: String,
}

impl fmt::Display for PolicyFileError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            column,
            problem,
        } = self;
        write!(formatter, "{file}:{line}:{column}: {problem}")
    }
}

impl std::error::Error for PolicyFileError {}

/// Parses a policy file; `file` is the name that errors give.
///
/// Whether the stages exist is for the node to say: it knows them.
///
/// # Errors
/// What is wrong, with file, line and column: unknown keys, values out of range, anything that is not TOML.
pub fn parse(text: &str, file: &str) -> Result<v1::SharingPolicy, PolicyFileError> {
    let located = |span: Option<Range<usize>>, problem: String| {
        let (line, column) = position(text, span.map_or(0, |span| span.start));
        PolicyFileError {
            file: file.to_owned(),
            line,
            column,
            problem,
        }
    };
    let policy: File =
        toml::from_str(text).map_err(|error| located(error.span(), one_line(error.message())))?;
    let Limits {
        min_count,
        max_evaluations_per_epoch,
        min_interval,
        padding,
        count_by_count,
    } = policy.limits;
    let min_count = match min_count {
        None => DEFAULT_MIN_COUNT,
        Some(value) if *value.get_ref() == 0 => {
            return Err(located(
                Some(value.span()),
                "min_count must be at least 1".to_owned(),
            ));
        }
        Some(value) => value.into_inner(),
    };
    let max_evaluations_per_epoch = match max_evaluations_per_epoch {
        None => DEFAULT_MAX_EVALUATIONS,
        Some(value) if *value.get_ref() == 0 => {
            return Err(located(
                Some(value.span()),
                "max_evaluations_per_epoch must be at least 1".to_owned(),
            ));
        }
        Some(value) => value.into_inner(),
    };
    let match_on = match policy.keys.match_on {
        None => DEFAULT_MATCH_ON.to_vec(),
        Some(keys) if keys.get_ref().is_empty() => {
            return Err(located(
                Some(keys.span()),
                "match_on must name at least one of external_id, email, phone, domain".to_owned(),
            ));
        }
        Some(keys) => keys.into_inner().into_iter().map(|Key(key)| key).collect(),
    };
    let label_field_bytes = match policy.fields.label_bytes {
        _ if policy.fields.share.is_empty() => 0,
        None => DEFAULT_LABEL_BYTES,
        Some(value) if *value.get_ref() == 0 => {
            return Err(located(
                Some(value.span()),
                "label_bytes must be at least 1 where fields are shared".to_owned(),
            ));
        }
        Some(value) => value.into_inner(),
    };
    let min_interval_s = match min_interval {
        None => 0,
        Some(text) => parse_duration(text.get_ref())
            .and_then(|interval| u32::try_from(interval.as_secs()).ok())
            .ok_or_else(|| {
                located(
                    Some(text.span()),
                    format!(
                        "min_interval \"{}\" is not a duration such as \"90s\", \"12h\" or \"7d\"",
                        text.get_ref()
                    ),
                )
            })?,
    };
    Ok(v1::SharingPolicy {
        stages: policy
            .stages
            .into_iter()
            .map(|(stage, Tier(tier))| (stage, tier.into()))
            .collect(),
        shared_fields: policy.fields.share,
        timeline: policy.fields.timeline,
        match_on: match_on.into_iter().map(Into::into).collect(),
        domain_from_email: policy.keys.domain_from_email,
        min_count,
        count_by_count,
        label_field_bytes,
        padding,
        max_evaluations_per_epoch,
        min_interval_s,
    })
}

/// A duration such as `"1500ms"`, `"90s"`, `"15m"`, `"12h"` or `"7d"`; `"0"` needs no unit.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    match text[digits..].trim_start() {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3_600).map(Duration::from_secs),
        "d" => number.checked_mul(86_400).map(Duration::from_secs),
        "" if number == 0 => Some(Duration::ZERO),
        _ => None,
    }
}

/// Line and column of a byte offset, both from 1, the column in characters.
#[must_use]
pub fn position(text: &str, offset: usize) -> (usize, usize) {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = &text[..end];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (
        before.matches('\n').count() + 1,
        before[line_start..].chars().count() + 1,
    )
}

/// A parser's message on one line.
#[must_use]
pub fn one_line(message: &str) -> String {
    message
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join("; ")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    stages: BTreeMap<String, Tier>,
    #[serde(default)]
    fields: Fields,
    #[serde(default)]
    keys: Keys,
    #[serde(default)]
    limits: Limits,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Fields {
    share: Vec<String>,
    label_bytes: Option<Spanned<u32>>,
    timeline: bool,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Keys {
    match_on: Option<Spanned<Vec<Key>>>,
    domain_from_email: bool,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Limits {
    min_count: Option<Spanned<u32>>,
    max_evaluations_per_epoch: Option<Spanned<u64>>,
    min_interval: Option<Spanned<String>>,
    padding: u32,
    count_by_count: bool,
}

struct Tier(v1::Tier);

impl<'de> Deserialize<'de> for Tier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        match name.as_str() {
            "list" => Ok(Self(v1::Tier::List)),
            "count" => Ok(Self(v1::Tier::Count)),
            "hidden" => Ok(Self(v1::Tier::Hidden)),
            _ => Err(de::Error::custom(format!(
                "tier \"{name}\" is not one of \"list\", \"count\", \"hidden\""
            ))),
        }
    }
}

struct Key(v1::KeyType);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        match name.as_str() {
            "external_id" => Ok(Self(v1::KeyType::ExternalId)),
            "email" => Ok(Self(v1::KeyType::Email)),
            "phone" => Ok(Self(v1::KeyType::Phone)),
            "domain" => Ok(Self(v1::KeyType::Domain)),
            _ => Err(de::Error::custom(format!(
                "key \"{name}\" is not one of \"external_id\", \"email\", \"phone\", \"domain\""
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_policy_is_read() {
        let policy = parse(
            r#"
            [stages]
            Prospect = "list"
            Customer = "count"
            Lost = "hidden"
            [fields]
            share = ["name", "owner"]
            label_bytes = 96
            timeline = true
            [keys]
            match_on = ["email", "external_id"]
            domain_from_email = true
            [limits]
            min_count = 10
            max_evaluations_per_epoch = 1000
            min_interval = "12h"
            padding = 1024
            count_by_count = true
            "#,
            "policy.toml",
        )
        .unwrap();
        assert_eq!(policy.stages["Prospect"], i32::from(v1::Tier::List));
        assert_eq!(policy.shared_fields, ["name", "owner"]);
        assert_eq!(policy.label_field_bytes, 96);
        assert_eq!(policy.min_interval_s, 43_200);
        assert!(policy.timeline && policy.domain_from_email && policy.count_by_count);
        assert_eq!((policy.min_count, policy.padding), (10, 1024));
    }

    #[test]
    fn the_sample_has_every_key_and_the_defaults() {
        let sample = include_str!("../../deploy/policy.toml");
        let policy = parse(sample, "deploy/policy.toml").unwrap();
        let tiers = [
            ("Prospect", v1::Tier::Count),
            ("Lead", v1::Tier::List),
            ("Deal", v1::Tier::List),
            ("Customer", v1::Tier::List),
            ("Lost", v1::Tier::Hidden),
        ];
        let written = v1::SharingPolicy {
            stages: tiers
                .map(|(stage, tier)| (stage.to_owned(), tier.into()))
                .into(),
            shared_fields: vec!["name".to_owned(), "industry".to_owned()],
            timeline: false,
            match_on: [v1::KeyType::Email, v1::KeyType::Phone, v1::KeyType::Domain]
                .map(Into::into)
                .into(),
            domain_from_email: false,
            min_count: 5,
            count_by_count: false,
            label_field_bytes: 256,
            padding: 0,
            max_evaluations_per_epoch: 16_777_216,
            min_interval_s: 0,
        };
        assert_eq!(policy, written);
        // What it says beside stages and shared fields is the default.
        let least = r#"
            [stages]
            Prospect = "count"
            Lead = "list"
            Deal = "list"
            Customer = "list"
            Lost = "hidden"
            [fields]
            share = ["name", "industry"]
        "#;
        assert_eq!(policy, parse(least, "least").unwrap());
        let sample: toml::Table = toml::from_str(sample).unwrap();
        let tables = known_keys("");
        assert_eq!(tables, ["stages", "fields", "keys", "limits"]);
        for table in &tables[1..] {
            for key in known_keys(&format!("[{table}]\n")) {
                assert!(
                    sample[table].get(&key).is_some(),
                    "{table}.{key} is not in the sample"
                );
            }
        }
    }

    /// The keys that the parser knows under a table's header, from what it says of one that it does not know.
    fn known_keys(header: &str) -> Vec<String> {
        let text = format!("{header}no_such_key = 1\n");
        let problem = parse(&text, "p.toml").unwrap_err().problem;
        let keys: Vec<String> = problem
            .split('`')
            .skip(3)
            .step_by(2)
            .map(str::to_owned)
            .collect();
        assert!(!keys.is_empty(), "{problem}");
        keys
    }

    #[test]
    fn errors_say_where() {
        for (text, expected) in [
            (
                "[stages]\nProspect = \"lst\"\n",
                "p.toml:2:12: tier \"lst\" is not one of \"list\", \"count\", \"hidden\"",
            ),
            (
                "[stages]\n[limits]\nmin_count = 0\n",
                "p.toml:3:13: min_count must be at least 1",
            ),
            (
                "[stages]\n[limits]\nmin_interval = \"soon\"\n",
                "p.toml:3:16: min_interval \"soon\" is not a duration such as \"90s\", \"12h\" or \"7d\"",
            ),
            (
                "[stages]\n[keys]\nmatch_on = []\n",
                "p.toml:3:12: match_on must name at least one of external_id, email, phone, domain",
            ),
        ] {
            assert_eq!(parse(text, "p.toml").unwrap_err().to_string(), expected);
        }
        let unknown = parse("[stages]\n[limits]\nminimum = 3\n", "p.toml").unwrap_err();
        assert_eq!((unknown.line, unknown.column), (3, 1), "{unknown}");
        let truncated = parse("[stages]\nProspect = ", "p.toml").unwrap_err();
        assert_eq!(truncated.line, 2, "{truncated}");
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("7d"), Some(Duration::from_secs(604_800)));
        assert_eq!(parse_duration("250 ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("0"), Some(Duration::ZERO));
        assert_eq!(parse_duration("12"), None);
        assert_eq!(parse_duration("-1s"), None);
        assert_eq!(parse_duration("99999999999999999999d"), None);
    }
}
