//! The contents of a decompressed page, looked at before the parquet crate decodes them: what would make it allocate more than
//! the page has bytes is measured and bounded (parquet-format, Encodings.md).

use parquet::basic::Type;

use super::thrift::{varint, zigzag};

/// Values of a list.
pub(super) const MAX_LIST: u64 = 1024;
/// Bytes of a value of a list that is stored once and named often: each time it is copied.
const MAX_LISTED_BYTES: usize = 8 * 1024;
/// Bytes that the crate needs for a value apart from its text.
pub(super) const VALUE_BYTES: u64 = 40;

/// What is wrong with a page.
pub(super) type Problem = String;

fn short(part: &str) -> Problem {
    format!("its {part} are cut short")
}

/// Rows and lists, by the repetition levels of a column's pages: 0 starts a row, 1 goes on with its list.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// Rows so far.
    pub(super) rows: u64,
    /// Values of the last one.
    length: u64,
}

impl Lists {
    /// Reads `count` levels of one bit, in the hybrid of runs and bit packing.
    pub(super) fn read(&mut self, mut levels: &[u8], mut count: u64) -> Result<(), Problem> {
        let cut = || short("repetition levels");
        while count > 0 {
            let (header, length) = varint(levels).map_err(|_| cut())?;
            levels = &levels[length..];
            let size = header >> 1;
            if header & 1 == 0 {
                let (level, rest) = levels.split_first().ok_or_else(cut)?;
                levels = rest;
                let run = size.min(count);
                self.take(level & 1, run)?;
                count -= run;
            } else {
                // Eight levels a byte, the lowest bit first.
                let bytes = usize::try_from(size).map_err(|_| cut())?;
                // The last group may lack the bytes that only pad it.
                let (packed, rest) = levels.split_at(bytes.min(levels.len()));
                levels = rest;
                if packed.is_empty() {
                    return Err(cut());
                }
                for bit in packed
                    .iter()
                    .flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1))
                {
                    if count == 0 {
                        break;
                    }
                    self.take(bit, 1)?;
                    count -= 1;
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, level: u8, count: u64) -> Result<(), Problem> {
        if count == 0 {
            return Err("it has an empty run of repetition levels".to_owned());
        }
        if level == 0 {
            self.rows += count;
            self.length = 1;
            return Ok(());
        }
        if self.rows == 0 {
            return Err("a list begins before the first row".to_owned());
        }
        self.length = self.length.saturating_add(count);
        if self.length > MAX_LIST {
            return Err(format!(
                "row {} of its row group has a list of more than {MAX_LIST} values",
                self.rows
            ));
        }
        Ok(())
    }
}

/// Checks a dictionary of `count` plain values of a type; `length` is that of fixed-length texts, `listed` says whether they are
/// values of lists.
pub(super) fn dictionary(
    page: &[u8],
    count: u64,
    (physical, length): (Type, usize),
    listed: bool,
) -> Result<(), Problem> {
    let width = match physical {
        Type::BOOLEAN => return Err("it has a dictionary of truth values".to_owned()),
        Type::INT32 | Type::FLOAT => 4,
        Type::INT64 | Type::DOUBLE => 8,
        Type::INT96 => 12,
        Type::FIXED_LEN_BYTE_ARRAY => length.max(1),
        Type::BYTE_ARRAY => return texts(page, count, listed),
    };
    if listed && width > MAX_LISTED_BYTES {
        return Err(too_long(width));
    }
    if count.checked_mul(width as u64) != Some(page.len() as u64) {
        return Err(format!(
            "its dictionary of {count} values has {} bytes",
            page.len()
        ));
    }
    Ok(())
}

fn too_long(length: usize) -> Problem {
    format!("it has lists of values of {length} bytes; {MAX_LISTED_BYTES} are the limit")
}

fn texts(mut page: &[u8], count: u64, listed: bool) -> Result<(), Problem> {
    for _ in 0..count {
        let (length, rest) = page
            .split_first_chunk()
            .ok_or_else(|| short("dictionary's values"))?;
        let length = u32::from_le_bytes(*length) as usize;
        if listed && length > MAX_LISTED_BYTES {
            return Err(too_long(length));
        }
        page = rest
            .get(length..)
            .ok_or_else(|| short("dictionary's values"))?;
    }
    Ok(())
}

/// Checks a page of texts whose lengths come first (DELTA_LENGTH_BYTE_ARRAY), of at most `count` values.
pub(super) fn delta_lengths(page: &[u8], count: u64) -> Result<(), Problem> {
    suffixes(page, count).map(|_| ())
}

/// Checks a page of texts that each go on from a part of the one before (DELTA_BYTE_ARRAY), of at most `count` values, and
/// returns the bytes of all of them together.
pub(super) fn delta_texts(page: &[u8], count: u64, listed: bool) -> Result<u64, Problem> {
    let (prefixes, used) = delta_integers(page, count)?;
    let suffixes = suffixes(&page[used..], count)?;
    if prefixes.len() != suffixes.len() {
        return Err("its texts have more beginnings than ends, or fewer".to_owned());
    }
    let (mut before, mut total) = (0, 0_u64);
    for (prefix, suffix) in prefixes.into_iter().zip(suffixes) {
        let prefix = usize::try_from(prefix)
            .ok()
            .filter(|prefix| *prefix <= before)
            .ok_or("a text goes on from more than the one before has")?;
        before = prefix + suffix;
        if listed && before > MAX_LISTED_BYTES {
            return Err(too_long(before));
        }
        total = total.saturating_add(before as u64);
    }
    Ok(total)
}

/// The lengths that a page starts with, whose sum its further bytes have.
fn suffixes(page: &[u8], count: u64) -> Result<Vec<usize>, Problem> {
    let (lengths, used) = delta_integers(page, count)?;
    let lengths = lengths
        .into_iter()
        .map(usize::try_from)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| "a text has a negative length")?;
    let sum = lengths
        .iter()
        .try_fold(0_usize, |sum, length| sum.checked_add(*length));
    if sum.is_none_or(|sum| sum > page.len() - used) {
        return Err(short("texts"));
    }
    Ok(lengths)
}

