//! Truncation: what lies in a block by now leaves memory, chunk files and log.
//!
//! Every step can be the last one before a crash. Memory goes first, which a restart brings back from the log; then chunk
//! files, whose samples are in the block; then a checkpoint is published, and only behind it segments are removed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Instant;

use rayon::prelude::*;
use tsdb_model::{Labels, SeriesRef};
use wal_checkpoint::{
    LiveWriter, Options as CheckpointOptions, Source, StartTimestamps, checkpoint, segments_to_checkpoint,
};
use wal_format::Series;
use wal_segment::layout;

use crate::head::{Head, Shared};
use crate::partition::PartitionCell;
use crate::{DamagePolicy, HeadError, data_dir};

/// What a log's truncation has to know of.
#[derive(Debug)]
pub(crate) struct LogState {
    /// The time of the last truncation.
    pub(crate) truncated_at: i64,
    /// Series that are gone, or aliases, and the time up to which the log may hold samples of them: as long as it does,
    /// their records stay.
    pub(crate) expiries: HashMap<u64, i64>,
    /// Refs that the log uses for a series besides its own.
    pub(crate) aliases: HashMap<u64, u64>,
    /// Series that out-of-order data refers to. Their records stay.
    pub(crate) foreign: HashSet<u64>,
    /// The first chunk file with out-of-order chunks; it and those behind it stay. `u32::MAX` without one.
    pub(crate) first_out_of_order_file: u32,
}

impl Default for LogState {
    fn default() -> Self {
        Self {
            truncated_at: i64::MIN,
            expiries: HashMap::new(),
            aliases: HashMap::new(),
            foreign: HashSet::new(),
            first_out_of_order_file: u32::MAX,
        }
    }
}

/// What a truncation did.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Truncated {
    /// Chunks dropped from memory or no longer referred to.
    pub chunks: usize,
    /// Series that had no sample left.
    pub series: usize,
    /// The checkpoint, if one was made, and the damage that it passed over.
    pub checkpoint: Option<wal_checkpoint::Stats>,
    /// What the checkpoint stands for and is gone, and where the damaged part of it is kept.
    pub removed: wal_checkpoint::Removed,
}

/// What collection did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Collected {
    pub(crate) chunks: usize,
    pub(crate) series: usize,
    /// Oldest time that is left, or the time asked for if nothing is.
    pub(crate) mint: i64,
    /// The first chunk file that is still needed.
    pub(crate) first_file: u32,
}

impl Head {
    /// Removes everything before `mint` (ms since epoch): chunks from memory, series without samples, chunk files and, by
    /// the reference's two-thirds rule, segments of the log, for which a checkpoint is made.
    ///
    /// Call it when a block holds what is older. It waits for open readers that overlap what goes, and for appenders that
    /// hold an older sample: a thread that has one of these open must not call it. Nothing happens if the head has nothing
    /// that old.
    ///
    /// A damaged record does not keep the log from shrinking: it is passed over and reported, and the file that it is in
    /// kept in `quarantine`.
    ///
    /// # Errors
    /// When chunk files or the log cannot be changed. Then they hold more than they need to, and the next truncation
    /// removes it. Under [`DamagePolicy::Strict`] also when what is to be removed from the log is damaged: nothing of it
    /// is touched then.
    pub fn truncate(&self, mint: i64) -> Result<Truncated, HeadError> {
        let shared = &self.shared;
        shared.log()?;
        let _one = shared.truncating.lock();
        let initialised = shared.time.initialised();
        let mut done = Truncated::default();
        if !initialised || shared.time.min() < mint {
            shared.truncate_memory(mint, initialised, &mut done)?;
        }
        if initialised {
            shared.truncate_log(mint, &mut done)?;
        }
        Ok(done)
    }

    /// Waits until no appender holds a sample older than `end` and no reader overlaps what is older: what a block writer
    /// calls before it reads the range that it is going to truncate. `false` when `deadline` came first.
    #[must_use]
    pub fn wait_until_quiet(&self, end: i64, deadline: Option<Instant>) -> bool {
        self.shared.isolation.wait_until_quiet(i64::MIN, end, deadline)
    }
}

