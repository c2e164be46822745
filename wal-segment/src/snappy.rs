//! Decoding snappy's block format: literals and copies of what was decoded before.
//!
//! Reading a compressed log is bound by this. Samples make elements of two to nine bytes, so that what an element costs
//! is not its bytes but the checks around it, the wait for the next tag, and copies that read what was only just
//! written. Measured on records of samples: 3.5–4.1 ns for an element pair, where the `snap` crate takes 5.5–6.1 and the
//! reference's assembler 3.9–5.4. What is decoded, and what is refused, is the same as there (a fuzz target compares).
//!
//! ```text
//! block   := varint (length of the record) element*
//! element := tag: low bits 0 literal, 1 copy with 11 bits of offset, 2 with 16, 3 with 32
//! ```

use std::ptr;

/// Bytes that the output needs behind the record: elements are copied in steps of up to 32 bytes.
pub(crate) const SLOP: usize = 64;

/// The fast loop stops so far before the end of the input: a tag, a short literal read as 32 bytes, the next tag with
/// its offset.
const AHEAD: usize = 40;

/// Literals up to here are copied without asking for their length.
const SHORT: usize = 32;

const OUTSIDE: &str = "snappy: an element reaches beyond the record or the stored bytes";

/// Where the elements begin, and how long the record claims to be.
pub(crate) fn header(stored: &[u8]) -> Result<(usize, u64), &'static str> {
    let mut claimed = 0;
    for (i, &byte) in stored.iter().enumerate().take(5) {
        claimed |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            return if claimed > u64::from(u32::MAX) {
                Err("snappy: the length has no 32 bits")
            } else {
                Ok((i + 1, claimed))
            };
        }
    }
    Err("snappy: the length does not end")
}

/// Decodes the elements of a record of `len` bytes to the beginning of `out`, which has room for [`SLOP`] more.
pub(crate) fn decode(elements: &[u8], out: &mut [u8], len: usize) -> Result<(), &'static str> {
    assert!(out.len() >= len + SLOP, "no room behind the record");
    let start = out.as_mut_ptr();
    // SAFETY: `out` has `len` bytes and SLOP more.
    let mut output = unsafe { Output { start, at: start, end: start.add(len) } };
    let from = elements.as_ptr_range();
    let mut at = from.start;
    if elements.len() > AHEAD {
        // SAFETY: at, limit and end lie in `elements` in this order, AHEAD bytes between the last two.
        at = unsafe { fast(at, from.end.sub(AHEAD), from.end, &mut output) }.ok_or(OUTSIDE)?;
    }
    let done = at as usize - from.start as usize;
    // The rest once more with zeros behind it, so that a literal can be read in one piece there, too.
    let mut rest = [0; 2 * AHEAD];
    let left = elements.get(done..).ok_or(OUTSIDE)?;
    rest[..left.len()].copy_from_slice(left);
    let (mut at, end) = (rest.as_ptr(), rest[left.len()..].as_ptr());
    while at < end {
        // SAFETY: a tag stands at `at`, behind `end` are at least AHEAD more bytes.
        at = unsafe { element(at, end, &mut output) }.ok_or(OUTSIDE)?;
    }
    if at != end || output.at != output.end {
        return Err("snappy: the record is not as long as it says");
    }
    Ok(())
}

/// What is decoded, and to where. There are SLOP bytes behind `end`.
struct Output {
    start: *mut u8,
    at: *mut u8,
    end: *mut u8,
}

/// Copies sixteen bytes at once, loaded before they are stored.
///
/// # Safety
/// So many can be read at `from` and written at `to`.
#[inline(always)]
unsafe fn copy_16(from: *const u8, to: *mut u8) {
    // SAFETY: as above; neither access needs to be aligned.
    unsafe { to.cast::<u128>().write_unaligned(from.cast::<u128>().read_unaligned()) }
}

/// Copies eight bytes at once, loaded before they are stored.
///
/// # Safety
/// So many can be read at `from` and written at `to`.
#[inline(always)]
unsafe fn copy_8(from: *const u8, to: *mut u8) {
    // SAFETY: as above; neither access needs to be aligned.
    unsafe { to.cast::<u64>().write_unaligned(from.cast::<u64>().read_unaligned()) }
}

