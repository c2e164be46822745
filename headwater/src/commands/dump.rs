//! `dump DIR`: every sample of every series of the head, after a full read-only replay.
//!
//! Sorted by labels, then time: `{__name__="x", job="a"} 1.5 1700000000000`.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use tsdb_head::{Head, HeadOptions, Matcher, Sample, Series, Value, data_dir};
use tsdb_model::Labels;
use tsdb_model::gotext::write_float_g;
use tsdb_model::json::{Float, labels_are_lossy};
use tsdb_model::staleness::is_stale;

use crate::commands::replay;
use crate::context::Context;
use crate::exit;
use crate::output::Out;
use crate::selector::{Selector, Test};
use crate::times::parse_time;

/// Arguments of `dump`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The data directory
    dir: PathBuf,
    /// Only series that match, e.g. 'up{job="api"}' (repeatable: any of them)
    #[arg(long = "match", value_name = "SELECTOR")]
    matches: Vec<Selector>,
    /// Only samples at or after this time
    #[arg(long, value_parser = parse_time, allow_hyphen_values = true, value_name = "TIME")]
    min_time: Option<i64>,
    /// Only samples at or before this time
    #[arg(long, value_parser = parse_time, allow_hyphen_values = true, value_name = "TIME")]
    max_time: Option<i64>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Add start timestamps that are not zero as a fourth column
    #[arg(long)]
    st: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A line a sample: labels, value, milliseconds
    Text,
    /// OpenMetrics without metadata; native histograms, which it cannot hold, are left out
    Openmetrics,
    /// One object a series
    Json,
}

/// Dumps the head of `args.dir`.
pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let (head, report) = replay::open_read_only(context, &args.dir, HeadOptions::default())?;
    let mut findings = replay::warn_of_damage(context, &report);
    for block in data_dir::blocks(&context.fs, &args.dir)? {
        context.warn(format_args!("{}: a block; blocks are not read yet", block.path.display()));
    }
    let mut dump = Dump { out: Out::new(), format: args.format, st: args.st, line: String::new(), left_out: 0 };
    let mut broken = Vec::new();
    for series in select(&head, args) {
        dump.series(&series, &mut broken)?;
    }
    let left_out = dump.left_out;
    dump.finish()?;
    for error in &broken {
        context.warn(error);
    }
    findings |= !broken.is_empty();
    if left_out > 0 {
        context.warn(format_args!("{left_out} native histograms left out: OpenMetrics has no form for them"));
    }
    Ok(exit::findings_if(findings))
}

/// The series that match any of the selectors, sorted by labels.
fn select<'a>(head: &Head, args: &'a Args) -> Box<dyn Iterator<Item = Series> + 'a> {
    let (mint, maxt) = (args.min_time.unwrap_or(i64::MIN), args.max_time.unwrap_or(i64::MAX));
    match &args.matches[..] {
        [] => Box::new(head.select(&[], mint, maxt).sorted()),
        [one] => Box::new(head.select(&matchers(one), mint, maxt).sorted().filter(|series| holds(one, series))),
        many => {
            let mut seen = HashSet::new();
            let all = many.iter().flat_map(|selector| {
                head.select(&matchers(selector), mint, maxt).filter(|series| holds(selector, series))
            });
            let mut all: Vec<Series> = all.filter(|series| seen.insert(series.series_ref())).collect();
            all.sort_by(|a, b| a.labels().cmp(b.labels()));
            Box::new(all.into_iter())
        }
    }
}

/// What the index can answer of it; the rest is for [`holds`].
fn matchers(selector: &Selector) -> Vec<Matcher> {
    let matcher = |matcher: &crate::selector::Matcher| {
        let name = matcher.name.clone();
        match &matcher.test {
            Test::Equal(value) => Some(Matcher::equal(name, value.clone())),
            Test::NotEqual(value) => Some(Matcher::not_equal(name, value.clone())),
            Test::Matches(_) | Test::MatchesNot(_) => None,
        }
    };
    selector.0.iter().filter_map(matcher).collect()
}

fn holds(selector: &Selector, series: &Series) -> bool {
    selector.matches(series.labels().iter())
}

struct Dump {
    out: Out,
    format: Format,
    st: bool,
    line: String,
    left_out: u64,
}

impl Dump {
    /// Prints the series; what cannot be read of it goes to `broken`.
    fn series(&mut self, series: &Series, broken: &mut Vec<String>) -> Result<()> {
        let samples = series.samples().filter_map(|sample| match sample {
            Ok(sample) => Some(sample),
            Err(error) => {
                broken.push(format!("{}: {error}", series.labels()));
                None
            }
        });
        match self.format {
            Format::Json => {
                let samples: Vec<Sample> = samples.collect();
                if !samples.is_empty() {
                    self.out.json_line(&JsonSeries { labels: series.labels(), samples: &samples, st: self.st })?;
                }
            }
            Format::Text => {
                let labels = format!("{} ", series.labels());
                for sample in samples {
                    self.text_line(&labels, &sample)?;
                }
            }
            Format::Openmetrics => {
                let labels = openmetrics_series(series.labels())?;
                for sample in samples {
                    self.openmetrics_line(&labels, &sample)?;
                }
            }
        }
        Ok(())
    }

