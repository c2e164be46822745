//! tsdb-head beside `tsdb.Head`: each run in a process of its own, so that its memory is its own.
//!
//! Workload S as `docs/benchmarks/tsdb-head.md` has it; C, the same with every series replaced after 20 scrapes; L, a
//! million series; H, native histograms. `HEADWATER_BENCH_SERIES` makes S smaller, and the others with it, for a quick look.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use benches::workload::{Values, Workload};
use serde_json::{Value, json};

use super::arguments;
use super::versus::{Arena, Contest, Cost, Held};
use crate::interop::workload::COMPRESSIONS;
use crate::interop::{Answer, Reference};

const INGEST: f64 = 5.0;

#[rustfmt::skip]
pub(super) const CONTESTS: &[Contest] = &[
    Contest { name: "ingest", unit: "sample", target: INGEST, run: ingest },
    Contest { name: "replay", unit: "sample", target: 8.0, run: replay },
    Contest { name: "churn (C)", unit: "sample", target: 8.0, run: churn },
    Contest { name: "a million series (L)", unit: "sample", target: 8.0, run: large },
    Contest { name: "histograms (H)", unit: "histogram", target: 4.0, run: histograms },
];

fn series() -> u64 {
    std::env::var("HEADWATER_BENCH_SERIES").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000)
}

fn workload(values: Values) -> Workload {
    let (series, start) = (series(), 1_700_000_000_000);
    Workload { series, scrapes: 240, interval: 15_000, start, values, churn: 0, seed: 1 }
}

/// Every kind of values with every compression.
fn variants() -> impl Iterator<Item = (&'static str, Values, &'static str)> {
    let values = [("counter", Values::Counter), ("gauge", Values::Gauge)];
    values.into_iter().flat_map(|(name, values)| COMPRESSIONS.map(|compression| (name, values, compression)))
}

/// A page is to take ten minutes, and the reference takes most of them.
const PAIRS: usize = 3;

fn ingest(arena: &mut Arena) -> Result<()> {
    arena.warm_up = false;
    arena.pairs = arena.pairs.min(PAIRS);
    for (name, values, compression) in variants() {
        let variant = format!("{name}, {compression}");
        if !arena.wants(&variant) {
            continue;
        }
        let workload = workload(values);
        if compression == "none" {
            same_data(&mut arena.reference, &workload)?;
        }
        ingest_one(arena, &variant, &arguments(&workload), &workload, compression)?;
    }
    Ok(())
}

fn ingest_one(arena: &mut Arena, variant: &str, args: &Value, workload: &Workload, compression: &str) -> Result<()> {
    let run = |process: Result<Reference>| {
        let scratch = tempfile::tempdir()?;
        let answer = make(&mut process?, args, compression, scratch.path())?;
        cost(&answer, workload.series * workload.scrapes)
    };
    arena.run(variant, |_| run(Reference::start()), || run(Reference::ourselves()))
}

/// Both read a directory which the reference made.
fn replay(arena: &mut Arena) -> Result<()> {
    arena.warm_up = false;
    arena.pairs = arena.pairs.min(PAIRS);
    for (name, values, compression) in variants() {
        let workload = workload(values);
        replay_both(arena, &format!("{name}, {compression}"), &arguments(&workload), &workload, compression)?;
    }
    Ok(())
}

fn replay_both(arena: &mut Arena, variant: &str, args: &Value, workload: &Workload, compression: &str) -> Result<()> {
    let ways = [("log only", true), ("chunk files present", false)];
    let ways: Vec<(String, bool)> = ways.map(|(way, log_only)| (format!("{way}, {variant}"), log_only)).into();
    if !ways.iter().any(|(name, _)| arena.wants(name)) {
        return Ok(());
    }
    let scratch = tempfile::tempdir()?;
    let dir = scratch.path().join("data");
    make(&mut Reference::start()?, args, compression, &dir)?;
    for (name, log_only) in ways {
        replay_one(arena, &name, &dir, log_only, workload)?;
    }
    Ok(())
}

fn replay_one(arena: &mut Arena, variant: &str, dir: &Path, log_only: bool, workload: &Workload) -> Result<()> {
    let samples = workload.series * workload.scrapes;
    let series = workload.series * workload.scrapes.checked_div(workload.churn).unwrap_or(1);
    let mut owners = Value::Null;
    let run = |process: Result<Reference>, owners: &mut Value| {
        let answer = process?.call("bench.replay", json!({ "dir": dir, "log_only": log_only }), b"")?;
        ensure!(answer.u64("series")? == series, "{} series came back", answer.u64("series")?);
        ensure!(answer.i64("max_time")? == workload.time(workload.scrapes - 1), "not all came back");
        if let Some(found) = answer.fields.get("owners") {
            *owners = found.clone();
        }
        cost(&answer, samples)
    };
    let mut none = Value::Null;
    arena.run(variant, |_| run(Reference::start(), &mut none), || run(Reference::ourselves(), &mut owners))?;
    if variant.ends_with("none") && !log_only && !owners.is_null() {
        arena.sections.push(owners_table(&arena.full_name(variant), &owners, series)?);
    }
    Ok(())
}

