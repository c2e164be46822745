//! `bench ingest OUT`: scrapes of many series, appended by several committers, a commit for each batch of series.

use std::borrow::Cow;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use serde::Serialize;
use tsdb_head::{Head, HeadOptions};
use tsdb_model::{Labels, SeriesRef};
use wal_format::Sample;
use wal_segment::{Compression, Durability};

use super::usage::{Stopwatch, bytes_below, peak_rss};
use crate::commands::ingest::{parse_compression, parse_durability};
use crate::context::Context;
use crate::exit;
use crate::output::Out;
use crate::times::parse_duration;
use crate::workload::{Values, Walk, Workload};

/// Arguments of `bench ingest`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The data directory to make; it may not exist
    out: PathBuf,
    /// The series: one JSON object of labels a line
    #[arg(long, value_name = "FILE", conflicts_with = "series")]
    series_file: Option<PathBuf>,
    /// So many made-up series with seven labels each
    #[arg(long, default_value_t = 100_000)]
    series: usize,
    /// Samples of each series
    #[arg(long, default_value_t = 240)]
    scrapes: u32,
    /// Time between two of them
    #[arg(long, default_value = "15s", value_parser = parse_duration)]
    interval: Duration,
    /// How values go from scrape to scrape: counter, gauge, trivial
    #[arg(long, default_value = "counter", value_parser = parse_values)]
    values: Values,
    /// Scrapes after which every series is replaced by another one; 0 is never
    #[arg(long, default_value_t = 0, conflicts_with = "series_file")]
    churn: u64,
    /// Compression of the log: none, snappy, zstd
    #[arg(long, default_value = "none", value_parser = parse_compression)]
    wal_compression: Compression,
    /// Threads that append and commit
    #[arg(long, default_value_t = 2)]
    committers: usize,
    /// Series in one commit
    #[arg(long, default_value_t = 200)]
    batch: usize,
    /// When a commit is on disk: always, interval=DURATION, rotate
    #[arg(long, default_value = "rotate", value_parser = parse_durability)]
    durability: Durability,
    /// Everything random follows from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn parse_values(text: &str) -> Result<Values> {
    match text {
        "counter" => Ok(Values::Counter),
        "gauge" => Ok(Values::Gauge),
        "trivial" => Ok(Values::Trivial),
        _ => bail!("expected counter, gauge or trivial, found `{text}`"),
    }
}

#[derive(Debug, Serialize)]
struct Outcome {
    series: usize,
    samples: u64,
    seconds: f64,
    first_scrape_seconds: f64,
    cpu_seconds: f64,
    samples_per_second: f64,
    wal_bytes: u64,
    chunk_bytes: u64,
    peak_rss: u64,
    live_bytes_per_series: f64,
}

/// Time of the first scrape, ms since the epoch.
const START: i64 = 1_700_000_000_000;

/// Appends everything and prints what it took.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    if context.fs.exists(&args.out)? {
        bail!("{}: exists already; the benchmark makes a fresh directory", args.out.display());
    }
    if args.committers == 0 || args.batch == 0 {
        bail!("--committers and --batch have to be at least 1");
    }
    let labels = match &args.series_file {
        Some(file) => read_series(context, file)?,
        None => Vec::new(),
    };
    let workload = Workload {
        series: if args.series_file.is_some() { labels.len() } else { args.series } as u64,
        scrapes: u64::from(args.scrapes),
        interval: i64::try_from(args.interval.as_millis())?,
        start: START,
        values: args.values,
        churn: args.churn,
        seed: args.seed,
    };
    // Made before the clock starts: a scrape has its labels, too.
    let labels =
        if labels.is_empty() { (0..workload.series).map(|id| labels_of(&workload, id)).collect() } else { labels };
    let mut options = HeadOptions::default();
    options.log.compression = args.wal_compression;
    options.log.durability = args.durability;
    let (head, _) = Head::open(context.fs.clone(), &args.out, options)?;

    let watch = Stopwatch::start();
    let appended = append_all(args, &workload, &head, &labels)?;
    let (seconds, cpu_seconds) = (watch.seconds(), watch.cpu_seconds());
    let live = head.stats().bytes() as f64;
    head.close()?;
    let outcome = Outcome {
        series: labels.len(),
        samples: appended.samples,
        seconds,
        first_scrape_seconds: appended.first_scrape_seconds,
        cpu_seconds,
        samples_per_second: appended.samples as f64 / seconds,
        wal_bytes: bytes_below(&context.fs, &args.out.join("wal"))?,
        chunk_bytes: bytes_below(&context.fs, &args.out.join("chunks_head"))?,
        peak_rss: peak_rss(&context.fs),
        live_bytes_per_series: live / labels.len().max(1) as f64,
    };
    print(&outcome, args.json)?;
    Ok(exit::fine())
}

struct Appended {
    samples: u64,
    first_scrape_seconds: f64,
}

