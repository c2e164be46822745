//! Which appends a reader may see, and whom a truncation has to wait for.
//!
//! Every appender gets an ascending id, every reader remembers the highest id given out and those still open: it sees
//! a sample if the append that brought it was complete when the reader began. Per sample that needs one byte while
//! somebody might still care ([`TxLog`]), and nothing once all appends up to it are closed and no older reader is left.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::sync::atomic::{AtomicI64, Ordering::SeqCst};
use crate::sync::{Condvar, Mutex};

/// The open appends and reads of one head.
#[derive(Debug, Default)]
pub(crate) struct Isolation {
    open: Mutex<Open>,
    /// Signalled whenever an append or a read ends.
    closed: Condvar,
}

#[derive(Debug, Default)]
struct Open {
    last_append: u64,
    /// Ascending ids, and the oldest time that each append has announced.
    appends: Vec<(u64, Arc<AtomicI64>)>,
    /// Of appends that are closed, for others: there is one every few microseconds.
    spare: Vec<Arc<AtomicI64>>,
    last_read: u64,
    reads: BTreeMap<u64, Read>,
}

#[derive(Debug)]
struct Read {
    watermark: u64,
    mint: i64,
    maxt: i64,
}

impl Open {
    /// The id below which every append is complete and known to be so by every open reader.
    fn watermark(&self) -> u64 {
        match self.reads.values().next() {
            Some(oldest) => oldest.watermark,
            None => self.lowest_append(),
        }
    }

    fn lowest_append(&self) -> u64 {
        self.appends.first().map_or(self.last_append + 1, |&(id, _)| id)
    }
}

impl Isolation {
    /// Opens an append.
    pub(crate) fn begin_append(self: &Arc<Self>) -> AppendTicket {
        let mut open = self.open.lock();
        open.last_append += 1;
        let id = open.last_append;
        let oldest_pending = open.spare.pop().unwrap_or_default();
        oldest_pending.store(i64::MAX, SeqCst);
        open.appends.push((id, Arc::clone(&oldest_pending)));
        AppendTicket { id, watermark: open.watermark(), oldest_pending, isolation: Arc::clone(self) }
    }

    /// Opens a read of `[mint, maxt]` (both inclusive).
    pub(crate) fn begin_read(self: &Arc<Self>, mint: i64, maxt: i64) -> ReadTicket {
        let mut open = self.open.lock();
        open.last_read += 1;
        let id = open.last_read;
        let view =
            ReadView { last_append: open.last_append, incomplete: open.appends.iter().map(|&(id, _)| id).collect() };
        let watermark = open.lowest_append();
        open.reads.insert(id, Read { watermark, mint, maxt });
        ReadTicket { id, view, isolation: Arc::clone(self) }
    }

    /// Waits until no open reader overlaps `[mint, end)` and no open append holds a sample older than `end`. Returns
    /// whether that came true before `deadline`.
    pub(crate) fn wait_until_quiet(&self, mint: i64, end: i64, deadline: Option<Instant>) -> bool {
        let mut open = self.open.lock();
        loop {
            let reading = open.reads.values().any(|read| read.mint < end && mint <= read.maxt);
            let appending = open.appends.iter().any(|(_, oldest)| oldest.load(SeqCst) < end);
            if !reading && !appending {
                return true;
            }
            match deadline {
                None => self.closed.wait(&mut open),
                Some(at) => {
                    if self.closed.wait_until(&mut open, at).timed_out() {
                        return false;
                    }
                }
            }
        }
    }

    #[cfg(test)]
    fn open_counts(&self) -> (usize, usize) {
        let open = self.open.lock();
        (open.appends.len(), open.reads.len())
    }
}

/// An open append; dropping it closes the append.
#[derive(Debug)]
pub(crate) struct AppendTicket {
    pub(crate) id: u64,
    /// Entries of [`TxLog`] below this id concern nobody any more.
    pub(crate) watermark: u64,
    oldest_pending: Arc<AtomicI64>,
    isolation: Arc<Isolation>,
}

