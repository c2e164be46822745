//! Chunk snapshots that the reference wrote when it closed, with what it says they hold.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tsdb_model::histogram::{CounterResetHint, Histogram, Span};
use tsdb_model::labels::Labels;

use super::Golden;
use crate::interop::Reference;
use crate::interop::dir::append_with;
use crate::interop::entry::{Entry, Value};

pub(super) const GOLDENS: &[Golden] = &[Golden {
    path: "snapshot",
    made_by: "tsdb.Open with a snapshot on shutdown, without (plain) and with (st) start timestamps: 12 series of floats, \
              histograms and float histograms in turn, 150 scrapes, an exemplar for every tenth sample of a float, samples \
              30,000 to 60,000 ms of series 4 deleted; closed. Of each the chunk_snapshot directory, and dump.txt: \
              the read-only database's view of the log, with the start timestamps it keeps",
    make,
}];

fn make(reference: &mut Reference, folder: &Path) -> Result<()> {
    for (name, start_timestamps) in [("plain", false), ("st", true)] {
        let scratch = tempfile::tempdir()?;
        let data = scratch.path().join("data");
        let target = folder.join(name);
        directory(reference, &data, start_timestamps).context(name)?;
        let args = json!({ "dir": data, "text": true, "st": true });
        let dump = reference.call("dir.dump", args, b"")?.payload;
        fs::create_dir_all(&target)?;
        fs::write(target.join("dump.txt"), dump)?;
        let mut snapshots = 0;
        for entry in fs::read_dir(&data)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("chunk_snapshot.") {
                snapshots += 1;
                let to = target.join(entry.file_name());
                fs::create_dir_all(&to)?;
                for segment in fs::read_dir(entry.path())? {
                    let segment = segment?;
                    fs::copy(segment.path(), to.join(segment.file_name()))?;
                }
            }
        }
        ensure!(snapshots == 1, "{snapshots} snapshots in {}", data.display());
    }
    Ok(())
}

fn directory(reference: &mut Reference, data: &Path, start_timestamps: bool) -> Result<()> {
    let args = json!({
        "dir": data, "compression": "snappy", "snapshot": true, "exemplars": 1000, "start_timestamps": start_timestamps,
    });
    let db = reference.call("dir.open", args, b"")?.u64("db")?;
    for scrape in 0..150 {
        let samples: Vec<_> = (0..12).map(|series| sample(series, scrape, start_timestamps)).collect();
        append_with(reference, json!({ "db": db, "appender_v2": start_timestamps }), &samples)?;
        if scrape % 10 == 0 {
            let exemplars = samples.iter().filter_map(exemplar).collect::<Vec<_>>();
            append_with(reference, json!({ "db": db }), &exemplars)?;
        }
    }
    let args = json!({ "db": db, "mint": 30_000, "maxt": 60_000, "label": "series", "value": "4" });
    reference.call("dir.delete", args, b"")?;
    reference.call("dir.close", json!({ "db": db }), b"")?;
    Ok(())
}

fn sample(series: u32, scrape: i64, start_timestamps: bool) -> Entry {
    let labels = Labels::from_pairs([("__name__", "golden"), ("series", &series.to_string())]);
    let n = scrape as u64 + 1;
    let value = match series % 3 {
        0 if series == 9 && scrape == 149 => Value::Float(f64::from_bits(tsdb_model::staleness::STALE_NAN_BITS)),
        0 => Value::Float(n as f64 * 1.5 + f64::from(series)),
        1 => Value::Histogram(histogram(n)),
        _ => Value::FloatHistogram(histogram(n).to_float()),
    };
    let st = if start_timestamps { 1 + scrape / 70 * 70_000 } else { 0 };
    Entry { labels, t: scrape * 1000 + 1000, st, value }
}

fn histogram(n: u64) -> Histogram {
    Histogram {
        counter_reset_hint: CounterResetHint::Unknown,
        schema: 1,
        zero_threshold: 0.001,
        zero_count: n,
        count: 5 * n,
        sum: 7.25 * n as f64,
        positive_spans: vec![Span { offset: 0, length: 2 }, Span { offset: 3, length: 1 }],
        positive_buckets: vec![n as i64, 0, 0],
        negative_spans: vec![Span { offset: -1, length: 1 }],
        negative_buckets: vec![n as i64],
        ..Histogram::default()
    }
}

fn exemplar(sample: &Entry) -> Option<Entry> {
    let Value::Float(v) = sample.value else { return None };
    let labels = Labels::from_pairs([("trace_id", format!("{:x}", sample.t))]);
    Some(Entry { value: Value::Exemplar { value: v / 2.0, labels }, st: 0, ..sample.clone() })
}
