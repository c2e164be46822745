//! x
mod rule;
#[cfg(test)]
mod testing;
mod times;
pub use rule::segments_to_checkpoint;
