//! What the reference's own tests of its log check, re-enacted.
//!
//! TestLogPartialWrite is in `faults.rs` (with the case across pages that the reference leaves out), TestReaderFuzz in
//! `readers.rs`, TestReaderFuzz_Live and TestReadCheckpointMultipleSegments in `tail.rs`. TestClose has no counterpart:
//! closing consumes the log, so closing twice does not compile.

use std::path::Path;
use std::sync::Arc;

use tsdb_vfs::{Fs, RealFs};
use wal_segment::format::{FragmentHeader, FragmentType};
use wal_segment::framer::{Event, Framer};
use wal_segment::layout::{checkpoint_name, checkpoints, last_checkpoint, segment_name};
use wal_segment::{
    Compression, FrameFault, HEADER_SIZE, Log, LogOptions, LogReader, PAGE_SIZE, Position, TailFrom, TailItem,
    TailReader, repair,
};

use FragmentType::{First, Full, Last, Middle};

fn real() -> Fs {
    Arc::new(RealFs::new())
}

fn fragment(fragment: FragmentType, data: &[u8]) -> Vec<u8> {
    let (length, crc) = (data.len() as u16, crc32c::crc32c(data));
    let header = FragmentHeader { fragment, compression: Compression::None, length, crc }.encode();
    [&header, data].concat()
}

/// Pieces as the reference's table has them: fragments, or zeros up to a page's end.
enum Piece {
    Is(FragmentType, usize),
    Zeros,
}
use Piece::{Is, Zeros};

fn stream(pieces: &[Piece]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in pieces {
        match piece {
            Is(kind, len) => bytes.extend(fragment(*kind, &vec![len.to_le_bytes()[0]; *len])),
            Zeros => bytes.resize(bytes.len().next_multiple_of(PAGE_SIZE), 0),
        }
    }
    bytes
}

/// Lengths of the records, and what stopped the framer.
fn framed(bytes: &[u8]) -> (Vec<usize>, Option<FrameFault>) {
    let (mut framer, mut lengths) = (Framer::new(), Vec::new());
    loop {
        match framer.advance(bytes, 0) {
            Event::Record(frame) => lengths.push(framer.stored(&frame, bytes).len()),
            Event::Fault { fault, .. } => return (lengths, Some(fault)),
            Event::NeedMore | Event::Limit => {
                let rest = &bytes[framer.offset() as usize..];
                let fault = framer.finish(rest).and_then(|event| match event {
                    Event::Fault { fault, .. } => Some(fault),
                    _ => None,
                });
                return (lengths, fault);
            }
        }
    }
}

const WHOLE: usize = PAGE_SIZE - HEADER_SIZE;

/// TestReader: legal orders of fragments.
#[test]
fn legal_orders_are_read() {
    let cases: [(&[Piece], &[usize]); 4] = [
        (&[Is(Full, 200), Is(First, 100), Is(Last, 100)], &[200, 200]),
        (&[Is(Full, WHOLE)], &[WHOLE]),
        (&[Is(First, WHOLE), Is(Middle, WHOLE), Is(Last, 0), Is(Full, 1), Zeros], &[2 * WHOLE, 1]),
        (&[Is(Full, 0), Is(First, 0), Is(Middle, 0), Is(Last, 3)], &[0, 3]),
    ];
    for (pieces, expected) in cases {
        assert_eq!(framed(&stream(pieces)), (expected.to_vec(), None));
    }
}

/// TestReader: illegal orders. The reference joins a record across padding; no writer leaves any there.
#[test]
fn illegal_orders_are_damage() {
    let order = |found, inside_record| FrameFault::Order { found, inside_record };
    let cases: [(&[Piece], FrameFault); 6] = [
        (&[Is(Middle, 200)], order(Middle, false)),
        (&[Is(Last, 200)], order(Last, false)),
        (&[Is(First, 200), Is(Full, 200)], order(Full, true)),
        (&[Is(First, 200), Is(First, 200)], order(First, true)),
        (&[Is(First, 100), Is(Middle, 100), Is(Full, 200)], order(Full, true)),
        (&[Is(First, 100), Is(Middle, 100), Zeros, Is(Last, 1)], FrameFault::PaddingInsideRecord),
    ];
    for (pieces, expected) in cases {
        let mut bytes = stream(&[Is(Full, 10)]);
        bytes.extend(stream(pieces));
        assert_eq!(framed(&bytes), (vec![10], Some(expected)));
    }
}