impl AppendTicket {
    /// Announces a pending sample at `t`, before the caller checks `t` against the head's lower bound: a truncation
    /// raises that bound first and looks at the announcements afterwards, so one of the two sees the other.
    pub(crate) fn announce(&self, t: i64) {
        // Only this appender writes the value.
        if t < self.oldest_pending.load(crate::sync::atomic::Ordering::Relaxed) {
            self.oldest_pending.store(t, SeqCst);
        }
    }
}

impl Drop for AppendTicket {
    fn drop(&mut self) {
        let mut open = self.isolation.open.lock();
        if let Ok(at) = open.appends.binary_search_by_key(&self.id, |&(id, _)| id) {
            let (_, spare) = open.appends.remove(at);
            if open.spare.len() < 16 {
                open.spare.push(spare);
            }
        }
        drop(open);
        self.isolation.closed.notify_all();
    }
}

/// An open read; dropping it closes the read.
#[derive(Debug)]
pub(crate) struct ReadTicket {
    id: u64,
    view: ReadView,
    isolation: Arc<Isolation>,
}

impl ReadTicket {
    /// The read begins no earlier than `mint` after all: whoever waits for what is older need not wait for it.
    pub(crate) fn narrow(&self, mint: i64) {
        if let Some(read) = self.isolation.open.lock().reads.get_mut(&self.id) {
            read.mint = read.mint.max(mint);
        }
        self.isolation.closed.notify_all();
    }

    pub(crate) fn view(&self) -> &ReadView {
        &self.view
    }
}

impl Drop for ReadTicket {
    fn drop(&mut self) {
        self.isolation.open.lock().reads.remove(&self.id);
        self.isolation.closed.notify_all();
    }
}

/// What was complete when a reader began.
#[derive(Debug)]
pub(crate) struct ReadView {
    last_append: u64,
    /// Ascending; as many as there were open appenders.
    incomplete: Vec<u64>,
}

impl ReadView {
    fn sees(&self, append: u64) -> bool {
        append <= self.last_append && self.incomplete.binary_search(&append).is_err()
    }
}

/// Which append brought the newest samples of one partition's series: a list of runs, each an append id and the low
/// byte of the ref of every sample it brought, in order.
#[derive(Debug, Default)]
pub(crate) struct TxLog {
    runs: Vec<Run>,
    lows: Vec<u8>,
    highest: u64,
}

#[derive(Debug)]
struct Run {
    append: u64,
    end: u32,
}

impl TxLog {
    /// Forgets what no reader can ask for any more. Called when an append begins to write into the partition.
    pub(crate) fn forget_below(&mut self, watermark: u64) {
        if self.highest < watermark {
            self.runs.clear();
            self.lows.clear();
            self.highest = 0;
            return;
        }
        // Somebody reads for long: drop the complete prefix now and then, not at every commit.
        if self.runs.len() < 64 || self.runs.iter().take(32).any(|run| run.append >= watermark) {
            return;
        }
        let keep = self.runs.iter().position(|run| run.append >= watermark).unwrap_or(self.runs.len());
        let cut = self.runs[keep - 1].end;
        self.lows.drain(..cut as usize);
        self.runs.drain(..keep);
        self.runs.iter_mut().for_each(|run| run.end -= cut);
    }

    /// Notes that the append which [`end_run`](Self::end_run) names brought one sample of the series with this low ref byte.
    #[inline]
    pub(crate) fn push(&mut self, low: u8) {
        self.lows.push(low);
    }

    /// What was noted since the last run ended is `append`'s. Called before the partition's lock is given up.
    pub(crate) fn end_run(&mut self, append: u64) {
        let end = self.lows.len() as u32;
        match self.runs.last_mut() {
            Some(run) if run.append == append || run.end == end => run.end = end,
            None if end == 0 => {}
            _ => {
                self.runs.push(Run { append, end });
                self.highest = self.highest.max(append);
            }
        }
    }

