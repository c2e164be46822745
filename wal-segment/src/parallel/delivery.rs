//! Work handed out to threads in order, and its results put in order again.

use std::collections::BTreeMap;

use parking_lot::{Condvar, Mutex};

/// Hands blocks out and puts their results in order; nobody runs further ahead than `ahead` blocks.
pub(super) struct Delivery<T> {
    total: usize,
    ahead: usize,
    state: Mutex<Ordered<T>>,
    /// Somebody waits for room to claim the next block in.
    room: Condvar,
    /// Who takes the results waits for the next.
    ready: Condvar,
}

struct Ordered<T> {
    claimed: usize,
    taken: usize,
    waiting: BTreeMap<usize, T>,
    stopped: bool,
}

/// What there is to do for the thread that takes the results.
pub(super) enum Next<T> {
    /// The next result.
    Take(T),
    /// A block, since the next result is not there yet.
    Read(usize),
}

/// Stops the others when its thread ends before the work does: by a panic, or because nobody wants the rest.
pub(super) struct StopOnDrop<'a, T>(pub(super) &'a Delivery<T>);

impl<T> Drop for StopOnDrop<'_, T> {
    fn drop(&mut self) {
        if std::thread::panicking() || self.0.state.lock().claimed < self.0.total {
            self.0.stop();
        }
    }
}

impl<T> Delivery<T> {
    pub(super) fn new(total: usize, ahead: usize) -> Self {
        let state = Mutex::new(Ordered { claimed: 0, taken: 0, waiting: BTreeMap::new(), stopped: false });
        Self { total, ahead, state, room: Condvar::new(), ready: Condvar::new() }
    }

    pub(super) fn stop(&self) {
        self.state.lock().stopped = true;
        self.room.notify_all();
        self.ready.notify_all();
    }

    /// The next block, when there is room for its result.
    pub(super) fn claim(&self) -> Option<usize> {
        let mut state = self.state.lock();
        loop {
            if state.stopped || state.claimed == self.total {
                return None;
            }
            if state.claimed < state.taken + self.ahead {
                state.claimed += 1;
                return Some(state.claimed - 1);
            }
            self.room.wait(&mut state);
        }
    }

    pub(super) fn put(&self, i: usize, done: T) {
        let mut state = self.state.lock();
        state.waiting.insert(i, done);
        if i == state.taken {
            drop(state);
            self.ready.notify_one();
        }
    }

    /// For the one thread that takes the results: it reads blocks, too, rather than wait for one.
    pub(super) fn next(&self) -> Option<Next<T>> {
        let mut state = self.state.lock();
        loop {
            let i = state.taken;
            if let Some(done) = state.waiting.remove(&i) {
                state.taken += 1;
                drop(state);
                self.room.notify_one();
                return Some(Next::Take(done));
            }
            if i == self.total || state.stopped {
                return None;
            }
            if state.claimed < (i + self.ahead).min(self.total) {
                state.claimed += 1;
                return Some(Next::Read(state.claimed - 1));
            }
            self.ready.wait(&mut state);
        }
    }
}
