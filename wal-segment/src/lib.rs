//! The Prometheus write-ahead log on disk: pages, fragments, segments.
//!
//! A log is a directory of numbered segment files. Its records are byte strings: this crate knows nothing of what is in
//! them. Every segment that it writes, Prometheus 3.14 reads, and the other way round.
//!
//! ```
//! use std::sync::Arc;
//! use tsdb_vfs::{Fs, RealFs};
//! use wal_segment::{Compression, Durability, Log, LogOptions, LogReader};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let tmp = tempfile::tempdir()?;
//! # let dir = tmp.path().join("wal");
//! let fs: Fs = Arc::new(RealFs::new());
//! let options =
//!     LogOptions { compression: Compression::Snappy, durability: Durability::Always, ..LogOptions::default() };
//! let (log, _) = Log::open(fs.clone(), &dir, options)?;
//! log.append([b"first".as_slice(), b"second"])?; // on disk when it returns
//! log.close()?;
//!
//! let mut reader = LogReader::open(fs, &dir)?;
//! let mut records = Vec::new();
//! while let Some(record) = reader.next()? {
//!     records.push(record.bytes.to_vec());
//! }
//! assert_eq!(records, [b"first".to_vec(), b"second".to_vec()]);
//! # Ok(())
//! # }
//! ```
//!
//! # Rooms
//!
//! * [`mod@format`]: bytes of a page; [`framer`]: the one state machine that all readers drive; [`layout`]: names.
//! * [`Log`]: the writer; it heals what a crash tore when it opens. [`Ledger`]: what was durable.
//! * [`LogReader`]: strict; [`parallel`]: strict on many threads; [`SalvageReader`]: everything sound; [`TailReader`]: a log
//!   that grows.
//! * [`verify`]: what is wrong; [`repair`]: a plan, and doing it.
//!
//! # What it is not for
//!
//! Records are found by reading from the start of a page, not by key, and are removed by whole segments only.

pub mod error;
pub mod format;
pub mod framer;
pub mod layout;
pub mod parallel;
pub mod repair;
pub mod verify;
mod write_again;

mod chain;
mod compression;
mod frame;
mod fresh;
mod ledger;
mod log;
mod others;
mod quarantine;
mod reader;
mod resync;
mod salvage;
mod scan;
mod snappy;
mod tail;

pub use compression::{Compression, Compressor, Decompressor, MAX_RECORD_LEN, UnknownCompression};
pub use error::{Damage, Error, FrameFault, Location, Position, ReadError};
pub use format::{DEFAULT_SEGMENT_SIZE, HEADER_SIZE, PAGE_SIZE};
pub use fresh::{Ended, FreshSegments, ReadBack, Written};
pub use layout::{CheckpointRef, SegmentRef};
pub use ledger::{Ledger, LedgerEntry};
pub use log::{Check, Durability, Healed, Log, LogOptions, OpenReport, Recovered};
pub use reader::{LogReader, Record};
pub use salvage::{DamagedRange, Item, SalvageReader};
pub use tail::{TailFrom, TailItem, TailReader};
