//! Prometheus text and OpenMetrics exposition format parser.
//!
//! Two parsers, one entry type. Both borrow from the page and allocate nothing per sample; a sample's labels are made
//! when they are asked for, so a caller that remembers what a series' text meant ([`Sample::series`]) need not ask.
//!
//! ```
//! use exposition::{Entry, parse_text};
//!
//! let page = b"# TYPE http_requests counter\nhttp_requests{code=\"200\"} 1027 1395066363000\n";
//! let mut samples = Vec::new();
//! for entry in parse_text(page) {
//!     if let Entry::Sample(sample) = entry? {
//!         samples.push((sample.to_labels()?.to_string(), sample.value, sample.timestamp));
//!     }
//! }
//! let labels = r#"{__name__="http_requests", code="200"}"#.to_string();
//! assert_eq!(samples, [(labels, 1027.0, Some(1395066363000))]);
//!
//! let error = parse_text(b"up 1\nup{job=api} 1\n").find_map(Result::err).unwrap();
//! assert_eq!(error.to_string(), "line 2, column 8: expected a label value in double quotes, found \"api} 1\"");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is accepted
//!
//! What the parsers of Prometheus 3.14 (`model/textparse`) accept, with the same labels, values, timestamps and
//! exemplars, is accepted here and nothing else, but for the rules below. `cargo xtask interop text` holds the two side by
//! side on real pages and on random and mutated ones.
//!
//! | rule | the reference | here, and why |
//! |---|---|---|
//! | `nul` | a NUL byte at the start of a line or in some comments ends the page silently; beside a label value's quotes it is swallowed or becomes part of the value | an error unless it stands inside a label value, a help text or a comment: a page must not lose its second half unnoticed |
//! | `leading-blanks` | blanks before a metric name become part of the name (text format) | skipped, as the format says |
//! | `sample-before-its-error` | in OpenMetrics a sample followed by rubbish on its line is handed out, then the rubbish is an error | the line is an error |
//! | `metadata-name` | a quoted name in `# HELP`, `# TYPE`, `# UNIT` keeps its escapes, the same name on a sample does not | escapes are undone in both |
//! | `exemplar-escapes` | label values of exemplars keep their escapes | undone, as the format says |
//! | `timestamp-range` | seconds beyond the range of 64-bit milliseconds become whatever the machine's conversion gives | an error |
//! | `created-lookahead` | a series' `_created` line is found only if no other series' stands before it | found anywhere behind the sample in the family's block |
//! | `created-stale` | a start timestamp is remembered for the same name and labels in a later block that has none | none |
//! | `panic`, hang | looking ahead for start timestamps it panics on a name that stands behind a label between the braces, and never returns from an exemplar that does not parse | neither |
//!
//! This crate knows nothing of files, scraping or the head: whether a sample is acceptable to a database (repeated label
//! names, names that are not UTF-8, time order) is decided where samples are appended.

mod created;
mod cursor;
mod entry;
mod error;
mod escape;
mod number;
mod openmetrics;
mod series;
mod text;

pub use entry::{Entry, Exemplar, MetricType, Sample};
pub use error::{Error, Expected, Found, RepeatedLabel};
pub use openmetrics::OpenMetrics;
pub use series::Pairs;
pub use text::Text;

/// Parses a page in the Prometheus text format; timestamps in it are milliseconds.
#[must_use]
pub fn parse_text(page: &[u8]) -> Text<'_> {
    Text::new(page)
}

/// Parses a page in OpenMetrics; timestamps in it are seconds, and it ends with `# EOF`.
#[must_use]
pub fn parse_openmetrics(page: &[u8]) -> OpenMetrics<'_> {
    OpenMetrics::new(page)
}

/// True if the page's last line is `# EOF`, which only OpenMetrics has.
#[must_use]
pub fn looks_like_openmetrics(page: &[u8]) -> bool {
    let page = page.strip_suffix(b"\n").unwrap_or(page);
    let page = page.strip_suffix(b"\r").unwrap_or(page);
    page == b"# EOF" || page.ends_with(b"\n# EOF")
}
