//! Seeded programs over the log: what is run, crashed and failed.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};
use tsdb_vfs::sim::{Failure, Fault, Kept, OpKind};
use tsdb_vfs::{Fs, Journal, Scenario, SimFs, Vfs};
use wal_segment::{
    Check, Compression, Durability, Error, Item, Log, LogOptions, LogReader, PAGE_SIZE, Position, ReadError,
    SalvageReader, layout, repair,
};

use crate::model::{Id, Model, Note, Order};

const DIR: &str = "/data/wal";

/// What a program mostly does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Appends, each acknowledged when it is durable.
    Append,
    /// Small segments, rotated and removed; durable when synced or complete.
    Rotate,
    /// Several threads that append at once.
    Group,
    /// Starts on what a crash left.
    Heal,
    /// Starts on a log with damage in the middle, repairs it and goes on.
    Repair,
    /// Writes and syncs fail now and then, the disk fills; the program recovers and goes on.
    Failures,
}

impl Profile {
    pub(crate) const ALL: [Profile; 6] =
        [Profile::Append, Profile::Rotate, Profile::Group, Profile::Heal, Profile::Repair, Profile::Failures];
}

/// How often things happened, in the program and its recoveries.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    pub(crate) appends: u64,
    pub(crate) rotations: u64,
    pub(crate) removals: u64,
    pub(crate) healed: u64,
    /// Logs that opening refused until they were repaired.
    pub(crate) repaired: u64,
    /// Calls that failed.
    pub(crate) refused: u64,
    /// Calls that failed because the disk was full.
    pub(crate) full: u64,
    /// `recover()` that succeeded on a read-only log.
    pub(crate) recovered: u64,
}

impl std::ops::AddAssign for Seen {
    fn add_assign(&mut self, other: Self) {
        self.appends += other.appends;
        self.rotations += other.rotations;
        self.removals += other.removals;
        self.healed += other.healed;
        self.repaired += other.repaired;
        self.refused += other.refused;
        self.full += other.full;
        self.recovered += other.recovered;
    }
}

/// A program that its seed decides.
pub(crate) struct Program {
    profile: Profile,
    seed: u64,
    options: LogOptions,
    /// What it starts on, and what was promised of that.
    prepared: Option<(SimFs, Vec<Note>)>,
    seen: Mutex<Seen>,
}

/// The bytes of a record: its number, then noise that only this number has.
pub(crate) fn record(id: Id) -> Vec<u8> {
    let mut rng = SmallRng::seed_from_u64(u64::from(id));
    let len = match rng.random_range(0..100) {
        0..70 => rng.random_range(0..200),
        70..90 => rng.random_range(0..3000),
        90..98 => rng.random_range(0..PAGE_SIZE),
        _ => rng.random_range(0..2 * PAGE_SIZE),
    };
    let mut bytes = vec![0; 4 + len];
    bytes[..4].copy_from_slice(&id.to_be_bytes());
    rng.fill_bytes(&mut bytes[4..]);
    if rng.random_bool(0.5) {
        // Something to compress.
        bytes[4..].fill(id as u8);
    }
    bytes
}

fn options(profile: Profile, rng: &mut SmallRng) -> LogOptions {
    let codecs = [Compression::None, Compression::Snappy, Compression::Zstd];
    let durability = match profile {
        Profile::Append | Profile::Group => Durability::Always,
        Profile::Rotate => Durability::Rotate,
        _ if rng.random_bool(0.5) => Durability::Always,
        _ => Durability::Rotate,
    };
    LogOptions {
        segment_size: PAGE_SIZE as u64 * rng.random_range(1..4),
        compression: codecs[rng.random_range(0..3)],
        durability,
        // Reading everything on many threads at each open is most of the time of a run.
        check: match rng.random_range(0..10) {
            _ if profile == Profile::Repair => Check::All,
            0 => Check::All,
            1..6 => Check::Torn,
            _ => Check::Tail,
        },
        ledger: rng.random_bool(0.7),
        background_sync: false,
    }
}

