//! Failures to order: which operation, what happens to it, once or from then on.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::file::Dirty;
use super::op::OpKind;

/// A sticky interruption lets every fourth call through: no kernel interrupts for ever, and code that retries is right.
const INTERRUPTIONS: u64 = 3;

/// What happens to an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// It fails with this operating-system error and has no effect.
    Error(i32),
    /// A write stops before its end and says so. A write of one byte is let through.
    ShortWrite,
    /// A write stops anywhere, also before its first or behind its last byte, and returns this operating-system error.
    BrokenWrite(i32),
    /// A sync fails with this operating-system error, and the pages fare as said.
    FailedSync(Dirty, i32),
}

impl Fault {
    /// Input/output error (EIO).
    pub const EIO: Fault = Fault::Error(Errno::IO.raw_os_error());
    /// No space left on device (ENOSPC).
    pub const ENOSPC: Fault = Fault::Error(Errno::NOSPC.raw_os_error());
    /// Quota exceeded (EDQUOT).
    pub const EDQUOT: Fault = Fault::Error(Errno::DQUOT.raw_os_error());
    /// Interrupted system call (EINTR).
    pub const EINTR: Fault = Fault::Error(Errno::INTR.raw_os_error());
    /// Too many open files (EMFILE).
    pub const EMFILE: Fault = Fault::Error(Errno::MFILE.raw_os_error());
    /// Permission denied (EACCES).
    pub const EACCES: Fault = Fault::Error(Errno::ACCESS.raw_os_error());
    /// Read-only file system (EROFS).
    pub const EROFS: Fault = Fault::Error(Errno::ROFS.raw_os_error());
    /// A failed sync after which the pages are still dirty.
    pub const SYNC_KEEPS: Fault = Fault::FailedSync(Dirty::Keep, Errno::IO.raw_os_error());
    /// A failed sync after which the pages count as clean and stay in the cache.
    pub const SYNC_DROPS: Fault = Fault::FailedSync(Dirty::Drop, Errno::IO.raw_os_error());
    /// A failed sync after which the file shows what the disk has.
    pub const SYNC_REVERTS: Fault = Fault::FailedSync(Dirty::Revert, Errno::IO.raw_os_error());

    /// The faults that real systems show for an operation of this kind: what a sweep tries.
    pub fn plausible(kind: OpKind) -> &'static [Fault] {
        const FULL: Fault = Fault::BrokenWrite(Errno::NOSPC.raw_os_error());
        const TORN: Fault = Fault::BrokenWrite(Errno::IO.raw_os_error());
        const SYNC_FULL: Fault = Fault::FailedSync(Dirty::Keep, Errno::NOSPC.raw_os_error());
        match kind {
            OpKind::Create | OpKind::Lock => &[Fault::EIO, Fault::ENOSPC, Fault::EDQUOT, Fault::EMFILE],
            OpKind::OpenRead | OpKind::OpenWrite | OpKind::List => &[Fault::EIO, Fault::EMFILE],
            OpKind::CreateDir | OpKind::Rename | OpKind::Allocate | OpKind::Reserve => {
                &[Fault::EIO, Fault::ENOSPC, Fault::EDQUOT]
            }
            OpKind::Metadata | OpKind::RemoveFile | OpKind::RemoveDir | OpKind::Len | OpKind::SetLen | OpKind::Map => {
                &[Fault::EIO]
            }
            OpKind::Read => &[Fault::EIO, Fault::EINTR],
            OpKind::Write => &[Fault::EIO, Fault::ENOSPC, Fault::EDQUOT, Fault::EINTR, Fault::ShortWrite, FULL, TORN],
            // No journal forgets names and goes on: after such a failure the file system takes no more changes.
            OpKind::SyncDir => &[Fault::EMFILE, Fault::SYNC_KEEPS],
            OpKind::SyncData | OpKind::SyncAll => {
                &[Fault::SYNC_KEEPS, Fault::SYNC_DROPS, Fault::SYNC_REVERTS, SYNC_FULL]
            }
        }
    }

    /// Whether an operation of this kind can fail this way.
    pub fn applies_to(self, kind: OpKind) -> bool {
        match self {
            // What std retries by itself, as the real file system does, is never seen interrupted.
            Fault::EINTR => matches!(kind, OpKind::Read | OpKind::Write),
            Fault::Error(_) => true,
            Fault::ShortWrite | Fault::BrokenWrite(_) => kind == OpKind::Write,
            Fault::FailedSync(..) => kind.is_sync(),
        }
    }

    /// The error that the operation returns.
    pub(crate) fn error(self) -> io::Error {
        match self {
            Fault::Error(code) | Fault::BrokenWrite(code) | Fault::FailedSync(_, code) => {
                io::Error::from_raw_os_error(code)
            }
            Fault::ShortWrite => io::ErrorKind::WriteZero.into(),
        }
    }
}

/// An order to fail operations: a fault and which operations it meets.
///
/// ```
/// use tsdb_vfs::sim::{Failure, Fault, OpKind};
///
/// // The third write under /wal, and all after it.
/// let failure = Failure::new(Fault::ENOSPC).kind(OpKind::Write).under("/wal").nth(2).sticky();
/// # let _ = failure;
/// ```
#[derive(Debug, Clone)]
pub struct Failure {
    fault: Fault,
    kind: Option<OpKind>,
    plausible_only: bool,
    under: Option<PathBuf>,
    from_number: u64,
    skip: u64,
    sticky: bool,
    fired: u64,
}

impl Failure {
    /// Fails the next operation that can fail this way.
    pub fn new(fault: Fault) -> Self {
        Failure {
            fault,
            kind: None,
            plausible_only: false,
            under: None,
            from_number: 0,
            skip: 0,
            sticky: false,
            fired: 0,
        }
    }

    /// Only operations of this kind.
    #[must_use]
    pub fn kind(mut self, kind: OpKind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Only operations that real systems fail this way, see [`Fault::plausible`].
    #[must_use]
    pub fn plausible(mut self) -> Self {
        self.plausible_only = true;
        self
    }

    /// Only operations on this path and what lies under it.
    #[must_use]
    pub fn under(mut self, path: impl Into<PathBuf>) -> Self {
        self.under = Some(path.into());
        self
    }

    /// Only operations from this number on (numbers count every operation on the disk, from 0).
    #[must_use]
    pub fn from_number(mut self, number: u64) -> Self {
        self.from_number = number;
        self
    }

    /// Lets `n` operations that it would meet pass first.
    #[must_use]
    pub fn nth(mut self, n: u64) -> Self {
        self.skip = n;
        self
    }

    /// From then on every operation it meets fails, not only the first.
    #[must_use]
    pub fn sticky(mut self) -> Self {
        self.sticky = true;
        self
    }

    /// Whether this order fails the operation; counts it.
    pub(crate) fn meets(&mut self, number: u64, kind: OpKind, path: &Path) -> Option<Fault> {
        let met = number >= self.from_number
            && self.kind.is_none_or(|only| only == kind)
            && self.fault.applies_to(kind)
            && (!self.plausible_only || Fault::plausible(kind).contains(&self.fault))
            && self.under.as_ref().is_none_or(|under| path.starts_with(under));
        if !met || (!self.sticky && self.fired > 0) {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.fired += 1;
        if self.fault == Fault::EINTR && self.fired.is_multiple_of(INTERRUPTIONS + 1) {
            return None;
        }
        Some(self.fault)
    }
}
