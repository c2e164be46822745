//! From a ref or labels to a series, made if there is none.

use std::borrow::Cow;
use std::ops::DerefMut;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tsdb_model::{Labels, SeriesRef};

use super::Appender;
use crate::AppendError;
use crate::head::Shared;
use crate::index::{Found, LabelIndex, NewLabels, canonical};
use crate::partition::{Partition, PartitionCell};

/// So many series are made together: fewer are sooner made one by one.
const TOGETHER: usize = 16;

impl Appender {
    /// Finds or makes the series and calls `then` with its partition (locked), its row and its ref.
    pub(super) fn resolve<T>(
        &mut self,
        series: Option<SeriesRef>,
        labels: &Labels,
        mut then: impl FnMut(&mut Partition, usize, u64) -> Result<T, AppendError>,
    ) -> Result<T, AppendError> {
        if let Some(series) = series
            && let Some(result) = self.with_series(series.0, &mut then)
        {
            return result;
        }
        let labels = checked(series, labels)?;
        let head = Arc::clone(&self.head);
        let mut ids = std::mem::take(&mut self.buffers.ids);
        // Collection takes the index for writing: while it is held, a series that was found stays.
        let index = head.index.read();
        if let Some(known) = index.find(labels.pairs(), &mut ids)
            && let Some(result) = self.with_series(known, &mut then)
        {
            self.buffers.ids = ids;
            return result;
        }
        drop(index);
        let mut index = self.index_for_new(&head);
        let mut refs = head.refs.lock();
        let fresh = refs.peek(&mut self.buffers.refs).ok_or(AppendError::NoRefLeft)?;
        let found = index.get_or_insert(fresh, labels.pairs(), &mut ids);
        self.buffers.ids = ids;
        let series = match found? {
            Found::Known(series) => series,
            Found::New => {
                refs.next(&mut self.buffers.refs);
                drop(refs);
                head.unlogged.lock().insert(fresh);
                self.create(std::iter::once(fresh));
                self.buffers.push_created(fresh, &labels);
                fresh
            }
        };
        self.with_series(series, &mut then).unwrap_or(Err(AppendError::UnknownSeries(SeriesRef(series))))
    }

    /// As [`resolve`](Self::resolve) for many series known by their labels alone: the index is locked for reading
    /// until one is missing, and once more for making that and finding or making the rest. Where the last ones were all new,
    /// it is not looked at first: others make series too, and each look waits for them. `then` gets the position of each
    /// in order, and `refused` those that come to nothing.
    pub(super) fn resolve_many<'a>(
        &mut self,
        mut all: impl Iterator<Item = (usize, &'a Labels)>,
        mut then: impl FnMut(&mut Self, usize, u64) -> Option<Result<(), AppendError>>,
        mut refused: impl FnMut(usize, AppendError),
    ) {
        let mut missing = Vec::new();
        if !self.buffers.all_new {
            let head = Arc::clone(&self.head);
            let mut ids = std::mem::take(&mut self.buffers.ids);
            // As in `resolve`: what was found stays while the index is held.
            let index = head.index.read();
            for (i, labels) in all.by_ref() {
                let labels = match checked(None, labels) {
                    Ok(labels) => labels,
                    Err(error) => {
                        refused(i, error);
                        continue;
                    }
                };
                match index.find(labels.pairs(), &mut ids).and_then(|known| then(self, i, known)) {
                    Some(Ok(())) => {}
                    Some(Err(error)) => refused(i, error),
                    None => missing.push((i, labels)),
                }
                if !missing.is_empty() {
                    break;
                }
            }
            drop(index);
            self.buffers.ids = ids;
        }
        for (i, labels) in all {
            match checked(None, labels) {
                Ok(labels) => missing.push((i, labels)),
                Err(error) => refused(i, error),
            }
        }
        self.buffers.all_new = false;
        if !missing.is_empty() {
            self.resolve_missing(&missing, then, refused);
        }
    }

