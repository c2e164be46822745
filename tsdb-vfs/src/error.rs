//! Sorting I/O errors into what a log does about them.

use std::fmt;
use std::io;

use rustix::io::Errno;

use crate::FileKind;

/// Why an open was refused: something else than a regular file has that name.
///
/// It is the inner error of an [`io::Error`] of kind [`io::ErrorKind::InvalidInput`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotRegular {
    /// What was found under the name.
    pub found: FileKind,
}

impl fmt::Display for NotRegular {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected a regular file, found {}", self.found)
    }
}

impl std::error::Error for NotRegular {}

impl From<NotRegular> for io::Error {
    fn from(e: NotRegular) -> Self {
        io::Error::new(io::ErrorKind::InvalidInput, e)
    }
}

/// Whether `e` says that the name belongs to something else than a regular file.
pub fn is_not_regular(e: &io::Error) -> bool {
    e.get_ref().is_some_and(|inner| inner.is::<NotRegular>())
}

/// Whether `e` says that the disk or the quota is full (ENOSPC, EDQUOT): a state that passes when space returns, unlike
/// every other failure of a write.
pub fn is_disk_full(e: &io::Error) -> bool {
    [Errno::NOSPC, Errno::DQUOT].iter().any(|errno| e.raw_os_error() == Some(errno.raw_os_error()))
}
