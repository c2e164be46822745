//! `repair DIR`: says what it would do about damage; `--apply` does it.
//!
//! Damaged files are replaced by copies with everything sound in them; the originals go to a `quarantine` directory beside
//! them and nothing is ever deleted. After a crash it is simply run again. It ends with what is known to be lost.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;
use tsdb_head::data_dir;
use tsdb_model::SeriesRef;
use tsdb_vfs::Fs;
use wal_format::{Record, RecordEntries};
use wal_segment::repair::{self as log_repair, Action as LogAction};
use wal_segment::{FrameFault, layout};

use crate::chunk_repair::{self, Action as ChunkAction};
use crate::context::Context;
use crate::exit;
use crate::findings::{self, relative};
use crate::interrupt::Interrupt;
use crate::output::Out;
use crate::source::{self, Role, Step};

/// Arguments of `repair`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The data directory
    dir: PathBuf,
    /// Do it, instead of only saying what would be done
    #[arg(long)]
    apply: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What is lost, as far as anybody can know: what cannot be read cannot be counted.
#[derive(Debug, Default, Serialize)]
struct Loss {
    /// Bytes of segments and checkpoints that hold no sound record.
    log_bytes: u64,
    /// Records that the ledger knew; 0 also where there is no ledger.
    records_known: u64,
    /// Bytes of chunk files that hold no sound chunk. Their samples come from the log while it reaches back.
    chunk_bytes: u64,
    /// Samples that are there and whose series' labels are not, and of how many series.
    samples_without_labels: u64,
    series_without_labels: u64,
    /// Lost records of samples lie between these times (ms since the epoch).
    #[serde(skip_serializing_if = "Option::is_none")]
    between: Option<(i64, i64)>,
}

#[derive(Debug, Serialize)]
struct Outcome {
    applied: bool,
    steps: Vec<String>,
    quarantined: Vec<String>,
    loss: Loss,
}

/// Plans, and with `--apply` repairs.
pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let (fs, dir) = (&context.fs, &args.dir);
    source::require_data_dir(fs, dir)?;
    // The lock comes before anything is touched; a plan alone needs none and may be asked for beside a running server.
    let (_lock, _interrupt) = match args.apply {
        true => (Some(data_dir::lock(fs, dir)?), Some(Interrupt::install()?)),
        false => (None, None),
    };
    let logs = Logs::read(fs, dir)?;
    let log_begins = (!logs.damaged).then_some(logs.begins);
    let mut outcome = Outcome { applied: args.apply, steps: Vec::new(), quarantined: Vec::new(), loss: logs.loss };
    for log in ["wal", "wbl"].map(|name| dir.join(name)) {
        if fs.dir_exists(&log)? {
            repair_log(fs, dir, &log, args.apply, &mut outcome)?;
        }
    }
    repair_chunks(fs, dir, log_begins.as_ref(), args.apply, &mut outcome)?;
    print(&outcome, args.json)?;
    Ok(exit::findings_if(outcome.loss.is_any() || !args.apply && !outcome.steps.is_empty()))
}

fn repair_log(fs: &Fs, dir: &Path, log: &Path, apply: bool, outcome: &mut Outcome) -> Result<()> {
    let plan = log_repair::plan_judged(fs, log, &findings::undecodable)?;
    for action in &plan.actions {
        outcome.steps.push(describe(dir, log, action));
        if let LogAction::Rewrite { segment, damage, lost, .. } = action {
            for range in damage.iter().filter(|range| matches!(range.damage.fault, FrameFault::Unusable { .. })) {
                let (path, fault) = (relative(dir, &segment.path), &range.damage.fault);
                outcome.steps.push(format!("{path}:{}: leave a record to quarantine: {fault}", range.from));
            }
            outcome.loss.log_bytes += damage.iter().map(|range| range.to - range.from).sum::<u64>();
            outcome.loss.records_known += lost.unwrap_or(0);
        }
        if let LogAction::Accept { lost, .. } = action {
            outcome.loss.records_known += lost.unwrap_or(0);
        }
    }
    if apply {
        let report = log_repair::apply(fs, plan)?;
        outcome.quarantined.extend(report.quarantined.iter().map(|path| relative(dir, path)));
    }
    Ok(())
}

fn describe(dir: &Path, log: &Path, action: &LogAction) -> String {
    match action {
        LogAction::Rewrite { segment, damage, kept, .. } => {
            let bytes: u64 = damage.iter().map(|range| range.to - range.from).sum();
            let path = relative(dir, &segment.path);
            format!("{path}: keep {kept} sound records in a copy, leave out {bytes} bytes in {} places", damage.len())
        }
        LogAction::MoveAway { path } => format!("{}: move to quarantine", relative(dir, path)),
        LogAction::Fill { segment } => {
            format!("{}/{}: put an empty segment into the gap", relative(dir, log), layout::segment_name(*segment))
        }
        LogAction::RetireSnapshot { path } => {
            format!("{}: move to quarantine; its place in the log no longer holds", relative(dir, path))
        }
        LogAction::Accept { segment, kept, .. } => {
            format!("{}: note in the ledger that it has {kept} records", relative(dir, &segment.path))
        }
        other => format!("{other:?}"),
    }
}

