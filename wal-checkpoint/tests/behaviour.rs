//! What a run promises besides what it keeps: damage, determinism, live data, refusals.

mod support;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use support::{Found, labels, replay, scrape};
use tsdb_model::SeriesRef;
use tsdb_vfs::sim::{Failure, Fault, OpKind};
use tsdb_vfs::{Fs, SimFs, Vfs};
use wal_checkpoint::{
    Count, DamagePolicy, Error, LiveWriter, Options, Problem, Source, checkpoint, clean_up, remove_temporaries, retire,
};
use wal_format::{Metadata, MetricType, Sample, Series, Tombstone};
use wal_segment::{Compression, Log, LogOptions, PAGE_SIZE, layout};

const DIR: &str = "/data/wal";
const WIDTH: u64 = 200;

fn dir() -> &'static Path {
    Path::new(DIR)
}

fn log(fs: &Fs, compression: Compression) -> Log {
    let options =
        LogOptions { segment_size: 4 * PAGE_SIZE as u64, compression, background_sync: false, ..LogOptions::default() };
    Log::open(fs.clone(), dir(), options).expect("a log").0
}

/// A log of scrapes at times 0… of series 1…200, codecs in turn; its last segment is not part of any checkpoint.
fn write(fs: &Fs, scrapes: i64) -> u64 {
    for (n, compression) in [Compression::None, Compression::Snappy, Compression::Zstd].into_iter().enumerate() {
        let log = log(fs, compression);
        for t in (0..scrapes).filter(|t| *t * 3 / scrapes == n as i64) {
            log.append(scrape(t, 1..1 + WIDTH, t == 0).records()).expect("room");
        }
        log.close().expect("a disk");
    }
    let log = log(fs, Compression::None);
    let last = log.current_segment();
    log.close().expect("a disk");
    last - 1
}

fn fresh(scrapes: i64) -> (SimFs, Fs, u64) {
    let disk = SimFs::new(1);
    let fs: Fs = Arc::new(disk.clone());
    let to = write(&fs, scrapes);
    (disk, fs, to)
}

/// Every file below a directory, with its bytes.
fn tree(disk: &SimFs, dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in disk.list(dir).expect("a directory") {
        let path = dir.join(&entry.name);
        match entry.kind {
            tsdb_vfs::FileKind::Dir => files.append(&mut tree(disk, &path)),
            _ => files.push((path.clone(), disk.read(&path).expect("a file"))),
        }
    }
    files
}

#[test]
fn the_same_input_gives_the_same_bytes_whatever_the_threads() {
    for compression in [Compression::None, Compression::Snappy, Compression::Zstd] {
        let mut outputs = Vec::new();
        for threads in [1, 2, 3, 8] {
            let (disk, fs, to) = fresh(400);
            let options = Options { threads, compression, ..Options::default() };
            let stats =
                checkpoint(&Source::segments(&fs, dir()), 0, to, |s| s.0 % 3 > 0, 150, &options).expect("sound");
            outputs.push(tree(&disk, &stats.path.expect("something to do")));
        }
        assert!(outputs.windows(2).all(|pair| pair[0] == pair[1]), "{compression}");
        assert!(outputs[0].iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > 100_000);
    }
}

#[test]
fn a_bit_anywhere_stops_a_strict_run_and_costs_a_salvage_run_one_record() {
    let (disk, fs, to) = fresh(60);
    let source = Source::segments(&fs, dir());
    let whole =
        checkpoint(&source, 0, to, |_| true, 0, &Options { publish_in: Some("/out".into()), ..Options::default() });
    assert!(whole.is_err(), "there is no /out");
    fs.create_dir_all(Path::new("/out")).expect("a disk");
    let options = Options { publish_in: Some("/out".into()), ..Options::default() };
    let whole = checkpoint(&source, 0, to, |_| true, 0, &options).expect("sound");
    let (mut strict, mut salvaged, mut one_record) = (0, 0, 0);
    for index in 0..=to {
        let path = dir().join(layout::segment_name(index));
        let file = disk.open_write(&path).expect("a segment");
        let len = file.len().expect("a length");
        for offset in (1..len).step_by(911) {
            let mut byte = [0];
            file.read_exact_at(&mut byte, offset).expect("a byte");
            file.write_all_at(&[byte[0] ^ 0x10], offset).expect("a disk");
            let before = tree(&disk, dir());
            match checkpoint(&source, 0, to, |_| true, 0, &Options::default()) {
                Ok(_) => fs.remove_dir_all(&dir().join(layout::checkpoint_name(to))).expect("a disk"),
                Err(Error::Damaged(damage)) => {
                    strict += 1;
                    assert_eq!(damage.location.segment, index);
                    assert_eq!(tree(&disk, dir()), before);
                    let options = Options { damage: DamagePolicy::Salvage, ..options.clone() };
                    fs.remove_dir_all(&Path::new("/out").join(layout::checkpoint_name(to))).expect("a disk");
                    let stats = checkpoint(&source, 0, to, |_| true, 0, &options).expect("salvage");
                    assert!(!stats.damage.is_empty());
                    // A header that is wrong can hide the rest of its page, 32 KiB of records of 200 bytes at least; a
                    // wrong byte of data costs its record and nothing else.
                    let lost = whole.records.read - stats.records.read;
                    assert!(lost <= 160, "{index} at {offset}: {lost} records lost, {:?}", stats.damage);
                    salvaged += 1;
                    one_record += u64::from(lost <= 1);
                }
                Err(other) => panic!("{other}"),
            }
            file.write_all_at(&byte, offset).expect("a disk");
        }
    }
    println!("{strict} strict runs stopped, {salvaged} salvaged, {one_record} of them for one record");
    assert!(strict > 100 && salvaged == strict && one_record * 10 > strict * 9);
}

