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

use anyhow::{Result, bail};
use benches::workload::{Values, Workload};
use serde_json::json;

use crate::sh;

mod versus;
mod wal_segment;

use versus::Contest;

/// Every layer's contests, by crate name. One line a layer.
const LAYERS: &[(&str, &[Contest])] = &[("wal-segment", wal_segment::CONTESTS)];

/// Measures: criterion, or side by side with Prometheus 3.14.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Crate, e.g. wal-segment; all when absent
    layer: Option<String>,
    /// Run the reference and ours alternately on the same data, report ratios
    #[arg(long)]
    versus: bool,
    /// Pairs of runs of each contest
    #[arg(long, default_value_t = 7)]
    pairs: usize,
    /// Only contests (or criterion benchmarks) whose name contains this
    #[arg(long)]
    filter: Option<String>,
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

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.versus {
        for (layer, contests) in LAYERS.iter().filter(|(name, _)| args.layer.as_deref().is_none_or(|l| l == *name)) {
            versus::run(layer, contests, args.pairs, args.filter.as_deref())?;
        }
        return Ok(());
    }
    let mut cargo = sh::cargo();
    cargo.args(["bench", "--package", "benches"]);
    if let Some(layer) = &args.layer {
        let target = layer.replace('-', "_");
        if !sh::root().join(format!("benches/benches/{target}.rs")).exists() {
            bail!("no benchmarks of {layer}: benches/benches/{target}.rs does not exist");
        }
        cargo.args(["--bench", &target]);
    }
    cargo.arg("--");
    cargo.args(&args.filter);
    sh::run(&mut cargo)
}
