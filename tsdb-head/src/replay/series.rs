//! Which series there are: the series records of a round, and the series that it drops.

use std::collections::HashMap;
use std::sync::Arc;

use rayon::prelude::*;
use tsdb_model::{LabelPairs, SeriesRef};
use wal_format::{Series, SeriesBatch};

use super::Replay;
use super::chunk_files::ChunksOnDisk;
use super::lane::{Event, Lane, Run};
use crate::HeadError;
use crate::head::Shared;
use crate::index::{Found, LabelIndex, NewLabels};
use crate::partition::{Partition, PartitionCell};

/// A place in a round: lane, then entry.
pub(super) type At = (u32, u32);

/// What the series records of a round changed. A sample that stands before the record of its series belongs to nobody,
/// even if both are in one round: after a damage that swallowed a series record, its ref may mean another series.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Refs that stand for another series from a place on.
    pub(super) renamed: HashMap<u64, (u64, At)>,
    /// Series that exist from a place on.
    pub(super) born: Born,
    /// Per partition the last such place.
    pub(super) latest: HashMap<u64, At>,
}

/// Places by ref; of one ref the last one added counts.
#[derive(Debug, Default)]
pub(super) struct Born(Vec<(u64, At)>);

impl Born {
    pub(super) fn get(&self, series: u64) -> Option<At> {
        let behind = self.0.partition_point(|&(other, _)| other <= series);
        self.0[..behind].last().filter(|&&(other, _)| other == series).map(|&(_, at)| at)
    }
}

impl Changes {
    /// Whether samples of this run may stand before the record of their series.
    pub(super) fn concern(&self, lane: u32, run: &Run) -> bool {
        !self.latest.is_empty() && self.latest.get(&run.partition).is_some_and(|&latest| (lane, run.start) < latest)
    }
}

/// New series of one partition.
type Group<'a> = (Arc<PartitionCell>, &'a [(u64, At)]);