/// Decodes elements up to `limit`, or a little further: literals in front of short copies, and whatever else there is
/// one by one. Returns where it stopped, not behind `end`; `None` if an element can't be right.
///
/// # Safety
/// `at`, `limit` and `end` point into the same bytes, in this order, and `limit` is AHEAD bytes before `end`.
#[inline(never)]
unsafe fn fast(mut at: *const u8, limit: *const u8, end: *const u8, output: &mut Output) -> Option<*const u8> {
    // SAFETY: at the loop's head `at` is before `limit`, so that the AHEAD bytes from there can be read: a tag, SHORT bytes
    // behind it, and a tag with one more behind a literal of SHORT bytes. `output.at` is not behind `output.end`, so that
    // the literal's SHORT bytes end within the SLOP; if the literal itself ends behind `output.end`, neither a copy nor
    // `element` takes place, and who called finds that the lengths differ. A copy reads within what was decoded, or bytes that
    // were written as slop, and writes 16 bytes from a place that is not behind `output.end`.
    unsafe {
        while at < limit {
            let tag = usize::from(*at);
            if tag & 3 == 0 {
                let len = (tag >> 2) + 1;
                if len > SHORT {
                    at = element(at, end, output)?;
                    continue;
                }
                copy_16(at.add(1), output.at);
                if len > 16 {
                    copy_16(at.add(17), output.at.add(16));
                }
                output.at = output.at.add(len);
                at = at.add(1 + len);
            }
            // Nearly always a copy now: not asking saves a jump that can't be foreseen.
            let tag = usize::from(*at);
            if tag & 3 == 1 {
                let len = 4 + (tag >> 2 & 7);
                let offset = (tag & 0xe0) << 3 | usize::from(*at.add(1));
                let to = output.at;
                let behind = to.add(len);
                if offset >= 8 && offset <= to as usize - output.start as usize && behind <= output.end {
                    let from = to.sub(offset);
                    copy_8(from, to);
                    // Of a short one the second half is not needed: loading it would wait for the literal just stored.
                    copy_8(if len > 8 { from.add(8) } else { from }, to.add(8));
                    at = at.add(2);
                    output.at = behind;
                    continue;
                }
            }
            if at < limit {
                at = element(at, end, output)?;
            }
        }
    }
    (output.at <= output.end).then_some(at)
}

/// Decodes one element. Returns where the next one is, not behind `end`; `None` if it can't be right.
///
/// # Safety
/// `at` is before `end`, and behind `end` there are 16 more bytes than a literal that reaches it may use.
#[inline]
unsafe fn element(mut at: *const u8, end: *const u8, output: &mut Output) -> Option<*const u8> {
    // SAFETY: the tag is before `end`, at most four bytes belong to it, and 17 can be read. Every length is compared with
    // what is left of input and output before it is used; what is written beyond it ends within the SLOP: 15 bytes
    // behind a literal, 16 behind a copy. A copy reads from its offset on, which is within what was decoded.
    unsafe {
        let tag = usize::from(*at);
        let room = (output.end as usize).checked_sub(output.at as usize)?;
        let (len, offset);
        match tag & 3 {
            0 => {
                let mut len = (tag >> 2) + 1;
                at = at.add(1);
                if len > 60 {
                    let bytes = len - 60;
                    len = 1 + (0..bytes).fold(0, |n, i| n | usize::from(*at.add(i)) << (8 * i));
                    at = at.add(bytes);
                }
                if (end as usize).checked_sub(at as usize)? < len || room < len {
                    return None;
                }
                if len <= 16 {
                    copy_16(at, output.at)
                } else {
                    ptr::copy_nonoverlapping(at, output.at, len)
                }
                output.at = output.at.add(len);
                return Some(at.add(len));
            }
            1 => {
                (len, offset) = (4 + (tag >> 2 & 7), (tag & 0xe0) << 3 | usize::from(*at.add(1)));
                at = at.add(2);
            }
            2 => {
                (len, offset) = ((tag >> 2) + 1, usize::from(u16::from_le(at.add(1).cast::<u16>().read_unaligned())));
                at = at.add(3);
            }
            _ => {
                (len, offset) = ((tag >> 2) + 1, u32::from_le(at.add(1).cast::<u32>().read_unaligned()) as usize);
                at = at.add(5);
            }
        }
        let to = output.at;
        if at > end || offset == 0 || offset > to as usize - output.start as usize || len > room {
            return None;
        }
        output.at = to.add(len);
        repeat(to, output.at, offset);
        Some(at)
    }
}

