//! The table of bad input in `docs/format/segments.md`, a test a line.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tsdb_vfs::sim::{Failure, Fault, OpKind};
use tsdb_vfs::{FileKind, Fs, RealFs, SimFs, is_not_regular};
use wal_segment::layout::{self, segment_name};
use wal_segment::verify::{Problem, Reference, Remedy, verify};
use wal_segment::{
    Check, Error, FrameFault, Item, Log, LogOptions, LogReader, PAGE_SIZE, ReadError, SalvageReader, TailFrom,
    TailReader, repair,
};

fn real() -> Fs {
    Arc::new(RealFs::new())
}

/// A closed log with one record in each of `n` segments.
fn log(dir: &Path, n: u8) {
    let (log, _) = Log::open(real(), dir, LogOptions::default()).unwrap();
    for i in 0..n {
        if i > 0 {
            log.next_segment().unwrap();
        }
        log.append([[i; 50].as_slice()]).unwrap();
    }
    log.close().unwrap();
}

fn read(dir: &Path) -> Result<Vec<u8>, ReadError> {
    let mut reader = LogReader::open(real(), dir)?;
    let mut records = Vec::new();
    while let Some(record) = reader.next()? {
        records.push(record.bytes[0]);
    }
    Ok(records)
}

fn segment(dir: &Path, index: u64) -> PathBuf {
    dir.join(segment_name(index))
}

fn mend(dir: &Path) {
    repair::apply(&real(), repair::plan(&real(), dir).unwrap()).unwrap();
    assert!(verify(&real(), dir).unwrap().iter().all(|finding| finding.is_note()));
}

fn only(dir: &Path) -> (Problem, Reference, Remedy) {
    let mut findings = verify(&real(), dir).unwrap();
    assert_eq!(findings.len(), 1, "{findings:?}");
    let found = findings.remove(0);
    (found.problem, found.reference, found.remedy)
}

#[test]
fn numbers_with_a_sign_are_no_segments_and_verify_says_that_prometheus_counts_them() {
    for name in ["-1", "+2"] {
        let dir = tempfile::tempdir().unwrap();
        log(dir.path(), 1);
        std::fs::write(dir.path().join(name), b"").unwrap();
        assert_eq!(read(dir.path()).unwrap(), [0]);
        let (problem, reference, remedy) = only(dir.path());
        assert!(matches!(problem, Problem::OddName));
        assert_eq!((reference, remedy), (Reference::CountsAsSegment, Remedy::MovesAway));
        mend(dir.path());
        assert!(dir.path().join("quarantine").join(name).exists());
    }
}

#[test]
fn temporary_names_are_ignored() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path(), 1);
    for name in ["00000001.tmp", "00000001.repair", "checkpoint.00000001.tmp"] {
        std::fs::write(dir.path().join(name), b"garbage").unwrap();
    }
    std::fs::remove_file(dir.path().join("checkpoint.00000001.tmp")).unwrap();
    std::fs::create_dir(dir.path().join("checkpoint.00000001.tmp")).unwrap();
    assert_eq!(read(dir.path()).unwrap(), [0]);
    assert!(layout::last_checkpoint(&real(), dir.path()).unwrap().is_none());
    assert!(verify(&real(), dir.path()).unwrap().iter().all(|finding| finding.is_note()));
    let (log, report) = Log::open(real(), dir.path(), LogOptions::default()).unwrap();
    assert_eq!((report.segment, log.current_segment()), (1, 1));
}

#[test]
fn what_is_no_file_is_refused_under_a_segments_name() {
    for kind in [FileKind::Dir, FileKind::Symlink, FileKind::Other] {
        let dir = tempfile::tempdir().unwrap();
        log(dir.path(), 3);
        let path = segment(dir.path(), 1);
        std::fs::rename(&path, dir.path().join("away")).unwrap();
        match kind {
            FileKind::Dir => std::fs::create_dir(&path).unwrap(),
            FileKind::Symlink => std::os::unix::fs::symlink(dir.path().join("away"), &path).unwrap(),
            _ => {
                let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
                assert!(made.success());
            }
        }
        let Err(ReadError::Io { source, .. }) = read(dir.path()) else { panic!("{kind}: it was read") };
        assert!(is_not_regular(&source), "{kind}: {source}");
        let (problem, _, remedy) = only(dir.path());
        assert!(matches!(problem, Problem::NotAFile(found) if found == kind), "{problem:?}");
        assert_eq!(remedy, Remedy::MovesAway);
        mend(dir.path());
        assert_eq!(read(dir.path()).unwrap(), [0, 2], "{kind}");
    }
}

