//! Whatever is encoded decodes to equal values, for every kind and version, with the borrowed and the bulk decoder alike.

use proptest::collection::vec;
use proptest::prelude::*;
use tsdb_model::histogram::{BucketValue, CounterResetHint, NativeHistogram};
use tsdb_model::{FloatHistogram, Histogram, LabelPairs, Labels, SeriesRef, Span};
use wal_format::*;

/// Any magnitude equally likely, so that varints of every length occur.
fn number() -> impl Strategy<Value = i64> {
    prop_oneof![
        (any::<i64>(), 0u32..64).prop_map(|(value, shift)| value >> shift),
        Just(0),
        Just(i64::MIN),
        Just(i64::MAX)
    ]
}

fn series_ref() -> impl Strategy<Value = SeriesRef> {
    number().prop_map(|n| SeriesRef(n as u64))
}

fn float() -> impl Strategy<Value = f64> {
    prop_oneof![any::<u64>().prop_map(f64::from_bits), Just(tsdb_model::staleness::stale_nan()), Just(-0.0)]
}

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V1), Just(Version::V2)]
}

fn sample() -> impl Strategy<Value = Sample> {
    (series_ref(), number(), float(), prop_oneof![Just(0), Just(7), number()]).prop_map(|(series, t, v, st)| Sample {
        series,
        t,
        v,
        st,
    })
}

fn spans() -> impl Strategy<Value = Vec<Span>> {
    vec((any::<i32>(), any::<u32>()).prop_map(|(offset, length)| Span { offset, length }), 0..4)
}

fn histogram<B: BucketValue, C: Strategy<Value = B::Count>, V: Strategy<Value = B>>(
    count: fn() -> C,
    bucket: fn() -> V,
) -> impl Strategy<Value = NativeHistogram<B>> {
    let head = (any::<u8>(), prop_oneof![-9i32..=8, Just(-53)], float(), count(), count(), float());
    let rest = (spans(), spans(), vec(bucket(), 0..20), vec(bucket(), 0..4), vec(float(), 0..4));
    (head, rest).prop_map(|((hint, schema, zero_threshold, zero_count, count, sum), rest)| {
        let (positive_spans, negative_spans, positive_buckets, negative_buckets, custom_values) = rest;
        NativeHistogram {
            counter_reset_hint: CounterResetHint::from_byte(hint),
            schema,
            zero_threshold,
            zero_count,
            count,
            sum,
            positive_spans,
            negative_spans,
            positive_buckets,
            negative_buckets,
            custom_values: if schema == -53 { custom_values } else { Vec::new() },
        }
    })
}

type Stamped<H> = (SeriesRef, i64, i64, H);

fn stamped<H: std::fmt::Debug>(histogram: impl Strategy<Value = H>) -> impl Strategy<Value = Stamped<H>> {
    (series_ref(), number(), prop_oneof![Just(0), Just(7), number()], histogram)
}

fn integer() -> impl Strategy<Value = Histogram> {
    histogram::<i64, _, _>(|| number().prop_map(|n| n as u64), number)
}

fn floating() -> impl Strategy<Value = FloatHistogram> {
    histogram::<f64, _, _>(float, float)
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..6), vec(b'a'..b'c', 120..200)]
}

/// Pairs as a log can hold them: unsorted, repeated, empty, not UTF-8.
fn labels() -> impl Strategy<Value = Labels> {
    vec((text(), text()), 0..5).prop_map(|pairs| {
        let mut packed = Vec::new();
        for part in pairs.iter().flat_map(|(name, value)| [name, value]) {
            varint::put_uvarint(&mut packed, part.len() as u64);
            packed.extend_from_slice(part);
        }
        Labels::from_packed(&packed).unwrap()
    })
}

fn bits(sample: &Sample) -> (u64, i64, u64, i64) {
    (sample.series.0, sample.t, sample.v.to_bits(), sample.st)
}

fn one_record(batch: &Batch) -> &[u8] {
    assert_eq!(batch.len(), 1);
    batch.records().next().unwrap()
}

/// What encoding `histograms` makes of them: order and start timestamps change in V1.
fn expected<B: BucketValue>(
    version: Version,
    histograms: &[Stamped<NativeHistogram<B>>],
) -> Vec<Stamped<NativeHistogram<B>>> {
    match version {
        Version::V2 => histograms.to_vec(),
        Version::V1 => {
            let (custom, exponential): (Vec<_>, Vec<_>) =
                histograms.iter().cloned().map(|(s, t, _, h)| (s, t, 0, h)).partition(|h| h.3.uses_custom_buckets());
            exponential.into_iter().chain(custom).collect()
        }
    }
}

