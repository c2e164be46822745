//! What a start makes of logs that somebody else wrote: other refs, other kinds of records, records that belong to nobody,
//! and what this version does not use yet.

mod common;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use common::{dump, floats, fs, labels, open, options};
use head_chunks::Encoding;
use head_chunks::files::{ChunkFiles, NewChunk, Options as ChunkFileOptions};
use head_chunks::xor::XorAppender;
use tsdb_head::{Head, HeadOptions};
use tsdb_model::{Labels, SeriesRef};
use wal_format::{
    Batch, Exemplar, Metadata, MetricType, MmapMarker, Record, RecordEntries, Sample, Series, Tombstone, Version,
};
use wal_segment::{Log, LogOptions, SegmentRef, layout};

fn log(dir: &Path) -> Log {
    Log::open(fs(), dir, LogOptions { segment_size: 32 << 10, ..LogOptions::default() }).unwrap().0
}

fn series(batch: &mut Batch, series: u64, labels: &Labels) {
    batch.series([Series { series: SeriesRef(series), labels: labels.pairs() }]);
}

fn sample(series: u64, t: i64) -> Sample {
    Sample { series: SeriesRef(series), t, v: t as f64, st: 0 }
}

fn times(dumped: &common::Dumped) -> Vec<i64> {
    floats(dumped).into_iter().map(|(t, _)| t).collect()
}

/// Every file below a directory, with its bytes.
fn tree(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.append(&mut tree(&path));
        } else {
            files.push((path.clone(), std::fs::read(&path).unwrap()));
        }
    }
    files.sort();
    files
}

