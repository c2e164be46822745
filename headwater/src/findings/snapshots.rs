//! What is wrong with the chunk snapshot that a start would use.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::Result;
use head_chunks::Encoding;
use tsdb_vfs::{FileKind, Fs};
use wal_format::snapshot::SnapshotRecord;
use wal_segment::layout;

use super::{Finding, decode};
use crate::source::{self, LogPart, Role, SNAPSHOT_PREFIX, Step};

const IGNORES: &str =
    "with memory-snapshot-on-shutdown: says that it cannot load the snapshot, and reads the log instead";
const NOTHING: &str = "nothing; the log holds the same as long as it reaches back";

/// The newest snapshot, as the reference chooses it: `chunk_snapshot.SEGMENT.OFFSET`, the highest segment, then offset.
fn newest(fs: &Fs, dir: &Path, findings: &mut Vec<Finding>) -> Result<Option<(u64, u64, String)>> {
    let mut newest = None;
    for entry in fs.list(dir)? {
        let name = entry.name.to_string_lossy().into_owned();
        let Some(numbers) = name.strip_prefix(SNAPSHOT_PREFIX) else { continue };
        if entry.kind != FileKind::Dir {
            let problem = format!("expected a directory, found {}", entry.kind);
            let prometheus =
                "with memory-snapshot-on-shutdown: reads the log from its beginning, and deletes no old snapshot";
            findings.push(finding(name, None, problem, prometheus));
        } else if let Some((segment, offset)) = numbers.split_once('.')
            && let (Ok(segment), Ok(offset)) = (segment.parse(), offset.parse())
        {
            newest = newest.max(Some((segment, offset, name)));
        }
    }
    Ok(newest)
}

/// Looks at the newest snapshot of `dir`, if there is one.
pub(super) fn find(fs: &Fs, dir: &Path, findings: &mut Vec<Finding>) -> Result<()> {
    let Some((segment, offset, name)) = newest(fs, dir, findings)? else { return Ok(()) };
    let segments = layout::segments(fs, &dir.join(&name))?;
    let part = LogPart { role: Role::Snapshot, prefix: format!("{name}/"), segments, follows: None };
    let before = findings.len();
    let mut tombstone_records = 0;
    let walked = source::walk(fs, &part, |step| {
        let (file, at, problem) = match step {
            Step::Fault(fault) => (fault.segment, fault.offset, Some(fault.error)),
            Step::Record(record) => {
                let position = record.position;
                let problem = match SnapshotRecord::decode(record.bytes) {
                    Ok(SnapshotRecord::Tombstones(_)) => {
                        tombstone_records += 1;
                        None
                    }
                    Ok(record) => of_record(&record),
                    Err(error) => Some(error.to_string()),
                };
                (position.segment, position.offset, problem)
            }
        };
        if let Some(problem) = problem {
            let path = format!("{}{}", part.prefix, layout::segment_name(file));
            findings.push(finding(path, Some(at), problem, IGNORES));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    debug_assert!(walked.is_continue(), "nothing ends the walk");
    // A snapshot that lost its end, or all it held, to zeros reads like a sound one: only this record tells.
    if tombstone_records == 0 && findings.len() == before {
        let problem =
            "a snapshot that is not whole: the record of tombstones, which each ends its series with, is missing";
        let prometheus = format!(
            "with memory-snapshot-on-shutdown: takes it for all there was, and reads the log only from segment {segment}, \
             offset {offset} on"
        );
        findings.push(finding(name, None, problem.into(), &prometheus));
    }
    Ok(())
}

fn of_record(record: &SnapshotRecord<'_>) -> Option<String> {
    match record {
        SnapshotRecord::Unknown { tag: Some(tag), .. } => Some(format!("a record of no known kind (tag {tag})")),
        SnapshotRecord::Unknown { tag: None, .. } => Some("an empty record".into()),
        SnapshotRecord::Series(series) => {
            let chunk = series.chunk.as_ref()?;
            let encoding = Encoding::from_byte(chunk.encoding)?;
            let error = decode(encoding, chunk.bytes).err()?;
            Some(format!("the open chunk of series ref {} does not decode: {error}", series.series))
        }
        SnapshotRecord::Tombstones(_) | SnapshotRecord::Exemplars(_) => None,
    }
}

fn finding(path: String, offset: Option<u64>, problem: String, prometheus: &str) -> Finding {
    Finding { path, offset, problem, prometheus: prometheus.into(), repair: NOTHING.into(), note: false }
}
