//! A second decoder of all six encodings: a bit at a time, from the format's description, without any thought of speed.
//!
//! It shares nothing with the real one but the histogram types. Tests and fuzz targets hold the two against each other.

#![allow(unreachable_pub, dead_code, reason = "shared by tests and fuzz targets, none of which uses all of it")]

use tsdb_model::histogram::{FloatHistogram, Histogram, Span, is_known_schema, needs_reduction};
use tsdb_model::{CounterResetHint, staleness::STALE_NAN_BITS};

/// What a sample holds; floats by their bits.
#[derive(Debug, Clone)]
pub enum Value {
    /// XOR and XOR2.
    Float(u64),
    /// Integer histograms.
    Histogram(Histogram),
    /// Float histograms.
    FloatHistogram(FloatHistogram),
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Float(a), Self::Float(b)) => a == b,
            (Self::Histogram(a), Self::Histogram(b)) => a.same_bits(b),
            (Self::FloatHistogram(a), Self::FloatHistogram(b)) => a.same_bits(b),
            _ => false,
        }
    }
}

/// One sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Time.
    pub t: i64,
    /// Start timestamp, 0 where there is none.
    pub st: i64,
    /// Value.
    pub value: Value,
}

/// The samples that can be read, and whether they are all that the header promises.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// Sound samples from the front.
    pub samples: Vec<Sample>,
    /// Whether nothing was wrong.
    pub sound: bool,
}

/// Decodes a chunk of an encoding by its stored byte.
pub fn decode(encoding: u8, chunk: &[u8]) -> Decoded {
    let mut samples = Vec::new();
    let sound = decode_into(encoding, chunk, &mut samples).is_some();
    Decoded { samples, sound }
}

fn decode_into(encoding: u8, chunk: &[u8], samples: &mut Vec<Sample>) -> Option<()> {
    let header = if encoding == 1 { 2 } else { 3 };
    if chunk.len() < header {
        return None;
    }
    let bits: Vec<bool> =
        chunk[header..].iter().flat_map(|byte| (0..8).rev().map(move |i| byte >> i & 1 == 1)).collect();
    let mut bits = Bits { bits, pos: 0 };
    let count = usize::from(chunk[0]) * 256 + usize::from(chunk[1]);
    match encoding {
        1 => xor(&mut bits, count, samples),
        4 => xor2(&mut bits, count, chunk[2], samples),
        2 | 3 => histograms(&mut bits, count, chunk[2] >> 6, None, encoding == 3, samples),
        _ => histograms(&mut bits, count % (1 << 14), chunk[0] >> 6, Some(chunk[2]), encoding == 6, samples),
    }
}

struct Bits {
    bits: Vec<bool>,
    pos: usize,
}

impl Bits {
    fn bit(&mut self) -> Option<bool> {
        self.pos += 1;
        self.bits.get(self.pos - 1).copied()
    }

    fn unsigned(&mut self, n: u32) -> Option<u64> {
        (0..n).try_fold(0, |value, _| Some(value << 1 | u64::from(self.bit()?)))
    }

    /// How many ones there are before a zero, at most `most`.
    fn ones(&mut self, most: u32) -> Option<u32> {
        for n in 0..most {
            if !self.bit()? {
                return Some(n);
            }
        }
        Some(most)
    }

    /// n bits, where the pattern 100…0 is positive.
    fn signed(&mut self, n: u32) -> Option<i64> {
        let value = i128::from(self.unsigned(n)?);
        Some(if n < 64 && value > 1 << (n - 1) { value - (1 << n) } else { value } as i64)
    }

    fn uvarint(&mut self) -> Option<u64> {
        let mut value = 0_u128;
        for group in 0..10 {
            let byte = self.unsigned(8)?;
            value |= u128::from(byte & 127) << (7 * group);
            if byte < 128 {
                return u64::try_from(value).ok();
            }
        }
        None
    }

    fn varint(&mut self) -> Option<i64> {
        let value = self.uvarint()?;
        Some(if value % 2 == 0 { (value / 2) as i64 } else { -((value / 2) as i64) - 1 })
    }

    fn varbit_width(&mut self) -> Option<u32> {
        Some([0, 3, 6, 9, 12, 18, 25, 56, 64][self.ones(8)? as usize])
    }

    fn varbit_int(&mut self) -> Option<i64> {
        match self.varbit_width()? {
            0 => Some(0),
            64 => Some(self.unsigned(64)? as i64),
            n => self.signed(n),
        }
    }

