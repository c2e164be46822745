//! Bytes made to hurt: an error that says where and what, quickly, and no more memory than a small multiple of the input.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use tsdb_model::varint::VarintError;
use wal_format::*;

/// Counts what this thread has allocated, at its peak.
struct Counting;

thread_local! {
    static NOW: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; the counters are plain cells of the calling thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        NOW.set(NOW.get() + layout.size());
        PEAK.set(PEAK.get().max(NOW.get()));
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        NOW.set(NOW.get().saturating_sub(layout.size()));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `work`; returns its result and the most bytes it had allocated at one time.
fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW.get();
    PEAK.set(before);
    let result = work();
    (result, PEAK.get() - before)
}

/// Runs `work`; returns how often it allocated.
fn allocations(work: impl FnOnce()) -> usize {
    let before = CALLS.get();
    work();
    CALLS.get() - before
}

#[track_caller]
fn refused(record: &[u8]) -> DecodeError {
    let (result, bytes) = peak(|| Record::decode(record).map(drop));
    assert!(bytes <= 64 + 32 * record.len(), "{bytes} bytes for {} of input", record.len());
    let error = result.expect_err("hostile bytes were accepted");
    assert_eq!(validate(record), Err(error));
    error
}

/// A count of 2^40 and of 2^64 - 1.
const COUNTS: [(&[u8], u64); 2] = [
    (&[0x80, 0x80, 0x80, 0x80, 0x80, 0x20], 1 << 40),
    (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], u64::MAX),
];

/// Up to its first count, a histogram of all zeros.
fn histogram(tag: u8) -> Vec<u8> {
    let stamps = if tag >= 12 { vec![0; 3] } else { vec![0; 18] };
    let scalars = if tag % 2 == 1 && tag < 11 || tag == 12 || tag == 7 { 8 + 1 + 1 + 8 } else { 8 * 4 };
    [vec![tag], stamps, vec![0, 0], vec![0; scalars]].concat()
}

#[test]
fn fifteen_bytes_that_announce_2_to_the_40_labels() {
    for (count, announced) in COUNTS {
        let record = [&[1, 0, 0, 0, 0, 0, 0, 0, 1], count].concat();
        let expected = Problem::Count { expected: "label pairs", count: announced, remaining: 0 };
        assert_eq!(refused(&record), DecodeError { offset: 9, problem: expected });
    }
}

#[test]
fn forty_five_bytes_that_announce_2_to_the_40_spans_or_buckets() {
    for tag in [7, 8, 9, 10, 12, 13] {
        let start = histogram(tag);
        for (count, announced) in COUNTS {
            // Positive spans, negative spans, positive buckets, negative buckets: empty ones before.
            for (n, expected) in ["spans", "spans", "buckets", "buckets"].into_iter().enumerate() {
                let record = [&start[..], &[0; 3][..n], count].concat();
                let error = refused(&record);
                assert_eq!(error.offset, start.len() + n, "tag {tag}, list {n}");
                assert_eq!(error.problem, Problem::Count { expected, count: announced, remaining: 0 }, "tag {tag}");
            }
        }
    }
}

#[test]
fn custom_values_beyond_the_record() {
    // Schema -53 is 105 as a varint.
    for tag in [9, 10, 12, 13] {
        let mut record = histogram(tag);
        let schema = record.len() - if matches!(tag, 9 | 12) { 18 } else { 32 } - 1;
        record[schema] = 105;
        for (count, announced) in COUNTS {
            let record = [&record[..], &[0; 4], count].concat();
            let problem = refused(&record).problem;
            assert_eq!(problem, Problem::Count { expected: "buckets", count: announced, remaining: 0 }, "tag {tag}");
        }
    }
}

#[test]
fn metadata_with_more_fields_than_bytes() {
    for (count, announced) in COUNTS {
        let record = [&[6, 1, 1], count].concat();
        let expected = Problem::Count { expected: "metadata fields", count: announced, remaining: 0 };
        assert_eq!(refused(&record), DecodeError { offset: 3, problem: expected });
    }
}

#[test]
fn texts_longer_than_the_record() {
    for (length, announced) in COUNTS {
        let label = [&[1, 0, 0, 0, 0, 0, 0, 0, 1, 1], length, b"ab"].concat();
        let expected = Problem::Length { expected: "a label name or value", length: announced, remaining: 2 };
        assert_eq!(refused(&label), DecodeError { offset: 10, problem: expected });

        let field = [&[6, 1, 1, 1], length, b"ab"].concat();
        let expected = Problem::Length { expected: "a field name", length: announced, remaining: 2 };
        assert_eq!(refused(&field), DecodeError { offset: 4, problem: expected });
    }
}

