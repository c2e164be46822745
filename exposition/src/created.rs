//! Start timestamps: the `_created` lines of a family's block, found ahead of the samples they belong to.

use std::collections::HashMap;

use crate::entry::{Entry, MetricType};
use crate::number;
use crate::openmetrics::OpenMetrics;
use crate::series::SeriesText;

const SUFFIX: &[u8] = b"_created";

/// What is known about the block of samples the parser stands in.
#[derive(Debug, Clone)]
pub(crate) struct Created {
    /// Most pages have no such line at all.
    page_has_any: bool,
    /// The block was read up to here.
    until: usize,
    starts: HashMap<Key, i64>,
}

/// A metric's name without its suffix, and its labels without bucket or quantile, sorted.
type Key = (Vec<u8>, Vec<(Vec<u8>, Vec<u8>)>);

impl Created {
    pub(crate) fn new(page: &[u8]) -> Self {
        let page_has_any = page.windows(SUFFIX.len()).any(|window| window == SUFFIX);
        Self { page_has_any, until: 0, starts: HashMap::new() }
    }

    /// True if the series' name ends in `_created`.
    pub(crate) fn is_created_line(series: &SeriesText<'_>) -> bool {
        series.raw_name().is_some_and(|name| name.ends_with(SUFFIX))
    }

    /// Reads on from the sample at `from..to` to the end of its block, unless that has been done.
    pub(crate) fn look_ahead<'a>(&mut self, from: usize, to: usize, ahead: impl FnOnce() -> OpenMetrics<'a>) {
        if !self.page_has_any || from < self.until {
            return;
        }
        self.starts.clear();
        self.until = to;
        let mut ahead = ahead();
        while let Some(Ok(Entry::Sample(sample))) = ahead.next() {
            self.until = ahead.offset();
            let name = sample.series.raw_name().and_then(|name| name.strip_suffix(SUFFIX));
            if let (Some(name), Some(start)) = (name, number::seconds_to_ms(sample.value)) {
                self.starts.entry(key(name, &sample.series)).or_insert(start);
            }
        }
    }

    /// The start timestamp of a series whose family's name has `family_len` bytes.
    pub(crate) fn start_of(&self, series: &SeriesText<'_>, family_len: usize) -> Option<i64> {
        if self.starts.is_empty() {
            return None;
        }
        let name = series.raw_name()?;
        self.starts.get(&key(name.get(..family_len)?, series)).copied()
    }
}

fn key(name: &[u8], series: &SeriesText<'_>) -> Key {
    let dropped: Option<&[u8]> = match series.kind {
        MetricType::Histogram => Some(b"le"),
        MetricType::Summary => Some(b"quantile"),
        _ => None,
    };
    let labels = series.raw_pairs().filter_map(|pair| Some((pair.name?, pair.value)));
    let mut labels: Vec<_> = labels
        .filter(|(name, _)| Some(*name) != dropped)
        .map(|(name, value)| (name.to_vec(), value.to_vec()))
        .collect();
    labels.sort();
    (name.to_vec(), labels)
}
