//! Opening the log for writing, around a replay.
//!
//! What a crash left torn at the log's end is cut off before the replay comes there, so that nothing is read that is not going
//! to stay; segments that opening leaves alone whatever it finds may be read meanwhile. What only the replay comes upon is
//! repaired afterwards, since no new segment may stand behind a damaged one: the reference would delete it.

use std::path::Path;

use tsdb_vfs::Fs;
use wal_checkpoint::Error as CheckpointError;
use wal_segment::repair::{self, Action};
use wal_segment::{Check, Durability, Error, Ledger, Log, LogOptions, OpenReport, ReadError, layout};

use super::report::{ReplayDamage, ReplayReport};
use crate::HeadError;
use crate::options::DamagePolicy;

/// What opening the log came to; [`finish`] makes a report of it.
pub(super) type Opened = Result<(Log, OpenReport), Error>;

pub(super) fn open(
    fs: &Fs,
    dir: &Path,
    options: &LogOptions,
    policy: DamagePolicy,
    report: &mut ReplayReport,
) -> Result<Log, HeadError> {
    finish(attempt(fs, dir, options), fs, dir, options, policy, report)
}

pub(super) fn attempt(fs: &Fs, dir: &Path, options: &LogOptions) -> Opened {
    Log::open(fs.clone(), dir, beside_replay(options))
}

/// The replay reads the rest, and compares it with the ledger. What may not be on the disk it reads as well as what is; with
/// the durability of a log whose segments are synced while the next ones are written, nobody waits for that either.
pub(super) fn beside_replay(options: &LogOptions) -> LogOptions {
    let later = options.durability == Durability::Rotate && options.background_sync;
    LogOptions { check: if later { Check::Torn } else { Check::Tail }, ..options.clone() }
}

/// Reports what was found, and repairs the log if it could not be opened for damage.
pub(super) fn finish(
    opened: Opened,
    fs: &Fs,
    dir: &Path,
    options: &LogOptions,
    policy: DamagePolicy,
    report: &mut ReplayReport,
) -> Result<Log, HeadError> {
    let opened = match opened {
        Err(error) if policy == DamagePolicy::Salvage && is_damage(&error) => {
            repair(fs, dir, report)?;
            attempt(fs, dir, options)
        }
        opened => opened,
    };
    let (log, found) = opened?;
    report.quarantined.extend(found.ledger_kept);
    if let Some(healed) = found.healed {
        let problem = format!("{}; cut off", healed.damage.fault);
        let damage = ReplayDamage::new(Some(healed.damage.location), problem);
        report.damage.push(ReplayDamage { torn_end: true, ..damage });
    }
    for lost in found.lost {
        if !report.damage.iter().any(|known| known.speaks_of(&lost.location)) {
            report.damage.push(ReplayDamage::missed(lost));
        }
    }
    Ok(log)
}

/// Refuses a log whose last segments are gone, file and all, if the policy is to refuse damage: opening would give their
/// numbers out again. Everything else that is damaged, opening leaves as it is.
pub(super) fn refuse_missing(fs: &Fs, dir: &Path, policy: DamagePolicy) -> Result<(), HeadError> {
    if policy != DamagePolicy::Strict || !fs.dir_exists(dir).map_err(HeadError::io(dir))? {
        return Ok(());
    }
    let (ledger, _) = Ledger::with_segments(fs, dir)?;
    match ledger.missing_from(dir).next().map(ReplayDamage::missed) {
        Some(damage) => Err(HeadError::Damaged { problem: damage.problem, at: damage.at }),
        None => Ok(()),
    }
}

/// Ends a truncation in whose middle a process died: what the newest checkpoint stands for goes. When that checkpoint
/// cannot be read, and what it stands for is still complete, the log is read without it.
pub(super) fn clean_up(fs: &Fs, dir: &Path, policy: DamagePolicy, report: &mut ReplayReport) -> Result<(), HeadError> {
    if !fs.dir_exists(dir).map_err(HeadError::io(dir))? {
        return Ok(());
    }
    let error = match wal_checkpoint::clean_up(fs, dir) {
        Ok(removed) => {
            report.quarantined.extend(removed.quarantined);
            return Ok(());
        }
        Err(error) => error,
    };
    let unreadable = match &error {
        CheckpointError::Hollow { .. } | CheckpointError::Damaged(_) => true,
        CheckpointError::Read(error) => matches!(error, ReadError::Damage(_) | ReadError::Gap { .. }),
        _ => false,
    };
    if !unreadable || policy == DamagePolicy::Strict {
        return Err(error.into());
    }
    let mut checkpoints = layout::checkpoints(fs, dir)?;
    let segments = layout::segments(fs, dir)?;
    let complete = checkpoints.pop().filter(|_| {
        let expected = checkpoints.last().map_or(0, |previous| previous.index + 1);
        layout::check_sequence(&segments).is_ok() && segments.first().is_some_and(|first| first.index <= expected)
    });
    let problem = match complete {
        Some(newest) => {
            report.quarantined.push(wal_checkpoint::quarantine(fs, dir, &newest.path)?);
            format!("{error}; read without it")
        }
        None => error.to_string(),
    };
    report.damage.push(ReplayDamage::new(None, problem));
    Ok(())
}

fn is_damage(error: &Error) -> bool {
    match error {
        Error::Damaged(_) => true,
        Error::Read(error) => matches!(**error, ReadError::Damage(_) | ReadError::Gap { .. }),
        _ => false,
    }
}

/// Puts copies with every sound record in the place of damaged segments, which are kept in quarantine.
pub(super) fn repair(fs: &Fs, dir: &Path, report: &mut ReplayReport) -> Result<(), HeadError> {
    let plan = repair::plan(fs, dir)?;
    for action in &plan.actions {
        match action {
            Action::Rewrite { damage, .. } => {
                for range in damage {
                    let problem = format!("{}; {} bytes passed over", range.damage.fault, range.to - range.from);
                    let known = report.damage.iter().any(|known| known.at.as_ref() == Some(&range.damage.location));
                    if !known {
                        let at = Some(range.damage.location.clone());
                        report.damage.push(ReplayDamage::new(at, problem));
                    }
                }
            }
            Action::Fill { segment } => {
                let problem = format!("segment {segment:08} is missing");
                report.damage.push(ReplayDamage::new(None, problem));
            }
            _ => {}
        }
    }
    report.quarantined.extend(repair::apply(fs, plan)?.quarantined);
    Ok(())
}
