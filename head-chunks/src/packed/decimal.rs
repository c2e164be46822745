//! Doubles as integers and a power of ten, where that gives them back to the bit.

/// The powers of ten that make an integer of a value.
pub(super) const POWERS: [f64; 7] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6];

/// Integers up to this are all doubles.
pub(super) const MOST: f64 = (1_u64 << 53) as f64;

/// `v · 10ᵉ` where that is an integer which gives `v` back to the bit.
#[inline(always)]
pub(super) fn integer(v: f64, exponent: u8) -> Option<i64> {
    let k = if exponent == 0 {
        v as i64
    } else {
        let scaled = v * POWERS[usize::from(exponent)];
        (scaled + 0.5_f64.copysign(scaled)) as i64
    };
    let in_range = k.unsigned_abs() <= MOST as u64;
    (in_range && value(k, exponent).to_bits() == v.to_bits()).then_some(k)
}

/// What [`integer`] was given.
#[inline(always)]
pub(super) fn value(k: i64, exponent: u8) -> f64 {
    // Most values are integers, and nothing else here takes as long as a division.
    if exponent == 0 { k as f64 } else { k as f64 / POWERS[usize::from(exponent)] }
}
