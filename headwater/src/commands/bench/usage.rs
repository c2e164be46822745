//! What the process has used: processor time, memory, time on the wall.

use std::path::Path;
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};
use tsdb_vfs::Fs;

/// A running measurement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch {
    wall: Instant,
    cpu: f64,
}

impl Stopwatch {
    /// Starts it.
    pub(crate) fn start() -> Self {
        Self { wall: Instant::now(), cpu: cpu_seconds() }
    }

    /// Seconds on the wall.
    pub(crate) fn seconds(&self) -> f64 {
        self.wall.elapsed().as_secs_f64()
    }

    /// Processor seconds of all threads.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        cpu_seconds() - self.cpu
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds of processor time are far below 2^53")]
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The largest resident set of this process so far, in bytes; 0 where the system does not say.
pub(crate) fn peak_rss(fs: &Fs) -> u64 {
    let mut text = vec![0; 16 * 1024];
    let read = fs.open_read(Path::new("/proc/self/status")).and_then(|file| file.read_full_at(&mut text, 0));
    text.truncate(read.unwrap_or(0));
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Bytes of all regular files in `dir` and below.
pub(crate) fn bytes_below(fs: &Fs, dir: &Path) -> std::io::Result<u64> {
    let mut sum = 0;
    if !fs.dir_exists(dir)? {
        return Ok(0);
    }
    for entry in fs.list(dir)? {
        sum += match entry.kind {
            tsdb_vfs::FileKind::File => entry.len,
            tsdb_vfs::FileKind::Dir => bytes_below(fs, &dir.join(&entry.name))?,
            _ => 0,
        };
    }
    Ok(sum)
}
