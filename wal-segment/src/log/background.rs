//! The thread that syncs while others append: complete segments, and, with an interval, what is exposed for that long.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::error::Error;
use crate::log::proof::prove_outside;
use crate::log::writer::Writer;

/// Stops and joins its thread when it is dropped.
#[derive(Debug)]
pub(super) struct Background {
    signal: Arc<Signal>,
    thread: Option<JoinHandle<()>>,
}

/// How the writer wakes the thread.
#[derive(Debug, Default)]
pub(super) struct Signal {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    requested: bool,
    stop: bool,
}

impl Background {
    /// Half the interval between two looks, so that what was appended right behind one is durable in time.
    pub(super) fn start(writer: Arc<Mutex<Writer>>, interval: Option<Duration>) -> std::io::Result<Self> {
        let signal = Arc::new(Signal::default());
        writer.lock().wake = Some(signal.clone());
        let theirs = signal.clone();
        let tick = interval.map(|interval| (interval / 2).max(Duration::from_micros(100)));
        let thread = std::thread::Builder::new().name("wal-sync".to_owned()).spawn(move || {
            while theirs.wait(tick) {
                // The writer keeps the failure and tells the next caller; a proof is tried again with the next sync.
                if let Err(e) = sync_outside(&writer).and_then(|()| prove_outside(&writer)) {
                    tracing::warn!(error = %e, "the log can't be synced");
                }
            }
        })?;
        Ok(Self { signal, thread: Some(thread) })
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.signal.state.lock().stop = true;
        self.signal.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed by it; there is nothing to add while dropping.
            drop(thread.join());
        }
    }
}

impl Signal {
    /// Asks for a sync now.
    pub(super) fn request(&self) {
        self.state.lock().requested = true;
        self.changed.notify_one();
    }

    /// Waits for a request, or a tick. False when it is time to go.
    fn wait(&self, tick: Option<Duration>) -> bool {
        let mut state = self.state.lock();
        while !state.stop && !state.requested {
            match tick {
                Some(tick) => {
                    if self.changed.wait_for(&mut state, tick).timed_out() {
                        break;
                    }
                }
                None => self.changed.wait(&mut state),
            }
        }
        state.requested = false;
        !state.stop
    }
}

/// Syncs everything that is written by now, without holding up those who append meanwhile.
pub(super) fn sync_outside(writer: &Mutex<Writer>) -> Result<(), Error> {
    let jobs = writer.lock().sync_jobs();
    for job in jobs {
        let outcome = job.run();
        let mut writer = writer.lock();
        match outcome {
            Ok(()) => writer.synced(&job),
            Err(e) => return Err(writer.sync_failed(&job, e)),
        }
        writer.write_notes();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tsdb_vfs::SimFs;

    use super::*;
    use crate::log::LogOptions;
    use crate::{Durability, Ledger, Log};

    /// The ledger calls a segment complete when all of it is durable, not when a sync ends that began before all of it
    /// was there.
    #[test]
    fn a_segment_that_grew_and_ended_during_a_sync_is_not_complete() {
        let (fs, dir): (tsdb_vfs::Fs, _) = (Arc::new(SimFs::new(1)), Path::new("/wal"));
        let options = LogOptions { durability: Durability::Rotate, background_sync: false, ..LogOptions::default() };
        let (log, _) = Log::open(fs.clone(), dir, options).expect("an empty disk");
        log.append([&b"one"[..]]).expect("room");
        let jobs = log.writer.lock().sync_jobs();
        log.append([&b"two"[..]]).expect("room");
        let mut writer = log.writer.lock();
        writer.rotate().expect("room");
        let entry = |writer: &mut Writer| {
            writer.write_notes();
            let entry = Ledger::load(&fs, dir).expect("a ledger").get(0).expect("an entry");
            (entry.records, entry.sealed)
        };
        for job in &jobs {
            job.run().expect("no failure");
            writer.synced(job);
        }
        assert_eq!(entry(&mut writer), (1, false));
        writer.sync().expect("no failure");
        assert_eq!(entry(&mut writer), (2, true));
    }
}
