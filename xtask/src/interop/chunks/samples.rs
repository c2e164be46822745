//! Random runs of samples: what real series do, and what none should.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tsdb_model::histogram::{BucketValue, CounterResetHint, FloatHistogram, Histogram, NativeHistogram, Span};
use tsdb_model::staleness::{STALE_NAN_BITS, is_stale};

use super::{Action, Step, Value};
use crate::interop::Coverage;

/// What a run with start timestamps must meet.
pub(super) const ST_REQUIRED: &[&str] =
    &["st zero", "st equal", "st changing", "st begins late", "st wild", "more than 127 samples"];

/// Times and start timestamps, which all kinds of series have alike.
struct Clock {
    t: i64,
    mode: &'static str,
    st: i64,
    st_mode: &'static str,
    /// From which sample on start timestamps change, when they begin late.
    st_from: usize,
    with_st: bool,
    samples: usize,
}

const CLOCKS: &[&str] = &["times regular", "times jittered", "times with gaps", "times at edges", "times wild"];
const STARTS: &[&str] = &["st zero", "st equal", "st changing", "st begins late", "st wild"];

impl Clock {
    fn new(rng: &mut StdRng, with_st: bool) -> Self {
        Self {
            t: rng.random_range(-1_000_000..2_000_000_000_000),
            mode: CLOCKS.choose(rng).expect("some"),
            st: rng.random_range(1..1_000_000),
            st_mode: STARTS.choose(rng).expect("some"),
            st_from: rng.random_range(1..140),
            with_st,
            samples: 0,
        }
    }

    fn tick(&mut self, rng: &mut StdRng, coverage: &mut Coverage) -> (i64, i64) {
        coverage.hit(self.mode);
        let step = match self.mode {
            "times regular" => 15_000,
            "times jittered" => 15_000 + rng.random_range(-20..20),
            "times with gaps" if rng.random_bool(0.05) => rng.random_range(0..100_000_000),
            "times with gaps" => 15_000,
            // Deltas of deltas around every width's ends.
            "times at edges" => (1_i64 << rng.random_range(0..63)).wrapping_add(rng.random_range(-2..=2)),
            _ => rng.random(),
        };
        self.t = self.t.wrapping_add(step);
        self.samples += 1;
        if self.samples == 128 {
            coverage.hit("more than 127 samples");
        }
        if !self.with_st {
            // It must not matter to the encodings without.
            return (self.t, rng.random());
        }
        coverage.hit(self.st_mode);
        let st = match self.st_mode {
            "st zero" => 0,
            "st equal" => self.st,
            "st changing" => {
                if rng.random_bool(0.3) {
                    self.st = self.t.wrapping_sub(rng.random_range(0..20_000));
                }
                self.st
            }
            "st begins late" if self.samples <= self.st_from => 0,
            "st begins late" => self.st + (self.samples / 7) as i64,
            _ => rng.random::<i64>() >> rng.random_range(0..64),
        };
        (self.t, st)
    }
}

fn action(rng: &mut StdRng) -> Action {
    match rng.random_range(0..100) {
        0..2 => Action::Reopen,
        2 => Action::Next,
        _ => Action::Append,
    }
}

/// Runs of floats.
pub(super) struct Floats {
    clock: Clock,
    mode: &'static str,
    value: f64,
}

const VALUES: &[&str] =
    &["counter", "gauge", "constant", "sparse changes", "special values", "any bits", "growing windows"];

impl Floats {
    pub(super) const REQUIRED: &[&str] = &[
        "times regular",
        "times jittered",
        "times with gaps",
        "times at edges",
        "times wild",
        "counter",
        "counter reset",
        "gauge",
        "constant",
        "sparse changes",
        "special values",
        "any bits",
        "growing windows",
        "stale",
        "NaN payload",
        "-0",
        "infinity",
        "reopened",
        "next chunk",
        "more than 127 samples",
    ];

    pub(super) fn new(rng: &mut StdRng, with_st: bool) -> Self {
        Self { clock: Clock::new(rng, with_st), mode: VALUES.choose(rng).expect("some"), value: 0.0 }
    }

