//! The orders in which threads can run, tried one by one: whatever a lock or an atomic is taken for, another thread may
//! come first. The scheduler finds threads that wait for each other, the tests look at what came of it.
//!
//! `cargo test -p tsdb-head --features shuttle --test threads`; `HEADWATER_SCHEDULES` says how many orders per test and
//! scheduler (300). A failure prints the order that it came of.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner, thread};
use tsdb_head::{Head, HeadOptions, Matcher, Value};
use tsdb_model::{Labels, SeriesRef};
use tsdb_vfs::{Fs, SimFs};
use wal_format::{Record, RecordEntries, Sample};
use wal_segment::{LogOptions, LogReader};

const DIR: &str = "/data";

fn explore(test: impl Fn() + Send + Sync + Copy + 'static) {
    let schedules = std::env::var("HEADWATER_SCHEDULES").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
    let mut config = Config::new();
    // Opening a head takes more than the 32 KiB there are else.
    config.stack_size = 1 << 20;
    config.silence_warnings = true;
    Runner::new(RandomScheduler::new(schedules), config.clone()).run(test);
    Runner::new(PctScheduler::new(3, schedules), config).run(test);
}

/// A head on a disk in memory: nothing but its own threads decides about its order.
fn fresh() -> (Arc<Head>, Fs) {
    let fs: Fs = Arc::new(SimFs::new(1));
    let options = HeadOptions {
        chunk_range: 1_000,
        samples_per_chunk: 4,
        replay_threads: 1,
        chunk_write_bytes: 0,
        log: LogOptions { segment_size: 32 << 10, background_sync: false, ..LogOptions::default() },
        ..HeadOptions::default()
    };
    let (head, _) = Head::open(Arc::clone(&fs), Path::new(DIR), options).expect("opened");
    (Arc::new(head), fs)
}

fn labels(name: &str) -> Labels {
    Labels::from_pairs([("series", name)])
}

fn floats(head: &Head, matchers: &[Matcher]) -> BTreeMap<String, Vec<(i64, f64)>> {
    let mut found = BTreeMap::new();
    for series in head.select(matchers, i64::MIN, i64::MAX) {
        let samples = series.samples().map(|sample| match sample.expect("a sample") {
            tsdb_head::Sample { t, value: Value::Float(v), .. } => (t, v),
            other => panic!("{other:?}"),
        });
        let name = String::from_utf8_lossy(series.labels().get(b"series").expect("its name")).into_owned();
        assert!(found.insert(name, samples.collect()).is_none(), "a series is there twice");
    }
    found
}

/// What the log holds: samples by series, each behind the record of its series.
fn logged(fs: &Fs) -> BTreeMap<String, Vec<(i64, f64)>> {
    let mut names: HashMap<SeriesRef, String> = HashMap::new();
    let mut samples: BTreeMap<String, Vec<(i64, f64)>> = BTreeMap::new();
    let mut reader = LogReader::open(Arc::clone(fs), &Path::new(DIR).join("wal")).expect("a log");
    while let Some(record) = reader.next().expect("a sound log") {
        match Record::decode(record.bytes).expect("a record").entries {
            RecordEntries::Series(entries) => {
                for entry in entries {
                    let name = entry.labels.to_labels().get(b"series").expect("its name").to_vec();
                    names.insert(entry.series, String::from_utf8(name).expect("text"));
                }
            }
            RecordEntries::Samples(entries) => {
                for Sample { series, t, v, .. } in entries {
                    let name = names.get(&series).expect("a sample before the record of its series");
                    samples.entry(name.clone()).or_default().push((t, v));
                }
            }
            other => panic!("{other:?}"),
        }
    }
    samples
}

