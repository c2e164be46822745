//! Opening a head for a command: progress while it replays, and what it says of damage.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use tsdb_head::{Head, HeadOptions, ReplayReport};

use crate::context::Context;
use crate::progress::Progress;
use crate::source;

/// Replays `dir` for reading only.
pub(crate) fn open_read_only(context: &Context, dir: &Path, options: HeadOptions) -> Result<(Head, ReplayReport)> {
    source::require_data_dir(&context.fs, dir)?;
    let bar = Progress::bytes(context, "replay", 0);
    let shown = bar.clone();
    let progress = Some(Arc::new(move |progress: &tsdb_head::Progress| {
        shown.of(progress.bytes_done, progress.bytes_total);
    }) as tsdb_head::ProgressFn);
    let opened = Head::open_read_only(context.fs.clone(), dir, HeadOptions { progress, ..options })?;
    bar.finish();
    Ok(opened)
}

/// Says on stderr what replay could not use; true if there was anything.
pub(crate) fn warn_of_damage(context: &Context, report: &ReplayReport) -> bool {
    for damage in &report.damage {
        let place = damage.at.as_ref().map(|at| format!("{at}: ")).unwrap_or_default();
        let kind = if damage.torn_end { "torn end of the log" } else { "damage" };
        context.warn(format_args!("{kind}: {place}{}", damage.problem));
    }
    let nameless = &report.nameless;
    if let Some((from, to)) = nameless.times {
        context.warn(format_args!(
            "{} series have no labels in the log: {} samples, and {} in {} chunks, between {} and {}",
            nameless.series,
            nameless.samples,
            nameless.chunk_samples,
            nameless.chunks,
            context.stamp(from),
            context.stamp(to)
        ));
    }
    !report.damage.is_empty()
}
