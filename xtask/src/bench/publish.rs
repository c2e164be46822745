//! `bench --publish`: writes the figures of this run into `docs/benchmarks/<crate>.md`.
//!
//! Only what stands between the two markers is replaced: what somebody wrote around them (how a figure comes about, which
//! limit it meets) stays. Everything measured goes in, what was lost too.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::versus::{Outcome, Results};
use crate::sh;

const BEGIN: &str = "<!-- measured: begin -->";
const END: &str = "<!-- measured: end -->";

/// Writes the page of a crate.
pub(super) fn publish(layer: &str, results: &Results, pairs: usize, since: std::time::SystemTime) -> Result<()> {
    let path = sh::root().join("docs/benchmarks").join(format!("{layer}.md"));
    fs::create_dir_all(sh::root().join("docs/benchmarks"))?;
    let page = fs::read_to_string(&path).unwrap_or_else(|_| format!("# Benchmarks: {layer}\n\n{BEGIN}\n{END}\n"));
    let (before, rest) = page.split_once(BEGIN).with_context(|| format!("{}: no {BEGIN}", path.display()))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("{}: no {END}", path.display()))?;
    let mut text = format!("{before}{BEGIN}\n{}\n", machine()?);
    if !results.outcomes.is_empty() {
        text += &versus_table(&results.outcomes, pairs)?;
        text += &held_table(&results.outcomes)?;
    }
    for section in &results.sections {
        text += &format!("{section}\n");
    }
    text += &criterion_table(layer, since)?;
    text += &format!("{END}{after}");
    fs::write(&path, text)?;
    println!("wrote docs/benchmarks/{layer}.md");
    Ok(())
}

