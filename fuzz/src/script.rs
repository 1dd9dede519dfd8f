//! Inputs as scripts: which frame of an honest run comes next, and what was changed about it.
//!
//! A step has [`STEP_BYTES`] bytes: the frame, the change, where (u16), and two bytes for what. A change with the top bit set is
//! followed by another one of the same frame, whose first byte is not looked at. Every input is a script, so that whatever the
//! fuzzer cuts out, repeats or joins stays one.

use overlap_crypto::wire::FrameKind;

/// Bytes of a step.
pub const STEP_BYTES: usize = 6;

/// A frame and its body.
pub type Sent = (FrameKind, Vec<u8>);

/// The frames that a script makes of a pool of honest ones.
pub struct Script<'a> {
    input: &'a [u8],
    pool: &'a [Sent],
}

impl<'a> Script<'a> {
    /// The script that `input` is.
    #[must_use]
    pub const fn new(input: &'a [u8], pool: &'a [Sent]) -> Self {
        Self { input, pool }
    }

    fn step(&mut self) -> Option<[u8; STEP_BYTES]> {
        let (step, rest) = self.input.split_first_chunk()?;
        self.input = rest;
        Some(*step)
    }

    fn change(&self, (kind, body): &mut Sent, [_, change, high, low, one, two]: [u8; STEP_BYTES]) {
        let at = usize::from(u16::from_be_bytes([high, low]));
        if change & 0x7f == 0 {
            return;
        }
        if change & 0x7f == 1 {
            *kind = FrameKind::ALL[at % FrameKind::ALL.len()];
            return;
        }
        if body.is_empty() {
            body.push(one);
            return;
        }
        let at = at % body.len();
        let (_, other) = &self.pool[usize::from(two) % self.pool.len()];
        match change % 8 {
            2 => body[at] = one,
            3 => body[at] ^= 1 << (one % 8),
            4 => body.truncate(at),
            5 => body.extend(std::iter::repeat_n(one, usize::from(two))),
            // A count or a length.
            6 => {
                let number = u32::from_be_bytes([two, 0, 0, one]).to_be_bytes();
                for (place, byte) in body[at..].iter_mut().zip(number) {
                    *place = byte;
                }
            }
            // What stands elsewhere in this frame, or in another: an element, a tag.
            7 | 1 => {
                let from = 8 + usize::from(one) * 16;
                let source = if change % 8 == 7 { other } else { &*body }.clone();
                for (place, byte) in body[at..].iter_mut().zip(source.iter().skip(from).take(32)) {
                    *place = *byte;
                }
            }
            _ => {
                let tail = body.split_off(at);
                body.extend(tail.iter().skip(usize::from(one)));
            }
        }
    }
}

impl Iterator for Script<'_> {
    type Item = Sent;

    fn next(&mut self) -> Option<Sent> {
        let mut step = self.step()?;
        let mut sent = self.pool[usize::from(step[0]) % self.pool.len()].clone();
        // A body that grows with every change is no test of anything else.
        for _ in 0..8 {
            self.change(&mut sent, step);
            if step[1] < 0x80 {
                break;
            }
            let Some(next) = self.step() else { break };
            step = next;
        }
        Some(sent)
    }
}

/// The script that sends these frames of the pool as they are.
#[must_use]
pub fn unchanged(frames: impl IntoIterator<Item = usize>) -> Vec<u8> {
    frames
        .into_iter()
        .flat_map(|frame| {
            let mut step = [0; STEP_BYTES];
            step[0] = u8::try_from(frame).unwrap();
            step
        })
        .collect()
}
