//! `cargo xtask fuzz`: libFuzzer with AddressSanitizer, on the stable toolchain.
//!
//! A target is a file in `fuzz/fuzz_targets/` and its `[[bin]]` entry in `fuzz/Cargo.toml`; nothing here names one. We pass
//! the compiler flags ourselves rather than through cargo-fuzz: both the sanitizer and the coverage pass are in every
//! rustc, behind `RUSTC_BOOTSTRAP`, so neither a nightly nor another tool has to be installed.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::sh;

/// Runs fuzz targets (libFuzzer, AddressSanitizer).
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Target; all, one after the other, when absent
    target: Option<String>,
    /// Stop after so many executions of each target
    #[arg(long)]
    runs: Option<u64>,
    /// Stop after so many seconds for each target [default: 60, unless --runs is given]
    #[arg(long)]
    seconds: Option<u64>,
    /// Fixes libFuzzer's random choices
    #[arg(long)]
    seed: Option<u32>,
    /// Run one input (a crash artifact) and nothing else
    #[arg(long, requires = "target")]
    input: Option<PathBuf>,
    /// Bytes of an input at most: short ones run many times as often, and what breaks a decoder is seldom long
    #[arg(long)]
    max_len: Option<u32>,
    /// Without AddressSanitizer and traced comparisons: several times as many executions, for a target whose inputs are known
    /// already and whose subject has no unsafe code
    #[arg(long)]
    bare: bool,
    /// Megabytes of address space that one input may need before it counts as a bug
    #[arg(long, default_value_t = 2048)]
    rss_limit: u32,
    /// Seconds that one input may take before it counts as a hang; more where the machine may stand still meanwhile
    #[arg(long, default_value_t = 10)]
    timeout: u32,
    /// Names the targets
    #[arg(long)]
    list: bool,
}

/// Coverage counters for libFuzzer; the profile has every check of a debug build.
const FLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "--cfg=fuzzing",
];

/// Comparisons traced, so that magic numbers are found, and memory watched: two thirds of the time that an input takes.
const WATCHED: &[&str] = &["-Zsanitizer=address", "-Cllvm-args=-sanitizer-coverage-trace-compares"];

pub(crate) fn run(args: &Args) -> Result<()> {
    let known = targets()?;
    if args.list {
        known.iter().for_each(|name| println!("{name}"));
        return Ok(());
    }
    let wanted = match &args.target {
        None => known,
        Some(name) if known.contains(name) => vec![name.clone()],
        Some(name) => bail!("no fuzz target {name}; there are {}", known.join(", ")),
    };
    let built = sh::step("build the fuzz targets", || build(args.bare))?;
    for name in wanted {
        sh::step(&format!("fuzz {name}"), || run_target(&built, &name, args))?;
    }
    Ok(())
}

/// Every target a little, always the same inputs, so that a change is judged by what it did: what `cargo xtask ci` runs.
pub(crate) fn briefly(runs: u64) -> Result<()> {
    let args = Args {
        target: None,
        runs: Some(runs),
        seconds: Some(20),
        seed: Some(1),
        input: None,
        max_len: None,
        bare: false,
        rss_limit: 2048,
        timeout: 10,
        list: false,
    };
    run(&args)
}

/// Target names, as the manifest has them.
fn targets() -> Result<Vec<String>> {
    let manifest = std::fs::read_to_string(sh::root().join("fuzz/Cargo.toml")).context("fuzz/Cargo.toml")?;
    let mut names = Vec::new();
    let mut in_bin = false;
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            in_bin = line == "[[bin]]";
        } else if let Some(name) = line.strip_prefix("name = \"").filter(|_| in_bin) {
            names.push(name.trim_end_matches('"').to_owned());
        }
    }
    Ok(names)
}

/// Builds all targets; returns the folder they are in.
fn build(bare: bool) -> Result<PathBuf> {
    let host = host()?;
    let target_dir = sh::root().join(if bare { "fuzz/target/bare" } else { "fuzz/target" });
    let flags = if bare { FLAGS.to_vec() } else { [FLAGS, WATCHED].concat() };
    let mut cargo = sh::cargo();
    // With --target the flags reach the targets only: build scripts must not be instrumented.
    cargo
        .current_dir(sh::root().join("fuzz"))
        .args(["build", "--release", "--bins", "--target", &host, "--target-dir"])
        .arg(&target_dir)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env_remove("RUSTFLAGS");
    sh::run(&mut cargo)?;
    Ok(target_dir.join(host).join("release"))
}

/// The host triple, which `rustc -vV` names.
pub(crate) fn host() -> Result<String> {
    let version = sh::output(std::process::Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

fn run_target(built: &std::path::Path, name: &str, args: &Args) -> Result<()> {
    let corpus = sh::root().join("fuzz/corpus").join(name);
    let artifacts = sh::root().join("fuzz/artifacts").join(name);
    std::fs::create_dir_all(&corpus)?;
    std::fs::create_dir_all(&artifacts)?;
    let mut command = std::process::Command::new(built.join(name));
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    command.args([format!("-rss_limit_mb={}", args.rss_limit), format!("-timeout={}", args.timeout)]);
    command.arg("-print_final_stats=1");
    if let Some(input) = &args.input {
        return sh::run(command.arg(input));
    }
    match (args.runs, args.seconds) {
        (None, seconds) => command.arg(format!("-max_total_time={}", seconds.unwrap_or(60))),
        (Some(runs), None) => command.arg(format!("-runs={runs}")),
        (Some(runs), Some(seconds)) => command.args([format!("-runs={runs}"), format!("-max_total_time={seconds}")]),
    };
    if let Some(max_len) = args.max_len {
        command.arg(format!("-max_len={max_len}"));
    }
    if let Some(seed) = args.seed {
        command.arg(format!("-seed={seed}"));
    }
    command.arg(corpus);
    // Inputs worth starting from, committed; libFuzzer writes what it finds to the first folder only.
    let seeds = sh::root().join("fuzz/seeds").join(name);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    sh::run(&mut command)
}
