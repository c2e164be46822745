//! Random batches: mostly what a log holds, often at the edges of it.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngCore};
use tsdb_model::histogram::{CounterResetHint, NativeHistogram, Span};
use tsdb_model::staleness::{NORMAL_NAN_BITS, STALE_NAN_BITS};
use tsdb_model::{FloatHistogram, Histogram, Labels, SeriesRef, varint};
use wal_format::{Kind, MetricType, MmapMarker, OwnedHistogram, Sample, Tombstone, Version, Wire};

use super::batch::{Entries, OwnedExemplar, OwnedMetadata};

pub(super) struct Generator {
    pub(super) rng: StdRng,
}

/// Where a batch's refs and times lie: most batches are like a scrape, some are all over the place.
struct Shape {
    dense: bool,
    base: u64,
    t: i64,
    st: i64,
}

impl Generator {
    pub(super) fn new(rng: StdRng) -> Self {
        Self { rng }
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.rng.random_ratio(1, n)
    }

    /// Any magnitude equally likely, so that varints of every length occur; both ends too.
    pub(super) fn number(&mut self) -> i64 {
        match self.rng.random_range(0..20) {
            0 => i64::MIN,
            1 => i64::MAX,
            _ => self.rng.random::<i64>() >> self.rng.random_range(0..64),
        }
    }

    pub(super) fn float(&mut self) -> f64 {
        match self.rng.random_range(0..12) {
            0 => f64::from_bits(STALE_NAN_BITS),
            1 => f64::from_bits(NORMAL_NAN_BITS),
            2 => f64::from_bits(self.rng.next_u64()),
            3 => *[0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY].choose(&mut self.rng).unwrap_or(&0.0),
            4 => self.number() as f64,
            // Few bits: exact decimals, whose shortest form can be a tie.
            5 => f64::from(self.rng.random_range(1..64u32)) * 2f64.powi(self.rng.random_range(-80..80)),
            _ => f64::from(self.rng.random_range(-1_000_000..1_000_000)) / 1000.0,
        }
    }

    pub(super) fn text(&mut self) -> Vec<u8> {
        const TEXTS: &[&str] = &[
            "",
            "__name__",
            "job",
            "instance",
            "http_requests_total",
            "žluťoučký kůň",
            "a\"b\\c\n",
            "with space",
            "\u{200b}😀",
        ];
        match self.rng.random_range(0..16) {
            0 => {
                let mut bytes = vec![0; self.rng.random_range(0..12)];
                self.rng.fill_bytes(&mut bytes);
                bytes
            }
            1 => vec![b'x'; self.rng.random_range(100..400)],
            _ => TEXTS.choose(&mut self.rng).map_or_else(Vec::new, |text| text.as_bytes().to_vec()),
        }
    }

    /// Pairs in any order, repeated and empty ones among them.
    pub(super) fn labels(&mut self) -> Labels {
        let n = self.rng.random_range(0..7);
        let pairs: Vec<_> = (0..n).map(|_| (self.text(), self.text())).collect();
        if self.rng.random() {
            return Labels::from_pairs(pairs);
        }
        let mut packed = Vec::new();
        for text in pairs.iter().flat_map(|(name, value)| [name, value]) {
            varint::put_uvarint(&mut packed, text.len() as u64);
            packed.extend_from_slice(text);
        }
        Labels::from_packed(&packed).expect("packed by the rules")
    }

    fn shape(&mut self) -> Shape {
        Shape {
            dense: !self.one_in(3),
            base: if self.one_in(4) { self.number() as u64 } else { self.rng.random_range(1..10_000_000) },
            t: if self.one_in(8) { self.number() } else { 1_700_000_000_000 + self.rng.random_range(0..1_000_000_000) },
            st: if self.rng.random() { 0 } else { 1_690_000_000_000 + self.rng.random_range(0..1_000_000) },
        }
    }

    fn series(&mut self, shape: &Shape, i: usize) -> SeriesRef {
        SeriesRef(if shape.dense { shape.base.wrapping_add(i as u64) } else { self.number() as u64 })
    }

    fn stamp(&mut self, shape: &Shape, i: usize) -> (SeriesRef, i64, i64) {
        let t = match self.rng.random_range(0..10) {
            0 => self.number(),
            1..4 => shape.t.wrapping_add(self.rng.random_range(-100_000..100_000)),
            _ => shape.t,
        };
        let st = match self.rng.random_range(0..10) {
            0 => 0,
            1 => self.number(),
            2 => shape.st.wrapping_add(self.rng.random_range(-1000..1000)),
            _ => shape.st,
        };
        (self.series(shape, i), t, st)
    }

    fn len(&mut self) -> usize {
        match self.rng.random_range(0..40) {
            0 => 0,
            1 => 200,
            _ => self.rng.random_range(1..12),
        }
    }

    /// A batch of this kind, in either version.
    pub(super) fn batch(&mut self, kind: Kind) -> (Version, Entries) {
        let version = if self.rng.random() { Version::V1 } else { Version::V2 };
        let shape = self.shape();
        let n = self.len();
        let entries = match kind {
            Kind::Series => Entries::Series((0..n).map(|i| (self.series(&shape, i), self.labels())).collect()),
            Kind::Samples => Entries::Samples((0..n).map(|i| self.sample(&shape, i)).collect()),
            Kind::Histograms => Entries::Histograms(self.histograms(&shape, n.min(12), Self::integer)),
            Kind::FloatHistograms => Entries::FloatHistograms(self.histograms(&shape, n.min(12), Self::floating)),
            Kind::Tombstones => Entries::Tombstones((0..n).map(|i| self.tombstone(&shape, i)).collect()),
            Kind::Exemplars => Entries::Exemplars((0..n).map(|i| self.exemplar(&shape, i)).collect()),
            Kind::Metadata => Entries::Metadata((0..n).map(|i| self.metadata(&shape, i)).collect()),
            Kind::MmapMarkers => Entries::MmapMarkers((0..n).map(|i| self.marker(&shape, i)).collect()),
        };
        (version, entries)
    }

