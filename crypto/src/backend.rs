//! Batches of ristretto255 operations, on the fastest engine this CPU has.
//!
//! The protocol calls batches only. [`Backend`] is the one dispatcher: it is chosen once, and every variant computes
//! byte-identical results.

#[cfg(target_arch = "x86_64")]
mod avx512ifma;
mod messages;
mod portable;
#[cfg(test)]
mod tests;

pub use curve25519_dalek::{ristretto::RistrettoPoint, scalar::Scalar};
pub use messages::Messages;

/// Bytes that sealing adds to a text.
pub const SEAL_BYTES: usize = 16;

/// A key that seals one text.
pub type SealKey<'a> = &'a [u8; 32];

/// What a sealed text is bound to.
pub type SealAad = [u8; 16];

/// Texts of one length, to seal or to open in place.
pub struct SealBatch<'a> {
    /// The key of each text.
    pub keys: &'a [SealKey<'a>],
    /// What each text is bound to.
    pub aads: &'a [&'a SealAad],
    /// The texts back to back, each with [`SEAL_BYTES`] behind it for its tag.
    pub texts: &'a mut [u8],
    /// Bytes from one text to the next.
    pub stride: usize,
}

impl SealBatch<'_> {
    fn check(&self) {
        assert!(self.stride >= SEAL_BYTES, "a text has room for its tag");
        assert_eq!(self.keys.len(), self.aads.len(), "one binding a key");
        assert_eq!(
            self.keys.len() * self.stride,
            self.texts.len(),
            "one text a key"
        );
    }
}

/// The canonical 32-byte encoding of a group element (RFC 9496 §4.3.2).
pub type Encoded = [u8; 32];

/// Why bytes are not an acceptable group element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementFault {
    /// Not the canonical encoding of any element (RFC 9496 §4.3.1).
    NonCanonical,
    /// The identity, which no honest party ever sends (RFC 9497 §2.1 "DeserializeElement").
    Identity,
}

/// The first refused element of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// Position in the batch.
    pub index: usize,
    /// What was wrong with it.
    pub fault: ElementFault,
}

/// The engine that computes a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend(Engine);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engine {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx512Ifma(avx512ifma::Cpu),
}

/// A batch of group elements in the engine's own representation.
///
/// Elements stay where the batch put them: index `i` of every result belongs to index `i` of the input.
pub struct Points(PointsRepr);

enum PointsRepr {
    Portable(Vec<RistrettoPoint>),
    #[cfg(target_arch = "x86_64")]
    Avx512Ifma(avx512ifma::Points),
}

/// A public base with whatever table the engine needs to multiply it by many scalars.
pub struct FixedBase(FixedBaseRepr);

enum FixedBaseRepr {
    Portable(portable::FixedBase),
    #[cfg(target_arch = "x86_64")]
    Avx512Ifma(avx512ifma::FixedBase),
}

/// A public number that an element is weighted with, little-endian.
pub type Weight = [u8; 16];

