//! Samples on their way from a record to a partition.
//!
//! ```text
//! values := per sample 8 bytes: the value's bits, or the number of what is wide
//! marks  := per sample 2 bytes: number of its time in its run's times, 255 for what is wide | low byte of the ref
//! times  := 8 bytes whenever a sample's time is not that of the one before; a run's begin at its own number
//! ```
//!
//! A round goes from the caches of the threads that decode it to those that apply it, or through memory: ten bytes for a
//! sample go there sooner than sixteen, and a round of the same size holds more samples of each series.

use super::floors::Floors;
use crate::partition::NO_TIME;

/// A sample on its way to its partition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) value: u64,
    pub(super) meta: u64,
}

const WIDE: u64 = 1 << 8;

impl Entry {
    pub(super) const NONE: Self = Self { value: 0, meta: 0 };

    #[inline]
    pub(super) fn low(self) -> u8 {
        self.meta as u8
    }

    #[inline]
    pub(super) fn t(self) -> i64 {
        self.meta as i64 >> 16
    }

    /// Time and value; not a number for a wide one, which is no sample of a float that is one of many.
    #[inline(always)]
    pub(super) fn float_sample(&self) -> (i64, f64) {
        (self.t(), if self.is_wide() { f64::NAN } else { f64::from_bits(self.value) })
    }

    #[inline]
    pub(super) fn is_wide(self) -> bool {
        self.meta & WIDE != 0
    }

    /// A wide entry that says whose it is: it points into what one lane holds.
    pub(super) fn of_lane(self, lane: u32) -> Self {
        Self { value: self.value | u64::from(lane) << 32, ..self }
    }

    /// An entry of which only the rest is there, with what it lacks.
    #[inline(always)]
    pub(super) fn with(self, low: u8, value: u64) -> Self {
        Self { value: self.value | value, meta: self.meta | u64::from(low) }
    }

    /// The entry as it was before [`of_lane`](Self::of_lane), and the lane; that of one that is not wide is none.
    pub(super) fn in_lane(self) -> (Option<u32>, Self) {
        if self.is_wide() {
            (Some((self.value >> 32) as u32), Self { value: self.value & u64::from(u32::MAX), ..self })
        } else {
            (None, self)
        }
    }
}

/// Neighbouring entries of one partition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) partition: u64,
    pub(super) start: u32,
    pub(super) len: u32,
    /// Number of its first time.
    pub(super) times: u32,
}

/// In a mark, in place of a time's number.
const WIDE_MARK: u16 = 0xff;

/// What the entries of a lane hold, on the average of an uncompressed log: bytes.
pub(super) const ENTRY_BYTES: usize = size_of::<u64>() + size_of::<u16>();

/// Entries in the log's order. Their memory stays initialised when they are emptied: a round writes each of them once.
#[derive(Debug)]
pub(super) struct Entries {
    values: Vec<u64>,
    marks: Vec<u16>,
    len: usize,
    /// Shifted as an entry has it.
    times: Vec<u64>,
    /// The length of the last one is right between records only.
    runs: Vec<Run>,
}

/// Bytes of room for each column, of which what a block of an uncompressed log holds is used: so much that the allocator
/// takes each for itself from the system, and gives it back when the replay is done.
const ROOM: usize = 384 << 10;

/// So many are made at once where there is room: 10 KiB.
const STEP: usize = 1 << 10;

/// Where [`Entries`] ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    len: usize,
    times: usize,
    runs: usize,
}

impl Default for Entries {
    fn default() -> Self {
        Self {
            values: Vec::with_capacity(ROOM / size_of::<u64>()),
            marks: Vec::with_capacity(ROOM / size_of::<u16>()),
            len: 0,
            times: Vec::new(),
            runs: Vec::new(),
        }
    }
}

impl Entries {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of what it holds.
    pub(super) fn bytes(&self) -> usize {
        self.len * ENTRY_BYTES + self.times.len() * size_of::<u64>() + self.runs.len() * size_of::<Run>()
    }

    pub(super) fn runs(&self) -> &[Run] {
        &self.runs
    }

