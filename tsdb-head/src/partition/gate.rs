//! What a partition knows of its series without a look at them, so that an appender need not wait for their lines: these are
//! asked for then and are there when the commit, which has the log to write first, wants them.

/// Series that share a time: the low bytes of their refs differ in the lowest four bits.
const GROUP: usize = 16;
/// The time of a group of which nothing is known.
const SHUT: i64 = i64::MAX;

/// Every sample that comes in later than its group's time is taken: all series of the group that are alive are in the log
/// and have none after it. Replays do not keep the times, nor need they: all groups are shut until an appender opens them.
#[derive(Debug)]
pub(super) struct Gate {
    newest: [i64; 256 / GROUP],
    /// By low byte, samples that appenders hold for the series; what is too many for a byte is in `Hot::pending`.
    held: [u8; 256],
}

impl Default for Gate {
    fn default() -> Self {
        Self { newest: [SHUT; 256 / GROUP], held: [0; 256] }
    }
}

impl Gate {
    /// The low bytes of a series' group.
    pub(super) fn group(low: u8) -> std::ops::RangeInclusive<u8> {
        let first = low - low % GROUP as u8;
        first..=first + (GROUP as u8 - 1)
    }

    #[inline(always)]
    fn newest(&mut self, low: u8) -> &mut i64 {
        &mut self.newest[usize::from(low) / GROUP]
    }

    /// Whether a sample at `t` is known to go in.
    #[inline(always)]
    pub(super) fn takes(&self, low: u8, t: i64) -> bool {
        t > self.newest[usize::from(low) / GROUP]
    }

    pub(super) fn is_shut(&self, low: u8) -> bool {
        self.newest[usize::from(low) / GROUP] == SHUT
    }

    /// Something has become unknown about this series.
    pub(super) fn shut(&mut self, low: u8) {
        *self.newest(low) = SHUT;
    }

    /// Everything is known about this series' group.
    pub(super) fn open(&mut self, low: u8, newest: i64) {
        *self.newest(low) = newest;
    }

    /// The series has got a sample at `t`.
    #[inline(always)]
    pub(super) fn raise(&mut self, low: u8, t: i64) {
        let newest = self.newest(low);
        *newest = t.max(*newest);
    }

    /// Counts a sample that an appender holds; `false` if somebody else has to.
    #[inline(always)]
    pub(super) fn hold(&mut self, low: u8) -> bool {
        let held = &mut self.held[usize::from(low)];
        match held.checked_add(1) {
            Some(more) => {
                *held = more;
                true
            }
            None => false,
        }
    }

    /// Takes one such count back; `false` if there is none.
    #[inline(always)]
    pub(super) fn release(&mut self, low: u8) -> bool {
        let held = &mut self.held[usize::from(low)];
        match held.checked_sub(1) {
            Some(fewer) => {
                *held = fewer;
                true
            }
            None => false,
        }
    }

    pub(super) fn holds(&self, low: u8) -> bool {
        self.held[usize::from(low)] > 0
    }
}

/// Asks for the line of `place`, which is going to be written to, without waiting for it.
#[inline(always)]
pub(super) fn ask_for<T>(place: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 has the instruction, which reads and writes nothing that a program could see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(place).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _: &T = place;
}
