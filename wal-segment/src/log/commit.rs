//! Group commit: whoever finds nobody writing writes for all who wait.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, MutexGuard, PoisonError};

use parking_lot::Mutex;

use crate::Compression;
use crate::compression::{Compressor, MAX_RECORD_LEN};
use crate::error::{Error, Position};
use crate::log::options::{Durability, LogOptions};
use crate::log::writer::Writer;

/// The callers that wait, and who writes for them.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// The standard library's lock and condition: one call of the system wakes all who wait, while `parking_lot` hands them
    /// the lock one after the other, a call and a change of threads each.
    queue: std::sync::Mutex<Queue>,
    done: Condvar,
    /// What `queue.led` is, to be looked at without the lock: a hint.
    busy: AtomicBool,
    /// How many `queue.waiting` holds, to be looked at without the lock: a hint.
    arrived: AtomicUsize,
    /// Slots between two uses, for their buffers' and compressors' sake.
    idle: Mutex<Vec<Arc<Slot>>>,
}

#[derive(Debug, Default)]
struct Queue {
    /// Somebody writes.
    led: bool,
    waiting: Vec<Arc<Slot>>,
    /// The leader's list of the round before, for its capacity.
    spare: Vec<Arc<Slot>>,
    /// Callers in the round before.
    last: usize,
}

/// How often a leader that has fewer callers than the round before lets other threads run, since the last of them came.
/// Those whom that round acknowledged are about to come back: without waiting for them the first of them would sync alone,
/// and the rest be a round behind. What it costs if none of them comes is far less than a sync.
const PATIENCE: u32 = 64;

/// How often a caller looks whether the one who writes has finished before it queues up and sleeps: about as long as a
/// write of some kilobytes takes, which is less than to fall asleep and to be woken.
const LOOKS: u32 = 400;

/// One caller's records on the way to the log, and what became of them.
#[derive(Debug, Default)]
struct Slot(Mutex<SlotState>);

#[derive(Debug, Default)]
struct SlotState {
    staged: Staged,
    outcome: Option<Result<Position, Error>>,
}

/// Records in their stored form.
#[derive(Debug, Default)]
pub(crate) struct Staged {
    bytes: Vec<u8>,
    records: Vec<(usize, Compression)>,
    compressor: Compressor,
}

impl Staged {
    fn fill<'a>(&mut self, compression: Compression, records: impl IntoIterator<Item = &'a [u8]>) -> Result<(), Error> {
        self.bytes.clear();
        self.records.clear();
        for record in records {
            check_len(record)?;
            let compression = self.compressor.append(compression, record, &mut self.bytes);
            self.records.push((self.bytes.len(), compression));
        }
        Ok(())
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], Compression)> {
        let mut start = 0;
        self.records.iter().map(move |&(end, compression)| {
            let stored = &self.bytes[start..end];
            start = end;
            (stored, compression)
        })
    }
}

fn check_len(record: &[u8]) -> Result<(), Error> {
    if record.len() > MAX_RECORD_LEN {
        return Err(Error::RecordTooLarge { len: record.len(), limit: MAX_RECORD_LEN });
    }
    Ok(())
}

impl Group {
    pub(crate) fn append<'a>(
        &self,
        writer: &Mutex<Writer>,
        options: &LogOptions,
        records: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Position, Error> {
        // Nothing to encode and nobody there: the records go from the caller's memory into the page.
        let shared = options.durability == Durability::Always;
        if options.compression == Compression::None && !shared {
            self.look_out();
        }
        if options.compression == Compression::None && self.lead_alone(shared) {
            let outcome = writer.lock().round(|round| {
                let mut first = None;
                for record in records {
                    check_len(record)?;
                    let position = round.push(record, Compression::None)?;
                    first.get_or_insert(position);
                }
                Ok(first)
            });
            self.step_down();
            return outcome;
        }
        let slot = self.idle.lock().pop().unwrap_or_default();
        let filled = slot.0.lock().staged.fill(options.compression, records);
        if !shared {
            self.look_out();
        }
        let outcome = match filled {
            Ok(()) => self.commit(writer, &slot, shared),
            Err(e) => Err(e),
        };
        self.idle.lock().push(slot);
        outcome
    }

