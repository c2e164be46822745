//! Start timestamps: the header byte that XOR2 and the two histogram encodings share, and the field behind each sample.
//!
//! ```text
//! header   := bit 7: sample 0 has a start timestamp; bits 6–0: index of the sample from which on every sample has one
//!             (0: none)
//! sample 0 := t − st zig-zag varint in groups of eight bits, if the header says so
//! sample n := nothing before the index in the header; varbit (tₙ₋₁ − st) at it; then varbit of the difference to the
//!             one before
//! ```
//!
//! Start timestamps begin with the first sample whose start timestamp differs from the one before, or at sample 127 at the
//! latest, because seven bits could not say a later one. So every chunk of more than 127 samples has them, also when all
//! are 0.

use crate::bits::{BitReader, BitStream, LoopReader};
use crate::varbit;

/// Bit of the header: the first sample has a start timestamp.
pub(crate) const FIRST_KNOWN: u8 = 0x80;

/// The header's bits for the index of the first change, and so the highest index there is.
pub(crate) const LAST_CHANGE_ON: u8 = 0x7f;

/// What is written behind a sample, and the bits that it adds to the header.
pub(crate) struct StField {
    pub(crate) field: varbit::Field,
    pub(crate) header: u8,
}

/// The field behind sample `index` (from 1 on), `before` being the time of the sample before it.
///
/// `start` is the writer's memory: before the first change the start timestamp, from then on the last tₙ₋₁ − st. They are
/// never needed together.
#[inline(always)]
pub(crate) fn field(header: u8, start: &mut i64, index: u16, before: i64, st: i64) -> Option<StField> {
    let begun = header & LAST_CHANGE_ON != 0;
    let last = u16::from(LAST_CHANGE_ON);
    // Behind the last index nothing can begin any more. No writer leaves a chunk like that; one that was made up and then
    // continued goes on without start timestamps, as it began.
    if !begun && (index > last || st == *start && index != last) {
        return None;
    }
    let diff = before.wrapping_sub(st);
    let field = varbit::int_field(if begun { diff.wrapping_sub(*start) } else { diff });
    *start = diff;
    // It has begun at index 127 at the latest, so the index fits.
    Some(StField { field, header: if begun { 0 } else { index as u8 & LAST_CHANGE_ON } })
}

/// Reads start timestamps.
#[derive(Debug, Clone)]
pub(crate) struct StReader {
    pub(crate) header: u8,
    pub(crate) st: i64,
    diff: i64,
}

impl StReader {
    pub(crate) fn new(header: u8) -> Self {
        Self { header, st: 0, diff: 0 }
    }

    /// Whether the difference of sample 0's time and start timestamp is behind it.
    #[inline(always)]
    pub(crate) fn has_first(&self) -> bool {
        self.header & FIRST_KNOWN != 0
    }

    /// The start timestamp of sample 0.
    #[inline(always)]
    pub(crate) fn set_first(&mut self, st: i64) {
        self.st = st;
    }

    /// What is behind sample `index` (from 1 on), `before` being the time of the sample before it.
    #[inline(always)]
    pub(crate) fn read(&mut self, bits: &mut BitReader<'_>, index: u32, before: i64) {
        if self.is_behind(index) {
            self.add(varbit::read_int(bits), before);
        }
    }

    /// As [`StReader::read`].
    #[inline(always)]
    pub(crate) fn next(&mut self, bits: &mut BitStream<'_>, index: u32, before: i64) {
        if self.is_behind(index) {
            self.add(varbit::next_int(bits), before);
        }
    }

    #[inline(always)]
    fn add(&mut self, field: i64, before: i64) {
        // Before the first it is 0.
        self.diff = self.diff.wrapping_add(field);
        self.st = before.wrapping_sub(self.diff);
    }

    /// Whether there is anything behind sample `index` (from 1 on).
    #[inline(always)]
    pub(crate) fn is_behind(&self, index: u32) -> bool {
        // Wraps where there is nothing in the chunk.
        index > u32::from(self.header & LAST_CHANGE_ON).wrapping_sub(1)
    }

    /// As [`StReader::read`] of what [`StReader::is_behind`] a sample, in a loop. `None`, and nothing was changed, when it is
    /// long or reaches past bit `end`.
    #[inline(always)]
    pub(crate) fn loop_read<'a>(&mut self, bits: LoopReader<'a>, end: usize, before: i64) -> Option<LoopReader<'a>> {
        let (field, behind) = varbit::loop_int(bits)?;
        if behind.pos() > end {
            return None;
        }
        self.add(field, before);
        Some(behind)
    }

    /// Header and memory of a writer that goes on behind `samples` samples.
    ///
    /// A header that names a sample which is still to come is none of a writer's: nothing has begun, so it is left out.
    pub(crate) fn resume(&self, samples: u16) -> (u8, i64) {
        let first = u16::from(self.header & LAST_CHANGE_ON);
        if first == 0 || first >= samples { (self.header & FIRST_KNOWN, self.st) } else { (self.header, self.diff) }
    }
}
