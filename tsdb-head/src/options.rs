//! How a head is opened.

use std::sync::Arc;
use std::time::Duration;

use wal_segment::LogOptions;

use crate::replay::Progress;

/// Two hours: the length of the blocks the reference makes.
pub const DEFAULT_CHUNK_RANGE: i64 = 2 * 60 * 60 * 1000;

/// How new float chunks are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FloatEncoding {
    /// XOR, the reference's default.
    #[default]
    Xor,
    /// XOR2: smaller for many series, and the only float encoding with start timestamps.
    Xor2,
}

/// What opening does about damaged data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DamagePolicy {
    /// Opens with what is sound and says in the report what is not. Damaged files are kept in a `quarantine` directory.
    #[default]
    Salvage,
    /// Fails on damage that is not just the torn end of the log, and changes nothing.
    Strict,
}

/// How a head is opened. The defaults are the reference's.
#[derive(Clone)]
pub struct HeadOptions {
    /// Length in ms of the aligned time ranges that become blocks; no chunk reaches across their border. At least 2.
    pub chunk_range: i64,
    /// Samples a float chunk is meant to have (120), 4 to 32,767. A chunk never has more than twice as many.
    pub samples_per_chunk: u16,
    /// Encoding of new float chunks.
    pub float_encoding: FloatEncoding,
    /// Whether new histogram chunks use the encodings with room for start timestamps.
    pub histogram_start_timestamps: bool,
    /// Whether start timestamps are kept: in the log (records of version 2) and in chunks. Needs [`FloatEncoding::Xor2`];
    /// histogram chunks then have room for them too. Without it appended start timestamps are dropped, as the reference
    /// does, but those that a log already holds are read back all the same.
    pub start_timestamps: bool,
    /// Whether readers are kept from seeing parts of a commit.
    pub isolation: bool,
    /// Segment size, compression and durability of the log.
    pub log: LogOptions,
    /// The lowest time (ms) that is valid: older samples of the log are not loaded, older ones are refused. `None` derives
    /// it from the blocks in the directory, see [`data_dir::min_valid_time`](crate::data_dir::min_valid_time).
    pub min_valid_time: Option<i64>,
    /// Whether to take the directory's `lock` file. Without it the caller answers for being alone.
    pub lock: bool,
    /// Threads that replay the log; 0 means as many as there are processors.
    pub replay_threads: usize,
    /// What to do about damage.
    pub damage: DamagePolicy,
    /// Full chunks are written to their files in the background once so many bytes of them wait, or after
    /// [`chunk_write_interval`](Self::chunk_write_interval). 0 leaves it to [`Head::write_chunks`](crate::Head::write_chunks)
    /// and [`Head::close`](crate::Head::close).
    pub chunk_write_bytes: usize,
    /// The longest time full chunks wait for the background writer; a minute in the reference.
    pub chunk_write_interval: Duration,
    /// Called now and then during replay.
    pub progress: Option<ProgressFn>,
}

/// What is told about a running replay.
pub type ProgressFn = Arc<dyn Fn(&Progress) + Send + Sync>;

impl Default for HeadOptions {
    fn default() -> Self {
        Self {
            chunk_range: DEFAULT_CHUNK_RANGE,
            samples_per_chunk: 120,
            float_encoding: FloatEncoding::Xor,
            histogram_start_timestamps: false,
            start_timestamps: false,
            isolation: true,
            log: LogOptions::default(),
            min_valid_time: None,
            lock: true,
            replay_threads: 0,
            damage: DamagePolicy::Salvage,
            chunk_write_bytes: 4 << 20,
            chunk_write_interval: Duration::from_secs(60),
            progress: None,
        }
    }
}

impl std::fmt::Debug for HeadOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeadOptions")
            .field("chunk_range", &self.chunk_range)
            .field("samples_per_chunk", &self.samples_per_chunk)
            .field("float_encoding", &self.float_encoding)
            .field("start_timestamps", &self.start_timestamps)
            .field("isolation", &self.isolation)
            .field("log", &self.log)
            .field("min_valid_time", &self.min_valid_time)
            .field("damage", &self.damage)
            .finish_non_exhaustive()
    }
}

impl HeadOptions {
    pub(crate) fn check(&self) -> Result<(), crate::HeadError> {
        let bad = |option, expected| Err(crate::HeadError::Option { option, expected });
        if self.chunk_range < 2 {
            return bad("chunk_range", "at least 2 ms");
        }
        if !(4..=32_767).contains(&self.samples_per_chunk) {
            return bad("samples_per_chunk", "4 to 32767");
        }
        if self.start_timestamps && self.float_encoding == FloatEncoding::Xor {
            return bad("start_timestamps", "float_encoding XOR2, as XOR chunks have no room for them");
        }
        Ok(())
    }

    pub(crate) fn threads(&self) -> usize {
        match self.replay_threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        }
    }
}
