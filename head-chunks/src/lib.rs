//! Prometheus chunk encodings and memory-mapped head chunk files.

mod bits;
mod encoding;
mod error;
pub mod files;
mod st;
mod varbit;
mod window;
pub mod xor;
pub mod xor2;

pub use bits::PIECE;
pub use encoding::{Chunk, Encoding};
pub use error::{ChunkFull, Counted, DecodeError, DecodeErrorKind};