impl Program {
    pub(crate) fn new(profile: Profile, seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed ^ (profile as u64) << 32);
        let mut program =
            Program { profile, seed, options: options(profile, &mut rng), prepared: None, seen: Mutex::default() };
        match profile {
            Profile::Heal => program.prepared = Some(program.crashed(&mut rng)),
            Profile::Repair => program.prepared = Some(program.damaged(&mut rng)),
            _ => {}
        }
        program
    }

    /// A log that was closed in order and then damaged; what a salvaging reader finds is to be kept.
    fn damaged(&self, rng: &mut SmallRng) -> (SimFs, Vec<Note>) {
        let mut earlier = Program::new(Profile::Rotate, rng.next_u64());
        earlier.options.ledger = self.options.ledger;
        let disk = SimFs::new(0);
        earlier.prepare(&disk);
        earlier.execute(&disk, &|_| {});
        if let Ok(log) = earlier.open(&disk) {
            log.close().unwrap();
        }
        let fs: Fs = std::sync::Arc::new(disk.clone());
        let segments = layout::segments(&fs, Path::new(DIR)).unwrap();
        for _ in 0..rng.random_range(1..4) {
            let segment = &segments[rng.random_range(0..segments.len())];
            let file = disk.open_write(&segment.path).unwrap();
            let len = file.len().unwrap();
            if len > 0 {
                let at = rng.random_range(0..len);
                let damage = vec![rng.random(); rng.random_range(1..2000_u64).min(len - at) as usize];
                file.write_all_at(&damage, at).unwrap();
            }
        }
        let mut salvage = SalvageReader::open(fs, Path::new(DIR)).unwrap();
        let mut sound = Vec::new();
        while let Some(item) = salvage.next().unwrap() {
            if let Item::Record(record) = item {
                sound.push(parse(record.bytes).unwrap());
            }
        }
        (disk, vec![Note::Found(sound)])
    }

    /// What a crash left of another program, with some of it torn.
    fn crashed(&self, rng: &mut SmallRng) -> (SimFs, Vec<Note>) {
        let mut earlier = Program::new(Profile::Rotate, rng.next_u64());
        earlier.options.ledger = self.options.ledger;
        let disk = SimFs::new(0);
        earlier.prepare(&disk);
        disk.sync_everything();
        let notes = Mutex::new(Vec::new());
        earlier.execute(&disk, &|note| notes.lock().unwrap().push(note));
        (disk.crash_point().image(Kept::Random(rng.next_u64())), notes.into_inner().unwrap())
    }

    pub(crate) fn seen(&self) -> Seen {
        *self.seen.lock().unwrap()
    }

    fn count(&self, what: impl FnOnce(&mut Seen)) {
        what(&mut self.seen.lock().unwrap());
    }

    fn open(&self, disk: &SimFs) -> Result<Log, Error> {
        let fs: Fs = std::sync::Arc::new(disk.clone());
        let (log, report) = Log::open(fs, Path::new(DIR), self.options.clone())?;
        self.count(|seen| seen.healed += u64::from(report.healed.is_some()));
        let damaged = self.profile == Profile::Repair;
        assert!(report.lost.is_empty() || damaged, "opening says that durable records are lost: {report:?}");
        if self.options.check == Check::Torn {
            // Who opens it so reads the rest, and has what is damaged there repaired.
            let fs: Fs = std::sync::Arc::new(disk.clone());
            let mut reader = LogReader::open(fs, Path::new(DIR))?;
            loop {
                match reader.next() {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(ReadError::Damage(damage)) => return Err(Error::Damaged(damage)),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        // What opening lets be read is durable then, whatever was looked at first.
        log.prove()?;
        Ok(log)
    }

    /// Opens the log, after a repair if opening asks for one; and whether there was one.
    fn open_repaired(&self, disk: &SimFs) -> Result<(Log, bool), Error> {
        match self.open(disk) {
            // Writes of a crash that arrived out of order look like damage to who has no ledger.
            Err(Error::Damaged(_)) if !self.options.ledger || self.profile == Profile::Repair => {
                let fs: Fs = std::sync::Arc::new(disk.clone());
                repair::apply(&fs, repair::plan(&fs, Path::new(DIR))?)?;
                self.count(|seen| seen.repaired += 1);
                Ok((self.open(disk)?, true))
            }
            opened => Ok((opened?, false)),
        }
    }

    fn execute(&self, disk: &SimFs, note: &(dyn Fn(Note) + Sync)) {
        if self.profile == Profile::Group {
            self.execute_group(disk, note);
            return;
        }
        let mut rng = SmallRng::seed_from_u64(self.seed);
        let mut run = Run::new(self, disk, note);
        for _ in 0..rng.random_range(10..40) {
            if run.step(&mut rng).is_none() {
                return;
            }
        }
        if rng.random_bool(0.3) {
            run.close();
        }
    }

    /// Threads append at the same time: who leads and who waits is another story each time.
    fn execute_group(&self, disk: &SimFs, note: &(dyn Fn(Note) + Sync)) {
        let Ok(log) = self.open(disk) else { return };
        let next = AtomicU32::new(1);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5 {
                        let ids = vec![next.fetch_add(1, Ordering::Relaxed)];
                        note(Note::Begun(ids.clone()));
                        if append(&log, &ids).is_err() {
                            return;
                        }
                        self.count(|seen| seen.appends += 1);
                        note(Note::Durable(ids));
                    }
                });
            }
        });
    }
}

