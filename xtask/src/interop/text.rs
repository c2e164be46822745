//! Exposition formats: pages parsed by `model/textparse` and by ours.
//!
//! Both are asked for every entry of a page and how the page ends. What may differ is named in [`compare`]; the reasons
//! stand in the crate's documentation.

use std::borrow::Cow;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use exposition::{Entry, Exemplar, Expected, OpenMetrics, Pairs, Sample};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::json;

use super::wire::{WireReader, join, split};
use super::{Coverage, Reference, Row, Session};
use crate::sh;

mod pages;

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "scrapes",
        about: "recorded pages of real exporters, whole, cut short and with bytes changed",
        run: scrapes,
    },
    Row { name: "random", about: "random pages of both formats, sound and broken", run: random },
];

/// Which parser, asked for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    OpenMetrics,
    OpenMetricsStarts,
}

const FORMATS: [Format; 3] = [Format::Text, Format::OpenMetrics, Format::OpenMetricsStarts];

/// Sorted.
pub(crate) type Labels = Vec<(Vec<u8>, Vec<u8>)>;

/// An entry, in the same words for both sides.
#[derive(Debug, Clone, PartialEq)]
enum Line {
    Type {
        name: Vec<u8>,
        kind: String,
    },
    Help {
        name: Vec<u8>,
        text: Vec<u8>,
    },
    Unit {
        name: Vec<u8>,
        unit: Vec<u8>,
    },
    Comment(Vec<u8>),
    Sample {
        labels: Labels,
        value: u64,
        timestamp: Option<i64>,
        exemplar: Option<(Labels, u64, Option<i64>)>,
        start: i64,
    },
}

/// How a page ends.
#[derive(Debug, Clone, PartialEq)]
enum End {
    Page,
    Error(String),
    Panic(String),
}

struct Parsed {
    lines: Vec<Line>,
    end: End,
    /// Of ours only: what was missing.
    expected: Option<Expected>,
}

fn scrapes(session: &mut Session) -> Result<()> {
    let mut coverage = session.coverage();
    let mut reference = session.reference()?;
    let files = scrape_files()?;
    let mut pages: Vec<(Format, Vec<u8>)> = Vec::new();
    for file in &files {
        let page = std::fs::read(file).with_context(|| file.display().to_string())?;
        let formats = if exposition::looks_like_openmetrics(&page) { &FORMATS[1..] } else { &FORMATS[..1] };
        coverage.add(if formats.len() > 1 { "pages of OpenMetrics" } else { "pages of text" }, 1);
        pages.extend(formats.iter().map(|format| (*format, page.clone())));
    }
    let whole = pages.len();
    let mut rng = session.rng();
    for _ in session.rounds(20_000) {
        let (format, page) = &pages[rng.random_range(0..whole)];
        // A piece of it is enough, and cheaper than all of it.
        let from = rng.random_range(0..page.len());
        let piece = &page[from..(from + 2000).min(page.len())];
        let piece = piece.iter().position(|byte| *byte == b'\n').map_or(piece, |feed| &piece[feed + 1..]);
        let mut piece = piece.to_vec();
        pages::mutate(&mut rng, &mut piece);
        pages.push((*format, piece));
    }
    for (case, least) in [("pages of text", 10), ("pages of OpenMetrics", 20), ("whole pages accepted", 30)] {
        coverage.require(case, least);
    }
    for batch in pages[..whole].chunks(16) {
        let before = coverage.count("pages accepted");
        check(&mut reference, batch, &mut coverage)?;
        let accepted = coverage.count("pages accepted") - before;
        coverage.add("whole pages accepted", accepted);
    }
    for batch in pages[whole..].chunks(512) {
        check(&mut reference, batch, &mut coverage)?;
    }
    coverage.finish()
}

fn scrape_files() -> Result<Vec<PathBuf>> {
    let dir = sh::root().join("testdata/scrapes");
    let entries = std::fs::read_dir(&dir).with_context(|| dir.display().to_string())?;
    let mut files: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "prom" || extension == "om"));
    files.sort();
    ensure!(!files.is_empty(), "no scrapes in {}", dir.display());
    Ok(files)
}

fn random(session: &mut Session) -> Result<()> {
    let mut coverage = session.coverage();
    for case in REQUIRED {
        coverage.require(case, 50);
    }
    let mut reference = session.reference()?;
    for round in session.rounds(500) {
        let mut rng = session.round_rng(round);
        let batch: Vec<_> = (0..2000).map(|_| random_page(&mut rng)).collect();
        check(&mut reference, &batch, &mut coverage).with_context(|| format!("round {round}"))?;
    }
    coverage.finish()
}

