//! Segments that are written once and belong to nobody before they are complete: a checkpoint's.
//!
//! Nothing of them has to survive a crash on the way, so nothing is synced for the sake of order: whoever hands the
//! records in says when what has been written is read back ([`ReadBack`]) and made durable ([`Written::sync`]), on other
//! threads if it likes, and both go on beside the writing. At the end the directory gets a ledger of what was written.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tsdb_vfs::{Fs, VfsFile};

use crate::Compression;
use crate::compression::MAX_RECORD_LEN;
use crate::error::{Damage, Error, FrameFault, Location, ReadError, TornAt};
use crate::format::PAGE;
use crate::frame::{fits, frame, pad_page};
use crate::framer::{Event, Framer, Tally};
use crate::layout::{SegmentRef, segment_name};
use crate::ledger::{Ledger, LedgerEntry};
use crate::log::SegmentFile;

/// Framed bytes that are written at once: many records, and still in the cache when they are read back.
const WRITE_SIZE: usize = 512 * 1024;

/// Bytes of one call, which ends at a multiple of this in the file. The page cache takes a call in in pieces as large as it
/// is; beyond this size they are rare in memory that has been in use for a while, and looking for one took up to eight
/// times as long as copying the bytes.
const CALL_SIZE: u64 = 64 * 1024;

/// Space is reserved ahead in parts of this size, once there is an eighth of a part in the segment: it saves a quarter of
/// what the kernel spends on taking the bytes in.
const RESERVE_SIZE: u64 = 16 * 1024 * 1024;

/// Writes segments from number 0 on into a directory that has none.
#[derive(Debug)]
pub struct FreshSegments {
    fs: Fs,
    dir: PathBuf,
    segment_size: u64,
    current: Arc<FreshFile>,
    index: u64,
    /// Framed and not written.
    out: Vec<u8>,
    /// Where the next fragment goes: what is written of the current segment, and `out`.
    offset: u64,
    /// Space in the current segment is reserved up to here.
    reserved: u64,
    tally: Tally,
    files: Vec<Arc<FreshFile>>,
    ledger: Ledger,
    written: Vec<Written>,
}

/// A segment's file and how far it is written and durable.
#[derive(Debug)]
struct FreshFile {
    file: SegmentFile,
    written: AtomicU64,
    synced: AtomicU64,
}

impl FreshFile {
    fn create(fs: &Fs, dir: &Path, index: u64) -> Result<Arc<Self>, Error> {
        let path = dir.join(segment_name(index));
        let file = fs.create_new(&path).map_err(Error::io(&path))?;
        Ok(Arc::new(Self { file: SegmentFile::new(file, path), written: 0.into(), synced: 0.into() }))
    }

    fn sync(&self) -> Result<(), Error> {
        let written = self.written.load(Ordering::Acquire);
        let synced = self.file.sync().map_err(|source| Error::Io { path: self.file.path.clone(), source });
        self.synced.fetch_max(written, Ordering::AcqRel);
        synced
    }
}

/// A piece of a segment that has been written: whole records.
#[derive(Debug, Clone)]
pub struct Written {
    file: Arc<FreshFile>,
    segment: u64,
    from: u64,
    to: u64,
}

impl Written {
    /// Bytes that it has.
    pub fn bytes(&self) -> u64 {
        self.to - self.from
    }

    /// Makes everything that has been written to its file durable. After a failure no later call succeeds, nor does
    /// [`Ended::sync`].
    pub fn sync(&self) -> Result<(), Error> {
        self.file.sync()
    }
}

impl FreshSegments {
    /// Starts segment 0 in `dir`, which is there and empty.
    pub fn create(fs: Fs, dir: &Path, segment_size: u64) -> Result<Self, Error> {
        if segment_size == 0 || !segment_size.is_multiple_of(PAGE) {
            return Err(Error::SegmentSize { found: segment_size });
        }
        let current = FreshFile::create(&fs, dir, 0)?;
        Ok(Self {
            fs,
            dir: dir.to_owned(),
            segment_size,
            files: vec![current.clone()],
            current,
            index: 0,
            out: Vec::new(),
            offset: 0,
            reserved: 0,
            tally: Tally::default(),
            ledger: Ledger::default(),
            written: Vec::new(),
        })
    }

