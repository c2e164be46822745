//! When a chunk ends: the reference's rules, sample by sample.

use crate::bounds::range_end;

/// What the rules depend on; the same for all series of a head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChunkRules {
    /// Length of the aligned ranges no chunk reaches across, ms.
    pub(crate) chunk_range: i64,
    /// A quarter of the samples a chunk is meant to have: the end is estimated again here.
    pub(crate) quarter: u16,
    /// Twice the samples it is meant to have: the chunk ends here whatever was estimated.
    pub(crate) most: u16,
    /// New float chunks are XOR2.
    pub(crate) xor2: bool,
    /// New histogram chunks can hold start timestamps.
    pub(crate) histogram_st: bool,
}

impl ChunkRules {
    /// `samples_per_chunk` is clamped to 4…32,767: a quarter of it must be a sample, twice it a chunk's count.
    pub(crate) fn new(chunk_range: i64, samples_per_chunk: u16, xor2: bool, histogram_st: bool) -> Self {
        let target = samples_per_chunk.clamp(4, 32_767);
        Self { chunk_range, quarter: target / 4, most: target * 2, xor2, histogram_st }
    }

    /// The end of the aligned range that holds a chunk which begins at `t`.
    pub(crate) fn range_end(&self, t: i64) -> i64 {
        range_end(t, self.chunk_range)
    }
}

/// Where a chunk that began at `start` and is `1/ratio_to_full` full at `now` should end, so that the chunks up to `end`
/// become equally long.
pub(crate) fn estimated_end(start: i64, now: i64, end: i64, ratio_to_full: f64) -> i64 {
    let span = end.wrapping_sub(start) as f64;
    let n = span / (now.wrapping_sub(start).wrapping_add(1) as f64 * ratio_to_full);
    if n <= 1.0 {
        return end;
    }
    (start as f64 + span / n.floor()) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_divide_the_range_evenly() {
        // The reference's own table: start, now, end, ratio, result.
        for (start, now, end, ratio, expected) in [
            (0, 0, 1_000, 4.0, 4), // 250 chunks of 4 ms
            (100, 200, 1_000, 4.0, 550),
            (100, 200, 500, 4.0, 500),
            (0, 1_000, 3_000, 4.0, 3_000),
            (100, 100, 1_000, 4.0, 104),
        ] {
            assert_eq!(estimated_end(start, now, end, ratio), expected);
        }
    }
}
