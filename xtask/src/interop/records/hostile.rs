//! Bytes that nobody meant as a record.
//!
//! # Rules: where we answer otherwise than the reference
//!
//! * `bounded-counts`: a count that the remaining bytes cannot hold is an error before anything is reserved or looped over.
//!   The reference reserves memory for it or loops that often (and ends in an error, if it ends), and takes counts of 2^63
//!   and more for none at all. Such records are not handed to it, but for the ones of the last kind made on purpose.
//! * `length-panic`: a text length of 2^63 and more is an error; the reference panics.

use anyhow::{Context, Result, bail, ensure};
use rand::seq::IndexedRandom;
use rand::{Rng, RngCore};
use serde_json::json;
use wal_format::{Kind, Problem, Record};

use super::super::wire::{WireReader, WireWriter, join};
use super::super::{Coverage, Reference, Session};
use super::BATCHES;
use super::generate::Generator;

const BOUNDED_COUNTS: (&str, &str) = (
    "bounded-counts",
    "the reference allocates or loops by counts that the record cannot hold, or takes them for none",
);
const LENGTH_PANIC: (&str, &str) = ("length-panic", "the reference panics at a text length of 2^63 and more");

/// Counts up to this are harmless to ask the reference about.
const HARMLESS_COUNT: u64 = 1 << 16;

/// What both sides said about one record.
pub(super) enum Outcome {
    /// Accepted with equal values; so many histograms of unknown schemas were skipped.
    Accepted { skipped: usize },
    /// Refused by both.
    Refused(wal_format::DecodeError),
    /// Refused by us; the reference panicked.
    Panicked(wal_format::DecodeError),
    /// Refused by us because of a count; not handed to the reference.
    Spared,
    /// Anything else.
    Different(String),
}

impl Outcome {
    pub(super) fn skipped(&self) -> u64 {
        match self {
            Self::Accepted { skipped } => *skipped as u64,
            _ => 0,
        }
    }

    pub(super) fn must_be_accepted(&self) -> Result<()> {
        match self {
            Self::Accepted { .. } => Ok(()),
            Self::Refused(error) | Self::Panicked(error) => bail!("both refused what was just encoded: {error}"),
            Self::Spared => bail!("a count of what was just encoded was refused"),
            Self::Different(how) => bail!("{how}"),
        }
    }
}

/// Decodes every record on both sides and compares the values.
pub(super) fn decode_both<T: AsRef<[u8]>>(reference: &mut Reference, records: &[T]) -> Result<Vec<Outcome>> {
    let spared = |record: &T| {
        let error = wal_format::validate(record.as_ref()).err()?;
        matches!(error.problem, Problem::Count { count, .. } if count > HARMLESS_COUNT).then_some(())
    };
    let asked: Vec<_> = records.iter().filter(|record| spared(record).is_none()).collect();
    let answer = reference.call("records.decode", json!({}), &join(asked))?;
    let mut theirs = WireReader(&answer.payload);
    let mut outcomes = Vec::with_capacity(records.len());
    for record in records {
        outcomes.push(match spared(record) {
            Some(()) => Outcome::Spared,
            None => compare(record.as_ref(), theirs.u8()?, theirs.item()?),
        });
    }
    ensure!(!theirs.more(), "the reference answered more than was asked");
    Ok(outcomes)
}

fn compare(record: &[u8], status: u8, theirs: &[u8]) -> Outcome {
    let reason = || String::from_utf8_lossy(theirs).into_owned();
    match (Record::decode(record), status) {
        (Ok(ours), 0) => {
            let mut writer = WireWriter::default();
            writer.record(&ours);
            if writer.0 == theirs {
                Outcome::Accepted { skipped: ours.skipped }
            } else {
                Outcome::Different(format!(
                    "values differ: ours {ours:?}\n  theirs {theirs:02x?}\n  ours   {:02x?}",
                    writer.0
                ))
            }
        }
        (Err(error), 1) => Outcome::Refused(error),
        (Err(error), 2) => Outcome::Panicked(error),
        (Err(error), _) => Outcome::Different(format!("only we refused: {error}")),
        (Ok(_), 1) => Outcome::Different(format!("only the reference refused: {}", reason())),
        (Ok(_), _) => Outcome::Different(format!("the reference panicked, we accepted: {}", reason())),
    }
}

pub(super) fn run(session: &mut Session) -> Result<()> {
    let mut coverage = session.coverage();
    for kind in Kind::ALL {
        for what in ["accepted", "refused"] {
            coverage.require(&format!("{what}, {kind}"), 50);
        }
    }
    coverage.require("random bytes accepted", 50);
    coverage.require("random bytes refused", 50);
    let mut reference = session.reference()?;
    negative_counts(&mut reference, &mut coverage)?;
    for round in session.rounds(100) {
        let mut generator = Generator::new(session.round_rng(round));
        for kind in Kind::ALL {
            let records = mutated(&mut generator, kind);
            judge(&mut reference, &records, &mut coverage, |what, record| {
                Kind::of_record(record).map(|kind| format!("{what}, {kind}"))
            })
            .with_context(|| format!("--round {round}, {kind}"))?;
        }
        let records: Vec<_> = (0..BATCHES).map(|_| random_bytes(&mut generator)).collect();
        judge(&mut reference, &records, &mut coverage, |what, _| Some(format!("random bytes {what}")))
            .with_context(|| format!("--round {round}, random bytes"))?;
    }
    coverage.finish()
}

