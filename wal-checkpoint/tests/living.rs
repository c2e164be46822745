//! Series records that damage took, and that a head still knows.

mod support;

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use support::{Found, labels, replay, scrape};
use tsdb_model::SeriesRef;
use tsdb_vfs::{Fs, SimFs, Vfs};
use wal_checkpoint::{DamagePolicy, LiveWriter, Options, Source, Stats, checkpoint, retire};
use wal_format::Series;
use wal_segment::{Compression, Log, LogOptions, LogReader, PAGE_SIZE, layout};

const DIR: &str = "/data/wal";
const WIDTH: u64 = 200;

fn dir() -> &'static Path {
    Path::new(DIR)
}

/// Scrapes 0 to 99, a segment for each ten; series 1…200 are there from the start, and 10 more in each scrape of tens.
fn fresh(compression: Compression) -> (SimFs, Fs) {
    let disk = SimFs::new(1);
    let fs: Fs = Arc::new(disk.clone());
    let options = LogOptions {
        segment_size: 64 * PAGE_SIZE as u64,
        compression,
        background_sync: false,
        ..LogOptions::default()
    };
    let log = Log::open(fs.clone(), dir(), options).expect("a log").0;
    for t in 0..100 {
        let born = 1 + WIDTH + t as u64 / 10 * 10;
        if t % 10 == 0 {
            log.append(scrape(t, born..born + 10, true).records()).expect("room");
        }
        log.append(scrape(t, 1..1 + WIDTH, t == 0).records()).expect("room");
        if t % 10 == 9 {
            log.append(scrape(t, born..born + 10, false).records()).expect("room");
            log.next_segment().expect("room");
        }
    }
    log.close().expect("a disk");
    (disk, fs)
}

/// A wrong byte in the first record of kind `tag` of a segment.
fn damage(disk: &SimFs, fs: &Fs, index: u64, tag: u8) {
    let path = dir().join(layout::segment_name(index));
    let segments = layout::segments(fs, dir()).expect("a log");
    let segment = segments.into_iter().find(|segment| segment.index == index).expect("a segment");
    let mut reader = LogReader::over(fs.clone(), vec![segment]);
    let offset = loop {
        let record = reader.next().expect("sound").expect("one of this kind");
        if record.bytes[0] == tag {
            break record.end - 1;
        }
    };
    let file = disk.open_write(&path).expect("a segment");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("a byte");
    file.write_all_at(&[byte[0] ^ 0x10], offset).expect("a disk");
}

/// A salvaging checkpoint of all but the last segment, with the help of a head that knows series 1 to `known`; how often
/// it was asked.
fn run(fs: &Fs, known: u64, options: &Options) -> (Stats, u64) {
    let asked = Cell::new(0);
    let living = |out: &mut LiveWriter<'_, '_>| {
        asked.set(asked.get() + 1);
        let all: Vec<_> = (1..=known).map(|s| (s, labels(s))).collect();
        all.chunks(50).try_for_each(|some| {
            out.series(some.iter().map(|(s, labels)| Series { series: SeriesRef(*s), labels: labels.pairs() }))
        })
    };
    let source = Source::segments(fs, dir()).with_living(&living);
    let keep = |series: SeriesRef| series.0 != 3;
    let stats = checkpoint(&source, 0, 9, keep, 20, options).expect("a checkpoint");
    (stats, asked.get())
}

fn salvage() -> Options {
    Options { damage: DamagePolicy::Salvage, ..Options::default() }
}

fn sound() -> Found {
    let (_, fs) = fresh(Compression::None);
    let (stats, asked) = run(&fs, 300, &salvage());
    assert_eq!((stats.supplied, asked), (0, 0), "nobody is asked without need");
    replay(&fs, dir()).expect("sound")
}

#[test]
fn a_series_whose_record_is_damaged_keeps_its_labels() {
    let expected = sound();
    for compression in [Compression::None, Compression::Snappy, Compression::Zstd] {
        for threads in [1, 4] {
            let (disk, fs) = fresh(compression);
            damage(&disk, &fs, 0, 1);
            damage(&disk, &fs, 6, 1);
            let (stats, asked) = run(&fs, 300, &Options { compression, threads, ..salvage() });
            // The first record of segment 0 holds ten, that of segment 6 ten more.
            assert_eq!((stats.supplied, stats.damage.len(), asked), (20, 2, 2));
            let removed = retire(&fs, dir(), &stats).expect("a disk");
            assert_eq!(removed.quarantined.len(), 2);
            let found = replay(&fs, dir()).expect("sound");
            assert_eq!(found.series, expected.series);
            assert_eq!(found.samples, expected.samples);
            assert_eq!(found.tombstones, expected.tombstones);
        }
    }
}

#[test]
fn series_stand_before_their_samples() {
    let (disk, fs) = fresh(Compression::None);
    damage(&disk, &fs, 6, 1);
    let (stats, _) = run(&fs, 300, &salvage());
    let path = stats.path.expect("published");
    let mut reader = LogReader::open(fs.clone(), &path).expect("a log");
    let first = reader.next().expect("sound").expect("a record");
    assert_eq!(first.bytes[0], 1, "a series record");
}

#[test]
fn damage_that_takes_no_series_costs_no_second_run() {
    let (disk, fs) = fresh(Compression::None);
    damage(&disk, &fs, 4, 2);
    let (stats, asked) = run(&fs, 300, &salvage());
    assert_eq!((stats.supplied, stats.damage.len(), asked), (0, 1, 1));
}

#[test]
fn of_a_segment_that_is_not_what_was_written_no_series_record_is_relied_on() {
    let expected = sound();
    let (disk, fs) = fresh(Compression::None);
    // Cut behind its first record: the ledger misses the rest.
    let segments = layout::segments(&fs, dir()).expect("a log");
    let mut reader = LogReader::over(fs.clone(), vec![segments[6].clone()]);
    let end = reader.next().expect("sound").expect("a record").end;
    disk.open_write(&segments[6].path).expect("a segment").set_len(end).expect("a disk");
    let (stats, asked) = run(&fs, 300, &salvage());
    assert_eq!((stats.supplied, stats.damage.len(), asked), (10, 1, 2));
    assert_eq!(replay(&fs, dir()).expect("sound").series, expected.series);
}

#[test]
fn a_strict_run_stops_and_a_dry_one_says_what_it_would_do() {
    let (disk, fs) = fresh(Compression::None);
    damage(&disk, &fs, 0, 1);
    let living = |_: &mut LiveWriter<'_, '_>| panic!("a strict run asks nobody");
    let source = Source::segments(&fs, dir()).with_living(&living);
    checkpoint(&source, 0, 9, |_| true, 0, &Options::default()).expect_err("damage");
    let (stats, _) = run(&fs, 300, &Options { dry_run: true, ..salvage() });
    assert_eq!((stats.supplied, stats.path), (10, None));
}
