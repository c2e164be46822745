//! From what is on disk to a head: chunk files, checkpoint, log.
//!
//! The log is read in rounds. In a round several blocks of pages are framed, checked, decompressed and decoded in
//! parallel, each into a [`Lane`](lane::Lane); then the series records of all lanes are taken in order; then the
//! partitions take their samples, again in parallel. A round's memory is bounded in bytes, whatever the log holds.
//!
//! Damage costs the record it touches. Behind it the segment is read on by the salvaging reader, one record at a time; the
//! next segment is read in parallel again.

mod apply;
mod by_series;
mod chunk_files;
mod entries;
mod floors;
mod lane;
mod nameless;
mod open_log;
mod preserved;
mod read;
mod report;
mod series;

use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

use head_chunks::files::{ChunkFiles, Options as ChunkFileOptions};
use tsdb_vfs::Fs;
use wal_segment::{Ledger, Log, LogOptions, SegmentRef, layout};

use crate::head::Shared;
use crate::options::{DamagePolicy, HeadOptions};
use crate::{HeadError, data_dir};
use chunk_files::ChunksOnDisk;
use floors::Floors;
use nameless::NamelessRefs;
use read::Worker;
pub use report::{ChunkFileReport, Counts, Missed, Nameless, Preserved, Progress, ReplayDamage, ReplayReport};

/// A replay under way.
struct Replay<'a> {
    shared: &'a Shared,
    /// Whether full chunks go to chunk files.
    writable: bool,
    chunks: ChunksOnDisk,
    /// Refs that stand for another series with the same labels.
    aliases: HashMap<u64, u64>,
    floors: Floors,
    nameless: NamelessRefs,
    report: ReplayReport,
    bytes_done: u64,
    bytes_total: u64,
    /// Of what is being read, checkpoint or log.
    last_segment: u64,
    ids: Vec<u8>,
    workers: Vec<Worker>,
    threads: Threads,
}

/// The replay's threads, once they are wanted. Then they stay: the system puts new ones on the same processor at first, and for
/// a while.
#[derive(Default)]
struct Threads {
    count: usize,
    pool: Option<rayon::ThreadPool>,
}

impl Threads {
    /// Has one of them do something, with the help of the others. `path` is what they are wanted for.
    fn install<T: Send>(&mut self, path: &Path, work: impl FnOnce() -> T + Send) -> Result<T, HeadError> {
        let pool = match self.pool.take() {
            Some(pool) => pool,
            None => rayon::ThreadPoolBuilder::new()
                .num_threads(self.count)
                .build()
                .map_err(|error| HeadError::Io { path: path.to_owned(), source: std::io::Error::other(error) })?,
        };
        let done = pool.install(work);
        self.pool = Some(pool);
        Ok(done)
    }
}

/// So many series are looked through by several threads when all is read.
const MANY_SERIES: usize = 1 << 13;

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
    if read_only {
        return replay_all(fs, dir, options, true, report, None, || |_| Ok(None));
    }
    let wal = &data_dir::wal(dir);
    open_log::refuse_missing(fs, wal, options.damage)?;
    open_log::clean_up(fs, wal, options.damage, &mut report)?;
    let ahead = if options.threads() > 1 { Ahead::find(fs, wal, &options.log)? } else { None };
    if ahead.is_none() {
        let log = open_log::open(fs, wal, &options.log, options.damage, &mut report)?;
        return replay_all(fs, dir, options, false, report, None, || |_| Ok(Some(log)));
    }
    let cleaned = report.damage.len();
    std::thread::scope(|scope| {
        replay_all(fs, dir, options, false, report, ahead, || {
            // Healing and syncing the log's end is mostly waiting for the disk.
            let attempt = || open_log::attempt(fs, wal, &options.log);
            let thread = std::thread::Builder::new().name("head-log".into()).spawn_scoped(scope, attempt);
            move |report: &mut ReplayReport| {
                let opened = match thread {
                    Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                    Err(_) => attempt(),
                };
                let before = report.damage.len();
                let log = open_log::finish(opened, fs, wal, &options.log, options.damage, report)?;
                // As if it had come before what was read.
                report.damage[cleaned..].rotate_left(before - cleaned);
                Ok(Some(log))
            }
        })
    })
}

/// What can be read before the log is open: its checkpoint, and the segments that opening leaves alone.
struct Ahead {
    ledger: Ledger,
    checkpoint: Vec<SegmentRef>,
    /// All of them as they are before.
    segments: Vec<SegmentRef>,
    /// So many of them are left alone.
    settled: usize,
}

fn bytes(segments: &[SegmentRef]) -> u64 {
    segments.iter().map(|segment| segment.len).sum()
}

impl Ahead {
    /// `None` when there is no log, or one whose segments do not follow each other.
    fn find(fs: &Fs, wal: &Path, options: &LogOptions) -> Result<Option<Self>, HeadError> {
        if !fs.dir_exists(wal).map_err(HeadError::io(wal))? {
            return Ok(None);
        }
        let (Ok(settled), Ok((checkpoint, segments))) =
            (Log::settled(fs, wal, &open_log::beside_replay(options)), layout::replay_segments(fs, wal))
        else {
            return Ok(None);
        };
        let ledger = Ledger::load(fs, wal)?.believed(fs, &segments);
        let settled =
            segments.partition_point(|segment| settled.last().is_some_and(|settled| segment.index <= settled.index));
        Ok(Some(Self { ledger, checkpoint, segments, settled }))
    }
}