fn assert_same<B: BucketValue>(actual: &[Stamped<NativeHistogram<B>>], expected: &[Stamped<NativeHistogram<B>>]) {
    assert_eq!(actual.len(), expected.len());
    for (a, e) in actual.iter().zip(expected) {
        assert_eq!((a.0, a.1, a.2), (e.0, e.1, e.2));
        assert!(a.3.same_bits(&e.3), "{:?}\n{:?}", a.3, e.3);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn samples(version in version(), samples in vec(sample(), 0..40)) {
        let mut batch = Batch::new(version);
        batch.samples(samples.iter().copied());
        let record = SampleBatch::new(one_record(&batch)).unwrap();
        let expected: Vec<_> = samples
            .iter()
            .map(|s| bits(&Sample { st: if version == Version::V1 { 0 } else { s.st }, ..*s }))
            .collect();

        let iterated: Vec<_> = record.iter().map(|s| bits(&s.unwrap())).collect();
        prop_assert_eq!(&iterated, &expected);
        let mut handed = Vec::new();
        record.for_each(|s| handed.push(bits(&s))).unwrap();
        prop_assert_eq!(&handed, &expected);
        prop_assert_eq!(record.validate().unwrap().entries, samples.len());
        prop_assert!(record.max_len() >= samples.len());
    }

    #[test]
    fn histograms(version in version(), histograms in vec(stamped(integer()), 0..12)) {
        let mut batch = Batch::new(version);
        batch.histograms(histograms.iter().map(|(series, t, st, h)| HistogramSample { series: *series, t: *t, st: *st, histogram: h }));
        let (mut iterated, mut handed) = (Vec::new(), Vec::new());
        let mut scratch = Histogram::default();
        for record in batch.records() {
            let record = HistogramBatch::new(record).unwrap();
            iterated.extend(record.iter().map(|e| e.unwrap()).map(|e| (e.series, e.t, e.st, e.histogram.to_histogram())));
            record.for_each(&mut scratch, |series, t, st, h| handed.push((series, t, st, h.clone()))).unwrap();
        }
        let expected = expected(version, &histograms);
        assert_same(&iterated, &expected);
        assert_same(&handed, &expected);
    }

    #[test]
    fn float_histograms(version in version(), histograms in vec(stamped(floating()), 0..12)) {
        let mut batch = Batch::new(version);
        batch.float_histograms(histograms.iter().map(|(series, t, st, h)| FloatHistogramSample { series: *series, t: *t, st: *st, histogram: h }));
        let (mut iterated, mut handed) = (Vec::new(), Vec::new());
        let mut scratch = FloatHistogram::default();
        for record in batch.records() {
            let record = FloatHistogramBatch::new(record).unwrap();
            iterated.extend(record.iter().map(|e| e.unwrap()).map(|e| (e.series, e.t, e.st, e.histogram.to_histogram())));
            record.for_each(&mut scratch, |series, t, st, h| handed.push((series, t, st, h.clone()))).unwrap();
        }
        let expected = expected(version, &histograms);
        assert_same(&iterated, &expected);
        assert_same(&handed, &expected);
    }

    #[test]
    fn series(series in vec((series_ref(), labels()), 0..8)) {
        let mut batch = Batch::default();
        batch.series(series.iter().map(|(series, labels)| Series { series: *series, labels: labels.pairs() }));
        let decoded: Vec<_> = SeriesBatch::new(one_record(&batch)).unwrap().iter()
            .map(|s| s.unwrap()).map(|s| (s.series, s.labels.to_labels())).collect();
        prop_assert_eq!(decoded, series);
    }

    #[test]
    fn exemplars(exemplars in vec((series_ref(), number(), float(), labels()), 0..8)) {
        let mut batch = Batch::default();
        batch.exemplars(exemplars.iter().map(|(series, t, v, labels)| Exemplar { series: *series, t: *t, v: *v, labels: labels.pairs() }));
        let decoded: Vec<_> = ExemplarBatch::new(one_record(&batch)).unwrap().iter()
            .map(|e| e.unwrap()).map(|e| (e.series, e.t, e.v.to_bits(), e.labels.to_labels())).collect();
        let expected: Vec<_> = exemplars.into_iter().map(|(series, t, v, labels)| (series, t, v.to_bits(), labels)).collect();
        prop_assert_eq!(decoded, expected);
    }

    #[test]
    fn small_kinds(rows in vec((series_ref(), number(), number()), 0..8), metadata in vec((series_ref(), any::<u8>(), text(), text()), 0..8)) {
        let tombstones: Vec<_> = rows.iter().map(|(series, mint, maxt)| Tombstone { series: *series, mint: *mint, maxt: *maxt }).collect();
        let markers: Vec<_> = rows.iter().map(|(series, chunk, _)| MmapMarker { series: *series, chunk: *chunk as u64 }).collect();
        let metadata: Vec<_> = metadata.iter().map(|(series, byte, unit, help)| Metadata {
            series: *series, metric_type: MetricType::from_byte(*byte), unit, help,
        }).collect();
        let mut batch = Batch::default();
        batch.tombstones(tombstones.iter().copied());
        batch.mmap_markers(markers.iter().copied());
        batch.metadata(metadata.iter().copied());
        let records: Vec<_> = batch.records().collect();
        prop_assert_eq!(TombstoneBatch::new(records[0]).unwrap().iter().collect::<Result<Vec<_>, _>>().unwrap(), tombstones);
        prop_assert_eq!(MmapMarkerBatch::new(records[1]).unwrap().iter().collect::<Result<Vec<_>, _>>().unwrap(), markers);
        prop_assert_eq!(MetadataBatch::new(records[2]).unwrap().iter().collect::<Result<Vec<_>, _>>().unwrap(), metadata);
    }
}

#[test]
fn labels_written_with_needlessly_long_lengths_come_out_short() {
    let stored = [1, 0x81, 0x00, b'a', 1, b'b'];
    let (pairs, used) = LabelPairs::read(&stored).unwrap();
    assert_eq!(used, stored.len());
    let mut batch = Batch::default();
    batch.series([Series { series: SeriesRef(1), labels: pairs }]);
    assert_eq!(one_record(&batch)[9..], [1, 1, b'a', 1, b'b']);
}
