//! Whole data directories, one per compression, each with the reference's own dump of it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::json;

use super::Golden;
use crate::interop::dir::{append, open};
use crate::interop::workload::{COMPRESSIONS, Scrapes};
use crate::interop::{Coverage, Reference};

pub(super) const GOLDENS: &[Golden] = &[Golden {
    path: "dirs",
    made_by: "tsdb.Open with WAL compression none, snappy and zstd on the same seeded scrapes: 300 commits (series past two \
              chunk cuts, stale markers, NaN payloads, label values that need quoting), closed, opened again, 10 more, \
              closed; dump.txt is the read-only database's view of each, a line a sample, sorted by labels, then time",
    make,
}];

fn make(reference: &mut Reference, folder: &Path) -> Result<()> {
    let mut dumps = COMPRESSIONS.iter().map(|compression| directory(reference, &folder.join(compression), compression));
    let first = dumps.next().context("no compression")??;
    for dump in dumps {
        ensure!(dump? == first, "the compression changed what the reference reads");
    }
    fs::write(folder.join("dump.txt"), first).context("dump.txt")
}

/// Makes one directory and returns the reference's dump of it.
fn directory(reference: &mut Reference, data: &Path, compression: &str) -> Result<Vec<u8>> {
    let mut rng = StdRng::seed_from_u64(20);
    let mut coverage = Coverage::new(false);
    let mut scrapes = Scrapes::new(&mut rng);
    for commits in [300, 10] {
        let commits = scrapes.take(&mut rng, commits, &mut coverage);
        let db = open(reference, data, compression)?;
        append(reference, db, &commits)?;
        reference.call("dir.close", json!({ "db": db }), b"")?;
    }
    let dump = reference.call("dir.dump", json!({ "dir": data, "text": true }), b"")?;
    ensure!(fs::read_dir(data.join("chunks_head"))?.count() > 0, "no chunk file: the scrapes were too few");
    // The lock names a process of the machine that made it.
    for left_over in ["lock", "queries.active"] {
        if data.join(left_over).exists() {
            fs::remove_file(data.join(left_over))?;
        }
    }
    Ok(dump.payload)
}