fn judge(
    reference: &mut Reference,
    records: &[Vec<u8>],
    coverage: &mut Coverage,
    case: impl Fn(&str, &[u8]) -> Option<String>,
) -> Result<()> {
    for (record, outcome) in records.iter().zip(decode_both(reference, records)?) {
        let what = match outcome {
            Outcome::Accepted { .. } => "accepted",
            Outcome::Refused(_) => "refused",
            Outcome::Panicked(error) => {
                // Past a count that we refuse, it reads on and may meet such a length there.
                let known = match error.problem {
                    Problem::Length { length, .. } => i64::try_from(length).is_err(),
                    problem => matches!(problem, Problem::Count { .. }),
                };
                ensure!(known, "the reference panicked where we saw no length of 2^63: {error}\n  {record:02x?}");
                coverage.allowed(LENGTH_PANIC.0, LENGTH_PANIC.1);
                "refused"
            }
            Outcome::Spared => {
                coverage.allowed(BOUNDED_COUNTS.0, BOUNDED_COUNTS.1);
                "refused"
            }
            Outcome::Different(how) => bail!("{how}\n  {record:02x?}"),
        };
        if let Some(case) = case(what, record) {
            coverage.hit(&case);
        }
    }
    Ok(())
}

/// Records whose last count is 2^63 or more: the reference takes it for none and accepts, we refuse.
fn negative_counts(reference: &mut Reference, coverage: &mut Coverage) -> Result<()> {
    let count: &[u8] = &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1];
    let series = [&[1, 0, 0, 0, 0, 0, 0, 0, 1], count].concat();
    let metadata = [&[6, 1, 1], count].concat();
    let histogram = [&[7][..], &[0; 16], &[0, 0, 0, 0], &[0; 8], &[1, 1], &[0; 8], &[0, 0, 0], count].concat();
    for record in [series, metadata, histogram] {
        let error = Record::decode(&record).err().context("we accepted a count of 2^63")?;
        ensure!(matches!(error.problem, Problem::Count { .. }), "refused for another reason: {error}");
        let answer = reference.call("records.decode", json!({}), &join([&record]))?;
        let mut theirs = WireReader(&answer.payload);
        let status = theirs.u8()?;
        ensure!(status == 0, "the reference now refuses a count of 2^63: the rule can go ({record:02x?})");
        coverage.allowed(BOUNDED_COUNTS.0, BOUNDED_COUNTS.1);
    }
    Ok(())
}

/// Valid records of this kind, each damaged in one or two ways.
fn mutated(generator: &mut Generator, kind: Kind) -> Vec<Vec<u8>> {
    let records: Vec<Vec<u8>> = (0..BATCHES)
        .flat_map(|_| {
            let (version, entries) = generator.batch(kind);
            entries.encode(version)
        })
        .collect();
    (0..BATCHES)
        .map(|_| {
            let mut record = records.choose(&mut generator.rng).cloned().unwrap_or_default();
            let other = records.choose(&mut generator.rng).cloned().unwrap_or_default();
            for _ in 0..generator.rng.random_range(1..3) {
                damage(generator, &mut record, &other);
            }
            record
        })
        .collect()
}

fn damage(generator: &mut Generator, record: &mut Vec<u8>, other: &[u8]) {
    const EXTREMES: &[&[u8]] = &[
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        &[0x80, 0x80, 0x80, 0x80, 0x10],
        &[0x80, 0x00],
        &[0x7f],
        &[0x00],
    ];
    let rng = &mut generator.rng;
    let at = rng.random_range(0..record.len().max(1)).min(record.len());
    match rng.random_range(0..9) {
        0 | 1 if at < record.len() => record[at] ^= 1 << rng.random_range(0..8),
        2 if at < record.len() => record[at] = rng.random(),
        3 => record.truncate(at),
        4 => {
            let end = (at + rng.random_range(1..9)).min(record.len());
            record.drain(at..end);
        }
        5 => {
            let extreme = EXTREMES.choose(rng).copied().unwrap_or_default();
            record.splice(at..at, extreme.iter().copied());
        }
        6 => {
            let extreme = EXTREMES.choose(rng).copied().unwrap_or_default();
            let end = (at + extreme.len()).min(record.len());
            record.splice(at..end, extreme.iter().copied());
        }
        7 => record.extend_from_slice(&other[rng.random_range(0..=other.len())..]),
        // Another tag over the same bytes, unknown ones included.
        _ if !record.is_empty() => record[0] = rng.random_range(0..16),
        _ => {}
    }
}

/// A tag, often, and then bytes of which small ones are likelier: counts and lengths that fit.
fn random_bytes(generator: &mut Generator) -> Vec<u8> {
    let mut bytes = vec![0; generator.rng.random_range(0..80)];
    generator.rng.fill_bytes(&mut bytes);
    for byte in &mut bytes {
        if generator.rng.random() {
            *byte &= 0x07;
        }
    }
    if let Some(tag) = bytes.first_mut().filter(|_| generator.rng.random_ratio(9, 10)) {
        *tag = generator.rng.random_range(1..=13);
    }
    bytes
}
