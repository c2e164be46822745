//! One module per command: its arguments, what it promises, and its `run`.

pub(crate) mod completions;

use std::process::ExitCode;

use crate::context::Context;

/// What the program can do.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Print a completion script for a shell.
    Completions(completions::Args),
}

impl Command {
    /// Runs the command.
    pub(crate) fn run(&self, context: &Context) -> anyhow::Result<ExitCode> {
        match self {
            Self::Completions(args) => completions::run(args, context),
        }
    }
}
