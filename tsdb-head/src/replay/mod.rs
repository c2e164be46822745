//! From what is on disk to a head: chunk files, checkpoint, log.
//!
//! The log is read in rounds. In a round several blocks of pages are framed, checked, decompressed and decoded in
//! parallel, each into a [`Lane`](lane::Lane); then the series records of all lanes are taken in order; then the
//! partitions take their samples, again in parallel. A round's memory is bounded in bytes, whatever the log holds.
//!
//! Damage costs the record it touches. Behind it the segment is read on by the salvaging reader, one record at a time; the
//! next segment is read in parallel again.

mod apply;
mod chunk_files;
mod lane;
mod nameless;
mod open_log;
mod preserved;
mod read;
mod report;

use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

use head_chunks::files::{ChunkFiles, Options as ChunkFileOptions};
use tsdb_vfs::Fs;
use wal_segment::{Ledger, SegmentRef, layout};

use crate::head::Shared;
use crate::options::{DamagePolicy, HeadOptions};
use crate::{HeadError, data_dir};
use chunk_files::ChunksOnDisk;
use nameless::NamelessRefs;
pub use report::{ChunkFileReport, Counts, Missed, Nameless, Preserved, Progress, ReplayDamage, ReplayReport};

/// A replay under way.
struct Replay<'a> {
    shared: &'a Shared,
    /// Whether full chunks go to chunk files.
    writable: bool,
    chunks: ChunksOnDisk,
    /// Refs that stand for another series with the same labels.
    aliases: HashMap<u64, u64>,
    nameless: NamelessRefs,
    report: ReplayReport,
    bytes_done: u64,
    bytes_total: u64,
    ids: Vec<u8>,
}

/// How often a read-only open starts over when the log changes under it.
const ATTEMPTS: usize = 8;

pub(crate) fn open(
    fs: Fs,
    dir: &Path,
    options: HeadOptions,
    read_only: bool,
) -> Result<(Shared, ReplayReport), HeadError> {
    let mut attempt = 1;
    loop {
        match open_once(&fs, dir, &options, read_only) {
            // A running Prometheus has replaced segments by a checkpoint, or chunk files have gone.
            Err(error) if read_only && attempt < ATTEMPTS && vanished(&error) => attempt += 1,
            result => return result,
        }
    }
}

