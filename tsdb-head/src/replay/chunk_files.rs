//! The chunks that are on disk, until their series are known.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use head_chunks::files::{ChunkFiles, FilesError, OpenReport};
use rayon::prelude::*;
use tsdb_vfs::Fs;

use super::Threads;
use super::nameless::NamelessRefs;
use super::report::{ReplayDamage, ReplayReport};
use crate::HeadError;
use crate::head::Shared;
use crate::partition::Mapped;

/// In-order chunks by series and in their files' order.
#[derive(Debug, Default)]
pub(super) struct ChunksOnDisk {
    chunks: Vec<(u64, Mapped)>,
    /// Chunks that were given to a series, a bit each.
    taken: Vec<AtomicU64>,
    /// Whether chunks may be missing before others of their series.
    pub(super) holes: bool,
    /// Series that have out-of-order chunks.
    pub(super) out_of_order: HashSet<u64>,
    /// The highest ref in any chunk: a log that lost its end may not know it, and it must not be given out again.
    pub(super) highest_ref: u64,
}

/// A directory without chunk files is one with none in them.
pub(super) fn open_read_only(fs: &Fs, dir: &Path) -> Result<(ChunkFiles, OpenReport), HeadError> {
    Ok(ChunkFiles::open_read_only(fs.clone(), dir)?)
}

/// So many chunks are sorted by several threads.
const MANY: usize = 1 << 13;

impl ChunksOnDisk {
    /// `threads` gives the replay's, for many of them.
    pub(super) fn scan(
        shared: &Shared,
        opened: &OpenReport,
        report: &mut ReplayReport,
        threads: &mut Threads,
    ) -> Result<Self, HeadError> {
        let mut found = Self::default();
        let min_valid = shared.time.min_valid();
        let counts = &mut report.chunk_files;
        counts.files = opened.files.len();
        let mut first_out_of_order = u32::MAX;
        let scanned = shared.chunks.iterate::<FilesError>(|meta| {
            found.highest_ref = found.highest_ref.max(meta.series.0);
            if meta.out_of_order {
                counts.out_of_order += 1;
                found.out_of_order.insert(meta.series.0);
                first_out_of_order = first_out_of_order.min(meta.chunk_ref.file);
            } else if meta.maxt < min_valid {
                counts.before_min_valid += 1;
            } else {
                let mapped = Mapped {
                    chunk: meta.chunk_ref.to_u64(),
                    mint: meta.mint,
                    maxt: meta.maxt,
                    samples: meta.num_samples,
                    encoding: meta.encoding,
                };
                found.chunks.push((meta.series.0, mapped));
            }
            Ok(())
        })?;
        counts.chunks = scanned.chunks;
        counts.bytes = scanned.chunk_bytes;
        // A series' chunks in the order in which they were written.
        let order = |&(series, mapped): &(u64, Mapped)| (series, mapped.chunk);
        if found.chunks.len() < MANY {
            found.chunks.sort_unstable_by_key(order);
        } else {
            threads.install(&shared.dir, || found.chunks.par_sort_unstable_by_key(order))?;
        }
        for damage in opened.damages.iter().chain(&scanned.damages) {
            report.damage.push(ReplayDamage::new(None, damage.to_string()));
        }
        found.taken.resize_with(found.chunks.len().div_ceil(64), AtomicU64::default);
        found.holes = !opened.is_sound() || !scanned.damages.is_empty();
        for gap in &opened.gaps {
            let problem = format!("chunk files {:06} to {:06} are missing", gap.start, gap.end - 1);
            report.damage.push(ReplayDamage::new(None, problem));
        }
        shared.log_state.lock().first_out_of_order_file = first_out_of_order;
        Ok(found)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The chunks of a series, oldest first. They are looked for at `hint` before they are looked for everywhere; it is
    /// where the next series' chunks begin afterwards.
    pub(super) fn take(&self, series: u64, hint: &mut usize) -> impl Iterator<Item = Mapped> {
        let begins_at = |at: usize| {
            self.chunks.get(at).is_some_and(|&(other, _)| other == series)
                && at.checked_sub(1).is_none_or(|before| self.chunks[before].0 < series)
        };
        let from = match *hint {
            hint if begins_at(hint) => hint,
            _ => self.chunks.partition_point(|&(other, _)| other < series),
        };
        let len = self.chunks[from..].iter().take_while(|&&(other, _)| other == series).count();
        *hint = from + len;
        for at in from..from + len {
            // Chunks of other series, taken at the same time, share the word.
            self.taken[at / 64].fetch_or(1 << (at % 64), Relaxed);
        }
        self.chunks[from..from + len].iter().map(|&(_, mapped)| mapped)
    }

    pub(super) fn report_unused(&mut self, report: &mut ReplayReport, nameless: &mut NamelessRefs) {
        for (at, (series, chunk)) in std::mem::take(&mut self.chunks).into_iter().enumerate() {
            if self.taken[at / 64].load(Relaxed) >> (at % 64) & 1 == 0 {
                report.chunk_files.unknown_refs += 1;
                nameless.chunk(series, chunk.samples, chunk.mint, chunk.maxt);
            }
        }
    }
}