#[test]
fn varints_that_do_not_end_or_are_too_long() {
    let header = [vec![2], vec![0; 16]].concat();
    let error = refused(&[&header[..], &[0xff; 40]].concat());
    assert_eq!(
        error,
        DecodeError { offset: 17, problem: Problem::Varint { expected: "a ref delta", error: VarintError::Overflow } }
    );
    let error = refused(&[&header[..], &[0xff; 4]].concat());
    assert_eq!(
        error,
        DecodeError { offset: 17, problem: Problem::Varint { expected: "a ref delta", error: VarintError::Truncated } }
    );
}

/// A histogram of schema 9 whose spans announce four thousand million buckets: they are counted, not made.
#[test]
fn a_reduction_that_cannot_be() {
    let body = [&[0, 18][..], &[0; 8], &[0, 0], &[0; 8], &[1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 1, 2, 0]].concat();
    let record = [&[7][..], &[0; 18], &body].concat();
    assert!(matches!(refused(&record).problem, Problem::Reduce(_)));
}

/// The reference's own corruption test, kind by kind: a record whose last entry is cut is refused, and the error says where
/// it was cut and what was expected there.
#[test]
fn a_record_cut_within_its_last_entry() {
    let cut = |tag: u8, entry: &[u8]| {
        let record = [&[tag], entry].concat();
        assert!(validate(&record).is_ok(), "{:?}", validate(&record));
        (1..entry.len()).map(|len| refused(&record[..1 + len])).collect::<Vec<_>>()
    };
    let be = |n: u64| n.to_be_bytes();
    let stamp = [be(1), be(1000)].concat();
    let sample = [&stamp[..], &[0, 0], &be(0)].concat();

    let errors = cut(tag::SERIES, &[&be(1)[..], &[1, 1, b'a', 1, b'b']].concat());
    assert_eq!(
        errors[6],
        DecodeError { offset: 1, problem: Problem::Truncated { expected: "a series ref", needed: 8, remaining: 7 } }
    );
    assert_eq!(errors[8].problem, Problem::Count { expected: "label pairs", count: 1, remaining: 0 });
    assert_eq!(errors[11].problem, Problem::Length { expected: "a label name or value", length: 1, remaining: 0 });

    // A header without samples is a record; within header and sample it is none.
    for len in (2..17).chain(18..27) {
        refused(&[&[tag::SAMPLES], &sample[..]].concat()[..len]);
    }
    cut(tag::TOMBSTONES, &[&be(1)[..], &[0x80, 1, 0x80, 1]].concat());
    cut(tag::MMAP_MARKERS, &[be(1), be(1 << 32 | 8)].concat());
    cut(tag::METADATA, &[1, 1, 2, 4, b'U', b'N', b'I', b'T', 0, 4, b'H', b'E', b'L', b'P', 0]);
    for len in (2..17).chain(18..28) {
        refused(&[&[tag::EXEMPLARS][..], &sample, &[0]].concat()[..len]);
    }
    let errors = cut(tag::SAMPLES_V2, &[&[2, 4, 6][..], &be(0)].concat());
    assert_eq!(
        errors[10 - 1],
        DecodeError { offset: 4, problem: Problem::Truncated { expected: "a value", needed: 8, remaining: 7 } }
    );
    for tag in [tag::HISTOGRAMS, tag::FLOAT_HISTOGRAMS] {
        let whole = [histogram(tag), vec![0; 4]].concat();
        assert!(validate(&whole).is_ok());
        for len in (2..17).chain(18..whole.len()) {
            refused(&whole[..len]);
        }
    }
}

/// What comes before a damage is handed over; whoever wants all or nothing asks first, and pays no memory for it.
#[test]
fn entries_before_a_damage() {
    let mut batch = Batch::default();
    batch.samples((0..100).map(|n| Sample { series: n.into(), t: 0, v: 1.0, st: 0 }));
    let record = batch.records().next().expect("one record");
    let damaged = &record[..record.len() - 1];
    let batch = SampleBatch::new(damaged).expect("a tag");
    assert_eq!(batch.iter().take_while(Result::is_ok).count(), 99);
    assert_eq!(batch.iter().filter(Result::is_err).count(), 1, "one error, then the end");
    let mut handed = 0;
    let error = batch.for_each(|_| handed += 1).expect_err("cut");
    assert_eq!((handed, error.offset), (99, damaged.len() - 7));
    let ((), bytes) = peak(|| assert_eq!(batch.validate(), Err(error)));
    assert_eq!(bytes, 0);
}

