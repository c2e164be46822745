//! `records PATH`: the log's records in order, as text or JSON.
//!
//! Stops at damage with a last line that says where, or, with `--salvage`, says so and goes on behind it.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;
use wal_format::snapshot::SnapshotRecord;
use wal_format::{DecodeError, Kind, Record, RecordEntries};
use wal_segment::layout;

use crate::context::Context;
use crate::exit;
use crate::output::Out;
use crate::progress::Progress;
use crate::selector::{RefFilter, Selector};
use crate::source::{self, LogPart, Role, Step};
use crate::times::parse_time;

/// Arguments of `records`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A data directory, wal/, wbl/, a checkpoint, a chunk_snapshot directory or one segment
    path: PathBuf,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    filter: Filter,
    /// Report damage and go on behind it
    #[arg(long)]
    salvage: bool,
}

/// Which records and entries are wanted.
#[derive(Debug, clap::Args)]
pub(crate) struct Filter {
    /// Only records of this kind (repeatable): series, samples, histograms, float_histograms, tombstones, exemplars,
    /// metadata, mmap_markers, unknown; in a snapshot snapshot_series, snapshot_tombstones, snapshot_exemplars
    #[arg(long, value_parser = parse_kind, value_name = "KIND")]
    kind: Vec<WantedKind>,
    /// Only entries of this series ref (repeatable)
    #[arg(long, value_name = "REF")]
    r#ref: Vec<u64>,
    /// Only entries of series that match, e.g. 'up{job="api"}' (repeatable: any of them); their labels are learned from
    /// the series records that come before
    #[arg(long = "match", value_name = "SELECTOR")]
    matches: Vec<Selector>,
    /// Only entries at or after this time; entries without a time stay, a snapshot's series by the range of its chunk
    #[arg(long, value_parser = parse_time, allow_hyphen_values = true, value_name = "TIME")]
    since: Option<i64>,
    /// Only entries at or before this time
    #[arg(long, value_parser = parse_time, allow_hyphen_values = true, value_name = "TIME")]
    until: Option<i64>,
}

impl Filter {
    fn times(&self) -> Times {
        Times { since: self.since.unwrap_or(i64::MIN), until: self.until.unwrap_or(i64::MAX) }
    }
}

/// Which entries are wanted by their time.
#[derive(Debug, Clone, Copy)]
struct Times {
    since: i64,
    until: i64,
}

impl Times {
    fn is_everything(self) -> bool {
        self.since == i64::MIN && self.until == i64::MAX
    }

