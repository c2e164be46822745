//! Shrinks a Prometheus write-ahead log without ever risking it.
//!
//! A log grows for as long as it is written to. What has gone from memory to a block is not needed in it any more, but its
//! oldest segments also hold the labels of series that are alive and samples that are young. A *checkpoint* is a filtered
//! copy of old segments: a directory `checkpoint.N` beside them, which stands for everything up to segment N. It is in
//! the same format, so that a reader reads the newest checkpoint and then the segments behind it.
//!
//! ```
//! use std::sync::Arc;
//! use tsdb_model::{Labels, SeriesRef};
//! use tsdb_vfs::{Fs, RealFs};
//! use wal_checkpoint::{Options, Source, checkpoint, retire, segments_to_checkpoint};
//! use wal_format::{Batch, Sample, Series, Version};
//! use wal_segment::{Log, LogOptions, layout};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let tmp = tempfile::tempdir()?;
//! # let dir = tmp.path().join("wal");
//! let fs: Fs = Arc::new(RealFs::new());
//! let (log, _) = Log::open(fs.clone(), &dir, LogOptions::default())?;
//! for t in 0..6 {
//!     let labels = Labels::from_pairs([("__name__", "up")]);
//!     let mut batch = Batch::new(Version::V1);
//!     batch.series([Series { series: SeriesRef(t + 1), labels: labels.pairs() }]);
//!     batch.samples([Sample { series: SeriesRef(t + 1), t: t as i64 * 1000, v: 1.0, st: 0 }]);
//!     log.append(batch.records())?;
//!     log.next_segment()?;
//! }
//!
//! // Segments 0 to 6 exist, and 6 is being written to: of 0 to 5 the lower two thirds.
//! let (from, to) = segments_to_checkpoint(0, log.current_segment()).unwrap();
//! let source = Source::segments(&fs, &dir);
//! let keep = |series: SeriesRef| series.0 >= 4; // those that are still alive
//! let stats = checkpoint(&source, from, to, keep, 2_000, &Options::default())?;
//! assert_eq!(stats.counts.series.kept(), 1);
//! assert_eq!(stats.counts.samples.dropped, 2);
//!
//! // It has been read back and verified: its sources may go.
//! let removed = retire(&fs, &dir, &stats)?;
//! assert_eq!(removed.segments, 4);
//! assert_eq!(layout::last_checkpoint(&fs, &dir)?.unwrap().index, 3);
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises
//!
//! * A failure or a crash at any point loses nothing: nothing is changed before the new checkpoint is durable under its
//!   name, and what is removed then (by [`retire`], not before) goes in an order that leaves no gap.
//! * A checkpoint is read back and compared with what was written before it gets its name; a failed fsync never publishes.
//! * Damage in a source stops a strict run with nothing changed; a salvage run reads over it, reports it, and the damaged
//!   files end up in `quarantine/`. What the log's ledger says was durable and is not there as it was (pages that are zeros,
//!   missing or swapped, a segment that was cut) is damage, too; of a log that others wrote, it says nothing. A head that
//!   runs still knows the series whose records were lost: [`Source::with_living`].
//! * Memory: a few megabytes, plus a few bytes for each series that has metadata. It does not grow with the log.
//! * The same input gives the same bytes, whatever the number of threads.
//!
//! # What it leaves to others
//!
//! Which series are alive and from which time on samples are needed: the caller's predicate and minimum time.

mod damage;
mod error;
mod filter;
mod filtered;
mod hollow;
mod live;
mod metadata;
mod options;
mod publish;
mod remove;
mod rule;
mod run;
mod seen;
mod source;
mod stats;
#[cfg(test)]
mod testing;
mod times;

pub use damage::{Damage, DamagePolicy, Problem};
pub use error::Error;
pub use live::{Live, LiveWriter};
pub use options::{Options, Progress, ProgressFn, StartTimestamps};
pub use remove::{
    Removed, TEMPORARY_SUFFIX, clean_up, delete_older, quarantine, remove_segments, remove_temporaries, retire,
};
pub use rule::segments_to_checkpoint;
pub use run::checkpoint;
pub use source::Source;
pub use stats::{Count, Counts, Records, Stats};
