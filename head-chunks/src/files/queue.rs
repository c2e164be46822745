//! The optional queue between [`write`](super::ChunkFiles::write) and the file: who writes a chunk need not wait for the
//! disk.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::layout::RecordHead;
use super::{ChunkMeta, ChunkRef, FilesError, Shared};

/// Chunks that have a place and are not written yet, in the order of their places.
#[derive(Debug)]
pub(super) struct Queue {
    capacity: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Arc<Job>>,
    /// Why the first job could not be written; it stays first, and is tried again when somebody has taken the error.
    failed: Option<FilesError>,
    /// The worker waits, after a failure, until it is told to try again.
    paused: bool,
    closing: bool,
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) at: ChunkRef,
    pub(super) head: RecordHead,
    pub(super) data: Vec<u8>,
}

impl Queue {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Adds a job, waiting while the queue is full. An error is that of an earlier job: this one was not taken.
    pub(super) fn push(&self, job: Job) -> Result<(), FilesError> {
        let mut state = self.state.lock();
        loop {
            if let Some(error) = state.retry() {
                self.changed.notify_all();
                return Err(error);
            }
            if state.jobs.len() < self.capacity {
                break;
            }
            self.changed.wait(&mut state);
        }
        state.jobs.push_back(Arc::new(job));
        self.changed.notify_all();
        Ok(())
    }

    /// Waits until everything is written, or an attempt failed.
    pub(super) fn drain(&self) -> Result<(), FilesError> {
        let mut state = self.state.lock();
        // An old failure is no reason not to try again.
        let _old = state.retry();
        self.changed.notify_all();
        loop {
            if let Some(error) = state.retry() {
                return Err(error);
            }
            if state.jobs.is_empty() {
                return Ok(());
            }
            self.changed.wait(&mut state);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state.lock().jobs.is_empty()
    }

    /// A chunk that waits here.
    pub(super) fn read(&self, chunk_ref: ChunkRef, data: &mut Vec<u8>) -> Option<ChunkMeta> {
        let state = self.state.lock();
        let at = state.jobs.binary_search_by_key(&chunk_ref, |job| job.at).ok()?;
        let job = Arc::clone(&state.jobs[at]);
        drop(state);
        data.extend_from_slice(&job.data);
        Some(job.head.meta(chunk_ref, &job.data))
    }

    /// The worker's loop: writes one job after the other until the queue is closed.
    pub(super) fn work(&self, shared: &Shared) {
        let mut state = self.state.lock();
        while !state.closing {
            let Some(job) = state.jobs.front().filter(|_| !state.paused).map(Arc::clone) else {
                self.changed.wait(&mut state);
                continue;
            };
            drop(state);
            let written = shared.put(job.at, &job.head, &job.data);
            state = self.state.lock();
            match written {
                Ok(()) => {
                    state.jobs.pop_front();
                }
                Err(error) => {
                    state.failed = Some(error);
                    state.paused = true;
                }
            }
            self.changed.notify_all();
        }
    }

    /// Ends the worker after the job it is at.
    pub(super) fn close(&self) {
        self.state.lock().closing = true;
        self.changed.notify_all();
    }
}

impl State {
    /// Takes the failure, and lets the worker try again.
    fn retry(&mut self) -> Option<FilesError> {
        let error = self.failed.take()?;
        self.paused = false;
        Some(error)
    }
}
