//! Numbers as Go's `strconv.ParseFloat` reads them, and the one form of a bucket's bound.

use tsdb_model::gotext::format_float_g;
use tsdb_model::staleness::NORMAL_NAN_BITS;

/// A value: decimal, or an infinity or NaN in any case. `None` if it is none or beyond the range of a float. Every NaN
/// becomes the normal one.
pub(crate) fn parse_value(text: &[u8]) -> Option<f64> {
    let value = parse_decimal(text)?;
    Some(if value.is_nan() { f64::from_bits(NORMAL_NAN_BITS) } else { value })
}

/// A timestamp in seconds as milliseconds, cut towards zero. `None` if it is none or the milliseconds do not fit.
pub(crate) fn parse_seconds(text: &[u8]) -> Option<i64> {
    seconds_to_ms(parse_decimal(text)?)
}

/// Seconds as milliseconds, cut towards zero; `None` if they do not fit.
pub(crate) fn seconds_to_ms(seconds: f64) -> Option<i64> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    let ms = seconds * 1000.0;
    (-LIMIT..LIMIT).contains(&ms).then_some(ms as i64)
}

/// Whatever Go's `strconv.ParseFloat` accepts without an error: hexadecimal and underscores too.
pub(crate) fn parse_go_float(text: &[u8]) -> Option<f64> {
    let without_underscores;
    let text = if text.contains(&b'_') {
        if !underscores_separate_digits(text) {
            return None;
        }
        without_underscores = text.iter().copied().filter(|byte| *byte != b'_').collect::<Vec<_>>();
        &without_underscores
    } else {
        text
    };
    parse_decimal(text).or_else(|| parse_hexadecimal(text))
}

/// `value` with the fewest digits that give it back, and with a `.0` if it would look like an integer.
pub(crate) fn openmetrics_form(value: f64) -> String {
    if value == 0.0 {
        return "0.0".to_owned();
    }
    let mut text = format_float_g(value);
    if value.is_finite() && !text.contains(['e', '.']) {
        text.push_str(".0");
    }
    text
}

fn parse_decimal(text: &[u8]) -> Option<f64> {
    let unsigned = text.strip_prefix(b"+").or_else(|| text.strip_prefix(b"-")).unwrap_or(text);
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    let is_word = unsigned.first().is_some_and(u8::is_ascii_alphabetic);
    // Rust reads a signed NaN, and numbers too large as an infinity.
    if value.is_nan() && unsigned.len() != text.len() || value.is_infinite() && !is_word {
        return None;
    }
    Some(value)
}

/// Go allows `_` between digits and behind a base prefix.
fn underscores_separate_digits(text: &[u8]) -> bool {
    let unsigned = text.strip_prefix(b"+").or_else(|| text.strip_prefix(b"-")).unwrap_or(text);
    let (has_prefix, hexadecimal) = match unsigned {
        [b'0', b'x' | b'X', ..] => (true, true),
        [b'0', b'b' | b'B' | b'o' | b'O', ..] => (true, false),
        _ => (false, false),
    };
    let digits = if has_prefix { &unsigned[2..] } else { unsigned };
    let is_digit = |byte: u8| byte.is_ascii_digit() || hexadecimal && byte.is_ascii_hexdigit();
    (0..digits.len()).filter(|at| digits[*at] == b'_').all(|at| {
        let before = if at == 0 { has_prefix } else { is_digit(digits[at - 1]) };
        before && digits.get(at + 1).is_some_and(|next| is_digit(*next))
    })
}

/// `[+-]0xHH.HHp±D`, correctly rounded; `None` if it is not that or beyond the range of a float.
fn parse_hexadecimal(text: &[u8]) -> Option<f64> {
    let negative = text.first() == Some(&b'-');
    let unsigned = text.strip_prefix(b"+").or_else(|| text.strip_prefix(b"-")).unwrap_or(text);
    let [b'0', b'x' | b'X', digits @ ..] = unsigned else { return None };
    let split = digits.iter().position(|byte| matches!(byte, b'p' | b'P'))?;
    let (digits, exponent) = (&digits[..split], &digits[split + 1..]);
    let mut exponent = parse_exponent(exponent)?;
    // 64 bits of mantissa and a sticky bit for what lies behind them are more than rounding to 53 needs.
    let (mut mantissa, mut sticky, mut any, mut fraction) = (0_u64, false, false, false);
    for byte in digits {
        if *byte == b'.' && !fraction {
            fraction = true;
            continue;
        }
        let digit = u64::from(char::from(*byte).to_digit(16)?);
        any = true;
        if mantissa >> 60 == 0 {
            mantissa = mantissa << 4 | digit;
            exponent -= i64::from(fraction) * 4;
        } else {
            sticky |= digit != 0;
            exponent += i64::from(!fraction) * 4;
        }
    }
    let value = if any { round_binary(mantissa, sticky, exponent)? } else { return None };
    Some(if negative { -value } else { value })
}