fn append_all(args: &Args, workload: &Workload, head: &Head, labels: &[Labels]) -> Result<Appended> {
    let watch = Stopwatch::start();
    let first_scrape = AtomicU64::new(0);
    let committers = args.committers.min(labels.len().max(1));
    // Scrapes end together: a committer far ahead would make the head refuse what the others still have.
    let share = labels.len().div_ceil(committers).max(1);
    let barrier = Barrier::new(labels.chunks(share).len());
    let failed = std::sync::Mutex::new(None);
    let samples = std::thread::scope(|scope| {
        let committers: Vec<_> = labels
            .chunks(share)
            .enumerate()
            .map(|(index, labels)| {
                let (barrier, failed, first_scrape) = (&barrier, &failed, &first_scrape);
                let mut committer = Committer::new(args, workload, head, (index * share) as u64, labels);
                scope.spawn(move || {
                    let mut samples = 0;
                    for scrape in 0..workload.scrapes {
                        match committer.scrape(scrape) {
                            Ok(appended) => samples += appended,
                            Err(error) => *failed.lock().unwrap_or_else(|lock| lock.into_inner()) = Some(error),
                        }
                        barrier.wait();
                        if failed.lock().unwrap_or_else(|lock| lock.into_inner()).is_some() {
                            break;
                        }
                        if scrape == 0 {
                            first_scrape.fetch_max(watch.seconds().to_bits(), Ordering::Relaxed);
                        }
                        // Nobody looks at `failed` while somebody of the next scrape may already set it.
                        barrier.wait();
                    }
                    samples
                })
            })
            .collect();
        committers
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a committer panicked")))
            .sum::<Result<u64>>()
    })?;
    if let Some(error) = failed.into_inner().unwrap_or_else(|lock| lock.into_inner()) {
        return Err(error);
    }
    Ok(Appended { samples, first_scrape_seconds: f64::from_bits(first_scrape.into_inner()) })
}

/// One thread's share of the series.
struct Committer<'a> {
    head: &'a Head,
    workload: &'a Workload,
    /// The first series' number.
    first: u64,
    labels: Cow<'a, [Labels]>,
    walks: Vec<Walk>,
    batch: usize,
    samples: Vec<Sample>,
}

impl<'a> Committer<'a> {
    fn new(args: &Args, workload: &'a Workload, head: &'a Head, first: u64, labels: &'a [Labels]) -> Self {
        let walks = (first..).take(labels.len()).map(|id| workload.walk(id)).collect();
        let samples = vec![Sample { series: SeriesRef(0), t: 0, v: 0.0, st: 0 }; labels.len()];
        Self { head, workload, first, labels: labels.into(), walks, batch: args.batch, samples }
    }

    /// Every series becomes another one.
    fn replace(&mut self, scrape: u64) {
        let generation = self.workload.generation(scrape);
        let ids = || (self.first..).take(self.walks.len()).map(|series| self.workload.id(series, generation));
        let labels: Vec<_> = ids().map(|id| labels_of(self.workload, id)).collect();
        let walks = ids().map(|id| self.workload.walk(id)).collect();
        (self.labels, self.walks) = (labels.into(), walks);
    }

    /// Appends one sample of each series and commits each batch; returns how many samples that were.
    fn scrape(&mut self, scrape: u64) -> Result<u64> {
        let churns = self.workload.churn > 0 && scrape > 0 && scrape.is_multiple_of(self.workload.churn);
        if churns {
            self.replace(scrape);
        }
        let t = self.workload.time(scrape);
        for (sample, walk) in self.samples.iter_mut().zip(&mut self.walks) {
            (sample.t, sample.v) = (t, walk.next_value());
        }
        let mut appended = 0;
        for (samples, labels) in self.samples.chunks_mut(self.batch).zip(self.labels.chunks(self.batch)) {
            let mut appender = self.head.appender();
            if scrape == 0 || churns {
                for (sample, labels) in samples.iter_mut().zip(labels) {
                    sample.series = appender.append(None, labels, t, sample.v)?;
                }
            } else {
                let mut refused = None;
                appender.append_many(samples, |_, error| refused = Some(error));
                if let Some(error) = refused {
                    return Err(error.into());
                }
            }
            appended += appender.commit()?.appended;
        }
        Ok(appended)
    }
}

fn labels_of(workload: &Workload, id: u64) -> Labels {
    Labels::from_pairs(workload.labels(id))
}

fn read_series(context: &Context, file: &std::path::Path) -> Result<Vec<Labels>> {
    let bytes = context.fs.read(file).with_context(|| file.display().to_string())?;
    let lines = bytes.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
    lines
        .map(|(number, line)| {
            let labels: std::collections::BTreeMap<String, String> =
                serde_json::from_slice(line).with_context(|| format!("{}, line {}", file.display(), number + 1))?;
            Ok(Labels::from_pairs(labels))
        })
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn print(outcome: &Outcome, json: bool) -> Result<()> {
    let mut out = Out::new();
    if json {
        out.json_line(outcome)?;
    } else {
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        writeln!(
            out,
            "{} samples of {} series in {:.3} s: {:.2} M samples/s; the first scrape {:.3} s; {:.3} s of processor",
            outcome.samples,
            outcome.series,
            outcome.seconds,
            outcome.samples_per_second / 1e6,
            outcome.first_scrape_seconds,
            outcome.cpu_seconds
        )?;
        writeln!(
            out,
            "log {:.1} MB, chunk files {:.1} MB, peak memory {:.1} MB, {:.0} bytes live per series",
            megabytes(outcome.wal_bytes),
            megabytes(outcome.chunk_bytes),
            megabytes(outcome.peak_rss),
            outcome.live_bytes_per_series
        )?;
    }
    Ok(out.finish()?)
}
