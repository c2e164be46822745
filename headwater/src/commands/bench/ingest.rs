//! `bench ingest OUT`: scrapes of many series, appended by several committers, a commit for each batch of series.

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
    /// How values change: counter (random integer steps up), gauge (random walk, three decimals), trivial (+1000)
    #[arg(long, value_enum, default_value_t = Values::Counter)]
    values: Values,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Values {
    Counter,
    Gauge,
    Trivial,
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
        None => (0..args.series).map(made_up).collect(),
    };
    let mut options = HeadOptions::default();
    options.log.compression = args.wal_compression;
    options.log.durability = args.durability;
    let (head, _) = Head::open(context.fs.clone(), &args.out, options)?;

    let watch = Stopwatch::start();
    let appended = append_all(args, &head, &labels)?;
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

fn append_all(args: &Args, head: &Head, labels: &[Labels]) -> Result<Appended> {
    let watch = Stopwatch::start();
    let interval = i64::try_from(args.interval.as_millis())?;
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
                let mut committer = Committer::new(args, head, labels, args.seed.wrapping_add(index as u64));
                scope.spawn(move || {
                    let mut samples = 0;
                    for scrape in 0..args.scrapes {
                        match committer.scrape(START + i64::from(scrape) * interval, scrape == 0) {
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
    labels: &'a [Labels],
    values: Values,
    batch: usize,
    samples: Vec<Sample>,
    random: u64,
}

impl<'a> Committer<'a> {
    fn new(args: &Args, head: &'a Head, labels: &'a [Labels], seed: u64) -> Self {
        let random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let samples = vec![Sample { series: SeriesRef(0), t: 0, v: 0.0, st: 0 }; labels.len()];
        Self { head, labels, values: args.values, batch: args.batch, samples, random }
    }

    /// Appends one sample of each series at `t`, and commits each batch; returns how many samples that were.
    fn scrape(&mut self, t: i64, first: bool) -> Result<u64> {
        for at in 0..self.samples.len() {
            let v = self.next_value(self.samples[at].v);
            self.samples[at].v = v;
            self.samples[at].t = t;
        }
        let mut appended = 0;
        for (samples, labels) in self.samples.chunks_mut(self.batch).zip(self.labels.chunks(self.batch)) {
            let mut appender = self.head.appender();
            if first {
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

    #[expect(clippy::cast_precision_loss, reason = "small integers")]
    fn next_value(&mut self, before: f64) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let random = self.random >> 33;
        match self.values {
            Values::Counter => before + (random % 1000) as f64,
            Values::Gauge => ((before * 1000.0).round() + (random % 2001) as f64 - 1000.0) / 1000.0,
            Values::Trivial => before + 1000.0,
        }
    }
}

/// Seven labels with about 130 bytes of text, as a cluster's metrics have them.
fn made_up(index: usize) -> Labels {
    let (pod, metric) = (index / 50, index % 50);
    Labels::from_pairs([
        ("__name__", format!("container_metric_{metric:02}_total")),
        ("job", "kubelet".to_owned()),
        ("instance", format!("10.{}.{}.{}:10250", pod >> 16 & 255, pod >> 8 & 255, pod & 255)),
        ("namespace", format!("namespace-{}", pod % 40)),
        ("pod", format!("deployment-{}-{:08x}", pod % 400, (pod as u64).wrapping_mul(0x9E37_79B9) & 0xFFFF_FFFF)),
        ("container", format!("container-{}", pod % 5)),
        ("id", format!("{:016x}", (index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15))),
    ])
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