#[test]
fn a_sound_frame_that_holds_no_record_is_damage() {
    let (_, fs, to) = fresh(10);
    let log = log(&fs, Compression::None);
    log.append([[2u8, 0, 0, 1].as_slice()]).expect("room");
    log.append(scrape(50, 1..3, false).records()).expect("room");
    log.next_segment().expect("room");
    let to = to + 2;
    let source = Source::segments(&fs, dir());
    let error = checkpoint(&source, 0, to, |_| true, 0, &Options::default()).expect_err("damage");
    assert!(matches!(&error, Error::Damaged(d) if matches!(d.problem, Problem::Record(_))), "{error}");
    let options = Options { damage: DamagePolicy::Salvage, ..Options::default() };
    let stats = checkpoint(&source, 0, to, |_| true, 0, &options).expect("salvage");
    assert_eq!(stats.counts.undecodable, Count { total: 1, dropped: 1 });
    assert_eq!(stats.damage.len(), 1);
    retire(&fs, dir(), &stats).expect("a disk");
    let found = replay(&fs, dir()).expect("sound");
    assert_eq!(found.samples.len(), 10 * WIDTH as usize + 2);
}

#[test]
fn damage_in_a_checkpoint_touches_no_segment() {
    let (disk, fs, to) = fresh(60);
    let source = Source::segments(&fs, dir());
    let stats = checkpoint(&source, 0, to / 2, |_| true, 0, &Options::default()).expect("sound");
    retire(&fs, dir(), &stats).expect("a disk");
    let inside = stats.path.expect("published").join("00000000");
    let file = disk.open_write(&inside).expect("a segment");
    file.write_all_at(&[0xff], 5000).expect("a disk");

    let before = tree(&disk, dir());
    let error = checkpoint(&source, 0, to, |_| true, 0, &Options::default()).expect_err("damage");
    assert!(matches!(&error, Error::Damaged(d) if d.location.dir == inside.parent().unwrap()), "{error}");
    assert_eq!(tree(&disk, dir()), before);

    let options = Options { damage: DamagePolicy::Salvage, ..Options::default() };
    let stats = checkpoint(&source, 0, to, |_| true, 0, &options).expect("salvage");
    let removed = retire(&fs, dir(), &stats).expect("a disk");
    assert_eq!(removed.quarantined, [dir().join("quarantine").join(layout::checkpoint_name(to / 2))]);
    assert_eq!(removed.segments, to - to / 2);
    let kept = replay(&fs, dir()).expect("sound");
    assert!(kept.samples.len() > 50 * WIDTH as usize);
}

#[test]
fn live_data_make_the_checkpoint_that_the_segments_make() {
    let (_, fs, to) = fresh(60);
    let (mint, keep) = (20, |s: SeriesRef| s.0.is_multiple_of(2));
    let from_segments = {
        let stats = checkpoint(&Source::segments(&fs, dir()), 0, to, keep, mint, &Options::default()).expect("sound");
        (stats.counts, found_in(&fs, &stats.path.expect("published")))
    };
    let (_, fs, to) = fresh(60);
    let live = |out: &mut LiveWriter<'_, '_>| {
        let all: Vec<_> = (1..1 + WIDTH).map(|s| (s, labels(s))).collect();
        out.series(all.iter().map(|(s, labels)| Series { series: SeriesRef(*s), labels: labels.pairs() }))?;
        out.metadata((1..1 + WIDTH).map(|s| Metadata {
            series: SeriesRef(s),
            metric_type: MetricType::Gauge,
            unit: b"",
            help: b"help",
        }));
        for t in 0..60 {
            let samples: Vec<_> =
                (1..1 + WIDTH).map(|s| Sample { series: SeriesRef(s), t, v: support::value(t, s), st: 0 }).collect();
            out.samples(&samples)?;
            out.tombstones([Tombstone { series: SeriesRef(1), mint: t - 5, maxt: t }])?;
        }
        Ok(())
    };
    let options = Options { compression: Compression::Snappy, ..Options::default() };
    let stats = checkpoint(&Source::memory(&fs, dir(), &live), 0, to, keep, mint, &options).expect("room");
    let from_memory = (stats.counts, found_in(&fs, &stats.path.expect("published")));
    assert_eq!(from_memory, from_segments);
}