/// What the random pages have to contain: each at least 50 times, also in a quick run.
const REQUIRED: &[&str] = &[
    "pages accepted",
    "pages refused",
    "Text type",
    "Text help",
    "Text comment",
    "Text sample",
    "OpenMetrics type",
    "OpenMetrics help",
    "OpenMetrics unit",
    "OpenMetrics sample",
    "sample with a timestamp",
    "sample with an exemplar",
    "exemplar with a timestamp",
    "sample with a start timestamp",
    "value NaN",
    "value infinite",
    "value subnormal",
    "value minus zero",
    "label with an empty value",
    "label repeated",
    "label not ASCII",
    "name not legacy",
    "bound brought to one form",
    "refused: StartOfLine",
    "refused: MetadataKeyword",
    "refused: MetadataName",
    "refused: MetadataText",
    "refused: MetricType",
    "refused: UnitSuffix",
    "refused: Utf8Help",
    "refused: Utf8Value",
    "refused: LabelName",
    "refused: Equal",
    "refused: LabelValue",
    "refused: CommaOrBrace",
    "refused: MetricName",
    "refused: OneMetricName",
    "refused: Value",
    "refused: Float",
    "refused: Milliseconds",
    "refused: Seconds",
    "refused: TimestampOrEnd",
    "refused: TimestampExemplarOrEnd",
    "refused: ExemplarOrEnd",
    "refused: EndOfLine",
    "refused: EofLine",
    "refused: NothingAfterEof",
];

fn random_page(rng: &mut StdRng) -> (Format, Vec<u8>) {
    let format = *FORMATS.choose(rng).expect("three formats");
    let mut page = if format == Format::Text { pages::text(rng) } else { pages::openmetrics(rng) };
    if rng.random_bool(0.35) {
        pages::mutate(rng, &mut page);
    }
    (format, page)
}

/// A sample of a page as the reference reads it: labels, value, milliseconds.
pub(crate) type PageSample = (Labels, f64, Option<i64>);

/// The samples of a page, by the reference's parser.
pub(crate) fn read_by_reference(reference: &mut Reference, page: &[u8]) -> Result<Vec<PageSample>> {
    let format = if exposition::looks_like_openmetrics(page) { "openmetrics" } else { "text" };
    let answer = reference.call("text.parse", json!({"format": format, "starts": false}), &join([page]))?;
    let parsed = read_answer(split(&answer.payload)?.first().context("no answer")?)?;
    ensure!(parsed.end == End::Page, "{:?}", parsed.end);
    let sample = |line| match line {
        Line::Sample { labels, value, timestamp, .. } => Some((labels, f64::from_bits(value), timestamp)),
        _ => None,
    };
    Ok(parsed.lines.into_iter().filter_map(sample).collect())
}

/// Parses the pages on both sides and compares. Start timestamps are asked for only on pages that both accept: looking
/// ahead for them it never returns from an exemplar that does not parse.
fn check(reference: &mut Reference, pages: &[(Format, Vec<u8>)], coverage: &mut Coverage) -> Result<()> {
    let of = |format| pages.iter().filter(move |(of, _)| *of == format).map(|(_, page)| page).collect::<Vec<_>>();
    check_as(Format::Text, reference, &of(Format::Text), coverage)?;
    check_as(Format::OpenMetrics, reference, &of(Format::OpenMetrics), coverage)?;
    let starts = of(Format::OpenMetricsStarts);
    let accepted = check_as(Format::OpenMetrics, reference, &starts, coverage)?;
    let starts: Vec<_> =
        starts.into_iter().zip(accepted).filter_map(|(page, accepted)| accepted.then_some(page)).collect();
    check_as(Format::OpenMetricsStarts, reference, &starts, coverage)?;
    Ok(())
}

