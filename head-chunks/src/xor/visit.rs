//! Every sample of an XOR chunk in one loop: no calls in it, so that what it and its visitor work with stays in registers,
//! and as few instructions as possible, which are what a sample costs. What is rare is left to [`XorIter`]'s `next`.

use super::{XorIter, short_dod};
use crate::bits::{BitReader, LoopReader, rare};
use crate::error::DecodeError;

impl XorIter<'_> {
    /// Calls `each` with every sample that is left: the fastest way through a chunk.
    ///
    /// ```
    /// # use head_chunks::xor::{XorAppender, XorIter};
    /// let mut appender = XorAppender::new();
    /// (0..5).try_for_each(|i| appender.append(i, 0.5))?;
    /// let mut sum = 0.0;
    /// XorIter::new(&appender.to_bytes())?.visit(|_, value| sum += value)?;
    /// assert_eq!(sum, 2.5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When the bytes are not a sound XOR chunk, behind the samples before the damage.
    #[inline]
    pub fn visit(mut self, mut each: impl FnMut(i64, f64)) -> Result<(), DecodeError> {
        while let Some(sample) = self.next_apart() {
            let (t, value) = sample?;
            each(t, value);
            if self.read >= 2 {
                self.run(&mut each);
            }
        }
        Ok(())
    }

    /// [`Iterator::next`] as a call: what is rare in [`XorIter::visit`].
    #[inline(never)]
    fn next_apart(&mut self) -> Option<Result<(i64, f64), DecodeError>> {
        self.next()
    }

    /// Decodes samples from the third on, up to the first that is rare or not sound.
    #[inline(always)]
    fn run(&mut self, each: &mut impl FnMut(i64, f64)) {
        let behind = self.run_in(LoopReader::new(self.bits), usize::MAX, each);
        self.bits = self.bits.from(behind.pos());
        if let Some((padded, from)) = self.bits.padded_tail() {
            let tail = LoopReader::new(BitReader::new(&padded, self.bits.pos() - from));
            let behind = self.run_in(tail, self.bits.end() - from, each);
            self.bits = self.bits.from(from + behind.pos());
        }
    }

    /// As [`XorIter::run`], in other bytes, of which `end` bits count.
    #[inline(always)]
    fn run_in<'b>(&mut self, mut bits: LoopReader<'b>, end: usize, each: &mut impl FnMut(i64, f64)) -> LoopReader<'b> {
        let Self { mut window, mut t, mut delta, mut value, read, total, .. } = *self;
        let mut left = total - read;
        while left > 0 {
            let Some(word) = bits.peek() else { break };
            let mut next_delta = delta;
            let mut next_window = window;
            let changed = if word >> 63 == 0 {
                next_window.loop_xor(word << 1, 1, bits)
            } else if word << 1 >> 63 == 0 {
                next_delta = delta.wrapping_add(short_dod(word) as u64);
                next_window.loop_xor(word << 16, 16, bits)
            } else {
                rare();
                break;
            };
            let Some((xor, behind)) = changed else {
                rare();
                break;
            };
            if behind.pos() > end {
                rare();
                break;
            }
            (bits, window, delta) = (behind, next_window, next_delta);
            value ^= xor;
            t = t.wrapping_add(delta as i64);
            left -= 1;
            each(t, f64::from_bits(value));
        }
        (self.window, self.t, self.delta, self.value, self.read) = (window, t, delta, value, total - left);
        bits
    }
}
