//! `bench ingest|replay|checkpoint`: how fast this machine does it, on data the command makes or a directory it is given.

mod checkpoint;
mod ingest;
mod overlay;
mod replay;
mod usage;

use std::process::ExitCode;

use anyhow::Result;

use crate::context::Context;

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Append generated samples to a fresh directory.
    Ingest(ingest::Args),
    /// Open a directory for reading and say how long it took.
    Replay(replay::Args),
    /// Make a checkpoint of a log, beside it.
    Checkpoint(checkpoint::Args),
}

/// Runs the benchmark.
pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    match &args.what {
        What::Ingest(args) => ingest::run(args, context),
        What::Replay(args) => replay::run(args, context),
        What::Checkpoint(args) => checkpoint::run(args, context),
    }
}
