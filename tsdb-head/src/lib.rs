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
//!
//! # What it promises
//!
//! * A commit is in the log, as durable as the log's options say, before anything of it is in memory; if the log does not
//!   take it, nothing of it is anywhere. A series' record is in the log before any sample of it, whoever made the series.
//! * A reader sees whole commits only, and nothing that was committed after it began.
//! * Opening never loses a sound record: damage costs what it touches, is reported, and its originals are kept. What this
//!   version does not use (out-of-order data, tombstones of some times, exemplars, metadata, snapshots) stays on disk.
//! * Refs are never given out twice, not even those that only a lost series record explained.
//! * Truncation removes nothing before what replaces it is durable, and waits for whoever still needs it.
//!
//! # Rooms
//!
//! ```text
//! append/     transactions: check, hold, log, apply         replay/     disk to memory, in rounds of bounded size
//! partition/  sample data of 256 neighbouring series        index/      labels: dictionaries, ids, postings
//! directory   ref → partition                               isolation   who sees what, who waits for whom
//! read        selections and samples                        truncate    collection, checkpoint, segments
//! chunk_writer  full chunks to their files                  data_dir    what else lies in the directory
//! ```
//!
//! # Invariants
//!
//! * Locks are taken in the order index, directory, partition; a thread holds one partition at a time. While the index is
//!   held (reading is enough), no series disappears: collection takes it for writing.
//! * A series with pending samples is not collected. Its creator holds one such mark until it commits or gives up.
//! * A truncation raises the lower bound first and then looks at what appenders have announced; an appender announces first
//!   and then looks at the bound. So either the sample is refused or the truncation waits for it. Readers likewise.
//! * Within a series, chunks on disk come before full chunks in memory, and those before the open one. Only where a replay
//!   found a second ref of the series may full chunks in memory lie before some on disk, until they are written.
//! * Replay applies the samples of a partition in the log's order, and none that stands before its series' record.
//!
//! # Differences from the reference, on purpose
//!
//! * A repeated series record keeps the samples that came before it; there they are lost.
//! * Start timestamps in the log are read back whatever the options say.
//! * A sample that an m-mapped chunk covers is refused as out of order even if the series has no open chunk; there it is
//!   accepted, logged and dropped.
//! * An appender that began before a truncation does not take samples from before it.
//! * The series records of rolled-back appenders are not logged.
//! * A first sample within half a chunk range of the smallest time is refused and does not spoil the head.

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
mod refs;
mod replay;
mod stats;
mod storage;
mod sync;
mod truncate;

pub use append::{Appender, Committed};
pub use error::{AppendError, CommitError, HeadError, ReadError};
pub use head::Head;
pub use index::{IndexFull, MatchOp, Matcher};
pub use options::{DEFAULT_CHUNK_RANGE, DamagePolicy, FloatEncoding, HeadOptions, ProgressFn};
pub use read::{RawChunk, Sample, Series, SeriesSet, Value};
pub use replay::{ChunkFileReport, Counts, Missed, Nameless, Preserved, Progress, ReplayDamage, ReplayReport};
pub use stats::{HeadStats, IndexBytes};
pub use storage::{Append, Query, QuerySeries, Storage};
pub use truncate::Truncated;