    pub(super) fn steps(mut self, rng: &mut StdRng, coverage: &mut Coverage) -> Vec<Step> {
        let most = *[3, 30, 120, 260].choose(rng).expect("some");
        coverage.hit(self.mode);
        (0..rng.random_range(1..=most))
            .map(|n| {
                let action = if n == 0 { Action::Append } else { action(rng) };
                match action {
                    Action::Reopen => coverage.hit("reopened"),
                    Action::Next => coverage.hit("next chunk"),
                    _ => {}
                }
                let (t, st) = self.clock.tick(rng, coverage);
                Step { action, t, st, value: Value::Float(self.next(rng, coverage)) }
            })
            .collect()
    }

    fn next(&mut self, rng: &mut StdRng, coverage: &mut Coverage) -> f64 {
        if rng.random_bool(0.02) {
            coverage.hit("stale");
            return f64::from_bits(STALE_NAN_BITS);
        }
        match self.mode {
            "counter" if rng.random_bool(0.02) => {
                coverage.hit("counter reset");
                self.value = 0.0;
            }
            "counter" => self.value += f64::from(rng.random_range(0..1_000)),
            "gauge" => self.value = ((self.value + rng.random_range(-1.0..1.0)) * 1000.0).round() / 1000.0,
            "constant" => {}
            "sparse changes" => {
                if rng.random_bool(0.1) {
                    self.value += 1.0;
                }
            }
            "special values" => self.value = special(rng, coverage),
            "growing windows" => {
                let bits = rng.random_range(0..64);
                self.value =
                    f64::from_bits(self.value.to_bits() ^ (rng.random::<u64>() >> bits & u64::MAX << (bits / 2)));
            }
            _ => self.value = f64::from_bits(rng.random()),
        }
        self.value
    }
}

fn special(rng: &mut StdRng, coverage: &mut Coverage) -> f64 {
    match rng.random_range(0..7) {
        0 => {
            coverage.hit("NaN payload");
            f64::from_bits(0x7ff0_0000_0000_0001 | rng.random::<u64>() & 0x800f_ffff_ffff_ffff)
        }
        1 => {
            coverage.hit("-0");
            -0.0
        }
        2 => {
            coverage.hit("infinity");
            f64::INFINITY
        }
        3 => f64::NEG_INFINITY,
        4 => f64::from_bits(1),
        5 => f64::MAX,
        _ => 0.0,
    }
}

/// Runs of histograms of one series: a layout and counts that mostly grow.
pub(super) struct Histograms {
    clock: Clock,
    schema: i32,
    zero_threshold: f64,
    zero_count: u64,
    sum: f64,
    gauge: bool,
    positive: BTreeMap<i32, u64>,
    negative: BTreeMap<i32, u64>,
    custom_values: Vec<f64>,
    /// Whether floats have fractions.
    fractions: bool,
}

impl Histograms {
    pub(super) const REQUIRED: &[&str] = &[
        "times regular",
        "times jittered",
        "times with gaps",
        "times at edges",
        "times wild",
        "reopened",
        "next chunk",
        "append only",
        "outcome InPlace",
        "outcome Recoded",
        "outcome NewChunk",
        "outcome Refused",
        "buckets appear",
        "empty buckets disappear",
        "used buckets disappear",
        "counter reset",
        "explicit reset hint",
        "schema changes",
        "zero threshold changes",
        "custom bounds change",
        "kind changes",
        "stale",
        "stale first",
        "gauge",
        "custom buckets",
        "exponential buckets",
        "negative buckets",
        "span without buckets",
        "span split",
        "no buckets",
        "sum NaN payload",
        "sum infinite",
        "unusual zero threshold",
    ];

