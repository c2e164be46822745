//! Appends, checkpoints, truncation and deletion on a disk that crashes and fails at every operation: samples at or after
//! the minimum time and their series survive in every state, and nothing is invented.

mod support;

use std::path::Path;
use std::sync::Arc;

use support::{Found, replay, scrape};
use tsdb_vfs::crash::{Enumerator, Report};
use tsdb_vfs::failpoints::Sweep;
use tsdb_vfs::{Fs, Journal, Scenario, SimFs};
use wal_checkpoint::{Options, Source, checkpoint, clean_up, retire, segments_to_checkpoint};
use wal_segment::{Compression, Durability, Log, LogOptions, PAGE_SIZE, layout};

const DIR: &str = "/data/wal";
/// Series of a scrape.
const WIDTH: u64 = 3;
/// Every so many scrapes all series are replaced, as churn does.
const LIFE: i64 = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Note {
    /// A scrape at this time may be in the log.
    Tries(i64),
    /// It must be.
    Durable(i64),
    /// From now on what is older may be dropped.
    Mint(i64),
}

/// Scrapes one after the other, with a truncation after every few of them.
struct Truncations {
    seed: u64,
    scrapes: i64,
    every: i64,
    compression: Compression,
}

fn log_options() -> LogOptions {
    LogOptions {
        segment_size: PAGE_SIZE as u64,
        durability: Durability::Always,
        background_sync: false,
        ..LogOptions::default()
    }
}

/// The series of the scrape at `t`.
fn series_at(t: i64) -> std::ops::Range<u64> {
    let first = 1 + (t / LIFE) as u64 * WIDTH;
    first..first + WIDTH
}

/// Series that have a sample at or after `mint`.
fn is_alive(series: u64, mint: i64) -> bool {
    let generation = ((series - 1) / WIDTH) as i64;
    (generation + 1) * LIFE > mint
}

impl Truncations {
    fn options(&self) -> Options {
        Options { compression: self.compression, segment_size: PAGE_SIZE as u64, threads: 1, ..Options::default() }
    }

    /// One process' life: an error ends it.
    fn session(
        &self,
        fs: &Fs,
        journal: &Journal<Note>,
        scrapes: std::ops::Range<i64>,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let dir = Path::new(DIR);
        clean_up_if_there(fs, dir)?;
        let (log, _) = Log::open(fs.clone(), dir, log_options())?;
        let begin = scrapes.start;
        for t in scrapes {
            journal.intend(Note::Tries(t));
            // A new process announces its series again: the one before may have died before it did.
            let batch = scrape(t, series_at(t), t % LIFE == 0 || t == begin);
            log.append(batch.records())?;
            journal.promise(Note::Durable(t));
            if t % 2 == 1 {
                log.next_segment()?;
            }
            if t % self.every == self.every - 1 {
                self.truncate(fs, journal, &log, t - self.every)?;
            }
        }
        log.close()?;
        Ok(())
    }

    fn truncate(
        &self,
        fs: &Fs,
        journal: &Journal<Note>,
        log: &Log,
        mint: i64,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let dir = Path::new(DIR);
        journal.intend(Note::Mint(mint));
        let segments = layout::segments(fs, dir)?;
        let (first, last) = (segments[0].index, log.current_segment());
        log.next_segment()?;
        let Some((from, to)) = segments_to_checkpoint(first, last) else { return Ok(()) };
        let source = Source::segments(fs, dir);
        let stats = checkpoint(&source, from, to, |s| is_alive(s.0, mint), mint, &self.options())?;
        retire(fs, dir, &stats)?;
        Ok(())
    }
}

fn clean_up_if_there(fs: &Fs, dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    if fs.dir_exists(dir)? {
        clean_up(fs, dir)?;
    }
    Ok(())
}

impl Scenario for Truncations {
    type Note = Note;
    type Recovered = Found;

    fn run(&self, disk: &SimFs, journal: &Journal<Note>) {
        let fs: Fs = Arc::new(disk.clone());
        let half = self.scrapes / 2;
        // What fails in one life is found by the next.
        for scrapes in [0..half, half..self.scrapes] {
            let ended = self.session(&fs, journal, scrapes);
            let _ended: Result<(), Box<dyn std::error::Error>> = ended;
        }
    }

    fn recover(&self, disk: &SimFs) -> Result<Found, String> {
        let fs: Fs = Arc::new(disk.clone());
        let dir = Path::new(DIR);
        clean_up_if_there(&fs, dir).map_err(|e| e.to_string())?;
        let (log, report) = Log::open(fs.clone(), dir, log_options()).map_err(|e| e.to_string())?;
        if !report.lost.is_empty() {
            return Err(format!("lost: {:?}", report.lost));
        }
        drop(log);
        if fs.list(dir).map_err(|e| e.to_string())?.iter().any(|e| e.name.to_string_lossy().ends_with(".tmp")) {
            return Err("a temporary checkpoint is left".into());
        }
        replay(&fs, dir)
    }

