//! Four appenders, two readers, a truncating thread and the background writer on one head, and what must hold meanwhile:
//! no reader sees half a commit, no sample is missing, there twice or in another order, and what is there at the end is
//! there after a restart.
//!
//! `HEADWATER_STRESS_SECONDS` says how long (3).

mod common;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use common::{dump, fs, options};
use tsdb_head::{Appender, Head, HeadOptions, Matcher, Value};
use tsdb_model::histogram::{CounterResetHint, Histogram};
use tsdb_model::{Labels, SeriesRef};
use wal_format::Sample;
use wal_segment::{Compression, LogOptions};

const WRITERS: usize = 4;
const SERIES: usize = 100;
const RANGE: i64 = 1_000;
/// The first sample's time.
const START: i64 = 1_000_000;

fn busy() -> HeadOptions {
    HeadOptions {
        chunk_range: RANGE,
        samples_per_chunk: 20,
        chunk_write_bytes: 16 << 10,
        chunk_write_interval: Duration::from_millis(5),
        log: LogOptions { segment_size: 256 << 10, compression: Compression::Snappy, ..LogOptions::default() },
        ..options()
    }
}

fn labels(writer: usize, series: usize, generation: u64) -> Labels {
    let text = [writer.to_string(), series.to_string(), generation.to_string()];
    Labels::from_pairs([("writer", &text[0]), ("series", &text[1]), ("generation", &text[2])])
}

/// Two writers have floats, one integer and one float histograms; their count says which commit they are of.
fn value(writer: usize, commit: u64) -> Value {
    let histogram = Histogram { count: commit, zero_count: commit, sum: commit as f64, ..Histogram::default() };
    match writer {
        2 => Value::Histogram(Box::new(histogram)),
        3 => Value::FloatHistogram(Box::new(histogram.to_float())),
        _ => Value::Float(commit as f64),
    }
}

fn commit_of(value: &Value) -> u64 {
    match value {
        Value::Float(v) => *v as u64,
        Value::Histogram(h) => h.count,
        Value::FloatHistogram(h) => h.count as u64,
    }
}

fn append(app: &mut Appender, series: Option<SeriesRef>, labels: &Labels, t: i64, value: Value) -> SeriesRef {
    match value {
        Value::Float(v) => app.append(series, labels, t, v),
        Value::Histogram(h) => app.append_histogram(series, labels, 0, t, *h),
        Value::FloatHistogram(h) => app.append_float_histogram(series, labels, 0, t, *h),
    }
    .unwrap()
}

/// Commits the same value to all series of a writer, one more each time. A tenth of its series is replaced now and then.
fn write(head: &Head, writer: usize, clock: &AtomicI64, stop: &AtomicBool) -> u64 {
    let mut refs = vec![None; SERIES];
    let (mut commits, mut attempts) = (0, 0);
    let mut samples = Vec::new();
    while !stop.load(SeqCst) {
        // As fast as truncation can follow on a slow disk.
        std::thread::sleep(Duration::from_millis(1));
        attempts += 1;
        commits += 1;
        let t = clock.fetch_add(1, SeqCst);
        let mut app = head.appender();
        samples.clear();
        for (series, known) in refs.iter_mut().enumerate() {
            let generation = if series % 10 == 0 { commits / 500 } else { 0 };
            if generation > 0 && commits % 500 == 0 {
                *known = None;
            }
            match (*known, value(writer, commits)) {
                (Some(series), Value::Float(v)) => samples.push(Sample { series, t, v, st: 0 }),
                (by_ref, value) => {
                    let labels = labels(writer, series, generation);
                    *known = Some(append(&mut app, by_ref, &labels, t, value));
                }
            }
        }
        app.append_many(&samples, |i, error| panic!("{:?}: {error}", samples[i]));
        if attempts % 7 == 0 {
            app.rollback();
            commits -= 1;
            continue;
        }
        let done = app.commit().unwrap();
        assert_eq!((done.appended, done.left_out), (SERIES as u64, 0));
    }
    commits
}

/// With the hint of another one: it says how a histogram lies in its chunk.
fn hinted(value: Value, other: &Value) -> Value {
    match (value, other) {
        (Value::Histogram(mut h), Value::Histogram(other)) => {
            h.counter_reset_hint = other.counter_reset_hint;
            Value::Histogram(h)
        }
        (Value::FloatHistogram(mut h), Value::FloatHistogram(other)) => {
            h.counter_reset_hint = other.counter_reset_hint;
            Value::FloatHistogram(h)
        }
        (value, _) => value,
    }
}

