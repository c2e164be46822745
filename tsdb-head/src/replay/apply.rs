//! Taking what the lanes of a round hold: first which [series](super::series) there are, then their samples.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use rayon::prelude::*;
use tsdb_model::staleness::is_stale;

use super::Replay;
use super::by_series;
use super::entries::{Entry, Run, RunEntries};
use super::lane::{Lane, WideValue};
use super::nameless::NamelessSamples;
use super::series::{At, Changes};
use crate::HeadError;
use crate::append::{AnyHistogram, stale_histogram};
use crate::directory::Directory;
use crate::head::Shared;
use crate::partition::{Appended, Partition, PartitionCell};
use crate::sync::Mutex;

/// Entries between the one that is applied and the one whose series' state is asked for: what a line takes to come.
const AHEAD: usize = 16;

/// A run and the lane it is in.
#[derive(Debug, Clone, Copy)]
struct Placed {
    lane: u32,
    run: Run,
}

impl Placed {
    fn entries<'a>(&self, lanes: &[&'a Lane]) -> RunEntries<'a> {
        lanes[self.lane as usize].entries.of(&self.run)
    }
}

impl Replay<'_> {
    /// Applies lanes that follow one another in the log.
    pub(super) fn apply(&mut self, lanes: &mut [&mut Lane]) -> Result<(), HeadError> {
        let changes = self.apply_events(lanes)?;
        for lane in lanes.iter() {
            self.report.counts.add(&lane.counts);
            self.shared.reserve_ref(lane.highest_ref);
        }
        let mut placed: Vec<Placed> = Vec::with_capacity(lanes.iter().map(|lane| lane.entries.runs().len()).sum());
        for (number, lane) in lanes.iter_mut().enumerate() {
            if !changes.renamed.is_empty() {
                rename(lane, number as u32, &changes.renamed);
            }
            let runs = lane.entries.runs().iter().filter(|run| run.len > 0);
            placed.extend(runs.map(|&run| Placed { lane: number as u32, run }));
        }
        self.keep_expiries(lanes);
        sort_by_partition(&mut placed);
        let groups: Vec<&[Placed]> = placed.chunk_by(|a, b| a.run.partition == b.run.partition).collect();
        let lanes: Vec<&Lane> = lanes.iter().map(|lane| &**lane).collect();
        let totals = Totals::default();
        let writable = self.writable;
        let shared = self.shared;
        {
            let directory = shared.directory.read();
            let directory = &*directory;
            groups
                .par_iter()
                .with_max_len(4)
                .try_for_each(|group| apply_group(shared, directory, group, &lanes, &changes, writable, &totals))?;
        }
        totals.unstored.lock().drain(..).for_each(|cell| store_chunks(shared, &cell));
        self.take_totals(totals);
        self.raise_floors(&changes);
        Ok(())
    }

    /// Notes up to when chunk files have everything of the partitions that got series in this round.
    fn raise_floors(&mut self, changes: &Changes) {
        if self.chunks.is_empty() {
            return;
        }
        for &number in changes.latest.keys() {
            let Some(cell) = self.shared.cell(number) else { continue };
            let mut data = cell.data.lock();
            if !data.has_queued() {
                self.floors.set(number, data.floor());
            }
        }
    }

    fn keep_expiries(&self, lanes: &mut [&mut Lane]) {
        if lanes.iter().all(|lane| lane.expiries.is_empty()) {
            return;
        }
        let mut state = self.shared.log_state.lock();
        for (&series, &t) in lanes.iter().flat_map(|lane| &lane.expiries) {
            let expiry = state.expiries.entry(series).or_insert(t);
            *expiry = t.max(*expiry);
        }
    }

    fn take_totals(&mut self, totals: Totals) {
        let counts = &mut self.report.counts;
        counts.applied += totals.applied.into_inner();
        counts.already_there += totals.late.into_inner();
        for (number, samples) in totals.unknown.into_inner() {
            counts.unknown_refs += samples.count();
            self.nameless.samples(number, &samples);
        }
        let (mint, maxt) = (totals.mint.into_inner(), totals.maxt.into_inner());
        if mint <= maxt {
            self.shared.time.include(mint, maxt);
        }
        // Samples without a series must not come to belong to one that is made later.
        self.shared.reserve_ref(totals.highest_unknown.into_inner());
    }
}

