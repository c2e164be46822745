//! Opening for write: heal first, then start a segment.
//!
//! The reference deletes everything behind a damaged segment. A segment of ours must therefore never stand behind one
//! that it would call damaged: a tail that a crash left torn is cut at its last whole record, what is cut off kept; any
//! other damage is for repair, and opening refuses.

use std::path::{Path, PathBuf};

use tsdb_vfs::Fs;

use crate::error::{Damage, Error, ReadError};
use crate::layout::{self, SegmentRef};
use crate::ledger::{Ledger, LedgerEntry};
use crate::log::options::{Check, LogOptions};
use crate::log::proof::Unproven;
use crate::parallel::{self, ParallelOptions};
use crate::quarantine;
use crate::scan::Scan;
use crate::write_again::WriteAgain;

/// What opening a log found and did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct OpenReport {
    /// Number of the new segment that records now go to.
    pub segment: u64,
    /// What was cut off the log's end.
    pub healed: Option<Healed>,
    /// Records that were durable and are not there as they were, in segments that read without damage: pages of zeros at
    /// the end, a cut file. The log is usable; the records are lost unless a copy has them.
    pub lost: Vec<Damage>,
    /// Where the ledger is kept that knew of segments which are missing at the log's end: their numbers are given out again.
    pub ledger_kept: Option<PathBuf>,
    /// Whether another program has written to the log since the ledger was.
    pub foreign: bool,
}

/// A torn tail that was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Healed {
    /// What was found.
    pub damage: Damage,
    /// Bytes that its segment has now.
    pub cut_at: u64,
    /// Whole records behind the damage, none of them ever durable, that were cut off, too.
    pub records: u64,
    /// Where the bytes are that were cut off.
    pub quarantined: Vec<PathBuf>,
}

pub(super) struct Prepared {
    pub(super) report: OpenReport,
    pub(super) ledger: Ledger,
    pub(super) unproven: Option<Unproven>,
}

pub(super) fn prepare(fs: &Fs, dir: &Path, options: &LogOptions) -> Result<Prepared, Error> {
    create_dir(fs, dir)?;
    let segments = layout::segments(fs, dir)?;
    layout::check_sequence(&segments)?;
    let (mut ledger, foreign) = known(fs, dir, options, &segments)?;
    let mut report = OpenReport { foreign, ..OpenReport::default() };

    let tail = tail_start(&segments, &ledger);
    let proven = proven_start(&segments, &ledger, tail, options);
    if options.check == Check::All {
        if let Some(checkpoint) = layout::last_checkpoint(fs, dir)? {
            let segments = layout::segments(fs, &checkpoint.path)?;
            let (inner, _) = known(fs, &checkpoint.path, options, &segments)?;
            report.lost.extend(check(fs, &segments, &inner)?);
            report.lost.extend(inner.missing_from(&checkpoint.path));
        }
        report.lost.extend(check(fs, &segments[..tail], &ledger)?);
    }
    if !ledger.missing().is_empty() {
        let path = dir.join(layout::LEDGER_NAME);
        let len = fs.metadata(&path).map_err(Error::io(&path))?.len;
        report.ledger_kept = Some(quarantine::keep_range(fs, dir, &path, 0, len)?);
        report.lost.extend(ledger.missing_from(dir));
    }
    heal(fs, dir, &segments[proven..], &mut ledger, &mut report)?;
    let unproven = segments[tail..proven].first().map(|segment| {
        let behind = ledger.entries().find(|entry| entry.segment > segment.index && entry.sealed).copied();
        if let Some(entry) = behind {
            ledger.insert(LedgerEntry { sealed: false, ..entry });
        }
        Unproven::new(fs.clone(), segment.clone(), behind)
    });
    report.segment = layout::segments(fs, dir)?.last().map_or(0, |last| last.index + 1);
    Ok(Prepared { report, ledger, unproven })
}

