//! Our head under load: `bench.ingest` and `bench.replay`, as `interop/bench_head.go` has them for the reference's.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use benches::histograms::Latencies;
use benches::workload::{Values, Walk, Workload};
use rayon::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};
use tsdb_head::{Head, HeadOptions, HeadStats};
use tsdb_model::{Histogram, Labels, SeriesRef};
use tsdb_vfs::{Fs, RealFs};
use wal_format::{HistogramSample, Sample};

use super::{Answered, compression, memory};
use crate::bench::Cost;

#[derive(Deserialize)]
struct Ingest {
    dir: PathBuf,
    series: u64,
    scrapes: u64,
    interval: i64,
    start: i64,
    values: String,
    churn: u64,
    seed: u64,
    compression: String,
    committers: usize,
    per_commit: usize,
}

impl Ingest {
    fn workload(&self) -> Result<Workload> {
        let values = match self.values.as_str() {
            // Of a workload of histograms only the labels and times are taken.
            "counter" | "histograms" => Values::Counter,
            "gauge" => Values::Gauge,
            "trivial" => Values::Trivial,
            other => bail!("no such values: {other}"),
        };
        let Self { series, scrapes, interval, start, churn, seed, .. } = *self;
        Ok(Workload { series, scrapes, interval, start, values, churn, seed })
    }
}

/// Appends a workload to a fresh head.
pub(super) fn ingest(header: &Value) -> Answered {
    let args = Ingest::deserialize(header)?;
    let workload = args.workload()?;
    let mut options = HeadOptions { min_valid_time: Some(0), ..HeadOptions::default() };
    options.log.compression = compression(&args.compression)?;
    memory::start();
    let (head, _) = Head::open(Arc::new(RealFs::new()), &args.dir, options)?;
    // As goroutines wait on threads that are there, and the first of them goes on on the thread that made it.
    let committers = rayon::ThreadPoolBuilder::new().num_threads(args.committers).build()?;
    let (total, first) = committers.install(|| scrape_all(&head, &args, &workload))?;
    let mut fields = cost_fields(&head, total)?;
    fields["first_scrape_seconds"] = json!(first.as_secs_f64());
    fields["samples"] = json!(workload.series * workload.scrapes);
    head.close()?;
    Ok((fields, Vec::new()))
}

/// Appends all scrapes. Returns what they cost, and how long the first took.
fn scrape_all(head: &Head, args: &Ingest, workload: &Workload) -> Result<(Cost, Duration)> {
    let histograms = args.values == "histograms";
    let mut latencies: Vec<Latencies> = Vec::new();
    let mut walks: Vec<Walk> = Vec::new();
    let mut samples = Vec::new();
    let mut total = Cost::ZERO;
    let mut first = Duration::ZERO;
    for scrape in 0..workload.scrapes {
        // What is appended is made before the clock runs: how fast either side makes labels is not the question.
        let fresh = scrape == 0 || (workload.churn > 0 && scrape % workload.churn == 0);
        let mut labels = Vec::new();
        if fresh {
            let ids = (0..workload.series).map(|series| workload.id(series, workload.generation(scrape)));
            labels = ids.clone().map(|id| Labels::from_pairs(workload.labels(id))).collect();
            latencies =
                if histograms { ids.clone().map(|id| Latencies::new(args.seed, id)).collect() } else { Vec::new() };
            walks = ids.map(|id| workload.walk(id)).collect();
            samples = vec![Sample { series: SeriesRef(0), t: 0, v: 0.0, st: 0 }; walks.len()];
        }
        for (sample, walk) in samples.iter_mut().zip(&mut walks) {
            (sample.t, sample.v) = (workload.time(scrape), walk.next_value());
        }
        let mut scraped: Vec<Option<Histogram>> =
            latencies.iter_mut().map(|latencies| Some(latencies.next_histogram())).collect();
        let cost = Cost::measure(0, || append(head, args, &labels, &mut samples, &mut scraped))?;
        total = total.plus(cost);
        if scrape == 0 {
            first = total.wall;
        }
    }
    Ok((total, first))
}

/// One scrape: every committer has its share of the series. New series come with labels, known ones by their refs.
fn append(
    head: &Head,
    args: &Ingest,
    labels: &[Labels],
    samples: &mut [Sample],
    histograms: &mut [Option<Histogram>],
) -> Result<()> {
    let per_commit = args.per_commit;
    let share = samples.len().div_ceil(args.committers);
    let mut histograms = histograms.chunks_mut(share);
    let shares: Vec<_> = (samples.chunks_mut(share).enumerate())
        .map(|(n, samples)| {
            let labels = labels.get(n * share..).unwrap_or_default();
            (labels, samples, histograms.next().unwrap_or_default())
        })
        .collect();
    let commit = |(labels, samples, histograms): (_, _, &mut [_])| match histograms.is_empty() {
        true => append_share(head, labels, samples, per_commit),
        false => append_histograms(head, labels, samples, histograms, per_commit),
    };
    shares.into_par_iter().with_max_len(1).try_for_each(commit)
}

fn append_share(head: &Head, labels: &[Labels], samples: &mut [Sample], per_commit: usize) -> Result<()> {
    for (n, commit) in samples.chunks_mut(per_commit).enumerate() {
        let mut appender = head.appender();
        let mut refused = None;
        if labels.is_empty() {
            appender.append_many(commit, |_, error| refused = Some(error));
        } else {
            appender.append_many_by_labels(&labels[n * per_commit..], commit, |_, error| refused = Some(error));
        }
        if let Some(error) = refused {
            return Err(error.into());
        }
        appender.commit()?;
    }
    Ok(())
}

