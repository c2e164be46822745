//! One sequence: a head, its model, and who is under way.

use std::path::Path;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tsdb_head::{Appender, Counts, FloatEncoding, Head, HeadOptions, Matcher, SeriesSet};
use tsdb_model::SeriesRef;
use tsdb_vfs::sim::Kept as Crash;
use tsdb_vfs::{Fs, SimFs};
use wal_segment::{Compression, Durability, LogOptions, PAGE_SIZE};

use crate::Coverage;
use crate::model::{Model, Samples, Transaction};
use crate::values::{self, Kept, SERIES, labels, series_of};

const DIR: &str = "/data";

pub(crate) fn run(seed: u64, coverage: &mut Coverage) -> Result<(), String> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut sequence = Sequence::new(&mut rng, seed)?;
    let steps = rng.random_range(40..140);
    for step in 0..steps {
        if let Err(error) = sequence.step(&mut rng, coverage) {
            sequence.history.iter().for_each(|line| println!("{line}"));
            return Err(format!("step {step} of {steps}: {error}"));
        }
    }
    sequence.compare()
}

/// A transaction on both sides, and the series that it is done with.
pub(crate) type Under = (Appender, Transaction, Vec<usize>);

pub(crate) struct Sequence {
    disk: SimFs,
    pub(crate) options: HeadOptions,
    head: Option<Head>,
    pub(crate) model: Model,
    open: Vec<Under>,
    readers: Vec<Reader>,
    /// What appenders were told, valid or not.
    pub(crate) refs: Vec<Option<SeriesRef>>,
    pub(crate) now: i64,
    pub(crate) step: i64,
    /// What was done, for who looks into a failure.
    history: Vec<String>,
}

/// Somebody who began to read, and what was there then.
struct Reader {
    set: SeriesSet,
    mint: i64,
    maxt: i64,
    expected: Samples,
}

impl Sequence {
    fn new(rng: &mut SmallRng, seed: u64) -> Result<Self, String> {
        let starts = rng.random_ratio(1, 3);
        let codecs = [Compression::None, Compression::Snappy, Compression::Zstd];
        let options = HeadOptions {
            chunk_range: [400, 2_000, 20_000][rng.random_range(0..3)],
            samples_per_chunk: rng.random_range(4..30),
            float_encoding: if starts || rng.random() { FloatEncoding::Xor2 } else { FloatEncoding::Xor },
            start_timestamps: starts,
            replay_threads: rng.random_range(1..3),
            chunk_write_bytes: 0,
            log: LogOptions {
                segment_size: PAGE_SIZE as u64,
                compression: codecs[rng.random_range(0..3)],
                durability: if rng.random() { Durability::Always } else { Durability::Rotate },
                background_sync: false,
                ..LogOptions::default()
            },
            ..HeadOptions::default()
        };
        let model = Model::new(options.chunk_range);
        let disk = SimFs::new(seed);
        let now = rng.random_range(-1_000_000..1_000_000_000);
        let step = options.chunk_range / rng.random_range(20..60);
        let (open, readers, refs) = (Vec::new(), Vec::new(), vec![None; SERIES]);
        let mut new = Self { disk, options, head: None, model, open, readers, refs, now, step, history: Vec::new() };
        new.start(None)?;
        Ok(new)
    }

    fn fs(&self) -> Fs {
        Arc::new(self.disk.clone())
    }

    pub(crate) fn head(&self) -> Result<&Head, String> {
        self.head.as_ref().ok_or_else(|| "no head".to_owned())
    }

