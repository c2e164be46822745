//! `cargo xtask test`: every test that needs nothing but Rust.

use anyhow::Result;

use crate::sh;

/// Runs the tests: units, properties, goldens, documentation examples. Needs no Go and no network
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Crate; all when absent
    package: Option<String>,
    /// Only tests whose name contains this
    filter: Option<String>,
    /// Optimised
    #[arg(long)]
    release: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut cargo = sh::cargo();
    cargo.arg("test");
    match &args.package {
        Some(package) => cargo.args(["--package", package]),
        None => cargo.arg("--workspace"),
    };
    if args.release {
        cargo.arg("--release");
    }
    if let Some(filter) = &args.filter {
        cargo.arg("--").arg(filter);
    }
    sh::run(&mut cargo)
}
