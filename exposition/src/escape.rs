//! Escapes of label values, quoted names and help texts.

use std::borrow::Cow;

/// Undoes `\\`, `\"` and `\n`; a backslash before anything else stays.
pub(crate) fn unescape(raw: &[u8]) -> Cow<'_, [u8]> {
    undo(raw, true)
}

/// Undoes `\\` and `\n`, as help texts of the text format have them.
pub(crate) fn unescape_help(raw: &[u8]) -> Cow<'_, [u8]> {
    undo(raw, false)
}

fn undo(raw: &[u8], quotes: bool) -> Cow<'_, [u8]> {
    let Some(first) = raw.iter().position(|byte| *byte == b'\\') else {
        return Cow::Borrowed(raw);
    };
    let mut out = Vec::with_capacity(raw.len());
    out.extend_from_slice(&raw[..first]);
    let mut rest = &raw[first..];
    while let Some((&byte, after)) = rest.split_first() {
        let meant = match (byte, after.first()) {
            (b'\\', Some(b'\\')) => Some(b'\\'),
            (b'\\', Some(b'n')) => Some(b'\n'),
            (b'\\', Some(b'"')) if quotes => Some(b'"'),
            _ => None,
        };
        out.push(meant.unwrap_or(byte));
        rest = if meant.is_some() { &after[1..] } else { after };
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_known_escapes_are_undone() {
        assert_eq!(*unescape(br#"a\"b\\n\nc\t\"#), *b"a\"b\\n\nc\\t\\");
        assert_eq!(*unescape_help(br#"a\"b\\n\nc"#), *b"a\\\"b\\n\nc");
        assert!(matches!(unescape(b"plain"), Cow::Borrowed(_)));
    }
}
