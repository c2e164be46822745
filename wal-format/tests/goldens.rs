//! Records that Prometheus 3.14 wrote: its inputs encode to its bytes, its bytes decode to what it reads out of them, and
//! what was decoded encodes and decodes to itself.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::{Value, json};
use tsdb_model::histogram::{CounterResetHint, NativeHistogram};
use tsdb_model::{LabelPairs, Labels, SeriesRef, Span};
use wal_format::*;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata/records")
}

fn cases() -> Vec<Value> {
    let text = std::fs::read(folder().join("records.json")).expect("testdata/records/records.json");
    serde_json::from_slice(&text).expect("a JSON array")
}

fn u64_of(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no unsigned number: {value}"))
}

fn i64_of(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("no number: {value}"))
}

fn float_of(value: &Value) -> f64 {
    f64::from_bits(u64::from_str_radix(value.as_str().expect("bits"), 16).expect("hexadecimal"))
}

fn text_of(value: &Value) -> Vec<u8> {
    let hex = value.as_str().expect("a text");
    (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hexadecimal")).collect()
}

fn list_of<T>(value: &Value, one: impl Fn(&Value) -> T) -> Vec<T> {
    value.as_array().unwrap_or_else(|| panic!("no list: {value}")).iter().map(one).collect()
}

fn labels_of(value: &Value) -> Labels {
    let mut packed = Vec::new();
    for text in list_of(value, |pair| [text_of(&pair[0]), text_of(&pair[1])]).iter().flatten() {
        varint::put_uvarint(&mut packed, text.len() as u64);
        packed.extend_from_slice(text);
    }
    Labels::from_packed(&packed).expect("packed by the rules")
}

trait Number: Wire {
    fn count(value: &Value) -> Self::Count;
    fn bucket(value: &Value) -> Self;
    fn count_json(count: Self::Count) -> Value;
    fn bucket_json(self) -> Value;
}

impl Number for i64 {
    fn count(value: &Value) -> u64 {
        u64_of(value)
    }
    fn bucket(value: &Value) -> i64 {
        i64_of(value)
    }
    fn count_json(count: u64) -> Value {
        json!(count)
    }
    fn bucket_json(self) -> Value {
        json!(self)
    }
}

impl Number for f64 {
    fn count(value: &Value) -> f64 {
        float_of(value)
    }
    fn bucket(value: &Value) -> f64 {
        float_of(value)
    }
    fn count_json(count: f64) -> Value {
        float_json(count)
    }
    fn bucket_json(self) -> Value {
        float_json(self)
    }
}

fn histogram_of<B: Number>(value: &Value) -> NativeHistogram<B> {
    let span = |v: &Value| Span { offset: i64_of(&v[0]) as i32, length: u64_of(&v[1]) as u32 };
    NativeHistogram {
        counter_reset_hint: CounterResetHint::from_byte(u64_of(&value["reset_hint"]) as u8),
        schema: i64_of(&value["schema"]) as i32,
        zero_threshold: float_of(&value["zero_threshold"]),
        zero_count: B::count(&value["zero_count"]),
        count: B::count(&value["count"]),
        sum: float_of(&value["sum"]),
        positive_spans: list_of(&value["positive_spans"], span),
        negative_spans: list_of(&value["negative_spans"], span),
        positive_buckets: list_of(&value["positive_buckets"], B::bucket),
        negative_buckets: list_of(&value["negative_buckets"], B::bucket),
        custom_values: list_of(&value["custom_values"], float_of),
    }
}

fn owned_of<B: Number>(input: &Value) -> Vec<OwnedHistogram<B>> {
    list_of(input, |e| OwnedHistogram {
        series: SeriesRef(u64_of(&e["ref"])),
        t: i64_of(&e["t"]),
        st: i64_of(&e["st"]),
        histogram: histogram_of(&e["h"]),
    })
}

fn native<B: Wire>(owned: &[OwnedHistogram<B>]) -> impl Iterator<Item = NativeSample<'_, B>> + Clone {
    owned.iter().map(|o| NativeSample { series: o.series, t: o.t, st: o.st, histogram: &o.histogram })
}

