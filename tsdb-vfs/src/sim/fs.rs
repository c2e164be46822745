//! The simulated disk as a file system: one lock around disk, failures, counters and the recording.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::block::BLOCK_SIZE;
use super::dir::{DirNode, Ino};
use super::disk::{Disk, Node};
use super::fault::{Failure, Fault};
use super::file::{Dirty, FileNode};
use super::image::CrashPoint;
use super::op::{Op, OpCounts, OpKind};
use super::trace::{Trace, TracePoint};
use crate::rng::Rng;
use crate::{DirEntry, FileKind, Map, Metadata, Vfs, VfsFile, VfsLock};

/// A file system in memory that can crash and fail. Clones are handles to the same disk.
///
/// It starts with an empty root directory, `/`; relative paths start there too. All operations of all threads happen one
/// after the other.
#[derive(Clone)]
pub struct SimFs(Arc<Mutex<State>>);

struct State {
    disk: Disk,
    rng: Rng,
    /// Open handles per file.
    handles: HashMap<Ino, usize>,
    locked: Vec<Ino>,
    failures: Vec<Failure>,
    fired: u64,
    capacity: Option<u64>,
    counts: OpCounts,
    /// The operations since recording them was switched on.
    ops: Option<Vec<Op>>,
    trace: Option<Trace>,
}

impl fmt::Debug for SimFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFs").field("operations", &self.operations()).finish_non_exhaustive()
    }
}

impl SimFs {
    /// An empty disk. The seed decides where injected failures break a write.
    pub fn new(seed: u64) -> Self {
        Self::with_disk(Disk::empty(), seed)
    }