/// Partitions whose full chunks wait for the thread that writes them: some 200 KiB each, where all series fill their chunks.
const MOST_UNSTORED: usize = 4;

/// What applying a round came to, summed over threads once per partition.
#[derive(Debug)]
struct Totals {
    applied: AtomicU64,
    late: AtomicU64,
    /// By partition.
    unknown: Mutex<Vec<(u64, NamelessSamples)>>,
    mint: AtomicI64,
    maxt: AtomicI64,
    highest_unknown: AtomicU64,
    /// Held by the thread that writes full chunks to their file. Another one leaves its own for later: waiting for four
    /// megabytes to go to the system is not what it is there for.
    storing: Mutex<()>,
    unstored: Mutex<Vec<Arc<PartitionCell>>>,
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            applied: AtomicU64::new(0),
            late: AtomicU64::new(0),
            unknown: Mutex::new(Vec::new()),
            mint: AtomicI64::new(i64::MAX),
            maxt: AtomicI64::new(i64::MIN),
            highest_unknown: AtomicU64::new(0),
            storing: Mutex::new(()),
            unstored: Mutex::new(Vec::new()),
        }
    }
}

/// All samples of one partition, in order.
fn apply_group(
    shared: &Shared,
    directory: &Directory,
    group: &[Placed],
    lanes: &[&Lane],
    changes: &Changes,
    writable: bool,
    totals: &Totals,
) -> Result<(), HeadError> {
    let number = group[0].run.partition;
    let samples: u64 = group.iter().map(|placed| u64::from(placed.run.len)).sum();
    let Some(cell) = directory.get(number) else {
        let mut unknown = NamelessSamples::default();
        for &Placed { lane, run } in group {
            let lane = lanes[lane as usize];
            lane.entries.of(&run).iter().for_each(|entry| unknown.add(entry.low(), lane.time(entry)));
        }
        totals.unknown.lock().push((number, unknown));
        totals.highest_unknown.fetch_max(number << 8 | 0xff, Relaxed);
        return Ok(());
    };
    let mut data = cell.data.lock();
    let mut local = Local { late: 0, unknown: NamelessSamples::default(), mint: i64::MAX, maxt: i64::MIN };
    let mut holes = data.has_queued().then_some(Holes { number, shared, writable });
    // What has to be taken in the log's order is at the front.
    let plain = match holes {
        Some(_) => group.len(),
        None => group.iter().position(|placed| !changes.concern(placed.lane, &placed.run)).unwrap_or(group.len()),
    };
    let born = changes.born.of(number);
    let many: u64 = group[plain..].iter().map(|placed| u64::from(placed.run.len)).sum();
    let by_series = by_series::is_worth_it(many, data.len());
    for placed in if by_series { &group[..plain] } else { group } {
        let &Placed { lane: lane_number, run } = placed;
        let lane = lanes[lane_number as usize];
        let entries = placed.entries(lanes);
        if holes.is_none() && !changes.concern(lane_number, &run) {
            let floor = data.floor();
            for (at, entry) in entries.iter().enumerate() {
                if let Some(coming) = entries.low(at + AHEAD) {
                    data.ask_for(coming);
                }
                if entry.t() <= floor && !entry.is_wide() {
                    local.late += 1;
                    continue;
                }
                apply_entry(&mut data, entry, lane, shared, &mut local);
            }
            continue;
        }
        for (at, entry) in (run.start..).zip(entries.iter()) {
            if born.get(entry.low()).is_some_and(|born| (lane_number, at) < born) {
                local.unknown.add(entry.low(), lane.time(entry));
            } else {
                if let Some(holes) = &mut holes {
                    holes.attach_until(&mut data, entry.low(), lane.time(entry))?;
                }
                apply_entry(&mut data, entry, lane, shared, &mut local);
            }
        }
    }
    if by_series {
        apply_by_series(&mut data, &group[plain..], lanes, shared, &mut local);
    }
    let unknown = local.unknown.count();
    if unknown > 0 {
        totals.unknown.lock().push((number, local.unknown));
        totals.highest_unknown.fetch_max(number << 8 | 0xff, Relaxed);
    }
    totals.late.fetch_add(local.late, Relaxed);
    totals.applied.fetch_add(samples - local.late - unknown, Relaxed);
    totals.mint.fetch_min(local.mint, Relaxed);
    totals.maxt.fetch_max(local.maxt, Relaxed);
    // Without chunk files they stay as small as they are.
    let full = writable && !data.finished().is_empty();
    if full {
        data.assemble_finished();
    }
    drop(data);
    if full {
        let _storing = match totals.storing.try_lock() {
            Some(storing) => storing,
            None => {
                let mut unstored = totals.unstored.lock();
                if unstored.len() < MOST_UNSTORED {
                    unstored.push(Arc::clone(cell));
                    return Ok(());
                }
                drop(unstored);
                totals.storing.lock()
            }
        };
        store_chunks(shared, cell);
        let next = || totals.unstored.lock().pop();
        std::iter::from_fn(next).for_each(|cell| store_chunks(shared, &cell));
    }
    Ok(())
}

