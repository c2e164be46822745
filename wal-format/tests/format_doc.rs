//! `docs/format/records.md` and `snapshots.md` are held to what the code does: each example's bytes decode to the text beside them, and what was
//! decoded encodes to the same bytes.

use std::collections::BTreeSet;

use wal_format::snapshot::SnapshotRecord;
use wal_format::*;

/// The fenced blocks of the page: (language, content).
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in page.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(language), None) => open = Some((language.to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, content))) => *content += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    blocks
}

fn bytes(block: &str) -> Vec<u8> {
    let hex = block.lines().flat_map(|line| line.split(';').next().unwrap_or_default().split_whitespace());
    hex.map(|byte| u8::from_str_radix(byte, 16).unwrap_or_else(|_| panic!("no hexadecimal byte: {byte}"))).collect()
}

fn encode(record: &Record<'_>) -> Vec<u8> {
    let mut batch = Batch::new(Version::V1);
    batch.record(record);
    batch.records().next().expect("one record").to_vec()
}

/// The examples of a page: bytes, and the text they decode to.
fn examples(page: &str) -> Vec<(Vec<u8>, String)> {
    let page = format!("{}/../docs/format/{page}", env!("CARGO_MANIFEST_DIR"));
    let blocks = blocks(&std::fs::read_to_string(page).expect("the page"));
    let pairs = blocks.windows(2).filter(|pair| pair[0].0 == "hex");
    let examples = pairs.map(|pair| {
        assert_eq!(pair[1].0, "decoded", "an example without its text");
        (bytes(&pair[0].1), pair[1].1.clone())
    });
    examples.collect()
}

#[test]
fn every_example_of_a_snapshot_is_true() {
    let mut names = BTreeSet::new();
    for (record, text) in examples("snapshots.md") {
        let decoded = SnapshotRecord::decode(&record).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(decoded.to_string(), text);
        let mut encoded = Vec::new();
        decoded.encode(&mut encoded);
        assert_eq!(encoded, record, "{text}");
        names.insert(decoded.name());
    }
    assert_eq!(names, SnapshotRecord::NAMES.into(), "a kind has no example");
}

#[test]
fn every_example_is_true() {
    let mut kinds = BTreeSet::new();
    for (record, text) in examples("records.md") {
        let decoded = Record::decode(&record).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(decoded.to_string(), text);
        assert_eq!(encode(&decoded), record, "{text}");
        kinds.extend(decoded.kind());
    }
    assert_eq!(kinds.len(), Kind::ALL.len(), "a kind has no example: {kinds:?}");
}
