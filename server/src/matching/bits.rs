//! Sets of dense numbers, a bit each.

const WORD_BITS: u32 = u64::BITS;
/// Words between two counts.
const COUNTED_WORDS: usize = 8;

/// A set of numbers below a bound.
pub(crate) struct Bits(Vec<u64>);

impl Bits {
    /// The empty set of numbers below `bound`.
    pub(crate) fn new(bound: usize) -> Self {
        Self(vec![0; bound.div_ceil(WORD_BITS as usize)])
    }

    /// Adds a number, and says whether it is new.
    pub(crate) fn insert(&mut self, number: u32) -> bool {
        let word = &mut self.0[(number / WORD_BITS) as usize];
        let bit = 1 << (number % WORD_BITS);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    pub(crate) fn contains(&self, number: u32) -> bool {
        self.0[(number / WORD_BITS) as usize] >> (number % WORD_BITS) & 1 == 1
    }

    /// The same set, which can also say how many of its numbers are below one.
    pub(crate) fn ranked(self) -> RankedBits {
        let mut before = Vec::with_capacity(self.0.len().div_ceil(COUNTED_WORDS));
        let mut sum = 0;
        for words in self.0.chunks(COUNTED_WORDS) {
            before.push(sum);
            sum += words.iter().map(|word| word.count_ones()).sum::<u32>();
        }
        RankedBits {
            bits: self,
            before,
            count: sum,
        }
    }
}

/// A set of numbers in which each has a position.
pub(crate) struct RankedBits {
    bits: Bits,
    /// For each eighth word, how many numbers are before it.
    before: Vec<u32>,
    count: u32,
}

impl RankedBits {
    pub(crate) const fn count(&self) -> u32 {
        self.count
    }

    pub(crate) fn contains(&self, number: u32) -> bool {
        self.bits.contains(number)
    }

    /// How many numbers of the set are below `number`: its position, if it is one of them.
    pub(crate) fn position(&self, number: u32) -> u32 {
        let word = (number / WORD_BITS) as usize;
        let counted = word / COUNTED_WORDS;
        let whole: u32 = self.bits.0[counted * COUNTED_WORDS..word]
            .iter()
            .map(|word| word.count_ones())
            .sum();
        let below = (1 << (number % WORD_BITS)) - 1;
        self.before[counted] + whole + (self.bits.0[word] & below).count_ones()
    }
}

#[cfg(test)]
mod tests {
    use super::Bits;

    #[test]
    fn positions_count_the_numbers_below() {
        let bound = 5_000;
        let is_member = |number: u32| number % 7 == 3 || number / 600 == 2;
        let mut bits = Bits::new(bound);
        for number in (0..bound as u32).rev().filter(|n| is_member(*n)) {
            assert!(bits.insert(number));
            assert!(!bits.insert(number));
        }
        let ranked = bits.ranked();
        let mut below = 0;
        for number in 0..bound as u32 {
            assert_eq!(ranked.position(number), below, "{number}");
            assert_eq!(ranked.contains(number), is_member(number));
            below += u32::from(is_member(number));
        }
        assert_eq!(ranked.count(), below);
    }
}
