//! Why bytes are not a record.

use core::fmt;
use tsdb_model::histogram::ReduceError;
use tsdb_model::labels::{LabelError, LabelErrorKind};
use tsdb_model::varint::VarintError;

/// A record that cannot be decoded: where, what was expected, what was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DecodeError {
    /// Where, in bytes from the start of the record (its tag is byte 0).
    pub offset: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// See [`DecodeError`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Problem {
    /// The record ends inside a field.
    Truncated {
        /// The field.
        expected: &'static str,
        /// Bytes it takes.
        needed: usize,
        /// Bytes that remain.
        remaining: usize,
    },
    /// A field is no varint: cut off, or longer than 64 bits.
    Varint {
        /// The field.
        expected: &'static str,
        /// What is wrong with it.
        error: VarintError,
    },
    /// A count announces more items than the remaining bytes can hold. Nothing was reserved for them.
    Count {
        /// What is counted.
        expected: &'static str,
        /// Items announced.
        count: u64,
        /// Bytes that remain.
        remaining: usize,
    },
    /// A text reaches beyond the end of the record.
    Length {
        /// The text.
        expected: &'static str,
        /// Bytes announced.
        length: u64,
        /// Bytes that remain.
        remaining: usize,
    },
    /// The record was taken for another kind than its tag says.
    Tag {
        /// The kind asked for.
        expected: &'static str,
        /// The tag found; `None` in an empty record.
        found: Option<u8>,
    },
    /// A byte that says what follows has a value that does not exist.
    Byte {
        /// What it should be.
        expected: &'static str,
        /// The byte found.
        found: u8,
    },
    /// A histogram of a higher resolution than supported cannot be reduced: its spans and buckets do not fit together.
    Reduce(ReduceError),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problem {
            Problem::Truncated { expected, needed, remaining } => {
                write!(f, "expected {expected} ({needed} bytes), found the end of the record after {remaining} bytes")
            }
            Problem::Varint { expected, error } => write!(f, "expected {expected}, but {error}"),
            Problem::Count { expected, count, remaining } => {
                write!(f, "expected {count} {expected}, found {remaining} bytes, which cannot hold them")
            }
            Problem::Length { expected, length, remaining } => {
                write!(f, "expected {expected} of {length} bytes, found {remaining} bytes")
            }
            Problem::Tag { expected, found: Some(tag) } => {
                write!(f, "expected a record of {expected}, found tag {tag}")
            }
            Problem::Tag { expected, found: None } => write!(f, "expected a record of {expected}, found an empty one"),
            Problem::Byte { expected, found } => write!(f, "expected {expected}, found {found}"),
            Problem::Reduce(error) => write!(f, "a histogram's resolution cannot be reduced: {error}"),
        }?;
        write!(f, " (byte {} of the record)", self.offset)
    }
}

impl core::error::Error for DecodeError {}

impl DecodeError {
    /// Labels read from `start` on report offsets of their own.
    pub(crate) fn labels(start: usize, error: LabelError) -> Self {
        let problem = match error.kind {
            LabelErrorKind::Varint(error) => Problem::Varint { expected: "a label count or length", error },
            LabelErrorKind::TooMany { count, remaining } => {
                Problem::Count { expected: "label pairs", count, remaining }
            }
            LabelErrorKind::TooLong { length, remaining } => {
                Problem::Length { expected: "a label name or value", length, remaining }
            }
        };
        Self { offset: start + error.offset, problem }
    }
}
