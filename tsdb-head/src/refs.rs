//! Which refs new series get.
//!
//! Refs are handed out in sequence, as the reference does. Appenders that make series at the same time would so have theirs
//! in the same partitions, and then wait for each other at every scrape for as long as the series live: so who has to
//! wait for the index gets the refs of a whole partition for itself, and what is left of them for the next series it makes.

use std::ops::RangeInclusive;

/// No refs.
const NONE: RangeInclusive<u64> = RangeInclusive::new(1, 0);

/// So many partitions' refs an appender sets aside once it has had to wait, before it has to again.
const APART: u8 = 8;

/// The refs that no series has had.
#[derive(Debug)]
pub(crate) struct FreshRefs {
    /// The highest that was handed out, is in one of the ranges, or is in the log.
    last: u64,
    /// For everybody, in sequence.
    shared: RangeInclusive<u64>,
    /// What appenders had set aside that are no more.
    returned: Vec<RangeInclusive<u64>>,
}

/// The refs that one appender has set aside for series it may make.
#[derive(Debug)]
pub(crate) struct OwnRefs {
    refs: RangeInclusive<u64>,
    /// How many more partitions' refs it sets aside without having waited.
    apart: u8,
}

impl Default for FreshRefs {
    fn default() -> Self {
        Self { last: 0, shared: NONE, returned: Vec::new() }
    }
}

impl Default for OwnRefs {
    fn default() -> Self {
        Self { refs: NONE, apart: 0 }
    }
}

impl FreshRefs {
    /// No series gets this ref or a lower one. For who reads a log, before anybody makes series.
    pub(crate) fn reserve(&mut self, series: u64) {
        self.last = self.last.max(series);
        self.shared = NONE;
    }

    /// Whether so many new series all get one, whosoever they are.
    pub(crate) fn suffice_for(&self, series: usize) -> bool {
        // A partition's refs may be set aside first.
        (series as u64).checked_add(256).is_some_and(|needed| u64::MAX - self.last > needed)
    }

    /// The next ref for an appender that has `own` refs; none when all were handed out.
    pub(crate) fn next(&mut self, own: &mut OwnRefs) -> Option<u64> {
        self.source(own)?.next()
    }

    /// What [`next`](Self::next) will return.
    pub(crate) fn peek(&mut self, own: &mut OwnRefs) -> Option<u64> {
        self.source(own).map(|refs| *refs.start())
    }

    /// From where an appender gets its next one.
    fn source<'a>(&'a mut self, own: &'a mut OwnRefs) -> Option<&'a mut RangeInclusive<u64>> {
        if own.refs.is_empty() && own.apart > 0 {
            own.apart -= 1;
            own.refs = self.returned.pop().or_else(|| self.partition()).unwrap_or(NONE);
        }
        if !own.refs.is_empty() {
            return Some(&mut own.refs);
        }
        if self.shared.is_empty() {
            self.shared = self.partition()?;
        }
        Some(&mut self.shared)
    }

    /// What is left of a partition's refs behind the last one.
    fn partition(&mut self) -> Option<RangeInclusive<u64>> {
        let first = self.last.checked_add(1)?;
        self.last = first | 0xff;
        Some(first..=self.last)
    }

    /// Takes what an appender has set aside and does not need any more.
    pub(crate) fn take_back(&mut self, own: OwnRefs) {
        if !own.refs.is_empty() {
            self.returned.push(own.refs);
        }
    }
}

impl OwnRefs {
    /// The index was taken: mostly by another appender that makes series, and if by a reader, little is lost.
    pub(crate) fn have_waited(&mut self) {
        self.apart = APART;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.refs.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::SmallRng};
    use std::collections::{HashMap, HashSet};

    #[test]
    fn one_appender_after_the_other_gets_them_in_sequence() {
        let (mut fresh, mut own) = (FreshRefs::default(), [OwnRefs::default(), OwnRefs::default()]);
        for series in 1..1_000 {
            assert_eq!(fresh.next(&mut own[series as usize % 2]), Some(series));
        }
        let (mut fresh, mut own) = (FreshRefs::default(), OwnRefs::default());
        fresh.reserve(300);
        fresh.reserve(7);
        assert_eq!((fresh.next(&mut own), fresh.next(&mut own)), (Some(301), Some(302)));
    }

    #[test]
    fn the_last_ones_are_handed_out_too() {
        for apart in [false, true] {
            let (mut fresh, mut own) = (FreshRefs::default(), OwnRefs::default());
            fresh.reserve(u64::MAX - 3);
            assert!(!fresh.suffice_for(1));
            if apart {
                own.have_waited();
            }
            let got: Vec<u64> = std::iter::from_fn(|| fresh.next(&mut own)).take(9).collect();
            assert_eq!(got, [u64::MAX - 2, u64::MAX - 1, u64::MAX]);
        }
    }

    #[test]
    fn no_two_series_get_one_and_few_partitions_are_shared() {
        let mut rng = SmallRng::seed_from_u64(11);
        let mut fresh = FreshRefs::default();
        let mut own: Vec<OwnRefs> = (0..4).map(|_| OwnRefs::default()).collect();
        let mut given = HashSet::new();
        let mut owners: HashMap<u64, HashSet<usize>> = HashMap::new();
        let mut returned = 0;
        for _ in 0..2_000 {
            let who = rng.random_range(0..own.len());
            if rng.random_bool(0.8) {
                own[who].have_waited();
            }
            for _ in 0..rng.random_range(1..400) {
                let coming = fresh.peek(&mut own[who]);
                let series = fresh.next(&mut own[who]).expect("there are many");
                assert_eq!(coming, Some(series));
                assert!(given.insert(series), "{series} again");
                owners.entry(series >> 8).or_default().insert(who);
            }
            if rng.random_bool(0.01) {
                let gone = std::mem::take(&mut own[who]);
                returned += usize::from(!gone.is_empty());
                fresh.take_back(gone);
            }
        }
        let shared = owners.values().filter(|owners| owners.len() > 1).count();
        let unused = fresh.last as usize - given.len();
        println!(
            "{} series, {shared} of {} partitions shared, {returned} returned, {unused} unused",
            given.len(),
            owners.len()
        );
        assert!(returned > 5 && shared <= returned + 10);
        assert!(unused < 256 * (own.len() + 3));
    }
}
