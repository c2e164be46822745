//! cargo xtask: one place that drives everything.
//!
//! Every subcommand is one room (file). Light commands do nothing but their own work; heavy ones install what they need
//! on first use and say so.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod bench;
mod bless;
mod ci;
mod crash;
mod edges;
mod fuzz;
mod goldens;
mod interop;
mod quickstart;
mod serve;
mod sh;
mod test;
mod tidy;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Checks, tests and measures Headwater", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Ci(ci::Args),
    Test(test::Args),
    Quickstart(quickstart::Args),
    Interop(interop::Args),
    Bless(bless::Args),
    Bench(bench::Args),
    Fuzz(fuzz::Args),
    Crash(crash::Args),
    /// Our side of `interop`, over the protocol
    #[command(hide = true)]
    Serve,
}

fn main() -> ExitCode {
    match dispatch(&Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: &Command) -> Result<()> {
    match command {
        Command::Ci(args) => ci::run(args),
        Command::Test(args) => test::run(args),
        Command::Quickstart(args) => quickstart::run(args),
        Command::Interop(args) => interop::run(args),
        Command::Bless(args) => bless::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Fuzz(args) => fuzz::run(args),
        Command::Crash(args) => crash::run(args),
        Command::Serve => serve::run(),
    }
}
