//! The Prometheus head in Rust: series, label index, appenders, replay, truncation, queries.
//!
//! ```
//! use std::sync::Arc;
//! use tsdb_head::{Head, HeadOptions, Matcher, Value};
//! use tsdb_model::Labels;
//! use tsdb_vfs::{Fs, RealFs};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let tmp = tempfile::tempdir()?;
//! # let dir = tmp.path();
//! let fs: Fs = Arc::new(RealFs::new());
//! let (head, _) = Head::open(fs.clone(), dir, HeadOptions::default())?;
//! let up = Labels::from_pairs([("__name__", "up"), ("job", "node")]);
//! let mut appender = head.appender();
//! let series = appender.append(None, &up, 1_700_000_000_000, 1.0)?;
//! appender.append(Some(series), &up, 1_700_000_015_000, 0.0)?;
//! appender.commit()?; // in the log, then visible
//! drop(head); // as if killed
//!
//! let (head, report) = Head::open(fs, dir, HeadOptions::default())?;
//! assert_eq!(report.counts.applied, 2);
//! let found = head.select(&[Matcher::equal("job", "node")], i64::MIN, i64::MAX).next().unwrap();
//! let samples: Vec<_> = found.samples().collect::<Result<_, _>>()?;
//! assert_eq!(samples[1].value, Value::Float(0.0));
//! head.close()?;
//! # Ok(())
//! # }
//! ```

mod append;
mod bounds;
mod chunk_writer;
pub mod data_dir;
mod directory;
mod error;
mod head;
mod index;
mod isolation;
mod options;
mod partition;
mod read;
mod replay;
mod stats;
mod truncate;

pub use append::{Appender, Committed};
pub use error::{AppendError, CommitError, HeadError, ReadError};
pub use head::Head;
pub use index::{IndexFull, MatchOp, Matcher};
pub use options::{DEFAULT_CHUNK_RANGE, DamagePolicy, FloatEncoding, HeadOptions, ProgressFn};
pub use read::{RawChunk, Sample, Series, SeriesSet, Value};
pub use replay::{ChunkFileReport, Counts, Preserved, Progress, ReplayDamage, ReplayReport};
pub use stats::HeadStats;
pub use truncate::Truncated;
