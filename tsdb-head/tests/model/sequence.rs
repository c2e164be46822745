//! One sequence: a head, its model, and who is under way.

use std::path::Path;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tsdb_head::{AppendError, Appender, Counts, FloatEncoding, Head, HeadOptions, Matcher, SeriesSet, Value};
use tsdb_model::{Labels, SeriesRef};
use tsdb_vfs::sim::Kept as Crash;
use tsdb_vfs::{Fs, SimFs};
use wal_segment::{Compression, Durability, LogOptions, PAGE_SIZE};

use crate::Coverage;
use crate::model::{Model, Samples, Transaction, Verdict, is_marker};
use crate::values::{self, Kept, Plain, SERIES, labels, series_of};

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
type Under = (Appender, Transaction, Vec<usize>);

struct Sequence {
    disk: SimFs,
    options: HeadOptions,
    head: Option<Head>,
    model: Model,
    open: Vec<Under>,
    readers: Vec<Reader>,
    /// What appenders were told, valid or not.
    refs: Vec<Option<SeriesRef>>,
    now: i64,
    step: i64,
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

    fn head(&self) -> Result<&Head, String> {
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

    /// Something odd as often as not.
    fn append(&mut self, one: &mut Under, rng: &mut SmallRng, coverage: &mut Coverage) -> Result<(), String> {
        let range = self.options.chunk_range;
        let t = match rng.random_range(0..8) {
            0 => self.now - range / 2 + rng.random_range(-3..4),
            1 => self.now - rng.random_range(0..range * 2),
            2 | 3 => self.now,
            4 => self.now - rng.random_range(0..=self.step),
            _ => {
                self.now += rng.random_range(1..=self.step);
                self.now
            }
        };
        let series = rng.random_range(0..SERIES);
        match rng.random_range(0..30) {
            0 => self.bad_labels(one, t, rng, coverage),
            1 => self.broken_histogram(one, t, series, rng, coverage),
            2 | 3 => self.zero(one, t, series, rng, coverage),
            4..8 => self.repeat(one, series, rng, coverage),
            _ => {
                let value = values::value(rng, series);
                self.append_one(one, series, t, value, rng, coverage)
            }
        }
    }

    fn append_one(
        &mut self,
        one: &mut Under,
        series: usize,
        t: i64,
        value: Value,
        rng: &mut SmallRng,
        coverage: &mut Coverage,
    ) -> Result<(), String> {
        let (appender, transaction, closed) = one;
        // The marker of a histogram series goes behind the floats of its transaction, as in the reference: it has to be
        // the series' only sample there.
        if closed.contains(&series)
            || is_marker(&value) && transaction.pending.iter().any(|&(other, _)| other == series)
        {
            return Ok(());
        }
        let start = if rng.random_ratio(1, 3) { t - rng.random_range(1..1000) } else { 0 };
        let kept_start = if self.options.start_timestamps { start } else { 0 };
        let plain = Plain::of(&value);
        let allowed = match self.model.check_time(transaction, t) {
            Verdict::Taken => self.model.verdicts(series, t, &plain),
            refused => vec![refused],
        };
        let known = self.refs[series].filter(|_| rng.random());
        let labels = labels(series);
        let result = match value.clone() {
            Value::Float(v) => appender.append_with_start(known, &labels, start, t, v),
            Value::Histogram(h) => appender.append_histogram(known, &labels, start, t, *h),
            Value::FloatHistogram(h) => appender.append_float_histogram(known, &labels, start, t, *h),
        };
        let verdict = verdict(&result)?;
        if !allowed.contains(&verdict) {
            return Err(format!("series {series} at {t}, {value:?}: expected {allowed:?}, found {result:?}"));
        }
        self.count(verdict, coverage);
        if let Ok(series_ref) = result {
            self.refs[series] = Some(series_ref);
            let newest = self.model.samples.get(&series).and_then(|list| list.last());
            coverage.add("a repeat, silently fine", newest.is_some_and(|newest| newest.t == t).into());
            coverage.hit(values::name(&value));
            coverage.add("custom buckets", values::has_custom_buckets(&value).into());
            coverage.add("start timestamp", (kept_start != 0).into());
            if is_marker(&value) {
                closed.push(series);
            }
            transaction.pending.push((series, Kept { t, start: kept_start, value: plain }));
        }
        Ok(())
    }

    fn count(&self, verdict: Verdict, coverage: &mut Coverage) {
        coverage.hit(match verdict {
            Verdict::Taken => "taken",
            Verdict::OutOfOrder => "refused: out of order",
            Verdict::OutOfBounds => "refused: out of bounds",
            Verdict::Duplicate => "refused: duplicate",
        });
    }

    /// Floats by ref, in one call; one of the refs is nobody's.
    fn append_many(
        &mut self,
        (appender, transaction, closed): &mut Under,
        rng: &mut SmallRng,
        coverage: &mut Coverage,
    ) -> Result<(), String> {
        let head = self.head()?;
        let alive = |series: &SeriesRef| head.labels(*series).is_some();
        let known: Vec<(usize, SeriesRef)> =
            self.refs.iter().enumerate().filter_map(|(i, series)| Some((i, series.filter(alive)?))).collect();
        let mut samples: Vec<wal_format::Sample> = known
            .iter()
            .map(|&(_, series)| wal_format::Sample { series, t: self.now, v: rng.random(), st: 0 })
            .collect();
        let nobody = rng.random_ratio(1, 4);
        if nobody {
            samples.push(wal_format::Sample { series: SeriesRef(1 << 40), t: self.now, v: 0.0, st: 0 });
        }
        let mut refused = vec![None; samples.len()];
        appender.append_many(&samples, |i, error| refused[i] = Some(error));
        if let (true, Some(refused)) = (nobody, refused.last()) {
            self.model.open_at(transaction, self.now);
            match refused {
                Some(AppendError::UnknownSeries(SeriesRef(n))) if *n == 1 << 40 => {
                    coverage.hit("refused: unknown series");
                }
                other => return Err(format!("a ref that nobody has: {other:?}")),
            }
        }
        for ((i, _), (sample, refused)) in known.into_iter().zip(samples.iter().zip(refused)) {
            let plain = Plain::Float(sample.v.to_bits());
            let allowed = match self.model.check_time(transaction, self.now) {
                Verdict::Taken => self.model.verdicts(i, self.now, &plain),
                refused => vec![refused],
            };
            let result = refused.map_or(Ok(sample.series), Err);
            let verdict = verdict(&result)?;
            if !allowed.contains(&verdict) {
                return Err(format!("{sample:?} of many: expected {allowed:?}, found {result:?}"));
            }
            self.count(verdict, coverage);
            if verdict == Verdict::Taken {
                coverage.hit("many floats in one call");
                transaction.pending.push((i, Kept { t: self.now, start: 0, value: plain }));
                closed.push(i);
            }
        }
        Ok(())
    }

    fn bad_labels(
        &mut self,
        (appender, transaction, _): &mut Under,
        t: i64,
        rng: &mut SmallRng,
        coverage: &mut Coverage,
    ) -> Result<(), String> {
        let time = self.model.check_time(transaction, t);
        let (labels, name) = match rng.random_range(0..3) {
            0 => (Labels::empty(), "refused: empty labels"),
            1 => (Labels::from_pairs([("only", "")]), "refused: empty labels"),
            _ => (repeated_name(), "refused: duplicate label name"),
        };
        let result = appender.append(None, &labels, t, 1.0);
        match (&result, time) {
            (Err(AppendError::OutOfBounds { .. }), Verdict::OutOfBounds) => {}
            (Err(AppendError::EmptyLabels), Verdict::Taken) if name.ends_with("labels") => coverage.hit(name),
            (Err(AppendError::DuplicateLabelName { name: n }), Verdict::Taken) if n == b"twice" => coverage.hit(name),
            _ => return Err(format!("{labels}: {result:?}")),
        }
        Ok(())
    }

    fn broken_histogram(
        &mut self,
        (appender, transaction, _): &mut Under,
        t: i64,
        series: usize,
        rng: &mut SmallRng,
        coverage: &mut Coverage,
    ) -> Result<(), String> {
        let time = self.model.check_time(transaction, t);
        let result = match values::broken(rng) {
            Value::Histogram(h) => appender.append_histogram(None, &labels(series), 0, t, *h),
            Value::FloatHistogram(h) => appender.append_float_histogram(None, &labels(series), 0, t, *h),
            Value::Float(_) => return Err("no histogram".into()),
        };
        match (&result, time) {
            (Err(AppendError::OutOfBounds { .. }), Verdict::OutOfBounds) => Ok(()),
            (Err(AppendError::InvalidHistogram(_)), Verdict::Taken) => {
                coverage.hit("refused: invalid histogram");
                Ok(())
            }
            _ => Err(format!("a broken histogram: {result:?}")),
        }
    }

    /// A zero at the time since when a counter counts.
    fn zero(
        &mut self,
        (appender, transaction, closed): &mut Under,
        t: i64,
        series: usize,
        rng: &mut SmallRng,
        coverage: &mut Coverage,
    ) -> Result<(), String> {
        if closed.contains(&series) {
            return Ok(());
        }
        let start = t - rng.random_range(-1..self.step.max(2));
        let result = appender.append_start_zero(None, &labels(series), t, start);
        if start >= t {
            return match result {
                Err(AppendError::StartNotBeforeSample { .. }) => {
                    coverage.hit("refused: start not before sample");
                    Ok(())
                }
                other => Err(format!("a zero at {start} for a sample at {t}: {other:?}")),
            };
        }
        self.model.open_at(transaction, t);
        let plain = Plain::Float(0);
        let allowed = match self.model.check_time(transaction, start) {
            Verdict::Taken => self.model.verdicts(series, start, &plain),
            refused => vec![refused],
        };
        let verdict = verdict(&result)?;
        if !allowed.contains(&verdict) {
            return Err(format!("series {series}, zero at {start}: expected {allowed:?}, found {result:?}"));
        }
        self.count(verdict, coverage);
        if verdict == Verdict::Taken {
            coverage.hit("zero sample");
            transaction.pending.push((series, Kept { t: start, start: 0, value: plain }));
        }
        Ok(())
    }

    /// The newest float of a series once more.
    fn repeat(
        &mut self,
        one: &mut Under,
        series: usize,
        rng: &mut SmallRng,
        coverage: &mut Coverage,
    ) -> Result<(), String> {
        let newest = self.model.samples.get(&series).and_then(|list| list.last()).cloned();
        let Some(Kept { t, value: Plain::Float(bits), .. }) = newest else { return Ok(()) };
        let other = rng.random_ratio(1, 3);
        let v = if other { 123_456.0 } else { f64::from_bits(bits) };
        self.append_one(one, series, t, Value::Float(v), rng, coverage)
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

fn verdict(result: &Result<SeriesRef, AppendError>) -> Result<Verdict, String> {
    match result {
        Ok(_) => Ok(Verdict::Taken),
        Err(AppendError::OutOfOrder) => Ok(Verdict::OutOfOrder),
        Err(AppendError::OutOfBounds { .. }) => Ok(Verdict::OutOfBounds),
        Err(AppendError::Duplicate { .. }) => Ok(Verdict::Duplicate),
        Err(other) => Err(format!("refused for another reason: {other}")),
    }
}

/// Labels with a name that occurs twice, as only a stored set can have them.
fn repeated_name() -> Labels {
    let mut packed = Vec::new();
    for text in ["a", "1", "twice", "2", "twice", "3"] {
        packed.push(text.len() as u8);
        packed.extend_from_slice(text.as_bytes());
    }
    tsdb_model::LabelPairs::from_packed(&packed).map(|pairs| pairs.to_labels()).expect("packed labels")
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
