//! Following a log: while it grows, while it is cut, while segments vanish.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tsdb_vfs::{Fs, RealFs};
use wal_segment::layout::{checkpoint_name, segment_name};
use wal_segment::{Compression, Log, LogOptions, PAGE_SIZE, Position, TailFrom, TailItem, TailReader};

const PAGE: u64 = PAGE_SIZE as u64;

fn real() -> Fs {
    Arc::new(RealFs::new())
}

fn options(compression: Compression) -> LogOptions {
    LogOptions { segment_size: 4 * PAGE, compression, ..LogOptions::default() }
}

fn record(rng: &mut StdRng) -> Vec<u8> {
    let len = match rng.random_range(0..4) {
        0 => rng.random_range(0..20),
        1 | 2 => rng.random_range(0..5_000),
        _ => rng.random_range(0..3 * PAGE_SIZE),
    };
    (0..len).map(|i| (i / 3) as u8 ^ rng.random_range(0..4)).collect()
}

/// All records that there are now; anything else is a failure.
fn drain(tail: &mut TailReader) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while let Some(item) = tail.next().unwrap() {
        match item {
            TailItem::Record(record) | TailItem::Checkpoint { record, .. } => records.push(record.bytes.to_vec()),
            other => panic!("{other:?}"),
        }
    }
    records
}

#[test]
fn a_file_that_grows_byte_by_byte_is_never_damaged() {
    let mut rng = StdRng::seed_from_u64(5);
    for compression in [Compression::None, Compression::Snappy, Compression::Zstd] {
        let source = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(real(), source.path(), options(compression)).unwrap();
        let written: Vec<_> = (0..30).map(|_| record(&mut rng)).collect();
        written.iter().for_each(|record| assert!(log.append([record.as_slice()]).is_ok()));
        log.close().unwrap();

        let growing = tempfile::tempdir().unwrap();
        let mut tail = TailReader::open(real(), growing.path(), TailFrom::Start).unwrap();
        let (mut read, mut looks) = (Vec::new(), 0);
        for index in 0.. {
            let Ok(bytes) = std::fs::read(source.path().join(segment_name(index))) else { break };
            let target = growing.path().join(segment_name(index));
            let mut len = 0;
            while len < bytes.len() {
                len = (len + rng.random_range(1..300)).min(bytes.len());
                std::fs::write(&target, &bytes[..len]).unwrap();
                read.extend(drain(&mut tail));
                looks += 1;
            }
        }
        assert!(looks > 200, "{looks} looks");
        assert!(read == written, "{compression}: {} of {}", read.len(), written.len());
    }
}

#[test]
fn a_reader_beside_a_writer_sees_every_record_once_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(real(), dir.path(), options(Compression::Snappy)).unwrap();
    let finished = AtomicBool::new(false);
    let mut tail = TailReader::open(real(), dir.path(), TailFrom::Start).unwrap();
    let (mut written, mut read) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut rng = StdRng::seed_from_u64(6);
            for _ in 0..2000 {
                let record = record(&mut rng);
                log.append([record.as_slice()]).unwrap();
                written.push(record);
            }
            finished.store(true, Ordering::Release);
        });
        loop {
            let last = finished.load(Ordering::Acquire);
            read.extend(drain(&mut tail));
            if last {
                break;
            }
        }
    });
    assert_eq!(read.len(), written.len());
    assert!(read == written);
    assert!(log.current_segment() > 100, "rotation was covered");
}

#[test]
fn from_the_end_only_what_comes_later_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(real(), dir.path(), options(Compression::None)).unwrap();
    log.append([b"before".as_slice()]).unwrap();
    let mut tail = TailReader::open(real(), dir.path(), TailFrom::End).unwrap();
    assert!(drain(&mut tail).is_empty());
    let second = log.append([b"behind".as_slice()]).unwrap();
    assert_eq!(drain(&mut tail), [b"behind"]);
    log.append([b"later".as_slice()]).unwrap();
    let mut resumed = TailReader::open(real(), dir.path(), TailFrom::At(second)).unwrap();
    assert_eq!(drain(&mut resumed), [b"behind".as_slice(), b"later"]);
    let mut inside =
        TailReader::open(real(), dir.path(), TailFrom::At(Position { offset: second.offset + 1, ..second })).unwrap();
    assert_eq!(drain(&mut inside), [b"later"]);
}

