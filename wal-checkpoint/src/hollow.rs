//! A checkpoint that holds nothing: because nothing was left to keep, or because a crash has emptied its files.
//!
//! The bytes are the same in both cases. What differs is what may be done with the segments that it stands for: in the
//! first case they are leftovers, in the second the only copy. The ledger inside the checkpoint tells: it is durable
//! before the checkpoint has its name, and says of each segment that it is complete and has no records. Nothing else is
//! trusted: where no ledger says so, the segments stay.

use tsdb_vfs::Fs;
use wal_segment::layout::{self, CheckpointRef, SegmentRef};
use wal_segment::{Ledger, ReadError};

/// Whether the ledger in `dir` says that its segments are complete and hold nothing.
fn is_vouched_for(segments: &[SegmentRef], ledger: &Ledger) -> bool {
    let said = |segment: &SegmentRef| ledger.get(segment.index).is_some_and(|entry| entry.sealed && entry.records == 0);
    !segments.is_empty() && segments.iter().all(said) && ledger.entries().count() == segments.len()
}

/// Whether `checkpoint`, in which no record was found, may once have held some: segments that it stands for are there
/// and hold something, and nothing vouches for its emptiness.
pub(crate) fn is_doubtful(fs: &Fs, checkpoint: &CheckpointRef, segments: &[SegmentRef]) -> Result<bool, ReadError> {
    if !segments.iter().any(|segment| segment.index <= checkpoint.index && segment.len > 0) {
        return Ok(false);
    }
    let own = layout::segments(fs, &checkpoint.path)?;
    Ok(!is_vouched_for(&own, &Ledger::load(fs, &checkpoint.path)?))
}