/// Entries that are applied one by one once a series has had one that is special: such ones come together.
const ALONE: usize = 4;

/// Samples of which several are of the same series.
fn apply_by_series(data: &mut Partition, group: &[Placed], lanes: &[&Lane], shared: &Shared, local: &mut Local) {
    let floor = data.floor();
    let runs = group.iter().map(|placed| (placed.lane, placed.entries(lanes)));
    let late = by_series::for_each_series(runs, floor, |low, mut entries, next| {
        data.ask_for(next);
        if let Some(row) = data.row(low) {
            while !entries.is_empty() {
                let taken = data.append_usual(row, entries, Entry::float_sample, &shared.rules);
                if let [first, .., last] | [first @ last] = &entries[..taken] {
                    local.include(first.t(), last.t());
                }
                entries = &entries[taken..];
                let alone = entries.len().min(ALONE);
                for entry in &entries[..alone] {
                    apply_of_lanes(data, entry, lanes, shared, local);
                }
                entries = &entries[alone..];
            }
        } else {
            entries.iter().for_each(|entry| apply_of_lanes(data, entry, lanes, shared, local));
        }
    });
    local.late += late;
}

#[inline]
fn apply_of_lanes(data: &mut Partition, entry: &Entry, lanes: &[&Lane], shared: &Shared, local: &mut Local) {
    let (lane, entry) = entry.in_lane();
    // A lane matters to a wide entry only.
    if let Some(lane) = lanes.get(lane.unwrap_or(0) as usize) {
        apply_entry(data, entry, lane, shared, local);
    }
}

/// Puts queued chunks in their places between samples of the log.
pub(super) struct Holes<'a> {
    pub(super) number: u64,
    pub(super) shared: &'a Shared,
    pub(super) writable: bool,
}

impl Holes<'_> {
    /// Attaches the chunks of a series that begin at or before `t`. What the log gave before them becomes chunks first.
    pub(super) fn attach_until(&mut self, data: &mut Partition, low: u8, t: i64) -> Result<(), HeadError> {
        while let Some(chunk) = data.next_queued(low, t) {
            let Some(row) = data.row(low) else { continue };
            data.close_open(row);
            if self.writable && !data.finished().is_empty() {
                self.shared.write_finished(self.number, data)?;
            }
            if data.attach(row, chunk) {
                self.shared.time.include(chunk.mint, chunk.maxt);
            }
        }
        Ok(())
    }
}

fn store_chunks(shared: &Shared, cell: &Arc<PartitionCell>) {
    if let Err(error) = shared.write_chunks_of(cell) {
        // The log has them: they stay in memory until they can be written.
        tracing::warn!(%error, "writing chunks during replay");
        shared.chunk_queue.add(cell, 0, 0);
    }
}

struct Local {
    late: u64,
    unknown: NamelessSamples,
    mint: i64,
    maxt: i64,
}

