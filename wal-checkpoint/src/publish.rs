//! A checkpoint on its way to its name: written beside, read back, made durable, renamed.
//!
//! ```text
//! checkpoint.N.tmp/   segments written; behind the writer, each piece is read back and synced
//!                     every file synced; as many records, the same checksums read back as written
//!                     a ledger of them, the directory synced   crash: a temporary, removed by the next run
//! checkpoint.N/       renamed, the log's directory synced      crash: the old name or the new one, both whole
//! ```
//!
//! Until the last step nothing that existed before has been touched; a failure at any point takes the temporary away.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use tsdb_vfs::Fs;
use wal_segment::{Compression, FreshSegments, Ledger, ReadBack, ReadError, Written, layout};

use crate::error::Error;
use crate::remove::TEMPORARY_SUFFIX;

/// A record in its stored form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stored<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) compression: Compression,
    /// Of `bytes`, where it is known.
    pub(crate) checksum: Option<u32>,
}

/// A checkpoint that has no name yet. Dropping it removes what there is of it.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    fs: &'a Fs,
    temporary: PathBuf,
    segments: Option<FreshSegments>,
    behind: Option<Behind>,
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
        let mut draft = Self { fs, temporary, segments: None, behind: None };
        draft.segments = Some(FreshSegments::create(fs.clone(), &draft.temporary, segment_size)?);
        draft.behind = Some(Behind::start(fs, threads > 1).map_err(Error::io(&draft.temporary))?);
        Ok(draft)
    }

    /// Appends records.
    pub(crate) fn append<'r>(&mut self, mut records: impl Iterator<Item = Stored<'r>>) -> Result<(), Error> {
        let Some((segments, behind)) = self.segments.as_mut().zip(self.behind.as_mut()) else { return Ok(()) };
        records.try_for_each(|record| {
            segments.push(record.bytes, record.compression, record.checksum)?;
            segments.take_written().try_for_each(|piece| behind.follow(piece)).map_err(unreadable(&self.temporary))
        })
    }

    /// Reads it back, makes it durable and gives it its name.
    pub(crate) fn publish(mut self, path: &Path) -> Result<Published, Error> {
        let Some((segments, mut behind)) = self.segments.take().zip(self.behind.take()) else {
            return Ok(Published { segments: 0, bytes: 0 });
        };
        let mut ended = segments.end()?;
        ended.take_written().try_for_each(|piece| behind.follow(piece)).map_err(unreadable(&self.temporary))?;
        // What is left to sync takes its time; what is left to read back is read meanwhile.
        let written = ended.sync();
        let found = behind.finish().map_err(unreadable(&self.temporary))?;
        let written = written?;
        let published = self.compare(&written, &found)?;
        // Durable before the name is: it says later whether an empty checkpoint is so in earnest (`hollow.rs`).
        written.store(self.fs, &self.temporary).map_err(Error::io(&self.temporary))?;
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

    /// Compares what was read back with what was handed to the files: of each segment the number of records, their end,
    /// and a checksum over the headers of all fragments, each of which holds the checksum of its data.
    fn compare(&self, written: &Ledger, found: &Ledger) -> Result<Published, Error> {
        let segments = layout::segments(self.fs, &self.temporary)?;
        layout::check_sequence(&segments)?;
        // A segment without a record has no piece that could be read back.
        let filled = || written.entries().filter(|entry| entry.records > 0);
        if segments.len() != written.entries().count() || !filled().eq(found.entries()) {
            let records = |ledger: &Ledger| ledger.entries().map(|entry| entry.records).sum();
            let (expected, found) = (records(written), records(found));
            return Err(Error::ReadBack { path: self.temporary.clone(), expected, found });
        }
        let bytes = segments.iter().map(|segment| segment.len).sum();
        Ok(Published { segments: segments.len() as u64, bytes })
    }
}

fn unreadable(path: &Path) -> impl Fn(ReadError) -> Error {
    move |error| Error::Unreadable { path: path.to_owned(), error }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        self.segments = None;
        if let Some(behind) = self.behind.take() {
            drop(behind.finish());
        }
        if self.temporary.as_os_str().is_empty() {
            return;
        }
        if let Err(error) = self.fs.remove_dir_all(&self.temporary) {
            tracing::warn!(path = %self.temporary.display(), %error, "a temporary checkpoint stays behind");
        }
    }
}

/// What follows the writer: reading back, and early syncs, so that little is left to wait for at the end.
#[derive(Debug)]
enum Behind {
    /// In the writer's own thread, and nothing is synced before the end.
    Beside(Box<ReadBack>),
    /// Pieces on their way to the reader, and, now and then, to the syncer.
    Threads { pieces: SyncSender<Written>, reader: JoinHandle<Result<Ledger, ReadError>>, syncer: Syncer },
}

/// Pieces that may wait to be read back: the writer does not run further ahead than the cache remembers.
const PIECES: usize = 4;

impl Behind {
    fn start(fs: &Fs, threads: bool) -> std::io::Result<Self> {
        let mut back = ReadBack::new(fs.clone());
        if !threads {
            return Ok(Self::Beside(Box::new(back)));
        }
        let (pieces, written) = sync_channel(PIECES);
        let reader = std::thread::Builder::new().name("checkpoint-read-back".to_owned()).spawn(move || {
            let written: Receiver<Written> = written;
            written.iter().try_for_each(|piece| back.read(&piece))?;
            Ok(back.finish())
        })?;
        Ok(Self::Threads { pieces, reader, syncer: Syncer::start()? })
    }

    fn follow(&mut self, piece: Written) -> Result<(), ReadError> {
        match self {
            Self::Beside(back) => back.read(&piece),
            Self::Threads { pieces, syncer, .. } => {
                syncer.wrote(&piece);
                // A reader that has gone has an error to tell at the end.
                let _sent: Result<(), _> = pieces.send(piece);
                Ok(())
            }
        }
    }

    /// Waits for everything to be read, and returns what was found.
    fn finish(self) -> Result<Ledger, ReadError> {
        match self {
            Self::Beside(back) => Ok(back.finish()),
            Self::Threads { pieces, reader, syncer } => {
                drop(pieces);
                let found = reader.join();
                syncer.stop();
                // Nothing read is not what was written. The panic has been printed by its thread.
                found.unwrap_or_else(|_| Ok(Ledger::default()))
            }
        }
    }
}

#[derive(Debug)]
struct Syncer {
    wake: SyncSender<Written>,
    thread: JoinHandle<()>,
    unsynced: u64,
}

/// Bytes after which the syncer is woken.
const SYNC_EVERY: u64 = 16 * 1024 * 1024;

impl Syncer {
    fn start() -> std::io::Result<Self> {
        let (wake, woken) = sync_channel::<Written>(1);
        let thread = std::thread::Builder::new().name("checkpoint-sync".to_owned()).spawn(move || {
            for piece in woken {
                // The file remembers the failure, and the sync at the end tells.
                if let Err(error) = piece.sync() {
                    tracing::debug!(%error, "an early sync failed");
                }
            }
        })?;
        Ok(Self { wake, thread, unsynced: 0 })
    }

    fn wrote(&mut self, piece: &Written) {
        self.unsynced += piece.bytes();
        if self.unsynced >= SYNC_EVERY {
            self.unsynced = 0;
            // A full channel means that it is going to sync anyway.
            let _woken: Result<(), _> = self.wake.try_send(piece.clone());
        }
    }

    fn stop(self) {
        drop(self.wake);
        // A panic has been printed by its thread, and what it left unsynced is synced at the end.
        drop(self.thread.join());
    }
}
