//! Prometheus' chunk encodings and its memory-mapped head chunk files.
//!
//! A *chunk* is a run of samples of one series in a few hundred bytes. There are six encodings ([`Encoding`]), each with an
//! appender and an iterator, byte for byte what Prometheus 3.14 writes for the same appends: [`xor`] and [`xor2`] for
//! floats, [`histogram`] for the four of histograms. Full chunks of a head live in numbered files: [`files`].
//!
//! ```
//! use head_chunks::xor::{XorAppender, XorIter};
//!
//! let mut appender = XorAppender::new();
//! for (t, value) in [(0, 12.0), (15_000, 12.0), (30_000, 24.5)] {
//!     appender.append(t, value)?;
//! }
//! let bytes = appender.to_bytes();
//! assert_eq!(bytes.len(), 16);
//! let samples: Vec<_> = XorIter::new(&bytes)?.collect::<Result<_, _>>()?;
//! assert_eq!(samples, [(0, 12.0), (15_000, 12.0), (30_000, 24.5)]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Promises
//! * Any bytes can be given to a reader. What is not sound is an error with the sample's number and the bit's position
//!   ([`DecodeError`]); the samples before it are as they were written. Memory is bounded by the input.
//! * Nothing is allocated per sample. [`xor::AppendState`] and [`xor2::AppendState`] allocate nothing at all: an owner of a
//!   million open chunks keeps each of them in one cache line. [`packed::PackedState`] is for one who wants them smaller
//!   than XOR makes them until they are full.
//!
//! # What it leaves to others
//! When a chunk is full is its owner's decision (a head cuts by time range, samples and bytes), and so is what to do about
//! chunks that were lost: a head has its log.

mod bits;
mod encoding;
mod error;
pub mod files;
mod floats;
pub mod histogram;
pub mod packed;
mod st;
mod varbit;
mod window;
pub mod xor;
pub mod xor2;

pub use bits::PIECE;
pub use encoding::{Chunk, Encoding};
pub use error::{ChunkFull, Counted, DecodeError, DecodeErrorKind};
pub use floats::FloatAppender;
