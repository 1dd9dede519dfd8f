//! The suite: names, domain separation and the one derivation function (PROTOCOL.md §3).

use sha2::{Digest, Sha512};

/// The protocol version both hellos must carry.
pub const VERSION: u16 = 1;

/// The only suite: VOPRF(ristretto255, SHA-512) of RFC 9497.
pub const SUITE: u16 = 1;

/// The suite's identifier in RFC 9497 §4.1.
pub const SUITE_NAME: &[u8] = b"ristretto255-SHA512";

/// contextString of RFC 9497 §3.1 in VOPRF mode.
pub const CONTEXT_STRING: &[u8] = b"OPRFV1-\x01-ristretto255-SHA512";

/// DST of HashToGroup (RFC 9497 §4.1).
pub const HASH_TO_GROUP_DST: &[u8] = b"HashToGroup-OPRFV1-\x01-ristretto255-SHA512";

/// DST of HashToScalar (RFC 9497 §4.1).
pub const HASH_TO_SCALAR_DST: &[u8] = b"HashToScalar-OPRFV1-\x01-ristretto255-SHA512";

/// DST of DeriveKeyPair (RFC 9497 §3.2.1).
pub const DERIVE_KEY_PAIR_DST: &[u8] = b"DeriveKeyPairOPRFV1-\x01-ristretto255-SHA512";

/// DST of the count flow's HashToGroup (PROTOCOL.md §9).
pub const COUNT_HASH_TO_GROUP_DST: &[u8] = b"OVL1/count/HashToGroup-ristretto255-SHA512";

/// DST of the challenge in a proof of possession (PROTOCOL.md §5.2).
pub const KEY_PROOF_DST: &[u8] = b"OVL1/key-proof/HashToScalar-ristretto255-SHA512";

/// Feeds `I2OSP(len, 4) || field` of each field to a hash.
pub(crate) fn absorb(hash: &mut Sha512, field: &[u8]) {
    let length = u32::try_from(field.len()).expect("every field is bounded far below 4 GiB");
    hash.update(length.to_be_bytes());
    hash.update(field);
}

/// `Derive(label, fields...)`: SHA-512 over the label and every field, each with its length before it as 4 bytes.
#[must_use]
pub fn derive(label: &str, fields: &[&[u8]]) -> [u8; 64] {
    let mut hash = Sha512::new();
    absorb(&mut hash, label.as_bytes());
    for field in fields {
        absorb(&mut hash, field);
    }
    hash.finalize().into()
}

/// The first `N` bytes of [`derive()`].
#[must_use]
pub fn derive_truncated<const N: usize>(label: &str, fields: &[&[u8]]) -> [u8; N] {
    let mut truncated = [0_u8; N];
    truncated.copy_from_slice(&derive(label, fields)[..N]);
    truncated
}
