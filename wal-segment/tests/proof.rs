//! A complete segment that another program wrote before it ended: its proof comes later, and comes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tsdb_vfs::crash::Enumerator;
use tsdb_vfs::failpoints::Sweep;
use tsdb_vfs::sim::{Failure, Fault, Kept, OpKind};
use tsdb_vfs::{Fs, Journal, RealFs, Scenario, SimFs};
use wal_segment::{Check, Item, Ledger, Log, LogOptions, LogReader, PAGE_SIZE, Position, SalvageReader, layout};

const DIR: &str = "/wal";
const PAGE: u64 = PAGE_SIZE as u64;

fn options() -> LogOptions {
    LogOptions { check: Check::Torn, segment_size: 8 * PAGE, background_sync: false, ..LogOptions::default() }
}

fn record(i: u32) -> Vec<u8> {
    i.to_be_bytes().iter().copied().cycle().take(2_000 + (i as usize * 7919) % 3_000).collect()
}

fn path(segment: u32) -> PathBuf {
    Path::new(DIR).join(format!("{segment:08}"))
}

/// The bytes of a log of three segments, with the numbers of their records.
fn written() -> Vec<(Vec<u8>, std::ops::Range<u32>)> {
    let (fs, dir): (Fs, _) = (Arc::new(SimFs::new(1)), Path::new(DIR));
    let (log, _) = Log::open(fs.clone(), dir, LogOptions { ledger: false, ..options() }).expect("an empty disk");
    let mut next = 0;
    let ranges: Vec<_> = [40, 40, 7]
        .map(|n| {
            let range = next..next + n;
            next = range.end;
            if range.start > 0 {
                log.next_segment().expect("room");
            }
            range
                .clone()
                .for_each(|i| assert_eq!(log.append([&record(i)[..]]).expect("room").segment, log.current_segment()));
            range
        })
        .into();
    drop(log);
    (0..).zip(ranges).map(|(segment, range)| (fs.read(&path(segment)).expect("a segment"), range)).collect()
}

/// A disk with what another program left: all of it is read well, the first segment is durable, of the second the sync has
/// failed, the third was never synced.
fn left_by_another() -> (SimFs, Fs, u32) {
    let disk = SimFs::new(1);
    let fs: Fs = Arc::new(disk.clone());
    fs.create_dir(Path::new(DIR)).expect("a disk");
    fs.sync_dir(Path::new("/")).expect("a disk");
    let mut records = 0;
    for (segment, (bytes, range)) in (0..).zip(written()) {
        let file = fs.create_new(&path(segment)).expect("a disk");
        fs.sync_dir(Path::new(DIR)).expect("a disk");
        file.write_all_at(&bytes, 0).expect("a disk");
        match segment {
            0 => file.sync_data().expect("a disk"),
            1 => {
                disk.inject(Failure::new(Fault::SYNC_DROPS).kind(OpKind::SyncData));
                assert!(file.sync_data().is_err());
            }
            _ => {}
        }
        records = range.end;
    }
    assert_eq!(read_all(&fs), (0..records).collect::<Vec<_>>());
    (disk, fs, records)
}

fn read_all(fs: &Fs) -> Vec<u32> {
    let mut reader = LogReader::open(fs.clone(), Path::new(DIR)).expect("segments");
    let mut found = Vec::new();
    while let Some(found_one) = reader.next().expect("sound") {
        let i = u32::from_be_bytes(*found_one.bytes.first_chunk().expect("a number"));
        assert_eq!(found_one.bytes, record(i));
        found.push(i);
    }
    found
}

fn settled(fs: &Fs) -> Vec<u64> {
    let settled = Log::settled(fs, Path::new(DIR), &options()).expect("segments");
    settled.iter().map(|segment| segment.index).collect()
}

fn open(fs: &Fs) -> Log {
    Log::open(fs.clone(), Path::new(DIR), options()).expect("a log that reads well").0
}

const UNPROVEN: Position = Position { segment: 1, offset: 0 };

