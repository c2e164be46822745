//! A run: from the sources through the filter into a published checkpoint.
//!
//! ```text
//!            blocks of pages, on many threads            in order, on the calling thread
//! segments ─▶ frame, decompress, filter, compress ─────▶ append to checkpoint.N.tmp ─▶ publish
//!                                        └ metadata ───▶ last one of each series, appended at the end
//! ```

use std::path::Path;
use std::time::Instant;

use parking_lot::Mutex;
use tsdb_model::SeriesRef;
use wal_format::Batch;
use wal_segment::layout::CheckpointRef;
use wal_segment::parallel::{self, Block, Delivered, ParallelOptions};
use wal_segment::{Compression, Item, Ledger, SalvageReader, SegmentRef, layout};

use crate::damage::{Damage, DamagePolicy};
use crate::error::Error;
use crate::filter::Wanted;
use crate::filtered::{Filtered, Job};
use crate::hollow;
use crate::live::{Live, LiveWriter, Output};
use crate::metadata::LatestMetadata;
use crate::options::{Options, Progress, StartTimestamps};
use crate::publish::Draft;
use crate::remove::remove_temporaries;
use crate::seen::Seen;
use crate::source::{Group, Range, Source};
use crate::stats::Stats;

/// Metadata entries that go into one record at the end.
const METADATA_RECORD: usize = 500;

/// Makes a checkpoint of the segments `from` to `to` of a log, both included, and publishes it as `checkpoint.to`.
///
/// Its input is the previous checkpoint, then the segments behind it: `from` may lie before the previous checkpoint's end
/// (what is there are leftovers), but not behind it. What is kept:
///
/// | kind | kept |
/// |---|---|
/// | series | if `keep` says so |
/// | samples, histograms, exemplars | if not before `mint` (milliseconds since the epoch), whatever `keep` says |
/// | tombstones | rows whose series is kept and whose last millisecond is not before `mint` |
/// | metadata | the last of each kept series, at the checkpoint's end |
/// | anything else | nothing |
///
/// `keep` is asked from several threads, more than once for a ref, and must give the same answer each time.
///
/// Nothing that exists is changed, on success or failure: remove what the checkpoint stands for with
/// [`retire`](crate::retire) afterwards. If the previous checkpoint stands for the range already, nothing is done
/// ([`Stats::no_op`]). The caller holds the directory's lock, and does not write to segments up to `to` any more.
pub fn checkpoint(
    source: &Source<'_>,
    from: u64,
    to: u64,
    keep: impl Fn(SeriesRef) -> bool + Sync,
    mint: i64,
    options: &Options,
) -> Result<Stats, Error> {
    let start = Instant::now();
    let target = options.publish_in.as_deref().unwrap_or(source.dir);
    if !options.dry_run {
        remove_temporaries(source.fs, target)?;
    }
    let Some(range) = Range::find(source, from, to)? else {
        return Ok(Stats { from, to, elapsed: start.elapsed(), ..Stats::default() });
    };
    let path = target.join(layout::checkpoint_name(to));
    let mut run = Run::start(source, &path, &keep, mint, options)?;
    match source.live {
        Some(live) => run.memory(live)?,
        None => run.segments(&range)?,
    }
    if let Some(living) = source.living
        && run.lacks(living)?
    {
        let seen = std::mem::take(&mut run.seen);
        // Takes the temporary away.
        drop(run);
        run = Run::start(source, &path, &keep, mint, options)?;
        run.supply(living, &seen)?;
        run.segments(&range)?;
    }
    run.write_metadata()?;
    let Run { output, mut stats, .. } = run;
    stats.records += output.records;
    stats.from = range.from;
    stats.to = to;
    stats.previous = range.previous.map(|checkpoint| checkpoint.index);
    stats.dry_run = options.dry_run;
    stats.out_bytes = output.bytes;
    if let Some(draft) = output.into_draft() {
        let published = draft.publish(&path)?;
        stats.path = Some(path);
        stats.out_bytes = published.bytes;
        stats.out_segments = published.segments;
    }
    stats.elapsed = start.elapsed();
    Ok(stats)
}

struct Run<'r, K> {
    source: &'r Source<'r>,
    keep: &'r K,
    mint: i64,
    options: &'r Options,
    output: Output<'r>,
    metadata: LatestMetadata,
    stats: Stats,
    seen: Seen,
}

/// How far the records of a segment have been delivered.
#[derive(Debug, Clone, Copy, Default)]
struct Reached {
    segment: Option<u64>,
    end: u64,
}

