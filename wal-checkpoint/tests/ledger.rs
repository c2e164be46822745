//! What only the ledger knows of a source: pages that are zeros, missing, swapped or there twice, a segment that was cut.
//! The bytes that are left read without an error.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use tsdb_model::{Labels, SeriesRef};
use tsdb_vfs::{Fs, SimFs, Vfs};
use wal_checkpoint::{DamagePolicy, Error, Options, Problem, Source, Stats, checkpoint, clean_up, retire};
use wal_format::{Batch, DecodeError, RecordSink, Series, SeriesBatch, Version};
use wal_segment::{FrameFault, HEADER_SIZE, Log, LogOptions, LogReader, PAGE_SIZE, layout};

const DIR: &str = "/data/wal";
const PAGES: u64 = 4;
const SEGMENTS: u64 = 4;

fn dir() -> &'static Path {
    Path::new(DIR)
}

fn open(fs: &Fs, ledger: bool) -> Log {
    let options =
        LogOptions { segment_size: PAGES * PAGE_SIZE as u64, background_sync: false, ledger, ..LogOptions::default() };
    Log::open(fs.clone(), dir(), options).expect("a log").0
}

fn series(n: u64, fill: usize) -> Vec<u8> {
    let labels = Labels::from_pairs([("__name__".to_owned(), n.to_string()), ("fill".to_owned(), "x".repeat(fill))]);
    let mut batch = Batch::new(Version::V1);
    batch.series([Series { series: SeriesRef(n), labels: labels.pairs() }]);
    batch.records().next().expect("a record").to_vec()
}

/// A series record that fills one page to its last byte.
fn page(n: u64) -> Vec<u8> {
    let size = PAGE_SIZE - HEADER_SIZE;
    let fill = 2 * size - series(n, size).len();
    let record = series(n, fill);
    assert_eq!(record.len(), size);
    record
}

