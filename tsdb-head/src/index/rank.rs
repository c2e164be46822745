//! A sorted set of up to 256 bytes that tells each member's position: which of a page's 256 refs are in use, and in which
//! row of the page's columns.

/// The members as bits, with the number of members before each word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rank {
    bits: [u64; 4],
    before: [u8; 4],
    /// All bytes are members: what most sets grow to.
    full: bool,
}

impl Rank {
    /// The row of `low`, if it is a member.
    #[inline]
    pub(crate) fn row(&self, low: u8) -> Option<usize> {
        if self.full {
            return Some(usize::from(low));
        }
        let word = self.bits[usize::from(low >> 6)];
        let bit = 1u64 << (low & 63);
        if word & bit == 0 {
            return None;
        }
        Some(usize::from(self.before[usize::from(low >> 6)]) + (word & (bit - 1)).count_ones() as usize)
    }

    /// The member in this row; the row must exist.
    pub(crate) fn low(&self, row: usize) -> u8 {
        if self.full {
            return row as u8;
        }
        self.iter().nth(row).unwrap_or_default()
    }

    /// Makes `low` a member and returns its row; the columns behind it move up by one. It must not be one yet.
    pub(crate) fn insert(&mut self, low: u8) -> usize {
        debug_assert!(self.row(low).is_none());
        self.bits[usize::from(low >> 6)] |= 1u64 << (low & 63);
        self.recount();
        self.row(low).unwrap_or_default()
    }

    /// Removes `low` and returns the row it had.
    pub(crate) fn remove(&mut self, low: u8) -> Option<usize> {
        let row = self.row(low)?;
        self.bits[usize::from(low >> 6)] &= !(1u64 << (low & 63));
        self.recount();
        Some(row)
    }

    fn recount(&mut self) {
        let mut sum = 0u32;
        for (before, word) in self.before.iter_mut().zip(self.bits) {
            // Only the fourth count could be 192 + 64, and that is never stored.
            *before = sum as u8;
            sum += word.count_ones();
        }
        self.full = sum == 256;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bits == [0; 4]
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.bits.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The members, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u8> + use<> {
        let bits = self.bits;
        (0..=255u8).filter(move |low| bits[usize::from(low >> 6)] >> (low & 63) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    #[test]
    fn agrees_with_a_sorted_vector() {
        let mut rng = SmallRng::seed_from_u64(7);
        for _ in 0..200 {
            let mut rank = Rank::default();
            let mut model: Vec<u8> = Vec::new();
            for _ in 0..rng.random_range(1..600) {
                let low = rng.random();
                match model.binary_search(&low) {
                    Ok(at) => {
                        assert_eq!(rank.row(low), Some(at));
                        if rng.random_bool(0.3) {
                            assert_eq!(rank.remove(low), Some(at));
                            model.remove(at);
                        }
                    }
                    Err(at) => {
                        assert_eq!((rank.row(low), rank.remove(low)), (None, None));
                        assert_eq!(rank.insert(low), at);
                        model.insert(at, low);
                    }
                }
            }
            assert_eq!(rank.iter().collect::<Vec<_>>(), model);
            assert_eq!((rank.len(), rank.is_empty()), (model.len(), model.is_empty()));
        }
        let mut full = Rank::default();
        (0..=255u8).for_each(|low| assert_eq!(full.insert(low), usize::from(low)));
        assert_eq!((full.row(255), full.len()), (Some(255), 256));
    }
}
