//! Reading a record field by field, with an error that says where and what.

use crate::error::{DecodeError, Problem};
use tsdb_model::LabelPairs;
use tsdb_model::varint;

/// A place in a record. Copy it to try something, assign it back to keep it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    record: &'a [u8],
    pos: usize,
}

impl<'a> Cursor<'a> {
    /// After the tag.
    #[inline]
    pub(crate) const fn new(record: &'a [u8]) -> Self {
        Self { record, pos: if record.is_empty() { 0 } else { 1 } }
    }

    #[inline]
    pub(crate) const fn at(record: &'a [u8], pos: usize) -> Self {
        Self { record, pos }
    }

    #[inline]
    pub(crate) const fn record(&self) -> &'a [u8] {
        self.record
    }

    #[inline]
    pub(crate) const fn pos(&self) -> usize {
        self.pos
    }

    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.record.get(self.pos..).unwrap_or_default()
    }

    #[inline]
    pub(crate) const fn remaining(&self) -> usize {
        self.record.len() - self.pos
    }

    #[inline]
    pub(crate) const fn is_at_end(&self) -> bool {
        self.remaining() == 0
    }

    #[inline]
    pub(crate) fn byte(&mut self, expected: &'static str) -> Result<u8, DecodeError> {
        match self.rest() {
            [byte, ..] => {
                self.pos += 1;
                Ok(*byte)
            }
            [] => Err(self.truncated(expected, 1)),
        }
    }

    #[inline]
    pub(crate) fn be64(&mut self, expected: &'static str) -> Result<u64, DecodeError> {
        match self.rest().first_chunk() {
            Some(bytes) => {
                self.pos += 8;
                Ok(u64::from_be_bytes(*bytes))
            }
            None => Err(self.truncated(expected, 8)),
        }
    }

    #[inline]
    pub(crate) fn float(&mut self, expected: &'static str) -> Result<f64, DecodeError> {
        self.be64(expected).map(f64::from_bits)
    }

    #[inline]
    pub(crate) fn uvarint(&mut self, expected: &'static str) -> Result<u64, DecodeError> {
        match varint::uvarint(self.rest()) {
            Ok((value, len)) => {
                self.pos += len;
                Ok(value)
            }
            Err(error) => Err(self.error(Problem::Varint { expected, error })),
        }
    }

    #[inline]
    pub(crate) fn varint(&mut self, expected: &'static str) -> Result<i64, DecodeError> {
        self.uvarint(expected).map(varint::unzigzag)
    }

    /// A count of items that take at least `item_len` bytes each: never more than the remaining bytes can hold.
    #[inline]
    pub(crate) fn count(&mut self, expected: &'static str, item_len: usize) -> Result<usize, DecodeError> {
        let start = *self;
        let count = self.uvarint(expected)?;
        let remaining = self.remaining();
        if count > (remaining / item_len) as u64 {
            return Err(start.error(Problem::Count { expected, count, remaining }));
        }
        Ok(count as usize)
    }

    #[inline]
    pub(crate) fn text(&mut self, expected: &'static str) -> Result<&'a [u8], DecodeError> {
        let start = *self;
        let length = self.uvarint(expected)?;
        let remaining = self.remaining();
        if length > remaining as u64 {
            return Err(start.error(Problem::Length { expected, length, remaining }));
        }
        let text = &self.rest()[..length as usize];
        self.pos += length as usize;
        Ok(text)
    }

    #[inline]
    pub(crate) fn labels(&mut self) -> Result<LabelPairs<'a>, DecodeError> {
        let (pairs, used) = LabelPairs::read(self.rest()).map_err(|error| DecodeError::labels(self.pos, error))?;
        self.pos += used;
        Ok(pairs)
    }

    /// Takes the next `len` bytes.
    #[inline]
    pub(crate) fn bytes(&mut self, expected: &'static str, len: usize) -> Result<&'a [u8], DecodeError> {
        match self.rest().get(..len) {
            Some(bytes) => {
                self.pos += len;
                Ok(bytes)
            }
            None => Err(self.truncated(expected, len)),
        }
    }

    /// Checks `n` varints and passes over them.
    pub(crate) fn skip_varints(&mut self, expected: &'static str, n: usize) -> Result<(), DecodeError> {
        let mut left = n;
        // Nearly all are one byte long: eight at a time.
        while left >= 8
            && let Some(chunk) = self.rest().first_chunk()
            && u64::from_le_bytes(*chunk) & 0x8080_8080_8080_8080 == 0
        {
            self.pos += 8;
            left -= 8;
        }
        for _ in 0..left {
            self.uvarint(expected)?;
        }
        Ok(())
    }

    #[cold]
    pub(crate) fn error(&self, problem: Problem) -> DecodeError {
        DecodeError { offset: self.pos, problem }
    }

    #[cold]
    fn truncated(&self, expected: &'static str, needed: usize) -> DecodeError {
        self.error(Problem::Truncated { expected, needed, remaining: self.remaining() })
    }
}
