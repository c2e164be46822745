//! The checksum of every fragment and chunk: both crates' hardware paths against the polynomial's definition, whole and in
//! two pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;

/// CRC-32C bit by bit: reflected Castagnoli polynomial, all ones in, all ones out.
fn by_definition(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

fuzz_target!(|input: (usize, &[u8])| {
    let (cut, bytes) = input;
    let expected = by_definition(bytes);
    assert_eq!(crc32c::crc32c(bytes), expected);
    assert_eq!(crc_fast::crc32_iscsi(bytes), expected);
    let (head, tail) = bytes.split_at(cut % (bytes.len() + 1));
    assert_eq!(crc32c::crc32c_append(crc32c::crc32c(head), tail), expected);
});
