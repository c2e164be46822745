//! Repair: a plan of what would be done, and doing it.
//!
//! Every sound record is kept, and so is every damaged byte: originals are copied to `quarantine/` beside the log before
//! anything takes their place, and nothing is ever deleted. Each step leaves a log that can be read, so that a crash at any
//! point needs nothing but another run. The result opens in the reference.
//!
//! ```text
//! for each damaged segment
//!   copy the original to quarantine/, fsync file and directory
//!   write its sound records to N.salvage, fsync
//!   rename N.salvage to N, fsync the directory          there is a segment N at every moment
//! then names that do not belong, gaps, snapshots, and last the ledger
//! ```

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use tsdb_vfs::Fs;

use crate::compression::Decompressor;
use crate::error::{Error, FrameFault, ReadError};
use crate::frame::frame;
use crate::framer::Tally;
use crate::layout::{self, LEDGER_NAME, SegmentRef, segment_name};
use crate::ledger::{Ledger, LedgerEntry, LedgerWriter};
use crate::quarantine;
use crate::salvage::{DamagedRange, Found, SalvageSegment};
use crate::scan::Scan;
use crate::verify::{Finding, Judge, Problem, Remedy, Survey};

/// A gap of more segments is not filled: a stray number in a name must not make millions of files.
const MAX_GAP: u64 = 10_000;

/// Framed bytes are written out when there are so many.
const WRITE_SIZE: usize = 1024 * 1024;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// A copy with every sound record takes the segment's place.
    Rewrite {
        /// The segment, of the log or of its last checkpoint.
        segment: SegmentRef,
        /// What is not in the copy.
        damage: Vec<DamagedRange>,
        /// Sound records, which are.
        kept: u64,
        /// Records that the ledger knew and that are not in the copy; `None` without a ledger.
        lost: Option<u64>,
    },
    /// A name that does not belong into a log goes to quarantine.
    MoveAway {
        /// What has the name.
        path: PathBuf,
    },
    /// An empty segment fills a gap.
    Fill {
        /// Its number.
        segment: u64,
    },
    /// A snapshot that stands for a rewritten segment goes to the quarantine beside it: its offset no longer holds.
    RetireSnapshot {
        /// The snapshot's directory.
        path: PathBuf,
    },
    /// The ledger forgets durable records that are gone for good; the old one is kept in quarantine.
    Accept {
        /// The segment.
        segment: SegmentRef,
        /// Records that it has.
        kept: u64,
        /// Records that it had.
        lost: Option<u64>,
    },
}

/// What repair would do to a directory. Making one changes nothing.
#[derive(Debug)]
pub struct Plan {
    dir: PathBuf,
    /// The steps, in order.
    pub actions: Vec<Action>,
    /// What was found, also what needs no step.
    pub findings: Vec<Finding>,
}

/// What repair did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Report {
    /// The steps that were taken: all of the plan's.
    pub actions: Vec<Action>,
    /// Where the originals are.
    pub quarantined: Vec<PathBuf>,
    /// Bytes of segments that held no sound record.
    pub lost_bytes: u64,
    /// Records that are known to be lost, of the segments that a ledger covers.
    pub lost_records: u64,
}

/// Says what is to be done about everything that is wrong in the log at `dir`.
pub fn plan(fs: &Fs, dir: &Path) -> Result<Plan, Error> {
    plan_judged(fs, dir, &|_| None)
}

/// As [`plan`]; a record that `judge` has something against is left out of its segment's copy like damage, with its place
/// among the [`Action::Rewrite`]'s. It stays in the original, which goes to quarantine.
pub fn plan_judged(fs: &Fs, dir: &Path, judge: &Judge<'_>) -> Result<Plan, Error> {
    let survey = Survey::take(fs, dir, judge)?;
    let mut actions: Vec<_> = survey.damaged.iter().map(|scan| mend(scan, &survey, dir)).collect();
    actions.extend(survey.missing.iter().map(|(segment, records)| Action::Accept {
        segment: segment.clone(),
        kept: 0,
        lost: Some(*records),
    }));
    for finding in &survey.findings {
        match (&finding.problem, finding.remedy) {
            (Problem::Gap { expected, found }, _) => actions.extend(fill(dir, *expected, *found)?),
            (_, Remedy::MovesAway) => actions.extend(move_away(&finding.path, &survey, dir)),
            _ => {}
        }
    }
    let first = actions.iter().filter_map(|action| match action {
        Action::Rewrite { segment, .. } if segment.dir() == dir => Some(segment.index),
        _ => None,
    });
    if let Some(first) = first.min() {
        actions.extend(stale_snapshots(fs, dir, first)?);
    }
    Ok(Plan { dir: dir.to_owned(), actions, findings: survey.findings })
}

