//! Chunk files on a disk that crashes and fails: written, cut, flushed, synced, truncated, opened and healed again.
//!
//! In every state no chunk that was durable is lost, none is invented or stands elsewhere, what healing overwrites is in
//! quarantine first, healing changes nothing the second time, and what is written and synced behind it survives the next
//! power cut beside what was there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use head_chunks::files::{ChunkFiles, ChunkRef, FilesError, file_name, heal, parse_file_name};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tsdb_vfs::crash::{Enumerator, Report};
use tsdb_vfs::failpoints::{Sweep, SweepReport};
use tsdb_vfs::sim::Kept;
use tsdb_vfs::{Fs, Journal, Scenario, SimFs, Vfs};

mod chunks;

use chunks::{DIR, Found, Id, find, options, write};

/// Numbers of the chunks that a check writes: no program gets there.
const LATER: u64 = 1_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Note {
    /// The chunk may be on disk.
    Tries(Id),
    /// It must be, there.
    Durable(Id, ChunkRef),
    /// From now on files below this number may be gone.
    Truncates(u32),
}

/// Opens for writing, and heals what is damaged.
fn recover(disk: &SimFs) -> Result<Found, String> {
    let fs: Fs = Arc::new(disk.clone());
    let dir = Path::new(DIR);
    drop(ChunkFiles::open(fs.clone(), dir, options(0)).map_err(|e| e.to_string())?);
    let found = find(&fs)?;
    let path = |number| dir.join(file_name(number));
    let damaged: BTreeMap<u32, Vec<u8>> = found
        .damages
        .iter()
        .map(|damage| fs.read(&path(damage.file)).map(|bytes| (damage.file, bytes)))
        .collect::<Result<_, _>>()
        .map_err(|e| e.to_string())?;
    let report = heal(&*fs, dir, &found.damages, &found.gaps).map_err(|e| e.to_string())?;
    if !report.left.is_empty() {
        return Err(format!("damage stays: {:?}", report.left));
    }
    let copies: BTreeMap<u32, PathBuf> = report
        .quarantined
        .iter()
        .filter_map(|copy| Some((parse_file_name(copy.file_stem()?)?, copy.clone())))
        .collect();
    let mut evidence = Vec::new();
    for (number, before) in damaged {
        let copy = copies.get(&number).ok_or_else(|| format!("no copy of file {number} before it was healed"))?;
        evidence.push((copy.clone(), before));
    }
    is_kept(&fs, &evidence)?;
    let healed = find(&fs)?;
    if !healed.damages.is_empty() || !healed.gaps.is_empty() {
        return Err(format!("healed, and still damaged: {:?}, gaps {:?}", healed.damages, healed.gaps));
    }
    if healed.chunks != found.chunks {
        return Err(format!("healing changed {:?} to {:?}", found.chunks, healed.chunks));
    }
    Ok(Found { damages: found.damages, gaps: found.gaps, evidence, ..healed })
}

fn is_kept(fs: &Fs, evidence: &[(PathBuf, Vec<u8>)]) -> Result<(), String> {
    for (copy, before) in evidence {
        if fs.read(copy).map_err(|e| format!("{}: {e}", copy.display()))? != *before {
            return Err(format!("{} is not what it was", copy.display()));
        }
    }
    Ok(())
}

