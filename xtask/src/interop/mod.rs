//! `cargo xtask interop`: Prometheus 3.14's own packages against ours, both directions.
//!
//! One Go program (`interop/`) answers questions over its standard streams; [`Reference`] is the driver for it. A *row*
//! compares one subject.
//!
//! # Where a new row goes
//!
//! 1. the Go side: a file of the layer in `interop/`, with `func init() { register("layer.verb", …) }`;
//! 2. this side: a file of the layer in this folder with `pub(super) const ROWS: &[Row] = &[Row { … }];`
//! 3. one `mod` line and one line in [`LAYERS`] below.
//!
//! A row draws everything random from [`Session::rng`], counts what it met in a [`Coverage`] and ends with
//! [`Coverage::finish`], so that a run which hardly tested something is a failure and not a green line.

use std::hash::{BuildHasher, Hasher, RandomState};

use anyhow::{Context, Result, bail};
use rand::SeedableRng;
use rand::rngs::StdRng;

mod checkpoint;
pub(crate) mod chunks;
mod coverage;
pub(crate) mod dir;
pub(crate) mod entry;
mod head;
mod protocol;
mod records;
mod reference;
mod segment;
pub(crate) mod text;
pub(crate) mod wire;
pub(crate) mod workload;

pub(crate) use coverage::Coverage;
pub(crate) use reference::{Answer, Reference};

/// Every layer's rows, in the order of a sample's way. One line a layer.
#[rustfmt::skip]
const LAYERS: &[(&str, &[Row])] = &[
    ("protocol", protocol::ROWS),
    ("text", text::ROWS),
    ("records", records::ROWS),
    ("segment", segment::ROWS),
    ("chunks", chunks::ROWS),
    ("dir", dir::ROWS),
    ("checkpoint", checkpoint::ROWS),
    ("head", head::ROWS),
];

/// One comparison of ours with the reference's.
pub(crate) struct Row {
    /// Name within its layer.
    pub(crate) name: &'static str,
    /// What must be equal, as one line for `--list`.
    pub(crate) about: &'static str,
    /// Does it; an error is a difference that no named rule allows.
    pub(crate) run: fn(&mut Session) -> Result<()>,
}

/// What a row works with.
pub(crate) struct Session {
    seed: u64,
    quick: bool,
    only: Option<usize>,
    salt: u64,
}

impl Session {
    /// A generator that depends on `--seed` and the row only: rows can run alone and in any order.
    pub(crate) fn rng(&self) -> StdRng {
        StdRng::seed_from_u64(self.seed ^ self.salt)
    }

    /// A generator for one round of a row, so that a failing round can be run alone.
    pub(crate) fn round_rng(&self, round: usize) -> StdRng {
        StdRng::seed_from_u64(
            (self.seed ^ self.salt).wrapping_add((round as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)),
        )
    }

    /// The rounds to run: all of `full`, a tenth of it with `--quick` (at least one), or the one of `--round`.
    pub(crate) fn rounds(&self, full: usize) -> std::ops::Range<usize> {
        match self.only {
            Some(round) => round..round + 1,
            None if self.quick => 0..full.div_ceil(10),
            None => 0..full,
        }
    }

    /// Whether `--quick` was given: the run inside `cargo xtask ci`.
    pub(crate) fn quick(&self) -> bool {
        self.quick
    }

    /// A fresh process of the reference.
    pub(crate) fn reference(&self) -> Result<Reference> {
        Reference::start()
    }

    /// A fresh directory, removed when dropped.
    pub(crate) fn scratch(&self) -> Result<tempfile::TempDir> {
        tempfile::Builder::new().prefix("headwater-interop-").tempdir().context("cannot make a temporary directory")
    }

    /// An empty coverage table; with `--round` nothing is required of it.
    pub(crate) fn coverage(&self) -> Coverage {
        Coverage::new(self.only.is_none())
    }
}

/// Compares with Prometheus 3.14, both directions.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Layer, or LAYER/ROW; all when absent
    layer: Option<String>,
    /// A tenth of the rounds
    #[arg(long)]
    quick: bool,
    /// Everything random follows from it; a failure prints the one it had
    #[arg(long)]
    seed: Option<u64>,
    /// Run this round of a row only
    #[arg(long)]
    round: Option<usize>,
    /// Names the rows and what they compare
    #[arg(long)]
    list: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.list {
        for (layer, row) in selected(None)? {
            println!("{:<28} {}", format!("{layer}/{}", row.name), row.about);
        }
        return Ok(());
    }
    let rows = selected(args.layer.as_deref())?;
    // A run is reproducible from what it prints, so a random seed is as good as a fixed one, and sees more over time.
    let seed = args.seed.unwrap_or_else(|| RandomState::new().build_hasher().finish() >> 32);
    println!("interop: seed {seed}{}", if args.quick { ", quick" } else { "" });
    let mut failed = Vec::new();
    for (layer, row) in rows {
        let name = format!("{layer}/{}", row.name);
        let mut session = Session { seed, quick: args.quick, only: args.round, salt: salt(&name) };
        println!("\n==> {name}: {}", row.about);
        let start = std::time::Instant::now();
        match (row.run)(&mut session) {
            Ok(()) => println!("    {name}: equal ({:.1} s)", start.elapsed().as_secs_f64()),
            Err(error) => {
                println!("    {name}: DIFFERENT: {error:#}");
                println!(
                    "    again: cargo xtask interop {name} --seed {seed}{}",
                    if args.quick { " --quick" } else { "" }
                );
                failed.push(name);
            }
        }
    }
    if !failed.is_empty() {
        bail!("different from the reference (seed {seed}): {}", failed.join(", "));
    }
    Ok(())
}

/// Every row with a tenth of its rounds: what `cargo xtask ci` runs.
pub(crate) fn quick(seed: u64) -> Result<()> {
    run(&Args { layer: None, quick: true, seed: Some(seed), round: None, list: false })
}

/// The rows that `LAYER` or `LAYER/ROW` names.
fn selected(which: Option<&str>) -> Result<Vec<(&'static str, &'static Row)>> {
    let (layer, row) = match which {
        None => (None, None),
        Some(which) => match which.split_once('/') {
            Some((layer, row)) => (Some(layer), Some(row)),
            None => (Some(which), None),
        },
    };
    let rows: Vec<_> = LAYERS
        .iter()
        .filter(|(name, _)| layer.is_none_or(|wanted| wanted == *name))
        .flat_map(|(name, rows)| rows.iter().map(move |each| (*name, each)))
        .filter(|(_, each)| row.is_none_or(|wanted| wanted == each.name))
        .collect();
    if rows.is_empty() {
        let known: Vec<_> = LAYERS.iter().map(|(name, _)| *name).collect();
        bail!("no such row: {}; layers are {}", which.unwrap_or_default(), known.join(", "));
    }
    Ok(rows)
}

/// FNV-1a of a row's name: rows do not share their random numbers.
fn salt(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