/// Decoded records of checkpoint and segments.
fn each_record(wal: &Path, mut see: impl FnMut(RecordEntries<'_>)) {
    let (checkpoint, segments) = layout::replay_segments(&fs(), wal).unwrap();
    let mut each = |segments: Vec<SegmentRef>| {
        let mut reader = wal_segment::SalvageReader::over(fs(), segments);
        while let Some(item) = reader.next().unwrap() {
            let wal_segment::Item::Record(record) = item else { panic!("damage") };
            see(Record::decode(record.bytes).unwrap().entries);
        }
    };
    each(checkpoint);
    each(segments);
}

#[test]
fn no_ref_is_given_out_that_anything_in_the_directory_uses() {
    type Write = fn(&mut Batch);
    let kinds: [(&str, Write); 5] = [
        ("series", |batch| series(batch, 900, &labels(1))),
        ("a sample of nobody", |batch| batch.samples([sample(900, 5)])),
        ("a tombstone", |batch| batch.tombstones([Tombstone { series: SeriesRef(900), mint: 0, maxt: 9 }])),
        ("an exemplar", |batch| {
            let labels = Labels::from_pairs([("trace", "1")]);
            batch.exemplars([Exemplar { series: SeriesRef(900), t: 5, v: 1.0, labels: labels.pairs() }]);
        }),
        ("metadata", |batch| {
            let (unit, help) = (&b"s"[..], &b"help"[..]);
            batch.metadata([Metadata { series: SeriesRef(900), metric_type: MetricType::Counter, unit, help }]);
        }),
    ];
    for (name, write) in kinds {
        for log_name in ["wal", "wbl"] {
            let tmp = tempfile::tempdir().unwrap();
            let written = log(&tmp.path().join(log_name));
            let mut batch = Batch::new(Version::V1);
            write(&mut batch);
            written.append(batch.records()).unwrap();
            written.close().unwrap();
            let (head, _) = open(tmp.path());
            let mut app = head.appender();
            let fresh = app.append(None, &labels(2), 10_000, 1.0).unwrap();
            assert!(fresh.0 > 900, "{name} in {log_name}: {fresh}");
        }
    }
}

#[test]
fn refs_that_repeat_and_records_that_belong_to_nobody() {
    let tmp = tempfile::tempdir().unwrap();
    let written = log(&tmp.path().join("wal"));
    let mut batch = Batch::new(Version::V1);
    series(&mut batch, 1, &labels(1));
    batch.samples([sample(1, 10), sample(77, 11)]);
    series(&mut batch, 7, &labels(1));
    batch.samples([sample(7, 20), sample(1, 30)]);
    // The same once more: the reference forgets what it had of the series.
    series(&mut batch, 1, &labels(1));
    batch.samples([sample(7, 40), sample(1, 40)]);
    // A ref with two label sets: the first one stays.
    series(&mut batch, 1, &labels(2));
    batch.samples([sample(1, 50)]);
    // A series that was deleted as a whole.
    series(&mut batch, 9, &labels(3));
    batch.samples([sample(9, 10)]);
    batch.tombstones([Tombstone { series: SeriesRef(9), mint: i64::MIN, maxt: i64::MAX }]);
    batch.raw(&[200, 1, 2, 3]);
    written.append(batch.records()).unwrap();
    written.close().unwrap();
    let (head, report) = open(tmp.path());
    let counts = report.counts;
    assert_eq!((counts.aliases, counts.repeated_series, counts.dropped_series), (1, 2, 1));
    // The sample of the deleted series, too: it went before samples were looked at.
    assert_eq!((counts.unknown_refs, counts.unknown_records, counts.already_there), (2, 1, 1));
    let found = dump(&head);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(times(&found[0]), [10, 20, 30, 40, 50]);
}

#[test]
fn a_lowest_time_within_a_segment() {
    let tmp = tempfile::tempdir().unwrap();
    let (head, _) = open(tmp.path());
    for t in 0..100 {
        let mut app = head.appender();
        for i in 0..3 {
            app.append(None, &labels(i), t, t as f64).unwrap();
        }
        app.commit().unwrap();
    }
    drop(head);
    let (head, report) = Head::open(fs(), tmp.path(), HeadOptions { min_valid_time: Some(37), ..options() }).unwrap();
    assert_eq!((report.counts.applied, report.counts.before_min_valid), (63 * 3, 37 * 3));
    let all: Vec<i64> = (37..100).collect();
    assert!(dump(&head).iter().all(|series| times(series) == all));
    let mut app = head.appender();
    app.append(None, &labels(9), 36, 1.0).unwrap_err();
    app.append(None, &labels(9), 37, 1.0).unwrap();
}

#[test]
fn a_replay_says_how_far_it_is() {
    let tmp = tempfile::tempdir().unwrap();
    let written = log(&tmp.path().join("wal"));
    for t in 0..20_000 {
        let mut batch = Batch::new(Version::V1);
        (0..20).for_each(|i| series(&mut batch, i + 1, &labels(i as usize)));
        batch.samples((0..20).map(|i| sample(i + 1, t)));
        written.append(batch.records()).unwrap();
    }
    written.close().unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let progress = {
        let told = Arc::clone(&told);
        move |progress: &tsdb_head::Progress| told.lock().unwrap().push(*progress)
    };
    let options = HeadOptions { progress: Some(Arc::new(progress)), replay_threads: 1, ..options() };
    let (_, report) = Head::open(fs(), tmp.path(), options).unwrap();
    let told = told.lock().unwrap();
    assert!(told.len() > 3, "{told:?}");
    assert!(told.is_sorted_by_key(|progress| progress.bytes_done));
    assert!(told.iter().all(|progress| progress.bytes_total == report.bytes));
    assert_eq!(told.last().map(|progress| progress.bytes_done), Some(report.bytes));
}

#[test]
fn who_only_reads_writes_nothing_and_needs_no_lock() {
    let tmp = tempfile::tempdir().unwrap();
    let (head, _) = open(tmp.path());
    for t in 0..50 {
        let mut app = head.appender();
        app.append(None, &labels(1), t, t as f64).unwrap();
        app.commit().unwrap();
    }
    let (live, before) = (dump(&head), tree(tmp.path()));
    // The lock is held, and the log has no proper end.
    let (reader, report) = Head::open_read_only(fs(), tmp.path(), options()).unwrap();
    assert!(report.is_sound());
    assert_eq!(dump(&reader), live);
    reader.appender().append(None, &labels(1), 100, 1.0).unwrap_err();
    reader.truncate(10).unwrap_err();
    reader.write_chunks().unwrap_err();
    reader.close().unwrap();
    assert_eq!(tree(tmp.path()), before);
    // Torn in the middle of a record.
    drop(head);
    let segment = tmp.path().join("wal/00000000");
    let len = std::fs::metadata(&segment).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&segment).unwrap().set_len(len - 5).unwrap();
    let before = tree(tmp.path());
    let (reader, report) = Head::open_read_only(fs(), tmp.path(), options()).unwrap();
    assert!(report.damage.len() == 1 && report.damage[0].torn_end, "{report:?}");
    assert_eq!(times(&dump(&reader)[0]), (0..49).collect::<Vec<_>>());
    assert_eq!(tree(tmp.path()), before);
}

