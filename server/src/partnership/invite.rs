//! The invitation: one line of text that one administrator hands to the other over a channel both trust.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use ring::hmac;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::{
    config::{check_endpoint, check_organization},
    error::{Error, Reason},
    exchange::PROTOCOL_VERSION,
};

const PREFIX: &str = "overlap-invite-1.";
/// Far longer than any invitation.
const MAX_BYTES: usize = 4096;

/// What an invitation says.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Invite {
    /// host:port of the inviting node's exchange listener.
    pub(super) endpoint: String,
    /// Who invites.
    pub(super) organization: String,
    /// SHA-256 of the inviting node's certificate.
    pub(super) certificate_sha256: [u8; 32],
    /// The inviting organisation's Ed25519 key.
    pub(super) organization_key: [u8; 32],
    /// Whoever knows it may pair, once.
    pub(super) secret: Secret,
    /// Until when, in whole seconds.
    pub(super) expires_at: Timestamp,
}

/// The invitation's secret, wiped when it goes.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(Zeroizing<[u8; 32]>);

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(..)")
    }
}

impl Secret {
    pub(super) fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Names the invitation without giving the secret away.
    pub(super) fn invite_id(&self) -> [u8; 16] {
        let hash: [u8; 32] = Sha256::new()
            .chain_update(b"overlap/invite/id")
            .chain_update(*self.0)
            .finalize()
            .into();
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        id
    }

    /// The key under which both sides prove that they know the secret.
    pub(super) fn proof_key(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(
            Sha256::new()
                .chain_update(b"overlap/invite/proof-key")
                .chain_update(*self.0)
                .finalize()
                .into(),
        )
    }
}

/// Which side proves.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Caller,
    Inviter,
}

/// What one side proves: that it knows the secret, on this very connection, and holds the key it names.
pub(super) struct Statement<'a> {
    pub(super) side: Side,
    pub(super) exporter: &'a [u8; 32],
    pub(super) inviter_certificate: &'a [u8; 32],
    pub(super) caller_certificate: &'a [u8; 32],
    /// Of the side that proves.
    pub(super) organization: &'a str,
    pub(super) organization_key: &'a [u8],
    pub(super) endpoint: &'a str,
}

impl Statement<'_> {
    /// What is proved and signed, every field of variable length with its length before it.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = match self.side {
            Side::Caller => b"OVL1/pair/caller".to_vec(),
            Side::Inviter => b"OVL1/pair/inviter".to_vec(),
        };
        for fixed in [
            self.exporter,
            self.inviter_certificate,
            self.caller_certificate,
        ] {
            bytes.extend_from_slice(fixed);
        }
        for field in [
            self.organization.as_bytes(),
            self.organization_key,
            self.endpoint.as_bytes(),
            PROTOCOL_VERSION.as_bytes(),
        ] {
            bytes.extend_from_slice(&(field.len() as u64).to_be_bytes());
            bytes.extend_from_slice(field);
        }
        bytes
    }

    /// HMAC-SHA-256 over the statement.
    pub(super) fn prove(&self, key: &[u8; 32]) -> Vec<u8> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        hmac::sign(&key, &self.bytes()).as_ref().to_vec()
    }

    /// Checks the other side's proof in constant time.
    pub(super) fn proved(&self, key: &[u8; 32], proof: &[u8]) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        hmac::verify(&key, &self.bytes(), proof).is_ok()
    }
}

/// The invitation's JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    endpoint: String,
    organization: String,
    certificate: String,
    key: String,
    secret: String,
    expires: i64,
}

impl Invite {
    /// The line of text.
    pub(super) fn to_line(&self) -> Result<String, Error> {
        let text = Text {
            endpoint: self.endpoint.clone(),
            organization: self.organization.clone(),
            certificate: hex::encode(self.certificate_sha256),
            key: hex::encode(self.organization_key),
            secret: hex::encode(*self.secret.0),
            expires: self.expires_at.as_second(),
        };
        let json = Zeroizing::new(
            serde_json::to_vec(&text)
                .map_err(|error| Error::internal(format!("invitation: {error}")))?,
        );
        Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&*json)))
    }

    /// Reads the line of text.
    pub(super) fn from_line(line: &str) -> Result<Self, Error> {
        let malformed = || {
            Error::new(
                Reason::InviteInvalid,
                format!(
                    "the invitation is malformed: it is one line that begins with \"{PREFIX}\", copied as a whole"
                ),
            )
        };
        let encoded = line.trim().strip_prefix(PREFIX).ok_or_else(malformed)?;
        if encoded.len() > MAX_BYTES {
            return Err(malformed());
        }
        let json = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded).map_err(|_| malformed())?);
        let text: Text = serde_json::from_slice(&json).map_err(|_| malformed())?;
        let bytes = |text: &str| {
            let mut bytes = [0; 32];
            hex::decode_to_slice(text, &mut bytes).map_err(|_| malformed())?;
            Ok::<_, Error>(bytes)
        };
        check_endpoint(&text.endpoint).map_err(|_| malformed())?;
        check_organization(&text.organization).map_err(|_| malformed())?;
        Ok(Self {
            certificate_sha256: bytes(&text.certificate)?,
            organization_key: bytes(&text.key)?,
            secret: Secret::new(bytes(&text.secret)?),
            expires_at: Timestamp::from_second(text.expires).map_err(|_| malformed())?,
            endpoint: text.endpoint,
            organization: text.organization,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn invite() -> Invite {
        Invite {
            endpoint: "node.acme.example:7650".to_owned(),
            organization: "Acme".to_owned(),
            certificate_sha256: [1; 32],
            organization_key: [2; 32],
            secret: Secret::new([3; 32]),
            expires_at: "2026-03-01T12:00:00Z".parse().unwrap(),
        }
    }

    #[test]
    fn one_line_carries_it_all() {
        let line = invite().to_line().unwrap();
        assert!(line.starts_with("overlap-invite-1.") && !line.contains(char::is_whitespace));
        assert!(Invite::from_line(&format!(" {line}\n")).unwrap() == invite());
        assert_eq!(format!("{:?}", invite().secret), "Secret(..)");
    }

    proptest! {
        #[test]
        fn malformed_lines_are_refused(position in 0usize..400, byte in 0u8..128, cut in 0usize..400) {
            let line = invite().to_line().unwrap();
            let mut changed = line.clone().into_bytes();
            let position = position % changed.len();
            changed[position] = byte;
            // A change within a value may still parse; nothing panics.
            let _ = Invite::from_line(&String::from_utf8(changed).unwrap());
            let cut = cut % line.len();
            let truncated = Invite::from_line(&line[..cut]);
            prop_assert!(truncated.is_err());
        }
    }
}
