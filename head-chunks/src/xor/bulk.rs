//! Many samples into an XOR chunk in one loop: the state stays in registers, and nothing in it is a branch that no predictor
//! knows. What is rare is left to `append`.

use core::hint::select_unpredictable;

use super::AppendState;
use crate::bits::{BulkBits, rare};
use crate::error::ChunkFull;
use crate::floats::Count;
use crate::window::{BulkWindow, Prefix};

/// The most that a sample takes here: a delta of deltas, a window and all bits of a value.
const MOST_BITS: u32 = 16 + 2 + 11 + 64;

impl AppendState {
    /// Appends samples one behind the other: what [`AppendState::append`] does to each of them, in less time. Full pieces go
    /// to `out`.
    ///
    /// # Errors
    /// [`ChunkFull`] at 65,535 samples; those before are appended.
    #[inline]
    pub fn append_all(
        &mut self,
        samples: impl IntoIterator<Item = (i64, f64)>,
        out: &mut Vec<u8>,
    ) -> Result<(), ChunkFull> {
        let mut samples = samples.into_iter();
        while let Some((t, value)) = self.append_run(&mut samples, out) {
            self.append(t, value, &mut |piece| out.extend_from_slice(&piece))?;
        }
        Ok(())
    }

    /// Appends what is in no piece to a chunk of which `out` has all pieces from `start` on, and puts the number of samples
    /// at their front.
    pub(crate) fn close(&self, start: usize, out: &mut Vec<u8>) {
        let (tail, len) = self.tail();
        out.extend_from_slice(&tail[..len]);
        if let Some(header) = out[start..].first_chunk_mut() {
            *header = self.header();
        }
    }

    /// Appends samples up to one that is not as nearly all are, which it returns.
    #[inline(always)]
    fn append_run(&mut self, samples: &mut impl Iterator<Item = (i64, f64)>, out: &mut Vec<u8>) -> Option<(i64, f64)> {
        if self.num_samples() < 2 {
            return samples.next();
        }
        let Self { mut t, mut delta, mut value, .. } = *self;
        let (mut window, mut count) = (BulkWindow::new(self.bits.beside.window()), self.num_samples());
        let mut buffer = BulkBits::buffer();
        let mut bits = BulkBits::new(&self.bits, &mut buffer);
        let left = loop {
            let Some((next_t, next)) = samples.next() else { break None };
            let next_delta = next_t.wrapping_sub(t) as u64;
            let dod = next_delta.wrapping_sub(delta) as i64;
            if !(-8_191..=8_192).contains(&dod) || count == u16::MAX || !bits.has_room(MOST_BITS) {
                rare();
                break Some((next_t, next));
            }
            // Whether a scrape came late is not to be predicted.
            let front = select_unpredictable(dod == 0, 0, 0b10 << 14 | dod as u64 & 0x3fff);
            let front_len = select_unpredictable(dod == 0, 1, 16);
            let xor = value ^ next.to_bits();
            bits.push(front, front_len);
            if window.covers_narrow(xor) {
                let field = 0b10_u64.wrapping_shl(window.len) | window.significant(xor);
                bits.push(select_unpredictable(xor == 0, 0, field), select_unpredictable(xor == 0, 1, 2 + window.len));
                bits.store(&mut buffer);
            } else if window.covers(xor) {
                bits.push(0b10, 2);
                bits.put_long(window.significant(xor), window.len, &mut buffer);
            } else {
                let (field, len) = window.renew(xor, Prefix(0b11, 2));
                bits.push(field, len);
                bits.store(&mut buffer);
                bits.put_long(window.significant(xor), window.len, &mut buffer);
            }
            (t, delta, value) = (next_t, next_delta, next.to_bits());
            count += 1;
        };
        bits.finish(&buffer, &mut self.bits, out);
        (self.t, self.delta, self.value) = (t, delta, value);
        self.bits.beside = Count::new(count, window.window());
        left
    }
}

#[cfg(test)]
mod tests {
    use super::super::XorAppender;
    use super::*;

    #[test]
    fn appended_together_as_one_by_one() {
        let mut seen = [0; 5];
        crate::floats::random_runs(|samples, cuts| {
            let mut one_by_one = XorAppender::new();
            samples.iter().for_each(|&(t, v)| one_by_one.append(t, v).expect("there is room"));
            let mut together = XorAppender::new();
            for some in crate::floats::cut(samples, cuts) {
                together.append_all(some.iter().copied()).expect("there is room");
            }
            assert_eq!(together.state(), one_by_one.state());
            assert_eq!(together.to_bytes(), one_by_one.to_bytes());
            crate::floats::count_kinds(samples, &mut seen);
        });
        assert!(seen.iter().all(|n| *n > 1_000), "kinds of samples: {seen:?}");
        let mut appender = XorAppender::new();
        let full = appender.append_all((0..70_000).map(|t| (t, 0.5 * (t % 7) as f64)));
        assert_eq!((full, appender.state().num_samples()), (Err(ChunkFull { capacity: 65_535 }), 65_535));
    }
}
