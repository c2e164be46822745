//! The head on a disk that crashes and fails: whatever commit, chunk writing and truncation were doing, no sample that was
//! durable is lost, none is invented, and what one recovery has shown the next one shows too.
//!
//! `HEADWATER_CRASH_STATES` says how many states to visit (all profiles together), `HEADWATER_SEED` where to start.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tsdb_head::{Head, HeadError, HeadOptions, Value};
use tsdb_model::Labels;
use tsdb_model::histogram::{Histogram, Span};
use tsdb_vfs::crash::{Enumerator, Report};
use tsdb_vfs::failpoints::{Sweep, SweepReport};
use tsdb_vfs::sim::Kept;
use tsdb_vfs::{Fs, Journal, Scenario, SimFs};
use wal_segment::{Compression, Durability, LogOptions, PAGE_SIZE};

const DIR: &str = "/data";

/// A series' number; every fourth holds histograms.
type Number = u32;
/// What a sample is known by: its series and time decide its value.
type Key = (Number, i64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Profile {
    /// Commits and full chunks, each commit durable.
    Append,
    /// Commits that are durable when synced, segments, and truncation.
    Truncate,
}

const PROFILES: [Profile; 2] = [Profile::Append, Profile::Truncate];

#[derive(Debug, Clone)]
enum Note {
    /// A commit of these samples begins.
    Begun(Vec<Key>),
    /// They are durable.
    Durable(Vec<Key>),
    /// What is older than this may go, from now on.
    Truncating(i64),
    /// A head was opened and showed exactly these: they are durable, all others gone.
    Found(Vec<Key>),
}

/// How often things happened.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    commits: u64,
    refused: u64,
    chunks: u64,
    checkpoints: u64,
    mapped: u64,
    /// Openings that found more damage than a torn end.
    unsound: u64,
}

struct Program {
    profile: Profile,
    seed: u64,
    options: HeadOptions,
    seen: Mutex<Seen>,
}

fn labels(series: Number) -> Labels {
    Labels::from_pairs([("__name__", "metric".to_owned()), ("series", series.to_string())])
}

fn is_histogram(series: Number) -> bool {
    series.is_multiple_of(4)
}

fn float((series, t): Key) -> f64 {
    f64::from(series) * 1e6 + t as f64 + 0.5
}

fn histogram((series, t): Key) -> Histogram {
    let count = (u64::from(series) << 32) + t.unsigned_abs();
    Histogram {
        count,
        sum: t as f64,
        positive_spans: vec![Span { offset: 0, length: 1 }],
        positive_buckets: vec![count as i64],
        ..Histogram::default()
    }
}

/// Whether the head gave out what was put in.
fn is_right(key: Key, value: &Value) -> bool {
    match value {
        Value::Float(v) => !is_histogram(key.0) && v.to_bits() == float(key).to_bits(),
        Value::Histogram(h) => {
            let expected = histogram(key);
            is_histogram(key.0)
                && (h.count, h.sum, &h.positive_buckets) == (expected.count, expected.sum, &expected.positive_buckets)
        }
        Value::FloatHistogram(_) => false,
    }
}

impl Program {
    fn new(profile: Profile, seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed ^ (profile as u64) << 32);
        let codecs = [Compression::None, Compression::Snappy, Compression::Zstd];
        let log = LogOptions {
            segment_size: PAGE_SIZE as u64,
            compression: codecs[rng.random_range(0..3)],
            durability: if profile == Profile::Append { Durability::Always } else { Durability::Rotate },
            background_sync: false,
            ..LogOptions::default()
        };
        let options = HeadOptions {
            chunk_range: 400,
            samples_per_chunk: rng.random_range(4..9),
            replay_threads: 1,
            chunk_write_bytes: 0,
            min_valid_time: None,
            log,
            ..HeadOptions::default()
        };
        Program { profile, seed, options, seen: Mutex::default() }
    }

    fn count(&self, what: impl FnOnce(&mut Seen)) {
        what(&mut self.seen.lock().unwrap());
    }

    fn open(&self, disk: &SimFs) -> Result<Head, HeadError> {
        let fs: Fs = Arc::new(disk.clone());
        let (head, report) = Head::open(fs, Path::new(DIR), self.options.clone())?;
        self.count(|seen| seen.unsound += u64::from(!report.is_sound()));
        // A truncation may drop the record of a series whose old samples are still in a segment.
        let complete = self.profile == Profile::Append;
        assert!(!complete || report.counts.unknown_refs == 0, "samples whose series record is gone: {report:?}");
        self.count(|seen| seen.mapped += u64::from(report.chunk_files.chunks > 0));
        Ok(head)
    }
}

/// Everything the head shows.
fn read(head: &Head) -> Result<BTreeSet<Key>, String> {
    let mut found = BTreeSet::new();
    for series in head.select(&[], i64::MIN, i64::MAX) {
        let number = series.labels().get(b"series").and_then(|n| std::str::from_utf8(n).ok()?.parse().ok());
        let number: Number = number.ok_or_else(|| format!("a series that nobody made: {}", series.labels()))?;
        let mut before = i64::MIN;
        for sample in series.samples() {
            let sample = sample.map_err(|e| format!("reading series {number}: {e}"))?;
            if !is_right((number, sample.t), &sample.value) {
                return Err(format!("series {number} has at {}: {:?}", sample.t, sample.value));
            }
            if sample.t <= before {
                return Err(format!("series {number} goes from {before} to {}", sample.t));
            }
            before = sample.t;
            found.insert((number, sample.t));
        }
    }
    Ok(found)
}

