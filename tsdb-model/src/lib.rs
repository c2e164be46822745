//! Prometheus TSDB data model: labels, histograms, staleness, varints; no I/O, `no_std` + `alloc`.
//!
//! The types every other layer speaks in. Timestamps are `i64` milliseconds since the Unix epoch throughout; label names
//! and values are bytes, because a log can hold any.
//!
//! ```
//! use tsdb_model::{Labels, LabelsBuilder, SeriesRef};
//!
//! let mut builder = LabelsBuilder::new();
//! builder.set("job", "node").set("__name__", "up").set("dropped", "");
//! let labels: Labels = builder.build();
//! assert_eq!(labels.to_string(), r#"{__name__="up", job="node"}"#);
//! assert_eq!(labels.get(b"job"), Some(&b"node"[..]));
//! assert_eq!(SeriesRef(7).to_string(), "7");
//! ```
#![cfg_attr(not(any(test, feature = "std")), no_std)]

extern crate alloc;

pub mod gotext;
pub mod histogram;
#[cfg(feature = "serde")]
pub mod json;
pub mod labels;
mod series_ref;
pub mod staleness;
pub mod varint;

pub use histogram::{CounterResetHint, FloatHistogram, Histogram, Span};
pub use labels::{LabelPairs, Labels, LabelsBuilder};
pub use series_ref::SeriesRef;
