//! tsdb-head beside `tsdb.Head`: workload S, each run in a process of its own.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use benches::workload::{Values, Workload};
use serde_json::{Value, json};

use super::arguments;
use super::versus::{Arena, Contest, Cost};
use crate::interop::workload::COMPRESSIONS;
use crate::interop::{Answer, Reference};

pub(super) const CONTESTS: &[Contest] = &[
    Contest { name: "ingest", unit: "sample", target: 8.0, run: ingest },
    Contest { name: "replay, log only", unit: "sample", target: 8.0, run: |arena| replay(arena, true) },
    Contest { name: "replay, chunk files present", unit: "sample", target: 8.0, run: |arena| replay(arena, false) },
];

/// Workload S, as `docs/benchmarks` has it. `HEADWATER_BENCH_SERIES` makes it smaller for a quick look.
fn workload(values: Values) -> Workload {
    let series = std::env::var("HEADWATER_BENCH_SERIES").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000);
    Workload { series, scrapes: 240, interval: 15_000, start: 1_700_000_000_000, values, churn: 0, seed: 1 }
}

/// Every kind of values with every compression.
fn variants() -> impl Iterator<Item = (&'static str, Values, &'static str)> {
    let values = [("counter", Values::Counter), ("gauge", Values::Gauge)];
    values.into_iter().flat_map(|(name, values)| COMPRESSIONS.map(|compression| (name, values, compression)))
}

fn ingest(arena: &mut Arena) -> Result<()> {
    for (name, values, compression) in variants() {
        let workload = workload(values);
        same_data(&mut arena.reference, &workload)?;
        let run = |process: Result<Reference>| {
            let scratch = tempfile::tempdir()?;
            let answer = make(&mut process?, &workload, compression, scratch.path())?;
            cost(&answer, workload.series * workload.scrapes)
        };
        arena.run(&format!("{name}, {compression}"), |_| run(Reference::start()), || run(Reference::ourselves()))?;
    }
    Ok(())
}

/// Both read a directory which the reference made.
fn replay(arena: &mut Arena, log_only: bool) -> Result<()> {
    for (name, values, compression) in variants() {
        let workload = workload(values);
        let scratch = tempfile::tempdir()?;
        let dir = scratch.path().join("data");
        make(&mut Reference::start()?, &workload, compression, &dir)?;
        let samples = workload.series * workload.scrapes;
        let run = |process: Result<Reference>| {
            let answer = process?.call("bench.replay", json!({ "dir": dir, "log_only": log_only }), b"")?;
            ensure!(answer.u64("series")? == workload.series, "{} series came back", answer.u64("series")?);
            ensure!(answer.i64("max_time")? == workload.time(workload.scrapes - 1), "not all came back");
            cost(&answer, samples)
        };
        arena.run(&format!("{name}, {compression}"), |_| run(Reference::start()), || run(Reference::ourselves()))?;
    }
    Ok(())
}

/// Ingests a workload into a fresh directory.
fn make(process: &mut Reference, workload: &Workload, compression: &str, dir: &Path) -> Result<Answer> {
    std::fs::create_dir_all(dir)?;
    let Value::Object(mut args) = arguments(workload) else { anyhow::bail!("no object") };
    args.insert("dir".into(), json!(dir));
    args.insert("compression".into(), json!(compression));
    args.insert("committers".into(), json!(2));
    args.insert("per_commit".into(), json!(200));
    process.call("bench.ingest", Value::Object(args), b"").context("bench.ingest")
}

fn cost(answer: &Answer, samples: u64) -> Result<Cost> {
    eprintln!(
        "      {:.2} s, CPU {:.2} s, live {:.0} B a series, peak {:.0} MiB",
        answer.f64("seconds")?,
        answer.f64("cpu_seconds")?,
        answer.f64("live_bytes_per_series")?,
        answer.f64("peak_rss")? / f64::from(1 << 20)
    );
    Cost::of(answer, samples)
}

/// A ratio over different data would mean nothing.
fn same_data(reference: &mut Reference, workload: &Workload) -> Result<()> {
    let theirs = reference.call("workload.digest", arguments(workload), b"")?;
    let ours = format!("{:016x}", workload.digest());
    ensure!(theirs.str("digest")? == ours, "the two sides make different data");
    Ok(())
}
