//! Floats as Go's `%g` prints them: the shortest digits that read back to the same bits.

use alloc::string::String;
use core::fmt::{self, Write};

/// [`write_float_g`] into a new string.
///
/// ```
/// use tsdb_model::gotext::format_float_g;
/// assert_eq!(format_float_g(1.5), "1.5");
/// assert_eq!(format_float_g(1e6), "1e+06");
/// assert_eq!(format_float_g(0.00001), "1e-05");
/// assert_eq!(format_float_g(f64::NEG_INFINITY), "-Inf");
/// ```
#[must_use]
pub fn format_float_g(value: f64) -> String {
    let mut out = String::new();
    write_float_g(&mut out, value).expect("writing to a string cannot fail");
    out
}

/// Writes `value` as Go's `%g`: plain for decimal exponents from -4 to 5, else with an exponent of at least two digits
/// and its sign; `NaN` (whatever its bits), `+Inf`, `-Inf`, `-0`.
pub fn write_float_g(out: &mut impl Write, value: f64) -> fmt::Result {
    if value.is_nan() {
        return out.write_str("NaN");
    }
    if value.is_infinite() {
        return out.write_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    }
    let Digits { negative, digits, len, exponent } = Digits::of(value)?;
    let digits = core::str::from_utf8(&digits[..len]).map_err(|_| fmt::Error)?;
    if negative {
        out.write_char('-')?;
    }
    if !(-4..EXPONENT_FORM).contains(&exponent) {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        let sign = if exponent < 0 { '-' } else { '+' };
        return write!(out, "{first}{point}{rest}e{sign}{:02}", exponent.unsigned_abs());
    }
    if exponent < 0 {
        let zeros = exponent.unsigned_abs() as usize - 1;
        return write!(out, "0.{:0<zeros$}{digits}", "");
    }
    let whole = exponent as usize + 1;
    match digits.split_at_checked(whole) {
        Some((whole, "")) => out.write_str(whole),
        Some((whole, fraction)) => write!(out, "{whole}.{fraction}"),
        None => write!(out, "{digits:0<whole$}"),
    }
}

/// From this decimal exponent on, the exponent form is used.
const EXPONENT_FORM: i32 = 6;

/// The shortest decimal digits that read back to the same bits: `d.ddd × 10^exponent`.
struct Digits {
    negative: bool,
    digits: [u8; 17],
    len: usize,
    exponent: i32,
}

impl Digits {
    /// Of a finite value.
    fn of(value: f64) -> Result<Self, fmt::Error> {
        let mut text = Buffer::default();
        write!(text, "{:e}", value.abs())?;
        let (mantissa, exponent) = text.as_str().split_once('e').ok_or(fmt::Error)?;
        let mut digits = Self {
            negative: value.is_sign_negative(),
            digits: [0; 17],
            len: 0,
            exponent: exponent.parse().map_err(|_| fmt::Error)?,
        };
        for digit in mantissa.bytes().filter(u8::is_ascii_digit) {
            *digits.digits.get_mut(digits.len).ok_or(fmt::Error)? = digit;
            digits.len += 1;
        }
        digits.break_tie(value.abs());
        Ok(digits)
    }

    fn number(&self) -> u64 {
        self.digits[..self.len].iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
    }

    /// Where two decimals of this length are equally near, Go takes the one with the even last digit, and Rust the upper.
    fn break_tie(&mut self, value: f64) {
        let last = self.len - 1;
        if self.digits[last] & 1 == 0 || self.number() == 0 {
            return;
        }
        // The middle between the two, which must be the value itself; then the lower one is as good if it reads back.
        let middle = self.number() * 10 - 5;
        let scale = self.exponent - self.len as i32;
        if !equals_decimal(value, middle, scale) {
            return;
        }
        let mut text = Buffer::default();
        let lower = self.number() - 1;
        if write!(text, "{lower}e{}", scale + 1).is_ok() && text.as_str().parse() == Ok(value) {
            self.digits[last] -= 1;
        }
    }
}

/// Whether `value` is exactly `number · 10^scale`, by comparing odd parts and powers of two.
fn equals_decimal(value: f64, number: u64, scale: i32) -> bool {
    let bits = value.to_bits();
    let (mantissa, power) = match bits >> 52 {
        0 => (bits, -1074),
        exponent => (bits & ((1 << 52) - 1) | 1 << 52, exponent as i32 - 1075),
    };
    if mantissa == 0 || number == 0 {
        return mantissa == number;
    }
    let odd = |n: u64| (u128::from(n >> n.trailing_zeros()), n.trailing_zeros() as i32);
    let ((value_odd, value_twos), (number_odd, number_twos)) = (odd(mantissa), odd(number));
    // Neither odd part has more than 64 bits: a larger power of five than this cannot make them equal.
    let Some(five) = 5u128.checked_pow(scale.unsigned_abs()).filter(|_| scale.unsigned_abs() <= 27) else {
        return false;
    };
    let (left, right) = if scale < 0 { (value_odd * five, number_odd) } else { (value_odd, number_odd * five) };
    left == right && value_twos + power == number_twos + scale
}

/// Room for `d.dddddddddddddddde-ddd` on the stack.
#[derive(Default)]
struct Buffer {
    bytes: [u8; 32],
    len: usize,
}

impl Buffer {
    fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl Write for Buffer {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.len..self.len + s.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(s.as_bytes());
        self.len += s.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::format_float_g;
    use proptest::prelude::*;

    #[test]
    fn as_go_prints() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1e5, "100000"),
            (123456.0, "123456"),
            (1e6, "1e+06"),
            (1234567.0, "1.234567e+06"),
            (123456789012345678901.0, "1.2345678901234568e+20"),
            (0.0001, "0.0001"),
            (0.00012345, "0.00012345"),
            (0.00001, "1e-05"),
            (-1.5e300, "-1.5e+300"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::from_bits(1), "5e-324"),
            // Two decimals of 17 digits are equally near: the even one.
            (1.0 / f64::from(1 << 25), "2.9802322387695312e-08"),
            (-100.0, "-100"),
            (1234.5, "1234.5"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
            (crate::staleness::stale_nan(), "NaN"),
        ] {
            assert_eq!(format_float_g(value), expected);
        }
    }

    proptest! {
        #[test]
        fn reads_back_to_the_same_bits(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(!value.is_nan());
            prop_assert_eq!(format_float_g(value).parse::<f64>().unwrap().to_bits(), bits);
        }
    }
}
