//! A checkpoint on its way to its name: written beside, made durable, read back, renamed.
//!
//! ```text
//! checkpoint.N.tmp/   segments written, each fsynced       crash: a temporary, removed by the next run
//!                     the directory fsynced
//!                     read back: as many records, the same bytes
//! checkpoint.N/       renamed, the log's directory fsynced crash: the old name or the new one, both whole
//! ```
//!
//! Until the last step nothing that existed before has been touched; a failure at any point takes the temporary away.

use std::path::{Path, PathBuf};

use tsdb_vfs::Fs;
use wal_segment::framer::{Event, Framer};
use wal_segment::{Compression, Log, LogOptions, layout};

use crate::error::Error;
use crate::remove::TEMPORARY_SUFFIX;

/// What a sequence of stored records comes to: how many they are, and one checksum over all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Digest {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    crc: u32,
}

impl Digest {
    fn add(&mut self, stored: &[u8], compression: Compression) {
        // Length and compression take part, so that two records can't trade bytes at their seam.
        let len = (stored.len() as u64) << 2 | compression as u64;
        self.crc = crc32c::crc32c_append(crc32c::crc32c_append(self.crc, &len.to_le_bytes()), stored);
        self.records += 1;
        self.bytes += stored.len() as u64;
    }
}

/// A checkpoint that has no name yet. Dropping it removes what there is of it.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    fs: &'a Fs,
    temporary: PathBuf,
    log: Option<Log>,
    digest: Digest,
}

/// A published checkpoint's files.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Published {
    pub(crate) segments: u64,
    pub(crate) bytes: u64,
}

impl<'a> Draft<'a> {
    /// Starts `path` beside its final place.
    pub(crate) fn create(fs: &'a Fs, path: &Path, options: LogOptions) -> Result<Self, Error> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(TEMPORARY_SUFFIX);
        let temporary = PathBuf::from(temporary);
        fs.create_dir(&temporary).map_err(Error::io(&temporary))?;
        // From here on a failure has something to remove.
        let mut draft = Self { fs, temporary, log: None, digest: Digest::default() };
        draft.log = Some(Log::open(fs.clone(), &draft.temporary, options)?.0);
        Ok(draft)
    }

    /// Appends records in their stored form.
    pub(crate) fn append<'r>(&mut self, records: impl Iterator<Item = (&'r [u8], Compression)>) -> Result<(), Error> {
        let digest = &mut self.digest;
        if let Some(log) = &self.log {
            log.append_stored(records.inspect(|&(stored, compression)| digest.add(stored, compression)))?;
        }
        Ok(())
    }

    /// Makes it durable, reads it back and gives it its name.
    pub(crate) fn publish(mut self, path: &Path) -> Result<Published, Error> {
        if let Some(log) = self.log.take() {
            log.close()?;
        }
        self.fs.sync_dir(&self.temporary).map_err(Error::io(&self.temporary))?;
        let published = self.read_back()?;
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
        let mut found = Digest::default();
        let (mut segments, mut bytes) = (0, 0);
        for segment in layout::segments(self.fs, &self.temporary)? {
            segments += 1;
            bytes += segment.len;
            read_segment(self.fs, &segment.path, &mut found)?;
        }
        if found != self.digest {
            return Err(Error::ReadBack {
                path: self.temporary.clone(),
                expected: self.digest.records,
                found: found.records,
            });
        }
        Ok(Published { segments, bytes })
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        self.log = None;
        if self.temporary.as_os_str().is_empty() {
            return;
        }
        if let Err(error) = self.fs.remove_dir_all(&self.temporary) {
            tracing::warn!(path = %self.temporary.display(), %error, "a temporary checkpoint stays behind");
        }
    }
}

/// Bytes that are read back at once: a page multiple that stays in the processor's cache.
const PIECE: usize = 512 * 1024;

fn read_segment(fs: &Fs, path: &Path, digest: &mut Digest) -> Result<(), Error> {
    let file = fs.open_read(path).map_err(Error::io(path))?;
    let (mut framer, mut window, mut base) = (Framer::new(), Vec::new(), 0);
    loop {
        match framer.advance(&window, base) {
            Event::Record(frame) => digest.add(framer.stored(&frame, &window), frame.compression),
            Event::NeedMore => {
                let used = (framer.offset() - base) as usize;
                window.drain(..used);
                base = framer.offset();
                let old = window.len();
                window.resize(old + PIECE, 0);
                let n = file.read_full_at(&mut window[old..], base + old as u64).map_err(Error::io(path))?;
                window.truncate(old + n);
                if n == 0 {
                    return match framer.finish(&window) {
                        None => Ok(()),
                        Some(event) => Err(Error::read_back_damage(path, event)),
                    };
                }
            }
            event @ (Event::Fault { .. } | Event::Limit) => return Err(Error::read_back_damage(path, event)),
        }
    }
}
