//! The two NaNs that mean something.
//!
//! A series that disappeared from its target gets one last sample whose value is the *stale marker*: a NaN with a bit
//! pattern of its own. It must be compared by bits and copied by bits; arithmetic may change a NaN's payload.

/// Bits of the stale marker: a signalling NaN.
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// Bits of the NaN that parsers and encoders write for an ordinary not-a-number.
pub const NORMAL_NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// Whether `value` is exactly the stale marker (no other NaN is).
///
/// ```
/// use tsdb_model::staleness::{is_stale, stale_nan};
/// assert!(is_stale(stale_nan()));
/// assert!(!is_stale(f64::NAN));
/// ```
#[inline]
#[must_use]
pub const fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

/// The stale marker.
#[inline]
#[must_use]
pub const fn stale_nan() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

/// The ordinary NaN, with the bits the reference gives it.
#[inline]
#[must_use]
pub const fn normal_nan() -> f64 {
    f64::from_bits(NORMAL_NAN_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_bits_are_stale() {
        assert!(is_stale(stale_nan()));
        assert!(!is_stale(normal_nan()));
        for bit in 0..64 {
            assert!(!is_stale(f64::from_bits(STALE_NAN_BITS ^ (1 << bit))), "bit {bit}");
        }
    }
}
