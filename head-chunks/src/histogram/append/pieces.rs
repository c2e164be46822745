//! Where the full pieces of an open histogram chunk are.

use crate::bits::PIECE;

/// Where an owner keeps the full 16-byte pieces of a chunk: anything that holds them in order.
pub trait Pieces {
    /// One more, behind the others.
    fn push(&mut self, piece: [u8; PIECE]);
    /// All of them as contiguous runs, in any partition.
    fn runs(&self) -> impl Iterator<Item = &[u8]>;
    /// None any more.
    fn clear(&mut self);
}

impl Pieces for Vec<u8> {
    #[inline]
    fn push(&mut self, piece: [u8; PIECE]) {
        self.extend_from_slice(&piece);
    }

    fn runs(&self) -> impl Iterator<Item = &[u8]> {
        core::iter::once(&self[..])
    }

    fn clear(&mut self) {
        self.clear();
    }
}