    fn start(&mut self, min_valid_time: Option<i64>) -> Result<(), String> {
        self.history.push(format!("open, lowest time {min_valid_time:?}"));
        let options = HeadOptions { min_valid_time, ..self.options.clone() };
        let (head, report) = Head::open(self.fs(), Path::new(DIR), options).map_err(text)?;
        if !report.is_sound() || report.counts.undecodable > 0 {
            return Err(format!("opening found damage: {report:?}"));
        }
        let Counts { applied, already_there, unknown_refs, before_min_valid, .. } = report.counts;
        self.history.push(format!(
            "  checkpoint {:?}, segments {:?}, {applied} applied, {already_there} already there, {unknown_refs} of unknown \
             refs, {before_min_valid} too old, {:?}",
            report.checkpoint, report.segments, report.chunk_files
        ));
        self.head = Some(head);
        Ok(())
    }

    fn step(&mut self, rng: &mut SmallRng, coverage: &mut Coverage) -> Result<(), String> {
        match rng.random_range(0..100) {
            0..34 => self.scrape(rng, coverage),
            34..40 if self.open.len() < 3 => {
                self.open.push((self.head()?.appender(), self.model.begin(), Vec::new()));
                Ok(())
            }
            40..62 if !self.open.is_empty() => {
                let mut one = self.open.swap_remove(rng.random_range(0..self.open.len()));
                for _ in 0..rng.random_range(1..12) {
                    self.append(&mut one, rng, coverage)?;
                }
                self.open.push(one);
                Ok(())
            }
            62..72 if !self.open.is_empty() => {
                let one = self.open.swap_remove(rng.random_range(0..self.open.len()));
                self.end(one, rng, coverage)
            }
            72..77 => {
                let written = self.head()?.write_chunks().map_err(text)?;
                self.history.push(format!("{written} chunks written"));
                coverage.add("chunks written", written as u64);
                Ok(())
            }
            77..80 => {
                self.history.push("next segment".into());
                self.head()?.log().ok_or("no log")?.next_segment().map_err(text)?;
                self.model.sync();
                Ok(())
            }
            80..85 => self.begin_to_read(rng),
            85..89 if !self.readers.is_empty() => {
                let reader = self.readers.swap_remove(rng.random_range(0..self.readers.len()));
                coverage.hit("reader looked at later");
                reader.compare()
            }
            89..94 => self.truncate(rng, coverage),
            94..98 => self.restart(rng, coverage),
            _ => self.compare(),
        }
    }

    /// A new sample for most series, in one transaction.
    fn scrape(&mut self, rng: &mut SmallRng, coverage: &mut Coverage) -> Result<(), String> {
        self.now += rng.random_range(1..=2 * self.step);
        let mut one = (self.head()?.appender(), self.model.begin(), Vec::new());
        if rng.random_ratio(1, 4) {
            self.append_many(&mut one, rng, coverage)?;
        }
        for series in 0..SERIES {
            if rng.random_ratio(3, 4) {
                let value = values::value(rng, series);
                self.append_one(&mut one, series, self.now, value, rng, coverage)?;
            }
        }
        self.end(one, rng, coverage)
    }

    fn end(
        &mut self,
        (appender, transaction, _): Under,
        rng: &mut SmallRng,
        coverage: &mut Coverage,
    ) -> Result<(), String> {
        match rng.random_range(0..16) {
            0 => {
                coverage.hit("rollback");
                appender.rollback();
            }
            1 => {
                coverage.hit("dropped appender");
                drop(appender);
            }
            _ => {
                let done = appender.commit().map_err(text)?;
                let what: Vec<_> = transaction.pending.iter().map(|(series, kept)| (series, kept.t)).collect();
                self.history.push(format!("commit {what:?}"));
                let expected = self.model.commit(transaction);
                if (done.appended, done.left_out) != expected {
                    let which = self.compare().err();
                    return Err(format!("commit: expected {expected:?}, found {done:?}; {which:?}"));
                }
                coverage.hit("commit");
                coverage.add("left out at commit", done.left_out);
                coverage.add("commit beside another appender", (!self.open.is_empty()).into());
                if self.options.log.durability == Durability::Always {
                    self.model.sync();
                }
            }
        }
        Ok(())
    }

