//! The operations of a simulated disk, counted and recorded.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// What an operation does: each can be failed by its kind, and is counted by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum OpKind {
    /// [`Vfs::create_new`](crate::Vfs::create_new)
    Create,
    /// [`Vfs::open_read`](crate::Vfs::open_read)
    OpenRead,
    /// [`Vfs::open_write`](crate::Vfs::open_write)
    OpenWrite,
    /// [`Vfs::list`](crate::Vfs::list)
    List,
    /// [`Vfs::metadata`](crate::Vfs::metadata), [`Vfs::dir_exists`](crate::Vfs::dir_exists)
    Metadata,
    /// One directory made.
    CreateDir,
    /// [`Vfs::rename`](crate::Vfs::rename)
    Rename,
    /// One file's name removed.
    RemoveFile,
    /// One directory removed.
    RemoveDir,
    /// [`Vfs::sync_dir`](crate::Vfs::sync_dir)
    SyncDir,
    /// [`Vfs::lock`](crate::Vfs::lock)
    Lock,
    /// [`VfsFile::read_at`](crate::VfsFile::read_at)
    Read,
    /// [`VfsFile::write_at`](crate::VfsFile::write_at), [`VfsFile::write_vectored_at`](crate::VfsFile::write_vectored_at)
    Write,
    /// [`VfsFile::len`](crate::VfsFile::len)
    Len,
    /// [`VfsFile::set_len`](crate::VfsFile::set_len)
    SetLen,
    /// [`VfsFile::sync_data`](crate::VfsFile::sync_data)
    SyncData,
    /// [`VfsFile::sync_all`](crate::VfsFile::sync_all)
    SyncAll,
    /// [`VfsFile::allocate`](crate::VfsFile::allocate)
    Allocate,
    /// [`VfsFile::reserve`](crate::VfsFile::reserve)
    Reserve,
    /// [`VfsFile::map`](crate::VfsFile::map)
    Map,
}

impl OpKind {
    /// All of them.
    pub const ALL: [OpKind; 20] = [
        OpKind::Create,
        OpKind::OpenRead,
        OpKind::OpenWrite,
        OpKind::List,
        OpKind::Metadata,
        OpKind::CreateDir,
        OpKind::Rename,
        OpKind::RemoveFile,
        OpKind::RemoveDir,
        OpKind::SyncDir,
        OpKind::Lock,
        OpKind::Read,
        OpKind::Write,
        OpKind::Len,
        OpKind::SetLen,
        OpKind::SyncData,
        OpKind::SyncAll,
        OpKind::Allocate,
        OpKind::Reserve,
        OpKind::Map,
    ];

    /// Whether it makes something durable.
    pub fn is_sync(self) -> bool {
        matches!(self, OpKind::SyncDir | OpKind::SyncData | OpKind::SyncAll)
    }

    /// Whether it can change what is on the disk.
    pub fn is_mutation(self) -> bool {
        use OpKind::*;
        !matches!(self, OpenRead | OpenWrite | List | Metadata | Read | Len | Reserve | Map)
    }
}

impl fmt::Display for OpKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use OpKind::*;
        f.pad(match self {
            Create => "create",
            OpenRead => "open for reading",
            OpenWrite => "open for writing",
            List => "list",
            Metadata => "metadata",
            CreateDir => "create directory",
            Rename => "rename",
            RemoveFile => "remove file",
            RemoveDir => "remove directory",
            SyncDir => "sync directory",
            Lock => "lock",
            Read => "read",
            Write => "write",
            Len => "length",
            SetLen => "set length",
            SyncData => "sync data",
            SyncAll => "sync all",
            Allocate => "allocate",
            Reserve => "reserve",
            Map => "map",
        })
    }
}

/// One operation as it happened.
#[derive(Debug, Clone)]
pub struct Op {
    /// Its number on this disk, from 0.
    pub number: u64,
    /// What it was.
    pub kind: OpKind,
    /// The path it was given, or the one its file was opened by.
    pub path: Arc<Path>,
    /// Offset in bytes, 0 where there is none.
    pub offset: u64,
    /// Length in bytes asked for, 0 where there is none.
    pub len: u64,
    /// The error it returned, in words.
    pub error: Option<String>,
    /// Whether an injected failure had a part in it.
    pub injected: bool,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} {} {}", self.number, self.kind, self.path.display())?;
        if self.len > 0 || self.kind == OpKind::SetLen {
            write!(f, ", {} bytes at {}", self.len, self.offset)?;
        }
        if self.injected {
            f.write_str(" (injected)")?;
        }
        match &self.error {
            Some(e) => write!(f, ": {e}"),
            None => Ok(()),
        }
    }
}

/// How often each kind of operation happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpCounts([u64; OpKind::ALL.len()]);

impl OpCounts {
    /// How often `kind` happened.
    pub fn get(&self, kind: OpKind) -> u64 {
        self.0[kind as usize]
    }

    /// All kinds together.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub(crate) fn count(&mut self, kind: OpKind) {
        self.0[kind as usize] += 1;
    }
}

impl std::ops::AddAssign for OpCounts {
    fn add_assign(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(mine, theirs)| *mine += theirs);
    }
}

impl fmt::Display for OpCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut seen = OpKind::ALL.into_iter().filter(|&kind| self.get(kind) > 0);
        if let Some(first) = seen.next() {
            write!(f, "{first} {}", self.get(first))?;
        }
        seen.try_for_each(|kind| write!(f, ", {kind} {}", self.get(kind)))
    }
}