/// TestReader: a byte that is not zero behind the end of a page's fragments.
#[test]
fn padding_is_zero_up_to_the_end_of_the_page() {
    let mut bytes = stream(&[Is(Full, 100), Zeros]);
    bytes[PAGE_SIZE - 2] = 1;
    let expected = FrameFault::Padding { at: PAGE_SIZE as u64 - 2, found: 1 };
    assert_eq!(framed(&bytes), (vec![100], Some(expected)));
}

/// TestLiveReaderCorrupt_RecordTooLongAndShort, and the table's record of more than a page.
#[test]
fn a_length_beyond_the_page_is_rejected() {
    for (before, length) in [(0, WHOLE + 1), (0, 0xffff), (100, WHOLE - 100)] {
        let mut bytes = stream(&[Is(Full, before)]);
        let at = bytes.len();
        bytes.extend(fragment(Full, &[0; 50]));
        bytes[at + 1..at + 3].copy_from_slice(&(length as u16).to_be_bytes());
        bytes.resize(3 * PAGE_SIZE, 1);
        let room = PAGE_SIZE - at - HEADER_SIZE;
        assert_eq!(framed(&bytes), (vec![before], Some(FrameFault::Length { room, found: length as u16 })));
    }
}

/// TestReader_Live: the same streams, a few bytes at a time: what is not there yet is waited for.
#[test]
fn a_stream_that_arrives_in_pieces_reads_the_same() {
    let bytes = stream(&[Is(Full, 200), Is(First, 100), Is(Last, 100), Is(First, 31_000), Is(Middle, 500), Zeros]);
    let more = stream(&[Is(Full, 5), Zeros]);
    for step in [1, 7, 100, 4096] {
        let (mut framer, mut lengths, mut len) = (Framer::new(), Vec::new(), 0);
        let stopped = loop {
            match framer.advance(&bytes[..len], 0) {
                Event::Record(frame) => lengths.push(framer.stored(&frame, &bytes[..len]).len()),
                Event::NeedMore if len < bytes.len() => len = (len + step).min(bytes.len()),
                Event::NeedMore | Event::Limit => break None,
                Event::Fault { fault, .. } => break Some(fault),
            }
        };
        assert_eq!(lengths, [200, 200], "step {step}");
        assert_eq!(stopped, Some(FrameFault::PaddingInsideRecord), "step {step}");
    }
    assert_eq!(framed(&more), (vec![5], None));
}

fn write(dir: &Path, n: u32) -> Vec<Position> {
    let options = LogOptions { segment_size: 3 * PAGE_SIZE as u64, ..LogOptions::default() };
    let (log, _) = Log::open(real(), dir, options).unwrap();
    let places = (0..n).map(|i| log.append([record(i).as_slice()]).unwrap()).collect();
    log.close().unwrap();
    places
}

fn record(i: u32) -> Vec<u8> {
    i.to_be_bytes().repeat(PAGE_SIZE / 8)
}

fn strictly(dir: &Path) -> (Vec<u32>, bool) {
    let mut reader = LogReader::open(real(), dir).unwrap();
    let mut found = Vec::new();
    loop {
        match reader.next() {
            Ok(Some(r)) => found.push(u32::from_be_bytes(*r.bytes.first_chunk().unwrap())),
            Ok(None) => return (found, false),
            Err(_) => return (found, true),
        }
    }
}

