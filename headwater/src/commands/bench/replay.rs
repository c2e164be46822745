//! `bench replay DIR`: a read-only replay, timed. DIR stays as it was.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use serde::Serialize;
use tsdb_head::{Head, HeadOptions};
use tsdb_vfs::Fs;

use super::overlay::WithoutChunks;
use super::usage::{Stopwatch, peak_rss};
use crate::commands::replay::warn_of_damage;
use crate::context::Context;
use crate::exit;
use crate::output::Out;
use crate::source;

/// Arguments of `bench replay`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The data directory
    dir: PathBuf,
    /// As if there were no chunk files: everything comes from the log
    #[arg(long)]
    log_only: bool,
    /// Threads; 0 is one for each processor
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Outcome {
    series: usize,
    samples_read: u64,
    samples_applied: u64,
    seconds: f64,
    cpu_seconds: f64,
    chunk_files_seconds: f64,
    checkpoint_seconds: f64,
    segments_seconds: f64,
    peak_rss: u64,
    live_bytes_per_series: f64,
}

/// Replays and prints what it took.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    source::require_data_dir(&context.fs, &args.dir)?;
    let fs: Fs = if args.log_only { Arc::new(WithoutChunks(context.fs.clone())) } else { context.fs.clone() };
    let options = HeadOptions { replay_threads: args.threads, ..HeadOptions::default() };
    let watch = Stopwatch::start();
    let (head, report) = Head::open_read_only(fs, &args.dir, options)?;
    let (seconds, cpu_seconds) = (watch.seconds(), watch.cpu_seconds());
    let series = head.series_count();
    let outcome = Outcome {
        series,
        samples_read: report.counts.all_samples(),
        samples_applied: report.counts.applied,
        seconds,
        cpu_seconds,
        chunk_files_seconds: report.chunk_files_time.as_secs_f64(),
        checkpoint_seconds: report.checkpoint_time.as_secs_f64(),
        segments_seconds: report.segments_time.as_secs_f64(),
        peak_rss: peak_rss(&context.fs),
        live_bytes_per_series: head.stats().bytes() as f64 / series.max(1) as f64,
    };
    let damaged = warn_of_damage(context, &report);
    let mut out = Out::new();
    if args.json {
        out.json_line(&outcome)?;
    } else {
        let rate = outcome.samples_read as f64 / seconds / 1e6;
        writeln!(
            out,
            "{series} series, {} samples in the log, {} applied",
            outcome.samples_read, outcome.samples_applied
        )?;
        writeln!(
            out,
            "{seconds:.3} s ({rate:.1} M samples/s), {cpu_seconds:.3} s of processor: chunk files {:.3} s, checkpoint {:.3} s, segments {:.3} s",
            outcome.chunk_files_seconds, outcome.checkpoint_seconds, outcome.segments_seconds
        )?;
        writeln!(
            out,
            "peak memory {:.1} MB, {:.0} bytes live per series",
            outcome.peak_rss as f64 / 1e6,
            outcome.live_bytes_per_series
        )?;
    }
    out.finish()?;
    Ok(exit::findings_if(damaged))
}
