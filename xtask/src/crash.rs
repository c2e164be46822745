//! `cargo xtask crash`: what dies in the middle of something, over and over.
//!
//! Crash tests are ordinary integration tests of their crate, in targets whose file begins with `crash` (states of the
//! simulated disk) or `kill` (SIGKILL of a real process): `CRATE/tests/crash_log.rs`. A plain `cargo test` runs them too,
//! with little effort; this command asks for more through two variables that such a test reads:
//!
//! * `HEADWATER_CRASH_STATES`: crash states to visit, all workloads of the target together;
//! * `HEADWATER_KILLS`: kills, all places of the target together.
//!
//! A target with a part that is long in itself marks it `#[ignore]`; `--ignored` runs those.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::sh;

/// Crash enumeration on the simulated disk, and kill loops with real processes
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Crate; all when absent
    package: Option<String>,
    /// Crash states for each target
    #[arg(long, default_value_t = 1_000_000)]
    states: u64,
    /// Kills for each target
    #[arg(long, default_value_t = 10_000)]
    kills: u64,
    /// The numbers of `cargo xtask ci`: 100,000 states and 500 kills for the log, a tenth for what stands on it, where a
    /// state takes longer to recover
    #[arg(long, conflicts_with_all = ["states", "kills"])]
    quick: bool,
    /// Fixes the random choices of tests that read HEADWATER_SEED
    #[arg(long)]
    seed: Option<u64>,
    /// Also what is marked as long in itself
    #[arg(long)]
    ignored: bool,
    /// Names the targets
    #[arg(long)]
    list: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let targets = targets(args.package.as_deref())?;
    if args.list {
        targets.iter().for_each(|(package, target)| println!("{package}/{target}"));
        return Ok(());
    }
    for (package, target) in targets {
        let (states, kills) = match (args.quick, package.as_str()) {
            (true, "wal-segment") => (100_000, 500),
            (true, "wal-checkpoint") => (20_000, 50),
            (true, _) => (10_000, 50),
            (false, _) => (args.states, args.kills),
        };
        sh::step(&format!("{package}/{target}: {states} states, {kills} kills"), || {
            let mut cargo = sh::cargo();
            cargo.args(["test", "--release", "--package", &package, "--test", &target, "--", "--nocapture"]);
            cargo.args(args.ignored.then_some("--include-ignored"));
            cargo.env("HEADWATER_CRASH_STATES", states.to_string()).env("HEADWATER_KILLS", kills.to_string());
            cargo.envs(args.seed.map(|seed| ("HEADWATER_SEED", seed.to_string())));
            sh::run(&mut cargo)
        })?;
    }
    Ok(())
}

/// What `cargo xtask ci` runs.
pub(crate) fn quick() -> Result<()> {
    run(&Args { package: None, states: 0, kills: 0, quick: true, seed: None, ignored: false, list: false })
}

/// Crates and their crash targets, found by name.
fn targets(package: Option<&str>) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(sh::root()).context("the repository")? {
        let folder = entry?.path();
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if package.is_none_or(|package| package == name) && folder.join("Cargo.toml").exists() {
            found.extend(in_folder(&folder.join("tests"))?.into_iter().map(|target| (name.clone(), target)));
        }
    }
    found.sort();
    if found.is_empty() {
        bail!("no crash or kill tests{}", package.map(|p| format!(" in {p}")).unwrap_or_default());
    }
    Ok(found)
}

fn in_folder(tests: &Path) -> Result<Vec<String>> {
    let Ok(entries) = std::fs::read_dir(tests) else { return Ok(Vec::new()) };
    let mut targets = Vec::new();
    for entry in entries {
        let path = entry?.path();
        // A target is a file, or a folder with a main.rs.
        let is_target = path.extension().is_some_and(|e| e == "rs") || path.join("main.rs").exists();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if is_target && (name.starts_with("crash") || name.starts_with("kill")) {
            targets.push(name);
        }
    }
    Ok(targets)
}
