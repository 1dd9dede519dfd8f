//! Parts in memory: a buffer cut into blocks, each of which belongs to one part.

use super::super::held::LENGTH_BYTES;

pub(super) struct Buffer {
    bytes: Vec<u8>,
    block_bytes: usize,
    /// Numbers of the blocks of every part, the open one last.
    blocks: Vec<Vec<u32>>,
    open: Vec<Open>,
    /// Number of blocks given out.
    used: usize,
}

/// A part's block that is being filled, as a range of the buffer.
#[derive(Clone, Copy, Default)]
struct Open {
    at: usize,
    end: usize,
}

impl Buffer {
    pub(super) fn new(parts: usize, block_bytes: usize, bytes: usize) -> Self {
        Self {
            bytes: vec![0; bytes / block_bytes * block_bytes],
            block_bytes,
            blocks: vec![Vec::new(); parts],
            open: vec![Open::default(); parts],
            used: 0,
        }
    }

    /// Adds a record to a part, with its length before it, if the part's open block has room.
    #[inline]
    pub(super) fn push(&mut self, part: usize, length: u16, record: &[&[u8]]) -> bool {
        let open = &mut self.open[part];
        let bytes = LENGTH_BYTES + usize::from(length);
        let Some(room) = self
            .bytes
            .get_mut(open.at..open.end)
            .and_then(|room| room.get_mut(..bytes))
        else {
            return false;
        };
        open.at += bytes;
        let (head, mut room) = room.split_at_mut(LENGTH_BYTES);
        head.copy_from_slice(&length.to_le_bytes());
        for piece in record {
            let (here, rest) = room.split_at_mut(piece.len());
            here.copy_from_slice(piece);
            room = rest;
        }
        true
    }

    /// Adds bytes to a part across blocks, and returns those for which there is no room.
    pub(super) fn append<'a>(&mut self, part: usize, mut bytes: &'a [u8]) -> &'a [u8] {
        while !bytes.is_empty() {
            let open = &mut self.open[part];
            if open.at == open.end {
                let start = self.used * self.block_bytes;
                if start == self.bytes.len() {
                    break;
                }
                (open.at, open.end) = (start, start + self.block_bytes);
                self.blocks[part].push(self.used as u32);
                self.used += 1;
            }
            let (here, rest) = bytes.split_at(bytes.len().min(open.end - open.at));
            self.bytes[open.at..][..here.len()].copy_from_slice(here);
            open.at += here.len();
            bytes = rest;
        }
        bytes
    }

    /// Bytes of a part.
    pub(super) fn part_bytes(&self, part: usize) -> usize {
        let open = self.open[part];
        self.blocks[part].len() * self.block_bytes - (open.end - open.at)
    }

    /// The bytes of a part, block by block.
    pub(super) fn part(&self, part: usize) -> impl Iterator<Item = &[u8]> {
        let mut left = self.part_bytes(part);
        self.blocks[part].iter().map(move |block| {
            let bytes = left.min(self.block_bytes);
            left -= bytes;
            &self.bytes[*block as usize * self.block_bytes..][..bytes]
        })
    }

    pub(super) fn clear(&mut self) {
        self.blocks.iter_mut().for_each(Vec::clear);
        self.open.fill(Open::default());
        self.used = 0;
    }
}
