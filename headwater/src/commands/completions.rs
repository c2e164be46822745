//! `completions SHELL`: a completion script on standard output.

use std::io::Write;
use std::process::ExitCode;

use clap::CommandFactory;

use crate::context::Context;
use crate::exit;
use crate::output::Out;

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell to complete in.
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

/// Writes the script for `args.shell`.
pub(crate) fn run(args: &Args, _context: &Context) -> anyhow::Result<ExitCode> {
    // clap_complete panics when its writer fails (a closed pipe), so the script is made in memory first.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::Cli::command(), "headwater", &mut script);
    let mut out = Out::new();
    out.write_all(&script)?;
    out.finish()?;
    Ok(exit::fine())
}
