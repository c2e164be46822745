//! Many packed chunks at once, as XOR.

use super::lanes::{LANES, Lanes, MOST_BITS, PACKED, STEPS, are_wide};
use super::{Meta, PackedState};

/// So few chunks are made one by one: side by side, eight take as long as any number of them.
const FEW: usize = 4;

/// Makes XOR chunks of packed ones, several side by side where the machine has registers for that: the chunks of a scrape
/// fill together. An owner keeps it for the next time, as it is 60 KiB large.
///
/// ```
/// use head_chunks::packed::{Assembler, PackedState};
/// use head_chunks::xor::XorIter;
/// let mut chunks = Vec::new();
/// for slope in 0..20 {
///     let (mut state, mut pieces, mut bytes) = (PackedState::new(), Vec::new(), Vec::new());
///     for i in 0..120 {
///         state.append(i * 15_000, (slope * i) as f64, &mut |piece| pieces.push(piece)).expect("integers");
///     }
///     state.gather(pieces.iter().map(|piece| &piece[..]), &mut bytes);
///     chunks.push((state, bytes));
/// }
/// let mut last = Vec::new();
/// Assembler::default().assemble(chunks.iter().map(|(state, bytes)| (Some(*state), &bytes[..])), |xor| {
///     last.push(XorIter::new(xor).expect("a chunk").last().expect("samples").expect("sound").1);
/// });
/// assert_eq!((last.len(), last[0], last[19]), (20, 0.0, 19.0 * 119.0));
/// ```
#[derive(Debug, Default)]
pub struct Assembler {
    lanes: Option<Box<Lanes>>,
    /// A chunk that is made alone.
    alone: Vec<u8>,
}

/// A packed chunk that waits for others.
type Waiting<'a> = (PackedState, &'a [u8]);

impl Assembler {
    /// Hands each chunk's exact XOR bytes to `done`, in the order of `chunks`. A chunk comes with all its bytes, as
    /// [gathered](PackedState::gather); one without a state is handed on as it is.
    pub fn assemble<'a>(
        &mut self,
        chunks: impl IntoIterator<Item = (Option<PackedState>, &'a [u8])>,
        mut done: impl FnMut(&[u8]),
    ) {
        self.assemble_as(are_wide(), chunks, &mut done);
    }

