//! Any bytes as a segment's file: no panic, no endless loop, every reader agrees, and repair leaves what salvage reads. The
//! state machine below them has a target of its own, `framing`, which needs no file and is many times as fast.

#![no_main]

use std::io;
use std::path::Path;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use tsdb_vfs::sim::SimFs;
use tsdb_vfs::{Fs, Vfs};
use wal_segment::framer::{Event, Framer};
use wal_segment::parallel::{self, ParallelOptions};
use wal_segment::{
    Item, LogReader, PAGE_SIZE, ReadError, SalvageReader, TailFrom, TailItem, TailReader, layout, repair,
};

const DIR: &str = "/wal";

type Records = Vec<(u64, Vec<u8>)>;

/// What the framer gives when all bytes are there at once.
fn framed(bytes: &[u8]) -> Vec<u64> {
    let (mut framer, mut starts) = (Framer::new(), Vec::new());
    while let Event::Record(frame) = framer.advance(bytes, 0) {
        assert!(framer.stored(&frame, bytes).len() <= bytes.len());
        starts.push(frame.start);
    }
    starts
}

fn strictly(fs: &Fs) -> (Records, bool) {
    let mut reader = LogReader::open(fs.clone(), Path::new(DIR)).expect("listed");
    let mut records = Vec::new();
    loop {
        match reader.next() {
            Ok(Some(record)) => records.push((record.position.offset, record.bytes.to_vec())),
            Ok(None) => return (records, false),
            Err(ReadError::Damage(_)) => return (records, true),
            Err(e) => panic!("{e}"),
        }
    }
}

fn in_parallel(fs: &Fs) -> (Records, bool) {
    let segments = layout::segments(fs, Path::new(DIR)).expect("listed");
    let options = ParallelOptions { threads: 1, block_size: PAGE_SIZE as u64 };
    let mut records = Vec::new();
    let outcome = parallel::read(
        fs,
        &segments,
        &options,
        |block| {
            let mut records = Vec::new();
            while let Some(record) = block.next() {
                records.push((record.position.offset, record.bytes.to_vec()));
            }
            records
        },
        |block| {
            records.extend(block);
            Ok::<_, ReadError>(())
        },
    );
    (records, outcome.is_err())
}

fn salvaged(fs: &Fs) -> Records {
    let mut reader = SalvageReader::open(fs.clone(), Path::new(DIR)).expect("listed");
    let (mut records, mut at) = (Vec::new(), 0);
    while let Some(item) = reader.next().expect("readable") {
        match item {
            Item::Record(record) => records.push((record.position.offset, record.bytes.to_vec())),
            Item::Damage(range) => {
                assert!(range.from <= range.to && range.to >= at, "{range:?} behind {at}");
                at = range.to;
            }
            Item::Gap { .. } => panic!("one segment has no gap"),
        }
    }
    records
}

/// Gives every fragment that lies in its page the checksum of its data: or nothing would ever come behind one.
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while let Some(length) = bytes.get(at + 1..at + 3).map(|l| usize::from(u16::from_be_bytes([l[0], l[1]]))) {
        let page_end = (at / PAGE_SIZE + 1) * PAGE_SIZE;
        let (from, to) = (at + 7, at + 7 + length);
        if bytes[at] == 0 || to > page_end || to > bytes.len() {
            at = page_end;
            continue;
        }
        let crc = crc32c::crc32c(&bytes[from..to]);
        bytes[at + 3..at + 7].copy_from_slice(&crc.to_be_bytes());
        at = if page_end - to < 7 { page_end } else { to };
    }
    bytes
}

fuzz_target!(|input: &[u8]| {
    let Some((&how, rest)) = input.split_first() else { return };
    // Half of them stretched over several pages: records cross pages only there.
    let stretched = rest.repeat(if how & 2 == 0 { 1 } else { PAGE_SIZE.div_ceil(rest.len().max(1)).min(2000) });
    let bytes = if how & 1 == 0 { stretched } else { with_checksums(&stretched) };
    let bytes = bytes.as_slice();
    let disk = SimFs::new(1);
    let fs: Fs = Arc::new(disk.clone());
    let made = disk.create_dir(Path::new(DIR)).and_then(|()| disk.write_new(&Path::new(DIR).join("00000000"), bytes));
    made.expect("the simulated disk has room");

    let (strict, damaged) = strictly(&fs);
    assert!(framed(bytes).starts_with(&strict.iter().map(|(start, _)| *start).collect::<Vec<_>>()));
    assert_eq!(in_parallel(&fs), (strict.clone(), damaged));
    let salvage = salvaged(&fs);
    assert!(salvage.starts_with(&strict));
    assert!(damaged || salvage == strict);

    // A log that may still grow: the reader that follows it gives the same records and waits.
    let mut tail = TailReader::open(fs.clone(), Path::new(DIR), TailFrom::Start).expect("listed");
    let mut followed = Vec::new();
    while let Some(item) = tail.next().expect("readable") {
        if let TailItem::Record(record) = item {
            followed.push((record.position.offset, record.bytes.to_vec()));
        }
    }
    assert!(followed.starts_with(&strict) || strict.starts_with(&followed));

    // Repair keeps what salvage reads, and leaves nothing to repair.
    let plan = repair::plan(&fs, Path::new(DIR)).expect("planned");
    repair::apply(&fs, plan).expect("applied");
    let (repaired, damaged) = strictly(&fs);
    assert!(!damaged);
    assert!(repaired.iter().map(|(_, bytes)| bytes).eq(salvage.iter().map(|(_, bytes)| bytes)));
    let _: io::Result<()> = disk.remove_dir_all(Path::new(DIR));
});
