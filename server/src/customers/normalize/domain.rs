//! Domains: UTS #46 for their ASCII form, the public suffix list for the part that a party registers.

use std::{borrow::Cow, net::IpAddr};

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

use super::{Outcome, lists, text};

/// No host with all that may surround it in a URL is longer.
const MAX_PASTED_BYTES: usize = 1024;
/// RFC 1035 section 2.3.4, as text without the trailing dot.
const MAX_DOMAIN_BYTES: usize = 253;
/// RFC 1035 section 2.3.4.
const MAX_LABEL_BYTES: usize = 63;

/// Top-level names that never leave a private network: RFC 6761, RFC 6762 appendix G, RFC 8375's parent, RFC 9476, and names
/// that ICANN will not delegate. `example` and `test` stay usable, as samples and tests live there.
const SPECIAL_USE: &[&str] = &[
    "alt",
    "arpa",
    "corp",
    "home",
    "internal",
    "intranet",
    "invalid",
    "lan",
    "local",
    "localdomain",
    "localhost",
    "onion",
    "private",
];

/// The registrable domain of what people paste: a domain, a host, a URL, an e-mail address.
pub(super) fn normalize(raw: &str) -> Result<Cow<'_, str>, Outcome> {
    if raw.len() > MAX_PASTED_BYTES {
        return Err(Outcome::TooLong);
    }
    let host = host_of(raw);
    if host.starts_with('[') || host.parse::<IpAddr>().is_ok() {
        return Err(Outcome::IpAddress);
    }
    company(to_ascii(host)?)
}

/// What is left of scheme, user, port, path and wildcard.
fn host_of(raw: &str) -> &str {
    let mut rest = text::trim(raw);
    // Anywhere else the slashes belong to a path or a query, which may hold another URL.
    if let Some((before, after)) = rest.split_once("//")
        && (before.is_empty() || before.strip_suffix(':').is_some_and(is_scheme))
    {
        rest = after;
    }
    rest = rest.split(['/', '?', '#', '\\']).next().unwrap_or(rest);
    if let Some((_, host)) = rest.rsplit_once('@') {
        rest = host;
    }
    if let Some((host, port)) = rest.rsplit_once(':')
        && !host.contains(':')
        && port.bytes().all(|byte| byte.is_ascii_digit())
    {
        rest = host;
    }
    text::trim(rest.strip_prefix("*.").unwrap_or(rest))
}

/// RFC 3986 section 3.1: "scheme = ALPHA *( ALPHA / DIGIT / "+" / "-" / "." )".
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// A host in ASCII and lower case, without the trailing dot.
pub(super) fn to_ascii(host: &str) -> Result<Cow<'_, str>, Outcome> {
    let host = if is_plain(host) {
        Cow::Borrowed(host)
    } else {
        let ascii = Uts46::new()
            .to_ascii(
                host.as_bytes(),
                AsciiDenyList::STD3,
                Hyphens::CheckFirstLast,
                DnsLength::Ignore,
            )
            .map_err(|_| Outcome::Unparsable)?;
        let ascii = match ascii {
            Cow::Borrowed(ascii) => Cow::Borrowed(ascii.strip_suffix('.').unwrap_or(ascii)),
            Cow::Owned(mut ascii) => {
                ascii.truncate(ascii.strip_suffix('.').unwrap_or(&ascii).len());
                Cow::Owned(ascii)
            }
        };
        if ascii.split('.').any(str::is_empty) {
            return Err(Outcome::Unparsable);
        }
        ascii
    };
    if host.len() > MAX_DOMAIN_BYTES || host.split('.').any(|label| label.len() > MAX_LABEL_BYTES) {
        return Err(Outcome::TooLong);
    }
    if host
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()))
    {
        return Err(Outcome::IpAddress);
    }
    Ok(host)
}

/// Whether UTS #46 would leave the host as it is: letters, digits and hyphens inside labels, and no encoded label.
fn is_plain(host: &str) -> bool {
    let bytes = host.as_bytes();
    let mut before = b'.';
    for (index, &byte) in bytes.iter().enumerate() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' => {
                if byte == b'x' && before == b'.' && bytes[index..].starts_with(b"xn--") {
                    return false;
                }
            }
            b'-' if before != b'.' => {}
            b'.' if before != b'.' && before != b'-' => {}
            _ => return false,
        }
        before = byte;
    }
    before != b'.' && before != b'-'
}

/// The registrable domain of an ASCII host if it can stand for one company (Z-04).
pub(super) fn company(host: Cow<'_, str>) -> Result<Cow<'_, str>, Outcome> {
    let last = host.rsplit('.').next().unwrap_or_default();
    if SPECIAL_USE.contains(&last) {
        return Err(Outcome::SpecialUseDomain);
    }
    let Some(domain) = psl::domain(host.as_bytes()) else {
        let known = psl::suffix(host.as_bytes()).is_some_and(|suffix| suffix.is_known());
        return Err(if known {
            Outcome::PublicSuffix
        } else {
            Outcome::Unparsable
        });
    };
    let start = host.len() - domain.as_bytes().len();
    // The lists name registrable domains, and some hosts below them.
    let mut candidate: &str = &host;
    loop {
        if let Some(outcome) = lists::find(candidate) {
            return Err(outcome);
        }
        if candidate.len() <= host.len() - start {
            break;
        }
        let Some((_, parent)) = candidate.split_once('.') else {
            break;
        };
        candidate = parent;
    }
    Ok(match host {
        Cow::Borrowed(host) => Cow::Borrowed(&host[start..]),
        Cow::Owned(mut host) => {
            host.drain(..start);
            Cow::Owned(host)
        }
    })
}
