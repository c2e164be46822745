//! The head: what its parts share, opening and closing.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use head_chunks::files::ChunkFiles;
use tsdb_model::SeriesRef;
use tsdb_vfs::{Fs, VfsLock};
use wal_segment::Log;

use crate::append::{AppendBuffers, Appender};
use crate::bounds::HeadTime;
use crate::chunk_writer::{Background, ChunkQueue};
use crate::data_dir;
use crate::directory::Directory;
use crate::index::LabelIndex;
use crate::isolation::Isolation;
use crate::options::{FloatEncoding, HeadOptions};
use crate::partition::{ChunkRules, PartitionCell};
use crate::refs::FreshRefs;
use crate::replay::{self, ReplayReport};
use crate::sync::{Mutex, RwLock};
use crate::truncate::LogState;
use crate::{HeadError, stats};

/// The in-memory part of a database and its log: series, their newest samples, and what it takes to have them back after
/// a crash. See the [crate's front page](crate) for an example.
///
/// All methods take `&self` and may be called from many threads.
#[derive(Debug)]
pub struct Head {
    pub(crate) shared: Arc<Shared>,
    background: Option<Background>,
}

/// What appenders, readers and background work share.
///
/// Locks are taken in the order index, directory, partition, then the small ones; nobody waits for the log while holding
/// one of them.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) fs: Fs,
    pub(crate) dir: PathBuf,
    pub(crate) options: HeadOptions,
    pub(crate) rules: ChunkRules,
    pub(crate) time: HeadTime,
    pub(crate) isolation: Arc<Isolation>,
    pub(crate) index: RwLock<LabelIndex>,
    pub(crate) directory: RwLock<Directory>,
    /// Taken while the index is held for writing.
    pub(crate) refs: Mutex<FreshRefs>,
    /// `None` when opened for reading only.
    pub(crate) log: Option<Log>,
    pub(crate) chunks: ChunkFiles,
    pub(crate) chunk_queue: ChunkQueue,
    /// Series of which no record is in the log yet.
    pub(crate) unlogged: Mutex<HashSet<u64>>,
    /// Held while such a record is being written, so that no sample of the series gets into the log before it. Taken
    /// before any other lock.
    pub(crate) logging_series: Mutex<()>,
    pub(crate) log_state: Mutex<LogState>,
    pub(crate) buffers: Mutex<Vec<AppendBuffers>>,
    /// Held by whoever truncates.
    pub(crate) truncating: Mutex<()>,
    _lock: Option<Box<dyn VfsLock>>,
}

impl Head {
    /// Opens the head of the data directory `dir`, which is created if need be: takes the lock, replays chunk files,
    /// checkpoint and log, and starts a new segment. Returns the head and what replay found.
    ///
    /// # Errors
    /// When the directory is locked or cannot be read or written, and under
    /// [`DamagePolicy::Strict`](crate::DamagePolicy::Strict) when anything but the log's torn end is damaged.
    pub fn open(fs: Fs, dir: &Path, options: HeadOptions) -> Result<(Self, ReplayReport), HeadError> {
        options.check()?;
        fs.create_dir_all(dir).map_err(HeadError::io(dir))?;
        let lock = if options.lock { Some(data_dir::lock(&fs, dir)?) } else { None };
        let (mut shared, report) = replay::open(fs, dir, options, false)?;
        shared._lock = lock;
        let shared = Arc::new(shared);
        let background = (shared.options.chunk_write_bytes > 0).then(|| Background::start(&shared));
        Ok((Self { shared, background }, report))
    }

    /// Opens the head for reading only: no lock, no new segment, nothing written. A Prometheus may be running on the
    /// directory; what it writes afterwards is not seen.
    ///
    /// # Errors
    /// When the directory cannot be read, or replay finds it changing too often (a checkpoint that replaces what is being
    /// read makes it start over).
    pub fn open_read_only(fs: Fs, dir: &Path, options: HeadOptions) -> Result<(Self, ReplayReport), HeadError> {
        options.check()?;
        let (shared, report) = replay::open(fs, dir, options, true)?;
        Ok((Self { shared: Arc::new(shared), background: None }, report))
    }

    /// Starts a transaction.
    #[must_use]
    pub fn appender(&self) -> Appender {
        Appender::new(Arc::clone(&self.shared))
    }

    /// Lowest time (ms) of the data, `i64::MAX` while there is none.
    #[must_use]
    pub fn min_time(&self) -> i64 {
        self.shared.time.min()
    }

    /// Highest time (ms) of the data, `i64::MIN` while there is none.
    #[must_use]
    pub fn max_time(&self) -> i64 {
        self.shared.time.max()
    }

    /// The lowest time (ms) an appender that starts now accepts; `None` while the head has no data and takes any.
    #[must_use]
    pub fn appendable_min_valid_time(&self) -> Option<i64> {
        let time = &self.shared.time;
        time.initialised().then(|| time.appendable_min_valid())
    }