/// A signed decimal exponent; beyond ±100,000 it no longer matters by how much.
fn parse_exponent(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"+").or_else(|| text.strip_prefix(b"-")).unwrap_or(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let size = digits.iter().fold(0_i64, |sum, digit| (sum * 10 + i64::from(digit - b'0')).min(100_000));
    Some(if text.first() == Some(&b'-') { -size } else { size })
}

/// `mantissa · 2^exponent` (a little more if `sticky`), rounded to even; `None` beyond the range.
fn round_binary(mantissa: u64, sticky: bool, exponent: i64) -> Option<f64> {
    if mantissa == 0 {
        return Some(0.0);
    }
    let shift = i64::from(mantissa.leading_zeros());
    let (mantissa, exponent) = (mantissa << shift, exponent - shift);
    // The value is 1.x · 2^top. A normal float keeps 53 bits of the 64, a subnormal one fewer.
    let top = exponent + 63;
    let drop = if top >= -1022 { 11 } else { 11 + (-1022 - top) };
    if drop > 64 {
        return Some(0.0);
    }
    let wide = u128::from(mantissa) << 1 | u128::from(sticky);
    let (kept, lost) = (wide >> (drop + 1), wide & ((1 << (drop + 1)) - 1));
    let half = 1_u128 << drop;
    let kept = u64::try_from(kept).ok()? + u64::from(lost > half || lost == half && kept & 1 == 1);
    // Adding to the bits carries from the mantissa into the exponent where rounding up does.
    let bits = if top >= -1022 { u64::try_from(top + 1022).ok()?.checked_shl(52)?.checked_add(kept)? } else { kept };
    (top <= 1023 && bits < f64::INFINITY.to_bits()).then(|| f64::from_bits(bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_what_go_accepts() {
        for (text, value) in
            [("1", 1.0), ("-.5e-3", -0.0005), ("1.", 1.0), ("+Inf", f64::INFINITY), ("-infinity", -f64::INFINITY)]
        {
            assert_eq!(parse_value(text.as_bytes()), Some(value), "{text}");
        }
        assert_eq!(parse_value(b"nAn").unwrap().to_bits(), NORMAL_NAN_BITS);
        assert_eq!(parse_value(b"-0").unwrap().to_bits(), (-0.0_f64).to_bits());
        for text in ["", ".", "-", "+nan", "-NaN", "1e400", "0x1p1", "1_0", "1e", "in", "1 ", "e5", "\u{ff}"] {
            assert_eq!(parse_value(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn bounds_may_be_hexadecimal_and_have_underscores() {
        let cases = [
            ("0x1p-2", 0.25),
            ("0x1.8p1", 3.0),
            ("-0X.8P0", -0.5),
            ("0x1.fffffffffffff8p0", 2.0),
            ("0x1.fffffffffffff7p0", 1.999_999_999_999_999_8),
            ("0x1p-1074", 5e-324),
            ("0x1p-1075", 0.0),
            ("0x1.8p-1075", 5e-324),
            ("0x1.fffffffffffffp1023", f64::MAX),
            ("0x0p0", 0.0),
            ("1_0", 10.0),
            ("0x_1p0", 1.0),
            ("0x123456789abcdef01p-4", 1_311_768_467_463_790_320.0),
        ];
        for (text, value) in cases {
            assert_eq!(parse_go_float(text.as_bytes()), Some(value), "{text}");
        }
        for text in
            ["0x1p1024", "0x1.fffffffffffff8p1023", "0x1", "0xp1", "0x1p", "_1", "1_", "1__0", "1_.5", "0x1.8.8p1"]
        {
            assert_eq!(parse_go_float(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn bounds_have_one_form() {
        for (value, text) in [
            (1.0, "1.0"),
            (-0.0, "0.0"),
            (0.25, "0.25"),
            (1e6, "1e+06"),
            (123_456.0, "123456.0"),
            (f64::INFINITY, "+Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(openmetrics_form(value), text);
        }
    }

    #[test]
    fn seconds_are_cut_towards_zero() {
        assert_eq!(parse_seconds(b"1520879607.7895"), Some(1_520_879_607_789));
        assert_eq!(parse_seconds(b"-0.0019"), Some(-1));
        assert_eq!(parse_seconds(b"9.3e15"), None);
        assert_eq!(parse_seconds(b"Inf"), None);
        assert_eq!(parse_seconds(b"NaN"), None);
    }
}