/// Fills from `to` up to `behind`, and at most 15 bytes further, with what stands `offset` bytes before.
///
/// # Safety
/// `offset` is not 0, so many bytes can be read before `to`, and 16 written behind `behind`.
#[inline]
unsafe fn repeat(mut to: *mut u8, behind: *mut u8, mut offset: usize) {
    // SAFETY: every step begins before `behind` and reads at least as many bytes before `to` as it moves on. With an
    // offset shorter than a step the bytes beyond it are not yet those wanted: the step moves on by the offset only, after
    // which twice the offset is as good.
    unsafe {
        while to < behind {
            if offset >= 16 {
                copy_16(to.sub(offset), to);
                to = to.add(16);
            } else if offset >= 8 {
                copy_8(to.sub(offset), to);
                to = to.add(8);
            } else {
                copy_8(to.sub(offset), to);
                to = to.add(offset);
                offset *= 2;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng, RngCore, SeedableRng};

    use super::*;

    fn ours(stored: &[u8]) -> Option<Vec<u8>> {
        let (elements, len) = header(stored).ok()?;
        let len = usize::try_from(len).ok().filter(|&len| len <= 1 << 20)?;
        // What is there already must not show.
        let mut out = vec![0xa5; len + SLOP];
        decode(&stored[elements..], &mut out, len).ok()?;
        out.truncate(len);
        Some(out)
    }

    fn theirs(stored: &[u8]) -> Option<Vec<u8>> {
        snap::raw::decompress_len(stored).ok().filter(|&len| len <= 1 << 20)?;
        snap::raw::Decoder::new().decompress_vec(stored).ok()
    }

    #[track_caller]
    fn same(stored: &[u8]) -> bool {
        let found = ours(stored);
        assert_eq!(found, theirs(stored), "{stored:02x?}");
        found.is_some()
    }

    /// A block of random elements, most of them allowed, and how many of each kind.
    fn block(rng: &mut SmallRng, seen: &mut [u64; 8]) -> Vec<u8> {
        let (mut elements, mut len) = (Vec::new(), 0_usize);
        for _ in 0..rng.random_range(0..60) {
            let wrong = rng.random_ratio(1, 1000);
            match rng.random_range(0..10) {
                0..5 => {
                    let n = match rng.random_range(0..20) {
                        0 => rng.random_range(61..300),
                        1 => rng.random_range(17..=60),
                        _ => rng.random_range(1..=16),
                    };
                    if n > 60 {
                        let bytes = rng.random_range(if n > 256 { 2 } else { 1 }..=4);
                        elements.push((59 + bytes as u8) << 2);
                        elements.extend_from_slice(&(n as u32 - 1).to_le_bytes()[..bytes]);
                        seen[bytes - 1] += 1;
                    } else {
                        elements.push((n as u8 - 1) << 2);
                        seen[4] += 1;
                    }
                    elements.extend((0..n).map(|_| rng.random_range(b'a'..b'f')));
                    len += n;
                }
                kind if len > 0 || wrong => {
                    let near = rng.random_range(1..=len.clamp(1, 20));
                    let far = rng.random_range(1..=len.max(1));
                    let offset = if wrong {
                        rng.random_range(0..3 * len + 1)
                    } else if rng.random() {
                        near
                    } else {
                        far
                    };
                    let (long, short) = (rng.random_range(1..=64), rng.random_range(4..=11));
                    if kind < 8 && offset < 2048 {
                        elements.extend([1 | (short as u8 - 4) << 2 | (offset >> 8 << 5) as u8, offset as u8]);
                        len += short;
                        seen[5] += 1;
                    } else if kind < 9 && offset < 1 << 16 {
                        elements.push(2 | (long as u8 - 1) << 2);
                        elements.extend_from_slice(&(offset as u16).to_le_bytes());
                        len += long;
                        seen[6] += 1;
                    } else {
                        elements.push(3 | (long as u8 - 1) << 2);
                        elements.extend_from_slice(&(offset as u32).to_le_bytes());
                        len += long;
                        seen[7] += 1;
                    }
                }
                _ => {}
            }
        }
        let mut stored = Vec::new();
        let mut rest = len;
        while rest >= 0x80 {
            stored.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        stored.push(rest as u8);
        stored.append(&mut elements);
        stored
    }

    #[test]
    fn random_elements_are_decoded_and_refused_as_by_the_crate() {
        const SEED: u64 = 11;
        let mut rng = SmallRng::seed_from_u64(SEED);
        let (mut sound, mut refused, mut seen) = (0, 0, [0; 8]);
        for _ in 0..20_000 {
            let mut stored = block(&mut rng, &mut seen);
            match same(&stored) {
                true => sound += 1,
                false => refused += 1,
            }
            // One byte another, or the end missing.
            let at = rng.random_range(0..stored.len());
            if rng.random() {
                stored.truncate(at)
            } else {
                stored[at] ^= rng.random_range(1..=255_u8)
            }
            match same(&stored) {
                true => sound += 1,
                false => refused += 1,
            }
        }
        println!("seed {SEED}: {sound} decoded, {refused} refused, elements {seen:?}");
        assert!(sound > 15_000 && refused > 5_000 && seen.iter().all(|&n| n > 2_000), "{sound} {refused} {seen:?}");
    }

    #[test]
    fn what_the_encoder_makes_comes_back() {
        let mut rng = SmallRng::seed_from_u64(12);
        for len in (0..300).chain([1000, 2300, 65_535, 65_536, 65_537, 200_000]) {
            for spread in [1, 3, 40, 256] {
                let record: Vec<u8> = (0..len).map(|_| (rng.next_u32() % spread) as u8).collect();
                let stored = snap::raw::Encoder::new().compress_vec(&record).unwrap();
                assert_eq!(ours(&stored), Some(record));
            }
        }
    }

    #[test]
    fn every_header_is_read_as_by_the_crate() {
        for stored in
            [&[][..], &[0x80], &[0xff; 5], &[0xff; 6], &[0xff, 0xff, 0xff, 0xff, 0x0f], &[0x80, 0x80, 0x80, 0x80, 0]]
        {
            let theirs = snap::raw::decompress_len(stored);
            // The crate takes no bytes at all for an empty record; no log has one.
            if !stored.is_empty() {
                assert_eq!(header(stored).ok().map(|(_, len)| len), theirs.ok().map(|len| len as u64), "{stored:02x?}");
            }
        }
        assert!(header(&[]).is_err());
    }
}