    /// Appends a record in its stored form. `checksum` is that of `stored`, where it is known already.
    pub fn push(&mut self, stored: &[u8], compression: Compression, checksum: Option<u32>) -> Result<(), Error> {
        if stored.len() > MAX_RECORD_LEN {
            return Err(Error::RecordTooLarge { len: stored.len(), limit: MAX_RECORD_LEN });
        }
        if !fits(self.offset, stored.len(), self.segment_size) {
            self.end_segment()?;
            self.index += 1;
            self.current = FreshFile::create(&self.fs, &self.dir, self.index)?;
            self.files.push(self.current.clone());
            (self.offset, self.reserved, self.tally) = (0, 0, Tally::default());
        }
        frame(&mut self.out, &mut self.offset, &mut self.tally, stored, compression, checksum);
        if self.out.len() >= WRITE_SIZE { self.flush() } else { Ok(()) }
    }

    /// What has been written since the last call.
    pub fn take_written(&mut self) -> std::vec::Drain<'_, Written> {
        self.written.drain(..)
    }

    /// Ends the last segment: nothing can be appended any more, and everything is written.
    pub fn end(mut self) -> Result<Ended, Error> {
        self.end_segment()?;
        Ok(Ended { files: self.files, ledger: self.ledger, written: self.written })
    }

    fn end_segment(&mut self) -> Result<(), Error> {
        pad_page(&mut self.out, &mut self.offset);
        self.flush()?;
        if self.reserved > self.offset {
            self.current.file.release(self.offset).map_err(Error::io(&self.current.file.path))?;
        }
        self.ledger.insert(LedgerEntry::of(self.index, self.tally, true));
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        if self.out.is_empty() {
            return Ok(());
        }
        let from = self.current.written.load(Ordering::Relaxed);
        self.reserve(from);
        let SegmentFile { path, .. } = &self.current.file;
        let (mut at, mut rest) = (from, self.out.as_slice());
        while !rest.is_empty() {
            let (call, behind) = rest.split_at(rest.len().min((CALL_SIZE - at % CALL_SIZE) as usize));
            self.current.file.write_all(&mut [IoSlice::new(call)], at).map_err(Error::io(path))?;
            at += call.len() as u64;
            rest = behind;
        }
        self.current.written.store(self.offset, Ordering::Release);
        self.out.clear();
        self.written.push(Written { file: self.current.clone(), segment: self.index, from, to: self.offset });
        Ok(())
    }

    /// Reserves space for what is to be written from `from` on and some more. Without it the writes just cost more.
    fn reserve(&mut self, from: u64) {
        if from < RESERVE_SIZE / 8 || self.reserved >= self.offset {
            return;
        }
        let start = self.reserved.max(from);
        let part = (self.offset - start).max(RESERVE_SIZE.min(self.segment_size.saturating_sub(start)));
        self.reserved = start + part;
        if let Err(error) = self.current.file.reserve(start, part) {
            tracing::debug!(path = %self.current.file.path.display(), %error, "no space can be reserved");
        }
    }
}

/// Segments that are complete and perhaps not durable.
#[derive(Debug)]
pub struct Ended {
    files: Vec<Arc<FreshFile>>,
    ledger: Ledger,
    written: Vec<Written>,
}

impl Ended {
    /// What has been written since [`FreshSegments::take_written`].
    pub fn take_written(&mut self) -> std::vec::Drain<'_, Written> {
        self.written.drain(..)
    }

    /// Makes durable what is not yet, and returns what was written, segment by segment.
    pub fn sync(self) -> Result<Ledger, Error> {
        for file in &self.files {
            // One that failed before fails again.
            if file.synced.load(Ordering::Acquire) < file.written.load(Ordering::Acquire) || file.file.has_failed() {
                file.sync()?;
            }
        }
        Ok(self.ledger)
    }
}

