//! The JSON and text form of every record.
#![cfg(feature = "serde")]

use tsdb_model::{CounterResetHint, Histogram, Labels, SeriesRef, Span};
use wal_format::*;

const ONE: SeriesRef = SeriesRef(1);

fn histogram() -> Histogram {
    Histogram {
        counter_reset_hint: CounterResetHint::Gauge,
        zero_threshold: 0.001,
        count: 3,
        sum: 1.5,
        positive_spans: vec![Span { offset: 0, length: 2 }],
        positive_buckets: vec![1, 1],
        ..Histogram::default()
    }
}

#[track_caller]
fn check(fill: impl FnOnce(&mut Batch), json: &str, text: &str) {
    let mut batch = Batch::new(Version::V2);
    fill(&mut batch);
    let record = Record::decode(batch.records().next().unwrap()).unwrap();
    assert_eq!(serde_json::to_string(&record).unwrap(), json);
    assert_eq!(record.to_string(), text);
}

#[test]
fn series() {
    let stored = Labels::from_packed(&[1, b'b', 1, b'2', 1, b'a', 1, 0xff, 1, b'b', 0]).unwrap();
    check(
        |batch| batch.series([Series { series: ONE, labels: stored.pairs() }]),
        "{\"tag\":1,\"kind\":\"series\",\"series\":[{\"ref\":1,\"labels\":{\"b\":\"2\",\"a\":\"\u{fffd}\",\"b\":\"\"},\"lossy\":true}]}",
        "series (tag 1): 1 entry\n  ref=1 {b=\"2\", a=\"\\xff\", b=\"\"}\n",
    );
}

#[test]
fn samples() {
    let stale = tsdb_model::staleness::stale_nan();
    check(
        |batch| {
            batch.samples([
                Sample { series: ONE, t: 123, v: 1.5, st: 0 },
                Sample { series: ONE, t: 124, v: -0.0, st: 7 },
                Sample { series: ONE, t: 125, v: stale, st: 7 },
                Sample { series: ONE, t: 126, v: f64::INFINITY, st: 0 },
            ]);
        },
        r#"{"tag":11,"kind":"samples","samples":[{"ref":1,"t":123,"v":1.5},{"ref":1,"t":124,"st":7,"v":-0.0},{"ref":1,"t":125,"st":7,"v":"stale"},{"ref":1,"t":126,"v":"+Inf"}]}"#,
        "samples (tag 11): 4 entries\n  ref=1 t=123 v=1.5\n  ref=1 t=124 v=-0 st=7\n  ref=1 t=125 v=stale st=7\n  ref=1 t=126 v=+Inf\n",
    );
}

#[test]
fn tombstones() {
    check(
        |batch| batch.tombstones([Tombstone { series: ONE, mint: 0, maxt: 9 }]),
        r#"{"tag":3,"kind":"tombstones","tombstones":[{"ref":1,"mint":0,"maxt":9}]}"#,
        "tombstones (tag 3): 1 entry\n  ref=1 mint=0 maxt=9\n",
    );
}

#[test]
fn exemplars() {
    let labels = Labels::from_pairs([("trace_id", "a")]);
    check(
        |batch| batch.exemplars([Exemplar { series: ONE, t: 1, v: 2.0, labels: labels.pairs() }]),
        r#"{"tag":4,"kind":"exemplars","exemplars":[{"ref":1,"t":1,"v":2.0,"labels":{"trace_id":"a"}}]}"#,
        "exemplars (tag 4): 1 entry\n  ref=1 t=1 v=2 {trace_id=\"a\"}\n",
    );
}

#[test]
fn mmap_markers() {
    check(
        |batch| batch.mmap_markers([MmapMarker { series: ONE, chunk: 1 << 32 | 8 }]),
        r#"{"tag":5,"kind":"mmap_markers","markers":[{"ref":1,"file":1,"offset":8}]}"#,
        "mmap_markers (tag 5): 1 entry\n  ref=1 file=1 offset=8\n",
    );
}

#[test]
fn metadata() {
    check(
        |batch| {
            batch.metadata([
                Metadata { series: ONE, metric_type: MetricType::Counter, unit: b"", help: b"a \"b\"" },
                Metadata { series: ONE, metric_type: MetricType::Other(9), unit: b"s", help: b"\xff" },
            ]);
        },
        "{\"tag\":6,\"kind\":\"metadata\",\"metadata\":[{\"ref\":1,\"type\":\"counter\",\"unit\":\"\",\"help\":\"a \\\"b\\\"\"},{\"ref\":1,\"type\":\"unknown\",\"unit\":\"s\",\"help\":\"\u{fffd}\",\"lossy\":true}]}",
        "metadata (tag 6): 2 entries\n  ref=1 type=counter unit=\"\" help=\"a \\\"b\\\"\"\n  ref=1 type=unknown unit=\"s\" help=\"\\xff\"\n",
    );
}

#[test]
fn histograms() {
    let histogram = histogram();
    check(
        |batch| batch.histograms([HistogramSample { series: ONE, t: 1, st: 5, histogram: &histogram }]),
        r#"{"tag":12,"kind":"histograms","histograms":[{"ref":1,"t":1,"st":5,"h":{"reset_hint":3,"schema":0,"zero_threshold":0.001,"zero_count":0,"count":3,"sum":1.5,"positive_spans":[[0,2]],"negative_spans":[],"positive_buckets":[1,1],"negative_buckets":[],"custom_values":[]}}]}"#,
        "histograms (tag 12): 1 entry\n  ref=1 t=1 {count:3, sum:1.5, (0.5,1]:1, (1,2]:2} st=5\n",
    );
}

#[test]
fn float_histograms() {
    let histogram = histogram().to_float();
    check(
        |batch| batch.float_histograms([FloatHistogramSample { series: ONE, t: 1, st: 0, histogram: &histogram }]),
        r#"{"tag":13,"kind":"float_histograms","histograms":[{"ref":1,"t":1,"h":{"reset_hint":3,"schema":0,"zero_threshold":0.001,"zero_count":0.0,"count":3.0,"sum":1.5,"positive_spans":[[0,2]],"negative_spans":[],"positive_buckets":[1.0,2.0],"negative_buckets":[],"custom_values":[]}}]}"#,
        "float_histograms (tag 13): 1 entry\n  ref=1 t=1 {count:3, sum:1.5, (0.5,1]:1, (1,2]:2}\n",
    );
}

#[test]
fn unknown_and_empty() {
    check(|batch| batch.raw(&[99, 1, 2]), r#"{"tag":99,"kind":"unknown","bytes":3}"#, "unknown (tag 99): 3 bytes\n");
    check(|batch| batch.raw(&[]), r#"{"tag":null,"kind":"unknown","bytes":0}"#, "unknown (no tag): 0 bytes\n");
}

#[test]
fn entries_can_be_filtered() {
    let mut batch = Batch::default();
    batch.samples((0..10).map(|n| Sample { series: SeriesRef(n % 2), t: n as i64, v: 0.0, st: 0 }));
    let mut record = Record::decode(batch.records().next().unwrap()).unwrap();
    record.retain(|series, range| series == ONE && range.is_some_and(|(first, _)| first > 4));
    assert_eq!(record.to_string(), "samples (tag 2): 3 entries\n  ref=1 t=5 v=0\n  ref=1 t=7 v=0\n  ref=1 t=9 v=0\n");
}