fn repair_chunks(
    fs: &Fs,
    dir: &Path,
    log_begins: Option<&HashMap<SeriesRef, i64>>,
    apply: bool,
    outcome: &mut Outcome,
) -> Result<()> {
    let chunks = dir.join("chunks_head");
    loop {
        let actions = chunk_repair::plan(fs, &chunks, log_begins)?;
        for action in &actions {
            outcome.steps.push(match action {
                ChunkAction::Finish { copy } => format!("{}: put in its place", relative(dir, copy)),
                ChunkAction::Fill { number } => {
                    format!("chunks_head/{}: put a file without chunks into the gap", head_chunks::files::file_name(*number))
                }
                ChunkAction::Rewrite { path, kept, to_log, lost_bytes, .. } => {
                    outcome.loss.chunk_bytes += lost_bytes;
                    let (path, kept) = (relative(dir, path), kept.len());
                    format!(
                        "{path}: keep {kept} sound chunks in a copy, leave {to_log} whose samples the log has to the log, \
                         leave out {lost_bytes} bytes"
                    )
                }
            });
        }
        if !apply || actions.is_empty() {
            return Ok(());
        }
        let quarantined = chunk_repair::apply(fs, &chunks, &actions)?;
        outcome.quarantined.extend(quarantined.iter().map(|path| relative(dir, path)));
        if !actions.iter().any(|action| matches!(action, ChunkAction::Finish { .. })) {
            return Ok(());
        }
    }
}

/// The logs as they are: which times lie around damage, which samples have lost their labels, where each series begins.
#[derive(Debug, Default)]
struct Logs {
    loss: Loss,
    damaged: bool,
    begins: HashMap<SeriesRef, i64>,
    explained: HashSet<SeriesRef>,
    without: HashSet<SeriesRef>,
    /// The last sample's time, and whether the next one comes behind damage.
    last: Option<i64>,
    behind_damage: bool,
}

impl Logs {
    fn read(fs: &Fs, dir: &Path) -> Result<Self> {
        let mut logs = Self::default();
        for part in source::data_dir(fs, dir)? {
            (logs.last, logs.behind_damage) = (None, false);
            let walked = source::walk(fs, &part, |step| {
                match step {
                    Step::Fault(_) => logs.fault(),
                    Step::Record(record) => match Record::decode(record.bytes) {
                        Ok(record) => logs.record(&record.entries, part.role),
                        Err(_) => logs.damaged = true,
                    },
                }
                Ok(ControlFlow::Continue(()))
            })?;
            debug_assert!(walked.is_continue(), "nothing ends the walk");
        }
        logs.loss.series_without_labels = logs.without.len() as u64;
        Ok(logs)
    }

    fn fault(&mut self) {
        self.damaged = true;
        self.behind_damage = true;
        if let Some(last) = self.last {
            self.loss.widen(last);
        }
    }

    fn record(&mut self, entries: &RecordEntries<'_>, role: Role) {
        match entries {
            RecordEntries::Series(entries) => self.explained.extend(entries.iter().map(|entry| entry.series)),
            RecordEntries::Samples(entries) => {
                entries.iter().for_each(|entry| self.sample(entry.series, entry.t, role))
            }
            RecordEntries::Histograms(entries) => {
                entries.iter().for_each(|entry| self.sample(entry.series, entry.t, role))
            }
            RecordEntries::FloatHistograms(entries) => {
                entries.iter().for_each(|entry| self.sample(entry.series, entry.t, role));
            }
            _ => {}
        }
    }

    fn sample(&mut self, series: SeriesRef, t: i64, role: Role) {
        if std::mem::take(&mut self.behind_damage) {
            self.loss.widen(t);
        }
        self.last = Some(t);
        if role != Role::OutOfOrder {
            self.begins.entry(series).and_modify(|begins| *begins = t.min(*begins)).or_insert(t);
        }
        if !self.explained.contains(&series) {
            self.without.insert(series);
            self.loss.samples_without_labels += 1;
        }
    }
}

impl Loss {
    fn widen(&mut self, t: i64) {
        let (from, to) = self.between.unwrap_or((t, t));
        self.between = Some((from.min(t), to.max(t)));
    }

    fn is_any(&self) -> bool {
        self.log_bytes + self.records_known + self.chunk_bytes + self.samples_without_labels > 0
    }
}

fn print(outcome: &Outcome, json: bool) -> Result<()> {
    let mut out = Out::new();
    if json {
        out.json_line(outcome)?;
        return Ok(out.finish()?);
    }
    if outcome.steps.is_empty() {
        writeln!(out, "nothing to repair")?;
    }
    let mood = if outcome.applied { "" } else { "would: " };
    for step in &outcome.steps {
        writeln!(out, "{mood}{step}")?;
    }
    for path in &outcome.quarantined {
        writeln!(out, "original kept: {path}")?;
    }
    let loss = &outcome.loss;
    if loss.is_any() {
        writeln!(out, "lost: {} bytes of log, {} records that the ledger knew", loss.log_bytes, loss.records_known)?;
        if let Some((from, to)) = loss.between {
            writeln!(
                out,
                "lost: samples in it lie between {from} and {to} (ms since the epoch), going by their neighbours"
            )?;
        }
        if loss.chunk_bytes > 0 {
            writeln!(
                out,
                "lost: {} bytes of chunk files; the log has their samples while it reaches back",
                loss.chunk_bytes
            )?;
        }
        if loss.samples_without_labels > 0 {
            let (samples, series) = (loss.samples_without_labels, loss.series_without_labels);
            writeln!(out, "lost: the labels of {series} series with {samples} samples")?;
        }
    }
    Ok(out.finish()?)
}
