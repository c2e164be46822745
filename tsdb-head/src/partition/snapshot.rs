//! What a reader takes along: a series' chunks as they are at this moment.

use bytes::Bytes;
use head_chunks::Encoding;

use super::Partition;
use crate::isolation::ReadView;

/// One chunk, oldest first in a series' list.
#[derive(Debug, Clone)]
pub(crate) struct ChunkSource {
    pub(crate) mint: i64,
    pub(crate) maxt: i64,
    pub(crate) encoding: Encoding,
    /// Only this many samples from the chunk's start are to be seen.
    pub(crate) samples: u16,
    pub(crate) data: ChunkData,
}

#[derive(Debug, Clone)]
pub(crate) enum ChunkData {
    /// In a chunk file.
    File(u64),
    /// Full and not on disk yet, or a copy of the open chunk.
    Memory(Bytes),
}

impl Partition {
    /// The chunks of a series that overlap `[mint, maxt]`, without the samples that `view` hides.
    pub(crate) fn snapshot(
        &self,
        low: u8,
        row: usize,
        view: Option<&ReadView>,
        mint: i64,
        maxt: i64,
        out: &mut Vec<ChunkSource>,
    ) {
        out.clear();
        self.open_chunk(row, out);
        out.extend(self.finished.iter().rev().filter(|done| done.low == low).map(|done| ChunkSource {
            mint: done.mint,
            maxt: done.maxt,
            encoding: done.encoding,
            samples: done.samples,
            // Others are dropped below, once the samples that `view` hides are counted off.
            data: ChunkData::Memory(if done.mint <= maxt && mint <= done.maxt {
                done.to_bytes()
            } else {
                Bytes::new()
            }),
        }));
        out.extend(self.mapped.chain(self.cold[row].newest).map(|chunk| ChunkSource {
            mint: chunk.mint,
            maxt: chunk.maxt,
            encoding: chunk.encoding,
            samples: chunk.samples,
            data: ChunkData::File(chunk.chunk),
        }));
        // Chunks of an alias may have come to the disk before what was in memory when it appeared.
        out.sort_by_key(|chunk| std::cmp::Reverse(chunk.mint));
        let mut hidden = view.map_or(0, |view| self.tx.hidden(view, low));
        for chunk in out.iter_mut() {
            let here = hidden.min(chunk.samples.into());
            chunk.samples -= here as u16;
            hidden -= here;
        }
        out.retain(|chunk| chunk.samples > 0 && chunk.mint <= maxt && mint <= chunk.maxt);
        out.reverse();
    }

    fn open_chunk(&self, row: usize, out: &mut Vec<ChunkSource>) {
        let (hot, cold) = (&self.hot[row], &self.cold[row]);
        if hot.xor.num_samples() > 0 {
            out.push(ChunkSource {
                mint: cold.mint,
                maxt: hot.xor.last_t(),
                encoding: Encoding::Xor,
                samples: hot.xor.num_samples(),
                data: ChunkData::Memory(self.xor_bytes(row)),
            });
        } else if let Some(rare) = self.rares.get(row) {
            out.push(rare.source(&self.segments));
        }
    }
}
