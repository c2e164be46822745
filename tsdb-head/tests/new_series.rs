//! Appenders that all make new series: each takes the index, the set of series not yet in the log, and the log.

use std::sync::Arc;

use rand::{Rng, SeedableRng, rngs::SmallRng};
use tsdb_head::{Head, HeadOptions};
use tsdb_model::staleness::stale_nan;
use tsdb_model::{LabelPairs, Labels, SeriesRef};
use tsdb_vfs::{Fs, RealFs};
use wal_format::Sample;

#[test]
fn appenders_that_make_series_at_once_do_not_wait_for_each_other() {
    const THREADS: usize = 4;
    const COMMITS: usize = 100;
    const SERIES: usize = 50;
    let dir = tempfile::tempdir().expect("a directory");
    let fs: Fs = Arc::new(RealFs::new());
    let (head, _) = Head::open(fs.clone(), dir.path(), HeadOptions::default()).expect("opened");
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let head = &head;
            scope.spawn(move || {
                for commit in 0..COMMITS {
                    let mut appender = head.appender();
                    for series in 0..SERIES {
                        let id = format!("{thread}-{commit}-{series}");
                        let labels = Labels::from_pairs([("__name__", "fresh"), ("id", &id)]);
                        appender.append(None, &labels, 1_700_000_000_000, 1.0).expect("appended");
                    }
                    appender.commit().expect("committed");
                }
            });
        }
    });
    drop(head);
    let (head, report) = Head::open(fs, dir.path(), HeadOptions::default()).expect("opened again");
    assert_eq!(head.series_count(), THREADS * COMMITS * SERIES);
    // A sample before its series' record would be one of an unknown ref.
    assert_eq!(report.counts.unknown_refs, 0);
    assert_eq!(report.counts.applied, (THREADS * COMMITS * SERIES) as u64);
}

/// Two scrapes at a time, half of which they have in common: no series gets two refs and no ref two series, also behind a
/// restart.
#[test]
fn first_scrapes_at_once_keep_their_series_apart() {
    const THREADS: usize = 2;
    const COMMITS: usize = 60;
    const SERIES: usize = 200;
    let dir = tempfile::tempdir().expect("a directory");
    let fs: Fs = Arc::new(RealFs::new());
    let (head, _) = Head::open(fs.clone(), dir.path(), HeadOptions::default()).expect("opened");
    let scrape = |thread: usize, commit: usize| -> Vec<Labels> {
        let id = |series: usize| match series % 2 {
            0 => format!("both-{commit}-{series}"),
            _ => format!("{thread}-{commit}-{series}"),
        };
        (0..SERIES).map(|series| Labels::from_pairs([("__name__", "fresh"), ("id", &id(series))])).collect()
    };
    let start = std::sync::Barrier::new(THREADS);
    let scrapes = |head: &Head, thread: usize, t: i64| -> Vec<(Labels, u64)> {
        start.wait();
        let mut got = Vec::new();
        for commit in 0..COMMITS {
            let labels = scrape(thread, commit);
            let mut samples = vec![Sample { series: SeriesRef(0), t, v: 1.0, st: 0 }; SERIES];
            let mut appender = head.appender();
            appender.append_many_by_labels(&labels, &mut samples, |at, error| panic!("{at}: {error}"));
            appender.commit().expect("committed");
            got.extend(labels.into_iter().zip(samples.iter().map(|sample| sample.series.0)));
        }
        got
    };
    let run = |head: &Head, t: i64| -> Vec<Vec<(Labels, u64)>> {
        std::thread::scope(|scope| {
            let scrapes = &scrapes;
            let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || scrapes(head, thread, t))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        })
    };
    let first = run(&head, 1_700_000_000_000);
    let mut by_labels = std::collections::HashMap::new();
    let mut by_ref = std::collections::HashMap::new();
    for (labels, series) in first.iter().flatten() {
        assert_eq!(by_labels.entry(labels.clone()).or_insert(*series), series, "{labels}");
        assert_eq!(by_ref.entry(*series).or_insert(labels.clone()), labels);
    }
    assert_eq!(head.series_count(), COMMITS * SERIES / 2 * (1 + THREADS));
    let partitions = |thread: usize| -> std::collections::HashSet<u64> {
        first[thread].iter().filter(|(labels, _)| !labels.to_string().contains("both")).map(|(_, s)| s >> 8).collect()
    };
    let shared = partitions(0).intersection(&partitions(1)).count();
    println!("{shared} of {} partitions are shared", partitions(0).union(&partitions(1)).count());
    drop(head);
    let (head, report) = Head::open(fs, dir.path(), HeadOptions::default()).expect("opened again");
    assert_eq!(report.counts.unknown_refs, 0);
    for (labels, series) in run(&head, 1_700_000_015_000).iter().flatten() {
        assert_eq!(by_labels[labels], *series, "{labels} behind the restart");
    }
}