#[test]
fn a_checkpoint_stands_for_the_segments_that_it_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(real(), dir.path(), options(Compression::None)).unwrap();
    log.append([b"zero".as_slice()]).unwrap();
    let mut tail = TailReader::open(real(), dir.path(), TailFrom::Start).unwrap();
    assert_eq!(drain(&mut tail), [b"zero"]);
    for name in ["one", "two", "three"] {
        log.next_segment().unwrap();
        log.append([name.as_bytes()]).unwrap();
    }
    let (checkpoint, _) = Log::open(real(), &dir.path().join(checkpoint_name(2)), options(Compression::None)).unwrap();
    checkpoint.append([b"of one and two".as_slice()]).unwrap();
    checkpoint.close().unwrap();
    log.remove_segments_before(3).unwrap();
    assert_eq!(drain(&mut tail), [b"of one and two".as_slice(), b"three"]);

    let mut fresh = TailReader::open(real(), dir.path(), TailFrom::Start).unwrap();
    assert_eq!(drain(&mut fresh), [b"of one and two".as_slice(), b"three"]);
}

#[test]
fn segments_that_vanish_without_a_checkpoint_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(real(), dir.path(), options(Compression::None)).unwrap();
    log.append([b"zero".as_slice()]).unwrap();
    let mut tail = TailReader::open(real(), dir.path(), TailFrom::Start).unwrap();
    assert_eq!(drain(&mut tail), [b"zero"]);
    log.next_segment().unwrap();
    log.append([b"one".as_slice()]).unwrap();
    log.next_segment().unwrap();
    log.append([b"two".as_slice()]).unwrap();
    log.remove_segments_before(2).unwrap();
    assert!(matches!(tail.next().unwrap(), Some(TailItem::Skipped { to: Position { segment: 2, offset: 0 }, .. })));
    assert_eq!(drain(&mut tail), [b"two"]);
}

#[test]
fn what_a_writer_takes_back_is_waited_for_again() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(real(), dir.path(), options(Compression::None)).unwrap();
    let big = vec![1; 2 * PAGE_SIZE];
    log.append([b"whole".as_slice()]).unwrap();
    let start = log.position().offset;
    log.append([big.as_slice()]).unwrap();
    drop(log);
    let path = dir.path().join(segment_name(0));
    let bytes = std::fs::read(&path).unwrap();
    // Half of the record is there, then it is taken back and a shorter one stands in its place.
    std::fs::write(&path, &bytes[..bytes.len() - 100]).unwrap();
    let mut tail = TailReader::open(real(), dir.path(), TailFrom::Start).unwrap();
    assert_eq!(drain(&mut tail), [b"whole"]);
    let other = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(real(), other.path(), options(Compression::None)).unwrap();
    log.append([b"whole".as_slice(), b"instead"]).unwrap();
    drop(log);
    std::fs::copy(other.path().join(segment_name(0)), &path).unwrap();
    assert_eq!(drain(&mut tail), [b"instead"]);
    // A whole record is taken back, too.
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(start).unwrap();
    assert!(matches!(tail.next().unwrap(), Some(TailItem::Rewound { .. })));
    assert!(drain(&mut tail).is_empty());
}

fn damaged(dir: &Path, segment: u64, at: u64) {
    let path = dir.join(segment_name(segment));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[at as usize] ^= 0xff;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn damage_is_reported_once_and_passed() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(real(), dir.path(), options(Compression::None)).unwrap();
    let mut places = Vec::new();
    for i in 0..40_u8 {
        places.push(log.append([vec![i; 5000].as_slice()]).unwrap());
    }
    drop(log);
    damaged(dir.path(), places[2].segment, places[2].offset + 500);
    let mut tail = TailReader::open(real(), dir.path(), TailFrom::Start).unwrap();
    let (mut records, mut reports) = (Vec::new(), 0);
    while let Some(item) = tail.next().unwrap() {
        match item {
            TailItem::Record(record) => records.push(record.bytes[0]),
            TailItem::Damage(range) => {
                assert_eq!(range.from, places[2].offset);
                reports += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(reports, 1);
    assert_eq!(records, (0..40).filter(|&i| i != 2).collect::<Vec<_>>());
}

#[test]
fn damage_in_the_page_that_is_being_written_waits() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(real(), dir.path(), options(Compression::None)).unwrap();
    log.append([b"one".as_slice()]).unwrap();
    let second = log.append([b"two".as_slice()]).unwrap();
    damaged(dir.path(), 0, second.offset + 8);
    let mut tail = TailReader::open(real(), dir.path(), TailFrom::Start).unwrap();
    assert_eq!(drain(&mut tail), [b"one"]);
    assert!(drain(&mut tail).is_empty());
    damaged(dir.path(), 0, second.offset + 8);
    assert_eq!(drain(&mut tail), [b"two"]);
}
