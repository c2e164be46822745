//! Reading chunks: one by its reference, or all.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::layout::{FILE_HEADER_LEN, MIN_RECORD_LEN, Parsed, parse_record};
use super::pieces::{self, Source};
use super::{ChunkFiles, ChunkMeta, ChunkRef, Damage, Fault, FilesError, OpenFile, Shared, scan};
use crate::Chunk;

/// Read so much at first when one chunk is wanted: a record of 1,024 bytes of data fits, and most are shorter.
const FIRST_READ: usize = 1088;

/// What an iteration left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScanReport {
    /// Sound chunks.
    pub chunks: u64,
    /// Bytes of their data.
    pub chunk_bytes: u64,
    /// What was not sound, in the order of files and offsets.
    pub damages: Vec<Damage>,
}

impl ChunkFiles {
    /// Reads a chunk, its checksum verified.
    ///
    /// # Errors
    /// When the reference leads to no file, or to no sound chunk in it.
    pub fn read(&self, chunk_ref: ChunkRef) -> Result<Chunk, FilesError> {
        let mut data = Vec::new();
        let meta = self.read_into(chunk_ref, &mut data)?;
        Ok(Chunk { encoding: meta.encoding, data })
    }

    /// As [`ChunkFiles::read`], the bytes in a caller's buffer (what was in it goes) and all that the record says.
    ///
    /// # Errors
    /// As [`ChunkFiles::read`]; `data` is empty then.
    pub fn read_into(&self, chunk_ref: ChunkRef, data: &mut Vec<u8>) -> Result<ChunkMeta, FilesError> {
        data.clear();
        let shared = &*self.shared;
        if shared.closed.load(Ordering::Acquire) {
            return Err(FilesError::Closed { dir: shared.dir.clone() });
        }
        // A chunk moves from the queue to the tail to the file: in this order it cannot be missed.
        if let Some(meta) = shared.queue.as_ref().and_then(|queue| queue.read(chunk_ref, data)) {
            return Ok(meta);
        }
        if let Some(meta) = shared.read_from_tail(chunk_ref, data) {
            return Ok(meta);
        }
        let Some(open) = shared.files.read().get(&chunk_ref.file).cloned() else {
            return Err(FilesError::NoSuchFile { dir: shared.dir.clone(), chunk_ref });
        };
        let corrupt = |fault| FilesError::Corrupt { path: open.path.clone(), chunk_ref, fault };
        if (chunk_ref.offset as usize) < FILE_HEADER_LEN {
            return Err(corrupt(Fault::NoRecord));
        }
        let offset = u64::from(chunk_ref.offset);
        let len = open.file.len().map_err(FilesError::io("read", &open.path))?;
        let available = len.saturating_sub(offset);
        let mut need = FIRST_READ;
        loop {
            let want = need.min(usize::try_from(available).unwrap_or(usize::MAX));
            data.resize(want, 0);
            let read = open.file.read_full_at(data, offset).map_err(FilesError::io("read", &open.path))?;
            data.truncate(read);
            // The file may have been cut meanwhile: then this is all there is.
            let available = if read < want { read as u64 } else { available };
            match parse_record(data, available) {
                Parsed::Record { head, data: bytes, len } => {
                    let meta = head.meta(chunk_ref, bytes);
                    let start = len - 4 - bytes.len();
                    data.truncate(len - 4);
                    data.drain(..start);
                    return Ok(meta);
                }
                Parsed::NeedMore(more) if more > need => need = more,
                parsed => {
                    let fault = match parsed {
                        Parsed::Bad { fault, .. } => fault,
                        _ => Fault::NoRecord,
                    };
                    data.clear();
                    return Err(corrupt(fault));
                }
            }
        }
    }