/// Out-of-order data, exemplars, metadata, tombstones of some times and a snapshot are not used yet: opening, appending and
/// truncating leave them as they are, or in the log as far as it still reaches back.
#[test]
fn what_is_not_used_yet_outlives_truncation() {
    const OUT_OF_ORDER: u64 = 40;
    let tmp = tempfile::tempdir().unwrap();
    let (wal, wbl) = (tmp.path().join("wal"), tmp.path().join("wbl"));
    let written = log(&wal);
    let mut batch = Batch::new(Version::V1);
    let exemplar = Labels::from_pairs([("trace", "1")]);
    for i in 1..=3 {
        series(&mut batch, i, &labels(i as usize));
    }
    // No sample of its own in this log.
    series(&mut batch, OUT_OF_ORDER, &labels(OUT_OF_ORDER as usize));
    batch.samples((1..=3).map(|i| sample(i, 100)));
    for t in [100, 900_000] {
        batch.exemplars([Exemplar { series: SeriesRef(1), t, v: 1.0, labels: exemplar.pairs() }]);
    }
    for help in [&b"old"[..], b"new"] {
        let metric_type = MetricType::Gauge;
        batch.metadata([Metadata { series: SeriesRef(1), metric_type, unit: b"", help }]);
    }
    batch.tombstones([Tombstone { series: SeriesRef(1), mint: 0, maxt: 950_000 }]);
    written.append(batch.records()).unwrap();
    written.close().unwrap();

    let written = log(&wbl);
    let mut batch = Batch::new(Version::V1);
    batch.samples([sample(OUT_OF_ORDER, 50)]);
    batch.mmap_markers([MmapMarker { series: SeriesRef(OUT_OF_ORDER), chunk: 1 << 32 | 8 }]);
    written.append(batch.records()).unwrap();
    written.close().unwrap();

    let (chunks, _) = ChunkFiles::open(fs(), &tmp.path().join("chunks_head"), ChunkFileOptions::default()).unwrap();
    let mut xor = XorAppender::new();
    (40..45).for_each(|t| xor.append(t, 1.0).unwrap());
    let data = &xor.to_bytes()[..];
    let series = SeriesRef(OUT_OF_ORDER + 1);
    let chunk = NewChunk { series, mint: 40, maxt: 44, encoding: Encoding::Xor, data, out_of_order: true };
    chunks.write(&chunk).unwrap();
    chunks.close().unwrap();

    let snapshot = tmp.path().join("chunk_snapshot.000000.0000000000");
    std::fs::create_dir(&snapshot).unwrap();
    std::fs::write(snapshot.join("00000000"), b"a snapshot").unwrap();
    let first_chunk_file = tmp.path().join("chunks_head/000001");
    let untouched = |dir: &Path| [tree(&wbl), tree(&dir.join("chunk_snapshot.000000.0000000000"))];
    let (before, chunk_file) = (untouched(tmp.path()), std::fs::read(&first_chunk_file).unwrap());

    let mut checkpoints = 0;
    for round in 0..3 {
        let (head, report) = open(tmp.path());
        assert!(report.damage.is_empty(), "{report:?}");
        assert_eq!((report.preserved.wbl_records, report.preserved.out_of_order_series), (2, 2));
        assert_eq!((report.preserved.snapshots.len(), report.chunk_files.out_of_order), (1, 1));
        for step in 0..5 {
            let t = 1_000_000 + round * 1_000 + step * 100;
            let mut app = head.appender();
            for i in 0..4 {
                app.append(None, &labels(i), t, t as f64).unwrap();
            }
            app.commit().unwrap();
            head.log().unwrap().next_segment().unwrap();
        }
        checkpoints += u64::from(head.truncate(600_000 + round).unwrap().checkpoint.is_some());
        head.close().unwrap();
        assert_eq!(untouched(tmp.path()), before);
        assert_eq!(std::fs::read(&first_chunk_file).unwrap(), chunk_file);
    }
    assert!(checkpoints >= 2, "{checkpoints}");
    let (mut exemplars, mut metadata, mut tombstones, mut known) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    each_record(&wal, |entries| match entries {
        RecordEntries::Exemplars(entries) => exemplars.extend(entries.iter().map(|e| (e.series.0, e.t))),
        RecordEntries::Metadata(entries) => metadata.extend(entries.iter().map(|e| (e.series.0, e.help.to_vec()))),
        RecordEntries::Tombstones(entries) => tombstones.extend(entries),
        RecordEntries::Series(entries) => known.extend(entries.iter().map(|entry| entry.series.0)),
        _ => {}
    });
    assert_eq!(exemplars, [(1, 900_000)], "what is older than the truncation goes, the rest stays");
    assert_eq!(metadata, [(1, b"new".to_vec())]);
    assert_eq!(tombstones, [Tombstone { series: SeriesRef(1), mint: 0, maxt: 950_000 }]);
    assert!(known.contains(&OUT_OF_ORDER), "the out-of-order log speaks of it: {known:?}");
}
