//! What a replay finds of series that no record explains: samples and chunks, counted, and by how many series.

use std::collections::HashMap;

use super::report::Nameless;

/// Pages of refs that are told apart; a hostile log may use any number of them.
const MAX_PAGES: usize = 1 << 18;

/// Refs, samples and times without a name.
#[derive(Debug, Default)]
pub(super) struct NamelessRefs {
    /// A bit per ref.
    pages: HashMap<u64, [u64; 4]>,
    found: Nameless,
}

/// The nameless samples of one partition.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct NamelessSamples {
    refs: [u64; 4],
    count: u64,
    times: Option<(i64, i64)>,
}

impl NamelessSamples {
    pub(super) fn add(&mut self, low: u8, t: i64) {
        self.refs[usize::from(low) / 64] |= 1 << (low % 64);
        self.count += 1;
        self.times = widened(self.times, t, t);
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }
}

fn widened(times: Option<(i64, i64)>, from: i64, to: i64) -> Option<(i64, i64)> {
    Some(times.map_or((from, to), |(min, max)| (min.min(from), max.max(to))))
}

impl NamelessRefs {
    pub(super) fn samples(&mut self, partition: u64, samples: &NamelessSamples) {
        if let Some((from, to)) = samples.times {
            self.found.samples += samples.count;
            self.found.times = widened(self.found.times, from, to);
            self.refs(partition, samples.refs);
        }
    }

    pub(super) fn chunk(&mut self, series: u64, samples: u16, mint: i64, maxt: i64) {
        self.found.chunks += 1;
        self.found.chunk_samples += u64::from(samples);
        self.found.times = widened(self.found.times, mint, maxt);
        let mut bits = [0; 4];
        bits[(series & 0xff) as usize / 64] = 1 << (series % 64);
        self.refs(series >> 8, bits);
    }

    fn refs(&mut self, number: u64, bits: [u64; 4]) {
        if self.pages.len() < MAX_PAGES || self.pages.contains_key(&number) {
            let page = self.pages.entry(number).or_default();
            for (all, new) in page.iter_mut().zip(bits) {
                self.found.series += u64::from((new & !*all).count_ones());
                *all |= new;
            }
        }
    }

    pub(super) fn report(&self) -> Nameless {
        self.found
    }
}
