//! Logs full of series records: what a replay takes together is what a naive reader takes one by one.

mod common;

use std::collections::{BTreeMap, HashMap};

use common::{dump, floats, fs, options};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tsdb_head::{Head, HeadOptions, Matcher};
use tsdb_model::{LabelPairs, Labels, SeriesRef};
use wal_format::{Batch, Sample, Series, Tombstone, Version};
use wal_segment::{Compression, Log, LogOptions};

/// Series by ref with their samples, the refs that stand for others, and who has which labels.
#[derive(Default)]
struct Model {
    series: BTreeMap<u64, (Labels, Vec<(i64, f64)>)>,
    aliases: HashMap<u64, u64>,
    by_labels: HashMap<Vec<u8>, u64>,
}

#[derive(Debug, Default)]
struct Seen {
    new: usize,
    aliases: usize,
    known: usize,
    other_labels: usize,
    name_twice: usize,
    drops: usize,
    samples: usize,
    nobody: usize,
}

impl Model {
    fn record(&mut self, series: u64, labels: &Labels, seen: &mut Seen) {
        let known = self.by_labels.get(labels.as_packed()).copied();
        match (self.series.contains_key(&series), known) {
            (true, Some(known)) if known == series => seen.known += 1,
            (true, _) => seen.other_labels += 1,
            (false, Some(known)) => {
                seen.aliases += 1;
                self.aliases.insert(series, known);
            }
            (false, None) => {
                seen.new += 1;
                self.by_labels.insert(labels.as_packed().to_vec(), series);
                self.series.insert(series, (labels.clone(), Vec::new()));
            }
        }
    }

    fn sample(&mut self, series: u64, t: i64, v: f64, seen: &mut Seen) {
        let target = self.aliases.get(&series).copied().unwrap_or(series);
        match self.series.get_mut(&target) {
            Some((_, samples)) => {
                samples.push((t, v));
                seen.samples += 1;
            }
            None => seen.nobody += 1,
        }
    }

    fn drop_series(&mut self, series: u64) {
        if let Some((labels, _)) = self.series.remove(&series) {
            self.by_labels.remove(labels.as_packed());
        }
    }
}

fn labels(rng: &mut SmallRng, id: u32, twice: bool) -> Labels {
    let (group, id) = (format!("group-{}", id % 23), id.to_string());
    let mut pairs = vec![("__name__", "m"), ("group", group.as_str()), ("id", id.as_str())];
    if id.ends_with('7') {
        pairs.insert(1, ("also", "here"));
    }
    if twice {
        pairs.push((["group", "id"][rng.random_range(0..2)], "again"));
    }
    let mut packed = Vec::new();
    for text in pairs.iter().flat_map(|(name, value)| [name, value]) {
        packed.push(text.len() as u8);
        packed.extend_from_slice(text.as_bytes());
    }
    LabelPairs::from_packed(&packed).expect("pairs").to_labels()
}

