//! wal-segment beside `tsdb/wlog`.

use std::hint::black_box;

use anyhow::{Result, ensure};
use rand::{RngCore, SeedableRng, rngs::SmallRng};
use serde_json::json;

use super::versus::{Arena, Contest, Cost};

pub(super) const CONTESTS: &[Contest] =
    &[Contest { name: "CRC-32C of a page", unit: "page", target: 1.0, run: checksum }];

/// The floor under frames, with nothing of ours or theirs on top.
fn checksum(arena: &mut Arena) -> Result<()> {
    const PAGES: u64 = 20_000;
    let mut page = vec![0; 32 << 10];
    SmallRng::seed_from_u64(1).fill_bytes(&mut page);
    let expected = crc32c::crc32c(&page);
    arena.run(
        "",
        |reference| {
            let answer = reference.call("bench.crc32c", json!({ "repeat": PAGES }), &page)?;
            ensure!(answer.u64("crc")? == u64::from(expected), "another checksum");
            Cost::of(&answer, PAGES)
        },
        || {
            Cost::measure(PAGES, || {
                for _ in 0..PAGES {
                    black_box(crc32c::crc32c(black_box(&page)));
                }
                Ok(())
            })
        },
    )
}
