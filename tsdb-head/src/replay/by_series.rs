//! The entries of one partition, in the order of its series: what a series got in a round is applied at once.

use std::cell::RefCell;

use super::entries::{Entry, RunEntries};

/// Entries that are gathered for a series before they are handed on.
const GATHERED: usize = 16;
/// From one series' place to the next: not a power of two, which would put all of them into a few sets of the cache.
const STRIDE: usize = GATHERED + 1;

thread_local! {
    /// A round has its partitions one after the other on each thread.
    static ROOM: RefCell<Vec<Entry>> = const { RefCell::new(Vec::new()) };
}

/// Entries of fewer samples a series than this are not worth gathering.
const WORTH: usize = 2;

/// Whether so many entries of a partition with so many series are to be gathered.
pub(super) fn is_worth_it(entries: u64, series: usize) -> bool {
    entries >= (WORTH * series) as u64
}

/// Hands each series' entries to `work`, by the low byte of its ref, some at a time, each series' in the order of `runs`.
/// These come with the number of their lane: wide entries then [say which](Entry::of_lane) it was. Entries at or before
/// `floor` are left out, but for wide ones; returns how many. `work` also gets the low byte of one whose turn comes soon.
pub(super) fn for_each_series<'a>(
    runs: impl Iterator<Item = (u32, RunEntries<'a>)>,
    floor: i64,
    mut work: impl FnMut(u8, &[Entry], u8),
) -> u64 {
    ROOM.with_borrow_mut(|room| {
        room.resize(256 * STRIDE, Entry::NONE);
        let mut gathered = [0u8; 256];
        let mut late = 0;
        for (lane, run) in runs {
            // Whether such entries are late, and what they have beside the value and the low byte.
            let turn = |entry: Entry| {
                let late = entry.t() <= floor && !entry.is_wide();
                (late, if entry.is_wide() { entry.of_lane(lane) } else { entry })
            };
            run.for_each(turn, |(is_late, entry), low, value| {
                if is_late {
                    late += 1;
                    return;
                }
                let n = usize::from(gathered[usize::from(low)]);
                room[usize::from(low) * STRIDE + n] = entry.with(low, value);
                gathered[usize::from(low)] = n as u8 + 1;
                if n + 1 == GATHERED {
                    work(low, &room[usize::from(low) * STRIDE..][..GATHERED], low);
                    gathered[usize::from(low)] = 0;
                }
            });
        }
        for (low, &n) in (0..=u8::MAX).zip(&gathered) {
            if n > 0 {
                work(low, &room[usize::from(low) * STRIDE..][..n.into()], low.saturating_add(4));
            }
        }
        late
    })
}

#[cfg(test)]
mod tests {
    use super::super::entries::Entries;
    use super::*;
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    #[test]
    fn order_is_kept_within_a_series() {
        let mut rng = SmallRng::seed_from_u64(9);
        for _ in 0..200 {
            let lows = [4, 100, 256][rng.random_range(0..3)];
            let lanes: Vec<Entries> = (0..rng.random_range(0..20))
                .map(|_| {
                    let mut entries = Entries::default();
                    let many_times = rng.random_bool(0.3);
                    let mut t = 0;
                    for n in 0..rng.random_range(0..600) {
                        let series = rng.random_range(0..lows);
                        if many_times || rng.random_bool(0.02) {
                            t = rng.random_range(-5..50);
                        }
                        match rng.random_range(0..10) {
                            0 => entries.push_wide(series, n),
                            _ => assert!(entries.push_float(series, t, n as f64)),
                        }
                    }
                    entries.close_run();
                    entries
                })
                .collect();
            let runs = || (3..).zip(&lanes).flat_map(|(n, lane)| lane.runs().iter().map(move |run| (n, lane.of(run))));
            let same = |(lane, entry): (Option<u32>, Entry)| (entry.low(), lane, entry.t(), entry.value);
            let all = runs().flat_map(|(lane, run)| run.iter().map(move |e| (e.is_wide().then_some(lane), e)));
            let (wanted, old): (Vec<_>, Vec<_>) = all.partition(|(lane, entry)| lane.is_some() || entry.t() > 7);
            let mut wanted: Vec<_> = wanted.into_iter().map(same).collect();
            wanted.sort_by_key(|&(low, ..)| low);
            let mut got = Vec::new();
            let late = for_each_series(runs(), 7, |low, entries, _| {
                assert!(!entries.is_empty() && entries.iter().all(|entry| entry.low() == low));
                got.extend(entries.iter().map(|entry| same(entry.in_lane())));
            });
            got.sort_by_key(|&(low, ..)| low);
            assert_eq!((got, late), (wanted, old.len() as u64));
        }
    }
}
