//! Chunks that say by their bytes which they are: written, and found again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use head_chunks::Encoding;
use head_chunks::files::{ChunkFiles, ChunkMeta, ChunkRef, Damage, FilesError, NewChunk, Options};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tsdb_model::SeriesRef;
use tsdb_vfs::Fs;

pub(crate) const DIR: &str = "/data/chunks_head";

/// A chunk's number, which says everything that is in it.
pub(crate) type Id = u64;

pub(crate) fn data(id: Id) -> Vec<u8> {
    let mut rng = SmallRng::seed_from_u64(id);
    // Some within a sector, most across several blocks.
    let len = if rng.random_bool(0.3) { rng.random_range(3..300) } else { rng.random_range(300..9_000) };
    (0..len).map(|_| rng.random()).collect()
}

pub(crate) fn chunk(id: Id, data: &[u8]) -> NewChunk<'_> {
    NewChunk {
        series: SeriesRef(id + 1),
        mint: id as i64 * 1_000,
        maxt: id as i64 * 1_000 + 500,
        encoding: Encoding::from_byte(1 + (id % 6) as u8).expect("one of six"),
        data,
        out_of_order: id.is_multiple_of(5),
    }
}

/// The number of a chunk that was found, if it is one of ours to the last byte.
pub(crate) fn identify(meta: &ChunkMeta, found: &[u8]) -> Result<Id, String> {
    let id = meta.series.0.wrapping_sub(1);
    let wanted = data(id);
    let want = chunk(id, &wanted);
    let same = (meta.mint, meta.maxt, meta.encoding, meta.out_of_order)
        == (want.mint, want.maxt, want.encoding, want.out_of_order);
    if same && found == wanted { Ok(id) } else { Err(format!("{meta:?} was never written")) }
}

pub(crate) fn write(files: &ChunkFiles, id: Id) -> Result<ChunkRef, FilesError> {
    files.write(&chunk(id, &data(id)))
}

pub(crate) fn options(queue: usize) -> Options {
    Options { write_buffer: 64 << 10, max_file_len: 128 << 10, queue }
}

pub(crate) struct Wrong(String);

impl From<FilesError> for Wrong {
    fn from(error: FilesError) -> Self {
        Self(error.to_string())
    }
}

#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) chunks: BTreeMap<ChunkRef, Id>,
    pub(crate) damages: Vec<Damage>,
    pub(crate) gaps: Vec<core::ops::Range<u32>>,
    /// Copies of files as they were before they were healed.
    pub(crate) evidence: Vec<(PathBuf, Vec<u8>)>,
}

pub(crate) fn find(fs: &Fs) -> Result<Found, String> {
    let (files, report) = ChunkFiles::open_read_only(fs.clone(), Path::new(DIR)).map_err(|e| e.to_string())?;
    let mut chunks = BTreeMap::new();
    let scanned = files.for_each::<Wrong>(|meta, data| {
        let id = identify(meta, data).map_err(Wrong)?;
        match chunks.insert(meta.chunk_ref, id) {
            None => Ok(()),
            Some(_) => Err(Wrong(format!("{} twice", meta.chunk_ref))),
        }
    });
    let scanned = scanned.map_err(|Wrong(message)| message)?;
    // Files that cannot be opened are no part of a scan.
    let unreadable = report.damages.into_iter().filter(|damage| !scanned.damages.contains(damage));
    let mut damages: Vec<_> = unreadable.chain(scanned.damages.iter().cloned()).collect();
    damages.sort_by_key(|damage| (damage.file, damage.offset));
    Ok(Found { chunks, damages, gaps: report.gaps, evidence: Vec::new() })
}