    /// Makes or finds the series that were missing.
    fn resolve_missing(
        &mut self,
        missing: &[(usize, Cow<'_, Labels>)],
        mut then: impl FnMut(&mut Self, usize, u64) -> Option<Result<(), AppendError>>,
        mut refused: impl FnMut(usize, AppendError),
    ) {
        // What can be done without the index is: others wait for it.
        let mut new = NewLabels::default();
        let together = missing.len() >= TOGETHER && missing.iter().all(|(_, labels)| new.push(0, labels.pairs()));
        let head = Arc::clone(&self.head);
        let mut index = self.index_for_new(&head);
        let mut refs = head.refs.lock();
        let mut found: Vec<(usize, u64, Option<&Labels>)> = Vec::with_capacity(missing.len());
        if together && refs.suffice_for(missing.len()) {
            let own = &mut self.buffers.refs;
            let fresh = || refs.next(own).unwrap_or_else(|| unreachable!("there are enough"));
            match index.insert_fresh(&mut new, fresh) {
                Ok(()) => {
                    let got = new.series().iter().zip(new.found());
                    found.extend(missing.iter().zip(got).map(|((i, labels), (&series, got))| match *got {
                        Found::New => (*i, series, Some(&**labels)),
                        Found::Known(known) => (*i, known, None),
                    }));
                }
                Err(full) => missing.iter().for_each(|&(i, _)| refused(i, full.into())),
            }
        } else {
            let mut ids = std::mem::take(&mut self.buffers.ids);
            for (i, labels) in missing {
                let fresh = refs.peek(&mut self.buffers.refs).ok_or(AppendError::NoRefLeft);
                let got = fresh.and_then(|fresh| Ok((fresh, index.get_or_insert(fresh, labels.pairs(), &mut ids)?)));
                match got {
                    Ok((fresh, Found::New)) => {
                        refs.next(&mut self.buffers.refs);
                        found.push((*i, fresh, Some(labels)));
                    }
                    Ok((_, Found::Known(series))) => found.push((*i, series, None)),
                    Err(error) => refused(*i, error),
                }
            }
            self.buffers.ids = ids;
        }
        drop(refs);
        let made = || found.iter().filter_map(|&(_, series, labels)| Some((series, labels?)));
        // Before anybody can find them, also by ref.
        head.unlogged.lock().extend(made().map(|(series, _)| series));
        self.create(made().map(|(series, _)| series));
        self.buffers.all_new = found.len() >= TOGETHER && found.iter().all(|(.., labels)| labels.is_some());
        // They stay, as this appender holds them. Those that somebody else made only do while the index is held.
        let held = found.iter().any(|(.., labels)| labels.is_none()).then_some(index);
        made().for_each(|(series, labels)| self.buffers.push_created(series, labels));
        for &(i, series, _) in &found {
            match then(self, i, series) {
                Some(Ok(())) => {}
                Some(Err(error)) => refused(i, error),
                None => refused(i, AppendError::UnknownSeries(SeriesRef(series))),
            }
        }
        drop(held);
    }

    /// The index, locked for making series. Who has to wait for it makes its series apart from those of others from now on.
    fn index_for_new<'a>(&mut self, head: &'a Shared) -> impl DerefMut<Target = LabelIndex> + use<'a> {
        head.index.try_write().unwrap_or_else(|| {
            self.buffers.refs.have_waited();
            head.index.write()
        })
    }

    /// Puts series without samples into their partitions; the index is held for writing, and `unlogged` names the series.
    fn create(&mut self, series: impl Iterator<Item = u64>) {
        let mut series = series.peekable();
        while let Some(number) = series.peek().map(|series| series >> 8) {
            if !self.load_cell(number) {
                self.cell = Some(Arc::clone(self.head.directory.write().get_or_insert(number)));
            }
            let Some(cell) = &self.cell else { return };
            let mut data = cell.data.lock();
            while let Some(series) = series.next_if(|series| series >> 8 == number) {
                let row = data.insert(series as u8);
                data.mark_unlogged(row, series as u8);
                // Until this appender has finished, the series is not collected.
                data.pend(row);
            }
        }
    }

