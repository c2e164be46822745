//! A log that others have repaired, with a ledger that speaks of what was there before.

use anyhow::{Context, Result, ensure};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::json;
use wal_segment::verify::{Finding, Problem, verify};
use wal_segment::{Log, layout};

use super::super::Session;
use super::{
    CODECS, append, batches, fs, harm, options, ours, read_by_ours, read_by_theirs, rule, started_by_theirs, their_log,
    theirs,
};

/// The same with contents that occur once, and without records that have none: nobody can tell whose those are, and one at a
/// log's end may be half a header.
fn told_apart(mut batches: Vec<Vec<Vec<u8>>>, rng: &mut StdRng) -> Vec<Vec<Vec<u8>>> {
    let long = batches.iter_mut().flatten().filter_map(|record| record.first_chunk_mut::<8>());
    long.for_each(|start| *start = rng.random());
    batches.iter_mut().for_each(|batch| batch.retain(|record| !record.is_empty()));
    batches.insert(0, vec![rng.random::<[u8; 32]>().to_vec()]);
    batches
}

/// Our log is damaged, the reference repairs it and goes on with it; then it is ours again.
pub(super) fn others(session: &mut Session) -> Result<()> {
    let mut reference = session.reference()?;
    let mut coverage = session.coverage();
    for case in ["they repaired", "with fewer segments", "with as many or more", "another codec", "we go on, they read"]
    {
        coverage.require(case, 8);
    }
    for round in session.rounds(500) {
        let mut rng = session.round_rng(round);
        let scratch = session.scratch()?;
        let dir = scratch.path().join("wal");
        let codec = CODECS[round % 3];
        ours(&dir, codec, 2, &told_apart(batches(&mut rng, &mut coverage, 16), &mut rng))?;
        let segments = layout::segments(&fs(), &dir)?;
        let full: Vec<_> = segments.iter().filter(|segment| segment.len > 0).collect();
        coverage.hit(harm(&full.choose(&mut rng).context("no segment")?.path, &mut rng)?);
        let their_codec = *CODECS.choose(&mut rng).context("a codec")?;
        // With ours a record that is larger than a segment would move to the next one.
        let args = json!({ "dir": dir, "compression": their_codec.to_string(), "segment_size": 128 << 20 });
        let damaged = reference.call("segment.start", args, &[])?.fields["damaged"].as_bool();
        if damaged != Some(true) {
            coverage.hit("nothing that they see");
            continue;
        }
        coverage.hit("they repaired");
        let handle = theirs(&mut reference, &dir, their_codec, 2)?;
        let calls = rng.random_range(1..16);
        their_log(&mut reference, handle, &told_apart(batches(&mut rng, &mut coverage, calls), &mut rng))?;
        reference.call("segment.close", json!({ "handle": handle }), &[])?;
        let last = layout::segments(&fs(), &dir)?.last().map(|segment| segment.index);
        let fewer = last < full.last().map(|segment| segment.index);
        coverage.hit(if fewer { "with fewer segments" } else { "with as many or more" });
        if their_codec != codec {
            coverage.hit("another codec");
        }
        let found = verify(&fs(), &dir)?;
        let (we, fault) = read_by_ours(&dir)?;
        if let Some(fault) = fault {
            // It repairs what it sees, and may see it in the segment behind.
            let (rule, reason) = rule(&fault).with_context(|| format!("round {round}: {fault}"))?;
            coverage.allowed(rule, reason);
            ensure!(!found.iter().any(|f| matches!(f.problem, Problem::Lost(_))), "round {round}: missed: {found:?}");
            continue;
        }
        ensure!(found.iter().all(Finding::is_note), "round {round}: called damage: {found:?}");
        ensure!(
            found.iter().any(|finding| matches!(finding.problem, Problem::Foreign)),
            "round {round}: nobody noticed: {found:?}"
        );
        let (mut expected, _) = read_by_theirs(&mut reference, &dir)?;
        ensure!(we == expected, "round {round}: we read other records");
        let (log, report) = Log::open(fs(), &dir, options(codec, 2)).with_context(|| format!("round {round}"))?;
        ensure!(report.foreign && report.lost.is_empty() && report.healed.is_none(), "round {round}: {report:?}");
        let more = batches(&mut rng, &mut coverage, 3);
        append(&log, &more)?;
        log.close()?;
        expected.extend(more.concat());
        let (found, repaired) = started_by_theirs(&mut reference, &dir)?;
        ensure!(!repaired && found == expected, "round {round}: {} records, expected {}", found.len(), expected.len());
        let again = verify(&fs(), &dir)?;
        ensure!(again.iter().all(Finding::is_note), "round {round}: called damage afterwards: {again:?}");
        coverage.hit("we go on, they read");
    }
    coverage.finish()
}