    pub(super) fn of(&self, run: &Run) -> RunEntries<'_> {
        let entries = run.start as usize..(run.start + run.len) as usize;
        let times = &self.times[run.times as usize..];
        RunEntries {
            values: &self.values[entries.clone()],
            marks: &self.marks[entries],
            times: &times[..times.len().min(WIDE_MARK.into())],
        }
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
        self.times.clear();
        self.runs.clear();
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { len: self.len, times: self.times.len(), runs: self.runs.len() }
    }

    /// Forgets what came behind `mark`, which stands between two records.
    pub(super) fn undo(&mut self, mark: Mark) {
        self.len = mark.len;
        self.times.truncate(mark.times);
        self.runs.truncate(mark.runs);
        self.close_run();
    }

    /// Keeps the memory of `usual` bytes.
    pub(super) fn shrink_to(&mut self, usual: usize) {
        self.clear();
        let entries = usual / ENTRY_BYTES;
        if self.values.len() > entries {
            self.values.truncate(entries);
            self.values.shrink_to_fit();
            self.marks.truncate(entries);
            self.marks.shrink_to_fit();
        }
        self.times.shrink_to(1 << 12);
        self.runs.shrink_to(1 << 16);
    }

    /// Puts a sample down; `false`, and nothing is, if its time has more than 48 bits.
    pub(super) fn push_float(&mut self, series: u64, t: i64, v: f64) -> bool {
        if t << 16 >> 16 != t {
            return false;
        }
        let mut writer = self.writer(1);
        writer.turn(series, t, &Floors::default(), NO_TIME);
        writer.put(series, v.to_bits());
        let len = writer.end();
        self.keep(len);
        true
    }

    /// Puts down that what is wide has the number `index`.
    pub(super) fn push_wide(&mut self, series: u64, index: usize) {
        let mut writer = self.writer(1);
        writer.turn_to_wide(series);
        writer.put(series, index as u64);
        let len = writer.end();
        self.keep(len);
    }

    /// Counts the entries of the last run.
    pub(super) fn close_run(&mut self) {
        if let Some(run) = self.runs.last_mut() {
            run.len = (self.len as u32).saturating_sub(run.start);
        }
    }

    /// For at least `most` entries behind the last one. What it wrote is there once it is [kept](Self::keep).
    #[inline(always)]
    pub(super) fn writer(&mut self, most: usize) -> Writer<'_> {
        if self.values.len() - self.len < most {
            self.grow(most);
        }
        let Self { values, marks, len, times, runs } = self;
        let (values, marks) = (&mut values[*len..], &mut marks[*len..]);
        let most = values.len();
        // No series has this partition: the first sample turns to its own.
        let place = Place { partition: u64::MAX, time: NO_TIME, mark: 0 };
        Writer { room: values.iter_mut().zip(marks), times, runs, start: *len, most, place }
    }

    /// Keeps what a [writer](Self::writer) wrote, which [ended](Writer::end) so.
    #[inline(always)]
    pub(super) fn keep(&mut self, len: usize) {
        self.len = len;
    }

    #[inline(never)]
    fn grow(&mut self, most: usize) {
        // What is not needed is better not touched while there is room.
        let room = self.values.len();
        let more = if room < self.values.capacity() { STEP } else { room / 4 };
        let room = (self.len + most).max(room + more);
        self.values.resize(room, 0);
        self.marks.resize(room, 0);
    }

    /// Sends entries to other series: `to` is asked about each run whether it concerns it, and about the entries of those for
    /// the ref that each of them goes to. Runs are split where that is in another partition.
    pub(super) fn redirect(&mut self, concerns: impl Fn(u64) -> bool, mut to: impl FnMut(u32, Entry, u64) -> u64) {
        for run in std::mem::take(&mut self.runs) {
            if !concerns(run.partition) {
                self.runs.push(run);
                continue;
            }
            for at in run.start..run.start + run.len {
                let entry = self.of(&Run { start: at, len: 1, ..run }).get(0).unwrap_or(Entry::NONE);
                let series = to(at, entry, run.partition << 8 | u64::from(entry.low()));
                let mark = &mut self.marks[at as usize];
                *mark = *mark & 0xff00 | u16::from(series as u8);
                match self.runs.last_mut() {
                    Some(last)
                        if (last.partition, last.times) == (series >> 8, run.times) && last.start + last.len == at =>
                    {
                        last.len += 1;
                    }
                    _ => self.runs.push(Run { partition: series >> 8, start: at, len: 1, times: run.times }),
                }
            }
        }
    }
}

/// Where samples go: what is the same for one as for the one before, nearly always.
struct Place {
    partition: u64,
    time: i64,
    /// The number of the time, as a mark has it; or, beyond 16 bits, why there is none.
    mark: u32,
}

/// Samples up to the partition's floor are dropped.
const LATE: u32 = 1 << 16;
/// So are those before the minimum valid time.
const OLD: u32 = 1 << 17;
/// An entry has no such time.
const ODD: u32 = 1 << 18;

/// Writes entries behind the last one.
///
/// All that changes per sample is in values of different kinds: of counters that one branch or the other raises the compiler
/// makes one in memory, chosen by its address, and each sample waits for the one before.
pub(super) struct Writer<'a> {
    room: std::iter::Zip<std::slice::IterMut<'a, u64>, std::slice::IterMut<'a, u16>>,
    times: &'a mut Vec<u64>,
    runs: &'a mut Vec<Run>,
    start: usize,
    most: usize,
    place: Place,
}

