//! The thrift compact protocol (thrift-compact-protocol.md), walked without building anything: what a footer or a page header
//! says is known before the parquet crate allocates what it says.

/// How deep structs and lists may lie in one another; a footer needs 8.
const MAX_DEPTH: usize = 16;

/// What the walk meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// A struct begins.
    Struct,
    Bool(bool),
    Integer(i64),
    /// Bytes or a text of this length.
    Binary(usize),
}

/// Why a walk ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The bytes end inside a value.
    Short,
    /// What is wrong.
    Malformed(&'static str),
}

/// Is told of each item with the ids of the fields that lead to it; the elements of a list have the list's path.
pub(super) type Visit<'a> = dyn FnMut(&[i16], Item) -> Result<(), Fault> + 'a;

/// Walks the struct that `bytes` start with and returns its length.
///
/// # Errors
/// [`Fault`]; what `visit` returns. Stricter than the crate's reader wherever that would skip without reading: every item takes
/// at least one byte, fields ascend.
pub(super) fn walk(bytes: &[u8], visit: &mut Visit<'_>) -> Result<usize, Fault> {
    let mut walk = Walk {
        bytes,
        at: 0,
        path: Vec::new(),
        visit,
    };
    walk.structure(0)?;
    Ok(walk.at)
}

struct Walk<'a, 'v> {
    bytes: &'a [u8],
    at: usize,
    path: Vec<i16>,
    visit: &'v mut Visit<'v>,
}

// Types of fields and elements.
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const STRUCT: u8 = 12;
const UUID: u8 = 13;

impl Walk<'_, '_> {
    fn byte(&mut self) -> Result<u8, Fault> {
        let byte = *self.bytes.get(self.at).ok_or(Fault::Short)?;
        self.at += 1;
        Ok(byte)
    }

    fn skip(&mut self, count: usize) -> Result<(), Fault> {
        if count > self.bytes.len() - self.at {
            return Err(Fault::Short);
        }
        self.at += count;
        Ok(())
    }

    fn varint(&mut self) -> Result<u64, Fault> {
        let rest = &self.bytes[self.at..];
        let (value, length) = varint(rest)?;
        self.at += length;
        Ok(value)
    }

    fn size(&mut self) -> Result<usize, Fault> {
        i32::try_from(self.varint()?)
            .ok()
            .and_then(|size| usize::try_from(size).ok())
            .ok_or(Fault::Malformed("a length is out of range"))
    }

    fn visit(&mut self, item: Item) -> Result<(), Fault> {
        (self.visit)(&self.path, item)
    }

    fn structure(&mut self, depth: usize) -> Result<(), Fault> {
        if depth > MAX_DEPTH {
            return Err(Fault::Malformed("structures lie too deep in one another"));
        }
        self.visit(Item::Struct)?;
        let mut last = 0_i16;
        loop {
            let header = self.byte()?;
            if header == 0 {
                return Ok(());
            }
            let id = match header >> 4 {
                0 => i16::try_from(zigzag(self.varint()?)).ok(),
                delta => last.checked_add(i16::from(delta)),
            };
            last = id
                .filter(|id| *id > last)
                .ok_or(Fault::Malformed("fields are out of order"))?;
            self.path.push(last);
            match header & 0xf {
                TRUE => self.visit(Item::Bool(true))?,
                FALSE => self.visit(Item::Bool(false))?,
                kind => self.value(kind, depth + 1)?,
            }
            self.path.pop();
        }
    }

    fn value(&mut self, kind: u8, depth: usize) -> Result<(), Fault> {
        match kind {
            BYTE => self.skip(1),
            I16..=I64 => {
                let value = zigzag(self.varint()?);
                self.visit(Item::Integer(value))
            }
            DOUBLE => self.skip(8),
            BINARY => {
                let length = self.size()?;
                self.visit(Item::Binary(length))?;
                self.skip(length)
            }
            LIST | SET => self.list(depth),
            STRUCT => self.structure(depth),
            UUID => self.skip(16),
            _ => Err(Fault::Malformed("a value has an unknown type")),
        }
    }

