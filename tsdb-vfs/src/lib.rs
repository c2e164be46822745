//! The file-system seam of a log: real files, and a simulated disk that can crash.
//!
//! A storage engine is correct when it survives every disk it can meet, and a real disk shows only one of them. This
//! crate is the narrow trait such an engine needs ([`Vfs`], [`VfsFile`], [`VfsLock`]) with an implementation over the
//! real file system ([`RealFs`]). Everything above takes a [`Fs`] and a path.
//!
//! ```
//! use std::sync::Arc;
//! use tsdb_vfs::{Fs, RealFs};
//!
//! # fn main() -> std::io::Result<()> {
//! # let tmp = tempfile::tempdir()?;
//! # let dir = tmp.path();
//! let fs: Fs = Arc::new(RealFs::new());
//! let file = fs.create_new(&dir.join("00000000"))?;
//! file.write_all_at(b"record", 0)?;
//! file.sync_data()?; // the bytes
//! fs.sync_dir(dir)?; // the name
//! assert_eq!(fs.read(&dir.join("00000000"))?, b"record");
//! # Ok(())
//! # }
//! ```
//!
//! # What the seam promises
//!
//! * Files are read and written at explicit offsets; there is no shared cursor, so a file can be used by many threads.
//! * A path is opened without following a symbolic link in its last component and without waiting for a FIFO's other
//!   end; anything that is not a regular file is refused with [`NotRegular`]. Directories may be reached through links.
//! * Nothing is durable before it is synced: bytes and length by [`VfsFile::sync_data`], names by [`Vfs::sync_dir`].
//! * Errors are plain [`std::io::Error`]s that keep the operating system's number; [`is_disk_full`] and
//!   [`is_not_regular`] sort them. The caller adds the path.

pub mod conformance;
pub mod crash;
mod error;
pub mod failpoints;
mod real;
mod rng;
mod scenario;
pub mod sim;
mod vfs;

pub use error::{NotRegular, is_disk_full, is_not_regular};
pub use real::RealFs;
pub use scenario::{Journal, Scenario};
pub use sim::SimFs;
pub use vfs::{DirEntry, FileKind, Fs, Map, Metadata, Vfs, VfsFile, VfsLock};