    fn varbit_uint(&mut self) -> Option<u64> {
        let n = self.varbit_width()?;
        self.unsigned(n)
    }
}

/// Leading and trailing zeros.
#[derive(Clone, Copy, Default)]
struct Window(u32, u32);

impl Window {
    fn reused(self, bits: &mut Bits) -> Option<u64> {
        Some(bits.unsigned(64 - self.0 - self.1)? << self.1)
    }

    fn fresh(&mut self, bits: &mut Bits) -> Option<u64> {
        let leading = bits.unsigned(5)? as u32;
        let significant = match bits.unsigned(6)? as u32 {
            0 => 64,
            n => n,
        };
        *self = Self(leading, 64_u32.checked_sub(leading + significant)?);
        self.reused(bits)
    }

    /// The XOR with the value before.
    fn xor(&mut self, bits: &mut Bits) -> Option<u64> {
        match bits.ones(2)? {
            0 => Some(0),
            1 => self.reused(bits),
            _ => self.fresh(bits),
        }
    }
}

fn xor(bits: &mut Bits, count: usize, samples: &mut Vec<Sample>) -> Option<()> {
    let (mut t, mut delta, mut value, mut window) = (0_i64, 0_i64, 0, Window::default());
    for n in 0..count {
        match n {
            0 => {
                t = bits.varint()?;
                value = bits.unsigned(64)?;
            }
            _ => {
                if n == 1 {
                    delta = bits.uvarint()? as i64;
                } else {
                    let dod = match bits.ones(4)? {
                        0 => 0,
                        1 => bits.signed(14)?,
                        2 => bits.signed(17)?,
                        3 => bits.signed(20)?,
                        _ => bits.unsigned(64)? as i64,
                    };
                    delta = delta.wrapping_add(dod);
                }
                t = t.wrapping_add(delta);
                value ^= window.xor(bits)?;
            }
        }
        samples.push(Sample { t, st: 0, value: Value::Float(value) });
    }
    Some(())
}

/// Start timestamps: the header, the last one, the last difference.
struct Starts(Option<u8>, i64, i64);

impl Starts {
    fn first(&mut self, bits: &mut Bits, t: i64) -> Option<()> {
        if self.0.is_some_and(|header| header >= 128) {
            self.1 = t.wrapping_sub(bits.varint()?);
        }
        Some(())
    }

    fn next(&mut self, bits: &mut Bits, n: usize, before: i64) -> Option<()> {
        let from = usize::from(self.0.unwrap_or(0) % 128);
        if from > 0 && n >= from {
            let field = bits.varbit_int()?;
            self.2 = if n == from { field } else { self.2.wrapping_add(field) };
            self.1 = before.wrapping_sub(self.2);
        }
        Some(())
    }
}

fn xor2(bits: &mut Bits, count: usize, header: u8, samples: &mut Vec<Sample>) -> Option<()> {
    let (mut t, mut delta, mut baseline, mut window) = (0_i64, 0_i64, 0_u64, Window::default());
    let mut starts = Starts(Some(header), 0, 0);
    for n in 0..count {
        let before = t;
        let value;
        if n == 0 {
            t = bits.varint()?;
            value = bits.unsigned(64)?;
            if value != STALE_NAN_BITS {
                baseline = value;
            }
            starts.first(bits, t)?;
        } else {
            let case = if n == 1 {
                delta = bits.uvarint()? as i64;
                2
            } else {
                let case = bits.ones(5)?;
                let width = [0, 0, 13, 20, 64, 0][case as usize];
                // Two's complement without a twist.
                let dod = bits.unsigned(width)?;
                let dod = if width == 0 { 0 } else { ((dod << (64 - width)) as i64) >> (64 - width) };
                delta = delta.wrapping_add(dod);
                case
            };
            t = t.wrapping_add(delta);
            let changed = match case {
                0 => Some(0),
                1 if bits.bit()? => Some(window.fresh(bits)?),
                1 => Some(window.reused(bits)?),
                5 => None,
                _ => match bits.ones(3)? {
                    0 => Some(0),
                    1 => Some(window.reused(bits)?),
                    2 => Some(window.fresh(bits)?),
                    _ => None,
                },
            };
            baseline ^= changed.unwrap_or(0);
            value = changed.map_or(STALE_NAN_BITS, |_| baseline);
            starts.next(bits, n, before)?;
        }
        samples.push(Sample { t, st: starts.1, value: Value::Float(value) });
    }
    Some(())
}

