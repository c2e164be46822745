//! See, verify, salvage, shrink and fill a Prometheus write-ahead log.
//!
//! The program is a thin room over the layers: every command parses its arguments, opens what it needs through the
//! file-system seam and prints. What a command promises stands in its own module under [`commands`].

mod chunk_repair;
mod commands;
mod context;
mod exit;
mod findings;
mod interrupt;
mod output;
mod progress;
mod selector;
mod source;
mod survey;
mod times;
#[allow(dead_code, unreachable_pub, reason = "the benches compile the same file, and use another part of it")]
mod workload;

use std::process::ExitCode;

use clap::Parser;

use crate::commands::Command;
use crate::context::{Colour, Context};

/// See, verify, salvage, shrink and fill a Prometheus write-ahead log.
///
/// Exit codes: 0 fine; 1 findings (damage met, something refused, something lost); 2 cannot do it.
#[derive(Debug, Parser)]
#[command(name = "headwater", version, max_term_width = 110)]
struct Cli {
    /// No progress bars and no messages on stderr; errors are still printed.
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Colours on the terminal.
    #[arg(long, global = true, value_enum, default_value_t = Colour::Auto)]
    colour: Colour,
    /// Print times in the local time zone instead of UTC.
    #[arg(long, global = true)]
    local: bool,
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    // clap exits with 2 on bad usage, which is what the exit codes promise.
    let cli = Cli::parse();
    let context = Context::new(cli.quiet, cli.colour, cli.local);
    context.start_log();
    match cli.command.run(&context) {
        Ok(code) => code,
        Err(error) if output::is_closed_pipe(&error) => exit::fine(),
        Err(error) => {
            context.error(&error);
            exit::cannot()
        }
    }
}
