//! Records of chunk snapshots: random ones survive a round trip, cut and hostile ones give errors that say where.

use proptest::prelude::*;
use tsdb_model::histogram::{FloatHistogram, Histogram, Span};
use tsdb_model::labels::Labels;
use wal_format::snapshot::{LastValue, SnapshotChunk, SnapshotRecord, SnapshotSeries};
use wal_format::*;

fn encoded(record: &SnapshotRecord<'_>) -> Vec<u8> {
    let mut out = b"before".to_vec();
    record.encode(&mut out);
    assert!(out.starts_with(b"before"));
    out.split_off(6)
}

fn histogram(n: u8, schema: i32) -> Histogram {
    Histogram {
        schema,
        count: 3 * u64::from(n),
        zero_count: u64::from(n),
        sum: f64::from(n) * 0.5,
        positive_spans: vec![Span { offset: -3, length: 2 }],
        positive_buckets: vec![i64::from(n), -1],
        custom_values: if schema == -53 { vec![0.5, 1.0] } else { Vec::new() },
        ..Histogram::default()
    }
}

fn last(encoding: u8, n: u8, schema: i32, v: f64) -> LastValue {
    match encoding {
        1 | 4 => LastValue::Floats([(i64::from(n), v), (0, 0.0), (-1, v), (7, v)]),
        2 | 5 => LastValue::Histogram(Box::new(histogram(n, schema))),
        _ => {
            let h = histogram(n, schema);
            LastValue::FloatHistogram(Box::new(FloatHistogram {
                schema,
                count: v,
                positive_spans: h.positive_spans,
                positive_buckets: vec![v, 2.0],
                custom_values: h.custom_values,
                ..FloatHistogram::default()
            }))
        }
    }
}

fn labels() -> impl Strategy<Value = Labels> {
    prop::collection::vec(("[a-z_]{1,8}", "[ -~]{1,12}"), 0..6).prop_map(Labels::from_pairs)
}

proptest! {
    #[test]
    fn a_series_round_trips_and_every_cut_of_it_is_an_error(
        (series, range, mint, maxt) in any::<(u64, i64, i64, i64)>(),
        labels in labels(),
        encoding in 0_u8..=6,
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        (n, schema, v) in (any::<u8>(), prop::sample::select(vec![-53, -4, 0, 8, 9, 52, 60]), -1e9..1e9),
    ) {
        let chunk = SnapshotChunk { mint, maxt, encoding, bytes: &bytes, last: last(encoding, n, schema, v) };
        let chunk = (encoding > 0).then_some(chunk);
        let entry = SnapshotSeries { series: series.into(), labels: labels.pairs(), chunk_range: range, chunk };
        let record = SnapshotRecord::Series(entry);
        let out = encoded(&record);
        prop_assert_eq!(&SnapshotRecord::decode(&out).unwrap(), &record);
        for len in 1..out.len() {
            let error = SnapshotRecord::decode(&out[..len]).expect_err("a cut record was accepted");
            prop_assert!(error.offset <= len, "{error}");
        }
        let longer = [&out[..], b"more"].concat();
        prop_assert_eq!(SnapshotRecord::decode(&longer).unwrap(), record);
    }

    #[test]
    fn tombstones_round_trip(rows in prop::collection::vec(any::<(u64, i64, i64)>(), 0..40)) {
        let rows = rows.into_iter().map(|(series, mint, maxt)| Tombstone { series: series.into(), mint, maxt });
        let record = SnapshotRecord::Tombstones(rows.collect());
        let out = encoded(&record);
        prop_assert_eq!(SnapshotRecord::decode(&out).unwrap(), record);
    }

    #[test]
    fn any_bytes_give_an_answer(tag in 0_u8..5, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let record = [&[tag][..], &bytes].concat();
        match SnapshotRecord::decode(&record) {
            Ok(decoded) => prop_assert!(decoded.to_string().ends_with('\n') && decoded.tag() == Some(tag)),
            Err(error) => prop_assert!(error.offset <= record.len(), "{error}"),
        }
    }
}

#[test]
fn exemplars_are_a_logs_exemplars_under_another_tag() {
    let labels = Labels::from_pairs([("trace_id", "a")]);
    let exemplars: Vec<_> =
        (0..5_u64).map(|n| Exemplar { series: n.into(), t: n as i64, v: 0.5, labels: labels.pairs() }).collect();
    let mut batch = Batch::new(Version::V1);
    batch.exemplars(exemplars.iter().copied());
    let mut expected = batch.records().next().unwrap().to_vec();
    expected[0] = snapshot::EXEMPLARS;
    let record = SnapshotRecord::Exemplars(exemplars);
    assert_eq!(encoded(&record), expected);
    assert_eq!(SnapshotRecord::decode(&expected).unwrap(), record);
}

#[test]
fn what_does_not_exist_is_named() {
    let error = |bytes: &[u8]| SnapshotRecord::decode(bytes).expect_err("accepted").to_string();
    let series = [&[1, 0, 0, 0, 0, 0, 0, 0, 1, 0][..], &[0; 8], &[1], &[0; 16]].concat();
    for encoding in [0, 7, 255] {
        let text = error(&[&series[..], &[encoding]].concat());
        assert_eq!(
            text,
            format!("expected a chunk encoding of 1 to 6, found {encoding} (byte {} of the record)", series.len())
        );
    }
    assert_eq!(error(&[2, 1, 9]), "expected tombstones of format 1, found 9 (byte 2 of the record)");
    assert_eq!(error(&[2, 9, 1]), "expected encoded tombstones of 9 bytes, found 1 bytes (byte 1 of the record)");
    // A length that would be an allocation of terabytes.
    let text = error(&[&series[..], &[1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]].concat());
    assert!(text.starts_with("expected a chunk of 562949953421311 bytes, found 0 bytes"), "{text}");
    assert_eq!(SnapshotRecord::decode(b"").unwrap(), SnapshotRecord::Unknown { tag: None, bytes: 0 });
    assert_eq!(SnapshotRecord::decode(b"\x04ab").unwrap().to_string(), "unknown (tag 4): 3 bytes\n");
}

#[test]
#[should_panic = "a chunk of encoding 1 with a last value of another sort"]
fn a_last_value_of_another_sort_is_not_written() {
    let chunk = SnapshotChunk { mint: 0, maxt: 0, encoding: 1, bytes: b"", last: last(2, 1, 0, 1.0) };
    let labels = Labels::empty();
    let series = SnapshotSeries { series: 1.into(), labels: labels.pairs(), chunk_range: 0, chunk: Some(chunk) };
    SnapshotRecord::Series(series).encode(&mut Vec::new());
}
