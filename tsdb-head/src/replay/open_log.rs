//! Opening the log for writing, around a replay.
//!
//! The log is opened *before* it is replayed: what a crash left torn at its end is cut off first, so that nothing is read
//! that is not going to stay. What only the replay comes upon is repaired afterwards, since no new segment may stand
//! behind a damaged one: the reference would delete it.

use std::path::Path;

use tsdb_vfs::Fs;
use wal_segment::repair::{self, Action};
use wal_segment::{Check, Error, Log, LogOptions, ReadError};

use super::report::{ReplayDamage, ReplayReport};
use crate::HeadError;
use crate::options::DamagePolicy;

pub(super) fn open(
    fs: &Fs,
    dir: &Path,
    options: &LogOptions,
    policy: DamagePolicy,
    report: &mut ReplayReport,
) -> Result<Log, HeadError> {
    // The replay reads the rest.
    let options = LogOptions { check: Check::Tail, ..options.clone() };
    let opened = match Log::open(fs.clone(), dir, options.clone()) {
        Err(error) if policy == DamagePolicy::Salvage && is_damage(&error) => {
            repair(fs, dir, report)?;
            Log::open(fs.clone(), dir, options)
        }
        opened => opened,
    };
    let (log, found) = opened?;
    if let Some(healed) = found.healed {
        let problem = format!("{}; cut off", healed.damage.fault);
        report.damage.push(ReplayDamage { at: Some(healed.damage.location), problem, torn_end: true });
    }
    for lost in found.lost {
        let problem = format!("{}; durable records are gone", lost.fault);
        report.damage.push(ReplayDamage { at: Some(lost.location), problem, torn_end: false });
    }
    Ok(log)
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
                        report.damage.push(ReplayDamage { at, problem, torn_end: false });
                    }
                }
            }
            Action::Fill { segment } => {
                let problem = format!("segment {segment:08} is missing");
                report.damage.push(ReplayDamage { at: None, problem, torn_end: false });
            }
            _ => {}
        }
    }
    report.quarantined.extend(repair::apply(fs, plan)?.quarantined);
    Ok(())
}