/// Creates a directory and its parents, durably. One that is there already may have been made by an attempt that was
/// killed before its name was durable.
fn create_dir(fs: &Fs, dir: &Path) -> Result<(), Error> {
    let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
        return fs.create_dir_all(dir).map_err(Error::io(dir));
    };
    let made = !fs.dir_exists(dir).map_err(Error::io(dir))?;
    if made {
        create_dir(fs, parent)?;
        fs.create_dir(dir).map_err(Error::io(dir))?;
    }
    let synced = fs.sync_dir(parent);
    if made && synced.is_err() {
        // The next attempt has to see that nothing is there yet.
        fs.remove_dir_all(dir).map_err(Error::io(dir))?;
    }
    synced.map_err(Error::io(parent))
}

/// The segments that [`prepare`] leaves alone when it looks at the log's end only, and those that are proven later.
pub(super) fn settled(fs: &Fs, dir: &Path, options: &LogOptions) -> Result<Vec<SegmentRef>, Error> {
    let mut segments = layout::segments(fs, dir)?;
    layout::check_sequence(&segments)?;
    let (ledger, _) = known(fs, dir, options, &segments)?;
    let tail = tail_start(&segments, &ledger);
    segments.truncate(proven_start(&segments, &ledger, tail, options));
    Ok(segments)
}

/// What the ledger says of these segments, as far as it is believed, and whether others have written since: asked before new
/// entries hide that.
fn known(fs: &Fs, dir: &Path, options: &LogOptions, segments: &[SegmentRef]) -> Result<(Ledger, bool), Error> {
    let ledger = if options.ledger { Ledger::load(fs, dir)? } else { Ledger::default() };
    // An empty one, too.
    let goes_on = segments.last().is_some_and(|last| ledger.last_segment().is_some_and(|known| known < last.index));
    let mut ledger = ledger.believed(fs, segments);
    ledger.retain(|known| segments.iter().any(|segment| segment.index == known));
    let foreign = goes_on || ledger.others_from().is_some();
    Ok((ledger, foreign))
}

/// The first segment that a crash may have torn, or that may not be durable yet: the first that the ledger calls
/// incomplete, or else the last that holds anything. Of segments that the ledger does not know the last two count, as the
/// reference (and [`Durability::Rotate`](crate::Durability::Rotate)) begins one while the one before is being synced.
fn tail_start(segments: &[SegmentRef], ledger: &Ledger) -> usize {
    let filled = |segments: &[SegmentRef]| segments.iter().rposition(|segment| segment.len > 0);
    let unknown = |&i: &usize| ledger.get(segments[i].index).is_none();
    // A heal that was killed may have emptied the only one that held anything.
    let last = filled(segments).unwrap_or(segments.len().saturating_sub(2));
    let before = Some(last).filter(|i| *i < segments.len() && unknown(i)).and_then(|last| filled(&segments[..last]));
    let last = before.filter(unknown).unwrap_or(last);
    let open = segments.iter().position(|segment| ledger.get(segment.index).is_some_and(|entry| !entry.sealed));
    // Behind a segment that is to be proven the ledger calls one incomplete.
    let before = open.and_then(|open| filled(&segments[..open])).filter(unknown);
    before.or(open).map_or(last, |first| first.min(last))
}

/// The first segment of the log's end, `tail`, that is dealt with when the log is opened: the one behind a complete one that
/// others wrote, if that can wait.
fn proven_start(segments: &[SegmentRef], ledger: &Ledger, tail: usize, options: &LogOptions) -> usize {
    let waits = options.check == Check::Torn
        && segments.get(tail).is_some_and(|segment| is_complete(segment, &segments[tail + 1..], ledger));
    tail + usize::from(waits)
}

/// Of a segment without an entry that another one follows only this much is known: its writer was done with it, and an empty
/// record before its padding is one.
fn is_complete(segment: &SegmentRef, behind: &[SegmentRef], ledger: &Ledger) -> bool {
    ledger.get(segment.index).is_none() && behind.iter().any(|segment| segment.len > 0)
}