    fn begin_to_read(&mut self, rng: &mut SmallRng) -> Result<(), String> {
        if self.readers.len() >= 3 {
            return Ok(());
        }
        let (mint, maxt) = match rng.random_range(0..3) {
            0 => (i64::MIN, i64::MAX),
            1 => (self.now - rng.random_range(0..self.options.chunk_range), i64::MAX),
            _ => (self.now - self.options.chunk_range, self.now - rng.random_range(0..self.options.chunk_range)),
        };
        let zone = rng.random_ratio(1, 3).then(|| ["north", "south"][rng.random_range(0..2)]);
        let matchers: Vec<Matcher> = zone.map(|zone| Matcher::equal("zone", zone)).into_iter().collect();
        let set = self.head()?.select(&matchers, mint, maxt);
        let mut expected = self.model.samples.clone();
        expected.retain(|&series, list| {
            list.retain(|sample| (mint..=maxt).contains(&sample.t));
            !list.is_empty() && zone.is_none_or(|zone| labels(series).get(b"zone") == Some(zone.as_bytes()))
        });
        self.readers.push(Reader { set, mint, maxt, expected });
        Ok(())
    }

    fn truncate(&mut self, rng: &mut SmallRng, coverage: &mut Coverage) -> Result<(), String> {
        let Some(max) = self.model.max else { return Ok(()) };
        let mint = max - rng.random_range(0..2 * self.options.chunk_range);
        // Those it would wait for, in this one thread, have to be done.
        for reader in self.readers.extract_if(.., |reader| reader.mint < mint).collect::<Vec<_>>() {
            reader.compare()?;
        }
        let older = |one: &Under| one.1.oldest.is_some_and(|oldest| oldest < mint);
        for one in self.open.extract_if(.., |one| older(one)).collect::<Vec<_>>() {
            self.end(one, rng, coverage)?;
        }
        let head = self.head.as_ref().ok_or("no head")?;
        let before = (head.min_time(), head.series_count());
        let done = head.truncate(mint).map_err(text)?;
        self.history.push(format!("truncate at {mint}: {} chunks, {} series", done.chunks, done.series));
        coverage.hit("truncation");
        coverage.add("truncation with an appender open", (!self.open.is_empty()).into());
        coverage.add("checkpoint", done.checkpoint.is_some().into());
        coverage.add("series collected", done.series as u64);
        if head.series_count() + done.series != before.1 {
            return Err(format!("{} series, then {}: {done:?}", before.1, head.series_count()));
        }
        if before.0 < mint {
            self.model.truncate(mint);
            let bound = head.min_time();
            let oldest = self.model.oldest().unwrap_or(mint);
            if bound != mint
                && bound != oldest.min(mint.max(self.model.max.unwrap_or(mint) - self.options.chunk_range / 2))
            {
                return Err(format!("truncated at {mint}, the oldest sample at {oldest}, bound {bound}"));
            }
            self.model.min_valid = bound;
        }
        if done.checkpoint.is_some() {
            // The segment before it was ended, and with that synced.
            self.model.sync();
        }
        self.compare()
    }

