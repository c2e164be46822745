//! `checkpoint DIR`: truncates, offline, a log that has grown too large to start from.
//!
//! The whole log becomes one checkpoint, of what is not older than `--keep` before its newest sample: the series that
//! have such a sample (or exemplar, or tombstone) with their metadata. What is older and in no block is gone afterwards,
//! which is what the command is for; `--dry-run` says beforehand how much that is.

use std::collections::HashMap;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;
use tsdb_head::data_dir;
use tsdb_model::SeriesRef;
use tsdb_vfs::Fs;
use wal_checkpoint::{Count, DamagePolicy, Error, Options, Removed, Source, Stats, checkpoint, clean_up, retire};
use wal_format::{
    DecodeError, ExemplarBatch, FloatHistogramBatch, HistogramBatch, MetadataBatch, MmapMarkerBatch, RecordSink,
    SampleBatch, SeriesBatch, TombstoneBatch,
};
use wal_segment::{Compression, Item, SalvageReader, layout};

use crate::context::Context;
use crate::exit;
use crate::interrupt::Interrupt;
use crate::output::Out;
use crate::progress::Progress;
use crate::source;
use crate::times;

/// Arguments of `checkpoint`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The data directory
    dir: PathBuf,
    /// Keep what is younger than this before the newest sample, e.g. 2h
    #[arg(long, default_value = "2h", value_parser = times::parse_duration)]
    keep: Duration,
    /// Drop what is older than this time instead, e.g. 2026-11-21T00:00:00Z, milliseconds since the epoch, or -2h
    #[arg(long, value_parser = times::parse_time, allow_hyphen_values = true, conflicts_with = "keep")]
    before: Option<i64>,
    /// Say what it would do, change nothing
    #[arg(long)]
    dry_run: bool,
    /// Read over damage; the damaged files are moved to `quarantine/`
    #[arg(long)]
    salvage: bool,
    /// none, snappy or zstd; what the log mostly uses when absent
    #[arg(long)]
    wal_compression: Option<Compression>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Truncates the log.
pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    source::require_data_dir(&context.fs, &args.dir)?;
    let fs = &context.fs;
    let wal = args.dir.join("wal");
    if !fs.dir_exists(&wal)? {
        bail!("{}: no such directory", wal.display());
    }
    // Looking needs no lock, and works while somebody has it.
    let lock = if args.dry_run { None } else { Some(data_dir::lock(fs, &args.dir)?) };
    let interrupt = Interrupt::install()?;
    if !args.dry_run {
        match clean_up(fs, &wal) {
            // What the last checkpoint stands for stays then until there is a new one, and goes to quarantine.
            Err(error) if args.salvage && !matches!(error, Error::Io { .. }) => context.warn(error),
            done => drop(done?),
        }
    }
    let Some(range) = Range::find(fs, &wal)? else {
        context.say("nothing to do: the log holds no segment that a checkpoint does not stand for");
        return Ok(exit::fine());
    };
    let Some(survey) = Survey::make(args, context, &wal, &interrupt)? else {
        bail!("interrupted, nothing changed");
    };
    let mint = args
        .before
        .unwrap_or_else(|| survey.newest.saturating_sub(i64::try_from(args.keep.as_millis()).unwrap_or(i64::MAX)));
    if !args.dry_run {
        range.end_the_newest(fs, &wal)?;
    }
    let stats = truncate(args, context, &wal, &range, &survey, mint, &interrupt)?;
    let removed = retire(fs, &wal, &stats)?;
    drop(lock);
    report(args, context, &survey, mint, &stats, &removed)?;
    for damage in &stats.damage {
        context.warn(damage);
    }
    Ok(exit::findings_if(!stats.damage.is_empty()))
}

