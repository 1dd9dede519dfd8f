//! Reading and writing of fixed-width big-endian fields.

use crate::fault::Fault;

/// Takes fields from the front of a payload.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) const fn new(payload: &'a [u8]) -> Self {
        Self(payload)
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        let (head, tail) = self
            .0
            .split_at_checked(length)
            .ok_or(Fault::MalformedPayload)?;
        self.0 = tail;
        Ok(head)
    }

    pub(crate) fn array_ref<const N: usize>(&mut self) -> Result<&'a [u8; N], Fault> {
        let (head, tail) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(Fault::MalformedPayload)?;
        self.0 = tail;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        self.array_ref().copied()
    }

    /// `count` arrays back to back.
    pub(crate) fn arrays<const N: usize>(&mut self, count: usize) -> Result<&'a [[u8; N]], Fault> {
        let length = count.checked_mul(N).ok_or(Fault::MalformedPayload)?;
        Ok(self.bytes(length)?.as_chunks::<N>().0)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Fault> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Fault> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Fault> {
        self.array().map(u64::from_be_bytes)
    }

    /// 0 or 1.
    pub(crate) fn flag(&mut self) -> Result<bool, Fault> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Fault::MalformedPayload),
        }
    }

    /// A count of four bytes, at most `limit`.
    pub(crate) fn count(&mut self, limit: usize) -> Result<usize, Fault> {
        let count = usize::try_from(self.u32()?).map_err(|_| Fault::SetTooLarge)?;
        if count > limit {
            return Err(Fault::SetTooLarge);
        }
        Ok(count)
    }

    /// The end of the payload.
    pub(crate) const fn finish(self) -> Result<(), Fault> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Fault::MalformedPayload)
        }
    }
}

/// Appends fields to a payload.
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn u8(self, value: u8) -> Self {
        self.bytes(&[value])
    }

    pub(crate) fn u16(self, value: u16) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(crate) fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(crate) fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    /// A count of four bytes; every count is bounded by a limit of the protocol.
    pub(crate) fn count(self, count: usize) -> Self {
        self.u32(u32::try_from(count).expect("counts are bounded far below 2^32"))
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}
