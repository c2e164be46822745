//! A checkpoint on its way to its name: written beside, made durable, read back, renamed.
//!
//! ```text
//! checkpoint.N.tmp/   segments written, each fsynced       crash: a temporary, removed by the next run
//!                     the directory fsynced
//!                     read back: as many records, the same bytes
//!                     none at all: a durable note that this is so (`hollow.rs`)
//! checkpoint.N/       renamed, the log's directory fsynced crash: the old name or the new one, both whole
//! ```
//!
//! Until the last step nothing that existed before has been touched; a failure at any point takes the temporary away.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use tsdb_vfs::Fs;
use wal_segment::parallel::{self, Block, ParallelOptions};
use wal_segment::{Compression, Log, LogOptions, ReadError, layout};

use crate::error::Error;
use crate::hollow;
use crate::remove::TEMPORARY_SUFFIX;

/// A record in its stored form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stored<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) compression: Compression,
    pub(crate) fingerprint: Fingerprint,
}

/// A checksum over a stored record. Made by the threads that filter, and again by those that read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint(u32);

impl Fingerprint {
    pub(crate) fn of(stored: &[u8], compression: Compression) -> Self {
        // Length and compression take part, so that two records can't trade bytes at their seam.
        let len = (stored.len() as u64) << 2 | compression as u64;
        Self(crc32c::crc32c_append(crc32c::crc32c(stored), &len.to_le_bytes()))
    }
}

/// What a sequence of stored records comes to: how many they are, and one checksum over all of them in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Digest {
    records: u64,
    crc: u32,
}

impl Digest {
    fn add(&mut self, record: Fingerprint) {
        self.crc = crc32c::crc32c_append(self.crc, &record.0.to_le_bytes());
        self.records += 1;
    }
}

/// A checkpoint that has no name yet. Dropping it removes what there is of it.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    fs: &'a Fs,
    temporary: PathBuf,
    threads: usize,
    log: Option<Arc<Log>>,
    syncer: Option<Syncer>,
    digest: Digest,
}

/// Makes what has been written durable while more is written, so that little is left to wait for at the end.
#[derive(Debug)]
struct Syncer {
    wake: SyncSender<()>,
    thread: JoinHandle<()>,
    unsynced: u64,
}

/// Bytes after which the syncer is woken.
const SYNC_EVERY: u64 = 16 * 1024 * 1024;

impl Syncer {
    fn start(log: Arc<Log>) -> std::io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        let thread = std::thread::Builder::new().name("checkpoint-sync".to_owned()).spawn(move || {
            while woken.recv().is_ok() {
                // The log keeps the failure, and closing it tells.
                if let Err(error) = log.sync() {
                    tracing::debug!(%error, "an early sync failed");
                }
            }
        })?;
        Ok(Self { wake, thread, unsynced: 0 })
    }

    fn wrote(&mut self, bytes: u64) {
        self.unsynced += bytes;
        if self.unsynced >= SYNC_EVERY {
            self.unsynced = 0;
            // A full channel means that it is going to sync anyway.
            let _woken: Result<(), _> = self.wake.try_send(());
        }
    }

    fn stop(self) {
        drop(self.wake);
        // A panic has been printed by its thread, and what it left unsynced is synced by closing the log.
        drop(self.thread.join());
    }
}

/// A published checkpoint's files.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Published {
    pub(crate) segments: u64,
    pub(crate) bytes: u64,
}

impl<'a> Draft<'a> {
    /// Starts `path` beside its final place. With one thread, every operation happens in one order.
    pub(crate) fn create(fs: &'a Fs, path: &Path, segment_size: u64, threads: usize) -> Result<Self, Error> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(TEMPORARY_SUFFIX);
        let temporary = PathBuf::from(temporary);
        fs.create_dir(&temporary).map_err(Error::io(&temporary))?;
        // From here on a failure has something to remove.
        let mut draft = Self { fs, temporary, threads, log: None, syncer: None, digest: Digest::default() };
        let options = LogOptions { segment_size, background_sync: threads > 1, ..LogOptions::default() };
        let log = Arc::new(Log::open(fs.clone(), &draft.temporary, options)?.0);
        if threads > 1 {
            draft.syncer = Some(Syncer::start(log.clone()).map_err(Error::io(&draft.temporary))?);
        }
        draft.log = Some(log);
        Ok(draft)
    }

    /// Appends records.
    pub(crate) fn append<'r>(&mut self, records: impl Iterator<Item = Stored<'r>>) -> Result<(), Error> {
        let (digest, mut bytes) = (&mut self.digest, 0);
        if let Some(log) = &self.log {
            log.append_stored(records.map(|record| {
                digest.add(record.fingerprint);
                bytes += record.bytes.len() as u64;
                (record.bytes, record.compression)
            }))?;
        }
        if let Some(syncer) = &mut self.syncer {
            syncer.wrote(bytes);
        }
        Ok(())
    }

    /// Makes it durable, reads it back and gives it its name.
    pub(crate) fn publish(mut self, path: &Path) -> Result<Published, Error> {
        if let Some(syncer) = self.syncer.take() {
            syncer.stop();
        }
        // The syncer had the only other handle.
        if let Some(log) = self.log.take().and_then(Arc::into_inner) {
            log.close()?;
        }
        self.fs.sync_dir(&self.temporary).map_err(Error::io(&self.temporary))?;
        let published = self.read_back()?;
        if self.digest.records == 0 {
            hollow::vouch(self.fs, &self.temporary)?;
        }
        self.fs.rename(&self.temporary, path).map_err(Error::io(path))?;
        let parent = path.parent().unwrap_or(Path::new(""));
        if let Err(source) = self.fs.sync_dir(parent) {
            // Nobody knows whether the name is durable. Taking it back leaves the state before, which is.
            if self.fs.rename(path, &self.temporary).is_err() {
                tracing::warn!(path = %path.display(), "a checkpoint of unknown durability stays under its name");
            }
            return Err(Error::io(parent)(source));
        }
        // Nothing left to remove.
        self.temporary = PathBuf::new();
        Ok(published)
    }

    /// Reads the files again, strictly, and compares with what was handed to the writer.
    fn read_back(&self) -> Result<Published, Error> {
        let segments = layout::segments(self.fs, &self.temporary)?;
        layout::check_sequence(&segments)?;
        let options = ParallelOptions { threads: self.threads, ..ParallelOptions::default() };
        let mut found = Digest::default();
        let map = |block: &mut Block<'_>| {
            let mut records = Vec::new();
            while let Some((stored, compression)) = block.next_stored() {
                records.push(Fingerprint::of(stored, compression));
            }
            records
        };
        let read = parallel::read(self.fs, &segments, &options, map, |records| {
            records.into_iter().for_each(|record| found.add(record));
            Ok::<_, ReadError>(())
        });
        read.map_err(|error| Error::Unreadable { path: self.temporary.clone(), error })?;
        if found != self.digest {
            return Err(Error::ReadBack {
                path: self.temporary.clone(),
                expected: self.digest.records,
                found: found.records,
            });
        }
        let bytes = segments.iter().map(|segment| segment.len).sum();
        Ok(Published { segments: segments.len() as u64, bytes })
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if let Some(syncer) = self.syncer.take() {
            syncer.stop();
        }
        self.log = None;
        if self.temporary.as_os_str().is_empty() {
            return;
        }
        if let Err(error) = self.fs.remove_dir_all(&self.temporary) {
            tracing::warn!(path = %self.temporary.display(), %error, "a temporary checkpoint stays behind");
        }
    }
}
