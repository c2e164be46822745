//! Which samples of a log need not go to their partition.

use crate::partition::NO_TIME;

/// Up to which times the chunk files hold everything the log says, by partition: samples up to there are dropped as they
/// are decoded. It changes between rounds only.
#[derive(Debug, Default)]
pub(super) struct Floors {
    by_partition: Vec<i64>,
}

impl Floors {
    /// Partitions beyond this number have none: a foreign log may use any.
    const MOST: u64 = 1 << 18;

    /// Nothing is to be dropped up to [`NO_TIME`].
    #[inline]
    pub(super) fn of(&self, partition: u64) -> i64 {
        self.by_partition.get(partition.min(Self::MOST) as usize).copied().unwrap_or(NO_TIME)
    }

    pub(super) fn set(&mut self, partition: u64, floor: i64) {
        if floor == NO_TIME || partition >= Self::MOST {
            return;
        }
        let at = partition as usize;
        if at >= self.by_partition.len() {
            self.by_partition.resize(at + 1, NO_TIME);
        }
        self.by_partition[at] = floor;
    }

    /// Forgets all of them. Returns whether there were any.
    pub(super) fn clear(&mut self) -> bool {
        let any = !self.by_partition.is_empty();
        self.by_partition.clear();
        any
    }
}
