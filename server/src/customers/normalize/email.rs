//! E-mail addresses: RFC 5321 and 5322, RFC 6531 for local parts beyond ASCII.

use std::borrow::Cow;

use super::{Outcome, domain, text};

/// RFC 5321 section 4.5.3.1.1: "The maximum total length of a user name or other local-part is 64 octets."
const MAX_LOCAL_BYTES: usize = 64;
/// RFC 5321 section 4.5.3.1.3: "The maximum total length of a reverse-path or forward-path is 256 octets (including the
/// punctuation and element separators)", of which two are the angle brackets.
const MAX_ADDRESS_BYTES: usize = 254;

/// The address in lower case, its domain in ASCII. Plus-tags and dots are kept: they belong to the provider.
pub(super) fn normalize(raw: &str) -> Result<Cow<'_, str>, Outcome> {
    let address = bare(raw);
    let (local, host) = address.rsplit_once('@').ok_or(Outcome::Unparsable)?;
    if local.starts_with('"') {
        return Err(Outcome::QuotedLocalPart);
    }
    if host.starts_with('[') {
        return Err(Outcome::IpAddress);
    }
    let local = text::lower(local);
    if !is_dot_atom(&local) {
        return Err(Outcome::Unparsable);
    }
    let host = domain::to_ascii(host)?;
    if !host.contains('.') {
        return Err(Outcome::Unparsable);
    }
    if local.len() > MAX_LOCAL_BYTES || local.len() + 1 + host.len() > MAX_ADDRESS_BYTES {
        return Err(Outcome::TooLong);
    }
    match (local, host) {
        // Both are slices of `address` that the checks left as they were.
        (Cow::Borrowed(local), Cow::Borrowed(host))
            if local.len() + 1 + host.len() == address.len() =>
        {
            Ok(Cow::Borrowed(address))
        }
        (local, host) => Ok(Cow::Owned(format!("{local}@{host}"))),
    }
}

/// Without `mailto:`, a display name, angle brackets and space.
fn bare(raw: &str) -> &str {
    let mut address = text::trim(raw);
    if let Some(named) = address.strip_suffix('>') {
        address = named
            .rsplit_once('<')
            .map_or(address, |(_, inner)| text::trim(inner));
    }
    let scheme = "mailto:";
    if address.len() > scheme.len() && address.is_char_boundary(scheme.len()) {
        let (start, rest) = address.split_at(scheme.len());
        if start.eq_ignore_ascii_case(scheme) {
            address = text::trim(rest.split_once('?').map_or(rest, |(rest, _)| rest));
        }
    }
    address
}

/// RFC 5322 section 3.2.3, "dot-atom-text = 1*atext *("." 1*atext)", with RFC 6531's atext: any character beyond ASCII, of
/// which those that show nothing are refused.
fn is_dot_atom(local: &str) -> bool {
    if local.is_ascii() {
        let mut after_dot = true;
        for byte in local.bytes() {
            match byte {
                b'.' if after_dot => return false,
                b'.' => after_dot = true,
                byte if is_atext(byte) => after_dot = false,
                _ => return false,
            }
        }
        return !after_dot;
    }
    local.split('.').all(|atom| {
        !atom.is_empty()
            && atom.chars().all(|character| match u8::try_from(character) {
                Ok(byte) if byte.is_ascii() => is_atext(byte),
                _ => !character.is_control() && !text::shows_nothing(character),
            })
    })
}

fn is_atext(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte)
}