fn mend(scan: &Scan, survey: &Survey, dir: &Path) -> Action {
    let (segment, kept) = (scan.segment.clone(), scan.sound + scan.behind);
    let entry = if segment.dir() == dir { survey.ledger.get(segment.index) } else { None };
    let lost = entry.map(|entry| entry.records.saturating_sub(kept));
    if scan.damage.is_empty() {
        return Action::Accept { segment, kept, lost };
    }
    Action::Rewrite { segment, damage: scan.damage.clone(), kept, lost }
}

fn fill(dir: &Path, expected: u64, found: u64) -> Result<impl Iterator<Item = Action>, Error> {
    if found - expected > MAX_GAP {
        return Err(ReadError::Gap { dir: dir.to_owned(), expected, found }.into());
    }
    Ok((expected..found).map(|segment| Action::Fill { segment }))
}

/// What is moved away under a segment's number leaves a gap, unless it stands at the log's beginning or end.
fn move_away(path: &Path, survey: &Survey, dir: &Path) -> Vec<Action> {
    let mut actions = vec![Action::MoveAway { path: path.to_owned() }];
    let number = path.file_name().and_then(layout::parse_segment_name);
    if let (Some(segment), Some(parent)) = (number, path.parent())
        && parent == dir
    {
        let others = || survey.segments.iter().filter(|other| other.path != path);
        let before = survey.checkpoint.is_some_and(|n| n < segment) || others().any(|other| other.index < segment);
        if before && others().any(|other| other.index > segment) && others().all(|other| other.index != segment) {
            actions.push(Action::Fill { segment });
        }
    }
    actions
}

/// Snapshots lie beside the log's directory, under names that carry the segment and offset from which replay goes on.
fn stale_snapshots(fs: &Fs, dir: &Path, rewritten: u64) -> Result<Vec<Action>, Error> {
    let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) else { return Ok(Vec::new()) };
    let entries = fs.list(parent).map_err(Error::io(parent))?;
    let stale = entries.into_iter().filter(|entry| {
        let rest = entry.name.to_str().and_then(|name| name.strip_prefix("chunk_snapshot."));
        let segment = rest.and_then(|rest| rest.split('.').next()).and_then(|digits| digits.parse::<u64>().ok());
        segment.is_some_and(|segment| segment >= rewritten)
    });
    Ok(stale.map(|entry| Action::RetireSnapshot { path: parent.join(entry.name) }).collect())
}

/// Does what a plan says. After a crash, or an error, make a new plan and apply that.
///
/// The caller holds the directory's lock, and nobody has the log open.
pub fn apply(fs: &Fs, plan: Plan) -> Result<Report, Error> {
    let Plan { dir, actions, .. } = plan;
    let mut report = Report::default();
    let (mut ledger, _) = Ledger::with_segments(fs, &dir)?;
    let before = ledger.clone();
    // Moving away comes first: a segment must not be filled, or rewritten, under something that is no file.
    let (away, rest): (Vec<_>, Vec<_>) =
        actions.into_iter().partition(|action| matches!(action, Action::MoveAway { .. }));
    for action in away.into_iter().chain(rest) {
        step(fs, &dir, &action, &mut ledger, &mut report)?;
        report.actions.push(action);
    }
    if ledger != before {
        let len = fs.metadata(&dir.join(LEDGER_NAME)).map_err(Error::io(&dir))?.len;
        report.quarantined.push(quarantine::keep_range(fs, &dir, &dir.join(LEDGER_NAME), 0, len)?);
        let next = layout::segments(fs, &dir)?.last().map_or(0, |last| last.index + 1);
        LedgerWriter::replace(fs, &dir, &ledger, None, next).map_err(Error::io(&dir))?;
    }
    Ok(report)
}