fn append(log: &Log, ids: &[Id]) -> Result<Position, Error> {
    let records: Vec<Vec<u8>> = ids.iter().map(|&id| record(id)).collect();
    log.append(records.iter().map(Vec::as_slice))
}

/// One run of a program, with what it knows of its log.
struct Run<'a> {
    program: &'a Program,
    disk: &'a SimFs,
    note: &'a (dyn Fn(Note) + Sync),
    log: Option<Log>,
    next_id: Id,
    /// Records that may be in the log and are not durable, with the segments that they are in at the earliest and latest.
    pending: Vec<(u64, u64, Id)>,
    /// Durable records by their segment.
    durable: Vec<(u64, Id)>,
}

impl<'a> Run<'a> {
    fn new(program: &'a Program, disk: &'a SimFs, note: &'a (dyn Fn(Note) + Sync)) -> Self {
        let next_id = match &program.prepared {
            Some((_, notes)) => Model::after(notes).next_id(),
            None => 1,
        };
        Run { program, disk, note, log: None, next_id, pending: Vec::new(), durable: Vec::new() }
    }

    /// One random step; `None` if the program gives up.
    fn step(&mut self, rng: &mut SmallRng) -> Option<()> {
        if self.log.is_none() {
            return self.reopen();
        }
        let profile = self.program.profile;
        if profile == Profile::Failures && rng.random_bool(0.15) {
            self.trouble(rng);
        }
        match rng.random_range(0..100) {
            0..70 => self.append(rng),
            70..80 if profile != Profile::Append => self.next_segment(),
            80..86 if profile != Profile::Append => self.remove(rng),
            86..96 => self.sync(),
            96..98 => self.close(),
            98..100 => {
                // The process dies, the machine lives.
                self.log = None;
                Some(())
            }
            _ => self.append(rng),
        }
    }

    fn trouble(&self, rng: &mut SmallRng) {
        let failure = match rng.random_range(0..6) {
            0 => Failure::new(Fault::SYNC_KEEPS),
            1 => Failure::new(Fault::SYNC_DROPS).kind(OpKind::SyncData),
            2 => Failure::new(Fault::SYNC_REVERTS).kind(OpKind::SyncData),
            3 => Failure::new(Fault::BrokenWrite(5)).kind(OpKind::Write),
            4 => Failure::new(Fault::ENOSPC).kind(OpKind::Write).sticky(),
            _ => {
                self.disk.set_capacity(Some(self.disk.used() + 4096));
                return;
            }
        };
        self.disk.inject(failure);
    }

    fn reopen(&mut self) -> Option<()> {
        if self.program.profile == Profile::Repair || !self.program.options.ledger {
            (self.note)(Note::Repairing);
        }
        let (log, _) = match self.program.open_repaired(self.disk) {
            Ok(opened) => opened,
            Err(e) => {
                self.refused(&e);
                self.program.open_repaired(self.disk).ok()?
            }
        };
        // What opening lets be read is durable, all else is gone.
        let found = read(self.disk, &self.program.options).ok()?;
        (self.note)(Note::Found(found.iter().map(|&(_, id)| id).collect()));
        self.pending.clear();
        self.durable = found;
        self.log = Some(log);
        Some(())
    }