/// Where filtered records end up, in the log's order.
struct End<'e, 'r> {
    output: &'e mut Output<'r>,
    metadata: &'e mut LatestMetadata,
    stats: &'e mut Stats,
    seen: &'e mut Seen,
}

impl End<'_, '_> {
    fn take(&mut self, filtered: &mut Filtered, damage: DamagePolicy) -> Result<(), Error> {
        if damage == DamagePolicy::Strict && !filtered.damage.is_empty() {
            return Err(Error::Damaged(Box::new(filtered.damage.swap_remove(0))));
        }
        self.stats.damage.append(&mut filtered.damage);
        self.stats.counts += filtered.taken.counts;
        self.stats.records += filtered.records;
        filtered.taken.metadata.iter().for_each(|entry| self.metadata.set(entry));
        self.seen.extend(filtered.segment, &mut filtered.taken.series);
        self.output.append(&filtered.pile)
    }

    /// Takes what the ledger misses in a segment that reads without damage.
    fn miss(&mut self, missed: Damage, damage: DamagePolicy) -> Result<(), Error> {
        if damage == DamagePolicy::Strict {
            return Err(Error::Damaged(Box::new(missed)));
        }
        self.stats.damage.push(missed);
        self.seen.distrust();
        Ok(())
    }
}

impl<'r, K: Fn(SeriesRef) -> bool + Sync> Run<'r, K> {
    fn start(source: &'r Source<'r>, path: &Path, keep: &'r K, mint: i64, options: &'r Options) -> Result<Self, Error> {
        let draft = match options.dry_run {
            true => None,
            false => Some(Draft::create(source.fs, path, options.segment_size, options.threads())?),
        };
        let output = Output::new(draft, options.compression);
        let (metadata, stats, seen) = (LatestMetadata::default(), Stats::default(), Seen::default());
        Ok(Self { source, keep, mint, options, output, metadata, stats, seen })
    }

