//! What killed processes leave in their chunk files.
//!
//! Both sides collect chunks in a buffer of 4 MiB, and a killed process leaves those that went to the file before. Which ones
//! that are depends on the order in which they were written, and in a replay the reference's threads write them as they
//! come. A start makes the rest again from the log, but not what went before it: where a histogram chunk begins behind what
//! is in the files, nobody can say whether it is a counter reset.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use head_chunks::Encoding;
use head_chunks::files::{ChunkFiles, FilesError};
use tsdb_model::{Labels, SeriesRef};
use tsdb_vfs::RealFs;

/// Bits of a histogram chunk's third byte that say how it begins.
const HEADER: u8 = 0xc0;

/// The series of which a kill left more in one side's chunk files than in the other's.
#[derive(Debug, Default)]
pub(super) struct Flushed(BTreeSet<String>);

impl Flushed {
    /// Both sides were killed with these directories; `names` are the labels of the series.
    pub(super) fn killed(&mut self, dirs: [&Path; 2], names: &BTreeMap<SeriesRef, String>) -> Result<()> {
        let [ours, theirs] = [until(dirs[0])?, until(dirs[1])?];
        let differs = |series: &&SeriesRef| ours.get(series) != theirs.get(series);
        let concerned = ours.keys().chain(theirs.keys()).filter(differs);
        self.0.extend(concerned.filter_map(|series| names.get(series).cloned()));
        Ok(())
    }

    pub(super) fn concerns(&self, labels: &Labels) -> bool {
        !self.0.is_empty() && self.0.contains(&labels.to_string())
    }

    /// Whether two chunks of a series, encoding and bytes, differ because of that: in nothing but how a histogram chunk begins.
    pub(super) fn excuses(&self, labels: &str, a: &(u8, Vec<u8>), b: &(u8, Vec<u8>)) -> bool {
        self.0.contains(labels) && only_header(a, b)
    }
}

/// Up to when the chunk files of a data directory have each series.
fn until(dir: &Path) -> Result<BTreeMap<SeriesRef, i64>> {
    let (files, _) = ChunkFiles::open_read_only(Arc::new(RealFs::new()), &dir.join("chunks_head"))?;
    let mut until = BTreeMap::new();
    files.iterate::<FilesError>(|meta| {
        until.insert(meta.series, meta.maxt);
        Ok(())
    })?;
    Ok(until)
}

fn only_header(a: &(u8, Vec<u8>), b: &(u8, Vec<u8>)) -> bool {
    let counts_resets = !matches!(Encoding::from_byte(a.0), None | Some(Encoding::Xor | Encoding::Xor2));
    let mut same = a.clone();
    if let (true, Some(ours), Some(theirs)) = (counts_resets, same.1.get_mut(2), b.1.get(2)) {
        *ours = *ours & !HEADER | theirs & HEADER;
    }
    same == *b
}
