//! Which series the sources have sound records of: what a salvaging run has to ask the living series about.

use std::collections::HashMap;

use tsdb_model::SeriesRef;

/// The refs of kept series whose records were read. A bit each, as refs are given out in sequence.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pages: HashMap<u64, [u64; 4]>,
    /// Of the segment that is being read: whether they count is known at its end.
    pending: Vec<SeriesRef>,
    segment: u64,
}

impl Seen {
    /// Takes refs of a segment.
    pub(crate) fn extend(&mut self, segment: u64, refs: &mut Vec<SeriesRef>) {
        if segment != self.segment {
            self.settle();
            self.segment = segment;
        }
        self.pending.append(refs);
    }

    /// The segment that was read last is sound, or reads in the order in which it was written.
    pub(crate) fn settle(&mut self) {
        for series in self.pending.drain(..) {
            let (page, bit) = (self.pages.entry(series.0 >> 8).or_default(), series.0 & 0xff);
            page[bit as usize / 64] |= 1 << (bit % 64);
        }
    }

    /// The segment that was read last is not what was written: its records may stand behind what refers to them.
    pub(crate) fn distrust(&mut self) {
        self.pending.clear();
    }

    pub(crate) fn contains(&self, series: SeriesRef) -> bool {
        let bit = series.0 & 0xff;
        self.pages.get(&(series.0 >> 8)).is_some_and(|page| page[bit as usize / 64] >> (bit % 64) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refs_count_once_their_segment_does() {
        let mut seen = Seen::default();
        let has = |seen: &Seen| [0, 255, 256, u64::MAX].map(|n| seen.contains(SeriesRef(n)));
        seen.extend(0, &mut vec![SeriesRef(0), SeriesRef(255)]);
        assert_eq!(has(&seen), [false; 4]);
        seen.extend(1, &mut vec![SeriesRef(256)]);
        assert_eq!(has(&seen), [true, true, false, false]);
        seen.distrust();
        seen.extend(2, &mut vec![SeriesRef(u64::MAX)]);
        seen.settle();
        assert_eq!(has(&seen), [true, true, false, true]);
    }
}