fn truncate(
    args: &Args,
    context: &Context,
    wal: &Path,
    range: &Range,
    survey: &Survey,
    mint: i64,
    interrupt: &Interrupt,
) -> Result<Stats> {
    let (bar, interrupt, shown) =
        (Progress::bytes(context, "checkpoint", survey.bytes), interrupt.clone(), AtomicU64::new(0));
    let progress = move |progress: wal_checkpoint::Progress| {
        bar.add(progress.done_bytes - shown.swap(progress.done_bytes, Ordering::Relaxed));
        if interrupt.requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let options = Options {
        compression: args.wal_compression.unwrap_or(survey.compression),
        damage: if args.salvage { DamagePolicy::Salvage } else { DamagePolicy::Strict },
        dry_run: args.dry_run,
        progress: Some(Arc::new(progress)),
        ..Options::default()
    };
    let keep = |series: SeriesRef| survey.keeps(series, mint);
    Ok(checkpoint(&Source::segments(&context.fs, wal), range.from, range.to, keep, mint, &options)?)
}

/// The segments that the checkpoint will stand for.
struct Range {
    from: u64,
    to: u64,
    /// Whether `to` is the newest segment: another one has to follow it, or the log would start over at number 0.
    to_is_newest: bool,
}

impl Range {
    fn find(fs: &Fs, wal: &Path) -> Result<Option<Self>> {
        let segments = layout::segments(fs, wal)?;
        let behind = layout::last_checkpoint(fs, wal)?.map_or(0, |checkpoint| checkpoint.index + 1);
        let mut live = segments.iter().filter(|segment| segment.index >= behind).peekable();
        let (Some(first), Some(last)) = (live.peek().map(|s| s.index), live.last()) else { return Ok(None) };
        let to_is_newest = last.len > 0;
        let to = if to_is_newest { Some(last.index) } else { last.index.checked_sub(1) };
        Ok(to.filter(|to| *to >= first).map(|to| Self { from: first, to, to_is_newest }))
    }

    /// Starts an empty segment, as every writer does that opens a log.
    fn end_the_newest(&self, fs: &Fs, wal: &Path) -> Result<()> {
        if self.to_is_newest {
            drop(fs.create_new(&wal.join(layout::segment_name(self.to + 1)))?);
            fs.sync_dir(wal)?;
        }
        Ok(())
    }
}

/// What is in the log: the newest time, and until when each series is needed.
struct Survey {
    last: HashMap<SeriesRef, i64>,
    highest: SeriesRef,
    newest: i64,
    bytes: u64,
    compression: Compression,
}

impl Survey {
    /// Reads the whole log once; `None` when interrupted.
    fn make(args: &Args, context: &Context, wal: &Path, interrupt: &Interrupt) -> Result<Option<Self>> {
        let (old, live) = layout::replay_segments(&context.fs, wal)?;
        let bytes = old.iter().chain(&live).map(|segment| segment.len).sum();
        let bar = Progress::bytes(context, "survey", bytes);
        let mut sink = Latest::default();
        let mut stored = [0_u64; 3];
        for segment in old.into_iter().chain(live) {
            let len = segment.len;
            let mut reader = SalvageReader::over(context.fs.clone(), vec![segment]);
            while let Some(item) = reader.next()? {
                match item {
                    Item::Record(record) => {
                        stored[record.compression as usize] += 1;
                        // What can't be decoded is for the run itself to report.
                        if wal_format::dispatch(record.bytes, &mut sink).is_err() && !args.salvage {
                            tracing::debug!(position = %record.position, "a record that can't be decoded");
                        }
                    }
                    Item::Damage(_) | Item::Gap { .. } => {}
                }
            }
            bar.add(len);
            if interrupt.requested() {
                return Ok(None);
            }
        }
        let compression = [Compression::Snappy, Compression::Zstd]
            .into_iter()
            .filter(|c| stored[*c as usize] > 0)
            .max_by_key(|c| stored[*c as usize])
            .unwrap_or(Compression::None);
        let Latest { last, highest, newest } = sink;
        Ok(Some(Self { last, highest, newest, bytes, compression }))
    }

    /// The highest ref stays, whatever its age: a new series must not get it as long as chunk files may speak of it.
    fn keeps(&self, series: SeriesRef, mint: i64) -> bool {
        series == self.highest || self.last.get(&series).is_some_and(|last| *last >= mint)
    }
}

/// The last time that anything in the log says of each series.
struct Latest {
    last: HashMap<SeriesRef, i64>,
    highest: SeriesRef,
    /// Of the samples.
    newest: i64,
}

impl Default for Latest {
    fn default() -> Self {
        Self { last: HashMap::new(), highest: SeriesRef(0), newest: i64::MIN }
    }
}

impl Latest {
    fn saw(&mut self, series: SeriesRef, t: i64) {
        let last = self.last.entry(series).or_insert(t);
        *last = (*last).max(t);
    }

    fn saw_sample(&mut self, series: SeriesRef, t: i64) {
        self.newest = self.newest.max(t);
        self.saw(series, t);
    }
}

impl RecordSink for Latest {
    type Error = DecodeError;

    fn series(&mut self, batch: SeriesBatch<'_>) -> Result<(), DecodeError> {
        for series in batch.iter() {
            self.highest = self.highest.max(series?.series);
        }
        Ok(())
    }

    fn samples(&mut self, batch: SampleBatch<'_>) -> Result<(), DecodeError> {
        batch.for_each(|sample| self.saw_sample(sample.series, sample.t))
    }

    fn histograms(&mut self, batch: HistogramBatch<'_>) -> Result<(), DecodeError> {
        for histogram in batch.iter() {
            let histogram = histogram?;
            self.saw_sample(histogram.series, histogram.t);
        }
        Ok(())
    }

    fn float_histograms(&mut self, batch: FloatHistogramBatch<'_>) -> Result<(), DecodeError> {
        for histogram in batch.iter() {
            let histogram = histogram?;
            self.saw_sample(histogram.series, histogram.t);
        }
        Ok(())
    }

    fn tombstones(&mut self, batch: TombstoneBatch<'_>) -> Result<(), DecodeError> {
        for row in batch.iter() {
            let row = row?;
            // The end of a series keeps nothing alive; a deleted range has to stay with the samples that it hides, also
            // when they came under another ref of the same labels.
            if !row.drops_series() {
                self.saw(row.series, row.maxt);
            }
        }
        Ok(())
    }

    fn exemplars(&mut self, batch: ExemplarBatch<'_>) -> Result<(), DecodeError> {
        for exemplar in batch.iter() {
            let exemplar = exemplar?;
            self.saw(exemplar.series, exemplar.t);
        }
        Ok(())
    }

    fn metadata(&mut self, _: MetadataBatch<'_>) -> Result<(), DecodeError> {
        Ok(())
    }

    fn mmap_markers(&mut self, _: MmapMarkerBatch<'_>) -> Result<(), DecodeError> {
        Ok(())
    }

    fn unknown(&mut self, _: Option<u8>, _: &[u8]) -> Result<(), DecodeError> {
        Ok(())
    }
}

/// What came of it, as JSON.
#[derive(Debug, Serialize)]
struct Outcome<'a> {
    dry_run: bool,
    checkpoint: u64,
    mint: i64,
    newest: i64,
    series: Kept,
    samples: Kept,
    histograms: Kept,
    float_histograms: Kept,
    tombstones: Kept,
    exemplars: Kept,
    metadata: Kept,
    in_bytes: u64,
    out_bytes: u64,
    segments_removed: u64,
    damage: Vec<String>,
    quarantined: &'a [PathBuf],
}

