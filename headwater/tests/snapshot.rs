//! `records` on chunk snapshots that Prometheus wrote, against its own dump of the same data.
#![allow(clippy::disallowed_methods, reason = "tests read the goldens")]

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;

use common::{headwater, testdata};
use head_chunks::xor::XorIter;
use head_chunks::xor2::Xor2Iter;
use serde_json::Value;
use wal_format::snapshot::{LastValue, SnapshotRecord};
use wal_segment::{Item, SalvageReader, layout};

fn snapshot(name: &str) -> PathBuf {
    let entries = std::fs::read_dir(testdata("snapshot").join(name)).unwrap();
    let mut dirs = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    dirs.next().expect("a snapshot")
}

/// The reference's dump: values, times and start timestamps by series.
fn dump(name: &str) -> BTreeMap<String, Vec<(String, i64, i64)>> {
    let text = std::fs::read_to_string(testdata("snapshot").join(name).join("dump.txt")).unwrap();
    let mut series: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for line in text.lines() {
        let (labels, rest) = line.split_once("} ").unwrap();
        // A histogram's text holds blanks: times stand behind it.
        let at = rest.find("} ").map_or_else(|| rest.find(' ').unwrap(), |at| at + 1);
        let mut times = rest[at + 1..].split(' ').map(|time| time.parse::<i64>().unwrap());
        let sample = (rest[..at].to_owned(), times.next().unwrap(), times.next().unwrap_or(0));
        series.entry(format!("{labels}}}")).or_default().push(sample);
    }
    series
}

fn records(name: &str) -> Vec<Vec<u8>> {
    let fs: tsdb_vfs::Fs = std::sync::Arc::new(tsdb_vfs::RealFs::new());
    let segments = layout::segments(&fs, &snapshot(name)).unwrap();
    let mut reader = SalvageReader::over(fs, segments);
    let mut records = Vec::new();
    while let Some(item) = reader.next().unwrap() {
        match item {
            Item::Record(record) => records.push(record.bytes.to_vec()),
            other => panic!("{other:?}"),
        }
    }
    records
}

fn float_text(v: f64) -> String {
    if tsdb_model::staleness::is_stale(v) { "stale".into() } else { format!("{v}") }
}