/// Where the bytes of a head are, as a table.
fn owners_table(name: &str, owners: &Value, series: u64) -> Result<String> {
    let mut text = format!("### Where the bytes are: {name}\n\n| owner | bytes per series |\n|---|---|\n");
    let mut total = 0.0;
    for owner in owners.as_array().context("owners are a list")? {
        let bytes = owner[1].as_f64().context("bytes are a number")? / series as f64;
        total += bytes;
        writeln!(text, "| {} | {bytes:.1} |", owner[0].as_str().context("an owner has a name")?)?;
    }
    writeln!(text, "| **all** | **{total:.1}** |")?;
    println!("{text}");
    Ok(text)
}

/// Series come and go: what is kept of those that went, and what reading them back takes.
fn churn(arena: &mut Arena) -> Result<()> {
    arena.warm_up = false;
    arena.pairs = arena.pairs.min(2);
    let workload = Workload { churn: 20, ..workload(Values::Counter) };
    replay_both(arena, "counter, none", &arguments(&workload), &workload, "none")
}

fn large(arena: &mut Arena) -> Result<()> {
    arena.warm_up = false;
    arena.pairs = 1;
    let replay_target = std::mem::replace(&mut arena.target, INGEST);
    let workload = Workload { series: series() * 10, scrapes: 60, ..workload(Values::Counter) };
    let args = arguments(&workload);
    ingest_one(arena, "ingest, counter, none", &args, &workload, "none")?;
    arena.target = replay_target;
    let name = "replay, log only, counter, none";
    if arena.wants(name) {
        let scratch = tempfile::tempdir()?;
        let dir = scratch.path().join("data");
        make(&mut Reference::ourselves()?, &args, "none", &dir)?;
        replay_one(arena, name, &dir, true, &workload)?;
    }
    Ok(())
}

fn histograms(arena: &mut Arena) -> Result<()> {
    arena.warm_up = false;
    arena.pairs = arena.pairs.min(PAIRS);
    let workload = Workload { series: series() / 20, ..workload(Values::Counter) };
    let mut args = arguments(&workload);
    args["values"] = json!("histograms");
    let theirs = arena.reference.call("bench.histograms", args.clone(), b"")?;
    let ours = format!("{:016x}", benches::histograms::digest(workload.seed, workload.series, workload.scrapes));
    ensure!(theirs.str("digest")? == ours, "the two sides make different histograms");
    ingest_one(arena, "ingest, none", &args, &workload, "none")?;
    replay_both(arena, "none", &args, &workload, "none")
}

/// Ingests a workload into a fresh directory.
fn make(process: &mut Reference, args: &Value, compression: &str, dir: &Path) -> Result<Answer> {
    std::fs::create_dir_all(dir)?;
    let Value::Object(mut args) = args.clone() else { anyhow::bail!("no object") };
    args.insert("dir".into(), json!(dir));
    args.insert("compression".into(), json!(compression));
    args.insert("committers".into(), json!(2));
    args.insert("per_commit".into(), json!(200));
    process.call("bench.ingest", Value::Object(args), b"").context("bench.ingest")
}

fn cost(answer: &Answer, samples: u64) -> Result<Cost> {
    eprintln!(
        "      {:.2} s, CPU {:.2} s, live {:.0} B a series, peak {:.0} MiB, then {:.0} MiB",
        answer.f64("seconds")?,
        answer.f64("cpu_seconds")?,
        answer.f64("live_bytes_per_series")?,
        answer.f64("peak_rss")? / f64::from(1 << 20),
        answer.f64("rss")? / f64::from(1 << 20)
    );
    let held = Held { live: answer.u64("live_bytes")?, rss: answer.u64("rss")?, series: answer.u64("series")? };
    Ok(Cost { held: Some(held), ..Cost::of(answer, samples)? })
}

/// A ratio over different data would mean nothing.
fn same_data(reference: &mut Reference, workload: &Workload) -> Result<()> {
    let theirs = reference.call("workload.digest", arguments(workload), b"")?;
    let ours = format!("{:016x}", workload.digest());
    ensure!(theirs.str("digest")? == ours, "the two sides make different data");
    Ok(())
}
