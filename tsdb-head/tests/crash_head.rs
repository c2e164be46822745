//! The head on a disk that crashes and fails: what was committed is there afterwards, what was never appended is not, and
//! a commit that failed has changed nothing.
//!
//! `HEADWATER_CRASH_STATES` says how many crash states to visit, `HEADWATER_SEED` where to start.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tsdb_head::{Head, HeadOptions, Value};
use tsdb_model::Labels;
use tsdb_model::histogram::Histogram;
use tsdb_vfs::crash::{Enumerator, Report};
use tsdb_vfs::failpoints::{Sweep, SweepReport};
use tsdb_vfs::{Fs, Journal, Scenario, SimFs};
use wal_segment::{Durability, LogOptions};

const DIR: &str = "/data";

/// Series number and time to a value; a histogram's is its count.
type Samples = BTreeMap<(usize, i64), u64>;

#[derive(Debug, Clone)]
enum Note {
    /// May be there.
    Intended(Arc<Samples>),
    /// Must be there.
    Committed(Arc<Samples>),
    /// From now on what is older may be gone.
    Truncating(i64),
}

/// A program that follows from a seed.
struct Program {
    seed: u64,
    seen: Seen,
}

#[derive(Default, Debug)]
struct Seen {
    commits: AtomicU64,
    refused_commits: AtomicU64,
    recovered_logs: AtomicU64,
    truncations: AtomicU64,
    checkpoints: AtomicU64,
    reopened: AtomicU64,
    replayed_checkpoints: AtomicU64,
    replayed_chunks: AtomicU64,
}

fn options() -> HeadOptions {
    HeadOptions {
        chunk_range: 20_000,
        log: LogOptions { segment_size: 32 * 1024, durability: Durability::Always, ..LogOptions::default() },
        chunk_write_bytes: 0,
        replay_threads: 1,
        ..HeadOptions::default()
    }
}

fn labels(series: usize) -> Labels {
    // Long enough that a few commits fill a segment.
    Labels::from_pairs([("series", series.to_string()), ("filler", "x".repeat(700))])
}

fn histogram(count: u64) -> Histogram {
    Histogram { count, zero_count: count, sum: count as f64, ..Histogram::default() }
}

fn dump(head: &Head) -> Result<Samples, String> {
    let mut samples = Samples::new();
    for series in head.select(&[], i64::MIN, i64::MAX) {
        let number = series.labels().get(b"series").and_then(|n| std::str::from_utf8(n).ok()?.parse().ok());
        let number: usize = number.ok_or("a series that nobody made")?;
        for sample in series.samples() {
            let sample = sample.map_err(|error| error.to_string())?;
            let value = match sample.value {
                Value::Float(v) => v as u64,
                Value::Histogram(h) => h.count,
                Value::FloatHistogram(_) => return Err("a float histogram that nobody appended".into()),
            };
            if samples.insert((number, sample.t), value).is_some() {
                return Err(format!("series {number} has two samples at {}", sample.t));
            }
        }
    }
    Ok(samples)
}

impl Program {
    fn new(seed: u64) -> Self {
        Self { seed, seen: Seen::default() }
    }

    /// One commit. A failed one must leave memory as it was, and the head must go on when the log does.
    fn commit(&self, head: &Head, journal: &Journal<Note>, batch: Samples) {
        let mut app = head.appender();
        let mut taken = Samples::new();
        for (&(series, t), &value) in &batch {
            let result = if series % 4 == 3 {
                app.append_histogram(None, &labels(series), 0, t, histogram(value))
            } else {
                app.append(None, &labels(series), t, value as f64)
            };
            if result.is_ok() {
                taken.insert((series, t), value);
            }
        }
        let taken = Arc::new(taken);
        let before = dump(head);
        journal.intend(Note::Intended(Arc::clone(&taken)));
        match app.commit() {
            Ok(done) => {
                assert_eq!(done.left_out, 0);
                journal.promise(Note::Committed(taken));
                self.seen.commits.fetch_add(1, Relaxed);
            }
            Err(_) => {
                // A disk that fails may also refuse to read chunks back.
                if let (Ok(before), Ok(after)) = (&before, &dump(head)) {
                    assert_eq!(before, after, "a failed commit has changed memory");
                }
                self.seen.refused_commits.fetch_add(1, Relaxed);
                if let Some(log) = head.log()
                    && log.read_only_since().is_some()
                    && log.recover().is_ok()
                {
                    self.seen.recovered_logs.fetch_add(1, Relaxed);
                }
            }
        }
    }
}

impl Scenario for Program {
    type Note = Note;
    type Recovered = (Head, Samples);

