//! CRC-32C of two pieces from the CRC-32C of each: what blocks that were read in parallel come to together.
//!
//! The crates do it with matrices, in 12 µs; powers of x that are known beforehand take a third of one.

/// Castagnoli's polynomial, its highest power in the lowest bit as everywhere here; x³² is left out.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// The polynomial 1.
const ONE: u32 = 1 << 31;

/// x^(2ⁿ) modulo the polynomial, enough of them for eight times any number of 64 bits.
const SQUARES: [u32; 67] = {
    let mut squares = [ONE >> 1; 67];
    let mut n = 1;
    while n < squares.len() {
        squares[n] = product(squares[n - 1], squares[n - 1]);
        n += 1;
    }
    squares
};

/// The product of two polynomials modulo the polynomial.
const fn product(a: u32, b: u32) -> u32 {
    let (mut sum, mut shifted, mut left) = (0, b, a);
    while left != 0 {
        // The coefficients of `a` from x⁰ on, and `b` times that power of x; no branch, as they are random.
        sum ^= shifted & ((left & ONE) >> 31).wrapping_neg();
        shifted = shifted >> 1 ^ POLYNOMIAL & (shifted & 1).wrapping_neg();
        left <<= 1;
    }
    sum
}

/// The CRC-32C of `before` and what follows it, of whose `len` bytes `behind` is the CRC-32C.
pub(crate) fn combine(before: u32, behind: u32, len: u64) -> u32 {
    // Times x⁸ for each byte that follows.
    let powers = (0..64).filter(|bit| len >> bit & 1 == 1).map(|bit| SQUARES[bit + 3]);
    powers.fold(before, product) ^ behind
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    #[test]
    fn two_pieces_are_as_one() {
        let mut rng = SmallRng::seed_from_u64(1);
        for _ in 0..2_000 {
            let bytes: Vec<u8> = (0..rng.random_range(0..3_000)).map(|_| rng.random()).collect();
            let (before, behind) = bytes.split_at(rng.random_range(0..=bytes.len()));
            let both = combine(crc32c::crc32c(before), crc32c::crc32c(behind), behind.len() as u64);
            assert_eq!(both, crc32c::crc32c(&bytes));
        }
        for len in [1, 7 << 20, u64::from(u32::MAX), 1 << 40] {
            let (before, behind) = (rng.random(), rng.random());
            assert_eq!(combine(before, behind, len), crc32c::crc32c_combine(before, behind, len as usize));
        }
    }
}
