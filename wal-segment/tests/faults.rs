//! The writer on a disk that crashes and fails: nothing acknowledged as durable is lost, nothing is invented.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tsdb_vfs::crash::Enumerator;
use tsdb_vfs::failpoints::Sweep;
use tsdb_vfs::sim::{Failure, Fault, OpKind};
use tsdb_vfs::{Fs, Journal, Scenario, SimFs};
use wal_segment::{Compression, Durability, Error, Log, LogOptions, LogReader, PAGE_SIZE};

const DIR: &str = "/data/wal";
const PAGE: u64 = PAGE_SIZE as u64;

fn options(durability: Durability) -> LogOptions {
    LogOptions { segment_size: 2 * PAGE, durability, background_sync: false, ..LogOptions::default() }
}

fn record(i: u32) -> Vec<u8> {
    // Lengths that meet page ends in every way; the number makes each record's bytes its own.
    let len = 8 + (i as usize * 7919) % 9000;
    i.to_be_bytes().iter().copied().cycle().take(len).collect()
}

fn number(record: &[u8]) -> Result<u32, String> {
    let head = record.first_chunk::<4>().ok_or("a record that was never appended")?;
    let i = u32::from_be_bytes(*head);
    if record == self::record(i) { Ok(i) } else { Err(format!("record {i} has other bytes")) }
}

