//! Phone numbers: E.164, by libphonenumber's rules and tables.

use std::{borrow::Cow, sync::OnceLock};

use phonenumber::{Metadata, country, metadata::DATABASE};
use regex::Regex;
use unicode_normalization::UnicodeNormalization as _;

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
    let written = plain(text::trim(raw));
    if written.len() > MAX_WRITTEN_BYTES {
        return Err(Outcome::TooLong);
    }
    if let Some(international) = international(&written, region) {
        // phonenumber would cut off the default region's national prefix even here, so it is not told the region.
        return match digits(&international).and_then(|digits| split(&digits)) {
            Some(e164) => Ok(e164),
            None => parse(&international, None),
        };
    }
    let (Some(region), Some(digits)) = (region, digits(&written)) else {
        return parse(&written, region);
    };
    // phonenumber cuts off what looks like the country code or a national prefix even where the number is good as it stands
    // (Italy's mobile numbers may start with 390, Kazakhstan's with 7, its country code), and a national prefix twice where
    // what follows looks like another (8 800 in Russia).
    if let Some(e164) = national_of(region, &digits) {
        return Ok(e164);
    }
    parse(&written, Some(region)).or_else(|outcome| national(region, &digits).ok_or(outcome))
}

/// Without `tel:`, and with wide digits and signs in their usual form.
fn plain(written: &str) -> Cow<'_, str> {
    let written = match written.split_at_checked(4) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("tel:") => text::trim(rest),
        _ => written,
    };
    if written.is_ascii() {
        return Cow::Borrowed(written);
    }
    Cow::Owned(written.nfkc().collect())
}

/// The number with a plus sign, if it has one or starts with the region's international prefix.
fn international(written: &str, region: Option<Region>) -> Option<Cow<'_, str>> {
    // Brackets or a word may stand before the sign.
    if let Some((before, _)) = written.split_once('+')
        && !before.contains(|character: char| character.is_ascii_digit())
    {
        return Some(Cow::Borrowed(&written[before.len()..]));
    }
    let prefix = DATABASE.by_id(region?.code())?.international_prefix()?;
    let digits: String = written.chars().filter(char::is_ascii_digit).collect();
    let length = prefix
        .find(&digits)
        .filter(|found| found.start() == 0)?
        .end();
    // No country code starts with a zero.
    if length == 0 || digits[length..].starts_with('0') {
        return None;
    }
    let (last, _) = written
        .char_indices()
        .filter(|(_, character)| character.is_ascii_digit())
        .nth(length - 1)?;
    Some(Cow::Owned(format!("+{}", &written[last + 1..])))
}

/// The digits of a number that is nothing but digits and what separates them, and perhaps an extension.
fn digits(written: &str) -> Option<String> {
    let number = extension()
        .find(written)
        .map_or(written, |extension| &written[..extension.start()]);
    let number = number.strip_prefix('+').unwrap_or(number);
    number
        .chars()
        .all(|character| character.is_ascii_digit() || separates(character))
        .then(|| number.chars().filter(char::is_ascii_digit).collect())
}

/// libphonenumber's VALID_PUNCTUATION, less what compatibility composition replaces, "x" and "~", which also begin extensions.
fn separates(character: char) -> bool {
    matches!(
        character,
        ' ' | '(' | ')' | '-' | '.' | '/' | '[' | ']' | '\u{2010}'
            ..='\u{2015}' | '\u{2212}' | '\u{30fc}' | '\u{ad}' | '\u{200b}' | '\u{2060}'
    )
}

/// What libphonenumber takes for an extension at a number's end.
fn extension() -> &'static Regex {
    static EXTENSION: OnceLock<Regex> = OnceLock::new();
    EXTENSION.get_or_init(|| {
        Regex::new(
            r"(?i)(?:;ext=|[ \t,]*(?:e?xt(?:ensi[oó])?n?|доб|anexo|int|[,;x#~])[:.]?[ \t,-]*)[0-9]{1,7}#?\z",
        )
        .expect("a regular expression")
    })
}

/// The number whose country code and national part are these digits as they stand, if there is such a number.
fn split(digits: &str) -> Option<String> {
    // No country code is the start of another.
    let code = (1..=3).find_map(|length| {
        let code: u16 = digits.get(..length)?.parse().ok()?;
        DATABASE.region(&code).map(|_| code)
    })?;
    let e164 = format!("+{digits}");
    is_valid(code, &e164).then_some(e164)
}

/// The number of the region itself whose national part is these digits as they stand, if there is such a number.
fn national_of(region: Region, digits: &str) -> Option<String> {
    let own = DATABASE.by_id(region.code())?;
    own_numbers(own)?
        .iter()
        .all(|numbers| numbers.is_match(digits))
        .then(|| format!("+{}{digits}", own.country_code()))
}

/// The number of the region's country code whose national part is these digits, as they stand or less one national prefix or
/// country code, if there is such a number.
fn national(region: Region, digits: &str) -> Option<String> {
    let own = DATABASE.by_id(region.code())?;
    let code = own.country_code();
    let less_prefix = own
        .national_prefix()
        .and_then(|prefix| digits.strip_prefix(prefix));
    let less_code = digits.strip_prefix(&code.to_string());
    [Some(digits), less_prefix, less_code]
        .into_iter()
        .flatten()
        .map(|national| format!("+{code}{national}"))
        .find(|e164| is_valid(code, e164))
}

/// What phonenumber makes of it.
fn parse(written: &str, region: Option<Region>) -> Result<String, Outcome> {
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
    let code = number.code().value();
    if code == 0 {
        return Err(Outcome::NoCountryCode);
    }
    let e164 = format!("+{code}{}", number.national());
    if is_valid(code, &e164) {
        Ok(e164)
    } else {
        Err(Outcome::InvalidNumber)
    }
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
            let regions = DATABASE.by_code(&code)?;
            compile(
                &regions
                    .into_iter()
                    .filter_map(numbers_in)
                    .collect::<Vec<_>>(),
            )
        })
        .as_ref()
}

/// What a number of a region must match to be good as it stands: the region's general pattern, and that of a kind of numbers.
/// Compiled when the region first occurs.
fn own_numbers(region: &Metadata) -> Option<&'static [Regex; 2]> {
    /// By the two letters of the region.
    static NUMBERS: [OnceLock<Option<[Regex; 2]>>; 26 * 26] = [const { OnceLock::new() }; 26 * 26];
    let &[first, second] = region.id().as_bytes() else {
        return None;
    };
    let letter = |byte: u8| byte.checked_sub(b'A').map(usize::from);
    NUMBERS
        .get(letter(first)? * 26 + letter(second)?)?
        .get_or_init(|| {
            let general = region.descriptors().general().national_number();
            Some([
                compile(&[general.as_str().to_owned()])?,
                compile(&[numbers_in(region)?])?,
            ])
        })
        .as_ref()
}

/// One expression for texts that match one of the patterns as a whole.
fn compile(patterns: &[String]) -> Option<Regex> {
    Regex::new(&format!(r"(?x)\A(?:{})\z", patterns.join("|"))).ok()
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
