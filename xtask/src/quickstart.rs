//! `cargo xtask quickstart`: the program's main job on real data, for somebody who has just cloned this.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::sh;

/// Builds the program and shows it on recorded scrapes: ingest, inspect, replay, dump
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where the data directory is made; must not hold anything
    dir: Option<PathBuf>,
}

/// When the first of the recorded scrapes was taken (ms since epoch), see `testdata/scrapes/README.md`.
const FIRST_SCRAPE: &str = "1795232865971";

/// The recorded exporters: job label, beginning and end of their files' names.
const JOBS: [(&str, &str, &str); 3] =
    [("node", "node-", ".prom"), ("rpc", "rpc-", ".om"), ("created", "created-", ".om")];

pub(crate) fn run(args: &Args) -> Result<()> {
    sh::run(sh::cargo().args(["build", "--release", "--package", "headwater"]))?;
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => fresh_dir()?,
    };
    if std::fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} is not empty", dir.display());
    }
    let dir = dir.to_str().context("the directory's name is not UTF-8")?;

    for (job, prefix, suffix) in JOBS {
        let label = format!("job={job}");
        let options = ["ingest", dir, "--at", FIRST_SCRAPE, "--every", "15s", "--label", &label];
        show(&options, &format!("testdata/scrapes/{prefix}*{suffix}"));
        let scrapes = scrapes(prefix, suffix)?;
        sh::run(headwater().args(options).args(scrapes))?;
    }
    for line in [
        vec!["inspect", dir],
        vec!["bench", "replay", dir],
        vec!["dump", dir, "--match", "node_load1", "--max-time", "2026-11-21T03:48:32Z"],
        vec!["dump", dir, "--match", r#"rpc_durations_seconds{quantile="0.9"}"#],
        vec!["verify", dir],
    ] {
        show(&line, "");
        sh::run(headwater().args(line))?;
    }
    println!("\nThe directory {dir} is one that Prometheus 3.14 opens. The program: target/release/headwater --help");
    Ok(())
}

/// A directory of its own under `target/`, that of the run before removed.
fn fresh_dir() -> Result<PathBuf> {
    let dir = sh::target_dir().join("quickstart");
    if dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    Ok(dir)
}

fn headwater() -> Command {
    let mut command = Command::new(sh::target_dir().join("release").join("headwater"));
    command.current_dir(sh::root());
    command
}

fn scrapes(prefix: &str, suffix: &str) -> Result<Vec<PathBuf>> {
    let folder = sh::root().join("testdata").join("scrapes");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(prefix) && name.ends_with(suffix) {
            found.push(path);
        }
    }
    found.sort();
    if found.is_empty() {
        bail!("no {prefix}*{suffix} in {}", folder.display());
    }
    Ok(found)
}

/// Prints the command line as one would type it.
fn show(args: &[&str], files: &str) {
    let quoted = args.iter().map(|arg| {
        if arg.contains(|c: char| !(c.is_alphanumeric() || "/.-_=:".contains(c))) {
            format!("'{arg}'")
        } else {
            (*arg).to_owned()
        }
    });
    println!("\n$ headwater {} {files}", quoted.collect::<Vec<_>>().join(" "));
}
