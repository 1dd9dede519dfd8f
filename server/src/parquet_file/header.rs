//! Page headers (parquet.thrift).

use parquet::basic::Encoding;

use super::{
    Refused,
    thrift::{self, Fault, Item},
};

/// What a page's header says (parquet.thrift, `PageHeader`).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Header {
    pub(super) kind: i64,
    pub(super) bytes: i64,
    pub(super) compressed: i64,
    pub(super) crc: Option<i64>,
    pub(super) values: i64,
    pub(super) encoding: i64,
    pub(super) definition_encoding: i64,
    pub(super) repetition_encoding: i64,
    /// Of version 2 only.
    pub(super) nulls: i64,
    pub(super) rows: i64,
    pub(super) definition_bytes: i64,
    pub(super) repetition_bytes: i64,
    pub(super) is_uncompressed: bool,
}

pub(super) const DATA: i64 = 0;
pub(super) const DICTIONARY: i64 = 2;
pub(super) const DATA_2: i64 = 3;

impl Header {
    /// Reads the header that `bytes` start with, and its length.
    pub(super) fn read(bytes: &[u8]) -> Result<(Self, usize), Fault> {
        let mut header = Self::default();
        let mut parts = [false; 9];
        let length = thrift::walk(bytes, &mut |path, item| {
            match (path, item) {
                ([part @ (5 | 7 | 8)], Item::Struct) => {
                    parts[usize::from(part.unsigned_abs())] = true
                }
                ([8, 7], Item::Bool(compressed)) => header.is_uncompressed = !compressed,
                (path, Item::Integer(value)) => {
                    let place = match path {
                        [1] => &mut header.kind,
                        [2] => &mut header.bytes,
                        [3] => &mut header.compressed,
                        [4] => header.crc.insert(0),
                        [5 | 7 | 8, 1] => &mut header.values,
                        [5 | 7, 2] | [8, 4] => &mut header.encoding,
                        [5, 3] => &mut header.definition_encoding,
                        [5, 4] => &mut header.repetition_encoding,
                        [8, 2] => &mut header.nulls,
                        [8, 3] => &mut header.rows,
                        [8, 5] => &mut header.definition_bytes,
                        [8, 6] => &mut header.repetition_bytes,
                        _ => return Ok(()),
                    };
                    *place = value;
                }
                _ => {}
            }
            Ok(())
        })?;
        let part = match header.kind {
            DATA => 5,
            DICTIONARY => 7,
            DATA_2 => 8,
            _ => return Err(Fault::Malformed("the kind is unknown")),
        };
        // One part only, or its numbers would be those of another.
        if parts.iter().filter(|there| **there).count() != 1 || !parts[part] {
            return Err(Fault::Malformed(
                "the part for its kind is missing, or there is another",
            ));
        }
        Ok((header, length))
    }
}

/// A number of a header, which cannot be negative.
pub(super) fn size(number: i64, what: &str) -> Result<u64, Refused> {
    u64::try_from(number)
        .ok()
        .filter(|number| i32::try_from(*number).is_ok())
        .ok_or_else(|| Refused::damaged(format!("a page's header says {what} {number}")))
}

pub(super) fn encoding(number: i64) -> Result<Encoding, Refused> {
    Ok(match number {
        0 => Encoding::PLAIN,
        2 => Encoding::PLAIN_DICTIONARY,
        3 => Encoding::RLE,
        5 => Encoding::DELTA_BINARY_PACKED,
        6 => Encoding::DELTA_LENGTH_BYTE_ARRAY,
        7 => Encoding::DELTA_BYTE_ARRAY,
        8 => Encoding::RLE_DICTIONARY,
        9 => Encoding::BYTE_STREAM_SPLIT,
        _ => {
            return Err(Refused::damaged(format!(
                "its encoding {number} is not known"
            )));
        }
    })
}
