//! Labels borrowed from wherever their bytes are, in the order in which they are stored.

use crate::labels::Labels;
use crate::varint::{self, VarintError};
use alloc::vec::Vec;
use core::fmt;

/// Label pairs borrowed from a record: in stored order, repeats and empty ones kept, neither sorted nor checked.
///
/// ```
/// use tsdb_model::LabelPairs;
/// let record = [1, 3, b'j', b'o', b'b', 1, b'x', 0xff];
/// let (pairs, used) = LabelPairs::read(&record).unwrap();
/// assert_eq!(used, 7);
/// assert_eq!(pairs.iter().collect::<Vec<_>>(), [(&b"job"[..], &b"x"[..])]);
/// ```
#[derive(Clone, Copy, Default)]
pub struct LabelPairs<'a> {
    /// Checked when this was made: iterating cannot fail.
    packed: &'a [u8],
    len: usize,
    /// Every length is in its shortest form, so the bytes can be copied as they are.
    canonical: bool,
}

/// Why the bytes at hand are not labels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LabelError {
    /// Where, in bytes from the start of what was given to read.
    pub offset: usize,
    /// What is wrong there.
    pub kind: LabelErrorKind,
}

/// See [`LabelError`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LabelErrorKind {
    /// A count or length is no varint.
    Varint(VarintError),
    /// More pairs announced than the remaining bytes can hold: a pair takes at least two.
    TooMany {
        /// Pairs announced.
        count: u64,
        /// Bytes that remain.
        remaining: usize,
    },
    /// A name or value reaches beyond the end.
    TooLong {
        /// Length announced, in bytes.
        length: u64,
        /// Bytes that remain.
        remaining: usize,
    },
}

impl fmt::Display for LabelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            LabelErrorKind::Varint(error) => write!(f, "{error}"),
            LabelErrorKind::TooMany { count, remaining } => {
                write!(f, "{count} label pairs announced, {remaining} bytes remain")
            }
            LabelErrorKind::TooLong { length, remaining } => {
                write!(f, "a label text of {length} bytes announced, {remaining} bytes remain")
            }
        }?;
        write!(f, " at byte {}", self.offset)
    }
}

impl core::error::Error for LabelError {}

impl<'a> LabelPairs<'a> {
    /// Reads `uvarint count` and that many pairs from the start of `input`; returns them and the bytes they took.
    pub fn read(input: &'a [u8]) -> Result<(Self, usize), LabelError> {
        let mut reader = Reader { input, pos: 0, canonical: true };
        let count = reader.uvarint()?;
        let remaining = input.len() - reader.pos;
        if count > (remaining / 2) as u64 {
            return Err(LabelError { offset: 0, kind: LabelErrorKind::TooMany { count, remaining } });
        }
        let start = reader.pos;
        reader.canonical = true;
        for _ in 0..count {
            reader.text()?;
            reader.text()?;
        }
        let pairs = Self { packed: &input[start..reader.pos], len: count as usize, canonical: reader.canonical };
        Ok((pairs, reader.pos))
    }

    /// Takes packed pairs without a count in front, to the end of `packed`.
    pub fn from_packed(packed: &'a [u8]) -> Result<Self, LabelError> {
        let mut reader = Reader { input: packed, pos: 0, canonical: true };
        let mut len = 0;
        while reader.pos < packed.len() {
            reader.text()?;
            reader.text()?;
            len += 1;
        }
        Ok(Self { packed, len, canonical: reader.canonical })
    }

    /// For callers inside this crate that made the bytes themselves.
    pub(crate) const fn trusted(packed: &'a [u8], len: usize) -> Self {
        Self { packed, len, canonical: true }
    }

    /// How many pairs.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pairs in stored order.
    #[inline]
    #[must_use]
    pub const fn iter(&self) -> Iter<'a> {
        Iter { rest: self.packed, left: self.len }
    }

    /// The packed bytes, if they are the ones an encoder would write (every length in its shortest form).
    #[inline]
    #[must_use]
    pub const fn as_canonical(&self) -> Option<&'a [u8]> {
        if self.canonical { Some(self.packed) } else { None }
    }

    /// Appends the packed bytes an encoder writes for these pairs, without a count.
    pub fn put_packed(&self, out: &mut Vec<u8>) {
        if self.canonical {
            out.extend_from_slice(self.packed);
            return;
        }
        for (name, value) in self.iter() {
            put_text(out, name);
            put_text(out, value);
        }
    }

    /// An owned copy with the same order and repeats: the reference keeps both, so that two series records are the same
    /// series only if they store the same pairs in the same order.
    #[must_use]
    pub fn to_labels(&self) -> Labels {
        let mut packed = Vec::with_capacity(self.packed.len());
        self.put_packed(&mut packed);
        Labels::from_trusted(packed)
    }
}

/// Appends a length-prefixed text.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    varint::put_uvarint(out, text.len() as u64);
    out.extend_from_slice(text);
}

impl<'a> IntoIterator for LabelPairs<'a> {
    type Item = (&'a [u8], &'a [u8]);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// By content: how long the lengths are encoded does not matter.
impl PartialEq for LabelPairs<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl Eq for LabelPairs<'_> {}

struct Reader<'a> {
    input: &'a [u8],
    pos: usize,
    canonical: bool,
}

impl Reader<'_> {
    #[inline]
    fn uvarint(&mut self) -> Result<u64, LabelError> {
        let (value, len) = varint::uvarint(&self.input[self.pos..])
            .map_err(|error| LabelError { offset: self.pos, kind: LabelErrorKind::Varint(error) })?;
        self.canonical &= len == 1 || len == varint::uvarint_len(value);
        self.pos += len;
        Ok(value)
    }

    #[inline]
    fn text(&mut self) -> Result<(), LabelError> {
        let offset = self.pos;
        let length = self.uvarint()?;
        let remaining = self.input.len() - self.pos;
        if length > remaining as u64 {
            return Err(LabelError { offset, kind: LabelErrorKind::TooLong { length, remaining } });
        }
        self.pos += length as usize;
        Ok(())
    }
}

/// Iterates over `(name, value)`.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Iter<'a> {
    /// All pairs to the end of `packed`, without knowing how many.
    pub(crate) const fn unbounded(packed: &'a [u8]) -> Self {
        Self { rest: packed, left: usize::MAX }
    }

    #[inline]
    fn text(&mut self) -> Option<&'a [u8]> {
        let (length, used) = varint::uvarint(self.rest).ok()?;
        let (text, rest) = self.rest[used..].split_at_checked(length as usize)?;
        self.rest = rest;
        Some(text)
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        Some((self.text()?, self.text()?))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Iter<'_> {}