#[derive(Debug, Serialize)]
struct Kept {
    kept: u64,
    dropped: u64,
}

impl From<Count> for Kept {
    fn from(count: Count) -> Self {
        Self { kept: count.kept(), dropped: count.dropped }
    }
}

fn report(args: &Args, context: &Context, survey: &Survey, mint: i64, stats: &Stats, removed: &Removed) -> Result<()> {
    let counts = &stats.counts;
    let mut out = Out::new();
    if args.json {
        out.json_line(&Outcome {
            dry_run: args.dry_run,
            checkpoint: stats.to,
            mint,
            newest: survey.newest,
            series: counts.series.into(),
            samples: counts.samples.into(),
            histograms: counts.histograms.into(),
            float_histograms: counts.float_histograms.into(),
            tombstones: counts.tombstones.into(),
            exemplars: counts.exemplars.into(),
            metadata: counts.metadata.into(),
            in_bytes: stats.in_bytes,
            out_bytes: stats.out_bytes,
            segments_removed: removed.segments,
            damage: stats.damage.iter().map(ToString::to_string).collect(),
            quarantined: &removed.quarantined,
        })?;
        out.finish()?;
        return Ok(());
    }
    let would = if args.dry_run { "would keep" } else { "kept" };
    writeln!(out, "newest sample {}, {would} from {} on", context.stamp(survey.newest), context.stamp(mint))?;
    for (name, count) in [
        ("series records", counts.series),
        ("samples", counts.samples),
        ("histograms", counts.histograms),
        ("float histograms", counts.float_histograms),
        ("tombstones", counts.tombstones),
        ("exemplars", counts.exemplars),
        ("metadata", counts.metadata),
    ] {
        if count.total > 0 {
            writeln!(out, "  {name}: {} of {}, {} dropped", count.kept(), count.total, count.dropped)?;
        }
    }
    writeln!(out, "{} bytes of log, {} in checkpoint {}", stats.in_bytes, stats.out_bytes, stats.to)?;
    for path in &removed.quarantined {
        writeln!(out, "damaged, kept in {}", path.display())?;
    }
    out.finish()?;
    Ok(())
}