    fn wanted(&self) -> Wanted<'r, K> {
        Wanted {
            keep: self.keep,
            mint: self.mint,
            start_timestamps: self.options.start_timestamps,
            note_series: self.source.living.is_some() && self.options.damage == DamagePolicy::Salvage,
        }
    }

    /// Whether something was damaged, and some of the living series have no sound record in what was read.
    fn lacks(&self, living: &dyn Live) -> Result<bool, Error> {
        if self.stats.damage.is_empty() {
            return Ok(false);
        }
        let (mut nowhere, mut metadata) = (Output::new(None, Compression::None), LatestMetadata::default());
        let lost = |series| (self.keep)(series) && !self.seen.contains(series);
        let mut writer = LiveWriter::new(&lost, self.mint, StartTimestamps::Keep, &mut nowhere, &mut metadata);
        living.write(&mut writer)?;
        Ok(writer.counts.series.kept() > 0)
    }

    /// Writes the records of living series that were not seen.
    fn supply(&mut self, living: &dyn Live, seen: &Seen) -> Result<(), Error> {
        let (keep, start_timestamps) = (self.keep, self.options.start_timestamps);
        let lost = |series| keep(series) && !seen.contains(series);
        let mut writer = LiveWriter::new(&lost, self.mint, start_timestamps, &mut self.output, &mut self.metadata);
        living.write(&mut writer)?;
        writer.flush()?;
        self.stats.supplied = writer.counts.series.kept();
        Ok(())
    }

    fn memory(&mut self, live: &dyn Live) -> Result<(), Error> {
        let start_timestamps = self.options.start_timestamps;
        let mut writer = LiveWriter::new(self.keep, self.mint, start_timestamps, &mut self.output, &mut self.metadata);
        live.write(&mut writer)?;
        writer.flush()?;
        self.stats.counts += writer.counts;
        Ok(())
    }

    fn segments(&mut self, range: &Range) -> Result<(), Error> {
        let mut groups = Vec::new();
        if let Some(previous) = &range.previous {
            groups.push(Group::of_checkpoint(self.source.fs, previous)?);
        }
        groups.push(range.group(self.source)?);
        let total_bytes = groups.iter().flat_map(|group| &group.segments).map(|segment| segment.len).sum();
        let mut progress = Progress { done_bytes: 0, total_bytes };
        for (i, group) in groups.iter().enumerate() {
            self.read_group(group, &mut progress)?;
            if let (0, Some(previous)) = (i, &range.previous) {
                self.look_for_hollow(previous)?;
            }
        }
        self.stats.in_bytes = total_bytes;
        Ok(())
    }

    /// A crash may have emptied the previous checkpoint: then what it stands for is not to be removed.
    fn look_for_hollow(&mut self, previous: &CheckpointRef) -> Result<(), Error> {
        let Source { fs, dir, .. } = *self.source;
        let is_empty = self.stats.records.read == 0 && self.stats.damage.is_empty();
        self.stats.hollow = is_empty && hollow::is_doubtful(fs, previous, &layout::segments(fs, dir)?)?;
        Ok(())
    }

    /// Reads segments that follow each other: in parallel, and around damage one segment at a time.
    fn read_group(&mut self, group: &Group, progress: &mut Progress) -> Result<(), Error> {
        let mut segments = &group.segments[..];
        while !segments.is_empty() {
            let mut reached = Reached::default();
            let damage = match self.read_parallel(segments, &group.ledger, progress, &mut reached) {
                Ok(()) => break,
                Err(Error::Damaged(damage)) if self.options.damage == DamagePolicy::Salvage => damage,
                Err(error) => return Err(error),
            };
            let Some(at) = segments.iter().position(|segment| segment.index == damage.location.segment) else {
                return Err(Error::Damaged(damage));
            };
            let taken = if reached.segment == Some(segments[at].index) { reached.end } else { 0 };
            self.salvage(&segments[at], taken)?;
            segments = &segments[at + 1..];
        }
        self.seen.settle();
        Ok(())
    }

    fn read_parallel(
        &mut self,
        segments: &[SegmentRef],
        ledger: &Ledger,
        progress: &mut Progress,
        reached: &mut Reached,
    ) -> Result<(), Error> {
        let options = ParallelOptions { threads: self.options.threads(), ..ParallelOptions::default() };
        // Results go back to the threads that made them: their memory has been touched already.
        let spare = Mutex::new(Vec::new());
        let (wanted, job) = (self.wanted(), Job::of(self.options));
        let map = |block: &mut Block<'_>| {
            let mut filtered: Filtered = spare.lock().pop().unwrap_or_default();
            filtered.read(block, &wanted, job);
            filtered
        };
        let on_progress = self.options.progress.as_ref();
        let source = self.source;
        let Self { output, metadata, stats, seen, .. } = self;
        let mut end = End { output, metadata, stats, seen };
        parallel::read_compared(source.fs, segments, ledger, &options, map, |delivered| {
            let mut filtered: Filtered = match delivered {
                Delivered::Block(filtered) => filtered,
                Delivered::Missed(damage) => return end.miss(damage.into(), job.damage),
            };
            end.take(&mut filtered, job.damage)?;
            if let Some(end) = filtered.end {
                *reached = Reached { segment: Some(filtered.segment), end };
            }
            progress.done_bytes += filtered.bytes;
            if on_progress.is_some_and(|tell| tell(*progress).is_break()) {
                return Err(Error::Cancelled);
            }
            filtered.clear();
            spare.lock().push(filtered);
            Ok::<_, Error>(())
        })
    }

    /// Reads a damaged segment: everything in it that is sound and begins at `taken` or behind.
    fn salvage(&mut self, segment: &SegmentRef, taken: u64) -> Result<(), Error> {
        let mut reader = SalvageReader::over(self.source.fs.clone(), vec![segment.clone()]);
        let mut filtered = Filtered { segment: segment.index, ..Filtered::default() };
        let (wanted, job) = (self.wanted(), Job::of(self.options));
        let Self { output, metadata, stats, seen, .. } = self;
        let mut end = End { output, metadata, stats, seen };
        loop {
            match reader.next()? {
                None => break,
                Some(Item::Record(record)) if record.position.offset < taken => {}
                Some(Item::Record(record)) => filtered.filter(&record, segment, &wanted, job),
                Some(Item::Damage(range)) => filtered.damage.push(range.damage.into()),
                Some(Item::Gap { .. }) => {}
            }
            if filtered.is_large() {
                end.take(&mut filtered, DamagePolicy::Salvage)?;
                filtered.clear();
            }
        }
        end.take(&mut filtered, DamagePolicy::Salvage)
    }

    fn write_metadata(&mut self) -> Result<(), Error> {
        self.stats.counts.metadata.dropped = self.stats.counts.metadata.total - self.metadata.len() as u64;
        let mut entries = self.metadata.sorted().peekable();
        let mut batch = Batch::default();
        while entries.peek().is_some() {
            batch.clear();
            batch.metadata(entries.by_ref().take(METADATA_RECORD));
            self.output.write(&batch)?;
        }
        Ok(())
    }
}