    fn sample(&mut self, shape: &Shape, i: usize) -> Sample {
        let (series, t, st) = self.stamp(shape, i);
        Sample { series, t, v: self.float(), st }
    }

    fn tombstone(&mut self, shape: &Shape, i: usize) -> Tombstone {
        let series = self.series(shape, i);
        if self.one_in(8) {
            return Tombstone { series, mint: i64::MIN, maxt: i64::MAX };
        }
        Tombstone { series, mint: self.number(), maxt: self.number() }
    }

    fn exemplar(&mut self, shape: &Shape, i: usize) -> OwnedExemplar {
        let (series, t, _) = self.stamp(shape, i);
        OwnedExemplar { series, t, v: self.float(), labels: self.labels() }
    }

    fn metadata(&mut self, shape: &Shape, i: usize) -> OwnedMetadata {
        let byte = if self.one_in(8) { self.rng.random() } else { self.rng.random_range(0..8) };
        OwnedMetadata {
            series: self.series(shape, i),
            metric_type: MetricType::from_byte(byte),
            unit: self.text(),
            help: self.text(),
        }
    }

    fn marker(&mut self, shape: &Shape, i: usize) -> MmapMarker {
        MmapMarker { series: self.series(shape, i), chunk: self.number() as u64 }
    }

    fn histograms<B: Wire>(
        &mut self,
        shape: &Shape,
        n: usize,
        one: fn(&mut Self, i32) -> NativeHistogram<B>,
    ) -> Vec<OwnedHistogram<B>> {
        // One layout for the whole batch as often as a mixture: records hold one in V1, and splitting is worth seeing.
        let custom = match self.rng.random_range(0..3) {
            0 => Some(true),
            1 => Some(false),
            _ => None,
        };
        let mut all = Vec::with_capacity(n);
        for i in 0..n {
            let custom = custom.unwrap_or_else(|| self.rng.random());
            let schema = if custom { -53 } else { self.schema() };
            let (series, t, st) = self.stamp(shape, i);
            all.push(OwnedHistogram { series, t, st, histogram: one(self, schema) });
        }
        all
    }

    /// A schema of exponential buckets, now and then one that nobody knows.
    fn schema(&mut self) -> i32 {
        match self.rng.random_range(0..12) {
            0 => self.rng.random_range(-9..=-5),
            1 | 2 => self.rng.random_range(9..=52),
            3 => *[-54, -52, -10, 53, 100, i32::MIN, i32::MAX].choose(&mut self.rng).unwrap_or(&53),
            _ => self.rng.random_range(-4..=8),
        }
    }

    /// Spans for some buckets: fitting together, or (only where no reader looks) anything at all.
    fn spans(&mut self, wild: bool) -> (Vec<Span>, usize) {
        if wild {
            let any = |g: &mut Self| Span { offset: g.number() as i32, length: g.number() as u32 };
            let n = self.rng.random_range(0..4);
            return ((0..n).map(|_| any(self)).collect(), self.rng.random_range(0..6));
        }
        let mut spans = Vec::new();
        let mut buckets = 0;
        for i in 0..self.rng.random_range(0..4) {
            let offset = if i == 0 { self.rng.random_range(-50..50) } else { self.rng.random_range(0..5) };
            let length = self.rng.random_range(0..8);
            spans.push(Span { offset, length });
            buckets += length as usize;
        }
        (spans, buckets)
    }

    fn head<B: Wire>(&mut self, schema: i32, zero_count: B::Count, count: B::Count) -> NativeHistogram<B> {
        let hint = if self.one_in(10) { self.rng.random() } else { self.rng.random_range(0..4) };
        NativeHistogram {
            counter_reset_hint: CounterResetHint::from_byte(hint),
            schema,
            zero_threshold: self.float(),
            zero_count,
            count,
            sum: self.float(),
            ..NativeHistogram::default()
        }
    }

    fn fill<B: Wire>(&mut self, h: &mut NativeHistogram<B>, one: fn(&mut Self) -> B) {
        // A reader reduces these, which it can only if spans and buckets fit.
        let wild = !(9..=52).contains(&h.schema) && self.one_in(6);
        let (spans, buckets) = self.spans(wild);
        h.positive_spans = spans;
        h.positive_buckets = (0..buckets).map(|_| one(self)).collect();
        let (spans, buckets) = self.spans(wild);
        h.negative_spans = spans;
        h.negative_buckets = (0..buckets).map(|_| one(self)).collect();
        if h.uses_custom_buckets() {
            h.custom_values = (0..self.rng.random_range(0..9)).map(|_| self.float()).collect();
        }
    }

    pub(super) fn integer(&mut self, schema: i32) -> Histogram {
        let (zero_count, count) = (self.number() as u64, self.number() as u64);
        let mut h = self.head::<i64>(schema, zero_count, count);
        self.fill(&mut h, |g| if g.one_in(4) { g.number() } else { g.rng.random_range(-50..50) });
        h
    }

    pub(super) fn floating(&mut self, schema: i32) -> FloatHistogram {
        let (zero_count, count) = (self.float(), self.float());
        let mut h = self.head::<f64>(schema, zero_count, count);
        self.fill(&mut h, Self::float);
        h
    }
}