impl Writer<'_> {
    /// How many entries it has written.
    #[inline(always)]
    pub(super) fn written(&self) -> usize {
        self.most - self.room.len()
    }

    /// Whether it has to [turn](Self::turn) for a sample.
    #[inline(always)]
    pub(super) fn is_elsewhere(&self, series: u64, t: i64) -> bool {
        (series >> 8 ^ self.place.partition) | (t ^ self.place.time) as u64 != 0
    }

    /// Turns to where samples of this partition and time go: nowhere up to the partition's floor, and before `min_valid`.
    #[inline(always)]
    pub(super) fn turn(&mut self, series: u64, t: i64, floors: &Floors, min_valid: i64) {
        let at = self.start + self.written();
        let mark = turn(self.times, self.runs, series >> 8, t, at, floors, min_valid);
        self.place = Place { partition: series >> 8, time: t, mark };
    }

    fn turn_to_wide(&mut self, series: u64) {
        let at = self.start + self.written();
        begin_run(self.runs, series >> 8, at, self.times.len());
        self.place.mark = u32::from(WIDE_MARK) << 8;
    }

    /// Why samples are not written here, if they are not.
    #[inline(always)]
    pub(super) fn refusal(&self) -> Option<Refused> {
        (self.place.mark >= LATE).then_some(Refused(self.place.mark))
    }

    /// Writes an entry. `false` if there was no room.
    #[inline(always)]
    pub(super) fn put(&mut self, series: u64, value: u64) -> bool {
        match self.room.next() {
            Some((to, mark)) => {
                (*to, *mark) = (value, self.place.mark as u16 | series as u16 & 0xff);
                true
            }
            None => false,
        }
    }

    /// How many entries there are then.
    #[inline(always)]
    pub(super) fn end(self) -> usize {
        self.start + self.written()
    }
}

/// Sees to it that the last run is of a partition, for entry number `at`: if it is not, it ends there.
fn begin_run(runs: &mut Vec<Run>, partition: u64, at: usize, times: usize) {
    let start = at as u32;
    if let Some(run) = runs.last_mut() {
        if run.partition == partition {
            return;
        }
        run.len = start.saturating_sub(run.start);
    }
    runs.push(Run { partition, start, len: 0, times: times.saturating_sub(1) as u32 });
}

/// Why samples are not written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refused(u32);

impl Refused {
    /// They are before the minimum valid time.
    #[inline(always)]
    pub(super) fn is_old(self) -> bool {
        self.0 & OLD != 0
    }

    /// No entry has their time.
    #[inline(always)]
    pub(super) fn is_odd(self) -> bool {
        self.0 & ODD != 0
    }
}

/// Sees to it that the last run is of a partition and the last time is `t`, for entry number `at`. Returns the time's mark, or
/// why there is none.
///
/// One call for all that is rare: the loop around it has registers for what is not.
#[inline(never)]
fn turn(
    times: &mut Vec<u64>,
    runs: &mut Vec<Run>,
    partition: u64,
    t: i64,
    at: usize,
    floors: &Floors,
    min_valid: i64,
) -> u32 {
    if t < min_valid {
        return LATE | OLD;
    }
    if t <= floors.of(partition) {
        return LATE;
    }
    if t << 16 >> 16 != t {
        return LATE | ODD;
    }
    begin_run(runs, partition, at, times.len());
    let time = (t << 16) as u64;
    if times.last() != Some(&time) {
        times.push(time);
    }
    let last = times.len() - 1;
    let Some(run) = runs.last_mut() else { return 0 };
    if run.start as usize == at {
        run.times = last as u32;
    }
    match last - run.times as usize {
        number if number < WIDE_MARK.into() => (number as u32) << 8,
        _ => {
            // There is no number left.
            run.len = at as u32 - run.start;
            runs.push(Run { partition, start: at as u32, len: 0, times: last as u32 });
            0
        }
    }
}

/// The entries of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunEntries<'a> {
    values: &'a [u64],
    marks: &'a [u16],
    times: &'a [u64],
}

impl<'a> RunEntries<'a> {
    /// The low byte of an entry's ref.
    #[inline]
    pub(super) fn low(&self, at: usize) -> Option<u8> {
        self.marks.get(at).map(|&mark| mark as u8)
    }

    pub(super) fn get(&self, at: usize) -> Option<Entry> {
        Some(entry(*self.values.get(at)?, *self.marks.get(at)?, self.times))
    }

    #[inline(always)]
    pub(super) fn iter(&self) -> impl Iterator<Item = Entry> + use<'a> {
        let times = self.times;
        self.values.iter().zip(self.marks).map(move |(&value, &mark)| entry(value, mark, times))
    }

    /// Gives `each` the entries' low bytes and values, with what `turn` made of all but these of the first of them: neighbours
    /// mostly have nothing else that is not the same.
    #[inline(always)]
    pub(super) fn for_each<T: Copy>(&self, turn: impl Fn(Entry) -> T, mut each: impl FnMut(T, u8, u64)) {
        let Some(&first) = self.marks.first() else { return };
        let alike = |mark: u16| turn(entry(0, mark & 0xff00, self.times));
        let (mut number, mut turned) = (first >> 8, alike(first));
        for (&value, &mark) in self.values.iter().zip(self.marks) {
            if mark >> 8 != number {
                (number, turned) = (mark >> 8, alike(mark));
            }
            each(turned, mark as u8, value);
        }
    }
}

#[inline(always)]
fn entry(value: u64, mark: u16, times: &[u64]) -> Entry {
    let low = u64::from(mark & 0xff);
    // What is wide has a number that no time has.
    let time = times.get(usize::from(mark >> 8)).copied().unwrap_or(WIDE);
    Entry { value, meta: time | low }
}
