//! The chunks of a partition's series that are on disk: one entry each, chained from the newest to the oldest.

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

/// A [`Mapped`] and its place in the chain, without the padding that nesting would cost.
#[derive(Debug)]
struct Entry {
    chunk: u64,
    mint: i64,
    maxt: i64,
    samples: u16,
    encoding: Encoding,
    older: u32,
}

const _: () = assert!(size_of::<Entry>() == 32);

impl Entry {
    fn new(mapped: Mapped, older: u32) -> Self {
        let Mapped { chunk, mint, maxt, samples, encoding } = mapped;
        Self { chunk, mint, maxt, samples, encoding, older }
    }

    fn mapped(&self) -> Mapped {
        let &Self { chunk, mint, maxt, samples, encoding, .. } = self;
        Mapped { chunk, mint, maxt, samples, encoding }
    }
}

/// Entries with a free list through `older`.
#[derive(Debug)]
pub(crate) struct MappedChunks {
    entries: Vec<Entry>,
    free: u32,
}

impl Default for MappedChunks {
    fn default() -> Self {
        Self { entries: Vec::new(), free: NONE }
    }
}

impl MappedChunks {
    /// Puts a chunk in front of `newest`, which names it afterwards.
    pub(crate) fn push(&mut self, newest: &mut u32, mapped: Mapped) {
        let entry = Entry::new(mapped, *newest);
        if self.free == NONE {
            if self.entries.len() == self.entries.capacity() {
                self.entries.reserve_exact((self.entries.len() / 4).max(64));
            }
            self.entries.push(entry);
            *newest = (self.entries.len() - 1) as u32;
        } else {
            let id = self.free;
            self.free = self.entries[id as usize].older;
            self.entries[id as usize] = entry;
            *newest = id;
        }
    }

    /// The chunks of a chain, newest first.
    pub(crate) fn chain(&self, newest: u32) -> impl Iterator<Item = Mapped> {
        let mut id = newest;
        std::iter::from_fn(move || {
            let entry = self.entries.get(id as usize)?;
            id = entry.older;
            Some(entry.mapped())
        })
    }

    /// Drops the chunks that end before `mint`; they are the oldest ones. Returns how many.
    pub(crate) fn truncate(&mut self, newest: &mut u32, mint: i64) -> usize {
        let mut link: Option<u32> = None;
        let mut id = *newest;
        while let Some(entry) = self.entries.get(id as usize)
            && entry.maxt >= mint
        {
            link = Some(id);
            id = entry.older;
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
            let older = std::mem::replace(&mut entry.older, self.free);
            self.free = id;
            id = older;
            released += 1;
        }
        released
    }

    pub(crate) fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
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
}