#[test]
fn a_segment_that_may_not_be_read_is_an_error_with_its_path() {
    let disk = SimFs::new(1);
    let fs: Fs = Arc::new(disk.clone());
    let dir = Path::new("/wal");
    let (log, _) = Log::open(fs.clone(), dir, LogOptions { background_sync: false, ..LogOptions::default() }).unwrap();
    log.append([b"record".as_slice()]).unwrap();
    drop(log);
    disk.inject(Failure::new(Fault::EACCES).kind(OpKind::OpenRead).sticky());
    let mut reader = LogReader::open(fs.clone(), dir).unwrap();
    let Err(ReadError::Io { path, source }) = reader.next() else { panic!("it was read") };
    assert_eq!((path, source.kind()), (segment(dir, 0), std::io::ErrorKind::PermissionDenied));
    let mut salvage = SalvageReader::open(fs, dir).unwrap();
    assert!(salvage.next().is_err());
    assert!(salvage.next().unwrap().is_none(), "it goes on behind the segment");
}

#[test]
fn a_gap_stops_the_strict_reader_and_is_reported_by_the_salvaging_one() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path(), 4);
    std::fs::remove_file(segment(dir.path(), 1)).unwrap();
    assert!(matches!(read(dir.path()), Err(ReadError::Gap { expected: 1, found: 2, .. })));
    assert!(matches!(Log::open(real(), dir.path(), LogOptions::default()), Err(Error::Read(_))));
    let mut salvage = SalvageReader::open(real(), dir.path()).unwrap();
    let mut seen = Vec::new();
    while let Some(item) = salvage.next().unwrap() {
        seen.push(match item {
            Item::Record(record) => record.bytes[0].to_string(),
            Item::Gap { expected, found } => format!("gap {expected}..{found}"),
            Item::Damage(range) => panic!("{range:?}"),
        });
    }
    assert_eq!(seen, ["0", "gap 1..2", "2", "3"]);
    let (problem, reference, remedy) = only(dir.path());
    assert!(matches!(problem, Problem::Gap { expected: 1, found: 2 }));
    assert_eq!((reference, remedy), (Reference::RefusesToStart, Remedy::FillsGap));
    mend(dir.path());
    assert_eq!(read(dir.path()).unwrap(), [0, 2, 3]);
}

#[test]
fn a_gap_of_millions_is_not_filled() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path(), 1);
    std::fs::write(dir.path().join("999999999999"), b"").unwrap();
    assert!(repair::plan(&real(), dir.path()).is_err());
}

#[test]
fn two_names_of_one_number_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path(), 2);
    std::fs::write(dir.path().join("1"), b"").unwrap();
    assert!(matches!(read(dir.path()), Err(ReadError::Gap { .. })));
    assert!(matches!(only(dir.path()).0, Problem::Duplicate));
    mend(dir.path());
    assert_eq!(read(dir.path()).unwrap(), [0, 1]);
}

#[test]
fn an_empty_segment_is_fine() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path(), 1);
    std::fs::write(segment(dir.path(), 1), b"").unwrap();
    assert_eq!(read(dir.path()).unwrap(), [0]);
    let (log, report) = Log::open(real(), dir.path(), LogOptions::default()).unwrap();
    assert!(report.healed.is_none());
    assert_eq!(log.current_segment(), 2);
}

#[test]
fn a_segment_of_gigabytes_is_read_in_constant_memory() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path(), 1);
    // Sparse: zeros behind the records, as a file has whose length reached the disk before its data.
    let file = std::fs::OpenOptions::new().write(true).open(segment(dir.path(), 0)).unwrap();
    file.set_len(1 << 30).unwrap();
    assert_eq!(read(dir.path()).unwrap(), [0]);
}

#[test]
fn bits_in_the_padding_are_damage() {
    for (at, byte) in [(57_u64, 0x08), (57, 0x10), (58, 0x01), (4000, 0x80), (PAGE_SIZE as u64 - 1, 0x01)] {
        let dir = tempfile::tempdir().unwrap();
        log(dir.path(), 1);
        let mut bytes = std::fs::read(segment(dir.path(), 0)).unwrap();
        assert_eq!(bytes[at as usize], 0);
        bytes[at as usize] = byte;
        std::fs::write(segment(dir.path(), 0), bytes).unwrap();
        let error = read(dir.path()).unwrap_err();
        let damage = error.damage().unwrap();
        let is_padding =
            matches!(damage.fault, FrameFault::Padding { .. } | FrameFault::Type { .. } | FrameFault::Order { .. });
        assert!(is_padding, "{damage}");
        assert_eq!(damage.location.offset, 57, "{damage}");
        mend(dir.path());
        assert_eq!(read(dir.path()).unwrap(), [0]);
    }
}

