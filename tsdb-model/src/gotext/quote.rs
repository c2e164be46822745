//! Strings as Go's `strconv.Quote` writes them.

use super::printable::PRINTABLE;
use alloc::string::String;
use core::fmt::{self, Write};

/// [`write_quoted`] into a new string.
///
/// ```
/// use tsdb_model::gotext::quote;
/// assert_eq!(quote(b"a\"\n\xff"), r#""a\"\n\xff""#);
/// ```
#[must_use]
pub fn quote(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    write_quoted(&mut out, text).expect("writing to a string cannot fail");
    out
}

/// Writes `text` between double quotes: printable characters as they are, bytes that are not UTF-8 as `\xNN`, the rest
/// as Go escapes it (`\n`, `\x00`, `\u200b`, `\U000e0001` …).
pub fn write_quoted(out: &mut impl Write, text: &[u8]) -> fmt::Result {
    out.write_char('"')?;
    for chunk in text.utf8_chunks() {
        write_escaped(out, chunk.valid())?;
        for byte in chunk.invalid() {
            write!(out, "\\x{byte:02x}")?;
        }
    }
    out.write_char('"')
}

/// Runs of characters that need no escape are written in one piece: that is nearly every label value.
fn write_escaped(out: &mut impl Write, text: &str) -> fmt::Result {
    let mut plain = 0;
    for (i, c) in text.char_indices() {
        if c != '"' && c != '\\' && is_print(c) {
            continue;
        }
        out.write_str(&text[plain..i])?;
        plain = i + c.len_utf8();
        match c {
            '"' => out.write_str("\\\""),
            '\\' => out.write_str("\\\\"),
            '\x07' => out.write_str("\\a"),
            '\x08' => out.write_str("\\b"),
            '\x0c' => out.write_str("\\f"),
            '\n' => out.write_str("\\n"),
            '\r' => out.write_str("\\r"),
            '\t' => out.write_str("\\t"),
            '\x0b' => out.write_str("\\v"),
            '\0'..' ' | '\x7f' => write!(out, "\\x{:02x}", c as u32),
            '\0'..='\u{ffff}' => write!(out, "\\u{:04x}", c as u32),
            _ => write!(out, "\\U{:08x}", c as u32),
        }?;
    }
    out.write_str(&text[plain..])
}

/// Go's `strconv.IsPrint`: letters, marks, numbers, punctuation, symbols and the ASCII space.
#[must_use]
pub fn is_print(c: char) -> bool {
    let code = c as u32;
    if code < 0x7f {
        return code >= 0x20;
    }
    let after = PRINTABLE.partition_point(|range| range.0 <= code);
    after > 0 && code <= PRINTABLE[after - 1].1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_quotes() {
        for (text, expected) in [
            (&b""[..], r#""""#),
            (b"plain 'text'", r#""plain 'text'""#),
            (b"\\ \" \x07\x08\x0c\n\r\t\x0b", r#""\\ \" \a\b\f\n\r\t\v""#),
            (b"\x00\x1f\x7f", r#""\x00\x1f\x7f""#),
            ("\u{80}\u{a0}\u{200b}\u{feff}\u{e0001}".as_bytes(), r#""\u0080\u00a0\u200b\ufeff\U000e0001""#),
            ("žluť 😀 \u{fffd}".as_bytes(), "\"žluť 😀 \u{fffd}\""),
            // A cut-off character, an overlong one, a surrogate: byte by byte.
            (b"\xe2\x82 \xc0\x80 \xed\xa0\x80", r#""\xe2\x82 \xc0\x80 \xed\xa0\x80""#),
        ] {
            assert_eq!(quote(text), expected);
        }
    }

    #[test]
    fn printable_ranges_are_sorted_and_apart() {
        assert!(PRINTABLE.windows(2).all(|w| w[0].0 <= w[0].1 && w[0].1 + 1 < w[1].0));
    }
}
