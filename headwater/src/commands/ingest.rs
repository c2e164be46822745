//! `ingest DIR [FILE…]`: appends pages of Prometheus text or OpenMetrics to the head in DIR and commits durably.
//!
//! A commit is made every 5,000 lines and at the end of each file. A line that does not parse ends its file: what was
//! committed stays, what was not is given up, and the next file follows.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use exposition::{Entry, MetricType, Sample, looks_like_openmetrics, parse_openmetrics, parse_text};
use tsdb_head::{Appender, FloatEncoding, Head, HeadOptions};
use tsdb_model::{Labels, SeriesRef};
use wal_segment::{Compression, Durability};

use crate::commands::replay;
use crate::context::Context;
use crate::exit;
use crate::interrupt::Interrupt;
use crate::output::Out;
use crate::source;
use crate::times::{parse_duration, parse_time};

/// Lines between two commits.
const BATCH_LINES: usize = 5_000;

/// Arguments of `ingest`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The data directory; made if it is not there
    dir: PathBuf,
    /// Pages to read; none or - is standard input
    files: Vec<PathBuf>,
    /// Format of the pages; auto takes a page as OpenMetrics if its last line is `# EOF`
    #[arg(long, value_enum, default_value_t = Format::Auto)]
    format: Format,
    /// Time of samples that carry none: milliseconds, RFC 3339, now, or -2h
    #[arg(long, default_value = "now", value_parser = parse_time, allow_hyphen_values = true, value_name = "TIME")]
    at: i64,
    /// The files are scrapes so far apart: each one's samples without a time are so much later than the last one's
    #[arg(long, default_value = "0s", value_parser = parse_duration, value_name = "DURATION")]
    every: Duration,
    /// A label for every series, as a scrape adds job and instance (repeatable); a label of that name on the page becomes
    /// exported_NAME
    #[arg(long, value_parser = parse_label, value_name = "NAME=VALUE")]
    label: Vec<(String, String)>,
    /// When a commit is on disk: always (before the next line is read), interval=DURATION, or rotate (when a segment is
    /// full, as in Prometheus)
    #[arg(long, default_value = "always", value_parser = parse_durability)]
    durability: Durability,
    /// Compression of the log: none, snappy, zstd
    #[arg(long, default_value = "snappy", value_parser = parse_compression)]
    wal_compression: Compression,
    /// What becomes of the `_created` lines of an OpenMetrics page
    #[arg(long, value_enum, default_value_t = Starts::Series)]
    start_timestamps: Starts,
    /// Accept samples so much older than the newest; only 0s is supported yet
    #[arg(long, default_value = "0s", value_parser = parse_duration, value_name = "DURATION")]
    out_of_order_window: Duration,
    /// Print the outcome as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Auto,
    Text,
    Openmetrics,
}

/// What `_created` lines are taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Starts {
    /// Series of their own, as in Prometheus by default
    Series,
    /// A zero sample at that time, as with created-timestamp-zero-ingestion
    Zero,
    /// Kept with each sample, as with st-storage; new chunks are XOR2
    Store,
}

fn parse_label(text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => bail!("expected NAME=VALUE, found `{text}`"),
    }
}

pub(crate) fn parse_compression(text: &str) -> Result<Compression> {
    text.parse().map_err(|_| anyhow::anyhow!("expected none, snappy or zstd, found `{text}`"))
}

pub(crate) fn parse_durability(text: &str) -> Result<Durability> {
    match (text, text.strip_prefix("interval=")) {
        ("always", _) => Ok(Durability::Always),
        ("rotate", _) => Ok(Durability::Rotate),
        (_, Some(interval)) => Ok(Durability::Interval(parse_duration(interval)?)),
        _ => bail!("expected always, interval=1s or rotate, found `{text}`"),
    }
}

/// Ingests the files in order.
pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    if !args.out_of_order_window.is_zero() {
        bail!("--out-of-order-window: out-of-order samples are not supported yet, only 0s is");
    }
    check_target(args, context)?;
    let interrupt = Interrupt::install()?;
    let mut options = HeadOptions::default();
    options.log.compression = args.wal_compression;
    options.log.durability = args.durability;
    if args.start_timestamps == Starts::Store {
        options.start_timestamps = true;
        options.histogram_start_timestamps = true;
        options.float_encoding = FloatEncoding::Xor2;
    }
    let (head, report) = Head::open(context.fs.clone(), &args.dir, options)?;
    let damaged = replay::warn_of_damage(context, &report);

    let mut ingest = Ingest::new(&head, &args.label, args.start_timestamps);
    let stdin = [PathBuf::from("-")];
    let files = if args.files.is_empty() { &stdin[..] } else { &args.files };
    for (index, file) in files.iter().enumerate() {
        let late = args.every.saturating_mul(u32::try_from(index)?).as_millis();
        let at = args.at.saturating_add(i64::try_from(late).unwrap_or(i64::MAX));
        ingest.file(file, args.format, at, context, &interrupt)?;
        if interrupt.requested() {
            break;
        }
    }
    let outcome = ingest.outcome;
    head.close()?;
    outcome.print(args.json)?;
    if interrupt.requested() {
        context.warn("interrupted: what was committed stays, the rest was not read");
    }
    Ok(exit::findings_if(damaged || outcome.has_findings() || interrupt.requested()))
}

