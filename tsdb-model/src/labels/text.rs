//! The text form of label sets: `{__name__="up", "with space"="x"}`.

use crate::gotext;
use crate::labels::{Iter, LabelPairs, Labels};
use core::fmt;

/// Whether a label name can stand without quotes: `[a-zA-Z_][a-zA-Z0-9_]*`.
#[must_use]
pub fn is_legacy_name(name: &[u8]) -> bool {
    !name.is_empty() && !name[0].is_ascii_digit() && name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
}

fn write_pairs(f: &mut fmt::Formatter<'_>, pairs: Iter<'_>) -> fmt::Result {
    f.write_str("{")?;
    for (i, (name, value)) in pairs.enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        match core::str::from_utf8(name) {
            Ok(plain) if is_legacy_name(name) => f.write_str(plain)?,
            _ => gotext::write_quoted(f, name)?,
        }
        f.write_str("=")?;
        gotext::write_quoted(f, value)?;
    }
    f.write_str("}")
}

/// The reference's text form: values quoted as Go's `strconv.Quote` does, names quoted when they are not legacy names.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_pairs(f, self.iter())
    }
}

impl fmt::Display for LabelPairs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_pairs(f, self.iter())
    }
}

impl fmt::Debug for LabelPairs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
