//! Chunks of all six encodings, and a directory of chunk files.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use head_chunks::Encoding;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::json;

use super::Golden;
use crate::interop::Reference;
use crate::interop::chunks::{encoded_runs, stored_chunks};
use crate::interop::wire::{WireWriter, split};

pub(super) const GOLDENS: &[Golden] = &[
    Golden {
        path: "chunks/encodings",
        made_by: "chunkenc's appenders on seeded random runs (appends, reopened appenders, new chunks behind old ones, \
                  append-only refusals); each file is a list of items, alternating: a run, and the outcomes and chunks \
                  that it gave (layout: interop/chunks.go)",
        make: encodings,
    },
    Golden {
        path: "chunks/files",
        made_by: "chunks.ChunkDiskMapper on seeded random chunks of all encodings, cut into three files, closed; chunks.bin \
                  has what was written: ref and chunk of each (layout: interop/chunks.go)",
        make: files,
    },
];

fn encodings(reference: &mut Reference, folder: &Path) -> Result<()> {
    for encoding in Encoding::ALL {
        let mut rng = StdRng::seed_from_u64(u64::from(encoding.byte()));
        let runs = encoded_runs(&mut rng, encoding, 40);
        let question: Vec<u8> = runs.concat();
        let answer = reference.call("chunks.append", json!({}), &question)?;
        let mut golden = WireWriter::default();
        for (run, given) in runs.iter().zip(split(&answer.payload)?) {
            golden.item(run);
            golden.item(given);
        }
        let name = encoding.name().to_lowercase();
        fs::write(folder.join(format!("{name}.bin")), golden.0).context(name)?;
    }
    Ok(())
}

fn files(reference: &mut Reference, folder: &Path) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(7);
    let (chunks, count) = stored_chunks(&mut rng, 120);
    let cut = [40, 80];
    ensure!(count > 80, "too few chunks for three files");
    let head = folder.join("chunks_head");
    reference.call("chunks.files.write", json!({ "dir": head, "cut": cut, "queue": 0 }), &chunks)?;
    let read = reference.call("chunks.files.read", json!({ "dir": head }), b"")?;
    ensure!(fs::read_dir(&head)?.count() == 3, "not three files");
    fs::write(folder.join("chunks.bin"), read.payload).context("chunks.bin")
}
