//! Phone numbers: E.164, by libphonenumber's rules and tables.

use std::sync::OnceLock;

use phonenumber::{Metadata, country, metadata::DATABASE};
use regex::Regex;

use super::{Outcome, text};
use crate::error::Error;

/// No number with all its decoration is longer.
const MAX_WRITTEN_BYTES: usize = 128;

/// The region of phone numbers without a country code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region(country::Id);

impl Region {
    /// The region with this ISO 3166-1 alpha-2 code; `None` for an empty one. `field` names it in the error.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if there is no such region.
    pub fn parse(code: &str, field: &str) -> Result<Option<Self>, Error> {
        if code.is_empty() {
            return Ok(None);
        }
        code.to_ascii_uppercase().parse().map(|id| Some(Self(id))).map_err(|_| {
            Error::invalid(
                field,
                format!("\"{code}\" is not an ISO 3166-1 alpha-2 region that has phone numbers, such as DE or US"),
            )
        })
    }

    /// The code.
    #[must_use]
    pub fn code(&self) -> &str {
        self.0.as_ref()
    }
}

/// The number in E.164. An extension is dropped: E.164 has none.
pub(super) fn normalize(raw: &str, region: Option<Region>) -> Result<String, Outcome> {
    let written = text::trim(raw);
    if written.len() > MAX_WRITTEN_BYTES {
        return Err(Outcome::TooLong);
    }
    let number =
        phonenumber::parse(region.map(|region| region.0), written).map_err(
            |error| match error {
                phonenumber::ParseError::TooLong => Outcome::TooLong,
                phonenumber::ParseError::InvalidCountryCode
                    if region.is_none() && !written.starts_with('+') =>
                {
                    Outcome::NoCountryCode
                }
                _ => Outcome::Unparsable,
            },
        )?;
    if number.code().value() == 0 {
        return Err(Outcome::NoCountryCode);
    }
    let e164 = format!("+{}{}", number.code().value(), number.national());
    if is_valid(number.code().value(), &e164) {
        return Ok(e164);
    }
    // phonenumber takes a national number's first digits for a country code or a prefix even where the number is good as it
    // stands (Kazakhstan's start with 7, which is also its country code).
    region
        .and_then(|region| as_it_stands(written, region))
        .ok_or(Outcome::InvalidNumber)
}

/// The number whose national part is all digits of `written`, if there is such a number.
fn as_it_stands(written: &str, region: Region) -> Option<String> {
    if written
        .bytes()
        .any(|byte| !byte.is_ascii_digit() && !b" ()-./".contains(&byte))
    {
        return None;
    }
    let code = DATABASE.by_id(region.code())?.country_code();
    let digits: String = written.chars().filter(char::is_ascii_digit).collect();
    let e164 = format!("+{code}{digits}");
    is_valid(code, &e164).then_some(e164)
}

/// Whether a subscriber can have the number.
fn is_valid(code: u16, e164: &str) -> bool {
    // After the plus sign and the country code.
    let national = e164.get(1 + code.to_string().len()..).unwrap_or_default();
    numbers_of(code).is_some_and(|numbers| numbers.is_match(national))
}

/// The numbers that a country code's subscribers can have, compiled when a code first occurs. phonenumber's own check compiles
/// them over and over when a file has numbers of many countries, and tries up to 25 regions for a number of +1.
fn numbers_of(code: u16) -> Option<&'static Regex> {
    /// By country code, which has at most three digits.
    static NUMBERS: [OnceLock<Option<Regex>>; 1000] = [const { OnceLock::new() }; 1000];
    NUMBERS
        .get(usize::from(code))?
        .get_or_init(|| {
            let patterns: Vec<String> = DATABASE
                .by_code(&code)?
                .into_iter()
                .filter_map(numbers_in)
                .collect();
            Regex::new(&format!(r"(?x)\A(?:{})\z", patterns.join("|"))).ok()
        })
        .as_ref()
}

/// The pattern of a region's numbers of any kind that a subscriber can have.
fn numbers_in(region: &Metadata) -> Option<String> {
    let kinds = region.descriptors();
    let patterns: Vec<String> = [
        kinds.fixed_line(),
        kinds.mobile(),
        kinds.toll_free(),
        kinds.premium_rate(),
        kinds.shared_cost(),
        kinds.voip(),
        kinds.personal_number(),
        kinds.pager(),
        kinds.uan(),
        kinds.voicemail(),
    ]
    .into_iter()
    .flatten()
    .map(|kind| format!("(?:{})", kind.national_number().as_str()))
    .collect();
    (!patterns.is_empty()).then(|| patterns.join("|"))
}