/// Returns which pages both accept.
fn check_as(
    format: Format,
    reference: &mut Reference,
    pages: &[&Vec<u8>],
    coverage: &mut Coverage,
) -> Result<Vec<bool>> {
    let name = if format == Format::Text { "text" } else { "openmetrics" };
    let args = json!({"format": name, "starts": format == Format::OpenMetricsStarts});
    let answer = reference.call("text.parse", args, &join(pages))?;
    let theirs = split(&answer.payload)?;
    ensure!(theirs.len() == pages.len(), "{} answers for {} pages", theirs.len(), pages.len());
    let mut accepted = Vec::new();
    for (page, theirs) in pages.iter().zip(theirs) {
        let theirs = read_answer(theirs)?;
        let ours = parse(format, page);
        count(format, &ours, coverage);
        let equal = match compare(&ours, &theirs, coverage) {
            Err(_) if has_stray_nul(page) => {
                coverage.allowed("nul", "the reference ends the page or swallows the byte silently");
                Ok(())
            }
            other => other,
        };
        equal.with_context(|| {
            format!("{format:?}: {}\nours ends with {:?}, theirs with {:?}", page.escape_ascii(), ours.end, theirs.end)
        })?;
        accepted.push(ours.end == End::Page && theirs.end == End::Page);
    }
    Ok(accepted)
}

const RANGE: (&str, &str) =
    ("timestamp-range", "seconds beyond 64-bit milliseconds are whatever the machine makes of them");

/// Equal, or different by a rule with a name.
fn compare(ours: &Parsed, theirs: &Parsed, coverage: &mut Coverage) -> Result<()> {
    let mut starts = vec![];
    for (index, (our, their)) in ours.lines.iter().zip(&theirs.lines).enumerate() {
        if our != their {
            compare_lines(our, their, &starts, coverage).with_context(|| format!("entry {index}"))?;
        }
        if let Line::Sample { start, .. } = our {
            starts.push(*start);
        }
    }
    let (our_count, their_count) = (ours.lines.len(), theirs.lines.len());
    match (&ours.end, &theirs.end) {
        (_, End::Panic(_)) if our_count >= their_count => {
            coverage.allowed("panic", "the reference panics, ours goes on");
        }
        (End::Page, End::Page) if our_count == their_count => {}
        (End::Error(_), End::Error(_)) if our_count == their_count => {}
        (End::Error(_), End::Error(_))
            if our_count + 1 == their_count && matches!(theirs.lines.last(), Some(Line::Sample { .. })) =>
        {
            coverage.allowed(
                "sample-before-its-error",
                "a sample is handed out and the rest of its line refused afterwards",
            );
        }
        _ if ours.expected == Some(Expected::Seconds) && our_count <= their_count => {
            coverage.allowed(RANGE.0, RANGE.1);
        }
        _ => bail!("{our_count} entries of ours, {their_count} of theirs, or another end"),
    }
    Ok(())
}

/// Whether a NUL stands where neither format has a use for it: not in a quoted string, or on a line of metadata.
fn has_stray_nul(page: &[u8]) -> bool {
    page.split(|byte| *byte == b'\n').any(|line| {
        let quotes_before = |at: usize| {
            let mut escaped = false;
            let mut is_quote = |byte: u8| {
                let quote = byte == b'"' && !escaped;
                escaped = byte == b'\\' && !escaped;
                quote
            };
            line[..at].iter().filter(|byte| is_quote(**byte)).count()
        };
        let of_metadata = line.iter().find(|byte| !matches!(byte, b' ' | b'\t')) == Some(&b'#');
        (0..line.len()).any(|at| line[at] == 0 && (of_metadata || quotes_before(at) % 2 == 0))
    })
}

fn compare_lines(ours: &Line, theirs: &Line, starts: &[i64], coverage: &mut Coverage) -> Result<()> {
    let mut theirs = theirs.clone();
    match (&mut theirs, ours) {
        (Line::Type { name, .. }, Line::Type { name: our, .. })
        | (Line::Help { name, .. }, Line::Help { name: our, .. })
        | (Line::Unit { name, .. }, Line::Unit { name: our, .. })
            if name != our && unescape(name) == *our =>
        {
            name.clone_from(our);
            coverage.allowed("metadata-name", "a quoted name keeps its escapes on metadata, not on samples");
        }
        (
            Line::Sample { labels, exemplar, start, .. },
            Line::Sample { labels: our, exemplar: ours, start: our_start, .. },
        ) => {
            let blanks = |byte: &u8| matches!(byte, b' ' | b'\t');
            let mut names = labels.iter_mut().filter(|label| label.0 == b"__name__" && !our.contains(label));
            if let Some((_, value)) = names.find(|(_, value)| value.first().is_some_and(blanks)) {
                let start = value.iter().position(|byte| !blanks(byte)).unwrap_or(value.len());
                value.drain(..start);
                labels.sort();
                coverage.allowed("leading-blanks", "blanks before a name become part of it");
            }
            if let (Some((labels, ..)), Some((our, ..))) = (exemplar, ours)
                && labels != our
            {
                for (name, value) in labels.iter_mut() {
                    (*name, *value) = (unescape(name), unescape(value));
                }
                labels.sort();
                coverage.allowed("exemplar-escapes", "labels of exemplars keep their escapes");
            }
            if *start == i64::MIN {
                *start = *our_start;
                coverage.allowed(RANGE.0, RANGE.1);
            }
            if *our_start == 0 && *start != 0 && starts.contains(start) {
                *start = 0;
                coverage
                    .allowed("created-stale", "a start timestamp is remembered into a later block of the same name");
            }
            if *start == 0 && *our_start != 0 {
                *start = *our_start;
                coverage.allowed("created-lookahead", "a _created line behind another series' is not found");
            }
        }
        _ => {}
    }
    ensure!(*ours == theirs, "ours {}, theirs {}", shown(ours), shown(&theirs));
    Ok(())
}

