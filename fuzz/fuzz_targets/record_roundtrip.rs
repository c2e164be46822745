//! What a record decodes to encodes to a record that decodes to the same; and from there on the bytes stay the same, since
//! everything needless (long varints, unknown metadata fields, odd bases) is gone after the first time.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wal_format::{Batch, Record, RecordEntries, Version};

fn encode(record: &Record<'_>) -> Batch {
    let mut batch = Batch::new(Version::V1);
    batch.record(record);
    batch
}

/// Entries as text with the bits of their floats: a NaN equals nothing by value.
fn entries(records: &[Record<'_>]) -> Vec<String> {
    let mut all = Vec::new();
    for record in records {
        match &record.entries {
            RecordEntries::Samples(e) => {
                all.extend(e.iter().map(|s| format!("{} {} {:x} {}", s.series, s.t, s.v.to_bits(), s.st)));
            }
            RecordEntries::Exemplars(e) => {
                all.extend(e.iter().map(|e| format!("{} {} {:x} {}", e.series, e.t, e.v.to_bits(), e.labels)));
            }
            other => all.push(format!("{other:?}")),
        }
    }
    all
}

fuzz_target!(|input: &[u8]| {
    let Ok(record) = Record::decode(input) else { return };
    let once = encode(&record);
    let decoded: Vec<_> = once.records().map(|bytes| Record::decode(bytes).expect("just encoded")).collect();
    // A histogram record that mixes layouts makes two, whose bases differ from its own.
    if let [again] = &decoded[..] {
        assert_eq!(entries(std::slice::from_ref(again)), entries(std::slice::from_ref(&record)));
        let twice = encode(again);
        assert!(twice.records().eq(once.records()));
    }
    assert_eq!(decoded.iter().map(Record::len).sum::<usize>(), record.len());
});
