//! `cargo xtask ci`: what must hold before a change is taken in, cheapest first.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::{crash, edges, fuzz, goldens, interop, sh, tidy};

/// Everything that must hold before a change is taken in (tests aside: `cargo xtask test`).
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these steps
    #[arg(value_name = "STEP")]
    only: Vec<String>,
    /// Leave out what takes minutes: threads, sanitizer, stress, interop, fuzz, crash
    #[arg(long)]
    fast: bool,
    /// Runs of each fuzz target, 20 seconds at most
    #[arg(long, default_value_t = 20_000)]
    fuzz_runs: u64,
    /// Seed of the comparison with Prometheus: fixed, so that a change is judged by what it did; run on its own,
    /// `cargo xtask interop` takes a new one each time
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Names the steps
    #[arg(long)]
    list: bool,
}

struct Step {
    name: &'static str,
    about: &'static str,
    slow: bool,
    run: fn(&Args) -> Result<()>,
}

const STEPS: &[Step] = &[
    Step { name: "tidy", about: "file lengths; nothing of a private machine", slow: false, run: |_| tidy::check() },
    Step {
        name: "edges",
        about: "only the allowed dependencies; std::fs below tsdb-vfs only",
        slow: false,
        run: |_| edges::check(),
    },
    Step { name: "fmt", about: "rustfmt and gofmt have nothing to change", slow: false, run: |_| format() },
    Step {
        name: "goldens",
        about: "committed goldens are what their manifest says",
        slow: false,
        run: |_| goldens::check(),
    },
    Step { name: "clippy", about: "no warning, and the ban on std::fs", slow: false, run: |_| clippy() },
    Step { name: "no-std", about: "tsdb-model and wal-format without std", slow: false, run: |_| no_std() },
    Step { name: "docs", about: "rustdoc without a warning", slow: false, run: |_| docs() },
    Step {
        name: "threads",
        about: "the head under a scheduler that tries the orders in which its threads can run",
        slow: true,
        run: |_| threads(),
    },
    Step {
        name: "sanitizer",
        about: "the head's tests of its unsafe code, under AddressSanitizer",
        slow: true,
        run: |_| sanitizer(),
    },
    Step {
        name: "stress",
        about: "appenders, readers and truncation on one head for a minute",
        slow: true,
        run: |_| stress(),
    },
    Step {
        name: "interop",
        about: "beside Prometheus 3.14, a tenth of the rounds",
        slow: true,
        run: |args| interop::quick(args.seed),
    },
    Step { name: "fuzz", about: "every fuzz target, briefly", slow: true, run: |args| fuzz::briefly(args.fuzz_runs) },
    Step {
        name: "crash",
        about: "kill loops and crash states, in the number of a pull request",
        slow: true,
        run: |_| crash::quick(),
    },
];

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.list {
        STEPS.iter().for_each(|step| println!("{:<10} {}", step.name, step.about));
        return Ok(());
    }
    if let Some(unknown) = args.only.iter().find(|name| STEPS.iter().all(|step| step.name != name.as_str())) {
        bail!("no step {unknown}: see cargo xtask ci --list");
    }
    let wanted = STEPS.iter().filter(|step| {
        if args.only.is_empty() { !(step.slow && args.fast) } else { args.only.iter().any(|n| n == step.name) }
    });
    let start = Instant::now();
    let mut failed = Vec::new();
    // One run shows everything that is wrong, not only the first thing.
    for step in wanted {
        if let Err(error) = sh::step(step.name, || (step.run)(args)) {
            eprintln!("    FAILED: {error:#}");
            failed.push(step.name);
        }
    }
    eprintln!("cargo xtask ci took {:.0} s", start.elapsed().as_secs_f64());
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}

fn format() -> Result<()> {
    sh::run(sh::cargo().args(["fmt", "--all", "--check", "--", "--files-with-diff"]))?;
    sh::run(sh::cargo().current_dir(sh::root().join("fuzz")).args(["fmt", "--check", "--", "--files-with-diff"]))?;
    let unformatted = sh::output(Command::new("gofmt").args(["-l", "."]).current_dir(sh::root().join("interop")))?;
    if unformatted.is_empty() { Ok(()) } else { bail!("gofmt: {unformatted}") }
}

fn clippy() -> Result<()> {
    // What is shipped, with the ban on the file system; then everything, tests too, which may use it.
    sh::run(sh::cargo().args(["clippy", "--workspace", "--lib", "--bins", "--locked", "--", "-Dwarnings"]))?;
    sh::run(
        sh::cargo()
            .args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-Dwarnings"])
            .args(["-Aclippy::disallowed_methods", "-Aclippy::disallowed_types"]),
    )?;
    sh::run(Command::new("go").args(["vet", "."]).current_dir(sh::root().join("interop")))
}

fn threads() -> Result<()> {
    sh::run(sh::cargo().args([
        "test",
        "--package",
        "tsdb-head",
        "--features",
        "shuttle",
        "--test",
        "threads",
        "--locked",
    ]))
}

/// The head's own tests of what is `unsafe` in it, and those of full chunks; for the other crates the fuzz targets do that. The
/// sanitizer is in every rustc, behind `RUSTC_BOOTSTRAP`. With a target named, build scripts stay as they are.
fn sanitizer() -> Result<()> {
    let host = fuzz::host()?;
    for (package, tests) in [("tsdb-head", ["--test", "floats"]), ("head-chunks", ["--lib", "packed"])] {
        let mut cargo = sh::cargo();
        cargo
            .args(["test", "--locked", "--target", &host, "--package", package])
            .args(tests)
            .arg("--target-dir")
            .arg(sh::target_dir().join("sanitizer"))
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", "-Zsanitizer=address")
            .env_remove("RUSTFLAGS");
        sh::run(&mut cargo)?;
    }
    Ok(())
}

fn stress() -> Result<()> {
    let mut cargo = sh::cargo();
    cargo.args(["test", "--release", "--package", "tsdb-head", "--test", "stress", "--locked", "--", "--nocapture"]);
    sh::run(cargo.env("HEADWATER_STRESS_SECONDS", "60"))
}

fn docs() -> Result<()> {
    let mut cargo = sh::cargo();
    cargo.args(["doc", "--workspace", "--no-deps", "--locked", "--document-private-items", "--quiet"]);
    sh::run(cargo.env("RUSTDOCFLAGS", "-Dwarnings -Arustdoc::private-intra-doc-links"))
}

/// Without their `std` feature these crates must not need it. A target that has no std shows it for their dependencies
/// too; without one installed the host at least shows it for the crates themselves.
fn no_std() -> Result<()> {
    let sysroot = sh::output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let libraries = PathBuf::from(sysroot.trim()).join("lib/rustlib");
    let bare = ["thumbv7em-none-eabihf", "aarch64-unknown-none", "x86_64-unknown-none"];
    let installed = bare.iter().find(|target| libraries.join(target).is_dir());
    for package in ["tsdb-model", "wal-format"] {
        let mut cargo = sh::cargo();
        cargo.args(["check", "--package", package, "--no-default-features", "--locked"]);
        if let Some(target) = installed {
            cargo.args(["--target", target]);
        }
        sh::run(&mut cargo)?;
    }
    Ok(())
}
