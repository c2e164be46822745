//! The chunks of a partition's series that are on disk: one entry each, chained from the newest to the oldest.

use std::collections::HashMap;

use head_chunks::Encoding;

/// No entry.
pub(crate) const NONE: u32 = u32::MAX;

/// A chunk in a chunk file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mapped {
    /// File number and offset, packed as the reference packs it.
    pub(crate) chunk: u64,
    pub(crate) mint: i64,
    pub(crate) maxt: i64,
    pub(crate) samples: u16,
    pub(crate) encoding: Encoding,
}

/// A [`Mapped`] and its place in the chain. A head has several of them per series for hours: 24 bytes.
#[derive(Debug)]
struct Entry {
    chunk: u64,
    /// Beyond the partition's base.
    mint: u32,
    /// From there to the last sample.
    span: u32,
    older: u32,
    /// 0 when the entry is free.
    samples: u16,
    encoding: Encoding,
    /// Times are in [`MappedChunks::wide`].
    wide: bool,
}

const _: () = assert!(size_of::<Entry>() == 24);

/// Entries with a free list through `older`.
#[derive(Debug)]
pub(crate) struct MappedChunks {
    entries: Vec<Entry>,
    free: u32,
    base: i64,
    /// First and last time of the chunks that 2³² ms (49 days) from the base do not reach.
    wide: HashMap<u32, (i64, i64)>,
}

impl Default for MappedChunks {
    fn default() -> Self {
        Self { entries: Vec::new(), free: NONE, base: 0, wide: HashMap::new() }
    }
}

impl MappedChunks {
    /// Puts a chunk in front of `newest`, which names it afterwards.
    pub(crate) fn push(&mut self, newest: &mut u32, mapped: Mapped) {
        let times = match self.narrow(mapped) {
            None => {
                self.rebase(mapped.mint);
                self.narrow(mapped)
            }
            times => times,
        };
        let (mint, span) = times.unwrap_or_default();
        let Mapped { chunk, samples, encoding, .. } = mapped;
        let entry = Entry { chunk, mint, span, older: *newest, samples, encoding, wide: times.is_none() };
        let id = if self.free == NONE {
            if self.entries.len() == self.entries.capacity() {
                self.entries.reserve_exact((self.entries.len() / 8).max(64));
            }
            self.entries.push(entry);
            (self.entries.len() - 1) as u32
        } else {
            let id = self.free;
            self.free = self.entries[id as usize].older;
            self.entries[id as usize] = entry;
            id
        };
        if times.is_none() {
            self.wide.insert(id, (mapped.mint, mapped.maxt));
        }
        *newest = id;
    }

    /// The chunk's times as an entry holds them, if it can.
    fn narrow(&self, mapped: Mapped) -> Option<(u32, u32)> {
        let mint = u32::try_from(mapped.mint.checked_sub(self.base)?).ok()?;
        Some((mint, u32::try_from(mapped.maxt.checked_sub(mapped.mint)?).ok()?))
    }

    /// Moves the base to the oldest chunk there is, `mint` or an entry's, unless that hardly changes it.
    fn rebase(&mut self, mint: i64) {
        let live = || self.entries.iter().filter(|entry| entry.samples > 0 && !entry.wide);
        let oldest = live().map(|entry| self.base + i64::from(entry.mint)).min().unwrap_or(mint).min(mint);
        let Some(shift) = oldest.checked_sub(self.base).filter(|shift| shift.unsigned_abs() > 1 << 30) else { return };
        let newest = live().map(|entry| i64::from(entry.mint)).max().unwrap_or(shift);
        if u32::try_from(newest.saturating_sub(shift)).is_err() {
            return;
        }
        for entry in self.entries.iter_mut().filter(|entry| entry.samples > 0 && !entry.wide) {
            entry.mint = (i64::from(entry.mint) - shift) as u32;
        }
        self.base = oldest;
    }

    fn mapped(&self, id: u32) -> Option<(Mapped, u32)> {
        let &Entry { chunk, mint, span, older, samples, encoding, wide } = self.entries.get(id as usize)?;
        let mint = self.base + i64::from(mint);
        let narrow = (mint, mint + i64::from(span));
        let (mint, maxt) = if wide { self.wide.get(&id).copied().unwrap_or(narrow) } else { narrow };
        Some((Mapped { chunk, mint, maxt, samples, encoding }, older))
    }

