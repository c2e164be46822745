//! Bit streams, most significant bit first, on 64-bit words.

mod bulk;
mod reader;
mod split;
mod stream;

pub(crate) use bulk::{BulkBits, MOST_AT_ONCE};
pub(crate) use reader::{BitReader, LoopReader, MAX_VARINT_BITS, PEEK_BITS, rare};
pub use split::PIECE;
pub(crate) use split::SplitBits;
pub(crate) use stream::{BitStream, STREAM_BITS};
