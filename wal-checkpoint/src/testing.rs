//! What the tests of this crate share.

use std::time::{SystemTime, UNIX_EPOCH};

/// The seed in `HEADWATER_SEED`, else one from the clock. A test prints it, so that a failure can be run again.
pub(crate) fn seed() -> u64 {
    match std::env::var("HEADWATER_SEED") {
        Ok(seed) => seed.parse().expect("HEADWATER_SEED is a number"),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_nanos() as u64,
    }
}