fn check(disk: &SimFs, found: &Found, notes: &[Note]) -> Result<(), String> {
    let truncated = notes.iter().filter_map(|note| if let Note::Truncates(n) = note { Some(*n) } else { None }).max();
    let kept = |at: &ChunkRef| at.file >= truncated.unwrap_or(0);
    let durable =
        || notes.iter().filter_map(|note| if let Note::Durable(id, at) = note { Some((*id, *at)) } else { None });
    let lost = |chunks: &BTreeMap<ChunkRef, Id>| {
        durable()
            .find(|(id, at)| kept(at) && chunks.get(at) != Some(id))
            .map(|(id, at)| format!("chunk {id} at {at} is lost"))
    };
    if let Some(lost) = lost(&found.chunks) {
        return Err(lost);
    }
    if let Some(id) = found.chunks.values().find(|id| !notes.contains(&Note::Tries(**id))) {
        return Err(format!("chunk {id} was not written yet"));
    }
    // Before anything else is synced: what was overwritten durably must have been copied durably.
    let cut: Fs = Arc::new(disk.crash_point().image(Kept::Nothing));
    is_kept(&cut, &found.evidence).map_err(|lost| format!("after another power cut: {lost}"))?;
    // And on.
    let fs: Fs = Arc::new(disk.clone());
    let after = || {
        let (files, report) = ChunkFiles::open(fs.clone(), Path::new(DIR), options(0))?;
        let refs = (LATER..LATER + 3).map(|id| Ok((write(&files, id)?, id))).collect::<Result<Vec<_>, FilesError>>()?;
        files.sync()?;
        Ok::<_, FilesError>((refs, report))
    };
    let (refs, report) = after().map_err(|e| format!("cannot go on: {e}"))?;
    if !report.is_sound() || report.removed_empty.is_some() {
        return Err(format!("opened again: {report:?}"));
    }
    let again = recover(&disk.crash_point().image(Kept::Nothing))?;
    if let Some(lost) = lost(&again.chunks) {
        return Err(format!("after another power cut: {lost}"));
    }
    match refs.iter().find(|(at, id)| again.chunks.get(at) != Some(id)) {
        Some((at, _)) => Err(format!("what was written at {at} after recovery and synced is lost")),
        None => Ok(()),
    }
}

/// Lives of a process, one after the other.
struct Writing {
    seed: u64,
    /// Chunks that each life writes.
    lives: &'static [u64],
    truncates: bool,
    queue: usize,
}

impl Writing {
    fn life(
        &self,
        fs: &Fs,
        journal: &Journal<Note>,
        rng: &mut SmallRng,
        ids: core::ops::Range<Id>,
    ) -> Result<(), FilesError> {
        let (files, _) = ChunkFiles::open(fs.clone(), Path::new(DIR), options(self.queue))?;
        let mut pending: Vec<(Id, ChunkRef)> = Vec::new();
        let promise = |pending: &mut Vec<(Id, ChunkRef)>| {
            pending.drain(..).for_each(|(id, at)| journal.promise(Note::Durable(id, at)));
        };
        for id in ids {
            journal.intend(Note::Tries(id));
            let mut failed = match write(&files, id) {
                Ok(at) => {
                    // A file that is finished is durable; with a queue nobody knows when.
                    if self.queue == 0 && pending.last().is_some_and(|(_, last)| last.file < at.file) {
                        promise(&mut pending);
                    }
                    pending.push((id, at));
                    false
                }
                Err(_) => true,
            };
            match rng.random_range(0..12) {
                0..=2 => failed |= files.flush().is_err(),
                3..=5 => match files.sync() {
                    Ok(()) => promise(&mut pending),
                    Err(_) => failed = true,
                },
                6 => files.cut_new_file(),
                7 if self.truncates => {
                    if let Some((_, last)) = pending.last() {
                        let before = last.file.saturating_sub(rng.random_range(0..2));
                        journal.intend(Note::Truncates(before));
                        failed |= files.truncate(before).is_err();
                    }
                }
                _ => {}
            }
            // What an fsync that failed should have covered is the log's to bring back.
            if failed && files.recover().is_some() {
                pending.clear();
            }
        }
        // Some lives end without: what waits in memory is lost.
        if rng.random_bool(0.7) {
            files.close()?;
            promise(&mut pending);
        }
        Ok(())
    }
}

impl Scenario for Writing {
    type Note = Note;
    type Recovered = Found;

    fn run(&self, disk: &SimFs, journal: &Journal<Note>) {
        let fs: Fs = Arc::new(disk.clone());
        let mut rng = SmallRng::seed_from_u64(self.seed);
        let mut next = 0;
        for chunks in self.lives {
            // What fails in one life is found by the next.
            let _ended: Result<(), FilesError> = self.life(&fs, journal, &mut rng, next..next + chunks);
            next += chunks;
        }
    }

    fn recover(&self, disk: &SimFs) -> Result<Found, String> {
        recover(disk)
    }

    fn check(&self, disk: &SimFs, found: Found, notes: &[Note]) -> Result<(), String> {
        check(disk, &found, notes)
    }
}

/// The repair of a directory that is damaged in every way at once.
struct Repair {
    seed: u64,
}

impl Repair {
    const FILES: u32 = 6;
    const PER_FILE: u64 = 5;
}

impl Scenario for Repair {
    type Note = Note;
    type Recovered = Found;

