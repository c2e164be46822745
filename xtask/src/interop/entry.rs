//! What belongs to a series, in the form both sides exchange it (`interop/entry.go` has the layout).

use anyhow::{Result, bail};
use tsdb_model::histogram::{CounterResetHint, FloatHistogram, Histogram, Span};
use tsdb_model::labels::Labels;

use super::wire::{WireReader, WireWriter};

/// One thing that belongs to a series: what an appender takes, and what a dump gives.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) labels: Labels,
    /// Time, ms since the epoch.
    pub(crate) t: i64,
    /// Start timestamp, ms since the epoch, 0 = none.
    pub(crate) st: i64,
    pub(crate) value: Value,
}

/// What an entry holds.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Float(f64),
    Histogram(Histogram),
    FloatHistogram(FloatHistogram),
    Exemplar { value: f64, labels: Labels },
    Metadata { kind: Vec<u8>, unit: Vec<u8>, help: Vec<u8> },
}

/// Equal is equal bit by bit: NaN payloads, the sign of zero, hints and span layouts included.
impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        let mut bytes = [WireWriter::default(), WireWriter::default()];
        bytes[0].entry(self);
        bytes[1].entry(other);
        bytes[0].0 == bytes[1].0
    }
}

impl Entry {
    /// A float sample.
    pub(crate) fn float(labels: Labels, t: i64, v: f64) -> Self {
        Self { labels, t, st: 0, value: Value::Float(v) }
    }
}

/// A payload of entries.
pub(crate) fn encode<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<u8> {
    let mut writer = WireWriter::default();
    entries.into_iter().for_each(|entry| writer.entry(entry));
    writer.0
}

/// The entries of a payload.
pub(crate) fn decode(payload: &[u8]) -> Result<Vec<Entry>> {
    let mut reader = WireReader(payload);
    let mut entries = Vec::new();
    while reader.more() {
        entries.push(reader.entry()?);
    }
    Ok(entries)
}

impl WireReader<'_> {
    pub(crate) fn entry(&mut self) -> Result<Entry> {
        let kind = self.u8()?;
        let (labels, t, st) = (self.labels()?, self.i64()?, self.i64()?);
        let value = match kind {
            0 => Value::Float(self.f64()?),
            1 => Value::Histogram(self.histogram()?),
            2 => Value::FloatHistogram(self.float_histogram()?),
            3 => Value::Exemplar { value: self.f64()?, labels: self.labels()? },
            4 => Value::Metadata { kind: self.item()?.into(), unit: self.item()?.into(), help: self.item()?.into() },
            other => bail!("no such kind of entry: {other}"),
        };
        Ok(Entry { labels, t, st, value })
    }

    /// A label set: count, then name and value of each.
    pub(crate) fn labels(&mut self) -> Result<Labels> {
        let pairs = self.list(|reader| Ok((reader.item()?, reader.item()?)))?;
        Ok(Labels::from_pairs(pairs))
    }

    fn list<T>(&mut self, mut one: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        (0..self.u32()?).map(|_| one(self)).collect()
    }

    fn spans(&mut self) -> Result<Vec<Span>> {
        self.list(|reader| Ok(Span { offset: reader.i32()?, length: reader.u32()? }))
    }

    pub(crate) fn histogram(&mut self) -> Result<Histogram> {
        Ok(Histogram {
            counter_reset_hint: CounterResetHint::from_byte(self.u8()?),
            schema: self.i32()?,
            zero_threshold: self.f64()?,
            zero_count: self.u64()?,
            count: self.u64()?,
            sum: self.f64()?,
            positive_spans: self.spans()?,
            negative_spans: self.spans()?,
            positive_buckets: self.list(Self::i64)?,
            negative_buckets: self.list(Self::i64)?,
            custom_values: self.list(Self::f64)?,
        })
    }

    pub(crate) fn float_histogram(&mut self) -> Result<FloatHistogram> {
        Ok(FloatHistogram {
            counter_reset_hint: CounterResetHint::from_byte(self.u8()?),
            schema: self.i32()?,
            zero_threshold: self.f64()?,
            zero_count: self.f64()?,
            count: self.f64()?,
            sum: self.f64()?,
            positive_spans: self.spans()?,
            negative_spans: self.spans()?,
            positive_buckets: self.list(Self::f64)?,
            negative_buckets: self.list(Self::f64)?,
            custom_values: self.list(Self::f64)?,
        })
    }
}

impl WireWriter {
    pub(crate) fn entry(&mut self, entry: &Entry) {
        self.u8(match &entry.value {
            Value::Float(_) => 0,
            Value::Histogram(_) => 1,
            Value::FloatHistogram(_) => 2,
            Value::Exemplar { .. } => 3,
            Value::Metadata { .. } => 4,
        });
        self.labels(&entry.labels);
        self.i64(entry.t);
        self.i64(entry.st);
        match &entry.value {
            Value::Float(v) => self.f64(*v),
            Value::Histogram(h) => self.histogram(h),
            Value::FloatHistogram(h) => self.float_histogram(h),
            Value::Exemplar { value, labels } => {
                self.f64(*value);
                self.labels(labels);
            }
            Value::Metadata { kind, unit, help } => [kind, unit, help].into_iter().for_each(|text| self.item(text)),
        }
    }

    /// A label set: count, then name and value of each.
    pub(crate) fn labels(&mut self, labels: &Labels) {
        let pairs: Vec<_> = labels.iter().collect();
        self.list(&pairs, |writer, (name, value)| {
            writer.item(name);
            writer.item(value);
        });
    }

    fn list<T: Copy>(&mut self, all: &[T], mut one: impl FnMut(&mut Self, T)) {
        self.u32(u32::try_from(all.len()).expect("a list is shorter than 2^32"));
        all.iter().for_each(|each| one(self, *each));
    }

    fn spans(&mut self, spans: &[Span]) {
        self.list(spans, |writer, span| {
            writer.i32(span.offset);
            writer.u32(span.length);
        });
    }

    pub(crate) fn histogram(&mut self, h: &Histogram) {
        self.u8(h.counter_reset_hint.to_byte());
        self.i32(h.schema);
        self.f64(h.zero_threshold);
        self.u64(h.zero_count);
        self.u64(h.count);
        self.f64(h.sum);
        self.spans(&h.positive_spans);
        self.spans(&h.negative_spans);
        self.list(&h.positive_buckets, Self::i64);
        self.list(&h.negative_buckets, Self::i64);
        self.list(&h.custom_values, Self::f64);
    }

    pub(crate) fn float_histogram(&mut self, h: &FloatHistogram) {
        self.u8(h.counter_reset_hint.to_byte());
        self.i32(h.schema);
        self.f64(h.zero_threshold);
        self.f64(h.zero_count);
        self.f64(h.count);
        self.f64(h.sum);
        self.spans(&h.positive_spans);
        self.spans(&h.negative_spans);
        self.list(&h.positive_buckets, Self::f64);
        self.list(&h.negative_buckets, Self::f64);
        self.list(&h.custom_values, Self::f64);
    }
}