    fn text_line(&mut self, labels: &str, sample: &Sample) -> Result<()> {
        let line = &mut self.line;
        line.clear();
        line.push_str(labels);
        match &sample.value {
            Value::Float(v) if is_stale(*v) => line.push_str("stale"),
            Value::Float(v) => write_float_g(line, *v)?,
            Value::Histogram(h) if is_stale(h.sum) => line.push_str("stale"),
            Value::FloatHistogram(h) if is_stale(h.sum) => line.push_str("stale"),
            Value::Histogram(h) => write!(line, "{h}")?,
            Value::FloatHistogram(h) => write!(line, "{h}")?,
        }
        write!(line, " {}", sample.t)?;
        if self.st && sample.start != 0 {
            write!(line, " {}", sample.start)?;
        }
        line.push('\n');
        self.out.write_all(line.as_bytes())?;
        Ok(())
    }

    fn openmetrics_line(&mut self, labels: &str, sample: &Sample) -> Result<()> {
        let Value::Float(value) = sample.value else {
            self.left_out += 1;
            return Ok(());
        };
        let line = &mut self.line;
        line.clear();
        write!(line, "{labels} ")?;
        write_float_g(line, value)?;
        // Seconds with all milliseconds: a float would lose some far from the epoch.
        let (sign, ms) = (if sample.t < 0 { "-" } else { "" }, sample.t.unsigned_abs());
        writeln!(line, " {sign}{}.{:03}", ms / 1000, ms % 1000)?;
        self.out.write_all(line.as_bytes())?;
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        if self.format == Format::Openmetrics {
            self.out.write_all(b"# EOF\n")?;
        }
        Ok(self.out.finish()?)
    }
}

/// `name{a="b"}`, or with everything in quotes between the braces where the plain form will not do.
fn openmetrics_series(labels: &Labels) -> Result<String> {
    let plain = |name: &[u8], colon: bool| {
        let letter = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'_' || colon && *byte == b':';
        name.first().is_some_and(letter) && name.iter().all(|byte| letter(byte) || byte.is_ascii_digit())
    };
    let name = labels.get(b"__name__").unwrap_or_default();
    let mut text = String::new();
    let mut first = true;
    if plain(name, true) {
        text.push_str(&String::from_utf8_lossy(name));
        text.push('{');
    } else {
        text.push('{');
        quote(&mut text, name)?;
        first = false;
    }
    for (name, value) in labels.iter().filter(|(name, _)| *name != b"__name__") {
        if !std::mem::take(&mut first) {
            text.push(',');
        }
        if plain(name, false) {
            text.push_str(&String::from_utf8_lossy(name))
        } else {
            quote(&mut text, name)?
        }
        text.push('=');
        quote(&mut text, value)?;
    }
    text.push('}');
    Ok(text)
}

/// The format's own quoting: only three escapes.
fn quote(text: &mut String, value: &[u8]) -> Result<()> {
    text.push('"');
    for c in String::from_utf8_lossy(value).chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
    text.push('"');
    Ok(())
}

/// `{"labels":{…},"samples":[{"t":1,"v":1.5},{"t":2,"h":{…}}]}`
struct JsonSeries<'a> {
    labels: &'a Labels,
    samples: &'a [Sample],
    st: bool,
}

struct JsonSamples<'a>(&'a [Sample], bool);

struct JsonSample<'a>(&'a Sample, bool);

impl Serialize for JsonSeries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("labels", &self.labels.pairs())?;
        if labels_are_lossy(&self.labels.pairs()) {
            map.serialize_entry("lossy", &true)?;
        }
        map.serialize_entry("samples", &JsonSamples(self.samples, self.st))?;
        map.end()
    }
}

impl Serialize for JsonSamples<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        self.0.iter().try_for_each(|sample| list.serialize_element(&JsonSample(sample, self.1)))?;
        list.end()
    }
}

impl Serialize for JsonSample<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("t", &self.0.t)?;
        if self.1 && self.0.start != 0 {
            map.serialize_entry("st", &self.0.start)?;
        }
        match &self.0.value {
            Value::Float(v) => map.serialize_entry("v", &Float(*v))?,
            Value::Histogram(h) => map.serialize_entry("h", &**h)?,
            Value::FloatHistogram(h) => map.serialize_entry("h", &**h)?,
        }
        map.end()
    }
}