/// One run, with what it knows of its head.
struct Run<'a> {
    program: &'a Program,
    disk: &'a SimFs,
    journal: &'a Journal<Note>,
    head: Option<Head>,
    /// Committed and not durable.
    pending: Vec<Key>,
    t: i64,
    /// The oldest series that is still written to.
    oldest: Number,
}

impl Run<'_> {
    fn step(&mut self, rng: &mut SmallRng) -> Option<()> {
        let Some(head) = &self.head else { return self.reopen() };
        match rng.random_range(0..100) {
            0..62 => return self.commit(rng),
            62..72 => {
                let written = head.write_chunks().ok()?;
                self.program.count(|seen| seen.chunks += written as u64);
            }
            72..78 => {
                head.sync().ok()?;
                self.durable();
            }
            78..84 if self.program.profile == Profile::Truncate => {
                head.log()?.next_segment().ok()?;
                self.durable();
            }
            84..94 if self.program.profile == Profile::Truncate => {
                let mint = self.t - rng.random_range(20..200);
                self.journal.intend(Note::Truncating(mint));
                let done = head.truncate(mint).ok()?;
                self.program.count(|seen| seen.checkpoints += u64::from(done.checkpoint.is_some()));
            }
            94..97 => {
                self.head.take()?.close().ok()?;
                self.durable();
            }
            97..100 => self.head = None,
            _ => return self.commit(rng),
        }
        Some(())
    }

    fn reopen(&mut self) -> Option<()> {
        let head = self.program.open(self.disk).ok()?;
        let found = read(&head).ok()?;
        self.journal.promise(Note::Found(found.into_iter().collect()));
        self.pending.clear();
        self.head = Some(head);
        Some(())
    }

    fn commit(&mut self, rng: &mut SmallRng) -> Option<()> {
        self.t += rng.random_range(5..15);
        if rng.random_bool(0.05) {
            self.oldest += 1;
        }
        let mut appender = self.head.as_ref()?.appender();
        let mut keys = Vec::new();
        for series in self.oldest..self.oldest + 5 {
            let key = (series, self.t);
            if rng.random_bool(0.7) {
                let taken = if is_histogram(series) {
                    appender.append_histogram(None, &labels(series), 0, self.t, histogram(key))
                } else {
                    appender.append(None, &labels(series), self.t, float(key))
                };
                taken.expect("it is newer than all others");
                keys.push(key);
            }
        }
        if rng.random_bool(0.05) {
            appender.rollback();
            return Some(());
        }
        self.journal.intend(Note::Begun(keys.clone()));
        match appender.commit() {
            Ok(_) => {
                self.program.count(|seen| seen.commits += 1);
                self.pending.extend(keys);
                if self.program.profile == Profile::Append {
                    self.durable();
                }
            }
            Err(_) => {
                self.program.count(|seen| seen.refused += 1);
                // A log that can no longer be trusted: start again, as an operator would.
                self.head.take_if(|head| head.log().is_some_and(|log| log.read_only_since().is_some()));
            }
        }
        Some(())
    }

    fn durable(&mut self) {
        let durable = std::mem::take(&mut self.pending);
        if !durable.is_empty() {
            self.journal.promise(Note::Durable(durable));
        }
    }
}

/// What must and may be there.
#[derive(Default)]
struct Model {
    /// Samples, and whether they must be there.
    samples: BTreeMap<Key, bool>,
    truncated: Option<i64>,
}

impl Model {
    fn after(notes: &[Note]) -> Self {
        let mut model = Model::default();
        for note in notes {
            match note {
                Note::Begun(keys) => model.samples.extend(keys.iter().map(|&key| (key, false))),
                Note::Durable(keys) => model.samples.extend(keys.iter().map(|&key| (key, true))),
                Note::Truncating(mint) => model.truncated = model.truncated.max(Some(*mint)),
                Note::Found(keys) => {
                    // What a truncation drops from memory only may come back from the log.
                    let truncated = model.truncated.unwrap_or(i64::MIN);
                    model.samples.retain(|(_, t), _| *t < truncated);
                    model.samples.extend(keys.iter().map(|&key| (key, true)));
                }
            }
        }
        model
    }

    /// Whether no truncation was to drop what is this old.
    fn keeps(&self, t: i64) -> bool {
        self.truncated.is_none_or(|mint| t >= mint)
    }

    fn check(&self, found: &BTreeSet<Key>) -> Result<(), String> {
        if let Some(invented) = found.iter().find(|key| !self.samples.contains_key(key)) {
            return Err(format!("sample {invented:?} was invented, or was gone and is back"));
        }
        let must = self.samples.iter().filter(|((_, t), durable)| **durable && self.keeps(*t));
        match must.map(|(key, _)| key).find(|key| !found.contains(key)) {
            Some(lost) => Err(format!("sample {lost:?} was durable and is lost")),
            None => Ok(()),
        }
    }
}