    fn append(&mut self, rng: &mut SmallRng) -> Option<()> {
        let ids: Vec<Id> = (self.next_id..).take(rng.random_range(1..4)).collect();
        self.next_id += ids.len() as Id;
        let log = self.log.as_ref()?;
        let before = log.current_segment();
        (self.note)(Note::Begun(ids.clone()));
        let outcome = append(log, &ids);
        match outcome {
            Ok(_) => {
                self.program.count(|seen| seen.appends += 1);
                (self.note)(Note::Written(ids.clone()));
                let now = log.current_segment();
                self.pending.extend(ids.iter().map(|&id| (before, now, id)));
                match self.program.options.durability {
                    Durability::Always => self.all_durable(),
                    // Whatever a call leaves behind in complete segments is durable when it returns.
                    _ => self.durable_where(|last| last < now),
                }
                Some(())
            }
            Err(e) => {
                (self.note)(Note::Failed(ids));
                self.after_failure(e)
            }
        }
    }

    fn sync(&mut self) -> Option<()> {
        match self.log.as_ref()?.sync() {
            Ok(()) => {
                self.all_durable();
                Some(())
            }
            Err(e) => self.after_failure(e),
        }
    }

    fn next_segment(&mut self) -> Option<()> {
        match self.log.as_ref()?.next_segment() {
            Ok(_) => {
                self.program.count(|seen| seen.rotations += 1);
                self.all_durable();
                Some(())
            }
            Err(e) => self.after_failure(e),
        }
    }

    fn remove(&mut self, rng: &mut SmallRng) -> Option<()> {
        let log = self.log.as_ref()?;
        let before = log.current_segment().saturating_sub(rng.random_range(0..3));
        let mut removing = Vec::new();
        removing.extend(self.durable.extract_if(.., |(segment, _)| *segment < before).map(|(_, id)| id));
        removing.extend(self.pending.extract_if(.., |(first, ..)| *first < before).map(|(.., id)| id));
        (self.note)(Note::Removing(removing));
        match log.remove_segments_before(before) {
            Ok(n) => {
                self.program.count(|seen| seen.removals += n as u64);
                Some(())
            }
            Err(e) => self.after_failure(e),
        }
    }

    fn close(&mut self) -> Option<()> {
        match self.log.take()?.close() {
            Ok(()) => self.all_durable(),
            Err(e) => self.refused(&e),
        }
        Some(())
    }

    fn all_durable(&mut self) {
        self.durable_where(|_| true);
    }

    fn durable_where(&mut self, complete: impl Fn(u64) -> bool) {
        let durable: Vec<_> = self.pending.extract_if(.., |(_, last, _)| complete(*last)).collect();
        if !durable.is_empty() {
            (self.note)(Note::Durable(durable.iter().map(|&(.., id)| id).collect()));
            self.durable.extend(durable.into_iter().map(|(first, _, id)| (first, id)));
        }
    }

    fn refused(&self, e: &Error) {
        self.program.count(|seen| {
            seen.refused += 1;
            seen.full += u64::from(e.is_disk_full());
        });
        // The trouble passes: once, or because somebody made room.
        self.disk.set_capacity(None);
        if self.program.profile == Profile::Failures {
            self.disk.heal();
        }
    }

    /// Goes on if the log can, after `recover()` if it must.
    fn after_failure(&mut self, e: Error) -> Option<()> {
        self.refused(&e);
        let log = self.log.as_ref()?;
        if log.read_only_since().is_none() {
            return Some(());
        }
        let refused = append(log, &[0]);
        assert!(matches!(refused, Err(Error::ReadOnly { .. })), "a read-only log took a record: {refused:?}");
        let recovered = (0..2).find_map(|_| log.recover().ok())?;
        self.program.count(|seen| seen.recovered += 1);
        let handed_back: Vec<Id> =
            recovered.records.iter().map(|bytes| parse(bytes).expect("a record that was appended")).collect();
        let found = read(self.disk, &self.program.options).ok()?;
        if let Some(both) = handed_back.iter().find(|id| found.iter().any(|(_, found)| found == *id)) {
            panic!("record {both} was handed back and is still in the log");
        }
        if recovered.missing == 0 {
            let has = |id: &Id| handed_back.contains(id) || found.iter().any(|(_, found)| found == id);
            let lost = self.pending.iter().find(|(.., id)| !has(id));
            assert!(lost.is_none(), "record {lost:?} was neither durable nor handed back");
        }
        (self.note)(Note::Found(found.iter().map(|&(_, id)| id).collect()));
        self.pending.clear();
        self.durable = found;
        Some(())
    }
}

fn parse(bytes: &[u8]) -> Result<Id, String> {
    let id = bytes.first_chunk().map(|id| Id::from_be_bytes(*id));
    match id {
        Some(id) if record(id) == bytes => Ok(id),
        Some(id) => Err(format!("a record of {} bytes that begins like {id} and was never written", bytes.len())),
        None => Err(format!("a record of {} bytes that was never written", bytes.len())),
    }
}

