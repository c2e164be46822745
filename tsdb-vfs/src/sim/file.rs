//! A simulated file: what its readers see, and what of it a crash may leave.
//!
//! Blocks and length become durable independently of each other and in any order until a sync. For each block that was
//! written since, the file keeps what the disk surely has (`base`) and the versions that may have reached it.

use std::collections::BTreeMap;
use std::ops::Range;

use super::block::{self, BLOCK_SIZE, Slot};

/// Versions of a block kept between what is durable and what is current. More would multiply crash states, not kinds of
/// them.
const KEPT_VERSIONS: usize = 4;
/// Lengths kept between what is durable and what is current.
const KEPT_LENGTHS: usize = 8;

/// What a failed sync does with the pages it could not write. All of these are known of real kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dirty {
    /// They stay dirty: a later sync writes them.
    Keep,
    /// They count as clean: readers go on seeing them, no later sync writes them.
    Drop,
    /// They count as clean and show what the disk has.
    Revert,
}

/// A block that differs, or may differ, from the disk's.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    /// What the disk had at the last sync.
    pub(crate) base: Slot,
    /// What the block was meanwhile, oldest first, the current contents not among it.
    pub(crate) versions: Vec<Slot>,
    /// Counts as clean after a failed sync: another sync does not write it.
    clean: bool,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct FileNode {
    /// What readers see; blocks behind the end of this list are holes.
    blocks: Vec<Slot>,
    len: u64,
    durable_len: u64,
    /// Lengths the file had since the last sync, neither the durable nor the current one.
    lengths: Vec<u64>,
    pending: BTreeMap<usize, Pending>,
    /// The file before it was cut, as long as the cut is not durable. A cut happens as a whole or not at all: what it frees
    /// is never seen again once it has happened, and what is written behind it is lost if it has not.
    uncut: Option<Box<FileNode>>,
    /// Blocks that are reserved. No reader sees them, and a crash gives them back.
    reserved: Range<usize>,
}

fn index(offset: u64) -> usize {
    usize::try_from(offset / BLOCK_SIZE as u64).expect("a simulated file fits into memory")
}

impl FileNode {
    /// A file of which everything is durable.
    pub(crate) fn durable(mut blocks: Vec<Slot>, len: u64) -> Self {
        blocks.truncate(index(len.div_ceil(BLOCK_SIZE as u64) * BLOCK_SIZE as u64));
        let tail = (len % BLOCK_SIZE as u64) as usize;
        if let Some(last) = blocks.get_mut(index(len))
            && block::bytes(last)[tail..].iter().any(|&b| b != 0)
        {
            block::bytes_mut(last)[tail..].fill(0);
        }
        FileNode { blocks, len, durable_len: len, ..Default::default() }
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn blocks(&self) -> &[Slot] {
        &self.blocks
    }

    pub(crate) fn pending(&self) -> &BTreeMap<usize, Pending> {
        &self.pending
    }

    pub(crate) fn slot(&self, i: usize) -> Slot {
        self.blocks.get(i).cloned().flatten()
    }

    pub(crate) fn is_durable(&self) -> bool {
        self.pending.is_empty() && self.len == self.durable_len && self.lengths.is_empty() && self.uncut.is_none()
    }

    /// The file as it was before a cut that a crash may undo.
    pub(crate) fn uncut(&self) -> Option<&FileNode> {
        self.uncut.as_deref()
    }

    /// What a crash leaves that loses everything it can.
    pub(crate) fn worst(&self) -> (Vec<Slot>, u64) {
        if let Some(uncut) = &self.uncut {
            return uncut.worst();
        }
        let mut blocks = self.blocks.clone();
        for (&i, pending) in &self.pending {
            blocks.resize(blocks.len().max(i + 1), None);
            blocks[i] = pending.base.clone();
        }
        (blocks, self.durable_len)
    }

    /// The lengths a crash may leave: the durable one first, the current one second, then others in between, also the
    /// ends of blocks, as a file grows block by block when it is written back.
    pub(crate) fn possible_lengths(&self) -> Vec<u64> {
        let mut lengths = vec![self.durable_len, self.len];
        let mut add = |len: u64| {
            if !lengths.contains(&len) {
                lengths.push(len);
            }
        };
        self.lengths.iter().for_each(|&len| add(len));
        if self.len > self.durable_len {
            let first = self.durable_len / BLOCK_SIZE as u64 + 1;
            let ends = (first..self.len.div_ceil(BLOCK_SIZE as u64)).take(KEPT_LENGTHS);
            ends.for_each(|i| add(i * BLOCK_SIZE as u64));
        }
        lengths
    }

    /// Blocks that take space.
    pub(crate) fn allocated(&self) -> usize {
        let reserved = self.reserved.clone().filter(|&i| self.blocks.get(i).is_none_or(Option::is_none));
        self.blocks.iter().flatten().count() + reserved.count()
    }

    /// Whether a write there takes a block more.
    pub(crate) fn is_hole(&self, offset: u64) -> bool {
        let i = index(offset);
        self.blocks.get(i).is_none_or(Option::is_none) && !self.reserved.contains(&i)
    }

    pub(crate) fn reserve(&mut self, offset: u64, len: u64) {
        let end = index((offset + len).div_ceil(BLOCK_SIZE as u64) * BLOCK_SIZE as u64);
        let start = if self.reserved.is_empty() { index(offset) } else { self.reserved.start.min(index(offset)) };
        self.reserved = start..self.reserved.end.max(end);
    }

    pub(crate) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let n = self.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        let mut done = 0;
        while done < n {
            let at = offset + done as u64;
            let within = (at % BLOCK_SIZE as u64) as usize;
            let part = (n - done).min(BLOCK_SIZE - within);
            let into = &mut buf[done..done + part];
            match self.blocks.get(index(at)) {
                Some(slot) => into.copy_from_slice(&block::bytes(slot)[within..within + part]),
                None => into.fill(0),
            }
            done += part;
        }
        n
    }

