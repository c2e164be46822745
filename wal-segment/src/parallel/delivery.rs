//! Work handed out to threads in order, and its results put in order again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex};

/// Hands blocks out and puts their results in order; nobody runs further ahead than `ahead` blocks.
pub(super) struct Delivery<T> {
    total: usize,
    ahead: usize,
    next: AtomicUsize,
    stopped: AtomicBool,
    state: Mutex<Ordered<T>>,
    changed: Condvar,
}

struct Ordered<T> {
    taken: usize,
    waiting: BTreeMap<usize, T>,
}

/// Stops the others when its thread ends before the work does: by a panic, or because nobody wants the rest.
pub(super) struct StopOnDrop<'a, T>(pub(super) &'a Delivery<T>);

impl<T> Drop for StopOnDrop<'_, T> {
    fn drop(&mut self) {
        if self.0.next.load(Ordering::Relaxed) < self.0.total || std::thread::panicking() {
            self.0.stop();
        }
    }
}

impl<T> Delivery<T> {
    pub(super) fn new(total: usize, ahead: usize) -> Self {
        let state = Mutex::new(Ordered { taken: 0, waiting: BTreeMap::new() });
        Self {
            total,
            ahead,
            next: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            state,
            changed: Condvar::new(),
        }
    }

    pub(super) fn stop(&self) {
        let _state = self.state.lock();
        self.stopped.store(true, Ordering::Relaxed);
        self.changed.notify_all();
    }

    pub(super) fn claim(&self) -> Option<usize> {
        let i = self.next.fetch_add(1, Ordering::Relaxed);
        if i >= self.total {
            return None;
        }
        let mut state = self.state.lock();
        while i >= state.taken + self.ahead && !self.stopped.load(Ordering::Relaxed) {
            self.changed.wait(&mut state);
        }
        (!self.stopped.load(Ordering::Relaxed)).then_some(i)
    }

    pub(super) fn put(&self, i: usize, done: T) {
        let mut state = self.state.lock();
        state.waiting.insert(i, done);
        if i == state.taken {
            self.changed.notify_all();
        }
    }

    pub(super) fn take(&self) -> Option<T> {
        let mut state = self.state.lock();
        loop {
            let i = state.taken;
            if let Some(done) = state.waiting.remove(&i) {
                state.taken += 1;
                self.changed.notify_all();
                return Some(done);
            }
            if i >= self.total || self.stopped.load(Ordering::Relaxed) {
                return None;
            }
            self.changed.wait(&mut state);
        }
    }
}
