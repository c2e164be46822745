//! Records: every tag both ways, good and bad bytes, and the text forms and rules of what they hold.

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use wal_format::{Kind, Version};

use super::wire::{WireReader, WireWriter, join};
use super::{Coverage, Reference, Row, Session};

pub(crate) mod batch;
mod forms;
mod generate;
mod hostile;

use batch::Entries;
use generate::Generator;

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "batches",
        about: "random batches encode to the same bytes and decode to the same values",
        run: batches,
    },
    Row { name: "hostile", about: "mutated and random bytes are accepted or refused alike", run: hostile::run },
    Row { name: "forms", about: "text, validity, conversion and reduction of what records hold", run: forms::run },
];

/// Batches of each kind in one round; a hundred rounds make 100,000.
const BATCHES: usize = 1000;

/// Cases that a run must have met fifty times.
const CASES: &[&str] = &[
    "schema -9..-5",
    "schema -4..8",
    "schema 9..52, reduced",
    "schema -53, custom buckets",
    "schema unknown, skipped",
    "start timestamp none",
    "start timestamp as before",
    "start timestamp explicit",
    "start timestamp of the first entry",
    "split: one record, exponential",
    "split: one record, custom",
    "split: two records",
    "empty batch",
    "ref delta wraps",
    "time delta wraps",
    "start timestamp delta wraps",
    "labels unsorted or repeated",
    "labels not UTF-8",
    "label text over 127 bytes",
    "metadata type unknown",
    "reset hint unknown",
    "tombstone over all time",
    "value is the stale marker",
];

fn batches(session: &mut Session) -> Result<()> {
    let mut coverage = session.coverage();
    CASES.iter().for_each(|case| coverage.require(case, 50));
    wal_format::tag::ALL.iter().for_each(|tag| coverage.require(&format!("tag {tag:>2}"), 50));
    let mut reference = session.reference()?;
    for round in session.rounds(100) {
        let mut generator = Generator::new(session.round_rng(round));
        for kind in Kind::ALL {
            let batches: Vec<_> = (0..BATCHES).map(|_| generator.batch(kind)).collect();
            compare(&mut reference, &batches, &mut coverage).with_context(|| format!("--round {round}, {kind}"))?;
            coverage.add(&format!("batches of {kind}"), BATCHES as u64);
        }
    }
    coverage.finish()
}

/// Encodes on both sides, compares bytes; decodes on both sides, compares values.
fn compare(reference: &mut Reference, batches: &[(Version, Entries)], coverage: &mut Coverage) -> Result<()> {
    let question = join(batches.iter().map(|(version, entries)| {
        let mut writer = WireWriter::default();
        writer.u8(u8::from(*version == Version::V2));
        writer.record_entries(entries);
        writer.0
    }));
    let answer = reference.call("records.encode", json!({}), &question)?;
    let mut theirs = WireReader(&answer.payload);
    let mut records = Vec::new();
    for (version, entries) in batches {
        let ours = entries.encode(*version);
        let theirs: Vec<_> = (0..theirs.u32()?).map(|_| theirs.item()).collect::<Result<_>>()?;
        if ours != theirs {
            bail!("bytes differ: {version:?} {entries:?}\n  theirs: {theirs:02x?}\n  ours:   {ours:02x?}");
        }
        entries.cover(*version, ours.len(), coverage);
        records.extend(ours);
    }
    ensure!(!theirs.more(), "the reference answered more than was asked");
    for (record, outcome) in records.iter().zip(hostile::decode_both(reference, &records)?) {
        coverage.hit(&format!("tag {:>2}", record[0]));
        coverage.add("schema unknown, skipped", outcome.skipped());
        outcome.must_be_accepted().with_context(|| format!("{record:02x?}"))?;
    }
    Ok(())
}