/// A directory that holds something else is a mistake; a fresh or empty one is not.
fn check_target(args: &Args, context: &Context) -> Result<()> {
    let dir = &args.dir;
    if !context.fs.dir_exists(dir)? {
        if context.fs.exists(dir)? {
            bail!("{}: not a directory", dir.display());
        }
        return Ok(());
    }
    let entries = context.fs.list(dir).with_context(|| dir.display().to_string())?;
    // A lock file alone is what a head that was never written to leaves.
    if entries.iter().any(|entry| entry.name != "lock") {
        source::require_data_dir(&context.fs, dir)?;
    }
    Ok(())
}

/// The series a text on a page stood for.
#[derive(Debug)]
struct Known {
    series: SeriesRef,
    labels: Labels,
}

struct Ingest<'a> {
    head: &'a Head,
    target: &'a [(String, String)],
    starts: Starts,
    /// By the series' text, apart for each type: it decides how bounds are written.
    known: HashMap<(MetricType, Vec<u8>), Known>,
    outcome: Outcome,
}

/// What became of the samples.
#[derive(Debug, Default, serde::Serialize)]
struct Outcome {
    accepted: u64,
    already_there: u64,
    series: usize,
    refused: BTreeMap<String, Refused>,
    unparsed: Vec<Unparsed>,
    exemplars_not_stored: u64,
    metadata_not_stored: u64,
}

#[derive(Debug, serde::Serialize)]
struct Refused {
    samples: u64,
    first: String,
}

#[derive(Debug, serde::Serialize)]
struct Unparsed {
    file: String,
    line: usize,
    column: usize,
    error: String,
    samples_given_up: u64,
}

/// Either parser.
enum Page<'p> {
    Text(exposition::Text<'p>),
    OpenMetrics(exposition::OpenMetrics<'p>),
}

impl<'p> Page<'p> {
    fn next(&mut self) -> Option<std::result::Result<Entry<'p>, exposition::Error>> {
        match self {
            Self::Text(page) => page.next(),
            Self::OpenMetrics(page) => page.next(),
        }
    }

    fn line(&mut self) -> usize {
        match self {
            Self::Text(page) => page.line(),
            Self::OpenMetrics(page) => page.line(),
        }
    }
}

impl<'a> Ingest<'a> {
    fn new(head: &'a Head, target: &'a [(String, String)], starts: Starts) -> Self {
        Self { head, target, starts, known: HashMap::new(), outcome: Outcome::default() }
    }

    fn file(&mut self, file: &Path, format: Format, at: i64, context: &Context, interrupt: &Interrupt) -> Result<()> {
        let name = if file.as_os_str() == "-" { "standard input".into() } else { file.display().to_string() };
        let bytes = if file.as_os_str() == "-" {
            let mut bytes = Vec::new();
            std::io::stdin().lock().read_to_end(&mut bytes).context("standard input")?;
            bytes
        } else {
            context.fs.read(file).with_context(|| name.clone())?
        };
        let openmetrics = match format {
            Format::Auto => looks_like_openmetrics(&bytes),
            Format::Text => false,
            Format::Openmetrics => true,
        };
        let page = match (openmetrics, self.starts) {
            (false, _) => Page::Text(parse_text(&bytes)),
            (true, Starts::Series) => Page::OpenMetrics(parse_openmetrics(&bytes)),
            (true, _) => Page::OpenMetrics(parse_openmetrics(&bytes).with_start_timestamps()),
        };
        self.page(&name, page, at, interrupt)?;
        self.outcome.series = self.head.series_count();
        Ok(())
    }

    fn page(&mut self, name: &str, mut page: Page<'_>, at: i64, interrupt: &Interrupt) -> Result<()> {
        let mut appender = self.head.appender();
        let (mut pending, mut batch_from) = (0, 1);
        while let Some(entry) = page.next() {
            match entry {
                Ok(Entry::Sample(sample)) => {
                    self.outcome.exemplars_not_stored += u64::from(sample.exemplar.is_some());
                    match self.sample(&mut appender, &sample, at) {
                        Ok(()) => pending += 1,
                        Err(reason) => {
                            self.outcome.refuse(reason, || format!("{name}:{}: {}", page.line(), show(&sample)))
                        }
                    }
                }
                Ok(Entry::Comment(_)) => {}
                Ok(_) => self.outcome.metadata_not_stored += 1,
                Err(error) => {
                    appender.rollback();
                    let (line, column) = (error.line, error.column);
                    let error = error.to_string();
                    self.outcome.unparsed.push(Unparsed {
                        file: name.into(),
                        line,
                        column,
                        error,
                        samples_given_up: pending,
                    });
                    return Ok(());
                }
            }
            let line = page.line();
            if line + 1 >= batch_from + BATCH_LINES {
                self.commit(appender)?;
                appender = self.head.appender();
                (pending, batch_from) = (0, line + 1);
                if interrupt.requested() {
                    return Ok(());
                }
            }
        }
        self.commit(appender)
    }