/// What the figures depend on.
fn machine() -> Result<String> {
    let first = |path: &str, key: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let memory: u64 = first("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism()?;
    let mut date = Command::new("date");
    Ok(format!(
        "Measured {} on {} ({cores} cores, {:.0} GiB), Linux {}, {}, {}.\n",
        sh::output(date.args(["-u", "+%Y-%m-%d"]))?.trim(),
        first("/proc/cpuinfo", "model name"),
        memory as f64 / (1 << 20) as f64,
        kernel.split("-").next().unwrap_or_default().trim(),
        sh::output(Command::new("rustc").arg("-V"))?.split(" (").next().unwrap_or_default(),
        sh::output(Command::new("go").args(["version"]))?.trim().replace("go version ", ""),
    ))
}

fn versus_table(outcomes: &[Outcome], pairs: usize) -> Result<String> {
    let mut text = format!(
        "## Beside Prometheus 3.14.0\n\nBoth sides on the same data, alternately, {pairs} pairs where a row does not say otherwise; the ratio is the median of \
         the pairwise ratios of wall time (least–greatest), theirs over ours.\n\n\
         | what | Prometheus | Headwater | ratio | CPU time | target | |\n|---|---|---|---|---|---|---|\n"
    );
    for o in outcomes {
        let (median, least, greatest) = o.ratio;
        let verdict = if median >= o.target { "met" } else { "**missed**" };
        let count = if o.pairs == pairs { String::new() } else { format!(", {} pairs", o.pairs) };
        writeln!(
            text,
            "| {} | {} per {} | {} | {median:.2}× ({least:.2}–{greatest:.2}{count}) | {:.2}× | {}× | {verdict} |",
            o.name,
            nanos(o.theirs),
            o.unit,
            nanos(o.ours),
            o.cpu_ratio,
            o.target
        )?;
    }
    // Where more is known than the peak there is a table of its own.
    let peaks: Vec<&Outcome> = outcomes.iter().filter(|o| o.held.is_none() && o.memory.is_some()).collect();
    if !peaks.is_empty() {
        text += "\n| what | peak RSS, Prometheus | Headwater | ratio |\n|---|---|---|---|\n";
        for o in peaks {
            if let Some((theirs, ours)) = o.memory {
                writeln!(
                    text,
                    "| {} | {} | {} | {:.2}× |",
                    o.name,
                    mib(theirs),
                    mib(ours),
                    theirs as f64 / ours as f64
                )?;
            }
        }
    }
    Ok(text + "\n")
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// What a head's live bytes are to be at most, as a part of the reference's.
const LIVE_RATIO: f64 = 3.0;
/// And its peak, as a multiple of what it keeps.
const PEAK_TO_STEADY: f64 = 1.2;

/// What processes hold when their work is done, and held at most.
fn held_table(outcomes: &[Outcome]) -> Result<String> {
    if outcomes.iter().all(|o| o.held.is_none()) {
        return Ok(String::new());
    }
    let mut text = format!(
        "### Memory\n\nLive bytes per series: Go's heap after a collection; here every allocation that was not freed, with \
         what the allocator adds. Target: a third ({LIVE_RATIO}×). Peak against steady is ours, after replay; target \
         {PEAK_TO_STEADY}×.\n\n\
         | what | live, Prometheus | Headwater | ratio | | peak RSS, Prometheus | Headwater | ratio | peak / steady | |\n\
         |---|---|---|---|---|---|---|---|---|---|\n"
    );
    for o in outcomes {
        let (Some((theirs, ours)), Some((their_peak, our_peak))) = (o.held, o.memory) else { continue };
        let each = |live: u64, series: u64| live as f64 / series.max(1) as f64;
        let (their_live, our_live) = (each(theirs.live, theirs.series), each(ours.live, ours.series));
        let live = their_live / our_live;
        let steady = our_peak as f64 / ours.rss.max(1) as f64;
        let verdict = |met: bool| if met { "met" } else { "**missed**" };
        // While samples come in the peak is the present.
        let replay = !o.name.contains("ingest");
        let (steady, steady_met) =
            if replay { (format!("{steady:.2}×"), verdict(steady <= PEAK_TO_STEADY)) } else { ("–".to_owned(), "") };
        writeln!(
            text,
            "| {} | {their_live:.0} B | {our_live:.0} B | {live:.2}× | {} | {} | {} | {:.2}× | {steady} | {steady_met} |",
            o.name,
            verdict(live >= LIVE_RATIO),
            mib(their_peak),
            mib(our_peak),
            their_peak as f64 / our_peak as f64,
        )?;
    }
    Ok(text + "\n")
}

/// Criterion's estimates of the run that began at `since`.
fn criterion_table(layer: &str, since: std::time::SystemTime) -> Result<String> {
    let mut rows = Vec::new();
    let mut folders = vec![sh::target_dir().join("criterion")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.ends_with("new/estimates.json") && fs::metadata(&path)?.modified()? >= since {
                rows.push(criterion_row(&path)?);
            }
        }
    }
    rows.retain(|row: &(String, String)| row.0.starts_with(&format!("{layer}/")));
    rows.sort();
    if rows.is_empty() {
        return Ok(String::new());
    }
    let mut text = "## Alone\n\n| benchmark | time |\n|---|---|\n".to_owned();
    for (name, time) in rows {
        writeln!(text, "| {name} | {time} |")?;
    }
    Ok(text + "\n")
}

/// Name and time of one benchmark, per unit of its throughput where it has one.
fn criterion_row(estimates: &std::path::Path) -> Result<(String, String)> {
    let read = |path: &std::path::Path| -> Result<Value> {
        Ok(serde_json::from_str(&fs::read_to_string(path).with_context(|| path.display().to_string())?)?)
    };
    let value = read(estimates)?;
    let benchmark = read(&estimates.with_file_name("benchmark.json"))?;
    let time = value["median"]["point_estimate"].as_f64().context("no median")?;
    let name = benchmark["full_id"].as_str().context("no name")?.to_owned();
    ensure!(time > 0.0, "{name} took no time");
    let throughput = &benchmark["throughput"];
    let rate = if let Some(elements) = throughput["Elements"].as_f64() {
        format!(" ({} each)", nanos(time / elements))
    } else if let Some(bytes) = throughput["Bytes"].as_f64() {
        format!(" ({:.2} GB/s)", bytes / time)
    } else {
        String::new()
    };
    Ok((name, format!("{}{rate}", nanos(time))))
}

/// Nanoseconds in the unit that suits them.
fn nanos(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{ns:.2} ns"),
        ns if ns < 1e6 => format!("{:.2} µs", ns / 1e3),
        ns if ns < 1e9 => format!("{:.2} ms", ns / 1e6),
        ns => format!("{:.2} s", ns / 1e9),
    }
}