    pub(super) fn new(rng: &mut StdRng, with_st: bool) -> Self {
        let mut this = Self {
            clock: Clock::new(rng, with_st),
            schema: 0,
            zero_threshold: 0.0,
            zero_count: 0,
            sum: 0.0,
            gauge: rng.random_bool(0.3),
            positive: BTreeMap::new(),
            negative: BTreeMap::new(),
            custom_values: Vec::new(),
            fractions: rng.random(),
        };
        this.new_layout(rng);
        this.add_buckets(rng, 6);
        this
    }

    fn new_layout(&mut self, rng: &mut StdRng) {
        let custom = rng.random_bool(0.3);
        self.schema = if custom { -53 } else { rng.random_range(-4..=8) };
        self.custom_values = Vec::new();
        self.positive.clear();
        self.negative.clear();
        if custom {
            self.new_bounds(rng);
            self.zero_threshold = 0.0;
            self.zero_count = 0;
        } else {
            self.zero_threshold = threshold(rng);
        }
    }

    fn new_bounds(&mut self, rng: &mut StdRng) {
        let mut bound = rng.random_range(-2_i32..5) as f64;
        self.custom_values = (0..rng.random_range(1..12))
            .map(|_| {
                bound += match rng.random_range(0..4) {
                    0 => 0.001 * f64::from(rng.random_range(1..2_000)),
                    1 => rng.random_range(0.1..1e6),
                    2 => 5.0,
                    _ => 0.25,
                };
                bound
            })
            .collect();
        self.positive.retain(|index, _| *index <= self.custom_values.len() as i32);
    }

    fn indices(&self) -> core::ops::Range<i32> {
        if self.schema == -53 { 0..self.custom_values.len() as i32 + 1 } else { -20..20 }
    }

    fn add_buckets(&mut self, rng: &mut StdRng, most: usize) {
        for _ in 0..rng.random_range(0..=most) {
            let index = rng.random_range(self.indices());
            self.positive.entry(index).or_default();
            if self.schema != -53 && rng.random_bool(0.4) {
                let index = rng.random_range(self.indices());
                self.negative.entry(index).or_default();
            }
        }
    }

    pub(super) fn steps(mut self, rng: &mut StdRng, coverage: &mut Coverage, float: bool) -> Vec<Step> {
        let most = *[3, 20, 20, 150].choose(rng).expect("some");
        (0..rng.random_range(1..=most))
            .map(|n| {
                let action = match rng.random_range(0..100) {
                    _ if n == 0 => Action::Append,
                    0..10 => Action::AppendOnly,
                    10..13 => Action::Next,
                    13..16 => Action::Reopen,
                    _ => Action::Append,
                };
                match action {
                    Action::Reopen => coverage.hit("reopened"),
                    Action::Next => coverage.hit("next chunk"),
                    Action::AppendOnly => coverage.hit("append only"),
                    Action::Append => {}
                }
                let (t, st) = self.clock.tick(rng, coverage);
                let histogram = self.next(rng, coverage, n == 0);
                let value = if float {
                    Value::FloatHistogram(self.float(rng, &histogram))
                } else {
                    Value::Histogram(histogram)
                };
                Step { action, t, st, value }
            })
            .collect()
    }

