//! Vectors of secrets that are overwritten when they are dropped.

use std::{
    fmt,
    ops::{Deref, DerefMut},
};

use zeroize::optimization_barrier;

/// What secrets are overwritten with.
pub trait Blank: Copy {
    /// Says nothing.
    const BLANK: Self;
}

impl Blank for u8 {
    const BLANK: Self = 0;
}

impl<const N: usize> Blank for [u8; N] {
    const BLANK: Self = [0; N];
}

impl Blank for curve25519_dalek::Scalar {
    const BLANK: Self = Self::ZERO;
}

/// Overwrites secrets in a way that the compiler keeps.
pub fn wipe<T: Blank>(secrets: &mut [T]) {
    secrets.fill(T::BLANK);
    optimization_barrier(secrets);
}

/// A vector that is overwritten when it is dropped, and when it grows out of its place.
///
/// `Zeroizing<Vec<_>>` does the same by two volatile writes a byte, which is a tenth of a run's time.
pub struct Secrets<T: Blank>(Vec<T>);

impl<T: Blank> Secrets<T> {
    /// Takes over a vector.
    #[must_use]
    pub const fn new(secrets: Vec<T>) -> Self {
        Self(secrets)
    }

    /// An empty vector with room for `count`.
    #[must_use]
    pub fn with_capacity(count: usize) -> Self {
        Self(Vec::with_capacity(count))
    }

    /// Appends one.
    #[inline]
    pub fn push(&mut self, secret: T) {
        self.reserve(1);
        self.0.push(secret);
    }

    /// Appends some.
    #[inline]
    pub fn extend_from_slice(&mut self, secrets: &[T]) {
        self.reserve(secrets.len());
        self.0.extend_from_slice(secrets);
    }

    /// Appends the concatenation of `parts`.
    #[inline]
    pub fn extend_from_parts(&mut self, parts: &[&[T]]) {
        self.reserve(parts.iter().map(|part| part.len()).sum());
        for part in parts {
            self.0.extend_from_slice(part);
        }
    }

    /// Appends as many blanks as are missing to `count`.
    pub fn fill_up(&mut self, count: usize) {
        let missing = count.saturating_sub(self.0.len());
        self.reserve(missing);
        self.0.extend(std::iter::repeat_n(T::BLANK, missing));
    }

    /// Overwrites and removes all; the room stays.
    pub fn clear(&mut self) {
        wipe(&mut self.0);
        self.0.clear();
    }

    /// Makes room for `more`. A vector that grows by itself would leave copies behind.
    #[inline]
    fn reserve(&mut self, more: usize) {
        if self.0.capacity() - self.0.len() < more {
            self.grow(more);
        }
    }

    #[cold]
    fn grow(&mut self, more: usize) {
        let needed = (self.0.len() + more).max(2 * self.0.capacity());
        let mut larger = Vec::with_capacity(needed);
        larger.extend_from_slice(&self.0);
        wipe(&mut self.0);
        self.0 = larger;
    }
}

impl<T: Blank> Default for Secrets<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Blank> Deref for Secrets<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Blank> DerefMut for Secrets<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<T: Blank> fmt::Debug for Secrets<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secrets(..)")
    }
}

impl<T: Blank> Drop for Secrets<T> {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::Secrets;

    #[test]
    fn secrets_grow_and_are_cleared() {
        let mut secrets = Secrets::<[u8; 3]>::with_capacity(1);
        for value in 0..100 {
            secrets.push([value; 3]);
        }
        secrets.extend_from_slice(&[[7; 3]; 5]);
        secrets.fill_up(107);
        secrets.extend_from_parts(&[&[[8; 3]; 2], &[], &[[9; 3]]]);
        let expected: Vec<[u8; 3]> = (0..100)
            .chain([7; 5])
            .chain([0; 2])
            .chain([8, 8, 9])
            .map(|v| [v; 3])
            .collect();
        assert_eq!(&*secrets, expected);
        secrets.clear();
        assert!(secrets.is_empty());
    }
}