    /// The chunks of a chain, newest first.
    pub(crate) fn chain(&self, newest: u32) -> impl Iterator<Item = Mapped> {
        let mut id = newest;
        std::iter::from_fn(move || {
            let (mapped, older) = self.mapped(id)?;
            id = older;
            Some(mapped)
        })
    }

    /// Drops the chunks that end before `mint`; they are the oldest ones. Returns how many.
    pub(crate) fn truncate(&mut self, newest: &mut u32, mint: i64) -> usize {
        let mut link: Option<u32> = None;
        let mut id = *newest;
        while let Some((mapped, older)) = self.mapped(id)
            && mapped.maxt >= mint
        {
            link = Some(id);
            id = older;
        }
        match link {
            None => *newest = NONE,
            Some(kept) => self.entries[kept as usize].older = NONE,
        }
        self.release(id)
    }

    /// Drops a whole chain. Returns how many there were.
    pub(crate) fn clear(&mut self, newest: &mut u32) -> usize {
        self.release(std::mem::replace(newest, NONE))
    }

    fn release(&mut self, mut id: u32) -> usize {
        let mut released = 0;
        while let Some(entry) = self.entries.get_mut(id as usize) {
            if std::mem::take(&mut entry.wide) {
                self.wide.remove(&id);
            }
            entry.samples = 0;
            let older = std::mem::replace(&mut entry.older, self.free);
            self.free = id;
            id = older;
            released += 1;
        }
        released
    }

    pub(crate) fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>() + self.wide.capacity() * 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(n: i64) -> Mapped {
        Mapped { chunk: n as u64, mint: n * 10, maxt: n * 10 + 9, samples: 120, encoding: Encoding::Xor }
    }

    #[test]
    fn chains_are_cut_at_their_old_end_and_reused() {
        let mut chunks = MappedChunks::default();
        let (mut a, mut b) = (NONE, NONE);
        for n in 0..6 {
            chunks.push(&mut a, chunk(n));
            chunks.push(&mut b, chunk(100 + n));
        }
        assert_eq!(chunks.truncate(&mut a, 29), 2);
        assert_eq!(chunks.chain(a).map(|c| c.chunk).collect::<Vec<_>>(), [5, 4, 3, 2]);
        assert_eq!(chunks.truncate(&mut a, i64::MAX), 4);
        assert_eq!(a, NONE);
        for n in 6..12 {
            chunks.push(&mut b, chunk(100 + n));
        }
        assert_eq!(chunks.entries.len(), 12);
        assert_eq!(chunks.chain(b).map(|c| c.chunk).collect::<Vec<_>>(), (100..112).rev().collect::<Vec<_>>());
        assert_eq!(chunks.clear(&mut b), 12);
    }

    #[test]
    fn times_far_apart_are_kept() {
        use rand::{Rng, SeedableRng, rngs::SmallRng};
        let mut rng = SmallRng::seed_from_u64(2);
        let (mut wide, mut narrow) = (0, 0);
        for _ in 0..300 {
            let mut chunks = MappedChunks::default();
            let (mut newest, mut model) = (NONE, Vec::new());
            let far = [1 << 20, 1 << 31, 1 << 36, 1 << 61][rng.random_range(0..4)];
            let mut t = *[0, i64::MIN + 1, 1_700_000_000_000].get(rng.random_range(0..3_usize)).unwrap();
            for _ in 0..rng.random_range(1..60) {
                if rng.random_bool(0.1) {
                    let before = model.len();
                    let mint = t.saturating_sub(rng.random_range(0..far));
                    model.retain(|chunk: &Mapped| chunk.maxt >= mint);
                    assert_eq!(chunks.truncate(&mut newest, mint), before - model.len());
                }
                let mint = t.saturating_add(rng.random_range(1..far));
                let maxt = mint.saturating_add(if rng.random_bool(0.1) { far } else { rng.random_range(0..1 << 20) });
                if maxt == i64::MAX {
                    break;
                }
                t = maxt;
                let chunk = Mapped { mint, maxt, ..chunk(rng.random_range(0..1 << 40)) };
                chunks.push(&mut newest, chunk);
                model.push(chunk);
                assert!(chunks.chain(newest).eq(model.iter().rev().copied()));
            }
            wide += chunks.wide.len();
            narrow += model.len() - chunks.wide.len();
            assert!(chunks.wide.len() <= model.len());
        }
        println!("{wide} wide, {narrow} narrow");
        assert!(wide > 500 && narrow > 1_000);
    }
}