/// Reads back what [`FreshSegments`] has written, piece by piece in the order of writing: every frame, every checksum.
#[derive(Debug)]
pub struct ReadBack {
    fs: Fs,
    open: Option<(SegmentRef, Box<dyn VfsFile>)>,
    framer: Framer,
    window: Vec<u8>,
    ledger: Ledger,
}

impl ReadBack {
    /// Nothing has been read yet.
    pub fn new(fs: Fs) -> Self {
        Self { fs, open: None, framer: Framer::new(), window: Vec::new(), ledger: Ledger::default() }
    }

    /// Reads the next piece.
    pub fn read(&mut self, piece: &Written) -> Result<(), ReadError> {
        if self.open.as_ref().is_none_or(|(segment, _)| segment.index != piece.segment) {
            self.end_segment();
            let path = piece.file.file.path.clone();
            let file = self.fs.open_read(&path).map_err(ReadError::io(&path))?;
            self.framer.reset();
            self.open = Some((SegmentRef { index: piece.segment, path, len: 0 }, file));
        }
        let Some((segment, file)) = &mut self.open else { return Ok(()) };
        let len = piece.bytes() as usize;
        if self.window.len() < len {
            self.window.resize(len, 0);
        }
        let found = file.read_full_at(&mut self.window[..len], piece.from).map_err(ReadError::io(&segment.path))?;
        segment.len = piece.from + found as u64;
        let damage = |record_start, offset, fault| {
            let dir = segment.dir().to_owned();
            let location = Location { dir, segment: segment.index, record_start, offset };
            Err(Damage { location, fault }.into())
        };
        loop {
            match self.framer.advance(&self.window[..found], piece.from) {
                Event::Record(_) => {}
                Event::Fault { record_start, offset, fault } => return damage(record_start, offset, fault),
                Event::NeedMore | Event::Limit if self.framer.offset() == piece.to => return Ok(()),
                Event::NeedMore | Event::Limit => {
                    let offset = self.framer.offset();
                    return damage(offset, offset, FrameFault::Torn { expected: TornAt::Fragment });
                }
            }
        }
    }

    /// What was read, segment by segment.
    pub fn finish(mut self) -> Ledger {
        self.end_segment();
        self.ledger
    }