    fn next(&mut self, rng: &mut StdRng, coverage: &mut Coverage, first: bool) -> Histogram {
        self.observe(rng);
        let mut hint = CounterResetHint::Unknown;
        match rng.random_range(0..100) {
            0..8 => {
                coverage.hit("buckets appear");
                self.add_buckets(rng, 3);
            }
            8..12 => {
                coverage.hit("empty buckets disappear");
                self.positive.retain(|_, count| *count > 0 || rng.random());
                self.negative.retain(|_, count| *count > 0 || rng.random());
            }
            12..14 => {
                coverage.hit("used buckets disappear");
                self.positive.retain(|_, _| rng.random_bool(0.7));
            }
            14..17 => {
                coverage.hit("counter reset");
                self.positive.values_mut().chain(self.negative.values_mut()).for_each(|count| *count /= 2);
            }
            17 => {
                coverage.hit("explicit reset hint");
                hint = CounterResetHint::CounterReset;
            }
            18..20 => hint = CounterResetHint::NotCounterReset,
            20 => {
                coverage.hit("schema changes");
                self.new_layout(rng);
                self.add_buckets(rng, 6);
            }
            21 if self.schema != -53 => {
                coverage.hit("zero threshold changes");
                self.zero_threshold = threshold(rng);
            }
            22 if self.schema == -53 => {
                coverage.hit("custom bounds change");
                self.new_bounds(rng);
            }
            23 => {
                coverage.hit("kind changes");
                self.gauge = !self.gauge;
            }
            24..26 if !first || rng.random_bool(0.5) => {
                coverage.hit(if first { "stale first" } else { "stale" });
                return self.stale(rng);
            }
            _ => {}
        }
        if self.gauge {
            coverage.hit("gauge");
            hint = CounterResetHint::Gauge;
            // A gauge's counts go anywhere.
            for count in self.positive.values_mut().chain(self.negative.values_mut()) {
                if rng.random_bool(0.2) {
                    *count = rng.random_range(0..50);
                }
            }
        }
        self.build(rng, coverage, hint)
    }

    /// More observations.
    fn observe(&mut self, rng: &mut StdRng) {
        for count in self.positive.values_mut().chain(self.negative.values_mut()) {
            if rng.random_bool(0.5) {
                let magnitude = rng.random_range(1..20);
                *count += 1_u64 << rng.random_range(0..magnitude);
            }
        }
        if self.schema != -53 && rng.random_bool(0.2) {
            self.zero_count += rng.random_range(0..10);
        }
        self.sum += rng.random_range(-10.0..100.0);
    }

    /// A stale marker, with or without the contents that do not matter in it.
    fn stale(&self, rng: &mut StdRng) -> Histogram {
        let sum = f64::from_bits(STALE_NAN_BITS);
        let hint = if self.gauge { CounterResetHint::Gauge } else { CounterResetHint::Unknown };
        if rng.random() {
            return Histogram { sum, counter_reset_hint: hint, ..Histogram::default() };
        }
        Histogram { sum, ..self.build(rng, &mut Coverage::new(false), hint) }
    }

    fn build(&self, rng: &mut StdRng, coverage: &mut Coverage, hint: CounterResetHint) -> Histogram {
        let (positive_spans, positive_buckets) = spans(rng, coverage, &self.positive);
        let (negative_spans, negative_buckets) = spans(rng, coverage, &self.negative);
        coverage.hit(if self.schema == -53 { "custom buckets" } else { "exponential buckets" });
        if !self.negative.is_empty() {
            coverage.hit("negative buckets");
        }
        if self.positive.is_empty() && self.negative.is_empty() {
            coverage.hit("no buckets");
        }
        if self.zero_threshold != 0.0 && self.zero_threshold.log2().fract() != 0.0 {
            coverage.hit("unusual zero threshold");
        }
        let sum = match rng.random_range(0..50) {
            0 => {
                coverage.hit("sum NaN payload");
                f64::from_bits(0x7ff8_0000_0000_0000 | u64::from(rng.random::<u16>()))
            }
            1 => {
                coverage.hit("sum infinite");
                f64::INFINITY
            }
            _ => self.sum,
        };
        let mut count = self.positive.values().chain(self.negative.values()).sum::<u64>() + self.zero_count;
        if rng.random_bool(0.05) {
            // Observations of NaN are in no bucket.
            count += rng.random_range(0..3);
        }
        Histogram {
            counter_reset_hint: hint,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count,
            count,
            sum,
            positive_spans,
            negative_spans,
            positive_buckets,
            negative_buckets,
            custom_values: self.custom_values.clone(),
        }
    }

