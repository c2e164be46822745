//! Whole data directories.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use serde_json::json;

use super::entry::{self, Entry};
use super::workload::{COMPRESSIONS, Scrapes, require};
use super::{Reference, Row, Session};

pub(super) const ROWS: &[Row] = &[Row {
    name: "theirs",
    about: "the reference's directories hold what it was given, sample by sample",
    run: theirs,
}];

fn theirs(session: &mut Session) -> Result<()> {
    let mut coverage = session.coverage();
    require(&mut coverage, 50);
    for round in session.rounds(60) {
        let mut rng = session.round_rng(round);
        let scratch = session.scratch()?;
        let dir = scratch.path().join("data");
        let compression = COMPRESSIONS[round % 3];
        let commits = Scrapes::new(&mut rng).take(&mut rng, 300, &mut coverage);
        let mut reference = session.reference()?;
        let db = open(&mut reference, &dir, compression)?;
        append(&mut reference, db, &commits)?;
        reference.call("dir.close", json!({ "db": db }), b"")?;
        let dumped = dump(&mut reference, &dir)?;
        compare(&sorted(commits.concat()), &dumped, "given", "the reference's dump")?;
        coverage.hit(compression);
    }
    coverage.finish()
}

/// Opens a directory for writing, which must succeed without anything to complain about.
pub(crate) fn open(reference: &mut Reference, dir: &Path, compression: &str) -> Result<u64> {
    let answer = reference.call("dir.open", json!({ "dir": dir, "compression": compression }), b"")?;
    ensure!(answer.f64("wal_corruptions")? == 0.0, "the reference found corruption: {}", answer.str("log")?);
    ensure!(answer.f64("mmap_corruptions")? == 0.0, "the reference found chunk corruption: {}", answer.str("log")?);
    answer.u64("db")
}

/// Appends commit by commit; nothing may be refused.
pub(crate) fn append(reference: &mut Reference, db: u64, commits: &[Vec<Entry>]) -> Result<()> {
    for commit in commits {
        let answer = reference.call("dir.append", json!({ "db": db }), &entry::encode(commit))?;
        let refused = answer.fields["refused"].as_object().is_none_or(|refused| !refused.is_empty());
        ensure!(!refused, "the reference refused {}", answer.fields["refused"]);
    }
    Ok(())
}

/// The reference's read-only view of a directory.
pub(crate) fn dump(reference: &mut Reference, dir: &Path) -> Result<Vec<Entry>> {
    entry::decode(&reference.call("dir.dump", json!({ "dir": dir }), b"")?.payload)
}

/// Entries in the order of a dump: by labels, then time.
pub(crate) fn sorted(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by(|a, b| a.labels.cmp(&b.labels).then(a.t.cmp(&b.t)));
    entries
}

/// Bit for bit the same, or an error that shows the first difference.
pub(crate) fn compare(left: &[Entry], right: &[Entry], left_name: &str, right_name: &str) -> Result<()> {
    for n in 0..left.len().max(right.len()) {
        let (a, b) = (left.get(n), right.get(n));
        if a != b {
            bail!(
                "sample {n} differs ({} against {} in all)\n      {left_name}: {a:?}\n      {right_name}: {b:?}",
                left.len(),
                right.len()
            );
        }
    }
    Ok(())
}
