//! Damaged series records: what a running head still knows is not lost to the next start, and what nobody knows is counted.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{Dumped, dump, floats, fs, labels, options};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tsdb_head::{DamagePolicy, Head, HeadOptions, ReplayReport};
use wal_checkpoint::segments_to_checkpoint;
use wal_segment::{Compression, LogOptions, LogReader, layout};

type Model = BTreeMap<String, BTreeMap<i64, f64>>;

fn small(compression: Compression, min_valid_time: Option<i64>) -> HeadOptions {
    HeadOptions {
        damage: DamagePolicy::Salvage,
        min_valid_time,
        log: LogOptions { segment_size: 32 << 10, compression, ..LogOptions::default() },
        ..options()
    }
}

fn start(dir: &Path, compression: Compression, min_valid_time: Option<i64>) -> (Head, ReplayReport) {
    Head::open(fs(), dir, small(compression, min_valid_time)).unwrap()
}

/// Turns a bit of some of the series records in segments `from..=to`; how many.
fn damage(dir: &Path, from: u64, to: u64, mut wanted: impl FnMut() -> bool) -> usize {
    let mut damaged = 0;
    for segment in layout::segments(&fs(), &dir.join("wal")).unwrap() {
        if !(from..=to).contains(&segment.index) || segment.len == 0 {
            continue;
        }
        let mut reader = LogReader::over(fs(), vec![segment.clone()]);
        let mut ends = Vec::new();
        // Behind damage of an earlier round nothing more is damaged.
        while let Ok(Some(record)) = reader.next() {
            if record.bytes.first() == Some(&1) && wanted() {
                ends.push(record.end as usize);
            }
        }
        let mut bytes = std::fs::read(&segment.path).unwrap();
        ends.iter().for_each(|end| bytes[end - 1] ^= 4);
        std::fs::write(&segment.path, bytes).unwrap();
        damaged += ends.len();
    }
    damaged
}

fn found(head: &Head, mint: i64) -> Model {
    let of = |dumped: &Dumped| floats(dumped).into_iter().filter(|(t, _)| *t >= mint).collect::<BTreeMap<_, _>>();
    let all = dump(head).into_iter().map(|dumped| (dumped.0.clone(), of(&dumped)));
    all.filter(|(_, samples)| !samples.is_empty()).collect()
}

fn young(model: &Model, mint: i64) -> Model {
    let of = |samples: &BTreeMap<i64, f64>| samples.range(mint..).map(|(&t, &v)| (t, v)).collect::<BTreeMap<_, _>>();
    model.iter().map(|(name, s)| (name.clone(), of(s))).filter(|(_, s)| !s.is_empty()).collect()
}

/// What differs, briefly.
fn difference(found: &Model, expected: &Model) -> Vec<String> {
    let empty = BTreeMap::new();
    let names = found.keys().chain(expected.keys());
    let mut differences: Vec<_> = names
        .filter_map(|name| {
            let (a, b) = (found.get(name).unwrap_or(&empty), expected.get(name).unwrap_or(&empty));
            let missing: Vec<_> = b.keys().filter(|t| a.get(t) != b.get(t)).collect();
            let invented: Vec<_> = a.keys().filter(|t| !b.contains_key(t)).collect();
            (a != b).then(|| format!("{name}: missing or other {missing:?}, too much {invented:?}"))
        })
        .collect();
    differences.sort();
    differences.dedup();
    differences.truncate(10);
    differences
}

#[derive(Debug, Default)]
struct Coverage {
    damaged: usize,
    supplied: u64,
    truncations: usize,
    kills: usize,
    closes: usize,
}