    /// How many of the newest samples of a series a reader must not see: all from the first one on that an append
    /// brought which was not complete when the reader began.
    pub(crate) fn hidden(&self, view: &ReadView, low: u8) -> usize {
        let mut from = 0;
        let mut hiding = false;
        let mut hidden = 0;
        for run in &self.runs {
            let lows = &self.lows[from..run.end as usize];
            from = run.end as usize;
            if !hiding && view.sees(run.append) {
                continue;
            }
            let here = lows.iter().filter(|&&l| l == low).count();
            hiding |= here > 0;
            hidden += here;
        }
        hidden
    }

    pub(crate) fn bytes(&self) -> usize {
        self.runs.capacity() * size_of::<Run>() + self.lows.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn push(tx: &mut TxLog, append: u64, low: u8) {
        tx.push(low);
        tx.end_run(append);
    }

    #[test]
    fn an_empty_run_leaves_no_trace() {
        let mut tx = TxLog::default();
        tx.end_run(1);
        assert!(tx.runs.is_empty());
        push(&mut tx, 2, 9);
        tx.end_run(3);
        push(&mut tx, 3, 9);
        assert_eq!(tx.runs.iter().map(|run| (run.append, run.end)).collect::<Vec<_>>(), [(2, 1), (3, 2)]);
    }

    #[test]
    fn a_reader_sees_complete_appends_only() {
        let iso = Arc::new(Isolation::default());
        let mut tx = TxLog::default();
        let first = iso.begin_append();
        let second = iso.begin_append();
        push(&mut tx, first.id, 7);
        drop(first);
        push(&mut tx, second.id, 7);
        push(&mut tx, second.id, 8);
        let read = iso.begin_read(0, 100);
        let third = iso.begin_append();
        push(&mut tx, third.id, 7);
        drop(second);
        assert_eq!(tx.hidden(read.view(), 7), 2);
        assert_eq!(tx.hidden(read.view(), 8), 1);
        assert_eq!(tx.hidden(read.view(), 9), 0);
        drop(third);
        // A complete append behind an incomplete one stays hidden: a series is shown up to a point in its order.
        assert_eq!(tx.hidden(iso.begin_read(0, 100).view(), 7), 0);
        assert_eq!(tx.hidden(read.view(), 7), 2);
        drop(read);
        assert_eq!(iso.open_counts(), (0, 0));
        tx.forget_below(iso.begin_append().watermark);
        assert!(tx.runs.is_empty());
    }

    #[test]
    fn an_open_reader_keeps_the_log() {
        let iso = Arc::new(Isolation::default());
        let mut tx = TxLog::default();
        let early = iso.begin_append();
        let read = iso.begin_read(0, 1);
        push(&mut tx, early.id, 1);
        drop(early);
        for _ in 0..200 {
            let append = iso.begin_append();
            tx.forget_below(append.watermark);
            push(&mut tx, append.id, 1);
        }
        assert_eq!(tx.hidden(read.view(), 1), 201);
        drop(read);
        let open = iso.begin_append();
        for _ in 0..200 {
            let append = iso.begin_append();
            tx.forget_below(append.watermark);
            push(&mut tx, append.id, 1);
        }
        assert!(tx.runs.len() <= 264, "{}", tx.runs.len());
        assert_eq!(tx.lows.len(), tx.runs.last().map_or(0, |run| run.end as usize));
        drop(open);
    }

    #[test]
    fn truncation_waits_for_those_who_overlap() {
        let iso = Arc::new(Isolation::default());
        let soon = || Some(Instant::now() + Duration::from_millis(20));
        let read = iso.begin_read(50, 60);
        assert!(iso.wait_until_quiet(0, 50, soon()));
        assert!(!iso.wait_until_quiet(0, 51, soon()));
        read.narrow(51);
        assert!(iso.wait_until_quiet(0, 51, soon()));
        drop(read);
        let append = iso.begin_append();
        assert!(iso.wait_until_quiet(0, 100, soon()));
        append.announce(99);
        assert!(!iso.wait_until_quiet(0, 100, soon()));
        assert!(iso.wait_until_quiet(0, 99, soon()));
        let waiter = {
            let iso = Arc::clone(&iso);
            std::thread::spawn(move || iso.wait_until_quiet(0, 100, None))
        };
        drop(append);
        assert!(waiter.join().unwrap_or(false));
    }
}
