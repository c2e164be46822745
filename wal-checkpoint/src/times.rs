//! How many samples of a record lie before a time, without decoding one value.
//!
//! ```text
//! V1  tag  ref(8) t(8)                then (varint ref delta, varint t delta to the base, value(8))*
//! V2  tag  varint ref, t, st, value(8) then (varint ref delta, varint t delta to the first, marker, [varint], value(8))*
//! ```
//!
//! A checkpoint decides for most records that all or nothing of them is dropped. For that only the times matter, and of
//! those only on which side of one bound they lie. Neighbours in a record mostly have integers of equal lengths, so the
//! scan guesses that the next [`RUN`] samples are shaped as the one it stands at, and looks at all of them at once: their
//! positions then do not depend on one another.

use tsdb_model::varint::{unzigzag, varint};

/// What a scan found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Times {
    /// Samples in the record.
    pub(crate) total: u64,
    /// Samples before the bound.
    pub(crate) below: u64,
}

/// Samples looked at in one step.
const RUN: usize = 8;

/// Scans a V1 record's body (what follows the tag). `None` when the body is no such record.
pub(crate) fn scan_v1(body: &[u8], mint: i64) -> Option<Times> {
    if body.is_empty() {
        return Some(Times::default());
    }
    let base = i64::from_be_bytes(body.get(8..16)?.try_into().ok()?);
    scan_entries::<0>(&body[16..], Bound::new(base, mint), Times::default())
}

/// Scans a V2 record's body (what follows the tag). `None` when the body is no such record.
pub(crate) fn scan_v2(body: &[u8], mint: i64) -> Option<Times> {
    if body.is_empty() {
        return Some(Times::default());
    }
    let (_ref, a) = varint(body).ok()?;
    let (first, b) = varint(&body[a..]).ok()?;
    let (_st, c) = varint(&body[a + b..]).ok()?;
    let rest = body.get(a + b + c + 8..)?;
    let seen = Times { total: 1, below: u64::from(first < mint) };
    scan_entries::<1>(rest, Bound::new(first, mint), seen)
}

/// The bound, as deltas to the record's base time see it.
struct Bound {
    base: i64,
    mint: i64,
    /// `mint - base` where no delta of two bytes can wrap around and the difference fits; such records only take runs.
    cut: Option<i64>,
}

/// No delta of one or two bytes is larger.
const SHORT_DELTA: i64 = 1 << 13;

impl Bound {
    fn new(base: i64, mint: i64) -> Self {
        let room = base.checked_add(SHORT_DELTA).is_some() && base.checked_sub(SHORT_DELTA).is_some();
        // Beyond the short deltas every cut says the same, so that an overflow is no special case.
        let cut = mint.saturating_sub(base);
        Self { base, mint, cut: room.then_some(cut) }
    }

    /// Whether a sample with this delta is before the bound. The addition wraps, as every reader's does.
    fn is_below(&self, delta: i64) -> bool {
        self.base.wrapping_add(delta) < self.mint
    }
}

/// `MARKER` is 1 when a start timestamp's marker byte follows the deltas, 0 when none does.
fn scan_entries<const MARKER: usize>(mut rest: &[u8], bound: Bound, mut seen: Times) -> Option<Times> {
    while !rest.is_empty() {
        if let Some(cut) = bound.cut {
            while let Some((taken, below)) = run::<MARKER>(rest, cut) {
                seen.total += RUN as u64;
                seen.below += below;
                rest = &rest[taken..];
            }
            if rest.is_empty() {
                break;
            }
        }
        let (_ref, a) = varint(rest).ok()?;
        let (delta, b) = varint(&rest[a..]).ok()?;
        let mut at = a + b;
        if MARKER == 1 {
            // 0 and 1 stand for themselves, anything else announces a delta.
            if *rest.get(at)? > 1 {
                at += varint(&rest[at + 1..]).ok()?.1;
            }
            at += 1;
        }
        rest = rest.get(at + 8..)?;
        seen.total += 1;
        seen.below += u64::from(bound.is_below(delta));
    }
    Some(seen)
}

/// The continuation bits of an entry's first four bytes, for each shape that a run can have: lengths of the reference
/// delta and of the time delta. (mask, expected)
const fn shape(ref_len: usize, t_len: usize) -> (u32, u32) {
    let mask = 0x8080_8080u32 >> (8 * (4 - ref_len - t_len));
    let mut expected = 0;
    if ref_len == 2 {
        expected |= 0x80;
    }
    if t_len == 2 {
        expected |= 0x80 << (8 * ref_len);
    }
    (mask, expected)
}

/// Counts the next [`RUN`] samples if all have the shape of the first: bytes they take and how many are below the cut.
fn run<const MARKER: usize>(rest: &[u8], cut: i64) -> Option<(usize, u64)> {
    let head = u32::from_le_bytes(rest.first_chunk::<4>().copied()?);
    match head & 0x8080_8080 {
        h if h & 0x8080 == 0 => run_of::<MARKER, 1, 1>(rest, cut),
        h if h & 0x80_8080 == 0x80 => run_of::<MARKER, 2, 1>(rest, cut),
        h if h & 0x80_8080 == 0x8000 => run_of::<MARKER, 1, 2>(rest, cut),
        0x80_0080 => run_of::<MARKER, 2, 2>(rest, cut),
        _ => None,
    }
}

