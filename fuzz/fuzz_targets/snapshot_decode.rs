//! Any bytes as a record of a chunk snapshot: no panic, and what was read is written and read again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wal_format::snapshot::SnapshotRecord;

fuzz_target!(|input: &[u8]| {
    match SnapshotRecord::decode(input) {
        Err(error) => assert!(error.offset <= input.len(), "{error}"),
        Ok(SnapshotRecord::Unknown { tag, bytes }) => assert_eq!((tag, bytes), (input.first().copied(), input.len())),
        Ok(record) => {
            let mut once = Vec::new();
            record.encode(&mut once);
            let again = SnapshotRecord::decode(&once).expect("what we wrote");
            // NaN is not equal to itself: the bytes are compared.
            let mut twice = Vec::new();
            again.encode(&mut twice);
            assert!(once == twice);
            assert_eq!(record.to_string(), again.to_string());
        }
    }
});