    fn float(&self, rng: &mut StdRng, histogram: &Histogram) -> FloatHistogram {
        let scale = if self.fractions { 0.1 } else { 1.0 };
        let absolute = |deltas: &[i64]| {
            let counts = deltas.iter().scan(0, |count, delta| {
                *count += delta;
                Some(*count as f64 * scale)
            });
            counts.collect::<Vec<_>>()
        };
        let mut count = histogram.count as f64 * scale;
        if rng.random_bool(0.01) {
            count = f64::NAN;
        }
        FloatHistogram {
            counter_reset_hint: histogram.counter_reset_hint,
            schema: histogram.schema,
            zero_threshold: histogram.zero_threshold,
            zero_count: histogram.zero_count as f64 * scale,
            count,
            sum: histogram.sum,
            positive_spans: histogram.positive_spans.clone(),
            negative_spans: histogram.negative_spans.clone(),
            positive_buckets: absolute(&histogram.positive_buckets),
            negative_buckets: absolute(&histogram.negative_buckets),
            custom_values: histogram.custom_values.clone(),
        }
    }
}

fn threshold(rng: &mut StdRng) -> f64 {
    match rng.random_range(0..5) {
        0 => 0.0,
        1 => 2_f64.powi(-128),
        2 => 2_f64.powi(rng.random_range(-260..20)),
        3 => 1e-3,
        _ => rng.random_range(0.0..1.0),
    }
}

/// Spans and deltas of counts by bucket index, with the freedom that spans leave: empty ones, and split ones.
fn spans(rng: &mut StdRng, coverage: &mut Coverage, counts: &BTreeMap<i32, u64>) -> (Vec<Span>, Vec<i64>) {
    let (mut spans, mut deltas) = (Vec::<Span>::new(), Vec::new());
    let (mut next, mut before) = (0, 0);
    for (index, count) in counts {
        let mut offset = index - next;
        if rng.random_bool(0.01) && (spans.is_empty() || offset > 0) {
            coverage.hit("span without buckets");
            let part = if offset > 0 { rng.random_range(0..=offset) } else { offset };
            spans.push(Span { offset: part, length: 0 });
            offset -= part;
            spans.push(Span { offset, length: 1 });
        } else if offset == 0 && !spans.is_empty() && rng.random_bool(0.98) {
            spans.last_mut().expect("there is one").length += 1;
        } else {
            if offset == 0 && !spans.is_empty() {
                coverage.hit("span split");
            }
            spans.push(Span { offset, length: 1 });
        }
        deltas.push(*count as i64 - before);
        before = *count as i64;
        next = index + 1;
    }
    (spans, deltas)
}

/// Whether two histograms say the same: bucket by bucket, whatever the spans. A chunk may add empty buckets.
pub(super) fn same<B: BucketValue>(
    read: &NativeHistogram<B>,
    wrote: &NativeHistogram<B>,
    absolute: fn(B, B) -> B,
) -> Result<()> {
    if is_stale(wrote.sum) {
        let nothing = NativeHistogram { sum: wrote.sum, ..NativeHistogram::default() };
        ensure!(read.same_bits(&nothing), "{read:?} instead of a stale marker");
        return Ok(());
    }
    let buckets = |spans: &[Span], values: &[B]| {
        let (mut index, mut sum) = (0_i64, B::default());
        let mut values = values.iter();
        let mut all = BTreeMap::new();
        for span in spans {
            index += i64::from(span.offset);
            for _ in 0..span.length {
                sum = absolute(sum, *values.next().expect("a value for each bucket"));
                if sum != B::default() {
                    all.insert(index, sum);
                }
                index += 1;
            }
        }
        all
    };
    let equal = read.schema == wrote.schema
        && read.zero_threshold.to_bits() == wrote.zero_threshold.to_bits()
        && B::same_count(read.zero_count, wrote.zero_count)
        && B::same_count(read.count, wrote.count)
        && read.sum.to_bits() == wrote.sum.to_bits()
        && read.custom_values == wrote.custom_values
        && buckets(&read.positive_spans, &read.positive_buckets)
            == buckets(&wrote.positive_spans, &wrote.positive_buckets)
        && buckets(&read.negative_spans, &read.negative_buckets)
            == buckets(&wrote.negative_spans, &wrote.negative_buckets);
    ensure!(equal, "{read:?} instead of {wrote:?}");
    Ok(())
}
