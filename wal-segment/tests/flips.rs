//! Every flipped bit and every length of a log of each codec: what the format shows, what only the ledger shows, and what
//! salvage keeps.
//!
//! The whole enumeration is `cargo test --release -p wal-segment --test flips -- --ignored --nocapture`; by default every
//! 211th case runs.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tsdb_vfs::{DirEntry, FileKind, Fs, Map, Metadata, RealFs, Vfs, VfsFile, VfsLock};
use wal_segment::layout::{LEDGER_NAME, segment_name};
use wal_segment::verify::{Problem, verify};
use wal_segment::{Compression, HEADER_SIZE, Item, Log, LogOptions, LogReader, PAGE_SIZE, ReadError, SalvageReader};

const CODECS: [Compression; 3] = [Compression::None, Compression::Snappy, Compression::Zstd];

/// A directory with one segment and perhaps a ledger, in memory.
#[derive(Debug, Clone)]
struct Memory {
    segment: Arc<Mutex<Vec<u8>>>,
    ledger: Option<Arc<Mutex<Vec<u8>>>>,
}

#[derive(Debug)]
struct MemoryFile(Arc<Mutex<Vec<u8>>>);

impl Memory {
    fn file(&self, path: &Path) -> io::Result<&Arc<Mutex<Vec<u8>>>> {
        match path.file_name().and_then(|name| name.to_str()) {
            Some("00000000") => Ok(&self.segment),
            Some(LEDGER_NAME) => self.ledger.as_ref().ok_or(io::ErrorKind::NotFound.into()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Vfs for Memory {
    fn open_read(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        Ok(Box::new(MemoryFile(self.file(path)?.clone())))
    }

    fn list(&self, _: &Path) -> io::Result<Vec<DirEntry>> {
        let len = self.segment.lock().unwrap().len() as u64;
        Ok(vec![DirEntry { name: segment_name(0).into(), kind: FileKind::File, len }])
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let len = self.file(path)?.lock().unwrap().len() as u64;
        Ok(Metadata { kind: FileKind::File, len })
    }

    fn create_new(&self, _: &Path) -> io::Result<Box<dyn VfsFile>> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn open_write(&self, _: &Path) -> io::Result<Box<dyn VfsFile>> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn dir_exists(&self, _: &Path) -> io::Result<bool> {
        Ok(true)
    }
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn remove_file(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn remove_dir_all(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn lock(&self, _: &Path) -> io::Result<Box<dyn VfsLock>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl VfsFile for MemoryFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = self.0.lock().unwrap();
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().len() as u64)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn write_vectored_at(&self, _: &[io::IoSlice<'_>], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn sync_data(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn sync_all(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn map(&self) -> io::Result<Map> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A record of the golden log and the bytes of the segment that are its own.
struct Known {
    bytes: Vec<u8>,
    start: u64,
    end: u64,
    /// One fragment, with a compression flag: clearing it is what no checksum covers.
    flagged: bool,
}

struct Golden {
    segment: Vec<u8>,
    records: Vec<Known>,
    memory: Memory,
    with_ledger: Memory,
}

/// Short records, page-long ones, one of several pages; closed, so that its last page is padded.
fn golden(compression: Compression) -> Golden {
    let tmp = tempfile::tempdir().unwrap();
    let fs: Fs = Arc::new(RealFs::new());
    let (log, _) = Log::open(fs.clone(), tmp.path(), LogOptions { compression, ..LogOptions::default() }).unwrap();
    let mut rng = StdRng::seed_from_u64(11);
    for i in 0..27 {
        let len = match i % 9 {
            0 => rng.random_range(1..10),
            8 => rng.random_range(5_000..15_000),
            _ => rng.random_range(10..600),
        };
        let record: Vec<u8> = (0..len).map(|i| (i / 6) as u8 ^ rng.random_range(0..3)).collect();
        log.append([record.as_slice()]).unwrap();
    }
    log.close().unwrap();
    let mut reader = LogReader::open(fs, tmp.path()).unwrap();
    let mut records = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        let (start, end) = (record.position.offset, record.end);
        let whole = (end - start) as usize == HEADER_SIZE + record.stored.len();
        let flagged = whole && record.compression != Compression::None;
        records.push(Known { bytes: record.bytes.to_vec(), start, end, flagged });
    }
    let segment = std::fs::read(tmp.path().join(segment_name(0))).unwrap();
    let ledger = std::fs::read(tmp.path().join(LEDGER_NAME)).unwrap();
    assert!(segment.len() <= 128 * 1024 && segment.len() >= PAGE_SIZE);
    let memory = Memory { segment: Arc::new(Mutex::new(segment.clone())), ledger: None };
    let with_ledger = Memory { ledger: Some(Arc::new(Mutex::new(ledger))), ..memory.clone() };
    Golden { segment, records, memory, with_ledger }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    cases: u64,
    stopped: u64,
    /// The strict reader gave everything and no more: the damage is in nothing.
    harmless: u64,
    /// A record with other bytes, and no word: a cleared compression flag.
    changed: u64,
    /// An empty record where padding was.
    phantom: u64,
    /// Of those two, what the ledger does not notice.
    unnoticed: u64,
    /// Records that salvage does not give although the damage does not touch them.
    collateral: u64,
}

impl Golden {
    /// What a strict reading gives: how many of the known records, and what came instead of the next.
    fn strictly(&self) -> (usize, Outcome) {
        let mut reader = LogReader::open(Arc::new(self.memory.clone()), Path::new("wal")).unwrap();
        let mut n = 0;
        loop {
            match reader.next() {
                Ok(Some(record)) if self.records.get(n).is_some_and(|known| known.bytes == record.bytes) => n += 1,
                Ok(Some(record)) if record.bytes.is_empty() => return (n, Outcome::Phantom),
                Ok(Some(_)) => return (n, Outcome::Changed),
                Ok(None) => return (n, Outcome::End),
                Err(ReadError::Damage(_)) => return (n, Outcome::Stopped),
                Err(e) => panic!("{e}"),
            }
        }
    }

    /// Known records that salvage does not give; nothing else may come but what the strict reader can't tell either.
    fn missing(&self, tolerant: bool) -> Vec<usize> {
        let mut reader = SalvageReader::open(Arc::new(self.memory.clone()), Path::new("wal")).unwrap();
        let (mut next, mut missing) = (0, Vec::new());
        while let Some(item) = reader.next().unwrap() {
            let Item::Record(record) = item else { continue };
            match self.records[next..].iter().position(|known| known.bytes == record.bytes) {
                Some(skipped) => {
                    missing.extend(next..next + skipped);
                    next += skipped + 1;
                }
                None => assert!(tolerant, "a record of {} bytes was invented", record.bytes.len()),
            }
        }
        missing.extend(next..self.records.len());
        missing
    }

    fn noticed(&self) -> bool {
        let findings = verify(&(Arc::new(self.with_ledger.clone()) as Fs), Path::new("wal")).unwrap();
        findings.iter().any(|found| matches!(found.problem, Problem::Damage(_) | Problem::Lost(_)))
    }

    fn flip(&self, bit: usize, counts: &mut Counts) {
        self.memory.segment.lock().unwrap()[bit / 8] ^= 1 << (bit % 8);
        let byte = (bit / 8) as u64;
        let (n, outcome) = self.strictly();
        counts.cases += 1;
        match outcome {
            Outcome::Stopped => counts.stopped += 1,
            Outcome::End if n == self.records.len() => counts.harmless += 1,
            Outcome::End => panic!("bit {bit}: records are missing without a word"),
            Outcome::Changed => {
                let known = &self.records[n];
                assert!(known.flagged && byte == known.start, "bit {bit}: record {n} has other bytes");
                counts.changed += 1;
            }
            Outcome::Phantom => {
                assert!(byte >= self.records[n - 1].end, "bit {bit}: an empty record inside another");
                counts.phantom += 1;
            }
        }
        counts.unnoticed += u64::from(!self.noticed());
        for lost in self.missing(outcome != Outcome::Stopped) {
            let touched = (self.records[lost].start..self.records[lost].end).contains(&byte);
            if !touched {
                println!("bit {bit}: {lost} is lost at {}..{}", self.records[lost].start, self.records[lost].end);
            }
            counts.collateral += u64::from(!touched);
        }
        self.memory.segment.lock().unwrap()[bit / 8] ^= 1 << (bit % 8);
    }

    fn cut(&self, len: usize, counts: &mut Counts) {
        self.memory.segment.lock().unwrap().truncate(len);
        let (n, outcome) = self.strictly();
        counts.cases += 1;
        let whole = self.records.iter().filter(|known| known.end <= len as u64).count();
        assert_eq!(n, whole, "cut at {len}");
        match outcome {
            Outcome::Stopped => counts.stopped += 1,
            Outcome::End => counts.harmless += 1,
            other => panic!("cut at {len}: {other:?}"),
        }
        counts.unnoticed += u64::from(whole < self.records.len() && !self.noticed());
        let expected: Vec<_> = (whole..self.records.len()).collect();
        assert_eq!(self.missing(false), expected, "cut at {len}");
        *self.memory.segment.lock().unwrap() = self.segment.clone();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    End,
    Stopped,
    Changed,
    Phantom,
}

fn flips(step: usize) {
    for compression in CODECS {
        let golden = golden(compression);
        let mut counts = Counts::default();
        (0..golden.segment.len() * 8).step_by(step).for_each(|bit| golden.flip(bit, &mut counts));
        println!("{compression}, {} bytes, every {step}. bit: {counts:?}", golden.segment.len());
        assert_eq!(counts.unnoticed, 0, "{compression}: the ledger has to notice every flip");
        assert_eq!(counts.collateral, 0, "{compression}: salvage loses what the damage does not touch");
        assert!(counts.stopped * 100 > counts.cases * 99, "{compression}: {counts:?}");
        if step == 1 {
            // What the format can't show: a cleared flag on each compressed record of one fragment, and the bit that makes
            // the padding's first byte the header of an empty record.
            let flagged = golden.records.iter().filter(|known| known.flagged).count() as u64;
            assert_eq!((counts.changed, counts.phantom, counts.harmless), (flagged, 1, 0), "{compression}");
        }
    }
}

fn cuts(step: usize) {
    for compression in CODECS {
        let golden = golden(compression);
        let mut counts = Counts::default();
        (0..golden.segment.len()).step_by(step).for_each(|len| golden.cut(len, &mut counts));
        println!("{compression}, every {step}. length: {counts:?}");
        assert_eq!(counts.unnoticed, 0, "{compression}: the ledger has to notice every cut that loses a record");
    }
}

#[test]
fn flipped_bits_stop_the_reader_or_the_ledger_notices() {
    flips(211);
}

#[test]
fn cut_segments_end_at_their_last_whole_record() {
    cuts(211);
}

#[test]
#[ignore = "the whole enumeration: minutes, in release"]
fn every_bit_and_every_length() {
    flips(1);
    cuts(1);
}