fn run_of<const MARKER: usize, const REF: usize, const T: usize>(rest: &[u8], cut: i64) -> Option<(usize, u64)> {
    let (mask, expected) = const { shape(REF, T) };
    let stride = REF + T + MARKER + 8;
    let run = rest.get(..RUN * stride)?;
    let (mut wrong, mut below) = (0, 0);
    for entry in run.chunks_exact(stride) {
        let head = u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]);
        wrong |= (head & mask) ^ expected;
        let delta = head >> (8 * REF);
        let zigzag = if T == 1 { delta & 0x7f } else { (delta & 0x7f) | (delta >> 1 & 0x3f80) };
        below += u64::from(unzigzag(u64::from(zigzag)) < cut);
        if MARKER == 1 {
            wrong |= u32::from(entry[REF + T] > 1);
        }
    }
    (wrong == 0).then_some((RUN * stride, below))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};
    use tsdb_model::varint::put_varint;

    /// One delta, its length drawn first so that every length occurs.
    fn delta(rng: &mut SmallRng, short: bool) -> i64 {
        let bits = if short { 5 } else { [1, 5, 8, 12, 14, 30, 63][rng.random_range(0..7)] };
        let magnitude = (rng.random::<u64>() >> (64 - bits)) as i64;
        if rng.random() { magnitude } else { -magnitude }
    }

    fn base(rng: &mut SmallRng) -> i64 {
        match rng.random_range(0..6) {
            0 => i64::MAX - rng.random_range(0..20_000),
            1 => i64::MIN + rng.random_range(0..20_000),
            2 => 0,
            _ => 1_700_000_000_000 + rng.random_range(0..1_000_000),
        }
    }

    /// A record's body and the times in it, by the plainest of encoders.
    fn body(rng: &mut SmallRng, v2: bool) -> (Vec<u8>, Vec<i64>) {
        let (mut out, mut times) = (Vec::new(), Vec::new());
        let base = base(rng);
        let n = rng.random_range(0..80);
        if v2 {
            for v in [1, base, base.wrapping_sub(1)] {
                put_varint(&mut out, v);
            }
            out.extend([0xff; 8]);
            times.push(base);
        } else {
            out.extend(7u64.to_be_bytes());
            out.extend(base.to_be_bytes());
        }
        // Long stretches of one shape, and stretches of none.
        let mut like = (0, 0);
        for i in 0..n {
            if i % 24 == 0 || rng.random_range(0..30) == 0 {
                like = (delta(rng, false), delta(rng, false));
            }
            let short = rng.random_range(0..3) == 0;
            let (r, t) = if rng.random_range(0..40) == 0 { (delta(rng, short), delta(rng, short)) } else { like };
            put_varint(&mut out, r);
            put_varint(&mut out, t);
            if v2 {
                match rng.random_range(0..8) {
                    0 => {
                        out.push(rng.random_range(2..=255));
                        put_varint(&mut out, delta(rng, false));
                    }
                    m => out.push(m % 2),
                }
            }
            out.extend(rng.random::<[u8; 8]>());
            times.push(base.wrapping_add(t));
        }
        (out, times)
    }

    #[test]
    fn counts_what_a_plain_reader_counts() {
        let seed = crate::testing::seed();
        let mut rng = SmallRng::seed_from_u64(seed);
        let (mut all, mut none, mut some) = (0, 0, 0);
        for _ in 0..20_000 {
            let v2 = rng.random();
            let (body, times) = body(&mut rng, v2);
            let mint = match (rng.random_range(0..4), times.first()) {
                (0, _) | (_, None) => base(&mut rng),
                (_, Some(&t)) => t.saturating_add(delta(&mut rng, false)),
            };
            let below = times.iter().filter(|&&t| t < mint).count() as u64;
            let found = if v2 { scan_v2(&body, mint) } else { scan_v1(&body, mint) };
            assert_eq!(found, Some(Times { total: times.len() as u64, below }), "seed {seed}, mint {mint}, {body:?}");
            match below {
                0 => all += 1,
                n if n == times.len() as u64 => none += 1,
                _ => some += 1,
            }
        }
        println!("seed {seed}: kept whole {all}, dropped whole {none}, in between {some}");
        assert!(all > 1000 && none > 1000 && some > 1000);
    }

    #[test]
    fn a_record_that_ends_inside_an_entry_is_none() {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut cut = 0;
        for _ in 0..200 {
            let v2 = rng.random();
            let (body, times) = body(&mut rng, v2);
            // The entry's value is eight bytes long, so cutting less than that can only hit the last entry.
            if times.len() < 2 {
                continue;
            }
            for n in 1..8 {
                let body = &body[..body.len() - n];
                assert_eq!(if v2 { scan_v2(body, 0) } else { scan_v1(body, 0) }, None);
                cut += 1;
            }
        }
        assert!(cut > 500);
    }
}
