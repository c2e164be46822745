//! `tail DIR`: follows a live log. Survives checkpoints, truncation and damage; ends with Ctrl-C.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use wal_segment::{Position, TailFrom, TailItem, TailReader, layout};

use crate::commands::records::{Filter, Printer};
use crate::context::Context;
use crate::exit;
use crate::times::parse_duration;

/// Arguments of `tail`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A data directory, or a directory of segments
    dir: PathBuf,
    /// Where to begin: start, end, SEGMENT or SEGMENT:OFFSET
    #[arg(long, default_value = "end", value_parser = parse_from)]
    from: TailFrom,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    /// How often to look for more
    #[arg(long, default_value = "200ms", value_parser = parse_duration)]
    interval: Duration,
    /// End when everything that is there has been printed, instead of waiting for more
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    filter: Filter,
}

fn parse_from(text: &str) -> Result<TailFrom> {
    match text {
        "start" => return Ok(TailFrom::Start),
        "end" => return Ok(TailFrom::End),
        _ => {}
    }
    let (segment, offset) = text.split_once(':').unwrap_or((text, "0"));
    match (segment.parse(), offset.parse()) {
        (Ok(segment), Ok(offset)) => Ok(TailFrom::At(Position { segment, offset })),
        _ => bail!("expected start, end, SEGMENT or SEGMENT:OFFSET, found `{text}`"),
    }
}

/// Prints records as they come.
pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let fs = context.fs.clone();
    let in_data_dir = args.dir.join("wal");
    let dir = if fs.dir_exists(&in_data_dir)? { in_data_dir } else { args.dir.clone() };
    fs.list(&dir).with_context(|| dir.display().to_string())?;
    let mut tail = TailReader::open(fs, &dir, args.from)?;
    let mut printer = Printer::new(args.json, &args.filter);
    let mut damaged = false;
    loop {
        let (file, offset, error) = match tail.next()? {
            None => {
                printer.flush()?;
                if args.once {
                    break;
                }
                std::thread::sleep(args.interval);
                continue;
            }
            Some(TailItem::Record(record)) => {
                let file = layout::segment_name(record.position.segment);
                let error = printer.record(&file, record.position.offset, record.bytes)?.err();
                (file, record.position.offset, error.map(|error| error.to_string()))
            }
            Some(TailItem::Checkpoint { index, record }) => {
                let segment = layout::segment_name(record.position.segment);
                let file = format!("{}/{segment}", layout::checkpoint_name(index));
                let error = printer.record(&file, record.position.offset, record.bytes)?.err();
                (file, record.position.offset, error.map(|error| error.to_string()))
            }
            Some(TailItem::Damage(range)) => {
                let file = layout::segment_name(range.damage.location.segment);
                (file, range.from, Some(range.damage.fault.to_string()))
            }
            Some(TailItem::Skipped { from, to }) => {
                let error =
                    format!("segments were removed before they were read: from {from} on, reading goes on here");
                (layout::segment_name(to.segment), to.offset, Some(error))
            }
            Some(TailItem::Rewound { from, to }) => {
                context.warn(format_args!("the writer took back what it had written: from {from} back to {to}"));
                continue;
            }
            // The enum grows with the reader; what is no record needs no line here.
            Some(_) => continue,
        };
        if let Some(error) = error {
            damaged = true;
            printer.fault(&file, offset, &error)?;
        }
    }
    printer.finish()?;
    Ok(exit::findings_if(damaged))
}