/// Segments of four pages, in each page the record of one series; behind them the segment that is being written.
fn fresh() -> (SimFs, Fs) {
    let disk = SimFs::new(1);
    let fs: Fs = Arc::new(disk.clone());
    let log = open(&fs, true);
    for n in 0..SEGMENTS * PAGES {
        log.append([page(n).as_slice()]).expect("room");
    }
    log.next_segment().expect("room");
    log.close().expect("a disk");
    assert_eq!(layout::segments(&fs, dir()).expect("a log").len() as u64, SEGMENTS + 1);
    (disk, fs)
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Harm {
    ZeroEnd,
    Cut,
    Emptied,
    MissingPage,
    Swapped,
    Twice,
    OtherSegment,
}

const HARMS: [Harm; 7] =
    [Harm::ZeroEnd, Harm::Cut, Harm::Emptied, Harm::MissingPage, Harm::Swapped, Harm::Twice, Harm::OtherSegment];

/// The bytes of a segment in which something has happened, and what is left of its four series.
fn harmed(harm: Harm, whole: &[u8], other: &[u8]) -> (Vec<u8>, usize) {
    let page = |n: usize| &whole[n * PAGE_SIZE..(n + 1) * PAGE_SIZE];
    let zeros = vec![0; PAGE_SIZE];
    match harm {
        Harm::ZeroEnd => ([page(0), page(1), page(2), &zeros].concat(), 3),
        Harm::Cut => ([page(0), page(1)].concat(), 2),
        Harm::Emptied => (Vec::new(), 0),
        Harm::MissingPage => ([page(0), page(2), page(3)].concat(), 3),
        Harm::Swapped => ([page(0), page(2), page(1), page(3)].concat(), 4),
        Harm::Twice => ([page(0), page(1), page(1), page(3)].concat(), 3),
        Harm::OtherSegment => (other.to_vec(), 0),
    }
}

fn put(fs: &Fs, path: &Path, bytes: &[u8]) {
    fs.remove_file(path).expect("a segment");
    fs.write_new(path, bytes).expect("a disk");
}

fn segment(index: u64) -> std::path::PathBuf {
    dir().join(layout::segment_name(index))
}

/// Hurts segment 1; the bytes it has then, and the series that are left in all sources.
fn hurt(disk: &SimFs, fs: &Fs, harm: Harm) -> (Vec<u8>, usize) {
    let (whole, other) = (disk.read(&segment(1)).expect("a segment"), disk.read(&segment(2)).expect("a segment"));
    let (bytes, left) = harmed(harm, &whole, &other);
    put(fs, &segment(1), &bytes);
    (bytes, left + (SEGMENTS as usize - 1) * PAGES as usize)
}

fn run(fs: &Fs, damage: DamagePolicy, threads: usize) -> Result<Stats, Error> {
    let options = Options { damage, threads, ..Options::default() };
    checkpoint(&Source::segments(fs, dir()), 0, SEGMENTS - 1, |_| true, 0, &options)
}

struct Refs(BTreeSet<u64>);

macro_rules! nothing_else {
    ($($name:ident: $batch:ident),*) => {
        $(fn $name(&mut self, _: wal_format::$batch<'_>) -> Result<(), DecodeError> {
            panic!("only series were written")
        })*
    };
}

impl RecordSink for Refs {
    type Error = DecodeError;

    fn series(&mut self, batch: SeriesBatch<'_>) -> Result<(), DecodeError> {
        batch.iter().try_for_each(|series| series.map(|series| self.0.extend([series.series.0])))
    }

    nothing_else!(
        samples: SampleBatch, histograms: HistogramBatch, float_histograms: FloatHistogramBatch,
        tombstones: TombstoneBatch, exemplars: ExemplarBatch, metadata: MetadataBatch, mmap_markers: MmapMarkerBatch
    );

    fn unknown(&mut self, _: Option<u8>, _: &[u8]) -> Result<(), DecodeError> {
        panic!("only series were written")
    }
}

fn refs_in(fs: &Fs, path: &Path) -> usize {
    let (mut reader, mut refs) = (LogReader::open(fs.clone(), path).expect("a log"), Refs(BTreeSet::new()));
    while let Some(record) = reader.next().expect("sound") {
        wal_format::dispatch(record.bytes, &mut refs).expect("sound");
    }
    refs.0.len()
}

fn names(fs: &Fs) -> Vec<String> {
    let mut names: Vec<_> =
        fs.list(dir()).expect("a log").into_iter().map(|e| e.name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn what_the_ledger_misses_stops_a_strict_run_and_is_reported_by_a_salvage_run() {
    for harm in HARMS {
        for threads in [1, 4] {
            let (disk, fs) = fresh();
            let (bytes, left) = hurt(&disk, &fs, harm);
            let before = names(&fs);
            match run(&fs, DamagePolicy::Strict, threads) {
                Err(Error::Damaged(damage)) => {
                    assert_eq!(damage.location.segment, 1, "{harm:?}");
                    assert!(matches!(damage.problem, Problem::Frame(FrameFault::Ledger { .. })), "{harm:?}: {damage}");
                }
                other => panic!("{harm:?}: {other:?}"),
            }
            assert_eq!(names(&fs), before, "{harm:?}: nothing has changed");
            assert_eq!(disk.read(&segment(1)).expect("a segment"), bytes);

            let stats = run(&fs, DamagePolicy::Salvage, threads).expect("goes on");
            let [damage] = &stats.damage[..] else { panic!("{harm:?}: {:?}", stats.damage) };
            assert_eq!((damage.location.segment, damage.location.dir.as_path()), (1, dir()));
            assert_eq!(refs_in(&fs, stats.path.as_deref().expect("published")), left, "{harm:?}");
            let removed = retire(&fs, dir(), &stats).expect("a disk");
            assert_eq!(removed.segments, SEGMENTS - 1);
            let [evidence] = &removed.quarantined[..] else { panic!("{:?}", removed.quarantined) };
            assert_eq!(disk.read(evidence).expect("the evidence"), bytes);
        }
    }
}

#[test]
fn without_a_ledger_nobody_can_tell() {
    for harm in HARMS {
        let (disk, fs) = fresh();
        fs.remove_file(&dir().join(layout::LEDGER_NAME)).expect("a ledger");
        let (_, left) = hurt(&disk, &fs, harm);
        let stats = run(&fs, DamagePolicy::Strict, 2).expect("it reads");
        assert_eq!(refs_in(&fs, stats.path.as_deref().expect("published")), left, "{harm:?}");
    }
}

#[test]
fn a_zeroed_page_before_others_is_damage_of_its_own_and_the_segments_before_it_are_compared() {
    let (disk, fs) = fresh();
    let mut bytes = disk.read(&segment(2)).expect("a segment");
    bytes[PAGE_SIZE..2 * PAGE_SIZE].fill(0);
    put(&fs, &segment(2), &bytes);
    let (_, left) = hurt(&disk, &fs, Harm::Cut);
    for threads in [1, 4] {
        let options = Options { damage: DamagePolicy::Salvage, dry_run: true, threads, ..Options::default() };
        let stats = checkpoint(&Source::segments(&fs, dir()), 0, SEGMENTS - 1, |_| true, 0, &options).expect("goes on");
        let found: Vec<_> = stats
            .damage
            .iter()
            .map(|d| (d.location.segment, matches!(d.problem, Problem::Frame(FrameFault::Ledger { .. }))))
            .collect();
        assert_eq!(found, [(1, true), (2, false)], "{:?}", stats.damage);
        assert_eq!(stats.counts.series.total as usize, left - 1);
    }
}

/// What the reference makes of our log: more segments, no word in the ledger.
fn others_go_on(fs: &Fs) {
    let log = open(fs, false);
    log.append([page(99).as_slice()]).expect("room");
    log.close().expect("a disk");
}

#[test]
fn a_log_of_others_and_one_that_others_went_on_with_are_read_as_ever() {
    let (_, fs) = fresh();
    others_go_on(&fs);
    assert!(run(&fs, DamagePolicy::Strict, 2).expect("sound").damage.is_empty());

    // The reference's repair rewrites a damaged segment up to the damage, and goes on behind it.
    let (disk, fs) = fresh();
    hurt(&disk, &fs, Harm::Cut);
    (2..=SEGMENTS).for_each(|n| fs.remove_file(&segment(n)).expect("a segment"));
    (2..=SEGMENTS).for_each(|_| others_go_on(&fs));
    let stats = run(&fs, DamagePolicy::Strict, 2).expect("theirs now");
    assert_eq!(refs_in(&fs, stats.path.as_deref().expect("published")), PAGES as usize + 2 + 1);

    // With segments of ours behind it, it is nobody's repair.
    for harm in [Harm::Cut, Harm::ZeroEnd] {
        let (disk, fs) = fresh();
        others_go_on(&fs);
        hurt(&disk, &fs, harm);
        assert!(matches!(run(&fs, DamagePolicy::Strict, 2), Err(Error::Damaged(_))));
    }

    // Nor is an empty segment a sign of others: whoever wants all of a log in a checkpoint begins one.
    let (disk, fs) = fresh();
    hurt(&disk, &fs, Harm::Cut);
    fs.write_new(&segment(SEGMENTS + 1), &[]).expect("a disk");
    assert!(matches!(run(&fs, DamagePolicy::Strict, 2), Err(Error::Damaged(_))));
}

/// A log with a checkpoint of its first two segments.
fn with_checkpoint(removed: bool) -> (SimFs, Fs, std::path::PathBuf) {
    let (disk, fs) = fresh();
    let options = Options { segment_size: PAGES * PAGE_SIZE as u64, ..Options::default() };
    let stats = checkpoint(&Source::segments(&fs, dir()), 0, 1, |_| true, 0, &options).expect("sound");
    if removed {
        retire(&fs, dir(), &stats).expect("a disk");
    }
    (disk, fs, stats.path.expect("published"))
}

#[test]
fn a_checkpoint_that_lost_pages_is_noticed_when_the_next_one_is_made() {
    let (disk, fs, path) = with_checkpoint(true);
    let inside = path.join(layout::segment_name(1));
    let whole = disk.read(&inside).expect("a segment");
    put(&fs, &inside, &harmed(Harm::ZeroEnd, &whole, &[]).0);
    let before = names(&fs);
    let error = run(&fs, DamagePolicy::Strict, 2).expect_err("damage");
    assert!(matches!(&error, Error::Damaged(d) if d.location.dir == path && d.location.segment == 1), "{error}");
    assert_eq!(names(&fs), before);
    let stats = run(&fs, DamagePolicy::Salvage, 2).expect("goes on");
    assert_eq!(stats.damage.len(), 1);
    let removed = retire(&fs, dir(), &stats).expect("a disk");
    assert_eq!(removed.quarantined, [dir().join("quarantine").join(layout::checkpoint_name(1))]);
    assert_eq!(refs_in(&fs, stats.path.as_deref().expect("published")) as u64, SEGMENTS * PAGES - 1);
}

#[test]
fn what_a_checkpoint_stands_for_stays_when_the_checkpoint_has_lost_pages() {
    let (disk, fs, path) = with_checkpoint(false);
    let inside = path.join(layout::segment_name(1));
    let whole = disk.read(&inside).expect("a segment");
    put(&fs, &inside, &harmed(Harm::ZeroEnd, &whole, &[]).0);
    let before = names(&fs);
    assert!(matches!(clean_up(&fs, dir()), Err(Error::Damaged(_))));
    assert_eq!(names(&fs), before);
    // Mended, it may go, and what the run read over in its sources is evidence.
    put(&fs, &inside, &whole);
    let (bytes, _) = hurt(&disk, &fs, Harm::Swapped);
    let removed = clean_up(&fs, dir()).expect("sound");
    assert_eq!(removed.segments, 1);
    let [evidence] = &removed.quarantined[..] else { panic!("{:?}", removed.quarantined) };
    assert_eq!(disk.read(evidence).expect("the evidence"), bytes);
    layout::replay_segments(&fs, dir()).expect("no gap");
}