impl Scenario for Program {
    type Note = Note;
    type Recovered = BTreeSet<Key>;

    fn run(&self, disk: &SimFs, journal: &Journal<Note>) {
        let mut rng = SmallRng::seed_from_u64(self.seed);
        let mut run = Run { program: self, disk, journal, head: None, pending: Vec::new(), t: 1000, oldest: 1 };
        for _ in 0..rng.random_range(20..60) {
            if run.step(&mut rng).is_none() {
                // Whatever failed: start again, once.
                run.head = None;
                if run.reopen().is_none() {
                    return;
                }
            }
        }
    }

    fn recover(&self, disk: &SimFs) -> Result<BTreeSet<Key>, String> {
        let head = self.open(disk).map_err(|e| format!("opening failed: {e}"))?;
        read(&head)
    }

    fn check(&self, disk: &SimFs, found: BTreeSet<Key>, notes: &[Note]) -> Result<(), String> {
        let model = Model::after(notes);
        model.check(&found)?;
        // What was shown stays, with what is committed now, through another crash.
        let head = self.open(disk).map_err(|e| format!("opening again failed: {e}"))?;
        let t = model.samples.keys().map(|(_, t)| *t).max().unwrap_or(0).max(head.max_time()) + 10;
        let mut appender = head.appender();
        // To every series there is: one that was recovered without its record would lose these.
        let series: BTreeSet<Number> = found.iter().map(|(series, _)| *series).chain([1]).collect();
        for &series in series.iter().filter(|series| !is_histogram(**series)) {
            let appended = appender.append(None, &labels(series), t, float((series, t)));
            appended.map_err(|e| format!("appending after recovery: {e}"))?;
        }
        appender.commit().map_err(|e| format!("committing after recovery: {e}"))?;
        head.sync().map_err(|e| format!("syncing after recovery: {e}"))?;
        drop(head);
        let again = self.recover(&disk.crash_point().image(Kept::Nothing))?;
        let mut expected = found;
        expected.extend(series.into_iter().filter(|series| !is_histogram(*series)).map(|series| (series, t)));
        // What is older than the last truncation may still be in a chunk file or a segment, or not.
        match again.symmetric_difference(&expected).find(|(_, t)| model.keeps(*t)) {
            Some(other) => Err(format!("sample {other:?} came or went with another crash")),
            None => Ok(()),
        }
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn crashes(profile: Profile) -> Seen {
    let states = setting("HEADWATER_CRASH_STATES", 2_000) / PROFILES.len() as u64;
    let first = setting("HEADWATER_SEED", 1);
    let start = Instant::now();
    let (mut report, mut seen) = (Report::default(), Seen::default());
    for seed in first.. {
        if report.states >= states || !report.failures.is_empty() {
            break;
        }
        let program = Program::new(profile, seed);
        report += Enumerator::new(seed).exhaustive(4).samples(3).instead(12).nested(2, 100, 1).run(&program);
        let one = *program.seen.lock().unwrap();
        seen.commits += one.commits;
        seen.chunks += one.chunks;
        seen.checkpoints += one.checkpoints;
        seen.mapped += one.mapped;
        seen.unsound += one.unsound;
    }
    println!("{profile:?}, seeds from {first}, {:.1} s: {report}\n  {seen:?}", start.elapsed().as_secs_f64());
    report.assert_clean();
    // Renames: ledgers, checkpoints and quarantine, a few in each run.
    for (name, n) in
        report.states_with.counters().into_iter().filter(|(name, _)| states >= 50_000 || *name != "lost renames")
    {
        assert!(n > 0, "{profile:?}: no state with {name}");
    }
    assert!(report.nested > states / 100 && report.process_only > states / 100, "{report}");
    assert!(seen.commits > 0 && seen.chunks > 0 && seen.mapped > 0, "{seen:?}");
    seen
}

#[test]
fn commits_and_chunks_survive() {
    crashes(Profile::Append);
}

#[test]
fn truncations_survive() {
    let seen = crashes(Profile::Truncate);
    assert!(seen.checkpoints > 0, "{seen:?}");
}

/// Every k-th operation fails, in every way that real systems show, once and from then on.
#[test]
fn every_failure_is_survived() {
    let states = setting("HEADWATER_CRASH_STATES", 2_000);
    let first = setting("HEADWATER_SEED", 1);
    let (mut report, mut refused) = (SweepReport::default(), 0);
    for (round, profile) in (0..states.div_ceil(2_000).min(10)).flat_map(|round| PROFILES.map(|p| (round, p))) {
        let program = Program::new(profile, first + round);
        let stride = if states >= 100_000 { 1 } else { 23 };
        report += Sweep::new(first + round).stride(stride).crashes(2, 1).run(&program);
        report.assert_clean();
        refused += program.seen.lock().unwrap().refused;
    }
    println!("{report}");
    assert!(refused > 0 && report.leaked_handles == 0, "{report}");
}