/// Checks the count of a page of integers (DELTA_BINARY_PACKED).
pub(super) fn delta_count(page: &[u8], count: u64) -> Result<(), Problem> {
    DeltaHeader::read(&mut Bits::new(page), count).map(|_| ())
}

/// The integers of a delta-packed sequence of at most `most`, and its bytes.
fn delta_integers(bytes: &[u8], most: u64) -> Result<(Vec<i32>, usize), Problem> {
    let mut bits = Bits::new(bytes);
    let header = DeltaHeader::read(&mut bits, most)?;
    let mut values = Vec::with_capacity(header.count);
    if header.count == 0 {
        return Ok((values, bits.at));
    }
    let mut last = header.first;
    values.push(last);
    while values.len() < header.count {
        let least = zigzag(bits.varint()?) as i32;
        let widths = bits.bytes(header.miniblocks)?;
        for width in widths {
            if values.len() == header.count {
                // Miniblocks that hold nothing have no bytes, whatever their width.
                break;
            }
            let packed = bits.packed(*width, header.values_a_miniblock)?;
            for value in packed.take(header.count - values.len()) {
                last = last.wrapping_add(least).wrapping_add(value);
                values.push(last);
            }
        }
    }
    Ok((values, bits.at))
}

struct DeltaHeader {
    miniblocks: usize,
    values_a_miniblock: usize,
    count: usize,
    first: i32,
}