/// TestWALRepair_ReadingError: seven damages. The reference keeps the records before each; we keep those behind it, too.
#[test]
fn seven_damages_keep_the_exact_prefix_and_repair_keeps_the_rest() {
    type Harm = fn(&mut Vec<u8>, usize);
    let damages: [(&str, Harm); 7] = [
        ("torn last record", |bytes, at| bytes.truncate(at + 100)),
        ("bad fragment type", |bytes, at| bytes[at] = 7),
        ("bad fragment order", |bytes, at| bytes[at] = Last as u8),
        ("bad length", |bytes, at| bytes[at + 1] = 0xff),
        ("bad checksum", |bytes, at| bytes[at + 3] ^= 0xff),
        ("bad data", |bytes, at| bytes[at + HEADER_SIZE + 5] ^= 0xff),
        ("cut header", |bytes, at| bytes.truncate(at + 3)),
    ];
    for (name, harm) in damages {
        let dir = tempfile::tempdir().unwrap();
        let places = write(dir.path(), 30);
        let at = places[13];
        let path = dir.path().join(segment_name(at.segment));
        let mut bytes = std::fs::read(&path).unwrap();
        harm(&mut bytes, at.offset as usize);
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(strictly(dir.path()), ((0..13).collect(), true), "{name}");
        repair::apply(&real(), repair::plan(&real(), dir.path()).unwrap()).unwrap();
        let (found, damaged) = strictly(dir.path());
        let cut = matches!(name, "torn last record" | "cut header");
        let lost = places.iter().filter(|p| cut && p.segment == at.segment && p.offset > at.offset).count();
        assert_eq!((found.len(), damaged), (29 - lost, false), "{name}");
        assert!(!found.contains(&13), "{name}");
    }
}

/// TestCorruptAndCarryOn: damage, repair, append, read again.
#[test]
fn a_repaired_log_carries_on() {
    let dir = tempfile::tempdir().unwrap();
    let places = write(dir.path(), 20);
    let path = dir.path().join(segment_name(places[8].segment));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[places[8].offset as usize + 9] ^= 0xff;
    std::fs::write(&path, bytes).unwrap();
    assert!(Log::open(real(), dir.path(), LogOptions::default()).is_err(), "not before it is repaired");
    repair::apply(&real(), repair::plan(&real(), dir.path()).unwrap()).unwrap();
    let (log, _) = Log::open(real(), dir.path(), LogOptions::default()).unwrap();
    log.append([record(100).as_slice()]).unwrap();
    log.close().unwrap();
    let expected: Vec<_> = (0..20).filter(|&i| i != 8).chain([100]).collect();
    assert_eq!(strictly(dir.path()), (expected, false));
}

/// TestLiveReaderCorrupt_ShortFile: half a page is no damage to a reader that follows.
#[test]
fn half_a_page_means_wait() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 1);
    let path = dir.path().join(segment_name(0));
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..PAGE_SIZE / 4]).unwrap();
    let mut tail = TailReader::open(real(), dir.path(), TailFrom::Start).unwrap();
    assert!(tail.next().unwrap().is_none());
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(tail.next().unwrap(), Some(TailItem::Record(_))));
}

/// TestLastCheckpoint, and of TestDeleteTempCheckpoints what concerns names: temporary ones are none.
#[test]
fn the_highest_number_is_the_last_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(last_checkpoint(&real(), dir.path()).unwrap(), None);
    for (made, last) in [(0, 0), (12, 12), (1, 12), (99_999_999, 99_999_999), (100_000_000, 100_000_000)] {
        std::fs::create_dir(dir.path().join(checkpoint_name(made))).unwrap();
        std::fs::create_dir(dir.path().join(format!("{}.tmp", checkpoint_name(made + 1)))).unwrap();
        assert_eq!(last_checkpoint(&real(), dir.path()).unwrap().unwrap().index, last);
    }
    let all: Vec<_> = checkpoints(&real(), dir.path()).unwrap().iter().map(|found| found.index).collect();
    assert_eq!(all, [0, 1, 12, 99_999_999, 100_000_000]);
}

/// TestCheckpointSeriesReset: who follows learns which segments a checkpoint stands for, and can forget what only they
/// named.
#[test]
fn a_follower_learns_what_a_checkpoint_replaced() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 20);
    let checkpoint = dir.path().join(checkpoint_name(2));
    let (log, _) = Log::open(real(), &checkpoint, LogOptions::default()).unwrap();
    log.append([record(1).as_slice(), record(2).as_slice()]).unwrap();
    log.close().unwrap();
    let mut tail = TailReader::open(real(), dir.path(), TailFrom::Start).unwrap();
    let mut replaced = None;
    let mut first_live = None;
    while let Some(item) = tail.next().unwrap() {
        match item {
            TailItem::Checkpoint { index, .. } => replaced = Some(index),
            TailItem::Record(record) => first_live = first_live.or(Some(record.position.segment)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((replaced, first_live), (Some(2), Some(3)));
}