fn step(fs: &Fs, dir: &Path, action: &Action, ledger: &mut Ledger, report: &mut Report) -> Result<(), Error> {
    match action {
        Action::Rewrite { segment, damage, lost, .. } => {
            let (kept, tally) = rewrite(fs, dir, segment, damage)?;
            report.quarantined.push(kept);
            report.lost_bytes += damage.iter().map(|range| range.to - range.from).sum::<u64>();
            report.lost_records += lost.unwrap_or(0);
            if segment.dir() == dir && ledger.get(segment.index).is_some() {
                ledger.insert(LedgerEntry::of(segment.index, tally, true));
            } else if segment.dir() != dir {
                retire_ledger(fs, dir, segment.dir(), report)?;
            }
        }
        Action::MoveAway { path } | Action::RetireSnapshot { path } => {
            let beside = path.parent().unwrap_or(dir);
            // A checkpoint's directory is removed as a whole one day: what is kept must not lie in it.
            let home = if beside.starts_with(dir) { dir } else { beside };
            report.quarantined.push(quarantine::move_away(fs, home, path)?);
        }
        Action::Fill { segment } => {
            let path = dir.join(segment_name(*segment));
            fs.create_new(&path).and_then(|file| file.sync_all()).map_err(Error::io(&path))?;
            fs.sync_dir(dir).map_err(Error::io(dir))?;
            report.lost_records += ledger.get(*segment).map_or(0, |entry| entry.records);
            ledger.forget(*segment);
        }
        Action::Accept { segment, lost, .. } => {
            report.lost_records += lost.unwrap_or(0);
            if segment.dir() != dir {
                return retire_ledger(fs, dir, segment.dir(), report);
            }
            if ledger.missing().iter().any(|entry| entry.segment == segment.index) {
                ledger.forget(segment.index);
                return Ok(());
            }
            let scan = Scan::run(fs, segment, None)?;
            ledger.insert(LedgerEntry::of(segment.index, scan.tally, true));
        }
    }
    Ok(())
}

/// A checkpoint's own ledger speaks of segments that are no longer as they were.
fn retire_ledger(fs: &Fs, dir: &Path, checkpoint: &Path, report: &mut Report) -> Result<(), Error> {
    let path = checkpoint.join(LEDGER_NAME);
    if fs.exists(&path).map_err(Error::io(&path))? {
        report.quarantined.push(quarantine::move_away(fs, dir, &path)?);
    }
    Ok(())
}

fn rewrite(fs: &Fs, dir: &Path, segment: &SegmentRef, damage: &[DamagedRange]) -> Result<(PathBuf, Tally), Error> {
    let len = fs.metadata(&segment.path).map_err(Error::io(&segment.path))?.len;
    let kept = quarantine::keep_range(fs, dir, &segment.path, 0, len)?;
    let copy = PathBuf::from(format!("{}.salvage", segment.path.display()));
    if fs.exists(&copy).map_err(Error::io(&copy))? {
        fs.remove_file(&copy).map_err(Error::io(&copy))?;
    }
    let tally = salvage_into(fs, segment, &copy, damage)?;
    fs.rename(&copy, &segment.path).map_err(Error::io(&copy))?;
    fs.sync_dir(segment.dir()).map_err(Error::io(segment.dir()))?;
    Ok((kept, tally))
}

/// Writes every sound record of `segment` that nobody has something against, in its stored form, to a new file and makes
/// that durable.
fn salvage_into(fs: &Fs, segment: &SegmentRef, copy: &Path, damage: &[DamagedRange]) -> Result<Tally, Error> {
    let file = fs.create_new(copy).map_err(Error::io(copy))?;
    let unusable: HashSet<u64> = damage
        .iter()
        .filter(|range| matches!(range.damage.fault, FrameFault::Unusable { .. }))
        .map(|range| range.from)
        .collect();
    let mut reader = SalvageSegment::open(fs, segment.clone())?;
    let mut decompressor = Decompressor::default();
    let (mut out, mut written, mut offset, mut tally) = (Vec::new(), 0, 0, Tally::default());
    while let Some(found) = reader.next()? {
        if let Found::Frame(found) = found
            && !unusable.contains(&found.start)
            && let Ok(record) = reader.reader.record(&found, &mut decompressor)
        {
            frame(&mut out, &mut offset, &mut tally, record.stored, record.compression, record.checksum);
        }
        if out.len() >= WRITE_SIZE {
            file.write_all_at(&out, written).map_err(Error::io(copy))?;
            written = offset;
            out.clear();
        }
    }
    file.write_all_at(&out, written).map_err(Error::io(copy))?;
    file.sync_all().map_err(Error::io(copy))?;
    Ok(tally)
}
