//! One module per command: its arguments, what it promises, and its `run`.

pub(crate) mod bench;
pub(crate) mod checkpoint;
pub(crate) mod completions;
pub(crate) mod dump;
pub(crate) mod ingest;
pub(crate) mod inspect;
pub(crate) mod records;
pub(crate) mod repair;
pub(crate) mod replay;
pub(crate) mod tail;
pub(crate) mod top;
pub(crate) mod verify;

use std::process::ExitCode;

use crate::context::Context;

/// What the program can do.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Append pages of Prometheus text or OpenMetrics.
    Ingest(ingest::Args),
    /// Print every sample of the head.
    Dump(dump::Args),
    /// Print the log's records in order.
    Records(records::Args),
    /// Show what is in a data directory.
    Inspect(inspect::Args),
    /// Show who fills the log.
    Top(top::Args),
    /// Find everything that is wrong.
    Verify(verify::Args),
    /// Say what would be done about damage, and with --apply do it.
    Repair(repair::Args),
    /// Follow a live log.
    Tail(tail::Args),
    /// Truncate, offline, a log that has grown too large.
    Checkpoint(checkpoint::Args),
    /// Measure on this machine.
    Bench(bench::Args),
    /// Print a completion script for a shell.
    Completions(completions::Args),
}

impl Command {
    /// Runs the command.
    pub(crate) fn run(&self, context: &Context) -> anyhow::Result<ExitCode> {
        match self {
            Self::Ingest(args) => ingest::run(args, context),
            Self::Dump(args) => dump::run(args, context),
            Self::Records(args) => records::run(args, context),
            Self::Inspect(args) => inspect::run(args, context),
            Self::Top(args) => top::run(args, context),
            Self::Verify(args) => verify::run(args, context),
            Self::Repair(args) => repair::run(args, context),
            Self::Tail(args) => tail::run(args, context),
            Self::Checkpoint(args) => checkpoint::run(args, context),
            Self::Bench(args) => bench::run(args, context),
            Self::Completions(args) => completions::run(args, context),
        }
    }
}