    /// Calls `chunk` for every sound chunk with its bytes, in the order of files and offsets, and reports what was not
    /// sound. Memory is bounded by the largest chunk. What waits to be written is flushed first.
    ///
    /// # Errors
    /// When a file cannot be read, or when `chunk` returns an error, which ends the iteration.
    pub fn for_each<E: From<FilesError>>(
        &self,
        mut chunk: impl FnMut(&ChunkMeta, &[u8]) -> Result<(), E>,
    ) -> Result<ScanReport, E> {
        let mut report = ScanReport::default();
        for (number, open) in self.readable_files()? {
            let found = self.shared.scan(number, &open, |meta, data| {
                report.chunks += 1;
                report.chunk_bytes += data.len() as u64;
                chunk(meta, data)
            })?;
            report.damages.extend(found);
        }
        Ok(report)
    }

    /// Calls `chunk` for every sound chunk, in the order of files and offsets, and reports what was not sound: as
    /// [`ChunkFiles::for_each`] without the bytes, pieces of the files scanned in parallel on rayon's threads. `chunk` runs on
    /// the calling thread.
    ///
    /// # Errors
    /// When a file cannot be read, or when `chunk` returns an error, which ends the iteration.
    pub fn iterate<E: From<FilesError>>(
        &self,
        mut chunk: impl FnMut(&ChunkMeta) -> Result<(), E>,
    ) -> Result<ScanReport, E> {
        let mut sources = Vec::new();
        for (number, open) in self.readable_files()? {
            let end = self.shared.readable_end(number, &open)?;
            sources.push(Source { number, open, end });
        }
        let mut report = ScanReport::default();
        report.damages = pieces::scan_all(&sources, |meta| {
            report.chunks += 1;
            report.chunk_bytes += u64::from(meta.len);
            chunk(meta)
        })?;
        Ok(report)
    }

    fn readable_files(&self) -> Result<BTreeMap<u32, OpenFile>, FilesError> {
        let shared = &*self.shared;
        if shared.closed.load(Ordering::Acquire) {
            return Err(FilesError::Closed { dir: shared.dir.clone() });
        }
        self.flush()?;
        Ok(shared.files.read().clone())
    }
}

impl Shared {
    fn read_from_tail(&self, chunk_ref: ChunkRef, data: &mut Vec<u8>) -> Option<ChunkMeta> {
        let tail = self.tail.read();
        if tail.number != chunk_ref.file {
            return None;
        }
        let at = usize::try_from(u64::from(chunk_ref.offset).checked_sub(tail.start)?).ok()?;
        let bytes = tail.bytes.get(at..).filter(|bytes| bytes.len() >= MIN_RECORD_LEN)?;
        match parse_record(bytes, bytes.len() as u64) {
            Parsed::Record { head, data: chunk, .. } => {
                data.extend_from_slice(chunk);
                Some(head.meta(chunk_ref, chunk))
            }
            _ => None,
        }
    }

    /// Scans one file; of the file that is written to, what has reached it.
    fn scan<E: From<FilesError>>(
        &self,
        number: u32,
        open: &OpenFile,
        mut chunk: impl FnMut(&ChunkMeta, &[u8]) -> Result<(), E>,
    ) -> Result<Vec<Damage>, E> {
        let end = self.readable_end(number, open)?;
        let mut damages = Vec::new();
        let scanned = scan::scan_file(
            &*open.file,
            number,
            &open.path,
            end,
            |meta, data| chunk(meta, data).map_err(ScanError::Caller),
            |damage| damages.push(damage),
        );
        match scanned {
            Ok(()) => Ok(damages),
            Err(ScanError::Caller(error)) => Err(error),
            Err(ScanError::Io(source)) => {
                Err(FilesError::Io { action: "read", path: open.path.clone(), source }.into())
            }
        }
    }

    /// How much of a file there is to scan; of the one that is written to, what has reached it.
    fn readable_end(&self, number: u32, open: &OpenFile) -> Result<u64, FilesError> {
        let tail = self.tail.read();
        let end = if tail.number == number {
            tail.start
        } else {
            open.file.len().map_err(FilesError::io("read", &open.path))?
        };
        // An offset has 32 bits; nothing behind that can be referred to.
        Ok(end.min(1 << 32))
    }
}

pub(super) enum ScanError<E> {
    Io(std::io::Error),
    Caller(E),
}

impl<E> From<std::io::Error> for ScanError<E> {
    fn from(source: std::io::Error) -> Self {
        Self::Io(source)
    }
}