#[test]
fn what_another_wrote_waits_for_its_proof_and_is_durable_then() {
    let (disk, fs, records) = left_by_another();
    let all: Vec<u32> = (0..records + 2).collect();
    // Two processes are killed before they come to it.
    for killed in 0..2 {
        assert_eq!(settled(&fs)[..2], [0, 1]);
        disk.record_ops();
        let log = open(&fs);
        assert!(disk.ops().iter().all(|op| op.kind != OpKind::Write || *op.path != *path(1)));
        assert_eq!(log.durable_position(), UNPROVEN);
        assert!(log.exposed_bytes() >= fs.metadata(&path(1)).expect("a file").len);
        log.append([&record(records + killed)[..]]).expect("room");
    }
    let log = open(&fs);
    assert_eq!(log.durable_position(), UNPROVEN);
    log.prove().expect("a disk");
    assert_eq!((log.exposed_bytes(), log.durable_position()), (0, log.position()));
    let after: Fs = Arc::new(disk.crash_point().image(Kept::Nothing));
    assert_eq!(read_all(&after), all);
    // Nothing is left to prove, and nobody begins with the segment before it.
    drop(log);
    let ledger = Ledger::load(&fs, Path::new(DIR)).expect("a ledger");
    assert!((1..5).all(|segment| ledger.get(segment).is_some_and(|entry| entry.sealed)) && ledger.get(0).is_none());
    let log = open(&fs);
    assert_eq!(log.durable_position(), log.position());
}

#[test]
fn a_sync_a_close_and_the_next_to_open_with_all_checks_prove_it_too() {
    for way in 0..4 {
        let (disk, fs, records) = left_by_another();
        let log = open(&fs);
        match way {
            0 => log.sync().expect("a disk"),
            1 => log.close().expect("a disk"),
            _ => {
                drop(log);
                let check = if way == 2 { Check::Tail } else { Check::All };
                Log::open(fs.clone(), Path::new(DIR), LogOptions { check, ..options() }).expect("sound");
            }
        }
        let after: Fs = Arc::new(disk.crash_point().image(Kept::Nothing));
        assert_eq!(read_all(&after), (0..records).collect::<Vec<_>>(), "{way}");
    }
}