#[test]
fn a_file_that_is_cut_while_it_is_read_ends_the_reading() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, _) = Log::open(real(), dir.path(), LogOptions::default()).unwrap();
    for i in 0..100_u8 {
        writer.append([vec![i; 20_000].as_slice()]).unwrap();
    }
    drop(writer);
    let mut reader = LogReader::open(real(), dir.path()).unwrap();
    assert_eq!(reader.next().unwrap().unwrap().bytes[0], 0);
    let file = std::fs::OpenOptions::new().write(true).open(segment(dir.path(), 0)).unwrap();
    file.set_len(1_000_000).unwrap();
    let mut n = 1;
    let error = loop {
        match reader.next() {
            Ok(Some(record)) => {
                assert_eq!(record.bytes[0], n);
                n += 1;
            }
            Ok(None) => panic!("the end is torn"),
            Err(e) => break e,
        }
    };
    assert!(matches!(error.damage().unwrap().fault, FrameFault::Torn { .. }), "{error}");
    assert!(reader.next().unwrap().is_none(), "nothing comes behind damage");
    assert!(n >= 40);
    // The tailing reader waits for what is missing.
    let mut tail = TailReader::open(real(), dir.path(), TailFrom::End).unwrap();
    assert!(tail.next().unwrap().is_none());
}

#[test]
fn a_file_under_a_checkpoints_name_is_no_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path(), 1);
    std::fs::write(dir.path().join("checkpoint.00000000"), b"").unwrap();
    assert!(layout::last_checkpoint(&real(), dir.path()).unwrap().is_none());
    let (problem, reference, _) = only(dir.path());
    assert!(matches!(problem, Problem::NotACheckpoint(FileKind::File)));
    assert_eq!(reference, Reference::RefusesToStart);
    mend(dir.path());
}

#[test]
fn a_directory_that_is_not_there_is_an_error_for_readers_and_made_by_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("a/b/wal");
    assert!(matches!(LogReader::open(real(), &missing), Err(ReadError::Io { .. })));
    Log::open(real(), &missing, LogOptions::default()).unwrap();
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for segment_size in [0, 1, PAGE_SIZE as u64 + 1] {
        let options = LogOptions { segment_size, ..LogOptions::default() };
        assert!(matches!(Log::open(real(), dir.path(), options), Err(Error::SegmentSize { .. })));
    }
}

#[test]
fn a_damaged_older_segment_is_seen_unless_the_caller_has_read_it() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path(), 3);
    let mut bytes = std::fs::read(segment(dir.path(), 0)).unwrap();
    bytes[20] ^= 1;
    std::fs::write(segment(dir.path(), 0), bytes).unwrap();
    assert!(matches!(Log::open(real(), dir.path(), LogOptions::default()), Err(Error::Damaged(_))));
    let tail_only = LogOptions { check: Check::Tail, ..LogOptions::default() };
    assert!(Log::open(real(), dir.path(), tail_only).is_ok());
}

/// A fragment as it would stand in a page, with a valid checksum.
fn hostile(type_byte: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![type_byte];
    bytes.extend_from_slice(&(data.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(data).to_be_bytes());
    bytes.extend_from_slice(data);
    bytes
}

#[test]
fn a_record_that_claims_gigabytes_is_refused_without_allocating_them() {
    for (type_byte, data) in [
        // Snappy: a length of 4 GiB - 1 and nothing behind it.
        (0b0000_1001, vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0x00]),
        // Zstd: a frame header that declares 2^62 bytes.
        (0b0001_0001, [&[0x28, 0xb5, 0x2f, 0xfd, 0xe0][..], &(1_u64 << 62).to_le_bytes(), &[1, 0, 0]].concat()),
    ] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(segment(dir.path(), 0), hostile(type_byte, &data)).unwrap();
        let error = read(dir.path()).unwrap_err();
        assert!(matches!(error.damage().unwrap().fault, FrameFault::Decompress { .. }), "{error}");
    }
}
