//! `records PATH`: the log's records in order, as text or JSON.
//!
//! Stops at damage with a last line that says where, or, with `--salvage`, says so and goes on behind it.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;
use wal_format::{Kind, Record, RecordEntries};
use wal_segment::layout;

use crate::context::Context;
use crate::exit;
use crate::output::Out;
use crate::progress::Progress;
use crate::selector::{RefFilter, Selector};
use crate::source::{self, LogPart, Step};
use crate::times::parse_time;

/// Arguments of `records`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A data directory, wal/, wbl/, a checkpoint or one segment
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
    /// metadata, mmap_markers, unknown
    #[arg(long, value_parser = parse_kind, value_name = "KIND")]
    kind: Vec<WantedKind>,
    /// Only entries of this series ref (repeatable)
    #[arg(long, value_name = "REF")]
    r#ref: Vec<u64>,
    /// Only entries of series that match, e.g. 'up{job="api"}' (repeatable: any of them); their labels are learned from
    /// the series records that come before
    #[arg(long = "match", value_name = "SELECTOR")]
    matches: Vec<Selector>,
    /// Only entries at or after this time; entries without a time stay
    #[arg(long, value_parser = parse_time, allow_hyphen_values = true, value_name = "TIME")]
    since: Option<i64>,
    /// Only entries at or before this time
    #[arg(long, value_parser = parse_time, allow_hyphen_values = true, value_name = "TIME")]
    until: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct WantedKind(Option<Kind>);

fn parse_kind(text: &str) -> Result<WantedKind> {
    match (text, Kind::from_name(text)) {
        (_, Some(kind)) => Ok(WantedKind(Some(kind))),
        ("unknown", None) => Ok(WantedKind(None)),
        _ => anyhow::bail!("no such kind: expected one of {}, unknown", Kind::ALL.map(Kind::name).join(", ")),
    }
}

/// Prints the records of `args.path`.
pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let parts = source::resolve(&context.fs, &args.path)?;
    let progress = Progress::bytes(context, "records", parts.iter().map(LogPart::bytes).sum());
    let mut printer = Printer::new(args.json, &args.filter);
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
                    match printer.record(&file, position.offset, record.bytes)? {
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
    printer.finish()?;
    Ok(exit::findings_if(damaged))
}

/// Prints records that pass the filter.
pub(crate) struct Printer<'a> {
    out: Out,
    json: bool,
    filter: &'a Filter,
    refs: RefFilter,
}

#[derive(Serialize)]
struct Located<'a> {
    file: &'a str,
    offset: u64,
    #[serde(flatten)]
    record: &'a Record<'a>,
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
    ) -> Result<std::result::Result<(), wal_format::DecodeError>> {
        let kind = Kind::of_record(bytes);
        let kinds = &self.filter.kind;
        let wanted = kinds.is_empty() || kinds.contains(&WantedKind(kind));
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

    /// Drops the entries that are not wanted; false if nothing is left that the user asked for.
    fn keep(&self, record: &mut Record<'_>) -> bool {
        let (since, until) = (self.filter.since.unwrap_or(i64::MIN), self.filter.until.unwrap_or(i64::MAX));
        let all_times = since == i64::MIN && until == i64::MAX;
        if self.refs.is_everything() && all_times {
            return true;
        }
        record.retain(|series, times| {
            self.refs.wants(series) && times.is_none_or(|(first, last)| last >= since && first <= until)
        });
        !record.is_empty()
    }

    fn print(&mut self, file: &str, offset: u64, record: &Record<'_>) -> Result<()> {
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