fn found_in(fs: &Fs, path: &Path) -> Found {
    replay(fs, path).expect("a checkpoint is a log")
}

#[test]
fn a_range_that_is_not_there_is_refused_and_one_that_is_done_is_nothing_to_do() {
    let (disk, fs, to) = fresh(400);
    let source = Source::segments(&fs, dir());
    let run = |from, to| checkpoint(&source, from, to, |_| true, 0, &Options::default());
    assert!(matches!(run(0, to + 10), Err(Error::Missing { missing, .. }) if missing == to + 2));
    let stats = run(0, 3).expect("sound");
    retire(&fs, dir(), &stats).expect("a disk");
    assert!(matches!(run(5, to), Err(Error::Gap { expected: 4, from: 5, .. })));
    let before = tree(&disk, dir());
    for to in 0..=3 {
        assert!(run(0, to).expect("nothing to do").no_op());
    }
    assert_eq!(tree(&disk, dir()), before);
    fs.remove_file(&dir().join("00000005")).expect("a disk");
    assert!(run(0, to).is_err());
}

#[test]
fn a_run_can_be_cancelled() {
    let (disk, fs, to) = fresh(60);
    let before = tree(&disk, dir());
    let progress = Arc::new(|p: wal_checkpoint::Progress| {
        assert!(p.done_bytes <= p.total_bytes);
        ControlFlow::Break(())
    });
    let options = Options { progress: Some(progress), ..Options::default() };
    let error = checkpoint(&Source::segments(&fs, dir()), 0, to, |_| true, 0, &options).expect_err("cancelled");
    assert!(matches!(error, Error::Cancelled));
    assert_eq!(tree(&disk, dir()), before);
}

#[test]
fn a_failed_fsync_never_publishes() {
    for (kind, name) in [(OpKind::SyncData, "data"), (OpKind::SyncDir, "directory")] {
        for nth in 0..6 {
            let (disk, fs, to) = fresh(60);
            let before = tree(&disk, dir());
            let failure = Failure::new(Fault::Error(5)).kind(kind).nth(nth);
            // The ledger's own sync may fail: it only helps to find damage.
            let temporary = format!("{DIR}/checkpoint.{to:08}.tmp/00000000");
            disk.inject(if kind == OpKind::SyncData { failure.under(temporary) } else { failure });
            let options = Options { threads: 1, ..Options::default() };
            let done = checkpoint(&Source::segments(&fs, dir()), 0, to, |_| true, 0, &options);
            if disk.fired() == 0 {
                assert!(done.is_ok());
                continue;
            }
            assert!(done.is_err(), "{name} sync {nth}");
            assert_eq!(tree(&disk, dir()), before, "{name} sync {nth}");
        }
    }
}

#[test]
fn leftovers_are_removed_only_behind_a_checkpoint_that_holds_something() {
    let (disk, fs, to) = fresh(60);
    let stats = checkpoint(&Source::segments(&fs, dir()), 0, to, |_| true, 0, &Options::default()).expect("sound");
    let path = stats.path.expect("published");
    fs.create_dir_all(&dir().join("checkpoint.00000099.tmp/sub")).expect("a disk");
    // What a crash without an fsync leaves: the name, and an empty file.
    let segment = path.join("00000000");
    let bytes = disk.read(&segment).expect("a segment");
    disk.open_write(&segment).expect("a segment").set_len(0).expect("a disk");
    // The ledger knows of records, and without it nobody knows.
    assert!(matches!(clean_up(&fs, dir()), Err(Error::Hollow { .. })));
    disk.remove_file(&path.join(layout::LEDGER_NAME)).expect("a ledger");
    assert!(matches!(clean_up(&fs, dir()), Err(Error::Hollow { .. })));
    assert_eq!(layout::segments(&fs, dir()).expect("a log").len() as u64, to + 2);
    let file = disk.open_write(&segment).expect("a segment");
    file.write_all_at(&bytes, 0).expect("a disk");
    let removed = clean_up(&fs, dir()).expect("sound");
    assert_eq!(removed.segments, to + 1);
    assert_eq!(remove_temporaries(&fs, dir()).expect("a disk"), 0);
}

