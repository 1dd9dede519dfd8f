//! Many byte strings in one allocation.

use crate::secrets::Secrets;

/// A batch of messages to hash, back to back in one buffer. Zeroized on drop: they may be customers' identifiers.
#[derive(Default)]
pub struct Messages {
    bytes: Secrets<u8>,
    ends: Vec<usize>,
}

impl Messages {
    /// An empty batch with room for `count` messages of `bytes_each` bytes.
    #[must_use]
    pub fn with_capacity(count: usize, bytes_each: usize) -> Self {
        Self {
            bytes: Secrets::with_capacity(count * bytes_each),
            ends: Vec::with_capacity(count),
        }
    }

    /// Appends one message, the concatenation of `parts`.
    #[inline]
    pub fn push(&mut self, parts: &[&[u8]]) {
        self.bytes.extend_from_parts(parts);
        self.ends.push(self.bytes.len());
    }

    /// Number of messages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Message number `index`.
    ///
    /// # Panics
    /// If there is no such message.
    #[must_use]
    pub fn at(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }

    /// The messages in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.at(index))
    }
}
