//! The last metadata of every kept series.
//!
//! Metadata belongs to metric families and so repeats among series: a series costs its ref and the number of a shared
//! text here. Texts that no series refers to any more are forgotten from time to time, so that memory grows with the
//! series and not with the log.

use std::collections::HashMap;

use tsdb_model::SeriesRef;
use wal_format::{Metadata, MetricType};

/// Texts that may be dead before they are looked for.
const SLACK: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct LatestMetadata {
    latest: HashMap<SeriesRef, u32>,
    numbers: HashMap<Text, u32>,
    texts: Vec<Text>,
}

/// Type, unit and help; cloned once, for the table that finds it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Text {
    metric_type: MetricType,
    unit: Box<[u8]>,
    help: Box<[u8]>,
}

impl LatestMetadata {
    /// Takes the next entry of the log.
    pub(crate) fn set(&mut self, entry: Metadata<'_>) {
        let text = Text { metric_type: entry.metric_type, unit: entry.unit.into(), help: entry.help.into() };
        let number = match self.numbers.get(&text) {
            Some(number) => *number,
            None => self.intern(text),
        };
        self.latest.insert(entry.series, number);
    }

    fn intern(&mut self, text: Text) -> u32 {
        if self.texts.len() >= 2 * self.latest.len() + SLACK {
            self.forget_the_dead();
        }
        let number = self.texts.len() as u32;
        self.texts.push(text.clone());
        self.numbers.insert(text, number);
        number
    }

    fn forget_the_dead(&mut self) {
        let old = std::mem::take(&mut self.texts);
        self.numbers.clear();
        for number in self.latest.values_mut() {
            let text = &old[*number as usize];
            *number = match self.numbers.get(text) {
                Some(number) => *number,
                None => {
                    let number = self.texts.len() as u32;
                    self.texts.push(text.clone());
                    self.numbers.insert(text.clone(), number);
                    number
                }
            };
        }
    }

    /// Series that have metadata.
    pub(crate) fn len(&self) -> usize {
        self.latest.len()
    }

    /// All entries by series ref. The reference writes them in the order of a hash table; ours is the same every time.
    pub(crate) fn sorted(&self) -> impl Iterator<Item = Metadata<'_>> {
        let mut all: Vec<_> = self.latest.iter().map(|(series, number)| (*series, *number)).collect();
        all.sort_unstable();
        all.into_iter().map(|(series, number)| {
            let Text { metric_type, unit, help } = &self.texts[number as usize];
            Metadata { series, metric_type: *metric_type, unit, help }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(series: u64, help: &str) -> Metadata<'_> {
        Metadata { series: SeriesRef(series), metric_type: MetricType::Counter, unit: b"", help: help.as_bytes() }
    }

    #[test]
    fn the_last_of_a_series_wins_and_the_order_is_by_ref() {
        let mut latest = LatestMetadata::default();
        for (series, help) in [(7, "a"), (3, "b"), (7, "c"), (u64::MAX, "d")] {
            latest.set(entry(series, help));
        }
        let all: Vec<_> = latest.sorted().map(|m| (m.series.0, m.help.to_vec())).collect();
        assert_eq!(all, [(3, b"b".to_vec()), (7, b"c".to_vec()), (u64::MAX, b"d".to_vec())]);
    }

    #[test]
    fn memory_does_not_grow_with_texts_that_were_replaced() {
        let mut latest = LatestMetadata::default();
        for i in 0..100_000u64 {
            latest.set(entry(i % 10, &format!("help {i}")));
            assert!(latest.texts.len() <= 2 * 10 + SLACK + 1);
        }
        let all: Vec<_> = latest.sorted().map(|m| String::from_utf8_lossy(m.help).into_owned()).collect();
        let expected: Vec<_> = (99_990..100_000).map(|i| format!("help {i}")).collect();
        assert_eq!(all, expected);
    }
}
