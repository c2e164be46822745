//! x
#[cfg(test)]
mod testing;
mod times;
mod rule;
pub use rule::segments_to_checkpoint;
