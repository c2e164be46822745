//! CRC-32C (Castagnoli) of records, most of which are short: 100 to 400 bytes.
//!
//! For these a call of a library that is made for long inputs costs more than the checksum, and one checksum alone waits for
//! itself: each instruction needs the result of the one before it, three cycles later. So short records are summed
//! without a library where the processor has the instruction, and three at once where there are three: of 327 bytes, 28 ns
//! with the library, 22 alone, 15 in threes; of 140 bytes, 12, 8 and 6.5.

/// From these lengths on the library is faster, than one alone and than three at once: it folds 64 bytes and more at a time.
const LONG: usize = 400;
const LONG_OF_THREE: usize = 1200;

/// The checksum of one record.
#[inline]
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if bytes.len() < LONG && is_x86_feature_detected!("sse4.2") {
        // SAFETY: the processor has SSE 4.2, which is all that the function asks for.
        return unsafe { sse::one(bytes) };
    }
    by_library(bytes)
}

/// The checksums of three records.
#[inline]
pub(super) fn crc32c_of_three(three: [&[u8]; 3]) -> [u32; 3] {
    #[cfg(target_arch = "x86_64")]
    if three.iter().all(|bytes| bytes.len() < LONG_OF_THREE) && is_x86_feature_detected!("sse4.2") {
        // SAFETY: as above.
        return unsafe { sse::three(three) };
    }
    three.map(crc32c)
}

fn by_library(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

#[cfg(target_arch = "x86_64")]
mod sse {
    use std::arch::x86_64::{_mm_crc32_u8, _mm_crc32_u32, _mm_crc32_u64};

    #[target_feature(enable = "sse4.2")]
    pub(super) fn one(bytes: &[u8]) -> u32 {
        rest(u64::from(!0_u32), bytes)
    }

    /// As far as the shortest of them goes, side by side.
    #[target_feature(enable = "sse4.2")]
    pub(super) fn three([a, b, c]: [&[u8]; 3]) -> [u32; 3] {
        let (words_a, words_b, words_c) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0, c.as_chunks::<8>().0);
        let common = words_a.len().min(words_b.len()).min(words_c.len());
        let mut sums = [u64::from(!0_u32); 3];
        for ((x, y), z) in words_a[..common].iter().zip(&words_b[..common]).zip(&words_c[..common]) {
            sums[0] = _mm_crc32_u64(sums[0], u64::from_le_bytes(*x));
            sums[1] = _mm_crc32_u64(sums[1], u64::from_le_bytes(*y));
            sums[2] = _mm_crc32_u64(sums[2], u64::from_le_bytes(*z));
        }
        let done = 8 * common;
        [rest(sums[0], &a[done..]), rest(sums[1], &b[done..]), rest(sums[2], &c[done..])]
    }

    #[inline]
    #[target_feature(enable = "sse4.2")]
    fn rest(mut sum: u64, bytes: &[u8]) -> u32 {
        let (words, mut tail) = bytes.as_chunks::<8>();
        for word in words {
            sum = _mm_crc32_u64(sum, u64::from_le_bytes(*word));
        }
        // The instruction leaves the upper half zero.
        let mut sum = sum as u32;
        if let Some((half, bytes)) = tail.split_first_chunk::<4>() {
            sum = _mm_crc32_u32(sum, u32::from_le_bytes(*half));
            tail = bytes;
        }
        for byte in tail {
            sum = _mm_crc32_u8(sum, *byte);
        }
        !sum
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngCore, SeedableRng, rngs::SmallRng};

    use super::*;

    /// Bit by bit: the reflected polynomial, all ones in, all ones out.
    fn by_definition(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0_u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
        })
    }

    #[test]
    fn every_length_at_every_alignment_is_the_polynomial() {
        let mut bytes = [0; 1100];
        SmallRng::seed_from_u64(3).fill_bytes(&mut bytes);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        for len in 0..1088 {
            for start in 0..8 {
                let some = &bytes[start..start + len];
                assert_eq!(crc32c(some), by_definition(some), "{len} bytes from {start} on");
            }
            assert_eq!(by_library(&bytes[..len]), by_definition(&bytes[..len]), "{len} bytes, the library");
        }
    }

    #[test]
    fn three_at_once_are_three() {
        let mut bytes = [0; 2048];
        let mut rng = SmallRng::seed_from_u64(4);
        rng.fill_bytes(&mut bytes);
        for round in 0..20_000 {
            let most = [40, LONG + 100, LONG_OF_THREE + 100][round % 3];
            let three = [(); 3].map(|()| {
                let (start, len) = (rng.next_u32() as usize % 64, rng.next_u32() as usize % (most + 1));
                &bytes[start..start + len]
            });
            assert_eq!(crc32c_of_three(three), three.map(by_definition), "lengths {:?}", three.map(<[u8]>::len));
        }
    }
}
