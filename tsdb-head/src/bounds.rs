//! The head's time bounds: what it holds, and what it still takes.

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicI64, Ordering::SeqCst};

/// Lowest and highest timestamp of the head's in-order data and the lowest timestamp it still accepts, all in
/// milliseconds since epoch.
///
/// The head counts as initialised once `min` is set. `max` is set before it, so that whoever sees an initialised head
/// never derives a lower bound from an unset maximum.
#[derive(Debug)]
pub(crate) struct HeadTime {
    min: AtomicI64,
    max: AtomicI64,
    min_valid: AtomicI64,
    init: Mutex<()>,
    chunk_range: i64,
}

impl HeadTime {
    pub(crate) fn new(min_valid: i64, chunk_range: i64) -> Self {
        Self {
            min: AtomicI64::new(i64::MAX),
            max: AtomicI64::new(i64::MIN),
            min_valid: AtomicI64::new(min_valid),
            init: Mutex::new(()),
            chunk_range,
        }
    }

    pub(crate) fn min(&self) -> i64 {
        self.min.load(SeqCst)
    }

    pub(crate) fn max(&self) -> i64 {
        self.max.load(SeqCst)
    }

    pub(crate) fn min_valid(&self) -> i64 {
        self.min_valid.load(SeqCst)
    }

    pub(crate) fn initialised(&self) -> bool {
        self.min() != i64::MAX
    }

    /// Takes the first timestamp a fresh head is given as both bounds. Whoever comes second changes nothing.
    pub(crate) fn init(&self, t: i64) {
        if self.initialised() {
            return;
        }
        let _one = self.init.lock();
        if self.max.compare_exchange(i64::MIN, t, SeqCst, SeqCst).is_ok() {
            self.min.store(t, SeqCst);
        } else if !self.initialised() {
            // Replay has set a maximum without a minimum only if it met nothing but out-of-range data.
            self.min.store(t.min(self.max()), SeqCst);
        }
    }

    /// The lowest timestamp an appender that starts now accepts: no older than half a chunk range before the newest
    /// sample, so that what is being compacted can no longer change, and never inside a block.
    pub(crate) fn appendable_min_valid(&self) -> i64 {
        self.max().saturating_sub(self.chunk_range / 2).max(self.min_valid())
    }

    /// Whether `t` lies so close to the smallest representable time that no window can be kept before it. The
    /// reference refuses these through an overflow.
    pub(crate) fn below_representable_window(&self, t: i64) -> bool {
        t < i64::MIN + self.chunk_range / 2
    }

    /// Widens the bounds so that they include `[mint, maxt]`.
    pub(crate) fn include(&self, mint: i64, maxt: i64) {
        // Most commits of a scrape change only the maximum, and most of them not even that.
        if maxt > self.max() {
            self.max.fetch_max(maxt, SeqCst);
        }
        if mint < self.min() {
            self.min.fetch_min(mint, SeqCst);
        }
    }

    /// Sets the lower bounds at truncation; the maximum never ends up below the minimum.
    pub(crate) fn truncate(&self, mint: i64) {
        self.min_valid.store(mint, SeqCst);
        self.min.store(mint, SeqCst);
        self.max.fetch_max(mint, SeqCst);
    }

    /// Raises both lower bounds to what collection found to be the oldest data still held.
    pub(crate) fn raise(&self, actual_mint: i64) {
        let bound = actual_mint.min(self.appendable_min_valid());
        self.min.store(bound, SeqCst);
        self.min_valid.store(bound, SeqCst);
    }

    /// After replay: chunk files may reach below what is valid.
    pub(crate) fn clamp_to_valid(&self) {
        if self.min() < self.min_valid() {
            self.min.store(self.min_valid(), SeqCst);
        }
    }

    /// Whether more than one and a half chunk ranges are held: the oldest one is complete then, and no appender can
    /// reach it.
    pub(crate) fn compactable(&self) -> bool {
        self.initialised() && self.max().saturating_sub(self.min()) > self.chunk_range / 2 * 3
    }
}

/// End (exclusive) of the aligned range of `width` milliseconds that holds `t`, with the truncating division the
/// reference uses: a negative `t` belongs to the range above it.
pub(crate) fn range_end(t: i64, width: i64) -> i64 {
    (t / width).wrapping_mul(width).wrapping_add(width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_timestamp_sets_both_bounds_once() {
        let time = HeadTime::new(i64::MIN, 7_200_000);
        assert!(!time.initialised());
        time.init(1_000);
        time.init(5);
        assert_eq!((time.min(), time.max()), (1_000, 1_000));
        assert_eq!(time.appendable_min_valid(), 1_000 - 3_600_000);
    }

    #[test]
    fn truncation_moves_the_maximum_along() {
        let time = HeadTime::new(i64::MIN, 100);
        time.init(10);
        time.truncate(500);
        assert_eq!((time.min(), time.max(), time.min_valid()), (500, 500, 500));
        time.include(400, 700);
        assert!(time.compactable());
    }

    #[test]
    fn range_end_truncates_towards_zero() {
        assert_eq!(range_end(0, 100), 100);
        assert_eq!(range_end(99, 100), 100);
        assert_eq!(range_end(100, 100), 200);
        assert_eq!(range_end(-1, 100), 100);
        assert_eq!(range_end(-100, 100), 0);
    }
}