    /// Calls `then` if the series is alive.
    pub(super) fn with_series<T>(
        &mut self,
        series: u64,
        then: &mut impl FnMut(&mut Partition, usize, u64) -> Result<T, AppendError>,
    ) -> Option<Result<T, AppendError>> {
        if !self.load_cell(series >> 8) {
            return None;
        }
        let mut data = self.cell.as_ref()?.data.lock();
        let row = data.row(series as u8)?;
        let result = then(&mut data, row, series);
        if result.is_ok() && data.is_unlogged(row) {
            self.buffers.unlogged.push(series);
        }
        Some(result)
    }

    /// Makes `self.cell` the partition with this number; `false` if there is none.
    #[inline]
    pub(super) fn load_cell(&mut self, number: u64) -> bool {
        let is_it = |cell: &Option<Arc<PartitionCell>>| {
            cell.as_ref().is_some_and(|cell| cell.number == number && !cell.dead.load(Ordering::SeqCst))
        };
        if is_it(&self.cell) {
            return true;
        }
        std::mem::swap(&mut self.cell, &mut self.cell_before);
        if !is_it(&self.cell) {
            self.cell = self.head.cell_behind(self.cell_before.as_deref(), number);
        }
        self.cell.is_some()
    }
}

/// Labels as the head keys them, if they name a series.
fn checked(series: Option<SeriesRef>, labels: &Labels) -> Result<Cow<'_, Labels>, AppendError> {
    match canonical(labels) {
        Err(name) => Err(AppendError::DuplicateLabelName { name }),
        Ok(labels) if labels.is_empty() => Err(match series {
            Some(series) if series.0 != 0 => AppendError::UnknownSeries(series),
            _ => AppendError::EmptyLabels,
        }),
        Ok(labels) => Ok(labels),
    }
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use super::*;
    use crate::{Head, HeadOptions};

    /// Others wait at scrape after scrape for who has series in their partitions.
    #[test]
    fn who_waits_for_the_index_makes_its_series_apart() {
        let dir = tempfile::tempdir().expect("a directory");
        let fs: tsdb_vfs::Fs = Arc::new(tsdb_vfs::RealFs::new());
        let (head, _) = Head::open(fs, dir.path(), HeadOptions::default()).expect("opened");
        let make = |appender: &mut Appender, id: u32| {
            appender.append(None, &Labels::from_pairs([("id", id.to_string())]), 1_700_000_000_000, 1.0).expect("new").0
        };
        let (mut waiting, mut other) = (head.appender(), head.appender());
        assert_eq!(make(&mut other, 0), 1);
        let index = head.shared.index.read();
        std::thread::scope(|scope| {
            let made = scope.spawn(|| (make(&mut waiting, 1), make(&mut waiting, 2)));
            // A writer that waits keeps new readers out.
            while head.shared.index.try_read().is_some() {
                std::thread::yield_now();
            }
            drop(index);
            assert_eq!(made.join().expect("no panic"), (256, 257));
        });
        assert_eq!((make(&mut other, 3), make(&mut other, 2)), (2, 257));
        waiting.commit().expect("committed");
        other.commit().expect("committed");
    }

    /// Who knows the partition behind one does not ask the directory for it; one that has gone is asked for again.
    #[test]
    fn the_next_partition_is_the_one_that_is_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let fs: tsdb_vfs::Fs = Arc::new(tsdb_vfs::RealFs::new());
        let (head, _) = Head::open(fs, dir.path(), HeadOptions::default()).expect("opened");
        let shared = &head.shared;
        let made = |number| Arc::clone(shared.directory.write().get_or_insert(number));
        let (five, six) = (made(5), made(6));
        let found = |number| shared.cell_behind(Some(&five), number);
        let is = |found: Option<Arc<PartitionCell>>, cell: &Arc<PartitionCell>| {
            found.is_some_and(|found| Arc::ptr_eq(&found, cell))
        };
        assert!(is(found(6), &six));
        // Without the directory, which does not know it any more; and not what lies elsewhere.
        shared.directory.write().remove(6);
        assert!(is(found(6), &six) && found(7).is_none() && found(4).is_none() && is(found(5), &five));
        six.dead.store(true, Ordering::SeqCst);
        assert!(found(6).is_none());
        let other = made(6);
        assert!(is(found(6), &other) && is(shared.cell_behind(None, 6), &other));
        drop(six);
        assert!(is(found(6), &other));
    }
}