    fn assemble_as<'a>(
        &mut self,
        wide: bool,
        chunks: impl IntoIterator<Item = (Option<PackedState>, &'a [u8])>,
        done: &mut impl FnMut(&[u8]),
    ) {
        let mut group: [Waiting<'a>; LANES] = [(PackedState::new(), &[]); LANES];
        let mut used = 0;
        for (state, bytes) in chunks {
            match state.filter(|state| state.form() > 0) {
                Some(state) if wide && state.fits_a_lane() => {
                    group[used] = (state, bytes);
                    used += 1;
                    if used == LANES {
                        self.make_group(&group, done);
                        used = 0;
                    }
                }
                other => {
                    // They come first.
                    self.make_group(&group[..used], done);
                    used = 0;
                    match other {
                        Some(state) => self.make_alone(state, bytes, done),
                        None => done(bytes),
                    }
                }
            }
        }
        self.make_group(&group[..used], done);
    }

    fn make_group(&mut self, group: &[Waiting<'_>], done: &mut impl FnMut(&[u8])) {
        if group.len() < FEW {
            group.iter().for_each(|&(state, bytes)| self.make_alone(state, bytes, done));
            return;
        }
        let mut lanes = self.lanes.take().unwrap_or_else(Lanes::new);
        for (lane, (state, bytes)) in group.iter().enumerate() {
            lanes.set(lane, state.num_samples(), state.form() - 1, bytes);
        }
        lanes.make(group.len());
        for (lane, &(state, bytes)) in group.iter().enumerate() {
            match lanes.chunk(lane) {
                Some(xor) => done(xor),
                None => self.make_alone(state, bytes, done),
            }
        }
        self.lanes = Some(lanes);
    }

    fn make_alone(&mut self, state: PackedState, bytes: &[u8], done: &mut impl FnMut(&[u8])) {
        self.alone.clear();
        state.assemble_packed(bytes, state.form() - 1, &mut self.alone);
        done(&self.alone);
    }
}

impl PackedState {
    /// Whether [`Lanes`] have room for the packed chunk.
    fn fits_a_lane(&self) -> bool {
        (2..=STEPS).contains(&self.num_samples().into())
            && self.byte_len() <= PACKED
            && Meta(self.state.delta).xor_bits() <= MOST_BITS
    }
}

#[cfg(test)]
mod tests {
    use super::super::lanes::NARROW;
    use super::super::tests::next;
    use super::*;
    use crate::packed::Misfit;
    use crate::xor::XorAppender;
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    #[test]
    fn side_by_side_as_alone() {
        let seed = 15;
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut assembler = Assembler::default();
        let (mut lanes, mut alone, mut odd, mut few, mut lengths, mut bits, mut wide) = (0, 0, 0, 0, 0, 0, 0);
        for _ in 0..1_500 {
            let like_each_other = rng.random_bool(0.7);
            let (usual_kind, usual_len) = (rng.random_range(0..7), rng.random_range(1..260));
            let mut chunks = Vec::new();
            let mut times = Vec::new();
            for _ in 0..rng.random_range(1..20) {
                let kind = if like_each_other { usual_kind } else { rng.random_range(0..7) };
                let len = if like_each_other { usual_len } else { rng.random_range(1..260) };
                let jitter = [0, 0, 3, 9_000, 40_000][rng.random_range(0..5)];
                let (mut state, mut pieces, mut model) = (PackedState::new(), Vec::new(), XorAppender::new());
                let mut t = rng.random_range(-(1_i64 << 40)..1 << 41);
                let mut v = f64::from(rng.random_range(0..1_000_000_u32));
                let (mut before, mut long_dod) = ([t, t], false);
                for n in 0..len {
                    t += 15_000 + rng.random_range(-jitter..=jitter) / 2;
                    v = next(&mut rng, kind, v);
                    while state.append(t, v, &mut |piece| pieces.extend_from_slice(&piece)) == Err(Misfit::Form) {
                        let mut fresh = Vec::new();
                        state = state.repack([&pieces[..]], t, v, &mut |piece| fresh.extend_from_slice(&piece));
                        pieces = fresh;
                    }
                    model.append(t, v).unwrap();
                    long_dod |= n > 1 && !(-8_191..=8_192).contains(&(t - 2 * before[1] + before[0]));
                    before = [before[1], t];
                }
                if state.form() > 0 && state.fits_a_lane() {
                    lanes += 1;
                    odd += u32::from(long_dod);
                    bits += u32::from(Meta(state.state.delta).xor_bits() > 8_192);
                    times.push(len);
                } else {
                    alone += 1;
                }
                let mut bytes = Vec::new();
                state.gather([&pieces[..]], &mut bytes);
                if rng.random_bool(0.05) {
                    chunks.push((None, model.to_bytes(), model.to_bytes()));
                } else {
                    chunks.push((Some(state), bytes, model.to_bytes()));
                }
            }
            few += u32::from((1..FEW).contains(&(times.len() % LANES)));
            times.dedup();
            lengths += u32::from(times.len() > 1);
            let mut got = Vec::new();
            let given = chunks.iter().map(|(state, bytes, _)| (*state, &bytes[..]));
            // In lanes in any case, also where the machine has no registers for them.
            NARROW.set(rng.random());
            wide += u32::from(are_wide());
            assembler.assemble_as(true, given, &mut |bytes| got.push(bytes.to_vec()));
            assert_eq!(got.len(), chunks.len());
            for (n, ((state, _, want), got)) in chunks.iter().zip(&got).enumerate() {
                assert!(got == want, "seed {seed}: chunk {n} of {}, {state:?}: {got:?}, not {want:?}", chunks.len());
            }
        }
        println!(
            "seed {seed}: {lanes} in lanes, {alone} not, {odd} odd, {bits} over a kibibyte, {few} times few, {lengths} \
             times of different lengths, {wide} times with registers of 512 bits"
        );
        NARROW.set(false);
        assert!(wide > 500 || !are_wide());
        assert!(lanes > 5_000 && alone > 1_000 && odd > 500 && few > 100 && lengths > 200 && bits > 500);
    }
}