/// A batch by labels is the same as its samples one by one: refs, refusals, and what the log gets.
#[test]
fn many_by_labels_is_one_by_one() {
    let mut rng = SmallRng::seed_from_u64(11);
    let fs: Fs = Arc::new(RealFs::new());
    let dirs = [tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory")];
    let open = |dir: &tempfile::TempDir| Head::open(fs.clone(), dir.path(), HeadOptions::default()).expect("opened").0;
    let [one, many] = [open(&dirs[0]), open(&dirs[1])];
    let (mut taken, mut refusals, mut known, mut many_new) = (0, std::collections::BTreeMap::new(), 0, 0);
    for commit in 0..300_i64 {
        let count = rng.random_range(0..40);
        // Now and then all are of series that nobody has, some of them twice.
        let first = if rng.random_bool(0.2) { 1_000 * (commit as u32 + 1) } else { 0 };
        let labels: Vec<Labels> = (0..count).map(|_| labels(&mut rng, first)).collect();
        let before = one.series_count();
        let now = 1_700_000_000_000 + commit * 15_000;
        let mut samples: Vec<Sample> = (0..count)
            .map(|_| {
                let t = now + if rng.random_bool(0.05) { -7_000_000 } else { rng.random_range(-90_000..20) };
                let v = if rng.random_bool(0.1) { stale_nan() } else { rng.random_range(0..3).into() };
                Sample { series: SeriesRef(0), st: 0, t, v }
            })
            .collect();
        let mut appender = one.appender();
        let each: Vec<Result<SeriesRef, String>> = samples
            .iter()
            .zip(&labels)
            .map(|(sample, labels)| appender.append(None, labels, sample.t, sample.v).map_err(|e| e.to_string()))
            .collect();
        let mut other = many.appender();
        let mut refused = vec![None; count];
        other.append_many_by_labels(&labels, &mut samples, |i, error| refused[i] = Some(error.to_string()));
        for ((each, refused), sample) in each.into_iter().zip(refused).zip(&samples) {
            match &each {
                Ok(_) => taken += 1,
                Err(error) => {
                    *refusals.entry(error.chars().filter(|c| !c.is_ascii_digit()).collect::<String>()).or_insert(0) += 1
                }
            }
            assert_eq!(each, refused.map_or(Ok(sample.series), Err));
        }
        known += usize::from(one.series_count() == many.series_count());
        many_new += usize::from(one.series_count() - before >= 16);
        match rng.random_bool(0.8) {
            true => assert_eq!(appender.commit().expect("committed"), other.commit().expect("committed")),
            false => drop((appender, other)),
        }
    }
    println!("{taken} taken, refused {refusals:?}; {many_new} times many new series");
    assert!(taken > 1_000 && refusals.len() > 3 && refusals.values().all(|&n| n > 20), "{taken} {refusals:?}");
    assert!(known == 300 && many_new > 20, "{known} {many_new}");
    one.close().expect("closed");
    many.close().expect("closed");
    let log = |dir: &tempfile::TempDir| std::fs::read(dir.path().join("wal/00000000")).expect("a segment");
    assert!(log(&dirs[0]) == log(&dirs[1]), "the logs differ");
}

/// Few enough that they come again, some of them refused.
fn labels(rng: &mut SmallRng, first: u32) -> Labels {
    let id = (first + rng.random_range(0..150)).to_string();
    let mut pairs = vec![("__name__", "m"), ("id", id.as_str())];
    match rng.random_range(0..20) {
        0 => pairs.clear(),
        1 => pairs.push(("id", "again")),
        2 => pairs.push(("without", "")),
        _ => {}
    }
    let mut packed = Vec::new();
    for text in pairs.iter().flat_map(|(name, value)| [name, value]) {
        packed.push(text.len() as u8);
        packed.extend_from_slice(text.as_bytes());
    }
    // Repeated names and empty values are left in.
    LabelPairs::from_packed(&packed).expect("pairs").to_labels()
}