#[test]
fn every_series_holds_what_the_reference_dumps_and_encodes_to_its_bytes() {
    for (name, encodings) in [("plain", [1, 2, 3]), ("st", [4, 5, 6])] {
        let dump = dump(name);
        let (mut series, mut tombstones, mut exemplars) = (0, 0, 0);
        let mut refs = BTreeMap::new();
        for bytes in records(name) {
            let record = SnapshotRecord::decode(&bytes).unwrap();
            let mut encoded = Vec::new();
            record.encode(&mut encoded);
            assert!(encoded == bytes, "{name}: other bytes for {record}");
            match record {
                SnapshotRecord::Series(entry) => {
                    series += 1;
                    let labels = entry.labels.to_string();
                    refs.insert(entry.series, labels.clone());
                    let chunk = entry.chunk.expect("each has an open chunk");
                    // The dump lacks what was deleted, the chunk does not.
                    let deleted = if labels.contains(r#"series="4""#) { 31 } else { 0 };
                    let samples = usize::from(chunk.samples().unwrap()) - deleted;
                    assert!(encodings.contains(&chunk.encoding), "{}", chunk.encoding);
                    let all = &dump[&labels];
                    let tail = &all[all.len() - samples..];
                    let (last_text, last_time, _) = tail.last().unwrap();
                    assert_eq!((chunk.mint, chunk.maxt), (tail[0].1, *last_time), "{labels}");
                    let text = match &chunk.last {
                        LastValue::Floats([.., (_, v)]) => float_text(*v),
                        LastValue::Histogram(h) => h.to_string(),
                        LastValue::FloatHistogram(h) => h.to_string(),
                    };
                    assert_eq!(text, *last_text, "{labels}");
                    let floats: Vec<_> = match chunk.encoding {
                        1 => {
                            XorIter::new(chunk.bytes).unwrap().map(|s| s.map(|(t, v)| (float_text(v), t, 0))).collect()
                        }
                        4 => Xor2Iter::new(chunk.bytes)
                            .unwrap()
                            .map(|s| s.map(|(t, v, st)| (float_text(v), t, st)))
                            .collect(),
                        _ => continue,
                    };
                    let floats: Vec<_> = floats.into_iter().collect::<Result<_, _>>().unwrap();
                    for (ours, theirs) in floats.iter().zip(tail) {
                        assert_eq!((&ours.0, ours.1), (&theirs.0, theirs.1), "{labels}");
                        // As it was appended: the read-only database forgets the start timestamps of what is in the log.
                        let st = if name == "st" { 1 + (ours.1 / 1000 - 1) / 70 * 70_000 } else { 0 };
                        assert_eq!(ours.2, st, "{labels} {}", ours.1);
                    }
                    assert_eq!(floats.len(), tail.len(), "{labels}");
                }
                SnapshotRecord::Tombstones(rows) => {
                    tombstones += 1;
                    let [row] = rows[..] else { panic!("{rows:?}") };
                    assert_eq!((row.mint, row.maxt), (30_000, 60_000));
                    assert!(refs[&row.series].contains(r#"series="4""#), "{}", refs[&row.series]);
                }
                SnapshotRecord::Exemplars(list) => {
                    for exemplar in list {
                        exemplars += 1;
                        let all = &dump[&refs[&exemplar.series]];
                        let sample = all.iter().find(|sample| sample.1 == exemplar.t).expect("a sample of its time");
                        assert_eq!(exemplar.v, sample.0.parse::<f64>().unwrap() / 2.0);
                        assert_eq!(exemplar.labels.to_string(), format!("{{trace_id=\"{:x}\"}}", exemplar.t));
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        // Four series of floats, an exemplar at every tenth of 150 scrapes.
        assert_eq!((series, tombstones, exemplars), (12, 1, 60), "{name}");
    }
}

fn lines(args: &[&str]) -> Vec<Value> {
    let dir = snapshot("plain");
    let ran = headwater(["records", dir.to_str().unwrap(), "--json"].iter().chain(args));
    assert_eq!(ran.code, 0, "{}", ran.err);
    ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn records_prints_and_filters_a_snapshot() {
    let all = lines(&[]);
    let of = |kind: &str| all.iter().filter(|line| line["kind"] == kind).count();
    assert_eq!((of("snapshot_series"), of("snapshot_tombstones"), of("snapshot_exemplars")), (12, 1, 1));
    let chunk = &all[0]["series"][0]["chunk"];
    assert!(chunk["samples"].as_u64().unwrap() > 0 && chunk["last"] != Value::Null, "{chunk}");
    assert!(all.iter().all(|line| line["file"] == "00000000" && line["tag"].as_u64().unwrap() <= 3));

    assert_eq!(lines(&["--kind", "snapshot_tombstones"]).len(), 1);
    assert_eq!(lines(&["--kind", "series"]).len(), 0);
    let one = lines(&["--match", r#"golden{series="0"}"#]);
    assert_eq!(one.len(), 2, "the series and its exemplars: {one:?}");
    let of_it = one[1]["exemplars"].as_array().unwrap();
    assert_eq!(of_it.len(), 15);
    assert!(of_it.iter().all(|exemplar| exemplar["ref"] == one[0]["series"][0]["ref"]));
    assert_eq!(lines(&["--since", "1000000"]).len(), 0, "everything is older");

    // One segment of it is a snapshot's too; text is the default.
    let ran = headwater([snapshot("st").join("00000000")].iter().fold(
        vec!["records".into()],
        |mut args: Vec<std::ffi::OsString>, path| {
            args.push(path.into());
            args
        },
    ));
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains("snapshot_series (tag 1): 1 entry\n  ref="), "{}", &ran.out[..200]);
}

/// A data directory with a log of nothing and this snapshot.
fn data_dir(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let from = snapshot(name);
    common::copy(&from, &dir.path().join(from.file_name().unwrap()));
    dir
}

#[test]
fn verify_finds_what_is_wrong_with_a_snapshot() {
    let verify = |dir: &tempfile::TempDir| headwater(["verify".as_ref(), dir.path().as_os_str()]);
    for name in ["plain", "st"] {
        let dir = data_dir(name);
        let ran = verify(&dir);
        assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    }

    let dir = data_dir("plain");
    let segment = dir.path().join(snapshot("plain").file_name().unwrap()).join("00000000");
    common::flip(&segment, 200);
    let ran = verify(&dir);
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(ran.out.contains("00000000:") && ran.out.contains("reads the log instead"), "{}", ran.out);

    // All zeros: nothing in it is damaged, and Prometheus would start with nothing.
    let len = std::fs::metadata(&segment).unwrap().len();
    std::fs::write(&segment, vec![0; usize::try_from(len).unwrap()]).unwrap();
    let ran = verify(&dir);
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(ran.out.contains("not whole") && ran.out.contains("takes it for all there was"), "{}", ran.out);
}