struct Layout {
    schema: i32,
    zero_threshold: f64,
    spans: [Vec<Span>; 2],
    custom_values: Vec<f64>,
}

fn layout(bits: &mut Bits) -> Option<Layout> {
    let zero_threshold = match bits.unsigned(8)? {
        0 => 0.0,
        255 => f64::from_bits(bits.unsigned(64)?),
        n => 2_f64.powi(n as i32 - 244),
    };
    let schema = i32::try_from(bits.varbit_int()?).ok().filter(|schema| is_known_schema(*schema))?;
    let mut spans = [Vec::new(), Vec::new()];
    for side in &mut spans {
        for _ in 0..bits.varbit_uint()? {
            let length = u32::try_from(bits.varbit_uint()?).ok()?;
            side.push(Span { length, offset: i32::try_from(bits.varbit_int()?).ok()? });
        }
    }
    let mut custom_values = Vec::new();
    if schema == -53 {
        for _ in 0..bits.varbit_uint()? {
            custom_values.push(match bits.varbit_uint()? {
                0 => f64::from_bits(bits.unsigned(64)?),
                n => (n - 1) as f64 / 1000.0,
            });
        }
    }
    Some(Layout { schema, zero_threshold, spans, custom_values })
}

/// A number between two samples: as an integer with its last difference, or as a float's bits with its window.
#[derive(Clone, Copy)]
struct Number {
    value: u64,
    delta: i64,
    window: Window,
}

impl Number {
    fn first(bits: &mut Bits, float: bool, signed: bool) -> Option<Self> {
        let value = match (float, signed) {
            (true, _) => bits.unsigned(64)?,
            (false, true) => bits.varbit_int()? as u64,
            (false, false) => bits.varbit_uint()?,
        };
        Some(Self { value, delta: 0, window: Window::default() })
    }

    fn next(&mut self, bits: &mut Bits, float: bool) -> Option<()> {
        if float {
            self.value ^= self.window.xor(bits)?;
        } else {
            self.delta = self.delta.wrapping_add(bits.varbit_int()?);
            self.value = self.value.wrapping_add(self.delta as u64);
        }
        Some(())
    }
}

fn histograms(
    bits: &mut Bits,
    count: usize,
    reset: u8,
    st: Option<u8>,
    float: bool,
    samples: &mut Vec<Sample>,
) -> Option<()> {
    if count == 0 {
        return Some(());
    }
    let layout = layout(bits)?;
    let lengths = |side: usize| layout.spans[side].iter().map(|span| u64::from(span.length)).sum::<u64>();
    let mut t = bits.varbit_int()?;
    let mut t_delta = 0_i64;
    let mut total = Number::first(bits, float, false)?;
    let mut zero = Number::first(bits, float, false)?;
    let mut sum = Number::first(bits, true, false)?;
    let mut buckets = [Vec::new(), Vec::new()];
    for (side, buckets) in buckets.iter_mut().enumerate() {
        for _ in 0..lengths(side) {
            buckets.push(Number::first(bits, float, true)?);
        }
    }
    let mut starts = Starts(st, 0, 0);
    starts.first(bits, t)?;
    for n in 0..count {
        if n > 0 {
            let before = t;
            t_delta = t_delta.wrapping_add(bits.varbit_int()?);
            t = t.wrapping_add(t_delta);
            total.next(bits, float)?;
            zero.next(bits, float)?;
            sum.next(bits, true)?;
            if sum.value != STALE_NAN_BITS {
                buckets.iter_mut().flatten().try_for_each(|bucket| bucket.next(bits, float))?;
            }
            starts.next(bits, n, before)?;
        }
        let hint = match (reset, n) {
            (3, _) => CounterResetHint::Gauge,
            (_, 0) => CounterResetHint::Unknown,
            _ => CounterResetHint::NotCounterReset,
        };
        let value = build(&layout, hint, total.value, zero.value, sum.value, &buckets, float)?;
        samples.push(Sample { t, st: starts.1, value });
    }
    Some(())
}