impl Replay<'_> {
    /// Series records and dropped series, in order.
    pub(super) fn apply_events(&mut self, lanes: &[&mut Lane]) -> Result<Changes, HeadError> {
        let mut changes = Changes::default();
        if lanes.iter().all(|lane| lane.events.is_empty()) {
            return Ok(changes);
        }
        let shared = self.shared;
        let mut index = shared.index.write();
        let index = &mut *index;
        // New ones that have no place in a partition yet.
        let mut born: Vec<(u64, At)> = Vec::new();
        let threads = shared.options.threads();
        let mut taken_apart = take_apart(lanes, 0, threads);
        while let Some(Apart { steps, end }) = taken_apart.take() {
            // Entering them leaves a thread idle now and then.
            let enter = || {
                let mut steps = steps.iter().flatten();
                steps.try_for_each(|step| self.apply_step(index, step, &mut born, &mut changes))
            };
            let (entered, next) = rayon::join(enter, || take_apart(lanes, end, threads));
            entered?;
            taken_apart = next;
        }
        self.settle(&mut born, &mut changes);
        changes.born.0.sort_by_key(|&(series, _)| series);
        Ok(changes)
    }

    fn apply_step(
        &mut self,
        index: &mut LabelIndex,
        step: &Step<'_>,
        born: &mut Vec<(u64, At)>,
        changes: &mut Changes,
    ) -> Result<(), HeadError> {
        match step {
            Step::Series { labels, places, distinct } => {
                let series = labels.series();
                if *distinct && !series.iter().any(|&(series, _)| index.contains(series)) {
                    self.shared.reserve_ref(series.iter().map(|&(series, _)| series).max().unwrap_or(0));
                    let found = index.insert_all(labels)?;
                    for ((&(series, _), &at), found) in series.iter().zip(places).zip(found) {
                        self.found(series, found, at, born, changes);
                    }
                } else {
                    for (&(series, labels), &at) in series.iter().zip(places) {
                        self.series(index, series, labels, at, born, changes)?;
                    }
                }
            }
            Step::More(records) => {
                for (record, at) in records {
                    for Series { series, labels } in series_of(record) {
                        self.series(index, series.0, labels, *at, born, changes)?;
                    }
                }
            }
            Step::Drop(series) => {
                self.settle(born, changes);
                self.drop_series(index, *series);
            }
        }
        Ok(())
    }

    /// Takes one series record.
    fn series(
        &mut self,
        index: &mut LabelIndex,
        series: u64,
        labels: LabelPairs<'_>,
        at: At,
        born: &mut Vec<(u64, At)>,
        changes: &mut Changes,
    ) -> Result<(), HeadError> {
        self.shared.reserve_ref(series);
        if index.contains(series) && index.find(labels, &mut self.ids) != Some(series) {
            // A ref with two label sets: the first stays, as its samples are there. The reference does the same.
            self.report.counts.repeated_series += 1;
            return Ok(());
        }
        let found = index.get_or_insert(series, labels, &mut self.ids)?;
        self.found(series, found, at, born, changes);
        Ok(())
    }

    /// Takes note of what the index said of a series record.
    fn found(&mut self, series: u64, found: Found, at: At, born: &mut Vec<(u64, At)>, changes: &mut Changes) {
        match found {
            Found::New => born.push((series, at)),
            Found::Known(known) if known == series => self.report.counts.repeated_series += 1,
            Found::Known(known) => {
                self.report.counts.aliases += 1;
                if self.aliases.insert(series, known).is_none() {
                    changes.renamed.insert(series, (known, at));
                    self.settle(born, changes);
                    if let Some(cell) = self.shared.cell(known >> 8) {
                        let mut data = cell.data.lock();
                        if let Some(row) = data.row(known as u8) {
                            let refused =
                                take_chunks(self.shared, &self.chunks, &mut data, row, series, known as u8, &mut 0);
                            self.report.chunk_files.out_of_sequence += refused;
                        }
                    }
                }
            }
        }
    }

    /// Gives new series their places in the partitions, and the chunks that are on disk.
    fn settle(&mut self, born: &mut Vec<(u64, At)>, changes: &mut Changes) {
        if born.is_empty() {
            return;
        }
        let (shared, chunks) = (self.shared, &self.chunks);
        changes.born.0.extend_from_slice(born);
        born.sort_by_key(|&(series, _)| series >> 8);
        let mut groups: Vec<Group<'_>> = Vec::new();
        {
            let mut directory = shared.directory.write();
            for group in born.chunk_by(|a, b| a.0 >> 8 == b.0 >> 8) {
                let number = group[0].0 >> 8;
                groups.push((Arc::clone(directory.get_or_insert(number)), group));
                // In the log's order within a group.
                changes.latest.insert(number, group[group.len() - 1].1);
            }
        }
        let refused = groups.par_iter().map(|(cell, group)| {
            let mut data = cell.data.lock();
            let mut hint = 0;
            let place = |&(series, _): &(u64, At)| {
                let row = data.insert(series as u8);
                take_chunks(shared, chunks, &mut data, row, series, series as u8, &mut hint)
            };
            group.iter().map(place).sum::<u64>()
        });
        self.report.chunk_files.out_of_sequence += refused.sum::<u64>();
        born.clear();
    }

    fn drop_series(&mut self, index: &mut LabelIndex, series: SeriesRef) {
        let target = self.aliases.get(&series.0).copied().unwrap_or(series.0);
        let Some(cell) = self.shared.cell(target >> 8) else { return };
        let mut data = cell.data.lock();
        if let Some(row) = data.row(target as u8) {
            let newest = data.max_time(row);
            data.remove(target as u8);
            index.remove(&[target]);
            self.report.counts.dropped_series += 1;
            // The log may hold samples up to then.
            let mut state = self.shared.log_state.lock();
            let expiry = state.expiries.entry(target).or_insert(newest);
            *expiry = newest.max(*expiry);
        }
    }
}

/// Bytes of series records that are taken apart at once.
const TOGETHER: usize = 1 << 20;

/// Lanes taken apart, a share for each thread.
struct Apart<'a> {
    steps: Vec<Vec<Step<'a>>>,
    /// The lane that comes next.
    end: usize,
}