impl Points {
    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            PointsRepr::Portable(points) => points.len(),
            #[cfg(target_arch = "x86_64")]
            PointsRepr::Avx512Ifma(points) => points.len(),
        }
    }

    /// Whether there is no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Backend {
    /// The fastest engine this CPU can run.
    #[must_use]
    pub fn detect() -> Self {
        *Self::available()
            .last()
            .expect("the portable engine is always available")
    }

    /// The engine of that name, if this CPU can run it: `portable` or `avx512ifma`.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::available()
            .into_iter()
            .find(|backend| backend.name() == name)
    }

    /// The engine that runs everywhere, on curve25519-dalek.
    #[must_use]
    pub const fn portable() -> Self {
        Self(Engine::Portable)
    }

    /// Every engine this CPU can run, from the portable one to the fastest.
    #[must_use]
    pub fn available() -> Vec<Self> {
        [
            Some(Self::portable()),
            #[cfg(target_arch = "x86_64")]
            avx512ifma::Cpu::detect().map(|cpu| Self(Engine::Avx512Ifma(cpu))),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// The name shown in logs and settings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            Engine::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Engine::Avx512Ifma(_) => "avx512ifma",
        }
    }

    /// Hashes each message to the group: `hash_to_ristretto255` with expand_message_xmd over SHA-512 (RFC 9380 appendix B).
    ///
    /// `dst` is at most 255 bytes long.
    #[must_use]
    pub fn hash_to_group(self, dst: &[u8], messages: &Messages) -> Points {
        match self.0 {
            Engine::Portable => {
                Points(PointsRepr::Portable(portable::hash_to_group(dst, messages)))
            }
            #[cfg(target_arch = "x86_64")]
            Engine::Avx512Ifma(cpu) => {
                Points(PointsRepr::Avx512Ifma(cpu.hash_to_group(dst, messages)))
            }
        }
    }

    /// Hashes each message to a scalar (RFC 9497 §4.1 "HashToScalar"). Not for secret messages.
    #[must_use]
    pub fn hash_to_scalars(self, dst: &[u8], messages: &Messages) -> Vec<Scalar> {
        match self.0 {
            Engine::Portable => portable::hash_to_scalars(dst, messages),
            #[cfg(target_arch = "x86_64")]
            Engine::Avx512Ifma(cpu) => cpu.hash_to_scalars(dst, messages),
        }
    }

    /// SHA-512 of each message.
    #[must_use]
    pub fn sha512(self, messages: &Messages) -> Vec<[u8; 64]> {
        match self.0 {
            Engine::Portable => portable::sha512(messages),
            #[cfg(target_arch = "x86_64")]
            Engine::Avx512Ifma(cpu) => cpu.sha512(messages),
        }
    }

    /// SHA-512 of `prefix || item` for each item.
    #[must_use]
    pub fn sha512_after<'a, const N: usize>(
        self,
        prefix: &[u8],
        items: impl ExactSizeIterator<Item = &'a [u8; N]>,
    ) -> Vec<[u8; 64]> {
        match self.0 {
            Engine::Portable => portable::sha512_after(prefix, items),
            #[cfg(target_arch = "x86_64")]
            Engine::Avx512Ifma(cpu) => cpu.sha512_after(prefix, items),
        }
    }

    /// Seals each text with ChaCha20-Poly1305 (RFC 8439 §2.8). The nonce is zero, so a key seals one text.
    ///
    /// # Panics
    /// If there are not as many keys, bindings and texts, or texts have no room for tags.
    pub fn seal_each(self, batch: SealBatch<'_>) {
        batch.check();
        match self.0 {
            Engine::Portable => portable::seal_each(batch),
            #[cfg(target_arch = "x86_64")]
            Engine::Avx512Ifma(cpu) => cpu.seal_each(batch),
        }
    }

    /// Opens what [`Backend::seal_each`] sealed, and says which texts are authentic. What the others are then is not defined.
    ///
    /// # Panics
    /// As [`Backend::seal_each`].
    #[must_use]
    pub fn open_each(self, batch: SealBatch<'_>) -> Vec<bool> {
        batch.check();
        match self.0 {
            Engine::Portable => portable::open_each(batch),
            #[cfg(target_arch = "x86_64")]
            Engine::Avx512Ifma(cpu) => cpu.open_each(batch),
        }
    }

    /// Decodes elements that came from elsewhere.
    ///
    /// # Errors
    /// The first element whose encoding is not canonical, or that is the identity.
    pub fn decode(self, encoded: &[Encoded]) -> Result<Points, DecodeError> {
        match self.0 {
            Engine::Portable => {
                portable::decode(encoded).map(|points| Points(PointsRepr::Portable(points)))
            }
            #[cfg(target_arch = "x86_64")]
            Engine::Avx512Ifma(cpu) => cpu
                .decode(encoded)
                .map(|points| Points(PointsRepr::Avx512Ifma(points))),
        }
    }

    /// Encodes each element (RFC 9496 §4.3.2).
    #[must_use]
    pub fn encode(self, points: &Points) -> Vec<Encoded> {
        match (self.0, &points.0) {
            (Engine::Portable, PointsRepr::Portable(points)) => portable::encode(points),
            #[cfg(target_arch = "x86_64")]
            (Engine::Avx512Ifma(cpu), PointsRepr::Avx512Ifma(points)) => cpu.encode(points),
            #[cfg(target_arch = "x86_64")]
            _ => mixed_engines(),
        }
    }

    /// Encodes the double of each element, which takes no square roots: a quarter of the cost of [`Backend::encode`].
    #[must_use]
    pub fn double_encode(self, points: &Points) -> Vec<Encoded> {
        match (self.0, &points.0) {
            (Engine::Portable, PointsRepr::Portable(points)) => portable::double_encode(points),
            #[cfg(target_arch = "x86_64")]
            (Engine::Avx512Ifma(cpu), PointsRepr::Avx512Ifma(points)) => cpu.double_encode(points),
            #[cfg(target_arch = "x86_64")]
            _ => mixed_engines(),
        }
    }

    /// Multiplies every element by one secret scalar and encodes the products. Constant time in the scalar and the elements.
    #[must_use]
    pub fn multiply_encode(self, scalar: &Scalar, points: &Points) -> Vec<Encoded> {
        match (self.0, &points.0) {
            (Engine::Portable, PointsRepr::Portable(points)) => {
                portable::multiply_encode(scalar, points)
            }
            #[cfg(target_arch = "x86_64")]
            (Engine::Avx512Ifma(cpu), PointsRepr::Avx512Ifma(points)) => {
                cpu.multiply_encode(scalar, points)
            }
            #[cfg(target_arch = "x86_64")]
            _ => mixed_engines(),
        }
    }

    /// Prepares a public base for [`Backend::offset`].
    #[must_use]
    pub fn fixed_base(self, base: &RistrettoPoint) -> FixedBase {
        match self.0 {
            Engine::Portable => FixedBase(FixedBaseRepr::Portable(portable::FixedBase::new(base))),
            #[cfg(target_arch = "x86_64")]
            Engine::Avx512Ifma(cpu) => FixedBase(FixedBaseRepr::Avx512Ifma(cpu.fixed_base(base))),
        }
    }

    /// Adds `scalars[i] * base` to each element. Constant time in the scalars and the elements.
    ///
    /// # Panics
    /// If there are not as many scalars as elements.
    pub fn offset(self, points: &mut Points, base: &FixedBase, scalars: &[Scalar]) {
        assert_eq!(points.len(), scalars.len(), "one scalar an element");
        match (self.0, &mut points.0, &base.0) {
            (Engine::Portable, PointsRepr::Portable(points), FixedBaseRepr::Portable(base)) => {
                portable::offset(points, base, scalars);
            }
            #[cfg(target_arch = "x86_64")]
            (
                Engine::Avx512Ifma(cpu),
                PointsRepr::Avx512Ifma(points),
                FixedBaseRepr::Avx512Ifma(base),
            ) => {
                cpu.offset(points, base, scalars);
            }
            #[cfg(target_arch = "x86_64")]
            _ => mixed_engines(),
        }
    }

    /// The sum of `scalars[i] * points[i]`, in time that depends on both: for public values only.
    ///
    /// # Panics
    /// If there are not as many scalars as elements.
    #[must_use]
    pub fn vartime_multiscalar(self, scalars: &[Scalar], points: &Points) -> RistrettoPoint {
        assert_eq!(points.len(), scalars.len(), "one scalar an element");
        match (self.0, &points.0) {
            (Engine::Portable, PointsRepr::Portable(points)) => {
                portable::vartime_multiscalar(scalars, points)
            }
            #[cfg(target_arch = "x86_64")]
            (Engine::Avx512Ifma(cpu), PointsRepr::Avx512Ifma(points)) => {
                let scalars: Vec<_> = scalars.iter().map(Scalar::to_bytes).collect();
                cpu.vartime_weighted_sum(&scalars, points)
            }
            #[cfg(target_arch = "x86_64")]
            _ => mixed_engines(),
        }
    }

    /// The sum of `weights[i] * points[i]`, in time that depends on both: for public values only. Half the cost of
    /// [`Backend::vartime_multiscalar`].
    ///
    /// # Panics
    /// If there are not as many weights as elements.
    #[must_use]
    pub fn vartime_weighted_sum(self, weights: &[Weight], points: &Points) -> RistrettoPoint {
        assert_eq!(points.len(), weights.len(), "one weight an element");
        match (self.0, &points.0) {
            (Engine::Portable, PointsRepr::Portable(points)) => {
                portable::vartime_weighted_sum(weights, points)
            }
            #[cfg(target_arch = "x86_64")]
            (Engine::Avx512Ifma(cpu), PointsRepr::Avx512Ifma(points)) => {
                cpu.vartime_weighted_sum(weights, points)
            }
            #[cfg(target_arch = "x86_64")]
            _ => mixed_engines(),
        }
    }
}

/// A batch or a base was made by one engine and given to another, which is a bug in the caller.
#[cfg(target_arch = "x86_64")]
fn mixed_engines() -> ! {
    panic!("elements and bases belong to the engine that made them")
}
