//! Random sequences of everything one can do to a head, with crashes in between, beside a model that keeps each series
//! in a list and knows nothing of chunks, partitions or segments.
//!
//! `HEADWATER_MODEL_SEQUENCES` says how many sequences (300), `HEADWATER_SEED` which one is the first (1). A failure names
//! its sequence; with that seed and one sequence it comes again.

mod append;
mod model;
mod sequence;
mod values;

use std::collections::BTreeMap;

/// How often things happened.
#[derive(Debug, Default)]
pub(crate) struct Coverage(BTreeMap<String, u64>);

impl Coverage {
    pub(crate) fn hit(&mut self, what: &str) {
        self.add(what, 1);
    }

    pub(crate) fn add(&mut self, what: &str, n: u64) {
        *self.0.entry(what.to_owned()).or_default() += n;
    }
}

/// What a hundred sequences must have met this often.
const REQUIRED: [(&str, u64); 34] = [
    ("taken", 1000),
    ("refused: out of order", 50),
    ("refused: out of bounds", 50),
    ("refused: duplicate", 50),
    ("refused: invalid histogram", 20),
    ("refused: empty labels", 10),
    ("refused: duplicate label name", 10),
    ("refused: start not before sample", 10),
    ("refused: unknown series", 10),
    ("a repeat, silently fine", 10),
    ("left out at commit", 20),
    ("float", 500),
    ("histogram", 200),
    ("float histogram", 200),
    ("custom buckets", 50),
    ("stale", 50),
    ("start timestamp", 50),
    ("zero sample", 20),
    ("many floats in one call", 50),
    ("commit", 500),
    ("rollback", 50),
    ("dropped appender", 20),
    ("commit beside another appender", 100),
    ("chunks written", 100),
    ("truncation", 50),
    ("truncation with an appender open", 20),
    ("checkpoint", 20),
    ("series collected", 20),
    ("reader looked at later", 50),
    ("close", 50),
    ("kill", 50),
    ("power cut", 50),
    ("reopened without a lowest time", 20),
    ("read-only open", 20),
];

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[test]
fn a_head_does_what_the_model_does() {
    let sequences = setting("HEADWATER_MODEL_SEQUENCES", 300);
    let first = setting("HEADWATER_SEED", 1);
    let mut coverage = Coverage::default();
    for seed in first..first + sequences {
        if let Err(error) = sequence::run(seed, &mut coverage) {
            panic!("sequence {seed}: {error}\nagain: HEADWATER_SEED={seed} HEADWATER_MODEL_SEQUENCES=1");
        }
    }
    println!("{sequences} sequences, seeds from {first}");
    coverage.0.iter().for_each(|(what, n)| println!("{n:>9} {what}"));
    if sequences >= 100 {
        for (what, least) in REQUIRED {
            let n = coverage.0.get(what).copied().unwrap_or(0);
            assert!(n * 100 >= least * sequences, "only {n} times: {what}");
        }
    }
}