/// Random bytes behind every tag: no panic, little memory, checking and decoding agree.
#[test]
fn random_bytes() {
    use proptest::strategy::{Strategy, ValueTree};
    use proptest::test_runner::{Config, TestRunner};
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        proptest::test_runner::TestRng::deterministic_rng(Default::default()),
    );
    let bytes = proptest::collection::vec(proptest::prop_oneof![0u8..8, proptest::prelude::any::<u8>()], 0..200);
    let (mut accepted, mut rejected) = (0, 0);
    for round in 0..20_000u32 {
        let mut record = bytes.new_tree(&mut runner).expect("bytes").current();
        record.insert(0, (round % 15) as u8);
        let (decoded, peak) = peak(|| Record::decode(&record).map(|record| record.len()));
        assert!(peak <= 64 + 32 * record.len(), "{peak} bytes for {record:02x?}");
        match (decoded, validate(&record)) {
            (Ok(entries), Ok(checked)) => assert_eq!(entries, checked.entries),
            (Err(decoded), Err(checked)) => assert_eq!(decoded, checked),
            (decoded, checked) => panic!("{decoded:?}, {checked:?}: {record:02x?}"),
        }
        if decoded.is_ok() { accepted += 1 } else { rejected += 1 }
    }
    assert!(accepted > 500 && rejected > 500, "{accepted} accepted, {rejected} rejected");
}

/// Nothing is allocated for an entry, neither on the way in nor on the way out, once buffers have grown.
#[test]
fn no_allocation_per_entry() {
    use tsdb_model::{FloatHistogram, Histogram, Labels, Span};
    let labels = Labels::from_pairs([("__name__", "up"), ("job", "node")]);
    let integer = Histogram {
        schema: 1,
        positive_spans: vec![Span { offset: 0, length: 3 }],
        positive_buckets: vec![1, 2, 3],
        ..Histogram::default()
    };
    let float = integer.to_float();
    let fill = |batch: &mut Batch| {
        let refs = || (1..500u64).map(tsdb_model::SeriesRef);
        batch.series(refs().map(|series| Series { series, labels: labels.pairs() }));
        batch.samples(refs().map(|series| Sample { series, t: 1000 + series.0 as i64, v: 0.5, st: 9 }));
        batch.histograms(refs().map(|series| HistogramSample { series, t: 1, st: 2, histogram: &integer }));
        batch.float_histograms(refs().map(|series| FloatHistogramSample { series, t: 1, st: 2, histogram: &float }));
        batch.tombstones(refs().map(|series| Tombstone { series, mint: 1, maxt: 2 }));
        batch.exemplars(refs().map(|series| Exemplar { series, t: 1, v: 0.5, labels: labels.pairs() }));
        batch.metadata(refs().map(|series| Metadata {
            series,
            metric_type: MetricType::Gauge,
            unit: b"s",
            help: b"h",
        }));
        batch.mmap_markers(refs().map(|series| MmapMarker { series, chunk: 8 }));
    };
    for version in [Version::V1, Version::V2] {
        let mut batch = Batch::new(version);
        fill(&mut batch);
        let again = allocations(|| {
            batch.clear();
            fill(&mut batch);
        });
        assert_eq!(again, 0, "encoding {version:?}");

        let mut sink = Drain::default();
        batch.records().for_each(|record| dispatch(record, &mut sink).expect("just encoded"));
        sink.entries = 0;
        let decoding = allocations(|| {
            batch.records().for_each(|record| dispatch(record, &mut sink).expect("just encoded"));
            batch.records().for_each(|record| assert_eq!(validate(record).expect("just encoded").entries, 499));
        });
        assert_eq!((decoding, sink.entries), (0, 499 * 11), "decoding {version:?}");
    }

    /// Goes through every entry, samples and histograms both ways.
    #[derive(Default)]
    struct Drain {
        entries: usize,
        integer: Histogram,
        float: FloatHistogram,
    }

    macro_rules! drain {
        ($($method:ident: $Batch:ident),*) => {
            $(fn $method(&mut self, batch: $Batch<'_>) -> Result<(), DecodeError> {
                for entry in batch {
                    entry?;
                    self.entries += 1;
                }
                Ok(())
            })*
        };
    }

    impl RecordSink for Drain {
        type Error = DecodeError;

        drain!(series: SeriesBatch, tombstones: TombstoneBatch, exemplars: ExemplarBatch, metadata: MetadataBatch, mmap_markers: MmapMarkerBatch);

        fn samples(&mut self, batch: SampleBatch<'_>) -> Result<(), DecodeError> {
            batch.for_each(|_| self.entries += 1)?;
            self.entries += batch.iter().filter(Result::is_ok).count();
            Ok(())
        }

        fn histograms(&mut self, batch: HistogramBatch<'_>) -> Result<(), DecodeError> {
            self.entries += batch.for_each(&mut self.integer, |_, _, _, _| {})?.entries;
            for entry in batch {
                entry?.histogram.decode_into(&mut self.integer);
                self.entries += 1;
            }
            Ok(())
        }

        fn float_histograms(&mut self, batch: FloatHistogramBatch<'_>) -> Result<(), DecodeError> {
            self.entries += batch.for_each(&mut self.float, |_, _, _, _| {})?.entries;
            for entry in batch {
                entry?.histogram.decode_into(&mut self.float);
                self.entries += 1;
            }
            Ok(())
        }

        fn unknown(&mut self, _: Option<u8>, _: &[u8]) -> Result<(), DecodeError> {
            Ok(())
        }
    }
}