/// Takes some lanes apart, from number `first` on.
fn take_apart<'a>(lanes: &'a [&'a mut Lane], first: usize, threads: usize) -> Option<Apart<'a>> {
    let mut bytes = 0;
    let more = lanes.get(first + 1..)?.iter().take_while(|lane| {
        bytes += lane.series.len();
        bytes < TOGETHER
    });
    let some = first..first + 1 + more.count();
    let share = some.len().div_ceil(threads);
    let shares: Vec<(u32, &[&mut Lane])> =
        (first as u32..).step_by(share).zip(lanes[some.clone()].chunks(share)).collect();
    let steps = shares.par_iter().with_max_len(1).map(|&(first, lanes)| steps(first, lanes)).collect();
    Some(Apart { steps, end: some.end })
}

/// The events of some lanes, their series records taken apart.
enum Step<'a> {
    Series {
        labels: NewLabels<'a>,
        /// Where the record of each is.
        places: Vec<At>,
        /// Each has a ref of its own.
        distinct: bool,
    },
    /// Series records that would be too much taken apart.
    More(Vec<(&'a [u8], At)>),
    Drop(SeriesRef),
}

/// The series of a record that was decoded to its end before it came into its lane.
fn series_of(record: &[u8]) -> impl Iterator<Item = Series<'_>> {
    SeriesBatch::new(record).into_iter().flat_map(|batch| batch.iter().flatten())
}

/// Takes the events of lanes apart of which the first is number `first`.
fn steps<'a>(first: u32, lanes: &'a [&'a mut Lane]) -> Vec<Step<'a>> {
    let mut steps = Vec::new();
    let all = lanes.iter().map(|lane| lane.counts.series as usize).sum();
    let (mut labels, mut places) = (NewLabels::with_capacity(all), Vec::with_capacity(all));
    let (mut more, mut too_much) = (Vec::new(), false);
    let events =
        lanes.iter().zip(first..).flat_map(|(lane, n)| lane.events.iter().map(move |event| (&**lane, n, event)));
    for (lane, n, event) in events {
        match event {
            Event::Series(range, entry) => {
                let record = &lane.series[range.clone()];
                let before = labels.len();
                too_much = too_much || !series_of(record).all(|series| labels.push(series.series.0, series.labels));
                if too_much {
                    labels.truncate(before);
                    more.push((record, (n, *entry)));
                }
                places.resize(labels.len(), (n, *entry));
            }
            Event::Drop(series) => {
                hand_over(&mut labels, &mut places, &mut more, &mut steps);
                steps.push(Step::Drop(*series));
            }
        }
    }
    hand_over(&mut labels, &mut places, &mut more, &mut steps);
    steps
}

/// What was taken apart so far comes before what follows.
fn hand_over<'a>(
    labels: &mut NewLabels<'a>,
    places: &mut Vec<At>,
    more: &mut Vec<(&'a [u8], At)>,
    steps: &mut Vec<Step<'a>>,
) {
    if labels.len() > 0 {
        let (labels, places) = (std::mem::take(labels), std::mem::take(places));
        let distinct = labels.are_distinct();
        steps.push(Step::Series { labels, places, distinct });
    }
    if !more.is_empty() {
        steps.push(Step::More(std::mem::take(more)));
    }
}

/// Gives a series the chunks that are on disk under `series`: at once or, where one before them may have been lost, as the
/// log comes to their times. Returns how many did not fit in.
fn take_chunks(
    shared: &Shared,
    chunks: &ChunksOnDisk,
    data: &mut Partition,
    row: usize,
    series: u64,
    low: u8,
    hint: &mut usize,
) -> u64 {
    if chunks.is_empty() {
        return 0;
    }
    if chunks.holes {
        chunks.take(series, hint).for_each(|chunk| data.queue(low, chunk));
        return 0;
    }
    let (mut mint, mut maxt, mut refused) = (i64::MAX, i64::MIN, 0);
    for chunk in chunks.take(series, hint) {
        if data.attach(row, chunk) {
            mint = mint.min(chunk.mint);
            maxt = maxt.max(chunk.maxt);
        } else {
            refused += 1;
        }
    }
    if mint <= maxt {
        shared.time.include(mint, maxt);
    }
    refused
}