fn vanished(error: &HeadError) -> bool {
    use wal_segment::ReadError;
    match error {
        HeadError::Read(ReadError::Io { source, .. }) => source.kind() == std::io::ErrorKind::NotFound,
        HeadError::Read(ReadError::Gap { .. }) => true,
        HeadError::Io { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

fn open_once(fs: &Fs, dir: &Path, options: &HeadOptions, read_only: bool) -> Result<(Shared, ReplayReport), HeadError> {
    let min_valid_time = match options.min_valid_time {
        Some(time) => Some(time),
        None => data_dir::min_valid_time(fs, dir)?,
    };
    let mut report = ReplayReport { min_valid_time, ..ReplayReport::default() };
    let wal = data_dir::wal(dir);
    let log = match read_only {
        true => None,
        false => {
            open_log::clean_up(fs, &wal, options.damage, &mut report)?;
            Some(open_log::open(fs, &wal, &options.log, options.damage, &mut report)?)
        }
    };
    let started = Instant::now();
    let chunks_dir = data_dir::chunks_head(dir);
    let (files, found) = if read_only {
        chunk_files::open_read_only(fs, &chunks_dir)?
    } else {
        // The reference's buffer: what a killed process leaves in its files depends on it, and on that the headers of
        // histogram chunks behind a restart.
        ChunkFiles::open(fs.clone(), &chunks_dir, ChunkFileOptions::default())?
    };
    let shared = Shared::new(fs.clone(), dir, options.clone(), min_valid_time.unwrap_or(i64::MIN), None, files);
    let chunks = ChunksOnDisk::scan(&shared, &found, &mut report)?;
    report.chunk_files_time = started.elapsed();
    let mut replay = Replay {
        shared: &shared,
        writable: !read_only,
        chunks,
        aliases: HashMap::new(),
        nameless: NamelessRefs::default(),
        report,
        bytes_done: 0,
        bytes_total: 0,
        ids: Vec::new(),
    };
    replay.log()?;
    replay.finish()?;
    let Replay { mut report, .. } = replay;
    if options.damage == DamagePolicy::Strict
        && let Some(damage) = report.damage.iter().find(|damage| !damage.torn_end)
    {
        return Err(HeadError::Damaged { problem: damage.problem.clone(), at: damage.at.clone() });
    }
    let mut shared = shared;
    shared.log = match log {
        Some(log) if report.damage.iter().any(|damage| !damage.torn_end && damage.is_below(&wal)) => {
            log.close()?;
            open_log::repair(fs, &wal, &mut report)?;
            Some(open_log::open(fs, &wal, &options.log, options.damage, &mut report)?)
        }
        log => log,
    };
    Ok((shared, report))
}

impl Replay<'_> {
    /// Reads checkpoint and segments.
    fn log(&mut self) -> Result<(), HeadError> {
        let wal = data_dir::wal(&self.shared.dir);
        if !self.shared.fs.dir_exists(&wal).map_err(HeadError::io(&wal))? {
            return Ok(());
        }
        let fs = self.shared.fs.clone();
        // Before the segments are listed: somebody may be writing to them, and it must not speak of more than is read.
        let ledger = Ledger::load(&fs, &wal)?;
        let (checkpoint, segments) = layout::replay_segments(&fs, &wal)?;
        let ledger = ledger.believed(&segments);
        let bytes = |segments: &[SegmentRef]| segments.iter().map(|segment| segment.len).sum::<u64>();
        self.bytes_total = bytes(&checkpoint) + bytes(&segments);
        self.report.bytes = self.bytes_total;
        self.report.checkpoint = layout::last_checkpoint(&self.shared.fs, &wal)?.map(|checkpoint| checkpoint.index);
        self.report.segments = segments.first().zip(segments.last()).map(|(first, last)| (first.index, last.index));
        let started = Instant::now();
        let inner = match checkpoint.first() {
            Some(first) => Ledger::load(&fs, first.dir())?,
            None => Ledger::default(),
        };
        self.read(&checkpoint, &inner, false)?;
        self.report.checkpoint_time = started.elapsed();
        let started = Instant::now();
        self.read(&segments, &ledger, true)?;
        self.report.segments_time = started.elapsed();
        Ok(())
    }

    /// What comes after the last record: bounds, what else the directory holds, and series that have no samples.
    fn finish(&mut self) -> Result<(), HeadError> {
        if self.chunks.holes {
            for cell in self.shared.directory.read().all() {
                let mut holes = apply::Holes { number: cell.number, shared: self.shared, writable: self.writable };
                let mut data = cell.data.lock();
                data.queued().into_iter().try_for_each(|low| holes.attach_until(&mut data, low, i64::MAX))?;
            }
        }
        self.chunks.report_unused(&mut self.report, &mut self.nameless);
        self.report.nameless = self.nameless.report();
        preserved::scan(self.shared, &self.chunks, &mut self.report)?;
        self.shared.log_state.lock().aliases = std::mem::take(&mut self.aliases);
        self.shared.reserve_ref(self.chunks.highest_ref);
        self.shared.time.clamp_to_valid();
        let collected = self.shared.collect_garbage(self.shared.time.min());
        self.report.empty_series = collected.series as u64;
        Ok(())
    }

    fn progress(&self, segment: u64, last_segment: u64) {
        if let Some(progress) = &self.shared.options.progress {
            let (bytes_done, bytes_total) = (self.bytes_done.min(self.bytes_total), self.bytes_total);
            progress(&Progress { bytes_done, bytes_total, segment, last_segment });
        }
    }
}
