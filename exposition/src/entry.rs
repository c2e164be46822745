//! What a page is made of.

use std::borrow::Cow;
use std::fmt;

use tsdb_model::labels::{Labels, LabelsBuilder};

use crate::error::RepeatedLabel;
use crate::series::{Pairs, SeriesText};

/// One line of a page (a quoted name may spread over several).
#[derive(Debug, Clone, PartialEq)]
pub enum Entry<'a> {
    /// `# TYPE name kind`
    Type {
        /// The metric family.
        name: Cow<'a, [u8]>,
        /// What it is.
        kind: MetricType,
    },
    /// `# HELP name text`
    Help {
        /// The metric family.
        name: Cow<'a, [u8]>,
        /// The text in UTF-8, escapes undone.
        text: Cow<'a, [u8]>,
    },
    /// `# UNIT name unit` (OpenMetrics)
    Unit {
        /// The metric family.
        name: Cow<'a, [u8]>,
        /// The unit; may be empty.
        unit: &'a [u8],
    },
    /// Any other line that begins with `#` (text format), from the `#` on.
    Comment(&'a [u8]),
    /// A sample.
    Sample(Sample<'a>),
}

/// The types of metrics, of both formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MetricType {
    /// Counts up.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets of a distribution, a sum and a count.
    Histogram,
    /// A histogram whose buckets go up and down (OpenMetrics).
    GaugeHistogram,
    /// Quantiles of a distribution, a sum and a count.
    Summary,
    /// Facts as labels (OpenMetrics).
    Info,
    /// A set of states (OpenMetrics).
    StateSet,
    /// `unknown` in OpenMetrics, `untyped` in the text format, and what stands before any `# TYPE`.
    Unknown,
}

impl MetricType {
    /// Its name in OpenMetrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::StateSet => "stateset",
            Self::Unknown => "unknown",
        }
    }

    pub(crate) fn from_openmetrics(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"counter" => Self::Counter,
            b"gauge" => Self::Gauge,
            b"histogram" => Self::Histogram,
            b"gaugehistogram" => Self::GaugeHistogram,
            b"summary" => Self::Summary,
            b"info" => Self::Info,
            b"stateset" => Self::StateSet,
            b"unknown" => Self::Unknown,
            _ => return None,
        })
    }

    pub(crate) fn from_text(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"counter" => Self::Counter,
            b"gauge" => Self::Gauge,
            b"histogram" => Self::Histogram,
            b"summary" => Self::Summary,
            b"untyped" => Self::Unknown,
            _ => return None,
        })
    }

    /// True for the types that have a start timestamp.
    pub(crate) fn has_start(self) -> bool {
        matches!(self, Self::Counter | Self::Summary | Self::Histogram)
    }
}

impl fmt::Display for MetricType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A sample as it stands on the page.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample<'a> {
    pub(crate) series: SeriesText<'a>,
    /// The value; any NaN on the page is the normal NaN (0x7ff8000000000001), never a staleness marker.
    pub value: f64,
    /// Milliseconds since the epoch, if the page gives a time.
    pub timestamp: Option<i64>,
    /// When this series began to count, in milliseconds since the epoch, if the page says so in a `_created` line and the
    /// parser was asked ([`OpenMetrics::with_start_timestamps`](crate::OpenMetrics::with_start_timestamps)).
    pub start_timestamp: Option<i64>,
    /// An example of what was counted (OpenMetrics).
    pub exemplar: Option<Exemplar<'a>>,
}

impl<'a> Sample<'a> {
    /// The series' text on the page: equal text under an equal [type](Sample::metric_type) means equal labels.
    #[must_use]
    pub fn series(&self) -> &'a [u8] {
        self.series.text
    }

    /// The type the page gave last before this sample. `le` of a histogram and `quantile` of a summary are brought to
    /// one form (`1` becomes `1.0`), so it decides about labels.
    #[must_use]
    pub fn metric_type(&self) -> MetricType {
        self.series.kind
    }

    /// Name (as `__name__`) and labels in the order of the page, repeats and empty values kept, escapes undone.
    #[must_use]
    pub fn pairs(&self) -> Pairs<'a> {
        self.series.pairs()
    }

    /// The labels as a set: sorted, labels with an empty value left out.
    ///
    /// # Errors
    /// If a label name stands twice.
    pub fn to_labels(&self) -> Result<Labels, RepeatedLabel> {
        labels_of(self.pairs())
    }
}

/// An example of what a sample counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar<'a> {
    pub(crate) labels: SeriesText<'a>,
    /// The value; NaN as in [`Sample::value`].
    pub value: f64,
    /// Milliseconds since the epoch, if given.
    pub timestamp: Option<i64>,
}

impl<'a> Exemplar<'a> {
    /// The labels in the order of the page, repeats kept, escapes undone.
    #[must_use]
    pub fn pairs(&self) -> Pairs<'a> {
        self.labels.pairs()
    }

    /// The labels as a set.
    ///
    /// # Errors
    /// If a label name stands twice.
    pub fn to_labels(&self) -> Result<Labels, RepeatedLabel> {
        labels_of(self.pairs())
    }
}

fn labels_of(pairs: Pairs<'_>) -> Result<Labels, RepeatedLabel> {
    let mut sorted: Vec<_> = pairs.collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    if let Some(twice) = sorted.windows(2).find(|two| two[0].0 == two[1].0) {
        return Err(RepeatedLabel(twice[0].0.to_vec()));
    }
    let mut builder = LabelsBuilder::new();
    for (name, value) in sorted.iter().filter(|(_, value)| !value.is_empty()) {
        builder.set(&**name, &**value);
    }
    Ok(builder.build())
}