/// Everything the strict reader gives out, with its segment.
fn read(disk: &SimFs, options: &LogOptions) -> Result<Vec<(u64, Id)>, String> {
    let fs: Fs = std::sync::Arc::new(disk.clone());
    let mut reader = LogReader::open(fs, Path::new(DIR)).map_err(|e| e.to_string())?;
    let mut found = Vec::new();
    while let Some(record) = reader.next().map_err(|e| e.to_string())? {
        if record.bytes.is_empty() && !options.ledger {
            // Half a header that a repair took for a record of no bytes: without a ledger nothing tells them apart, and
            // every consumer passes over it.
            continue;
        }
        let id = parse(record.bytes).map_err(|e| format!("{}: {e}", record.position))?;
        found.push((record.position.segment, id));
    }
    Ok(found)
}

impl Scenario for Program {
    type Note = Note;
    /// The records, and whether a repair was needed to get at them.
    type Recovered = (Vec<(u64, Id)>, bool);

    fn prepare(&self, disk: &SimFs) {
        match &self.prepared {
            Some((image, _)) => disk.restore(image),
            None => disk.create_dir_all(Path::new("/data")).unwrap(),
        }
    }

    fn run(&self, disk: &SimFs, journal: &Journal<Note>) {
        self.execute(disk, &|note| if note.is_promise() { journal.promise(note) } else { journal.intend(note) });
    }

    fn recover(&self, disk: &SimFs) -> Result<Self::Recovered, String> {
        let (_, repaired) = self.open_repaired(disk).map_err(|e| format!("opening failed: {e}"))?;
        Ok((read(disk, &self.options)?, repaired))
    }

    fn check(&self, disk: &SimFs, (found, repaired): Self::Recovered, notes: &[Note]) -> Result<(), String> {
        let before = self.prepared.iter().flat_map(|(_, notes)| notes);
        let model = Model::after(before.chain(notes));
        let order = match (self.profile, self.options.durability) {
            (Profile::Group, _) => Order::None,
            // Repair keeps what is sound, also behind what is not.
            _ if repaired => Order::None,
            // A segment is begun before the one before is durable.
            (_, Durability::Rotate) => Order::InSegments,
            _ => Order::Whole,
        };
        model.check(&found, order).map_err(|e| format!("{e}; found {found:?}, noted {notes:?}"))?;
        // Nothing that any reader calls damage is left.
        let fs: Fs = std::sync::Arc::new(disk.clone());
        let mut salvage = SalvageReader::open(fs, Path::new(DIR)).map_err(|e| e.to_string())?;
        while let Some(item) = salvage.next().map_err(|e| e.to_string())? {
            if !matches!(item, Item::Record(_)) {
                return Err(format!("recovery left damage: {item:?}"));
            }
        }
        // What was given out stays, with what is appended now, through another crash.
        let probe = model.next_id();
        let log = self.open(disk).map_err(|e| format!("opening again failed: {e}"))?;
        append(&log, &[probe]).and_then(|_| log.sync()).map_err(|e| format!("appending after recovery failed: {e}"))?;
        drop(log);
        let again = disk.crash_point().image(Kept::Nothing);
        let (read_again, repaired) = self.recover(&again)?;
        if repaired {
            return Err(format!("after another crash it asks for a repair; options {:?}", self.options));
        }
        let found: Vec<Id> = found.into_iter().map(|(_, id)| id).collect();
        let read_again: Vec<Id> = read_again.into_iter().map(|(_, id)| id).collect();
        if read_again != [&found[..], &[probe]].concat() {
            return Err(format!("found {found:?} and appended {probe}, after another crash there is {read_again:?}"));
        }
        Ok(())
    }
}

// Programs with an interval have a clock in them; here only that the option is understood.
#[test]
fn an_interval_of_nothing_is_always() {
    let disk = SimFs::new(1);
    let mut program = Program::new(Profile::Append, 1);
    program.options.durability = Durability::Interval(Duration::ZERO);
    program.prepare(&disk);
    disk.sync_everything();
    let log = program.open(&disk).unwrap();
    append(&log, &[1]).unwrap();
    let image = disk.crash_point().image(Kept::Nothing);
    assert_eq!(program.recover(&image), Ok((vec![(0, 1)], false)));
}
