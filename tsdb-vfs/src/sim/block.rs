//! 4 KiB of a file, shared between snapshots and copied when written.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::rng::hash_bytes;

/// What a page cache writes back as one: a page of 4 KiB.
pub const BLOCK_SIZE: usize = 4096;
/// What a disk writes as one: a sector of 512 bytes.
pub const SECTOR_SIZE: usize = 512;
/// Sectors in a block.
pub(crate) const SECTORS: usize = BLOCK_SIZE / SECTOR_SIZE;

/// One block's bytes; `None` where a [`Slot`] is meant: never written, all zeros.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) bytes: [u8; BLOCK_SIZE],
    /// Hash of the bytes, 0 while unknown.
    hash: AtomicU64,
}

/// A block of a file, or a hole.
pub(crate) type Slot = Option<Arc<Block>>;

const ZEROS: [u8; BLOCK_SIZE] = [0; BLOCK_SIZE];

impl Clone for Block {
    fn clone(&self) -> Self {
        Block { bytes: self.bytes, hash: AtomicU64::new(0) }
    }
}

impl Block {
    pub(crate) fn new(bytes: [u8; BLOCK_SIZE]) -> Self {
        Block { bytes, hash: AtomicU64::new(0) }
    }

    fn hash(&self) -> u64 {
        let known = self.hash.load(Ordering::Relaxed);
        if known != 0 {
            return known;
        }
        let hash = hash_bytes(1, &self.bytes).max(1);
        self.hash.store(hash, Ordering::Relaxed);
        hash
    }
}

/// A block that takes space and holds nothing, the same for all who reserve.
pub(crate) fn zeros() -> Arc<Block> {
    static SHARED: OnceLock<Arc<Block>> = OnceLock::new();
    SHARED.get_or_init(|| Arc::new(Block::new(ZEROS))).clone()
}

pub(crate) fn bytes(slot: &Slot) -> &[u8; BLOCK_SIZE] {
    slot.as_ref().map_or(&ZEROS, |block| &block.bytes)
}

/// The slot's bytes for writing. Snapshots that share the block keep theirs.
pub(crate) fn bytes_mut(slot: &mut Slot) -> &mut [u8; BLOCK_SIZE] {
    let block = Arc::make_mut(slot.get_or_insert_with(|| Arc::new(Block::new(ZEROS))));
    *block.hash.get_mut() = 0;
    &mut block.bytes
}

/// Equal for equal bytes; a hole counts as zeros.
pub(crate) fn hash(slot: &Slot) -> u64 {
    match slot {
        None => 0,
        Some(block) if block.bytes == ZEROS => 0,
        Some(block) => block.hash(),
    }
}

/// Bit s is set where sector s differs between the two.
pub(crate) fn differing_sectors(a: &Slot, b: &Slot) -> u8 {
    let sectors = bytes(a).chunks_exact(SECTOR_SIZE).zip(bytes(b).chunks_exact(SECTOR_SIZE));
    sectors.enumerate().fold(0, |mask, (s, (a, b))| if a == b { mask } else { mask | 1 << s })
}

/// The sectors of `mask` from `new`, the others from `old`: a write of which the power failed in the middle.
pub(crate) fn torn(old: &Slot, new: &Slot, mask: u8) -> Slot {
    let mut mixed = *bytes(old);
    for s in (0..SECTORS).filter(|s| mask & 1 << s != 0) {
        let sector = s * SECTOR_SIZE..(s + 1) * SECTOR_SIZE;
        mixed[sector.clone()].copy_from_slice(&bytes(new)[sector]);
    }
    Some(Arc::new(Block::new(mixed)))
}
