//! SIGKILL: a child process appends and is killed, over and over, and what it had acknowledged must be in its log.
//!
//! The child is this test binary again, running the ignored test [`child`]. It notes each acknowledgement outside of the
//! log, in a file that it appends to in one write each: what a killed process has written, the kernel keeps.
//! `HEADWATER_KILLS` says how many kills, all places together.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "what the child tells must not go through the seam"
)]

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};
use tsdb_vfs::{Fs, RealFs};
use wal_segment::{Check, Compression, Durability, Log, LogOptions, LogReader, PAGE_SIZE, layout, repair};

/// What the child is doing when it dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// One thread appends.
    Append,
    /// Small segments, new ones all the time, old ones removed.
    Rotation,
    /// Sixteen threads commit together.
    GroupCommit,
    /// It tears the log's end and opens it again.
    Heal,
    /// It damages a record and repairs the log.
    Repair,
}

const PLACES: [Place; 5] = [Place::Append, Place::Rotation, Place::GroupCommit, Place::Heal, Place::Repair];

/// Kills on one directory before a fresh one is taken: reading it all after each kill would take longer and longer.
const KILLS_PER_DIR: u64 = 25;

/// A record: its number, then noise that only this number has.
fn record(id: u64) -> Vec<u8> {
    let mut rng = SmallRng::seed_from_u64(id);
    let len = if rng.random_bool(0.05) { rng.random_range(0..PAGE_SIZE) } else { rng.random_range(0..400) };
    let mut bytes = vec![0; 8 + len];
    bytes[..8].copy_from_slice(&id.to_be_bytes());
    rng.fill_bytes(&mut bytes[8..]);
    bytes
}

fn parse(bytes: &[u8]) -> Option<u64> {
    let id = u64::from_be_bytes(*bytes.first_chunk()?);
    (record(id) == bytes).then_some(id)
}

fn options(place: Place, generation: u32) -> LogOptions {
    let codecs = [Compression::None, Compression::Snappy, Compression::Zstd];
    let pages = if place == Place::Rotation { 1 } else { 64 };
    LogOptions {
        segment_size: pages * PAGE_SIZE as u64,
        compression: codecs[generation as usize % codecs.len()],
        durability: Durability::Always,
        check: Check::Tail,
        ..LogOptions::default()
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn wal(dir: &Path) -> PathBuf {
    dir.join("wal")
}

#[test]
fn killed_processes_keep_their_word() {
    let kills = setting("HEADWATER_KILLS").unwrap_or(40);
    let mut rng = SmallRng::seed_from_u64(setting("HEADWATER_SEED").unwrap_or(1));
    for (i, place) in PLACES.into_iter().enumerate() {
        let share = kills / PLACES.len() as u64 + u64::from((i as u64) < kills % PLACES.len() as u64);
        let start = Instant::now();
        let mut total = Tally::default();
        let mut left = share;
        while left > 0 {
            let round = left.min(KILLS_PER_DIR);
            total.add(&kill_in_one_dir(place, round, &mut rng));
            left -= round;
        }
        println!("{place:?}: {share} kills in {:.1} s, {total:?}", start.elapsed().as_secs_f64());
        assert!(total.acknowledged >= share, "{place:?}: hardly anything was acknowledged: {total:?}");
        assert!(
            total.unacknowledged > 0 || share < 20 || matches!(place, Place::Heal | Place::Repair),
            "{place:?}: no kill came between a write and its acknowledgement"
        );
    }
}

#[derive(Debug, Default)]
struct Tally {
    acknowledged: u64,
    /// Records in the log that the child had no time to acknowledge.
    unacknowledged: u64,
    healed: u64,
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        self.acknowledged += other.acknowledged;
        self.unacknowledged += other.unacknowledged;
        self.healed += other.healed;
    }
}

fn kill_in_one_dir(place: Place, kills: u64, rng: &mut SmallRng) -> Tally {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    let mut tally = Tally::default();
    for generation in 0..kills as u32 {
        let journal = dir.join("acknowledged");
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env("HEADWATER_CHILD", dir)
            .env("HEADWATER_CHILD_PLACE", PLACES.iter().position(|p| *p == place).unwrap().to_string())
            .env("HEADWATER_CHILD_GENERATION", generation.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // From its first acknowledgement on, so that the time to start does not count.
        let before = std::fs::metadata(&journal).map_or(0, |m| m.len());
        let deadline = Instant::now() + Duration::from_secs(60);
        while std::fs::metadata(&journal).map_or(0, |m| m.len()) == before && child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "the child acknowledges nothing");
            std::thread::sleep(Duration::from_micros(200));
        }
        std::thread::sleep(Duration::from_micros(rng.random_range(0..15_000)));
        child.kill().unwrap();
        let status = child.wait().unwrap();
        if status.code().is_some() {
            let mut said = String::new();
            child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            panic!("the child ended by itself ({status}): {said}");
        }
        let acknowledged = acknowledged(&journal);
        let removed = removed(dir);
        if place == Place::Repair {
            repair_all(&wal(dir));
        }
        let healed = Log::open(fs(), &wal(dir), options(place, generation)).unwrap().1;
        assert!(healed.lost.is_empty(), "opening says that durable records are lost: {healed:?}");
        let found = read(&wal(dir));
        let lost: Vec<u64> = acknowledged.difference(&found).copied().filter(|id| !removed.contains(id)).collect();
        assert!(lost.is_empty(), "{place:?}, kill {generation}: acknowledged and lost: {lost:x?}");
        let of_this_child = |id: &&u64| **id >> 32 == u64::from(generation);
        tally.acknowledged += acknowledged.iter().filter(of_this_child).count() as u64;
        tally.unacknowledged += found.difference(&acknowledged).filter(of_this_child).count() as u64;
        tally.healed += u64::from(healed.healed.is_some());
    }
    tally
}

