//! `verify DIR`: every frame, checksum, record, chunk and cross-reference; a line for each thing that is wrong.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use crate::context::Context;
use crate::exit;
use crate::findings;
use crate::output::Out;
use crate::progress::Progress;
use crate::source::{self, LogPart};

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The data directory
    dir: PathBuf,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Prints the findings.
pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    source::require_data_dir(&context.fs, &args.dir)?;
    let findings = source::start_over_if_truncated(context, &args.dir, || {
        let total = source::data_dir(&context.fs, &args.dir)?.iter().map(LogPart::bytes).sum();
        let bar = Progress::bytes(context, "verify", total);
        let findings = findings::find(&context.fs, &args.dir, |bytes| bar.add(bytes))?;
        bar.finish();
        Ok(findings)
    })?;
    let mut out = Out::new();
    for finding in &findings {
        if args.json {
            out.json_line(finding)?;
        } else if context.colour() {
            let colour = if finding.note { "33" } else { "31" };
            writeln!(out, "\x1b[{colour}m{}\x1b[0m{}", finding.place(), finding.what())?;
        } else {
            writeln!(out, "{}{}", finding.place(), finding.what())?;
        }
    }
    out.finish()?;
    let wrong = findings.iter().filter(|finding| !finding.note).count();
    context.say(if wrong == 0 { "nothing wrong".to_owned() } else { format!("{wrong} things wrong") });
    Ok(exit::findings_if(wrong > 0))
}