    fn list(&mut self, depth: usize) -> Result<(), Fault> {
        if depth > MAX_DEPTH {
            return Err(Fault::Malformed("lists lie too deep in one another"));
        }
        let header = self.byte()?;
        let count = match header >> 4 {
            15 => self.size()?,
            count => usize::from(count),
        };
        if count == 0 {
            return Ok(());
        }
        // No list of a footer or page header has truth values, and the crate skips them without reading: 2³¹ of them in six bytes.
        if matches!(header & 0xf, TRUE | FALSE) {
            return Err(Fault::Malformed("a list has truth values"));
        }
        if count > self.bytes.len() - self.at {
            return Err(Fault::Short);
        }
        for _ in 0..count {
            self.value(header & 0xf, depth + 1)?;
        }
        Ok(())
    }
}

/// The unsigned number that `bytes` start with, seven bits a byte with the lowest first, and its length.
pub(super) fn varint(bytes: &[u8]) -> Result<(u64, usize), Fault> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if *byte < 0x80 {
            return Ok((value, index + 1));
        }
    }
    Err(if bytes.len() < 10 {
        Fault::Short
    } else {
        Fault::Malformed("a number has too many bytes")
    })
}

/// The signed number that an unsigned one stands for.
pub(super) const fn zigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Visited = Vec<(Vec<i16>, Item)>;

    fn items(bytes: &[u8]) -> Result<(usize, Visited), Fault> {
        let mut items = Vec::new();
        let length = walk(bytes, &mut |path, item| {
            items.push((path.to_vec(), item));
            Ok(())
        })?;
        Ok((length, items))
    }

    #[test]
    fn items_have_their_path() {
        // 1: i32 -3; 3: list of two structs {2: true}; 4: binary "ab"; stop; a byte of something else.
        let bytes = [
            0x15, 0x05, 0x29, 0x2c, 0x21, 0, 0x21, 0, 0x18, 2, b'a', b'b', 0, 9,
        ];
        let (length, items) = items(&bytes).expect("well-formed");
        assert_eq!(length, bytes.len() - 1);
        assert_eq!(
            items,
            [
                (vec![], Item::Struct),
                (vec![1], Item::Integer(-3)),
                (vec![3], Item::Struct),
                (vec![3, 2], Item::Bool(true)),
                (vec![3], Item::Struct),
                (vec![3, 2], Item::Bool(true)),
                (vec![4], Item::Binary(2)),
            ]
        );
        for end in 0..length {
            assert_eq!(self::items(&bytes[..end]), Err(Fault::Short), "{end}");
        }
    }

    #[test]
    fn what_could_run_away_is_refused() {
        // A list of 2³¹ - 1 truth values, and of as many structs.
        let many = [0xff, 0xff, 0xff, 0xff, 0x07];
        let list = |kind: u8| [&[0x19, 0xf0 | kind][..], &many, &[0, 0]].concat();
        assert_eq!(
            items(&list(TRUE)),
            Err(Fault::Malformed("a list has truth values"))
        );
        assert_eq!(items(&list(STRUCT)), Err(Fault::Short));
        // Structs in structs, lists in lists.
        let deep = [[0x1c; 1000].as_slice(), &[0; 1001]].concat();
        assert!(matches!(items(&deep), Err(Fault::Malformed(_))));
        let deep = [[0x19; 1000].as_slice(), &[0; 1001]].concat();
        assert!(matches!(items(&deep), Err(Fault::Malformed(_))));
        // The same field twice, a map, a number without an end.
        for wrong in [
            &[0x15, 2, 0x05, 2, 2, 0][..],
            &[0x1b, 0, 0],
            &[
                0x15, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0,
            ],
        ] {
            assert!(
                matches!(items(wrong), Err(Fault::Malformed(_))),
                "{wrong:?}"
            );
        }
    }
}
