//! Doubles as integers and a power of ten, where that gives them back to the bit.

/// The powers of ten that make an integer of a value.
pub(super) const POWERS: [f64; 7] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6];

/// Integers up to this are looked for: with [`ROUND`] added they still have a bit for every integer.
pub(super) const MOST: f64 = (1_u64 << 51) as f64;

/// Added to a double up to [`MOST`], it leaves the nearest integer in the low bits: a conversion that saturates, as the
/// language has it, takes several times as long.
const ROUND: f64 = 1.5 * (1_u64 << 52) as f64;

/// As [`integer`] with a power of ten, without a branch on what comes of it: whether the number is that integer comes with it.
#[inline(always)]
pub(super) fn integer_or_any(v: f64, power: f64) -> (i64, bool) {
    // Times 1 and by 1 is nothing to a compiler that knows the power.
    let scaled = v * power;
    let rounded = scaled + ROUND;
    let back = (rounded - ROUND) / power;
    // False for NaN, whose bits may come through all this.
    let fits = (scaled.abs() <= MOST) & (back.to_bits() == v.to_bits());
    (rounded.to_bits().wrapping_sub(ROUND.to_bits()) as i64, fits)
}

#[inline(always)]
fn scaled(v: f64, exponent: u8) -> f64 {
    if exponent == 0 { v } else { v * POWERS[usize::from(exponent)] }
}

/// `v · 10ᵉ` where that is an integer which gives `v` back to the bit.
#[inline(always)]
pub(super) fn integer(v: f64, exponent: u8) -> Option<i64> {
    let (k, fits) =
        if exponent == 0 { integer_or_any(v, 1.0) } else { integer_or_any(v, POWERS[usize::from(exponent)]) };
    fits.then_some(k)
}

/// As [`integer`], of a value of which that is known to be one.
#[inline(always)]
pub(super) fn known_integer(v: f64, exponent: u8) -> i64 {
    (scaled(v, exponent) + ROUND).to_bits().wrapping_sub(ROUND.to_bits()) as i64
}

/// What [`integer`] was given.
#[inline(always)]
pub(super) fn value(k: i64, exponent: u8) -> f64 {
    // Most values are integers, and nothing else here takes as long as a division.
    if exponent == 0 { k as f64 } else { k as f64 / POWERS[usize::from(exponent)] }
}