fn read_all(fs: &Fs) -> Result<Vec<u32>, String> {
    let mut reader = LogReader::open(fs.clone(), Path::new(DIR)).map_err(|e| e.to_string())?;
    let mut found = Vec::new();
    while let Some(record) = reader.next().map_err(|e| e.to_string())? {
        found.push(number(record.bytes)?);
    }
    Ok(found)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Note {
    Tries(u32),
    Durable(u32),
}

/// One writer, records in order, a durable promise after each append (or after each sync).
struct Appends {
    durability: Durability,
    /// How many sessions (open, append, close or not).
    sessions: u32,
    per_session: u32,
}

impl Appends {
    fn session(&self, fs: &Fs, journal: &Journal<Note>, from: u32) -> Result<(), Error> {
        let (log, _) = Log::open(fs.clone(), Path::new(DIR), options(self.durability))?;
        let mut pending = Vec::new();
        for i in from..from + self.per_session {
            journal.intend(Note::Tries(i));
            match log.append([record(i).as_slice()]) {
                Ok(_) => pending.push(i),
                Err(_) if log.read_only_since().is_some() => {
                    // Handed back, and not appended again: they must then never be claimed.
                    let handed = log.recover()?;
                    for record in &handed.records {
                        let i = number(record).unwrap_or(u32::MAX);
                        pending.retain(|&p| p != i);
                    }
                    if handed.missing > 0 {
                        pending.clear();
                    }
                    continue;
                }
                Err(_) => continue,
            }
            if self.durability != Durability::Always && i % 5 != 4 {
                continue;
            }
            if log.sync().is_ok() {
                pending.drain(..).for_each(|i| journal.promise(Note::Durable(i)));
            }
        }
        if from.is_multiple_of(2) { log.close() } else { Ok(()) }
    }
}

impl Scenario for Appends {
    type Note = Note;
    type Recovered = Vec<u32>;

    fn run(&self, disk: &SimFs, journal: &Journal<Note>) {
        let fs: Fs = Arc::new(disk.clone());
        for session in 0..self.sessions {
            // A session that can't go on ends; the next one starts from what is there.
            let ended = self.session(&fs, journal, session * self.per_session);
            let _ended: Result<(), Error> = ended;
        }
    }

    fn recover(&self, disk: &SimFs) -> Result<Vec<u32>, String> {
        let fs: Fs = Arc::new(disk.clone());
        let (log, report) =
            Log::open(fs.clone(), Path::new(DIR), options(self.durability)).map_err(|e| e.to_string())?;
        if !report.lost.is_empty() {
            return Err(format!("lost: {:?}", report.lost));
        }
        drop(log);
        read_all(&fs)
    }

    fn check(&self, disk: &SimFs, found: Vec<u32>, notes: &[Note]) -> Result<(), String> {
        if !found.is_sorted_by(|a, b| a < b) {
            return Err(format!("out of order: {found:?}"));
        }
        for note in notes {
            if let Note::Durable(i) = note
                && found.binary_search(i).is_err()
            {
                return Err(format!("record {i} is lost, found {found:?}"));
            }
        }
        if let Some(i) = found.iter().find(|&&i| !notes.contains(&Note::Tries(i))) {
            return Err(format!("record {i} is invented"));
        }
        let fs: Fs = Arc::new(disk.clone());
        let (log, again) =
            Log::open(fs.clone(), Path::new(DIR), options(self.durability)).map_err(|e| e.to_string())?;
        if again.healed.is_some() {
            return Err(format!("healed twice: {again:?}"));
        }
        log.append([record(1 << 20).as_slice()]).map_err(|e| e.to_string())?;
        log.close().map_err(|e| e.to_string())?;
        let mut expected = found;
        expected.push(1 << 20);
        if read_all(&fs)? != expected {
            return Err("what was there before an append is not there behind it".to_owned());
        }
        Ok(())
    }
}

fn workloads() -> [Appends; 3] {
    let all = [Durability::Always, Durability::Interval(Duration::from_secs(3600)), Durability::Rotate];
    all.map(|durability| Appends { durability, sessions: 2, per_session: 12 })
}

#[test]
fn no_crash_loses_what_was_durable() {
    for workload in workloads() {
        let report = Enumerator::new(1).exhaustive(6).samples(24).nested(1, 40, 4).run(&workload);
        println!("{:?}: {report:?}", workload.durability);
        report.assert_clean();
    }
}

#[test]
fn no_failure_loses_what_was_durable() {
    for workload in workloads() {
        let report = Sweep::new(1).crashes(3, 2).run(&workload);
        println!("{:?}: {report:?}", workload.durability);
        report.assert_clean();
    }
}

fn sim() -> (SimFs, Fs) {
    let disk = SimFs::new(1);
    let fs: Fs = Arc::new(disk.clone());
    (disk, fs)
}

#[test]
fn a_full_disk_takes_nothing_back_but_the_append_and_resumes() {
    let (disk, fs) = sim();
    let (log, _) = Log::open(fs.clone(), Path::new(DIR), options(Durability::Rotate)).unwrap();
    log.append([record(1).as_slice()]).unwrap();
    disk.set_capacity(Some(disk.used() + 4096));
    let big = vec![7; 40_000];
    let error = log.append([record(2).as_slice(), big.as_slice()]).unwrap_err();
    assert!(error.is_disk_full(), "{error}");
    assert_eq!(read_all(&fs).unwrap(), [1]);
    disk.set_capacity(None);
    log.append([record(3).as_slice()]).unwrap();
    assert_eq!(read_all(&fs).unwrap(), [1, 3]);
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_until_recover_hands_back() {
    for fault in [Fault::SYNC_KEEPS, Fault::SYNC_DROPS, Fault::SYNC_REVERTS] {
        let (disk, fs) = sim();
        let (log, _) = Log::open(fs.clone(), Path::new(DIR), options(Durability::Always)).unwrap();
        log.append([record(1).as_slice()]).unwrap();
        disk.inject(Failure::new(fault).kind(OpKind::SyncData).under(format!("{DIR}/00000000")));
        let error = log.append([record(2).as_slice(), record(3).as_slice()]).unwrap_err();
        assert!(matches!(error, Error::NotDurable { .. }), "{error}");
        assert!(matches!(log.append([record(4).as_slice()]), Err(Error::ReadOnly { .. })));
        assert!(log.sync().is_err());
        let recovered = log.recover().unwrap();
        assert_eq!(recovered.records, [record(2), record(3)]);
        assert_eq!(recovered.missing, 0);
        assert_eq!(log.current_segment(), 1);
        log.append(recovered.records.iter().map(Vec::as_slice)).unwrap();
        assert_eq!(read_all(&fs).unwrap(), [1, 2, 3]);
    }
}

#[test]
fn recover_goes_on_after_it_failed_itself() {
    let (disk, fs) = sim();
    let (log, _) = Log::open(fs.clone(), Path::new(DIR), options(Durability::Always)).unwrap();
    log.append([record(1).as_slice()]).unwrap();
    disk.inject(Failure::new(Fault::SYNC_DROPS).kind(OpKind::SyncData));
    log.append([record(2).as_slice()]).unwrap_err();
    for kind in [OpKind::OpenWrite, OpKind::SetLen, OpKind::SyncAll, OpKind::List] {
        disk.inject(Failure::new(Fault::EIO).kind(kind));
        assert!(log.recover().is_err(), "{kind:?}");
        assert!(log.read_only_since().is_some());
    }
    assert_eq!(log.recover().unwrap().records, [record(2)]);
    assert!(log.recover().unwrap().records.is_empty());
}

#[test]
fn short_writes_are_continued_also_across_pages() {
    let (disk, fs) = sim();
    let (log, _) = Log::open(fs.clone(), Path::new(DIR), options(Durability::Rotate)).unwrap();
    for i in 0..20 {
        disk.inject(Failure::new(Fault::ShortWrite).kind(OpKind::Write));
        log.append([record(i).as_slice()]).unwrap();
    }
    disk.heal();
    assert_eq!(read_all(&fs).unwrap(), (0..20).collect::<Vec<_>>());
}

#[test]
fn a_torn_tail_is_cut_and_kept() {
    for compression in [Compression::None, Compression::Snappy, Compression::Zstd] {
        let (_, fs) = sim();
        let (log, _) =
            Log::open(fs.clone(), Path::new(DIR), LogOptions { compression, ..options(Durability::Rotate) }).unwrap();
        log.append([record(1).as_slice()]).unwrap();
        let whole = log.position().offset;
        log.append([vec![9; 40_000].as_slice()]).unwrap();
        drop(log);
        let segment = Path::new(DIR).join("00000000");
        let file = fs.open_write(&segment).unwrap();
        let len = file.len().unwrap();
        file.set_len(len - 3).unwrap();
        let tail = fs.read(&segment).unwrap()[whole as usize..].to_vec();
        let (log, report) = Log::open(fs.clone(), Path::new(DIR), options(Durability::Rotate)).unwrap();
        let healed = report.healed.unwrap();
        assert_eq!(healed.cut_at, whole);
        assert_eq!(fs.read(&healed.quarantined[0]).unwrap(), tail);
        assert_eq!(log.current_segment(), 1);
        assert_eq!(read_all(&fs).unwrap(), [1]);
    }
}

#[test]
fn damage_that_no_crash_explains_is_not_cut() {
    let (_, fs) = sim();
    let (log, _) = Log::open(fs.clone(), Path::new(DIR), options(Durability::Rotate)).unwrap();
    for i in 0..3 {
        log.append([record(i).as_slice()]).unwrap();
    }
    log.close().unwrap();
    let file = fs.open_write(&Path::new(DIR).join("00000000")).unwrap();
    file.write_all_at(&[0xff; 4], 10).unwrap();
    let error = Log::open(fs.clone(), Path::new(DIR), options(Durability::Rotate)).unwrap_err();
    assert!(matches!(error, Error::Damaged(_)), "{error}");
    assert!(!fs.exists(&Path::new(DIR).join("00000001")).unwrap());
}

#[test]
fn without_a_background_thread_exposure_ends_with_a_sync() {
    let (_, fs) = sim();
    let (log, _) = Log::open(fs, Path::new(DIR), options(Durability::Rotate)).unwrap();
    log.append([record(1).as_slice()]).unwrap();
    assert!(log.exposed_bytes() > 0);
    log.sync().unwrap();
    assert_eq!(log.exposed_bytes(), 0);
    assert_eq!(log.durable_position(), log.position());
}
