//! Our snappy decoder against the `snap` crate's: the same bytes are refused, the others are decoded to the same record.
//! Half of the inputs are compressed first, and then damaged in one place: sound elements are rare in noise.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wal_segment::{Compression, Decompressor};

fuzz_target!(|input: (bool, u16, u8, &[u8])| {
    let (compress, at, flip, bytes) = input;
    let mut stored = bytes.to_vec();
    if compress {
        stored = snap::raw::Encoder::new().compress_vec(bytes).expect("short enough");
        let at = usize::from(at) % stored.len();
        stored[at] ^= flip;
    }
    if stored.is_empty() {
        return;
    }
    let theirs = match snap::raw::decompress_len(&stored) {
        // Elements cannot make so much of so few bytes: both refuse it, the crate after allocating it.
        Ok(len) if len > 22 * stored.len() + 64 => None,
        _ => snap::raw::Decoder::new().decompress_vec(&stored).ok(),
    };
    let mut decoder = Decompressor::default();
    // A longer record before leaves its bytes in the buffer: they must not show.
    decoder.decode(Compression::Snappy, &[3, 8, b'x', b'y', b'z']).expect("sound");
    assert_eq!(decoder.decode(Compression::Snappy, &stored).ok(), theirs.as_deref(), "{stored:02x?}");
});
