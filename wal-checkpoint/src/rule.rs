//! The two-thirds rule: which segments a truncation checkpoints.

/// The range of segments `(from, to)`, both included, that a truncation turns into a checkpoint, or `None` if it is not
/// worth it yet.
///
/// `first` and `last` are the oldest and the newest segment **before** a new one is started for the truncation. The newest
/// of them is left alone, and of the rest the lower two thirds are taken: with blocks of two hours they hold what has
/// mostly been written to a block, and about three hours of log remain.
///
/// ```
/// use wal_checkpoint::segments_to_checkpoint;
///
/// assert_eq!(segments_to_checkpoint(0, 2), None); // of 0 and 1 two thirds are only segment 0
/// assert_eq!(segments_to_checkpoint(0, 3), Some((0, 1)));
/// assert_eq!(segments_to_checkpoint(10, 20), Some((10, 16)));
/// ```
pub fn segments_to_checkpoint(first: u64, last: u64) -> Option<(u64, u64)> {
    let candidates = last.checked_sub(1)?.checked_sub(first)?;
    // Not `candidates * 2 / 3`: a log may have segments of any number that fits.
    let to = first + (candidates / 3) * 2 + (candidates % 3) * 2 / 3;
    (to > first).then_some((first, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference's own arithmetic, on signed numbers that round towards zero.
    fn reference(first: i64, last: i64) -> Option<(u64, u64)> {
        let last = last - 1;
        if last < 0 {
            return None;
        }
        let last = first + (last - first) * 2 / 3;
        (last > first).then_some((first as u64, last as u64))
    }

    #[test]
    fn equals_the_reference_for_every_small_range() {
        for first in 0..40 {
            for last in first..first + 100 {
                assert_eq!(
                    segments_to_checkpoint(first as u64, last as u64),
                    reference(first, last),
                    "{first}..{last}"
                );
            }
        }
    }

    #[test]
    fn numbers_at_the_end_of_the_range_do_not_overflow() {
        assert_eq!(segments_to_checkpoint(0, u64::MAX), Some((0, (u64::MAX - 1) / 3 * 2 + (u64::MAX - 1) % 3 * 2 / 3)));
        assert_eq!(segments_to_checkpoint(5, 3), None);
        assert_eq!(segments_to_checkpoint(0, 0), None);
    }
}