    fn check(&self, _: &SimFs, found: Found, notes: &[Note]) -> Result<(), String> {
        if let Some(foreign) = found.foreign {
            return Err(format!("invented: {foreign}"));
        }
        let mint = notes.iter().filter_map(|n| if let Note::Mint(t) = n { Some(*t) } else { None }).max();
        let mint = mint.unwrap_or(i64::MIN);
        let wanted = notes.iter().filter_map(|n| if let Note::Durable(t) = n { Some(*t) } else { None });
        for t in wanted.filter(|&t| t >= mint) {
            for series in series_at(t) {
                if !found.samples.contains(&(t, series)) {
                    return Err(format!("sample of {series} at {t} is lost, mint {mint}"));
                }
                if !found.series.contains_key(&series) {
                    return Err(format!("series {series} is lost, mint {mint}"));
                }
                if !found.metadata.contains_key(&series) {
                    return Err(format!("metadata of {series} is lost, mint {mint}"));
                }
            }
            let row = (series_at(t).start, t - 5, t);
            if !found.tombstones.contains(&row) {
                return Err(format!("tombstone {row:?} is lost, mint {mint}"));
            }
        }
        let tried = |t: i64| notes.contains(&Note::Tries(t));
        match found.samples.iter().find(|(t, series)| !tried(*t) || !series_at(*t).contains(series)) {
            Some((t, series)) => Err(format!("sample of {series} at {t} was never appended")),
            None => Ok(()),
        }
    }
}

fn wanted_states(default: u64) -> u64 {
    std::env::var("HEADWATER_CRASH_STATES").ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

fn seed() -> u64 {
    std::env::var("HEADWATER_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

fn scenarios(seed: u64) -> [Truncations; 3] {
    [
        Truncations { seed, scrapes: 24, every: 6, compression: Compression::None },
        Truncations { seed: seed + 1, scrapes: 30, every: 8, compression: Compression::Snappy },
        Truncations { seed: seed + 2, scrapes: 20, every: 5, compression: Compression::Zstd },
    ]
}

#[test]
fn every_crash_keeps_what_is_young_enough() {
    let wanted = wanted_states(20_000);
    let mut report = Report::default();
    let mut seed = seed();
    // Checkpoints that removed nothing would prove nothing.
    while report.states < wanted {
        for scenario in scenarios(seed) {
            let samples = (wanted / 3000).clamp(4, 400);
            report += Enumerator::new(scenario.seed).exhaustive(8).samples(samples).nested(2, 60, 3).run(&scenario);
            report.assert_clean();
        }
        seed += 100;
    }
    println!("{report}");
    // Few moments lie between a rename and the sync behind it; the other losses can be had in thousands.
    assert!(report.states_with.renames >= 3 && report.nested >= wanted / 20, "{report}");
    for (name, n) in report.states_with.counters() {
        assert!(name == "lost renames" || n >= wanted / 200, "only {n} states with {name}");
    }
}

#[test]
fn the_workload_truncates() {
    let scenario = &scenarios(1)[0];
    let disk = SimFs::new(1);
    Enumerator::new(1).exhaustive(0).samples(0).nested(1, 1, 0).run(scenario).assert_clean();
    // The same without a crash: what is old has gone, in a checkpoint that replaced another one.
    let fs: Fs = Arc::new(disk.clone());
    let truncated = std::cell::Cell::new(0);
    let (log, _) = Log::open(fs.clone(), Path::new(DIR), log_options()).expect("an empty disk");
    for t in 0..scenario.scrapes {
        log.append(scrape(t, series_at(t), t % LIFE == 0).records()).expect("room");
        log.next_segment().expect("room");
        let segments = layout::segments(&fs, Path::new(DIR)).expect("a log");
        if let Some((from, to)) = segments_to_checkpoint(segments[0].index, log.current_segment()) {
            let source = Source::segments(&fs, Path::new(DIR));
            let stats =
                checkpoint(&source, from, to, |s| is_alive(s.0, t - 5), t - 5, &scenario.options()).expect("sound");
            truncated.set(truncated.get() + u64::from(stats.previous.is_some()));
            let removed = retire(&fs, Path::new(DIR), &stats).expect("sound");
            assert_eq!(removed.segments, to - from + 1);
        }
    }
    assert!(truncated.get() >= 3, "{}", truncated.get());
    let found = replay(&fs, Path::new(DIR)).expect("sound");
    assert!(found.samples.first().is_some_and(|(t, _)| *t > scenario.scrapes / 2), "{:?}", found.samples.first());
}

#[test]
fn every_failing_operation_keeps_what_is_young_enough() {
    for scenario in scenarios(seed()) {
        let report = Sweep::new(scenario.seed).run(&scenario);
        println!("{report}");
        report.assert_clean();
    }
}