    fn commit(&mut self, appender: Appender) -> Result<()> {
        let committed = appender.commit()?;
        self.outcome.accepted += committed.appended;
        self.outcome.already_there += committed.left_out;
        Ok(())
    }

    /// Appends the sample; an error is why it was refused.
    fn sample(&mut self, appender: &mut Appender, sample: &Sample<'_>, at: i64) -> std::result::Result<(), String> {
        let time = sample.timestamp.unwrap_or(at);
        let key = (sample.metric_type(), sample.series().to_vec());
        let start = sample.start_timestamp.unwrap_or(0);
        let zero = self.starts == Starts::Zero && start != 0;
        let mut append = |mut series, labels: &Labels| {
            // Most are there already, since an earlier scrape: then they are out of order.
            if zero && let Ok(zeroed) = appender.append_start_zero(series, labels, time, start) {
                series = Some(zeroed);
            }
            appender.append_with_start(series, labels, start, time, sample.value).map_err(|error| error.to_string())
        };
        if let Some(known) = self.known.get_mut(&key) {
            known.series = append(Some(known.series), &known.labels)?;
            return Ok(());
        }
        let labels = labels(sample, self.target)?;
        let series = append(None, &labels)?;
        self.known.insert(key, Known { series, labels });
        Ok(())
    }
}

/// The labels under which the sample is stored.
fn labels(sample: &Sample<'_>, target: &[(String, String)]) -> std::result::Result<Labels, String> {
    let page = sample.to_labels().map_err(|error| error.to_string())?;
    for (name, value) in page.iter() {
        if name.is_empty() || std::str::from_utf8(name).is_err() {
            return Err("label name is empty or not UTF-8".into());
        }
        if std::str::from_utf8(value).is_err() {
            return Err("label value is not UTF-8".into());
        }
    }
    if page.get(b"__name__").is_none() {
        return Err("metric name is empty".into());
    }
    if target.is_empty() {
        return Ok(page);
    }
    let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for (name, value) in page.iter() {
        let taken = target.iter().any(|(taken, _)| taken.as_bytes() == name);
        let name = if taken { [b"exported_", name].concat() } else { name.to_vec() };
        pairs.push((name, value.to_vec()));
    }
    pairs.extend(target.iter().map(|(name, value)| (name.clone().into(), value.clone().into())));
    Ok(Labels::from_pairs(pairs))
}

fn show(sample: &Sample<'_>) -> String {
    let labels = sample.to_labels().map(|labels| labels.to_string());
    labels.unwrap_or_else(|_| String::from_utf8_lossy(sample.series()).into_owned())
}

impl Outcome {
    fn refuse(&mut self, reason: String, first: impl FnOnce() -> String) {
        // Times in a reason would make every sample a reason of its own.
        let reason = reason.split(": ").next().unwrap_or_default().to_owned();
        let refused = self.refused.entry(reason).or_insert_with(|| Refused { samples: 0, first: first() });
        refused.samples += 1;
    }

    fn has_findings(&self) -> bool {
        !self.refused.is_empty() || !self.unparsed.is_empty()
    }

    fn print(&self, json: bool) -> Result<()> {
        let mut out = Out::new();
        if json {
            out.json_line(self)?;
            return Ok(out.finish()?);
        }
        writeln!(out, "accepted {} samples; the head holds {} series", self.accepted, self.series)?;
        if self.already_there > 0 {
            writeln!(out, "already there: {} samples, equal to what the head holds", self.already_there)?;
        }
        for (reason, refused) in &self.refused {
            writeln!(out, "refused {} samples: {reason}; the first: {}", refused.samples, refused.first)?;
        }
        for unparsed in &self.unparsed {
            let (file, error) = (&unparsed.file, &unparsed.error);
            writeln!(
                out,
                "{file}: {error}; nothing behind it was read, {} samples before it were given up",
                unparsed.samples_given_up
            )?;
        }
        if self.exemplars_not_stored > 0 {
            writeln!(out, "not stored yet: {} exemplars", self.exemplars_not_stored)?;
        }
        if self.metadata_not_stored > 0 {
            writeln!(out, "not stored yet: {} lines of metadata", self.metadata_not_stored)?;
        }
        Ok(out.finish()?)
    }
}