fn repair_all(wal: &Path) {
    repair::apply(&fs(), repair::plan(&fs(), wal).unwrap()).unwrap();
}

fn fs() -> Fs {
    Arc::new(RealFs::new())
}

fn acknowledged(journal: &Path) -> BTreeSet<u64> {
    let bytes = std::fs::read(journal).unwrap_or_default();
    let (ids, rest) = bytes.as_chunks::<8>();
    assert!(rest.is_empty(), "an acknowledgement is written whole or not at all");
    ids.iter().map(|id| u64::from_be_bytes(*id)).collect()
}

/// The records whose segments the child was about to remove.
fn removed(dir: &Path) -> BTreeSet<u64> {
    acknowledged(&dir.join("removing"))
}

fn read(wal: &Path) -> BTreeSet<u64> {
    let mut reader = LogReader::open(fs(), wal).unwrap();
    let mut found = BTreeSet::new();
    while let Some(record) = reader.next().unwrap() {
        let id = parse(record.bytes).unwrap_or_else(|| panic!("{}: a record that nobody wrote", record.position));
        assert!(found.insert(id), "record {id:x} is there twice");
    }
    found
}

// -- the child ---------------------------------------------------------------------------------------------------------------

struct Child {
    dir: PathBuf,
    generation: u32,
    next: AtomicU32,
    journal: File,
}

fn append_only(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).unwrap()
}

#[test]
#[ignore = "the process that gets killed; it does not end by itself"]
fn child() {
    let Some(dir) = std::env::var_os("HEADWATER_CHILD").map(PathBuf::from) else { return };
    let place = PLACES[setting("HEADWATER_CHILD_PLACE").unwrap() as usize];
    let generation = setting("HEADWATER_CHILD_GENERATION").unwrap() as u32;
    let journal = append_only(&dir.join("acknowledged"));
    let child = Child { dir, generation, next: AtomicU32::new(0), journal };
    // Bounded, so that a parent that died does not leave a process behind for ever.
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        let (log, _) = Log::open(fs(), &wal(&child.dir), options(place, generation)).unwrap();
        match place {
            Place::Append => {
                while Instant::now() < end {
                    child.append(&log)
                }
            }
            Place::Rotation => child.rotate(&log, end),
            Place::GroupCommit => std::thread::scope(|scope| {
                (0..16).for_each(|_| {
                    drop(scope.spawn(|| {
                        while Instant::now() < end {
                            child.append(&log)
                        }
                    }))
                });
            }),
            Place::Heal => {
                child.append(&log);
                drop(log);
                child.tear();
            }
            Place::Repair => {
                child.append(&log);
                log.next_segment().unwrap();
                child.append(&log);
                child.remove(&log);
                log.close().unwrap();
                child.damage();
                repair_all(&wal(&child.dir));
            }
        }
    }
}

impl Child {
    fn append(&self, log: &Log) {
        let id = u64::from(self.generation) << 32 | u64::from(self.next.fetch_add(1, Ordering::Relaxed));
        log.append([record(id).as_slice()]).unwrap();
        (&self.journal).write_all(&id.to_be_bytes()).unwrap();
    }

    fn rotate(&self, log: &Log, end: Instant) {
        let mut turn = 0;
        while Instant::now() < end {
            self.append(log);
            turn += 1;
            if turn % 5 == 0 {
                log.next_segment().unwrap();
            }
            if turn % 40 == 0 {
                self.remove(log);
            }
        }
    }

    /// Notes what it is going to remove, then does it.
    fn remove(&self, log: &Log) {
        let keep_from = log.current_segment().saturating_sub(4);
        let mut old = layout::segments(&fs(), &wal(&self.dir)).unwrap();
        old.retain(|segment| segment.index < keep_from);
        let mut removing = append_only(&self.dir.join("removing"));
        let mut reader = LogReader::over(fs(), old);
        while let Some(record) = reader.next().unwrap() {
            removing.write_all(&parse(record.bytes).unwrap().to_be_bytes()).unwrap();
        }
        log.remove_segments_before(keep_from).unwrap();
    }

    /// Notes a record as given up, then writes over it.
    fn damage(&self) {
        let all = layout::segments(&fs(), &wal(&self.dir)).unwrap();
        let filled = all.iter().rev().find(|segment| segment.len > 0).unwrap();
        let mut reader = LogReader::over(fs(), vec![filled.clone()]);
        let record = reader.next().unwrap().unwrap();
        append_only(&self.dir.join("removing")).write_all(&parse(record.bytes).unwrap().to_be_bytes()).unwrap();
        let file = OpenOptions::new().write(true).open(&filled.path).unwrap();
        file.write_all_at(&[0xff; 4], record.position.offset + 3).unwrap();
    }

    /// Leaves what a crash in the middle of a write leaves behind the last record.
    fn tear(&self) {
        let last = layout::segments(&fs(), &wal(&self.dir)).unwrap().pop().unwrap();
        let torn = [&[1_u8, 0x10, 0x00, 1, 2, 3, 4][..], &[7; 100]].concat();
        let room = PAGE_SIZE as u64 - last.len % PAGE_SIZE as u64;
        append_only(&last.path).write_all(&torn[..torn.len().min(room as usize)]).unwrap();
    }
}
