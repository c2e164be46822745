//! Many samples into an XOR2 chunk in one loop: as for XOR chunks, as long as they have no start timestamps.

use core::hint::select_unpredictable;

use tsdb_model::staleness::STALE_NAN_BITS;

use super::{AppendState, BEHIND_DOD, BEHIND_NO_DOD, LAST_CHANGE_ON};
use crate::bits::{BulkBits, rare};
use crate::error::ChunkFull;
use crate::floats::Count;
use crate::window::BulkWindow;

/// The most that a sample takes here: a delta of deltas, a window and all bits of a value.
const MOST_BITS: u32 = 16 + 3 + 11 + 64;

impl AppendState {
    /// Appends samples (`st`, `t`, value) one behind the other: what [`AppendState::append`] does to each of them, in less time
    /// as long as they have no start timestamps. Full pieces go to `out`.
    ///
    /// # Errors
    /// [`ChunkFull`] at 65,535 samples; those before are appended.
    #[inline]
    pub fn append_all(
        &mut self,
        samples: impl IntoIterator<Item = (i64, i64, f64)>,
        out: &mut Vec<u8>,
    ) -> Result<(), ChunkFull> {
        let mut samples = samples.into_iter();
        while let Some((st, t, value)) = self.append_run(&mut samples, out) {
            self.append(st, t, value, &mut |piece| out.extend_from_slice(&piece))?;
        }
        Ok(())
    }

    /// Appends samples up to one that is not as nearly all are, which it returns.
    #[inline(always)]
    fn append_run(
        &mut self,
        samples: &mut impl Iterator<Item = (i64, i64, f64)>,
        out: &mut Vec<u8>,
    ) -> Option<(i64, i64, f64)> {
        // Where there are start timestamps, one is behind every sample; and no later than here they begin.
        let end = if self.bits.flags() & LAST_CHANGE_ON == 0 { u16::from(LAST_CHANGE_ON) } else { 0 };
        let (window, mut count) = (self.bits.beside.window(), self.num_samples());
        if !(2..end).contains(&count) {
            return samples.next();
        }
        let Self { mut t, mut delta, mut baseline, start, .. } = *self;
        let mut window = BulkWindow::new(window);
        let mut buffer = BulkBits::buffer();
        let mut bits = BulkBits::new(&self.bits, &mut buffer);
        let left = loop {
            let Some((st, next_t, next)) = samples.next() else { break None };
            let next_delta = next_t.wrapping_sub(t) as u64;
            let dod = next_delta.wrapping_sub(delta) as i64;
            let common = (-4_096..=4_095).contains(&dod) && st == start && next.to_bits() != STALE_NAN_BITS;
            if !common || count == end || !bits.has_room(MOST_BITS) {
                rare();
                break Some((st, next_t, next));
            }
            // Whether a scrape came late is not to be predicted.
            let regular = dod == 0;
            let front = select_unpredictable(regular, 0, 0b110 << 13 | dod as u64 & 0x1fff);
            bits.push(front, select_unpredictable(regular, 0, 16));
            let xor = baseline ^ next.to_bits();
            let reused = select_unpredictable(regular, BEHIND_NO_DOD.reused.0, BEHIND_DOD.reused.0);
            let reused_len = select_unpredictable(regular, BEHIND_NO_DOD.reused.1, BEHIND_DOD.reused.1);
            if window.covers_narrow(xor) {
                let field = reused.wrapping_shl(window.len) | window.significant(xor);
                let len = reused_len + window.len;
                bits.push(select_unpredictable(xor == 0, 0, field), select_unpredictable(xor == 0, 1, len));
                bits.store(&mut buffer);
            } else if window.covers(xor) {
                bits.push(reused, reused_len);
                bits.put_long(window.significant(xor), window.len, &mut buffer);
            } else {
                let fresh = if regular { BEHIND_NO_DOD.fresh } else { BEHIND_DOD.fresh };
                let (field, len) = window.renew(xor, fresh);
                bits.push(field, len);
                bits.store(&mut buffer);
                bits.put_long(window.significant(xor), window.len, &mut buffer);
            }
            (t, delta, baseline) = (next_t, next_delta, next.to_bits());
            count += 1;
        };
        bits.finish(&buffer, &mut self.bits, out);
        (self.t, self.delta, self.baseline) = (t, delta, baseline);
        self.bits.beside = Count::new(count, window.window());
        left
    }
}

#[cfg(test)]
mod tests {
    use super::super::Xor2Appender;

    #[test]
    fn appended_together_as_one_by_one() {
        let mut seen = [0; 5];
        crate::floats::random_runs(|samples, cuts| {
            // Most without start timestamps, some with one that changes, or that is the same all along.
            let begin = usize::from(cuts[0]) * 3;
            let with_start = |n: usize| if n < begin { 0 } else { i64::from(cuts[1] & 1) * (n / 30 + 1) as i64 };
            let samples: Vec<_> = samples.iter().enumerate().map(|(n, &(t, v))| (with_start(n), t, v)).collect();
            let mut one_by_one = Xor2Appender::new();
            samples.iter().for_each(|&(st, t, v)| one_by_one.append(st, t, v).expect("there is room"));
            let mut together = Xor2Appender::new();
            for some in crate::floats::cut(&samples, cuts) {
                together.append_all(some.iter().copied()).expect("there is room");
            }
            assert_eq!(together.state(), one_by_one.state());
            assert_eq!(together.to_bytes(), one_by_one.to_bytes());
            let floats: Vec<_> = samples.iter().map(|&(_, t, v)| (t, v)).collect();
            crate::floats::count_kinds(&floats, &mut seen);
        });
        assert!(seen.iter().all(|n| *n > 1_000), "kinds of samples: {seen:?}");
    }
}
