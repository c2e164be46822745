//! A Prometheus data directory: where what lies in it, who may write into it, and from when on the head is responsible.
//!
//! ```text
//! lock                     taken (flock) by whoever writes
//! wal/                     the log: segments, checkpoint.%08d
//! wbl/                     the out-of-order log
//! chunks_head/             full chunks of the head
//! chunk_snapshot.%06d.%010d  the head's memory at a shutdown
//! 01ABC…(26 characters)/   a block; meta.json says which times it holds
//! ```

use std::path::{Path, PathBuf};

use serde::Deserialize;
use tsdb_vfs::{FileKind, Fs, VfsLock};

use crate::HeadError;

/// The log's directory.
#[must_use]
pub fn wal(dir: &Path) -> PathBuf {
    dir.join("wal")
}

/// The out-of-order log's directory.
#[must_use]
pub fn wbl(dir: &Path) -> PathBuf {
    dir.join("wbl")
}

/// The directory of the head's chunk files.
#[must_use]
pub fn chunks_head(dir: &Path) -> PathBuf {
    dir.join("chunks_head")
}

/// The lock file.
#[must_use]
pub fn lock_file(dir: &Path) -> PathBuf {
    dir.join("lock")
}

/// Takes the lock that the reference takes, without waiting. It is held until the returned guard is dropped.
///
/// # Errors
/// [`HeadError::Locked`] if somebody has it.
pub fn lock(fs: &Fs, dir: &Path) -> Result<Box<dyn VfsLock>, HeadError> {
    let path = lock_file(dir);
    fs.lock(&path).map_err(|source| match source.kind() {
        std::io::ErrorKind::WouldBlock => HeadError::Locked { path },
        _ => HeadError::Io { path, source },
    })
}

/// A block as far as the head is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockRef {
    /// Its directory.
    pub path: PathBuf,
    /// First time (ms, inclusive) it holds.
    pub min_time: i64,
    /// First time (ms) behind it.
    pub max_time: i64,
    /// Whether it holds all in-order data of its range. Blocks made of out-of-order, stale or selected series do not.
    pub in_order: bool,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(rename = "minTime")]
    min_time: i64,
    #[serde(rename = "maxTime")]
    max_time: i64,
    version: i64,
    #[serde(default)]
    compaction: Compaction,
}

#[derive(Deserialize, Default)]
struct Compaction {
    hints: Option<Vec<String>>,
}

/// Hints of blocks that say nothing about the in-order data of their range.
const PARTIAL: [&str; 3] = ["from-out-of-order", "from-stale-series", "from-selected-series"];

/// The blocks in a data directory, in the order of their names.
///
/// # Errors
/// When the directory cannot be listed, or a block's `meta.json` cannot be read or understood.
pub fn blocks(fs: &Fs, dir: &Path) -> Result<Vec<BlockRef>, HeadError> {
    let mut entries = fs.list(dir).map_err(HeadError::io(dir))?;
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let mut blocks = Vec::new();
    for entry in entries {
        let is_block = entry.kind == FileKind::Dir && entry.name.to_str().is_some_and(is_ulid);
        if !is_block {
            continue;
        }
        let path = dir.join(&entry.name);
        let meta_path = path.join("meta.json");
        let bytes = fs.read(&meta_path).map_err(HeadError::io(&meta_path))?;
        let bad = |problem| HeadError::BlockMeta { path: meta_path.clone(), problem };
        let meta: Meta = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
        if meta.version != 1 {
            return Err(bad(format!("expected version 1, found {}", meta.version)));
        }
        let hints = meta.compaction.hints.unwrap_or_default();
        let in_order = !hints.iter().any(|hint| PARTIAL.contains(&hint.as_str()));
        blocks.push(BlockRef { path, min_time: meta.min_time, max_time: meta.max_time, in_order });
    }
    Ok(blocks)
}

/// The time (ms) from which on the head is responsible: the end of the newest block with in-order data. `None` without
/// such a block.
///
/// # Errors
/// As [`blocks`].
pub fn min_valid_time(fs: &Fs, dir: &Path) -> Result<Option<i64>, HeadError> {
    let blocks = blocks(fs, dir)?;
    Ok(blocks.iter().filter(|block| block.in_order).map(|block| block.max_time).max())
}

/// Whether a name is a ULID: 26 characters of Crockford's base 32, of which the first cannot exceed 7.
fn is_ulid(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_digit() || (b.is_ascii_alphabetic() && !b"ILOUilou".contains(&b));
    name.len() == 26 && name.bytes().all(allowed) && matches!(name.as_bytes()[0], b'0'..=b'7')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tsdb_vfs::RealFs;

    #[test]
    fn blocks_decide_the_lowest_valid_time() {
        let tmp = tempfile::tempdir().unwrap();
        let fs: Fs = Arc::new(RealFs::new());
        assert_eq!(min_valid_time(&fs, tmp.path()).unwrap(), None);
        let block = |name: &str, meta: &str| {
            fs.create_dir(&tmp.path().join(name)).unwrap();
            fs.write_new(&tmp.path().join(name).join("meta.json"), meta.as_bytes()).unwrap();
        };
        block("01JBZ3QK0000000000000000AA", r#"{"minTime":0,"maxTime":7200000,"version":1,"compaction":{"level":1}}"#);
        block(
            "01JBZ3QK0000000000000000AB",
            r#"{"minTime":0,"maxTime":9000000,"version":1,"compaction":{"hints":["from-out-of-order"]}}"#,
        );
        block("not-a-block", "nonsense");
        assert_eq!(min_valid_time(&fs, tmp.path()).unwrap(), Some(7_200_000));
        block("01JBZ3QK0000000000000000AC", r#"{"minTime":0,"maxTime":1,"version":2}"#);
        let error = min_valid_time(&fs, tmp.path()).unwrap_err();
        assert!(matches!(error, HeadError::BlockMeta { .. }), "{error}");
    }

    #[test]
    fn the_lock_is_exclusive() {
        let tmp = tempfile::tempdir().unwrap();
        let fs: Fs = Arc::new(RealFs::new());
        let held = lock(&fs, tmp.path()).unwrap();
        assert!(matches!(lock(&fs, tmp.path()), Err(HeadError::Locked { .. })));
        drop(held);
        lock(&fs, tmp.path()).unwrap();
    }
}