/// An entry with its bytes as text.
fn shown(line: &Line) -> String {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let labels = |labels: &Labels| labels.iter().map(|(n, v)| format!("{}={} ", text(n), text(v))).collect::<String>();
    match line {
        Line::Type { name, kind } => format!("TYPE {} {kind}", text(name)),
        Line::Help { name, text: help } => format!("HELP {} {}", text(name), text(help)),
        Line::Unit { name, unit } => format!("UNIT {} {}", text(name), text(unit)),
        Line::Comment(comment) => text(comment),
        Line::Sample { labels: set, value, timestamp, exemplar, start } => {
            let exemplar = exemplar.as_ref().map(|(set, value, time)| format!("{}{value:x} {time:?}", labels(set)));
            format!("{}{value:x} {timestamp:?} # {exemplar:?} start {start}", labels(set))
        }
    }
}

/// Written a second time, naively: the crate's own stays private.
fn unescape(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = raw.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match (byte, bytes.peek()) {
            (b'\\', Some(b'n')) => out.push(b'\n'),
            (b'\\', Some(next @ (b'\\' | b'"'))) => out.push(*next),
            _ => {
                out.push(byte);
                continue;
            }
        }
        bytes.next();
    }
    out
}

fn parse(format: Format, page: &[u8]) -> Parsed {
    match format {
        Format::Text => collect(exposition::parse_text(page)),
        Format::OpenMetrics => collect(exposition::parse_openmetrics(page)),
        Format::OpenMetricsStarts => collect(OpenMetrics::with_start_timestamps(exposition::parse_openmetrics(page))),
    }
}

fn collect<'a>(entries: impl Iterator<Item = Result<Entry<'a>, exposition::Error>>) -> Parsed {
    let mut parsed = Parsed { lines: Vec::new(), end: End::Page, expected: None };
    for entry in entries {
        match entry {
            Ok(entry) => parsed.lines.push(line(&entry)),
            Err(error) => {
                parsed.expected = Some(error.expected);
                parsed.end = End::Error(error.to_string());
            }
        }
    }
    parsed
}

fn line(entry: &Entry<'_>) -> Line {
    match entry {
        Entry::Type { name, kind } => Line::Type { name: name.to_vec(), kind: kind.to_string() },
        Entry::Help { name, text } => Line::Help { name: name.to_vec(), text: text.to_vec() },
        Entry::Unit { name, unit } => Line::Unit { name: name.to_vec(), unit: unit.to_vec() },
        Entry::Comment(text) => Line::Comment(text.to_vec()),
        Entry::Sample(sample) => sample_line(sample),
    }
}

fn sample_line(sample: &Sample<'_>) -> Line {
    let exemplar = |exemplar: &Exemplar<'_>| (sorted(exemplar.pairs()), exemplar.value.to_bits(), exemplar.timestamp);
    Line::Sample {
        labels: sorted(sample.pairs()),
        value: sample.value.to_bits(),
        timestamp: sample.timestamp,
        exemplar: sample.exemplar.as_ref().map(exemplar),
        start: sample.start_timestamp.unwrap_or(0),
    }
}

fn sorted(pairs: Pairs<'_>) -> Labels {
    let mut pairs: Labels = pairs.map(|(name, value)| (Cow::into_owned(name), Cow::into_owned(value))).collect();
    // The order of repeats is not promised on either side.
    pairs.sort();
    pairs
}

