//! Compression of pages, never to more than a page says it has.

use std::io::Read as _;

use parquet::basic::Compression;

use super::Refused;

/// Appends what `packed` decompresses to, so that the page has `length` bytes; if it would be more or less, the page ends with
/// another length, or this is an error.
pub(super) fn decompress(
    codec: Compression,
    packed: &[u8],
    page: &mut Vec<u8>,
    length: usize,
) -> Result<(), Refused> {
    let start = page.len();
    let rest = length - start;
    let unpacked = match codec {
        Compression::SNAPPY => match snap::raw::decompress_len(packed) {
            Ok(size) if size == rest => {
                page.resize(length, 0);
                snap::raw::Decoder::new()
                    .decompress(packed, &mut page[start..])
                    .map_err(|error| error.to_string())
            }
            Ok(size) => Err(format!("{size} bytes, not {rest}")),
            Err(error) => Err(error.to_string()),
        },
        // One byte more shows that there is more.
        Compression::GZIP(_) => flate2::read::MultiGzDecoder::new(packed)
            .take(rest as u64 + 1)
            .read_to_end(page)
            .map_err(|error| error.to_string()),
        Compression::ZSTD(_) => {
            page.resize(length, 0);
            let size = zstd::bulk::decompress_to_buffer(packed, &mut page[start..]);
            page.truncate(start + size.as_ref().unwrap_or(&0));
            size.map_err(|error| error.to_string())
        }
        other => {
            return Err(Refused::limit(format!(
                "it is compressed with {other}, which is not read: use snappy, gzip or zstd"
            )));
        }
    };
    unpacked
        .map(|_| ())
        .map_err(|problem| Refused::damaged(format!("a page cannot be decompressed: {problem}")))
}

/// CRC-32 as in gzip.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}