/// All samples; chunks, and with them hints, may begin elsewhere after a restart.
fn dump_without_hints(head: &Head) -> Vec<common::Dumped> {
    let mut dumped = dump(head);
    for (_, _, value) in dumped.iter_mut().flat_map(|(_, samples)| samples) {
        match value {
            Value::Histogram(h) => h.counter_reset_hint = CounterResetHint::Unknown,
            Value::FloatHistogram(h) => h.counter_reset_hint = CounterResetHint::Unknown,
            Value::Float(_) => {}
        }
    }
    dumped
}

/// Every reader sees whole commits: all series of a writer end with the same value, and none has a hole.
fn read(head: &Head, stop: &AtomicBool, seen: &AtomicU64) {
    while !stop.load(SeqCst) {
        for writer in 0..WRITERS {
            let matchers = [Matcher::equal("writer", writer.to_string()), Matcher::equal("generation", "0")];
            let mut last: HashMap<u64, usize> = HashMap::new();
            for series in head.select(&matchers, i64::MIN, i64::MAX) {
                if series.labels().get(b"series").is_some_and(|n| n.ends_with(b"0")) {
                    continue;
                }
                let mut previous: Option<(i64, u64)> = None;
                for sample in series.samples() {
                    let sample = sample.unwrap();
                    let commit = commit_of(&sample.value);
                    assert_eq!(sample.value.clone(), hinted(value(writer, commit), &sample.value));
                    if let Some((t, before)) = previous {
                        assert!(sample.t > t && commit == before + 1, "{before}, then {commit} at {}", sample.t);
                    }
                    previous = Some((sample.t, commit));
                }
                if let Some((_, v)) = previous {
                    *last.entry(v).or_default() += 1;
                    seen.fetch_add(1, SeqCst);
                }
            }
            assert!(last.len() <= 1, "half a commit of writer {writer}: {last:?}");
        }
    }
}

fn truncate(head: &Head, stop: &AtomicBool, done: &AtomicU64) {
    while !stop.load(SeqCst) {
        std::thread::sleep(Duration::from_millis(20));
        if head.compactable() {
            let mint = head.max_time() - RANGE;
            let truncated = head.truncate(mint).unwrap();
            assert!(head.min_time() >= mint);
            done.fetch_add(u64::from(truncated.chunks > 0), SeqCst);
        }
    }
}

#[test]
fn nothing_is_torn_lost_or_left_behind_under_load() {
    let seconds = std::env::var("HEADWATER_STRESS_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(3);
    let tmp = tempfile::tempdir().unwrap();
    let (head, _) = Head::open(fs(), tmp.path(), busy()).unwrap();
    let (clock, stop) = (AtomicI64::new(START), AtomicBool::new(false));
    let (seen, truncations) = (AtomicU64::new(0), AtomicU64::new(0));
    let commits = std::thread::scope(|scope| {
        let (head, clock, stop, seen, truncations) = (&head, &clock, &stop, &seen, &truncations);
        let writers: Vec<_> = (0..WRITERS).map(|w| scope.spawn(move || write(head, w, clock, stop))).collect();
        let readers: Vec<_> = (0..2).map(|_| scope.spawn(move || read(head, stop, seen))).collect();
        let truncating = scope.spawn(move || truncate(head, stop, truncations));
        let end = Instant::now() + Duration::from_secs(seconds);
        let ended = || writers.iter().any(|w| w.is_finished()) || readers.iter().any(|r| r.is_finished());
        // A machine that is busy with other things gets more time for what has to be seen.
        let enough = || clock.load(SeqCst) - START > 120 * seconds as i64 && truncations.load(SeqCst) > 0;
        let latest = end + Duration::from_secs(9 * seconds);
        while (Instant::now() < end || !enough() && Instant::now() < latest) && !ended() {
            std::thread::sleep(Duration::from_millis(10));
        }
        stop.store(true, SeqCst);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        let commits: u64 = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
        truncating.join().unwrap();
        commits
    });
    let (stats, truncations) = (head.stats(), truncations.into_inner());
    println!("{commits} commits, {truncations} truncations, {} series read, {stats:?}", seen.into_inner());
    assert!(commits > 100 * seconds && truncations >= 1, "{commits} commits, {truncations} truncations");
    let (live, mint) = (dump_without_hints(&head), head.min_time());
    head.close().unwrap();
    let again = HeadOptions { min_valid_time: Some(mint), ..busy() };
    let (head, report) = Head::open(fs(), tmp.path(), again).unwrap();
    assert!(report.damage.is_empty(), "{report:?}");
    assert!(dump_without_hints(&head) == live, "a restart gives something else");
}
