//! Which series there are: the series records of a round, and the series that it drops.

use std::collections::HashMap;
use std::sync::Arc;

use rayon::prelude::*;
use tsdb_model::{LabelPairs, SeriesRef};
use wal_format::{Series, SeriesBatch};

use super::Replay;
use super::chunk_files::ChunksOnDisk;
use super::entries::Run;
use super::lane::{Event, Lane, Together};
use crate::HeadError;
use crate::head::Shared;
use crate::index::{Found, LabelIndex};
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
    /// Those of one partition.
    pub(super) fn of(&self, partition: u64) -> BornThere<'_> {
        let all = &self.0[self.0.partition_point(|&(series, _)| series >> 8 < partition)..];
        BornThere(&all[..all.partition_point(|&(series, _)| series >> 8 == partition)])
    }
}

/// The places of one partition's series.
#[derive(Debug, Clone, Copy)]
pub(super) struct BornThere<'a>(&'a [(u64, At)]);

impl BornThere<'_> {
    pub(super) fn get(self, low: u8) -> Option<At> {
        let behind = self.0.partition_point(|&(series, _)| series as u8 <= low);
        self.0[..behind].last().filter(|&&(series, _)| series as u8 == low).map(|&(_, at)| at)
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
    pub(super) fn apply_events(&mut self, lanes: &mut [&mut Lane]) -> Result<Changes, HeadError> {
        let mut changes = Changes::default();
        if lanes.iter().all(|lane| lane.events.is_empty()) {
            return Ok(changes);
        }
        let shared = self.shared;
        let mut index = shared.index.write();
        let index = &mut *index;
        // New ones that have no place in a partition yet.
        let mut born: Vec<(u64, At)> = Vec::new();
        let mut next = 0;
        let (mut numbered, mut entered): (Option<Batch>, Option<Batch>) = (None, None);
        loop {
            while lanes.get(next).is_some_and(|lane| lane.events.is_empty()) {
                next += 1;
            }
            let mut coming = match lanes.get_mut(next) {
                Some(lane) => Batch::of(lane, next, index, numbered.as_ref()),
                None => None,
            };
            if coming.is_none() && numbered.is_none() && entered.is_none() {
                // What is not taken together comes when all before it is done.
                let Some(lane) = lanes.get(next) else { break };
                self.apply_lane(index, lane, next as u32, &mut born, &mut changes)?;
                next += 1;
                continue;
            }
            if let Some(batch) = &coming {
                self.shared.reserve_ref(batch.together.labels.highest());
                next += 1;
            }
            index.advance(
                coming.as_mut().map(|batch| &mut batch.together.labels),
                numbered.as_mut().map(|batch| &mut batch.together.labels),
                entered.as_ref().map(|batch| &batch.together.labels),
            )?;
            if let Some(Batch { lane, together }) = entered.take() {
                lanes[lane].together = together;
            }
            if let Some(Batch { lane, together: Together { labels, entries, .. } }) = &numbered {
                for ((&series, &entry), &found) in labels.series().iter().zip(entries).zip(labels.found()) {
                    self.found(series, found, (*lane as u32, entry), &mut born, &mut changes);
                }
            }
            (entered, numbered) = (numbered, coming);
        }
        self.settle(&mut born, &mut changes);
        changes.born.0.sort_by_key(|&(series, _)| series);
        Ok(changes)
    }

    /// Takes the events of one lane, one by one.
    fn apply_lane(
        &mut self,
        index: &mut LabelIndex,
        lane: &Lane,
        number: u32,
        born: &mut Vec<(u64, At)>,
        changes: &mut Changes,
    ) -> Result<(), HeadError> {
        for event in &lane.events {
            match event {
                Event::Series(range, entry) => {
                    for Series { series, labels } in series_of(&lane.series[range.clone()]) {
                        self.series(index, series.0, labels, (number, *entry), born, changes)?;
                    }
                }
                Event::Drop(series) => {
                    self.settle(born, changes);
                    self.drop_series(index, *series);
                }
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
        born.sort_by_key(|&(series, _)| series);
        changes.born.0.extend_from_slice(born);
        let mut groups: Vec<Group<'_>> = Vec::new();
        {
            let mut directory = shared.directory.write();
            for group in born.chunk_by(|a, b| a.0 >> 8 == b.0 >> 8) {
                let number = group[0].0 >> 8;
                groups.push((Arc::clone(directory.get_or_insert(number)), group));
                let latest = group.iter().map(|&(_, at)| at).max().unwrap_or_default();
                changes.latest.entry(number).and_modify(|before| *before = latest.max(*before)).or_insert(latest);
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

/// Series that are taken together at least: fewer are sooner done one by one.
const FEW: usize = 64;

/// The new series of a lane on their way into the index.
struct Batch {
    lane: usize,
    together: Together,
}

impl Batch {
    /// Takes them out of a lane if they can be taken together, behind those of a batch that is not entered yet: each has a ref of
    /// its own that nobody has.
    fn of(lane: &mut Lane, number: usize, index: &LabelIndex, before: Option<&Self>) -> Option<Self> {
        let labels = &mut lane.together.labels;
        if lane.together.broken || labels.len() < FEW {
            return None;
        }
        labels.seal();
        let fits = labels.are_distinct()
            && !index.contains_any(labels)
            && before.is_none_or(|before| !before.together.labels.have_one_of(labels));
        fits.then(|| Self { lane: number, together: std::mem::take(&mut lane.together) })
    }
}

/// The series of a record that was decoded to its end before it came into its lane.
fn series_of(record: &[u8]) -> impl Iterator<Item = Series<'_>> {
    SeriesBatch::new(record).into_iter().flat_map(|batch| batch.iter().flatten())
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
