//! What killed processes leave in their chunk files.
//!
//! Both sides collect chunks in a buffer of 4 MiB, and a killed process leaves those that went to the file before. Which ones
//! that are depends on the order in which they were written, and in a replay the reference's threads write them as they
//! come. A start makes the rest again from the log, but not what went before it: where a histogram chunk begins behind what
//! is in the files, nobody can say whether it is a counter reset.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use head_chunks::Encoding;
use head_chunks::files::{ChunkFiles, FilesError};
use tsdb_model::SeriesRef;
use tsdb_vfs::RealFs;

/// Bits of a histogram chunk's third byte that say how it begins.
const HEADER: u8 = 0xc0;

/// Up to when the chunk files of a data directory have each series.
pub(super) fn until(dir: &Path) -> Result<BTreeMap<SeriesRef, i64>> {
    let (files, _) = ChunkFiles::open_read_only(Arc::new(RealFs::new()), &dir.join("chunks_head"))?;
    let mut until = BTreeMap::new();
    files.iterate::<FilesError>(|meta| {
        until.insert(meta.series, meta.maxt);
        Ok(())
    })?;
    Ok(until)
}

/// Whether two chunks, encoding and bytes, differ in nothing but how a histogram chunk begins.
pub(super) fn only_header(a: &(u8, Vec<u8>), b: &(u8, Vec<u8>)) -> bool {
    let counts_resets = !matches!(Encoding::from_byte(a.0), None | Some(Encoding::Xor | Encoding::Xor2));
    let mut same = a.clone();
    if let (true, Some(ours), Some(theirs)) = (counts_resets, same.1.get_mut(2), b.1.get(2)) {
        *ours = *ours & !HEADER | theirs & HEADER;
    }
    same == *b
}
