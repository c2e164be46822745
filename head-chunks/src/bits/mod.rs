//! Bit streams, most significant bit first, on 64-bit words.

mod reader;
mod split;

pub(crate) use reader::BitReader;
pub(crate) use split::SplitBits;
pub use split::PIECE;