impl Shared {
    fn truncate_memory(&self, mint: i64, initialised: bool, done: &mut Truncated) -> Result<(), HeadError> {
        let oldest = self.time.min();
        // From now on nobody takes a sample this old; then those who did are waited for.
        self.time.truncate(mint);
        if !initialised {
            return Ok(());
        }
        self.isolation.wait_until_quiet(oldest, mint, None);
        let collected = self.collect_garbage(mint, false);
        done.chunks = collected.chunks;
        done.series = collected.series;
        if collected.mint > mint {
            self.time.raise(collected.mint);
        }
        let first = collected.first_file.min(self.log_state.lock().first_out_of_order_file);
        self.chunks.truncate(first)?;
        Ok(())
    }

    /// Drops chunks that end before `mint` and series that have none then. `parallel` is for a thread of a pool of ours: one of
    /// somebody else's may, while it waits, take up work that wants what its caller holds.
    pub(crate) fn collect_garbage(&self, mint: i64, parallel: bool) -> Collected {
        let cells = self.directory.read().all();
        let drop_old = |cells: &[Arc<PartitionCell>]| {
            let mut collected = Collected { chunks: 0, series: 0, mint: i64::MAX, first_file: u32::MAX };
            let mut empty = Vec::new();
            for cell in cells {
                let mut data = cell.data.lock();
                let kept = data.drop_chunks_before(mint);
                collected.chunks += kept.dropped;
                collected.mint = collected.mint.min(kept.mint);
                collected.first_file = collected.first_file.min(kept.first_file);
                empty.extend(data.empty_series().map(|low| cell.number << 8 | u64::from(low)));
            }
            (collected, empty)
        };
        let (mut collected, empty) = if parallel {
            cells.par_chunks(16).map(drop_old).reduce(
                || drop_old(&[]),
                |(a, mut empty), (b, more)| {
                    empty.extend(more);
                    let (mint, first_file) = (a.mint.min(b.mint), a.first_file.min(b.first_file));
                    (Collected { chunks: a.chunks + b.chunks, series: 0, mint, first_file }, empty)
                },
            )
        } else {
            drop_old(&cells)
        };
        if collected.mint == i64::MAX {
            collected.mint = mint;
        }
        collected.series = self.remove_series(empty, collected.mint);
        collected
    }

    /// Removes those of `candidates` that are still without samples. Their records are kept in checkpoints while the log
    /// reaches back beyond `expiry`.
    fn remove_series(&self, candidates: Vec<u64>, expiry: i64) -> usize {
        let mut removed = 0;
        // A few at a time: whoever looks for a series waits meanwhile.
        for some in candidates.chunks(16_384) {
            let mut index = self.index.write();
            let mut gone = Vec::with_capacity(some.len());
            for group in some.chunk_by(|a, b| a >> 8 == b >> 8) {
                let Some(cell) = self.cell(group[0] >> 8) else { continue };
                let mut data = cell.data.lock();
                for &series in group {
                    let low = series as u8;
                    if data.row(low).is_some_and(|row| data.is_unused(row, low)) && data.remove(low) {
                        gone.push(series);
                    }
                }
                if data.is_empty() {
                    cell.dead.store(true, SeqCst);
                    self.directory.write().remove(cell.number);
                } else {
                    data.shrink();
                }
            }
            index.remove(&gone);
            let mut unlogged = self.unlogged.lock();
            let mut state = self.log_state.lock();
            for &series in &gone {
                // Of a series that never got into the log nothing is left.
                if !unlogged.remove(&series) {
                    state.expiries.insert(series, expiry);
                }
            }
            removed += gone.len();
        }
        removed
    }

