//! Appending: what the model expects of each sample, and what the head says.

use rand::Rng;
use rand::rngs::SmallRng;
use tsdb_head::{AppendError, Value};
use tsdb_model::{Labels, SeriesRef};

use crate::Coverage;
use crate::model::{Verdict, is_marker};
use crate::sequence::{Sequence, Under};
use crate::values::{self, Kept, Plain, SERIES, labels};

impl Sequence {
    /// Something odd as often as not.
    pub(crate) fn append(
        &mut self,
        one: &mut Under,
        rng: &mut SmallRng,
        coverage: &mut Coverage,
    ) -> Result<(), String> {
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

    pub(crate) fn append_one(
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
    pub(crate) fn append_many(
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
        self.model.open_at(transaction, t);
        if start >= t {
            return match result {
                Err(AppendError::StartNotBeforeSample { .. }) => {
                    coverage.hit("refused: start not before sample");
                    Ok(())
                }
                other => Err(format!("a zero at {start} for a sample at {t}: {other:?}")),
            };
        }
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