/// Replays chunk files and log. What `open` returns gives the log; what is `ahead` of that is read before. It is called when
/// the chunk files are read: that keeps all threads busy, as taking new series does not.
fn replay_all<O: FnOnce(&mut ReplayReport) -> Result<Option<Log>, HeadError>>(
    fs: &Fs,
    dir: &Path,
    options: &HeadOptions,
    read_only: bool,
    mut report: ReplayReport,
    ahead: Option<Ahead>,
    open: impl FnOnce() -> O,
) -> Result<(Shared, ReplayReport), HeadError> {
    let wal = data_dir::wal(dir);
    let min_valid_time = report.min_valid_time;
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
    let mut threads = Threads { count: options.threads(), pool: None };
    let chunks = ChunksOnDisk::scan(&shared, &found, &mut report, &mut threads)?;
    let opened = open();
    report.chunk_files_time = started.elapsed();
    let mut replay = Replay {
        shared: &shared,
        writable: !read_only,
        chunks,
        aliases: HashMap::new(),
        floors: Floors::default(),
        nameless: NamelessRefs::default(),
        report,
        bytes_done: 0,
        bytes_total: 0,
        last_segment: 0,
        ids: Vec::new(),
        workers: Vec::new(),
        threads,
    };
    if let Some(ahead) = &ahead {
        replay.log_ahead(ahead)?;
    }
    let log = opened(&mut replay.report)?;
    replay.log(ahead.as_ref())?;
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
    if let Some(log) = &shared.log {
        log.prove()?;
    }
    Ok((shared, report))
}

impl Replay<'_> {
    /// Reads the checkpoint and those segments that can be read before the log is open.
    fn log_ahead(&mut self, ahead: &Ahead) -> Result<(), HeadError> {
        self.bytes_total = bytes(&ahead.checkpoint) + bytes(&ahead.segments);
        self.checkpoint(&ahead.checkpoint)?;
        let started = Instant::now();
        self.last_segment = ahead.segments.last().map_or(0, |segment| segment.index);
        self.read(&ahead.segments[..ahead.settled], &ahead.ledger, false)?;
        self.report.segments_time = started.elapsed();
        Ok(())
    }

    /// Reads checkpoint and segments, but for what was read `ahead`.
    fn log(&mut self, ahead: Option<&Ahead>) -> Result<(), HeadError> {
        let wal = data_dir::wal(&self.shared.dir);
        if !self.shared.fs.dir_exists(&wal).map_err(HeadError::io(&wal))? {
            return Ok(());
        }
        let fs = self.shared.fs.clone();
        // Before the segments are listed: somebody may be writing to them, and it must not speak of more than is read.
        let ledger = Ledger::load(&fs, &wal)?;
        let (checkpoint, segments) = layout::replay_segments(&fs, &wal)?;
        let ledger = ledger.believed(&fs, &segments);
        self.bytes_total = bytes(&checkpoint) + bytes(&segments);
        self.report.bytes = self.bytes_total;
        self.report.checkpoint = layout::last_checkpoint(&self.shared.fs, &wal)?.map(|checkpoint| checkpoint.index);
        self.report.segments = segments.first().zip(segments.last()).map(|(first, last)| (first.index, last.index));
        if ahead.is_none() {
            self.checkpoint(&checkpoint)?;
        }
        let started = Instant::now();
        let done = ahead.and_then(|ahead| ahead.segments[..ahead.settled].last());
        let rest = segments.partition_point(|segment| done.is_some_and(|done| segment.index <= done.index));
        self.last_segment = segments.last().map_or(0, |segment| segment.index);
        self.read(&segments[rest..], &ledger, true)?;
        self.miss(&mut ledger.missing_from(&wal).collect());
        self.report.segments_time += started.elapsed();
        Ok(())
    }

    fn checkpoint(&mut self, checkpoint: &[SegmentRef]) -> Result<(), HeadError> {
        let started = Instant::now();
        let ledger = match checkpoint.first() {
            Some(first) => {
                let ledger = Ledger::load(&self.shared.fs, first.dir())?.believed(&self.shared.fs, checkpoint);
                self.miss(&mut ledger.missing_from(first.dir()).collect());
                ledger
            }
            None => Ledger::default(),
        };
        self.last_segment = checkpoint.last().map_or(0, |segment| segment.index);
        self.read(checkpoint, &ledger, false)?;
        self.report.checkpoint_time = started.elapsed();
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
        self.workers = Vec::new();
        self.shared.log_state.lock().aliases = std::mem::take(&mut self.aliases);
        self.shared.reserve_ref(self.chunks.highest_ref);
        self.shared.time.clamp_to_valid();
        let shared = self.shared;
        let settle = |parallel| {
            let collected = shared.collect_garbage(shared.time.min(), parallel);
            // What a replay wants of memory for a while, a head does not want for hours.
            shared.index.write().settle(parallel);
            collected
        };
        let many = shared.index.read().len() >= MANY_SERIES;
        let collected = if many { self.threads.install(&shared.dir, || settle(true))? } else { settle(false) };
        self.report.empty_series = collected.series as u64;
        self.shared.chunks.trim();
        Ok(())
    }

    fn progress(&self, segment: u64) {
        if let Some(progress) = &self.shared.options.progress {
            let Self { bytes_done, bytes_total, last_segment, .. } = *self;
            let bytes_done = bytes_done.min(bytes_total);
            progress(&Progress { bytes_done, bytes_total, segment, last_segment });
        }
    }
}