    pub(crate) fn write(&mut self, data: &[u8], offset: u64) {
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let within = (at % BLOCK_SIZE as u64) as usize;
            let part = (data.len() - done).min(BLOCK_SIZE - within);
            block::bytes_mut(self.touch(index(at)))[within..within + part].copy_from_slice(&data[done..done + part]);
            done += part;
        }
        self.change_len(self.len.max(offset + data.len() as u64));
    }

    /// Reserves blocks of zeros. Only the length needs a sync: the blocks are zeros either way.
    pub(crate) fn allocate(&mut self, offset: u64, len: u64) {
        let end = offset + len;
        let last = index(end.div_ceil(BLOCK_SIZE as u64) * BLOCK_SIZE as u64);
        if self.blocks.len() < last {
            self.blocks.resize(last, None);
        }
        for slot in &mut self.blocks[index(offset)..last] {
            slot.get_or_insert_with(block::zeros);
        }
        self.change_len(self.len.max(end));
    }

    pub(crate) fn set_len(&mut self, len: u64) {
        if len <= self.len {
            self.reserved.end = self.reserved.end.min(index(len.div_ceil(BLOCK_SIZE as u64) * BLOCK_SIZE as u64));
        }
        if len < self.len {
            self.cut(len);
        } else {
            self.change_len(len);
        }
    }

    fn cut(&mut self, len: u64) {
        let mut uncut = self.clone();
        // Of several cuts in a row the state before the first and the one before the last are remembered.
        if let Some(earlier) = &mut uncut.uncut
            && let Some(first) = earlier.uncut.take()
        {
            *earlier = first;
        }
        self.uncut = Some(Box::new(uncut));
        let tail = (len % BLOCK_SIZE as u64) as usize;
        let kept = index(len) + usize::from(tail != 0);
        self.blocks.truncate(kept);
        self.pending.retain(|&i, _| i < kept);
        if tail != 0 && self.blocks.get(index(len)).is_some_and(Option::is_some) {
            // Where the block stays, what was behind the new end is zeroed in memory, and on the disk when it is written.
            block::bytes_mut(self.touch(index(len)))[tail..].fill(0);
        }
        self.durable_len = self.durable_len.min(len);
        self.lengths.retain(|&earlier| earlier < len);
        self.len = len;
    }

    fn change_len(&mut self, len: u64) {
        let old = std::mem::replace(&mut self.len, len);
        if old != len && old != self.durable_len && !self.lengths.contains(&old) {
            if self.lengths.len() == KEPT_LENGTHS {
                self.lengths.remove(1);
            }
            self.lengths.push(old);
        }
    }

    /// The block for writing, its present contents remembered as something a crash may leave.
    fn touch(&mut self, i: usize) -> &mut Slot {
        if self.blocks.len() <= i {
            self.blocks.resize(i + 1, None);
        }
        let slot = &mut self.blocks[i];
        match self.pending.get_mut(&i) {
            None => {
                self.pending.insert(i, Pending { base: slot.clone(), versions: Vec::new(), clean: false });
            }
            Some(pending) => {
                if pending.versions.len() == KEPT_VERSIONS {
                    pending.versions.remove(1);
                }
                pending.versions.push(slot.clone());
                pending.clean = false;
            }
        }
        slot
    }

    /// Makes length and dirty blocks durable. What a failed sync declared clean stays as uncertain as it was.
    pub(crate) fn sync(&mut self) {
        self.pending.retain(|_, pending| pending.clean);
        self.durable_len = self.len;
        self.lengths.clear();
        self.uncut = None;
    }

    pub(crate) fn fail_sync(&mut self, dirty: Dirty) {
        if dirty == Dirty::Keep {
            return;
        }
        for (&i, pending) in &mut self.pending {
            pending.clean = true;
            if dirty == Dirty::Revert {
                if self.blocks.len() <= i {
                    self.blocks.resize(i + 1, None);
                }
                let current = std::mem::replace(&mut self.blocks[i], pending.base.clone());
                pending.versions.push(current);
            }
        }
    }
}