/// Encodes entries as the manifest has them.
fn encode(kind: Kind, version: Version, input: &Value) -> Batch {
    let mut batch = Batch::new(version);
    let series = |e: &Value| SeriesRef(u64_of(&e["ref"]));
    match kind {
        Kind::Series => {
            let all = list_of(input, |e| (series(e), labels_of(&e["labels"])));
            batch.series(all.iter().map(|(series, labels)| Series { series: *series, labels: labels.pairs() }));
        }
        Kind::Samples => batch.samples(list_of(input, |e| Sample {
            series: series(e),
            t: i64_of(&e["t"]),
            v: float_of(&e["v"]),
            st: i64_of(&e["st"]),
        })),
        Kind::Histograms => batch.histograms(native(&owned_of(input))),
        Kind::FloatHistograms => batch.float_histograms(native(&owned_of(input))),
        Kind::Tombstones => batch.tombstones(list_of(input, |e| Tombstone {
            series: series(e),
            mint: i64_of(&e["mint"]),
            maxt: i64_of(&e["maxt"]),
        })),
        Kind::Exemplars => {
            let all = list_of(input, |e| (series(e), i64_of(&e["t"]), float_of(&e["v"]), labels_of(&e["labels"])));
            batch.exemplars(all.iter().map(|(series, t, v, l)| Exemplar {
                series: *series,
                t: *t,
                v: *v,
                labels: l.pairs(),
            }));
        }
        Kind::Metadata => {
            let all = list_of(input, |e| (series(e), u64_of(&e["type"]), text_of(&e["unit"]), text_of(&e["help"])));
            batch.metadata(all.iter().map(|(series, byte, unit, help)| Metadata {
                series: *series,
                metric_type: MetricType::from_byte(*byte as u8),
                unit,
                help,
            }));
        }
        Kind::MmapMarkers => {
            batch.mmap_markers(list_of(input, |e| MmapMarker { series: series(e), chunk: u64_of(&e["chunk"]) }));
        }
    }
    batch
}

fn float_json(v: f64) -> Value {
    json!(format!("{:016x}", v.to_bits()))
}