    fn truncate_log(&self, mint: i64, done: &mut Truncated) -> Result<(), HeadError> {
        let log = self.log()?;
        if mint <= self.log_state.lock().truncated_at {
            return Ok(());
        }
        self.log_state.lock().truncated_at = mint;
        let dir = data_dir::wal(&self.dir);
        let segments = layout::segments(&self.fs, &dir)?;
        let (Some(first), Some(last)) = (segments.first(), segments.last()) else { return Ok(()) };
        let (first, last) = (first.index, last.index);
        // So that a log that grows slowly does not keep more than it needs.
        log.next_segment()?;
        let Some((from, to)) = segments_to_checkpoint(first, last) else { return Ok(()) };
        let keep = self.keep_in_checkpoint(mint);
        let options = CheckpointOptions {
            compression: self.options.log.compression,
            segment_size: self.options.log.segment_size,
            start_timestamps: StartTimestamps::Keep,
            // One damaged record must not keep the log from ever shrinking again.
            damage: match self.options.damage {
                DamagePolicy::Strict => wal_checkpoint::DamagePolicy::Strict,
                DamagePolicy::Salvage => wal_checkpoint::DamagePolicy::Salvage,
            },
            ..CheckpointOptions::default()
        };
        // Damage may have taken series records, and memory still has what was in them.
        let living = |out: &mut LiveWriter<'_, '_>| self.write_living(out);
        let source = Source::segments(&self.fs, &dir).with_living(&living);
        let stats = checkpoint(&source, from, to, keep, mint, &options)?;
        if stats.damage.is_empty() {
            done.removed.segments = log.remove_segments_before(to + 1)? as u64;
            done.removed.checkpoints = wal_checkpoint::delete_older(&self.fs, &dir, to)?.checkpoints;
        } else {
            for damage in &stats.damage {
                tracing::warn!(%damage, "passed over in truncating the log");
            }
            // Files are moved behind the log's back, which must not come to cut or sync one of them later.
            log.sync()?;
            done.removed = wal_checkpoint::retire(&self.fs, &dir, &stats)?;
        }
        done.checkpoint = Some(stats);
        let mut state = self.log_state.lock();
        let LogState { expiries, aliases, .. } = &mut *state;
        expiries.retain(|_, &mut until| until >= mint);
        aliases.retain(|alias, _| expiries.contains_key(alias));
        Ok(())
    }

    /// The records of all series that the log may speak of and whose labels are known.
    fn write_living(&self, out: &mut LiveWriter<'_, '_>) -> Result<(), wal_checkpoint::Error> {
        // Theirs come into the log later than any segment that becomes a checkpoint now.
        let unlogged = self.unlogged.lock().clone();
        let mut refs: Vec<(u64, u64)> = self.index.read().all().into_iter().map(|series| (series, series)).collect();
        refs.retain(|(series, _)| !unlogged.contains(series));
        refs.extend(self.log_state.lock().aliases.iter().map(|(&alias, &series)| (alias, series)));
        // A few at a time: whoever makes a series waits meanwhile.
        for some in refs.chunks(1024) {
            let known: Vec<(u64, Labels)> = {
                let index = self.index.read();
                some.iter().filter_map(|&(series, labels_of)| Some((series, index.labels(labels_of)?))).collect()
            };
            out.series(
                known.iter().map(|(series, labels)| Series { series: SeriesRef(*series), labels: labels.pairs() }),
            )?;
        }
        Ok(())
    }

    /// Which series records a checkpoint keeps: of those that live, and of those the log behind it may still speak of.
    fn keep_in_checkpoint(&self, mint: i64) -> impl Fn(SeriesRef) -> bool + Sync + use<> {
        let mut live: HashMap<u64, crate::index::Rank> = HashMap::new();
        for cell in self.directory.read().all() {
            live.insert(cell.number, cell.data.lock().members());
        }
        let state = self.log_state.lock();
        let mut others: HashSet<u64> = state.foreign.clone();
        others.extend(state.expiries.iter().filter(|&(_, &until)| until >= mint).map(|(&series, _)| series));
        let live = Arc::new(live);
        move |series| {
            live.get(&(series.0 >> 8)).is_some_and(|page| page.row(series.0 as u8).is_some())
                || others.contains(&series.0)
        }
    }
}