    fn restart(&mut self, rng: &mut SmallRng, coverage: &mut Coverage) -> Result<(), String> {
        self.compare()?;
        for reader in std::mem::take(&mut self.readers) {
            reader.compare()?;
        }
        self.open.clear();
        // A ref of which nothing got into the log is given out again by the next process.
        self.refs.fill(None);
        let head = self.head.take().ok_or("no head")?;
        let mut certain = true;
        match rng.random_range(0..3) {
            0 => {
                head.close().map_err(text)?;
                coverage.hit("close");
                self.history.push("close".into());
            }
            1 => {
                drop(head);
                coverage.hit("kill");
                self.history.push("kill".into());
            }
            _ => {
                let point = self.disk.crash_point();
                drop(head);
                let kept = if rng.random_ratio(1, 4) { Crash::Nothing } else { Crash::Random(rng.random()) };
                self.disk = point.image(kept);
                coverage.hit("power cut");
                self.history.push(format!("power cut, kept {kept:?}"));
                certain = self.options.log.durability == Durability::Always;
            }
        }
        if rng.random_ratio(1, 4) {
            self.look_only(!certain)?;
            coverage.hit("read-only open");
        }
        let holes = !certain;
        // Mostly as if a block held what was truncated.
        let truncated = Some(self.model.truncated).filter(|&t| t != i64::MIN);
        let min_valid = truncated.filter(|_| !rng.random_ratio(1, 4));
        if truncated.is_some() && min_valid.is_none() {
            coverage.hit("reopened without a lowest time");
            certain = false;
        }
        self.start(min_valid)?;
        self.model.restarted(min_valid);
        if !certain {
            let must = self.model.durable.clone();
            let found = self.dump()?;
            self.model.adopt(&found, &must, holes)?;
        }
        self.model.sync();
        self.compare()
    }

    /// Nothing is written by who only looks.
    fn look_only(&self, holes: bool) -> Result<(), String> {
        let before = self.disk.fingerprint();
        let (head, _) = Head::open_read_only(self.fs(), Path::new(DIR), self.options.clone()).map_err(text)?;
        let found = collect(head.select(&[], i64::MIN, i64::MAX), i64::MIN, i64::MAX)?;
        drop(head);
        if self.disk.fingerprint() != before {
            return Err("a read-only open has changed the disk".into());
        }
        self.model.clone().adopt(&found, &self.model.durable, holes)
    }

    fn dump(&self) -> Result<Samples, String> {
        collect(self.head()?.select(&[], i64::MIN, i64::MAX), i64::MIN, i64::MAX)
    }

    fn compare(&self) -> Result<(), String> {
        same(&self.model.samples, &self.dump()?)?;
        let head = self.head()?;
        if let Some(max) = self.model.max
            && head.max_time() != max
        {
            return Err(format!("newest time: expected {max}, found {}", head.max_time()));
        }
        Ok(())
    }
}

impl Reader {
    fn compare(self) -> Result<(), String> {
        let found = collect(self.set, self.mint, self.maxt)?;
        same(&self.expected, &found).map_err(|error| format!("a reader from before: {error}"))
    }
}

fn collect(set: SeriesSet, mint: i64, maxt: i64) -> Result<Samples, String> {
    let mut found = Samples::new();
    for series in set {
        let number = series_of(series.labels()).ok_or("a series that nobody made")?;
        if series.labels() != &labels(number) && labels(number).get(b"zone") != Some(&b""[..]) {
            return Err(format!("series {number} is called {}", series.labels()));
        }
        let samples: Vec<Kept> = series
            .samples()
            .map(|sample| sample.map(|sample| Kept::from(&sample)).map_err(text))
            .collect::<Result<_, _>>()?;
        if let Some(other) = samples.iter().find(|sample| !(mint..=maxt).contains(&sample.t)) {
            return Err(format!("series {number}: {other:?} was not asked for"));
        }
        if !samples.is_empty() && found.insert(number, samples).is_some() {
            return Err(format!("series {number} is there twice"));
        }
    }
    Ok(found)
}

fn same(expected: &Samples, found: &Samples) -> Result<(), String> {
    for series in 0..SERIES {
        let empty = Vec::new();
        let (a, b) = (expected.get(&series).unwrap_or(&empty), found.get(&series).unwrap_or(&empty));
        if let Some(i) = (0..a.len().max(b.len())).find(|&i| a.get(i) != b.get(i)) {
            return Err(format!(
                "series {series}, sample {i} ({} expected, {} found): expected {:?}, found {:?}",
                a.len(),
                b.len(),
                a.get(i),
                b.get(i)
            ));
        }
    }
    Ok(())
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
