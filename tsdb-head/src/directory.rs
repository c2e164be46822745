//! From a series ref to its partition: a direct table, because refs are handed out in sequence.

use std::collections::HashMap;
use std::sync::Arc;

use crate::partition::PartitionCell;

/// Partitions per block of the table: 65,536 refs. A block that has become empty goes.
const BLOCK: usize = 256;
/// Partitions beyond this number (refs of 2³² and more) are kept in a map: only a foreign log has such refs.
const NEAR: u64 = 1 << 24;

type Block = Box<[Option<Arc<PartitionCell>>; BLOCK]>;

/// All partitions of a head.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    blocks: Vec<Option<Block>>,
    far: HashMap<u64, Arc<PartitionCell>>,
}

impl Directory {
    #[inline]
    pub(crate) fn get(&self, number: u64) -> Option<&Arc<PartitionCell>> {
        if number < NEAR {
            self.blocks.get(number as usize / BLOCK)?.as_ref()?[number as usize % BLOCK].as_ref()
        } else {
            self.far.get(&number)
        }
    }

    pub(crate) fn get_or_insert(&mut self, number: u64) -> &Arc<PartitionCell> {
        let new = || Arc::new(PartitionCell::new(number));
        if number >= NEAR {
            return self.far.entry(number).or_insert_with(new);
        }
        let block = number as usize / BLOCK;
        if self.blocks.len() <= block {
            self.blocks.resize_with(block + 1, || None);
        }
        let block = self.blocks[block].get_or_insert_with(|| Box::new([const { None }; BLOCK]));
        block[number as usize % BLOCK].get_or_insert_with(new)
    }

    pub(crate) fn remove(&mut self, number: u64) {
        if number >= NEAR {
            self.far.remove(&number);
            return;
        }
        if let Some(block) = self.blocks.get_mut(number as usize / BLOCK)
            && let Some(partitions) = block
        {
            partitions[number as usize % BLOCK] = None;
            if partitions.iter().all(Option::is_none) {
                *block = None;
            }
        }
    }

    /// All partitions in the order of their numbers.
    pub(crate) fn all(&self) -> Vec<Arc<PartitionCell>> {
        let near = self.blocks.iter().flatten().flat_map(|block| block.iter().flatten());
        let mut far: Vec<_> = self.far.values().collect();
        far.sort_unstable_by_key(|cell| cell.number);
        near.chain(far).cloned().collect()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.blocks.capacity() * 8 + self.blocks.iter().flatten().count() * BLOCK * 8 + self.far.capacity() * 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_and_far_partitions() {
        let mut directory = Directory::default();
        let numbers = [0, 1, 255, 256, 70_000, NEAR - 1, NEAR, u64::MAX >> 8];
        for number in numbers.into_iter().rev() {
            assert!(directory.get(number).is_none());
            assert_eq!(directory.get_or_insert(number).number, number);
        }
        assert_eq!(directory.all().iter().map(|cell| cell.number).collect::<Vec<_>>(), numbers);
        for number in numbers {
            assert_eq!(directory.get(number).map(|cell| cell.number), Some(number));
            directory.remove(number);
            assert!(directory.get(number).is_none());
        }
        assert!(directory.blocks.iter().all(Option::is_none));
    }
}
