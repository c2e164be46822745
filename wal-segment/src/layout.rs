//! Names in a log's directory: segments and checkpoints.
//!
//! A segment's name is its number in eight digits; any all-digit name is accepted. A checkpoint is a directory
//! `checkpoint.%08d` that holds segments of its own, `checkpoint.%08d.tmp` while it is being written. Everything else is
//! none of the log's business. The reference also takes `-1` and `+2` for segments; they are left alone here, and
//! verification says what the reference makes of them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use tsdb_vfs::{FileKind, Fs};

use crate::error::ReadError;

/// What a checkpoint's name begins with.
pub const CHECKPOINT_PREFIX: &str = "checkpoint.";

/// The ledger's name in a log's directory. The reference ignores names that are no number.
pub const LEDGER_NAME: &str = "headwater-ledger";

/// The directory beside damaged files that keeps what repair and healing replace.
pub const QUARANTINE_NAME: &str = "quarantine";

/// A segment file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentRef {
    /// Its number.
    pub index: u64,
    /// Its path.
    pub path: PathBuf,
    /// Its length in bytes when it was listed; the last segment of a live log grows.
    pub len: u64,
}

impl SegmentRef {
    /// The directory that holds it.
    pub fn dir(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }
}

/// A checkpoint directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointRef {
    /// Number of the last segment that it stands for.
    pub index: u64,
    /// Its path.
    pub path: PathBuf,
}

/// The name of segment `index`.
pub fn segment_name(index: u64) -> String {
    format!("{index:08}")
}

/// The name of the checkpoint that ends with segment `index`.
pub fn checkpoint_name(index: u64) -> String {
    format!("{CHECKPOINT_PREFIX}{index:08}")
}

/// The number that a segment's name stands for; `None` if it is no segment's name.
pub fn parse_segment_name(name: &OsStr) -> Option<u64> {
    parse_digits(name.to_str()?)
}

/// The number that a checkpoint's name stands for; `None` for anything else, temporary ones too.
pub fn parse_checkpoint_name(name: &OsStr) -> Option<u64> {
    parse_digits(name.to_str()?.strip_prefix(CHECKPOINT_PREFIX)?)
}

fn parse_digits(digits: &str) -> Option<u64> {
    // The reference's numbers are 64-bit signed: what overflows is no segment there either.
    let valid = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if valid { digits.parse().ok().filter(|&n: &u64| i64::try_from(n).is_ok()) } else { None }
}

/// All segments in `dir`, by number. Whatever has a segment's name is listed, also what is no regular file: opening it
/// says so. Gaps are listed as they are, see [`check_sequence`].
pub fn segments(fs: &Fs, dir: &Path) -> Result<Vec<SegmentRef>, ReadError> {
    let entries = fs.list(dir).map_err(ReadError::io(dir))?;
    let mut segments: Vec<_> = entries
        .into_iter()
        .filter_map(|entry| {
            let index = parse_segment_name(&entry.name)?;
            Some(SegmentRef { index, path: dir.join(&entry.name), len: entry.len })
        })
        .collect();
    segments.sort_by_key(|segment| segment.index);
    Ok(segments)
}

/// Fails on the first segment that does not follow the one before: missing, or two names with one number.
pub fn check_sequence(segments: &[SegmentRef]) -> Result<(), ReadError> {
    for pair in segments.windows(2) {
        let expected = pair[0].index + 1;
        if pair[1].index != expected {
            return Err(ReadError::Gap { dir: pair[1].dir().to_owned(), expected, found: pair[1].index });
        }
    }
    Ok(())
}

/// All complete checkpoints in `dir`, by number. Only directories: the reference refuses to start when a *file* has such
/// a name.
pub fn checkpoints(fs: &Fs, dir: &Path) -> Result<Vec<CheckpointRef>, ReadError> {
    let entries = fs.list(dir).map_err(ReadError::io(dir))?;
    let mut checkpoints: Vec<_> = entries
        .into_iter()
        .filter(|entry| entry.kind == FileKind::Dir)
        .filter_map(|entry| {
            let index = parse_checkpoint_name(&entry.name)?;
            Some(CheckpointRef { index, path: dir.join(&entry.name) })
        })
        .collect();
    checkpoints.sort_by_key(|checkpoint| checkpoint.index);
    Ok(checkpoints)
}

/// The checkpoint with the highest number.
pub fn last_checkpoint(fs: &Fs, dir: &Path) -> Result<Option<CheckpointRef>, ReadError> {
    Ok(checkpoints(fs, dir)?.pop())
}

/// What a replay of the log in `dir` reads, in order: the segments of the last checkpoint, then those behind it.
/// A gap in either is an error; segments up to the checkpoint's number that were not removed yet are left out.
pub fn replay_segments(fs: &Fs, dir: &Path) -> Result<(Vec<SegmentRef>, Vec<SegmentRef>), ReadError> {
    let checkpoint = last_checkpoint(fs, dir)?;
    let mut live = segments(fs, dir)?;
    check_sequence(&live)?;
    let Some(checkpoint) = checkpoint else { return Ok((Vec::new(), live)) };
    let old = segments(fs, &checkpoint.path)?;
    check_sequence(&old)?;
    live.retain(|segment| segment.index > checkpoint.index);
    if let Some(first) = live.first().filter(|first| first.index != checkpoint.index + 1) {
        let expected = checkpoint.index + 1;
        return Err(ReadError::Gap { dir: dir.to_owned(), expected, found: first.index });
    }
    Ok((old, live))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(name: &str) -> Option<u64> {
        parse_segment_name(OsStr::new(name))
    }

    #[test]
    fn segment_names_are_digits_and_nothing_else() {
        assert_eq!(segment("00000007"), Some(7));
        assert_eq!(segment("7"), Some(7));
        assert_eq!(segment("000123456789"), Some(123_456_789));
        assert_eq!(segment("9223372036854775807"), Some(i64::MAX as u64));
        for name in ["", "-1", "+2", " 1", "00000001.tmp", "0x1", "٣", "9223372036854775808", "99999999999999999999"] {
            assert_eq!(segment(name), None, "{name:?}");
        }
    }

    #[test]
    fn checkpoint_names_carry_their_number() {
        assert_eq!(checkpoint_name(12), "checkpoint.00000012");
        assert_eq!(parse_checkpoint_name(OsStr::new("checkpoint.00000012")), Some(12));
        for name in ["checkpoint.00000012.tmp", "checkpoint.", "checkpoint", "checkpoint.-1", "00000012"] {
            assert_eq!(parse_checkpoint_name(OsStr::new(name)), None, "{name:?}");
        }
    }
}
