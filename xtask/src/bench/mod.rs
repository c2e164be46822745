//! `cargo xtask bench`: criterion, and side by side with the reference.
//!
//! # Where a new measurement goes
//!
//! * Ours alone: `benches/benches/<crate_name>.rs` and three lines in `benches/Cargo.toml`.
//! * Beside the reference: a file of the layer in this folder with `pub(super) const CONTESTS: &[Contest] = …`, one `mod`
//!   line and one line in [`LAYERS`]; its Go half is an operation in the layer's file of `interop/` that runs its loop
//!   inside `timed(…)` (bench.go).
//!
//! Machines are shared and noisy, so only ratios of one run count: both sides work on the same data, alternately, and the
//! median of the pairwise ratios is what is reported.

use std::time::SystemTime;

use anyhow::{Result, ensure};
use benches::workload::{Values, Workload};
use serde_json::json;

use crate::sh;

mod bare;
mod head_chunks;
mod publish;
mod tsdb_head;
mod versus;
mod wal_checkpoint;
mod wal_format;
mod wal_segment;

use versus::Contest;
pub(crate) use versus::Cost;

/// Every layer's contests, by crate name. One line a layer.
#[rustfmt::skip]
const LAYERS: &[(&str, &[Contest])] = &[
    ("wal-format", wal_format::CONTESTS),
    ("wal-segment", wal_segment::CONTESTS),
    ("head-chunks", head_chunks::CONTESTS),
    ("tsdb-head", tsdb_head::CONTESTS),
    ("wal-checkpoint", wal_checkpoint::CONTESTS),
];

/// Measures: criterion, or side by side with Prometheus 3.14.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Crate, e.g. wal-segment; all when absent
    layer: Option<String>,
    /// Run the reference and ours alternately on the same data, report ratios
    #[arg(long)]
    versus: bool,
    /// Run both and write the figures, losses included, to docs/benchmarks/CRATE.md
    #[arg(long, conflicts_with_all = ["versus", "filter"])]
    publish: bool,
    /// Pairs of runs of each contest
    #[arg(long, default_value_t = 7)]
    pairs: usize,
    /// Only contests (or criterion benchmarks) whose name contains this
    #[arg(long)]
    filter: Option<String>,
    /// Names the layers that have something to measure
    #[arg(long)]
    list: bool,
}

/// The same command again, built for measuring: everything else here is driven by a build that is quick to make.
fn optimised() -> Result<()> {
    sh::run(
        sh::cargo().args(["run", "--quiet", "--release", "--package", "xtask", "--"]).args(std::env::args_os().skip(1)),
    )
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let layers = layers()?;
    if args.list {
        for layer in &layers {
            println!("{layer:<16} {}", contests(layer).iter().map(|c| c.name).collect::<Vec<_>>().join("; "));
        }
        return Ok(());
    }
    if cfg!(debug_assertions) {
        return optimised();
    }
    let wanted: Vec<&String> =
        layers.iter().filter(|l| args.layer.as_ref().is_none_or(|wanted| wanted == *l)).collect();
    ensure!(!wanted.is_empty(), "nothing to measure in {:?}; there are {}", args.layer, layers.join(", "));
    for layer in wanted {
        let since = SystemTime::now();
        if !args.versus {
            criterion(layer, args.filter.as_deref())?;
        }
        if args.versus || args.publish {
            let results = versus::run(layer, contests(layer), args.pairs, args.filter.as_deref())?;
            if args.publish {
                publish::publish(layer, &results, args.pairs, since)?;
            }
        }
    }
    Ok(())
}

/// Crates with criterion benchmarks or contests.
fn layers() -> Result<Vec<String>> {
    let mut names: Vec<String> = LAYERS.iter().map(|(name, _)| (*name).to_owned()).collect();
    for entry in std::fs::read_dir(sh::root().join("benches/benches"))? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().replace('_', "-")));
    }
    names.sort();
    names.dedup();
    Ok(names)
}

fn contests(layer: &str) -> &'static [Contest] {
    LAYERS.iter().find(|(name, _)| *name == layer).map_or(&[], |(_, contests)| contests)
}

/// Runs the criterion target of a layer, if it has one.
fn criterion(layer: &str, filter: Option<&str>) -> Result<()> {
    let target = layer.replace('-', "_");
    if !sh::root().join(format!("benches/benches/{target}.rs")).exists() {
        return Ok(());
    }
    let mut cargo = sh::cargo();
    cargo.args(["bench", "--package", "benches", "--bench", &target, "--"]).args(filter);
    sh::run(&mut cargo)
}

/// A workload as the reference's operations take it.
pub(crate) fn arguments(workload: &Workload) -> serde_json::Value {
    let values = match workload.values {
        Values::Counter => "counter",
        Values::Gauge => "gauge",
        Values::Trivial => "trivial",
    };
    json!({
        "series": workload.series, "scrapes": workload.scrapes, "interval": workload.interval, "start": workload.start,
        "values": values, "churn": workload.churn, "seed": workload.seed,
    })
}