/// Two threads make series, some of them the same, and commit or give up; a third only commits.
#[test]
fn series_are_made_once_and_logged_before_their_samples() {
    explore(|| {
        let (head, fs) = fresh();
        let threads: Vec<_> = (0..3)
            .map(|n| {
                let head = Arc::clone(&head);
                thread::spawn(move || {
                    for round in 0..2 {
                        let mut appender = head.appender();
                        let own = format!("{n}-{round}");
                        for name in ["shared", &own] {
                            // Own times: what one commits does not put another's out of order.
                            let t = 1_000 + n * 2 + round;
                            // Another one may be ahead.
                            appender.append(None, &labels(name), t, n as f64).ok();
                        }
                        if n == 1 && round == 0 {
                            appender.rollback();
                        } else {
                            appender.commit().expect("committed");
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("a thread"));
        let (found, logged) = (floats(&head, &[]), logged(&fs));
        let names: BTreeSet<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(names, BTreeSet::from(["0-0", "0-1", "1-1", "2-0", "2-1", "shared"]));
        for (name, samples) in &found {
            assert!(samples.is_sorted_by(|a, b| a.0 < b.0), "{name}: {samples:?}");
            assert!(samples.iter().all(|sample| logged[name].contains(sample)), "{name} has what the log has not");
        }
        // The series that was given up with its maker is there still, without samples.
        assert_eq!(head.series_count(), 7);
        let refs: HashSet<SeriesRef> = head.select(&[], i64::MIN, i64::MAX).map(|series| series.series_ref()).collect();
        assert_eq!(refs.len(), found.len());
    });
}

/// Two series in different partitions get the same value in each commit; who reads sees both or none of it.
#[test]
fn nobody_sees_half_a_commit() {
    explore(|| {
        let (head, _) = fresh();
        let mut setup = head.appender();
        // 256 others between them.
        let names: Vec<String> = (0..258).map(|n| n.to_string()).collect();
        let refs: Vec<SeriesRef> =
            names.iter().map(|name| setup.append(None, &labels(name), 1_000, 0.0).expect("taken")).collect();
        setup.commit().expect("committed");
        let pair = [refs[0], refs[257]];
        assert_ne!(pair[0].0 >> 8, pair[1].0 >> 8);
        let writer = {
            let head = Arc::clone(&head);
            thread::spawn(move || {
                for value in 1..4i64 {
                    let mut appender = head.appender();
                    let sample = |series| Sample { series, t: 1_000 + value, v: value as f64, st: 0 };
                    appender.append_many(&pair.map(sample), |_, error| panic!("{error}"));
                    appender.commit().expect("committed");
                }
            })
        };
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let head = Arc::clone(&head);
                thread::spawn(move || {
                    for _ in 0..2 {
                        let found: Vec<_> = head
                            .select(&[], i64::MIN, i64::MAX)
                            .filter(|series| pair.contains(&series.series_ref()))
                            .map(|series| series.samples().count())
                            .collect();
                        assert!(matches!(found[..], [a, b] if a == b), "half a commit: {found:?}");
                    }
                })
            })
            .collect();
        writer.join().expect("the writer");
        readers.into_iter().for_each(|reader| reader.join().expect("a reader"));
        assert!(floats(&head, &[Matcher::equal("series", "257")])["257"].len() == 4);
    });
}

/// A truncation, an appender that may hold something older, and a reader that began before or after.
#[test]
fn a_truncation_takes_nothing_from_those_who_are_under_way() {
    // In the middle of a chunk.
    const MINT: i64 = 2_150;
    explore(|| {
        let (head, _) = fresh();
        for t in (1_000..2_400).step_by(100) {
            let mut appender = head.appender();
            appender.append(None, &labels("a"), t, t as f64).expect("taken");
            appender.commit().expect("committed");
        }
        let truncating = {
            let head = Arc::clone(&head);
            thread::spawn(move || head.truncate(MINT).expect("truncated"))
        };
        let appending = {
            let head = Arc::clone(&head);
            thread::spawn(move || {
                let mut appender = head.appender();
                // Older than the truncation: refused, or waited for.
                let old = appender.append(None, &labels("b"), MINT - 50, 1.0).is_ok();
                let new = appender.append(None, &labels("b"), 2_400, 2.0);
                new.expect("new enough for any");
                let done = appender.commit().expect("committed");
                assert_eq!(done.appended, 1 + u64::from(old), "a sample was taken, and then left out");
                old
            })
        };
        let reading = {
            let head = Arc::clone(&head);
            thread::spawn(move || {
                let samples = floats(&head, &[Matcher::equal("series", "a")])["a"].clone();
                let times: Vec<i64> = samples.iter().map(|(t, _)| *t).collect();
                let all: Vec<i64> = (1_000..2_400).step_by(100).collect();
                let from = |mint| all.iter().copied().filter(|&t| t >= mint).collect::<Vec<_>>();
                // The older sample opens the head's range down to its time again, see below.
                let whole = [all.clone(), from(MINT), from(MINT - 50)];
                assert!(whole.contains(&times), "a reader across a truncation saw {times:?}");
            })
        };
        truncating.join().expect("truncating");
        let old = appending.join().expect("appending");
        reading.join().expect("reading");
        let found = floats(&head, &[]);
        let times = |name: &str| found[name].iter().map(|(t, _)| *t).collect::<Vec<_>>();
        // One that was taken before the truncation and committed while it waited is there until the next one, with what
        // else is as new: the reference does the same.
        let late = old && times("b").len() == 2;
        assert_eq!(times("a"), if late { vec![2_100, 2_200, 2_300] } else { vec![2_200, 2_300] });
        assert_eq!(times("b"), if late { vec![2_100, 2_400] } else { vec![2_400] });
    });
}

/// A series without samples is collected while others go on with its ref or its labels.
#[test]
fn a_series_that_is_collected_is_made_again_for_who_needs_it() {
    explore(|| {
        let (head, fs) = fresh();
        let mut setup = head.appender();
        let known = setup.append(None, &labels("old"), 1_000, 1.0).expect("taken");
        setup.append(None, &labels("other"), 3_000, 1.0).expect("taken");
        setup.commit().expect("committed");
        let truncating = {
            let head = Arc::clone(&head);
            thread::spawn(move || head.truncate(2_500).expect("truncated"))
        };
        let appending: Vec<_> = (0..2)
            .map(|n| {
                let head = Arc::clone(&head);
                thread::spawn(move || {
                    let mut appender = head.appender();
                    let by = (n == 0).then_some(known);
                    appender.append(by, &labels("old"), 3_001 + n, 2.0).map(|_| appender.commit().expect("committed"))
                })
            })
            .collect();
        truncating.join().expect("truncating");
        let done: Vec<_> = appending.into_iter().map(|thread| thread.join().expect("appending")).collect();
        let found = floats(&head, &[]);
        assert_eq!(found.len(), 2);
        assert_eq!(head.series_count(), 2);
        // Each was taken, left out because the other one was ahead, or refused for the same reason.
        let appended: u64 = done.iter().flatten().map(|done| done.appended).sum();
        let times: Vec<i64> = found["old"].iter().map(|(t, _)| *t).filter(|&t| t > 3_000).collect();
        assert!(times.contains(&3_002) && times.len() as u64 == appended, "{found:?}, {done:?}");
        let logged = logged(&fs);
        assert!(times.iter().all(|t| logged["old"].contains(&(*t, 2.0))));
    });
}
