//! Any bytes as a record: no panic, all ways to read it agree, and memory stays a small multiple of the input (libFuzzer's
//! limit would catch an allocation by an unchecked count).
#![no_main]

use libfuzzer_sys::fuzz_target;
use tsdb_model::{FloatHistogram, Histogram};
use wal_format::{FloatHistogramBatch, HistogramBatch, Record, RecordEntries, Sample, SampleBatch, validate};

fn bits(s: &Sample) -> (u64, i64, u64, i64) {
    (s.series.0, s.t, s.v.to_bits(), s.st)
}

/// What iterating yields before a damage is what the bulk decoder hands over before it, and they end alike.
fn samples(batch: &SampleBatch<'_>) {
    let mut handed = Vec::new();
    let end = batch.for_each(|sample| handed.push(bits(&sample)));
    let mut items = batch.iter();
    for expected in &handed {
        assert_eq!(items.next().map(|s| s.map(|s| bits(&s))), Some(Ok(*expected)));
    }
    assert_eq!(items.next().map(|s| s.map(|s| bits(&s))), end.err().map(Err));
    assert!(items.next().is_none());
    assert!(handed.len() <= batch.max_len());
}

macro_rules! histograms {
    ($name:ident, $Batch:ident, $Histogram:ident) => {
        fn $name(batch: &$Batch<'_>) {
            let mut handed = Vec::new();
            let end = batch.for_each(&mut $Histogram::default(), |series, t, st, h| {
                handed.push((series, t, st, h.clone()));
            });
            let mut items = batch.iter();
            for (series, t, st, h) in &handed {
                let entry = items.next().expect("as many").expect("no damage yet");
                assert_eq!((entry.series, entry.t, entry.st), (*series, *t, *st));
                assert!(entry.histogram.to_histogram().same_bits(h));
            }
            match end {
                Ok(checked) => {
                    assert!(items.next().is_none());
                    assert_eq!((checked.entries, checked.skipped), (handed.len(), items.skipped()));
                }
                Err(error) => assert_eq!(items.next().map(|entry| entry.err()), Some(Some(error))),
            }
        }
    };
}

histograms!(integer, HistogramBatch, Histogram);
histograms!(floating, FloatHistogramBatch, FloatHistogram);

fuzz_target!(|input: &[u8]| {
    let decoded = Record::decode(input);
    match (&decoded, validate(input)) {
        (Ok(record), Ok(checked)) => {
            assert_eq!((record.len(), record.skipped), (checked.entries, checked.skipped));
            assert!(record.to_string().len() >= record.len());
            if let RecordEntries::Series(series) = &record.entries {
                for entry in series {
                    assert_eq!(entry.labels.to_labels().pairs(), entry.labels);
                }
            }
        }
        (Err(decoded), Err(checked)) => {
            assert_eq!(*decoded, checked);
            assert!(checked.offset <= input.len());
        }
        (decoded, checked) => panic!("{decoded:?}, {checked:?}"),
    }
    if let Ok(batch) = SampleBatch::new(input) {
        samples(&batch);
    }
    if let Ok(batch) = HistogramBatch::new(input) {
        integer(&batch);
    }
    if let Ok(batch) = FloatHistogramBatch::new(input) {
        floating(&batch);
    }
});
