//! Group commit: whoever finds nobody writing writes for all who wait.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, MutexGuard, PoisonError};

use parking_lot::Mutex;

use crate::Compression;
use crate::compression::{Compressor, MAX_RECORD_LEN};
use crate::error::{Error, Position};
use crate::log::options::{Durability, LogOptions};
use crate::log::writer::{Round, Writer};

/// The callers that wait, and who writes for them.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// The standard library's lock and condition: one call of the system wakes all who wait, while `parking_lot` hands them
    /// the lock one after the other, a call and a change of threads each.
    queue: std::sync::Mutex<Queue>,
    /// Where the callers of a round wait, by its number's last bit: those of the round that is written, and those of the
    /// next, of whom the end of that one concerns only who leads then.
    done: [Condvar; 2],
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
    /// Number of the round that those who wait are in.
    next: u64,
    /// Rounds before this one have their outcomes.
    finished: u64,
    waiting: Vec<Arc<Slot>>,
    /// The leader's list of the round before, for its capacity.
    spare: Vec<Arc<Slot>>,
    /// Callers that the next round may have: those of the round before, and those who came meanwhile.
    expected: usize,
    /// How patient the next leader is: see [`PATIENCE`].
    patience: u32,
}

/// How often a leader that has fewer callers than may come lets other threads run, since the last of them came.
/// Those whom the round before acknowledged are about to come back: without waiting for them the first of them would sync
/// alone, and the rest be a round behind. The most is about what a sleeping processor takes to wake up and run one of
/// them, a quarter of a sync or so. Whenever it was in vain the next leader is half as patient, else twice: callers who
/// have something else to do between two commits are not worth it.
const PATIENCE: RangeInclusive<u32> = 64..=256;

/// How often a caller looks whether the one who writes has finished before it queues up and sleeps: about as long as a
/// write of some kilobytes takes, which is less than to fall asleep and to be woken.
const LOOKS: u32 = 400;

/// One caller's records on the way to the log, and what became of them.
#[derive(Debug, Default)]
struct Slot(Mutex<SlotState>);

impl Slot {
    fn take_outcome(&self) -> Result<Position, Error> {
        self.0.lock().outcome.take().unwrap_or(Err(Error::Closed))
    }
}

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
        let shared = options.durability == Durability::Always;
        if options.compression == Compression::None {
            if !shared {
                self.look_out();
            }
            // Nothing to encode and nobody there: the records go from the caller's memory into the page.
            if self.lead_alone(shared) {
                return self.write_alone(writer, records.into_iter().map(|record| (record, Compression::None)));
            }
        }
        let slot = self.idle.lock().pop().unwrap_or_default();
        let outcome = self.append_staged(writer, options.compression, shared, &slot, records);
        self.idle.lock().push(slot);
        outcome
    }

    fn append_staged<'a>(
        &self,
        writer: &Mutex<Writer>,
        compression: Compression,
        shared: bool,
        slot: &Arc<Slot>,
        records: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Position, Error> {
        let mut state = slot.0.lock();
        state.staged.fill(compression, records)?;
        if !shared {
            self.look_out();
        }
        if compression != Compression::None && self.lead_alone(shared) {
            return self.write_alone(writer, state.staged.iter());
        }
        drop(state);
        self.commit(writer, slot, shared)
    }

    /// Records that are in their stored form already: nothing to do outside of the writer's lock.
    pub(crate) fn append_stored<'a>(
        &self,
        writer: &Mutex<Writer>,
        records: impl IntoIterator<Item = (&'a [u8], Compression)>,
    ) -> Result<Position, Error> {
        writer.lock().round(|round| push(round, records))
    }

    /// Nothing of a caller's runs under this lock: whoever panics leaves the queue as consistent as it was.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Becomes the leader if nobody else is there. `shared`: whether a round costs a sync, so that others are worth waiting
    /// for.
    fn lead_alone(&self, shared: bool) -> bool {
        // The lock of a queue that gathers is better left to those who come to it.
        if self.busy.load(Relaxed) {
            return false;
        }
        let mut queue = self.queue();
        let alone = !queue.led && queue.waiting.is_empty() && !(shared && queue.expected > 1);
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

    /// Writes for one caller, who leads.
    fn write_alone<'a>(
        &self,
        writer: &Mutex<Writer>,
        records: impl IntoIterator<Item = (&'a [u8], Compression)>,
    ) -> Result<Position, Error> {
        let _leading = Leading(self);
        writer.lock().round(|round| push(round, records))
    }

    /// Ends a round that had so many callers. Somebody has to lead the next if anybody waits for it: who is woken here, or
    /// whoever comes first. One of the round before this one, whose callers wait at the same place as the next one's, may still
    /// sleep there and take the wake-up: then its leader's, for all of them, is still to come and wakes both.
    fn step_down(&self, mut queue: MutexGuard<'_, Queue>, callers: usize) {
        queue.expected = callers + queue.waiting.len();
        self.set_led(&mut queue, false);
        let next = (!queue.waiting.is_empty()).then(|| self.done(queue.next));
        drop(queue);
        if let Some(next) = next {
            next.notify_one();
        }
    }

    fn done(&self, round: u64) -> &Condvar {
        &self.done[(round % 2) as usize]
    }

    fn commit(&self, writer: &Mutex<Writer>, slot: &Arc<Slot>, shared: bool) -> Result<Position, Error> {
        let mut queue = self.queue();
        queue.waiting.push(slot.clone());
        self.arrived.store(queue.waiting.len(), Relaxed);
        let mine = queue.next;
        while queue.led {
            queue = self.done(mine).wait(queue).unwrap_or_else(PoisonError::into_inner);
            if queue.finished > mine {
                drop(queue);
                return slot.take_outcome();
            }
        }
        self.set_led(&mut queue, true);
        let (expected, patience) = (queue.expected, queue.patience.clamp(*PATIENCE.start(), *PATIENCE.end()));
        if shared && queue.waiting.len() < expected {
            drop(queue);
            let (mut seen, mut left) = (0, patience);
            while left > 0 && seen < expected {
                std::thread::yield_now();
                let arrived = self.arrived.load(Relaxed);
                left = if arrived > seen { patience } else { left - 1 };
                seen = arrived;
            }
            queue = self.queue();
            queue.patience = if seen < expected { patience / 2 } else { patience * 2 };
        }
        let mut group = std::mem::take(&mut queue.spare);
        std::mem::swap(&mut group, &mut queue.waiting);
        queue.next += 1;
        drop(queue);

        lead(&mut writer.lock(), &group);

        let callers = group.len();
        group.clear();
        let mut queue = self.queue();
        queue.spare = group;
        queue.finished = mine + 1;
        self.step_down(queue, callers);
        if callers > 1 {
            self.done(mine).notify_all();
        }
        slot.take_outcome()
    }
}