    fn prepare(&self, disk: &SimFs) {
        let fs: Fs = Arc::new(disk.clone());
        let (files, _) = ChunkFiles::open(fs, Path::new(DIR), options(0)).expect("an empty disk");
        let mut rng = SmallRng::seed_from_u64(self.seed);
        let mut refs = Vec::new();
        for id in 0..u64::from(Self::FILES) * Self::PER_FILE {
            if id.is_multiple_of(Self::PER_FILE) {
                files.cut_new_file();
            }
            refs.push(write(&files, id).expect("room"));
        }
        files.close().expect("no failure");
        let open = |file| disk.open_write(&Path::new(DIR).join(file_name(file))).expect("there");
        // A flipped byte, a hole of zeros, a broken magic number, a file that is gone, a torn end.
        let inside = |file: u32, rng: &mut SmallRng| {
            let of_file: Vec<_> = refs.iter().filter(|at| at.file == file).collect();
            u64::from(of_file[rng.random_range(1..3)].offset)
        };
        let at = inside(1, &mut rng) + rng.random_range(0..25);
        let mut byte = [0];
        open(1).read_full_at(&mut byte, at).expect("readable");
        open(1).write_all_at(&[byte[0] ^ 0x10], at).expect("writable");
        open(2).write_all_at(&[0; 4096], inside(2, &mut rng)).expect("writable");
        open(3).write_all_at(b"none", 0).expect("writable");
        // Closing a gap syncs the directory, which would hide that something else did not.
        if self.seed % 2 == 1 {
            disk.remove_file(&Path::new(DIR).join(file_name(5))).expect("there");
        }
        open(6).set_len(inside(6, &mut rng) + rng.random_range(1..29)).expect("cut");
    }

    fn run(&self, disk: &SimFs, journal: &Journal<Note>) {
        let fs: Fs = Arc::new(disk.clone());
        // Nothing of what is sound may be lost by the repair.
        let Ok(found) = find(&fs) else { return };
        found.chunks.iter().for_each(|(at, id)| journal.promise(Note::Durable(*id, *at)));
        if heal(&*fs, Path::new(DIR), &found.damages, &found.gaps).is_err() {
            return;
        }
        let ids = 100..106;
        let go_on = || {
            let (files, _) = ChunkFiles::open(fs.clone(), Path::new(DIR), options(0))?;
            for id in ids {
                journal.intend(Note::Tries(id));
                let at = write(&files, id)?;
                if id % 2 == 1 {
                    files.sync()?;
                    journal.promise(Note::Durable(id, at));
                }
            }
            files.close()
        };
        let _ended: Result<(), FilesError> = go_on();
    }

    fn recover(&self, disk: &SimFs) -> Result<Found, String> {
        recover(disk)
    }

    fn check(&self, disk: &SimFs, found: Found, notes: &[Note]) -> Result<(), String> {
        // Some were there before.
        let there = (0..u64::from(Self::FILES) * Self::PER_FILE).map(Note::Tries);
        check(disk, &found, &there.chain(notes.iter().copied()).collect::<Vec<_>>())
    }
}

/// A process is killed with a chunk that only the page cache has; the next one writes durably behind it. Without the first
/// one's chunk the second one's would stand for everything before it.
#[test]
fn what_an_opening_finds_is_durable_before_what_follows() {
    let disk = SimFs::new(1);
    let fs: Fs = Arc::new(disk.clone());
    let open = || ChunkFiles::open(fs.clone(), Path::new(DIR), options(0)).expect("no failure").0;
    let killed = open();
    let first = write(&killed, 1).expect("room");
    killed.flush().expect("no failure");
    drop(killed);
    let unsynced: Fs = Arc::new(disk.crash_point().image(Kept::Nothing));
    assert!(find(&unsynced).expect("readable").chunks.is_empty(), "it must not be durable before");
    let next = open();
    let second = write(&next, 2).expect("room");
    next.close().expect("no failure");
    let cut: Fs = Arc::new(disk.crash_point().image(Kept::Nothing));
    assert_eq!(find(&cut).expect("readable").chunks, BTreeMap::from([(first, 1), (second, 2)]));
}