#[test]
fn series_taken_together_are_series_taken_one_by_one() {
    let seed = 23;
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut seen = Seen::default();
    for round in 0..60 {
        let tmp = tempfile::tempdir().unwrap();
        let segment_size = [32 << 10, 1 << 20][round % 2];
        let compression = [Compression::None, Compression::Snappy, Compression::Zstd][round % 3];
        let log_options = LogOptions { segment_size, compression, ..LogOptions::default() };
        let (log, _) = Log::open(fs(), &tmp.path().join("wal"), log_options).unwrap();
        let mut model = Model::default();
        let (mut next_ref, mut next_id, mut t) = (1_u64, 0_u32, 0_i64);
        // In some rounds nothing is special for long, in others something always is.
        let odd = [0.0, 0.0005, 0.02][rng.random_range(0..3)];
        for _ in 0..rng.random_range(1..60) {
            let mut batch = Batch::new(Version::V1);
            // Two appenders made them at the same time.
            let count = rng.random_range(1..300);
            let mut refs: Vec<u64> = (next_ref..next_ref + count).collect();
            next_ref += count;
            refs.sort_by_key(|series| series % 2);
            let mut records: Vec<(u64, Labels)> = Vec::new();
            for &series in &refs {
                let mut id = next_id;
                let mut series = series;
                next_id += 1;
                if rng.random_bool(odd) && next_id > 1 {
                    id = rng.random_range(0..next_id);
                }
                if rng.random_bool(odd)
                    && let Some(&known) = model.series.keys().nth(rng.random_range(0..next_id as usize))
                {
                    series = known;
                    if rng.random_bool(0.5) {
                        // The record again, as it was.
                        let labels = model.series[&series].0.clone();
                        model.record(series, &labels, &mut seen);
                        records.push((series, labels));
                        continue;
                    }
                }
                let twice = rng.random_bool(odd / 4.0);
                seen.name_twice += usize::from(twice);
                let labels = labels(&mut rng, id, twice);
                model.record(series, &labels, &mut seen);
                records.push((series, labels));
            }
            for some in records.chunks(rng.random_range(1..300)) {
                batch.series(
                    some.iter().map(|(series, labels)| Series { series: SeriesRef(*series), labels: labels.pairs() }),
                );
            }
            if rng.random_bool(odd * 3.0)
                && let Some(&series) = model.series.keys().nth(rng.random_range(0..next_id as usize))
                && !model.aliases.values().any(|&other| other == series)
            {
                batch.tombstones([Tombstone { series: SeriesRef(series), mint: i64::MIN, maxt: i64::MAX }]);
                model.drop_series(series);
                seen.drops += 1;
            }
            t += 10;
            let mut samples = Vec::new();
            refs.extend((0..20).map(|_| rng.random_range(1..next_ref)));
            for series in refs {
                // One sample per series and time, whichever ref it has.
                let target = model.aliases.get(&series).copied().unwrap_or(series);
                if model.series.get(&target).is_none_or(|(_, all)| all.last().is_none_or(|&(last, _)| last < t)) {
                    let v = f64::from(rng.random_range(0..1_000_u32));
                    samples.push(Sample { series: SeriesRef(series), t, v, st: 0 });
                    model.sample(series, t, v, &mut seen);
                }
            }
            batch.samples(samples);
            log.append(batch.records()).unwrap();
        }
        log.close().unwrap();
        let replay_threads = rng.random_range(1..5);
        let (head, report) =
            Head::open(fs(), tmp.path(), HeadOptions { replay_threads, ..options() }).expect("a sound log");
        assert!(report.damage.is_empty(), "seed {seed}, round {round}: {report:?}");
        let with_samples = || model.series.values().filter(|(_, samples)| !samples.is_empty());
        let mut wanted: Vec<_> =
            with_samples().map(|(labels, samples)| (labels.to_string(), samples.clone())).collect();
        let mut got: Vec<_> = dump(&head).iter().map(|dumped| (dumped.0.clone(), floats(dumped))).collect();
        let order = |a: &(String, Vec<(i64, f64)>), b: &(String, Vec<(i64, f64)>)| {
            (&a.0, a.1.first().map(|s| s.0)).cmp(&(&b.0, b.1.first().map(|s| s.0)))
        };
        wanted.sort_by(order);
        got.sort_by(order);
        assert!(got == wanted, "seed {seed}, round {round}: {} series, {} wanted", got.len(), wanted.len());
        for (name, value) in [("group", "group-5"), ("group", "again"), ("id", "again"), ("also", "here"), ("id", "7")]
        {
            let found = head.select(&[Matcher::equal(name, value)], i64::MIN, i64::MAX).sorted().count();
            let pair = (name.as_bytes(), value.as_bytes());
            let there = with_samples().filter(|(labels, _)| labels.iter().any(|other| other == pair)).count();
            assert_eq!(found, there, "seed {seed}, round {round}: {name}={value}");
        }
    }
    println!("seed {seed}: {seen:?}");
    let Seen { new, aliases, known, other_labels, name_twice, drops, samples, nobody } = seen;
    assert!(new > 100_000 && samples > 100_000 && drops > 20);
    for n in [aliases, known, other_labels, name_twice, nobody] {
        assert!(n > 50);
    }
}
