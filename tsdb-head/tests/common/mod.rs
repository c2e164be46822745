//! What the integration tests share.
#![allow(dead_code, reason = "each test uses some of it")]

use std::path::Path;
use std::sync::Arc;

use tsdb_head::{Head, HeadOptions, ReplayReport, Value};
use tsdb_model::Labels;
use tsdb_vfs::{Fs, RealFs};

pub(crate) fn fs() -> Fs {
    Arc::new(RealFs::new())
}

pub(crate) fn options() -> HeadOptions {
    HeadOptions { chunk_range: 1_000_000, chunk_write_bytes: 0, ..HeadOptions::default() }
}

pub(crate) fn open(dir: &Path) -> (Head, ReplayReport) {
    Head::open(fs(), dir, options()).unwrap()
}

pub(crate) fn labels(i: usize) -> Labels {
    Labels::from_pairs([
        ("__name__", format!("metric_{}", i % 3)),
        ("instance", format!("host-{}", i % 7)),
        ("series", i.to_string()),
    ])
}

/// A series' labels as text, and its samples.
pub(crate) type Dumped = (String, Vec<(i64, i64, Value)>);

/// Every sample of every series, ordered by labels.
pub(crate) fn dump(head: &Head) -> Vec<Dumped> {
    head.select(&[], i64::MIN, i64::MAX)
        .sorted()
        .map(|series| {
            let samples = series.samples().map(|sample| sample.unwrap()).map(|s| (s.t, s.start, s.value)).collect();
            (series.labels().to_string(), samples)
        })
        .filter(|(_, samples): &Dumped| !samples.is_empty())
        .collect()
}

/// Floats of one series as `dump` gives them.
pub(crate) fn floats(dumped: &Dumped) -> Vec<(i64, f64)> {
    let float = |(t, _, value): &(i64, i64, Value)| match value {
        Value::Float(v) => (*t, *v),
        other => panic!("expected a float, found {other:?}"),
    };
    dumped.1.iter().map(float).collect()
}
