//! `verify DIR`: every frame, checksum, record, chunk and cross-reference; a line for each thing that is wrong, then what was
//! looked at. As JSON the findings alone, one a line.

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
    let (findings, looked) = source::start_over_if_truncated(context, &args.dir, || {
        let total = source::data_dir(&context.fs, &args.dir)?.iter().map(LogPart::bytes).sum();
        let bar = Progress::bytes(context, "verify", total);
        let found = findings::find(&context.fs, &args.dir, |bytes| bar.add(bytes))?;
        bar.finish();
        Ok(found)
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
    let wrong = findings.iter().filter(|finding| !finding.note).count();
    if !args.json {
        looked.iter().try_for_each(|part| writeln!(out, "looked at {part}"))?;
        match wrong {
            0 => writeln!(out, "sound: nothing is wrong")?,
            1 => writeln!(out, "1 thing is wrong")?,
            _ => writeln!(out, "{wrong} things are wrong")?,
        }
    }
    out.finish()?;
    Ok(exit::findings_if(wrong > 0))
}