    fn run(&self, disk: &SimFs, journal: &Journal<Note>) {
        let mut rng = SmallRng::seed_from_u64(self.seed);
        let fs: Fs = Arc::new(disk.clone());
        let Ok((mut head, _)) = Head::open(Arc::clone(&fs), Path::new(DIR), options()) else { return };
        let mut now = 1_000_000;
        for value in 1..rng.random_range(18..30u64) {
            match rng.random_range(0..12) {
                0 => {
                    let mint = now - 10_000 - rng.random_range(0..10_000);
                    journal.intend(Note::Truncating(mint));
                    if let Ok(done) = head.truncate(mint) {
                        self.seen.truncations.fetch_add(1, Relaxed);
                        self.seen.checkpoints.fetch_add(done.checkpoint.is_some().into(), Relaxed);
                    }
                }
                // What cannot be written stays in memory and in the log.
                1 => drop(head.write_chunks()),
                2 => {
                    drop(head.close());
                    match Head::open(Arc::clone(&fs), Path::new(DIR), options()) {
                        Ok((opened, _)) => head = opened,
                        Err(_) => return,
                    }
                    self.seen.reopened.fetch_add(1, Relaxed);
                }
                _ => {
                    now += rng.random_range(500..4_000);
                    let some = |rng: &mut SmallRng| (0..6).filter(|_| rng.random_bool(0.7)).collect::<Vec<usize>>();
                    let offset = value as usize / 8;
                    let batch = some(&mut rng).into_iter().map(|series| ((series + offset, now), value)).collect();
                    self.commit(&head, journal, batch);
                }
            }
        }
        drop(head);
    }

    fn recover(&self, disk: &SimFs) -> Result<Self::Recovered, String> {
        let (head, report) =
            Head::open(Arc::new(disk.clone()), Path::new(DIR), options()).map_err(|e| e.to_string())?;
        self.seen.replayed_checkpoints.fetch_add(report.checkpoint.is_some().into(), Relaxed);
        self.seen.replayed_chunks.fetch_add((report.chunk_files.chunks > 0).into(), Relaxed);
        // A commit that was under way may have left samples without their series record.
        if report.counts.undecodable > 0 {
            return Err(format!("a log of ours holds what cannot be used: {report:?}"));
        }
        let samples = dump(&head)?;
        Ok((head, samples))
    }

    fn check(&self, disk: &SimFs, (head, found): Self::Recovered, notes: &[Note]) -> Result<(), String> {
        let (mut possible, mut promised, mut gone) = (Samples::new(), Samples::new(), i64::MIN);
        for note in notes {
            match note {
                Note::Intended(samples) => possible.extend(samples.iter()),
                Note::Committed(samples) => promised.extend(samples.iter()),
                Note::Truncating(mint) => gone = gone.max(*mint),
            }
        }
        for (key, value) in promised.range(..).filter(|&(&(_, t), _)| t >= gone) {
            if found.get(key) != Some(value) {
                return Err(format!(
                    "lost: series {}, time {}, value {value}, found {:?}",
                    key.0,
                    key.1,
                    found.get(key)
                ));
            }
        }
        if let Some((key, value)) = found.iter().find(|&(key, value)| possible.get(key) != Some(value)) {
            return Err(format!("invented: series {}, time {}, value {value}", key.0, key.1));
        }
        // It goes on, and what it gave out once stays.
        let mut app = head.appender();
        let later = found.keys().map(|&(_, t)| t).max().unwrap_or(1_000_000) + 50_000;
        app.append(None, &labels(99), later, 1.0).map_err(|error| error.to_string())?;
        app.commit().map_err(|error| error.to_string())?;
        drop(head);
        let (head, _) = Head::open(Arc::new(disk.clone()), Path::new(DIR), options()).map_err(|e| e.to_string())?;
        let mut again = dump(&head)?;
        if again.remove(&(99, later)) != Some(1) {
            return Err("what was appended after recovery is not there".into());
        }
        if again != found {
            return Err("a second recovery found something else".into());
        }
        Ok(())
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[test]
fn commits_chunks_and_truncations_survive_crashes() {
    let states = setting("HEADWATER_CRASH_STATES", 10_000);
    let mut report = Report::default();
    let mut total = [0; 7];
    for seed in setting("HEADWATER_SEED", 1).. {
        if report.states >= states || !report.failures.is_empty() {
            break;
        }
        let program = Program::new(seed);
        report += Enumerator::new(seed).exhaustive(4).samples(4).instead(24).nested(2, 100, 2).run(&program);
        let seen = &program.seen;
        let counts = [
            &seen.commits,
            &seen.truncations,
            &seen.checkpoints,
            &seen.reopened,
            &seen.replayed_checkpoints,
            &seen.replayed_chunks,
            &seen.refused_commits,
        ];
        counts.iter().zip(&mut total).for_each(|(one, sum)| *sum += one.load(Relaxed));
    }
    println!("{report}\ncommits, truncations, checkpoints, reopened, replayed checkpoints, chunks, refused: {total:?}");
    report.assert_clean();
    assert!(total[..6].iter().all(|&n| n > 5), "something hardly occurred: {total:?}");
}

#[test]
fn every_failure_leaves_memory_as_it_was_and_the_log_sound() {
    let mut report = SweepReport::default();
    let mut refused = 0;
    for seed in 1..=setting("HEADWATER_CRASH_STATES", 10_000).div_ceil(5_000).min(50) {
        let program = Program::new(seed);
        report += Sweep::new(seed).stride(5).crashes(2, 1).run(&program);
        refused += program.seen.refused_commits.load(Relaxed);
        report.assert_clean();
    }
    println!("{report}\nrefused commits: {refused}");
    assert!(refused > 20);
}