fn build(
    layout: &Layout,
    hint: CounterResetHint,
    count: u64,
    zero_count: u64,
    sum: u64,
    buckets: &[Vec<Number>; 2],
    float: bool,
) -> Option<Value> {
    let sum = f64::from_bits(sum);
    let stale = sum.to_bits() == STALE_NAN_BITS;
    if float {
        if stale {
            return Some(Value::FloatHistogram(FloatHistogram { sum, ..FloatHistogram::default() }));
        }
        let [positive_buckets, negative_buckets] =
            buckets.each_ref().map(|side| side.iter().map(|b| f64::from_bits(b.value)).collect());
        let mut histogram = FloatHistogram {
            counter_reset_hint: hint,
            schema: layout.schema,
            zero_threshold: layout.zero_threshold,
            zero_count: f64::from_bits(zero_count),
            count: f64::from_bits(count),
            sum,
            positive_spans: layout.spans[0].clone(),
            negative_spans: layout.spans[1].clone(),
            positive_buckets,
            negative_buckets,
            custom_values: layout.custom_values.clone(),
        };
        if needs_reduction(layout.schema) {
            histogram.reduce_resolution(8).ok()?;
        }
        return Some(Value::FloatHistogram(histogram));
    }
    if stale {
        return Some(Value::Histogram(Histogram { sum, ..Histogram::default() }));
    }
    let [positive_buckets, negative_buckets] =
        buckets.each_ref().map(|side| side.iter().map(|b| b.value as i64).collect());
    let mut histogram = Histogram {
        counter_reset_hint: hint,
        schema: layout.schema,
        zero_threshold: layout.zero_threshold,
        zero_count,
        count,
        sum,
        positive_spans: layout.spans[0].clone(),
        negative_spans: layout.spans[1].clone(),
        positive_buckets,
        negative_buckets,
        custom_values: layout.custom_values.clone(),
    };
    if needs_reduction(layout.schema) {
        histogram.reduce_resolution(8).ok()?;
    }
    Some(Value::Histogram(histogram))
}

/// What the crate's own iterators read, in the same form.
pub fn real(encoding: u8, chunk: &[u8]) -> Decoded {
    use head_chunks::histogram::HistogramIter;
    use head_chunks::xor::XorIter;
    use head_chunks::xor2::Xor2Iter;
    let mut samples = Vec::new();
    let mut put = |t, st, value| samples.push(Sample { t, st, value });
    let result = match encoding {
        1 => XorIter::new(chunk)
            .and_then(|mut all| all.try_for_each(|s| s.map(|(t, v)| put(t, 0, Value::Float(v.to_bits()))))),
        4 => Xor2Iter::new(chunk)
            .and_then(|mut all| all.try_for_each(|s| s.map(|(t, v, st)| put(t, st, Value::Float(v.to_bits()))))),
        2 | 5 => HistogramIter::<i64>::new(encoding == 5, chunk)
            .and_then(|mut all| all.try_for_each(|s| s.map(|(t, h, st)| put(t, st, Value::Histogram(h))))),
        _ => HistogramIter::<f64>::new(encoding == 6, chunk)
            .and_then(|mut all| all.try_for_each(|s| s.map(|(t, h, st)| put(t, st, Value::FloatHistogram(h))))),
    };
    if let Err(error) = result {
        assert_eq!(error.sample as usize, samples.len(), "the error names another sample: {error}");
        assert!(error.bit <= chunk.len() as u64 * 8, "the error names a bit behind the end: {error}");
    }
    visited(encoding, chunk, &samples, &result);
    Decoded { samples, sound: result.is_ok() }
}

/// Whoever visits all samples at once meets the same ones, and the same error.
fn visited(encoding: u8, chunk: &[u8], samples: &[Sample], result: &Result<(), head_chunks::DecodeError>) {
    use head_chunks::histogram::HistogramIter;
    use head_chunks::xor::XorIter;
    use head_chunks::xor2::Xor2Iter;
    let mut met = Vec::new();
    let mut put = |t, st, value| met.push(Sample { t, st, value });
    let visited = match encoding {
        1 => XorIter::new(chunk).and_then(|all| all.visit(|t, v| put(t, 0, Value::Float(v.to_bits())))),
        4 => Xor2Iter::new(chunk).and_then(|all| all.visit(|t, v, st| put(t, st, Value::Float(v.to_bits())))),
        2 | 5 => HistogramIter::<i64>::new(encoding == 5, chunk)
            .and_then(|all| all.visit(|t, h, st| put(t, st, Value::Histogram(h.clone())))),
        _ => HistogramIter::<f64>::new(encoding == 6, chunk)
            .and_then(|all| all.visit(|t, h, st| put(t, st, Value::FloatHistogram(h.clone())))),
    };
    assert_eq!(visited, *result);
    assert_eq!(met, samples);
}