/// The name of a file that a process was making when it was killed is lost, that of the next one, still empty, kept.
#[test]
fn a_removed_file_behind_a_gap_leaves_none() {
    let disk = SimFs::new(1);
    let fs: Fs = Arc::new(disk.clone());
    let open = || ChunkFiles::open(fs.clone(), Path::new(DIR), options(0)).expect("no failure");
    let (files, _) = open();
    write(&files, 1).expect("room");
    files.close().expect("no failure");
    let empty = Path::new(DIR).join(file_name(3));
    drop(fs.create_new(&empty).expect("free"));
    let (files, report) = open();
    assert_eq!(report.removed_empty, Some(empty));
    assert_eq!(write(&files, 2).expect("room").file, 2);
    files.close().expect("no failure");
    assert!(open().1.is_sound());
}

/// Files are removed, many at once.
struct Truncation;

impl Scenario for Truncation {
    type Note = Note;
    type Recovered = Found;

    fn prepare(&self, disk: &SimFs) {
        let fs: Fs = Arc::new(disk.clone());
        let (files, _) = ChunkFiles::open(fs, Path::new(DIR), options(0)).expect("an empty disk");
        for id in 0..6 {
            write(&files, id).expect("room");
            files.cut_new_file();
        }
        files.close().expect("no failure");
    }

    fn run(&self, disk: &SimFs, _: &Journal<Note>) {
        let fs: Fs = Arc::new(disk.clone());
        let (files, _) = ChunkFiles::open(fs, Path::new(DIR), options(0)).expect("no failure");
        files.truncate(6).expect("no failure");
    }

    fn recover(&self, disk: &SimFs) -> Result<Found, String> {
        find(&(Arc::new(disk.clone()) as Fs))
    }

    fn check(&self, _: &SimFs, found: Found, _: &[Note]) -> Result<(), String> {
        match (found.chunks.last_key_value(), &found.gaps[..], &found.damages[..]) {
            (Some((_, 5)), [], []) => Ok(()),
            _ => Err(format!("{found:?}")),
        }
    }
}

/// No power cut takes a file and leaves an older one.
#[test]
fn a_truncation_leaves_no_gap() {
    let report = Enumerator::new(1).run(&Truncation);
    report.assert_clean();
    assert!(report.states > 10 && report.process_only == 5, "{report}");
}

fn wanted_states() -> u64 {
    std::env::var("HEADWATER_CRASH_STATES").ok().and_then(|n| n.parse().ok()).unwrap_or(6_000)
}

fn seed() -> u64 {
    std::env::var("HEADWATER_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

/// Visits a share of the states that are wanted, program after program.
fn enumerate<S: Scenario>(share: u64, scenario: impl Fn(u64) -> S) -> Report {
    let (wanted, mut seed, mut report) = (wanted_states() / share, seed(), Report::default());
    while report.states < wanted {
        report += Enumerator::new(seed).exhaustive(6).samples(6).nested(3, 25, 2).run(&scenario(seed));
        report.assert_clean();
        seed += 1;
    }
    println!("from seed {}:\n{report}", self::seed());
    assert!(report.nested * 50 > report.states && report.process_only * 100 > report.states, "{report}");
    report
}

#[test]
fn every_crash_keeps_what_is_durable() {
    let report = enumerate(3, |seed| Writing { seed, lives: &[9, 8, 5], truncates: false, queue: 0 });
    // Nothing is renamed here.
    for (name, n) in report.states_with.counters() {
        assert!(name == "lost renames" || n * 200 > report.states, "only {n} states with {name}\n{report}");
    }
}

#[test]
fn every_crash_of_a_truncation_keeps_what_is_durable() {
    let report = enumerate(4, |seed| Writing { seed, lives: &[10, 10], truncates: true, queue: 0 });
    assert!(report.states_with.names > 0, "{report}");
}

#[test]
fn every_crash_behind_a_queue_keeps_what_is_durable() {
    enumerate(6, |seed| Writing { seed, lives: &[9, 8], truncates: true, queue: 3 });
}

#[test]
fn every_crash_of_a_repair_keeps_what_is_sound() {
    enumerate(4, |seed| Repair { seed });
}

#[test]
fn every_failing_operation_keeps_what_is_durable() {
    let mut report = SweepReport::default();
    for seed in seed()..seed() + 1 + wanted_states() / 20_000 {
        report += Sweep::new(seed).run(&Writing { seed, lives: &[9, 6], truncates: seed % 2 == 0, queue: 0 });
        report += Sweep::new(seed).run(&Repair { seed });
        report.assert_clean();
    }
    println!("from seed {}: {report}", seed());
    assert_eq!(report.leaked_handles, 0, "{report}");
    assert!(report.runs > 300, "{report}");
}
