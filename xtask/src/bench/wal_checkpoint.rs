//! wal-checkpoint beside `tsdb/wlog/checkpoint.go`, over workload S: half the series and half the time are dropped.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use benches::workload::{Values, Workload};
use serde_json::json;
use tsdb_model::{Labels, SeriesRef};
use tsdb_vfs::{Fs, RealFs};
use wal_checkpoint::{LiveWriter, Options, Source, checkpoint};
use wal_format::{Batch, Sample, Series, Version};
use wal_segment::{Compression, Log, LogOptions, layout};

use super::versus::{Arena, Contest, Cost};
use crate::interop::Reference;

pub(super) const CONTESTS: &[Contest] = &[
    Contest { name: "checkpoint, log uncompressed", unit: "sample", target: 4.0, run: none },
    Contest { name: "checkpoint, log snappy", unit: "sample", target: 4.0, run: snappy },
    Contest { name: "checkpoint, log zstd", unit: "sample", target: 2.0, run: zstd },
    Contest { name: "checkpoint from memory", unit: "sample", target: 10.0, run: memory },
];

/// Series of one commit.
const COMMIT: u64 = 200;

fn workload(values: Values) -> Workload {
    Workload { series: 100_000, scrapes: 240, interval: 15_000, start: 1_700_000_000_000, values, churn: 0, seed: 1 }
}

fn none(arena: &mut Arena) -> Result<()> {
    segments(arena, Compression::None)
}

fn snappy(arena: &mut Arena) -> Result<()> {
    segments(arena, Compression::Snappy)
}

fn zstd(arena: &mut Arena) -> Result<()> {
    segments(arena, Compression::Zstd)
}

/// A log of the workload: as the head writes it, one commit for 200 series, series records with the first scrape.
struct Made {
    dir: tempfile::TempDir,
    fs: Fs,
    to: u64,
    samples: u64,
    mint: i64,
    compression: Compression,
}

impl Made {
    fn new(workload: &Workload, compression: Compression) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("headwater-bench-").tempdir()?;
        let fs: Fs = Arc::new(RealFs::new());
        let options = LogOptions { compression, ..LogOptions::default() };
        let (log, _) = Log::open(fs.clone(), dir.path(), options)?;
        let mut walks: Vec<_> = (0..workload.series).map(|series| workload.walk(series)).collect();
        let mut batch = Batch::new(Version::V1);
        for scrape in 0..workload.scrapes {
            for first in (0..workload.series).step_by(COMMIT as usize) {
                let commit = first..(first + COMMIT).min(workload.series);
                batch.clear();
                if scrape == 0 {
                    let labels: Vec<_> =
                        commit.clone().map(|id| (id, Labels::from_pairs(workload.labels(id)))).collect();
                    batch.series(labels.iter().map(|(id, l)| Series { series: SeriesRef(id + 1), labels: l.pairs() }));
                }
                let t = workload.time(scrape);
                batch.samples(commit.map(|id| {
                    let v = walks[id as usize].next_value();
                    Sample { series: SeriesRef(id + 1), t, v, st: 0 }
                }));
                log.append(batch.records())?;
            }
        }
        let to = log.next_segment()? - 1;
        log.close()?;
        let (samples, mint) = (workload.series * workload.scrapes, workload.time(workload.scrapes / 2));
        Ok(Self { dir, fs, to, samples, mint, compression })
    }

    fn theirs(&self, reference: &mut Reference) -> Result<Cost> {
        let args = json!({
            "dir": self.dir.path(), "from": 0, "to": self.to, "keep_even": true, "mint": self.mint, "st": false,
            "compression": self.compression.to_string(),
        });
        Cost::of(&reference.call("checkpoint.bench", args, b"")?, self.samples)
    }

    fn ours(&self, source: &Source<'_>) -> Result<Cost> {
        let options = Options { compression: self.compression, ..Options::default() };
        let before = reset_peak()?;
        let mut kept = 0;
        let mut cost = Cost::measure(self.samples, || {
            let stats = checkpoint(source, 0, self.to, |series| series.0 % 2 == 0, self.mint, &options)?;
            kept = stats.counts.samples.kept();
            Ok(())
        })?;
        cost.peak_rss = Some(status_field("VmHWM")?.saturating_sub(before));
        ensure!(kept == self.samples / 2, "kept {kept} of {} samples", self.samples);
        fs::remove_dir_all(self.dir.path().join(layout::checkpoint_name(self.to)))?;
        Ok(cost)
    }
}

fn segments(arena: &mut Arena, compression: Compression) -> Result<()> {
    for (name, values) in [("counter", Values::Counter), ("gauge", Values::Gauge)] {
        let made = Made::new(&workload(values), compression)?;
        let source = Source::segments(&made.fs, made.dir.path());
        arena.run(name, |reference| made.theirs(reference), || made.ours(&source))?;
    }
    Ok(())
}

/// The same checkpoint from what a head holds: the live series, and of their samples those that are young enough.
fn memory(arena: &mut Arena) -> Result<()> {
    let workload = workload(Values::Counter);
    let made = Made::new(&workload, Compression::None)?;
    let labels: Vec<_> = (0..workload.series).map(|id| Labels::from_pairs(workload.labels(id))).collect();
    let live = |out: &mut LiveWriter<'_, '_>| {
        for first in (0..workload.series).step_by(COMMIT as usize) {
            out.series(
                (first..first + COMMIT)
                    .map(|id| Series { series: SeriesRef(id + 1), labels: labels[id as usize].pairs() }),
            )?;
        }
        Ok(())
    };
    let options = Options::default();
    arena.run(
        "live series only, the samples being in blocks and chunk files",
        |reference| made.theirs(reference),
        || {
            let source = Source::memory(&made.fs, made.dir.path(), &live);
            let before = reset_peak()?;
            let mut cost = Cost::measure(made.samples, || {
                checkpoint(&source, 0, made.to, |series| series.0 % 2 == 0, made.mint, &options)?;
                Ok(())
            })?;
            cost.peak_rss = Some(status_field("VmHWM")?.saturating_sub(before));
            fs::remove_dir_all(made.dir.path().join(layout::checkpoint_name(made.to)))?;
            Ok(cost)
        },
    )
}

/// Lets the kernel's peak of the resident set start over, and returns the set as it is, in bytes.
fn reset_peak() -> Result<u64> {
    fs::write("/proc/self/clear_refs", "5")?;
    status_field("VmRSS")
}

fn status_field(name: &str) -> Result<u64> {
    let status = fs::read_to_string(Path::new("/proc/self/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")).with_context(|| format!("no {name}"))?;
    Ok(kib.trim().parse::<u64>()? * 1024)
}