impl DeltaHeader {
    fn read(bits: &mut Bits<'_>, most: u64) -> Result<Self, Problem> {
        let [block, miniblocks, count] = [bits.varint()?, bits.varint()?, bits.varint()?];
        let first = zigzag(bits.varint()?);
        if count > most {
            return Err(format!(
                "it speaks of {count} deltas where it has {most} values"
            ));
        }
        // As the format demands; the upper bound is ours (writers use 128 and 4).
        let fits = (1..=1 << 16).contains(&block)
            && block % 128 == 0
            && (1..=block).contains(&miniblocks)
            && block % miniblocks == 0
            && (block / miniblocks) % 32 == 0;
        if !fits {
            return Err(format!(
                "its deltas have blocks of {block} in {miniblocks} parts"
            ));
        }
        Ok(Self {
            miniblocks: miniblocks as usize,
            values_a_miniblock: (block / miniblocks) as usize,
            count: count as usize,
            first: first as i32,
        })
    }
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn varint(&mut self) -> Result<u64, Problem> {
        let (value, length) = varint(&self.bytes[self.at..]).map_err(|_| short("deltas"))?;
        self.at += length;
        Ok(value)
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Problem> {
        let bytes = self.bytes[self.at..]
            .get(..count)
            .ok_or_else(|| short("deltas"))?;
        self.at += count;
        Ok(bytes)
    }

    /// `count` numbers, a multiple of 8, of `width` bits each.
    fn packed(&mut self, width: u8, count: usize) -> Result<impl Iterator<Item = i32>, Problem> {
        if width > 32 {
            return Err(format!("a delta has {width} bits"));
        }
        let width = usize::from(width);
        let bytes = self.bytes(width * count / 8)?;
        Ok((0..count).map(move |index| {
            let start = index * width;
            let mut word = [0; 8];
            let from = &bytes[(start / 8).min(bytes.len())..];
            let length = from.len().min(8);
            word[..length].copy_from_slice(&from[..length]);
            let value = u64::from_le_bytes(word) >> (start % 8);
            (value & ((1_u64 << width) - 1)) as u32 as i32
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_by_their_levels() {
        let read = |levels: &[u8], count| {
            let mut lists = Lists::default();
            lists.read(levels, count).map(|()| lists.rows)
        };
        // A run of five zeros; eight packed levels 0 1 1 0 0 1 0 0, of which six count.
        assert_eq!(read(&[5 << 1, 0], 5), Ok(5));
        assert_eq!(read(&[1 << 1 | 1, 0b0010_0110], 6), Ok(3));
        assert_eq!(read(&[5 << 1, 0, 1 << 1 | 1, 0b0010_0110], 11), Ok(8));
        for (wrong, count) in [
            // It ends early; a list before the first row; an empty run, which would go on for ever.
            (&[5 << 1, 0][..], 6),
            (&[2 << 1, 1], 2),
            (&[0, 0], 1),
            (&[1], 1),
            (&[], 1),
            // A list of 1025.
            (&[2, 0, 0x80, 0x10, 1], 1025),
        ] {
            assert!(read(wrong, count).is_err(), "{wrong:?}");
        }
        // A list of 1024.
        assert_eq!(read(&[2, 0, 0xfe, 0x0f, 1], 1024), Ok(1));
    }

    #[test]
    fn deltas_are_unpacked() {
        // Encodings.md, example 2: 7, 5, 3, 1, 2, 3, 4, 5 has the deltas -2 -2 -2 1 1 1 1, the least of which is -2, so that
        // 0 0 0 3 3 3 3 are packed in two bits; here as one block of 128 in four parts.
        let mut page = vec![0x80, 1, 4, 8, 14, 3, 2, 0, 0, 0, 0b1100_0000, 0b0011_1111];
        page.extend([0; 6]);
        let used = page.len();
        page.push(99);
        assert_eq!(
            delta_integers(&page, 8),
            Ok((vec![7, 5, 3, 1, 2, 3, 4, 5], used))
        );
        assert!(delta_integers(&page, 7).is_err());
        for end in 0..used {
            assert!(delta_integers(&page[..end], 8).is_err(), "{end}");
        }
        // One value has no block.
        assert_eq!(delta_integers(&[0x80, 1, 4, 1, 14], 1), Ok((vec![7], 5)));
        // 2³¹ values of no bits at all.
        let many = [0x80, 1, 4, 0xff, 0xff, 0xff, 0xff, 7, 0];
        assert!(delta_integers(&many, 1000).is_err());
        assert!(delta_count(&many, 1000).is_err());
    }

    #[test]
    fn what_texts_grow_to_is_known() {
        // "abcd", then twice the four before and "e" after: 4 + 5 + 5 bytes, wherever "e" is counted from four.
        let one = |first: u8| vec![0x80, 1, 4, 3, first << 1];
        // Prefixes 0, 4, 4: deltas 4, 0, the least 0, three bits: 4 | 0 << 3.
        let mut page = one(0);
        page.extend([0, 3, 0, 0, 0, 4]);
        page.extend([0; 11]);
        // Suffixes 4, 1, 1: deltas -3, 0, the least -3, two bits: 0 | 3 << 2.
        page.extend(one(4));
        page.extend([5, 2, 0, 0, 0, 0b1100]);
        page.extend([0; 7]);
        page.extend(b"abcdee");
        assert_eq!(delta_texts(&page, 3, false), Ok(14));
        page.pop();
        assert_eq!(
            delta_texts(&page, 3, false),
            Err("its texts are cut short".to_owned())
        );
    }

    #[test]
    fn dictionaries_have_the_values_they_speak_of() {
        let texts = (Type::BYTE_ARRAY, 0);
        let page = [2, 0, 0, 0, b'a', b'b', 0, 0, 0, 0];
        assert_eq!(dictionary(&page, 2, texts, true), Ok(()));
        assert!(dictionary(&page, 3, texts, true).is_err());
        assert!(dictionary(&page[..5], 1, texts, true).is_err());
        let long = [&9000_u32.to_le_bytes()[..], &[b'x'; 9000]].concat();
        assert_eq!(dictionary(&long, 1, texts, false), Ok(()));
        assert!(dictionary(&long, 1, texts, true).is_err());
        assert_eq!(dictionary(&[0; 16], 2, (Type::INT64, 0), false), Ok(()));
        assert!(dictionary(&[0; 16], 1 << 30, (Type::INT64, 0), false).is_err());
        assert!(dictionary(&[], 1 << 30, (Type::FIXED_LEN_BYTE_ARRAY, 0), false).is_err());
    }
}