#[inline]
fn apply_entry(data: &mut Partition, entry: Entry, lane: &Lane, shared: &Shared, local: &mut Local) {
    let Some(row) = data.row(entry.low()) else {
        local.unknown.add(entry.low(), lane.time(entry));
        return;
    };
    if entry.is_wide() {
        apply_wide(data, row, entry, lane, shared, local);
        return;
    }
    let (t, v) = (entry.t(), f64::from_bits(entry.value));
    let outcome = if is_stale(v) {
        append_stale(data, row, 0, t, v, shared)
    } else {
        data.append_float(row, 0, t, v, &shared.rules)
    };
    local.note(outcome, t);
}

#[cold]
fn apply_wide(data: &mut Partition, row: usize, entry: Entry, lane: &Lane, shared: &Shared, local: &mut Local) {
    let wide = &lane.wide[entry.value as usize];
    let (st, t, rules) = (wide.st, wide.t, &shared.rules);
    let outcome = match &wide.value {
        WideValue::Float(v) if is_stale(*v) => append_stale(data, row, st, t, *v, shared),
        WideValue::Float(v) => data.append_float(row, st, t, *v, rules),
        WideValue::Histogram(h) => data.append_histogram(row, st, t, h, rules),
        WideValue::FloatHistogram(h) => data.append_histogram(row, st, t, h, rules),
    };
    local.note(outcome, t);
}

/// A staleness marker takes the type of its series.
fn append_stale(data: &mut Partition, row: usize, st: i64, t: i64, v: f64, shared: &Shared) -> Appended {
    match stale_histogram(data.last_kind(row), v) {
        None => data.append_float(row, st, t, v, &shared.rules),
        Some(AnyHistogram::Int(h)) => data.append_histogram(row, st, t, &h, &shared.rules),
        Some(AnyHistogram::Float(h)) => data.append_histogram(row, st, t, &h, &shared.rules),
    }
}

impl Local {
    #[inline]
    fn note(&mut self, outcome: Appended, t: i64) {
        if outcome == Appended::Late {
            self.late += 1;
        } else {
            self.include(t, t);
        }
    }

    /// Samples went in at these times, and between them.
    #[inline]
    fn include(&mut self, mint: i64, maxt: i64) {
        self.mint = self.mint.min(mint);
        self.maxt = self.maxt.max(maxt);
    }
}

/// Sends the samples of aliases to the series that has their labels: runs are split where that is another partition.
fn rename(lane: &mut Lane, number: u32, renamed: &HashMap<u64, (u64, At)>) {
    let partitions: HashSet<u64> = renamed.keys().map(|series| series >> 8).collect();
    let concerns = |partition| partitions.contains(&partition);
    if !lane.entries.runs().iter().any(|run| concerns(run.partition)) {
        return;
    }
    let Lane { entries, wide, expiries, .. } = lane;
    entries.redirect(concerns, |at, entry, series| match renamed.get(&series) {
        Some(&(target, from)) if (number, at) >= from => {
            let t = if entry.is_wide() { wide[entry.value as usize].t } else { entry.t() };
            let expiry = expiries.entry(series).or_insert(t);
            *expiry = t.max(*expiry);
            target
        }
        _ => series,
    });
}

/// Stable: within a partition the log's order stays. Refs in any order make as many runs as samples, and comparing would
/// then cost more than decoding did.
fn sort_by_partition(placed: &mut Vec<Placed>) {
    let (Some(low), Some(high)) =
        (placed.iter().map(|p| p.run.partition).min(), placed.iter().map(|p| p.run.partition).max())
    else {
        return;
    };
    let width = high - low + 1;
    if width > 4 * placed.len() as u64 + 1024 {
        placed.sort_by_key(|placed| placed.run.partition);
        return;
    }
    let mut starts = vec![0u32; width as usize + 1];
    for placed in placed.iter() {
        starts[(placed.run.partition - low) as usize + 1] += 1;
    }
    for i in 1..starts.len() {
        starts[i] += starts[i - 1];
    }
    let mut sorted = placed.clone();
    for &one in placed.iter() {
        let at = &mut starts[(one.run.partition - low) as usize];
        sorted[*at as usize] = one;
        *at += 1;
    }
    *placed = sorted;
}