#[test]
fn a_thread_of_the_log_proves_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let fs: Fs = Arc::new(RealFs::new());
    for (segment, (bytes, _)) in (0..).zip(written()) {
        std::fs::write(dir.path().join(layout::segment_name(segment)), bytes).expect("a disk");
    }
    let options = LogOptions { background_sync: true, ..options() };
    let (log, _) = Log::open(fs, dir.path(), options).expect("sound");
    assert_eq!(log.durable_position(), UNPROVEN);
    log.prove().expect("a thread");
    let mut looks = 0;
    while log.durable_position() != log.position() {
        looks += 1;
        assert!(looks < 10_000, "it never comes to it");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What is damaged may be so in the cache only: writing it would destroy what the disk has. Who reads it says so.
#[test]
fn a_damaged_one_stays_as_it_is() {
    let (disk, fs, _) = left_by_another();
    let file = fs.open_write(&path(1)).expect("a file");
    file.write_all_at(&[0xff; 3], PAGE + 50).expect("a disk");
    let before = fs.read(&path(1)).expect("a file");
    let log = open(&fs);
    disk.record_ops();
    log.prove().expect("nothing to be done");
    let written = disk.ops().into_iter().filter(|op| op.kind == OpKind::Write && *op.path == *path(1));
    assert!(written.map(|op| op.offset + op.len).max().unwrap_or(0) <= PAGE);
    assert_eq!(fs.read(&path(1)).expect("a file"), before);
    assert!(Ledger::load(&fs, Path::new(DIR)).expect("a ledger").get(1).is_none());
    assert_eq!(log.durable_position(), log.position());
}

#[test]
fn one_that_a_checkpoint_stands_for_needs_no_proof() {
    let (_, fs, records) = left_by_another();
    let log = open(&fs);
    assert_eq!(log.remove_segments_before(2).expect("a disk"), 2);
    log.sync().expect("a disk");
    assert_eq!(log.durable_position(), log.position());
    assert_eq!(read_all(&fs), (80..records).collect::<Vec<_>>());
}

#[test]
fn a_proof_that_fails_is_tried_again_and_holds_nobody_up() {
    for (fault, kind) in [
        (Fault::EIO, OpKind::OpenWrite),
        (Fault::EIO, OpKind::OpenRead),
        (Fault::EIO, OpKind::Read),
        (Fault::EIO, OpKind::Write),
        (Fault::EIO, OpKind::SetLen),
        (Fault::SYNC_DROPS, OpKind::SyncAll),
        (Fault::SYNC_KEEPS, OpKind::SyncAll),
    ] {
        let (disk, fs, records) = left_by_another();
        let log = open(&fs);
        disk.inject(Failure::new(fault).kind(kind).under(path(1)));
        let error = log.prove().expect_err("a disk that fails").to_string();
        assert!(error.contains("00000001"), "{error}");
        assert_eq!(log.durable_position(), UNPROVEN, "{kind:?}");
        log.append([&record(records)[..]]).expect("the log goes on");
        log.sync().expect("the disk is well again");
        let after: Fs = Arc::new(disk.crash_point().image(Kept::Nothing));
        assert_eq!(read_all(&after), (0..=records).collect::<Vec<_>>(), "{kind:?}");
    }
}

/// Recovery cuts what is not durable of what it wrote, and nothing of what others did.
#[test]
fn recovery_leaves_it_alone() {
    let (disk, fs, records) = left_by_another();
    let log = open(&fs);
    let before = fs.read(&path(1)).expect("a file");
    log.append([&record(records)[..]]).expect("room");
    disk.inject(Failure::new(Fault::SYNC_DROPS).kind(OpKind::SyncData).under(path(3)));
    log.sync().expect_err("a disk that fails");
    let recovered = log.recover().expect("the disk is well again");
    assert_eq!(recovered.durable_to, Position { segment: 3, offset: 0 });
    assert_eq!(fs.read(&path(1)).expect("a file"), before);
    assert_eq!(log.durable_position(), UNPROVEN);
    log.prove().expect("a disk");
    assert_eq!(read_all(&fs), (0..records).collect::<Vec<_>>());
}

/// Opened, appended to, killed, opened again and proven. Before that the disk never had the second segment; once it is
/// proven, all of it is there whatever comes.
struct Proves;

const PROVEN: u32 = u32::MAX;

impl Scenario for Proves {
    type Note = u32;
    type Recovered = Vec<u32>;

    fn prepare(&self, disk: &SimFs) {
        disk.restore(&left_by_another().0);
    }

    fn run(&self, disk: &SimFs, journal: &Journal<u32>) {
        let fs: Fs = Arc::new(disk.clone());
        for i in 87..89 {
            let Ok((log, _)) = Log::open(fs.clone(), Path::new(DIR), options()) else { return };
            if log.append([&record(i)[..]]).is_err() {
                return;
            }
            if i == 88 && log.sync().is_ok() {
                journal.promise(PROVEN);
            }
        }
    }

    fn recover(&self, disk: &SimFs) -> Result<Vec<u32>, String> {
        let fs: Fs = Arc::new(disk.clone());
        let (log, _) = Log::open(fs.clone(), Path::new(DIR), options()).map_err(|e| e.to_string())?;
        log.prove().map_err(|e| e.to_string())?;
        let mut reader = SalvageReader::open(fs, Path::new(DIR)).map_err(|e| e.to_string())?;
        let mut found = Vec::new();
        while let Some(item) = reader.next().map_err(|e| e.to_string())? {
            if let Item::Record(record) = item {
                found.extend(record.bytes.first_chunk().map(|number| u32::from_be_bytes(*number)));
            }
        }
        Ok(found)
    }

    fn check(&self, _: &SimFs, found: Vec<u32>, notes: &[u32]) -> Result<(), String> {
        let all = if notes.contains(&PROVEN) { 89 } else { 40 };
        if !found.starts_with(&(0..all).collect::<Vec<_>>()) || !found.is_sorted_by(|a, b| a < b) {
            return Err(format!("{found:?}, {all} of them promised"));
        }
        Ok(())
    }
}

#[test]
fn a_crash_on_the_way_to_the_proof_loses_nothing() {
    let report = Enumerator::new(7).exhaustive(6).samples(12).nested(1, 40, 4).run(&Proves);
    println!("{report:?}");
    report.assert_clean();
    assert!(report.states > 5_000 && report.states_with.blocks > 1_000);
    let report = Sweep::new(7).crashes(3, 2).run(&Proves);
    println!("{report:?}");
    report.assert_clean();
    assert!(report.runs > 200);
}
