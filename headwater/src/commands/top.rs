//! `top DIR`: who fills the log: series, samples and bytes by metric, job or any label, and by segment over time.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::context::Context;
use crate::exit;
use crate::output::Out;
use crate::progress::Progress;
use crate::source::{self, LogPart};
use crate::survey::Survey;

/// Arguments of `top`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A data directory, or whatever `records` takes
    dir: PathBuf,
    /// Group by metric (the name), job, or any other label
    #[arg(long, default_value = "metric", value_name = "LABEL")]
    by: String,
    /// Show so many groups
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Order groups by this
    #[arg(long, value_enum, default_value_t = Order::Bytes)]
    sort: Order,
    /// Show the segments in time instead of groups
    #[arg(long)]
    segments: bool,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Order {
    Bytes,
    Samples,
    Series,
    /// Series that no longer get samples
    Gone,
}

#[derive(Debug, Clone, Default, Serialize)]
struct Group {
    value: String,
    series: u64,
    gone: u64,
    samples: u64,
    bytes: u64,
}

/// Counts and prints.
pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let survey = source::start_over_if_truncated(context, &args.dir, || {
        let parts = source::resolve(&context.fs, &args.dir)?;
        let bar = Progress::bytes(context, "top", parts.iter().map(LogPart::bytes).sum());
        let survey = Survey::take(&context.fs, &parts, !args.segments, |bytes| bar.add(bytes))?;
        bar.finish();
        Ok(survey)
    })?;
    let mut out = Out::new();
    if args.segments {
        segments(&survey, args, context, &mut out)?;
    } else {
        groups(&survey, args, &mut out)?;
    }
    out.finish()?;
    for fault in &survey.faults {
        context.warn(format_args!("{}:{}: {}", fault.file, fault.offset, fault.error));
    }
    Ok(exit::findings_if(!survey.faults.is_empty()))
}

fn groups(survey: &Survey, args: &Args, out: &mut Out) -> Result<()> {
    let label = if args.by == "metric" { "__name__" } else { &args.by };
    let newest = survey.newest();
    let mut groups: HashMap<&[u8], Group> = HashMap::new();
    for series in survey.series.values() {
        let value = series.labels.as_ref().and_then(|labels| labels.get(label.as_bytes())).unwrap_or_default();
        let group = groups.entry(value).or_default();
        group.series += 1;
        group.gone += u64::from(!series.is_live(newest));
        group.samples += series.samples;
        group.bytes += series.bytes;
    }
    let all = groups.values().map(|group| group.bytes).sum::<u64>().max(1);
    let mut groups: Vec<Group> = groups
        .into_iter()
        .map(|(value, group)| Group { value: String::from_utf8_lossy(value).into_owned(), ..group })
        .collect();
    groups.sort_by(|a, b| {
        let key = |group: &Group| match args.sort {
            Order::Bytes => group.bytes,
            Order::Samples => group.samples,
            Order::Series => group.series,
            Order::Gone => group.gone,
        };
        key(b).cmp(&key(a)).then_with(|| a.value.cmp(&b.value))
    });
    let (shown, left) = (groups.len().min(args.limit), groups.len().saturating_sub(args.limit));
    if args.json {
        return groups[..shown].iter().try_for_each(|group| out.json_line(group));
    }
    let mut table = table(&[label, "series", "gone", "samples", "bytes", "share"]);
    for group in &groups[..shown] {
        let share = format!("{:.1} %", 100.0 * ratio(group.bytes, all));
        let value = if group.value.is_empty() { "(none)".into() } else { group.value.escape_debug().to_string() };
        let figures = [group.series, group.gone, group.samples, group.bytes].map(|figure| figure.to_string());
        let [series, gone, samples, bytes] = figures;
        table.add_row([value, series, gone, samples, bytes, share]);
    }
    writeln!(out, "{table}")?;
    if left > 0 {
        writeln!(out, "and {left} more (--limit)")?;
    }
    Ok(())
}

fn segments(survey: &Survey, args: &Args, context: &Context, out: &mut Out) -> Result<()> {
    if args.json {
        return survey.segments.iter().try_for_each(|segment| out.json_line(segment));
    }
    let mut table = table(&["segment", "bytes", "records", "series", "samples", "from", "to"]);
    for segment in &survey.segments {
        let time = |t: Option<i64>| t.map(|t| context.stamp(t).to_string()).unwrap_or_default();
        table.add_row([
            segment.file.clone(),
            segment.bytes.to_string(),
            segment.records.to_string(),
            segment.series.to_string(),
            segment.samples.to_string(),
            time(segment.time.map(|time| time.min)),
            time(segment.time.map(|time| time.max)),
        ]);
    }
    writeln!(out, "{table}")?;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a share for people")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

/// A table without lines; every column but the first is right-aligned.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