/// Reads segments that no crash can have torn, and returns what the ledger misses in them.
fn check(fs: &Fs, segments: &[SegmentRef], ledger: &Ledger) -> Result<Vec<Damage>, Error> {
    let all = |block: &mut parallel::Block<'_>| while block.next().is_some() {};
    let read = parallel::read_with_ledger(fs, segments, ledger, &ParallelOptions::default(), all, |()| Ok(()));
    read.map_err(|e| match e {
        ReadError::Damage(damage) => Error::Damaged(damage),
        e => e.into(),
    })
}

fn heal(fs: &Fs, dir: &Path, tail: &[SegmentRef], ledger: &mut Ledger, report: &mut OpenReport) -> Result<(), Error> {
    for (i, segment) in tail.iter().enumerate() {
        let entry = ledger.get(segment.index);
        let complete = is_complete(segment, &tail[i + 1..], ledger);
        let durable = entry.map_or(0, |entry| entry.offset);
        let sealed = entry.is_some_and(|entry| entry.sealed);
        // If it can't be opened for that, reading it may have something better to say.
        let mut again = if sealed { None } else { WriteAgain::from(fs, &segment.path, durable).ok() };
        let scan = Scan::run_tail(fs, segment, entry, !complete, &mut again)?;
        let Some(range) = scan.damage.first() else {
            settle(fs, &scan, entry, again, ledger, report)?;
            continue;
        };
        let behind = tail[i + 1..].iter().filter(|segment| segment.len > 0);
        let never_durable =
            |segment: &SegmentRef| entry.is_some() && ledger.get(segment.index).is_some_and(|entry| entry.records == 0);
        if !scan.is_torn_tail(entry) || !behind.clone().all(never_durable) {
            return Err(Error::Damaged(range.damage.clone()));
        }
        let mut quarantined = Vec::new();
        // Last one first: there is no gap at any time.
        for segment in tail[i + 1..].iter().rev() {
            quarantined.push(quarantine::move_away(fs, dir, &segment.path)?);
            ledger.retain(|known| known != segment.index);
        }
        quarantined.push(cut(fs, dir, &scan, durable, range.from)?);
        ledger.insert(LedgerEntry::of(segment.index, scan.tally, true));
        report.healed =
            Some(Healed { damage: range.damage.clone(), cut_at: range.from, records: scan.behind, quarantined });
        return Ok(());
    }
    Ok(())
}

/// Takes a segment that a crash could have torn and has not into the ledger: from here on it is complete. `again` has had
/// its bytes as far as they were read.
fn settle(
    fs: &Fs,
    scan: &Scan,
    entry: Option<LedgerEntry>,
    again: Option<WriteAgain>,
    ledger: &mut Ledger,
    report: &mut OpenReport,
) -> Result<(), Error> {
    if let Some(disputed) = &scan.disputed {
        report.lost.push(disputed.clone());
        return Ok(());
    }
    // An empty or complete one, too: a heal that was killed may have cut it, and the cut is not durable.
    let path = &scan.segment.path;
    if entry.is_some_and(|entry| entry.sealed) {
        return fs.open_write(path).and_then(|file| file.sync_all()).map_err(Error::io(path));
    }
    let durable = entry.map_or(0, |entry| entry.offset);
    let again = again.map_or_else(|| WriteAgain::from(fs, path, durable), Ok);
    // What its writer had reserved behind the end goes back to the disk.
    again.and_then(|again| again.finish(scan.segment.len)).map_err(Error::io(path))?;
    ledger.insert(LedgerEntry::of(scan.segment.index, scan.tally, true));
    Ok(())
}

/// Cuts a segment at its last whole record; what is cut off is durable elsewhere before that, and what stays, from the
/// ledger's mark `from` on, afterwards.
fn cut(fs: &Fs, dir: &Path, scan: &Scan, from: u64, at: u64) -> Result<PathBuf, Error> {
    let SegmentRef { path, len, .. } = &scan.segment;
    let kept = quarantine::keep_range(fs, dir, path, at, *len)?;
    WriteAgain::from(fs, path, from).and_then(|again| again.finish(at)).map_err(Error::io(path))?;
    Ok(kept)
}
