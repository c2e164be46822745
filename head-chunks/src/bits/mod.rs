//! Bit streams, most significant bit first, on 64-bit words.

mod reader;
mod split;

pub(crate) use reader::{BitReader, MAX_VARINT_BITS, PEEK_BITS};
pub use split::PIECE;
pub(crate) use split::SplitBits;