#[test]
fn a_run_that_was_killed_before_it_moved_the_evidence_is_ended_the_same_way() {
    let (disk, fs, to) = fresh(60);
    let damaged = dir().join(layout::segment_name(1));
    let file = disk.open_write(&damaged).expect("a segment");
    let mut byte = [0];
    file.read_exact_at(&mut byte, 1000).expect("a byte");
    file.write_all_at(&[byte[0] ^ 0x10], 1000).expect("a disk");
    let bytes = disk.read(&damaged).expect("a segment");
    let options = Options { damage: DamagePolicy::Salvage, ..Options::default() };
    let stats = checkpoint(&Source::segments(&fs, dir()), 0, to, |_| true, 0, &options).expect("salvage");
    assert!(!stats.damage.is_empty());
    // No retire.
    let removed = clean_up(&fs, dir()).expect("a sound checkpoint");
    assert_eq!((removed.segments, removed.quarantined.len()), (to, 1));
    assert_eq!(disk.read(&removed.quarantined[0]).expect("the evidence"), bytes);
}

/// A checkpoint of which nothing is kept, and the log behind it.
fn nothing_kept() -> (SimFs, Fs, u64, PathBuf) {
    let (disk, fs, to) = fresh(60);
    let options = Options { threads: 1, ..Options::default() };
    let stats = checkpoint(&Source::segments(&fs, dir()), 0, to, |_| false, i64::MAX, &options).expect("sound");
    assert!(stats.records.read > 0 && stats.records.written == 0);
    (disk, fs, to, stats.path.expect("published"))
}

#[test]
fn a_removal_behind_an_empty_checkpoint_goes_on_after_a_kill() {
    let (disk, fs, to, path) = nothing_kept();
    // Killed with the first of the segments gone.
    disk.remove_file(&dir().join(layout::segment_name(0))).expect("a segment");
    let removed = clean_up(&fs, dir()).expect("empty in earnest");
    assert_eq!(removed.segments, to);
    assert!(log(&fs, Compression::None).current_segment() > to);
    assert_eq!(replay(&fs, dir()).expect("sound"), Found::default());

    // The same bytes with nobody to vouch for them.
    let (disk, fs, to, again) = nothing_kept();
    assert_eq!(again, path);
    disk.remove_file(&path.join(layout::LEDGER_NAME)).expect("a ledger");
    assert!(matches!(clean_up(&fs, dir()), Err(Error::Hollow { .. })));
    assert_eq!(layout::segments(&fs, dir()).expect("a log").len() as u64, to + 2);
}

#[test]
fn an_empty_checkpoint_is_not_published_before_its_ledger_is_durable() {
    let mut refused = 0;
    for kind in [OpKind::SyncAll, OpKind::SyncDir, OpKind::Rename, OpKind::Create, OpKind::Write] {
        for nth in 0..4 {
            let (disk, fs, to) = fresh(60);
            let before = tree(&disk, dir());
            let temporary = format!("{DIR}/checkpoint.{to:08}.tmp");
            disk.inject(Failure::new(Fault::Error(5)).kind(kind).nth(nth).under(temporary));
            let options = Options { threads: 1, ..Options::default() };
            match checkpoint(&Source::segments(&fs, dir()), 0, to, |_| false, i64::MAX, &options) {
                Ok(_) => assert_eq!(clean_up(&fs, dir()).expect("vouched for").segments, to + 1, "{kind:?} {nth}"),
                Err(_) => assert_eq!(tree(&disk, dir()), before, "{kind:?} {nth}"),
            }
            refused += u64::from(disk.fired() > 0);
        }
    }
    assert!(refused >= 6, "{refused}");
}

#[test]
fn what_a_hollow_checkpoint_stands_for_goes_to_quarantine() {
    let (disk, fs, to, path) = nothing_kept();
    disk.remove_file(&path.join(layout::LEDGER_NAME)).expect("a ledger");
    let log = log(&fs, Compression::None);
    log.append(scrape(100, 1..3, true).records()).expect("room");
    let (from, upto) = (to + 1, log.next_segment().expect("room") - 1);
    let stats = checkpoint(&Source::segments(&fs, dir()), from, upto, |_| true, 0, &Options::default()).expect("sound");
    assert!(stats.hollow && stats.damage.is_empty());
    let removed = retire(&fs, dir(), &stats).expect("a disk");
    // The segments 0 to `to`, and the checkpoint.
    assert_eq!(removed.quarantined.len() as u64, to + 2);
    assert!(disk.dir_exists(&dir().join("quarantine").join(layout::checkpoint_name(to))).expect("a disk"));
    assert!(replay(&fs, dir()).expect("sound").samples.contains(&(100, 1)));
}
