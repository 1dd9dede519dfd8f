//! From identifiers as people write them to the keys that are compared (docs/NORMALISATION.md).
//!
//! Both nodes must come to the same key, so the version of these rules and of the public suffix list are part of what two
//! parties agree on.

mod domain;
mod email;
mod lists;
mod phone;
mod text;

use std::borrow::Cow;

use overlap_crypto::terms::KeyType;

pub use phone::Region;
pub(super) use text::trim;

/// The version of the rules, of the lists beside them and of the tables they use. Goes into every key that is compared.
pub const NORMALIZER_VERSION: u16 = 2;

/// The public suffix list in use.
pub const SUFFIX_LIST_VERSION: &str = "psl 2.1.247";

macro_rules! outcomes {
    ($($variant:ident $code:literal $name:literal $doc:literal;)*) => {
        /// What became of an identifier.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Outcome { $(#[doc = $doc] $variant,)* }

        impl Outcome {
            /// Every outcome.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// One sentence for a person.
            #[must_use]
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$variant => $doc,)* }
            }

            /// The number that stands for it in storage.
            pub(super) const fn code(self) -> u8 {
                match self { $(Self::$variant => $code,)* }
            }

            /// The outcome with this number.
            pub(super) const fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

outcomes! {
    Used 0 "USED" "It is a key.";
    Unparsable 1 "UNPARSABLE" "It is not an identifier of this type.";
    TooLong 2 "TOO_LONG" "It is longer than the standard allows.";
    FreeMailDomain 3 "FREE_MAIL_DOMAIN" "The domain belongs to a provider of mailboxes for everybody, not to one company.";
    DisposableDomain 4 "DISPOSABLE_DOMAIN" "The domain belongs to a provider of throw-away mailboxes.";
    PublicSuffix 5 "PUBLIC_SUFFIX" "The domain is a public suffix, under which many parties register.";
    IpAddress 6 "IP_ADDRESS" "It is an address of a machine, not a domain.";
    SpecialUseDomain 7 "SPECIAL_USE_DOMAIN" "The domain has a meaning inside a private network only.";
    QuotedLocalPart 8 "QUOTED_LOCAL_PART" "E-mail addresses with a quoted local part are not matched.";
    InvalidNumber 9 "INVALID_NUMBER" "No subscriber can have this phone number.";
    NoCountryCode 10 "NO_COUNTRY_CODE" "The phone number has no country code and no default region is set.";
}

/// The key that `raw` stands for, or why it stands for none. `region` is that of phone numbers without a country code.
///
/// # Errors
/// Any outcome but [`Outcome::Used`].
pub fn normalize(
    key_type: KeyType,
    raw: &str,
    region: Option<Region>,
) -> Result<Cow<'_, str>, Outcome> {
    match key_type {
        KeyType::ExternalId => external_id(raw),
        KeyType::Email => email::normalize(raw),
        KeyType::Phone => phone::normalize(raw, region).map(Cow::Owned),
        KeyType::Domain => domain::normalize(raw),
    }
}

/// The domain key of a normalised e-mail address.
///
/// # Errors
/// Any outcome but [`Outcome::Used`].
pub fn domain_of_email(email: &str) -> Result<Cow<'_, str>, Outcome> {
    let (_, host) = email.rsplit_once('@').ok_or(Outcome::Unparsable)?;
    domain::company(Cow::Borrowed(host))
}

/// Bytes of an external id.
const MAX_EXTERNAL_ID_BYTES: usize = 256;

/// The exact text less space around it, in Unicode's composed form.
fn external_id(raw: &str) -> Result<Cow<'_, str>, Outcome> {
    let id = text::compose(trim(raw));
    if id.is_empty() || id.chars().any(char::is_control) {
        return Err(Outcome::Unparsable);
    }
    if id.len() > MAX_EXTERNAL_ID_BYTES {
        return Err(Outcome::TooLong);
    }
    Ok(id)
}

#[cfg(test)]
mod tests;
