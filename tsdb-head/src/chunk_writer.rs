//! Full chunks on their way to the chunk files.

use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use head_chunks::files::NewChunk;
use tsdb_model::SeriesRef;

use crate::HeadError;
use crate::head::Shared;
use crate::partition::{Finished, Partition, PartitionCell};
use crate::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use crate::sync::{Condvar, Mutex};

/// Full chunks that are made and written in one go: a few microseconds.
const AT_ONCE: usize = 16;

/// Which partitions have full chunks, and how many bytes of them.
#[derive(Debug, Default)]
pub(crate) struct ChunkQueue {
    waiting: Mutex<Vec<Arc<PartitionCell>>>,
    bytes: AtomicUsize,
    wake: Condvar,
}

impl ChunkQueue {
    /// A partition has `bytes` more of full chunks.
    pub(crate) fn add(&self, cell: &Arc<PartitionCell>, bytes: usize, threshold: usize) {
        self.waiting.lock().push(Arc::clone(cell));
        if self.bytes.fetch_add(bytes, Relaxed) + bytes >= threshold && threshold > 0 {
            self.wake.notify_one();
        }
    }

    fn take(&self) -> Vec<Arc<PartitionCell>> {
        let mut waiting = self.waiting.lock();
        self.bytes.store(0, Relaxed);
        let mut cells = std::mem::take(&mut *waiting);
        drop(waiting);
        cells.sort_unstable_by_key(|cell| cell.number);
        cells.dedup_by_key(|cell| cell.number);
        cells
    }
}

impl Shared {
    /// Writes the full chunks of all partitions. Returns how many.
    pub(crate) fn write_chunks(&self) -> Result<usize, HeadError> {
        self.log()?;
        let mut written = 0;
        let cells = self.chunk_queue.take();
        for (i, cell) in cells.iter().enumerate() {
            match self.write_chunks_of(cell) {
                Ok(n) => written += n,
                Err(error) => {
                    self.chunk_queue.waiting.lock().extend_from_slice(&cells[i..]);
                    return Err(error);
                }
            }
        }
        Ok(written)
    }

    /// Writes one partition's full chunks: few at a time, since they have to be made, under the lock that its appenders need.
    pub(crate) fn write_chunks_of(&self, cell: &PartitionCell) -> Result<usize, HeadError> {
        let mut written = 0;
        loop {
            let mut data = cell.data.lock();
            if data.finished().is_empty() {
                return Ok(written);
            }
            written += self.write_first(cell.number, &mut data, AT_ONCE)?;
        }
    }

    /// Writes all full chunks of a partition whose lock the caller holds.
    pub(crate) fn write_finished(&self, number: u64, data: &mut Partition) -> Result<usize, HeadError> {
        self.write_first(number, data, usize::MAX)
    }

    fn write_first(&self, number: u64, data: &mut Partition, most: usize) -> Result<usize, HeadError> {
        let mut written = Vec::with_capacity(data.finished().len().min(most));
        let mut failed = None;
        Finished::assemble(data.finished().iter().take(most), |bytes| {
            let Some(done) = data.finished().get(written.len()).filter(|_| failed.is_none()) else { return };
            let chunk = NewChunk {
                series: SeriesRef(number << 8 | u64::from(done.low)),
                mint: done.mint,
                maxt: done.maxt,
                encoding: done.encoding,
                data: bytes,
                out_of_order: false,
            };
            match self.chunks.write(&chunk) {
                Ok(place) => written.push(u64::from(place)),
                Err(error) => failed = Some(error),
            }
        });
        data.written(&written);
        failed.map_or(Ok(written.len()), |error| Err(error.into()))
    }
}

/// The thread that writes full chunks while the head is open. Dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct Background {
    head: Weak<Shared>,
    stop: Arc<Mutex<bool>>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    pub(crate) fn start(head: &Arc<Shared>) -> Self {
        let stop = Arc::new(Mutex::new(false));
        let (weak, flag) = (Arc::downgrade(head), Arc::clone(&stop));
        let thread = std::thread::Builder::new().name("head-chunks".into()).spawn(move || run(&weak, &flag));
        if let Err(error) = &thread {
            tracing::warn!(%error, "no thread for writing chunks; they are written when the head is closed");
        }
        Self { head: Arc::downgrade(head), stop, thread: thread.ok() }
    }
}

fn run(head: &Weak<Shared>, stop: &Mutex<bool>) {
    while let Some(head) = head.upgrade() {
        {
            let mut waiting = head.chunk_queue.waiting.lock();
            if *stop.lock() {
                return;
            }
            let interval: Duration = head.options.chunk_write_interval;
            if head.chunk_queue.bytes.load(Relaxed) < head.options.chunk_write_bytes {
                head.chunk_queue.wake.wait_for(&mut waiting, interval);
            }
        }
        if *stop.lock() {
            return;
        }
        if let Err(error) = head.write_chunks() {
            // The chunks stay in memory and in the log; the next round tries again.
            tracing::warn!(%error, "writing chunks");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        *self.stop.lock() = true;
        if let Some(head) = self.head.upgrade() {
            // Under the queue's lock, so that the thread is either before its look at the flag or waiting.
            let _waiting = head.chunk_queue.waiting.lock();
            head.chunk_queue.wake.notify_all();
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes chunks has panicked");
        }
    }
}
