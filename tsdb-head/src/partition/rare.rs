//! What few series need: open chunks of the other encodings.

use head_chunks::Encoding;
use tsdb_model::histogram::{FloatHistogram, Histogram};

use super::cut::ChunkRules;
use super::float::Appended;
use super::{Partition, Refusal};

/// The type of a series' newest sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LastKind {
    Float,
    Histogram,
    FloatHistogram,
}

impl LastKind {
    pub(crate) fn of(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Xor | Encoding::Xor2 => Self::Float,
            Encoding::Histogram | Encoding::HistogramSt => Self::Histogram,
            Encoding::FloatHistogram | Encoding::FloatHistogramSt => Self::FloatHistogram,
        }
    }
}

/// An open chunk that is not XOR.
#[derive(Debug)]
pub(crate) struct Rare {}

impl Rare {
    pub(super) fn open_maxt(&self) -> Option<i64> {
        None
    }

    pub(super) fn open_mint(&self) -> Option<i64> {
        None
    }

    pub(super) fn accepts_float(&self, _t: i64, _v: f64) -> Option<Result<(), Refusal>> {
        None
    }

    pub(super) fn bytes(&self) -> usize {
        0
    }
}

impl Partition {
    /// Whether a histogram at `t` would go into the series in order.
    pub(crate) fn accepts_histogram(
        &self,
        row: usize,
        t: i64,
        _h: &crate::append::AnyHistogram,
    ) -> Result<(), Refusal> {
        if t > self.max_time(row) { Ok(()) } else { Err(Refusal::OutOfOrder) }
    }

    /// Appends an integer histogram.
    pub(crate) fn append_histogram(
        &mut self,
        _row: usize,
        _st: i64,
        _t: i64,
        _h: &Histogram,
        _rules: &ChunkRules,
    ) -> Appended {
        Appended::Late
    }

    /// Appends a float histogram.
    pub(crate) fn append_float_histogram(
        &mut self,
        _row: usize,
        _st: i64,
        _t: i64,
        _h: &FloatHistogram,
        _rules: &ChunkRules,
    ) -> Appended {
        Appended::Late
    }

    pub(super) fn has_open_xor2(&self, _row: usize) -> bool {
        false
    }

    pub(super) fn append_xor2(&mut self, row: usize, _st: i64, t: i64, v: f64, rules: &ChunkRules) -> Appended {
        self.append_float(row, 0, t, v, rules)
    }

    pub(super) fn drop_rare_before(&mut self, _row: usize, _mint: i64) -> bool {
        false
    }

    pub(super) fn finish_rare(&mut self, _row: usize) -> bool {
        false
    }
}