fn text_json(text: &[u8]) -> Value {
    json!(text.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn labels_json(labels: &LabelPairs<'_>) -> Value {
    labels.iter().map(|(name, value)| json!([text_json(name), text_json(value)])).collect()
}

fn histogram_json<B: Number>(o: &OwnedHistogram<B>) -> Value {
    let spans = |spans: &[Span]| spans.iter().map(|s| json!([s.offset, s.length])).collect::<Value>();
    let buckets = |buckets: &[B]| buckets.iter().map(|b| b.bucket_json()).collect::<Value>();
    let h = &o.histogram;
    json!({ "ref": o.series.0, "t": o.t, "st": o.st, "h": {
        "reset_hint": h.counter_reset_hint.to_byte(),
        "schema": h.schema,
        "zero_threshold": float_json(h.zero_threshold),
        "zero_count": B::count_json(h.zero_count),
        "count": B::count_json(h.count),
        "sum": float_json(h.sum),
        "positive_spans": spans(&h.positive_spans),
        "negative_spans": spans(&h.negative_spans),
        "positive_buckets": buckets(&h.positive_buckets),
        "negative_buckets": buckets(&h.negative_buckets),
        "custom_values": h.custom_values.iter().map(|v| float_json(*v)).collect::<Value>(),
    }})
}

/// Entries as the manifest has them.
fn decoded_json(record: &Record<'_>) -> Value {
    match &record.entries {
        RecordEntries::Series(e) => {
            e.iter().map(|s| json!({ "ref": s.series.0, "labels": labels_json(&s.labels) })).collect()
        }
        RecordEntries::Samples(e) => {
            e.iter().map(|s| json!({ "ref": s.series.0, "t": s.t, "st": s.st, "v": float_json(s.v) })).collect()
        }
        RecordEntries::Histograms(e) => e.iter().map(histogram_json).collect(),
        RecordEntries::FloatHistograms(e) => e.iter().map(histogram_json).collect(),
        RecordEntries::Tombstones(e) => {
            e.iter().map(|t| json!({ "ref": t.series.0, "mint": t.mint, "maxt": t.maxt })).collect()
        }
        RecordEntries::Exemplars(e) => e
            .iter()
            .map(|e| json!({ "ref": e.series.0, "t": e.t, "v": float_json(e.v), "labels": labels_json(&e.labels) }))
            .collect(),
        RecordEntries::Metadata(e) => e
            .iter()
            .map(|m| {
                let byte = m.metric_type.to_byte();
                json!({ "ref": m.series.0, "type": byte, "unit": text_json(m.unit), "help": text_json(m.help) })
            })
            .collect(),
        RecordEntries::MmapMarkers(e) => e.iter().map(|m| json!({ "ref": m.series.0, "chunk": m.chunk })).collect(),
        RecordEntries::Unknown { .. } => panic!("unknown"),
    }
}

#[test]
fn every_golden_both_ways() {
    let mut tags = BTreeSet::new();
    for case in cases() {
        let name = case["name"].as_str().expect("a name");
        let kind = Kind::from_name(case["kind"].as_str().expect("a kind")).expect("a known kind");
        let version = if case["v2"] == true { Version::V2 } else { Version::V1 };
        let encoded = encode(kind, version, &case["input"]);
        let expected = case["records"].as_array().expect("records");
        assert_eq!(encoded.len(), expected.len(), "{name}: records made of one batch");

        for (ours, expected) in encoded.records().zip(expected) {
            let file = expected["file"].as_str().expect("a file");
            let theirs = std::fs::read(folder().join(file)).expect(file);
            assert_eq!(ours, theirs, "{file}: bytes");

            let record = Record::decode(&theirs).unwrap_or_else(|error| panic!("{file}: {error}"));
            assert_eq!(json!(record.tag), expected["tag"], "{file}");
            assert_eq!(json!(record.skipped), expected["skipped"], "{file}: skipped");
            assert_eq!(decoded_json(&record), expected["entries"], "{file}: values");
            assert_eq!(validate(&theirs), Ok(Checked { entries: record.len(), skipped: record.skipped }), "{file}");
            tags.insert(theirs[0]);

            // Alone it need not give the same bytes (a mixed batch's bases), but the same values.
            let again = encode(kind, version, &decoded_json(&record));
            let again: Vec<Value> = again
                .records()
                .flat_map(|bytes| match decoded_json(&Record::decode(bytes).expect("just encoded")) {
                    Value::Array(entries) => entries,
                    other => vec![other],
                })
                .collect();
            assert_eq!(json!(again), decoded_json(&record), "{file}: decoded, encoded, decoded");
        }
    }
    assert!(tags.iter().eq(&tag::ALL), "a tag has no golden: {tags:?}");
}

/// Cut anywhere, a golden is refused, or is the record of the entries before the cut.
#[test]
fn every_prefix_of_every_golden() {
    let (mut refused, mut shorter) = (0, 0);
    for case in cases() {
        for expected in case["records"].as_array().expect("records") {
            let bytes = std::fs::read(folder().join(expected["file"].as_str().expect("a file"))).expect("a golden");
            let whole = decoded_json(&Record::decode(&bytes).expect("a golden decodes"));
            for len in 1..bytes.len() {
                match Record::decode(&bytes[..len]) {
                    Err(error) => {
                        assert!(error.offset <= len, "{error}");
                        refused += 1;
                    }
                    Ok(record) => {
                        let part = decoded_json(&record);
                        let n = part.as_array().map_or(0, Vec::len);
                        assert_eq!(part.as_array().map(Vec::as_slice), whole.as_array().and_then(|all| all.get(..n)));
                        shorter += 1;
                    }
                }
            }
        }
    }
    assert!(refused > 1000 && shorter > 50, "{refused} refused, {shorter} accepted: hardly tried");
}

/// Whichever bit is flipped, nothing panics, and checking and decoding agree.
#[test]
fn every_bit_of_every_golden() {
    for case in cases() {
        for expected in case["records"].as_array().expect("records") {
            let mut bytes = std::fs::read(folder().join(expected["file"].as_str().expect("a file"))).expect("a golden");
            for bit in 0..bytes.len() * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                match (validate(&bytes), Record::decode(&bytes)) {
                    (Ok(checked), Ok(record)) => assert_eq!(checked.entries, record.len()),
                    (Err(checked), Err(decoded)) => assert_eq!(checked, decoded),
                    (checked, decoded) => panic!("bit {bit}: {checked:?}, {decoded:?}"),
                }
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }
}