/// A head whose series come and go, and whose log loses series records in front of each truncation.
fn life(seed: u64, coverage: &mut Coverage) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let compression = [Compression::None, Compression::Snappy, Compression::Zstd][rng.random_range(0..3)];
    let tmp = tempfile::tempdir().unwrap();
    let (mut head, _) = start(tmp.path(), compression, None);
    let (mut model, mut t, mut mint, mut series) = (Model::new(), 0, 0, 3_usize);
    for _ in 0..6 {
        for _ in 0..rng.random_range(3..9) {
            for _ in 0..rng.random_range(1..6) {
                t += 1;
                series += rng.random_range(0..4);
                let mut app = head.appender();
                // The oldest ones end after a while.
                for s in series.saturating_sub(40)..series {
                    let v = rng.random::<f64>();
                    app.append(None, &labels(s), t, v).unwrap();
                    model.entry(labels(s).to_string()).or_default().insert(t, v);
                }
                app.commit().unwrap();
            }
            head.log().unwrap().next_segment().unwrap();
        }
        let segments = layout::segments(&fs(), &tmp.path().join("wal")).unwrap();
        let Some((from, to)) = segments_to_checkpoint(segments[0].index, segments[segments.len() - 1].index) else {
            continue;
        };
        coverage.damaged += damage(tmp.path(), from, to, || rng.random_bool(0.4));
        mint = rng.random_range(mint + 1..t);
        let done = head.truncate(mint).unwrap();
        let stats = done.checkpoint.expect("a checkpoint");
        coverage.truncations += 1;
        coverage.supplied += stats.supplied;
        assert_eq!(difference(&found(&head, mint), &young(&model, mint)), [""; 0], "seed {seed}, live");
        if rng.random() {
            head.close().unwrap();
            coverage.closes += 1;
        } else {
            drop(head);
            coverage.kills += 1;
        }
        let report;
        (head, report) = start(tmp.path(), compression, Some(mint));
        assert!(report.is_sound(), "seed {seed}: {report:?}");
        assert_eq!(report.nameless.series, 0, "seed {seed}");
        let differences = difference(&found(&head, mint), &young(&model, mint));
        assert_eq!(differences, [""; 0], "seed {seed}, mint {mint}, started again, {:?}", stats.damage);
    }
}

#[test]
fn no_sample_of_a_living_series_loses_its_labels() {
    let seed: u64 = std::env::var("HEADWATER_SEED").ok().map_or(1, |seed| seed.parse().unwrap());
    let mut coverage = Coverage::default();
    (seed..seed + 10).for_each(|seed| life(seed, &mut coverage));
    println!("seed {seed}: {coverage:?}");
    assert!(coverage.damaged > 100 && coverage.supplied > 300 && coverage.truncations > 40, "{coverage:?}");
    assert!(coverage.kills > 10 && coverage.closes > 10, "{coverage:?}");
}

#[test]
fn what_has_no_labels_is_counted_at_the_start() {
    let tmp = tempfile::tempdir().unwrap();
    let (head, _) = start(tmp.path(), Compression::None, None);
    // Two series in a commit of their own each: 130 samples, of which a chunk of 120 is on disk in the end.
    for t in 0..130 {
        for s in 0..2 {
            let mut app = head.appender();
            app.append(None, &labels(s), t, t as f64).unwrap();
            app.commit().unwrap();
        }
    }
    head.log().unwrap().next_segment().unwrap();
    head.close().unwrap();
    let mut first = true;
    assert_eq!(damage(tmp.path(), 0, u64::MAX, || std::mem::take(&mut first)), 1);
    for read_only in [true, false] {
        let options = small(Compression::None, None);
        let (head, report) = if read_only {
            Head::open_read_only(fs(), tmp.path(), options).unwrap()
        } else {
            Head::open(fs(), tmp.path(), options).unwrap()
        };
        assert_eq!(report.damage.len(), 1, "{report:?}");
        let nameless = report.nameless;
        assert_eq!((nameless.series, nameless.samples), (1, 130));
        assert_eq!((nameless.chunks, nameless.chunk_samples), (1, 120));
        assert_eq!(nameless.times, Some((0, 129)));
        assert_eq!((report.counts.unknown_refs, report.chunk_files.unknown_refs), (130, 1));
        assert_eq!(dump(&head).len(), 1);
    }
}