    /// Whether a range touches what is wanted; what has no time is.
    fn wants(self, range: Option<(i64, i64)>) -> bool {
        range.is_none_or(|(first, last)| last >= self.since && first <= self.until)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct WantedKind(&'static str);

fn parse_kind(text: &str) -> Result<WantedKind> {
    let mut names = Kind::ALL.map(Kind::name).into_iter().chain(SnapshotRecord::NAMES).chain(["unknown"]);
    match names.clone().find(|name| *name == text) {
        Some(name) => Ok(WantedKind(name)),
        None => anyhow::bail!("no such kind: expected one of {}", names.by_ref().collect::<Vec<_>>().join(", ")),
    }
}

/// Prints the records of `args.path`.
pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let mut printer = Printer::new(args.json, &args.filter);
    let damaged = source::start_over_if_truncated(context, &args.path, || print_all(args, context, &mut printer))?;
    printer.finish()?;
    Ok(exit::findings_if(damaged))
}

/// Prints what is there now; true if there was damage.
fn print_all(args: &Args, context: &Context, printer: &mut Printer<'_>) -> Result<bool> {
    let parts = source::resolve(&context.fs, &args.path)?;
    let progress = Progress::bytes(context, "records", parts.iter().map(LogPart::bytes).sum());
    let mut damaged = false;
    'parts: for part in &parts {
        let mut last = (0, 0);
        let walked = source::walk(&context.fs, part, |step| {
            let fault = match step {
                Step::Record(record) => {
                    let position = record.position;
                    // Positions only grow within a segment.
                    let from = if last.0 == position.segment { last.1 } else { 0 };
                    progress.add(record.end.saturating_sub(from));
                    last = (position.segment, record.end);
                    let file = format!("{}{}", part.prefix, layout::segment_name(position.segment));
                    let printed = match part.role {
                        Role::Snapshot => printer.snapshot_record(&file, position.offset, record.bytes)?,
                        _ => printer.record(&file, position.offset, record.bytes)?,
                    };
                    match printed {
                        Ok(()) => return Ok(ControlFlow::Continue(())),
                        Err(error) => printer.fault(&file, position.offset, &error.to_string()),
                    }
                }
                Step::Fault(fault) => {
                    let file = format!("{}{}", part.prefix, layout::segment_name(fault.segment));
                    printer.fault(&file, fault.offset, &fault.error)
                }
            };
            fault?;
            damaged = true;
            Ok(if args.salvage { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        if walked.is_break() {
            break 'parts;
        }
    }
    progress.finish();
    Ok(damaged)
}

/// Prints records that pass the filter.
pub(crate) struct Printer<'a> {
    out: Out,
    json: bool,
    filter: &'a Filter,
    refs: RefFilter,
}

#[derive(Serialize)]
struct Located<'a, R> {
    file: &'a str,
    offset: u64,
    #[serde(flatten)]
    record: &'a R,
}

#[derive(Serialize)]
struct Faulty<'a> {
    error: &'a str,
    file: &'a str,
    offset: u64,
}

impl<'a> Printer<'a> {
    /// Prints on standard output.
    pub(crate) fn new(json: bool, filter: &'a Filter) -> Self {
        let refs = RefFilter::new(&filter.r#ref, &filter.matches);
        Self { out: Out::new(), json, filter, refs }
    }

    /// Prints the record, if it is wanted. The inner error is the record's own: it does not decode.
    pub(crate) fn record(
        &mut self,
        file: &str,
        offset: u64,
        bytes: &[u8],
    ) -> Result<std::result::Result<(), DecodeError>> {
        let kind = Kind::of_record(bytes);
        let wanted = self.wants_kind(kind.map_or("unknown", Kind::name));
        if !wanted && (self.filter.matches.is_empty() || kind != Some(Kind::Series)) {
            return Ok(Ok(()));
        }
        let mut record = match Record::decode(bytes) {
            Ok(record) => record,
            Err(error) => return Ok(Err(error)),
        };
        if let RecordEntries::Series(series) = &record.entries {
            series.iter().for_each(|entry| self.refs.learn(entry.series, entry.labels.iter()));
        }
        if wanted && self.keep(&mut record) {
            self.print(file, offset, &record)?;
        }
        Ok(Ok(()))
    }

    /// Prints a snapshot's record, if it is wanted.
    pub(crate) fn snapshot_record(
        &mut self,
        file: &str,
        offset: u64,
        bytes: &[u8],
    ) -> Result<std::result::Result<(), DecodeError>> {
        let mut record = match SnapshotRecord::decode(bytes) {
            Ok(record) => record,
            Err(error) => return Ok(Err(error)),
        };
        if let SnapshotRecord::Series(entry) = &record {
            self.refs.learn(entry.series, entry.labels.iter());
        }
        let (refs, times) = (&self.refs, self.filter.times());
        let everything = refs.is_everything() && times.is_everything();
        if self.wants_kind(record.name())
            && (everything || record.retain(|series, range| refs.wants(series) && times.wants(range)))
        {
            self.print(file, offset, &record)?;
        }
        Ok(Ok(()))
    }

    fn wants_kind(&self, name: &'static str) -> bool {
        let kinds = &self.filter.kind;
        kinds.is_empty() || kinds.contains(&WantedKind(name))
    }

    /// Drops the entries that are not wanted; false if nothing is left that the user asked for.
    fn keep(&self, record: &mut Record<'_>) -> bool {
        let times = self.filter.times();
        if self.refs.is_everything() && times.is_everything() {
            return true;
        }
        record.retain(|series, range| self.refs.wants(series) && times.wants(range));
        !record.is_empty()
    }

    fn print<R: Serialize + std::fmt::Display>(&mut self, file: &str, offset: u64, record: &R) -> Result<()> {
        if self.json {
            return self.out.json_line(&Located { file, offset, record });
        }
        write!(self.out, "{file}:{offset} {record}")?;
        Ok(())
    }

    /// Prints that nothing can be read at a place.
    pub(crate) fn fault(&mut self, file: &str, offset: u64, error: &str) -> Result<()> {
        if self.json {
            return self.out.json_line(&Faulty { error, file, offset });
        }
        writeln!(self.out, "{file}:{offset} error: {error}")?;
        Ok(())
    }

    /// Shows what was printed so far.
    pub(crate) fn flush(&mut self) -> Result<()> {
        Ok(self.out.flush()?)
    }

    /// Writes out what is buffered.
    pub(crate) fn finish(self) -> Result<()> {
        Ok(self.out.finish()?)
    }
}
