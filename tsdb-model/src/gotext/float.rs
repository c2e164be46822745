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
    // Writing to a string cannot fail.
    let _: fmt::Result = write_float_g(&mut out, value);
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
    let exponent = decimal_exponent(value)?;
    if (-4..EXPONENT_FORM).contains(&exponent) {
        // Rust's plain form also uses the shortest digits, and never an exponent.
        return write!(out, "{value}");
    }
    let mut shortest = Buffer::default();
    write!(shortest, "{value:e}")?;
    let mut even = Buffer::default();
    let digits = mantissa(shortest.as_str()).bytes().filter(u8::is_ascii_digit).count();
    write!(even, "{value:.*e}", digits - 1)?;
    // Of two shortest forms which are equally near Go takes the one with the even last digit, Rust the greater one. Only
    // values that large have two: those in plain form are exact before they could.
    let text = if even.as_str().parse() == Ok(value) { even.as_str() } else { shortest.as_str() };
    let mantissa = mantissa(text);
    let sign = if exponent < 0 { '-' } else { '+' };
    write!(out, "{mantissa}e{sign}{:02}", exponent.unsigned_abs())
}

/// What stands before the exponent.
fn mantissa(text: &str) -> &str {
    text.split('e').next().unwrap_or(text)
}

/// From this decimal exponent on, the exponent form is used.
const EXPONENT_FORM: i32 = 6;

/// The exponent of the shortest decimal form `d.ddd × 10^exponent`.
fn decimal_exponent(value: f64) -> Result<i32, fmt::Error> {
    let mut text = Buffer::default();
    write!(text, "{value:e}")?;
    text.as_str().split('e').nth(1).and_then(|e| e.parse().ok()).ok_or(fmt::Error)
}

/// Room for `-d.dddddddddddddddde-ddd` on the stack.
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
            (1_305_859_914_644_423.25, "1.3058599146444232e+15"),
            (1_974_923_479_946_570.25, "1.9749234799465702e+15"),
            (9_007_199_254_740_993.0, "9.007199254740992e+15"),
            (f64::MAX, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
            (1234567.0, "1.234567e+06"),
            (123456789012345678901.0, "1.2345678901234568e+20"),
            (0.0001, "0.0001"),
            (0.00012345, "0.00012345"),
            (0.00001, "1e-05"),
            (-1.5e300, "-1.5e+300"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::from_bits(1), "5e-324"),
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
