//! Phone numbers: E.164, by libphonenumber's rules and tables.

use phonenumber::{Mode, country};

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
    let number = phonenumber::parse(region.map(|region| region.0), written).map_err(|error| {
        match error {
            phonenumber::ParseError::TooLong => Outcome::TooLong,
            phonenumber::ParseError::InvalidCountryCode if region.is_none() => Outcome::NoCountryCode,
            _ => Outcome::Unparsable,
        }
    })?;
    if number.code().value() == 0 {
        return Err(Outcome::NoCountryCode);
    }
    if !phonenumber::is_valid(&number) {
        return Err(Outcome::InvalidNumber);
    }
    Ok(number.format().mode(Mode::E164).to_string())
}
