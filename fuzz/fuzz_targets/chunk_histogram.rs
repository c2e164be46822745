//! Any bytes as a chunk of encoding 2: what is read is what the naive decoder reads, and a sound chunk can be continued.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../chunks.rs"]
mod chunks;

fuzz_target!(|bytes: &[u8]| chunks::check(2, bytes));
