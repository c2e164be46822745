//! A simulated disk: everything that a real one may do to a log, on demand and the same again for the same seed.
//!
//! [`SimFs`] is a [`Vfs`](crate::Vfs) in memory that remembers of every block, length and name whether it is **durable** or would
//! be lost in a crash. On it a program meets
//!
//! * **crashes**: [`SimFs::crash_point`] is the disk at this moment, of which [`CrashPoint`] draws images: any subset of
//!   the unsynced 4 KiB blocks, older versions of them, 512-byte sectors torn inside them, lengths that arrived before
//!   their data, directory entries and renames that did not arrive;
//! * **failures**: [`SimFs::inject`] lets any operation fail, by number or kind, once or from then on, also a sync
//!   after which the kernel dropped the dirty pages ([`Dirty`]);
//! * **a full disk**: [`SimFs::set_capacity`].
//!
//! The drivers [`crash`](crate::crash) and [`failpoints`](crate::failpoints) visit such states by the thousand.
//!
//! ```
//! use std::path::Path;
//! use tsdb_vfs::{Vfs, sim::{Kept, SimFs}};
//!
//! # fn main() -> std::io::Result<()> {
//! let disk = SimFs::new(1);
//! disk.write_new(Path::new("/log"), b"acknowledged")?; // bytes synced, name not
//! let worst = disk.crash_point().image(Kept::Nothing);
//! assert!(!worst.exists(Path::new("/log"))?);
//!
//! disk.sync_dir(Path::new("/"))?;
//! let worst = disk.crash_point().image(Kept::Nothing);
//! assert_eq!(worst.read(Path::new("/log"))?, b"acknowledged");
//! # Ok(())
//! # }
//! ```
//!
//! # The model
//!
//! What is not synced may be lost or kept piece by piece, in any combination; that is harsher than any one file system
//! and what POSIX allows. What no file system does is left out: a rename is never half done, a file moved to another
//! directory has at least one of its names, a sector is never half written, and no block is touched that was not written.

mod block;
mod dir;
mod disk;
mod fault;
mod file;
mod fs;
mod image;
mod op;
mod trace;

pub use block::{BLOCK_SIZE, SECTOR_SIZE};
pub use fault::{Failure, Fault};
pub use file::Dirty;
pub use fs::SimFs;
pub use image::{CrashPoint, Kept, Losses};
pub use op::{Op, OpCounts, OpKind};
pub(crate) use trace::TracePoint;