    fn end_segment(&mut self) {
        if let Some((segment, _)) = self.open.take() {
            self.ledger.insert(LedgerEntry::of(segment.index, self.framer.tally(), true));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tsdb_vfs::{SimFs, Vfs};

    use super::*;
    use crate::format::checksum;
    use crate::{Log, LogOptions, LogReader, layout};

    const DIR: &str = "/made";
    const SIZE: u64 = 4 * PAGE;

    /// Records of many lengths: inside a page, across pages, across segments.
    fn records() -> Vec<Vec<u8>> {
        let lens = [0, 1, 5, 100, 3_000, 32_755, 32_761, 40_000, 100_000, 7, 150_000, 20_000];
        (0..60_usize).map(|i| (0..lens[i * 7 % lens.len()] + i).map(|b| (b * 31 + i) as u8).collect()).collect()
    }

    fn made() -> (SimFs, Fs) {
        let disk = SimFs::new(1);
        disk.create_dir_all(Path::new(DIR)).expect("a disk");
        let fs: Fs = Arc::new(disk.clone());
        (disk, fs)
    }

    fn write(fs: &Fs) -> (Vec<Written>, Ended) {
        let mut segments = FreshSegments::create(fs.clone(), Path::new(DIR), SIZE).expect("a directory");
        let mut written = Vec::new();
        for (i, record) in records().iter().enumerate() {
            let known = (i % 2 == 0).then(|| checksum(record));
            segments.push(record, Compression::None, known).expect("room");
            written.extend(segments.take_written());
        }
        let mut ended = segments.end().expect("room");
        written.extend(ended.take_written());
        (written, ended)
    }

    #[test]
    fn the_bytes_are_those_that_a_log_writes() {
        let (disk, fs) = made();
        let (written, ended) = write(&fs);
        let options = LogOptions { segment_size: SIZE, background_sync: false, ..LogOptions::default() };
        let (log, _) = Log::open(fs.clone(), Path::new("/log"), options).expect("a log");
        let expected = records();
        log.append(expected.iter().map(Vec::as_slice)).expect("room");
        log.close().expect("a disk");
        let bytes = |dir| {
            let segments = layout::segments(&fs, Path::new(dir)).expect("a directory");
            segments.iter().map(|segment| disk.read(&segment.path).expect("a file")).collect::<Vec<_>>()
        };
        assert!(bytes("/log").len() > 5);
        assert_eq!(bytes(DIR), bytes("/log"));
        // What is read back is what was written, and what the log's ledger says.
        let mut back = ReadBack::new(fs.clone());
        written.iter().for_each(|piece| back.read(piece).expect("sound"));
        let ledger = ended.sync().expect("a disk");
        assert_eq!(back.finish(), ledger);
        assert_eq!(Ledger::load(&fs, Path::new("/log")).expect("a ledger"), ledger);
        let mut reader = LogReader::open(fs.clone(), Path::new(DIR)).expect("segments");
        let mut found = Vec::new();
        while let Some(record) = reader.next().expect("sound") {
            found.push(record.bytes.to_vec());
        }
        assert_eq!(found, expected);
    }

    #[test]
    fn a_byte_that_changes_behind_the_writer_is_noticed() {
        let (disk, fs) = made();
        let (written, ended) = write(&fs);
        let ledger = ended.sync().expect("a disk");
        let (mut noticed, mut flips) = (0, 0);
        for (i, piece) in written.iter().enumerate() {
            for at in (piece.from..piece.to).step_by(9_973) {
                let file = disk.open_write(&piece.file.file.path).expect("a segment");
                let mut byte = [0];
                file.read_exact_at(&mut byte, at).expect("a byte");
                file.write_all_at(&[byte[0] ^ 0x21], at).expect("a disk");
                let mut back = ReadBack::new(fs.clone());
                let read = written.iter().try_for_each(|piece| back.read(piece));
                flips += 1;
                noticed += u32::from(read.is_err() || back.finish() != ledger);
                file.write_all_at(&byte, at).expect("a disk");
            }
            assert!(flips > i as u32);
        }
        assert!(flips > 100, "{flips}");
        assert_eq!(noticed, flips);
    }

    #[test]
    fn what_was_reserved_and_not_needed_is_given_back() {
        let (disk, fs) = made();
        let mut segments = FreshSegments::create(fs.clone(), Path::new(DIR), 1024 * PAGE).expect("a directory");
        let record = vec![7; 100_000];
        (0..50).for_each(|_| segments.push(&record, Compression::None, None).expect("room"));
        let reserved = disk.used();
        assert!(segments.reserved > segments.offset && reserved > segments.offset);
        let path = segments.current.file.path.clone();
        drop(segments.end().expect("room").sync().expect("a disk"));
        let len = disk.metadata(&path).expect("a file").len;
        assert!(len > 5_000_000 && len.is_multiple_of(PAGE));
        assert!(disk.used() < len + PAGE && disk.used() < reserved, "{} {reserved}", disk.used());
    }

    #[test]
    fn a_file_that_lost_its_end_is_noticed() {
        let (disk, fs) = made();
        let (written, _) = write(&fs);
        let last = written.last().expect("pieces");
        disk.open_write(&last.file.file.path).expect("a segment").set_len(last.to - 1).expect("a disk");
        let mut back = ReadBack::new(fs);
        assert!(written.iter().try_for_each(|piece| back.read(piece)).is_err());
    }
}
