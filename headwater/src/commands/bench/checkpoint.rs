//! `bench checkpoint WALDIR --out D`: a checkpoint of all segments but the last, timed. WALDIR stays as it was.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde::Serialize;
use tsdb_model::SeriesRef;
use wal_checkpoint::{Options, Source, checkpoint};
use wal_segment::{Compression, layout};

use super::usage::{Stopwatch, peak_rss};
use crate::context::Context;
use crate::exit;
use crate::output::Out;

/// Arguments of `bench checkpoint`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The log's directory: segments, and perhaps a checkpoint
    wal: PathBuf,
    /// Where the checkpoint goes; created if need be
    #[arg(long)]
    out: PathBuf,
    /// Keep series with even refs only; all when absent
    #[arg(long)]
    keep_even_refs: bool,
    /// Drop samples before this time, ms since the epoch
    #[arg(long, allow_hyphen_values = true)]
    mint: i64,
    /// none, snappy or zstd
    #[arg(long, default_value = "none")]
    wal_compression: Compression,
    /// Threads; 0 is one for each processor
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Outcome {
    samples_total: u64,
    samples_dropped: u64,
    series_dropped: u64,
    seconds: f64,
    cpu_seconds: f64,
    in_bytes: u64,
    out_bytes: u64,
    peak_rss: u64,
}

/// Makes the checkpoint and prints what it took.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let fs = &context.fs;
    let segments = layout::segments(fs, &args.wal)?;
    let first = segments.first().with_context(|| format!("{}: no segments", args.wal.display()))?.index;
    let last = segments.last().map_or(first, |segment| segment.index);
    let to = last.checked_sub(1).filter(|to| *to >= first).context("a single segment, and the last is left alone")?;
    fs.create_dir_all(&args.out)?;
    let options = Options {
        compression: args.wal_compression,
        threads: args.threads,
        publish_in: Some(args.out.clone()),
        ..Options::default()
    };
    let keep = |series: SeriesRef| !args.keep_even_refs || series.0.is_multiple_of(2);
    let watch = Stopwatch::start();
    let stats = checkpoint(&Source::segments(fs, &args.wal), first, to, keep, args.mint, &options)?;
    let samples = stats.counts.all_samples();
    let outcome = Outcome {
        samples_total: samples.total,
        samples_dropped: samples.dropped,
        series_dropped: stats.counts.series.dropped,
        seconds: watch.seconds(),
        cpu_seconds: watch.cpu_seconds(),
        in_bytes: stats.in_bytes,
        out_bytes: stats.out_bytes,
        peak_rss: peak_rss(fs),
    };
    let mut out = Out::new();
    if args.json {
        out.json_line(&outcome)?;
    } else {
        let rate = outcome.samples_total as f64 / outcome.seconds / 1e6;
        let Outcome { samples_total, samples_dropped, seconds, cpu_seconds, in_bytes, out_bytes, .. } = outcome;
        writeln!(out, "{samples_total} samples read, {samples_dropped} dropped, {in_bytes} bytes in, {out_bytes} out")?;
        writeln!(out, "{seconds:.3} s, {cpu_seconds:.3} s of processor time, {rate:.1} M samples/s")?;
    }
    out.finish()?;
    Ok(exit::fine())
}