    pub(crate) fn with_disk(disk: Disk, seed: u64) -> Self {
        SimFs(Arc::new(Mutex::new(State {
            disk,
            rng: Rng::new(seed),
            handles: HashMap::new(),
            locked: Vec::new(),
            failures: Vec::new(),
            fired: 0,
            capacity: None,
            counts: OpCounts::default(),
            ops: None,
            trace: None,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic of a program under test must not hide the disk from who examines it afterwards.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // -- crashes -----------------------------------------------------------------------------------------------------------

    /// This moment, to draw crash images from.
    pub fn crash_point(&self) -> CrashPoint {
        CrashPoint::new(self.state().disk.clone())
    }

    /// Another disk with the same contents, all of it durable; no handles, locks, failures or capacity.
    pub fn duplicate(&self, seed: u64) -> SimFs {
        let mut disk = self.state().disk.clone();
        disk.sync_everything();
        disk.collect(|_| false);
        SimFs::with_disk(disk, seed)
    }

    /// Replaces all contents by what a reader of `image` sees, durable: the start of a scenario on what another left. For
    /// disks without open handles.
    pub fn restore(&self, image: &SimFs) {
        let mut disk = image.state().disk.clone();
        disk.sync_everything();
        disk.collect(|_| false);
        self.state().disk = disk;
    }

    /// Makes everything durable, as an orderly shutdown of the machine would.
    pub fn sync_everything(&self) {
        self.state().disk.sync_everything();
    }

    /// A hash of all names, lengths and bytes that a reader sees: equal for equal trees.
    pub fn fingerprint(&self) -> u64 {
        self.state().disk.fingerprint()
    }

    // -- failures ----------------------------------------------------------------------------------------------------------

    /// Orders a failure. Several orders stand beside each other; the first that meets an operation decides.
    pub fn inject(&self, failure: Failure) {
        self.state().failures.push(failure);
    }

    /// Withdraws all orders.
    pub fn heal(&self) {
        self.state().failures.clear();
    }

    /// How many operations were failed so far.
    pub fn fired(&self) -> u64 {
        self.state().fired
    }

    /// Limits the bytes that file blocks may take; `None` lifts the limit. A write for which some space is left is
    /// short, one for which none is left fails with ENOSPC, and so do creating and allocating.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Bytes that file blocks take now.
    pub fn used(&self) -> u64 {
        let state = self.state();
        state.disk.used(|ino| state.handles.contains_key(&ino))
    }

    // -- watching ----------------------------------------------------------------------------------------------------------

    /// How often each kind of operation happened.
    pub fn counts(&self) -> OpCounts {
        self.state().counts
    }

    /// Number of operations so far, which is the number of the next.
    pub fn operations(&self) -> u64 {
        self.state().counts.total()
    }

    /// Handles that are open now: a program that leaks them shows here.
    pub fn open_handles(&self) -> usize {
        self.state().handles.values().sum()
    }

    /// Starts to record operations, see [`ops`](SimFs::ops).
    pub fn record_ops(&self) {
        self.state().ops = Some(Vec::new());
    }

    /// The operations recorded so far.
    pub fn ops(&self) -> Vec<Op> {
        self.state().ops.clone().unwrap_or_default()
    }

    pub(crate) fn start_trace(&self) {
        let mut state = self.state();
        let state = &mut *state;
        let mut trace = Trace::default();
        trace.push(&state.disk, state.counts.total());
        state.trace = Some(trace);
    }

    pub(crate) fn note(&self, promise: bool) {
        if let Some(trace) = &mut self.state().trace {
            trace.notes += 1;
            trace.promised |= promise;
        }
    }

    pub(crate) fn end_trace(&self) -> Vec<TracePoint> {
        let mut state = self.state();
        let state = &mut *state;
        match state.trace.take() {
            Some(mut trace) => {
                trace.push(&state.disk, state.counts.total());
                trace.points
            }
            None => Vec::new(),
        }
    }

    // -- planting and exporting ------------------------------------------------------------------------------------------------

    /// Puts something under a name that no program creates through a [`Vfs`]: a link, a FIFO; durable at once.
    pub fn plant(&self, path: &Path, kind: FileKind) -> io::Result<()> {
        let node = match kind {
            FileKind::File => Node::File(FileNode::default()),
            FileKind::Dir => Node::Dir(DirNode::default()),
            other => Node::Special(other),
        };
        let mut state = self.state();
        state.disk.create(path, node)?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        state.disk.sync_dir(parent)
    }

    /// Writes what a reader sees into a directory of the real file system, to look at it with other programs. Links and
    /// FIFOs are left out.
    pub fn export(&self, into: &Path) -> io::Result<()> {
        let mut tree: Vec<(PathBuf, Option<Vec<u8>>)> = Vec::new();
        self.state().disk.walk(&mut |path, _, node| match node {
            Node::File(file) => {
                let mut bytes = vec![0; file.len() as usize];
                file.read(&mut bytes, 0);
                tree.push((path.to_owned(), Some(bytes)));
            }
            Node::Dir(_) => tree.push((path.to_owned(), None)),
            Node::Special(_) => {}
        });
        std::fs::create_dir_all(into)?;
        for (path, bytes) in tree {
            let target = into.join(path.strip_prefix("/").expect("walks from the root"));
            match bytes {
                Some(bytes) => std::fs::write(target, bytes)?,
                None => std::fs::create_dir_all(target)?,
            }
        }
        Ok(())
    }

    /// Copies the regular files and directories of a real directory into `to`, which is created; durable at once.
    pub fn import(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.create_dir_all(to)?;
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            let target = to.join(entry.file_name());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.import(&entry.path(), &target)?;
            } else if kind.is_file() {
                self.create_new(&target)?.write_all_at(&std::fs::read(entry.path())?, 0)?;
            }
        }
        self.sync_everything();
        Ok(())
    }

    // -- one operation -----------------------------------------------------------------------------------------------------

    fn run<T>(&self, call: Call<'_>, act: impl FnOnce(&mut State, Option<Fault>) -> io::Result<T>) -> io::Result<T> {
        self.state().run(call, act)
    }

    fn open(&self, path: &Path, kind: OpKind) -> io::Result<Box<dyn VfsFile>> {
        let ino = self.run(Call::new(kind, path), |state, fault| {
            refuse(fault)?;
            let ino = state.disk.open(path)?;
            *state.handles.entry(ino).or_default() += 1;
            Ok(ino)
        })?;
        Ok(Box::new(SimFile { fs: self.clone(), ino, path: path.into(), writable: kind != OpKind::OpenRead }))
    }
}

/// An operation about to happen.
#[derive(Clone, Copy)]
struct Call<'a> {
    kind: OpKind,
    path: &'a Path,
    offset: u64,
    len: u64,
}

impl<'a> Call<'a> {
    fn new(kind: OpKind, path: &'a Path) -> Self {
        Call { kind, path, offset: 0, len: 0 }
    }
}

/// Fails an operation that the order meets, without any effect.
fn refuse(fault: Option<Fault>) -> io::Result<()> {
    fault.map_or(Ok(()), |fault| Err(fault.error()))
}

impl State {
    fn run<T>(
        &mut self,
        call: Call<'_>,
        act: impl FnOnce(&mut State, Option<Fault>) -> io::Result<T>,
    ) -> io::Result<T> {
        let number = self.counts.total();
        let fault = self.failures.iter_mut().find_map(|failure| failure.meets(number, call.kind, call.path));
        self.fired += u64::from(fault.is_some());
        if call.kind.is_mutation()
            && let Some(trace) = &mut self.trace
            && trace.promised
        {
            trace.push(&self.disk, number);
        }
        self.counts.count(call.kind);
        let result = act(self, fault);
        if call.kind.is_mutation()
            && (result.is_ok() || fault.is_some())
            && let Some(trace) = &mut self.trace
        {
            trace.push(&self.disk, number + 1);
        }
        if let Some(ops) = &mut self.ops {
            let Call { kind, path, offset, len } = call;
            let error = result.as_ref().err().map(ToString::to_string);
            ops.push(Op { number, kind, path: path.into(), offset, len, error, injected: fault.is_some() });
        }
        result
    }

    fn sync(&mut self, ino: Ino, fault: Option<Fault>) -> io::Result<()> {
        match fault {
            None => self.disk.file_mut(ino).sync(),
            Some(Fault::FailedSync(dirty, _)) => self.disk.file_mut(ino).fail_sync(dirty),
            Some(_) => self.disk.file_mut(ino).fail_sync(Dirty::Keep),
        }
        refuse(fault)
    }

    /// Bytes of blocks that can still be taken.
    fn room(&self) -> u64 {
        match self.capacity {
            None => u64::MAX,
            Some(capacity) => capacity.saturating_sub(self.disk.used(|ino| self.handles.contains_key(&ino))),
        }
    }

    /// How much of `len` bytes at `offset` fits.
    fn fitting(&self, ino: Ino, offset: u64, len: u64) -> u64 {
        let mut room = self.room();
        if room == u64::MAX {
            return len;
        }
        let file = self.disk.file(ino);
        let mut at = offset;
        while at < offset + len {
            if file.is_hole(at) {
                let Some(left) = room.checked_sub(BLOCK_SIZE as u64) else { break };
                room = left;
            }
            at = (at / BLOCK_SIZE as u64 + 1) * BLOCK_SIZE as u64;
        }
        at.min(offset + len) - offset
    }

    fn write(&mut self, ino: Ino, data: &[u8], offset: u64, fault: Option<Fault>) -> io::Result<usize> {
        if data.is_empty() {
            return refuse(fault).map(|()| 0);
        }
        let intended = match fault {
            Some(Fault::ShortWrite) => 1 + self.rng.below((data.len() as u64 - 1).max(1)) as usize,
            Some(Fault::BrokenWrite(_)) => self.rng.below(data.len() as u64 + 1) as usize,
            Some(other) => return Err(other.error()),
            None => data.len(),
        };
        let fitting = self.fitting(ino, offset, intended as u64) as usize;
        if fitting == 0 && intended > 0 {
            return Err(Errno::NOSPC.into());
        }
        if fitting > 0 {
            self.disk.file_mut(ino).write(&data[..fitting], offset);
        }
        match fault {
            Some(broken @ Fault::BrokenWrite(_)) => Err(broken.error()),
            _ => Ok(fitting),
        }
    }

    fn release(&mut self, ino: Ino) {
        if let Some(count) = self.handles.get_mut(&ino) {
            *count -= 1;
            if *count == 0 {
                self.handles.remove(&ino);
            }
        }
    }

    fn collect(&mut self) {
        let State { disk, handles, .. } = self;
        disk.collect(|ino| handles.contains_key(&ino));
    }
}

impl Vfs for SimFs {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        let ino = self.run(Call::new(OpKind::Create, path), |state, fault| {
            refuse(fault)?;
            if state.room() == 0 {
                return Err(Errno::NOSPC.into());
            }
            let ino = state.disk.create(path, Node::File(FileNode::default()))?;
            *state.handles.entry(ino).or_default() += 1;
            Ok(ino)
        })?;
        Ok(Box::new(SimFile { fs: self.clone(), ino, path: path.into(), writable: true }))
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        self.open(path, OpKind::OpenRead)
    }

    fn open_write(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        self.open(path, OpKind::OpenWrite)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.run(Call::new(OpKind::List, dir), |state, fault| {
            refuse(fault)?;
            state.disk.list(dir)
        })
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.run(Call::new(OpKind::Metadata, path), |state, fault| {
            refuse(fault)?;
            Ok(state.disk.node(state.disk.lookup(path)?).describe())
        })
    }

    fn dir_exists(&self, path: &Path) -> io::Result<bool> {
        match self.metadata(path) {
            Ok(found) => Ok(found.kind == FileKind::Dir),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.run(Call::new(OpKind::CreateDir, path), |state, fault| {
            refuse(fault)?;
            state.disk.create(path, Node::Dir(DirNode::default())).map(drop)
        })
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        if self.dir_exists(path)? {
            return Ok(());
        }
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            self.create_dir_all(parent)?;
        }
        match self.create_dir(path) {
            // Another thread was faster.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && self.dir_exists(path)? => Ok(()),
            other => other,
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.run(Call::new(OpKind::Rename, to), |state, fault| {
            refuse(fault)?;
            state.disk.rename(from, to)
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.run(Call::new(OpKind::RemoveFile, path), |state, fault| {
            refuse(fault)?;
            state.disk.unlink(path)
        })
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        for entry in self.list(path)? {
            let child = path.join(entry.name);
            match entry.kind {
                FileKind::Dir => self.remove_dir_all(&child)?,
                _ => self.remove_file(&child)?,
            }
        }
        self.run(Call::new(OpKind::RemoveDir, path), |state, fault| {
            refuse(fault)?;
            state.disk.remove_dir(path)
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.run(Call::new(OpKind::SyncDir, dir), |state, fault| {
            match fault {
                None => state.disk.sync_dir(dir)?,
                Some(Fault::FailedSync(dirty, _)) => state.disk.fail_sync_dir(dir, dirty)?,
                Some(_) => {}
            }
            refuse(fault)?;
            state.collect();
            Ok(())
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn VfsLock>> {
        let ino = self.run(Call::new(OpKind::Lock, path), |state, fault| {
            refuse(fault)?;
            let ino = match state.disk.open(path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    state.disk.create(path, Node::File(FileNode::default()))?
                }
                other => other?,
            };
            if state.locked.contains(&ino) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            state.locked.push(ino);
            *state.handles.entry(ino).or_default() += 1;
            Ok(ino)
        })?;
        Ok(Box::new(SimLock { fs: self.clone(), ino, path: path.into() }))
    }
}

/// An open file of a simulated disk.
struct SimFile {
    fs: SimFs,
    ino: Ino,
    path: Arc<Path>,
    writable: bool,
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl SimFile {
    fn call(&self, kind: OpKind, offset: u64, len: u64) -> Call<'_> {
        Call { kind, path: &self.path, offset, len }
    }

    fn writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(Errno::BADF.into()) }
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.fs.state().release(self.ino);
    }
}

impl VfsFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.fs.run(self.call(OpKind::Read, offset, buf.len() as u64), |state, fault| {
            refuse(fault)?;
            Ok(state.disk.file(self.ino).read(buf, offset))
        })
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.fs.run(self.call(OpKind::Write, offset, buf.len() as u64), |state, fault| {
            self.writable()?;
            state.write(self.ino, buf, offset, fault)
        })
    }

    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.write_at(&bufs.iter().flat_map(|buf| buf.iter().copied()).collect::<Vec<u8>>(), offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.fs.run(self.call(OpKind::Len, 0, 0), |state, fault| {
            refuse(fault)?;
            Ok(state.disk.file(self.ino).len())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.fs.run(self.call(OpKind::SetLen, len, 0), |state, fault| {
            self.writable()?;
            refuse(fault)?;
            state.disk.file_mut(self.ino).set_len(len);
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.fs.run(self.call(OpKind::SyncData, 0, 0), |state, fault| state.sync(self.ino, fault))
    }

    fn sync_all(&self) -> io::Result<()> {
        self.fs.run(self.call(OpKind::SyncAll, 0, 0), |state, fault| state.sync(self.ino, fault))
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.fs.run(self.call(OpKind::Allocate, offset, len), |state, fault| {
            self.writable()?;
            refuse(fault)?;
            if len == 0 {
                return Ok(());
            }
            if state.fitting(self.ino, offset, len) < len {
                return Err(Errno::NOSPC.into());
            }
            state.disk.file_mut(self.ino).allocate(offset, len);
            Ok(())
        })
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        self.fs.run(self.call(OpKind::Reserve, offset, len), |state, fault| {
            self.writable()?;
            refuse(fault)?;
            if state.fitting(self.ino, offset, len) < len {
                return Err(Errno::NOSPC.into());
            }
            if len > 0 {
                state.disk.file_mut(self.ino).reserve(offset, len);
            }
            Ok(())
        })
    }

    fn map(&self) -> io::Result<Map> {
        self.fs.run(self.call(OpKind::Map, 0, 0), |state, fault| {
            refuse(fault)?;
            let file = state.disk.file(self.ino);
            let mut bytes = vec![0; file.len() as usize];
            file.read(&mut bytes, 0);
            Ok(Map::owned(bytes))
        })
    }
}

/// A held lock of a simulated disk. It does not survive a crash.
#[derive(Debug)]
struct SimLock {
    fs: SimFs,
    ino: Ino,
    path: Arc<Path>,
}

impl VfsLock for SimLock {
    fn is_current(&self) -> io::Result<bool> {
        Ok(self.fs.state().disk.lookup(&self.path).is_ok_and(|ino| ino == self.ino))
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.fs.state();
        state.locked.retain(|&ino| ino != self.ino);
        state.release(self.ino);
    }
}