    /// Records that are in their stored form already: nothing to do outside of the writer's lock.
    pub(crate) fn append_stored<'a>(
        &self,
        writer: &Mutex<Writer>,
        records: impl IntoIterator<Item = (&'a [u8], Compression)>,
    ) -> Result<Position, Error> {
        writer.lock().round(|round| {
            let mut first = None;
            for (stored, compression) in records {
                check_len(stored)?;
                let position = round.push(stored, compression)?;
                first.get_or_insert(position);
            }
            Ok(first)
        })
    }

    /// A caller that panics in the middle of an encoding or a write leaves the queue as consistent as it was.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `shared`: whether a round costs a sync, so that others are worth waiting for.
    fn lead_alone(&self, shared: bool) -> bool {
        let mut queue = self.queue();
        let alone = !queue.led && queue.waiting.is_empty() && !(shared && queue.last > 1);
        if alone {
            self.set_led(&mut queue, true);
        }
        alone
    }

    fn set_led(&self, queue: &mut Queue, led: bool) {
        queue.led = led;
        self.busy.store(led, Relaxed);
    }

    /// Waits for a moment, awake, while somebody writes.
    fn look_out(&self) {
        for _ in 0..LOOKS {
            if !self.busy.load(Relaxed) {
                return;
            }
            std::hint::spin_loop();
        }
    }

    fn step_down(&self) {
        let mut queue = self.queue();
        self.set_led(&mut queue, false);
        let waiting = !queue.waiting.is_empty();
        drop(queue);
        if waiting {
            self.done.notify_all();
        }
    }

    fn commit(&self, writer: &Mutex<Writer>, slot: &Arc<Slot>, shared: bool) -> Result<Position, Error> {
        let mut queue = self.queue();
        queue.waiting.push(slot.clone());
        self.arrived.store(queue.waiting.len(), Relaxed);
        while queue.led {
            queue = self.done.wait(queue).unwrap_or_else(PoisonError::into_inner);
            if let Some(outcome) = slot.0.lock().outcome.take() {
                return outcome;
            }
        }
        self.set_led(&mut queue, true);
        let expected = queue.last;
        if shared && queue.waiting.len() < expected {
            drop(queue);
            let (mut seen, mut left) = (0, PATIENCE);
            while left > 0 && seen < expected {
                std::thread::yield_now();
                let arrived = self.arrived.load(Relaxed);
                left = if arrived > seen { PATIENCE } else { left - 1 };
                seen = arrived;
            }
            queue = self.queue();
        }
        let mut group = std::mem::take(&mut queue.spare);
        std::mem::swap(&mut group, &mut queue.waiting);
        queue.last = group.len();
        drop(queue);

        lead(&mut writer.lock(), &group);

        let outcome = slot.0.lock().outcome.take().unwrap_or(Err(Error::Closed));
        let others = group.len() > 1;
        group.clear();
        let mut queue = self.queue();
        queue.spare = group;
        self.set_led(&mut queue, false);
        let waiting = others || !queue.waiting.is_empty();
        drop(queue);
        if waiting {
            self.done.notify_all();
        }
        outcome
    }
}

/// Writes for all: one write, one fsync, one outcome.
fn lead(writer: &mut Writer, group: &[Arc<Slot>]) {
    let mut slots: Vec<_> = group.iter().map(|slot| slot.0.lock()).collect();
    let mut places = Vec::with_capacity(slots.len());
    let outcome = writer.round(|round| {
        let mut first = None;
        for slot in &slots {
            let start = round.position();
            let mut place = None;
            for (stored, compression) in slot.staged.iter() {
                let position = round.push(stored, compression)?;
                place.get_or_insert(position);
                first.get_or_insert(position);
            }
            places.push(place.unwrap_or(start));
        }
        Ok(first)
    });
    match outcome {
        Ok(_) => slots.iter_mut().zip(places).for_each(|(slot, place)| slot.outcome = Some(Ok(place))),
        Err(e) => slots.iter_mut().for_each(|slot| slot.outcome = Some(Err(e.clone()))),
    }
}
