//! Every sample of an XOR2 chunk in one loop: no calls in it, so that what it and its visitor work with stays in registers,
//! and as few instructions as possible, which are what a sample costs. What is rare is left to [`Xor2Iter`]'s `next`.

use super::Xor2Iter;
use crate::bits::{BitReader, LoopReader, rare};
use crate::error::DecodeError;
use crate::window::ReadWindow;

impl Xor2Iter<'_> {
    /// Calls `each` with every sample that is left, its time, value and start timestamp: the fastest way through a chunk.
    ///
    /// # Errors
    /// When the bytes are not a sound XOR2 chunk, behind the samples before the damage.
    #[inline]
    pub fn visit(mut self, mut each: impl FnMut(i64, f64, i64)) -> Result<(), DecodeError> {
        while let Some(sample) = self.next_apart() {
            let (t, value, st) = sample?;
            each(t, value, st);
            if self.read >= 2 {
                self.run(&mut each);
            }
        }
        Ok(())
    }

    /// [`Iterator::next`] as a call: what is rare in [`Xor2Iter::visit`].
    #[inline(never)]
    fn next_apart(&mut self) -> Option<Result<(i64, f64, i64), DecodeError>> {
        self.next()
    }

    /// Decodes samples from the third on, up to the first that is rare or not sound.
    #[inline(always)]
    fn run(&mut self, each: &mut impl FnMut(i64, f64, i64)) {
        let behind = self.run_in(LoopReader::new(self.bits), usize::MAX, each);
        self.bits = self.bits.from(behind.pos());
        if let Some((padded, from)) = self.bits.padded_tail() {
            let tail = LoopReader::new(BitReader::new(&padded, self.bits.pos() - from));
            let behind = self.run_in(tail, self.bits.end() - from, each);
            self.bits = self.bits.from(from + behind.pos());
        }
    }

    /// As [`Xor2Iter::run`], in other bytes, of which `end` bits count.
    #[inline(always)]
    fn run_in<'b>(
        &mut self,
        mut bits: LoopReader<'b>,
        end: usize,
        each: &mut impl FnMut(i64, f64, i64),
    ) -> LoopReader<'b> {
        let Self { mut window, mut t, mut delta, mut baseline, mut read, total, .. } = *self;
        while read < total {
            let (mut next_window, mut next_delta) = (window, delta);
            let Some((xor, mut behind)) = common(bits, &mut next_window, &mut next_delta) else {
                rare();
                break;
            };
            if self.st.is_behind(read) {
                let Some(further) = self.st.loop_read(behind, end, t) else {
                    rare();
                    break;
                };
                behind = further;
            }
            if behind.pos() > end {
                rare();
                break;
            }
            (bits, window, delta) = (behind, next_window, next_delta);
            baseline ^= xor;
            t = t.wrapping_add(delta as i64);
            read += 1;
            each(t, f64::from_bits(baseline), self.st.st);
        }
        (self.window, self.t, self.delta, self.baseline, self.read) = (window, t, delta, baseline, read);
        self.value = self.baseline;
        bits
    }
}

/// The difference of the next sample's value to the baseline, its window and delta, if they are common, and what is behind.
#[inline(always)]
fn common<'a>(bits: LoopReader<'a>, window: &mut ReadWindow, delta: &mut u64) -> Option<(u64, LoopReader<'a>)> {
    let word = bits.peek()?;
    if word >> 63 == 0 {
        return Some((0, bits.behind(1)));
    }
    if word << 1 >> 63 == 0 {
        return if word << 2 >> 63 == 0 {
            window.loop_known(word << 3, 3, bits)
        } else {
            window.loop_fresh(word << 3, 3, bits)
        };
    }
    if word << 2 >> 63 != 0 {
        return None;
    }
    *delta = delta.wrapping_add(((word << 3) as i64 >> 51) as u64);
    let rest = word << 16;
    if rest >> 63 == 0 {
        Some((0, bits.behind(17)))
    } else if rest << 1 >> 63 == 0 {
        window.loop_known(rest << 2, 18, bits)
    } else if rest << 2 >> 63 == 0 {
        window.loop_fresh(rest << 3, 19, bits)
    } else {
        None
    }
}