/// As [`append_share`], with histograms instead of the samples' values.
fn append_histograms(
    head: &Head,
    labels: &[Labels],
    samples: &mut [Sample],
    histograms: &mut [Option<Histogram>],
    per_commit: usize,
) -> Result<()> {
    let none = Labels::empty();
    let commits = samples.chunks_mut(per_commit).zip(histograms.chunks_mut(per_commit));
    for (n, (samples, histograms)) in commits.enumerate() {
        let mut appender = head.appender();
        if labels.is_empty() {
            let known: Vec<HistogramSample<'_>> = samples
                .iter()
                .zip(&*histograms)
                .filter_map(|(&Sample { series, t, st, .. }, histogram)| {
                    Some(HistogramSample { series, t, st, histogram: histogram.as_ref()? })
                })
                .collect();
            let mut refused = None;
            appender.append_many_histograms(&known, |_, error| refused = Some(error));
            if let Some(error) = refused {
                return Err(error.into());
            }
            ensure!(appender.commit()?.appended == samples.len() as u64, "not every histogram was taken");
            continue;
        }
        for (i, (sample, histogram)) in samples.iter_mut().zip(histograms).enumerate() {
            let histogram = histogram.take().context("appended twice")?;
            let labels = labels.get(n * per_commit + i).unwrap_or(&none);
            let series = (sample.series.0 > 0).then_some(sample.series);
            sample.series = appender.append_histogram(series, labels, 0, sample.t, histogram)?;
        }
        appender.commit()?;
    }
    Ok(())
}

#[derive(Deserialize)]
struct Replay {
    dir: PathBuf,
    log_only: bool,
}

/// Opens a directory as a starting server does. The directory stays as it is: a copy is opened, made before the clock runs,
/// and on the disk by then, as that is which the reference reads: else our opening would wait for the copy's writing.
/// Chunks that are full after replay are written out within the measured time, since the reference does that too.
pub(super) fn replay(header: &Value) -> Answered {
    let args = Replay::deserialize(header)?;
    let parent = args.dir.parent().context("the directory has no parent")?;
    let copy = tempfile::Builder::new().prefix("replay").tempdir_in(parent)?;
    copy_tree(&args.dir.join("wal"), &copy.path().join("wal"))?;
    if !args.log_only {
        copy_tree(&args.dir.join("chunks_head"), &copy.path().join("chunks_head"))?;
    }
    let fs: Fs = Arc::new(RealFs::new());
    let mut head = None;
    let mut counts = tsdb_head::Counts::default();
    memory::start();
    let cost = Cost::measure(0, || {
        let options = HeadOptions { min_valid_time: Some(0), ..HeadOptions::default() };
        let (opened, report) = Head::open(fs, copy.path(), options)?;
        opened.write_chunks()?;
        counts = report.counts;
        head = Some(opened);
        Ok(())
    })?;
    let head = head.context("not opened")?;
    let mut fields = cost_fields(&head, cost)?;
    fields["samples_read"] = json!(counts.all_samples());
    fields["min_time"] = json!(head.min_time());
    fields["max_time"] = json!(head.max_time());
    head.close()?;
    Ok((fields, Vec::new()))
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target)?;
            File::open(&target)?.sync_all()?;
        }
    }
    Ok(())
}

/// Cost and memory, by the names that the reference's operations give them.
fn cost_fields(head: &Head, cost: Cost) -> Result<Value> {
    // Counted first: what follows allocates too.
    let live = memory::live();
    let (peak_rss, rss) = (status_field("VmHWM:")?, status_field("VmRSS:")?);
    let HeadStats {
        index,
        hot_bytes,
        cold_bytes,
        open_chunk_bytes,
        mapped_bytes,
        finished_bytes,
        isolation_bytes,
        directory_bytes,
        ..
    } = head.stats();
    let owners = [
        ("label text", index.text),
        ("label values' numbers and single postings", index.symbols),
        ("tables of label values", index.symbol_tables),
        ("longer postings", index.postings),
        ("series' labels as numbers", index.ids),
        ("table of label sets", index.series_table),
        ("series, what an append touches", hot_bytes),
        ("series, the rest", cold_bytes),
        ("open chunks", open_chunk_bytes),
        ("entries of chunks on disk", mapped_bytes),
        ("full chunks not on disk", finished_bytes),
        ("isolation", isolation_bytes),
        ("partitions, from ref to series", directory_bytes),
    ];
    let known: usize = owners.iter().map(|&(_, bytes)| bytes).sum();
    let mut owners: Vec<Value> = owners.iter().map(|&(owner, bytes)| json!([owner, bytes])).collect();
    owners.push(json!(["buffers, the log, the allocator's own", live - known as i64]));
    Ok(json!({
        "seconds": cost.wall.as_secs_f64(), "cpu_seconds": cost.cpu.as_secs_f64(), "series": head.series_count(),
        "live_bytes": live, "live_bytes_per_series": live as f64 / head.series_count().max(1) as f64,
        "peak_rss": peak_rss, "rss": rss, "owners": owners,
    }))
}

/// A field of /proc/self/status that is given in kB, in bytes.
fn status_field(name: &str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}
