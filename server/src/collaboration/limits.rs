//! Text and times from outside, with their limits.

use jiff::{SignedDuration, Timestamp};

use crate::error::{Error, Reason};

/// Characters of a text that people write to each other.
const MAX_TEXT_CHARS: usize = 4_000;
/// How far a partner's clock may be ahead.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_hours(24);

/// One line of text.
///
/// # Errors
/// `INVALID_ARGUMENT` if it is longer than `chars` or has control characters.
pub(crate) fn line(field: &str, text: &str, chars: usize) -> Result<String, Error> {
    let text = text.trim();
    problem_of_line(text, chars).map_or_else(
        || Ok(text.to_owned()),
        |problem| Err(Error::invalid(field, problem)),
    )
}

/// Text of several lines.
///
/// # Errors
/// `INVALID_ARGUMENT` if it is too long or has control characters other than line breaks and tabs.
pub(crate) fn paragraph(field: &str, text: &str) -> Result<String, Error> {
    let text = text.trim();
    problem_of_paragraph(text).map_or_else(
        || Ok(text.to_owned()),
        |problem| Err(Error::invalid(field, problem)),
    )
}

/// [`line`], from a partner's node.
///
/// # Errors
/// `PEER_FAULT`.
pub(crate) fn peer_line(field: &str, text: &str, chars: usize) -> Result<(), Error> {
    refuse(field, problem_of_line(text, chars))
}

/// [`paragraph`], from a partner's node.
///
/// # Errors
/// `PEER_FAULT`.
pub(crate) fn peer_paragraph(field: &str, text: &str) -> Result<(), Error> {
    refuse(field, problem_of_paragraph(text))
}

/// An id of ours or of a partner's node, as [`crate::identity::new_id`] makes them.
///
/// # Errors
/// `PEER_FAULT`.
pub(crate) fn peer_id(of: &str, prefix: &str, id: &str) -> Result<(), Error> {
    let digits = id
        .strip_prefix(prefix)
        .and_then(|rest| rest.strip_prefix('_'))
        .unwrap_or_default();
    if (16..=64).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_alphanumeric())
    {
        return Ok(());
    }
    Err(Error::new(
        Reason::PeerFault,
        format!("the id of an {of} is malformed"),
    ))
}

/// An instant that a partner's node states of something that has happened.
///
/// # Errors
/// `PEER_FAULT` if it lies in the future or outside the calendar.
pub(crate) fn peer_time(
    field: &str,
    microseconds: i64,
    now: Timestamp,
) -> Result<Timestamp, Error> {
    let at = Timestamp::from_microsecond(microseconds).ok();
    match at {
        Some(at) if at.duration_since(now) <= CLOCK_TOLERANCE => Ok(at),
        _ => Err(Error::new(
            Reason::PeerFault,
            format!("{field} is not an instant in the past"),
        )),
    }
}

fn refuse(field: &str, problem: Option<String>) -> Result<(), Error> {
    problem.map_or(Ok(()), |problem| {
        Err(Error::new(Reason::PeerFault, format!("{field} {problem}")))
    })
}

fn problem_of_line(text: &str, chars: usize) -> Option<String> {
    if text.chars().any(char::is_control) {
        return Some("must not have control characters".to_owned());
    }
    too_long(text, chars)
}

fn problem_of_paragraph(text: &str) -> Option<String> {
    if text
        .chars()
        .any(|character| character.is_control() && !matches!(character, '\n' | '\r' | '\t'))
    {
        return Some("must not have control characters other than line breaks and tabs".to_owned());
    }
    too_long(text, MAX_TEXT_CHARS)
}

fn too_long(text: &str, chars: usize) -> Option<String> {
    (text.chars().count() > chars).then(|| format!("must not be longer than {chars} characters"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_in_characters() {
        assert_eq!(line("f", " ünï ", 3).unwrap(), "ünï");
        assert_eq!(
            line("f", "ünïx", 3).unwrap_err().message(),
            "f: must not be longer than 3 characters"
        );
        assert!(line("f", "a\nb", 9).is_err());
        assert_eq!(paragraph("f", "a\n\tb\n").unwrap(), "a\n\tb");
        assert!(paragraph("f", "a\u{7}").is_err());
        let refused = peer_paragraph("details", &"x".repeat(4_001)).unwrap_err();
        assert_eq!(refused.reason(), Reason::PeerFault);
    }

    #[test]
    fn ids_from_a_partner_are_as_nodes_make_them() {
        assert!(peer_id("asset", "ast", "ast_0123456789abcdef").is_ok());
        for malformed in [
            "",
            "ast_",
            "ast_0123456789abcde",
            "atr_0123456789abcdef",
            "ast0123456789abcdef",
            "ast_0123456789abcde/",
        ] {
            let refused = peer_id("asset", "ast", malformed).unwrap_err();
            assert_eq!(refused.reason(), Reason::PeerFault, "{malformed}");
        }
        assert!(peer_id("asset", "ast", &format!("ast_{}", "a".repeat(64))).is_ok());
        assert!(peer_id("asset", "ast", &format!("ast_{}", "a".repeat(65))).is_err());
    }

    #[test]
    fn times_from_a_partner_are_not_far_ahead() {
        let now: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
        let day = 86_400_000_000;
        assert!(peer_time("at", now.as_microsecond() + day, now).is_ok());
        assert!(peer_time("at", now.as_microsecond() + day + 1, now).is_err());
        assert!(peer_time("at", i64::MAX, now).is_err());
    }
}
