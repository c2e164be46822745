//! Any bytes as a page, in both formats: it ends, with a place for what does not parse.
#![no_main]

use exposition::{Entry, Error};
use libfuzzer_sys::fuzz_target;

fn drain<'a>(page: &[u8], entries: impl Iterator<Item = Result<Entry<'a>, Error>>) {
    let lines = page.iter().filter(|byte| **byte == b'\n').count() + 1;
    let mut failed = false;
    for (n, entry) in entries.enumerate() {
        assert!(!failed, "nothing follows an error");
        assert!(n <= page.len(), "more entries than bytes");
        match entry {
            Ok(Entry::Sample(sample)) => drop(sample.to_labels()),
            Ok(_) => {}
            Err(error) => {
                failed = true;
                assert!((1..=lines + 1).contains(&error.line), "line {} of {lines}", error.line);
                assert!(!error.to_string().is_empty());
            }
        }
    }
}

fuzz_target!(|page: &[u8]| {
    drain(page, exposition::parse_text(page));
    drain(page, exposition::parse_openmetrics(page));
});
