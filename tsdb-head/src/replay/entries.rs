//! Samples on their way from a record to a partition, and which of them need not go there.

use std::ops::{Deref, DerefMut};

use crate::partition::NO_TIME;

/// A sample on its way to its partition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) value: u64,
    pub(super) meta: u64,
}

const WIDE: u64 = 1 << 8;

impl Entry {
    pub(super) const NONE: Self = Self { value: 0, meta: 0 };

    pub(super) fn float(low: u8, t: i64, v: f64) -> Option<Self> {
        let meta = t << 16;
        (meta >> 16 == t).then_some(Self { value: v.to_bits(), meta: meta as u64 | u64::from(low) })
    }

    pub(super) fn wide(low: u8, index: usize) -> Self {
        Self { value: index as u64, meta: WIDE | u64::from(low) }
    }

    #[inline]
    pub(super) fn low(self) -> u8 {
        self.meta as u8
    }

    #[inline]
    pub(super) fn t(self) -> i64 {
        self.meta as i64 >> 16
    }

    /// Time and value; not a number for a wide one, which is no sample of a float that is one of many.
    #[inline(always)]
    pub(super) fn float_sample(&self) -> (i64, f64) {
        (self.t(), if self.is_wide() { f64::NAN } else { f64::from_bits(self.value) })
    }

    #[inline]
    pub(super) fn is_wide(self) -> bool {
        self.meta & WIDE != 0
    }

    /// A wide entry that says whose it is: it points into what one lane holds.
    pub(super) fn of_lane(self, lane: u32) -> Self {
        Self { value: self.value | u64::from(lane) << 32, ..self }
    }

    /// The entry as it was before [`of_lane`](Self::of_lane), and the lane; that of one that is not wide is none.
    pub(super) fn in_lane(self) -> (Option<u32>, Self) {
        if self.is_wide() {
            (Some((self.value >> 32) as u32), Self { value: self.value & u64::from(u32::MAX), ..self })
        } else {
            (None, self)
        }
    }

    pub(super) fn set_low(&mut self, low: u8) {
        self.meta = self.meta & !0xff | u64::from(low);
    }
}

/// A list whose memory stays initialised when it is emptied: a round writes each entry once.
#[derive(Debug)]
pub(super) struct Entries {
    room: Vec<Entry>,
    pub(super) len: usize,
}

/// What a block of an uncompressed log holds, nearly.
const USUAL: usize = 24 << 10;

/// So many are made at once where there is room: 16 KiB.
const STEP: usize = 1 << 10;

impl Default for Entries {
    fn default() -> Self {
        Self { room: Vec::with_capacity(USUAL), len: 0 }
    }
}

impl Entries {
    pub(super) fn push(&mut self, entry: Entry) {
        self.ahead(1)[0] = entry;
        self.len += 1;
    }

    /// Room for at least `most` entries behind the last one.
    pub(super) fn ahead(&mut self, most: usize) -> &mut [Entry] {
        if self.room.len() - self.len < most {
            // What is not needed is better not touched while there is room.
            let more = if self.room.len() < self.room.capacity() { STEP } else { self.room.len() / 4 };
            self.room.resize((self.len + most).max(self.room.len() + more), Entry::NONE);
        }
        &mut self.room[self.len..]
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Keeps the memory of `usual` entries.
    pub(super) fn shrink_to(&mut self, usual: usize) {
        self.len = 0;
        if self.room.len() > usual {
            self.room.truncate(usual);
            self.room.shrink_to_fit();
        }
    }
}

impl Deref for Entries {
    type Target = [Entry];

    fn deref(&self) -> &[Entry] {
        &self.room[..self.len]
    }
}

impl DerefMut for Entries {
    fn deref_mut(&mut self) -> &mut [Entry] {
        &mut self.room[..self.len]
    }
}

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
