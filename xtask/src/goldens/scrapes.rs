//! The recorded scrapes as the reference stores them: parsed by its parser, appended to its database.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;
use tsdb_model::labels::Labels;

use super::Golden;
use crate::interop::Reference;
use crate::interop::dir::{append, open};
use crate::interop::entry::Entry;
use crate::interop::text::read_by_reference;
use crate::sh;

pub(super) const GOLDENS: &[Golden] = &[Golden {
    path: "golden-head-scrapes",
    made_by: "model/textparse on every page of scrapes/, each page's samples appended to a tsdb.DB (snappy) in one commit at \
              1795232865971 + 15000 ms times the page's number, with the label job (node, rpc, created: the page's name \
              before the dash), closed; dump.txt is the read-only database's view, a line a sample",
    make,
}];

/// Time of the first pages, ms since the epoch.
const FIRST: i64 = 1_795_232_865_971;

fn make(reference: &mut Reference, folder: &Path) -> Result<()> {
    let mut commits = Vec::new();
    for step in 0..16 {
        for (job, extension) in [("node", "prom"), ("rpc", "om"), ("created", "om")] {
            let path = sh::root().join(format!("testdata/scrapes/{job}-{step:02}.{extension}"));
            let page = fs::read(&path).with_context(|| path.display().to_string())?;
            let samples = read_by_reference(reference, &page).with_context(|| path.display().to_string())?;
            commits.push(
                samples
                    .into_iter()
                    .map(|(mut labels, value, time)| {
                        labels.push((b"job".to_vec(), job.into()));
                        Entry::float(Labels::from_pairs(labels), time.unwrap_or(FIRST + step * 15_000), value)
                    })
                    .collect::<Vec<_>>(),
            );
        }
    }
    let data = folder.join("data");
    let db = open(reference, &data, "snappy")?;
    append(reference, db, &commits)?;
    reference.call("dir.close", json!({ "db": db }), b"")?;
    let dump = reference.call("dir.dump", json!({ "dir": data, "text": true }), b"")?;
    for left_over in ["lock", "queries.active"] {
        if data.join(left_over).exists() {
            fs::remove_file(data.join(left_over))?;
        }
    }
    fs::write(folder.join("dump.txt"), dump.payload).context("dump.txt")
}