fn count(format: Format, parsed: &Parsed, coverage: &mut Coverage) {
    coverage.hit(if parsed.end == End::Page { "pages accepted" } else { "pages refused" });
    if let Some(expected) = parsed.expected {
        coverage.hit(&format!("refused: {expected:?}"));
    }
    let format = if format == Format::Text { "Text" } else { "OpenMetrics" };
    for line in &parsed.lines {
        let kind = match line {
            Line::Type { .. } => "type",
            Line::Help { .. } => "help",
            Line::Unit { .. } => "unit",
            Line::Comment(_) => "comment",
            Line::Sample { .. } => "sample",
        };
        coverage.hit(&format!("{format} {kind}"));
        count_sample(line, coverage);
    }
}

fn count_sample(line: &Line, coverage: &mut Coverage) {
    let Line::Sample { labels, value, timestamp, exemplar, start } = line else { return };
    let value = f64::from_bits(*value);
    let one_form =
        |(name, value): &(Vec<u8>, Vec<u8>)| matches!(&name[..], b"le" | b"quantile") && value.ends_with(b".0");
    let cases = [
        ("sample with a timestamp", timestamp.is_some()),
        ("sample with an exemplar", exemplar.is_some()),
        ("exemplar with a timestamp", exemplar.as_ref().is_some_and(|exemplar| exemplar.2.is_some())),
        ("sample with a start timestamp", *start != 0),
        ("value NaN", value.is_nan()),
        ("value infinite", value.is_infinite()),
        ("value subnormal", value.is_subnormal()),
        ("value minus zero", value == 0.0 && value.is_sign_negative()),
        ("label with an empty value", labels.iter().any(|(_, value)| value.is_empty())),
        ("label repeated", labels.windows(2).any(|two| two[0].0 == two[1].0)),
        ("label not ASCII", labels.iter().any(|(_, value)| !value.is_ascii())),
        ("name not legacy", labels.iter().any(|(name, _)| name.iter().any(|byte| matches!(byte, b'.' | b' ' | 128..)))),
        ("bound brought to one form", labels.iter().any(one_form)),
    ];
    for (case, _) in cases.iter().filter(|(_, met)| *met) {
        coverage.hit(case);
    }
}

fn read_answer(item: &[u8]) -> Result<Parsed> {
    let mut reader = WireReader(item);
    let mut lines = Vec::new();
    let end = loop {
        match reader.u8()? {
            0 => lines
                .push(Line::Type { name: reader.item()?.to_vec(), kind: String::from_utf8(reader.item()?.to_vec())? }),
            1 => lines.push(Line::Help { name: reader.item()?.to_vec(), text: reader.item()?.to_vec() }),
            2 => lines.push(read_sample(&mut reader)?),
            3 => lines.push(Line::Comment(reader.item()?.to_vec())),
            4 => lines.push(Line::Unit { name: reader.item()?.to_vec(), unit: reader.item()?.to_vec() }),
            255 => break End::Page,
            254 => break End::Error(String::from_utf8_lossy(reader.item()?).into_owned()),
            253 => break End::Panic(String::from_utf8_lossy(reader.item()?).into_owned()),
            other => bail!("entry with tag {other}"),
        }
    };
    ensure!(!reader.more(), "bytes behind the end of the answer");
    Ok(Parsed { lines, end, expected: None })
}

fn read_sample(reader: &mut WireReader<'_>) -> Result<Line> {
    let labels = read_labels(reader)?;
    let value = reader.u64()?;
    let timestamp = read_timestamp(reader)?;
    let exemplar = match reader.u8()? {
        0 => None,
        _ => Some((read_labels(reader)?, reader.u64()?, read_timestamp(reader)?)),
    };
    Ok(Line::Sample { labels, value, timestamp, exemplar, start: reader.i64()? })
}

fn read_labels(reader: &mut WireReader<'_>) -> Result<Labels> {
    let labels = (0..reader.u32()?).map(|_| Ok((reader.item()?.to_vec(), reader.item()?.to_vec())));
    let mut labels: Labels = labels.collect::<Result<_>>()?;
    labels.sort();
    Ok(labels)
}

fn read_timestamp(reader: &mut WireReader<'_>) -> Result<Option<i64>> {
    Ok(if reader.u8()? == 0 { None } else { Some(reader.i64()?) })
}