    /// Whether the head holds more than one and a half chunk ranges, so that the oldest one can become a block.
    #[must_use]
    pub fn compactable(&self) -> bool {
        self.shared.time.compactable()
    }

    /// Number of series.
    #[must_use]
    pub fn series_count(&self) -> usize {
        self.shared.index.read().len()
    }

    /// Sizes and counts. Walks all series.
    #[must_use]
    pub fn stats(&self) -> stats::HeadStats {
        stats::collect(&self.shared)
    }

    /// The labels of a series; `None` for a ref that no live series has.
    #[must_use]
    pub fn labels(&self, series: SeriesRef) -> Option<tsdb_model::Labels> {
        self.shared.index.read().labels(series.0)
    }

    /// The label names in use, sorted.
    #[must_use]
    pub fn label_names(&self) -> Vec<Vec<u8>> {
        self.shared.index.read().label_names()
    }

    /// The values of a label name, sorted.
    #[must_use]
    pub fn label_values(&self, name: &[u8]) -> Vec<Vec<u8>> {
        self.shared.index.read().label_values(name)
    }

    /// Makes everything that was committed durable, whatever the log's durability is.
    ///
    /// # Errors
    /// When the log's sync fails: nothing is known then of what was not durable before.
    pub fn sync(&self) -> Result<(), HeadError> {
        Ok(self.shared.log()?.sync()?)
    }

    /// The log, for its position, exposed bytes and recovery; `None` when opened for reading only.
    #[must_use]
    pub fn log(&self) -> Option<&Log> {
        self.shared.log.as_ref()
    }

    /// Writes all full chunks to their files.
    ///
    /// # Errors
    /// When a file cannot be written. Chunks that were not written stay in memory; nothing is lost.
    pub fn write_chunks(&self) -> Result<usize, HeadError> {
        self.shared.write_chunks()
    }

    /// Writes full chunks, makes the log durable and releases the lock. Dropping a head instead leaves what a killed
    /// process leaves.
    ///
    /// # Errors
    /// When something could not be written. The log has every committed sample even if the chunk files fail.
    pub fn close(mut self) -> Result<(), HeadError> {
        self.background = None;
        if self.shared.log.is_none() {
            return Ok(());
        }
        let written = self.shared.write_chunks().map(|_| ());
        match Arc::try_unwrap(self.shared) {
            Ok(shared) => {
                let Shared { log, chunks, .. } = shared;
                let closed = chunks.close();
                if let Some(log) = log {
                    log.close()?;
                }
                closed?;
            }
            // Somebody still reads or appends; the lock is released when they are done.
            Err(shared) => {
                shared.chunks.sync()?;
                shared.log()?.sync()?;
            }
        }
        written
    }
}

impl Shared {
    pub(crate) fn new(
        fs: Fs,
        dir: &Path,
        options: HeadOptions,
        min_valid: i64,
        log: Option<Log>,
        chunks: ChunkFiles,
    ) -> Self {
        let xor2 = options.float_encoding == FloatEncoding::Xor2;
        let histogram_st = options.histogram_start_timestamps || options.start_timestamps;
        Self {
            rules: ChunkRules::new(options.chunk_range, options.samples_per_chunk, xor2, histogram_st),
            time: HeadTime::new(min_valid, options.chunk_range),
            isolation: Arc::new(Isolation::default()),
            index: RwLock::new(LabelIndex::default()),
            directory: RwLock::new(Directory::default()),
            refs: Mutex::new(FreshRefs::default()),
            chunk_queue: ChunkQueue::default(),
            unlogged: Mutex::new(HashSet::new()),
            logging_series: Mutex::new(()),
            log_state: Mutex::new(LogState::default()),
            buffers: Mutex::new(Vec::new()),
            truncating: Mutex::new(()),
            fs,
            dir: dir.to_owned(),
            options,
            log,
            chunks,
            _lock: None,
        }
    }

    pub(crate) fn log(&self) -> Result<&Log, HeadError> {
        self.log.as_ref().ok_or(HeadError::ReadOnly)
    }

    /// The partition of a ref, if it has live series.
    pub(crate) fn cell(&self, number: u64) -> Option<Arc<PartitionCell>> {
        self.directory.read().get(number).cloned()
    }

    /// As [`cell`](Self::cell), for who was in another partition before: mostly in the one before this.
    #[inline]
    pub(crate) fn cell_behind(&self, before: Option<&PartitionCell>, number: u64) -> Option<Arc<PartitionCell>> {
        let Some(before) = before.filter(|before| before.number.wrapping_add(1) == number) else {
            return self.cell(number);
        };
        before.next().or_else(|| {
            let next = self.cell(number)?;
            before.found_next(&next);
            Some(next)
        })
    }

    /// No new series gets this ref or a lower one.
    pub(crate) fn reserve_ref(&self, series: u64) {
        self.refs.lock().reserve(series);
    }
}