/// One caller leads, for itself: also when the records, which come out of its own iterator, end in a panic.
struct Leading<'a>(&'a Group);

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        self.0.step_down(self.0.queue(), 1);
    }
}

fn push<'a>(
    round: &mut Round<'_>,
    records: impl IntoIterator<Item = (&'a [u8], Compression)>,
) -> Result<Option<Position>, Error> {
    let mut first = None;
    for (stored, compression) in records {
        check_len(stored)?;
        let position = round.push(stored, compression)?;
        first.get_or_insert(position);
    }
    Ok(first)
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::sync::Arc;

    use tsdb_vfs::{Fs, SimFs};

    use crate::{Compression, Durability, Log, LogOptions, LogReader};

    /// Records come out of the caller's own iterator: if that panics nothing of the round stays, and nobody is kept out.
    #[test]
    fn a_panic_in_the_callers_iterator_takes_its_round_back() {
        let long = vec![7; 40_000];
        for (durability, compression, segment_size) in [
            (Durability::Always, Compression::None, 1 << 20),
            (Durability::Always, Compression::Snappy, 1 << 20),
            (Durability::Rotate, Compression::None, 1 << 17),
            (Durability::Rotate, Compression::Zstd, 1 << 17),
        ] {
            for before in [0, 1, 5, 60] {
                let (fs, dir): (Fs, _) = (Arc::new(SimFs::new(1)), Path::new("/wal"));
                let options = LogOptions { durability, compression, segment_size, ..LogOptions::default() };
                let (log, _) = Log::open(fs.clone(), dir, options).expect("an empty disk");
                log.append([&b"kept"[..]]).expect("room");
                let at = log.position();
                let records = (0..).map(|n| if n < before { &long[..n * 600] } else { panic!("no more of them") });
                let append = std::panic::AssertUnwindSafe(|| log.append(records));
                assert!(std::panic::catch_unwind(append).is_err());
                if compression == Compression::None && before < 4 {
                    assert_eq!(log.position(), at);
                }
                let others = std::thread::scope(|scope| scope.spawn(|| log.append([&b"another's"[..]])).join());
                others.expect("no panic").expect("room");
                log.append([&b"mine"[..]]).expect("room");
                log.close().expect("a disk");
                let mut reader = LogReader::open(fs, dir).expect("segments");
                let mut found = Vec::new();
                while let Some(record) = reader.next().expect("sound") {
                    found.push(String::from_utf8_lossy(record.bytes).into_owned());
                }
                assert_eq!(found, ["kept", "another's", "mine"], "{durability:?} {compression} {before}");
            }
        }
    }

    /// Some come back at once, some later, some not at all: nobody waits for ever, and everybody's record is where they
    /// were told.
    #[test]
    fn callers_that_come_and_go_are_all_served() {
        for (durability, compression) in [
            (Durability::Always, Compression::None),
            (Durability::Always, Compression::Snappy),
            (Durability::Rotate, Compression::Snappy),
        ] {
            let (fs, dir): (Fs, _) = (Arc::new(SimFs::new(1)), Path::new("/wal"));
            let options = LogOptions { durability, compression, background_sync: false, ..LogOptions::default() };
            let (log, _) = Log::open(fs.clone(), dir, options).expect("an empty disk");
            let log = &log;
            let written: BTreeMap<_, _> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8_usize)
                    .map(|thread| {
                        scope.spawn(move || {
                            let append = |i| {
                                (0..(thread * i) % 5).for_each(|_| std::thread::yield_now());
                                let record = format!("record {i} of thread {thread}").repeat(1 + i % 3);
                                (log.append([record.as_bytes()]).expect("room"), record)
                            };
                            (0..60 * (thread + 1)).map(append).collect::<Vec<_>>()
                        })
                    })
                    .collect();
                threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
            });
            assert_eq!(written.len(), 60 * 36, "two were told the same place");
            let queue = log.group.queue();
            assert!(!queue.led && queue.waiting.is_empty() && queue.next == queue.finished);
            drop(queue);
            log.sync().expect("a disk");
            let mut reader = LogReader::open(fs, dir).expect("segments");
            let mut found = BTreeMap::new();
            while let Some(record) = reader.next().expect("sound") {
                found.insert(record.position, String::from_utf8(record.bytes.to_vec()).expect("text"));
            }
            assert_eq!(found, written, "{durability:?} {compression}");
        }
    }
}
