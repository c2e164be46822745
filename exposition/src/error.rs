//! What is wrong with a page, and where.

use std::fmt;

/// A line that does not parse. The parser stops there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: expected {expected}, found {found}")]
pub struct Error {
    /// The line, from 1.
    pub line: usize,
    /// The byte in the line, from 1.
    pub column: usize,
    /// What the format wants there.
    pub expected: Expected,
    /// What stands there.
    pub found: Found,
}

/// What the format wants at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Expected {
    /// A metric name, `{` or `#`.
    StartOfLine,
    /// `# HELP `, `# TYPE `, `# UNIT ` or `# EOF`: OpenMetrics has no other comments.
    MetadataKeyword,
    /// A metric name behind `HELP`, `TYPE` or `UNIT`.
    MetadataName,
    /// One blank and then the text up to the end of the line.
    MetadataText,
    /// One of the format's metric types.
    MetricType,
    /// A unit that the metric name ends with, behind an underscore.
    UnitSuffix,
    /// Valid UTF-8 in a help text.
    Utf8Help,
    /// Valid UTF-8 in a label value.
    Utf8Value,
    /// A label name, or `}`.
    LabelName,
    /// `=` behind a label name.
    Equal,
    /// A label value in double quotes.
    LabelValue,
    /// `,` or `}` behind a label.
    CommaOrBrace,
    /// A metric name, which is missing in front of or between the braces.
    MetricName,
    /// No second metric name.
    OneMetricName,
    /// A sample's value.
    Value,
    /// A number as Go's `ParseFloat` reads it, within the range of a 64-bit float.
    Float,
    /// Digits: milliseconds since the epoch as a 64-bit number (text format).
    Milliseconds,
    /// Finite seconds since the epoch whose milliseconds fit in 64 bits (OpenMetrics).
    Seconds,
    /// A timestamp or the end of the line.
    TimestampOrEnd,
    /// A timestamp, an exemplar or the end of the line.
    TimestampExemplarOrEnd,
    /// An exemplar or the end of the line.
    ExemplarOrEnd,
    /// The end of the line.
    EndOfLine,
    /// `# EOF` as the last line.
    EofLine,
    /// Nothing behind `# EOF`.
    NothingAfterEof,
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StartOfLine => "a metric name, `{` or `#` at the start of the line",
            Self::MetadataKeyword => "`HELP`, `TYPE`, `UNIT` or `EOF` and a blank behind `# `",
            Self::MetadataName => "a metric name",
            Self::MetadataText => "a blank and the text up to the end of the line",
            Self::MetricType => "a metric type",
            Self::UnitSuffix => "a unit that the metric name ends with",
            Self::Utf8Help => "a help text in UTF-8",
            Self::Utf8Value => "a label value in UTF-8",
            Self::LabelName => "a label name or `}`",
            Self::Equal => "`=` after the label name",
            Self::LabelValue => "a label value in double quotes",
            Self::CommaOrBrace => "`,` or `}` after the label",
            Self::MetricName => "a metric name before or between the braces",
            Self::OneMetricName => "a label: the metric has a name already",
            Self::Value => "a value after the metric",
            Self::Float => "a number in the range of a 64-bit float",
            Self::Milliseconds => "a timestamp in milliseconds that fits in 64 bits",
            Self::Seconds => "a timestamp in seconds whose milliseconds fit in 64 bits",
            Self::TimestampOrEnd => "a timestamp or the end of the line",
            Self::TimestampExemplarOrEnd => "a timestamp, an exemplar or the end of the line",
            Self::ExemplarOrEnd => "an exemplar or the end of the line",
            Self::EndOfLine => "the end of the line",
            Self::EofLine => "`# EOF` as the last line",
            Self::NothingAfterEof => "nothing after `# EOF`",
        })
    }
}

/// What stands where something else was expected.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Found {
    /// The end of the page.
    EndOfPage,
    /// The end of the line.
    EndOfLine,
    /// The beginning of what stands there: up to 32 bytes of the line.
    Text(Vec<u8>),
}

impl Found {
    const LONGEST: usize = 32;

    pub(crate) fn at(page: &[u8], offset: usize) -> Self {
        match page.get(offset) {
            None => Self::EndOfPage,
            Some(b'\n') => Self::EndOfLine,
            Some(_) => {
                let line = page[offset..].split(|byte| *byte == b'\n').next().unwrap_or_default();
                Self::Text(line[..line.len().min(Self::LONGEST)].to_vec())
            }
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EndOfPage => f.write_str("the end of the page"),
            Self::EndOfLine => f.write_str("the end of the line"),
            Self::Text(text) => tsdb_model::gotext::write_quoted(f, text),
        }
    }
}

/// A label name that stands twice on one sample. The page parses (the reference reads it too), but it names no series.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("label name {} is repeated", tsdb_model::gotext::quote(.0))]
pub struct RepeatedLabel(
    /// The name.
    pub Vec<u8>,
);
